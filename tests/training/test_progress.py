"""What a person sees while a run trains: on pseudo-terminals, read as a screen would, in files and in a real kernel."""

from __future__ import annotations

import base64
import contextlib
import importlib
import io
import json
import logging
import math
import os
import pty
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbclient
import nbformat
import pytest
from warm import Warm

from grpo_colab import Recipe, Run

pytestmark = pytest.mark.stack

STEPS = 20
HEADS = ["step", "reward", "spread", "no variance", "tokens", "cut off", "KL", "s/step"]


def metrics(step: int) -> dict[str, Any]:
    """As TRL logs them; no two steps have the same reward."""
    return {
        "loss": 0.0,
        "reward": 1 + step / 100,
        "reward_std": 0.5,
        "frac_reward_zero_std": 0.25,
        "completions/mean_length": 100.0 + step,
        "completions/min_length": 3.0,
        "completions/max_length": 200.0,
        "completions/clipped_ratio": 0.125,
        "rewards/correctness_reward/mean": 0.5,
        "kl": 0.01,
        "step_time": 2.0,
        "time/generation_s": 1.0,
        "time/reward_s": 0.2,
        "time/update_s": 0.8,
    }


class Loop:
    """TRL's own objects around the callback, driven as the trainer drives them."""

    def __init__(self, run: Run | None = None, begin: int = 0, steps: int = STEPS) -> None:
        from transformers import TrainerControl, TrainerState

        self.progress = importlib.import_module("grpo_colab.training.progress").Progress(run)
        self.state, self.control = TrainerState(max_steps=steps, global_step=begin), TrainerControl()
        self.state.is_world_process_zero = True
        self.progress.on_train_begin(None, self.state, self.control)

    def log(self, step: int, logs: Mapping[str, Any] | None = None) -> None:
        self.state.global_step = step
        self.progress.on_log(None, self.state, self.control, dict(metrics(step) if logs is None else logs))

    def end(self) -> None:
        self.progress.on_log(None, self.state, self.control, {"train_runtime": 1.0})
        self.progress.on_train_end(None, self.state, self.control)


class Screen:
    """What a terminal of so many columns makes of bytes: lines without end, for nothing scrolls away here.

    A sign that it does not know is an error, so that whatever moves the cursor is seen.
    """

    def __init__(self, raw: bytes, columns: int, encoding: str = "utf-8") -> None:
        rows: list[list[str]] = [[]]
        self.row = self.column = 0
        self.cursor = True
        for found in re.finditer(r"\x1b\[([?\d;]*)([A-Za-z])|(.)", raw.decode(encoding), re.DOTALL):
            argument, command, sign = found.groups()
            if command == "A":
                self.row -= int(argument or 1)
                assert self.row >= 0
            elif command == "K":
                assert argument == "2"
                rows[self.row] = []
            elif command in ("h", "l"):
                assert argument == "?25"
                self.cursor = command == "h"
            elif sign == "\r":
                self.column = 0
            elif sign == "\n" or (sign and self.column == columns):
                self.row, self.column = self.row + 1, self.column if sign == "\n" else 0
                if self.row == len(rows):
                    rows.append([])
            if sign and sign not in "\r\n":
                assert sign.isprintable() or sign == "\t", repr(found[0])
                row = rows[self.row]
                row.extend(" " * (self.column + 1 - len(row)))
                row[self.column] = sign
                self.column += 1
            assert command in (None, "A", "K", "h", "l", "m"), found[0]
        self.lines = ["".join(row).rstrip() for row in rows]

    @property
    def table(self) -> list[list[str]]:
        """The cells of the one table on it, heads first."""
        (head,) = [n for n, line in enumerate(self.lines) if line.lstrip().startswith("step  ")] or self.lines
        rows = [re.split(r"\s{2,}", line.strip()) for line in self.lines[head:]]
        return [rows[0], *[row for row in rows[1:] if row[0].isdecimal()]]

    @property
    def steps(self) -> list[int]:
        return [int(row[0]) for row in self.table[1:]]


