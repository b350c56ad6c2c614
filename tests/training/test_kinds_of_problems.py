"""Problems of ten kinds, as people bring them, go through everything: read, trained, evaluated, reported and scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from marks import long_but

from grpo_colab import Recipe, train
from grpo_colab.evaluation.scoring import default_rewards, score
from grpo_colab.reporting import report
from grpo_colab.rewards.audit import Example, audit

pytestmark = pytest.mark.stack
PROBLEMS = Path(__file__).parents[1] / "data" / "problems"
LABELS = ["billing", "technical", "shipping", "product"]
KINDS: dict[str, dict[str, Any]] = {
    "unit_conversions.csv": {"prompt": "How many {to} are {amount} {from}?"},
    "preise.csv": {"prompt_column": "Frage", "answer_column": "Antwort", "locale": "de"},
    "sums": {},
    "chats.jsonl": {},
    "verl.jsonl": {"answer_column": "reward_model.ground_truth", "answer_in": "hash"},
    "formulas.jsonl": {"answer": "math", "answer_in": "boxed"},
    "tickets.tsv": {"prompt_column": "text", "answer_column": "label", "answer": "choice", "choices": LABELS},
    "capitals.tsv": {"answer": "text", "answer_tag": "capital", "reasoning_tag": "thoughts"},
    "multiple_choice.json": {"prompt_column": "question", "answer": "choice", "examples": 1},
    "people.jsonl": {"prompt_column": "text", "answer": "json", "schema": '{"required": ["name", "age"]}'},
    "programs.jsonl": {"answer_column": "tests", "answer": "code"},
}
QUICK = ("multiple_choice.json", "people.jsonl", "programs.jsonl")


@pytest.mark.parametrize("name", long_but(QUICK, KINDS))
def test_a_kind_of_problems_goes_through_everything(name: str, tmp_path: Path) -> None:
    has_own_split = name == "sums"
    recipe = Recipe.load(
        task={
            "name": "dataset",
            "path": str(PROBLEMS / name),
            "max_prompt_tokens": 400,
            **({} if has_own_split else {"test_share": 0.4}),
            **KINDS[name],
        },
        model={"max_seq_length": 440},
        grpo={"num_generations": 2, "max_completion_length": 32},
        budget={"max_steps": 2, "prompts_per_step": 2},
        evaluation={"n": 3},
    )
    task = recipe.load_task()
    problems = [*task.problems("train"), *task.problems("test")]
    for problem in problems:
        golden = task.golden_completion(problem)
        assert task.grade(golden, problem).right == (task.grader.kind != "code")
        assert task.lenient_right(golden, problem) == (task.grader.kind != "code")
        assert not task.grade("I do not know.", problem).right

    run = train(recipe, out=tmp_path / "run")

    assert run.finished
    assert run.last_step == 2
    rows = run.answers("evaluation-after.jsonl")
    assert len(rows) == min(3, len(task.problems("test")))
    assert {row["verdict"] for row in rows} <= set(task.grader.reasons)
    assert {row["answer"] for row in rows} <= {problem.answer for problem in task.problems("test")}
    logged = run.completions()
    assert len(logged) == 8
    page = Path(report([str(run.path)])).read_text()
    assert "Held-out accuracy" in page
    assert task.grader.lenient in page
    card = (run.adapter / "README.md").read_text()
    assert task.grader.lenient in card
    assert str(PROBLEMS) not in card
    # its reward is attacked with answers of its own kind
    correctness = recipe.reward_functions()[0]
    examples = [Example(problem.question, problem.answer, problem.columns) for problem in task.problems("train")]
    if task.locale == "en":  # the audit's own numbers are in English
        found = audit(correctness, time_limit_s=10.0, examples=examples)
        assert found.ok, found.text(True)
    # the run's own rewards, by its own task, pay again what they have paid
    scores = score(run.path, default_rewards(run.path))
    assert len(scores.rows) == 8
    again = scores.otherwise_than_in_run()
    assert set(again) == set(recipe.rewards)
    assert not any(again.values())
