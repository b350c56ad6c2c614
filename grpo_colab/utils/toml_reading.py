"""Read a TOML file that a stranger may have written: bounded in size, in depth and in time.

tomllib takes minutes for a key of many dotted parts and ends in a RecursionError for nested brackets. Both are found
by one scan before it is asked. Standard library only.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

from grpo_colab.utils.files import read_bytes

MOST_BYTES: Final = 1 << 20
MOST_PARTS: Final = 20  # of one dotted key: tomllib takes their square, for each line below such a header
MOST_DEEP: Final = 20_000  # parts beyond a key's third, in all: each is a table or two in memory
MOST_LEVELS: Final = 60  # of brackets within brackets, and of tables within tables
MOST_BITS: Final = 4096  # of an integer: of a longer one Python writes no digits

# What begins or ends something outside of strings and comments. A bare `"` comes after `\"""`.
_SIGN: Final = re.compile(r"\"\"\"|'''|[\"'#\n\[\]{}=,.]")
_ENDS: Final = {
    '"""': re.compile(r'\\.|"""', re.DOTALL),
    "'''": re.compile(r"'''"),
    '"': re.compile(r'\\.|["\n]'),
    "'": re.compile(r"['\n]"),
    "#": re.compile(r"\n"),
}


def read_toml(path: Path, most: int = MOST_BYTES, follow: bool = False) -> dict[str, Any]:
    """Return the tables of a TOML file.

    Raises OSError for a link (unless `follow`), for a pipe or a device, and over `most` bytes. Raises ValueError, in
    words, for what is no TOML, and for TOML that is too deep.
    """
    content = read_bytes(path, most, follow)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8 (byte {error.start})") from None
    return parse_toml(text)


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text; ValueError, in words, as `read_toml` raises it."""
    check_depth(text)
    try:
        found = tomllib.loads(text)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MOST_LEVELS} levels") from None
    level: list[Any] = [found]
    for _ in range(MOST_LEVELS):
        inner: list[Any] = []
        for one in level:
            inner += one.values() if isinstance(one, dict) else one
        if any(isinstance(value, int) and value.bit_length() > MOST_BITS for value in inner):
            raise ValueError("it has an integer of more than a thousand digits")
        level = [value for value in inner if isinstance(value, dict | list)]
    if level:
        raise ValueError(f"it is nested deeper than {MOST_LEVELS} levels")
    return found


def check_depth(text: str) -> None:
    """Raise ValueError for a key of too many dotted parts, and for brackets nested too deep. Linear in the text."""
    dots = deep = depth = position = 0
    while found := _SIGN.search(text, position):
        sign, position = found[0], found.end()
        if sign in _ENDS:
            position = _end_of(sign, text, position)
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


def _end_of(sign: str, text: str, position: int) -> int:
    """Where a string or a comment ends that begins before `position`; the text's end for one that is not closed."""
    while found := _ENDS[sign].search(text, position):
        position = found.end()
        if found[0] == "\n":
            return found.start()
        if found[0][0] != "\\":
            # a string in three quotes may end in one or two more
            for _ in range(2 if len(sign) == 3 else 0):
                position += text.startswith(sign[0], position)
            return position
    return len(text)
