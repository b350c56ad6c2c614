"""The copy in a model repository on the hub."""

from __future__ import annotations

import glob
import json
import tempfile
from pathlib import Path
from typing import Any

from grpo_colab import checkpoints
from grpo_colab.errors import one_line
from grpo_colab.files import read_json
from grpo_colab.mirror import layout
from grpo_colab.mirror.layout import (
    KEEP,
    MARKER,
    files_below,
    greater_is_better,
    new_marker,
    parse_hub,
    small_files,
    take_whole,
)


def push_to_hub(run: Path, destination: str, here: list[Path]) -> tuple[int | None, list[str]]:
    """All in one commit: what is on the hub is one state of the run, never a mixture."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    api, (repository, _) = HfApi(), parse_hub(destination)
    bound_requests()
    try:
        there = {file.path for file in api.list_repo_tree(repository, recursive=True) if isinstance(file, RepoFile)}
    except RepositoryNotFoundError:
        api.create_repo(repository, private=True, exist_ok=True)
        there = set()
    there = {path.removeprefix(f"{run.name}/") for path in there if path.startswith(f"{run.name}/")}
    before = None
    if MARKER in there:
        with tempfile.TemporaryDirectory() as folder:
            before = read_json(fetched(repository, [f"{glob.escape(run.name)}/{MARKER}"], folder) / run.name / MARKER)
    marker = new_marker(run, before)

    # the small ones as bytes, for they grow while they are sent
    files: dict[str, Path | bytes] = {name: (run / name).read_bytes() for name in small_files(run)}
    files |= {path.relative_to(run).as_posix(): path for path in files_below(run / "adapter")}

    def add(checkpoint: Path) -> str | None:
        trouble = checkpoints.damage(checkpoint)
        if trouble is None:
            files.update({path.relative_to(run).as_posix(): path for path in files_below(checkpoint)})
        return trouble

    troubles = take_whole(here, greater_is_better(run), add)
    old = {path.split("/")[1] for path in there if path.endswith(f"/{checkpoints.MANIFEST}")}
    new = {path.split("/")[1] for path in files if path.endswith(f"/{checkpoints.MANIFEST}")}
    steps = sorted(checkpoints.step_of(Path(name)) for name in (old | new) - checkpoints.spoilt(run / "checkpoints"))
    steps = [step for step in steps if not here or step <= checkpoints.step_of(here[-1])]
    left = {f"checkpoint-{step}" for step in steps[-KEEP:]} - new  # neither sent again nor deleted
    gone = [path for path in there if path not in (*files, MARKER) and not (set(path.split("/")[1:2]) & left)]
    step = steps[-1] if steps else None
    files[MARKER] = json.dumps(marker | {"step": step}).encode()
    operations: list[Any] = [
        *(CommitOperationAdd(f"{run.name}/{name}", content) for name, content in files.items()),
        *(CommitOperationDelete(f"{run.name}/{path}") for path in gone),
    ]
    api.create_commit(repository, operations, commit_message=f"{run.name}: step {step}")
    return step, troubles


def bound_requests() -> None:
    """Let no request of this process wait for ever: huggingface_hub itself sets no limit when it lists and commits."""
    import httpx
    from huggingface_hub import constants, is_offline_mode, set_client_factory

    if is_offline_mode():
        raise OSError("HF_HUB_OFFLINE is set")
    # the hub's own setting is for the first byte of a file; a commit takes longer
    limit = httpx.Timeout(6 * constants.HF_HUB_DOWNLOAD_TIMEOUT).as_dict()
    hooks = {"request": [lambda request: request.extensions.update(timeout=limit)]}
    set_client_factory(lambda: httpx.Client(follow_redirects=True, event_hooks=hooks))


def fetched(repository: str, patterns: list[str], folder: str) -> Path:
    """Download the files that match into `folder`, laid out as in the repository."""
    from huggingface_hub import HfApi, snapshot_download

    # asked with a limit first, for snapshot_download itself would wait without one
    revision = HfApi().repo_info(repository, timeout=layout.REACH_S).sha
    return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, local_dir=folder))


def hub_trouble(source: str, error: BaseException) -> str:
    """What an error says, or for one of the hub's that a person can do something about, what that is."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    if not isinstance(error, HfHubHTTPError) or error.response.status_code not in (401, 403, 404):
        return one_line(error)
    page = f"https://huggingface.co/{parse_hub(source)[0]}"
    if isinstance(error, GatedRepoError):
        return f"ask for access on {page} first, then set HF_TOKEN or run `hf auth login`"
    way = "your token does not open it" if get_token() else "without a token; set HF_TOKEN or run `hf auth login`"
    return f"the hub refuses {page} ({error.response.status_code}): {way}"
