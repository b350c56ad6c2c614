"""How long a run takes, to within a factor of two."""

from __future__ import annotations

import math

from grpo_colab.plan.devices import Device
from grpo_colab.plan.memory import adapter_parameters, engine, kv_bytes, sequence_tokens, weight_bytes, width
from grpo_colab.plan.model_shape import ModelShape, bits
from grpo_colab.recipe.recipe import Recipe

UNCERTAINTY = 2
# Of what a recipe allows: the longest completion of a group, which the others wait for, and the mean of all. Guesses
# for GSM8K, in which an answer of some 200 tokens is usual where 768 are allowed.
LONGEST, MEAN = 0.5, 0.5
# bitsandbytes' matrices are read in 4 bit, written in 16 and read again for more than one row.
UNPACKED_BYTES = 4
# What was calibrated, with LONGEST, on the two known runs of Llama-3.1-8B with vLLM: T4, 6 completions of up to 768
# tokens, ~55 s a step; A100, 2 x 8 completions, 2 h for 250 steps. One step of decoding costs this beside its bytes.
VLLM_TOKEN_S = 0.015
BANDWIDTH_SHARE = 0.9
FLOPS_SHARE = 0.4
# generate() launches each layer's kernels from Python. On the CPU: the default recipe's 0.65 s a step.
LAYER_S = {"cuda": 1.2e-3, "cpu": 5.8e-3}


def token_s(shape: ModelShape, recipe: Recipe, device: Device, share: float | None, sequences: int) -> float:
    """One token for each of `sequences` together: all weights are read once, and each one's KV cache."""
    quantised = sum(inputs * outputs for _, inputs, outputs in shape.linear)
    unpacked = UNPACKED_BYTES * quantised if bits(recipe, device.kind) == 4 else 0
    cache = sequences * 0.5 * LONGEST * sequence_tokens(recipe) * kv_bytes(shape, width(recipe, device))
    read = (weight_bytes(shape, recipe, device) + unpacked + cache) / (BANDWIDTH_SHARE * device.bandwidth)
    return read + (VLLM_TOKEN_S if share is not None else LAYER_S[device.kind] * shape.layers)


def generation_s(
    shape: ModelShape, recipe: Recipe, device: Device, share: float | None, answers: int, tokens: int
) -> float:
    """`answers` of up to `tokens` tokens; vLLM takes as many at a time as its KV cache holds."""
    at_once = answers
    if share is not None:
        vllm = engine(shape, recipe, device, share)
        held = vllm.kv_cache // (kv_bytes(shape, 2) * sequence_tokens(recipe))
        at_once = max(1, min(answers, vllm.sequences, held))
    rounds = answers / at_once if share is not None else math.ceil(answers / at_once)
    return rounds * LONGEST * tokens * token_s(shape, recipe, device, share, at_once)


def step_s(shape: ModelShape, recipe: Recipe, device: Device, share: float | None) -> float:
    """Generation, the log-probabilities of old (and reference) weights, forward twice (checkpointing) and backward."""
    completions = recipe.completions_per_step // device.processes
    completion = recipe.grpo["max_completion_length"]
    tokens = completions * (MEAN * recipe.prompts.max_prompt_tokens + MEAN * completion)
    checkpointing = bool(recipe.lora.get("use_gradient_checkpointing", "unsloth"))
    # a forward pass is 2 FLOPs a parameter and token; backward through frozen weights needs as many, not twice
    passes = 3 + checkpointing + bool(recipe.grpo.get("beta"))
    parameters = sum(inputs * outputs for _, inputs, outputs in shape.linear) + shape.vocab * shape.hidden
    flops = 2 * passes * tokens * (parameters + adapter_parameters(shape, recipe))
    return generation_s(shape, recipe, device, share, completions, completion) + flops / (FLOPS_SHARE * device.flops)


def run_hours(shape: ModelShape, recipe: Recipe, device: Device, share: float | None, at_once: int) -> float:
    """All steps, and the evaluation before and after."""
    answers, tokens = recipe.evaluation.n, recipe.max_completion_tokens
    batches = 1 if share is not None else math.ceil(answers / at_once)
    asked = batches * generation_s(
        shape, recipe, device, share, answers if share is not None else min(answers, at_once), tokens
    )
    return (recipe.budget.max_steps * step_s(shape, recipe, device, share) + 2 * asked) / 3600
