"""Read a recipe's tables: from a preset or a TOML file, on top of the preset that it starts from, under today's names.

What a value may be is not looked at here: see recipe_validation.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, one_of
from grpo_colab.recipe.schema import DERIVED, RENAMED, keys_in
from grpo_colab.rewards.resolve import split_settings
from grpo_colab.tasks import TASKS, task_class
from grpo_colab.utils.files import check_name, expanded
from grpo_colab.utils.toml_reading import read_toml

PRESETS = Path(__file__).parent / "presets"
DEFAULT_PRESET = "word-problems-tiny"
LONGEST_RECIPE_NAME = 150  # bytes; a date, and of a drawing the image and the method, stand beside it
TABLES = ("task", "model", "lora", "grpo", "rewards", "budget", "tripwires", "evaluation")
DRAWING_TABLES = ("hindsight", "pretraining", "sweep")  # of drawing tasks; one that is not there stays so
PASSED_THROUGH = ("model", "lora", "grpo")


def preset_names() -> list[str]:
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def read_tables(source: str | Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the tables of a preset or a file, on top of those of the preset that it starts from.

    `above` are the files that start from it. Raises SettingError for a file that cannot be read, and for tables and
    names that do not exist.
    """
    path = _path_of(source, above)
    read = _parsed(path, source, above)
    name = _name_of(read, path)
    for setting, _ in (found for table in PASSED_THROUGH for found in keys_in(read.get(table, {}), table)):
        raise SettingError(
            "a key that opens something, and no file should hold one",
            setting=setting,
            remedy="take the line out, and set HF_TOKEN in the environment, or run `hf auth login`",
            place=path.name,
        )
    if "preset" in read:
        base = read_tables(read["preset"], (*above, path))
    else:  # a file that starts from nothing lists all of its rewards, or has its task's
        base = {"rewards": {} if "rewards" in read else _default_rewards(read)}
    for table in TABLES:
        base[table] = {**base.get(table, {}), **renamed(table, read.get(table, {}))}
    for table in DRAWING_TABLES:
        if table in read:
            base[table] = {**base.get(table, {}), **read[table]}
    return base | {"name": name, "description": read.get("description", "")}


def need_table(table: str) -> None:
    """Raise SettingError unless a recipe can have a table of this name."""
    known = (*TABLES, *DRAWING_TABLES)
    if table not in known:
        raise SettingError("no such table", setting=table, remedy=one_of(table, known))


def renamed(table: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table's values under today's names.

    Raises SettingError for a setting that another table has today, and for one that is computed from others.
    """
    found = {}
    for key, value in values.items():
        setting = f"{table}.{key}"
        if setting in DERIVED:
            raise SettingError("is computed from other settings", setting=setting, value=value, remedy=DERIVED[setting])
        now_table, now = RENAMED.get(setting, setting).split(".", 1)
        if now_table != table:
            raise SettingError(
                "has moved to another table", setting=setting, value=value, remedy=f"write {now_table}.{now} = {value}"
            )
        found[_reward_key(now) if table == "rewards" else now] = value
    return found


def _path_of(source: str | Path, above: tuple[Path, ...]) -> Path:
    path = Path(source)
    if path in above:
        raise _unreadable(f"starts from itself, by way of {above[-1]}", source, above)
    if path.suffix == ".toml":
        return path
    names = preset_names()
    if str(source) not in names:
        remedy = f"{one_of(str(source), names)}; or give the path of a .toml file"
        raise _unreadable("no such preset", source, above, remedy)
    return PRESETS / f"{source}.toml"


def _parsed(path: Path, source: str | Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Return a recipe file's content, every table known and every other value a text."""
    try:
        read = read_toml(path, follow=True)
    except OSError as error:
        raise _unreadable(f"cannot read it ({error.strerror})", source, above) from None
    except ValueError as error:
        raise _unreadable(f"not TOML: {error}", source, above) from None
    tables = (*TABLES, *DRAWING_TABLES)
    known = ("preset", "name", "description", *tables)
    for key, value in read.items():
        if key not in known:
            raise SettingError("no such table", setting=key, remedy=one_of(key, known), place=path.name)
        if not isinstance(value, dict if key in tables else str):
            problem = f"must be {'a table' if key in tables else 'a text'}"
            raise SettingError(problem, setting=key, value=value, place=path.name)
    return read


def _unreadable(problem: str, source: str | Path, above: tuple[Path, ...], remedy: str | None = None) -> SettingError:
    """Return the refusal of a recipe, or of the preset that a file starts from."""
    setting, place = ("preset", above[-1].name) if above else ("recipe", None)
    return SettingError(problem, setting=setting, value=str(source), remedy=remedy, place=place)


def _name_of(read: Mapping[str, Any], path: Path) -> str:
    name = read.get("name", path.stem)
    try:
        check_name("name", name)
    except SettingError as error:
        raise error.at(path.name) from None
    if not name or Path(name).name != name or len(name.encode()) > LONGEST_RECIPE_NAME:
        raise SettingError(
            "names the run folder",
            setting="name",
            value=name,
            remedy=f"write a plain file name of at most {LONGEST_RECIPE_NAME} bytes",
            place=path.name,
        )
    return name


def _default_rewards(read: Mapping[str, Any]) -> dict[str, float]:
    name = read.get("task", {}).get("name")
    return dict(task_class(name).default_rewards) if isinstance(name, str) and name in TASKS else {}


def _reward_key(name: str) -> str:
    """Return one spelling for each reward: a short name without its suffix, a file with its whole path."""
    name, settings = split_settings(name)
    file, colon, function = name.rpartition(":")
    if colon and file.endswith(".py"):
        return f"{expanded(file).absolute()}:{function}{settings}"
    return (name if "." in name else name.removesuffix("_reward")) + settings
