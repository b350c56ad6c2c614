"""The copy in a model repository on the hub. Others may have put their files there, and theirs stay.

What is a file of the mirror's is told by the list and by its size, without a download: a repository has a history, in
which what is replaced or deleted stays.
"""

from __future__ import annotations

import glob
import io
import itertools
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grpo_colab.runs import checkpoints
from grpo_colab.runs.checkpoints import MANIFEST, Expected
from grpo_colab.runs.mirror import layout
from grpo_colab.runs.mirror.layout import (
    FETCHED_BYTES,
    KEEP,
    MARKER,
    RECIPE_BYTES,
    ahead,
    as_listed,
    bodies_of,
    body_of,
    checkpoint_names,
    copied,
    files_below,
    greater_is_better,
    is_known,
    is_own_name,
    links,
    listed_bodies,
    new_marker,
    parse_hub,
    read_marker,
    small_files,
    superseded,
    take_whole,
    told,
)
from grpo_colab.text import on_one_line
from grpo_colab.utils.files import read_bytes

MOST_LISTED = 100_000  # files of a repository that are looked at
MOST_COPIES = 300  # that are looked into, of those at a destination


def push_to_hub(run: Path, destination: str, here: list[Path]) -> tuple[int | None, list[str]]:
    """All in one commit: what is on the hub is one state of the run, never a mixture."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api, (repository, _) = HfApi(), parse_hub(destination)
    bound_requests()
    try:
        there = sizes(repository, run.name)
    except RepositoryNotFoundError:
        api.create_repo(repository, private=True, exist_ok=True)
        there = {}
    marker = new_marker(run)
    listed = _own_bodies(run, repository, there, marker["id"])
    ours = {name for name, bodies in listed.items() if there.get(name) in {body.bytes for body in bodies}}
    old = {
        name.split("/")[1]
        for name in ours
        if name in there and name.startswith("checkpoints/") and name.endswith(MANIFEST)
    }
    if trouble := ahead(old, run, here):
        raise OSError(trouble)

    troubles = links(run)
    files: dict[str, Path | bytes] = {}
    if marker["adapter"] is not None:
        files |= {path.relative_to(run).as_posix(): path for path in files_below(run / "adapter")}
    # the small ones as bytes, for they grow while they are sent
    files |= {name: read_bytes(run / name, most=layout.SMALL_BYTES) for name in small_files(run)}

    def add(checkpoint: Path) -> str | None:
        trouble = checkpoints.damage(checkpoint)
        names = checkpoint_names(checkpoint)
        if trouble is None and (others := [name for name in names if name in there and name not in ours]):
            trouble = f"{on_one_line(others[0])} in the copy is not the mirror's; move it"
        if trouble is None:
            files.update({name: run / name for name in names})
        return trouble

    troubles += take_whole(here, greater_is_better(run), add)
    foreign = [name for name in files if (name in there and name not in ours) or not is_own_name(name)]
    for name in foreign:
        troubles.append(f"{on_one_line(name)} in the copy is not the mirror's; move it")
        del files[name]
    changed = sorted(name for name in set(listed) & set(there) - ours if name not in foreign)
    troubles += [f"{on_one_line(name)} in the copy is not what the mirror wrote; it stays there" for name in changed]
    new = {name.split("/")[1] for name in files if name.startswith("checkpoints/")}
    known = sorted((name for name in old | new if not superseded(name, run, here)), key=_step)
    stay = set(known[-KEEP:]) - new  # neither sent again nor deleted
    kept = {name for name in ours if name.startswith("checkpoints/") and name.split("/")[1] in stay}
    if marker["adapter"] is None:
        kept |= {name for name in ours if name.startswith("adapter/")}
    kept &= set(there)
    step = _step(known[-1]) if known else None
    bodies = {name: listed[name] for name in kept} | _bodies(run, files, new)
    marker |= {"step": step, "files": as_listed(bodies)}
    files[MARKER] = json.dumps(marker).encode()
    operations: list[Any] = [
        *(CommitOperationAdd(f"{run.name}/{name}", content) for name, content in files.items()),
        *(CommitOperationDelete(f"{run.name}/{name}") for name in sorted((ours & set(there)) - {*files, *kept})),
    ]
    api.create_commit(repository, operations, commit_message=f"{run.name}: step {step}")
    return step, troubles


def _bodies(run: Path, files: dict[str, Path | bytes], new: set[str]) -> dict[str, tuple[Expected, ...]]:
    """What these files are, of which those of the checkpoints `new` have been read already."""
    read = {name: body for one in new for name, body in bodies_of(run / "checkpoints" / one).items()}
    known = {name: body for name, body in read.items() if name in files}
    for name, content in files.items():
        if name not in known:
            small = io.BytesIO(content) if isinstance(content, bytes) else None
            known[name] = body_of(run / name) if small is None else copied(small, None, layout.SMALL_BYTES)
    return {name: (body,) for name, body in known.items()}


def _own_bodies(run: Path, repository: str, there: dict[str, int], identity: str) -> dict[str, tuple[Expected, ...]]:
    """What the mirror wrote into a copy. Raises OSError when others have it, whose files must not be lost."""
    if not there:
        return {}
    remedy = "give this run another name with --out, or move that"
    if MARKER not in there:
        raise OSError(f"{run.name} there holds other files ({on_one_line(min(there))}); {remedy}")
    with tempfile.TemporaryDirectory() as folder:
        fetch_small(repository, run.name, [MARKER], there, folder)
        copy = Path(folder, run.name)
        if (before := read_marker(copy)) is None:
            raise OSError(f"{run.name} there holds a {MARKER} that cannot be read; {remedy}")
        if before["id"] != identity:
            raise OSError(f"{run.name} there holds another run called {run.name}; {remedy}")
        if (found := listed_bodies(before)) is not None:
            return found
        # an earlier release listed names alone, or none: the checkpoints that the run has too, and by name the others
        fetch_small(repository, run.name, manifests(there), there, folder)
        known = [path for path in checkpoints.saved(copy / "checkpoints") if is_known(path, run)]
        bodies = {name: (body,) for path in known for name, body in bodies_of(path).items()}
    below = [path.relative_to(run).as_posix() for path in files_below(run / "adapter")]
    bodies |= {name: (Expected(there[name], ""),) for name in (*small_files(run), *below) if name in there}
    return {name: found for name, found in bodies.items() if is_own_name(name)}


def taken(destination: str, run: Path) -> str | None:
    """Why a new run cannot have its copy there, in words; None when it can."""
    from huggingface_hub.errors import RepositoryNotFoundError

    bound_requests()
    try:
        there = sizes(parse_hub(destination)[0], run.name)
    except RepositoryNotFoundError:
        return None
    if not there:
        return None
    held = "another run of that name" if MARKER in there else f"other files ({on_one_line(min(there))[:40]})"
    return f"{destination}/{on_one_line(run.name)} holds {held}"


def manifests(there: Iterable[str]) -> list[str]:
    """Those of a copy's names that are checkpoints' manifests."""
    return [name for name in there if name.endswith(f"/{MANIFEST}") and name.count("/") == 2 and is_own_name(name)]


def fetch_small(repository: str, run: str, names: Iterable[str], there: dict[str, int], folder: str | Path) -> None:
    """Download these files of a copy into `folder`, of so many, and where they are no larger than they may be."""
    found = [f"{run}/{name}" for name in names if there.get(name, FETCHED_BYTES + 1) <= FETCHED_BYTES]
    fetched(repository, found[:MOST_COPIES], folder)


def _step(name: str) -> int:
    return checkpoints.step_of(Path(name))


def sizes(repository: str, name: str | None = None) -> dict[str, int]:
    """The files of a repository with their bytes, or those below its folder `name`, by their names there."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import EntryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    prefix = f"{name}/" if name else ""
    try:
        listed = HfApi().list_repo_tree(repository, path_in_repo=name, recursive=True)
        files = [file for file in itertools.islice(listed, MOST_LISTED) if isinstance(file, RepoFile)]
    except EntryNotFoundError:
        return {}
    return {file.path.removeprefix(prefix): file.size for file in files if file.path.startswith(prefix)}


