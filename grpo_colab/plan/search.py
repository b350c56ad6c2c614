"""What the plan may choose, tried in the order of what hurts least."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from grpo_colab.plan import memory
from grpo_colab.plan.batch import GIB, divisors
from grpo_colab.plan.devices import CONTEXT_BYTES, GPUS, Device
from grpo_colab.plan.model_shape import ModelShape, bits
from grpo_colab.recipe.recipe import Recipe

FITS, TIGHT = 0.95, 1.15  # of the device's memory: estimates are good to 15 %
LENGTH_STEP = 64
SHARES = [round(0.05 * n, 2) for n in range(18, 2, -1)]  # vLLM's, from 0.9 down


@dataclass(frozen=True)
class Candidate:
    """One way to run the recipe, with its memory; `share` is vLLM's, None for generate()."""

    recipe: Recipe
    micro_batch: int
    share: float | None
    peaks: dict[str, dict[str, int]]
    ratio: float  # the larger peak against the device's memory

    @property
    def peak(self) -> str:
        return max(self.peaks, key=lambda moment: sum(self.peaks[moment].values()))

    @property
    def bytes(self) -> int:
        return sum(self.peaks[self.peak].values())


def candidate(shape: ModelShape, recipe: Recipe, device: Device, share: float | None, micro_batch: int) -> Candidate:
    peaks = memory.peaks(shape, recipe, device, share, micro_batch)
    return Candidate(recipe, micro_batch, share, peaks, max(sum(p.values()) for p in peaks.values()) / room(device))


def room(device: Device) -> int:
    """What a run may take: what is free, and the CUDA context that is counted among the parts."""
    return max(1, min(device.total, device.free + CONTEXT_BYTES) if device.kind == "cuda" else device.free)


def best(shape: ModelShape, recipe: Recipe, device: Device) -> Candidate:
    """The first that fits: at full length with vLLM, with a smaller share of vLLM's, without it; then shorter.

    Where nothing fits for certain, what needs least.
    """
    tried = []
    for length in lengths(recipe):
        shorter = with_setting(recipe, "grpo", "max_completion_length", length)
        for share in shares(shape, shorter, device):
            for micro_batch in micro_batches(recipe, device):
                tried.append(candidate(shape, shorter, device, share, micro_batch))
                if tried[-1].ratio <= FITS:
                    return tried[-1]
    return min(tried, key=lambda one: one.ratio)


def lengths(recipe: Recipe) -> Iterator[int]:
    """Completion lengths within the recipe's bounds, the full one first."""
    full = recipe.grpo["max_completion_length"]
    yield full
    lowest = recipe.budget.min_completion_length
    if lowest is not None and lowest < full:
        below = (full - 1) // LENGTH_STEP * LENGTH_STEP
        yield from range(below, lowest, -LENGTH_STEP)
        yield lowest


def shares(shape: ModelShape, recipe: Recipe, device: Device) -> Iterator[float | None]:
    """vLLM's shares of the memory to try, the recipe's own or a sufficient one first; None, generate(), last."""
    if recipe.model.get("fast_inference") and device.vllm:
        asked = recipe.model.get("gpu_memory_utilization")
        token = memory.kv_bytes(shape, 2)
        longest = token * max(recipe.model.get("max_seq_length", 2048), memory.sequence_tokens(recipe))
        wanted = token * memory.sequence_tokens(recipe) * recipe.completions_per_step // device.processes
        held = {share: memory.engine(shape, recipe, device, share).kv_cache for share in {*SHARES, asked or SHARES[0]}}
        sufficient = min((share for share, kv in held.items() if kv >= wanted), default=SHARES[0])
        # one sequence at least, or Unsloth would cut max_seq_length
        enough = sufficient if asked is None or held[asked] < longest else asked
        yield from sorted((s for s, kv in held.items() if s <= enough and kv >= longest), reverse=True)
    yield None


