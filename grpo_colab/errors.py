"""The errors that a person can mend: each names the setting, its value, and what to write instead."""

from __future__ import annotations

import contextlib
import difflib
import reprlib
from collections.abc import Iterable

from grpo_colab.console import masked, on_one_line, printable


class SettingError(ValueError):
    """A setting, a file or a machine that cannot work. The command line prints it and exits with status 2.

    Its text may hold what a stranger wrote: what opens something has dots, and what a terminal obeys is escaped.
    """

    def __init__(self, text: str = "") -> None:
        super().__init__(printable(masked(text)))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback of forty lines: the sentence."""
        return [str(self)]


def one_line(error: BaseException, limit: int = 160) -> str:
    """What an exception says, its kind first, on one line of at most about `limit` characters, and dots for keys."""
    text = masked(f"{type(error).__name__}: {on_one_line(error)}")
    return text if len(text) <= limit else text[:limit] + "..."


def shown(value: object, limit: int = 80) -> str:
    """Return a value's text, cut, in bounded time: lists may share deeply, and huge integers have no text."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = limit
    with contextlib.suppress(Exception):
        return short.repr(value)[:limit]
    return f"a value of type {type(value).__name__}"


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'a' or 'b'?` for a misspelt name, or an empty string when nothing known is near."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
