"""Estimate the memory of a run, part by part, at the two moments when it peaks. All sizes are bytes.

The two moments are generation and the backward pass. `model_shape` counts the model; `search` looks for settings whose
peaks fit a device.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

from grpo_colab.plan.devices import GIB, DeviceSpec
from grpo_colab.plan.model_shape import ModelShape, adapted, bits
from grpo_colab.recipe.recipe import Recipe

# CUDA's context (devices.CONTEXT_BYTES), the kernels of torch, bitsandbytes and Triton that are loaded into it, and
# cuBLAS's workspaces.
CUDA_BYTES = int(0.6 * GIB)
# A process that has imported torch, transformers, TRL and Unsloth: 0.51 GiB measured, and what grows.
PROCESS_BYTES = int(0.6 * GIB)
# bitsandbytes' double quantisation: this many numbers share a scale, and this many scales share a second one. Each
# matrix has tables of its own in float32: the codes of its numbers and of its scales, and the scales' mean.
NF4_BLOCK, ABSMAX_BLOCK = 64, 256
NF4_TABLES = 4 * (16 + 256 + 1)
# What vLLM takes beside weights and KV cache, from the table in unsloth_zoo/vllm_utils.py (load_vllm): 0.13 GiB outside
# torch; for each profiled prompt token the activations of a feed-forward layer (0.62 GiB at 8,192 tokens); for each
# sequence 9.4 rows of logits (5.59 GiB at 1,024 sequences).
VLLM_OUTSIDE_BYTES = int(0.13 * GIB)
VLLM_LOGIT_ROWS = 9.4
CUDA_GRAPH_BYTES = int(0.59 * GIB)  # the stored T4 run: "Graph capturing finished in 43 secs, took 0.59 GiB"
# load_vllm chooses by the GiB left for the KV cache: (up to this many GiB, prompt tokens at once, sequences at once).
VLLM_SIZES = (
    (2, 2048, 8),
    (4, 2048, 16),
    (8, 4096, 32),
    (12, 4096, 48),
    (16, 6144, 64),
    (24, 6144, 80),
    (40, 8192, 96),
    (48, 8192, 112),
    (80, 8192, 128),
    (math.inf, 8192, 256),
)
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # vLLM supports these; unsloth_zoo rounds up to the next
# unsloth_zoo/fused_losses/chunked_logprob.py computes logits in chunks: an eighth of the rows, at least 512, and at
# most 2 GiB at 8 bytes per logit, for the logits and their gradient in float32. fused_linear.py beside it, which runs
# where Triton does, takes no more than that and often less.
LOGIT_BYTES, CHUNK_BYTES, CHUNK_ROWS, CHUNKS = 8, 2 * GIB, 512, 8
# What one layer has per token when its feed-forward part is differentiated, counted in unsloth/models/llama.py and
# unsloth/kernels/. Nine of the hidden width: the outputs of both norms; queries, keys and values, which attention
# repeats for each query head where it is not flash attention; attention's output, and its sum with the input; the
# layer's output, and the gradient of that. Three of the feed-forward width: gate, up, and the gradient of their
# product, into which all later ones are written.
LIVE_HIDDEN, LIVE_INNER = 9, 3
# What the allocator takes for these beyond what is counted, because its free blocks do not fit the next tensor. This
# number is fitted, to the slope of Unsloth's published context lengths: 4,719 tokens per GiB for Llama-3.1-8B, which is
# 27.8 hidden widths per token where 22.5 are counted, with the inputs of three layers.
FRAGMENTS = 1.27
OFFLOAD_FROM = 2 * 2**20  # bytes of a layer's input from which Unsloth's checkpointing moves it to the host
# Inputs of layers that stay on the GPU then: unsloth_zoo/gradient_checkpointing.py has two buffers, through which they
# return, and leaves the last layer's own where it is.
OFFLOADED_INPUTS = 3
KV_STEP = 512  # unsloth/models/llama.py grows generate()'s cache by this many tokens (KV_CACHE_INCREMENT)
# Bytes of optimiser state per parameter, by a part of the optimiser's name; all others have AdamW's two moments.
OPTIMISER_BYTES = {"8bit": 2, "4bit": 1, "sgd": 0, "adafactor": 0, "lion": 4}
ADAMW_BYTES = 8
GENERATION_SHARE = 0.4  # the share of the free memory that the KV cache of an evaluation may take
ANSWERS_AT_ONCE = 128  # at most
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")  # Unsloth's default targets


@dataclass(frozen=True)
class VllmMemory:
    """How vLLM divides its share of the device's memory, in bytes, beside the weights that training uses as well."""

    kv_cache: int
    activations: int  # of the profiled forward pass
    overhead: int  # slots for the adapter, CUDA graphs (which come on top of the share), libraries
    sequences: int  # that are generated at once at most


