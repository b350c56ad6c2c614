"""Estimate how long a run takes, to within a factor of two."""

from __future__ import annotations

import math

from grpo_colab.plan.devices import DeviceSpec
from grpo_colab.plan.memory import (
    adapter_parameters,
    kv_bytes,
    sampled_per_turn,
    sequence_tokens,
    unquantised_bytes,
    vllm_memory,
    weight_bytes,
)
from grpo_colab.plan.model_shape import ModelShape, bits
from grpo_colab.recipe.recipe import Recipe

UNCERTAINTY = 2
# Completions are shorter than a recipe allows. These shares of the allowed length stand for the longest completion of a
# group, which the others wait for, and for the mean of all. They are guesses for GSM8K, in which an answer of some 200
# tokens is usual where 768 are allowed.
LONGEST, MEAN = 0.5, 0.5
# What [sampling] generates beside a step's completions, as a share of them: measured on word problems of 1 to 4 steps,
# of which many are too easy or too hard (tests/benchmarks/steps_to_accuracy.py).
REFILLED, HINTED = 0.8, 0.25
# For more than one row bitsandbytes reads a matrix in 4 bits, writes it in 16 and reads it again: bytes per number.
UNPACKED_BYTES = 4
# These and LONGEST were calibrated on the two known runs of Llama-3.1-8B with vLLM: T4, 6 completions of up to 768
# tokens, ~55 s per step; A100, 2 x 8 completions, 2 h for 250 steps. VLLM_TOKEN_S is the cost of one decoding step
# beside the bytes that it reads.
VLLM_TOKEN_S = 0.015
BANDWIDTH_SHARE = 0.9
FLOPS_SHARE = 0.4
# How many times faster than in float32 the CPU of the table multiplies in bfloat16, where it does: 2,160 tokens of
# Qwen2.5-0.5B take 5.8 s forward and 14 s backward with checkpointing, on two cores with AMX.
CPU_BF16_SPEED = 8
# generate() launches each layer's kernels from Python. The CPU's number follows from 0.65 s per step of the default
# recipe.
LAYER_S = {"cuda": 1.2e-3, "cpu": 5.8e-3}


def token_s(shape: ModelShape, recipe: Recipe, device: DeviceSpec, share: float | None, sequences: int) -> float:
    """Return the seconds of one decoding step, which gives each of `sequences` one more token.

    It reads all weights once, and the KV cache of each sequence. `share` is vLLM's share of the memory, from 0 to 1, or
    None where generate() of transformers takes its place.
    """
    linear = sum(inputs * outputs for _, inputs, outputs in shape.linear)
    unpacked = UNPACKED_BYTES * linear if bits(recipe, device.kind) == 4 else 0
    mean_length = 0.5 * LONGEST * sequence_tokens(recipe)
    cache = sequences * mean_length * kv_bytes(shape, unquantised_bytes(recipe, device))
    reading = (weight_bytes(shape, recipe, device) + unpacked + cache) / (BANDWIDTH_SHARE * device.bandwidth)
    launching = VLLM_TOKEN_S if share is not None else LAYER_S[device.kind] * shape.layers
    return reading + launching


def generation_s(
    shape: ModelShape, recipe: Recipe, device: DeviceSpec, share: float | None, completions: int, tokens: int
) -> float:
    """Return the seconds to generate `completions` of up to `tokens` tokens each.

    vLLM takes as many at a time as its KV cache holds, and starts the next as soon as one ends. generate() takes all at
    once. The longest completion is taken to have the share LONGEST of `tokens`. `share` is as for `token_s`.
    """
    if share is None:
        at_once, rounds = completions, 1.0
    else:
        vllm = vllm_memory(shape, recipe, device, share)
        held = vllm.kv_cache // (kv_bytes(shape, 2) * sequence_tokens(recipe))
        at_once = max(1, min(completions, vllm.sequences, held))
        rounds = completions / at_once
    return rounds * LONGEST * tokens * token_s(shape, recipe, device, share, at_once)


