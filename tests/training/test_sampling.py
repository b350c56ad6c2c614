"""[sampling] in a real training: groups are replaced, completions chosen, and none costs for nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from marks import long_but
from refusals import refused

from grpo_colab import Recipe, Run, train
from grpo_colab.runs.records import repeatable, weighted_reward
from grpo_colab.tasks.word_problems import WordProblems

pytestmark = pytest.mark.stack

OFF = {"non_finite": False, "max_kl": 0.0, "max_length_growth": 0.0, "gibberish": 0.0}
ALL: dict[str, Any] = {
    "strategy": "adaptive",
    "refill": 2,
    "generate_more": 8,
    "skip_zero_advantage": True,
    "hints": "solution",
    "hint_share": 0.9,
    "merge_adapter": True,
}


def quick(steps: int, **overrides: dict[str, Any]) -> Recipe:
    """The tiny model on easy problems, of which many groups are all right or all wrong."""
    settings: dict[str, dict[str, Any]] = {
        "task": {"limit": 64},
        "budget": {"max_steps": steps, "prompts_per_step": 2, "rehearsal": False},
        "grpo": {"num_generations": 4, "max_completion_length": 24, "save_steps": 1, "save_total_limit": 99},
        "evaluation": {"n": 4, "max_completion_tokens": 8},
    }
    return Recipe.load(
        **{name: {**settings.get(name, {}), **overrides.get(name, {})} for name in {*settings, *overrides}}
    )


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with all parts on."""
    return train(quick(6, sampling=ALL), out=tmp_path_factory.mktemp("chosen") / "run")


def test_all_parts_train_together_and_are_logged(chosen: Run) -> None:
    rows = chosen.metrics()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        turns = row["sampling/turns"]
        assert turns in (1, 2, 3)
        assert row["sampling/completions"] == (turns * 2 + row["sampling/hinted"]) * 8
        assert 0 <= row["sampling/groups_that_teach"] + row["sampling/groups_of_format_only"] <= 1
    assert any(row["sampling/turns"] > 1 for row in rows)
    assert any(row["sampling/hinted"] for row in rows)
    assert any(row["grad_norm"] > 0 for row in rows)
    tokens = [row["num_tokens"] for row in rows]
    assert tokens == sorted(set(tokens))


def test_a_step_learns_from_whole_groups_of_one_prompt_with_their_own_rewards(chosen: Run) -> None:
    from grpo_colab.rewards import correctness_reward

    rows = chosen.completions()
    assert len(rows) == 6 * 2 * 4
    for start in range(0, len(rows), 4):
        group = rows[start : start + 4]
        assert len({json.dumps(row["prompt"]) for row in group}) == 1
        assert len({row["answer"] for row in group}) == 1
        paid = correctness_reward([row["completion"] for row in group], [row["answer"] for row in group])
        assert [row["rewards"]["correctness"] for row in group] == paid
        advantages = [row["advantage"] for row in group]
        assert sum(advantages) == pytest.approx(0, abs=1e-3)
        totals = [weighted_reward(row["rewards"].values(), list(chosen.recipe.rewards.values())) for row in group]
        order = sorted(range(4), key=lambda index: totals[index])
        assert [advantages[index] for index in order] == sorted(advantages)
    for step, line in enumerate(chosen.metrics()):
        right = [row["rewards"]["correctness"] for row in rows[step * 8 : step * 8 + 8]]
        assert line["groups_that_teach"] == (len(set(right[:4])) + len(set(right[4:])) - 2) / 2


@pytest.mark.parametrize("step", long_but([2], [2, 4]))
def test_a_killed_run_goes_on_to_the_last_digit(step: int, chosen: Run, tmp_path: Path) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(chosen.path, folder)
    (folder / "evaluation.json").unlink()
    for checkpoint in (folder / "checkpoints").glob("checkpoint-*"):
        if int(checkpoint.name.rpartition("-")[2]) > step:
            shutil.rmtree(checkpoint)
    train(resume=folder)
    run = Run(folder)
    assert repeatable(run.metrics()) == repeatable(chosen.metrics())
    assert run.completions() == chosen.completions()
    assert run.evaluation == chosen.evaluation