def nf4_bytes(inputs: int, outputs: int) -> int:
    """Return the size of one matrix in NF4 with double quantisation: half a byte per number, and scales."""
    scales = math.ceil(inputs * outputs / NF4_BLOCK)
    return math.ceil(inputs * outputs / 2) + scales + 4 * math.ceil(scales / ABSMAX_BLOCK) + NF4_TABLES


def int8_bytes(inputs: int, outputs: int) -> int:
    """Return the size of one matrix in 8 bits, integers or floats: a byte per number, and a 4-byte scale per row."""
    return inputs * outputs + 4 * outputs


def unquantised_bytes(recipe: Recipe, device: DeviceSpec) -> int:
    """Return the bytes of one unquantised number: 2 on a GPU, and 2 or 4 on a CPU.

    On a CPU the recipe's dtype decides. Without one Unsloth takes bfloat16 where the CPU computes in it, but for the
    models that the package brings, which are loaded in float32.
    """
    if device.kind != "cpu":
        return 2
    dtype = recipe.model.get("dtype")
    in_bfloat16 = dtype == "bfloat16" if dtype else device.bf16 and not recipe.brings_model
    return 2 if in_bfloat16 else 4


def weight_bytes(shape: ModelShape, recipe: Recipe, device: DeviceSpec) -> int:
    """Return the size of the model's weights.

    On a GPU Unsloth loads its own 4-bit copy, which keeps some modules in 16 bits. On a CPU it loads the original.
    """
    model_bits = bits(recipe, device.kind)
    kept = shape.kept if device.kind == "cuda" and model_bits == 4 else ()
    return _weight_bytes(shape, model_bits, kept, unquantised_bytes(recipe, device))


@functools.lru_cache
def _weight_bytes(shape: ModelShape, model_bits: int, kept: tuple[str, ...], number_bytes: int) -> int:
    """Return the size of the weights, with linear layers in `model_bits` bits per number: 4, 8 or 16.

    All else has `number_bytes` bytes per number, and so have the linear layers whose names begin with one of `kept`.
    """
    quantised = [
        (inputs, outputs) for name, inputs, outputs in shape.linear if model_bits < 16 and not name.startswith(kept)
    ]
    unquantised = shape.parameters - sum(inputs * outputs for inputs, outputs in quantised)
    matrix_bytes = nf4_bytes if model_bits == 4 else int8_bytes
    return unquantised * number_bytes + sum(matrix_bytes(inputs, outputs) for inputs, outputs in quantised)


def adapter_parameters(shape: ModelShape, recipe: Recipe, rank: int | None = None) -> int:
    """Count the parameters of the LoRA matrices of the [lora] table, at its own rank unless `rank` is given.

    Raises SettingError where lora.target_modules is a text and no regular expression.
    """
    targets = recipe.lora.get("target_modules") or PROJECTIONS
    return adapted(shape, targets if isinstance(targets, str) else tuple(targets), rank or recipe.lora.get("r", 16))


def copied_parameters(shape: ModelShape, recipe: Recipe) -> int:
    """Count the parameters of the whole copies of embed_tokens and lm_head that are trained where [lora] names them.

    Unsloth copies those that target_modules lists as well. A model that ties the two has one copy of both. Returns 0
    where neither is listed.
    """
    named: set[str] = set()
    for key in ("modules_to_save", "target_modules"):
        modules = recipe.lora.get(key) or ()
        if not isinstance(modules, str):
            named.update(name.rpartition(".")[2] for name in modules)
    copies = len(named & {"embed_tokens", "lm_head"})
    return sum(shape.embeddings[:copies])


def sequence_tokens(recipe: Recipe) -> int:
    """Return the length in tokens of the longest sequence in training: prompt and completion."""
    return recipe.prompts.max_prompt_tokens + recipe.grpo["max_completion_length"]