def micro_batches(recipe: Recipe, device: Device) -> list[int]:
    asked = recipe.budget.micro_batch
    return [asked] if asked else divisors(recipe.completions_per_step // device.processes)[::-1]


def with_setting(recipe: Recipe, table: str, key: str, value: Any) -> Recipe:
    """The recipe with one setting changed."""
    held = getattr(recipe, table)
    changed = {**held, key: value} if isinstance(held, dict) else held.model_copy(update={key: value})
    return recipe.model_copy(update={table: changed})


def choices(recipe: Recipe, chosen: Candidate, device: Device) -> list[tuple[str, Any, str]]:
    """What was chosen, and why: setting, value, reason."""
    found: list[tuple[str, Any, str]] = []
    if not recipe.budget.micro_batch:
        whole = chosen.micro_batch == recipe.completions_per_step // device.processes
        why = "the whole step in one backward pass" if whole else "the most that fits in one backward pass"
        found.append(("budget.micro_batch", chosen.micro_batch, why))
    asked = recipe.model.get("gpu_memory_utilization")
    if recipe.model.get("fast_inference") and chosen.share is None:
        why = "vLLM does not run here" if not device.vllm else "vLLM's share and training do not fit together"
        found.append(("model.fast_inference", False, f"{why}; generate() of transformers is slower"))
    elif chosen.share is not None and chosen.share != asked:
        why = "a KV cache for the step's completions" if asked is None else f"{asked} leaves too little to train in"
        if asked is not None and chosen.share > asked:
            why = f"in {asked} there is no room for one whole sequence"
        found.append(("model.gpu_memory_utilization", chosen.share, why))
    full, length = recipe.grpo["max_completion_length"], chosen.recipe.grpo["max_completion_length"]
    if length != full:
        found.append(
            (
                "grpo.max_completion_length",
                length,
                f"{full} does not fit; at least {recipe.budget.min_completion_length} were allowed",
            )
        )
    return found


def advice(recipe: Recipe, shape: ModelShape, device: Device, smaller: dict[str, ModelShape]) -> list[str]:
    """Changes that would each make a recipe fit that does not, with the memory that it would then need."""
    found = []

    def tried(text: str, changed: Recipe, shape: ModelShape = shape, device: Device = device) -> bool:
        result = best(shape, changed, device)
        if result.ratio <= FITS:
            found.append(f"{text}: {result.bytes / GIB:.1f} GiB")
        return result.ratio <= FITS

    if bits(recipe, device.kind) > 4:
        others = [key for key in ("load_in_8bit", "load_in_16bit", "load_in_fp8") if recipe.model.get(key)]
        told = " (and without " + ", ".join(f"model.{key}" for key in others) + ")" if others else ""
        model = {**recipe.model, **dict.fromkeys(others, False), "load_in_4bit": True}
        tried(f"model.load_in_4bit = true{told}", recipe.model_copy(update={"model": model}))
    full = recipe.grpo["max_completion_length"]
    for length in range((full - 1) // LENGTH_STEP * LENGTH_STEP, 0, -LENGTH_STEP):
        if tried(
            f"grpo.max_completion_length = {length}", with_setting(recipe, "grpo", "max_completion_length", length)
        ):
            break
    if recipe.budget.micro_batch > 1:
        tried("budget.micro_batch = 0 (by memory)", with_setting(recipe, "budget", "micro_batch", 0))
    for rank in (16, 8):
        lower = with_setting(with_setting(recipe, "lora", "r", rank), "model", "max_lora_rank", rank)
        if rank < recipe.lora.get("r", 16) and tried(f"lora.r = {rank} (and model.max_lora_rank)", lower):
            break
    for name, other in smaller.items():
        tried(f"model.model_name = {name!r}", with_setting(recipe, "model", "model_name", name), shape=other)
    for gpu in sorted(GPUS.values(), key=lambda gpu: gpu.total):
        if gpu.total > device.total and tried(f"another GPU, such as {gpu.name}", recipe, device=gpu):
            break
    return found
