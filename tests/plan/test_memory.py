"""The parts of a plan against arithmetic, against real tensors, and against a run that others measured."""

from __future__ import annotations

import bisect
from pathlib import Path

import pytest

from grpo_colab import Recipe
from grpo_colab.plan import plan
from grpo_colab.plan.devices import CPU, GPUS
from grpo_colab.plan.memory import (
    adapter_parameters,
    kv_bytes,
    logit_bytes,
    nf4_bytes,
    peaks,
    vllm_memory,
    weight_bytes,
)
from grpo_colab.plan.model_shape import shape_of, shipped

pytestmark = pytest.mark.stack
GIB = 2**30
LLAMA = "gsm8k-llama31-8b"


# as their makers publish them, on the models' pages
@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("unsloth/meta-Llama-3.1-8B-Instruct", 8_030_261_248),
        ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
        ("unsloth/Qwen2.5-7B-Instruct", 7_615_616_512),
        ("Qwen/Qwen2.5-Math-1.5B", 1_543_714_304),
        ("Qwen/Qwen2.5-Coder-0.5B-Instruct", 494_032_768),
    ],
)
def test_parameters_are_those_of_the_real_model(model: str, parameters: int) -> None:
    recipe = Recipe.load(LLAMA, model={"model_name": model, "load_in_4bit": False})
    assert shape_of(recipe).parameters == parameters
    assert weight_bytes(shape_of(recipe), recipe, GPUS["T4"]) == 2 * parameters
    assert weight_bytes(shape_of(recipe), recipe, CPU) == 4 * parameters  # Unsloth's CPU backend trains in float32


@pytest.mark.parametrize(
    "names",
    [
        "meta-llama/Llama-3.1-8B-Instruct meta-llama/Meta-Llama-3.1-8B-Instruct unsloth/meta-Llama-3.1-8B-Instruct "
        "unsloth/Llama-3.1-8B-Instruct unsloth/Meta-Llama-3.1-8B-Instruct-unsloth-bnb-4bit",
        "Qwen/Qwen2.5-1.5B-Instruct unsloth/Qwen2.5-1.5B-Instruct unsloth/Qwen2.5-1.5B-Instruct-bnb-4bit",
    ],
    ids=["llama", "qwen"],
)
def test_a_models_copies_have_its_configuration(names: str) -> None:
    assert len({shipped(name) for name in names.split()} - {None}) == 1


@pytest.mark.parametrize("name", ["mine/Qwen2.5-1.5B-Instruct", "Qwen/Qwen2.5-1.5B", "Qwen2.5-1.5B-Instruct", ""])
def test_another_model_has_none(name: str) -> None:
    assert shipped(name) is None


def test_adapter_of_the_seven_projections() -> None:
    """r x (inputs + outputs): 83,886,080 for r = 32 on Llama-3.1-8B, which Unsloth prints as trainable."""
    recipe = Recipe.load(LLAMA)
    shape = shape_of(recipe)
    assert adapter_parameters(shape, recipe) == 83_886_080
    parts = plan(recipe, "T4").peaks["backward"]
    assert (parts["adapter"], parts["gradients"]) == (4 * 83_886_080, 4 * 83_886_080)
    assert parts["optimiser"] == 2 * 83_886_080  # two moments of 8 bit
    attention = Recipe.load(LLAMA, lora={"target_modules": ["q_proj", "v_proj"], "r": 8}, grpo={"optim": "adamw_torch"})
    assert adapter_parameters(shape, attention) == 32 * 8 * ((4096 + 4096) + (4096 + 1024))
    parts = plan(attention, "T4").peaks["backward"]
    assert parts["optimiser"] == 8 * adapter_parameters(shape, attention)
    pattern = Recipe.load(LLAMA, lora={"target_modules": r".*\.(q|v)_proj", "r": 8})
    assert adapter_parameters(shape, pattern) == adapter_parameters(shape, attention)
    everything = Recipe.load(LLAMA, lora={"target_modules": "all-linear"})
    assert adapter_parameters(shape, everything) == 83_886_080


