"""The process that compares formulas: no answer hangs it, kills the trainer or outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from marks import long_but

pytest.importorskip("math_verify", reason="needs grpo_colab[math]")

from grpo_colab.rewards import latex_process
from grpo_colab.rewards.latex import get_math_reward, math_reward

ROOT = Path(__file__).parents[2]
BOMB = "10^{10^{10}}"


def _pays(answer: str, gold: str) -> float | None:
    return math_reward([f"<answer>{answer}</answer>"], [gold])[0]


BOMBS = [BOMB, "1000000!", r"\sum_{i=1}^{10^9} i^i", "(x+y+z)^{300}", r"\{" * 20 + r"\sqrt{" * 60 + "2" + "}" * 60]


def test_bombs_cost_their_limit_on_every_thread() -> None:
    texts = [f"<answer>{bomb}</answer>" for bomb in BOMBS] + ["<answer>(x+1)^2</answer>"]
    golds = ["x^2+2x+1"] * len(texts)
    expected = [0.0] * len(BOMBS) + [1.0]
    assert math_reward(texts, golds) == expected
    began = time.monotonic()
    assert math_reward(texts * 20, golds * 20) == expected * 20  # the same answers cost once
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda _: math_reward(texts, golds), range(3))) == [expected] * 3
    assert time.monotonic() - began < 60


def _processes(worker: int) -> list[int]:
    """The worker and its forks."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(pid) for pid, group, state in rows if int(group) == worker and not state.startswith("Z")]


def _worker() -> int:
    process = latex_process.WORKERS[os.getpid()].process
    assert process is not None
    return process.pid


@pytest.mark.parametrize("victim", long_but(["worker"], ["worker", "fork", "both"]))
def test_what_is_killed_from_outside_comes_back(victim: str) -> None:
    latex_process.WORKERS.setdefault(os.getpid(), latex_process.Worker()).stop()
    assert _pays(r"\sqrt{8}", r"2\sqrt{2}") == 1.0
    worker = _worker()
    fork = next(pid for pid in _processes(worker) if pid != worker)
    for pid in {"worker": [worker], "fork": [fork], "both": [worker, fork]}[victim]:
        os.kill(pid, signal.SIGKILL)
    for factor in range(2, 9):  # each gets its own reply, not that of the one before
        assert _pays(rf"\sqrt{{{2 * factor**2}}}", rf"{factor + factor % 2}\sqrt{{2}}") == float(factor % 2 == 0)
    if victim != "worker":  # whose fork goes on until it is stopped
        assert _worker() != worker and not _processes(worker)


def test_a_worker_that_hangs_raises(monkeypatch) -> None:
    assert _pays(r"\sqrt{8}", r"2\sqrt{2}") == 1.0
    monkeypatch.setattr(latex_process, "WALL_LIMIT_S", -2.3)  # 0.2 s, in which no new worker starts either
    for pid in _processes(_worker()):
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(RuntimeError, match="died or hung twice"):
        _pays(r"\sqrt{18}", r"2\sqrt{2}")
    monkeypatch.undo()
    assert _pays(r"\sqrt{18}", r"3\sqrt{2}") == 1.0


def test_an_interrupted_call_leaves_no_reply_behind() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        assert _pays(r"\sqrt{8}", r"2\sqrt{2}") == 1.0
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(KeyboardInterrupt):
            get_math_reward(1.0)([rf"\boxed{{{BOMB}}}"], [r"2\sqrt{2}"])
    finally:
        signal.signal(signal.SIGALRM, before)
    assert _pays(r"\sqrt{8}", r"2\sqrt{2}") == 1.0


def test_a_forked_trainer_has_its_own_worker() -> None:
    assert _pays(r"\sqrt{8}", r"2\sqrt{2}") == 1.0
    worker = _worker()
    pid = os.fork()
    if pid == 0:
        paid = _pays(r"\sqrt{18}", r"3\sqrt{2}")
        os._exit(0 if paid == 1.0 and _worker() != worker else 1)
    assert _pays(r"\sqrt{50}", r"5\sqrt{2}") == 1.0
    assert os.waitpid(pid, 0)[1] == 0
    assert _worker() == worker


TRAINER = r"""
import os, sys
from grpo_colab.rewards import latex, latex_process
assert "subprocess" not in sys.modules and "math_verify" not in sys.modules
latex.math_reward([r"\boxed{\sqrt2}"], [r"\sqrt{2}"])
assert "sympy" not in sys.modules
print(latex_process.WORKERS[os.getpid()].process.pid, flush=True)
"""


@pytest.mark.parametrize(
    "end", long_but(["it is killed at work"], ["it exits", "it is killed", "it is killed at work"])
)
def test_no_process_outlives_the_trainer(end: str) -> None:
    work = {
        "it exits": "",
        "it is killed": "sys.stdin.read()",
        "it is killed at work": r"latex.get_math_reward(2.0)([r'\boxed{10^{10^{10}}}'] * 9, ['1'] * 9)",
    }[end]
    with subprocess.Popen(
        [sys.executable, "-c", TRAINER + work], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as trainer:
        assert trainer.stdout is not None
        worker = int(trainer.stdout.readline())
        if end == "it exits":
            assert trainer.wait(30) == 0
        else:
            assert len(_processes(worker)) == 2
            time.sleep(0.3)
            trainer.kill()
    deadline = time.monotonic() + 30
    while _processes(worker):
        assert time.monotonic() < deadline, "the worker is still there"
        time.sleep(0.05)
