"""Where run folders are: their names, the ones that are free, and those that `grpo-colab draw` made together."""

from __future__ import annotations

import datetime
import os
import shlex
from collections.abc import Collection
from pathlib import Path

from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.utils import files

RUNS = Path("runs")
DRAW = "draw.json"  # in the folder in which `grpo-colab draw` makes its run folders


def drawn_names(folder: Path) -> list[str]:
    """Return the names of the run folders in a folder's draw.json; an empty list where it is missing or unsound."""
    names = (files.read_json(folder / DRAW) or {}).get("runs")
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
    """Return runs/<date>-<recipe>, or the first of -2, -3, ... that does not exist and is not among `taken`."""
    base = RUNS / f"{datetime.date.today().isoformat()}-{recipe.name}"
    path, n = base, 1
    while path.exists() or path.name in taken:
        n += 1
        path = base.with_name(f"{base.name}-{n}")
    return path


def check_free(path: Path) -> None:
    """Raise SettingError unless `path` can be a new run's folder: there is nothing, or a folder with hidden files only.

    Names that no file can have, or that cannot be printed, are refused too, and a folder that cannot be listed. Nothing
    is made.
    """
    files.check_name("--out", path)
    if files.is_file(path / "recipe.toml"):
        raise SettingError(
            "holds a run already",
            setting="--out",
            value=str(path),
            remedy=f"choose another folder, or --resume {quote(path)}",
        )
    is_folder = files.is_folder(path)
    is_something_else = os.path.lexists(path) and not is_folder
    # Hidden files do not count.
    with files.unwritable_refused("--out", path, "choose another folder"):
        is_empty = not is_folder or all(entry.name[0] == "." for entry in path.iterdir())
    if is_something_else or not is_empty:
        raise SettingError("is not an empty folder", setting="--out", value=str(path), remedy="choose another")
