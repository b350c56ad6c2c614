"""Read an untrusted TOML file with bounds on its size, its depth and the time that it takes.

tomllib takes minutes for a key of many dotted parts, and ends in a RecursionError for deeply nested brackets. One scan
finds both before tomllib parses the text. Standard library only.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from grpo_colab.text import is_secret
from grpo_colab.utils.files import read_bytes

MOST_BYTES: Final = 1 << 20
# Parts of one dotted key. tomllib's time grows with their square, for each line below a header with such a key.
MOST_PARTS: Final = 20
MOST_DEEP: Final = 20_000  # parts beyond the third of a key, in the whole text: each is a table or two in memory
MOST_LEVELS: Final = 60  # of nested brackets, and of nested tables
LONGEST_SETTING: Final = 300  # characters of a line that is written anew for a person
MOST_BITS: Final = 4096  # of an integer: Python refuses to write the digits of a longer one

# What begins or ends something outside of strings and comments. Three quotes come before one, to be matched first.
_SIGN: Final = re.compile(r"\"\"\"|'''|[\"'#\n\[\]{}=,.]")
# The beginning of a string or a comment -> what may end it, or be an escape in it.
_ENDS: Final = {
    '"""': re.compile(r'\\.|"""', re.DOTALL),
    "'''": re.compile(r"'''"),
    '"': re.compile(r'\\.|["\n]'),
    "'": re.compile(r"['\n]"),
    "#": re.compile(r"\n"),
}

# A line that sets a value which begins like no value of TOML, or goes on where it should end; and where the parser says
# that it stopped.
_BARE: Final = re.compile(r"\s*(?P<key>[\w.\"-]+)\s*=\s*(?P<value>[^\s#\"'\[{][^#\"'\[\]{}]*?)\s*(?:#.*)?")
_LINE: Final = re.compile(r"at line (\d+)")
_CURLY: Final = "\u201c\u201d\u201e\u2018\u2019"
_NULLS: Final = ("none", "null", "nil")


class NotToml(ValueError):
    """The text is no TOML. `remedy` says what to write instead, and is None where that is not plain."""

    def __init__(self, problem: str, remedy: str | None) -> None:
        super().__init__(problem)
        self.remedy = remedy


def read_toml(path: Path, most: int = MOST_BYTES, follow: bool = False) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises OSError for a missing file, for a link (unless `follow`), for a pipe or a device, and for more than `most`
    bytes. Raises ValueError, with a message for a person, for a file that is no UTF-8 or no TOML, for TOML that is
    nested too deep or has keys of too many parts, and for an integer of more than a thousand digits.
    """
    content = read_bytes(path, most, follow)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 (byte {error.start})") from None
    return parse_toml(text)


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text; raise ValueError as `read_toml` does, of the class NotToml for a wrong text."""
    check_depth(text)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotToml(str(error), _remedy(str(error), text)) from None
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MOST_LEVELS} levels") from None
    # Walk down level by level.
    level: list[Any] = [tables]
    for _ in range(MOST_LEVELS):
        inner: list[Any] = []
        for one in level:
            inner += one.values() if isinstance(one, dict) else one
        if any(isinstance(value, int) and value.bit_length() > MOST_BITS for value in inner):
            raise ValueError("it has an integer of more than a thousand digits")
        level = [value for value in inner if isinstance(value, dict | list)]
    if level:
        raise ValueError(f"it is nested deeper than {MOST_LEVELS} levels")
    return tables


def _remedy(problem: str, text: str) -> str | None:
    """Return what to write for a value that tomllib refuses in the line that `problem` names; None if not plain."""
    found = _LINE.search(problem)
    line = text.split("\n")[int(found[1]) - 1].rstrip("\r") if found else ""
    if "\\" in line and ("Unescaped" in problem or "hex value" in problem):
        return "put a text that has a backslash into single quotes: 'C:\\data'"
    bare = _BARE.fullmatch(line) if len(line) <= LONGEST_SETTING else None
    if bare is None:
        return None
    key, value = bare["key"], bare["value"].strip(_CURLY)
    if value.lower() in ("true", "false"):
        return f"write {key} = {value.lower()}"
    if value.lower() in _NULLS:
        return "take the line out: what no line sets has its default"
    if not value.strip("0123456789.,"):
        return "write a number as 18 or 0.5"
    return f'write {key} = "{"..." if is_secret(key) else value}"'


def check_depth(text: str) -> None:
    """Raise ValueError for a key of too many dotted parts, too many keys of many parts, and brackets nested too deep.

    The message names the line, counted from 1. Signs in strings and comments do not count. The time is linear in the
    length of the text.
    """
    dots = deep = depth = position = 0
    while found := _SIGN.search(text, position):
        sign, position = found[0], found.end()
        if sign in _ENDS:
            position = _skip_to_end(sign, text, position)
        elif sign == ".":
            dots += 1
            deep += dots > 2
        else:
            dots = 0
            depth = max(0, depth + (sign in "[{") - (sign in "]}"))
        trouble = ""
        if dots >= MOST_PARTS:
            trouble = f"a key of more than {MOST_PARTS} parts"
        elif deep > MOST_DEEP:
            trouble = "too many keys of many parts"
        elif depth > MOST_LEVELS:
            trouble = f"more than {MOST_LEVELS} brackets are open"
        if trouble:
            line = text.count("\n", 0, position) + 1
            raise ValueError(f"{trouble} (in line {line})")


def _skip_to_end(sign: str, text: str, position: int) -> int:
    """Return the position after the string or comment that `sign` begins just before `position`.

    Where a line end ends it, as it ends a comment, the position is that of the line end. For a string or a comment that
    is not closed it is the end of the text.
    """
    while found := _ENDS[sign].search(text, position):
        position = found.end()
        if found[0] == "\n":
            return found.start()
        if found[0][0] != "\\":
            # A string in three quotes may have one or two more quotes before those that end it.
            for _ in range(2 if len(sign) == 3 else 0):
                position += text.startswith(sign[0], position)
            return position
    return len(text)
