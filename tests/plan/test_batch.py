"""A step is always prompts x completions, however memory and processes cut it."""

from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest
from refusals import refused

from grpo_colab import Recipe
from grpo_colab.plan import answers_at_once, plan_batch
from grpo_colab.plan.batch import backward_bytes
from grpo_colab.plan.disk import adapter_bytes
from grpo_colab.utils.device import current_device

LLAMA_8B = SimpleNamespace(
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    vocab_size=128256,
    num_attention_heads=32,
    num_key_value_heads=8,
    get_text_config=lambda: LLAMA_8B,
)
GIB = 2**30


@pytest.mark.parametrize("processes", [1, 2, 4])
@pytest.mark.parametrize("memory_gib", [0.1, 2, 8, 30, 500])
def test_a_step_is_whole_on_every_machine(processes: int, memory_gib: float) -> None:
    recipe = Recipe.load("gsm8k-llama31-8b", budget={"prompts_per_step": 3})
    shape = plan_batch(recipe, processes, LLAMA_8B, int(memory_gib * GIB))
    assert shape.completions == recipe.completions_per_step == 24
    assert shape.micro_batch * shape.accumulation * processes == 24
    assert str(shape).startswith("3 prompts x 8 completions = 24 per step")


def test_more_memory_never_means_a_smaller_micro_batch() -> None:
    recipe = Recipe.load("gsm8k-llama31-8b")
    sizes = [plan_batch(recipe, 1, LLAMA_8B, gib * GIB).micro_batch for gib in (1, 4, 8, 16, 32, 64, 128)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 1
    assert sizes[-1] == 8


def test_the_estimate_covers_what_a_backward_pass_must_keep() -> None:
    """Lower bounds that need no guess: a bfloat16 hidden state a layer, and float32 logits, for every token."""
    tokens = 1024
    hidden = tokens * 4096 * 32 * 2
    logits = tokens * 128256 * 4
    assert backward_bytes(LLAMA_8B, tokens) > hidden + logits


def test_an_evaluation_batch_leaves_room_on_a_small_card() -> None:
    """Llama-3.1-8B's KV cache is 128 KiB per token, so 1,024 tokens take 128 MiB an answer."""
    recipe = Recipe.load("gsm8k-llama31-8b")
    assert answers_at_once(recipe, LLAMA_8B, 9 * GIB) * 128 * 2**20 < 4.5 * GIB
    assert answers_at_once(recipe, LLAMA_8B, 0) == 1
    assert answers_at_once(Recipe.load(evaluation={"batch_size": 7}), LLAMA_8B, 0) == 7


def test_a_micro_batch_of_ones_own() -> None:
    assert plan_batch(Recipe.load(budget={"micro_batch": 4}), 1).micro_batch == 4
    with refused("budget.micro_batch", 5, remedy="write one of 1, 2, 4, 8, 16"):
        plan_batch(Recipe.load(budget={"micro_batch": 5}), 1)


def test_completions_that_do_not_divide_among_the_processes() -> None:
    with refused("budget.prompts_per_step", 1, problem="8 completions", remedy="a multiple of 3"):
        plan_batch(Recipe.load(budget={"prompts_per_step": 1}), 3)


def test_adapter_size_covers_the_real_shapes() -> None:
    """r x (inputs + outputs) over the seven modules of each of three layers: 128 wide, 64 for keys, 352 inside."""
    recipe = Recipe.load(lora={"r": 32})
    inputs_and_outputs = 2 * (128 + 128) + 2 * (128 + 64) + 3 * (128 + 352)
    exact = 3 * 32 * inputs_and_outputs * 4 * 13  # an adapter, and four times one with its two moments, in float32
    assert exact <= adapter_bytes(recipe) <= 1.2 * exact
    assert adapter_bytes(Recipe.load(lora={"r": 64})) == 2 * adapter_bytes(recipe)
    assert adapter_bytes(Recipe.load("gsm8k-llama31-8b")) > 13 * 168 * 2**20 * 2


def test_this_machine_says_what_torch_sees() -> None:
    import torch

    device = current_device()
    assert (device.kind == "cuda") == torch.cuda.is_available()
    assert device.free_bytes > 0
    if device.kind == "cpu":
        assert not device.vllm
    else:
        assert device.vllm == (importlib.util.find_spec("vllm") is not None)
