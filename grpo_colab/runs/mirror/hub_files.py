"""Requests to a model repository on the hub: list files, download them, squash the history, and explain errors.

`hub.py` uploads copies, `restore.py` brings them back.
"""

from __future__ import annotations

import contextlib
import glob
import itertools
import re
from collections.abc import Iterable
from pathlib import Path

from grpo_colab.runs.checkpoints import MANIFEST
from grpo_colab.runs.mirror import layout
from grpo_colab.runs.mirror.layout import FETCHED_BYTES, MARKER, RECIPE_BYTES, error_text, is_own_name, parse_hub

MOST_LISTED = 100_000  # files of a repository that are looked at
MOST_COPIES = 300  # copies at a destination that are looked into
SQUASHED = "copies of runs: the history up to here"
# The title of a mirror's commit, of a squashed one, and of the one with which the hub makes a repository.
OWN_COMMIT = re.compile(rf".+: step (\d+|None)|{re.escape(SQUASHED)}|initial commit")


def limit_request_time() -> None:
    """Set a time limit for every request of this process: huggingface_hub has none when it lists and commits.

    It replaces huggingface_hub's HTTP client. The limit is six times HF_HUB_DOWNLOAD_TIMEOUT, for each phase of a
    request that has no limit of its own. Raises OSError where HF_HUB_OFFLINE is set.
    """
    import httpx
    from huggingface_hub import constants, is_offline_mode, set_client_factory

    if is_offline_mode():
        raise OSError("HF_HUB_OFFLINE is set")
    # The hub's own setting is meant for the first byte of a file. A commit takes longer.
    limit_s = 6 * constants.HF_HUB_DOWNLOAD_TIMEOUT

    def set_limits(request: httpx.Request) -> None:
        asked = request.extensions.get("timeout", {})
        names = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {name: asked.get(name) or limit_s for name in names}

    hooks = {"request": [set_limits]}
    set_client_factory(lambda: httpx.Client(follow_redirects=True, event_hooks=hooks, timeout=limit_s))


def check_reachable(repository: str) -> None:
    """Ask for a repository once, with a time limit of 10 seconds, and return nothing.

    Raises HfHubHTTPError for a repository that is missing or refused, and httpx.HTTPError where no answer comes.
    """
    from huggingface_hub import HfApi

    HfApi().repo_info(repository, timeout=layout.REACH_S)


def file_sizes(repository: str, folder: str | None = None) -> dict[str, int]:
    """Return the sizes in bytes of a repository's files by name, or of those below its folder `folder`.

    Names are then relative to that folder. Only the first 100,000 entries are looked at. Returns an empty dict for a
    missing folder. Raises RepositoryNotFoundError for a missing repository; other errors of huggingface_hub and httpx
    pass.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    prefix = f"{folder}/" if folder else ""
    try:
        listed = HfApi().list_repo_tree(repository, path_in_repo=folder, recursive=True)
        files = [file for file in itertools.islice(listed, MOST_LISTED) if isinstance(file, RepoFile)]
    except EntryNotFoundError:
        return {}
    return {file.path.removeprefix(prefix): file.size for file in files if file.path.startswith(prefix)}


def manifest_names(names: Iterable[str]) -> list[str]:
    """Return those of a copy's file names that are manifests of checkpoints."""
    return [name for name in names if name.endswith(f"/{MANIFEST}") and name.count("/") == 2 and is_own_name(name)]


def download(repository: str, names: list[str], folder: str | Path) -> Path:
    """Download the files of these names into `folder`, laid out as in the repository. Return that folder.

    Names that the repository does not have are skipped. For no names, the hub is not asked. Errors of huggingface_hub
    and httpx pass.
    """
    from huggingface_hub import HfApi, snapshot_download

    if not names:
        return Path(folder)
    # The revision is asked for here because this request has a time limit; snapshot_download's own has none.
    revision = HfApi().repo_info(repository, timeout=layout.REACH_S).sha
    patterns = [glob.escape(name) for name in names]
    return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, local_dir=folder))


def download_small(repository: str, run: str, names: Iterable[str], sizes: dict[str, int], folder: str | Path) -> None:
    """Download these files of a run's copy into `folder`, at most 300, and only those of at most 4 MiB.

    `names` are relative to the copy. `sizes` has the sizes of the copy's files, from `file_sizes`; names that it lacks
    are skipped. Raises as `download` does.
    """
    small = [f"{run}/{name}" for name in names if sizes.get(name, FETCHED_BYTES + 1) <= FETCHED_BYTES]
    download(repository, small[:MOST_COPIES], folder)


def download_markers_and_recipes(repository: str, folder: str | Path) -> Path:
    """Download the marker and the recipe of at most 300 copies into `folder`, and return that folder.

    Markers of over 4 MiB and recipes of over 1 MiB are left out. Raises as `file_sizes` and `download` do.
    """
    sizes = file_sizes(repository)
    runs = []
    for path in sizes:
        run = path.partition("/")[0]
        if path == f"{run}/{MARKER}" and run not in ("", ".", ".."):
            runs.append(run)
    runs = runs[:MOST_COPIES]
    names = [f"{run}/{MARKER}" for run in runs if sizes[f"{run}/{MARKER}"] <= FETCHED_BYTES]
    names += [f"{run}/recipe.toml" for run in runs if sizes.get(f"{run}/recipe.toml", RECIPE_BYTES + 1) <= RECIPE_BYTES]
    return download(repository, names, folder)


def squash_history(repository: str) -> None:
    """Squash a repository's history to one commit, so that the hub can give up the files that copies have replaced.

    Nothing is done where a commit is not a mirror's, by its title: the history then holds what somebody else may want
    back. Nothing is raised, since the copy is there without it; the next copy tries again.
    """
    import httpx
    from huggingface_hub import HfApi

    with contextlib.suppress(OSError, ValueError, KeyError, httpx.HTTPError):
        titles = [commit.title for commit in HfApi().list_repo_commits(repository)]
        if len(titles) > 1 and all(OWN_COMMIT.fullmatch(title) for title in titles):
            HfApi().super_squash_history(repository, commit_message=SQUASHED)


def hub_trouble(source: str, error: BaseException) -> str:
    """Return what went wrong with the repository `source`, and what to do about it, in one line."""
    problem, remedy = hub_problem(source, error)
    return f"{problem}; {remedy}" if remedy else problem


def hub_problem(source: str, error: BaseException) -> tuple[str, str]:
    """Return what went wrong with the repository `source`, and what to do about it.

    The remedy is empty for errors that a person can do nothing about, and for all but refusals (401, 403, 404). Secrets
    are masked.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    if not isinstance(error, HfHubHTTPError) or error.response.status_code not in (401, 403, 404):
        return error_text(error), ""
    page = f"https://huggingface.co/{parse_hub(source)[0]}"
    if isinstance(error, GatedRepoError):
        return f"{page} is gated", "ask for access there first, then set HF_TOKEN or run `hf auth login`"
    refusal = f"the hub refuses {page} ({error.response.status_code})"
    if get_token():
        return f"{refusal}: your token does not open it", "use a token that does"
    return f"{refusal} without a token", "set HF_TOKEN or run `hf auth login`"
