"""Print messages for the person at the terminal: all that is not a result. Standard library only."""

from __future__ import annotations

import contextlib
import enum
import os
import sys
from typing import Any

from grpo_colab.text import masked, on_one_line, printable


class Verbosity(enum.IntEnum):
    """How much is said on stderr."""

    QUIET = 0  # warnings and errors
    NORMAL = 1  # what is done now, and each line of the libraries once
    VERBOSE = 2  # all that the libraries print, as they print it


class _Told:
    """What this process was told about its stderr."""

    verbosity = Verbosity.NORMAL
    # Where our own lines go while what libraries print is caught (see library_output.py); None for sys.stderr.
    stream: Any = None


def set_verbosity(verbosity: Verbosity) -> None:
    """Choose how much is said from now on, by all of this package's functions in this process."""
    _Told.verbosity = verbosity


def verbosity() -> Verbosity:
    """Return how much is said now."""
    return _Told.verbosity


def stderr() -> Any:
    """Return the stream for our own lines: sys.stderr, or the one behind it while the libraries' output is caught."""
    return sys.stderr if _Told.stream is None else _Told.stream


@contextlib.contextmanager
def speaking_through(stream: Any) -> Any:
    """Print our own lines on `stream` while this context is open, whatever stands in for sys.stderr."""
    before, _Told.stream = _Told.stream, stream
    try:
        yield
    finally:
        _Told.stream = before


def info(text: object, *, every_process: bool = False, even_quiet: bool = False) -> None:
    """Print a line on stderr, above a progress bar where one is shown.

    Of the processes that torchrun started only the first prints, unless `every_process`. With Verbosity.QUIET nothing
    is printed, unless `even_quiet`. Secrets are masked, and control characters are shown as text. Where stderr is
    missing, closed or full the line is dropped without an error.
    """
    stream = stderr()
    if stream is None or not (every_process or int(os.environ.get("RANK", "0")) == 0):
        return
    if _Told.verbosity == Verbosity.QUIET and not even_quiet:
        return
    line = printable(masked(str(text)))
    # There can be a bar only where tqdm was imported.
    bars = getattr(sys.modules.get("tqdm"), "tqdm", None)
    with contextlib.suppress(OSError, ValueError):
        if bars is not None:
            bars.write(line, file=stream)
        else:
            print(line, file=stream)
        stream.flush()


def warn(text: object, *, step: int | None = None) -> None:
    """Print a warning on stderr, on one line, with the step that it is about if one is given.

    It is printed as by `info`, but with every verbosity: by the first process only, with secrets masked, and without an
    error.
    """
    where = "" if step is None else f", step {step}"
    info(f"Warning{where}: {on_one_line(text)}", even_quiet=True)


def error(text: object) -> None:
    """Print an error on stderr: as by `info`, but by every process and with every verbosity."""
    info(text, every_process=True, even_quiet=True)
