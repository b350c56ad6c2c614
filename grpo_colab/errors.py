"""The errors that a person can mend: each names the setting, its value, and what to write instead."""

from __future__ import annotations

import contextlib
import difflib
import reprlib
from collections.abc import Iterable
from typing import Final, Self

from grpo_colab.text import masked, on_one_line, printable

_NOT_GIVEN: Final = object()


class SettingError(ValueError):
    """Refuse a setting, a file or a machine that cannot work. The command line prints it and exits with status 2.

    `setting` is the dotted name of a setting, or an option with its dashes. `value` is what was written there.
    `problem` says why it cannot work. `remedy` says what to write instead. `place` names the file, and the line where
    one is known. Every field is optional but `problem`. The text is one sentence of those that are given:
    `place: setting = value: problem; remedy`.

    The text may hold what a stranger wrote, so keys are masked and escape sequences are shown as text.
    """

    def __init__(
        self,
        problem: str = "",
        *,
        setting: str | None = None,
        value: object = _NOT_GIVEN,
        remedy: str | None = None,
        place: object = None,
    ) -> None:
        self.problem, self.setting, self.remedy = problem, setting, remedy
        self.has_value = value is not _NOT_GIVEN
        self.value = value if self.has_value else None
        self.place = None if place is None else str(place)
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        named = f"{self.setting} = {shown(self.value, 200)}" if self.setting and self.has_value else self.setting
        text = ": ".join(part for part in (self.place, named, self.problem) if part)
        return printable(masked(f"{text}; {self.remedy}" if self.remedy else text))

    def at(self, place: object) -> Self:
        """Return a copy that names a place: a file, a line, a run folder. A place that it has comes after it."""
        return self.replace(place=f"{place}: {self.place}" if self.place else str(place))

    def replace(self, **fields: object) -> Self:
        """Return a copy of the same class with other fields: setting, value, problem, remedy, place."""
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self) | fields, has_value=self.has_value or "value" in fields)
        twin.args = (twin._sentence(),)
        return twin

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


def one_of(name: str, known: Iterable[str]) -> str:
    """Return a remedy for a name that is not known: those that are near, then all that there are."""
    names = list(known)
    near = nearest(name, names).removeprefix("; ")
    return f"{near} There are: {', '.join(names)}" if near else f"there are: {', '.join(names)}"
