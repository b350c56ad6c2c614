"""The rows of a run folder's .jsonl files, checked before they are used, and how a damaged file is mended.

A row that is not what the package writes is left out when it is read. When a run goes on, its files are mended: a torn
end is cut off in place, which needs no space, and a file with damage in its middle is set aside and written without it.
Standard library only.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

from grpo_colab.files import number, open_to_change, open_to_read, read_bytes, read_lines, write_bytes
from grpo_colab.json_rows import LONGEST_LINE, is_sound

DAMAGED: Final = "damaged-"
MOST: Final = 1e30  # of a metric: its square, and a sum of a million of them, are numbers still
Row = dict[str, Any]


def is_step(value: Any) -> bool:
    return isinstance(value, int) and number(value) is not None and abs(value) < MOST


def share(value: Any) -> float | None:
    """A number from 0 to 1 as it is; None for all else."""
    return value if number(value) is not None and 0 <= value <= 1 else None


def count(value: Any) -> int | None:
    """A whole number from 0 as it is, below 1e30; None for all else."""
    return value if is_step(value) and value >= 0 else None


def metrics(path: Path) -> list[Row]:
    """Rows with a step and, by their keys, numbers; NaN and infinities among them, but none beyond 1e30."""
    return [
        {key: value for key, value in row.items() if value is None or _is_metric(value)}
        for row in read_lines(path)
        if is_step(row.get("step"))
    ]


def completions(path: Path) -> list[Row]:
    """Rows with a step, a prompt, the completion's text, and its rewards: a number or None by name."""
    return [
        row
        for row in read_lines(path)
        if is_step(row.get("step"))
        and _is_prompt(row.get("prompt"))
        and isinstance(row.get("completion"), str)
        and _are_rewards(row.get("rewards"))
    ]


def answers(path: Path) -> list[Row]:
    """Rows of an evaluation: what was asked and answered, whether that is right, and the same rewards in each."""
    texts, truths = ("question", "completion", "verdict"), ("right", "lenient_right")
    found = [
        row
        for row in read_lines(path)
        if all(isinstance(row.get(key), str) for key in texts)
        and all(isinstance(row.get(key), bool) for key in truths)
        and _are_rewards(row.get("rewards"))
    ]
    return [row for row in found if row["rewards"].keys() == found[0]["rewards"].keys()]


def evaluation(found: Row | None) -> Row | None:
    """evaluation.json's content; None where what is in it is of other types, or ranges, than the package writes."""
    if found is None:
        return None
    kinds: Mapping[str, Callable[[Any], bool]] = {
        "step": is_step,
        "n": _is_count,
        "solved": lambda value: isinstance(value, bool),
        "before": _is_side,
        "after": _is_side,
        "paired": _is_test,
    }
    return found if all(fits(found[key]) for key, fits in kinds.items() if key in found) else None


def steps_logged(state: Mapping[str, Any] | None) -> list[Row]:
    """The steps' metrics in a checkpoint's trainer_state.json, as metrics.jsonl has them; those that are whole."""
    log = (state or {}).get("log_history")
    rows = [row for row in log if isinstance(row, dict)] if isinstance(log, list) else []
    return [{"step": row["step"], **row} for row in rows if is_step(row.get("step")) and "loss" in row]


def _is_metric(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) < MOST
    return isinstance(value, float) and not MOST <= abs(value) < float("inf")


def _is_prompt(value: Any) -> bool:
    """Whether it is a text, or a conversation of messages."""
    if isinstance(value, str):
        return True
    return isinstance(value, list) and all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in value)


def _are_rewards(value: Any) -> bool:
    return isinstance(value, dict) and all(one is None or number(one) is not None for one in value.values())


def _is_side(value: Any) -> bool:
    """Whether it is one side of evaluation.json; what is missing is no fault."""
    if not isinstance(value, dict):
        return False
    limits = value.get("ci95", [0, 1])
    rates = [value.get(key, 0) for key in ("accuracy", "lenient_accuracy")]
    paid = value.get("rewards", {})
    whole = isinstance(limits, list) and len(limits) == 2 and _are_rewards(paid)
    return whole and all(share(one) is not None for one in (*rates, *limits))


def _is_test(value: Any) -> bool:
    """Whether it is the paired test of evaluation.json; what is missing is no fault."""
    if not isinstance(value, dict):
        return False
    return (
        all(_is_count(value.get(key, 0)) for key in ("gained", "lost")) and share(value.get("p_value", 1)) is not None
    )


def _is_count(value: Any) -> bool:
    return count(value) is not None


def set_aside(path: Path) -> Path:
    """Rename a damaged file, a link, or whatever stands there, to a free name beside it; returns that."""
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
    """Bring a .jsonl file to its lines up to step `done`; what was damaged in it, and what was done, in words.

    What follows the last of these lines is cut off in place. Where damaged lines are among them, the file is set aside
    as it was. Raises OSError where it cannot be written.
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
    """Write a file anew from parts of it, and return where it is kept as it was. OSError changes nothing."""
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
    """Where the lines are that are kept, how many of the others are damaged, and whether the last is just torn."""
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
    """Each line with its beginning and its end; of one that is longer than any of ours, the first part alone."""
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
    """The step in a line; None for one that is damaged, or torn."""
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = row.get("step") if isinstance(row, dict) and is_sound(row) else None
    return step if is_step(step) else None


def _pieces(path: Path, kept: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    with open_to_read(path) as file:
        for start, end in kept:
            file.seek(start)
            yield file.read(end - start)
