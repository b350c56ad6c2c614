"""What happens on a GPU, as far as it can be seen without one: Unsloth's own loader, float16, memory, a T4's limits."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import random_llama
from refusals import refused

from grpo_colab import Recipe, Run, train
from grpo_colab.recipe.recipe import Recipe as RecipeClass
from grpo_colab.utils.stack import PREFIX_GROUPER, leave_out_what_cannot_compile

pytestmark = pytest.mark.stack

HERE = Path(__file__).parents[1]


def small(**overrides: dict[str, Any]) -> RecipeClass:
    tables: dict[str, dict[str, Any]] = {
        "task": {"limit": 32},
        "budget": {"max_steps": 2, "prompts_per_step": 1, "rehearsal": False},
        "grpo": {"save_steps": 1, "save_total_limit": 5, "max_completion_length": 16},
        "evaluation": {"n": 2},
    }
    return Recipe.load(**{table: {**values, **overrides.get(table, {})} for table, values in tables.items()})


@pytest.fixture(scope="module")
def by_the_gpu_loader(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("loader")
    done = subprocess.run(
        [sys.executable, str(HERE / "unsloth_gpu_loader.py"), str(folder / "run")],
        cwd=folder,
        env={**{key: value for key, value in os.environ.items() if key != "CI"}, "TORCHDYNAMO_DISABLE": "1"},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_unsloths_gpu_loader_trains_saves_proves_and_resumes(by_the_gpu_loader: dict[str, Any]) -> None:
    found = by_the_gpu_loader
    assert found["trainer"] == "UnslothGRPOTrainer"
    assert found["loader"] == "unsloth.models.loader"
    assert found["steps"] == [1, 2, 3]
    assert found["moved"] > 0
    assert found["same_metrics"] and found["same_adapter"]
    assert [row for row in found["warnings"] if row["kind"] == "adapter"] == []


def test_an_evaluation_decodes_as_the_training_does(by_the_gpu_loader: dict[str, Any]) -> None:
    """Unsloth replays a trainer's decode steps from CUDA graphs, and leaves a plain generate() without them."""
    found = by_the_gpu_loader["decoded"]
    # before and after a batch: two prompts; two, out of memory, then one by one; UNSLOTH_DECODE_CUDA_GRAPHS=0
    assert found["kept"] == [[False, True], [False, True], [False, True], [True, True], [False, False]]
    assert found["training"] and not found["is_left"]
    assert found["answers"] == found["one_by_one"] == found["plain"] == found["by_trainer"]
    assert all(found["answers"])


# What the two configurations still differ in: memory, logs, what no run of ours asks of TRL, models with experts.
HARMLESS = {
    "eval_accumulation_steps",
    "generation_kwargs",
    "gradient_checkpointing_kwargs",
    "include_num_input_tokens_seen",
    "per_device_eval_batch_size",
    "router_aux_loss_coef",
    "torch_empty_cache_steps",
}


def test_a_recipe_learns_by_the_same_settings_on_a_gpu(by_the_gpu_loader: dict[str, Any]) -> None:
    """Unsloth's configuration has defaults of its own, for whatever a recipe leaves out."""
    assert set(by_the_gpu_loader["differ"]) <= HARMLESS, by_the_gpu_loader["differ"]


def test_a_run_that_began_in_float16_goes_on_where_nothing_is_scaled(tmp_path: Path) -> None:
    """As from a T4 to an L4: the checkpoint has the state of a loss scaler, and bfloat16 has no scaler."""
    import torch

    run = train(small(), out=tmp_path / "run")
    shutil.rmtree(run.checkpoints / "checkpoint-2")
    (run.path / "evaluation.json").unlink()
    state = {"scale": 65536.0, "growth_factor": 2.0, "backoff_factor": 0.5, "growth_interval": 2000}
    torch.save({**state, "_growth_tracker": 1}, run.checkpoints / "checkpoint-1" / "scaler.pt")
    assert train(resume=run.path).finished


def even_reward(completions: Any, completion_ids: Any, **kwargs: Any) -> list[float]:
    return [sum(token % 2 == 0 for token in ids) / max(1, len(ids)) for ids in completion_ids]


def test_an_adapter_on_4_bits_is_not_rounded_and_goes_on_as_it_was(tmp_path: Path) -> None:
    """TRL would train it in bfloat16, where most of a step's change is lost; Unsloth's trainer for a GPU does not."""
    import torch
    from safetensors.torch import load_file

    (tmp_path / "model").mkdir()
    random_llama.write_model(tmp_path / "model", random_llama.SMALL, "cpu")
    recipe = Recipe.load(
        task={"limit": 32},
        model={"model_name": str(tmp_path / "model"), "load_in_4bit": True},
        rewards=[even_reward],
        budget={"max_steps": 3, "prompts_per_step": 1},
        grpo={"max_completion_length": 8, "save_steps": 1, "save_total_limit": 5, "mask_truncated_completions": False},
        evaluation={"n": 2},
    )
    run = train(recipe, out=tmp_path / "run")
    cut = Run(shutil.copytree(run.path, tmp_path / "cut"))
    shutil.rmtree(cut.checkpoints / "checkpoint-3")
    (cut.path / "evaluation.json").unlink()
    train(resume=cut.path, rewards=[even_reward])
    whole, resumed = (load_file(one.adapter / "adapter_model.safetensors") for one in (run, cut))
    assert {weight.dtype for weight in whole.values()} == {torch.float32}
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert any(bool(weight.any()) for name, weight in whole.items() if "lora_B" in name)


