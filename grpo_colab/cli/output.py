"""Print what the command line says: results, the output of libraries, and errors.

Texts from other people may hold terminal escape sequences. They are printed as text, so that a terminal does not obey
them.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.text import counted, printable
from grpo_colab.utils import console
from grpo_colab.utils.library_output import library_lines_once


def escape_unprintable() -> None:
    """Let stdout and stderr print as escapes what their encoding lacks, as on a terminal that knows ASCII only.

    A stream that is no plain text stream of Python stays as it is.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def announce_foreign_code(names: list[str]) -> None:
    """Print, on stderr, which of these rewards run code from outside of this package.

    None of that code is run. A name that is wrong is left out: the function that resolves it refuses it later.
    """
    from grpo_colab.recipe.trust import announced
    from grpo_colab.rewards.static_check import check_without_import

    sound = []
    for name in names:
        with contextlib.suppress(SettingError):
            check_without_import(name)
            sound.append(name)
    announcement = announced(sound)
    if announcement:
        console.info(announcement, every_process=True)


class _SafeStderr(io.TextIOBase):
    """A stream to stderr for what libraries print. Of the escape sequences, it lets only colours through."""

    def write(self, text: str) -> int:
        # the group makes re.split return the colours, too: plain text and colours take turns
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


@contextlib.contextmanager
def chatter_to_stderr() -> Iterator[None]:
    """Redirect to stderr what Unsloth and other libraries print to stdout, while this context is open.

    Stdout is for results only. With Verbosity.QUIET only the libraries' warnings are printed. What code that is not
    Python writes to the file descriptor is not redirected.
    """
    quiet = console.verbosity() == console.Verbosity.QUIET
    with contextlib.redirect_stdout(_SafeStderr()), library_lines_once() if quiet else contextlib.nullcontext():
        yield


def print_traceback(*error: Any) -> None:
    """Print an exception's traceback on stderr, safe for a terminal. Takes the arguments of sys.excepthook."""
    console.error("".join(traceback.format_exception(*error)).rstrip())


def json_text(value: Any) -> str:
    """Return a result as JSON, indented and in ASCII. Paths become texts; NaN and infinity, which it lacks, null."""
    import json

    from pydantic_core import to_jsonable_python

    return json.dumps(to_jsonable_python(value, inf_nan_mode="null"), indent=2, allow_nan=False)


def evaluation_text(evaluation: dict[str, Any]) -> str:
    """Return the lines that `train` prints at its end, from the content of evaluation.json.

    These are the task, the accuracy before and after with its 95 % interval, the paired test, and the task's note; then
    the same of each further split. Raises KeyError where `evaluation` lacks one of these other than the note.
    """
    lines = [f"{evaluation['task']}, {counted(evaluation['n'], 'held-out problem')}, greedy:", *_accuracy(evaluation)]
    if evaluation.get("note"):
        lines.append(f"  {evaluation['note']}")
    for split, found in evaluation.get("further", {}).items():
        lines.append(f"{split}, {counted(found['n'], 'held-out problem')} {found['about']}, greedy:")
        lines += _accuracy(found)
    return "\n".join(lines)


def _accuracy(found: dict[str, Any]) -> list[str]:
    """Return three lines on the answers to one split: before, after, and the paired test."""
    lines = []
    for name in ("before", "after"):
        low, high = found[name]["ci95"]
        lines.append(f"  {name:<7}{found[name]['accuracy']:6.1%}  (95 % interval {low:.1%} to {high:.1%})")
    paired = found["paired"]
    return [*lines, f"  gained {paired['gained']}, lost {paired['lost']}, exact McNemar p = {paired['p_value']:.2g}"]
