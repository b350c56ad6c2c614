"""What comes before the first step: the download by its bytes, none of what is here, and compiling on a GPU alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from grpo_colab import Recipe
from grpo_colab.plan import Plan, plan
from grpo_colab.plan.devices import GPUS
from grpo_colab.plan.model_shape import shape_of
from grpo_colab.plan.start import COMPILE_S, HUB_BYTES_S, VLLM_START_S, download_bytes
from grpo_colab.recipe.recipe import TINY_MODEL
from grpo_colab.utils.device import current_device

pytestmark = pytest.mark.stack
LLAMA = "gsm8k-llama31-8b"


# The sizes of model.safetensors on the models' pages.
@pytest.mark.parametrize(
    ("model", "gpu", "size"),
    [
        ({}, "T4", 5.96e9),  # unsloth/meta-Llama-3.1-8B-Instruct-unsloth-bnb-4bit
        ({"load_in_4bit": False}, "A100-40", 16.06e9),  # the original, in four files
        ({}, "cpu", 16.06e9),  # which is in float32 in memory
        ({"model_name": "Qwen/Qwen2.5-0.5B-Instruct", "load_in_4bit": False}, "T4", 0.988e9),
    ],
    ids=["4-bit", "16-bit", "cpu", "small"],
)
def test_the_download_is_that_of_the_files(model: dict[str, object], gpu: str, size: float) -> None:
    start = plan(Recipe.load(LLAMA, model=model), gpu).start
    assert start.download_bytes == pytest.approx(size, rel=0.01)
    assert start.download_s == start.download_bytes / HUB_BYTES_S
    assert 40e6 <= HUB_BYTES_S <= 115e6  # what one connection is held to, and what a T4 of Colab was seen at


def test_a_model_without_a_4_bit_copy_is_downloaded_whole() -> None:
    recipe = Recipe.load(LLAMA, model={"model_name": "someone/llama-tuned"})
    assert download_bytes(shape_of(Recipe.load(LLAMA)), recipe, GPUS["T4"]) == 2 * 8_030_261_248


def test_the_model_below_an_adapter_is_downloaded(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "Qwen/Qwen2.5-0.5B-Instruct"}')
    adapter = plan(Recipe.load(LLAMA, model={"model_name": str(tmp_path)}), "T4").start
    below = plan(Recipe.load(LLAMA, model={"model_name": "Qwen/Qwen2.5-0.5B-Instruct"}), "T4").start
    assert 0 < adapter.download_bytes == below.download_bytes
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(TINY_MODEL)}))
    assert plan(Recipe.load(LLAMA, model={"model_name": str(tmp_path)}), "T4").start.download_bytes == 0


@pytest.mark.parametrize("name", ["tiny", str(TINY_MODEL)])
def test_a_folder_is_not_downloaded(name: str) -> None:
    start = plan(Recipe.load("gsm8k-tiny", model={"model_name": name}), "T4").start
    assert (start.download_bytes, start.download_s) == (0, 0)


def test_what_the_cache_has_is_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only its weights count, since a plan itself downloads config.json, and only on this machine."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    small = Recipe.load("gsm8k-qwen25-0.5b", model={"load_in_4bit": False})
    files = tmp_path / f"models--{small.model_path.replace('/', '--')}" / "snapshots" / "0a1b"
    files.mkdir(parents=True)
    (files / "config.json").write_text("{}")
    assert plan(small).start.download_bytes == pytest.approx(0.988e9, rel=0.01)
    (files / "model.safetensors").write_bytes(b"weights")
    assert plan(small).start.download_bytes == 0
    assert plan(small, "T4").start.download_bytes > 0
    assert plan(Recipe.load("gsm8k-qwen25-1.5b")).start.download_bytes > 0


def test_the_hours_have_it_all() -> None:
    """Nothing is compiled for training on a CPU. vLLM captures its graphs once more."""
    recipe = Recipe.load(LLAMA)
    for fitted, compiling in (
        (plan(recipe, "T4"), COMPILE_S),
        (plan(recipe, "T4", vllm=True), COMPILE_S + VLLM_START_S),
        (plan(recipe, "cpu"), 0),
    ):
        start = fitted.start
        assert start.compile_s == compiling
        assert start.evaluation_s > 0
        assert start.pretraining_s == 0
        assert start.seconds == start.download_s + start.compile_s + start.evaluation_s
        steps = recipe.budget.max_steps * fitted.step_s
        assert 3600 * fitted.hours == pytest.approx(start.seconds + steps + start.evaluation_s)
        assert fitted.as_dict()["start"]["seconds"] == start.seconds


def lines(fitted: Plan) -> str:
    """What a plan says in a terminal, in one line."""
    return " ".join(fitted.text().split())


def test_a_pre_training_is_part_of_the_start() -> None:
    """SmolLM2's 256 golden completions of word problems took 137 s here, with loading and beside other work."""
    recipe = Recipe.load("drawing-qwen25-coder-0.5b")
    fitted, longer = plan(recipe, "T4"), plan(Recipe.load(recipe.name, pretraining={"steps": 12000}), "T4")
    assert longer.start.pretraining_s == 2 * fitted.start.pretraining_s > 3600
    start = fitted.start
    assert start.seconds == start.download_s + start.compile_s + start.pretraining_s + start.evaluation_s
    steps = recipe.budget.max_steps * fitted.step_s
    assert 3600 * fitted.hours == pytest.approx(start.seconds + steps + start.evaluation_s)
    assert "h to pre-train, once, " in lines(fitted)
    without = plan(Recipe.load(recipe.name, pretraining={"steps": 0}), "T4")
    assert without.start.pretraining_s == 0 and "pre-train" not in lines(without)


