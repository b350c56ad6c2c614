"""Speak to the person at the terminal: the one way to print what is not a result. Standard library only."""

from __future__ import annotations

import contextlib
import os
import sys

from grpo_colab.text import masked, on_one_line, printable


def info(text: object, *, every_process: bool = False) -> None:
    """Print a line on stderr, above a progress bar where one is shown.

    Of the processes that torchrun started the first speaks for all, unless `every_process`. Keys get dots, and what a
    terminal would obey is shown as text. A stderr that is missing, closed or full costs nothing but the line.
    """
    if sys.stderr is None or not (every_process or int(os.environ.get("RANK", "0")) == 0):
        return
    line = printable(masked(str(text)))
    # only who has imported tqdm can have a bar to write above
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    with contextlib.suppress(OSError, ValueError):
        if bars is not None:
            bars.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)
        sys.stderr.flush()


def warn(text: object, *, step: int | None = None) -> None:
    """Print a warning on stderr, on one line, and the step that it is about where there is one."""
    info(f"Warning{'' if step is None else f', step {step}'}: {on_one_line(text)}")
