"""The command line. Each command parses its arguments, calls one function, and prints the result.

Results go to stdout, all other output to stderr. A SettingError is printed in one line, with exit status 2. `group` has
the command and `options` what several of its subcommands take. `runs` are the subcommands that train, `questions` those
that ask what there is and what would be, `results` those that look at what a run or a reward has done. `output` prints,
and `completion` completes words in a shell.
"""

from __future__ import annotations

import sys

from grpo_colab.cli import questions, results, runs  # noqa: F401 - they add their commands
from grpo_colab.cli.group import cli
from grpo_colab.cli.output import escape_unprintable, print_traceback
from grpo_colab.errors import SettingError
from grpo_colab.utils.console import error

__all__ = ["cli", "main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the console script and exit, with status 2 and one line on stderr for a SettingError. Sets sys.excepthook."""
    sys.excepthook = print_traceback
    escape_unprintable()
    try:
        cli(arguments, prog_name="grpo-colab")
    except SettingError as refusal:
        error(f"grpo-colab: {refusal}")
        sys.exit(2)
