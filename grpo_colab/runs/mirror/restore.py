"""A copy that is found, read, and brought back: regular files alone, of a size that is known before.

Whoever can write to the place can change a copy. So what is brought back are the files that its marker lists (of an
earlier release: the small ones and the adapter) and those that its checkpoints' manifests list. No link is followed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.runs import checkpoints
from grpo_colab.runs.checkpoints import DAMAGED, MANIFEST
from grpo_colab.runs.mirror import folder as folders
from grpo_colab.runs.mirror import hub, layout
from grpo_colab.runs.mirror.layout import (
    HUB,
    IDENTITY,
    LARGE_BYTES,
    MARKER,
    MARKER_BYTES,
    RECIPE_BYTES,
    SMALL_BYTES,
    checkpoint_names,
    files_below,
    is_own_name,
    listed_names,
    parse_hub,
    read_marker,
    small_files,
    told,
)
from grpo_colab.runs.mirror.process import ask
from grpo_colab.text import masked, on_one_line
from grpo_colab.utils.files import expanded, inside, open_to_read, read_bytes, to_disk, write_text
from grpo_colab.utils.toml_reading import parse_toml

MOST_CHECKPOINTS = 100  # of a copy; it keeps three
SPARE_BYTES = 1 << 26  # that a disk must have left


def find(source: str) -> str:
    """`source` if it names a copy, else the newest copy in that destination. SettingError where there is none."""
    if not source.startswith(HUB):
        copies = [expanded(source)]
        copies = copies if _is_copy(copies[0]) else _copies(copies[0])
        found = str(copies[0]) if copies else None
    elif parse_hub(source)[1]:
        found = source
    else:
        found = next((f"{source.rstrip('/')}/{name}" for name in recipes(source)), None)
    if found is None:
        raise SettingError("holds no copy of a run, or does not answer", remedy=_NAME_A_COPY, place=shown(source))
    return found


def shown(source: str) -> str:
    """A source or a destination as a person is shown it."""
    return on_one_line(repr(masked(source)))


def marker(source: str) -> dict[str, Any]:
    """What a copy's mirrored.json says: whose copy it is and how far it goes; empty where that cannot be read."""
    if not source.startswith(HUB):
        return _typed(read_marker(expanded(source)))
    repository, name = parse_hub(source)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, ValueError):
        hub.bound_requests()
        hub.reach(repository)
        there = hub.sizes(repository, name)
        hub.fetch_small(repository, str(name), [MARKER], there, folder)
        return _typed(read_marker(Path(folder, str(name))))
    return {}


def _typed(about: dict[str, Any] | None) -> dict[str, Any]:
    """A marker whose step is a number, or None."""
    if about is None:
        return {}
    step = about.get("step")
    return {**about, "step": step if isinstance(step, int) and not isinstance(step, bool) else None}


def is_mirror(source: str) -> bool:
    """Whether `source` is a copy, or a destination with some in it."""
    root = expanded(source)
    return source.startswith(HUB) or _is_copy(root) or (not (root / "recipe.toml").exists() and bool(_copies(root)))


def recipes(destination: str) -> dict[str, str]:
    """Each copy's name and recipe, the newest first; empty when there is none, or none that answers in time."""
    return ask("--recipes", destination) or {}


def check_free(destination: str, runs: Iterable[Path], remedy: str = "another --out or budget.mirror") -> None:
    """Raise SettingError when new runs cannot have their copies at a destination, for what is there under their names.

    One that does not exist yet, or that does not answer in time, is left to the mirror to meet.
    """
    paths = [str(layout.absolute(run)) for run in runs]
    found = ask("--taken", destination, *paths) if paths else None
    if isinstance(found, str):
        raise SettingError(found, setting="budget.mirror", value=destination, remedy=f"choose {remedy}")


