"""Where run folders are: their names, the ones that are free, and those that `draw` and `sweep` made together."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Final

from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs.lock import holder
from grpo_colab.runs.phase import PREPARED, never_began
from grpo_colab.utils import files

RUNS = Path("runs")
MOST_INDEX: Final = 1 << 23  # bytes of a list of runs, which has their recipes
DRAW, SWEEP = "draw.json", "sweep.json"  # each in the folder in which a command makes its run folders
COMMANDS: Final = {DRAW: "draw", SWEEP: "sweep"}  # which command that is


def index_of(folder: Path) -> str | None:
    """Return the name of the file that lists the run folders in `folder`, DRAW or SWEEP; None where there is none."""
    return next((name for name in COMMANDS if files.is_file(folder / name)), None)


def listed_names(folder: Path) -> list[str]:
    """Return the names of the run folders that `draw` or `sweep` made in `folder`, as its list has them.

    The list is empty where that file is missing or unsound.
    """
    names = (files.read_json(folder / (index_of(folder) or DRAW), MOST_INDEX) or {}).get("runs")
    if not isinstance(names, list):
        return []
    try:
        paths = [files.safe_join(folder, name) for name in names]
    except ValueError:
        return []
    plain = all(path.parent == folder and path.name.isprintable() for path in paths)
    return [path.name for path in paths] if plain else []


def quote(path: Path) -> str:
    """Return a path quoted for a shell."""
    return shlex.quote(str(path))


def free_path(recipe: Recipe, taken: Collection[str] = ()) -> Path:
    """Return runs/<date>-<recipe>, or the first of -2, -3, ... that is free and not among `taken`.

    A path is free where nothing is, or a run that never began: see `is_free_again`.
    """
    base = RUNS / f"{datetime.date.today().isoformat()}-{recipe.name}"
    path, n = base, 1
    while (path.exists() and not is_free_again(path)) or path.name in taken:
        n += 1
        path = base.with_name(f"{base.name}-{n}")
    return path


def is_free_again(path: Path) -> bool:
    """Tell whether a folder's run was refused, stopped or killed before it did anything, and no process has it now."""
    return never_began(path) and holder(path).running is False


def clear(path: Path) -> None:
    """Delete what a run that never began has left in `path`, if there is such a run. Raises OSError if that fails."""
    if never_began(path):
        for name in PREPARED:
            files.remove(path / name)


def check_free(path: Path) -> None:
    """Raise SettingError unless `path` can be a new run's folder.

    It can where there is nothing, a folder with hidden files only, or a run that never began (`is_free_again`). Names
    that no file can have, or that cannot be printed, are refused too, and a folder that cannot be listed. Nothing is
    made.
    """
    files.check_name("--out", path)
    if is_free_again(path):
        return
    if files.is_file(path / "recipe.toml"):
        raise SettingError(
            "holds a run already",
            setting="--out",
            value=str(path),
            remedy=f"choose another folder, or --resume {quote(path)}",
        )
    index = index_of(path)
    if index is not None:
        command = COMMANDS[index]
        raise SettingError(
            f"holds the runs of a `grpo-colab {command}` already",
            setting="--out",
            value=str(path),
            remedy=f"choose another folder, or go on with them: grpo-colab {command} --resume {quote(path)}",
        )
    is_folder = files.is_folder(path)
    is_something_else = os.path.lexists(path) and not is_folder
    # Hidden files do not count.
    with files.unwritable_refused("--out", path, "choose another folder"):
        is_empty = not is_folder or all(entry.name[0] == "." for entry in path.iterdir())
    if is_something_else or not is_empty:
        raise SettingError("is not an empty folder", setting="--out", value=str(path), remedy="choose another")
