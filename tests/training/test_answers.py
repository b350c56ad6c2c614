"""Answers elsewhere than in `<answer>` in real runs, and golds that are read before a model is."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from marks import long_but
from refusals import refused

from grpo_colab import Recipe, train
from grpo_colab.evaluation.evaluate import evaluate_run
from grpo_colab.evaluation.scoring import score
from grpo_colab.tasks import Problem, Task, load_task
from grpo_colab.training.checks import check_data, check_foreign_rewards

pytestmark = pytest.mark.stack

NO_TAGS = dict.fromkeys(("strict_format", "soft_format", "tag_count"), False)
QUICK: dict[str, dict[str, Any]] = {
    "budget": {"max_steps": 2, "prompts_per_step": 2, "rehearsal": False},
    "evaluation": {"n": 16},
}
NOWHERE = {"model_name": "nobody/no-such-model"}  # loading it would be the first to fail


MARKS = {"boxed": "\\boxed{}", "hash": "####", "SOLUTION": "<SOLUTION>"}


@pytest.mark.parametrize("answer_in", long_but(["boxed"], MARKS))
def test_a_run_asks_grades_and_evaluates_by_the_tasks_form(answer_in: str, tmp_path: Path) -> None:
    mark = MARKS[answer_in]
    recipe = Recipe.load(task={"answer_in": answer_in, "limit": 64}, rewards={"exact_answer": 0.5, **NO_TAGS}, **QUICK)
    run = train(recipe, out=tmp_path / "run")
    assert run.finished
    task = run.recipe.load_task()
    before, rows = run.answers("evaluation-before.jsonl"), run.completions()
    assert len(before) == 16
    assert all(mark in row["prompt"][0]["content"] for row in rows)
    # The small model writes <answer>, whatever it is asked: right answers that stand elsewhere.
    assert any("<answer>" in row["completion"] for row in before)
    assert any(row["lenient_right"] for row in before)
    for row in before:
        assert row["verdict"] == task.grade(row["completion"], Problem("", row["answer"])).reason
        assert row["verdict"] != "right"
    assert all(set(row["rewards"].values()) == {0.0} for row in rows)
    assert score(run.path, ["correctness"]).paid["correctness"] == [row["rewards"]["correctness"] for row in rows]
    assert evaluate_run(run.path) == run.evaluation
    # what the task itself calls right is right in the run's rewards, too
    (problem,) = task.problems("train", 1)
    golden = task.golden_completion(problem)
    for function in run.recipe.reward_functions():
        assert function(completions=[golden], answer=[problem.answer]) == [1.0]


def file_of(path: Path, golds: list[Any]) -> str:
    rows = [{"prompt": f"What is {n}?", "answer": gold} for n, gold in enumerate(golds)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("reward", "gold"),
    [
        ("math", "5h (left"),  # a number for the number parser, and no formula
        ("cosine_scaled(max_len=8, grader='math')", "5h (left"),
        ("correctness(locale='de')", "1,234.5"),
        ("length(locale='de')", "1,234.5"),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_a_gold_that_a_reward_cannot_read_is_named_before_anything_is_loaded(
    reward: str, gold: str, split: str, tmp_path: Path
) -> None:
    good = file_of(tmp_path / "good.jsonl", ["1", 2, "x\n#### 3"])
    bad = file_of(tmp_path / "bad.jsonl", ["1", 2, gold, 4, 5])
    paths = {"path": bad, "test_path": good} if split == "train" else {"path": good, "test_path": bad}
    rewards = dict.fromkeys(Recipe.load().rewards, False) | {reward: 1.0}
    recipe = Recipe.load(task={"name": "jsonl", "duplicates": "keep", **paths}, rewards=rewards, model=NOWHERE, **QUICK)
    with refused(
        f"rewards.{reward}", problem=f"'{gold}'", remedy=f"write {reward} = false", place=f"{bad}:3", snapshot=False
    ):
        train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_parts_of_a_combined_reward_are_asked_too(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from grpo_colab.rewards import combine, get_correctness_reward, strict_format_reward\n"
        "both_reward = combine([strict_format_reward, get_correctness_reward(locale='de')])\n"
    )
    path = file_of(tmp_path / "rows.jsonl", ["1", "1,234.5"])
    recipe = Recipe.load(
        task={"name": "jsonl", "path": path, "test_path": path, "duplicates": "keep"},
        rewards={f"{file}:both_reward": 1.0},
    )
    problems = recipe.load_task().problems("train")
    with refused(f"rewards.{file}:both_reward", problem="'1,234.5'", place=f"{path}:2", snapshot=False):
        check_foreign_rewards(recipe, problems, [])


class Worded(Task):
    """A user's own task, of which nothing but the evaluation reads the golds."""

    name = "worded"
    default_system_prompt = ""

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        return [Problem("How many?", "some 20", "here:1")]


def test_the_evaluation_reads_the_golds_that_it_will_judge_by() -> None:
    recipe, task = Recipe.load(rewards=dict.fromkeys(Recipe.load().rewards, False) | {"strict_format": 1.0}), Worded()
    problems = task.problems("test")
    check_data(recipe, task, problems, [])
    with refused("[evaluation]", problem="'some 20'", remedy="take its problem out", place="here:1"):
        check_data(recipe, task, [], problems)


def test_plain_numbers_cost_nothing_to_read() -> None:
    problems = [Problem(f"{n}?", f"{n:,}.{n % 10}") for n in range(7473)]
    recipe = Recipe.load(rewards={"math": 1.0, "length": 1.0, "cosine_scaled(max_len=9, grader='math')": 1.0})
    start = time.process_time()
    check_data(recipe, load_task("word_problems"), problems, problems[:256])
    assert time.process_time() - start < 30  # a formula each would take minutes