def bound_requests() -> None:
    """Let no request of this process wait for ever: huggingface_hub itself sets no limit when it lists and commits."""
    import httpx
    from huggingface_hub import constants, is_offline_mode, set_client_factory

    if is_offline_mode():
        raise OSError("HF_HUB_OFFLINE is set")
    # the hub's own setting is for the first byte of a file; a commit takes longer
    limit_s = 6 * constants.HF_HUB_DOWNLOAD_TIMEOUT

    def bound(request: httpx.Request) -> None:
        asked = request.extensions.get("timeout", {})
        names = ("connect", "read", "write", "pool")
        request.extensions["timeout"] = {name: asked.get(name) or limit_s for name in names}

    hooks = {"request": [bound]}
    set_client_factory(lambda: httpx.Client(follow_redirects=True, event_hooks=hooks, timeout=limit_s))


def fetched(repository: str, names: list[str], folder: str | Path) -> Path:
    """Download the files of these names into `folder`, laid out as in the repository."""
    from huggingface_hub import HfApi, snapshot_download

    if not names:
        return Path(folder)
    # asked with a limit first, for snapshot_download itself would wait without one
    revision = HfApi().repo_info(repository, timeout=layout.REACH_S).sha
    patterns = [glob.escape(name) for name in names]
    return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, local_dir=folder))


def reach(repository: str) -> None:
    """Ask for a repository once, and wait for the answer no longer than for a look; an error when there is none."""
    from huggingface_hub import HfApi

    HfApi().repo_info(repository, timeout=layout.REACH_S)


def fetch_heads(repository: str, folder: str | Path) -> Path:
    """Download every copy's marker and recipe into `folder`, of so many copies, and where they are no larger."""
    there = sizes(repository)
    found = [path.partition("/") for path in there if path.count("/") == 1 and path.endswith(f"/{MARKER}")]
    names = [name for name, _, _ in found if name not in ("", ".", "..")][:MOST_COPIES]
    small = [f"{name}/{MARKER}" for name in names if there[f"{name}/{MARKER}"] <= FETCHED_BYTES]
    small += [f"{n}/recipe.toml" for n in names if there.get(f"{n}/recipe.toml", RECIPE_BYTES + 1) <= RECIPE_BYTES]
    return fetched(repository, small, folder)


def hub_trouble(source: str, error: BaseException) -> str:
    """Return what went wrong with the repository `source`, and what to do about it, in one line."""
    problem, remedy = hub_problem(source, error)
    return f"{problem}; {remedy}" if remedy else problem


def hub_problem(source: str, error: BaseException) -> tuple[str, str]:
    """Return what went wrong with the repository `source`, and what to do about it.

    The remedy is empty for errors that a person can do nothing about.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    if not isinstance(error, HfHubHTTPError) or error.response.status_code not in (401, 403, 404):
        return told(error), ""
    page = f"https://huggingface.co/{parse_hub(source)[0]}"
    if isinstance(error, GatedRepoError):
        return f"{page} is gated", "ask for access there first, then set HF_TOKEN or run `hf auth login`"
    refusal = f"the hub refuses {page} ({error.response.status_code})"
    if get_token():
        return f"{refusal}: your token does not open it", "use a token that does"
    return f"{refusal} without a token", "set HF_TOKEN or run `hf auth login`"
