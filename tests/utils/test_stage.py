"""A long piece of work is shown: a bar on a terminal, a line every half minute elsewhere, nothing when quiet."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grpo_colab.utils import console
from grpo_colab.utils.console import Verbosity
from grpo_colab.utils.stage import Stage, clock, past_seconds, remember_seconds, stage


class Clock:
    """time.monotonic, which goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "monotonic", found)
    return found


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield
    console.set_verbosity(Verbosity.NORMAL)


def test_without_a_terminal_there_is_a_line_every_half_minute(hands: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with stage("Answering 8 problems") as shown:
        for tenth in range(1, 11):
            hands.now += 12
            shown.update(tenth / 10)
    assert capsys.readouterr().err.splitlines() == [
        "Answering 8 problems ...",
        "Answering 8 problems: 30% after 0:36, about 1:24 left",
        "Answering 8 problems: 60% after 1:12, about 0:48 left",
        "Answering 8 problems: 90% after 1:48, about 0:12 left",
    ]


def test_what_tells_no_share_is_expected_to_take_what_it_took_last(hands: Clock) -> None:
    with stage("Loading", remember="load x") as shown:
        hands.now += 40
        assert (shown.share, shown.left_s) == (None, None)
        assert shown.text() == "0:40"
    assert past_seconds() == {"load x": 40.0}
    with stage("Loading", remember="load x") as shown:
        hands.now += 10
        assert (shown.share, shown.left_s) == (0.25, 30.0)
        assert shown.text() == "0:10, about 0:30 left"
        hands.now += 100
        assert (shown.share, shown.left_s) == (0.99, 0.0)
    with pytest.raises(KeyError), stage("Loading", remember="load x"):
        hands.now += 1
        raise KeyError  # what failed early says nothing about the next time
    assert past_seconds() == {"load x": 110.0}


def test_no_time_is_told_of_the_first_percent(hands: Clock) -> None:
    shown = Stage("x")
    hands.now += 60
    shown.update(0.01)
    assert shown.left_s is None
    shown.update(0.5)
    assert shown.left_s == 60
    shown.update(7.0)
    assert (shown.share, shown.left_s) == (1.0, 0.0)


def test_who_listens_is_told_now_and_then(hands: Clock) -> None:
    told: list[tuple[float | None, float | None]] = []
    with stage("x", on_change=lambda share, left_s: told.append((share, left_s))) as shown:
        for tenth in range(1, 11):
            hands.now += 2
            shown.update(tenth / 10)
    assert [share for share, _ in told] == [0.3, 0.6, 0.9]
    assert told[-1][1] == pytest.approx(2.0)


@pytest.mark.parametrize("content", ["", "[1]", '{"a": "x", "b": -1, "c": null, "d": 3.5}'])
def test_a_damaged_record_of_times_counts_for_what_is_sound_in_it(content: str, tmp_path: Path) -> None:
    (tmp_path / "cache" / "grpo_colab").mkdir(parents=True)
    (tmp_path / "cache" / "grpo_colab" / "seconds.json").write_text(content)
    assert past_seconds() == ({"d": 3.5} if "3.5" in content else {})


def test_a_cache_that_cannot_be_written_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    remember_seconds("x", 1.0)
    assert past_seconds() == {}


def test_only_so_many_times_are_remembered() -> None:
    for number in range(105):
        remember_seconds(str(number), 1.0)
    assert list(past_seconds()) == [str(number) for number in range(5, 105)]


def test_quiet_is_quiet_but_for_warnings(hands: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    console.set_verbosity(Verbosity.QUIET)
    with stage("Loading") as shown:
        hands.now += 100
        shown.update(0.5)
        console.info("chatter")
        console.warn("no space")
        console.error("it failed")
    assert capsys.readouterr().err == "Warning: no space\nit failed\n"


def test_times_are_written_as_people_read_them() -> None:
    assert [clock(seconds) for seconds in (0, 59.4, 60, 3599, 3600, 36062)] == [
        "0:00", "0:59", "1:00", "59:59", "1:00:00", "10:01:02",
    ]  # fmt: skip


# A bar on a real terminal, above which is printed, and whose thread is alive while the process forks.
BAR = """
import os, sys, time
from grpo_colab.utils.console import info
from grpo_colab.utils.stage import stage
with stage("Importing", ticking=True) as shown:
    shown.update(0.5)
    info("a line of ours")
    for _ in range(200):
        if (child := os.fork()) == 0:
            info("")  # a lock that the thread held would stay locked here
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
info("after")
"""


def test_on_a_terminal_a_bar_is_redrawn_and_leaves_no_line(tmp_path: Path) -> None:
    code = BAR.replace('info("")', "shown.refresh()")
    screen = on_terminal(code, tmp_path)
    assert "50% after " in screen
    assert "\ra line of ours\r\n" in screen  # on the line that the bar has left
    assert screen.endswith("\rafter\r\n")
    assert screen.count("Importing ...\r\n") == 1
    dumb = on_terminal(BAR, tmp_path, TERM="dumb")
    assert "%" not in dumb
    assert "\r\r" not in dumb


def on_terminal(code: str, folder: Path, **environment: str) -> str:
    """Run Python on a terminal of its own, and return what it wrote there."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", code],
        cwd=folder,
        env={**os.environ, "TERM": "xterm", **environment},
        stdin=other,
        stdout=other,
        stderr=other,
    )
    os.close(other)
    written = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # the terminal is closed at its other end
            break
        if not piece:
            break
        written += piece
    os.close(main)
    assert process.wait() == 0, written.decode()
    return written.decode()