@pytest.mark.parametrize("key", ["modules_to_save", "target_modules"])
def test_whole_copies_that_learn_are_counted(key: str) -> None:
    """Both embeddings of Llama-3.1-8B are 128,256 x 4,096; Qwen2.5-1.5B has one of 151,936 x 1,536 for both ends."""
    seven = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    named = [*(seven if key == "target_modules" else []), "embed_tokens", "lm_head"]
    for preset, copied in ((LLAMA, 2 * 128_256 * 4096), ("gsm8k-qwen25-1.5b", 151_936 * 1536)):
        plain, whole = (
            plan(Recipe.load(preset, model={"fast_inference": False}, lora=lora), "L4") for lora in ({}, {key: named})
        )
        for part, size in {"adapter": 2, "gradients": 2, "optimiser": 2}.items():  # bfloat16, and AdamW of 8 bit
            assert whole.peaks["backward"][part] - plain.peaks["backward"][part] == size * copied, part
    one = Recipe.load(LLAMA, lora={key: named[:-1]}, model={"fast_inference": False})
    parts = plan(one, "T4").peaks["backward"]  # where Unsloth promotes float16 to float32
    assert parts["adapter"] == parts["gradients"] == 4 * (83_886_080 + 128_256 * 4096)


def test_the_stored_t4_run() -> None:
    """Unsloth's Llama-3.1-8B notebook: weights 5.6 GiB, KV cache 2.39 GiB, at least 8 sequences of 1,024 tokens in it.

    Its log has a share of 0.6 and 160 sequences at once, which that release chose.
    """
    recipe = Recipe.load(LLAMA, model={"gpu_memory_utilization": 0.6, "max_lora_rank": 32}, lora={"r": 32})
    shape = shape_of(recipe)
    assert weight_bytes(shape, recipe, GPUS["T4"]) / GIB == pytest.approx(5.6, rel=0.1)
    cache = vllm_memory(shape, recipe, GPUS["T4"], share=0.6, sequences=160).kv_cache
    assert cache / GIB == pytest.approx(2.39, rel=0.1)
    assert cache // (1024 * kv_bytes(shape, 2)) >= 8


def test_vllms_parts_are_its_share() -> None:
    """All that the engine holds is the share of the memory that it was given; CUDA's graphs come after."""
    recipe = Recipe.load(LLAMA)
    shape, t4 = shape_of(recipe), GPUS["T4"]
    for share in (0.5, 0.6, 0.9):
        vllm = vllm_memory(shape, recipe, t4, share)
        held = weight_bytes(shape, recipe, t4) + vllm.kv_cache + vllm.activations + vllm.overhead - int(0.59 * GIB)
        assert held == pytest.approx(share * t4.free, rel=1e-6)


def test_kv_cache_is_that_of_transformers() -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    recipe = Recipe.load()
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(recipe.model_path), dtype=torch.float32)
    with torch.no_grad():
        cache = model(torch.zeros(3, 70, dtype=torch.long), use_cache=True).past_key_values
    real = sum(t.nbytes for layer in cache.layers for t in (layer.keys, layer.values))
    assert real == 3 * 70 * kv_bytes(shape_of(recipe), 4)
    fitted = plan(recipe, "cpu")
    assert fitted.peaks["generation"]["kv_cache"] == real / (3 * 70) * 16 * (160 + 48)
    assert fitted.peaks["backward"].get("kv_cache", 0) == 0
    assert fitted.sequences == 16