class Terminal:
    """A pseudo-terminal in the place of this process's stdout and stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, columns: int, lines: int, encoding: str = "utf-8") -> None:
        self.columns, self.encoding = columns, encoding
        self.master, self.slave = pty.openpty()
        for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(lines)}.items():
            monkeypatch.setenv(name, value)
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "JPY_PARENT_PID"):
            monkeypatch.delenv(name, raising=False)
        self.streams = [
            os.fdopen(os.dup(self.slave), "w", encoding=encoding, errors="backslashreplace", buffering=1)
            for _ in range(2)
        ]
        for name, stream in zip(("stdout", "stderr"), self.streams, strict=True):
            monkeypatch.setattr(sys, name, stream)
        self.read, self.marks = b"", 0
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        try:
            while part := os.read(self.master, 65536):
                self.read += part
        except OSError:  # all of its writers have gone
            pass

    @property
    def raw(self) -> bytes:
        """All that has come by now: a mark is written, and waited for."""
        self.marks += 1
        os.write(self.slave, mark := f"\x00{self.marks}\x00".encode())
        while mark not in self.read:
            assert self.reader.is_alive()
            time.sleep(0.001)
        return re.sub(rb"\x00\d+\x00", b"", self.read)

    @property
    def screen(self) -> Screen:
        return Screen(self.raw, self.columns, self.encoding)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_terminal(columns: int = 100, lines: int = 40, encoding: str = "utf-8") -> Terminal:
        opened.append(Terminal(monkeypatch, columns, lines, encoding))
        return opened[-1]

    yield open_terminal
    monkeypatch.undo()
    for each in opened:
        for stream in each.streams:
            with contextlib.suppress(OSError):
                stream.close()
        os.close(each.slave)
        each.reader.join(10)
        os.close(each.master)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(Recipe.load(), tmp_path / "my-run")


# --- a terminal


def test_the_table_is_painted_in_place_and_stays_when_it_ends(terminal: Callable[..., Terminal], run: Run) -> None:
    run.write_lines("evaluation-before.jsonl", [{"right": True}, {"right": False}, {"right": False}, {"right": True}])
    shown = terminal()
    print("before")
    loop = Loop(run)
    assert shown.screen.lines[:3] == [
        "before",
        "my-run, 50.0% held-out right before",
        f"step 0 of {STEPS}, no warnings",
    ]
    for step in range(1, 13):
        loop.log(step)
    middle = shown.screen
    assert middle.table[0] == HEADS
    assert middle.steps == list(range(5, 13))
    assert middle.table[-1] == ["12", "1.120", "0.500", "25%", "112", "12%", "0.0100", "2.00"]
    text = "\n".join(middle.lines)
    assert re.search(r"^reward  \S+  1\.0\d to 1\.1\d$", text, re.MULTILINE)
    assert re.search(rf"^step 12 of {STEPS}, (0:\d\d:\d\d left, )?no warnings$", text, re.MULTILINE)
    assert re.search(r"s/step, generation 50%, reward 10%, update 40%$", text, re.MULTILINE)
    assert (middle.lines[-1], middle.column, middle.cursor) == ("", 0, True)  # where a shell's prompt would stand

    run.append("warnings.jsonl", [{"step": 13, "text": "that"}])
    for step in range(13, STEPS + 1):
        loop.log(step)
    loop.end()
    print("after")
    end = shown.screen
    assert end.table[0] == HEADS
    assert (end.steps[0], end.steps[-1], end.steps) == (1, STEPS, sorted(set(end.steps)))
    assert max(b - a for a, b in zip(end.steps, end.steps[1:], strict=False)) == 2
    assert re.search(rf"^step {STEPS} of {STEPS}, 0:\d\d:\d\d taken, 1 warning$", "\n".join(end.lines), re.MULTILINE)
    assert [line for line in end.lines if line][-1] == "after"
    assert end.lines.count("before") == 1
    assert end.cursor


def test_what_others_write_stays_whole_above_it(terminal: Callable[..., Terminal]) -> None:
    from grpo_colab.utils.console import warn

    shown = terminal(60)
    early = logging.Logger("early")
    early.addHandler(logging.StreamHandler())  # holds the stream that is there now
    loop = Loop()
    loop.log(1)
    print("[bold]no markup[/bold] [/at all]", "x" * 150)
    warn("a warning", step=2)
    early.warning("logged")
    loop.log(2)
    print("one ", end="", flush=True)
    sys.stderr.write("line\nand ")
    loop.log(3)
    sys.stderr.writelines(["another\n"])
    print("\x1b[31mred\x1b[0m\tand a tab")
    print("two\nlines at once")
    print("line")
    print("no end", end="")
    loop.log(4)
    loop.end()
    print(".")
    lines = shown.screen.lines
    above = lines[: next(n for n, line in enumerate(lines) if line.startswith("step  "))]
    long = "[bold]no markup[/bold] [/at all] " + "x" * 150
    assert above == [
        *(long[i : i + 60] for i in range(0, len(long), 60)),
        "Warning, step 2: a warning",
        "logged",
        "line",
        "and another",
        "one red\tand a tab",
        "two",
        "lines at once",
        "line",
    ]
    assert b"\x1b[31mred\x1b[0m\tand a tab" in shown.raw
    assert lines[-2] == "no end."
    assert shown.screen.steps == [1, 2, 3, 4]
    assert not any("write" in vars(stream) for stream in (sys.stdout, sys.stderr))


def test_a_bar_of_someone_else_costs_no_memory_and_no_time(terminal: Callable[..., Terminal]) -> None:
    """One that leaves nothing writes no line's end, ever; of what it overwrites nothing is kept."""
    shown = terminal()
    loop = Loop()
    for _ in range(1000):
        sys.stderr.write("\r" + "x" * 50)
    sys.stderr.write("\r" + " " * 50 + "\r")
    sys.stderr.write("over it\r")
    sys.stderr.write("\n")
    assert "over it" in shown.screen.lines
    assert shown.raw.count(b"x") == 0
    loop.end()
    assert shown.raw.count(b"x") == 0


