"""Ask the model hub for a model before a loader does, and explain why a model could not be loaded."""

from __future__ import annotations

from typing import Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.utils import files


def is_local(name: str) -> bool:
    """Tell whether a model's name is a folder's, which need not exist; a repository's is `owner/model`.

    It is the name of a folder that exists, or one that begins with `.`, `/` or `~`, or has a backslash or two slashes.
    """
    return files.is_folder(name) or name[:1] in (".", "/", "~") or name.count("/") > 1 or "\\" in name


def need_folder(name: str) -> None:
    """Raise SettingError for a model's name that is the path of a folder which does not exist."""
    if is_local(name) and not files.is_folder(files.expanded(name)):
        raise SettingError(
            "there is no such folder",
            setting="model.model_name",
            value=name,
            remedy="write a folder with the model's weights and config.json, or a name on the hub, as owner/model",
        )


def check_hub(name: str) -> None:
    """Ask the hub once for the model `name`, and raise OSError when it does not answer or has an error of its own.

    A loader would ask a dozen times and wait a minute each time. Nothing is asked for a folder, for a model whose
    `config.json` is in the hub's cache, or in the hub's offline mode.

    Raises SettingError for the path of a folder that does not exist. The hub is never asked for that: the name may be
    private, or belong to somebody else's model there. All other refusals of the hub are left to the loader to report.
    """
    from huggingface_hub import try_to_load_from_cache

    need_folder(name)
    if files.is_folder(name) or isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    ask_hub(name, "config.json")


def ask_hub(name: str, file: str, repo_type: str | None = None) -> None:
    """Ask the hub once for a file of the repository `name`; OSError where it gives no answer, or an error of its own.

    `repo_type` is "dataset", or None for a model. Whether the file is there makes no difference. In the hub's offline
    mode nothing is asked.
    """
    import httpx
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, is_offline_mode
    from huggingface_hub.errors import HfHubHTTPError

    if is_offline_mode():
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, file, repo_type=repo_type), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (httpx.TransportError, HfHubHTTPError) as error:
        if isinstance(error, httpx.TransportError) or error.response.status_code >= 500:
            raise OSError(f"{constants.ENDPOINT} does not answer: {one_line(error)}") from error


def is_gated(error: Exception) -> bool:
    """Tell whether an error means that a model is gated: every loader's message for that has these two words."""
    return "gated repo" in str(error)


def not_loaded(name: str, error: Exception) -> dict[str, Any]:
    """Return the fields of the SettingError for a model that could not be loaded: problem, setting, value and remedy.

    For a gated model the remedy says how to get access. A SettingError says it itself. Nothing is raised.
    """
    if isinstance(error, SettingError):
        return {"problem": error.problem, "setting": error.setting, "value": name, "remedy": error.remedy}
    if is_gated(error):
        problem = "is gated"
        remedy = (
            f"ask for access on https://huggingface.co/{name}, then set HF_TOKEN or run `hf auth login`; or write the "
            f"name of an open copy, such as 'unsloth/{name.rpartition('/')[2]}'"
        )
    else:
        problem = f"cannot be loaded ({one_line(error)})"
        remedy = "write the name of a model on the hub that you can reach, or the folder of a copy"
    return {"problem": problem, "setting": "model.model_name", "value": name, "remedy": remedy}