def test_a_broken_step_is_repeated_with_what_was_known_before_it(tmp_path: Path) -> None:
    """A reward breaks in the fourth step, after its groups were sampled and learnt of."""
    (tmp_path / "own.py").write_text(
        "from pathlib import Path\n\ndef own_reward(completions, trainer_state=None, **kwargs):\n"
        "    done = Path(__file__).with_name('mended')\n"
        "    calls = Path(__file__).with_name('calls')\n"
        "    if trainer_state is not None and trainer_state.global_step == 3 and not done.exists():\n"
        "        calls.write_text((calls.read_text() if calls.exists() else '') + 'x')\n"
        "        if len(calls.read_text()) == 2:\n            raise RuntimeError('broken')\n"
        "    return [0.0] * len(completions)\n"
    )
    settings = {"refill": 2, "strategy": "adaptive"}
    recipe = quick(5, rewards={f"{tmp_path}/own.py:own_reward": 0.0}, sampling=settings)
    with pytest.raises(Exception, match="broken"):
        train(recipe, out=tmp_path / "run")
    (tmp_path / "mended").touch()
    train(resume=tmp_path / "run")
    whole = train(recipe, out=tmp_path / "whole")
    assert repeatable(Run(tmp_path / "run").metrics()) == repeatable(whole.metrics())


OWN_TASK = """
from grpo_colab.tasks import Problem
from grpo_colab.tasks.word_problems import WordProblems


class Riddles(WordProblems):
    name = "riddles"

    def problems(self, split, n=None):
        found = []
        for problem in super().problems(split, n):
            parts = (problem.question, "and that is all")
            found.append(Problem(f"Riddle {problem.source}.", problem.answer, problem.source, parts))
        return found

    def hinted_messages(self, problem, shown):
        assert shown == 1
        return [*self.messages(problem)[:-1], {"role": "user", "content": problem.steps[0]}]
"""


def test_who_fails_is_shown_the_first_steps_and_judged_as_before(tmp_path: Path) -> None:
    """Riddles whose first step is the whole story: with it the policy solves some, and without it none."""
    (tmp_path / "own.py").write_text(OWN_TASK)
    task = {"name": f"{tmp_path}/own.py:Riddles", "limit": 64, "seed": 42}
    grpo = {"num_generations": 8, "max_completion_length": 40}
    recipe = quick(4, task=task, grpo=grpo, sampling={"hints": "solution"})
    run = train(recipe, out=tmp_path / "run", trust_code=True)
    answers = {f"Riddle {problem.source}.": problem for problem in WordProblems(seed=42).problems("train", 64)}
    by_story = {problem.question: problem.answer for problem in answers.values()}
    hinted = [row for row in run.completions() if "hint" in row]
    assert hinted
    for row in hinted:
        assert row["hint"] == 1
        assert by_story[row["prompt"][-1]["content"]] == row["answer"]
    assert any(row["rewards"]["correctness"] == 1.0 for row in hinted)
    assert all(row["prompt"][-1]["content"] in answers for row in run.completions() if "hint" not in row)
    assert all(row["question"] in answers or "test" in row["question"] for row in run.answers("evaluation-after.jsonl"))
    lines = run.metrics()
    # 0.5 of two steps is one, and from the middle of the run on none
    assert [row["sampling/hinted"] for row in lines] == [2, 2, 2, 0]
    assert all(row["sampling/groups_that_teach"] == 0 for row in lines)
    assert all(row["sampling/completions"] == 8 * (2 + row["sampling/hinted"]) for row in lines)


