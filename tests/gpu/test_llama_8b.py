"""On a CUDA device: the shape of Llama-3.1-8B in 4 bits with random weights, through the same `train` as all else.

Random weights cost what real ones cost. They never end a completion, so that every one runs to its full length: the
worst step that a real run can meet. `tests/gpu/run.sh` runs this in one call, which says what to carry. All is one
process, and each phase is printed and kept in results.json as soon as it ends. What is expected of an H200, where
nobody has run it yet, in seconds of 540, by the plan's 20 s per step for an H100, which are good to a factor of two:

    5          wheels installed (3 in a rehearsal)
    50         unsloth imported
    15         5.7 GB of random weights made and written
    60 to 100  loaded, and a dry run, which compiles
    90 to 160  loaded, evaluated twice on 2 x 16 answers of 128 tokens, three steps of 6 x 768 tokens
    40 to 70   loaded, resumed after the second step, one more step and the evaluation
    75 to 140  loaded, three steps of the bare notebook's script

The last one takes fewer steps, or is skipped, where the time of the first run says that it would not end in time.
GRPO_GPU_REHEARSAL=1 does all of it on a CPU with a small model.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import random_llama

from grpo_colab import Recipe, Run, train
from grpo_colab.plan import Plan, plan
from grpo_colab.plan.memory import VLLM_OUTSIDE_BYTES

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from notebook_script import train_bare  # noqa: E402

sys.path.remove(str(HERE))

torch = pytest.importorskip("torch")
REHEARSAL = os.environ.get("GRPO_GPU_REHEARSAL") == "1"
ON_GPU = torch.cuda.is_available() and not REHEARSAL
pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not (ON_GPU or REHEARSAL), reason="needs a CUDA device"),
]

GIB = 2**30
STEPS = 3
TOKENS = 768 if ON_GPU else 24  # of a completion
SEQUENCES = 6
EVALUATED = 16


def even_reward(completions: Any, completion_ids: Any, **kwargs: Any) -> list[float]:
    """The share of tokens with an even number: something to learn from, also in what random weights say."""
    return [sum(token % 2 == 0 for token in ids) / max(1, len(ids)) for ids in completion_ids]


class Record:
    """What each phase took and found: printed at once, and kept, so that a call that is cut off keeps what it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        device = torch.cuda.get_device_name() if ON_GPU else "CPU, a rehearsal with a small model"
        self.found: dict[str, Any] = {"device": device, "torch": torch.__version__}

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[dict[str, Any]]:
        """Time what is done in it. What is put into the dict that it gives is kept beside the seconds."""
        facts: dict[str, Any] = {}
        began = time.monotonic()
        try:
            yield facts
        finally:
            facts["seconds"] = round(time.monotonic() - began, 1)
            self.found[name] = facts
            self.path.write_text(json.dumps(self.found, indent=2))
            print(f"\n[{self.found['device']}] {name}: {json.dumps(facts)}", flush=True)


def seconds_left() -> float:
    return float(os.environ.get("GRPO_GPU_DEADLINE", "inf")) - time.time()


def free() -> None:
    gc.collect()
    if ON_GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peaks() -> dict[str, float]:
    """The peaks of torch's allocator since `free`, in GiB."""
    if not ON_GPU:
        return {}
    peak = {"allocated_gib": torch.cuda.max_memory_allocated(), "reserved_gib": torch.cuda.max_memory_reserved()}
    return {name: round(size / GIB, 2) for name, size in peak.items()}


def in_allocator_gib(planned: Plan, vllm: bool = False) -> float:
    """The plan's peak without what torch's allocator never sees: CUDA's context, and vLLM's libraries."""
    return (planned.bytes - planned.parts["runtime"] - (VLLM_OUTSIDE_BYTES if vllm else 0)) / GIB


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return Record(Path(os.environ.get("OUT") or tmp_path_factory.mktemp("record")) / "results.json")


