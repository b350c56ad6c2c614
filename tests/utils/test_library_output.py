"""What libraries print while they are imported and while they load: each line once, below ours, or not at all."""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Iterator

import pytest

from grpo_colab.utils import console, library_output
from grpo_colab.utils.console import Verbosity
from grpo_colab.utils.library_output import library_lines_once


@pytest.fixture(autouse=True)
def nothing_said_yet() -> Iterator[None]:
    library_output._said.clear()
    yield
    library_output._said.clear()
    console.set_verbosity(Verbosity.NORMAL)


def chatter() -> None:
    print("Unsloth: patching")
    print("Loading:   0%|      | 0/9\rLoading: 100%|######| 9/9 [00:00<00:00, 66.5it/s]", file=sys.stderr)
    sys.stderr.write("half a ")
    sys.stderr.write("line\n\x1b[33ma coloured one\x1b[0m\x1b[2J\n")
    print("UserWarning: mind this", file=sys.stderr)


def test_each_line_once_and_below_ours(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    for _ in range(2):
        with library_lines_once():
            console.info("Loading ...")
            chatter()
    assert (sys.stdout, sys.stderr) == before
    said = capsys.readouterr()
    assert said.out == ""  # where only results belong
    assert said.err.splitlines() == [
        "Loading ...",
        "  | Unsloth: patching",
        "  | half a line",
        r"  | a coloured one\x1b[2J",
        "  | UserWarning: mind this",
        "Loading ...",
    ]


@pytest.mark.parametrize("verbosity", [Verbosity.NORMAL, Verbosity.QUIET])
def test_dropped_or_quiet_only_warnings_are_left(verbosity: Verbosity, capsys: pytest.CaptureFixture[str]) -> None:
    console.set_verbosity(verbosity)
    with library_lines_once(drop=verbosity == Verbosity.NORMAL):
        chatter()
    assert capsys.readouterr().err == "  | UserWarning: mind this\n"


def test_verbose_leaves_all_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console.set_verbosity(Verbosity.VERBOSE)
    with library_lines_once():
        chatter()
    said = capsys.readouterr()
    assert said.out == "Unsloth: patching\n"
    assert "half a line\n\x1b[33ma coloured one\x1b[0m\x1b[2J\n" in said.err
    assert "it/s]" in said.err


def test_a_logger_that_was_made_meanwhile_speaks_on_later_but_does_not_repeat(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("library of a test")
    with library_lines_once():
        handler = logging.StreamHandler()  # which keeps the stream that it finds
        logger.addHandler(handler)
        logger.warning("a remark")
    logger.warning("a remark")
    logger.warning("another")
    logger.warning("another")
    logger.removeHandler(handler)
    assert capsys.readouterr().err == "  | a remark\nanother\nanother\n"


def test_a_filter_that_a_library_puts_before_the_stream_stays(capsys: pytest.CaptureFixture[str]) -> None:
    """As Unsloth does with stderr when it is imported."""

    class Filter(io.TextIOBase):
        def __init__(self, inner: io.TextIOBase) -> None:
            self.inner = inner

        def write(self, text: str) -> int:
            return self.inner.write(text.replace("noise", ""))

    before = sys.stderr
    with library_lines_once():
        sys.stderr = Filter(sys.stderr)  # type: ignore[assignment, arg-type]
    try:
        sys.stderr.write("noise and more\n")
        console.info("ours")
    finally:
        sys.stderr = before
    assert capsys.readouterr().err == " and more\nours\n"


def test_a_block_that_fails_gives_the_streams_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with contextlib.suppress(KeyError), library_lines_once():
        sys.stdout.write("its last words")
        raise KeyError
    assert (sys.stdout, sys.stderr) == before
    console.info("ours")
    assert capsys.readouterr().err == "  | its last words\nours\n"
