"""Checkpoints that are complete or absent: a manifest has the size and SHA-256 of each file, and one rename publishes.

    checkpoints/
        checkpoint-40/  the trainer's files, and manifest.json: when it was saved, its value, and what each file must be
        .new/           the staging folder: a checkpoint that is being written; never read

A manifest, and the folder itself, may have come from anywhere. So the names in it must stay in their checkpoint, a link
is no checkpoint, and nothing is written or deleted through a link. Nothing here knows the trainer. Standard library
only.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from grpo_colab.text import on_one_line
from grpo_colab.utils.files import inside, number, read_json, regular_files, remove, sha256, to_disk, write_json

MANIFEST: Final = "manifest.json"
STAGING: Final = ".new"
# How a checkpoint is renamed that no run may go on from:
DAMAGED: Final = "damaged-"  # it is not what its manifest says
SPOILT: Final = "spoilt-"  # it is whole, but a tripwire found its weights bad
MOST_FILES: Final = 10_000  # that a manifest may name
_NAME: Final = re.compile(r"checkpoint-[0-9]{1,15}")


class Fingerprint(NamedTuple):
    """What a manifest says that a file must be."""

    bytes: int
    sha256: str


def seal(staged: Path, folder: Path, metric: str | None = None, value: float | None = None) -> Path:
    """Publish `staged`, a folder called checkpoint-<step>, as a checkpoint in `folder`; return the checkpoint.

    `value` is the value of `metric` by which `best` chooses. Everything is on the disk before the one rename that makes
    it a checkpoint. Where that fails, by a full disk for example, OSError is raised, and there is no such checkpoint.
    """
    _need_no_link(folder, staged.parent, staged)
    files = {}
    for path in sorted(regular_files(staged)):
        if path == staged / MANIFEST:
            continue
        to_disk(path)
        files[path.relative_to(staged).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    about = {"version": 1, "step": step_of(staged), "saved_at": now, "metric": metric, "value": value}
    write_json(staged / MANIFEST, {**about, "files": files})
    return publish(staged, folder)


def publish(staged: Path, folder: Path) -> Path:
    """Rename a sealed folder to its place in `folder`, and return that. A checkpoint of the same step is replaced."""
    _need_no_link(folder, staged.parent, staged)
    to_disk(staged)
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / staged.name
    delete(final)
    staged.rename(final)
    to_disk(folder)
    with contextlib.suppress(OSError):
        staged.parent.rmdir()  # the staging folder, where it is empty
    return final


def new_staging(folder: Path) -> Path:
    """Make an empty staging folder in `folder`, and return it. What stood in its place is removed.

    Raises OSError where `folder` is itself a link, or cannot be written.
    """
    _need_no_link(folder)
    staging = folder / STAGING
    remove(staging)
    staging.mkdir(parents=True)
    return staging


def _need_no_link(*paths: Path) -> None:
    for path in paths:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path))


def is_name(name: str) -> bool:
    """Tell whether a folder of that name can be a checkpoint."""
    return _NAME.fullmatch(name) is not None


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name."""
    return int(checkpoint.name.rpartition("-")[2])