@pytest.fixture(scope="module")
def folder(record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder."""
    made = tmp_path_factory.mktemp("llama-8b")
    if ON_GPU and shutil.disk_usage(made).free < 10 * GIB:
        pytest.skip("needs 10 GiB of disk for random weights in the shape of an 8B model")
    with record.phase("random weights") as facts:
        shape = random_llama.LLAMA_8B if ON_GPU else random_llama.SMALL
        random_llama.write_model(made, shape, "cuda" if ON_GPU else "cpu")
        facts["gib"] = round(sum(path.stat().st_size for path in made.iterdir()) / GIB, 2)
    free()
    return made


def recipe_for(folder: Path, **model: Any) -> Recipe:
    return Recipe.load(
        "gsm8k-llama31-8b",
        task={"name": "word_problems", "limit": 64, "max_prompt_tokens": 256, "system_prompt": "Reason. " * 33},
        model={"model_name": str(folder), "fast_inference": False, **model},
        rewards=[even_reward],
        grpo={
            "num_generations": SEQUENCES,
            "mask_truncated_completions": False,
            "max_completion_length": TOKENS,
            "save_steps": 1,
            "save_total_limit": STEPS,
        },
        budget={"max_steps": STEPS, "prompts_per_step": 1, "rehearsal": False, "min_completion_length": TOKENS},
        evaluation={"n": EVALUATED, "max_completion_tokens": min(128, TOKENS)},
    )


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Recipe:
    return recipe_for(folder)


@pytest.fixture(scope="module")
def planned(recipe: Recipe, record: Record) -> Plan:
    found = plan(recipe)
    print(found.text(width=120))
    return found


def test_the_model_is_loaded_in_4_bits_and_its_longest_step_fits(recipe: Recipe, planned: Plan, record: Record) -> None:
    from bitsandbytes.nn import Linear4bit

    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device

    assert planned.fits == "yes"
    with record.phase("load") as facts:
        policy = load_policy(recipe, current_device())
        facts.update(peaks())
    in_4_bits = sum(isinstance(module, Linear4bit) for module in policy.model.modules())
    assert in_4_bits == 7 * policy.model.config.num_hidden_layers - 3  # Unsloth's copy keeps one layer's MLP in 16 bits
    with record.phase("dry run") as facts:
        longest = recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"rehearsal": True})})
        train(longest, loaded=policy, dry_run=True)
        facts.update(peaks())
    del policy
    free()


@pytest.fixture(scope="module")
def run(recipe: Recipe, planned: Plan, record: Record, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of three steps, with an evaluation before and after; loaded anew, as a user's is."""
    free()
    before = torch.cuda.memory_reserved() / GIB if ON_GPU else 0.0
    with record.phase("three steps, evaluated before and after") as facts:
        done = train(recipe, out=tmp_path_factory.mktemp("runs") / "run")
        facts.update(peaks())
        facts["held_before_gib"], facts["planned_gib"] = round(before, 2), round(in_allocator_gib(planned), 2)
        for name in ("step_time", "time/generation_s", "time/update_s"):
            facts[name] = [round(row[name], 2) for row in done.metrics()]
        facts["planned_step_s"] = round(planned.step_s, 2)
        facts["micro_batch"] = done.recipe.budget.micro_batch
    return done


def test_three_steps_at_full_length_are_learned_from(run: Run, planned: Plan) -> None:
    metrics = run.metrics()
    assert [row["step"] for row in metrics] == [1, 2, 3]
    assert all(row["completions/max_length"] == TOKENS for row in metrics)
    assert metrics[0]["num_tokens"] / SEQUENCES > 200 + TOKENS  # the questions themselves are some 60 tokens long
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in metrics)
    assert run.recipe.lora["r"] == 32
    assert run.recipe.budget.micro_batch == planned.batch_plan.micro_batch


def test_sixteen_problems_are_answered_before_and_after(run: Run) -> None:
    assert run.finished
    assert run.evaluation is not None
    assert run.evaluation["n"] == EVALUATED
    assert {"before", "after"} <= run.evaluation.keys()


def test_the_saved_adapter_is_proved(run: Run) -> None:
    """What `train` finds wrong when it loads the adapter again beside the one in memory is a warning of this kind."""
    assert [row for row in run.warnings(99) if row["kind"] == "adapter"] == []
    weights = adapter_of(run)
    assert any(bool(weight.any()) for name, weight in weights.items() if "lora_B" in name)
    assert all(bool(weight.isfinite().all()) for weight in weights.values())


