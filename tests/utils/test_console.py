"""How the package speaks: on stderr, once for all processes, above a bar, and never to the cost of what it does."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import pytest

from grpo_colab.utils import console


def test_it_speaks_on_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    console.info("Loading ...")
    console.warn("no space\nis left")
    console.warn("the reward is flat", step=3)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "Loading ...\nWarning: no space is left\nWarning, step 3: the reward is flat\n"


def test_what_a_stranger_wrote_is_shown_as_text_and_keys_are_dots(capsys: pytest.CaptureFixture[str]) -> None:
    console.info("\x1b[31m https://me:pa55@host/")
    assert capsys.readouterr().err == "\\x1b[31m https://...@host/\n"


def test_one_process_speaks_for_all(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        console.info("of one")
        console.info(f"of {rank}", every_process=True)
    assert capsys.readouterr().err == "of one\nof 0\nof 1\n"


def test_a_stderr_that_takes_nothing_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    with Path("/dev/full").open("w", buffering=1) as full:
        for stream in (None, closed, full):
            monkeypatch.setattr(sys, "stderr", stream)
            console.info("nobody hears it")
            console.warn("nor this", step=1)
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()


def test_a_bar_stays_whole_and_tqdm_is_not_imported_for_it() -> None:
    code = """if True:
        import sys
        from grpo_colab.utils import console
        console.info("before")
        assert "tqdm" not in sys.modules
        from tqdm.auto import tqdm
        with tqdm(total=2, file=sys.stderr, ascii=True, ncols=40, mininterval=0) as bar:
            bar.update(1)
            console.info("above")
            bar.update(1)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout == b""
    lines = [line.split("\r")[-1] for line in done.stderr.decode().split("\n")]
    assert lines[:2] == ["before", "above"]  # alone on its line: the bar was taken away, and drawn again below
    assert "2/2" in lines[2]
