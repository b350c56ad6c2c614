"""Repair a run folder's .jsonl files before the run goes on.

A torn end is cut off in place, which needs no disk space. A file with damage in its middle is renamed to `damaged-...`,
and written anew without the damaged lines.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from grpo_colab.runs.records import is_step_number
from grpo_colab.utils.files import open_to_change, open_to_read, read_bytes, write_bytes
from grpo_colab.utils.json_rows import LONGEST_LINE, is_sound

DAMAGED: Final = "damaged-"


def set_aside(path: Path) -> Path:
    """Rename a damaged file, a link, or whatever stands there, to a free name beside it, and return that."""
    aside = _free(path)
    path.rename(aside)
    return aside


def _free(path: Path) -> Path:
    aside, n = path.with_name(f"{DAMAGED}{path.name}"), 1
    while os.path.lexists(aside):
        n += 1
        aside = path.with_name(f"{DAMAGED}{path.stem}-{n}{path.suffix}")
    return aside


def rewind(path: Path, done: int) -> str | None:
    """Cut a .jsonl file to its lines up to step `done`; return what was damaged and what was done about it, in words.

    None where nothing was damaged, or there is no such file. What follows the last of these lines is cut off in place.
    Where damaged lines are among them, the file as it was is kept beside it. Raises OSError where it cannot be written.
    """
    try:
        file = open_to_change(path)
    except FileNotFoundError:
        return None
    except OSError as error:  # a link, a pipe, a folder
        return f"{path.name} cannot be read ({error.strerror}); it is set aside as {set_aside(path).name}"
    with file:
        kept, damaged, torn = _kept(file, done)
        if damaged and not kept:
            name = set_aside(path).name
            return f"{path.name}: {_lines(damaged)} damaged, and none is left; the file is set aside as {name}"
        in_order = not kept or (len(kept) == 1 and kept[0][0] == 0)
        if in_order and not damaged:
            file.truncate(kept[0][1] if kept else 0)
            return f"{path.name}: its last line was torn, and is cut off" if torn else None
        what = f"{_lines(damaged)} damaged, and left out" if damaged else "its lines were out of order"
        try:
            return f"{path.name}: {what}; the file as it was is {_rewritten(path, kept).name}"
        except OSError:
            if not in_order:
                raise
            file.truncate(kept[0][1])  # which needs no space
            return f"{path.name}: {what}"


def _rewritten(path: Path, kept: Sequence[tuple[int, int]]) -> Path:
    """Write a file anew from parts of it, (start, end) in bytes, and return where it is kept as it was.

    Nothing has changed when it raises OSError.
    """
    content, aside = b"".join(_pieces(path, kept)), _free(path)
    try:
        aside.hardlink_to(path)
    except OSError:  # a file system without hard links
        write_bytes(aside, read_bytes(path, most=path.stat().st_size))
    try:
        write_bytes(path, content)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    return aside


def _lines(count: int) -> str:
    return f"{count:,} line{' was' if count == 1 else 's were'}"


def _kept(file: BinaryIO, done: int) -> tuple[list[tuple[int, int]], int, bool]:
    """Return the parts of a file that have the lines up to step `done`, how many lines are damaged, and if it is torn.

    A part is (start, end) in bytes. A file is torn whose last line has no end.
    """
    kept: list[tuple[int, int]] = []
    damaged, torn = 0, False
    for start, end, line in _whole_lines(file):
        step = _step(line)
        if step is None:
            torn = not line.endswith(b"\n")
            damaged += not torn
        elif step <= done:
            if kept and kept[-1][1] == start:
                kept[-1] = (kept[-1][0], end)
            else:
                kept.append((start, end))
    return kept, damaged, torn


def _whole_lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Yield the start and the end of each line in bytes, and the line.

    Of a line that is longer than any of ours, the first part alone.
    """
    with io.BufferedReader(io.FileIO(os.dup(file.fileno())), 1 << 20) as reader:
        reader.seek(0)
        start = 0
        while line := reader.readline(LONGEST_LINE):
            end, more = start + len(line), line
            while not more.endswith(b"\n") and (more := reader.readline(LONGEST_LINE)):
                end += len(more)
            # a part alone is no JSON, and so a damaged line
            whole = line if end == start + len(line) else line[:100] + b"\n" * more.endswith(b"\n")
            yield start, end, whole
            start = end


def _step(line: bytes) -> int | None:
    """Return the step in a line; None for one that is damaged, or torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) and is_sound(row) else None
    return step if is_step_number(step) else None


def _pieces(path: Path, kept: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    with open_to_read(path) as file:
        for start, end in kept:
            file.seek(start)
            yield file.read(end - start)
