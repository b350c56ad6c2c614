"""Read the rows of one file: JSON lines, JSON, CSV, TSV or parquet, plain or compressed.

Each row comes with its place, which an error names: `file:line` in a text, `file row N` in a parquet file. Only parquet
needs a library, pyarrow. JSON lines are read by `jsonl_rows`, JSON by `json_file`.
"""

from __future__ import annotations

import bz2
import contextlib
import csv
import gzip
import io
import itertools
import lzma
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from grpo_colab.errors import SettingError, one_line
from grpo_colab.tasks.json_file import read_json
from grpo_colab.tasks.jsonl_rows import Opened, Placed, names, not_utf8, read_jsonl, shown

JSON_LINES: Final = (".jsonl", ".ndjson", ".jl", ".txt", "")  # a file without a suffix counts as JSON lines
SUFFIXES: Final = (*JSON_LINES, ".json", ".csv", ".tsv", ".parquet")
COMPRESSED: Final = (".gz", ".bz2", ".xz", ".zst")
FORMATS: Final = ".jsonl, .json, .csv, .tsv or .parquet, of which the first four may end in .gz, .bz2, .xz or .zst, too"
SHEETS: Final = (".xlsx", ".xls", ".ods")
DELIMITERS: Final = ",;\t|"  # of a .csv, of which the first line says which one it has


def format_of(path: Path) -> tuple[str, str]:
    """Return the suffix that names a file's format, and the one that names its compression, empty for none."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSED:
        return (suffixes[0] if len(suffixes) == 2 else ""), suffixes[-1]
    return (suffixes[-1] if suffixes else ""), ""


def check_format(path: Path, **fields: Any) -> None:
    """Raise SettingError, with `fields`, for a file of a format that `read_tables` does not read. It is not opened."""
    suffix, compression = format_of(path)
    if suffix in SHEETS:
        raise SettingError("is a spreadsheet", remedy="save the sheet as .csv, and name that file", **fields)
    if suffix not in SUFFIXES:
        raise SettingError(f"is a {suffix} file, which is not read", remedy=f"name a file in {FORMATS}", **fields)
    if suffix == ".parquet" and compression:
        problem, remedy = "is a compressed .parquet, which has its own compression inside", "unpack it"
        raise SettingError(problem, remedy=remedy, **fields)


def read_tables(path: Path) -> Mapping[str, Iterable[Placed]]:
    """Return the rows of a file by the name of their split; the name is empty where the file has no splits.

    Only a JSON file may have splits, as `{"train": [...], "test": [...]}`, and is read at once. The rows of any other
    are read when they are iterated over. Raises SettingError, then or now, for a file that cannot be read, and at the
    first row that is none.
    """
    suffix, compression = format_of(path)
    if suffix == ".json":
        with readable(path):
            return read_json(path, _opener(compression))
    return {"": _rows(path, suffix, compression)}


def _rows(path: Path, suffix: str, compression: str) -> Iterator[Placed]:
    """Yield the rows of a file that has no splits."""
    with readable(path):
        if suffix == ".parquet":
            yield from _read_parquet(path)
        elif suffix in (".csv", ".tsv"):
            yield from _read_csv(path, _opener(compression), "\t" if suffix == ".tsv" else None)
        else:
            yield from read_jsonl(path, _opener(compression))


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn an error of the block that reads the file `path` into a SettingError that names the file."""
    try:
        yield
    except UnicodeDecodeError:
        raise not_utf8(path, _opener(format_of(path)[1])) from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        why = getattr(error, "strerror", None) or one_line(error)
        raise SettingError(f"cannot read it ({why})", place=path) from None


