"""Where the memory goes: the parts of the two moments when it peaks, in bytes."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from grpo_colab.plan.devices import GIB, Device
from grpo_colab.plan.model_shape import ModelShape, adapted, bits
from grpo_colab.recipe.recipe import Recipe

# CUDA's context with the kernels of torch, bitsandbytes and Triton, and what the caching allocator cannot use again.
CUDA_BYTES = int(0.6 * GIB)
# A process that has imported torch, transformers, TRL and Unsloth: 0.51 GiB measured, and what grows.
PROCESS_BYTES = int(0.6 * GIB)
NF4_BLOCK, ABSMAX_BLOCK = 64, 256  # bitsandbytes: numbers that share a scale, and scales that share one
NF4_TABLES = 4 * (16 + 256 + 1)  # a matrix's own: the codes of its numbers and of its scales, and their mean
# vLLM's own, from the table in unsloth_zoo/vllm_utils.py (load_vllm): 0.13 GiB outside torch; a profiled prompt token
# takes what the feed-forward layer does (0.62 GiB at 8,192 tokens); a sequence 9.4 rows of logits (5.59 GiB at 1,024).
VLLM_OUTSIDE_BYTES = int(0.13 * GIB)
VLLM_LOGIT_ROWS = 9.4
CUDA_GRAPH_BYTES = int(0.59 * GIB)  # the stored T4 run: "Graph capturing finished in 43 secs, took 0.59 GiB"
# load_vllm, by the GiB that are left for the KV cache: (up to, prompt tokens at once, sequences at once).
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
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has; unsloth_zoo rounds up to one
# unsloth_zoo/fused_losses/chunked_logprob.py: logits a chunk of an eighth of the rows, at least 512, up to 2 GiB.
LOGIT_BYTES, CHUNK_BYTES, CHUNK_ROWS, CHUNKS = 8, 2 * GIB, 512, 8
# Numbers a token that live in the layer that is at work. Fitted to Unsloth's published context lengths (README: QLoRA
# r 32 on Llama-3.1-8B, 40,724 tokens in 16 GB, 78,475 in 24, 342,733 in 80): 227 KB a token with three inputs.
LIVE_HIDDEN, LIVE_INNER = 11, 4
OFFLOAD_FROM = 2 * 2**20  # numbers in a layer's input from which Unsloth's checkpointing moves it to the host
KV_STEP = 512  # unsloth/models/llama.py grows generate()'s cache by so many tokens (KV_CACHE_INCREMENT)
OPTIMISER_BYTES = {"8bit": 2, "4bit": 1, "sgd": 0, "adafactor": 0, "lion": 4}  # a parameter; AdamW has 8


@dataclass(frozen=True)
class Engine:
    """vLLM with a share of the memory: what of it is the KV cache, what its own."""

    kv_cache: int
    activations: int
    own: int  # slots for the adapter, CUDA graphs, libraries
    sequences: int


def nf4_bytes(inputs: int, outputs: int) -> int:
    """One matrix in NF4 with double quantisation: half a byte a number, its scales, and their scales."""
    scales = math.ceil(inputs * outputs / NF4_BLOCK)
    return math.ceil(inputs * outputs / 2) + scales + 4 * math.ceil(scales / ABSMAX_BLOCK) + NF4_TABLES


def int8_bytes(inputs: int, outputs: int) -> int:
    """One matrix in 8 bits, integers or floats: a byte a number, and a scale of 4 a row."""
    return inputs * outputs + 4 * outputs


def width(recipe: Recipe, device: Device) -> int:
    """Bytes of an unquantised number. Unsloth's CPU backend takes float32 where the CPU has no bfloat16."""
    return 4 if device.kind == "cpu" and recipe.model.get("dtype") != "bfloat16" else 2


def weight_bytes(shape: ModelShape, recipe: Recipe, device: Device) -> int:
    """The model itself. On a GPU Unsloth loads its own 4-bit copy, which keeps some modules; on a CPU the original."""
    held = bits(recipe, device.kind)
    kept = shape.kept if device.kind == "cuda" and held == 4 else ()
    return _weight_bytes(shape, held, kept, width(recipe, device))


@functools.lru_cache
def _weight_bytes(shape: ModelShape, held: int, kept: tuple[str, ...], number: int) -> int:
    quantised = [matrix for name, *matrix in shape.linear if held < 16 and not name.startswith(kept)]
    rest = shape.parameters - sum(inputs * outputs for inputs, outputs in quantised)
    size = nf4_bytes if held == 4 else int8_bytes
    return rest * number + sum(size(inputs, outputs) for inputs, outputs in quantised)


def adapter_parameters(shape: ModelShape, recipe: Recipe, rank: int | None = None) -> int:
    """LoRA matrices of the [lora] table; Unsloth's default modules are the seven projections."""
    seven = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    targets = recipe.lora.get("target_modules") or seven
    return adapted(shape, targets if isinstance(targets, str) else tuple(targets), rank or recipe.lora.get("r", 16))


def copied_parameters(shape: ModelShape, recipe: Recipe) -> int:
    """Of the whole copies of embed_tokens and lm_head that are trained, where [lora] names them.

    Unsloth makes copies also of those among target_modules; where the model ties both it is one.
    """
    named = [recipe.lora.get(key) or () for key in ("modules_to_save", "target_modules")]
    whole = {name.rpartition(".")[2] for names in named if not isinstance(names, str) for name in names}
    return sum(shape.embeddings[: len(whole & {"embed_tokens", "lm_head"})])


