"""Whatever class `trl.GRPOTrainer` names: test_train.py has stock TRL, here is Unsloth's rewrite; and two processes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from warm import Warm

from grpo_colab import Run
from grpo_colab.recipe.recipe import preset_names
from grpo_colab.rewards import correctness_reward
from grpo_colab.runs.records import repeatable

HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run."""
    return rewritten(tmp_path_factory.mktemp("patched"))


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Runs that are broken off, that run out of memory, and that end early."""
    return rewritten(tmp_path_factory.mktemp("variants"), "variants")


def rewritten(folder: Path, *what: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(HERE / "unsloth_patched.py"), str(folder / "run"), *what],
        cwd=folder,  # Unsloth writes the trainer that it generates into a folder beside
        # Where CI is set, torch checks its own compiled code for what its developers mean to mend, and stops. To
        # compile takes half of a run's time, so that the variants alone do it.
        env={
            **{key: value for key, value in os.environ.items() if key != "CI"},
            **({} if what else {"TORCHDYNAMO_DISABLE": "1"}),
        },
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_unsloths_trainer_trains_through_the_same_code(patched: dict[str, Any]) -> None:
    assert patched["trainer"] == patched["config_from"] == "UnslothGRPOTrainer"
    assert [row["step"] for row in patched["metrics"]] == [1, 2, 3]
    assert all(0.0 <= row["rewards/correctness_reward/mean"] <= 1.0 for row in patched["metrics"])
    for row in patched["metrics"]:
        split = [row[f"time/{part}_s"] for part in ("generation", "reward", "update")]
        assert min(split) > 0.0
        assert sum(split) == pytest.approx(row["step_time"])
    assert patched["completions"] == 3 * 2 * 8
    assert all(patched["golds"])  # what is logged is what the rewards were given
    assert all(patched["own"])  # a Python function
    assert len(patched["written"]) == 3 * 2 * 8 + 8
    assert not any("(" in text for text in patched["written"])  # grpo.generation_kwargs.suppress_tokens, everywhere
    assert patched["evaluation"]["n"] == 8
    assert patched["changed"]
    assert all("lora_" in name for name in patched["changed"])


@pytest.mark.long
def test_unsloths_trainer_learns_from_what_is_chosen(variants: dict[str, Any]) -> None:
    chosen = variants["chosen"]
    assert [row["sampling/completions"] for row in chosen["whole"]] == [
        16 * row["sampling/turns"] for row in chosen["whole"]
    ]
    assert any(row["grad_norm"] > 0 for row in chosen["whole"])
    assert repeatable(chosen["cut"]) == repeatable(chosen["whole"])
    for start in range(0, len(chosen["completions"]), 4):
        group = chosen["completions"][start : start + 4]
        assert len({json.dumps(row["prompt"]) for row in group}) == 1
        assert sum(row["advantage"] for row in group) == pytest.approx(0, abs=1e-3)
    assert 0 in chosen["advantages"] and any(chosen["advantages"])
    assert chosen["gradient"] > 0
    # with zeros and without, but for the rounding of Unsloth's chunks, as for the micro-batches below
    assert all(abs(scale - 1) < 5e-3 for scale in chosen["scale"])
    assert chosen["apart"] < 2e-2


@pytest.mark.long
def test_a_run_goes_back_to_its_best_under_unsloths_trainer(variants: dict[str, Any]) -> None:
    back = variants["back"]
    assert (back["record"]["step"], back["record"]["back_to"]) == (20, 10)
    assert [row["learning_rate"] for row in back["whole"]] == [4e-4] * 10 + [2e-4] * 12
    assert repeatable(back["cut"]) == repeatable(back["whole"])


@pytest.mark.long
def test_a_broken_reward_loses_no_step_under_unsloths_trainer(variants: dict[str, Any]) -> None:
    broken = variants["broken_reward"]
    assert "rewards.own: gave 1 reward for 8 completions (at step 3); see " in broken["said"]
    mended, whole = (repeatable(broken[name]) for name in ("mended", "whole"))
    assert [row["step"] for row in mended] == [1, 2, 3, 4]
    assert mended == whole


@pytest.mark.long
def test_a_step_that_is_broken_off_is_done_again_exactly_under_unsloths_trainer(variants: dict[str, Any]) -> None:
    broken = variants["broken_reward"]
    assert broken["stopped_at"] == 2
    stopped, whole = (repeatable(broken[name]) for name in ("stopped", "whole"))
    assert stopped == whole
    assert "adapter" not in broken["warnings"]  # the saved adapter was loaded again and is the policy


@pytest.mark.long
def test_a_step_that_does_not_fit_is_cut_and_learns_the_same_under_unsloths_trainer(variants: dict[str, Any]) -> None:
    memory = variants["memory"]
    cut, asked, whole = (repeatable(memory["metrics"][name]) for name in ("cut", "asked", "whole"))
    assert memory["micro_batch"] == 4
    assert cut == asked  # the rehearsals, one of which went well, left no trace
    assert memory["rehearsed"] == [1, 16 * (memory["longest"] + 48)]  # of the longest prompt and a full completion each
    assert whole[0]["reward"] == asked[0]["reward"]
    # gradients of 4 at a time and of all 16, but for the rounding of Unsloth's chunks
    assert all(abs(scale - 1) < 1e-3 for scale in memory["scale"])
    assert memory["apart"] < 1e-2


@pytest.mark.long
def test_an_answer_ends_as_the_templates_turns_do_under_unsloths_trainer(variants: dict[str, Any]) -> None:
    ends = variants["another_end"]
    assert "<|eot_id|>, as the turns of the chat template do; the tokenizer named <|end_of_text|>" in ends["said"]
    assert repeatable(ends["wrong"]) == repeatable(ends["right"])
    assert ends["right"][0]["completions/clipped_ratio"] < 1


@pytest.mark.long
def test_a_run_stops_when_solved_under_unsloths_trainer(variants: dict[str, Any]) -> None:
    solved = variants["solved"]
    assert [row["step"] for row in solved["metrics"]] == [1, 2]
    for row in solved["metrics"]:
        sums = [
            sum(weight * value for weight, value in zip(solved["weights"], one["rewards"].values(), strict=True))
            for one in solved["completions"]
            if one["step"] == row["step"]
        ]
        assert (row["reward/max"], row["reward/min"]) == (pytest.approx(max(sums)), pytest.approx(min(sums)))
    assert solved["metrics"][0]["reward/max"] < 200 <= solved["metrics"][1]["reward/max"]
    assert solved["finished"]
    assert (solved["evaluation"]["solved"], solved["evaluation"]["step"]) == (True, 2)


def test_every_presets_arguments_are_taken_as_they_are_by_unsloths_config(patched: dict[str, Any]) -> None:
    assert patched["configurations"] == {name: [] for name in preset_names()}


def test_every_presets_loading_arguments_exist_in_unsloths_gpu_loader(patched: dict[str, Any]) -> None:
    assert patched["loader"] == {name: [] for name in preset_names()}


@pytest.mark.long
def test_every_presets_arguments_are_taken_by_stock_trl(tmp_path: Path) -> None:
    """In a process without unsloth, whose CPU backend changes a config's optimiser."""
    code = f"""
import json
from grpo_colab import Recipe, Run
from grpo_colab.utils.device import current_device
from grpo_colab.plan import plan_batch
from grpo_colab.recipe.recipe import preset_names
from grpo_colab.training.trainer import grpo_arguments
import trl
run = Run.create(Recipe.load(), {str(tmp_path / "run")!r})
for name in preset_names():
    recipe = Recipe.load(name)
    arguments = grpo_arguments(recipe, run.checkpoints, plan_batch(recipe, 1), current_device())
    config = trl.GRPOConfig(**arguments)
    assert config.generation_batch_size == recipe.completions_per_step, name
    for key in ("learning_rate", "optim", "beta", "loss_type", "num_generations", "max_completion_length", "max_steps"):
        if key in arguments:
            assert getattr(config, key) == arguments[key], (name, key)
print("all taken")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip().endswith("all taken"), done.stderr[-3000:]


Two = Callable[..., str]


@pytest.fixture
def by_torchrun(tmp_path: Path) -> Two:
    """Two processes as a person starts them; what they print."""

    def two(*arguments: str) -> str:
        torchrun = Path(sys.executable).with_name("torchrun")
        done = subprocess.run(
            [str(torchrun), "--nproc_per_node", "2", "-m", "grpo_colab", "train", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    return two


@pytest.fixture
def by_forks(tmp_path: Path, warm: Warm) -> Two:
    """Two processes as torchrun starts them, which have imported unsloth already."""

    def two(*arguments: str) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks = [
            warm.start(
                *("-m", "grpo_colab", "train", *arguments),
                cwd=tmp_path,
                env={**os.environ, **world, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            )
            for rank in range(2)
        ]
        said = [rank.communicate(1800) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [0, 0], said
        return "".join(str(out) for out, _ in said)

    return two


@pytest.mark.parametrize("started", ["by_forks", pytest.param("by_torchrun", marks=pytest.mark.long)])
def test_two_processes_make_one_run(started: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings = ["--budget.max-steps", "2", "--budget.prompts-per-step", "2", "--evaluation.n", "9", "--out", "run"]
    settings += ["--task.limit", "64"]
    two: Two = request.getfixturevalue(started)
    out = two(*settings)
    run = Run(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert [row["step"] for row in run.metrics()] == [1, 2]  # written once, by the main process
    rows = run.completions()
    assert len(rows) == 2 * 2 * 8  # those of both processes
    groups: dict[tuple[int, int], set[str]] = {}
    for row in rows:
        groups.setdefault((row["step"], row["group"]), set()).add(json.dumps(row["prompt"]))
    assert all(len(prompts) == 1 for prompts in groups.values())
    assert run.evaluation is not None
    assert run.evaluation["n"] == 9  # an odd number, shared out and gathered
    assert run.recipe.budget.micro_batch == 8
    assert out.count("held-out problems, greedy") == 1
    assert json.loads((run.path / "environment.json").read_text())["processes"] == 2

    # as if both had been killed in the second step
    uncut = run.metrics(), run.completions(), run.evaluation
    shutil.rmtree(run.checkpoints / "checkpoint-2")
    (run.path / "evaluation.json").unlink()
    assert {path.name for path in (run.checkpoints / "checkpoint-1").glob("rng_state_*")} == {
        "rng_state_0.pth",
        "rng_state_1.pth",
    }
    two("--resume", "run")
    assert repeatable(run.metrics()) == repeatable(uncut[0])
    assert (run.completions(), run.evaluation) == uncut[1:]


@pytest.mark.long
def test_two_processes_choose_and_learn_from_the_same_groups(by_torchrun: Two, tmp_path: Path) -> None:
    settings = ["--task.limit", "64", "--budget.max-steps", "4", "--budget.prompts-per-step", "2"]
    settings += ["--grpo.save-steps", "1", "--grpo.save-total-limit", "9", "--evaluation.n", "8", "--out", "run"]
    settings += ["--sampling.strategy", "adaptive", "--sampling.refill", "2", "--sampling.generate-more", "16"]
    by_torchrun(*settings, "--sampling.skip-zero-advantage", "true", "--evaluation.every", "2")
    run = Run(tmp_path / "run")
    assert [row["sampling/completions"] for row in run.metrics()] == [
        2 * 16 * row["sampling/turns"] for row in run.metrics()
    ]
    assert ["probe/accuracy" in row for row in run.metrics()] == [False, True, False, True]
    rows = run.completions()
    assert len(rows) == 4 * 2 * 8
    for start in range(0, len(rows), 8):
        group = rows[start : start + 8]
        assert len({json.dumps(row["prompt"]) for row in group}) == 1
        paid = correctness_reward([row["completion"] for row in group], [row["answer"] for row in group])
        assert [row["rewards"]["correctness"] for row in group] == paid
        assert sum(row["advantage"] for row in group) == pytest.approx(0, abs=1e-3)

    uncut = run.metrics(), run.completions(), run.evaluation
    for step in (3, 4):
        shutil.rmtree(run.checkpoints / f"checkpoint-{step}")
    (run.path / "evaluation.json").unlink()
    by_torchrun("--resume", "run")
    assert repeatable(run.metrics()) == repeatable(uncut[0])
    assert (run.completions(), run.evaluation) == uncut[1:]