def saved(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, damaged or not, oldest first; no links, and no folders without a manifest."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    found: list[Path] = []
    with contextlib.suppress(PermissionError):
        found = [path for path in folder.iterdir() if is_name(path.name) and not path.is_symlink()]
    return sorted((path for path in found if _is_file(path / MANIFEST)), key=step_of)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def manifest(checkpoint: Path) -> dict[str, Any]:
    """Return the content of manifest.json; empty where it cannot be read."""
    return read_json(checkpoint / MANIFEST) or {}


def contents(checkpoint: Path) -> dict[str, Fingerprint] | None:
    """Return what each file must be, by its manifest; None where that is damaged, or names a file elsewhere."""
    return listed(checkpoint, manifest(checkpoint))


def listed(checkpoint: Path, about: Mapping[str, Any]) -> dict[str, Fingerprint] | None:
    """Return what each file of a checkpoint must be, by the content `about` of its manifest; None for a damaged one."""
    files = about.get("files")
    if not isinstance(files, dict) or not 0 < len(files) <= MOST_FILES:
        return None
    found = {}
    for name, expected in files.items():
        if not isinstance(expected, dict) or name == MANIFEST:
            return None
        size, digest = expected.get("bytes"), expected.get("sha256")
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            return None
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            return None
        try:
            inside(checkpoint, name)
        except ValueError:
            return None
        found[name] = Fingerprint(size, digest)
    return found


def damage(checkpoint: Path) -> str | None:
    """Read every byte of a checkpoint, and say in words what is wrong with it; None for a whole one.

    Where the manifest itself is damaged, no other file is looked at.
    """
    if (found := contents(checkpoint)) is None:
        return f"{MANIFEST} cannot be read"
    troubles = (trouble(checkpoint, name, expected) for name, expected in found.items())
    return next((text for text in troubles if text), None)


def trouble(checkpoint: Path, name: str, expected: Fingerprint, bytes_too: bool = True) -> str | None:
    """Say in words what is wrong with one file of a checkpoint; None for one that is as expected.

    Without `bytes_too` its size alone is checked.
    """
    said = on_one_line(name)
    try:
        path = inside(checkpoint, name)
        if (size := path.lstat().st_size) != expected.bytes:
            return f"{said} has {size:,} of {expected.bytes:,} bytes"
        if bytes_too and sha256(path) != expected.sha256:
            return f"{said} is not what was written"
    except (FileNotFoundError, NotADirectoryError):
        return f"{said} is missing"
    except (OSError, ValueError) as error:
        return f"{said} cannot be read ({on_one_line(error)})"
    return None


def sizes_are_right(checkpoint: Path) -> bool:
    """Tell whether all files have the sizes in the manifest: a check of milliseconds, which misses changed bytes."""
    found = contents(checkpoint) or {}
    return bool(found) and not any(trouble(checkpoint, name, it, bytes_too=False) for name, it in found.items())


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint, and what is wrong with each newer one.

    The newer ones are renamed to `damaged-<name>`, so that they are neither read nor counted again.
    """
    troubles: list[str] = []
    for checkpoint in reversed(saved(folder)):
        trouble = damage(checkpoint)
        if trouble is None:
            return checkpoint, troubles
        troubles.append(f"{checkpoint.name} is damaged: {trouble}")
        _aside(checkpoint, DAMAGED)
    return None, troubles


def set_aside(folder: Path, after: int) -> None:
    """Rename the checkpoints after a step to `spoilt-<name>`."""
    for checkpoint in saved(folder):
        if step_of(checkpoint) > after:
            _aside(checkpoint, SPOILT)


def spoilt(folder: Path) -> set[str]:
    """Return the names of the checkpoints that were set aside as spoilt, and have not been written anew since."""
    aside = {path.name.removeprefix(SPOILT) for path in folder.glob(f"{SPOILT}*")}
    return aside - {path.name for path in saved(folder)}


def _aside(checkpoint: Path, prefix: str) -> None:
    aside = checkpoint.with_name(f"{prefix}{checkpoint.name}")
    remove(aside)
    checkpoint.rename(aside)


def greater_is_better(grpo: Mapping[str, Any]) -> bool:
    """Tell whether more of grpo.metric_for_best_model is better: by the recipe, or else by transformers' own rule."""
    return bool(grpo.get("greater_is_better", not str(grpo.get("metric_for_best_model", "reward")).endswith("loss")))


def best(folder: Path, greater_is_better: bool = True) -> Path | None:
    """Return the checkpoint with the best value in its manifest, the newer of equals; None while none has a value."""
    return best_of(saved(folder), greater_is_better)


def best_of(found: Iterable[Path], greater_is_better: bool = True) -> Path | None:
    """Return the best of these checkpoints, as `best` does. What is no finite number is no value."""
    sign = 1.0 if greater_is_better else -1.0
    values = [(number(manifest(path).get("value")), path) for path in found]
    worth = [(sign * value, path) for value, path in values if value is not None]
    return max(worth, key=lambda pair: (pair[0], step_of(pair[1])))[1] if worth else None


def prune(folder: Path, keep: int, greater_is_better: bool = True, also: Path | None = None) -> None:
    """Delete all but the last `keep` checkpoints, the best one, and `also`, which may be being copied."""
    kept = {*saved(folder)[-max(1, keep) :], best(folder, greater_is_better), also}
    for checkpoint in saved(folder):
        if checkpoint not in kept:
            delete(checkpoint)


def delete(checkpoint: Path) -> None:
    """Delete a checkpoint; of a link, the link alone.

    The manifest goes first, since what is half deleted must not look like a damaged checkpoint.
    """
    if not checkpoint.is_symlink() and checkpoint.is_dir():
        (checkpoint / MANIFEST).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        remove(checkpoint)
