"""Repair a run folder's .jsonl files before the run is resumed.

A torn last line is cut off in place, which needs no disk space. A file with damage in its middle is renamed to
`damaged-...`, and written anew without the damaged lines.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from grpo_colab.runs.checkpoints import DAMAGED
from grpo_colab.runs.records import is_step_number
from grpo_colab.utils.files import open_to_change, open_to_read, read_bytes, write_bytes
from grpo_colab.utils.json_rows import LONGEST_LINE, is_sound


class Span(NamedTuple):
    """A part of a file, in bytes: `end` is the first byte after it."""

    start: int
    end: int


class Scan(NamedTuple):
    """What a .jsonl file has: where its lines up to a step are, how many are damaged, whether the last is torn."""

    kept: list[Span]  # adjacent lines are one span
    damaged: int
    torn: bool  # the last line has no line end


def set_damaged_aside(path: Path) -> Path:
    """Rename a damaged file, a link, or whatever is there, to damaged-<name> or the next free name. Return that path.

    Raises OSError where there is nothing, or where it cannot be renamed.
    """
    aside = _free_name(path)
    path.rename(aside)
    return aside


def _free_name(path: Path) -> Path:
    """Return damaged-<name> beside a file, with -2, -3, ... where that exists."""
    aside, n = path.with_name(f"{DAMAGED}{path.name}"), 1
    while os.path.lexists(aside):
        n += 1
        aside = path.with_name(f"{DAMAGED}{path.stem}-{n}{path.suffix}")
    return aside


def rewind(path: Path, done: int) -> str | None:
    """Cut a .jsonl file to its lines of steps up to `done`.

    Returns a sentence about what was damaged and what was done; None where nothing was damaged or there is no file.
    Later lines and a torn last line are cut off in place. A file with damaged lines, or with lines to keep that are
    not all at its start, is written anew, and the original is kept beside it as damaged-<name>. A file that cannot be
    opened, or that has damaged lines and none to keep, is only renamed so. On a full disk, damaged lines after those to
    keep are cut off in place, and no original is kept. Raises OSError where the file cannot be changed.
    """
    try:
        file = open_to_change(path)
    except FileNotFoundError:
        return None
    except OSError as error:  # a link, a pipe, a folder
        return f"{path.name} cannot be read ({error.strerror}); it is set aside as {set_damaged_aside(path).name}"
    with file:
        kept, damaged, torn = _scan(file, done)
        if damaged and not kept:
            name = set_damaged_aside(path).name
            return f"{path.name}: {_count_lines(damaged)} damaged, and none is left; the file is set aside as {name}"

        # Lines to keep that are all at the start need no new file: the rest is cut off.
        in_order = not kept or (len(kept) == 1 and kept[0].start == 0)
        if in_order and not damaged:
            file.truncate(kept[0].end if kept else 0)
            return f"{path.name}: its last line was torn, and is cut off" if torn else None

        what = f"{_count_lines(damaged)} damaged, and left out" if damaged else "its lines were out of order"
        try:
            return f"{path.name}: {what}; the original is kept as {_rewrite(path, kept).name}"
        except OSError:
            if not in_order:
                raise
            file.truncate(kept[0].end)  # on a full disk: this needs no space
            return f"{path.name}: {what}"


def _rewrite(path: Path, kept: Sequence[Span]) -> Path:
    """Write a file anew from these parts of it. Return the path beside it under which the original is kept.

    Nothing has changed when it raises OSError.
    """
    content, aside = b"".join(_read_spans(path, kept)), _free_name(path)
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


def _count_lines(count: int) -> str:
    return f"{count:,} line{' was' if count == 1 else 's were'}"


def _scan(file: BinaryIO, done: int) -> Scan:
    """Find the lines of steps up to `done`, the damaged lines and a torn last line."""
    kept: list[Span] = []
    damaged, torn = 0, False
    for span, line in _lines_with_spans(file):
        step = _step(line)
        if step is None:
            torn = not line.endswith(b"\n")
            damaged += not torn
        elif step <= done:
            if kept and kept[-1].end == span.start:
                kept[-1] = Span(kept[-1].start, span.end)
            else:
                kept.append(span)
    return Scan(kept, damaged, torn)


def _lines_with_spans(file: BinaryIO) -> Iterator[tuple[Span, bytes]]:
    """Yield each line with its place in the file.

    Of a line that is longer than any that this package writes, only the first 100 bytes are given, and its line end.
    They are no JSON object, so the line counts as damaged.
    """
    with io.BufferedReader(io.FileIO(os.dup(file.fileno())), 1 << 20) as reader:
        reader.seek(0)
        start = 0
        while line := reader.readline(LONGEST_LINE):
            end, last_part = start + len(line), line
            while not last_part.endswith(b"\n"):
                last_part = reader.readline(LONGEST_LINE)
                if not last_part:
                    break
                end += len(last_part)
            is_whole = end == start + len(line)
            yield Span(start, end), line if is_whole else line[:100] + b"\n" * last_part.endswith(b"\n")
            start = end


def _step(line: bytes) -> int | None:
    """Return the step of a line; None for a damaged or torn line."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not is_sound(row):
        return None
    step = row.get("step")
    return step if is_step_number(step) else None


def _read_spans(path: Path, spans: Sequence[Span]) -> Iterator[bytes]:
    with open_to_read(path) as file:
        for start, end in spans:
            file.seek(start)
            yield file.read(end - start)
