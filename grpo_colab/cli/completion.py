"""Complete words in a shell: recipes, their settings, run folders, rewards, tasks and devices.

click speaks with the shell. Each function here gets the word so far and returns what may stand there. Nothing heavy is
imported, and nothing that a recipe names is run, since a person waits for the answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import click
from click.shell_completion import CompletionItem

Items = list[CompletionItem]


class RecipeCommand(click.Command):
    """A command that also takes the settings of a recipe as options, such as `--grpo.learning-rate`."""

    def shell_complete(self, ctx: click.Context, incomplete: str) -> Items:
        """Return the options of the command and the settings of a recipe that begin with `incomplete`."""
        items = super().shell_complete(ctx, incomplete)
        if not incomplete.startswith("-"):
            return items
        from grpo_colab.recipe.known_settings import known_settings, option
        from grpo_colab.recipe.reading import OPTIONAL_TABLES, TABLES

        table, dot, _ = incomplete.lstrip("-").partition(".")
        allowed = ("task",) if self.name == "embed" else (*TABLES, *OPTIONAL_TABLES)
        tables = [name for name in allowed if name == table or not dot]  # the libraries' tables take longest
        return items + _matching((option(name, key) for name in tables for key in known_settings(name)), incomplete)


def recipes(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the presets, or else files; after a setting, the values that it may have."""
    from grpo_colab.recipe.reading import preset_names

    return _value_of_setting(ctx, incomplete) or _or_file(preset_names(), incomplete)


def tasks(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the tasks and the presets, or else files; after a setting, the values that it may have."""
    from grpo_colab.recipe.reading import preset_names
    from grpo_colab.tasks import TASKS

    return _value_of_setting(ctx, incomplete) or _or_file([*TASKS, *preset_names()], incomplete)


def images(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the images that have names, or else files; after a setting, the values that it may have."""
    from grpo_colab.tasks.drawing.images import NAMED

    return _value_of_setting(ctx, incomplete) or _or_file(NAMED, incomplete)


def runs(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the run folders in runs/ as `grpo-colab runs` lists them, the newest first, or else folders."""
    from grpo_colab.errors import SettingError
    from grpo_colab.runs.listing import run_folders

    found = []
    with contextlib.suppress(SettingError):  # there is no runs/
        found = [str(folder) for folder in run_folders()]
    return _matching(filter(str.isprintable, found), incomplete) or [CompletionItem(incomplete, type="dir")]


def kinds(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the kinds of answers."""
    from grpo_colab.rewards.graders.settings import KINDS

    return _matching(KINDS, incomplete)


def rewards(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return this package's rewards, or else files. Of a list with commas, the last name is completed."""
    from grpo_colab.rewards.resolve import SHORT_NAMES

    before, comma, last = incomplete.rpartition(",")
    return _or_file([f"{before}{comma}{name}" for name in SHORT_NAMES], f"{before}{comma}{last}")


def devices(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> Items:
    """Return the devices that a plan can be made for."""
    from grpo_colab.plan.devices import GPUS

    return _matching([*GPUS, "cpu"], incomplete)


def _value_of_setting(ctx: click.Context, incomplete: str) -> Items:
    """Return what the setting may be that is the last word before this one, such as true and false; else nothing."""
    words: tuple[str, ...] = ctx.params.get("words") or ()
    if not words or not words[-1].startswith("--") or "=" in words[-1]:
        return []
    table, _, key = words[-1].removeprefix("--").partition(".")
    return _matching(_values(table, key.replace("-", "_")), incomplete) or [CompletionItem(incomplete, type="file")]


def _values(table: str, key: str) -> list[str]:
    """Return the texts that a setting may be; an empty list for numbers, for paths, and for an unknown setting."""
    from grpo_colab.recipe import library_signatures
    from grpo_colab.recipe.known_settings import OWN_TABLES
    from grpo_colab.rewards.graders.settings import KINDS
    from grpo_colab.tasks import TASKS

    if (table, key) == ("task", "name"):
        return list(TASKS)
    if (table, key) == ("task", "answer"):
        return list(KINDS)
    if (table, key) == ("model", "model_name"):
        return ["tiny", "tiny-drawing"]
    if table == "grpo" and (known := library_signatures.known_values(key)):
        return known
    kind: Any = None
    if table in OWN_TABLES and key in OWN_TABLES[table].model_fields:
        kind = OWN_TABLES[table].model_fields[key].annotation
    elif table in library_signatures.SOURCES:
        kind = (library_signatures.accepted_arguments(table) or {}).get(key)
    return ["true", "false"] if kind is bool else []


def _matching(names: Iterable[str], incomplete: str) -> Items:
    """Return those of the names that begin with `incomplete`."""
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _or_file(names: Iterable[str], incomplete: str) -> Items:
    """Return those of the names that begin with `incomplete`; where none does, the shell completes a file."""
    return _matching(names, incomplete) or [CompletionItem(incomplete, type="file")]
