"""Check what a recipe needs from the network: the model and the data on the hub, and the keys for them."""

from __future__ import annotations

import contextlib
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from grpo_colab.doctor import limits
from grpo_colab.doctor.findings import Answer, Probe, broken, ok, tried, warning
from grpo_colab.doctor.packages import version_of
from grpo_colab.errors import one_line
from grpo_colab.tasks.gsm8k import HUB_CONFIGURATION, HUB_NAME
from grpo_colab.tasks.names import parse_task


def check_hf_token(probe: Probe) -> Answer:
    """Look whether there is a token for the hub; without one, a recipe that mirrors its run there is broken.

    Whether the hub knows the token is not asked here.
    """
    mirror = (probe.recipe.budget.mirror if probe.recipe else None) or ""
    if not _token(probe) and mirror.startswith("hf://"):
        return broken(f"none, but budget.mirror = {mirror!r} needs one", "set HF_TOKEN, or run `hf auth login`")
    return ok("there is one" if _token(probe) else "none; open models need none")


def _token(probe: Probe) -> str:
    """Return the recipe's token for the hub or the one that huggingface_hub finds, or an empty string.

    Colab's secrets are not looked at, since that may ask the user.
    """
    from huggingface_hub import constants

    token = probe.model("token")
    if not isinstance(token, str):
        token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or ""
    if not token:
        with contextlib.suppress(OSError, ValueError):
            token = Path(constants.HF_TOKEN_PATH).read_text()
    return token.strip()


def is_cached(name: str) -> bool:
    """Tell whether the hub's cache has the model, or Unsloth's 4-bit copy of it.

    It has it if it has its config.json. False also for a name that no repository can have.
    """
    from huggingface_hub import try_to_load_from_cache

    for suffix in ("", "-bnb-4bit", "-unsloth-bnb-4bit"):
        # The call raises for a name that no repository can have.
        path = tried(limits.ANSWER_S, try_to_load_from_cache, f"{name}{suffix}", "config.json")
        if isinstance(path, str):
            return True
    return False


def check_model(probe: Probe) -> Answer:
    """Look whether the recipe's model is in a folder here, in the hub's cache, or on the hub.

    The state is ok for a folder and without a recipe. For the hub see `_check_hub_file`.
    """
    name = probe.hub_name
    if not name:
        return ok(f"{probe.model('model_name')}, a folder here" if probe.recipe else "none was named")
    revision = probe.model("revision")
    return _check_hub_file(probe, is_cached(name), "model.model_name", name, "config.json", revision=revision)


def check_data(probe: Probe) -> Answer:
    """Look for the recipe's problems, which are on the hub if the task is gsm8k without a folder.

    The state is ok for all other tasks and without a recipe. For the hub see `_check_hub_file`.
    """
    from huggingface_hub import constants

    task = probe.recipe.task if probe.recipe else {}
    if task and parse_task(task["name"]).runs_code:
        return ok(
            f"task.name = {parse_task(task['name']).label!r}, whose own code has the problems, and is not run here"
        )
    if task.get("name") != "gsm8k" or task.get("path"):
        return ok(f"task.name = {task['name']!r}, with problems that are here" if task else "none were named")
    home = Path(os.environ.get("HF_DATASETS_CACHE") or f"{constants.HF_HOME}/datasets")
    cached = any(home.glob(f"{HUB_NAME.replace('/', '___')}/{HUB_CONFIGURATION}/*/*/dataset_info.json"))
    return _check_hub_file(probe, cached, "task.path", HUB_NAME, "README.md", repo_type="dataset")


def _check_hub_file(probe: Probe, cached: bool, setting: str, name: str, file: str, **where: Any) -> Answer:
    """Look whether a repository is in the hub's cache, or the hub gives us a file of it.

    `cached` tells the former. `setting` is the setting that could name a local copy instead. `where` holds arguments of
    hf_hub_url. The state is broken where the hub refuses the file, also for a repository in the cache. Where the hub
    does not answer it is a warning for one in the cache, and broken otherwise. With HF_HUB_OFFLINE the hub is not
    asked: the state is ok for one in the cache, and broken otherwise.
    """
    from huggingface_hub import is_offline_mode

    copy = f"or write the folder of a copy in {setting}"
    if is_offline_mode():
        if not cached:
            return broken(f"{name} is not in the cache, and HF_HUB_OFFLINE forbids to ask", f"unset it, {copy}")
        return ok(f"{name}, in the cache")
    answer = _ask_hub(_token(probe), copy, name, file, **where)
    if isinstance(answer, str):
        if cached:
            return warning(f"{answer}; {name} is in the cache", "set HF_HUB_OFFLINE=1, if all of it is there")
        return broken(answer, f"check the network, try later, {copy}")
    if answer[0] != "ok":
        return answer
    return ok(f"{name}, {'in the cache' if cached else 'within reach'}")