def adapter_of(run: Run) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run.adapter / "adapter_model.safetensors")


@pytest.mark.skipif(not ON_GPU, reason="a CPU has no allocator to ask for its peak")
def test_the_peak_is_the_planned_one(run: Run, record: Record) -> None:
    facts = record.found["three steps, evaluated before and after"]
    assert facts["reserved_gib"] - facts["held_before_gib"] == pytest.approx(facts["planned_gib"], rel=0.15)


def test_a_run_cut_after_two_steps_goes_on_from_its_checkpoint(run: Run, record: Record, tmp_path: Path) -> None:
    cut = Run(shutil.copytree(run.path, tmp_path / "cut"))
    shutil.rmtree(cut.checkpoints / f"checkpoint-{STEPS}")
    shutil.rmtree(cut.adapter)
    (cut.path / "evaluation.json").unlink()
    free()
    with record.phase("resumed for the last step") as facts:
        resumed = train(resume=cut.path, rewards=[even_reward])
        facts.update(peaks())
        whole_adapter, adapter = adapter_of(run), adapter_of(resumed)
        learned = [name for name in adapter if "lora_B" in name]  # they begin at zero: all in them was learned
        facts["largest_difference"] = max(float((adapter[name] - whole_adapter[name]).abs().max()) for name in learned)
        facts["largest_weight"] = max(float(adapter[name].abs().max()) for name in learned)
    assert resumed.finished
    assert [row["step"] for row in resumed.metrics()] == [1, 2, 3]
    whole, again = run.metrics(), resumed.metrics()
    assert again[:2] == whole[:2]  # what was learned before the cut was not learned again
    assert again[2]["num_tokens"] == whole[2]["num_tokens"]  # the same problem, after the same ones
    assert {weight.dtype for weight in adapter.values()} == {weight.dtype for weight in whole_adapter.values()}
    # A GPU's sums need not come out the same twice, and other completions may follow. A CPU's do.
    assert facts["largest_difference"] <= (facts["largest_weight"] if ON_GPU else 0.0)


def test_the_bare_script_trains_the_same_beside_it(
    run: Run, recipe: Recipe, planned: Plan, record: Record, tmp_path: Path
) -> None:
    ours = [row["step_time"] for row in run.metrics()]
    load_s = record.found["load"]["seconds"] if "load" in record.found else 30.0
    steps = STEPS
    if seconds_left() < math.inf:
        steps = min(STEPS, int((seconds_left() - 10 - 1.5 * load_s) / (1.2 * max(ours))))
    if steps < 2:
        pytest.skip(f"{seconds_left():.0f} s are left, which is not enough for two steps")
    budget = recipe.budget.model_copy(update={"max_steps": steps})
    free()
    with record.phase(f"the bare notebook's script, {steps} steps") as facts:
        bare = train_bare(
            recipe.model_copy(update={"budget": budget}), planned.batch_plan, [even_reward], tmp_path / "bare"
        )
        facts.update(peaks())
        facts["step_time"] = [round(seconds, 2) for seconds in bare]
        facts["ours_by_bare"] = round(min(ours[1:]) / min(bare[1:]), 3)  # the first step of a process compiles
    assert len(bare) == steps


def test_three_steps_with_vllm(folder: Path, record: Record, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    recipe = recipe_for(folder, fast_inference=True)
    planned = plan(recipe)
    assert (planned.recipe.model["fast_inference"], planned.fits) == (True, "yes")
    free()
    before = torch.cuda.memory_reserved() / GIB
    with record.phase("three steps with vLLM") as facts:
        done = train(recipe, out=tmp_path / "run")
        expected = in_allocator_gib(planned, vllm=True)
        facts.update(peaks() | {"planned_gib": round(expected, 2), "planned_step_s": round(planned.step_s, 2)})
        facts["step_time"] = [round(row["step_time"], 2) for row in done.metrics()]
    assert [row["step"] for row in done.metrics()] == [1, 2, 3]
    assert all(row["completions/max_length"] == TOKENS for row in done.metrics())
    assert facts["reserved_gib"] - before == pytest.approx(expected, rel=0.15)