def step_s(shape: ModelShape, recipe: Recipe, device: DeviceSpec, share: float | None) -> float:
    """Return the seconds of one optimiser step: generation, log-probabilities, and the passes of the update.

    The forward passes are one for the old policy's log-probabilities, one for the reference's where `grpo.beta` asks
    for them, and one or, with gradient checkpointing, two for the update. The processes work at the same time, so the
    completions of one process count. What sampling.refill and sampling.hints sample again is counted as it was measured
    on one task. `share` is as for `token_s`.
    """
    completions = recipe.completions_per_step // device.processes
    completion_tokens = recipe.grpo["max_completion_length"]
    tokens = completions * (MEAN * recipe.prompts.max_prompt_tokens + MEAN * completion_tokens)
    sampled = sampled_per_turn(recipe) // device.processes
    generating = generation_s(shape, recipe, device, share, sampled, completion_tokens)
    again = REFILLED * (recipe.sampling.refill > 0) + HINTED * (recipe.sampling.hints != "none")
    passes = 1 + bool(recipe.grpo.get("beta")) + _update_passes(recipe)
    return (1 + again) * generating + _passes_s(shape, recipe, device, passes * tokens)


def pretraining_s(shape: ModelShape, recipe: Recipe, device: DeviceSpec) -> float:
    """Return the seconds of a recipe's [pretraining], as if there were no adapter of it yet; 0 without the table.

    Nothing is generated. Its examples are taken to be as long as a step's sequences.
    """
    if recipe.pretraining is None:
        return 0.0
    examples = recipe.pretraining.steps * recipe.pretraining.batch_size
    tokens = examples * MEAN * sequence_tokens(recipe)
    return _passes_s(shape, recipe, device, _update_passes(recipe) * tokens)


def _update_passes(recipe: Recipe) -> int:
    """Return how many forward passes the update of a step costs: backward through frozen weights costs as much as one.

    Gradient checkpointing goes forward twice.
    """
    return 2 + bool(recipe.lora.get("use_gradient_checkpointing", "unsloth"))


def _passes_s(shape: ModelShape, recipe: Recipe, device: DeviceSpec, tokens: float) -> float:
    """Return the seconds of one forward pass of `tokens` tokens, at 2 FLOPs per parameter and token."""
    parameters = sum(inputs * outputs for _, inputs, outputs in shape.linear) + shape.vocab * shape.hidden
    flops = 2 * tokens * (parameters + adapter_parameters(shape, recipe))
    in_bfloat16 = device.kind == "cpu" and unquantised_bytes(recipe, device) == 2
    speed = device.flops * (CPU_BF16_SPEED if in_bfloat16 else 1)
    return flops / (FLOPS_SHARE * speed)


def evaluation_s(
    shape: ModelShape, recipe: Recipe, device: DeviceSpec, share: float | None, evaluation_batch: int
) -> float:
    """Return the seconds of one evaluation, of which a run has one before and one after its steps.

    `evaluation_batch` held-out problems are answered together by generate(); vLLM gets all of them at once. `share` is
    as for `token_s`.
    """
    return _answers_s(shape, recipe, device, share, evaluation_batch, recipe.evaluation.n)


def probes_s(
    shape: ModelShape, recipe: Recipe, device: DeviceSpec, share: float | None, evaluation_batch: int
) -> float:
    """Return the seconds of all probes of a run, one every `evaluation.every` steps; 0 without. See `evaluation_s`."""
    if not recipe.evaluation.every:
        return 0.0
    probes = recipe.budget.max_steps // recipe.evaluation.every
    return probes * _answers_s(shape, recipe, device, share, evaluation_batch, recipe.evaluation.probe)


def _answers_s(
    shape: ModelShape, recipe: Recipe, device: DeviceSpec, share: float | None, evaluation_batch: int, problems: int
) -> float:
    """Return the seconds in which so many problems are answered, as `evaluation_s` says."""
    tokens = recipe.max_completion_tokens
    if share is not None:
        return generation_s(shape, recipe, device, share, problems, tokens)
    batch = min(problems, evaluation_batch)
    return math.ceil(problems / evaluation_batch) * generation_s(shape, recipe, device, share, batch, tokens)
