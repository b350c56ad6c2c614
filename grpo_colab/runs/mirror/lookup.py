"""Find copies at a destination, and tell whether a new run may have its copy there.

A destination may hang, so `recipes` and `check_free` ask a child process, which runs `read_recipes` and `any_occupied`.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.runs.mirror import folder as folders
from grpo_colab.runs.mirror import hub, hub_files, layout
from grpo_colab.runs.mirror.layout import HUB, MARKER, RECIPE_BYTES, parse_hub, read_marker
from grpo_colab.runs.mirror.process import ask_child
from grpo_colab.text import masked, on_one_line
from grpo_colab.utils.files import expanded, read_bytes
from grpo_colab.utils.toml_reading import parse_toml

NAME_A_COPY = "name one as <budget.mirror>/<the run's name>"


def shown(source: str) -> str:
    """Return a source or a destination as messages show it: quoted, on one line, with secrets masked."""
    return on_one_line(repr(masked(source)))


def find(source: str) -> str:
    """Return `source` if it names a copy, else the newest copy in that destination.

    A copy on the hub that `source` names is not looked up. Raises SettingError where there is no copy, where the
    destination does not answer, and for an address that names no repository.
    """
    found: str | None
    if not source.startswith(HUB):
        root = expanded(source)
        copies = [root] if is_copy(root) else copies_in(root)
        found = str(copies[0]) if copies else None
    elif parse_hub(source)[1]:
        found = source
    else:
        names = list(recipes(source))
        found = f"{source.rstrip('/')}/{names[0]}" if names else None
    if found is None:
        raise SettingError("holds no copy of a run, or does not answer", remedy=NAME_A_COPY, place=shown(source))
    return found


def marker(source: str) -> dict[str, Any]:
    """Return the marker of a copy, with a "step" that is an int or None; an empty dict where it cannot be read.

    It cannot be read either where the hub does not answer. A marker on the hub is downloaded to a temporary folder.
    Raises SettingError for an address that names no repository.
    """
    if not source.startswith(HUB):
        return _with_checked_step(read_marker(expanded(source)))
    repository, name = parse_hub(source)
    import httpx

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, ValueError, httpx.HTTPError):
        hub_files.limit_request_time()
        hub_files.check_reachable(repository)
        there = hub_files.file_sizes(repository, name)
        hub_files.download_small(repository, str(name), [MARKER], there, folder)
        return _with_checked_step(read_marker(Path(folder, str(name))))
    return {}


def _with_checked_step(marker: dict[str, Any] | None) -> dict[str, Any]:
    if marker is None:
        return {}
    step = marker.get("step")
    is_number = isinstance(step, int) and not isinstance(step, bool)
    return {**marker, "step": step if is_number else None}


def is_mirror(source: str) -> bool:
    """Tell whether `source` is a copy of a run, or a destination with copies in it.

    True for every address on the hub, which is not asked. A run folder without a marker is none.
    """
    root = expanded(source)
    if source.startswith(HUB) or is_copy(root):
        return True
    return not (root / "recipe.toml").exists() and bool(copies_in(root))


def is_copy(path: Path) -> bool:
    """Tell whether a folder is a copy: whether it has a marker that is no link."""
    return (path / MARKER).is_file() and not (path / MARKER).is_symlink()


def copies_in(root: Path) -> list[Path]:
    """Return the copies in a folder, newest first by the time in their markers, at most 300.

    Returns an empty list where the folder cannot be listed. Of more than 300 copies, those with the latest modification
    times are taken. Small markers are read first. Those that are not read within a quarter of `REACH_S` come last.
    """
    found = []
    with contextlib.suppress(OSError), os.scandir(root) as entries:
        for entry in entries:
            path = Path(entry.path)
            if entry.is_dir(follow_symlinks=False) and entry.name.isprintable() and is_copy(path):
                found.append(((path / MARKER).lstat().st_mtime, path))
    latest = [path for _, path in sorted(found, reverse=True)[: hub_files.MOST_COPIES]]

    written_at = dict.fromkeys(latest, "")
    deadline = time.monotonic() + layout.REACH_S / 4
    for path in sorted(latest, key=lambda copy: _size(copy / MARKER)):
        if time.monotonic() > deadline:
            break
        written_at[path] = str((read_marker(path) or {}).get("at"))
    return sorted(latest, key=lambda path: (written_at[path], path), reverse=True)


def recipes(destination: str) -> dict[str, str]:
    """Return the text of each copy's recipe.toml by the copy's name, newest copy first.

    A child process reads them. Returns an empty dict, and raises nothing, where there is no copy, the destination does
    not answer within `REACH_S`, or the child fails.
    """
    return ask_child("--recipes", destination) or {}


def read_recipes(destination: str) -> dict[str, str]:
    """Do the work of `recipes`, in the child. A copy whose recipe cannot be read is left out.

    On the hub, recipes are downloaded to a temporary folder, and errors of huggingface_hub and httpx pass.
    Small recipes are read first, and those that are not read within half of `REACH_S` are left out too. So a few
    hundred large files that somebody put there do not hide the other copies.
    """
    found: dict[Path, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = expanded(destination)
        if destination.startswith(HUB):
            hub_files.limit_request_time()
            root = hub_files.download_markers_and_recipes(parse_hub(destination)[0], folder)
        copies = copies_in(root)
        deadline = time.monotonic() + layout.REACH_S / 2
        for copy in sorted(copies, key=lambda copy: _size(copy / "recipe.toml")):
            if time.monotonic() > deadline:
                break
            with contextlib.suppress(OSError, ValueError):
                text = read_bytes(copy / "recipe.toml", most=RECIPE_BYTES).decode()
                parse_toml(text)
                found[copy] = text
    return {copy.name: found[copy] for copy in copies if copy in found}


def _size(path: Path) -> int:
    """Return the size of a file in bytes, 0 where there is none."""
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0


def check_free(destination: str, runs: Iterable[Path], remedy: str = "another --out or budget.mirror") -> None:
    """Raise SettingError where something at a destination is in the way of the copies of these new runs.

    `runs` are their folders, which need not exist. `remedy` goes on after "choose" in the message. A child process asks
    the destination. One that does not exist yet, fails or does not answer within `REACH_S` counts as free: the mirror
    itself reports that later.
    """
    paths = [str(layout.absolute(run)) for run in runs]
    found = ask_child("--occupied", destination, *paths) if paths else None
    if isinstance(found, str):
        raise SettingError(found, setting="budget.mirror", value=destination, remedy=f"choose {remedy}")


def any_occupied(destination: str, runs: Iterable[str]) -> str | None:
    """Do the work of `check_free`, in the child: find the first run whose copy has something in its way.

    Returns what that is, as a sentence; None where all are free. `runs` are absolute paths. Errors of the disk and the
    hub pass.
    """
    occupied = hub.occupied if destination.startswith(HUB) else folders.occupied
    for run in runs:
        problem = occupied(destination, Path(run))
        if problem:
            return problem
    return None
