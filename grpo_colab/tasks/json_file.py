"""Read the rows of one JSON file, each with the line that it begins in. Standard library only.

The file is a list of objects, or an object that has such lists: `{"data": [...]}`, or one list per split. A file of
JSON lines that is called `.json` is read as such.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final, cast

from grpo_colab.errors import SettingError, one_line
from grpo_colab.tasks.jsonl_rows import Opened, Placed, check_row, read_jsonl, shown
from grpo_colab.utils.files import MOST_KEPT

SPACE: Final = re.compile(r"[ \t\r\n]*")
LAYOUT: Final = 'write a list of rows, [{"prompt": ..., "answer": ...}, ...]'


def read_json(path: Path, opened: Opened) -> dict[str, list[Placed]]:
    """Return the rows of a JSON file by the name of their split, which is empty for the only list.

    `opened` opens the file. Raises SettingError for a file of more than MOST_KEPT bytes, for one that is no JSON or has
    no list of objects, and for a row that is none. OSError and UnicodeDecodeError are passed on.
    """
    with opened(path) as file:
        content = file.read(MOST_KEPT + 1)
    if len(content) > MOST_KEPT:
        remedy = "save it as .jsonl or .parquet, which are read in parts"
        raise SettingError(f"has more than {MOST_KEPT >> 20} MiB", remedy=remedy, place=path)
    scanner = _Scanner(content.decode("utf-8-sig"), path)
    if scanner.next_sign() == "[":
        rows = scanner.rows()
        if scanner.next_sign():
            raise SettingError(f"has text after its list: {scanner.nearby()}", place=scanner.place())
        return {"": rows}
    value = scanner.value()
    if scanner.next_sign() == "{":  # a second object: the file is JSON lines
        return {"": list(read_jsonl(path, opened))}
    if scanner.next_sign():
        raise SettingError(f"not JSON (text after its end: {scanner.nearby()})", place=scanner.place())
    if not isinstance(value, dict):
        raise SettingError(f"is no list of rows: {shown(json.dumps(value))}", remedy=LAYOUT, place=path)
    keys = [key for key, inner in value.items() if _is_list_of_objects(inner)]
    if not keys:
        raise SettingError(f"is an object without a list of rows: {_keys(value)}", remedy=_remedy(value), place=path)
    lists = _Scanner(scanner.text, path).lists(keys)
    return {"": lists[keys[0]]} if len(keys) == 1 else lists


def _is_list_of_objects(value: Any) -> bool:
    """Tell whether a value is a list whose first item is an object."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _keys(value: dict[str, Any]) -> str:
    return shown(", ".join(value)) if value else "it is empty"


def _remedy(value: dict[str, Any]) -> str:
    """Return what to write for an object without a list of rows; pandas writes one with a list or table per column."""
    by_column = value and all(isinstance(inner, list | dict) for inner in value.values())
    return f'{LAYOUT}; of pandas: to_json(orient="records")' if by_column else LAYOUT


class _Scanner:
    """Walk through a JSON text from value to value, and know the line of each. Errors name that line."""

    def __init__(self, text: str, path: Path) -> None:
        self.text, self.path = text, path
        self.at = 0  # the character that is read next
        self.line = 1  # the line of the character `counted`
        self.counted = 0
        self.decoder = json.JSONDecoder()

    def next_sign(self) -> str:
        """Skip white space, and return the next character without reading it; an empty text at the end."""
        self.at = cast("re.Match[str]", SPACE.match(self.text, self.at)).end()
        return self.text[self.at : self.at + 1]

    def nearby(self) -> str:
        return shown(self.text[self.at : self.at + 200])

    def place(self) -> str:
        """Return the place of the next character, `file:line`."""
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return f"{self.path}:{self.line}"

    def value(self) -> Any:
        """Read the next value and return it; raise SettingError where there is none that can be read."""
        self.next_sign()
        nearby = self.nearby()
        try:
            value, self.at = self.decoder.raw_decode(self.text, self.at)
        except json.JSONDecodeError as error:
            self.at = error.pos
            raise SettingError(
                f"not JSON ({error.msg} at column {error.colno}): {nearby}", place=self.place()
            ) from None
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, or thousands of brackets
            problem = f"not JSON that can be read ({one_line(error)}): {nearby}"
            raise SettingError(problem, place=self.place()) from None
        return value

    def expect(self, sign: str) -> None:
        """Read the next character; raise SettingError unless it is `sign`."""
        if self.next_sign() != sign:
            found = self.nearby() if self.next_sign() else "the end of the file"
            raise SettingError(f"not JSON (expected {sign!r}, found {found})", place=self.place())
        self.at += 1

    def rows(self, name: str = "") -> list[Placed]:
        """Read the list that comes next, and return its objects; raise SettingError for an item that is no row.

        A row's place is its line, or its number in the list called `name` where a line has several rows.
        """
        self.expect("[")
        found: list[Placed] = []
        line = 0
        while self.next_sign() != "]":
            if found:
                self.expect(",")
                self.next_sign()
            begin, where = self.at, self.place()
            if self.line == line:
                where = f"{self.path} {name}".rstrip() + f" row {len(found) + 1}"
            line = self.line
            row = self.value()
            found.append((where, check_row(row, self.text[begin : self.at], where)))
        self.expect("]")
        return found

    def lists(self, keys: list[str]) -> dict[str, list[Placed]]:
        """Read the object that comes next, which is sound JSON, and return the lists of rows under `keys`."""
        found = {}
        self.expect("{")
        while self.next_sign() != "}":
            if self.next_sign() == ",":
                self.expect(",")
            key = self.value()
            self.expect(":")
            if key in keys and self.next_sign() == "[":
                found[key] = self.rows(key)
            else:
                self.value()
        return found