@pytest.mark.parametrize("loss", long_but(["dapo"], ["dapo", "grpo", "bnpo", "dr_grpo"]))
def test_without_the_completions_that_teach_nothing_the_gradient_is_the_same(loss: str, tmp_path: Path) -> None:
    """One step of plain gradient descent at rate 1 from B = 0 makes B the gradient, with its sign turned."""
    from safetensors.torch import load_file

    grpo = {"optim": "sgd", "learning_rate": 1.0, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
    found = {}
    for skipped in (False, True):
        recipe = quick(
            1,
            grpo={**grpo, "loss_type": loss, "mask_truncated_completions": True, "max_completion_length": 40},
            budget={"prompts_per_step": 6, "micro_batch": 8},
            rewards={name: False for name in Recipe.load().rewards if name != "correctness"},
            sampling={"skip_zero_advantage": skipped},
            tripwires=OFF,
        )
        run = train(recipe, out=tmp_path / f"{skipped}")
        weights = load_file(run.adapter / "adapter_model.safetensors")
        found[skipped] = {name: tensor for name, tensor in weights.items() if "lora_B" in name}
    completions = run.completions()
    assert any(row["advantage"] == 0 for row in completions) and any(row["advantage"] != 0 for row in completions)
    for name, whole in found[False].items():
        scale = whole.abs().max().item()
        assert scale > 0
        assert (found[True][name] - whole).abs().max().item() < 1e-4 * scale, name


def test_a_merged_adapter_samples_and_learns_the_same(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    runs, weights = {}, {}
    for merged in (False, True):
        runs[merged] = train(quick(4, sampling={"merge_adapter": merged}), out=tmp_path / f"{merged}")
        weights[merged] = load_file(runs[merged].adapter / "adapter_model.safetensors")
    assert runs[True].completions() == runs[False].completions()
    assert runs[True].answers("after") == runs[False].answers("after")
    for name, values in weights[False].items():
        assert values.any()
        assert (weights[True][name] - values).abs().max().item() < 1e-4


def test_a_run_begun_without_it_goes_on_with_it(tmp_path: Path) -> None:
    train(quick(2), out=tmp_path / "run")
    recipe = quick(3, sampling={"refill": 1})
    run = train(recipe, resume=tmp_path / "run")
    assert "sampling/turns" not in run.metrics()[1]
    assert run.metrics()[2]["sampling/turns"] >= 1


@pytest.mark.parametrize(
    ("settings", "setting", "value", "remedy"),
    [
        ({"sampling": {"generate_more": 6}}, "sampling.generate_more", 6, "write 8"),
        ({"sampling": {"generate_more": "many"}}, "sampling.generate_more", "many", "auto"),
        ({"sampling": {"generate_more": -8}}, "sampling.generate_more", -8, "write 8"),
        ({"sampling": {"generate_more": 2}}, "sampling.generate_more", 2, "write 8"),
        (
            {"sampling": {"skip_zero_advantage": True}, "grpo": {"beta": 0.04}},
            "sampling.skip_zero_advantage",
            True,
            "grpo.beta",
        ),
        (
            {"sampling": {"skip_zero_advantage": True}, "grpo": {"top_entropy_quantile": 0.2}},
            "sampling.skip_zero_advantage",
            True,
            "grpo.top_entropy_quantile",
        ),
        ({"sampling": {"strategy": "clever"}}, "sampling.strategy", "clever", "adaptive"),
        ({"sampling": {"refill": -1}}, "sampling.refill", -1, "write 0 or more"),
        ({"sampling": {"hints": "some"}}, "sampling.hints", "some", "solution"),
        (
            {"sampling": {"hints": "solution"}, "budget": {"stop_at_reward": 4.0}},
            "sampling.hints",
            "solution",
            "budget.stop_at_reward",
        ),
        ({"sampling": {"hint_share": 1.0}}, "sampling.hint_share", 1.0, "below 1"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(settings: dict[str, Any], setting: str, value: Any, remedy: str) -> None:
    grpo = {"num_generations": 4, **settings.get("grpo", {})}
    with refused(setting, value, remedy=remedy, snapshot=False):
        Recipe.load(**{**settings, "grpo": grpo})


def test_hints_of_data_without_steps_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    for split in ("train", "test"):
        rows = [{"question": f"{split}: what is {n} + 1?", "answer": str(n + 1)} for n in range(8)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = quick(1, task={"name": "jsonl", "path": str(tmp_path)}, sampling={"hints": "solution"})
    with refused("sampling.hints", "solution", remedy='write "none"'):
        train(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
