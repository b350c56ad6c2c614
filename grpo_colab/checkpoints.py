"""Checkpoints that are complete or absent: a manifest with the size and SHA-256 of each file, and one rename.

    checkpoints/
        checkpoint-40/  the trainer's files, and manifest.json: when, how good, and what each file must be
        .new/           one that is being written; never read

Nothing here knows the trainer. Standard library only.
"""

from __future__ import annotations

import contextlib
import datetime
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from grpo_colab.files import read_json, sha256, to_disk, write_json

MANIFEST: Final = "manifest.json"
STAGING: Final = ".new"
DAMAGED: Final = "damaged-"  # a checkpoint that is not what its manifest says is set aside under such a name
SPOILT: Final = "spoilt-"  # and so is one that is whole, but must not be gone on from


def seal(staged: Path, folder: Path, metric: str | None = None, value: float | None = None) -> Path:
    """Publish the files in `staged`, a folder called checkpoint-<step>, as a checkpoint in `folder`; returns it.

    `value` is what the checkpoint is worth by `metric`, for `best`. Everything is on the disk before the one rename
    that makes it a checkpoint. Raises OSError (a full disk, say), and then there is no such checkpoint.
    """
    files = {}
    for path in sorted(path for path in staged.rglob("*") if path.is_file()):
        to_disk(path)
        files[path.relative_to(staged).as_posix()] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    about = {"version": 1, "step": step_of(staged), "saved_at": now, "metric": metric, "value": value}
    write_json(staged / MANIFEST, {**about, "files": files})
    return publish(staged, folder)


def publish(staged: Path, folder: Path) -> Path:
    """Rename a sealed folder to its place in `folder`, for what stood there under its name."""
    to_disk(staged)
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / staged.name
    if final.exists():
        delete(final)
    staged.rename(final)
    to_disk(folder)
    with contextlib.suppress(OSError):
        staged.parent.rmdir()  # the staging folder, when nothing else is in it
    return final


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def saved(folder: Path) -> list[Path]:
    """The checkpoints in a folder, oldest first, damaged or not; a folder without a manifest is none."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    return sorted((path for path in found if (path / MANIFEST).exists()), key=step_of)


def manifest(checkpoint: Path) -> dict[str, Any]:
    """What manifest.json says; empty when it cannot be read."""
    return read_json(checkpoint / MANIFEST) or {}


def damage(checkpoint: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None for a whole one. Reads every byte of it."""
    files = manifest(checkpoint).get("files")
    if not isinstance(files, dict) or not files:
        return f"{MANIFEST} cannot be read"
    for name, expected in files.items():
        path = checkpoint / name
        try:
            if (size := path.stat().st_size) != expected["bytes"]:
                return f"{name} has {size:,} of {expected['bytes']:,} bytes"
            if sha256(path) != expected["sha256"]:
                return f"{name} is not what was written"
        except FileNotFoundError:
            return f"{name} is missing"
        except (OSError, KeyError, TypeError) as error:
            return f"{name} cannot be read ({error})"
    return None


def sizes_are_right(checkpoint: Path) -> bool:
    """Whether its files have the sizes of its manifest: what can be told of damage at once."""
    try:
        files = manifest(checkpoint)["files"].items()
        return all((checkpoint / name).stat().st_size == expected["bytes"] for name, expected in files)
    except (OSError, AttributeError, KeyError, TypeError):
        return False


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint that is whole, and what was wrong with each newer one, which is set aside.

    Setting aside renames it to `damaged-<name>`, so that it is neither read nor counted again.
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
    """Set the checkpoints after a step aside as spoilt."""
    for checkpoint in saved(folder):
        if step_of(checkpoint) > after:
            _aside(checkpoint, SPOILT)


def spoilt(folder: Path) -> set[str]:
    """The names of checkpoints that were set aside as spoilt, but for those that have been written anew."""
    return {path.name.removeprefix(SPOILT) for path in folder.glob(f"{SPOILT}*")} - {
        path.name for path in saved(folder)
    }


def _aside(checkpoint: Path, prefix: str) -> None:
    aside = checkpoint.with_name(f"{prefix}{checkpoint.name}")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.rename(aside)


def greater_is_better(grpo: Mapping[str, Any]) -> bool:
    """A recipe's word on its grpo.metric_for_best_model, or else transformers' own rule."""
    return grpo.get("greater_is_better", not str(grpo.get("metric_for_best_model", "reward")).endswith("loss"))


def best(folder: Path, greater_is_better: bool = True) -> Path | None:
    """The checkpoint whose manifest has the best value, the newer of equals; None while none has one."""
    sign = 1.0 if greater_is_better else -1.0
    worth = [(sign * value, path) for path in saved(folder) if (value := manifest(path).get("value")) is not None]
    return max(worth, key=lambda pair: (pair[0], step_of(pair[1])))[1] if worth else None


def prune(folder: Path, keep: int, greater_is_better: bool = True, also: Path | None = None) -> None:
    """Delete all but the last `keep` checkpoints, the best one, and `also` (one that is being copied, say)."""
    kept = {*saved(folder)[-max(1, keep) :], best(folder, greater_is_better), also}
    for checkpoint in saved(folder):
        if checkpoint not in kept:
            delete(checkpoint)


def delete(checkpoint: Path) -> None:
    """The manifest first: what is half deleted must not look like a damaged checkpoint."""
    (checkpoint / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(checkpoint, ignore_errors=True)