def sampled_per_turn(recipe: Recipe) -> int:
    """Return the completions that are generated together: a step's, or more where sampling.generate_more says so."""
    return recipe.budget.prompts_per_step * recipe.sampling.per_prompt(recipe.grpo["num_generations"])


def kv_bytes(shape: ModelShape, number_bytes: int) -> int:
    """Return the KV cache of one token: a key and a value in each layer, at `number_bytes` per number."""
    return 2 * shape.layers * shape.kv_width * number_bytes


def vllm_memory(
    shape: ModelShape, recipe: Recipe, device: DeviceSpec, share: float, sequences: int | None = None
) -> VllmMemory:
    """Return how vLLM, as Unsloth starts it, divides its `share` of the memory that is free at loading.

    `share` is from 0 to 1. It includes the weights, which training uses as well. The KV cache is what the weights, the
    slots for the adapter and the profiled forward pass leave. It is negative where the share is too small. `sequences`
    are those generated at once; by default Unsloth chooses.
    """
    wanted_rank = min(512, recipe.model.get("max_lora_rank") or recipe.lora.get("r", 16))
    rank = next(rank for rank in LORA_RANKS if rank >= wanted_rank)
    slots = 2 * adapter_parameters(shape, recipe, rank)
    left = share * device.free - weight_bytes(shape, recipe, device) - slots
    tokens, chosen = next((tokens, chosen) for gib, tokens, chosen in VLLM_SIZES if left <= gib * GIB)
    at_once = sequences or chosen
    tokens = min(tokens, at_once * recipe.model.get("max_seq_length", 2048))
    forward = tokens * (3 * shape.inner + 4 * shape.hidden) * 2
    activations = int(max(forward, at_once * shape.vocab * 4 * VLLM_LOGIT_ROWS))
    return VllmMemory(
        kv_cache=int(left - activations - VLLM_OUTSIDE_BYTES),
        activations=activations,
        overhead=slots + VLLM_OUTSIDE_BYTES + CUDA_GRAPH_BYTES,
        sequences=at_once,
    )


def peaks(
    shape: ModelShape, recipe: Recipe, device: DeviceSpec, share: float | None, micro_batch: int
) -> dict[str, dict[str, int]]:
    """Return the parts of the memory at "generation" and at the "backward" pass: moment -> part -> bytes.

    With a `share` vLLM generates, else generate() does. generate() frees its KV cache before the backward pass. vLLM
    keeps its own, but gives its activations back to the allocator that both use. The names of the parts are the keys of
    `rendering.PARTS`; a part that a moment does not have is missing there.
    """
    always = _training_state(shape, recipe, device)
    backward = {
        "gradients": always["adapter"],
        "activations": checkpointed_bytes(shape, recipe, device, micro_batch * sequence_tokens(recipe)),
        "logits": logit_bytes(shape, device, micro_batch * recipe.grpo["max_completion_length"]),
    }
    if share is None:
        generation = _generate_memory(shape, recipe, device)
        return {"generation": {**always, **generation}, "backward": {**always, **backward}}
    vllm = vllm_memory(shape, recipe, device, share)
    kept = {"kv_cache": vllm.kv_cache, "vllm": vllm.overhead}
    return {
        "generation": {**always, **kept, "activations": vllm.activations},
        "backward": {**always, **kept, **backward},
    }


def _training_state(shape: ModelShape, recipe: Recipe, device: DeviceSpec) -> dict[str, int]:
    """Return the parts that are there all the time: weights, adapter, optimiser and runtime -> bytes."""
    adapter, copied = adapter_parameters(shape, recipe), copied_parameters(shape, recipe)
    # The adapter is trained in float32, and so are whole copies, unless the GPU has bfloat16.
    no_bfloat16 = unquantised_bytes(recipe, device) == 4 or (0, 0) < device.capability < (8, 0)
    trained = 4 * adapter + (4 if no_bfloat16 else 2) * copied
    optimiser = recipe.grpo.get("optim", "adamw_torch")
    state_bytes = next((size for name, size in OPTIMISER_BYTES.items() if name in optimiser), ADAMW_BYTES)
    return {
        "weights": weight_bytes(shape, recipe, device),
        "adapter": trained,
        "optimiser": state_bytes * (adapter + copied),
        "runtime": CUDA_BYTES if device.kind == "cuda" else PROCESS_BYTES,
    }