def _opener(compression: str) -> Opened:
    """Return the function that opens a file of this compression for reading bytes."""
    if compression == ".zst":
        return _open_zst
    openers: dict[str, Any] = {"": Path.open, ".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    opener = openers[compression]
    return lambda path: cast("BinaryIO", opener(path, "rb"))


def _open_zst(path: Path) -> BinaryIO:
    """Open a .zst file by the package zstandard; raise SettingError where that is not installed."""
    try:
        import zstandard
    except ModuleNotFoundError:
        remedy = "pip install zstandard, or pack the file as .gz"
        raise SettingError("needs the package zstandard", remedy=remedy, place=path) from None
    return cast("BinaryIO", zstandard.open(path, "rb"))


def _read_csv(path: Path, opened: Opened, delimiter: str | None) -> Iterator[Placed]:
    """Yield the rows of a CSV file whose first line names the columns. Every value is a text.

    Without a `delimiter` it is the one of DELIMITERS that cuts the first line into the most columns. Where a space
    follows each delimiter of the first line, the spaces that follow one are no part of the values. A column without a
    name, such as the index that pandas writes, is left out. A row's place is the line that it begins in.
    """
    with io.TextIOWrapper(opened(path), encoding="utf-8-sig", newline="") as file:
        first_line = file.readline()
        delimiter = delimiter or max(
            DELIMITERS, key=lambda sign: len(next(csv.reader([first_line], delimiter=sign), ()))
        )
        later = first_line.split(delimiter)[1:]
        spaced = bool(later) and all(name.startswith(" ") for name in later)
        records = _csv_records(itertools.chain([first_line], file), path, delimiter, spaced)
        header = [name.strip() for name in next(records, (0, []))[1]]
        repeated = next((name for name in header if name and header.count(name) > 1), None)
        if repeated is not None:
            problem = f"two columns have the name {shown(repeated)}"
            raise SettingError(problem, remedy="rename one of them", place=f"{path}:1")
        for line, cells in records:
            where = f"{path}:{line}"
            if len(cells) != len(header):
                raise SettingError(
                    f"has {len(cells)} values, and there are {len(header)} columns: {names(dict.fromkeys(header))}",
                    remedy=f'put a value with {delimiter!r} or a line end into quotes: "..."',
                    place=where,
                )
            yield where, {name: cell for name, cell in zip(header, cells, strict=True) if name}


def _csv_records(lines: Iterable[str], path: Path, delimiter: str, spaced: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line and the values of each record of a CSV file, without those of blank lines.

    With `spaced`, the spaces after a delimiter are skipped. Raises SettingError for what is no CSV. Without `spaced`,
    that is also a quote after a space, which `csv` takes for a part of the value.
    """
    read: list[str] = []  # the lines of the record that is being read
    reader = csv.reader(_kept(lines, read), delimiter=delimiter, strict=True, skipinitialspace=spaced)
    while True:
        line = reader.line_num + 1
        read.clear()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            remedy = 'close the quotes, and write a quote inside of them twice: ""'
            raise SettingError(f"not CSV ({error})", remedy=remedy, place=f"{path}:{line}") from None
        opening = f'{delimiter} "'
        if not spaced and any(cell.startswith(' "') for cell in cells) and opening in "".join(read):
            problem = f"has a space between a {delimiter!r} and a quote, so that the quote is a part of the value"
            raise SettingError(problem, remedy=f'take the space out: {delimiter}"..."', place=f"{path}:{line}")
        if any(cell.strip() for cell in cells):
            yield line, cells


def _kept(lines: Iterable[str], into: list[str]) -> Iterator[str]:
    """Yield lines, and append each to `into` before."""
    for line in lines:
        into.append(line)
        yield line


def _read_parquet(path: Path) -> Iterator[Placed]:
    """Yield the rows of a parquet file, by pyarrow."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError:
        remedy = "pip install pyarrow, or save the rows as .jsonl"
        raise SettingError("needs the package pyarrow", remedy=remedy, place=path) from None
    number = 0
    try:
        for batch in ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield f"{path} row {number}", row
    except ArrowException as error:
        raise SettingError(f"not parquet that can be read ({one_line(error)})", place=path) from None
