"""Read a file of JSON objects, one per line, with errors that name the line. Standard library only."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, TextIO

from grpo_colab.errors import SettingError, one_line
from grpo_colab.rewards import gold_number
from grpo_colab.rewards.arguments import number_text
from grpo_colab.rewards.markup import BOX
from grpo_colab.rewards.numerals import DEFAULT_LOCALE
from grpo_colab.utils.files import is_utf8
from grpo_colab.utils.json_rows import LEVELS, MOST_SIGNS, is_sound

LONGEST_LINE: Final = 1 << 25  # characters
MOST_NAMED: Final = 12  # columns that an error names
# Columns to which TRL's trainer or Unsloth's reacts by their name alone.
TRLS_OWN: Final = {
    "image": "TRL takes it for a picture of the prompt",
    "images": "TRL takes it for the pictures of the prompt",
}


Row = dict[str, Any]
Placed = tuple[str, Row]  # the place of a row, and the row
Opened = Callable[[Path], BinaryIO]  # opens a file for reading


def read_jsonl(path: Path, opened: Opened = lambda path: path.open("rb")) -> Iterator[Placed]:
    """Yield the place (`file:line`) and the content of every row of a file; blank lines are skipped.

    Raises SettingError for a file that cannot be read, and at the first line that is no JSON object or too large to be
    a row. `opened` opens the file. Pass files.open_to_read if the user did not name the file, because it may then be a
    link or a pipe.
    """
    try:
        # utf-8-sig: some editors begin a file with a byte order mark
        file = io.TextIOWrapper(opened(path), encoding="utf-8-sig")
    except OSError as error:
        raise SettingError(f"cannot read it ({error.strerror})", place=path) from None
    with file:
        try:
            for number, line in enumerate(_lines(file, path), 1):
                if line.strip():
                    where = f"{path}:{number}"
                    yield where, _parse_row(line, where)
        except UnicodeDecodeError:
            raise not_utf8(path, opened) from None


def _parse_row(line: str, where: str) -> Row:
    """Return the JSON object of a line; raise SettingError for anything else, and for one that is too large."""
    _check_size(line, where)
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        problem = f"not JSON ({error.msg} at column {error.colno}): {shown(line)}"
        remedy = "write one JSON object on each line"
        raise SettingError(problem, remedy=remedy, place=where) from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or thousands of brackets
        problem = f"not JSON that can be read ({one_line(error)}): {shown(line)}"
        raise SettingError(problem, place=where) from None
    return check_row(row, line, where)


def check_row(row: Any, written: str, where: str) -> Row:
    """Return `row`, the value of the JSON text `written`; raise SettingError unless it is an object that can be a row.

    It must not have more than MOST_SIGNS commas and brackets, nor be nested deeper than LEVELS.
    """
    _check_size(written, where)
    if not isinstance(row, dict):
        problem = f"a row must be a JSON object, not {type(row).__name__}: {shown(written)}"
        raise SettingError(problem, place=where)
    if _brackets(written) > LEVELS and not is_sound(row):
        problem = f"is nested deeper than {LEVELS} levels: {shown(written)}"
        raise SettingError(problem, remedy="flatten it", place=where)
    return row


def _check_size(written: str, where: str) -> None:
    """Raise SettingError for the JSON text of a row with more than MOST_SIGNS commas and brackets."""
    if _brackets(written) + written.count(",") > MOST_SIGNS:
        raise SettingError(
            f"has more than {MOST_SIGNS:,} commas and brackets, more than a row may hold: {shown(written)}",
            remedy="split it, or leave columns out",
            place=where,
        )


def _brackets(written: str) -> int:
    return written.count("[") + written.count("{")


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """Yield the lines of a file with their line ends. Raises SettingError for one of more than LONGEST_LINE characters.

    Bytes that are not UTF-8 raise UnicodeDecodeError.
    """
    while line := file.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            problem = f"has a line of more than {LONGEST_LINE:,} characters, so it holds no rows"
            raise SettingError(problem, place=path)
        yield line


def not_utf8(path: Path, opened: Opened) -> SettingError:
    """Return the refusal of a text file that is not UTF-8. Its place is the first line that is not, counted from 1."""
    remedy = f'save the file as UTF-8: a spreadsheet calls it "CSV UTF-8"; or run iconv -f {{}} -t UTF-8 {path.name}'
    decoder, line = codecs.getincrementaldecoder("utf-8")(), 1
    with opened(path) as file:
        for chunk in iter(partial(file.read, 1 << 20), b""):
            if line == 1 and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return SettingError("is UTF-16, not UTF-8", remedy=remedy.format("UTF-16"), place=path)
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                byte = error.object[error.start]
                problem = f"is not UTF-8 (it has the byte {byte:#04x})"
                return SettingError(problem, remedy=remedy.format("WINDOWS-1252"), place=f"{path}:{line}")
            line += chunk.count(b"\n")
    return SettingError("is not UTF-8 (it ends within a character)", remedy="restore the file", place=f"{path}:{line}")


def checked_gold(text: str, where: str, locale: str = DEFAULT_LOCALE) -> str:
    """Return `text`, a gold answer; raise SettingError if it is not one number by the parser of the rewards."""
    try:
        gold_number(text, locale)
    except ValueError:
        raise no_number(text, where) from None
    return text


def no_number(value: Any, where: str) -> SettingError:
    """Return the refusal of a gold answer that is not one number, at the place `where`."""
    words = shown(value if isinstance(value, str) else repr(value))
    remedy = "write one number, take the row out, or say what an answer is with task.answer, such as 'text'"
    return SettingError(f"the gold answer is not one number: {words}", remedy=remedy, place=where)


def gold_text(value: Any, locale: str = DEFAULT_LOCALE) -> Any:
    """Return a gold answer as the rewards take it: a number as text in `locale`, anything else as it is."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return number_text(value, locale) if is_number else value