def read_recipes(destination: str) -> dict[str, str]:
    """What `recipes` says, in the child. A copy whose recipe cannot be read is left out.

    The small ones are read first, and what is not read in half the time that a look may take is left out too: a
    stranger's few hundred large files must not keep the answer about the others from coming.
    """
    found: dict[Path, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = expanded(destination)
        if destination.startswith(HUB):
            hub.bound_requests()
            root = hub.fetch_heads(parse_hub(destination)[0], folder)
        copies = _copies(root)
        until = time.monotonic() + layout.REACH_S / 2
        for copy in sorted(copies, key=lambda copy: _bytes(copy / "recipe.toml")):
            if time.monotonic() > until:
                break
            with contextlib.suppress(OSError, ValueError):
                text = read_bytes(copy / "recipe.toml", most=RECIPE_BYTES).decode()
                parse_toml(text)
                found[copy] = text
    return {copy.name: found[copy] for copy in copies if copy in found}


def _bytes(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0


def taken(destination: str, runs: Iterable[str]) -> str | None:
    """What `check_free` asks, in the child: why one of these runs cannot have its copy there; None when all can."""
    look = hub.taken if destination.startswith(HUB) else folders.taken
    return next((why for run in runs if (why := look(destination, Path(run)))), None)


def _is_copy(path: Path) -> bool:
    return (path / MARKER).is_file() and not (path / MARKER).is_symlink()


def _copies(root: Path) -> list[Path]:
    """The copies in a folder, the newest first, and no more than can be looked into.

    The small markers are read first, and those that are not read in a quarter of the time come last.
    """
    found = []
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False) and entry.name.isprintable() and _is_copy(path):
                found.append(((path / MARKER).lstat().st_mtime, path))
    latest = [path for _, path in sorted(found, reverse=True)[: hub.MOST_COPIES]]
    at = dict.fromkeys(latest, "")
    until = time.monotonic() + layout.REACH_S / 4
    for path in sorted(latest, key=lambda copy: _bytes(copy / MARKER)):
        if time.monotonic() > until:
            break
        at[path] = str((read_marker(path) or {}).get("at"))
    return sorted(latest, key=lambda path: (at[path], path), reverse=True)


def restore(source: str, into: Path) -> Path:
    """Make the run folder `into` from the copy `source`, <destination>/<run>, or from a destination's newest copy.

    A checkpoint that is damaged there is left out. Raises SettingError when there is no such copy, when it cannot be
    reached, when it is larger than the disk has space for, and when it has checkpoints but none is whole; `into` is
    then as it was.
    """
    if into.is_symlink() or into.is_file() or (into.is_dir() and any(into.iterdir())):
        raise SettingError(
            f"holds something already, so {shown(source)} cannot be restored there",
            remedy="choose another folder with --out",
            place=repr(str(into)),
        )
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{into.name[:100]}.", suffix=".tmp", dir=into.parent) as folder:
            new = Path(folder, "run")
            new.mkdir()
            if source.startswith(HUB):
                identity, troubles = _from_hub(source, Path(folder, "fetched"), new)
            else:
                identity, troubles = _from_folder(source, new)
            for path in checkpoints.saved(new / "checkpoints"):
                if trouble := checkpoints.damage(path):
                    troubles[path.name] = trouble
                    shutil.rmtree(path)
            if troubles and not checkpoints.saved(new / "checkpoints"):
                what = "; ".join(f"{name}: {trouble}" for name, trouble in troubles.items())
                raise SettingError(
                    f"none of its checkpoints is whole ({what})",
                    remedy="train again without this copy",
                    place=shown(source),
                )
            for name in troubles:  # by which the run knows that it went back from them
                (new / "checkpoints" / f"{DAMAGED}{name}").mkdir(parents=True, exist_ok=True)
            write_text(new / IDENTITY, identity)
            return new.replace(into)
    except OSError as error:
        raise SettingError(
            f"cannot be restored to {str(into)!r} ({told(error)})",
            remedy="try again, or choose another folder with --out",
            place=shown(source),
        ) from error


def _from_folder(source: str, new: Path) -> tuple[str, dict[str, str]]:
    """Copy what belongs to a copy into `new`; returns whose it is, and what is wrong with each checkpoint left out."""
    root = expanded(source)
    found = [root] if _is_copy(root) else _copies(root)
    if not found:
        raise _no_copy(source)
    copy = found[0]
    about = _read_about(source, copy)
    saved = _own_checkpoints(source, about, copy)
    names = listed_names(about)
    if names is None:
        names = {*small_files(copy), *(path.relative_to(copy).as_posix() for path in files_below(copy / "adapter"))}
    there = {}
    for name in (*names, *(name for path in saved for name in checkpoint_names(path))):
        with contextlib.suppress(OSError, ValueError):
            status = inside(copy, name).lstat()
            if stat.S_ISREG(status.st_mode):
                there[name] = status.st_size
    wanted, troubles = _wanted(about, there, saved)
    _check_sizes(source, wanted, new)
    for name, size in wanted.items():
        _bring(copy / name, new / name, size)
    return about["id"], troubles


def _from_hub(source: str, fetched: Path, new: Path) -> tuple[str, dict[str, str]]:
    """As `_from_folder`, by way of the folder `fetched`."""
    import httpx

    repository, name = parse_hub(source)
    try:
        hub.bound_requests()
        hub.reach(repository)
        if name is None:
            name = next((copy.name for copy in _copies(hub.fetch_heads(repository, fetched))), None)
        there = hub.sizes(repository, name) if name else {}
        if name is None or MARKER not in there:
            raise _no_copy(source)
        copy = fetched / name
        hub.fetch_small(repository, name, [MARKER, *hub.manifests(there)], there, fetched)
        about = _read_about(source, copy)
        saved = _own_checkpoints(source, about, copy)
        wanted, troubles = _wanted(about, there, saved)
        _check_sizes(source, wanted, new)
        hub.fetched(repository, [f"{name}/{one}" for one in wanted], fetched)
    except SettingError:
        raise
    except (OSError, ValueError, httpx.HTTPError) as error:
        problem, remedy = hub.hub_problem(source, error)
        raise SettingError(
            problem, remedy=f"{remedy or 'try again'}, or correct budget.mirror", place=shown(source)
        ) from error
    for one in wanted:
        target = new / one
        target.parent.mkdir(parents=True, exist_ok=True)
        inside(copy, one).replace(target)
    return about["id"], troubles


_NAME_A_COPY = "name one as <budget.mirror>/<the run's name>"


def _no_copy(source: str) -> SettingError:
    return SettingError("holds no copy of a run", remedy=_NAME_A_COPY, place=shown(source))


def _read_about(source: str, copy: Path) -> dict[str, Any]:
    about = read_marker(copy)
    if about is None:
        raise SettingError(
            f"its {MARKER} is damaged, so it is not known which run this is a copy of",
            remedy="take another copy",
            place=shown(source),
        )
    return about


def _own_checkpoints(source: str, about: dict[str, Any], copy: Path) -> list[Path]:
    """A copy's checkpoints that the mirror has written, by the marker's list where it has one."""
    names = listed_names(about)
    saved = checkpoints.saved(copy / "checkpoints")
    saved = [path for path in saved if names is None or f"checkpoints/{path.name}/{MANIFEST}" in names]
    if len(saved) > MOST_CHECKPOINTS:
        raise SettingError(
            f"has {len(saved):,} checkpoints, and a copy keeps three",
            remedy="remove those that do not belong to it",
            place=shown(source),
        )
    return saved


def _wanted(about: dict[str, Any], there: dict[str, int], saved: list[Path]) -> tuple[dict[str, int], dict[str, str]]:
    """What of a copy's files is brought back, with their bytes, and what is wrong with each checkpoint that is not.

    Of an adapter that is half copied, as the marker says, nothing is.
    """
    listed = listed_names(about)
    wanted = {}
    for name, size in there.items():
        whole = not name.startswith("adapter/") or about.get("adapter") is not None
        if is_own_name(name) and not name.startswith("checkpoints/") and whole and (listed is None or name in listed):
            wanted[name] = size
    troubles = {}
    for path in saved:
        files, prefix = checkpoints.contents(path), f"checkpoints/{path.name}/"
        trouble = f"{MANIFEST} cannot be read" if files is None else None
        for name, expected in (files or {}).items():
            held = there.get(prefix + name)
            if held is None:
                trouble = trouble or f"{on_one_line(name)} is missing"
            elif held != expected.bytes:
                trouble = trouble or f"{on_one_line(name)} has {held:,} of {expected.bytes:,} bytes"
        if trouble:
            troubles[path.name] = trouble
        else:
            wanted |= {prefix + name: there[prefix + name] for name in (*(files or {}), MANIFEST)}
    return wanted, troubles


def _check_sizes(source: str, wanted: dict[str, int], new: Path) -> None:
    """Raise SettingError, before anything is copied, when a file is larger than it can be, or all than the disk."""
    for name, size in wanted.items():
        most = LARGE_BYTES if "/" in name else RECIPE_BYTES if name == "recipe.toml" else SMALL_BYTES
        most = MARKER_BYTES if name.endswith(f"/{MANIFEST}") else most
        if size > most:
            raise SettingError(
                f"{on_one_line(name)} has {size:,} bytes and may have {most:,}, so it is not what a run writes",
                remedy="take another copy, or remove that file there",
                place=shown(source),
            )
    if "recipe.toml" not in wanted:
        raise SettingError(
            "has no recipe.toml, so it is not the copy of a run", remedy="take another copy", place=shown(source)
        )
    free, total = shutil.disk_usage(new).free, sum(wanted.values())
    if total + SPARE_BYTES > free:
        raise SettingError(
            f"takes {total / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free at {str(new.parents[1])!r}",
            remedy="free some space, or choose another disk with --out",
            place=shown(source),
        )


def _bring(source: Path, target: Path, size: int) -> None:
    """Copy so many bytes of a regular file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_to_read(source) as read, target.open("xb") as written:
        while size > 0 and (piece := read.read(min(size, 1 << 20))):
            written.write(piece)
            size -= len(piece)
    to_disk(target)
