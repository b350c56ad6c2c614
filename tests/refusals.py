"""Assert that a setting is refused, by the fields of the error, and keep the sentences in one snapshot file.

    with refused("budget.max_steps", 0, remedy="1 or more"):
        Recipe.load(budget={"max_steps": 0})

The fields are asserted here. The sentence is compared with `sentences.txt`, which has a line per refusal:
`test <tab> sentence`. After a change of wording, write it anew with `pytest --update-sentences`, and read the diff.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from grpo_colab.errors import SettingError

SNAPSHOT = Path(__file__).with_name("sentences.txt")
UPDATE = "GRPO_COLAB_UPDATE_SENTENCES"  # set by --update-sentences; xdist's workers inherit it
ANY: Any = object()
_counts: dict[str, int] = {}


@contextlib.contextmanager
def refused(
    setting: Any = ANY,
    value: Any = ANY,
    *,
    remedy: str | None = None,
    problem: str | None = None,
    place: object = ANY,
    kind: type[SettingError] = SettingError,
    snapshot: bool = True,
) -> Iterator[pytest.ExceptionInfo[SettingError]]:
    """Expect a SettingError whose fields are these.

    `setting` and `value` must be equal. `remedy` and `problem` must be found in the field; `place` is a path or text
    that must be found in it. Without `snapshot` the sentence is not compared: for one that names what differs from
    machine to machine.
    """
    with pytest.raises(kind) as caught:
        yield caught
    check(caught.value, setting, value, remedy=remedy, problem=problem, place=place, snapshot=snapshot)


def check(
    error: SettingError,
    setting: Any = ANY,
    value: Any = ANY,
    *,
    remedy: str | None = None,
    problem: str | None = None,
    place: object = ANY,
    snapshot: bool = True,
) -> None:
    """Assert the fields of an error that was caught already; see `refused`."""
    if setting is not ANY:
        assert error.setting == setting
    if value is not ANY:
        assert error.has_value
        assert error.value == value
    if remedy is not None:
        assert remedy in (error.remedy or "")
    if problem is not None:
        assert problem in error.problem
    if place is not ANY:
        assert error.place is None if place is None else str(place) in (error.place or "")
    if snapshot:
        _compare(str(error))


def _compare(sentence: str) -> None:
    test = re.sub(r"^(?:[^:]*/)?([^/:]+\.py::.*) \(\w+\)$", r"\1", os.environ["PYTEST_CURRENT_TEST"])
    _counts[test] = _counts.get(test, 0) + 1
    key = f"{test} #{_counts[test]}" if _counts[test] > 1 else test
    key, line = _plain(key), _plain(sentence)
    if os.environ.get(UPDATE):
        _write(key, line)
    else:
        assert line == read_snapshot().get(key), f"no such sentence in {SNAPSHOT.name}; --update-sentences writes it"


def _plain(text: str) -> str:
    """Return a text on one line, without what differs from run to run: temporary folders, addresses, lines of tests."""
    text = re.sub(
        rf"{re.escape(tempfile.gettempdir())}/pytest-of-[^/]+/pytest-\d+(/popen-gw\d+)?/[^/'\"\s:;,]+", "<tmp>", text
    )
    text = re.sub(r"0x[0-9a-f]{6,}", "0x...", text)
    # a test's own line, in a traceback, moves with each edit of its file
    text = re.sub(rf"(?:{re.escape(str(SNAPSHOT.parent))}/|\btests/)([\w/]+\.py):\d+", r"tests/\1:<line>", text)
    return text.encode("unicode_escape").decode()


@cache
def read_snapshot() -> dict[str, str]:
    lines = SNAPSHOT.read_text().splitlines() if SNAPSHOT.is_file() else []
    return dict(line.split("\t", 1) for line in lines)


def _write(key: str, line: str) -> None:
    with FileLock(f"{tempfile.gettempdir()}/grpo-colab-{SNAPSHOT.name}.lock"):
        read_snapshot.cache_clear()
        lines = read_snapshot() | {key: line}
        SNAPSHOT.write_text("".join(f"{name}\t{text}\n" for name, text in sorted(lines.items())))
