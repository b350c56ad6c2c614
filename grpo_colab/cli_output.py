"""What the command line writes: results, chatter and errors, without what a terminal would obey in them."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import traceback
from typing import Any

import click

from grpo_colab.text import masked, printable


def say(text: str) -> None:
    """Print a line on stderr, without what a terminal would obey in a stranger's text, and with dots for keys."""
    click.echo(printable(masked(text)), err=True)


class _Chatter(io.TextIOBase):
    """Stderr for what libraries print: of what a terminal obeys, colours alone come through."""

    def write(self, text: str) -> int:
        parts = re.split(r"(\x1b\[[0-9;]*m)", text)
        parts[::2] = [printable(part) for part in parts[::2]]
        sys.stderr.write("".join(parts))
        return len(text)

    def flush(self) -> None:
        sys.stderr.flush()

    def isatty(self) -> bool:
        return sys.stderr.isatty()

    encoding: Any = property(lambda self: sys.stderr.encoding)

    def fileno(self) -> int:
        return sys.stderr.fileno()


def chatter_to_stderr() -> contextlib.AbstractContextManager[Any]:
    """Send to stderr what Unsloth and its neighbours print to stdout, where only our results belong."""
    return contextlib.redirect_stdout(_Chatter())


def show_traceback(*error: Any) -> None:
    """Print what Python prints of an error, without what a terminal would obey in a stranger's text."""
    say("".join(traceback.format_exception(*error)).rstrip())


def evaluation_text(evaluation: dict[str, Any]) -> str:
    """Return what a person wants to know at the end of a run, in four lines."""

    def side(name: str) -> str:
        values = evaluation[name]
        low, high = values["ci95"]
        return f"{name:<7}{values['accuracy']:6.1%}  (95 % interval {low:.1%} to {high:.1%})"

    paired = evaluation["paired"]
    return (
        f"{evaluation['task']}, {evaluation['n']} held-out problems, greedy:\n  {side('before')}\n  {side('after')}\n"
        f"  gained {paired['gained']}, lost {paired['lost']}, exact McNemar p = {paired['p_value']:.2g}"
    )