def split_boxed(text: str) -> tuple[tuple[str, ...], str]:
    r"""Return the lines of a solution and what is in its last `\boxed{}`, as the data set MATH has them.

    A text without a closed box is the gold answer, after no lines.
    """
    boxes = re.findall(BOX, text)
    if not boxes:
        return (), text
    return tuple(line.strip() for line in text.splitlines() if line.strip()), boxes[-1].strip()


def split_solution(text: str) -> tuple[tuple[str, ...], str]:
    """Return the lines of a solution and the gold answer at its end, after the last `####`, as GSM8K has them.

    Blank lines are left out. A text without the mark is the gold answer, after no lines.
    """
    worked_out, _, gold = text.rpartition("####")
    return tuple(line.strip() for line in worked_out.splitlines() if line.strip()), gold.strip()


def check_values(row: Mapping[str, Any], where: str) -> None:
    """Raise SettingError for a row that training could not use, with its column, its value and what to write instead.

    These are a column of TRLS_OWN, and a name or a text, however deep, that cannot be written as UTF-8.
    """
    for name, value in row.items():
        if name in TRLS_OWN:
            raise SettingError(
                f"column {name!r}: {TRLS_OWN[name]}, here {shown(repr(value))}",
                remedy="rename the column, or take it out",
                place=where,
            )
        for text in _texts(name, value):
            if not is_utf8(text):
                raise SettingError(
                    f"column {name!r}: holds half of a surrogate pair, which no file can hold: {shown(ascii(text))}",
                    remedy="write the whole character, or take the half out",
                    place=where,
                )


def _texts(*values: Any) -> Iterator[str]:
    """Yield all texts in values of JSON's types, also the keys of objects."""
    waiting = list(values)
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value


def column(row: dict[str, Any], name: str, where: str, setting: str) -> Any:
    """Return `row[name]`; raise SettingError if it is missing or None.

    The error lists the row's columns, and its remedy is to change `setting`. `where` is the row's place, `file:line`.
    """
    if name not in row:
        problem = f"there is no column {name!r}; it has {names(row)}"
        raise SettingError(problem, remedy=f"set {setting}", place=where)
    if row[name] is None:
        remedy = f"write a value, take the row out, or set {setting}"
        raise SettingError(f"column {name!r}: is null", remedy=remedy, place=where)
    return row[name]


def names(row: Mapping[str, Any]) -> str:
    """Return the names of a row's columns for an error message: the first ones, each cut to 60 characters."""
    listed = ", ".join(f"{name!r:.60}" for name in islice(row, MOST_NAMED)) or "none"
    return listed if len(row) <= MOST_NAMED else f"{listed} and {len(row) - MOST_NAMED:,} more"


def shown(text: str, limit: int = 80) -> str:
    """Return `text` quoted for an error message, with control characters escaped.

    White space at its ends is left out. Of a text with more than `limit` characters the first `limit` are shown, then
    `...`.
    """
    if len(text) <= limit:
        return repr(text.strip())
    return repr(text[: 2 * limit].strip()[:limit] + "...")
