"""Bring a run's copy in a folder, such as Drive, up to date: what is copied, in which order, and what is removed.

`folder_copy.py` writes and deletes the single files there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from grpo_colab.runs import checkpoints
from grpo_colab.runs.checkpoints import MANIFEST, Fingerprint
from grpo_colab.runs.mirror import slots
from grpo_colab.runs.mirror.folder_copy import FolderCopy, foreign_contents
from grpo_colab.runs.mirror.layout import (
    diverged_problem,
    files_below,
    greater_is_better,
    is_superseded,
    link_problems,
    small_files,
    take_newest_and_best,
)
from grpo_colab.text import on_one_line
from grpo_colab.utils.files import expanded, read_bytes, to_disk


def push_to_folder(run: Path, destination: str, saved: list[Path]) -> tuple[int | None, list[str]]:
    """Bring the copy of a run up to date. Return the step of its newest checkpoint, and what could not be copied.

    The step is None for a copy without checkpoints. The problems are sentences. `saved` is the run's checkpoints,
    oldest first. Its newest one and the best one are written over older ones in the copy. The folders that an earlier
    release made for checkpoints are deleted, and so are other files of the mirror that the run no longer has. Nothing
    is copied where the destination is the folder that the run is in. Raises OSError where the copy cannot be written,
    belongs to another run, or was trained further, and ValueError for a recipe.toml that is no TOML.
    """
    path = expanded(destination) / run.name
    if path.resolve() == run.resolve():  # the destination is the folder that the run is in
        return checkpoints.step_of(saved[-1]) if saved else None, []
    # Not the parents: where Drive is not mounted, its path must not become a local folder.
    path.parent.mkdir(exist_ok=True)
    copy = FolderCopy(run, path)
    problem = diverged_problem(copy.saved(), run, saved)
    if problem:
        raise OSError(problem)
    greater = greater_is_better(run)

    # Checkpoints of rewound steps go first, and of an earlier release those that were only begun.
    complete = copy.saved()
    old = copy.old_folders()
    copy.remove_folders(name for name in sorted(old) if name not in complete or is_superseded(name, run, saved))
    for name, folder in complete.items():
        if folder.name in slots.SLOTS and is_superseded(name, run, saved):
            copy.empty(f"checkpoints/{folder.name}/{MANIFEST}")

    problems = link_problems(run) + _copy_adapter(run, copy)
    small = small_files(run)
    problems += copy.update({name: run / name for name in small})
    copy.remove(name for name in set(copy.names) if "/" not in name and name not in small)
    copy.write_marker(copy.newest_step())

    wanted = {checkpoint.name for checkpoint in (*saved[-1:], checkpoints.best_of(saved, greater)) if checkpoint}
    missed = take_newest_and_best(saved, greater, lambda checkpoint: _copy_checkpoint(checkpoint, copy, wanted))
    problems += missed
    # What an earlier release copied goes only after the newest and the best are in slots.
    if not missed and slots.held(copy.path / "checkpoints"):
        copy.remove_folders(sorted(copy.old_folders()))
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
    adapter, and so it does after a problem. Where a file of another is in its place, nothing of it is copied. Raises
    OSError where the copy cannot be written.
    """
    folder = run / "adapter"
    changed_at = copy.marker["adapter"]
    if changed_at is None or copy.adapter == changed_at:
        return []
    paths = {path.relative_to(run).as_posix(): path for path in files_below(folder)}
    copy.adapter = None
    copy.write_marker(copy.newest)
    copy.remove(name for name in set(copy.names) if name.startswith("adapter/") and name not in paths)
    problems = copy.update(paths, place="adapter")
    # A new modification time means that the run has replaced its adapter in the meantime.
    if not problems and folder.is_dir() and folder.stat().st_mtime_ns == changed_at:
        copy.adapter = changed_at
    return problems


