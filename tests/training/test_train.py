"""The main job for real: the shipped model is loaded by Unsloth, trained by TRL, and what it leaves behind is whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import refused
from warm import Warm

from grpo_colab import Recipe, Run, train
from grpo_colab.cli.output import evaluation_text
from grpo_colab.evaluation.evaluate import evaluate_run
from grpo_colab.runs.folders import is_free_again
from grpo_colab.runs.jsonl_repair import rewind
from grpo_colab.runs.records import repeatable
from grpo_colab.tasks.word_problems import NEW_STORIES, WordProblems

pytestmark = pytest.mark.stack

QUICK: dict[str, dict[str, Any]] = {
    "task": {"limit": 100},
    "budget": {"max_steps": 3, "prompts_per_step": 2, "rehearsal": False},
    "evaluation": {"n": 16},
}


def quick(name: str = "word-problems-tiny", **overrides: dict[str, Any]) -> Recipe:
    tables = {table: {**QUICK.get(table, {}), **overrides.get(table, {})} for table in {*QUICK, *overrides}}
    return Recipe.load(name, **tables)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(quick(), out=tmp_path_factory.mktemp("runs") / "first")


SPLIT = ("time/generation_s", "time/reward_s", "time/update_s")


def test_a_steps_seconds_are_split_and_its_memory_is_told(finished: Run) -> None:
    for row in finished.metrics():
        assert sum(row[key] for key in SPLIT) == pytest.approx(row["step_time"])
        assert min(row[key] for key in SPLIT) > 0.0
    peaks = [row["memory/peak_gib"] for row in finished.metrics()]
    assert peaks == sorted(peaks)
    assert peaks[0] > 0.1  # torch alone


def test_a_step_that_learns_from_the_completions_of_the_one_before_generates_nothing(tmp_path: Path) -> None:
    run = train(quick(grpo={"num_iterations": 2}, budget={"max_steps": 2}), out=tmp_path / "run")
    first, second = run.metrics()
    assert first["time/generation_s"] > 0.0
    assert (second["time/generation_s"], second["time/reward_s"]) == (0.0, 0.0)
    assert second["time/update_s"] == pytest.approx(second["step_time"])


def test_a_run_folder_holds_everything(finished: Run) -> None:
    names = {path.name for path in finished.path.iterdir()}
    assert {
        "recipe.toml", "environment.json", "metrics.jsonl", "completions.jsonl", "checkpoints", "adapter",
        "evaluation.json", "evaluation-before.jsonl", "evaluation-after.jsonl", "rewards.png",
        "evaluation-before-new_stories.jsonl", "evaluation-after-new_stories.jsonl",
    } <= names  # fmt: skip
    assert [name for name in names if name.startswith(".") or "tmp" in name] == [".lock"]
    assert (finished.path / "rewards.png").read_bytes().startswith(b"\x89PNG")
    versions = json.loads((finished.path / "environment.json").read_text())["versions"]
    assert versions["trl"] == "1.15.0"
    assert versions["unsloth"] == "2026.10.9"


def test_a_line_a_step_with_every_reward(finished: Run) -> None:
    metrics = finished.metrics()
    assert [row["step"] for row in metrics] == [1, 2, 3]
    for name in finished.recipe.rewards:
        assert all(0.0 <= row[f"rewards/{name}_reward/mean"] <= 1.0 for row in metrics)
    weighted = sum(w * metrics[0][f"rewards/{name}_reward/mean"] for name, w in finished.recipe.rewards.items())
    assert metrics[0]["reward"] == pytest.approx(weighted, abs=1e-5)


def test_completions_are_kept_with_their_rewards_and_groups(finished: Run) -> None:
    rows = finished.completions()
    group_size = finished.recipe.grpo["num_generations"]
    assert len(rows) == 3 * 2 * group_size
    for start in range(0, len(rows), group_size):
        group = rows[start : start + group_size]
        assert len({json.dumps(row["prompt"]) for row in group}) == 1
        assert len({(row["step"], row["group"]) for row in group}) == 1
        assert sum(row["advantage"] for row in group) == pytest.approx(0.0, abs=1e-3)
    first = rows[0]
    verdict = finished.recipe.load_task().grade(first["completion"], _problem(first["answer"]))
    assert first["rewards"]["correctness"] == float(verdict.right)


def _problem(answer: str) -> Any:
    from grpo_colab.tasks import Problem

    return Problem("", answer)


def test_evaluation_json_has_the_promised_form(finished: Run) -> None:
    evaluation = finished.evaluation
    assert evaluation is not None
    assert list(evaluation) == ["task", "split", "n", "before", "after", "paired", "step", "note", "further"]
    assert (evaluation["task"], evaluation["split"]) == ("word_problems", "test")
    assert evaluation["note"] == WordProblems.held_out_note
    assert list(evaluation["further"]) == [NEW_STORIES]
    new_stories = evaluation["further"][NEW_STORIES]
    assert list(new_stories) == ["about", "n", "before", "after", "paired"]
    for found in (evaluation, new_stories):
        assert found["n"] == 16
        for side in ("before", "after"):
            assert list(found[side]) == ["accuracy", "ci95", "lenient_accuracy", "rewards"]
            low, high = found[side]["ci95"]
            assert low <= found[side]["accuracy"] <= high
            assert set(found[side]["rewards"]) == set(finished.recipe.rewards)
        change = found["after"]["accuracy"] - found["before"]["accuracy"]
        assert found["paired"]["gained"] - found["paired"]["lost"] == round(16 * change)


def test_a_further_split_has_answers_of_its_own_to_its_own_problems(finished: Run) -> None:
    problems = WordProblems(seed=finished.recipe.task.get("seed", 0)).problems(NEW_STORIES, 16)
    assert finished.evaluation is not None
    for side in ("before", "after"):
        rows = finished.answers(f"evaluation-{side}-{NEW_STORIES}.jsonl")
        assert [(row["question"], row["answer"]) for row in rows] == [(one.question, one.answer) for one in problems]
        told = finished.evaluation["further"][NEW_STORIES][side]
        assert told["accuracy"] == sum(row["right"] for row in rows) / 16


def test_the_result_the_page_and_the_card_tell_both_accuracies_and_what_is_not_new(finished: Run) -> None:
    assert finished.evaluation is not None
    both = (finished.evaluation, finished.evaluation["further"][NEW_STORIES])
    page = (finished.path / "report.html").read_text(encoding="utf-8")
    card = (finished.adapter / "README.md").read_text(encoding="utf-8")
    lines = evaluation_text(finished.evaluation).splitlines()
    assert lines[0] == "word_problems, 16 held-out problems, greedy:"
    assert lines[4] == f"  {WordProblems.held_out_note}"
    assert lines[5] == "new_stories, 16 held-out problems in sentences that no training problem has, greedy:"
    for found, first in zip(both, (1, 6), strict=True):
        for line, side in zip(lines[first:], ("before", "after"), strict=False):
            assert line.split()[:2] == [side, f"{found[side]['accuracy']:.1%}"]
            low, high = found[side]["ci95"]
            assert f"{found[side]['accuracy']:.1%}" in card
            assert f"{low:.1%} to {high:.1%}" in card
            assert f"{100 * low:.1f} to {100 * high:.1f} %" in page
    for text in (page, card):
        assert WordProblems.held_out_note in text
        assert WordProblems.further_splits[NEW_STORIES] in text


def test_a_folder_without_answers_to_a_further_split_is_evaluated_without_it(finished: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    (copy.path / f"evaluation-before-{NEW_STORIES}.jsonl").unlink()
    found = evaluate_run(copy.path)
    assert finished.evaluation == {**found, "further": finished.evaluation["further"]}
    assert "further" not in found


def test_the_saved_adapter_learnt_something_and_answers_as_the_policy_did(finished: Run) -> None:
    from safetensors.torch import load_file

    weights = load_file(finished.adapter / "adapter_model.safetensors")
    b_matrices = {name: tensor for name, tensor in weights.items() if "lora_B" in name}
    assert len(b_matrices) == 7 * 3  # modules x layers; B starts at nought
    assert all(tensor.abs().max() > 0 for tensor in b_matrices.values())
    answers = [(finished.path / name).read_text() for name in ("evaluation-before.jsonl", "evaluation-after.jsonl")]
    assert answers[0] != answers[1]  # so that an adapter that was not loaded would be seen
    assert evaluate_run(finished.path) == finished.evaluation


def test_the_same_recipe_and_seed_give_the_same_metrics(finished: Run, tmp_path: Path) -> None:
    again = train(Recipe.load(finished.path / "recipe.toml"), out=tmp_path / "again")
    assert repeatable(again.metrics()) == repeatable(finished.metrics())
    assert again.completions() == finished.completions()
    assert again.evaluation == finished.evaluation
    other = train(quick(grpo={"seed": 43}), out=tmp_path / "other")
    assert repeatable(other.metrics()) != repeatable(finished.metrics())


def test_four_bit_trains_the_adapter_and_leaves_the_base_alone(tmp_path: Path) -> None:
    import torch
    from bitsandbytes.nn import Linear4bit

    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device

    recipe = quick(model={"load_in_4bit": True})
    learner = load_policy(recipe, current_device())
    layers = [module for module in learner.model.modules() if isinstance(module, Linear4bit)]
    assert len(layers) == 7 * 3  # really quantised, not silently 16-bit
    before = {name: tensor.detach().clone() for name, tensor in learner.model.named_parameters()}
    train(recipe, out=tmp_path / "four-bit", loaded=learner)
    changed = {name for name, tensor in learner.model.named_parameters() if not torch.equal(tensor, before[name])}
    assert changed == {name for name in before if "lora_" in name}


def test_bits_that_were_left_open_are_kept_as_they_were_chosen(tmp_path: Path) -> None:
    """So an adapter is evaluated, resumed and asked on the weights that it was trained on."""
    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device

    recipe = quick(model={"load_in_4bit": None})
    assert "load_in_4bit" not in recipe.model
    run = train(recipe, out=tmp_path / "open")
    assert run.recipe.model["load_in_4bit"] is False
    again = load_policy(run.recipe, current_device(), run.adapter)
    assert not any(type(module).__name__ == "Linear4bit" for module in again.model.modules())


@pytest.mark.long
def test_real_gsm8k_goes_through_the_command(
    gsm8k: Path, tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    settings = ["--task.path", os.path.relpath(gsm8k, tmp_path), "--budget.max-steps", "3", "--evaluation.n", "16"]
    done = command("train", "gsm8k-tiny", *settings, "--out", "gsm8k")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("gsm8k, 16 held-out problems, greedy:")
    assert len(done.stdout.splitlines()) == 4  # the result alone, none of the libraries' chatter
    run = Run(tmp_path / "gsm8k")
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    questions = {json.loads(line)["question"] for line in (gsm8k / "train.jsonl").open()}
    assert {row["prompt"][-1]["content"] for row in run.completions()} <= questions
    held_out = {json.loads(line)["question"] for line in (gsm8k / "test.jsonl").open()}
    answers = [json.loads(line) for line in (run.path / "evaluation-after.jsonl").open()]
    assert len(answers) == 16
    assert {row["question"] for row in answers} <= held_out


def test_a_users_own_file_reward_and_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        # with columns beside that bear the names of what the package and TRL pass themselves
        {"q": f"What is {i} plus 2?", "a": i + 2, "hint": f"h{i}", "prompt": "no", "answer": "no", "completions": "no"}
        for i in range(40)
    ]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "mine_rewards.py").write_text(
        "async def hint_reward(completions, completion_ids, hint, trainer_state, log_metric, **kwargs):\n"
        "    assert all(h.startswith('h') for h in hint)\n"
        "    log_metric('ids', len(completion_ids))\n"
        "    return [0.25] * len(completions)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    recipe = quick(
        "gsm8k-tiny",
        task={"name": "jsonl", "path": str(tmp_path / "mine.jsonl"), "prompt_column": "q", "answer_column": "a"},
        rewards={"mine_rewards.hint_reward": 1.0},
        grpo={"max_completion_length": 16},
        budget={"max_steps": 1, "prompts_per_step": 2},
        evaluation={"n": 2},
    )
    run = train(recipe, out=tmp_path / "run")
    assert run.metrics()[0]["rewards/hint_reward/mean"] == 0.25
    assert run.metrics()[0]["ids"] == 16
    assert all(row["prompt"][-1]["content"].startswith("What is") for row in run.completions())
    assert all(row["answer"].isdigit() for row in run.completions())
    assert run.evaluation is not None
    assert run.evaluation["after"]["rewards"]["hint"] == 0.25


def test_resuming_a_run_that_only_lacks_its_evaluation_adds_no_step(finished: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    (copy.path / "evaluation.json").unlink()
    (copy.path / "evaluation-after.jsonl").unlink()
    train(resume=copy.path)
    assert copy.metrics() == finished.metrics()
    assert copy.evaluation == finished.evaluation
    with refused("--resume", str(copy.path), problem="is finished, and evaluated"):
        train(resume=copy.path)


def test_a_run_cut_before_its_first_checkpoint_starts_again(finished: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    shutil.rmtree(copy.checkpoints)
    shutil.rmtree(copy.adapter)
    (copy.path / "evaluation.json").unlink()
    rewind(copy.path / "metrics.jsonl", 2)
    rewind(copy.path / "completions.jsonl", 2)
    train(resume=copy.path)
    assert repeatable(copy.metrics()) == repeatable(finished.metrics())
    assert copy.completions() == finished.completions()
    assert copy.evaluation == finished.evaluation


def test_an_adapter_of_another_shape_is_refused(finished: Run, tmp_path: Path) -> None:
    copy = Run(shutil.copytree(finished.path, tmp_path / "copy"))
    text = (copy.path / "recipe.toml").read_text()
    (copy.path / "recipe.toml").write_text(text.replace('    "q_proj",\n', ""))
    with refused(problem="is not an adapter of this model", place=copy.adapter):
        evaluate_run(copy.path)


def test_a_model_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    for name in ("nobody/no-such-model", str(tmp_path)):
        with refused("model.model_name", name, problem="cannot be loaded", snapshot=False) as caught:
            train(quick(model={"model_name": name}), out=tmp_path / "run")
        assert len(str(caught.value).splitlines()) <= 2
    assert is_free_again(tmp_path / "run")


def test_a_reward_that_cannot_be_earned_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "terse.py").write_text(
        "from grpo_colab.tasks.word_problems import WordProblems\n"
        "class Terse(WordProblems):\n"
        "    def golden_completion(self, problem):\n"
        "        return problem.answer\n"
    )
    recipe = quick(task={"name": f"{tmp_path / 'terse.py'}:Terse"})
    with refused(
        "rewards.correctness", problem="pays 0.0 of 1.0 for a golden completion", remedy="correctness = false"
    ):
        train(recipe, out=tmp_path / "run")
    assert is_free_again(tmp_path / "run")


def test_a_reward_for_integers_where_no_answer_is_one_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "two.jsonl").write_text(
        "".join(f'{{"prompt": "half of {i}?", "answer": "{i}/2"}}\n' for i in range(1, 41, 2))
    )
    recipe = quick("gsm8k-tiny", task={"name": "dataset", "path": str(tmp_path / "two.jsonl")}, budget={"max_steps": 1})
    assert train(recipe, out=tmp_path / "run").finished
    assert "write integer = false to take it out" in capsys.readouterr().err


def test_long_prompts_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "What is 1 plus 2? " * (1 + 30 * (i % 2)), "answer": "3", "n": i} for i in range(40)]
    for index, row in enumerate(rows):
        row["prompt"] += str(index)
    (tmp_path / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "test.jsonl").write_text('{"prompt": "1 + 1", "answer": "2"}\n')
    recipe = quick(
        task={"name": "jsonl", "path": str(tmp_path / "mixed.jsonl"), "test_path": str(tmp_path / "test.jsonl")},
        budget={"max_steps": 1, "prompts_per_step": 1},
    )
    run = train(recipe, out=tmp_path / "run")
    assert "20 left out as longer than 160 tokens" in capsys.readouterr().err
    assert all(len(row["prompt"][-1]["content"]) < 100 for row in run.completions())


def test_fewer_problems_than_a_step_wants_are_repeated(tmp_path: Path) -> None:
    run = train(quick(task={"limit": 1}, budget={"max_steps": 1, "prompts_per_step": 2}), out=tmp_path / "one")
    assert len({json.dumps(row["prompt"]) for row in run.completions()}) == 1
    assert len(run.completions()) == 16


def test_micro_batches_change_nothing_but_memory(finished: Run, tmp_path: Path) -> None:
    """The same completions, rewards and nearly the same gradient, whether a step is one backward pass or four."""
    cut = train(quick(budget={**QUICK["budget"], "micro_batch": 4}), out=tmp_path / "cut")
    whole, split = finished.metrics()[0], cut.metrics()[0]
    assert split["reward"] == whole["reward"]
    assert split["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-3)


def test_ctrl_c_saves_and_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path, warm: Warm) -> None:
    settings = ["--budget.max-steps", "14", "--evaluation.n", "16", "--task.limit", "64", "--budget.rehearsal", "false"]
    start = ("-m", "grpo_colab", "train")
    process = warm.start(*start, *settings, "--out", "cut", cwd=tmp_path)
    metrics = tmp_path / "cut" / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while not (metrics.exists() and metrics.read_text().count("\n") >= 2):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    assert "Go on with: grpo-colab train --resume cut" in errors
    cut = Run(tmp_path / "cut")
    stopped_at = len(cut.metrics())
    assert 2 <= stopped_at < 14
    assert cut.evaluation is not None
    assert cut.evaluation["step"] == stopped_at
    assert (cut.adapter / "adapter_model.safetensors").is_file()

    resumed = warm.run(*start, "--resume", "cut", cwd=tmp_path)
    assert "held-out problems, greedy" in resumed.stdout
    whole = train(
        Recipe.load(tmp_path / "cut" / "recipe.toml"),
        out=tmp_path / "whole",
    )
    assert repeatable(cut.metrics()) == repeatable(whole.metrics())
    assert cut.evaluation == whole.evaluation
