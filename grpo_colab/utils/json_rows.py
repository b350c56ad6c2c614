"""Read rows of JSON lines that anyone may have written, be writing, or have broken, in bounded time and memory.

Nothing is raised for a broken row. Of a big file, parts are read that lie evenly over it. Standard library only.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from typing import Any, BinaryIO, Final, NamedTuple

MOST_ROWS: Final = 250_000  # of a .jsonl file that nobody vouches for: lines may be of two bytes each
MOST_VALUES: Final = 12  # a row, on average: each takes some hundred bytes of memory
MOST_SIGNS: Final = 1_000_000  # commas and opening brackets of a line
LARGE: Final = 8  # rows of this part of all values are not read: they would leave no room for others
TRIES: Final = 4
LONGEST_LINE: Final = 1 << 24  # bytes
LEVELS: Final = 40  # of what is in what; Python itself ends at less than a thousand
MOST_BITS: Final = 4096  # of an integer: of longer ones Python writes no digits


class Objects(NamedTuple):
    """Rows, and what is wrong with their file: lines that are no objects, a last line that was cut off."""

    rows: list[dict[str, Any]]
    bad: int = 0
    torn: bool = False
    size: int = 0  # bytes, of which MOST_READ at most were read
    error: str | None = None  # "No such file or directory", say
    left: int = 0  # lines that were not looked at, since there are so many, or so much in them


def objects_in(file: BinaryIO, size: int, most: int, most_rows: int) -> Objects:
    """Return the rows of an open file of `size` bytes, of which `most` are read.

    Of a bigger file, and of one with more rows than `most_rows`, they are those of parts that lie evenly over it.
    """
    content = file.read(most) if size <= most else b"".join(_windows(file, size, most))
    whole = content.count(b"\n")
    if whole > most_rows:
        content = b"".join(_windows(io.BytesIO(content), len(content), len(content) * most_rows // whole))
    found, end = _parsed(content, most_rows)
    for _ in range(TRIES):
        if end == len(content):
            break
        # there is more in it than may be kept: again, from parts evenly over it that have about as much
        content = b"".join(_windows(io.BytesIO(content), len(content), end * 9 // 10))
        found, end = _parsed(content, most_rows)
    return found._replace(size=size, left=max(0, whole - found.left))


def _parsed(content: bytes, most_rows: int) -> tuple[Objects, int]:
    """Return the rows of the lines up to where they have too many values, and that place.

    `left` counts the lines that were read. A row that alone has a good part of the values that all may have is skipped.
    """
    rows: list[dict[str, Any]] = []
    known: dict[str, str] = {}
    read = bad = end = 0
    values = 0.0
    torn = False
    for line in io.BytesIO(content):
        if read >= 2 * most_rows or values > MOST_VALUES * most_rows:
            break
        end += len(line)
        if not _is_light(line):
            continue
        value = _loaded(line) if line.strip() else None
        if isinstance(value, dict) and (weight := _size(value)) < math.inf:
            if LARGE * weight > MOST_VALUES * most_rows:
                continue
            rows.append(_with_known_keys(value, known))
            values += weight
        elif line.endswith(b"\n"):
            bad += bool(line.strip())
        else:
            torn = bool(line.strip())
        read += 1
    return Objects(rows, bad, torn, left=read), end


def _with_known_keys(row: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """Return the row with one text for each key, which JSON makes anew for every row: a third of its memory."""
    return {
        known.setdefault(key, key): _with_known_keys(inner, known) if type(inner) is dict else inner
        for key, inner in row.items()
    }


def _is_light(line: bytes) -> bool:
    """Tell whether a line can be read without much memory: each comma and bracket may be a value of 100 bytes."""
    return line.count(b",") + line.count(b"[") + line.count(b"{") <= MOST_SIGNS


def _windows(file: BinaryIO | io.BytesIO, size: int, most: int) -> Iterator[bytes]:
    """Yield the whole lines of some parts of a file, evenly over it, which together have `most` bytes."""
    windows = min(64, max(8, most >> 15))  # each big enough for a few lines
    window = most // windows
    for start in range(0, size, -(-size // windows)):
        file.seek(start)
        before = file.readline(window) if start else b"\n"
        if before.endswith(b"\n"):  # else it is within a line that is longer than all this
            piece = file.read(window)
            yield piece[: piece.rfind(b"\n") + 1]


def _loaded(line: bytes) -> Any:
    """Return the value in a line; None for what is no JSON, or too long."""
    try:
        return json.loads(line) if len(line) <= LONGEST_LINE else None
    except (ValueError, RecursionError):
        return None


def is_sound(value: Any) -> bool:
    """Tell whether a value can be walked through and shown: not too deep, and no integer of a thousand digits."""
    return _size(value) < math.inf


def _size(value: Any, levels: int = LEVELS) -> float:
    """Count the values in a value; infinite where it is unsound."""
    if isinstance(value, int):
        return 1 if value.bit_length() < MOST_BITS else math.inf
    if not isinstance(value, dict | list):
        return 1
    if not levels:
        return math.inf
    return 1 + sum(_size(one, levels - 1) for one in (value.values() if isinstance(value, dict) else value))