@pytest.mark.parametrize("four_bit", [False, True], ids=["16-bit", "4-bit"])
def test_weights_are_those_that_unsloth_loads(four_bit: bool) -> None:
    """The tiny model, really loaded by Unsloth: its parameters' bytes, and those of NF4's scales."""
    import unsloth

    recipe = Recipe.load(model={"load_in_4bit": four_bit, "dtype": "float32"})
    import torch

    model, _ = unsloth.FastLanguageModel.from_pretrained(
        recipe.model_path, max_seq_length=64, load_in_4bit=four_bit, dtype=torch.float32
    )
    device = CPU if next(model.parameters()).device.type == "cpu" else GPUS["T4"]
    real, quantised = 0, 0
    for parameter in model.parameters():
        real += parameter.nbytes
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            quantised += 1
            tensors = (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)
            real += sum(tensor.nbytes for tensor in tensors)
    assert quantised == (21 if four_bit else 0)  # seven projections in three layers
    assert weight_bytes(shape_of(recipe), recipe, device) == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("setting", ["load_in_8bit", "load_in_fp8"])
def test_eight_bits_are_a_byte_a_number(setting: str) -> None:
    """Of Llama-3.1-8B 6,979,321,856 numbers are in linear layers; the rest stays in 16 bit."""
    recipe = Recipe.load(LLAMA, model={"load_in_4bit": False, setting: True})
    size = weight_bytes(shape_of(recipe), recipe, GPUS["T4"])
    assert size == pytest.approx(6_979_321_856 + 2 * (8_030_261_248 - 6_979_321_856), rel=1e-3)
    fitted = plan(Recipe.load(LLAMA, model={"load_in_4bit": False, setting: True, "fast_inference": False}), "T4")
    assert fitted.fits == "yes"
    refused = plan(Recipe.load(LLAMA, model={"load_in_4bit": False, setting: True, "fast_inference": False}), "T4", 9)
    assert any(f"load_in_4bit = true (and without model.{setting})" in text for text in refused.advice)


def test_nf4_takes_half_a_byte_and_its_scales() -> None:
    """4 bits, 8 for each 64 numbers, 32 for each 256 of those: 4.127 bits a number, in a matrix that is not tiny."""
    assert 8 * nf4_bytes(4096, 14336) / (4096 * 14336) == pytest.approx(4 + 8 / 64 + 32 / (64 * 256), rel=1e-3)


def test_logits_come_in_chunks_on_a_gpu() -> None:
    shape = shape_of(Recipe.load(LLAMA))
    one, eight, all_at_once = (logit_bytes(shape, GPUS["T4"], rows) for rows in (768, 8 * 768, 10**6))
    assert one == 512 * 128_256 * 8
    assert eight == 768 * 128_256 * 8
    assert all_at_once <= 2 * GIB
    assert logit_bytes(shape, CPU, 768) > 768 * 128_256 * 4


