"""Files that are whole or not there, and files that grow by whole lines. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

MOST_READ = 1 << 26  # bytes of a file that nobody vouches for


class Objects(NamedTuple):
    """What `read_objects` found, and what is wrong with the file: lines that are no objects, a last one cut off."""

    rows: list[dict[str, Any]]
    bad: int = 0
    torn: bool = False
    size: int = 0  # bytes, of which MOST_READ at most were read
    error: str | None = None  # "No such file or directory", say


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` whole or not at all. Half a surrogate pair becomes its escape, which in JSON means it."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` whole or not at all: to a temporary name beside it, to the disk, and then renamed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=plain) + "\n")


def append(path: Path, text: str) -> None:
    """Add whole lines to a file; on a full disk (OSError) the file is again what it was."""
    content = text.encode(errors="backslashreplace")
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            while content:
                content = content[file.write(content) :]
        except BaseException:
            file.truncate(size)
            raise


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, default=plain) + "\n" for row in rows)


def plain(value: Any) -> Any:
    """What a reward logged, in JSON's types: arrays and tensors as lists or numbers, the rest as Python shows it."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file that the package wrote; a torn last line is left out, a missing file is empty."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].split("\n") if line]


def read_objects(path: Path, most: int = MOST_READ) -> Objects:
    """The rows of a .jsonl file that anyone may have written, be writing, or have broken; of a big one, parts of it.

    Those parts are evenly over the file. Nothing is raised.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            return Objects([], error="it is no file" if path.exists() else "there is no such file")
        size = path.stat().st_size
        with path.open("rb") as file:
            content = file.read(most) if size <= most else b"".join(_windows(file, size, most))
    except OSError as error:
        return Objects([], error=error.strerror or type(error).__name__)
    *whole, last = content.split(b"\n")
    values = [_loaded(line) for line in (*whole, last) if line.strip()]
    rows = [value for value in values if isinstance(value, dict)]
    torn = bool(last.strip()) and not isinstance(_loaded(last), dict)
    return Objects(rows, len(values) - len(rows) - torn, torn, size)


def _windows(file: BinaryIO, size: int, most: int, windows: int = 64) -> Iterator[bytes]:
    """The whole lines of so many parts of a file, evenly over it, which together have `most` bytes."""
    window = most // windows
    for start in range(0, size, -(-size // windows)):
        file.seek(start)
        before = file.readline(window) if start else b"\n"
        if before.endswith(b"\n"):  # else it is within a line that is longer than all this
            piece = file.read(window)
            yield piece[: piece.rfind(b"\n") + 1]


def _loaded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def number(value: Any) -> float | None:
    """A finite number as it is; None for all else, which are what a file of another version or a broken one has."""
    with contextlib.suppress(OverflowError):
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return value
    return None


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object that the package wrote; None where there is none, or none that can be read."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    return None


def to_disk(path: Path) -> None:
    """Have the operating system put a file or a folder on the disk now, where the file system can."""
    with contextlib.suppress(PermissionError):  # a folder cannot be opened on Windows
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # a mounted Drive need not know it
                raise
        finally:
            os.close(handle)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
