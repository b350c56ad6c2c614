"""Read rows of JSON lines that may be untrusted, half written or damaged, in bounded time and memory.

Nothing is raised for a damaged row. Of a big file, parts are read that are spread evenly over it. `files` opens
the file. Standard library only.
"""

from __future__ import annotations

import io
import json
import math
from typing import Any, BinaryIO, Final, NamedTuple

MOST_ROWS: Final = 250_000  # rows of an untrusted .jsonl file, whose lines may have two bytes each
MOST_VALUES: Final = 12  # values per row on average; each takes some hundred bytes of memory
MOST_SIGNS: Final = 1_000_000  # commas and opening brackets in a line
LARGE: Final = 8  # a row with more than 1/LARGE of all values that may be kept is skipped, to leave room for others
TRIES: Final = 4  # to read fewer rows of a file that has too many values
LONGEST_LINE: Final = 1 << 24  # bytes
LEVELS: Final = 40  # of nesting; Python's own limit is below a thousand
MOST_BITS: Final = 4096  # of an integer: Python refuses to write the digits of longer ones


class Objects(NamedTuple):
    """The rows of a .jsonl file, and what is wrong with the file."""

    rows: list[dict[str, Any]]
    bad: int = 0  # whole lines that are no JSON object
    torn: bool = False  # whether the last line was cut off
    size: int = 0  # bytes of the file, of which MOST_READ at most were read
    error: str | None = None  # why the file could not be read, such as "No such file or directory"
    left: int = 0  # lines that were not read, since there are too many, or too many values in them


def objects_in(file: BinaryIO, size: int, most: int, most_rows: int) -> Objects:
    """Return the rows of an open file of `size` bytes, of which at most `most` bytes are read.

    Of a bigger file, and of one with more than `most_rows` rows or too many values in them, only parts are read that
    are spread evenly over it. Nothing is raised for damaged rows. An OSError of the file is passed on.
    """
    content = file.read(most) if size <= most else _sample_parts(file, size, most)
    lines = content.count(b"\n")
    if lines > most_rows:
        content = _sample_parts(io.BytesIO(content), len(content), len(content) * most_rows // lines)
    found, lines_read, end = _parse(content, most_rows)
    for _ in range(TRIES):
        if end == len(content):
            break
        # The lines up to `end` have as many values as may be kept. Read about as much, but spread over all of it.
        content = _sample_parts(io.BytesIO(content), len(content), end * 9 // 10)
        found, lines_read, end = _parse(content, most_rows)
    return found._replace(size=size, left=max(0, lines - lines_read))


def _parse(content: bytes, most_rows: int) -> tuple[Objects, int, int]:
    """Return the rows of the first lines, the number of lines read, and the offset in bytes at which reading ended.

    Reading ends once `2 * most_rows` lines are read, or the rows have more than `MOST_VALUES * most_rows` values. A
    line with too many commas and brackets is skipped and not counted as read, and so is a row that alone has a large
    part of the values that may be kept. A blank line is counted as read, but is neither a row nor bad.
    """
    most_values = MOST_VALUES * most_rows
    rows: list[dict[str, Any]] = []
    keys: dict[str, str] = {}
    lines_read = bad = end = 0
    values = 0.0
    torn = False
    for line in io.BytesIO(content):
        if lines_read >= 2 * most_rows or values > most_values:
            break
        end += len(line)
        if not _is_light(line):
            continue
        row = _parse_line(line) if line.strip() else None
        row_values = _count_values(row) if isinstance(row, dict) else math.inf
        if isinstance(row, dict) and row_values < math.inf:
            if LARGE * row_values > most_values:
                continue
            rows.append(_share_keys(row, keys))
            values += row_values
        elif line.endswith(b"\n"):
            bad += bool(line.strip())
        else:
            torn = bool(line.strip())
        lines_read += 1
    return Objects(rows, bad, torn), lines_read, end


def _share_keys(row: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """Return the row with each key replaced by the equal text in `known`, to which new keys are added.

    JSON makes a new text for every key of every row, which is a third of the rows' memory.
    """
    return {
        known.setdefault(key, key): _share_keys(inner, known) if type(inner) is dict else inner
        for key, inner in row.items()
    }


def _is_light(line: bytes) -> bool:
    """Tell whether a line takes little memory to parse: each comma and bracket may mean a value of 100 bytes."""
    return line.count(b",") + line.count(b"[") + line.count(b"{") <= MOST_SIGNS


def _sample_parts(file: BinaryIO | io.BytesIO, size: int, most: int) -> bytes:
    """Return the whole lines in some parts of a file, spread evenly over it, with at most `most` bytes together.

    Lines that a part's beginning or end cuts are left out. `size` is the file's size in bytes.
    """
    parts = []
    count = min(64, max(8, most >> 15))  # so that each part has room for a few lines
    part_bytes = most // count
    for start in range(0, size, math.ceil(size / count)):
        file.seek(start)
        # Skip to the end of the line that `start` is in.
        skipped = file.readline(part_bytes) if start else b"\n"
        if skipped.endswith(b"\n"):  # a line longer than a part has no end here
            part = file.read(part_bytes)
            parts.append(part[: part.rfind(b"\n") + 1])
    return b"".join(parts)


def _parse_line(line: bytes) -> Any:
    """Return the value in a line; None for a line that is no JSON, or is longer than LONGEST_LINE bytes."""
    try:
        return json.loads(line) if len(line) <= LONGEST_LINE else None
    except (ValueError, RecursionError):
        return None


def is_sound(value: Any) -> bool:
    """Tell whether a value can be walked through and shown: not nested too deep, no integer of a thousand digits.

    Lists and dictionaries may be LEVELS deep, and an integer must have fewer than MOST_BITS bits.
    """
    return _count_values(value) < math.inf


def _count_values(value: Any, levels: int = LEVELS) -> float:
    """Count a value and all values in it; infinite where it has a huge integer or is nested over `levels` deep."""
    if isinstance(value, int):
        return 1 if value.bit_length() < MOST_BITS else math.inf
    if not isinstance(value, dict | list):
        return 1
    if not levels:
        return math.inf
    inner = value.values() if isinstance(value, dict) else value
    return 1 + sum(_count_values(one, levels - 1) for one in inner)
