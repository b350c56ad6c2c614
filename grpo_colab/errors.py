"""The errors that a person can mend: each names the setting, its value, and what to write instead."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from grpo_colab.console import masked, on_one_line


class SettingError(ValueError):
    """A setting, a file or a machine that cannot work. The command line prints it and exits with status 2."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback of forty lines: the sentence."""
        return [str(self)]


def one_line(error: BaseException, limit: int = 160) -> str:
    """What an exception says, its kind first, on one line of at most about `limit` characters, and dots for keys."""
    text = masked(f"{type(error).__name__}: {on_one_line(error)}")
    return text if len(text) <= limit else text[:limit] + "..."


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'a' or 'b'?` for a misspelt name, or an empty string when nothing known is near."""
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(match) for match in close)}?" if close else ""
