"""Reading a file of JSON objects, one a line, and checking each row where it stands. Standard library only."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from grpo_colab.errors import SettingError, one_line
from grpo_colab.files import LEVELS, MOST_SIGNS, is_sound
from grpo_colab.rewards import gold_number

LONGEST_LINE: Final = 1 << 25  # characters; a row is a problem, or a completion
MOST_NAMED: Final = 12  # columns, in an error's message


def read_jsonl(
    path: Path, opened: Callable[[Path], BinaryIO] = lambda path: path.open("rb")
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (`file:line`, row) for every line that is not blank; raises SettingError at the first that is no object.

    `opened` opens the file: files.open_to_read where no person named it, and it may be a link or a pipe.
    """
    try:
        file = io.TextIOWrapper(opened(path), encoding="utf-8-sig")  # some editors begin with a byte order mark
    except OSError as error:
        raise SettingError(f"{path}: cannot read it ({error.strerror})") from None
    with file:
        for number, line in enumerate(_decoded(file, path), 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            brackets = line.count("[") + line.count("{")
            if brackets + line.count(",") > MOST_SIGNS:
                raise SettingError(
                    f"{where}: has more than {MOST_SIGNS:,} commas and brackets, more than a row may hold; split it, "
                    f"or leave columns out: {shown(line)}"
                )
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise SettingError(f"{where}: not JSON ({error.msg} at column {error.colno}): {shown(line)}") from None
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
                raise SettingError(f"{where}: not JSON that can be read ({one_line(error)}): {shown(line)}") from None
            if not isinstance(row, dict):
                raise SettingError(f"{where}: a row must be a JSON object, not {type(row).__name__}: {shown(line)}")
            if brackets > LEVELS and not is_sound(row):
                raise SettingError(f"{where}: is nested deeper than {LEVELS} levels; flatten it: {shown(line)}")
            yield where, row


def _decoded(file: Any, path: Path) -> Iterator[str]:
    try:
        while line := file.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise SettingError(f"{path}: has a line of more than {LONGEST_LINE:,} characters, so it holds no rows")
            yield line
    except UnicodeDecodeError as error:
        raise SettingError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def checked_gold(text: str, where: str) -> str:
    """`text` when it is one number by the parser of the rewards; otherwise an error that names the row and the text."""
    try:
        gold_number(text)
    except ValueError:
        raise SettingError(f"{where}: the gold answer is not one number: {shown(text)}") from None
    return text


def column(row: dict[str, Any], name: str, where: str, setting: str) -> Any:
    """`row[name]`, or an error that names the row, the columns it has, and the setting that chooses the column."""
    if name not in row or row[name] is None:
        raise SettingError(f"{where}: no column {name!r}; it has {names(row)}. Set {setting}")
    return row[name]


def names(row: Mapping[str, Any]) -> str:
    """The columns of a row, for an error message: the first few, each cut."""
    few = ", ".join(f"{name!r:.60}" for name in islice(row, MOST_NAMED)) or "none"
    return few if len(row) <= MOST_NAMED else f"{few} and {len(row) - MOST_NAMED:,} more"


def shown(text: str, limit: int = 80) -> str:
    """`text` quoted for an error message, control characters escaped, cut to `limit` characters."""
    return repr(text.strip() if len(text) <= limit else text[: 2 * limit].strip()[:limit] + "...")
