"""Bring a run's copy in a model repository on the hub up to date. Files that others have put there stay.

A file counts as the mirror's if its size is one that the marker lists. It is not downloaded to compare its SHA-256: in
a repository that others commit to, the history keeps what is replaced or deleted. `hub_files.py` makes the requests.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grpo_colab.runs import checkpoints
from grpo_colab.runs.checkpoints import MANIFEST, Fingerprint
from grpo_colab.runs.mirror import layout
from grpo_colab.runs.mirror.hub_files import (
    download_small,
    file_sizes,
    limit_request_time,
    manifest_names,
    squash_history,
)
from grpo_colab.runs.mirror.layout import (
    KEEP,
    MARKER,
    checkpoint_fingerprints,
    checkpoint_names,
    copy_bytes,
    diverged_problem,
    files_below,
    fingerprint,
    greater_is_better,
    is_checkpoint_of,
    is_own_name,
    is_superseded,
    link_problems,
    listed_fingerprints,
    marker_entries,
    new_marker,
    parse_hub,
    read_marker,
    small_files,
    take_newest_and_best,
)
from grpo_colab.text import on_one_line
from grpo_colab.utils.files import read_bytes


def push_to_hub(run: Path, destination: str, saved: list[Path]) -> tuple[int | None, list[str]]:
    """Bring the copy of a run up to date. Return the step of its newest checkpoint, and what could not be copied.

    The step is None for a copy without checkpoints. The problems are sentences. `saved` is the run's checkpoints,
    oldest first. A repository that is missing is made, as a private one. Everything goes in one commit, so that the hub
    always has one state of the run, never a mixture. The commit also deletes the mirror's files that the run no longer
    has. The repository's history is then squashed, where it is the mirrors' alone. Raises OSError where the folder on
    the hub belongs to something else or was trained further, and where HF_HUB_OFFLINE is set. Errors of huggingface_hub
    and httpx pass.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
    from huggingface_hub.errors import RepositoryNotFoundError

    api, (repository, _) = HfApi(), parse_hub(destination)
    limit_request_time()
    try:
        there = file_sizes(repository, run.name)
    except RepositoryNotFoundError:
        api.create_repo(repository, private=True, exist_ok=True)
        there = {}

    # `own`: the names on the hub whose files are still what the mirror wrote.
    marker = new_marker(run)
    listed = _listed_on_hub(run, repository, there, marker["id"])
    own = {name for name, allowed in listed.items() if there.get(name) in {one.bytes for one in allowed}}
    old_checkpoints = {
        _checkpoint_of(name) for name in own if name.startswith("checkpoints/") and name.endswith(MANIFEST)
    }
    problem = diverged_problem(old_checkpoints, run, saved)
    if problem:
        raise OSError(problem)

    # `files`: what to upload. Small files are read now, since they grow while they are sent.
    problems = link_problems(run)
    files: dict[str, Path | bytes] = {}
    if marker["adapter"] is not None:
        files.update({path.relative_to(run).as_posix(): path for path in files_below(run / "adapter")})
    files.update({name: read_bytes(run / name, most=layout.SMALL_BYTES) for name in small_files(run)})

    def add_checkpoint(checkpoint: Path) -> str | None:
        damage = checkpoints.damage(checkpoint)
        if damage is not None:
            return damage
        names = checkpoint_names(checkpoint)
        for name in names:
            if name in there and name not in own:
                return _foreign_problem(name)
        files.update({name: run / name for name in names})
        return None

    problems += take_newest_and_best(saved, greater_is_better(run), add_checkpoint)
    foreign = [name for name in files if (name in there and name not in own) or not is_own_name(name)]
    for name in foreign:
        problems.append(_foreign_problem(name))
        del files[name]
    changed = sorted(name for name in (set(listed) & set(there)) - own if name not in foreign)
    problems += [f"{on_one_line(name)} in the copy is not what the mirror wrote; it stays there" for name in changed]

    # `kept`: the mirror's files on the hub that are neither sent again nor deleted.
    new_checkpoints = {_checkpoint_of(name) for name in files if name.startswith("checkpoints/")}
    known = [name for name in old_checkpoints | new_checkpoints if not is_superseded(name, run, saved)]
    known.sort(key=_step)
    staying = set(known[-KEEP:]) - new_checkpoints
    kept = {name for name in own if name.startswith("checkpoints/") and _checkpoint_of(name) in staying}
    if marker["adapter"] is None:
        kept |= {name for name in own if name.startswith("adapter/")}

    step = _step(known[-1]) if known else None
    entries = {name: listed[name] for name in kept} | _fingerprints(run, files, new_checkpoints)
    marker |= {"step": step, "files": marker_entries(entries)}
    files[MARKER] = json.dumps(marker).encode()
    operations: list[Any] = [CommitOperationAdd(f"{run.name}/{name}", content) for name, content in files.items()]
    for name in sorted(own - {*files, *kept}):
        operations.append(CommitOperationDelete(f"{run.name}/{name}"))
    api.create_commit(repository, operations, commit_message=f"{run.name}: step {step}")
    squash_history(repository)
    return step, problems


