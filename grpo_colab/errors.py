"""Errors that a person can fix: each names the setting, its value, the problem, and what to write instead."""

from __future__ import annotations

import contextlib
import difflib
import reprlib
from collections.abc import Iterable
from typing import Final, Self

from grpo_colab.text import masked, on_one_line, printable

MOST_SHOWN: Final = 1 << 16  # characters of a text that are searched for secrets
_NOT_GIVEN: Final = object()


class SettingError(ValueError):
    """Refuse a setting, a file or a machine that cannot work. The command line prints it and exits with status 2.

    `setting` is the dotted name of a setting, or an option with its dashes. `value` is what was written there.
    `problem` says why it cannot work. `remedy` says what to write instead. `place` names the file, and the line where
    one is known. Every field is optional but `problem`. The message is one sentence of those that are given:
    `place: setting = value: problem; remedy`.

    The fields are kept as attributes. `has_value` tells whether a value was given, since a given one may be None. The
    message may quote untrusted text, so secrets are masked and escape sequences are shown as text.
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
        """Return the message, made of the fields that are given.

        The value is shown only with a setting, as its repr of at most 200 characters. A boolean of a dotted setting is
        written as in TOML: true or false. Secrets are masked, and control characters become escapes.
        """
        setting = self.setting
        if setting and self.has_value:
            value = shown(self.value, 200)
            if isinstance(self.value, bool) and "." in setting:
                value = value.lower()  # a recipe's setting, as TOML writes it
            setting = f"{setting} = {value}"
        text = ": ".join(part for part in (self.place, setting, self.problem) if part)
        if self.remedy:
            text = f"{text}; {self.remedy}"
        return printable(masked(text))

    def at(self, place: object) -> Self:
        """Return a copy that names a place, such as a file, a line or a run folder, before the place that it has.

        The error itself stays as it is.
        """
        return self.replace(place=f"{place}: {self.place}" if self.place else str(place))

    def within(self, place: object, **fields: object) -> Self:
        """Return a copy for a setting that another one holds, such as a reward's setting in its brackets.

        An error that names a setting keeps it, and gets `place` as by `at`. An error without a setting gets `fields` as
        by `replace`, and `place` is then not used.
        """
        return self.at(place) if self.setting else self.replace(**fields)

    def replace(self, **fields: object) -> Self:
        """Return a copy of the same class with other values for `fields`: setting, value, problem, remedy, place.

        The copy keeps the other fields, and its message is made anew. A value of None counts as given. The error itself
        stays as it is.
        """
        copy = type(self).__new__(type(self))
        vars(copy).update(vars(self) | fields, has_value=self.has_value or "value" in fields)
        copy.args = (copy._sentence(),)
        return copy

    def _render_traceback_(self) -> list[str]:
        """Return the message alone, which IPython then shows in place of a traceback of forty lines."""
        return [str(self)]


def one_line(error: BaseException, limit: int = 160) -> str:
    """Return an exception's class and message on one line of about `limit` characters, with secrets masked.

    Line ends and runs of white space become one space, and control characters become escapes. A longer line is cut and
    ends in `...`.
    """
    text = masked(f"{type(error).__name__}: {on_one_line(error)}")
    return text if len(text) <= limit else text[:limit] + "..."


class _MaskedRepr(reprlib.Repr):
    """Short reprs in which texts are masked before they are cut, since half a secret is no longer recognised as one."""

    def repr_str(self, value: str, level: int) -> str:
        """Return the repr of a text with its secrets masked, cut in its middle to `maxstring` characters.

        Only the first MOST_SHOWN characters of a text are looked at.
        """
        return super().repr_str(masked(value[:MOST_SHOWN]), level)


def shown(value: object, limit: int = 80) -> str:
    """Return a value's repr, with the secrets in its texts masked, cut to `limit` characters.

    Long lists and dictionaries show their first items only, and deep ones their outer levels, so the time is bounded. A
    value whose repr fails, such as a huge integer, is shown as its type. Nothing is raised.
    """
    short = _MaskedRepr()
    short.maxstring = short.maxother = short.maxlong = limit
    with contextlib.suppress(Exception):
        return short.repr(value)[:limit]
    return f"a value of type {type(value).__name__}"


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `did you mean 'a' or 'b'?` for a misspelt name, or an empty string if no known name is similar.

    It suggests at most three names. Where known names begin with a `name` of three letters or more, which is then cut
    short and not misspelt, it suggests those, in their order. Otherwise the most similar comes first. Upper case makes
    no difference.
    """
    names = list(known)
    wanted = name.casefold()
    close = [other for other in names if other.casefold().startswith(wanted)][:3] if len(name) >= 3 else []
    if not close:
        spellings = {other.casefold(): other for other in names}
        close = [spellings[match] for match in difflib.get_close_matches(wanted, spellings, n=3, cutoff=0.6)]
    return f"did you mean {' or '.join(repr(match) for match in close)}?" if close else ""


def one_of(name: str, known: Iterable[str]) -> str:
    """Return a remedy for an unknown name: the known names that are similar, then all known names."""
    names = list(known)
    listed = ", ".join(names)
    suggestion = nearest(name, names)
    return f"{suggestion} There are: {listed}" if suggestion else f"there are: {listed}"
