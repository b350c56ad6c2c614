"""Catch what libraries print while they are imported and while they load: each line once, and below our own.

Unsloth, TRL and transformers say much at such times, some of it twice, between our lines and over our bar. Nothing is
caught once the training has begun, when a person's own reward may print. Standard library only.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any, Final

from grpo_colab.text import printable
from grpo_colab.utils.console import Verbosity, info, speaking_through, stderr, verbosity

INDENT: Final = "  | "
_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_WARNING: Final = re.compile(r"(?:warning|error)s?\b|\bcritical\b", re.IGNORECASE)
# The state of somebody's progress bar, such as "Loading weights: 100%|####| 29/29 [00:00<00:00, 6627.52it/s]".
_BAR: Final = re.compile(r"\d%\||\d(?:it|s|B)/(?:s|it)\b")
_said: Final[set[str]] = set()  # lines of libraries that this process has printed


@contextlib.contextmanager
def library_lines_once(drop: bool = False) -> Iterator[None]:
    """Print what libraries write to stdout and stderr as indented lines on stderr, each once in this process.

    Their progress bars stay where a terminal shows them. With `drop` nothing but warnings is printed: what they say
    will be said again. So it is with Verbosity.QUIET, and with Verbosity.VERBOSE nothing is caught. Loggers keep the
    stream that they find here; later it hands on all that was not said before.
    """
    if verbosity() == Verbosity.VERBOSE or sys.stderr is None or sys.stdout is None:
        yield
        return
    with contextlib.ExitStack() as held:
        held.enter_context(speaking_through(stderr()))
        drop = drop or verbosity() == Verbosity.QUIET
        caught = {name: _Caught(getattr(sys, name), drop) for name in ("stdout", "stderr")}
        for name, stream in caught.items():
            setattr(sys, name, stream)
        try:
            yield
        finally:
            for name, stream in caught.items():
                stream.release()
                if getattr(sys, name) is stream:  # else a library has put its own filter before it, which stays
                    setattr(sys, name, stream.inner)


@contextlib.contextmanager
def without_warnings_of(name: str) -> Iterator[None]:
    """Let the logger `name` of a library say nothing but errors while the block runs."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Caught(io.TextIOBase):
    """A stream in place of `inner`, which is sys.stdout or sys.stderr."""

    def __init__(self, inner: Any, drop: bool) -> None:
        self.inner, self.drop = inner, drop
        self.catching, self.waiting = True, ""

    def write(self, text: str) -> int:
        if not self.catching:
            if text.strip() not in _said:
                self.inner.write(text)
        elif self._is_of_a_bar(text):
            if not self.drop:
                self.inner.write(text)
        else:
            *lines, self.waiting = (self.waiting + text).split("\n")
            for line in lines:
                self._say(line)
        return len(text)

    def _is_of_a_bar(self, text: str) -> bool:
        """Tell whether a text moves the cursor of a terminal, as progress bars do."""
        moves = "\r" in text or "\x1b[A" in text or (bool(_BAR.search(text)) and not self.waiting)
        return moves and self.isatty()

    def _say(self, line: str) -> None:
        """Print a whole line of a library, unless it was said before or is to be dropped."""
        shown = printable(_COLOUR.sub("", line.rpartition("\r")[2])).rstrip()
        known = shown.strip() in _said
        if not shown.strip() or known or _BAR.search(shown):
            return
        if self.drop and not _WARNING.search(shown):
            return
        _said.add(shown.strip())
        info(f"{INDENT}{shown}", even_quiet=True)

    def release(self) -> None:
        """Stop catching: a last line without an end is printed, and later texts go to the inner stream."""
        waiting, self.waiting = self.waiting, ""
        self._say(waiting)
        self.catching = False

    def flush(self) -> None:
        self.inner.flush()

    def isatty(self) -> bool:
        return bool(self.inner.isatty())

    def fileno(self) -> int:
        return int(self.inner.fileno())

    encoding: Any = property(lambda self: self.inner.encoding)
    errors: Any = property(lambda self: self.inner.errors)
