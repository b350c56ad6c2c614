"""What a copy holds and what of it is the mirror's: names, marker, identity. Standard library only.

Whoever can write to a copy can change its marker and its manifests. So a name in them counts only where the mirror
itself could have written it (`is_own_name`), and stays in its folder; and a file counts as the mirror's only where it
is, by size and SHA-256, what the list says was written. Not by its time: a Drive rounds it, and `cp` sets it anew.
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
from grpo_colab.runs.checkpoints import DAMAGED, SPOILT, Expected
from grpo_colab.text import masked, on_one_line
from grpo_colab.utils.files import is_utf8, number, open_to_read, read_bytes, read_json, write_text
from grpo_colab.utils.toml_reading import read_toml

HUB: Final = "hf://"
MARKER: Final = "mirrored.json"  # in a copy
STATE: Final = "mirror.json"  # in a run folder: how its mirror fares
IDENTITY: Final = ".mirror.id"  # in a run folder: the copy that belongs to it, whatever the folder is called
KEEP: Final = 2
MOST_NAMES: Final = 10_000  # files that a copy may have
DEEPEST: Final = 8  # folders within each other in an adapter or a checkpoint
RECIPE_BYTES: Final = 1 << 20
MARKER_BYTES: Final = 1 << 25
FETCHED_BYTES: Final = 1 << 22  # of a marker or a manifest on the hub
SMALL_BYTES: Final = 1 << 32  # metrics and completions, say
LARGE_BYTES: Final = 1 << 35  # of an adapter and a checkpoint
REACH_S = 10.0  # for a look at what is there


def absolute(run: Path) -> Path:
    """Return the run's path with its name: "." and ".." have none."""
    return run.resolve() if ".." in run.parts else run.absolute()


def take_whole(here: list[Path], greater_is_better: bool, take: Callable[[Path], str | None]) -> list[str]:
    """Give `take` the newest whole checkpoint and the best one; returns what was wrong with any that it refused."""
    troubles: dict[Path, str | None] = {}
    for checkpoint in reversed(here):
        troubles[checkpoint] = take(checkpoint)
        if troubles[checkpoint] is None:
            break
    best = checkpoints.best_of(here, greater_is_better)
    if best is not None and best not in troubles:
        troubles[best] = take(best)
    # one without its manifest was not damaged: the run deleted it meanwhile
    return [f"{path.name}: {t}" for path, t in troubles.items() if t and (path / checkpoints.MANIFEST).exists()]


def identity(run: Path) -> str | None:
    """What a run's copies are known by; None before it has had one."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return valid_identity(read_bytes(run / IDENTITY, most=1000).decode())
    return None


def own_identity(run: Path) -> str:
    """The run's identity, made when there is none."""
    if (found := identity(run)) is None:
        found = uuid.uuid4().hex
        write_text(run / IDENTITY, found)
    return found


def valid_identity(value: object) -> str | None:
    """`value` if it is one: it becomes a part of a file's name."""
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value) else None


def parsed_marker(content: bytes) -> dict[str, Any] | None:
    """What a mirrored.json says; None when it cannot be read, or says not whose copy it is."""
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(content)
        if isinstance(value, dict) and valid_identity(value.get("id")):
            return value
    return None


def read_marker(copy: Path) -> dict[str, Any] | None:
    """What a copy's mirrored.json says, as `parsed_marker`."""
    with contextlib.suppress(OSError):
        return parsed_marker(read_bytes(copy / MARKER, most=MARKER_BYTES))
    return None


def new_marker(run: Path) -> dict[str, Any]:
    """What the copy's mirrored.json says of this run."""
    folder = run / "adapter"
    adapter = folder.stat().st_mtime_ns if folder.is_dir() and not folder.is_symlink() else None
    return {"run": run.name, "step": None, "at": now(), "id": own_identity(run), "adapter": adapter}


def listed_names(marker: dict[str, Any]) -> set[str] | None:
    """The names that the mirror has written, by the marker's list; None where it has no list that can be read."""
    names = marker.get("files")
    if not isinstance(names, list | dict) or len(names) > MOST_NAMES:
        return None
    return {name for name in names if is_own_name(name)}


def listed_bodies(marker: dict[str, Any]) -> dict[str, tuple[Expected, ...]] | None:
    """What the mirror has written under each name; None of an earlier release, which listed no more than names.

    A file that is about to be replaced has two: after a kill either may stand there, and nothing else of the mirror's.
    """
    files = marker.get("files")
    if not isinstance(files, dict) or len(files) > MOST_NAMES:
        return None
    found = {}
    for name, bodies in files.items():
        if is_own_name(name) and isinstance(bodies, dict) and 0 < len(bodies) <= 2:
            sound = [Expected(size, digest) for digest, size in bodies.items() if type(size) is int]
            found[name] = tuple(body for body in sound if re.fullmatch("[0-9a-f]{64}", body.sha256))
    return found


def as_listed(names: Mapping[str, Iterable[Expected]]) -> dict[str, dict[str, int]]:
    """The marker's list, as `listed_bodies` reads it."""
    return {name: {body.sha256: body.bytes for body in names[name]} for name in sorted(names)}


def body_of(path: Path) -> Expected:
    """The bytes and the SHA-256 of a regular file as far as it goes now: it may be growing."""
    with open_to_read(path) as file:
        return copied(file, None, os.fstat(file.fileno()).st_size)


