"""Print messages for the person at the terminal: all that is not a result. Standard library only."""

from __future__ import annotations

import contextlib
import os
import sys

from grpo_colab.text import masked, on_one_line, printable


def info(text: object, *, every_process: bool = False) -> None:
    """Print a line on stderr, above a progress bar where one is shown.

    Of the processes that torchrun started only the first prints, unless `every_process`. Secrets are masked, and
    control characters are shown as text. Where stderr is missing, closed or full the line is dropped without an error.
    """
    if sys.stderr is None or not (every_process or int(os.environ.get("RANK", "0")) == 0):
        return
    line = printable(masked(str(text)))
    # There can be a bar only where tqdm was imported.
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    with contextlib.suppress(OSError, ValueError):
        if bars is not None:
            bars.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr)
        sys.stderr.flush()


def warn(text: object, *, step: int | None = None) -> None:
    """Print a warning on stderr, on one line, with the step that it is about if one is given.

    It is printed as by `info`: by the first process only, with secrets masked, and without an error.
    """
    where = "" if step is None else f", step {step}"
    info(f"Warning{where}: {on_one_line(text)}")
