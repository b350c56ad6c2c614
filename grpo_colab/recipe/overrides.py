"""Parse the arguments of a command: the recipe's name or file, and the settings that override it.

The form is `[RECIPE] [--table.setting VALUE | --table.setting=VALUE]...`, in any order. It is parsed here and not by
click, because only a recipe knows which settings there are. `reading` resolves the recipe, `validation` checks values.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, nearest
from grpo_colab.recipe.known_settings import options_for
from grpo_colab.recipe.recipe import DEFAULT_PRESET, OPTIONAL_TABLES, TABLES, Recipe
from grpo_colab.recipe.schema import Text


def read_recipe(arguments: Sequence[str], resume: str | None = None) -> Recipe:
    """Return the recipe that a command's arguments name, with their overrides applied.

    Without a name it is the default preset. With `resume`, a run folder, it is the recipe.toml of that folder. Raises
    SettingError for a name beside `resume`, for several names, and for whatever `parse_overrides` and `Recipe.load`
    refuse.
    """
    names, overrides = parse_overrides(arguments)
    if resume and names:
        raise SettingError(
            "goes on with the run's own recipe", setting="--resume", value=resume, remedy=f"leave out {names[0]!r}"
        )
    one_name(names)
    source: str | Path = DEFAULT_PRESET
    if resume:
        source = Path(resume) / "recipe.toml"
    elif names:
        source = names[0]
    return Recipe.load(source, **overrides)


def one_name(names: Sequence[str]) -> str | None:
    """Return the name of the recipe among a command's arguments, None for none. Raises SettingError for several."""
    if len(names) > 1:
        raise SettingError("there can be one recipe only", setting="recipe", value=" ".join(names), remedy="name one")
    return names[0] if names else None


def parse_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Split a command's arguments into names and overrides.

    Names are the arguments that do not start with a dash. Overrides map a table to its settings, and a setting to the
    text of its value. Dashes in the name of a setting become underscores, except in [rewards]. Of a setting that is
    given twice the last value counts. Raises SettingError for an option that names no table of a recipe, and for a
    setting without a value. Whether the table has such a setting is not checked here.
    """
    names: list[str] = []
    overrides: dict[str, dict[str, Any]] = {}
    remaining = iter(arguments)
    for argument in remaining:
        if not argument.startswith("-"):
            names.append(argument)
            continue
        setting, equals, value = _split_at_equals(argument)
        table, dot, key = setting.partition(".")
        if not dot or table not in (*TABLES, *OPTIONAL_TABLES):
            raise _no_such_option(argument, setting)
        if not equals:
            try:
                value = next(remaining)
            except StopIteration:
                raise SettingError("has no value", setting=argument, remedy=f"write {argument} VALUE") from None
        # The key of a reward may be a path, in which a dash is a dash.
        if table != "rewards":
            key = key.replace("-", "_")
        overrides.setdefault(table, {})[key] = Text(value)
    return names, overrides


def _split_at_equals(argument: str) -> tuple[str, str, str]:
    """Return an option's setting without its dashes, the equals sign (or an empty text), and the value after it.

    A reward's own settings stand in brackets and have equals signs, as in `--rewards.length(target=9)=0.5`. Those
    signs belong to the name of the reward.
    """
    name_end = 0
    if argument.lstrip("-").startswith("rewards."):
        name_end = argument.rfind(")") + 1
    rest, equals, value = argument[name_end:].partition("=")
    return (argument[:name_end] + rest).lstrip("-"), equals, value


def _no_such_option(argument: str, setting: str) -> SettingError:
    """Return the refusal of an option that is no setting; `setting` is the option without its dashes and its value.

    For a setting without its table, the remedy names the option in every table that has it.
    """
    tables = (*TABLES, *OPTIONAL_TABLES)
    table, dot, _ = setting.partition(".")
    if not dot and (options := options_for(setting)):
        return SettingError("no such option", setting=argument, remedy=f"write {' or '.join(options)}")
    suggestion = nearest(table, tables) if dot else ""
    sentence = f"{suggestion} A setting is" if suggestion else "a setting is"
    remedy = f"{sentence} --TABLE.SETTING with one of {', '.join(tables)}"
    return SettingError("no such option", setting=argument, remedy=remedy)
