"""The layout of a copy: its file names, its marker and the identity of its run. Standard library only.

`folder.py` and `hub.py` write this layout, `restore.py` reads it.

Whoever can write to a copy can change its marker and its manifests. So a name in them counts only where the mirror
itself could have written it (`is_own_name`) and where it stays in its folder. A file counts as the mirror's only where
its size and SHA-256 are those that the marker lists. Modification times are not compared: Drive rounds them, and `cp`
sets them anew.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import re
import stat
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.runs import checkpoints
from grpo_colab.runs.checkpoints import DAMAGED, SPOILT, Fingerprint
from grpo_colab.runs.mirror import slots
from grpo_colab.runs.phase import PHASE
from grpo_colab.text import masked, on_one_line
from grpo_colab.utils.files import is_utf8, number, open_to_read, read_bytes, read_json, write_text
from grpo_colab.utils.toml_reading import read_toml

HUB: Final = "hf://"
MARKER: Final = "mirrored.json"  # in a copy: which run it belongs to, how far it goes, and the files it lists
STATE: Final = "mirror.json"  # in a run folder: the state of its mirror
IDENTITY: Final = ".mirror.id"  # in a run folder: links the run to its copy, even after the folder is renamed
KEEP: Final = 2  # newest checkpoints that a copy keeps, besides the best one
MOST_NAMES: Final = 10_000  # files that a copy may have
DEEPEST: Final = 8  # levels of nested folders in an adapter or a checkpoint
RECIPE_BYTES: Final = 1 << 20
MARKER_BYTES: Final = 1 << 25
FETCHED_BYTES: Final = 1 << 22  # of a marker or a manifest on the hub
SMALL_BYTES: Final = 1 << 32  # of a file at the top of a run folder, such as metrics.jsonl
LARGE_BYTES: Final = 1 << 35  # of a file in an adapter or a checkpoint
CHUNK_BYTES: Final = 1 << 20  # read at a time
REACH_S = 10.0  # time limit for looking up what a destination holds


def absolute(run: Path) -> Path:
    """Return the absolute path of a run folder, so that its last part is the run's name, also for "." and ".."."""
    return run.resolve() if ".." in run.parts else run.absolute()


def take_newest_and_best(saved: list[Path], greater_is_better: bool, take: Callable[[Path], str | None]) -> list[str]:
    """Call `take` for the newest whole checkpoint and for the best one, and return the problems found on the way.

    `saved` is ordered from old to new. `take` copies a checkpoint and returns None, or returns what is wrong with it.
    For the newest one, the next older checkpoint is then tried. Checkpoints that the run has deleted meanwhile are no
    problem. Exceptions of `take` pass.
    """
    problems: dict[Path, str | None] = {}
    for checkpoint in reversed(saved):
        problems[checkpoint] = take(checkpoint)
        if problems[checkpoint] is None:
            break
    best = checkpoints.best_of(saved, greater_is_better)
    if best is not None and best not in problems:
        problems[best] = take(best)

    found = []
    for checkpoint, problem in problems.items():
        # A checkpoint without its manifest is not damaged: the run has deleted it in the meantime.
        if problem and (checkpoint / checkpoints.MANIFEST).exists():
            found.append(f"{checkpoint.name}: {problem}")
    return found


def identity(run: Path) -> str | None:
    """Return the identity that a run shares with its copies; None before its first copy, or for an unreadable one."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return valid_identity(read_bytes(run / IDENTITY, most=1000).decode())
    return None


def get_or_create_identity(run: Path) -> str:
    """Return the run's identity. Create it in .mirror.id where there is none. Raises OSError where that fails."""
    found = identity(run)
    if found is None:
        found = uuid.uuid4().hex
        write_text(run / IDENTITY, found)
    return found


def valid_identity(value: object) -> str | None:
    """Return `value` if it is a valid identity, else None. It becomes part of a file name, so its characters count."""
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value) else None


def parse_marker(content: bytes) -> dict[str, Any] | None:
    """Return the content of a mirrored.json; None where it cannot be read or has no valid identity."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(content)
        if isinstance(value, dict) and valid_identity(value.get("id")):
            return value
    return None


def read_marker(copy: Path) -> dict[str, Any] | None:
    """Return the content of a copy's mirrored.json; None where it cannot be read or has no valid identity."""
    with contextlib.suppress(OSError):
        return parse_marker(read_bytes(copy / MARKER, most=MARKER_BYTES))
    return None


def new_marker(run: Path) -> dict[str, Any]:
    """Return a marker for this run's copy, which lists no files yet.

    "adapter" is the modification time of the run's adapter in nanoseconds, None where the run has no adapter. Gives the
    run its identity file if it has none, and raises OSError where that fails. The marker itself is not written.
    """
    folder = run / "adapter"
    adapter = folder.stat().st_mtime_ns if folder.is_dir() and not folder.is_symlink() else None
    return {"run": run.name, "step": None, "at": now(), "id": get_or_create_identity(run), "adapter": adapter}


