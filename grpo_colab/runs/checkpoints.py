"""Write, check, choose and delete checkpoints. A checkpoint is there completely or not at all.

    checkpoints/
        checkpoint-40/  the trainer's files, and manifest.json: the time, the value, and each file's size and SHA-256
        .new/           the staging folder: a checkpoint that is being written; never read

A checkpoint is written to the staging folder, and one rename publishes it. A manifest, and the folder itself, may have
come from anywhere. So the names in a manifest must stay in their checkpoint, a link is no checkpoint, and nothing is
written or deleted through a link. Nothing here knows the trainer. Standard library only.
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
from grpo_colab.utils.files import number, read_json, regular_files, remove, safe_join, sha256, to_disk, write_json

MANIFEST: Final = "manifest.json"
STAGING: Final = ".new"
# A checkpoint that no run may resume from is renamed with one of these prefixes.
DAMAGED: Final = "damaged-"  # a checkpoint whose files are not those in its manifest; a file with damaged lines
SPOILT: Final = "spoilt-"  # it is whole, but a tripwire found its weights bad
MOST_FILES: Final = 10_000  # in one manifest
_NAME: Final = re.compile(r"checkpoint-[0-9]{1,15}")


class Fingerprint(NamedTuple):
    """The size of a file in bytes and its SHA-256 in hexadecimal, by which it is recognised."""

    bytes: int
    sha256: str


def seal(staged: Path, folder: Path, metric: str | None = None, value: float | None = None) -> Path:
    """Write the manifest of `staged`, a folder named checkpoint-<step>, and publish it in `folder`.

    Returns the checkpoint there. One of the same step is replaced. The README.md in it is deleted: PEFT writes a form
    to fill in, which names the base model's folder on this machine. `value` is the value of `metric` by which `best`
    chooses. Everything is flushed to the disk before the rename that publishes. Raises OSError where that fails, for
    example on a full disk or for a link; then nothing new is published.
    """
    _check_no_link(folder, staged.parent, staged)
    (staged / "README.md").unlink(missing_ok=True)
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
    """Move a staged checkpoint that has its manifest into `folder`, and return its path there.

    Replaces one of the same step. `folder` is made if it is missing, and the staging folder is deleted if it is empty.
    Raises OSError where one of these paths is a link, and where the move fails.
    """
    _check_no_link(folder, staged.parent, staged)
    to_disk(staged)
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / staged.name
    delete(final)
    staged.rename(final)
    to_disk(folder)
    with contextlib.suppress(OSError):
        staged.parent.rmdir()  # the staging folder, if it is empty
    return final


def new_staging(folder: Path) -> Path:
    """Make an empty staging folder in `folder`, and return it. Whatever was at its path is deleted.

    Raises OSError where `folder` is a link or cannot be written.
    """
    _check_no_link(folder)
    staging = folder / STAGING
    remove(staging)
    staging.mkdir(parents=True)
    return staging


def _check_no_link(*paths: Path) -> None:
    """Raise OSError where one of these paths is a link."""
    for path in paths:
        if path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path))


def is_name(name: str) -> bool:
    """Tell whether this is a checkpoint's name: checkpoint-<step>."""
    return _NAME.fullmatch(name) is not None


def step_of(checkpoint: Path) -> int:
    """Return the step in a checkpoint's name. Raises ValueError for a name without a number at its end."""
    return int(checkpoint.name.rpartition("-")[2])


