"""[pretraining] shows a model the golden completions of any task before it learns by rewards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe, Run, train
from grpo_colab.policy.loading import load_policy
from grpo_colab.training.pretraining import NOT_LEARNT, _examples
from grpo_colab.utils.device import current_device

pytestmark = pytest.mark.stack

SHORT: dict[str, Any] = {
    "task": {"limit": 16},
    "budget": {"max_steps": 1, "prompts_per_step": 2, "rehearsal": False},
    "grpo": {"num_generations": 4, "max_completion_length": 16, "optim": "adamw_torch"},
    "evaluation": {"n": 4},
}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_run_begins_from_what_it_was_shown_and_that_is_learnt_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny model never writes <result>, so that no reward could teach it."""
    from safetensors.torch import load_file

    monkeypatch.chdir(tmp_path)
    problems = Recipe.load().load_task().problems("train", 200)
    rows = [{"question": one.question, "answer": "\n".join(one.steps) + f"\n#### {one.answer}"} for one in problems]
    settings: dict[str, Any] = {
        **SHORT,
        "task": {
            "name": "dataset",
            "path": str(write(tmp_path / "train.jsonl", rows[:160])),
            "test_path": str(write(tmp_path / "test.jsonl", rows[160:])),
            "answer_tag": "result",
        },
        "rewards": ["correctness(answer_in='result')"],
        "pretraining": {"steps": 24, "batch_size": 4, "micro_batch": 4, "learning_rate": 5e-3},
    }
    run = train(Recipe.load(**settings), out=tmp_path / "run")
    [folder] = (tmp_path / "runs").iterdir()
    shown = Run(folder)
    losses = [row["loss"] for row in shown.metrics()]
    assert len(losses) == 24
    assert losses[-1] < losses[0] / 2
    before, after = (load_file(one.adapter / "adapter_model.safetensors") for one in (shown, run))
    assert any(before[name].any() for name in before if "lora_B" in name)
    assert all((after[name] - before[name]).abs().max() < 0.02 for name in before)  # it went on from there

    written = (shown.adapter / "adapter_model.safetensors").stat().st_mtime_ns
    train(Recipe.load(**settings), out=tmp_path / "again")
    assert (shown.adapter / "adapter_model.safetensors").stat().st_mtime_ns == written
    settings["task"] = {**settings["task"], "limit": 2}
    with refused("[task]", problem="holds a pre-training with another"):
        train(Recipe.load(**settings), out=tmp_path / "other")


def test_only_the_completion_is_learnt_with_its_end_and_by_the_policys_own_prompt() -> None:
    recipe = Recipe.load(**SHORT, pretraining={"steps": 2, "batch_size": 2, "micro_batch": 2})
    policy, task = load_policy(recipe, current_device()), recipe.load_task()
    problems = task.problems("train", 8)
    rows = _examples(policy, recipe, problems)
    assert len(rows) == 4
    for row, problem in zip(rows, problems, strict=False):
        prompt = policy.prompt_ids(task.messages(problem))
        assert row["input_ids"][: len(prompt)] == prompt
        assert row["labels"][: len(prompt)] == [NOT_LEARNT] * len(prompt)
        assert row["labels"][len(prompt) :] == row["input_ids"][len(prompt) :]
        assert row["labels"][-1] == policy.tokenizer.eos_token_id
        assert policy.tokenizer.decode(row["labels"][len(prompt) : -1]) == task.golden_completion(problem).rstrip()


def test_a_problem_without_a_solution_cannot_be_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "code.jsonl", [{"question": "Add.", "answer": "assert add(1, 2) == 3"}])
    held_out = write(tmp_path / "test.jsonl", [{"question": "Double.", "answer": "assert double(2) == 4"}])
    recipe = Recipe.load(
        **{**SHORT, "task": {"name": "dataset", "path": str(path), "test_path": str(held_out), "answer": "code"}},
        pretraining={"steps": 1},
    )
    policy, problems = load_policy(recipe, current_device()), recipe.load_task().problems("train", 2)
    with refused("[pretraining]", problem="no right completion is known", remedy="solutions", place="code.jsonl:1"):
        _examples(policy, recipe, problems)