def listed_names(marker: dict[str, Any]) -> set[str] | None:
    """Return the names of the files that the marker lists; None where it has no readable list of at most 10,000.

    Names that the mirror could not have written are left out.
    """
    names = marker.get("files")
    if not isinstance(names, list | dict) or len(names) > MOST_NAMES:
        return None
    return {name for name in names if is_own_name(name)}


def listed_fingerprints(marker: dict[str, Any]) -> dict[str, tuple[Fingerprint, ...]] | None:
    """Return the fingerprints that the marker lists for each file name.

    A file that is about to be replaced has two, the old and the new one: after a kill, either may be there.
    Entries that the mirror could not have written are left out. Returns None for the marker of an earlier release,
    which listed names only, and for more than 10,000 files.
    """
    files = marker.get("files")
    if not isinstance(files, dict) or len(files) > MOST_NAMES:
        return None
    found = {}
    for name, size_by_digest in files.items():
        if not is_own_name(name) or not isinstance(size_by_digest, dict) or not 0 < len(size_by_digest) <= 2:
            continue
        fingerprints = []
        for digest, size in size_by_digest.items():
            if type(size) is int and re.fullmatch("[0-9a-f]{64}", digest):
                fingerprints.append(Fingerprint(size, digest))
        found[name] = tuple(fingerprints)
    return found


def marker_entries(files: Mapping[str, Iterable[Fingerprint]]) -> dict[str, dict[str, int]]:
    """Return the marker's "files" entry: for each name its sizes by SHA-256, as `listed_fingerprints` reads it."""
    return {name: {one.sha256: one.bytes for one in files[name]} for name in sorted(files)}


def fingerprint(path: Path) -> Fingerprint:
    """Return the fingerprint of a regular file, up to its present size: the file may be growing.

    Raises OSError where it is missing, a link or a pipe.
    """
    with open_to_read(path) as file:
        return copy_bytes(file, None, os.fstat(file.fileno()).st_size)


def copy_bytes(source: IO[bytes], target: IO[bytes] | None, size: int) -> Fingerprint:
    """Copy at most `size` bytes to `target`, and return their fingerprint. Without a target, only read them."""
    digest, left = hashlib.sha256(), size
    while left > 0:
        chunk = source.read(min(left, CHUNK_BYTES))
        if not chunk:
            break
        digest.update(chunk)
        left -= len(chunk)
        # A file without a buffer may write a part of it.
        unwritten = memoryview(chunk if target is not None else b"")
        while target is not None and unwritten:
            unwritten = unwritten[target.write(unwritten) :]
    return Fingerprint(size - left, digest.hexdigest())


def checkpoint_fingerprints(checkpoint: Path) -> dict[str, Fingerprint]:
    """Return the fingerprints of a checkpoint's files as its manifest gives them, and the manifest's own, last.

    The names are relative to the run folder or the copy. Returns an empty dict for a damaged manifest.
    """
    files = checkpoints.fingerprints(checkpoint)
    if not files:
        return {}
    prefix = f"checkpoints/{checkpoint.name}/"
    manifest = fingerprint(checkpoint / checkpoints.MANIFEST)
    found = {prefix + name: expected for name, expected in files.items()}
    found[prefix + checkpoints.MANIFEST] = manifest
    return found


def is_checkpoint_of(run: Path, name: str, folder: Path) -> bool:
    """Tell whether the run has the same checkpoint as the copy: whether their manifests are equal.

    `name` is the checkpoint's name and `folder` its folder in the copy. False where a manifest cannot be read.
    """
    with contextlib.suppress(OSError):
        own = run / "checkpoints" / name / checkpoints.MANIFEST
        return read_bytes(own) == read_bytes(folder / checkpoints.MANIFEST)
    return False


def is_own_name(name: object) -> bool:
    """Tell whether the mirror could have written a file of this name, relative to the copy; False if it is no text."""
    if not isinstance(name, str) or len(name) > 4000 or "\0" in name or not is_utf8(name):
        return False
    parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        return False
    if len(parts) == 1:
        return is_small_name(name)
    if parts[0] == "checkpoints":
        return 3 <= len(parts) <= DEEPEST + 3 and slots.is_place(parts[1])
    return parts[0] == "adapter" and len(parts) <= DEEPEST + 2


def is_small_name(name: str) -> bool:
    """Tell whether a file of this name at the top of a run folder is copied."""
    return not name.startswith(".") and name not in (STATE, PHASE, MARKER) and is_utf8(name)