def copied(source: IO[bytes], target: IO[bytes] | None, size: int) -> Expected:
    """Copy so many bytes at most, and return what they are."""
    digest, left = hashlib.sha256(), size
    while left > 0 and (piece := source.read(min(left, 1 << 20))):
        digest.update(piece)
        left -= len(piece)
        if target is not None:
            target.write(piece)
    return Expected(size - left, digest.hexdigest())


def bodies_of(checkpoint: Path) -> dict[str, Expected]:
    """What a checkpoint's manifest says of its files, by their names in the run folder, and what it is itself, last."""
    found = checkpoints.contents(checkpoint)
    if not found:
        return {}
    prefix = f"checkpoints/{checkpoint.name}/"
    manifest = body_of(checkpoint / checkpoints.MANIFEST)
    return {**{prefix + name: body for name, body in found.items()}, prefix + checkpoints.MANIFEST: manifest}


def is_known(checkpoint: Path, run: Path) -> bool:
    """Tell whether a checkpoint in a copy is one that the run has too, by their manifests."""
    with contextlib.suppress(OSError):
        mine = run / "checkpoints" / checkpoint.name / checkpoints.MANIFEST
        return read_bytes(mine) == read_bytes(checkpoint / checkpoints.MANIFEST)
    return False


def is_own_name(name: object) -> bool:
    """Tell whether the mirror could have written a file of this name into a copy, by the name alone."""
    if not isinstance(name, str) or len(name) > 4000 or "\0" in name or not is_utf8(name):
        return False
    parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        return False
    if len(parts) == 1:
        return is_small_name(name)
    if parts[0] == "checkpoints":
        return 3 <= len(parts) <= DEEPEST + 3 and checkpoints.is_name(parts[1])
    return parts[0] == "adapter" and len(parts) <= DEEPEST + 2


def is_small_name(name: str) -> bool:
    return not name.startswith(".") and name not in (STATE, MARKER) and is_utf8(name)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def small_files(folder: Path) -> list[str]:
    """The names of the regular files in a folder itself that a copy has; a link is none."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if e.is_file(follow_symlinks=False) and is_small_name(e.name))


def files_below(folder: Path) -> list[Path]:
    """The regular files below a folder; links are neither given nor followed. OSError when they are too many."""
    found: list[Path] = []
    waiting = [(folder, 0)] if not folder.is_symlink() and folder.is_dir() else []
    while waiting:
        inner, depth = waiting.pop()
        with contextlib.suppress(FileNotFoundError):  # the run replaces its adapter
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
    """A checkpoint's files by its manifest, as names in the run folder, the manifest last; none of a damaged one."""
    found = checkpoints.contents(checkpoint)
    return [f"checkpoints/{checkpoint.name}/{name}" for name in (*found, checkpoints.MANIFEST)] if found else []


def links(run: Path) -> list[str]:
    """What of a run is a link where a folder should be, so that it is not copied."""
    return [
        f"{name} is a link, which is not followed" for name in ("adapter", "checkpoints") if (run / name).is_symlink()
    ]


def superseded(name: str, run: Path, here: Iterable[Path]) -> bool:
    """Tell whether a checkpoint is of a future that the run went back from: it must not outlive its steps' metrics."""
    gone = _is_ahead(name, here) and _went_back(name, run)
    return gone or name in checkpoints.spoilt(run / "checkpoints")


def ahead(names: Iterable[str], run: Path, here: Iterable[Path]) -> str | None:
    """What is wrong with a copy whose newest checkpoint this run neither has nor went back from; None when all is well.

    It is of a run whose folder this one is a copy of, or that this one is a copy of: both have one identity.
    """
    here = list(here)
    others = [name for name in names if _is_ahead(name, here) and not _went_back(name, run)]
    if not others:
        return None
    newest = max(others, key=lambda name: checkpoints.step_of(Path(name)))
    return (
        f"{on_one_line(run.name)} there holds {newest}, which this run has not reached and did not go back from: "
        "another copy of its folder was trained further; rename this run's folder, or move what is there"
    )


def _is_ahead(name: str, here: Iterable[Path]) -> bool:
    newest = max((checkpoints.step_of(path) for path in here), default=None)
    return newest is not None and checkpoints.step_of(Path(name)) > newest


def _went_back(name: str, run: Path) -> bool:
    """Tell whether a run had a checkpoint that it has no longer: it was set aside, or had been copied by this run."""
    aside = [run / "checkpoints" / f"{prefix}{name}" for prefix in (DAMAGED, SPOILT)]
    pushed = number((read_json(run / STATE) or {}).get("step"))
    return any(map(os.path.lexists, aside)) or (pushed is not None and checkpoints.step_of(Path(name)) <= pushed)


def greater_is_better(run: Path) -> bool:
    grpo = read_toml(run / "recipe.toml", most=RECIPE_BYTES).get("grpo", {})
    return checkpoints.greater_is_better(grpo if isinstance(grpo, dict) else {})


def parse_hub(source: str) -> tuple[str, str | None]:
    """hf://user/repository[/run] as the repository and the run; SettingError for anything else."""
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


def told(error: BaseException, limit: int = 300) -> str:
    """What an exception says, its kind first, on one line, with dots for what opens something."""
    text = on_one_line(masked(f"{type(error).__name__}: {error}"))
    return text if len(text) <= limit else text[:limit] + "..."
