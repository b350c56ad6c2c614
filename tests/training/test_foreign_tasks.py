"""Tasks that are not this package's are trained: one's own, Reasoning Gym's, verifiers'; killed ones go on exactly."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from warm import Process, Warm

from grpo_colab import Run
from grpo_colab.runs.records import repeatable

GYM = Path(sys.prefix) / "reasoning-gym"
NEIGHBOURS = [Path(sys.prefix) / name for name in ("neighbours", "verifiers")]
ENVIRONMENT = Path(__file__).parents[1] / "tasks"
SHORT = """
preset = "word-problems-tiny"
[grpo]
num_generations = 4
max_completion_length = 12
save_steps = 2
[budget]
rehearsal = false
max_steps = 6
[evaluation]
n = 8
"""
OWN = '''
import random

from grpo_colab.tasks import Problem, Task


class Sums(Task):
    """Sums of two numbers."""

    default_system_prompt = "Think in <reasoning>, then give the number in <answer>."
    default_rewards = {"correctness": 2.0, "strict_format": 0.5, "brevity_reward": 0.1}

    def __init__(self, *, largest: int = 20, **options):
        super().__init__(**options)
        self.largest = largest

    def problems(self, split, n=None):
        rng = random.Random(f"{split}/{self.seed}")
        found = []
        for _ in range(40 if n is None else n):
            left = 2 * rng.randint(1, self.largest) + (split == "test")
            right = rng.randint(2, self.largest)
            question = f"Sam has {left} apples. Dan gives him {right} more apples. How many apples does Sam have now?"
            found.append(Problem(question, str(left + right), columns={"left": left}))
        return found


def brevity_reward(completions, left, **kwargs):
    return [1.0 / len(completion[0]["content"] or "x") + 0 * one for completion, one in zip(completions, left)]
'''
# Command lines, each as `grpo-colab` would run it, with folders of a library on the path, in one process.
COMMANDS = """
import json, sys
folders, commands = map(json.loads, sys.argv[1:])
sys.path[1:1] = folders
from grpo_colab.cli import main
for words in commands:
    try:
        main(words)
    except SystemExit as ended:
        assert not ended.code, (words, ended.code)
"""


def start(warm: Warm, cwd: Path, folders: list[Path], *commands: list[str]) -> Process:
    return warm.start("-c", COMMANDS, json.dumps([*map(str, folders)]), json.dumps(commands), cwd=cwd)


def finished(process: Process) -> str:
    _, said = process.communicate(300)
    assert process.returncode == 0, said[-3000:]
    return said


def killed_in_the_middle(process: Process, run: Path) -> None:
    deadline = time.monotonic() + 600
    while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") >= 3):
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL


def assert_same(run: Run, whole: Run) -> None:
    assert [row["step"] for row in whole.metrics()] == [1, 2, 3, 4, 5, 6]
    assert repeatable(run.metrics()) == repeatable(whole.metrics())
    assert run.completions() == whole.completions()
    assert run.evaluation == whole.evaluation
    assert run.recipe == whole.recipe


def test_a_task_of_ones_own_is_trained_and_killed_and_goes_on_exactly_from_elsewhere(
    tmp_path: Path, warm: Warm
) -> None:
    """From the command line, with the code beside the recipe; then the report, which runs none of it."""
    (tmp_path / "my_task.py").write_text(OWN)
    (tmp_path / "mine.toml").write_text(SHORT + '[task]\nname = "my_task.py:Sums"\nlargest = 15\n')
    train = ["train", "mine.toml", "--trust-code", "--out"]
    cut = start(warm, tmp_path, [], [*train, "cut"])
    whole = start(warm, tmp_path, [], [*train, "whole"])
    killed_in_the_middle(cut, tmp_path / "cut")
    (tmp_path / "elsewhere").mkdir()
    said = finished(start(warm, tmp_path / "elsewhere", [], ["train", "--resume", "../cut"]))
    assert f"Running code that is not grpo_colab's: {tmp_path}/my_task.py:Sums" in said
    finished(whole)
    assert_same(Run(tmp_path / "cut"), Run(tmp_path / "whole"))
    run = Run(tmp_path / "whole")
    assert list(run.recipe.rewards.values()) == [2.0, 0.5, 0.1]
    assert run.evaluation is not None
    assert run.evaluation["task"] == "my_task.py:Sums"
    (tmp_path / "my_task.py").write_text("raise SystemExit('the report has run it')\nclass Sums: ...\n" + OWN)
    from grpo_colab.reporting import write_report

    assert "my_task.py:Sums" in write_report(run).read_text()


@pytest.mark.long
@pytest.mark.skipif(not GYM.is_dir(), reason="`make setup-test` could not build reasoning-gym here")
def test_three_data_sets_of_reasoning_gym_are_trained_and_one_is_killed(
    tmp_path: Path, warm: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(GYM))  # a recipe that names a library is read where that is installed
    (tmp_path / "short.toml").write_text(SHORT + "[task]\nlimit = 24\nmax_prompt_tokens = 400\n")
    settings = ["--model.max-seq-length", "512", "--evaluation.n", "4"]
    data_sets = {
        "chain_sum": ["--task.config", "{max_terms = 2, max_digits = 1}"],
        "leg_counting": ["--task.config", "{max_animals = 3}"],
        "spell_backward": ["--task.config", "{min_word_len = 3, max_word_len = 4}"],
    }
    commands = []
    for name, config in data_sets.items():
        words = ["train", "short.toml", "--task.name", f"reasoning_gym:{name}", *config, *settings]
        commands.append([*words, "--budget.max-steps", "2", "--out", name])
    # named on the command line, which is the user's own choice; a run folder's name for it is then known
    finished(start(warm, tmp_path, [GYM], *commands))
    for name in data_sets:
        run = Run(tmp_path / name)
        assert run.finished
        assert [row["step"] for row in run.metrics()] == [1, 2]
        assert run.recipe.task["name"] == f"reasoning_gym:{name}"
        assert "reasoning_gym" in run.completions()[0]["rewards"]
    words = [*commands[0][:-4], "--out"]
    cut = start(warm, tmp_path, [GYM], [*words, "cut"])
    whole = start(warm, tmp_path, [GYM], [*words, "whole"])
    killed_in_the_middle(cut, tmp_path / "cut")
    finished(start(warm, tmp_path, [GYM], ["train", "--resume", "cut"]))
    finished(whole)
    assert_same(Run(tmp_path / "cut"), Run(tmp_path / "whole"))


@pytest.mark.long
@pytest.mark.skipif(not all(map(Path.is_dir, NEIGHBOURS)), reason="`make setup-test` has not been run")
def test_an_environment_of_verifiers_is_trained(tmp_path: Path, warm: Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, NEIGHBOURS[1]):
        monkeypatch.syspath_prepend(str(folder))
    shutil.copy(ENVIRONMENT / "small_sums.py", tmp_path)
    (tmp_path / "short.toml").write_text(SHORT + '[task]\nname = "verifiers:small-sums"\n')
    words = ["train", "short.toml", "--budget.max-steps", "2", "--out", "run", "--trust-code"]
    said = finished(start(warm, tmp_path, [*NEIGHBOURS, tmp_path], words))
    assert "verifiers:small-sums from" in said
    run = Run(tmp_path / "run")
    assert run.evaluation is not None
    assert run.evaluation["before"]["accuracy"] >= 0.0
    paid: Any = [row["rewards"]["environment"] for row in run.completions()]
    assert len(paid) == 2 * 2 * 4
    assert any(0.0 < one <= 1.2 for one in paid)
