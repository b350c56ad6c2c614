"""The process of `math_reward` gets no keys, and neither a gold nor an answer of any length holds the trainer up."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

pytest.importorskip("math_verify", reason="needs grpo_colab[math]")

from grpo_colab.rewards import latex_process
from grpo_colab.rewards.latex import math_reward, read_math_gold
from grpo_colab.rewards.number_parser import MAX_CHARACTERS
from grpo_colab.utils.processes import bare_environment

KEYS = {"HF_TOKEN": "hf_canary", "WANDB_API_KEY": "wandb_canary", "SOME_SECRET": "other_canary"}
SLOW = [r"\[", r"\(", "$", r"\boxed{", "{", "1 ", r"\text{", r"\frac{", "1,", r"\approx", "} ", "a.", "**"]


def test_the_process_and_its_fork_have_none_of_the_trainers_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    latex_process.WORKERS.setdefault(os.getpid(), latex_process.Worker()).stop()
    assert math_reward([r"\boxed{\sqrt{8}}"], [r"2\sqrt{2}"]) == [1.0]
    process = latex_process.WORKERS[os.getpid()].process
    assert process is not None
    children = Path(f"/proc/{process.pid}/task").glob("*/children")
    pids = [process.pid, *(int(pid) for path in children for pid in path.read_text().split())]
    assert len(pids) == 2
    for pid in pids:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"canary" not in environment
        names = {line.partition(b"=")[0].decode() for line in environment.split(b"\0") if line}
        assert names <= {"PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "PYTHONPATH"}


def test_a_bare_environment_has_what_is_named_and_the_path_to_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    monkeypatch.setenv("HOME_OF_MINE", "kept")
    monkeypatch.delenv("LC_ALL", raising=False)
    made = bare_environment(("HOME_OF_MINE", "LC_ALL"))
    assert set(made) == {"HOME_OF_MINE", "PYTHONPATH"}
    assert all(Path(folder).is_absolute() for folder in made["PYTHONPATH"].split(os.pathsep))


@pytest.mark.parametrize("sign", SLOW)
def test_a_gold_of_any_length_is_refused_at_once(sign: str) -> None:
    gold, began = sign * (1_000_000 // len(sign)), time.monotonic()
    with pytest.raises(ValueError, match=rf"characters: write at most {MAX_CHARACTERS}") as refused:
        read_math_gold(gold)
    assert len(str(refused.value)) < 250
    with pytest.warns(UserWarning, match="characters: write at most"):
        assert math_reward(["no"], [gold]) == [None]
    assert time.monotonic() - began < 60  # what is quadratic takes minutes


def test_the_longest_gold_is_read() -> None:
    gold = r"\sqrt{2}" + "+0" * 40
    padded = f"{' ' * 5000}{gold}{' ' * 5000}"
    assert math_reward([rf"\boxed{{{gold}}}", r"\boxed{\sqrt{3}}"], [padded] * 2) == [1.0, 0.0]
    assert math_reward([r"\boxed{1}"], ["1" + "." + "0" * (MAX_CHARACTERS - 700)]) == [1.0]
    with pytest.warns(UserWarning, match="characters: write at most"):
        assert math_reward([r"\boxed{1}"], ["9" * (MAX_CHARACTERS + 1)]) == [None]


def test_answers_of_megabytes_cost_milliseconds() -> None:
    gold = r"\sqrt{2}"
    assert math_reward([r"\boxed{\sqrt{2}}"], [gold]) == [1.0]
    frames = ["{}", "<answer>{}</answer>", "\\boxed{{{}}}", "\\boxed{{{}", "</think>\\boxed{{1}}{}"]
    long = [frame.format(sign * (1_000_000 // len(sign))) for sign in SLOW for frame in frames]
    began = time.monotonic()
    assert math_reward(long, [gold] * len(long)) == [0.0] * len(long)
    assert time.monotonic() - began < 60  # what is quadratic takes hours


def test_a_gold_that_is_no_text_is_named_in_bounded_time() -> None:
    shared: list[object] = []
    for _ in range(40):
        shared = [shared, shared]
    with pytest.raises(TypeError, match=r"a gold answer is .* got list") as refused:
        math_reward(["no"], [shared])  # type: ignore[list-item]
    assert len(str(refused.value)) < 300
