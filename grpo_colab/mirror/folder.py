"""The copy in a folder, such as a Drive."""

from __future__ import annotations

import shutil
from pathlib import Path

from grpo_colab import checkpoints
from grpo_colab.files import read_json, to_disk, write_json
from grpo_colab.mirror.layout import (
    KEEP,
    MARKER,
    files_below,
    greater_is_better,
    new_marker,
    newest_step,
    small_files,
    take_whole,
)


def push_to_folder(run: Path, destination: str, here: list[Path]) -> tuple[int | None, list[str]]:
    copy = Path(destination).expanduser() / run.name
    if copy.resolve() == run.resolve():
        return newest_step(here), []
    copy.parent.mkdir(exist_ok=True)  # not its parents: a Drive that is not mounted must not become a local folder
    copy.mkdir(exist_ok=True)
    before = read_json(copy / MARKER)
    marker = new_marker(run, before)
    folder = copy / "checkpoints"
    for old in checkpoints.saved(folder):
        future = here and checkpoints.step_of(old) > checkpoints.step_of(here[-1])
        if future or old.name in checkpoints.spoilt(run / "checkpoints"):
            checkpoints.delete(
                old
            )  # of a future that this run went back from; it must not outlive the metrics of its steps

    names = small_files(run)
    for name in names:
        _copy(run / name, copy / name, copy)
    for path in copy.iterdir():
        if path.is_file() and path.name not in (*names, MARKER):
            path.unlink()
    if (run / "adapter").is_dir() and (before or {}).get("adapter") != marker["adapter"]:
        staged = copy / ".adapter"
        shutil.rmtree(staged, ignore_errors=True)
        for path in files_below(run / "adapter"):
            _copy(path, staged / path.relative_to(run / "adapter"), copy)
        shutil.rmtree(copy / "adapter", ignore_errors=True)
        staged.rename(copy / "adapter")
    write_json(copy / MARKER, marker | {"step": newest_step(checkpoints.saved(folder))})

    greater = greater_is_better(run)
    troubles = take_whole(here, greater, lambda checkpoint: _copy_checkpoint(checkpoint, copy))
    kept = {*checkpoints.saved(folder)[-KEEP:], checkpoints.best(folder, greater)}
    for path in folder.iterdir() if folder.exists() else ():
        if path not in kept:
            checkpoints.delete(path)
    step = newest_step(checkpoints.saved(folder))
    write_json(copy / MARKER, marker | {"step": step})
    return step, troubles


def _copy(source: Path, target: Path, copy: Path) -> None:
    """A whole file under its name, or none; one that vanishes meanwhile is no longer wanted."""
    temporary = copy / ".copying"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, temporary)
        to_disk(temporary)
        temporary.replace(target)
    except FileNotFoundError:
        if source.exists():
            raise
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk, half of it would stay in the way
        raise


def _copy_checkpoint(source: Path, copy: Path) -> str | None:
    """Copy a checkpoint that is not there yet; returns what is wrong with it, and then there is no copy."""
    folder, about = copy / "checkpoints", checkpoints.manifest(source)
    there = folder / source.name
    if checkpoints.manifest(there) == about and checkpoints.sizes_are_right(there):  # its bytes were checked at first
        return None
    staged = folder / checkpoints.STAGING / source.name
    if checkpoints.manifest(staged) != about:  # else what a killed child has copied of this one stays
        shutil.rmtree(staged, ignore_errors=True)
    for name in (checkpoints.MANIFEST, *about.get("files", ())):
        if not (staged / name).exists():
            _copy(source / name, staged / name, copy)
    if trouble := checkpoints.damage(staged):
        shutil.rmtree(staged)
        return trouble
    checkpoints.publish(staged, folder)
    return None