def test_hindsights_state_without_a_scaler_goes_on_with_one() -> None:
    """As from an L4 to a T4: the state of a scaler that is off is empty."""
    import torch

    from grpo_colab.policy.loading import load_policy
    from grpo_colab.training.hindsight_updates import Updates
    from grpo_colab.utils.device import current_device

    recipe = Recipe.load("drawing-tiny")
    assert recipe.hindsight is not None
    updates = Updates(load_policy(recipe, current_device()), recipe.hindsight)
    state = updates.state()
    assert state["scaler"] == {}
    updates.scaler = torch.amp.GradScaler("cpu", enabled=True)
    updates.load(state)
    assert updates.scaler.is_enabled()


def test_what_is_used_no_more_is_freed_before_the_evaluations_batch_is_sized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from grpo_colab.training import preparation
    from grpo_colab.utils.device import Device, current_device

    is_freed: list[bool] = []

    class Left:
        """What a dry run leaves: only the garbage collector frees it."""

        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            is_freed.append(True)

    when_asked: list[bool] = []

    class Watched(Device):
        @property
        def free_bytes(self) -> int:
            when_asked.append(bool(is_freed))
            return super().free_bytes

    monkeypatch.setattr(preparation, "current_device", lambda: Watched(**vars(current_device())))
    gc.disable()
    try:
        Left()
        train(small(), out=tmp_path / "run", dry_run=True)
    finally:
        gc.enable()
    assert when_asked[-1]


ALIVE = """
import gc
from grpo_colab import Recipe, train

def alive():
    gc.collect()
    import peft
    return sum(isinstance(thing, peft.PeftModel) for thing in gc.get_objects())
"""
FAILS = """
def own_reward(completions, trainer_state=None, **kwargs):
    if trainer_state is not None and trainer_state.global_step == 1:
        raise ValueError("mend me")
    return [float(len(c[0]["content"]) % 2) for c in completions]

budget = {"max_steps": 3, "prompts_per_step": 1, "rehearsal": False}
train(Recipe.load(task={"limit": 32}, budget=budget, evaluation={"n": 4}), rewards=[own_reward], resume=False)
"""


def test_after_an_error_in_a_cell_no_model_is_left(kernel: Any, tmp_path: Path) -> None:
    """The notebook keeps the error with its frames; "correct it and run again" must not load a second model."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    cells = [ALIVE, FAILS, "print('alive:', alive())", "1 / 0", "print('alive:', alive())"]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, km=kernel, timeout=600, allow_errors=True, resources=resources).execute()
    (error,) = [output for output in book.cells[1].outputs if output["output_type"] == "error"]
    assert "mend me" in error["evalue"]
    for cell in (book.cells[2], book.cells[4]):
        assert "".join(output.get("text", "") for output in cell.outputs).strip() == "alive: 0"


@pytest.mark.parametrize(
    ("told", "before", "after"),
    [
        ("7.5", None, "0"),
        ("8.9\\n7.5", None, "0"),
        ("8.0", None, None),
        ("8.9", None, None),
        ("7.5", "1", "1"),
        ("no such GPU", None, None),
    ],
)
def test_what_a_t4_cannot_compile_is_left_out(
    told: str, before: str | None, after: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\nprintf '{told}\\n'\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv(PREFIX_GROUPER, before or "")  # what is set from here on is undone at the end
    if before is None:
        monkeypatch.delenv(PREFIX_GROUPER)
    leave_out_what_cannot_compile()
    assert os.environ.get(PREFIX_GROUPER) == after


def test_days_on_a_cpu_are_refused_unless_they_are_limited(tmp_path: Path, cli: Callable[..., Any]) -> None:
    from grpo_colab.training.preparation import fit_to_device
    from grpo_colab.utils.device import current_device

    if current_device().kind != "cpu":
        pytest.skip("there is a GPU, which is quick enough")
    recipe = Recipe.load("gsm8k-qwen25-0.5b", budget={"max_steps": 100_000, "uncapped": True})
    with refused("model.model_name", problem="would take about", remedy="budget.max_hours", snapshot=False):
        fit_to_device(recipe, current_device(), None, resumed=False)
    limited = Recipe.load("gsm8k-qwen25-0.5b", budget={"max_steps": 100_000, "uncapped": True, "max_hours": 1.0})
    fit_to_device(limited, current_device(), None, resumed=False)
