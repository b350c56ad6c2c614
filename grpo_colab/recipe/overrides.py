"""Read the words of a command line: the recipe that they choose, and the settings that they put on top.

`[RECIPE] [--table.setting VALUE | --table.setting=VALUE]...`, in any order. The recipe knows its settings,
so that click need not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, nearest
from grpo_colab.recipe.recipe import DEFAULT_PRESET, DRAWING_TABLES, TABLES, Recipe, Text


def read_recipe(words: Sequence[str], resume: str | None = None) -> Recipe:
    """Return the recipe that the words mean; raise SettingError where they mean none.

    The settings are on top of those of the run folder `resume`, if there is one.
    """
    names, overrides = read_words(words)
    if resume and names:
        raise SettingError(
            "goes on with the run's own recipe", setting="--resume", value=resume, remedy=f"leave out {names[0]!r}"
        )
    if len(names) > 1:
        raise SettingError("there can be one recipe only", setting="recipe", value=" ".join(names), remedy="name one")
    source = Path(resume) / "recipe.toml" if resume else names[0] if names else DEFAULT_PRESET
    return Recipe.load(source, **overrides)


def read_words(words: Sequence[str]) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Return the words that are no settings, and the settings: table -> key -> text."""
    tables = (*TABLES, *DRAWING_TABLES)
    names: list[str] = []
    overrides: dict[str, dict[str, Any]] = {}
    remaining = iter(words)
    for word in remaining:
        if not word.startswith("-"):
            names.append(word)
            continue
        # a reward's own settings, in brackets, have equals signs of their own
        start = word.rfind(")") + 1 if word.lstrip("-").startswith("rewards.") else 0
        setting, equals, value = word[start:].partition("=")
        setting = (word[:start] + setting).lstrip("-")
        table, dot, key = setting.partition(".")
        if not dot or table not in tables:
            near = nearest(table, tables).removeprefix("; ") if dot else ""
            remedy = f"{near} A setting is" if near else "a setting is"
            raise SettingError(
                "no such option", setting=word, remedy=f"{remedy} --TABLE.SETTING with one of {', '.join(tables)}"
            )
        if not equals:
            try:
                value = next(remaining)
            except StopIteration:
                raise SettingError("has no value", setting=word, remedy=f"write {word} VALUE") from None
        # a reward's key may be a path, in which a dash is a dash
        overrides.setdefault(table, {})[key if table == "rewards" else key.replace("-", "_")] = Text(value)
    return names, overrides
