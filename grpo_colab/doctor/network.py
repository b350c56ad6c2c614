"""The doctor's checks of what a recipe needs from elsewhere: the hub's model and data, and the keys for them."""

from __future__ import annotations

import contextlib
import netrc
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpo_colab.doctor.findings as limits
from grpo_colab.doctor.findings import Answer, Probe, broken, ok, tried, warning
from grpo_colab.doctor.packages import version_of
from grpo_colab.errors import one_line
from grpo_colab.tasks.gsm8k import HUB_CONFIGURATION, HUB_NAME


def check_hf_token(probe: Probe) -> Answer:
    mirror = (probe.recipe.budget.mirror if probe.recipe else None) or ""
    if not _token(probe) and mirror.startswith("hf://"):
        return broken(f"none, but budget.mirror = {mirror!r} needs one", "set HF_TOKEN, or run `hf auth login`")
    return ok("there is one" if _token(probe) else "none; open models need none")


def _token(probe: Probe) -> str:
    """Return the token that huggingface_hub finds, but never one in Colab's secrets: looking there may ask the user."""
    from huggingface_hub import constants

    asked, names = probe.model("token"), ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
    token = asked if isinstance(asked, str) else next((os.environ[name] for name in names if os.environ.get(name)), "")
    with contextlib.suppress(OSError, ValueError):
        token = token or Path(constants.HF_TOKEN_PATH).read_text()
    return token.strip()


def is_cached(name: str) -> bool:
    """Tell whether the hub's cache has the model, or Unsloth's 4-bit copy of it."""
    from huggingface_hub import try_to_load_from_cache

    copies = [f"{name}{end}" for end in ("", "-bnb-4bit", "-unsloth-bnb-4bit")]
    # A name that no repository can have raises here.
    return any(isinstance(tried(limits.ANSWER_S, try_to_load_from_cache, copy, "config.json"), str) for copy in copies)


def check_model(probe: Probe) -> Answer:
    """Look whether the recipe's model is here, or can be had from the hub."""
    if not (name := probe.hub_name):
        return ok(f"{probe.model('model_name')}, a folder here" if probe.recipe else "none was named")
    return _reached(probe, is_cached(name), "model.model_name", name, "config.json", revision=probe.model("revision"))


def check_data(probe: Probe) -> Answer:
    """Look for the recipe's problems, which are on the hub where the task is gsm8k without a folder."""
    from huggingface_hub import constants

    task = probe.recipe.task if probe.recipe else {}
    if task.get("name") != "gsm8k" or task.get("path"):
        return ok(f"task.name = {task['name']!r}, with problems that are here" if task else "none were named")
    home = Path(os.environ.get("HF_DATASETS_CACHE") or f"{constants.HF_HOME}/datasets")
    cached = any(home.glob(f"{HUB_NAME.replace('/', '___')}/{HUB_CONFIGURATION}/*/*/dataset_info.json"))
    return _reached(probe, cached, "task.path", HUB_NAME, "README.md", repo_type="dataset")


def _reached(probe: Probe, cached: bool, setting: str, name: str, file: str, **where: Any) -> Answer:
    from huggingface_hub import is_offline_mode

    copy = f"or write the folder of a copy in {setting}"
    if is_offline_mode() and not cached:
        return broken(f"{name} is not in the cache, and HF_HUB_OFFLINE forbids to ask", f"unset it, {copy}")
    answer = ok(name) if is_offline_mode() else _asked_hub(_token(probe), copy, name, file, **where)
    if isinstance(answer, str):  # it did not say yes or no
        if cached:
            return warning(f"{answer}; {name} is in the cache", "set HF_HUB_OFFLINE=1, if all of it is there")
        return broken(answer, f"check the network, try later, {copy}")
    return ok(f"{name}, {'in the cache' if cached else 'within reach'}") if answer[0] == "ok" else answer


def _asked_hub(token: str, copy: str, name: str, file: str, **where: Any) -> Answer | str:
    """Ask the hub by one request whether it gives us a file; a text where it does not say yes or no."""
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, HFValidationError

    try:
        with contextlib.suppress(EntryNotFoundError):  # as in an adapter, which the loader knows how to load
            get_hf_file_metadata(hf_hub_url(name, file, **where), token=token or False, timeout=limits.ANSWER_S)
        return ok(name)
    except GatedRepoError:
        how = "with this token's account" if token else "and set HF_TOKEN (or run `hf auth login`)"
        page, other = f"https://huggingface.co/{name}", f"'unsloth/{name.rpartition('/')[2]}'"
        return broken(f"{name} is gated", f"ask for access on {page} {how}; or take an open copy, such as {other}")
    except (HfHubHTTPError, HFValidationError) as error:
        code = error.response.status_code if isinstance(error, HfHubHTTPError) else 404
        if code == 401 and token:
            return broken(f"the hub refuses the token (401) for {name}", "make another, or unset HF_TOKEN")
        if code in (401, 403, 404):
            what = f"no such {where.get('repo_type', 'model')} on the hub ({code}), or not for you"
            return broken(f"{name}: {what}", f"check its name, {copy}")
        return f"{constants.ENDPOINT} answers with an error ({code})"
    except Exception as error:  # noqa: BLE001 - the network's, in several libraries' classes
        return f"{constants.ENDPOINT} does not answer ({one_line(error)})"


def check_wandb(probe: Probe) -> Answer:
    named = probe.recipe.grpo.get("report_to", "none") if probe.recipe else "none"
    if "wandb" not in named and not ("all" in named and version_of("wandb")):
        return ok("not asked for (grpo.report_to)")
    if not version_of("wandb"):
        return broken("grpo.report_to asks for it, and it is not installed", '`pip install wandb`, or write "none"')
    if (mode := os.environ.get("WANDB_MODE", "online")) != "online":
        return ok(f"{mode}, by WANDB_MODE")
    address = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    key = os.environ.get("WANDB_API_KEY")
    with contextlib.suppress(OSError, netrc.NetrcParseError, TypeError):  # TypeError: no entry
        home = os.environ.get("NETRC") or Path.home() / ".netrc"
        key = key or netrc.netrc(home).authenticators(urlsplit(address).netloc)[2]  # type: ignore[index]
    return _asked_wandb(address, key) if key else ok("no key, so the run is offline; WANDB_API_KEY changes that")


def _asked_wandb(address: str, key: str) -> Answer:
    """Look whether the server knows the key, by the question that wandb itself asks."""
    import httpx

    question = {"operationName": "Viewer", "query": "query Viewer { viewer { id } }", "variables": {}}
    offline = "otherwise the run is offline, and can be sent later"
    try:
        answer = httpx.post(f"{address}/graphql", json=question, auth=("api", key), timeout=limits.ANSWER_S)
        if answer.status_code not in (401, 403) and answer.raise_for_status().json()["data"]["viewer"]:
            return ok("there is a key, and it is valid")
    except Exception as error:  # noqa: BLE001 - no network, no HTTP, no JSON, or another JSON
        return warning(f"{address} does not answer ({one_line(error)})", f"check the network; {offline}")
    return warning(f"{address} does not know the key", f"set WANDB_API_KEY to a valid one; {offline}")