def test_the_first_step_is_told() -> None:
    said = lines(plan(Recipe.load(LLAMA), "T4"))
    assert "h for the start, 250 steps and the evaluation before and after" in said
    assert "min until the first step: 2.0 min to download 6.0 GB, at 50 MB/s, 60 s to compile, " in said
    assert "until the first step" in plan(Recipe.load(LLAMA), "T4")._repr_html_()
    for gpu in ("T4", "cpu"):  # a folder, and with nothing to compile not a word
        tiny = lines(plan(Recipe.load(), gpu))
        assert "to download" not in tiny
        assert ("until the first step" in tiny) == ("to compile" in tiny) == (gpu == "T4")


def test_this_machine_is_asked_for_its_cache() -> None:
    fitted = plan(Recipe.load())
    assert fitted.start.compile_s == (COMPILE_S if current_device().kind == "cuda" else 0)
    assert fitted.start.download_bytes == 0


@pytest.mark.parametrize("vllm", [False, True])
def test_the_hours_have_the_probes(vllm: bool) -> None:
    """A probe of as many problems as the evaluation takes as long as one; the last step's is one of them."""
    settings = {"n": 64, "probe": 64}
    without = plan(Recipe.load(LLAMA, evaluation=settings), "T4", vllm=vllm)
    with_them = plan(Recipe.load(LLAMA, evaluation={**settings, "every": 100}), "T4", vllm=vllm)
    assert 3600 * (with_them.hours - without.hours) == pytest.approx(2 * without.start.evaluation_s)
    assert "with its probes" in lines(with_them) and "probes" not in lines(without)
    fewer = plan(Recipe.load(LLAMA, evaluation={**settings, "every": 100, "probe": 8}), "T4", vllm=vllm)
    assert without.hours < fewer.hours <= with_them.hours


@pytest.mark.parametrize("sampling", [{"refill": 2}, {"hints": "solution"}])
def test_a_step_has_what_is_sampled_again(sampling: dict[str, Any]) -> None:
    once = plan(Recipe.load(LLAMA), "T4").step_s
    both = plan(Recipe.load(LLAMA, sampling={"refill": 2, "hints": "solution"}), "T4").step_s
    assert once < plan(Recipe.load(LLAMA, sampling=sampling), "T4").step_s < both < 2.5 * once