def now() -> str:
    """Return the present time in UTC in ISO format, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def small_files(folder: Path) -> list[str]:
    """Return the names of the regular files at the top of a folder that are copied, sorted. Links are left out.

    Raises OSError where the folder cannot be listed.
    """
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if entry.is_file(follow_symlinks=False) and is_small_name(entry.name)
        )


def files_below(folder: Path) -> list[Path]:
    """Return the regular files in a folder and the folders in it, sorted. Links are left out and not followed.

    Files more than eight folders deep are left out. Returns an empty list where the folder is missing or a link. Raises
    OSError for more than 10,000 files.
    """
    found: list[Path] = []
    waiting = [(folder, 0)] if not folder.is_symlink() and folder.is_dir() else []
    while waiting:
        inner, depth = waiting.pop()
        with contextlib.suppress(FileNotFoundError):  # the run may be replacing its adapter
            for path in inner.iterdir():
                mode = path.lstat().st_mode
                if stat.S_ISDIR(mode) and depth < DEEPEST:
                    waiting.append((path, depth + 1))
                elif stat.S_ISREG(mode):
                    found.append(path)
                if len(found) + len(waiting) > MOST_NAMES:
                    raise OSError(f"{folder.name} holds more than {MOST_NAMES:,} files")
    return sorted(found)


def checkpoint_names(checkpoint: Path) -> list[str]:
    """Return the names of a checkpoint's files relative to the run folder or the copy, the manifest last.

    Returns an empty list for a damaged manifest.
    """
    files = checkpoints.fingerprints(checkpoint)
    if not files:
        return []
    return [f"checkpoints/{checkpoint.name}/{name}" for name in (*files, checkpoints.MANIFEST)]


def link_problems(run: Path) -> list[str]:
    """Return a problem for each folder of the run that is a link, and so is not copied."""
    return [
        f"{name} is a link, which is not followed" for name in ("adapter", "checkpoints") if (run / name).is_symlink()
    ]


def is_superseded(name: str, run: Path, saved: Iterable[Path]) -> bool:
    """Tell whether the checkpoint `name` in the copy is from steps that the run has rewound, or from spoilt weights.

    It has to leave the copy together with the metrics of its steps. `saved` is the run's own checkpoints.
    """
    rewound = _is_newer(name, saved) and _had_checkpoint(run, name)
    return rewound or name in checkpoints.spoilt(run / "checkpoints")


def diverged_problem(names: Iterable[str], run: Path, saved: Iterable[Path]) -> str | None:
    """Return a problem, as a sentence, when the copy has a newer checkpoint that this run never had; else None.

    Such a checkpoint means that the run folder was duplicated with its identity, and that the duplicate was trained
    further. `names` are the checkpoints in the copy, `saved` the run's own. None where `saved` is empty.
    """
    saved = list(saved)
    unknown = [name for name in names if _is_newer(name, saved) and not _had_checkpoint(run, name)]
    if not unknown:
        return None
    newest = max(unknown, key=lambda name: checkpoints.step_of(Path(name)))
    return (
        f"{on_one_line(run.name)} there holds {newest}, which this run has not reached and did not go back from: "
        "another copy of its folder was trained further; rename this run's folder, or move what is there"
    )


def _is_newer(name: str, saved: Iterable[Path]) -> bool:
    """Tell whether a checkpoint name has a later step than all saved ones. False where nothing is saved."""
    newest = max((checkpoints.step_of(path) for path in saved), default=None)
    return newest is not None and checkpoints.step_of(Path(name)) > newest


def _had_checkpoint(run: Path, name: str) -> bool:
    """Tell whether a run once had this checkpoint: it was set aside, or the mirror has copied its step."""
    set_aside = [run / "checkpoints" / f"{prefix}{name}" for prefix in (DAMAGED, SPOILT)]
    pushed = number((read_json(run / STATE) or {}).get("step"))
    return any(map(os.path.lexists, set_aside)) or (pushed is not None and checkpoints.step_of(Path(name)) <= pushed)


def greater_is_better(run: Path) -> bool:
    """Tell whether a greater value makes the better checkpoint, by the run's recipe.toml.

    Raises OSError where that file cannot be read, and ValueError where it is no TOML.
    """
    grpo = read_toml(run / "recipe.toml", most=RECIPE_BYTES).get("grpo", {})
    return checkpoints.greater_is_better(grpo if isinstance(grpo, dict) else {})


def parse_hub(source: str) -> tuple[str, str | None]:
    """Split hf://user/repository[/run] into "user/repository" and the run's name, None where there is none.

    Raises SettingError for anything else.
    """
    user, _, rest = source.removeprefix(HUB).strip("/").partition("/")
    repository, _, name = rest.partition("/")
    if not repository or "/" in name or not {".", ".."}.isdisjoint((user, repository, name)):
        raise SettingError(
            "names no repository on the hub",
            setting="budget.mirror",
            value=source,
            remedy=f"write {HUB}user/repository",
        )
    return f"{user}/{repository}", name or None


def error_text(error: BaseException, limit: int = 300) -> str:
    """Return an exception as one line, "<class>: <message>", with secrets masked, cut to `limit` characters."""
    text = on_one_line(masked(f"{type(error).__name__}: {error}"))
    return text if len(text) <= limit else text[:limit] + "..."
