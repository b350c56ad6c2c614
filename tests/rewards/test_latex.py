"""Answers in LaTeX: what is right, what must not pay, and that no answer hangs, kills or outlives the trainer."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from refusals import refused

pytest.importorskip("math_verify", reason="needs grpo_colab[math]")

from grpo_colab.rewards import REASONS, correctness_reward, latex
from grpo_colab.rewards.latex import get_math_reward, math_reward

ROOT = Path(__file__).parents[2]
BOMB = "10^{10^{10}}"


def _pays(answer: str, gold: str) -> float | None:
    return math_reward([f"<answer>{answer}</answer>"], [gold])[0]


def _reason(completion: str, gold: str) -> str:
    logged: dict[str, float] = {}
    math_reward([completion], [gold], log_metric=logged.__setitem__)
    return next(name.removeprefix("verdict/") for name, share in logged.items() if share == 1.0)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\frac{\sqrt{2}}{2}", r"\frac{1}{\sqrt{2}}"),
        (r"\dfrac12", "0.5"),
        (r"$\frac{36}{2}$", "18"),
        (r"\sqrt{4}", "2"),
        ("2", r"\sqrt{4}"),
        (r"3\sqrt{13}", r"\sqrt{117}"),
        (r"x^2+2x+1", r"(x+1)^2"),
        (r"\sin^2 x + \cos^2 x", "1"),
        (r"y = 2x+1", "2x+1"),
        (r"x \le 3", r"3 \ge x"),
        (r"[0, 1)", r"\left[0,1\right)"),
        (r"(-\infty, 3]", r"(-\infty,3]"),
        (r"\{2, 1\}", r"\{1,2\}"),
        ("1 or 2", r"\{1,2\}"),
        (r"x=1\text{ or }x=2", "1,2"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ \frac42 \end{pmatrix}"),
        (r"2\pi", r"\pi+\pi"),
        (r"2π", r"2\pi"),
        (r"\sqrt2\text{ cm}", r"\sqrt{2}"),
        (r"\sqrt{2}", r"\sqrt{2}\text{ cm}^2"),
        (r"\text{even}", "even"),
        (r"\text{June 20}", r"\text{June 20}"),
        (r"101_2", r"101_{2}"),
        ("2t", "2t"),
        (r"\frac{t}{2}", r"\frac{1}{2}t"),
        (r"The answer is $\sqrt{2}$.", r"\sqrt2"),
        (r"\boxed{\sqrt{2}}", r"$\sqrt2$"),
        (r"\[ x = \boxed{\frac{\pi}{4}} \]", r"\pi/4"),
        ("\n\\sqrt{2}\n", r"\sqrt2"),
        (r"10^{-7}", "0.0000001"),
        ("$1,000.00", "1000"),
    ],
)
def test_right(answer: str, gold: str) -> None:
    assert _pays(answer, gold) == 1.0


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (r"\sqrt{3}", r"\sqrt{2}"),
        ("2", "2t"),
        ("0.5", r"\frac{1}{2}t"),
        (r"\frac{1}{3}", "0.333333"),
        ("0.707107", r"\frac{\sqrt{2}}{2}"),
        (r"x^2+2x", r"(x+1)^2"),
        ("x", "y"),
        ("(0,1)", "[0,1)"),
        (r"\{1,2,3\}", r"\{1,2\}"),
        ("1,2,3,4,5", r"\{1,2\}"),
        (r"\sqrt{2}t", r"\sqrt{2}"),
        (r"\sqrt{2}", r"\sqrt{2}t"),
        (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix}2\\1\end{pmatrix}"),
        # guesses: of a number ...
        ("4 or 5", "4"),
        ("4, 5", "5"),
        ("4, 4", "4"),
        (r"\{4\}", "4"),
        (r"[4,4]", "4"),
        (r"\pm 4", "4"),
        (r"x=4,x=5", "5"),
        (r"x\in\{4,5\}", "4"),
        (r"4\text{ or }5", "4"),
        (r"4\text{ or }\frac{10}{2}", "4"),
        (r"4\text{, }\frac{10}{2}", "4"),
        (r"4\text{, 5}", "4"),
        (r"4\mathrm{, 5}", "4"),
        (r"4\text{ (or five)}", "4"),
        (r"4\text{ or more}", "4"),
        (r"4_{5}", "4"),
        (r"4\approx 5", "4"),
        (r"x\approx 4", "4"),
        (r"4\ne 5", "4"),
        (r"4 \quad 5", "4"),
        (r"4 \lor 5", "4"),
        (r"4\text{ thousand}", "4"),
        (r"\frac{8}{2}\text{ dozen}", "4"),
        (r"\text{not }4", "4"),
        (r"\neq 4", "4"),
        ("$4$ or $5$", "4"),
        (r"\boxed{4} or \boxed{5}", "4"),
        (r"\boxed{4}\boxed{4}", "4"),
        # ... and of a formula
        (r"\sqrt{2} or \sqrt{3}", r"\sqrt{2}"),
        (r"\sqrt{2}, \sqrt{3}", r"\sqrt{3}"),
        (r"$\sqrt{2}$ or $\sqrt{3}$", r"\sqrt{2}"),
        (r"$\sqrt{2}$ and $\sqrt{3}$", r"\sqrt{3}"),
        (r"not $\sqrt{2}$", r"\sqrt{2}"),
        (r"about \boxed{\sqrt{2}}", r"\sqrt{2}"),
        (r"3$\sqrt{2}$", r"\sqrt{2}"),
        (r"-$\sqrt{2}$", r"\sqrt{2}"),
        (r"\sqrt{2}\text{, }\sqrt{3}", r"\sqrt{2}"),
        (r"\sqrt{2}\text{ thousand}", r"\sqrt{2}"),
        # no formula
        ("", r"\sqrt{2}"),
        ("$", r"\sqrt{2}"),
        (r"\boxed{}", r"\sqrt{2}"),
        (r"\sqrt{2", r"\sqrt{2}"),
        ("\ud800\x00", r"\sqrt{2}"),
        ("(" * 400 + "2" + ")" * 400, r"\sqrt{2}"),
        (r"\sqrt{2}" + " " * 10 + "+0" * 600, r"\sqrt{2}"),
    ],
)
def test_wrong(answer: str, gold: str) -> None:
    assert _pays(answer, gold) == 0.0


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        (r"So \boxed{\sqrt{2}}.", "right"),
        (r"<think>\boxed{3}</think> It is $\boxed{\frac{2}{\sqrt{2}}}$", "right"),
        (r"\boxed{3}, no: \boxed{\sqrt{2}}", "right"),
        (r"\boxed{\sqrt{2}}, no: \boxed{3}", "wrong"),
        (r"<reasoning>\boxed{3}</reasoning><answer>\sqrt{2}</answer>", "right"),
        (r"\boxed{\sqrt{2}} <answer>3</answer>", "wrong"),
        (r"It is \sqrt{2}", "no_tag"),
        ("", "no_tag"),
        (r"\boxed{\sqrt{2}</answer>", "no_tag"),
        (r"<answer>\boxed{\sqrt{2}}", "unclosed"),
        (r"\boxed{\sqrt{2}", "unclosed"),
        (r"\boxed \sqrt{2}", "unclosed"),
        (r"<think>\boxed{\sqrt{2}}", "unclosed"),
        (r"<think>\boxed{\sqrt{2}}</think>", "unclosed"),
        (r"\boxed{\sqrt{2}}</reasoning>", "unclosed"),
        (r"<answer>\sqrt{2}</answer><answer>\sqrt{3}</answer>", "many_tags"),
        (r"<answer>\sqrt{2}</answer>" * 100, "many_tags"),
        ("<answer>1.4, 1.5</answer>", "wrong"),
        (r"<answer>1.4 or 1.5</answer>", "many_numbers"),
        ("<answer>no idea?</answer>", "not_a_number"),
        (f"<answer>{BOMB}</answer>", "too_long"),
        (f"<answer>{'9' * 2000}</answer>", "too_long"),
        (rf"\boxed{{{'9' * 5000}}}", "unclosed"),
    ],
)
def test_where_the_answer_stands_and_why_it_does_not_count(completion: str, reason: str) -> None:
    assert reason in REASONS
    assert _reason(completion, r"\sqrt{2}") == reason


@pytest.mark.parametrize("answer", ["18", "$18.00", "18 eggs", "17", "not 18", "1/2", "50%", "17 or 18", "9 * 2 = 18"])
@pytest.mark.parametrize("gold", ["18", "0.5", "50"])
def test_the_two_graders_agree_on_plain_numbers_without_a_process(answer: str, gold: str, monkeypatch) -> None:
    if "or" not in answer and "not" not in answer:
        monkeypatch.setattr(latex, "_compare", None)
    completion = f"<answer>{answer}</answer>"
    assert math_reward([completion], [gold]) == correctness_reward([completion], [gold])


def test_columns_settings_and_pickling() -> None:
    texts = [r"\boxed{\sqrt{2}}", "no", r"\boxed{\sqrt{3}}"]
    made = get_math_reward(time_limit_s=20)
    for function in (math_reward, made, pickle.loads(pickle.dumps(made))):
        assert function.__name__ == "math_reward"
        assert function(texts, [r"\sqrt{2}", None, r"\sqrt{2}"], prompts=["a"] * 3) == [1.0, None, 0.0]
    messages = [[{"role": "assistant", "content": text}] for text in texts]
    assert made(messages, [r"\sqrt{2}"] * 3) == [1.0, 0.0, 0.0]
    assert math_reward([], []) == []
    for value in (0, -1.0, float("inf"), 100, True, "1"):
        with refused("time_limit_s", value, remedy="write seconds from 0.01 to 60"):
            get_math_reward(value)
    with refused("time_limit_s", remedy="write seconds from 0.01 to 60"):
        get_math_reward(float("nan"))


@pytest.mark.parametrize("gold", ["", "?", r"\frac{1}{", "$y$ and $x$", r"\frac{0}{0}"])
def test_a_gold_that_cannot_be_read_raises_whatever_the_completion_says(gold: str) -> None:
    with pytest.raises(ValueError, match="math-verify cannot read the gold answer") as error:
        math_reward(["no"], [gold])
    assert repr(gold)[:80] in str(error.value)


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
    process = latex._WORKERS[os.getpid()].process
    assert process is not None
    return process.pid


@pytest.mark.parametrize("victim", ["worker", "fork", "both"])
def test_what_is_killed_from_outside_comes_back(victim: str) -> None:
    latex._WORKERS.setdefault(os.getpid(), latex._Worker())._stop()
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
    monkeypatch.setattr(latex, "WALL_LIMIT_S", -2.3)  # 0.2 s, in which no new worker starts either
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
from grpo_colab.rewards import latex
assert "subprocess" not in sys.modules and "math_verify" not in sys.modules
latex.math_reward([r"\boxed{\sqrt2}"], [r"\sqrt{2}"])
assert "sympy" not in sys.modules
print(latex._WORKERS[os.getpid()].process.pid, flush=True)
"""


@pytest.mark.parametrize("end", ["it exits", "it is killed", "it is killed at work"])
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


def test_without_math_verify_the_error_names_the_extra() -> None:
    code = """
import sys
sys.modules["math_verify"] = None
from grpo_colab.rewards.latex import get_math_reward, math_reward
for call in (get_math_reward, lambda: math_reward(["<answer>1</answer>"], ["1"])):
    try:
        call()
    except ImportError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.count('pip install "grpo_colab[math]"') == 2, done.stderr