def _copy_checkpoint(source: Path, copy: FolderCopy, wanted: set[str]) -> str | None:
    """Copy a checkpoint to a slot unless it is in one already. Return what is wrong; None once the copy has it whole.

    What is wrong may be damage in the run, or files of others in all slots. The slot's manifest is emptied first and
    written last: a slot without a manifest holds no checkpoint. `wanted` are the names of the checkpoints that the copy
    is to have in the end. Raises OSError where the copy cannot be written.
    """
    try:
        manifest = read_bytes(source / MANIFEST)
        about = json.loads(manifest)
        files = checkpoints.parse_manifest(source, about if isinstance(about, dict) else {})
    except (OSError, ValueError, RecursionError):
        files = None
    if files is None:
        return f"{MANIFEST} cannot be read"

    # The content of a checkpoint that is there was checked when it was copied, so the sizes are enough.
    there = copy.saved().get(source.name)
    same = there is not None and there.name in slots.SLOTS and checkpoints.manifest(there) == about
    if there is not None and same and checkpoints.sizes_are_right(there):
        return None
    problem = checkpoints.damage(source)  # before anything in the copy is overwritten
    if problem is not None:
        return problem

    manifest_fingerprint = Fingerprint(len(manifest), hashlib.sha256(manifest).hexdigest())
    half_written = set(copy.unfinished)
    slot, problem = _claim_slot(source, {**files, MANIFEST: manifest_fingerprint}, copy, wanted)
    if slot is None:
        return problem
    place = f"checkpoints/{slot}"
    copy.empty(f"{place}/{MANIFEST}")
    for name, expected in files.items():
        # A killed child may have copied some of the files: those stay.
        if place in half_written and checkpoints.file_problem(copy.path / place, name, expected) is None:
            continue
        problems = copy.put(source / name, f"{place}/{name}", expected)
        if problems:
            return problems[0]
    copy.put_bytes(manifest, f"{place}/{MANIFEST}", manifest_fingerprint)
    to_disk(copy.path / place)
    copy.unfinished.discard(place)
    for other, name in slots.held(copy.path / "checkpoints").items():
        if name == source.name and other != slot:  # damaged, or of steps that the run has repeated since
            copy.empty(f"checkpoints/{other}/{MANIFEST}")
    return None


def _claim_slot(
    source: Path, files: Mapping[str, Fingerprint], copy: FolderCopy, wanted: set[str]
) -> tuple[str | None, str]:
    """Choose the slot for the checkpoint `source`, and list its files there. Return the slot, or None and the problem.

    `files` are the fingerprints of its files, with its manifest. The mirror's other files in the slot are deleted. A
    slot with files of others in the way is passed over, and those that were the mirror's are noted in `kept_foreign`.
    Raises OSError as `claim` does.
    """
    problems = ["no slot can be overwritten"]
    for slot in _slots_to_overwrite(copy, wanted):
        place, listed = f"checkpoints/{slot}", set(copy.names)
        new = {f"{place}/{name}": (source / name, expected) for name, expected in files.items()}
        gone = {name for name in listed if name.startswith(f"{place}/") and name not in new}
        if gone:
            copy.empty(f"{place}/{MANIFEST}")
            copy.remove(gone)
        problems = copy.claim(new, place)
        if not problems:
            return slot, ""
        for name in sorted(listed - gone - set(copy.names)):
            copy.kept_foreign.append(f"{on_one_line(name)} in the copy is not what the mirror wrote; it stays there")
    return None, "; ".join(problems)


def _slots_to_overwrite(copy: FolderCopy, wanted: set[str]) -> list[str]:
    """Return the slots that may be overwritten, in the order in which they are to be tried.

    Those without a whole checkpoint come first, and of these the ones that a killed child began. Then come those whose
    checkpoint is not `wanted`, oldest first. The slot of the newest whole checkpoint is not among them.
    """
    saved = copy.saved()
    whole = [name for name in saved if checkpoints.sizes_are_right(saved[name])]
    slot_of = {saved[name].name: name for name in whole}
    free = [slot for slot in slots.SLOTS if slot not in slot_of]
    free.sort(key=lambda slot: f"checkpoints/{slot}" not in copy.unfinished)
    older = [saved[name].name for name in sorted(whole[:-1], key=lambda name: name in wanted)]
    return free + [slot for slot in older if slot in slots.SLOTS]
