"""Tell which settings a sweep tries, and which values of each: `--grpo.learning-rate 1e-5,2e-5` are two.

Whether a text with commas is several values is decided by the setting's type. Numbers, booleans and names of a fixed
choice have no commas, so that these part the values. A text, a list or a table may have commas of its own, and stays
one value; its values are given as a list, by `--sweep.TABLE.SETTING '[...]'` or in the recipe's [sweep].
"""

from __future__ import annotations

import contextlib
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from grpo_colab.errors import SettingError
from grpo_colab.experiments.variants import copied_tables
from grpo_colab.recipe.known_settings import OWN_TABLES, option
from grpo_colab.recipe.library_signatures import accepted_arguments, known_values
from grpo_colab.recipe.reading import DEFAULT_PRESET, OPTIONAL_TABLES, PASSED_THROUGH, TABLES, merged, read_tables
from grpo_colab.recipe.schema import RENAMED, Prompts, Text, typed
from grpo_colab.recipe.validation import COMPARED, checked_sweep
from grpo_colab.tasks import TASKS, task_options
from grpo_colab.tasks.names import parse_task
from grpo_colab.utils.console import info

ONE_WORD: Final = {bool: "one", int: "one", float: "one", str: "text", list: "list", tuple: "list", dict: "table"}


class Tried(NamedTuple):
    """What a sweep tries: the overrides that all its runs have, and dotted settings with the values of each.

    `by_user` are those of the settings whose values the user has written, and no file.
    """

    tables: dict[str, Any]
    values: dict[str, list[Any]]
    by_user: frozenset[str]


def settings_tried(source: str | Path = DEFAULT_PRESET, overrides: Mapping[str, Any] | None = None) -> Tried:
    """Return what a sweep of a recipe tries: its [sweep], its settings that are lists and must not be, and overrides.

    `source` is a preset or a file. `overrides` are tables as in Recipe.load, with a table "sweep" among them, in which
    a setting may have several values: a text with commas, or a list. An override with one value takes its setting out
    of the file's sweep. Raises SettingError for a value that has not the setting's type, for one that is there twice,
    for a setting that is given in two ways, and as `read_tables` does.
    """
    overrides = copied_tables(overrides or {})
    read = read_tables(source)
    task = merged(read, overrides).get("task", {}).get("name")
    own_sweep = overrides.pop("sweep", None)
    values = {setting: _listed(setting, given, task) for setting, given in (read.get("sweep") or {}).items()}
    values |= {_today(*place): several for place, several in _several_of(read, task).items()}
    asked = {setting: _listed(setting, given, task) for setting, given in (own_sweep or {}).items()}
    inline = {}
    for (table, key), several in _several_of(overrides, task).items():
        del overrides[table][key]
        setting = _today(table, key)
        if setting in asked:
            problem, remedy = "is given twice, with --sweep before it and without", "leave one of them out"
            raise SettingError(problem, setting=setting, remedy=remedy)
        inline[setting] = several
    for table, settings in overrides.items():
        for key in settings if isinstance(settings, Mapping) else ():
            values.pop(_today(table, key), None)
    by_user = {**asked, **inline}
    values |= by_user
    if "grpo.seed" in values:
        raise SettingError(
            "is what a sweep takes the mean over, and no value that it compares",
            setting="grpo.seed",
            value=values["grpo.seed"],
            remedy=f"write --seeds {len(values['grpo.seed'])}, and the first one as --grpo.seed",
        )
    return Tried({name: table for name, table in overrides.items() if table != {}}, values, frozenset(by_user))