def saved(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, damaged or not, oldest first.

    Links and folders without a manifest do not count. Returns an empty list where `folder` is missing, a link, or may
    not be listed. Raises OSError where the disk fails.
    """
    if folder.is_symlink() or not folder.is_dir():
        return []
    candidates: list[Path] = []
    with contextlib.suppress(PermissionError):
        candidates = [path for path in folder.iterdir() if is_name(path.name) and not path.is_symlink()]
    found = [path for path in candidates if _is_regular_file(path / MANIFEST)]
    return sorted(found, key=step_of)


def _is_regular_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def manifest(checkpoint: Path) -> dict[str, Any]:
    """Return the content of a checkpoint's manifest.json; an empty dict where it cannot be read."""
    return read_json(checkpoint / MANIFEST) or {}


def fingerprints(checkpoint: Path) -> dict[str, Fingerprint] | None:
    """Return the fingerprints of a checkpoint's files by name, from its manifest; None for a damaged manifest."""
    return parse_manifest(checkpoint, manifest(checkpoint))


def parse_manifest(checkpoint: Path, about: Mapping[str, Any]) -> dict[str, Fingerprint] | None:
    """Return the fingerprints in `about`, the content of a checkpoint's manifest; None for a damaged manifest.

    A manifest is also damaged if it names no file, more than 10,000 files, the manifest itself, a file outside the
    checkpoint, or one behind a link. The files themselves are not read.
    """
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
            safe_join(checkpoint, name)
        except ValueError:
            return None
        found[name] = Fingerprint(size, digest)
    return found


def damage(checkpoint: Path) -> str | None:
    """Compare every byte of a checkpoint with its manifest. Return the first problem found; None for a whole one.

    A file that is missing or cannot be read is a problem: no OSError is raised.
    """
    files = fingerprints(checkpoint)
    if files is None:
        return f"{MANIFEST} cannot be read"
    for name, expected in files.items():
        problem = file_problem(checkpoint, name, expected)
        if problem:
            return problem
    return None


def file_problem(checkpoint: Path, name: str, expected: Fingerprint, bytes_too: bool = True) -> str | None:
    """Compare one file of a checkpoint with its fingerprint. Return what is wrong with it; None for nothing.

    Without `bytes_too`, only its size is compared. A file that cannot be read is a problem: no OSError is raised.
    """
    shown = on_one_line(name)
    try:
        path = safe_join(checkpoint, name)
        size = path.lstat().st_size
        if size != expected.bytes:
            return f"{shown} has {size:,} of {expected.bytes:,} bytes"
        if bytes_too and sha256(path) != expected.sha256:
            return f"{shown} is not what was written"
    except (FileNotFoundError, NotADirectoryError):
        return f"{shown} is missing"
    except (OSError, ValueError) as error:
        return f"{shown} cannot be read ({on_one_line(error)})"
    return None


def sizes_are_right(checkpoint: Path) -> bool:
    """Tell whether all files have the sizes in the manifest; False for a damaged manifest.

    This takes milliseconds, and misses changed bytes.
    """
    files = fingerprints(checkpoint)
    if not files:
        return False
    return not any(file_problem(checkpoint, name, expected, bytes_too=False) for name, expected in files.items())


def newest_whole(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the newest whole checkpoint, None for none, and a sentence on what is wrong with each newer one.

    The newer ones are renamed to damaged-<name>, so that they are neither read nor counted again. Raises OSError where
    that fails. The sentences begin with the newest.
    """
    problems: list[str] = []
    for checkpoint in reversed(saved(folder)):
        problem = damage(checkpoint)
        if problem is None:
            return checkpoint, problems
        problems.append(f"{checkpoint.name} is damaged: {problem}")
        _rename_aside(checkpoint, DAMAGED)
    return None, problems


def set_spoilt_aside(folder: Path, after: int) -> None:
    """Rename the checkpoints of later steps than `after` to spoilt-<name>. Raises OSError where that fails."""
    for checkpoint in saved(folder):
        if step_of(checkpoint) > after:
            _rename_aside(checkpoint, SPOILT)


def spoilt(folder: Path) -> set[str]:
    """Return the names of the checkpoints that were set aside as spoilt and have not been written again since."""
    aside = {path.name.removeprefix(SPOILT) for path in folder.glob(f"{SPOILT}*")}
    return aside - {path.name for path in saved(folder)}


def _rename_aside(checkpoint: Path, prefix: str) -> None:
    """Put a prefix before a checkpoint's name. Replaces what has that name already. Raises OSError where that fails."""
    aside = checkpoint.with_name(f"{prefix}{checkpoint.name}")
    remove(aside)
    checkpoint.rename(aside)


def greater_is_better(grpo: Mapping[str, Any]) -> bool:
    """Tell whether a greater value of grpo.metric_for_best_model is better.

    `grpo` is the recipe's table. Where it does not set greater_is_better, the rule is that of transformers: less is
    better for a metric whose name ends in "loss".
    """
    metric = str(grpo.get("metric_for_best_model", "reward"))
    return bool(grpo.get("greater_is_better", not metric.endswith("loss")))


def best(folder: Path, greater_is_better: bool = True) -> Path | None:
    """Return the checkpoint with the best value in its manifest, the newest of equals; None while none has a value."""
    return best_of(saved(folder), greater_is_better)


def best_of(found: Iterable[Path], greater_is_better: bool = True) -> Path | None:
    """Return the best of these checkpoints, as `best` does. Values that are no finite numbers do not count."""
    sign = 1.0 if greater_is_better else -1.0
    scores: dict[Path, float] = {}
    for checkpoint in found:
        value = number(manifest(checkpoint).get("value"))
        if value is not None:
            scores[checkpoint] = sign * value
    return max(scores, key=lambda checkpoint: (scores[checkpoint], step_of(checkpoint)), default=None)


def prune(folder: Path, keep: int, greater_is_better: bool = True, also: Path | None = None) -> None:
    """Delete all checkpoints but the last `keep`, the best one, and `also`, which a mirror may be copying.

    The newest one stays for every `keep`. Links and folders without a manifest are left alone. Raises OSError where the
    disk fails, and where a manifest cannot be deleted. Other files that cannot be deleted stay, and nothing is raised.
    """
    kept = {*saved(folder)[-max(1, keep) :], best(folder, greater_is_better), also}
    for checkpoint in saved(folder):
        if checkpoint not in kept:
            delete(checkpoint)


def delete(checkpoint: Path) -> None:
    """Delete a checkpoint. Of a link, only the link is deleted.

    The manifest goes first, so that a partly deleted checkpoint does not look like a damaged one. Raises OSError where
    the manifest cannot be deleted. Other files that cannot be deleted stay. Nothing is raised for a missing one.
    """
    if not checkpoint.is_symlink() and checkpoint.is_dir():
        (checkpoint / MANIFEST).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        remove(checkpoint)
