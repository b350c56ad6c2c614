"""Files that are whole or not there, and files that grow by whole lines. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


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


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object that the package wrote; None where there is none, or none that can be read."""
    with contextlib.suppress(OSError, ValueError):
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