def _foreign_problem(name: str) -> str:
    return f"{on_one_line(name)} in the copy is not the mirror's; move it"


def _fingerprints(
    run: Path, files: dict[str, Path | bytes], new_checkpoints: Iterable[str]
) -> dict[str, tuple[Fingerprint, ...]]:
    """Return the fingerprints of the files to upload, by name.

    Those of the checkpoints come from their manifests, which have just been checked against the files.
    """
    known: dict[str, Fingerprint] = {}
    for checkpoint in new_checkpoints:
        for name, found in checkpoint_fingerprints(run / "checkpoints" / checkpoint).items():
            if name in files:
                known[name] = found
    for name, content in files.items():
        if name in known:
            continue
        if isinstance(content, bytes):
            known[name] = copy_bytes(io.BytesIO(content), None, layout.SMALL_BYTES)
        else:
            known[name] = fingerprint(run / name)
    return {name: (found,) for name, found in known.items()}


def _listed_on_hub(
    run: Path, repository: str, there: dict[str, int], identity: str
) -> dict[str, tuple[Fingerprint, ...]]:
    """Return the fingerprints that the copy's marker lists. `there` has the sizes of the copy's files by name.

    Downloads the marker to a temporary folder. Returns an empty dict where the copy has no files. For a copy by an
    earlier release, the list is made of what the run has too; files outside checkpoints then have an empty SHA-256.
    Raises OSError where the folder belongs to something else, whose files must not be lost.
    """
    if not there:
        return {}
    remedy = "give this run another name with --out, or move that"
    if MARKER not in there:
        raise OSError(f"{run.name} there holds other files ({on_one_line(min(there))}); {remedy}")
    with tempfile.TemporaryDirectory() as folder:
        download_small(repository, run.name, [MARKER], there, folder)
        copy = Path(folder, run.name)
        marker = read_marker(copy)
        if marker is None:
            raise OSError(f"{run.name} there holds a {MARKER} that cannot be read; {remedy}")
        if marker["id"] != identity:
            raise OSError(f"{run.name} there holds another run called {run.name}; {remedy}")
        listed = listed_fingerprints(marker)
        if listed is not None:
            return listed

        # An earlier release listed names only, or nothing. The mirror's are then the checkpoints that the run has too,
        # and the other files whose names the run has.
        download_small(repository, run.name, manifest_names(there), there, folder)
        found: dict[str, tuple[Fingerprint, ...]] = {}
        for checkpoint in checkpoints.saved(copy / "checkpoints"):
            if is_checkpoint_of(run, checkpoint.name, checkpoint):
                for name, expected in checkpoint_fingerprints(checkpoint).items():
                    found[name] = (expected,)
    adapter = [path.relative_to(run).as_posix() for path in files_below(run / "adapter")]
    for name in (*small_files(run), *adapter):
        if name in there:
            found[name] = (Fingerprint(there[name], ""),)
    return {name: expected for name, expected in found.items() if is_own_name(name)}


def occupied(destination: str, run: Path) -> str | None:
    """Return what is in the way of a new run's copy at a destination, as a sentence; None where nothing is.

    Nothing is in the way where the repository is missing. Any copy of that name is in the way. Raises OSError where
    HF_HUB_OFFLINE is set, and SettingError for a destination that names no repository. Errors of huggingface_hub and
    httpx pass.
    """
    from huggingface_hub.errors import RepositoryNotFoundError

    limit_request_time()
    try:
        there = file_sizes(parse_hub(destination)[0], run.name)
    except RepositoryNotFoundError:
        return None
    if not there:
        return None
    held = "another run of that name" if MARKER in there else f"other files ({on_one_line(min(there))[:40]})"
    return f"{destination}/{on_one_line(run.name)} holds {held}"


def _checkpoint_of(name: str) -> str:
    """Return the checkpoint's name in the name of one of its files, checkpoints/<checkpoint>/<file>."""
    return name.split("/")[1]


def _step(checkpoint: str) -> int:
    return checkpoints.step_of(Path(checkpoint))