class Tee:
    """What people put in the place of a stream to keep a copy; all but `write` is the terminal's."""

    def __init__(self, stream: Any, write: Callable[[str], int]) -> None:
        self.stream, self.write = stream, write

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("place", ["the stream", "the first stream", "its write"])
def test_who_keeps_a_copy_of_a_stream_gets_all_of_it(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    shown = terminal()
    stream, kept = getattr(sys, name), []
    write = stream.write

    def copy(text: str) -> int:
        kept.append(text)
        return int(stream.write(text) if place == "the first stream" else write(text))

    if place == "the first stream":  # as the one that Unsloth puts there
        monkeypatch.setattr(sys, f"__{name}__", stream)
    if place == "its write":
        stream.write = copy
    else:
        monkeypatch.setattr(sys, name, Tee(stream, copy))
    loop = Loop()
    print("whole", file=getattr(sys, name))
    loop.log(1)
    loop.end()
    text = "".join(kept)
    assert "whole\n" in text
    live = place == "the first stream" or name == "stdout"
    assert ("1.010" in text) is not live  # else the steps are lines on stderr
    assert (b"\x1b[2K" in shown.raw) is live
    if place == "the first stream":
        assert shown.screen.steps == [1]
    assert "shown no more" not in text
    assert getattr(sys, name).write == copy


def test_a_stderr_that_can_only_write_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(sys, "stderr", SimpleNamespace(write=said.append, flush=lambda: None))
    loop = Loop()
    loop.log(1)
    loop.end()
    assert "1.010" in "".join(said)
    assert "shown no more" not in "".join(said)


def test_a_stream_that_is_closed_meanwhile_does_not_keep_the_other_one(terminal: Callable[..., Terminal]) -> None:
    terminal()
    loop = Loop()
    loop.log(1)
    print("no end", end="")
    sys.stdout.close()
    loop.end()
    assert not any("write" in vars(stream) for stream in (sys.stdout, sys.stderr))


def test_results_that_go_to_a_file_are_not_drawn_on_the_screen(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown = terminal()
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr(sys, "stdout", file)
        loop = Loop()
        print("a result")
        loop.log(1)
        loop.end()
    assert (tmp_path / "out").read_text() == "a result\n"
    assert "a result" not in "\n".join(shown.screen.lines)


@pytest.mark.parametrize(("columns", "heads"), [(40, 4), (44, 5), (57, 6), (65, 7), (200, 8)])
@pytest.mark.parametrize("lines", [8, 40])
def test_a_small_screen_drops_the_last_columns_and_the_first_steps(
    terminal: Callable[..., Terminal], run: Run, columns: int, heads: int, lines: int
) -> None:
    shown = terminal(columns, lines)
    loop = Loop(run)
    for step in range(1, STEPS):
        loop.log(step)
    screen = shown.screen
    assert screen.table[0] == HEADS[:heads]
    assert screen.steps[-1] == STEPS - 1
    assert len(screen.lines) <= lines
    assert max(map(len, screen.lines)) <= columns
    assert any(line.startswith(f"step {STEPS - 1} of {STEPS}") for line in screen.lines)
    loop.end()
    assert shown.screen.steps[0] == 1


def test_without_colour_and_without_unicode(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown = terminal(encoding="ascii")
    monkeypatch.setenv("NO_COLOR", "1")
    loop = Loop(Run.create(Recipe.load(), tmp_path / "größer"))
    for step in range(1, STEPS):
        loop.log(step)
    assert not re.search(rb"\x1b\[[\d;]*(3|4|9)\d[\d;]*m", shown.raw)
    assert not any(sign > 127 for sign in shown.raw)
    assert "gr\\xf6\\xdfer" in shown.screen.lines[0]
    assert re.search(r"^reward  _+\S*#+-+  1\.", "\n".join(shown.screen.lines), re.MULTILINE)
    loop.end()


@pytest.mark.parametrize("variable", ["TERM=dumb", "JPY_PARENT_PID=7", "TTY_INTERACTIVE=0"])
def test_a_screen_that_cannot_be_painted_anew_gets_lines(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    shown = terminal()
    monkeypatch.setenv(*variable.split("="))  # type: ignore[arg-type]
    loop = Loop()
    for step in range(1, STEPS + 1):
        loop.log(step)
    loop.end()
    assert b"\x1b" not in shown.raw
    assert shown.screen.steps == list(range(1, STEPS + 1))


def test_names_are_shown_and_not_run(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    shown = terminal()
    folder = tmp_path / "\x1b]0;title\x07\x1b[2J\u202e"
    Run.create(Recipe.load(), tmp_path / "run").path.rename(folder)  # ours would not be called so
    loop = Loop(Run(folder))
    loop.log(1, {**metrics(1), "time/\x1b[7m\r_s": 1.0})
    screen = shown.screen  # which knows no other sign than those that paint the table
    assert r"\x1b]0;title\x07\x1b[2J\u202e" in screen.lines
    assert any(r"\x1b[7m\r" in line for line in screen.lines)
    loop.end()


ODD: list[dict[str, Any]] = [
    {"loss": math.nan},
    {"loss": 0.0, "reward": math.nan, "reward_std": math.inf, "kl": None},
    {"loss": 0.0, "reward": None, "completions/mean_length": "many", "step_time": -math.inf},
    {"loss": 0.0, "reward": 1e300, "reward_std": 1e300, "time/x_s": math.nan},
    {"loss": 0.0},
    {"loss": 0.0, "reward": -3, "frac_reward_zero_std": True, r"rewards/$\frac{\x1b/mean": 0.5},
]


@pytest.mark.parametrize("view", ["table", "lines", "charts"])
def test_odd_metrics_and_an_early_end_break_nothing(
    terminal: Callable[..., Terminal], monkeypatch: pytest.MonkeyPatch, run: Run, view: str
) -> None:
    shown = terminal()
    if view == "lines":
        monkeypatch.setenv("TERM", "dumb")
    if view == "charts":
        monkeypatch.setattr("grpo_colab.training.progress.in_notebook", lambda: True)
        monkeypatch.setattr("grpo_colab.reporting.live.CHARTS_S", 0.0)
    run.write_lines("metrics.jsonl", [{"step": step, **logs} for step, logs in enumerate([{}, *ODD, *ODD])])
    loop = Loop(run, begin=len(ODD), steps=0 if view == "charts" else 100)
    for step, logs in enumerate(ODD, len(ODD) + 1):
        loop.log(step, logs)
    loop.end()
    loop.end()  # train() may say so twice
    text = "\n".join(shown.screen.lines)
    assert "shown no more" not in text
    assert "-3.000" in text


def test_a_resumed_run_begins_with_what_it_had(terminal: Callable[..., Terminal], run: Run) -> None:
    run.write_lines("metrics.jsonl", [{"step": step, **metrics(step)} for step in range(1, 9)])
    shown = terminal()
    loop = Loop(run, begin=6)  # 7 and 8 came after its checkpoint
    assert shown.screen.steps == [1, 2, 3, 4, 5, 6]
    loop.log(7)
    assert shown.screen.steps == [1, 2, 3, 4, 5, 6, 7]
    loop.end()


def test_the_time_left_counts_whole_rounds_of_steps_that_share_their_completions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With num_iterations = 4 a step that generates takes 10 s, and three that do not take 1 s each."""
    run_progress = importlib.import_module("grpo_colab.reporting.run_progress")
    now = 0.0
    monkeypatch.setattr(run_progress, "time", SimpleNamespace(monotonic=lambda: now))
    progress = run_progress.RunProgress(None, 0, 21, ())
    assert progress.left() == ""
    for step in range(1, 14):
        fresh = step % 4 == 1
        now += 10.0 if fresh else 1.0
        progress.add({"step": step, **(metrics(step) if fresh else {"loss": 0.0})})
    assert progress.left() == "0:00:26"  # two rounds
    assert progress.facts()[1][0] == "3.25 s/step"
    progress.ended = True  # it was solved
    assert progress.left() == ""


def test_rewards_that_hardly_differ_have_a_trend(terminal: Callable[..., Terminal]) -> None:
    shown = terminal()
    loop = Loop()
    for step, reward in enumerate([0.0, 5e-324, 1e-310], 1):
        loop.log(step, {**metrics(step), "reward": reward})
    assert "shown no more" not in "\n".join(shown.screen.lines)
    assert shown.screen.steps == [1, 2, 3]
    loop.end()


# --- a display that breaks


def test_a_terminal_that_goes_away_ends_no_training(terminal: Callable[..., Terminal]) -> None:
    shown = terminal()
    loop = Loop()
    loop.log(1)
    for stream in shown.streams:  # no write to it works any more, as where a window was closed
        os.dup2(full := os.open("/dev/full", os.O_WRONLY), stream.fileno())
        os.close(full)
    os.dup2(sys.stderr.fileno(), importlib.import_module("grpo_colab.reporting.live").Table.present.file.fileno())
    for step in range(2, 5):
        loop.log(step)
    loop.end()
    assert not any("write" in vars(stream) for stream in (sys.stdout, sys.stderr))


@pytest.mark.parametrize("broken", ["none", "closed", "full"])
def test_a_broken_stderr_ends_no_training(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    stream = None if broken == "none" else os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", buffering=1)
    monkeypatch.setattr(sys, "stderr", stream)
    if broken == "closed":
        assert stream is not None
        stream.close()
    loop = Loop()
    for step in range(1, 5):
        loop.log(step)
    loop.end()


WAYS = """
import json, os, pty, signal, sys, termios
from grpo_colab.training.progress import Progress
from transformers import TrainerControl, TrainerState

def loop(way):
    state = TrainerState(max_steps=9)
    progress = Progress()
    progress.on_train_begin(None, state, TrainerControl())
    for state.global_step in range(1, 9):
        progress.on_log(None, state, TrainerControl(), {"loss": 0.0, "reward": 1.0})
        if state.global_step == 5:
            os.write(1, b"\\x00")
            if way == "an exception":
                raise RuntimeError("of the training")
            os.kill(os.getpid(), getattr(signal, way))

outputs = {}
for way in sys.argv[1:]:
    child, master = pty.fork()
    if not child:
        os.environ.update(TERM="xterm", COLUMNS="80", LINES="24")
        loop(way)
    before, raw = termios.tcgetattr(master)[:4], b""
    try:
        while part := os.read(master, 65536):
            raw += part
            sane = termios.tcgetattr(master)[:4] == before
    except OSError:
        pass
    outputs[way] = [raw.decode(), sane, os.waitpid(child, 0)[1]]
print(json.dumps(outputs))
"""


def test_whatever_ends_the_process_the_terminal_is_left_sane(warm: Warm, tmp_path: Path) -> None:
    """Without train(), which would tell the callback: a person's own script that breaks, is broken off or killed."""
    ways = ["an exception", "SIGINT", "SIGTERM", "SIGKILL", "SIGHUP"]
    done = warm.run("-c", WAYS, *ways, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    outputs = json.loads(done.stdout.splitlines()[-1])
    assert list(outputs) == ways
    for way, (raw, sane, status) in outputs.items():
        screen = Screen(raw.replace("\x00", "").encode(), 80)
        assert status != 0
        assert (screen.cursor, screen.column, sane) == (True, 0, True), way
        assert screen.steps == [1, 2, 3, 4, 5]
    for way, error in (("an exception", "RuntimeError: of the training"), ("SIGINT", "KeyboardInterrupt")):
        lines = Screen(outputs[way][0].replace("\x00", "").encode(), 80).lines
        traceback = lines.index("Traceback (most recent call last):")
        assert lines[traceback + 1].startswith("  File ")
        assert traceback < lines.index(error) < next(n for n, line in enumerate(lines) if line.startswith("step "))


# --- a file


def test_a_file_gets_lines_now_and_then_and_no_control_signs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every second step alone has a reward, as with num_iterations = 2; every tenth is due, and the last."""
    with (tmp_path / "log").open("w") as file:
        monkeypatch.setattr(sys, "stderr", file)
        monkeypatch.setenv("FORCE_COLOR", "1")
        loop = Loop(steps=120)
        for step in range(1, 118):
            loop.log(step, metrics(step) if step % 2 else {"loss": 0.0})
        loop.end()
    text = (tmp_path / "log").read_text()
    assert all(sign.isprintable() or sign == "\n" for sign in text)
    head, *rows = text.splitlines()
    assert re.split(r"\s{2,}", head.strip()) == [*HEADS, "left"]
    assert [int(row.split()[0]) for row in rows] == [1, *range(11, 112, 10), 117]
    assert len({len(line) for line in text.splitlines()}) == 1  # the columns stand below their heads


# --- a notebook

CELL = f"""
import time
from grpo_colab import Run
from grpo_colab.reporting import live
from grpo_colab.training.progress import Progress
from transformers import TrainerControl, TrainerState
live.CHARTS_S, live.CHARTS_SHARE = 0.0, 1e9  # draw every step
class Args:
    reward_weights = [2.0]
def loop(run, begin, end):
    state, callback = TrainerState(max_steps={STEPS}, global_step=begin), Progress(run)
    callback.on_train_begin(Args, state, TrainerControl())
    for row in rows[begin:end]:
        state.global_step = row["step"]
        callback.on_log(Args, state, TrainerControl(), row)
    callback.on_train_end(Args, state, TrainerControl())
    print("went on to", state.global_step)
"""


def test_a_notebook_has_one_output_that_is_drawn_anew(run: Run, tmp_path: Path, kernel: Any) -> None:
    from PIL import Image

    from grpo_colab.reporting.curves import COLOURS, draw_live

    rows = [{"step": step, **metrics(step)} for step in range(1, STEPS + 1)]
    run.write_lines("metrics.jsonl", rows[:2])
    run.append("warnings.jsonl", [{"step": 1, "text": "that"}])
    book = nbformat.v4.new_notebook()
    book.cells = [
        nbformat.v4.new_code_cell(source)
        for source in (
            f"rows = {rows!r}" + CELL,
            f"loop(Run({str(run.path)!r}), 2, 5)",
            # a front end that takes nothing
            "import IPython.core.displaypub\n"
            "def refuse(self, *data, **how): raise ConnectionError('no one there')\n"
            "type(get_ipython().display_pub).publish = refuse\n"
            "loop(None, 0, 5)",
        )
    ]
    updates: list[dict[str, Any]] = []

    class Client(nbclient.NotebookClient):
        def process_message(self, message: dict[str, Any], cell: Any, index: int) -> Any:
            updates.extend([message] if message["msg_type"] == "update_display_data" else [])
            return super().process_message(message, cell, index)

    Client(book, km=kernel, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    first, charts, refused = (cell.outputs for cell in book.cells)
    assert [output for output in first if output.output_type == "display_data"] == []
    (picture,) = [output for output in charts if output.output_type == "display_data"]
    assert len(updates) == 4  # three steps, and the end
    page = picture.data["text/html"]
    assert re.findall(r"<th>(.*?)</th>", page) == HEADS
    assert re.findall(r"<td>(.*?)</td>", page) == ["5", "1.050", "0.500", "25%", "105", "12%", "0.0100", "2.00"]
    assert re.match(rf"step 5 of {STEPS}, 0:\d\d:\d\d taken, ", picture.data["text/plain"])
    assert "1 warning" in page
    (data,) = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    assert base64.b64decode(data) == draw_live(rows[:5], [2.0])  # with the two steps before it was resumed
    image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
    assert image.size == (1000, 330)
    blue = tuple(bytes.fromhex(COLOURS[0][1:]))
    found = {colour: count for count, colour in image.getcolors(1 << 20)}
    assert found[blue] > 500

    streams = [output for output in refused if output.output_type == "stream"]  # in any order
    out, err = ("".join(each.text for each in streams if each.name == name) for name in ("stdout", "stderr"))
    assert len(re.findall("Progress is shown no more .*no one there", err)) == 1
    assert out == "went on to 5\n"


# --- the real thing


def test_a_real_run_on_a_real_terminal(tmp_path: Path, warm: Warm) -> None:
    command = ["train", "--out", "run", "--budget.max-steps", "3", "--budget.prompts-per-step", "2"]
    command += ["--budget.rehearsal", "false", "--evaluation.n", "4", "--task.limit", "64"]
    python = warm.python
    child, master = pty.fork()
    if not child:
        os.chdir(tmp_path)
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
        os.execve(python[0], [*python, "-m", "grpo_colab", *command], environment)
    raw = b""
    with contextlib.suppress(OSError):  # it has ended
        while part := os.read(master, 65536):
            raw += part
    assert os.waitpid(child, 0)[1] == 0, raw.decode()
    screen = Screen(raw, 100)
    run = Run(tmp_path / "run")
    assert [row[:2] for row in screen.table[1:]] == [
        [str(row["step"]), f"{row['reward']:.3f}"] for row in run.metrics()
    ]
    said = "\n".join(screen.lines)
    # the result once, then where to look
    assert (
        said.index("Before: ") < said.index("step  reward") < said.index("word_problems, 4 held-out problems, greedy:")
    )
    assert (
        said.index("exact McNemar p = ")
        < said.index("Report: run/report.html\n")
        < said.index("Next: grpo-colab report")
    )
    assert said.count("held-out problems right") == 1  # before training alone
    assert re.search(r"s/step, generation \d+%, reward \d+%, update \d+%$", said, re.MULTILINE)
