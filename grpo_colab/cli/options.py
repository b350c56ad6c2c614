"""Declare the options and arguments that several subcommands take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from grpo_colab.errors import SettingError

# Leave --table.setting to the recipe's own parser, which knows the settings.
PASS_ON = {"ignore_unknown_options": True}


def _not_empty(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the option's value, None for an option left out. Raises SettingError for an empty or blank value."""
    if value is not None and not value.strip():
        raise SettingError(
            "is empty", setting=f"--{parameter.name}", value=value, remedy="write a name, or leave the option out"
        )
    return value


def path_option(*names: str, **options: Any) -> Callable[[Any], Any]:
    """Return a click option for a path or a name. Its callback raises SettingError for an empty value."""
    return click.option(*names, callback=_not_empty, **options)


trust_option = click.option(
    "--trust-code", is_flag=True, help="Allow other people's code that a recipe file or run folder names. Needed once."
)
words_argument = click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, metavar="[RECIPE] [--TABLE.SETTING VALUE]..."
)
