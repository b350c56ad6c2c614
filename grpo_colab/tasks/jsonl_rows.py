"""Reading a file of JSON objects, one a line, and checking each row where it stands. Standard library only."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final

from grpo_colab.errors import SettingError, one_line
from grpo_colab.rewards import gold_number
from grpo_colab.utils.json_rows import LEVELS, MOST_SIGNS, is_sound

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
        raise SettingError(f"cannot read it ({error.strerror})", place=path) from None
    with file:
        for number, line in enumerate(_decoded(file, path), 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            brackets = line.count("[") + line.count("{")
            if brackets + line.count(",") > MOST_SIGNS:
                raise SettingError(
                    f"has more than {MOST_SIGNS:,} commas and brackets, more than a row may hold: {shown(line)}",
                    remedy="split it, or leave columns out",
                    place=where,
                )
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                problem = f"not JSON ({error.msg} at column {error.colno}): {shown(line)}"
                raise SettingError(problem, place=where) from None
            except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
                problem = f"not JSON that can be read ({one_line(error)}): {shown(line)}"
                raise SettingError(problem, place=where) from None
            if not isinstance(row, dict):
                problem = f"a row must be a JSON object, not {type(row).__name__}: {shown(line)}"
                raise SettingError(problem, place=where)
            if brackets > LEVELS and not is_sound(row):
                problem = f"is nested deeper than {LEVELS} levels: {shown(line)}"
                raise SettingError(problem, remedy="flatten it", place=where)
            yield where, row


def _decoded(file: Any, path: Path) -> Iterator[str]:
    try:
        while line := file.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                problem = f"has a line of more than {LONGEST_LINE:,} characters, so it holds no rows"
                raise SettingError(problem, place=path)
            yield line
    except UnicodeDecodeError as error:
        raise SettingError(f"not UTF-8 ({error.reason} at byte {error.start})", place=path) from None


def checked_gold(text: str, where: str) -> str:
    """`text` when it is one number by the parser of the rewards; otherwise an error that names the row and the text."""
    try:
        gold_number(text)
    except ValueError:
        raise SettingError(f"the gold answer is not one number: {shown(text)}", place=where) from None
    return text


def column(row: dict[str, Any], name: str, where: str, setting: str) -> Any:
    """`row[name]`, or an error that names the row, the columns it has, and the setting that chooses the column."""
    if name not in row or row[name] is None:
        problem = f"there is no column {name!r}; it has {names(row)}"
        raise SettingError(problem, remedy=f"set {setting}", place=where)
    return row[name]


def names(row: Mapping[str, Any]) -> str:
    """The columns of a row, for an error message: the first few, each cut."""
    few = ", ".join(f"{name!r:.60}" for name in islice(row, MOST_NAMED)) or "none"
    return few if len(row) <= MOST_NAMED else f"{few} and {len(row) - MOST_NAMED:,} more"


def shown(text: str, limit: int = 80) -> str:
    """`text` quoted for an error message, control characters escaped, cut to `limit` characters."""
    return repr(text.strip() if len(text) <= limit else text[: 2 * limit].strip()[:limit] + "...")
