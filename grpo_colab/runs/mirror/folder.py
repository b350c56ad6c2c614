"""Bring a run's copy in a folder, such as Drive, up to date: what is copied, in which order, and what is removed.

`folder_copy.py` writes and deletes the single files there.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from grpo_colab.runs import checkpoints
from grpo_colab.runs.checkpoints import MANIFEST, Fingerprint
from grpo_colab.runs.mirror.folder_copy import FolderCopy, foreign_contents
from grpo_colab.runs.mirror.layout import (
    KEEP,
    diverged_problem,
    files_below,
    greater_is_better,
    is_superseded,
    link_problems,
    small_files,
    take_newest_and_best,
)
from grpo_colab.utils.files import expanded, read_bytes, to_disk


def push_to_folder(run: Path, destination: str, saved: list[Path]) -> tuple[int | None, list[str]]:
    """Bring the copy of a run up to date. Return the step of its newest checkpoint, and what could not be copied.

    The step is None for a copy without checkpoints. The problems are sentences. `saved` is the run's checkpoints,
    oldest first. Files of the mirror that the run no longer has are deleted from the copy. Nothing is copied where the
    destination is the folder that the run is in. Raises OSError where the copy cannot be written, belongs to another
    run, or was trained further, and ValueError for a recipe.toml that is no TOML.
    """
    path = expanded(destination) / run.name
    if path.resolve() == run.resolve():  # the destination is the folder that the run is in
        return checkpoints.step_of(saved[-1]) if saved else None, []
    # Not the parents: where Drive is not mounted, its path must not become a local folder.
    path.parent.mkdir(exist_ok=True)
    copy = FolderCopy(run, path)
    problem = diverged_problem((checkpoint.name for checkpoint in copy.saved()), run, saved)
    if problem:
        raise OSError(problem)
    greater = greater_is_better(run)

    # Make space first: remove checkpoints of rewound steps, and those that a killed child began and nobody needs.
    wanted = {checkpoint.name for checkpoint in (*saved[-1:], checkpoints.best_of(saved, greater)) if checkpoint}
    superseded = {name for name in copy.checkpoints() if is_superseded(name, run, saved)}
    complete = {checkpoint.name for checkpoint in copy.saved()}
    copy.remove_checkpoints(superseded | (copy.checkpoints() - complete - wanted))

    problems = link_problems(run) + _copy_adapter(run, copy)
    small = small_files(run)
    problems += copy.update({name: run / name for name in small})
    copy.remove(name for name in set(copy.names) if "/" not in name and name not in small)
    copy.write_marker(copy.newest_step())

    # Older checkpoints go only after the newer ones are there.
    problems += take_newest_and_best(saved, greater, lambda checkpoint: _copy_checkpoint(checkpoint, copy))
    copied = copy.saved()
    if copied:
        stay = {*copied[-KEEP:], checkpoints.best_of(copied, greater)}
        copy.remove_checkpoints(copy.checkpoints() - {checkpoint.name for checkpoint in stay if checkpoint})
    step = copy.newest_step()
    copy.write_marker(step)
    return step, problems + copy.kept_foreign


def occupied(destination: str, run: Path) -> str | None:
    """Return what is in the way of a new run's copy at a destination, as a sentence; None where nothing is.

    Nothing is in the way in the folder that the run is in. `run` need not exist. Raises OSError where the copy's folder
    cannot be listed.
    """
    copy = expanded(destination) / run.name
    if copy.resolve() == run.resolve():
        return None
    return foreign_contents(copy, None)


def _copy_adapter(run: Path, copy: FolderCopy) -> list[str]:
    """Copy the adapter unless the copy has it already, by its modification time. Return the problems met.

    Where the run has no adapter, nothing changes. While it is being copied, the marker says that the copy has no
    adapter, and so it does after a problem. Raises OSError where the copy cannot be written.
    """
    folder = run / "adapter"
    changed_at = copy.marker["adapter"]
    if changed_at is None or copy.adapter == changed_at:
        return []
    paths = {path.relative_to(run).as_posix(): path for path in files_below(folder)}
    copy.adapter = None
    copy.write_marker(copy.newest)
    copy.remove(name for name in set(copy.names) if name.startswith("adapter/") and name not in paths)
    problems = copy.update(paths)
    # A new modification time means that the run has replaced its adapter in the meantime.
    if not problems and folder.is_dir() and folder.stat().st_mtime_ns == changed_at:
        copy.adapter = changed_at
    return problems


def _copy_checkpoint(source: Path, copy: FolderCopy) -> str | None:
    """Copy a checkpoint unless it is there already. Return what is wrong with it; None once the copy has it whole.

    What is wrong may be damage in the run, or files of others in the copy. The manifest is removed first and written
    last: a folder without a manifest is no checkpoint. Raises OSError where the copy cannot be written.
    """
    there, prefix = copy.path / "checkpoints" / source.name, f"checkpoints/{source.name}/"
    manifest_name = f"{prefix}{MANIFEST}"
    try:
        manifest = read_bytes(source / MANIFEST)
        about = json.loads(manifest)
        files = checkpoints.parse_manifest(source, about if isinstance(about, dict) else {})
    except (OSError, ValueError, RecursionError):
        files = None
    if files is None:
        return f"{MANIFEST} cannot be read"

    # The content of a checkpoint that is there was checked when it was copied, so the sizes are enough.
    same = manifest_name in copy.names and checkpoints.manifest(there) == about
    if same and checkpoints.sizes_are_right(there):
        return None

    new = {prefix + name: (source / name, expected) for name, expected in files.items()}
    manifest_fingerprint = Fingerprint(len(manifest), hashlib.sha256(manifest).hexdigest())
    new[manifest_name] = (source / MANIFEST, manifest_fingerprint)
    problems = copy.claim(new, all_or_none=True)
    if problems:
        return "; ".join(problems)
    own = [name for name in copy.names if name.startswith(prefix)]
    copy.target(manifest_name).unlink(missing_ok=True)
    copy.remove(name for name in own if name not in new)
    for name, expected in files.items():
        # A killed child may have copied some of the files: those stay.
        if checkpoints.file_problem(there, name, expected) is None:
            continue
        problems = copy.put(source / name, prefix + name, expected)
        problem = checkpoints.file_problem(there, name, expected)
        if problem:
            if problems:  # the source has changed: what is wrong there says more
                problem = checkpoints.file_problem(source, name, expected) or problems[0]
            copy.remove_checkpoints([source.name])
            return problem
    copy.put_bytes(manifest, manifest_name, manifest_fingerprint)
    to_disk(there)
    return None