def _generate_memory(shape: ModelShape, recipe: Recipe, device: DeviceSpec) -> dict[str, int]:
    """Return the parts that generate() of transformers adds while it answers one process's step: part -> bytes.

    The parts are kv_cache, activations and logits.
    """
    number_bytes = unquantised_bytes(recipe, device)
    sequences = sampled_per_turn(recipe) // device.processes
    cached_tokens = sequence_tokens(recipe)
    if device.kind == "cuda":
        cached_tokens = KV_STEP * math.ceil(cached_tokens / KV_STEP)
    prompt_tokens = sequences * recipe.prompts.max_prompt_tokens
    return {
        "kv_cache": sequences * cached_tokens * kv_bytes(shape, number_bytes),
        "activations": prompt_tokens * (4 * shape.hidden + 3 * shape.inner) * number_bytes,
        "logits": sequences * shape.vocab * 4 * 3,  # in float32, once more sorted, and once more as probabilities
    }


def checkpointed_bytes(shape: ModelShape, recipe: Recipe, device: DeviceSpec, tokens: int) -> int:
    """Return the activations of a forward and backward pass over `tokens` tokens, in bytes.

    With gradient checkpointing every layer keeps its input, and one layer at a time has the rest, with its largest
    matrix unpacked to full precision. Unsloth's checkpointing moves large inputs to the host. Without checkpointing
    every layer keeps all of its activations. Only what comes and goes with a layer is in FRAGMENTS: the inputs stay.
    """
    number_bytes, layer_input = unquantised_bytes(recipe, device), tokens * shape.hidden
    live = int(FRAGMENTS * tokens * (LIVE_HIDDEN * shape.hidden + LIVE_INNER * shape.inner))
    checkpointing = recipe.lora.get("use_gradient_checkpointing", "unsloth")
    if not checkpointing:
        return number_bytes * shape.layers * live
    offloaded = checkpointing == "unsloth" and device.kind == "cuda" and layer_input * number_bytes > OFFLOAD_FROM
    kept_inputs = OFFLOADED_INPUTS if offloaded else shape.layers
    unpacked = 0
    if bits(recipe, device.kind) < 16:
        unpacked = max((rows * columns for _, rows, columns in shape.linear), default=0)
    return number_bytes * (kept_inputs * layer_input + live + unpacked)


def logit_bytes(shape: ModelShape, device: DeviceSpec, rows: int) -> int:
    """Return the bytes of the logits that exist at one time for `rows` completion tokens.

    On a GPU that is one chunk with its gradient. It counts beside the activations of a layer, though it is gone before
    the first layer is differentiated: the allocator keeps its block. Releases of Unsloth before the chunks, such as
    that of February 2025, took one whole completion in float32. On a CPU stock TRL computes the logits of all rows.
    """
    if device.kind == "cpu":
        return rows * shape.vocab * 4 * 3
    chunk = min(CHUNK_BYTES // (LOGIT_BYTES * shape.vocab), max(CHUNK_ROWS, math.ceil(rows / CHUNKS)), rows)
    return chunk * shape.vocab * LOGIT_BYTES


def answers_at_once(recipe: Recipe, model_config: Any, memory_bytes: int) -> int:
    """Return how many held-out problems are answered together.

    That is `evaluation.batch_size`. Where it is 0, it is as many as have room for their KV cache in the share
    GENERATION_SHARE of `memory_bytes`: at least 1, and at most ANSWERS_AT_ONCE. `model_config` is the model's
    configuration in transformers.
    """
    config = model_config.get_text_config()
    heads = config.num_attention_heads
    kv_width = getattr(config, "num_key_value_heads", heads) * config.hidden_size // heads
    return answers_with_room(recipe, config.num_hidden_layers * kv_width, memory_bytes)


def answers_with_room(recipe: Recipe, kv_numbers: int, memory_bytes: int) -> int:
    """Return the same as `answers_at_once`, for a model whose configuration is not at hand.

    `kv_numbers` counts the numbers that all layers together keep as keys per token. There are as many values, and each
    number takes two bytes.
    """
    if recipe.evaluation.batch_size:
        return recipe.evaluation.batch_size
    tokens = recipe.prompts.max_prompt_tokens + recipe.max_completion_tokens
    fits_memory = int(GENERATION_SHARE * memory_bytes / (4 * kv_numbers * tokens))
    return max(1, min(ANSWERS_AT_ONCE, fits_memory))
