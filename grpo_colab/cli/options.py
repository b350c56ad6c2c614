"""Declare the options and arguments that several subcommands take."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from grpo_colab.cli import completion
from grpo_colab.errors import SettingError
from grpo_colab.utils.console import Verbosity, set_verbosity

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


def verbosity_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add -q and -v to a command, and let it run with the verbosity that they choose.

    The command does not get the two options. Raises SettingError for both of them together.
    """

    @click.option("-q", "--quiet", is_flag=True, help="Print the result and warnings only.")
    @click.option("-v", "--verbose", is_flag=True, help="Print all that the libraries print, as they print it.")
    @functools.wraps(command)
    def with_verbosity(*arguments: Any, quiet: bool, verbose: bool, **options: Any) -> None:
        if quiet and verbose:
            raise SettingError("is the opposite of --quiet", setting="--verbose", remedy="leave one of them out")
        if quiet:
            set_verbosity(Verbosity.QUIET)
        elif verbose:
            set_verbosity(Verbosity.VERBOSE)
        try:
            command(*arguments, **options)
        finally:
            set_verbosity(Verbosity.NORMAL)

    return with_verbosity


json_option = click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
trust_option = click.option(
    "--trust-code", is_flag=True, help="Allow other people's code that a recipe file or run folder names. Needed once."
)
words_argument = click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="[RECIPE] [--TABLE.SETTING VALUE]...",
    shell_complete=completion.recipes,
)