def training(tokens: int, completions: int = 1, share: float | None = None) -> dict[str, int]:
    """The parts of a backward pass over so many completions, of Llama-3.1-8B with QLoRA, r = 32 on all modules."""
    recipe = Recipe.load(
        LLAMA,
        lora={"r": 32},
        task={"max_prompt_tokens": tokens // 2},
        grpo={"num_generations": max(2, completions), "max_completion_length": tokens - tokens // 2},
        model={"fast_inference": False, "max_seq_length": tokens},
    )
    return peaks(shape_of(recipe), recipe, GPUS["A100-80"], share, completions)["backward"]


def test_what_unsloth_publishes_is_in_gib() -> None:
    """As what it prints of a card ("Max memory: 14.741 GB"), and by its own numbers.

    "9.8 GB" are one completion's logits in float32, "2.5 GB" its keys and values: 10.5 and 2.7 in units of 10**9. The
    table of contexts is a straight line, 4,719 tokens per unit and 7.37 units without any; the "42 GB" are on it.
    """
    rows = list(CONTEXTS.items())
    slope = (rows[-1][1] - rows[0][1]) / (rows[-1][0] - rows[0][0])
    for gib, tokens in rows:
        assert tokens == pytest.approx(slope * (gib - 7.37), abs=5)
    assert 7.37 + 8 * 20 * 1024 / slope == pytest.approx(42, abs=0.2)
    logits, keys_and_values = 20 * 1024 * 128_256 * 4, 20 * 1024 * 2 * 32 * 8 * 128 * 2
    assert logits / GIB == pytest.approx(9.8, abs=0.05)
    assert keys_and_values / GIB == pytest.approx(2.5, abs=0.05)


# Unsloth's README: card in GiB -> the longest context to fine-tune Llama-3.1-8B with, QLoRA, one sequence. Its loss was
# Apple's cut cross entropy, which has no logits in memory.
CONTEXTS = {8: 2_972, 12: 21_848, 16: 40_724, 24: 78_475, 40: 153_977, 48: 191_728, 80: 342_733}


@pytest.mark.parametrize(("gib", "tokens"), CONTEXTS.items())
def test_the_context_lengths_that_unsloth_publishes(gib: int, tokens: int) -> None:
    """Within 10 % in memory, and in tokens but for 8 GiB: they are what weights and adapter leave there, 0.6 of 8."""

    def needed(length: int) -> int:
        """The bytes that a context of this length takes, without logits."""
        return sum(size for part, size in training(length).items() if part != "logits")

    assert needed(tokens) / GIB == pytest.approx(gib, rel=0.1)
    if gib > 8:
        longest = bisect.bisect_right(range(2 * tokens), gib * GIB, key=needed) - 1
        assert longest == pytest.approx(tokens, rel=0.1)


@pytest.mark.parametrize(
    ("part", "gib"),
    [("training", 42.0), ("logits", 9.8), ("weights for generation", 0.0), ("KV cache", 2.5), ("in all", 54.3)],
)
def test_the_memory_that_unsloth_publishes_for_grpo(part: str, gib: float) -> None:
    """Its blog of February 2025: Llama-3.1-8B, 8 completions of 20K tokens on an A100-80.

    The logits are those of that release: one whole completion in float32. What is installed takes a chunk of them, 2
    GiB at most, so that a plan says less than 54.3.
    """
    tokens, shape = 20 * 1024, shape_of(Recipe.load(LLAMA))
    parts = training(tokens, completions=8)
    found = {
        "training": sum(size for name, size in parts.items() if name != "logits"),
        "logits": 4 * shape.vocab * tokens,
        "weights for generation": training(tokens, 8, share=0.6)["weights"] - parts["weights"],
        "KV cache": kv_bytes(shape, 2) * tokens,
    }
    found["in all"] = sum(found.values())
    assert found[part] / GIB == pytest.approx(gib, rel=0.1)
    assert parts["logits"] <= 2 * GIB < found["logits"]


def test_checkpointing_saves_what_it_is_for() -> None:
    def activations(how: object) -> int:
        lora = {"use_gradient_checkpointing": how}
        return plan(Recipe.load(LLAMA, lora=lora, budget={"micro_batch": 2}), "A100-80").peaks["backward"][
            "activations"
        ]

    none, stock, offloaded = activations(False), activations(True), activations("unsloth")
    # an input of 4,096 half-precision numbers a token and layer; two or three of them stay with Unsloth's
    assert stock - offloaded == (32 - 3) * 2 * 1024 * 4096 * 2
    assert none > 10 * stock


def test_a_folders_own_configuration_comes_first(tmp_path: Path) -> None:
    source = Path(Recipe.load().model_path) / "config.json"
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "config.json").write_text(source.read_text().replace('"num_hidden_layers": 3', '"num_hidden_layers": 6'))
    halves, whole = shape_of(Recipe.load()), shape_of(Recipe.load(model={"model_name": str(folder)}))
    assert (whole.layers, len(whole.linear)) == (2 * halves.layers, 2 * len(halves.linear))
    assert whole.parameters < 2 * halves.parameters  # the embeddings are there once
