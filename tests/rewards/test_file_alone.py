"""A file is named without a function: what could be a reward in it is listed with its command, and nothing is run."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab.rewards.static_check import functions_in_file, need_function

Command = Callable[..., subprocess.CompletedProcess[str]]
OWN = """
open("was_run", "w")
from grpo_colab.rewards import combine, correctness_reward, reward_factory
import grpo_colab.rewards as ours

def good(completions, **kwargs):
    return [1.0] * len(completions)

async def judged(prompts, completion_ids, **kwargs):
    return [1.0] * len(prompts)

def helper(text):
    return text

def _private_reward(completions, **kwargs):
    pass

def any_reward(**kwargs):
    pass

def get_near_reward(low, *, high, step=1):
    return good

@ours.reward_factory
def make(limit=3):
    return good

both_reward = combine([correctness_reward, good])
LIMIT = 3

class Judge:
    def __call__(self, completions, **kwargs):
        pass
"""
GRADERS = """
def grade(response, answer):
    return response == answer

def compare(completion, *, size=1):
    return True

def _private(response):
    pass

def paid(completions, **kwargs):
    return [0.0] * len(completions)
"""
FOUND = ["good", "judged", "any_reward", "get_near_reward(low=..., high=...)", "make()", "both_reward"]


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.py").write_text(OWN)
    Path("graders.py").write_text(GRADERS)


def test_what_could_be_a_reward() -> None:
    assert functions_in_file("own.py") == [f"own.py:{name}" for name in FOUND]
    assert functions_in_file("graders.py", ("grader",)) == ["graders.py:grade", "graders.py:compare"]
    assert functions_in_file("graders.py", ("reward", "grader")) == [
        f"graders.py:{name}" for name in ("grade", "compare", "paid")
    ]
    need_function("own.py:good", "grpo-colab audit")
    need_function("correctness", "grpo-colab audit")


@pytest.mark.parametrize(
    ("arguments", "begins"),
    [
        (["audit", "own.py"], "grpo-colab audit "),
        (["audit", "own.py:"], "grpo-colab audit "),
        (["score", "c.jsonl", "--rewards", "correctness,own.py"], "grpo-colab score FILE --rewards "),
    ],
)
def test_each_is_listed_with_its_command(arguments: list[str], begins: str, command: Command) -> None:
    Path("c.jsonl").write_text('{"completion": "x", "answer": "1"}\n')
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    said = done.stderr.splitlines()
    kinds = "a reward or a grader" if arguments[0] == "audit" else "a reward"
    assert said[0].endswith(f"is a file, and {kinds} is a function in it; write one of:")
    assert said[1:4] == [f"  {begins}own.py:{name}" for name in FOUND[:3]]
    assert said[4] == f"  {begins}'own.py:get_near_reward(low=..., high=...)'"
    assert len(said) == 7
    assert not Path("was_run").exists()
    again = command(*said[1].removeprefix("  grpo-colab ").replace("FILE", "c.jsonl").split())
    assert again.returncode in (0, 1), again.stderr


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("x = 1\n", "none of its functions takes completions"),
        ("def (\n", "'own.py' does not import: SyntaxError: invalid syntax (own.py, line 1)"),
        (None, "'own.py' does not import: FileNotFoundError"),
    ],
)
def test_a_file_without_one(source: str | None, problem: str) -> None:
    Path("own.py").unlink() if source is None else Path("own.py").write_text(source)
    with refused(problem=problem):
        need_function("own.py")