def several_values(setting: str, given: Any, kind: Any) -> list[Any] | None:
    """Return the values that `given` has for a setting of the type `kind`; None where it is a single value.

    A `Text` is one from a command line. Raises SettingError for a value among several that has not the type.
    """
    kinds = _kinds(kind)
    if isinstance(given, Text):
        with contextlib.suppress(tomllib.TOMLDecodeError):
            parsed = tomllib.loads(f"value = {given}")["value"]
            given = parsed if isinstance(parsed, list) else given
    if isinstance(given, Text) and "," in given:
        pieces = [Text(piece.strip()) for piece in given.split(",")]
        known = known_values(setting.partition(".")[2]) if setting.rsplit(".", maxsplit=1)[-1] in COMPARED else []
        if kinds - {"one"} and not (known and set(pieces) <= set(known)):
            if not given.lstrip().startswith(("{", "[")) and " " not in given:
                way = option("sweep", setting)
                info(f"{setting} = {str(given)!r} is one value, since its type may have commas. Several: {way} '[...]'")
            return None
        return _typed_values(setting, pieces, kind)
    if isinstance(given, list | tuple) and not kinds & {"list", "any"}:
        return _typed_values(setting, list(given), kind)
    return None


def _typed_values(setting: str, given: list[Any], kind: Any) -> list[Any]:
    """Return the values in their type. Raises SettingError for another type, for none, and for one that comes twice."""
    if not given:
        raise SettingError("has no value", setting=setting, value=given, remedy="write one or more")
    values: list[Any] = []
    for one in given:
        if one == "":
            problem, remedy = "has a comma with nothing beside it", "write the values as in 1,2,3"
            raise SettingError(problem, setting=setting, value=",".join(map(str, given)), remedy=remedy)
        value = typed(kind, one, setting)
        if value in values and any(type(other) is type(value) and other == value for other in values):
            raise SettingError("is among its values twice", setting=setting, value=value, remedy="write it once")
        values.append(value)
    return values


def _listed(setting: str, given: Any, task: Any) -> list[Any]:
    """Return the values of a setting of [sweep], each in its type. Raises SettingError for what is no list of them."""
    values = checked_sweep(setting, given)
    table, _, key = setting.partition(".")
    return _typed_values(setting, values, kind_of(table, key, task))


def _several_of(tables: Mapping[str, Any], task: Any) -> dict[tuple[str, str], list[Any]]:
    """Return the values of those settings of these tables that have several, by table and key as they are written."""
    found = {}
    for table in (*TABLES, *OPTIONAL_TABLES):
        settings = tables.get(table)
        if table == "sweep" or not isinstance(settings, Mapping):
            continue
        for key, given in settings.items():
            if not isinstance(key, str):  # a Python function among the rewards
                continue
            setting = _today(table, key)
            values = several_values(setting, given, kind_of(table, setting.partition(".")[2], task))
            if values is not None:
                found[table, key] = values
    return found


def _today(table: str, key: Any) -> str:
    """Return a setting's dotted name, that of today where it had another one in the same table."""
    today = RENAMED.get(f"{table}.{key}", "")
    return today if today.startswith(f"{table}.") else f"{table}.{key}"


def kind_of(table: str, key: str, task: Any) -> Any:
    """Return the type of a setting, Any where none is known. `task` is the name of the recipe's task.

    Nobody else's code is imported, so the settings of a class of somebody's own have no known type.
    """
    if table == "rewards":
        return float | bool
    if table in OWN_TABLES and key in OWN_TABLES[table].model_fields:
        return OWN_TABLES[table].model_fields[key].annotation
    if table == "task" and key in Prompts.model_fields:
        return Prompts.model_fields[key].annotation
    if table == "task" and isinstance(task, str) and (task in TASKS or parse_task(task).kind == "library"):
        return task_options(task).get(key, Any)
    if table in PASSED_THROUGH:
        return (accepted_arguments(table) or {}).get(key, Any)
    return Any


def _kinds(kind: Any) -> set[str]:
    """Return what a type allows: "one" for a number, a boolean or a fixed choice, "text", "list", "table" and "any"."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(_kinds(one) for one in typing.get_args(kind) if one is not types.NoneType))
    if origin is typing.Annotated:
        return _kinds(typing.get_args(kind)[0])
    if origin is typing.Literal:
        return {"one"}
    return {ONE_WORD.get(origin or kind, "any")}