def _ask_hub(token: str, copy: str, name: str, file: str, **where: Any) -> Answer | str:
    """Ask the hub in one request whether it gives us a file, without downloading it.

    Returns ok also where the repository has no such file, and broken where the hub refuses it. Returns a text with the
    reason where the hub says neither yes nor no, or does not answer; nothing is raised. `copy` is the advice to use a
    local copy.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, HFValidationError

    try:
        # An adapter has no such file, and can be loaded all the same.
        with contextlib.suppress(EntryNotFoundError):
            get_hf_file_metadata(hf_hub_url(name, file, **where), token=token or False, timeout=limits.ANSWER_S)
        return ok(name)
    except GatedRepoError:
        how = "with this token's account" if token else "and set HF_TOKEN (or run `hf auth login`)"
        page = f"https://huggingface.co/{name}"
        open_copy = f"'unsloth/{name.rpartition('/')[2]}'"
        return broken(f"{name} is gated", f"ask for access on {page} {how}; or take an open copy, such as {open_copy}")
    except (HfHubHTTPError, HFValidationError) as error:
        code = error.response.status_code if isinstance(error, HfHubHTTPError) else 404
        if code == 401 and token:
            return broken(f"the hub refuses the token (401) for {name}", "make another, or unset HF_TOKEN")
        if code in (401, 403, 404):
            what = f"no such {where.get('repo_type', 'model')} on the hub ({code}), or not for you"
            return broken(f"{name}: {what}", f"check its name, {copy}")
        return f"{constants.ENDPOINT} answers with an error ({code})"
    except Exception as error:  # noqa: BLE001 - network errors have the classes of several libraries
        return f"{constants.ENDPOINT} does not answer ({one_line(error)})"


def check_wandb(probe: Probe) -> Answer:
    """Look whether wandb is installed and its server knows the key, where the recipe reports to it.

    The state is broken where it is not installed, and a warning where the server does not answer or does not know the
    key. It is ok without a key, since the run is then offline.
    """
    trackers = probe.recipe.grpo.get("report_to", "none") if probe.recipe else "none"
    if "wandb" not in trackers and not ("all" in trackers and version_of("wandb")):
        return ok("not asked for (grpo.report_to)")
    if not version_of("wandb"):
        return broken("grpo.report_to asks for it, and it is not installed", '`pip install wandb`, or write "none"')
    mode = os.environ.get("WANDB_MODE", "online")
    if mode != "online":
        return ok(f"{mode}, by WANDB_MODE")
    address = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    key = os.environ.get("WANDB_API_KEY") or _netrc_password(urlsplit(address).netloc)
    if not key:
        return ok("no key, so the run is offline; WANDB_API_KEY changes that")
    return _ask_wandb(address, key)


def _netrc_password(host: str) -> str:
    """Return the password that the user's netrc file has for a host, or an empty string."""
    with contextlib.suppress(OSError, netrc.NetrcParseError):
        file = os.environ.get("NETRC") or Path.home() / ".netrc"
        entry = netrc.netrc(file).authenticators(host)
        if entry is not None:
            return entry[2] or ""
    return ""


def _ask_wandb(address: str, key: str) -> Answer:
    """Ask the server whether it knows the key, with the query that wandb itself sends.

    The state is ok if it does, and a warning otherwise. Nothing is raised.
    """
    import httpx

    query = {"operationName": "Viewer", "query": "query Viewer { viewer { id } }", "variables": {}}
    offline = "otherwise the run is offline, and can be sent later"
    try:
        answer = httpx.post(f"{address}/graphql", json=query, auth=("api", key), timeout=limits.ANSWER_S)
        if answer.status_code not in (401, 403) and answer.raise_for_status().json()["data"]["viewer"]:
            return ok("there is a key, and it is valid")
    except Exception as error:  # noqa: BLE001 - no network, no HTTP, no JSON, or JSON of another kind
        return warning(f"{address} does not answer ({one_line(error)})", f"check the network; {offline}")
    return warning(f"{address} does not know the key", f"set WANDB_API_KEY to a valid one; {offline}")