def sequence_tokens(recipe: Recipe) -> int:
    """The longest sequence that the recipe can meet."""
    return recipe.prompts.max_prompt_tokens + recipe.grpo["max_completion_length"]


def kv_bytes(shape: ModelShape, bytes_a_number: int) -> int:
    """The KV cache of one token: a key and a value in each layer."""
    return 2 * shape.layers * shape.kv_width * bytes_a_number


def engine(shape: ModelShape, recipe: Recipe, device: Device, share: float, sequences: int | None = None) -> Engine:
    """vLLM's memory under Unsloth: `share` is of what is free at loading, and the weights, which training uses too,
    are in it. What the profiled forward pass does not need is the KV cache. `sequences` at once are Unsloth's choice.
    """
    rank = next(r for r in LORA_RANKS if r >= min(512, recipe.model.get("max_lora_rank") or recipe.lora.get("r", 16)))
    slots = 2 * adapter_parameters(shape, recipe, rank)
    room = share * device.free - weight_bytes(shape, recipe, device) - slots
    tokens, at_once = next((tokens, n) for gib, tokens, n in VLLM_SIZES if room <= gib * GIB)
    at_once = sequences or at_once
    tokens = min(tokens, at_once * recipe.model.get("max_seq_length", 2048))
    forward = tokens * (3 * shape.inner + 4 * shape.hidden) * 2
    activations = int(max(forward, at_once * shape.vocab * 4 * VLLM_LOGIT_ROWS))
    return Engine(
        kv_cache=int(room - activations - VLLM_OUTSIDE_BYTES),
        activations=activations,
        own=slots + VLLM_OUTSIDE_BYTES + CUDA_GRAPH_BYTES,
        sequences=at_once,
    )


def peaks(
    shape: ModelShape, recipe: Recipe, device: Device, share: float | None, micro_batch: int
) -> dict[str, dict[str, int]]:
    """The parts at generation and at the backward pass; with a `share` vLLM generates, else generate() does.

    generate() frees its KV cache before the backward pass. vLLM keeps its own, but gives its activations back to the
    allocator that both use.
    """
    number = width(recipe, device)
    completion = recipe.grpo["max_completion_length"]
    tokens = micro_batch * sequence_tokens(recipe)
    adapter, copied = adapter_parameters(shape, recipe), copied_parameters(shape, recipe)
    # the adapter learns in float32, and so do copies, unless the card has bfloat16
    learnt = 4 * adapter + (4 if number == 4 or (0, 0) < device.capability < (8, 0) else 2) * copied
    optim = recipe.grpo.get("optim", "adamw_torch")
    state = next((size for name, size in OPTIMISER_BYTES.items() if name in optim), 8)
    always = {
        "weights": weight_bytes(shape, recipe, device),
        "adapter": learnt,
        "optimiser": state * (adapter + copied),
        "runtime": CUDA_BYTES if device.kind == "cuda" else PROCESS_BYTES,
    }
    backward = {
        "gradients": learnt,
        "activations": checkpointed_bytes(shape, recipe, device, tokens),
        "logits": logit_bytes(shape, device, micro_batch * completion),
    }
    if share is not None:
        vllm = engine(shape, recipe, device, share)
        kept = {"kv_cache": vllm.kv_cache, "vllm": vllm.own}
        return {
            "generation": {**always, **kept, "activations": vllm.activations},
            "backward": {**always, **kept, **backward},
        }
    sequences = recipe.completions_per_step // device.processes
    grown = KV_STEP * math.ceil(sequence_tokens(recipe) / KV_STEP) if device.kind == "cuda" else sequence_tokens(recipe)
    generation = {
        "kv_cache": sequences * grown * kv_bytes(shape, number),
        "activations": sequences * recipe.prompts.max_prompt_tokens * (4 * shape.hidden + 3 * shape.inner) * number,
        "logits": sequences * shape.vocab * 4 * 3,  # float32, sorted, and as probabilities
    }
    return {"generation": {**always, **generation}, "backward": {**always, **backward}}


def checkpointed_bytes(shape: ModelShape, recipe: Recipe, device: Device, tokens: int) -> int:
    """Activations of a forward and backward pass over `tokens`.

    A layer keeps its input; one layer at a time has the rest, and its largest matrix in full precision. Unsloth's
    checkpointing moves large inputs to the host; two buffers and the last layer's own stay.
    """
    number, entrance = width(recipe, device), tokens * shape.hidden
    live = tokens * (LIVE_HIDDEN * shape.hidden + LIVE_INNER * shape.inner)
    matrix = max((inputs * outputs for _, inputs, outputs in shape.linear), default=0)
    how = recipe.lora.get("use_gradient_checkpointing", "unsloth")
    if not how:
        return number * shape.layers * live
    offloaded = how == "unsloth" and device.kind == "cuda" and entrance * number > OFFLOAD_FROM
    inputs = 3 if offloaded else shape.layers
    return number * (inputs * entrance + live + (matrix if bits(recipe, device.kind) < 16 else 0))


def logit_bytes(shape: ModelShape, device: Device, rows: int) -> int:
    """Logits that live at one time: a chunk with its gradient on a GPU; on a CPU stock TRL's, all rows of them."""
    if device.kind == "cpu":
        return rows * shape.vocab * 4 * 3
    chunk = min(CHUNK_BYTES // (LOGIT_BYTES * shape.vocab), max(CHUNK_ROWS, math.ceil(rows / CHUNKS)), rows)
    return chunk * shape.vocab * LOGIT_BYTES
