"""Search the settings that a recipe leaves open for the first that fit a device, and suggest changes where none do.

`memory` says what each candidate needs. `planner` turns the one that was found into a `Plan`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from grpo_colab.plan import memory
from grpo_colab.plan.batch import divisors
from grpo_colab.plan.devices import CONTEXT_BYTES, GIB, GPUS, DeviceSpec, with_vllm
from grpo_colab.plan.duration import step_s
from grpo_colab.plan.model_shape import ModelShape, bits
from grpo_colab.recipe.recipe import Recipe

# Shares of the device's memory up to which a plan fits, and up to which it is tight: estimates are good to 15 %.
FITS, TIGHT = 0.95, 1.15
LENGTH_STEP = 64  # tokens between two completion lengths that are tried
MOST_SAMPLES = 4  # groups that are sampled of a prompt: 64 completions for 16 are PODS's own (arXiv 2504.13818)
SLOWER = 1.5  # times as long, a step with more samples: their authors reach the same peak in 0.63 of the time
VLLM_SHARES = [round(0.05 * n, 2) for n in range(18, 2, -1)]  # of the memory, from 0.9 down to 0.15


@dataclass(frozen=True)
class Candidate:
    """One way to run the recipe, and the memory that it needs in bytes."""

    recipe: Recipe
    micro_batch: int
    share: float | None  # vLLM's share of the memory; None where generate() takes its place
    peaks: dict[str, dict[str, int]]  # "generation" and "backward" -> part -> bytes
    ratio: float  # the larger peak divided by the memory that may be used

    @property
    def bytes(self) -> int:
        """Return the size of the larger peak."""
        return max(sum(parts.values()) for parts in self.peaks.values())


def make_candidate(
    shape: ModelShape, recipe: Recipe, device: DeviceSpec, share: float | None, micro_batch: int
) -> Candidate:
    """Return the candidate with these settings, its memory estimated.

    `share` is vLLM's share of the memory, from 0 to 1, or None for generate(). `micro_batch` counts completions.
    """
    peaks = memory.peaks(shape, recipe, device, share, micro_batch)
    largest = max(sum(parts.values()) for parts in peaks.values())
    return Candidate(recipe, micro_batch, share, peaks, largest / usable_bytes(device))


def usable_bytes(device: DeviceSpec) -> int:
    """Return the memory that a run may use, in bytes, at least 1.

    On a GPU that is what is free plus the CUDA context, which is counted among the parts of a peak.
    """
    if device.kind == "cuda":
        return max(1, min(device.total, device.free + CONTEXT_BYTES))
    return max(1, device.free)


def best_candidate(shape: ModelShape, recipe: Recipe, device: DeviceSpec) -> Candidate:
    """Return the first candidate that fits, or the one that needs least memory where none does.

    A candidate fits if its larger peak is at most FITS times the usable memory. The order is that of least harm: first
    the full completion length with vLLM, then a smaller share for vLLM, then generate(), and only then shorter
    completions. Within each the larger micro-batches come first.
    """
    tried = []
    for length in completion_lengths(recipe):
        shorter = with_setting(recipe, "grpo", "max_completion_length", length)
        for share in vllm_shares(shape, shorter, device):
            for micro_batch in micro_batches(recipe, device):
                candidate = make_candidate(shape, shorter, device, share, micro_batch)
                if candidate.ratio <= FITS:
                    return candidate
                tried.append(candidate)
    return min(tried, key=lambda candidate: candidate.ratio)


def completion_lengths(recipe: Recipe) -> Iterator[int]:
    """Yield the completion lengths, in tokens, that the recipe allows: the full one first, then shorter ones."""
    full = recipe.grpo["max_completion_length"]
    yield full
    lowest = recipe.budget.min_completion_length
    if lowest is not None and lowest < full:
        yield from range(_next_shorter(full), lowest, -LENGTH_STEP)
        yield lowest


def _next_shorter(length: int) -> int:
    """Return the largest multiple of LENGTH_STEP below `length`."""
    return (length - 1) // LENGTH_STEP * LENGTH_STEP


def vllm_shares(shape: ModelShape, recipe: Recipe, device: DeviceSpec) -> Iterator[float | None]:
    """Yield vLLM's shares of the memory to try, the largest useful one first; then None, which is generate().

    Where the recipe does not ask for vLLM or the device cannot run it, None comes alone. The largest useful share is
    the recipe's own. Without one, or where it has no room for one whole sequence, it is the smallest that holds the
    step's completions all at once. Shares without room for one whole sequence are left out.
    """
    if recipe.model.get("fast_inference") and device.vllm:
        asked = recipe.model.get("gpu_memory_utilization")
        token = memory.kv_bytes(shape, 2)
        sequence_tokens = memory.sequence_tokens(recipe)
        # With less than one whole sequence Unsloth would cut max_seq_length.
        one_sequence = token * max(recipe.model.get("max_seq_length", 2048), sequence_tokens)
        whole_step = token * sequence_tokens * memory.sampled_per_turn(recipe) // device.processes
        caches = {
            share: memory.vllm_memory(shape, recipe, device, share).kv_cache
            for share in {*VLLM_SHARES, asked or VLLM_SHARES[0]}
        }
        if asked is None or caches[asked] < one_sequence:
            sufficient = [share for share, cache in caches.items() if cache >= whole_step]
            largest = min(sufficient, default=VLLM_SHARES[0])
        else:
            largest = asked
        useful = [share for share, cache in caches.items() if share <= largest and cache >= one_sequence]
        yield from sorted(useful, reverse=True)
    yield None


def micro_batches(recipe: Recipe, device: DeviceSpec) -> list[int]:
    """Return the micro-batches to try: the recipe's own, or all that divide one process's step, largest first."""
    asked = recipe.budget.micro_batch
    return [asked] if asked else divisors(recipe.completions_per_step // device.processes)[::-1]


def with_setting(recipe: Recipe, table: str, key: str, value: Any) -> Recipe:
    """Return a copy of the recipe with one setting changed; the new value is not checked."""
    settings = getattr(recipe, table)
    if isinstance(settings, dict):
        changed: Any = {**settings, key: value}
    else:
        changed = settings.model_copy(update={key: value})
    return recipe.model_copy(update={table: changed})


def with_more_samples(shape: ModelShape, device: DeviceSpec, chosen: Candidate) -> tuple[Candidate, str]:
    """Return the candidate with sampling.generate_more in the place of "auto", and the reason for the number.

    Sampling needs room in the KV cache, and learning in the backward pass: two budgets. The number is the largest
    multiple of the group, up to MOST_SAMPLES, that fits beside the candidate and makes a step at most SLOWER times as
    long. It is 0 where two groups are too many.
    """
    group, micro_batch = chosen.recipe.grpo["num_generations"], chosen.micro_batch
    alone = step_s(shape, chosen.recipe, device, chosen.share)
    why = f"twice as many do not fit, or make a step over {SLOWER} times as long"
    for more in [times * group for times in range(MOST_SAMPLES, 1, -1)] + [0]:
        recipe = with_setting(chosen.recipe, "sampling", "generate_more", more)
        candidate = make_candidate(shape, recipe, device, chosen.share, micro_batch)
        longer = step_s(shape, recipe, device, chosen.share) / alone
        if more and candidate.ratio <= FITS and longer <= SLOWER:
            why = (
                f"so many of a prompt have room while they are sampled, {micro_batch} in a backward pass; a step takes "
                f"{longer:.2f} times as long"
            )
            break
    return candidate, why


def explain_choices(recipe: Recipe, chosen: Candidate, device: DeviceSpec) -> list[tuple[str, Any, str]]:
    """Return the settings that `chosen` adds to the recipe or changes in it, each as (setting, value, reason).

    `setting` is a dotted name. The list is empty where `chosen` has the recipe's own settings.
    """
    found: list[tuple[str, Any, str]] = []
    if not recipe.budget.micro_batch:
        whole = chosen.micro_batch == recipe.completions_per_step // device.processes
        why = "the whole step in one backward pass" if whole else "the most that fits in one backward pass"
        found.append(("budget.micro_batch", chosen.micro_batch, why))
    asked = recipe.model.get("gpu_memory_utilization")
    if recipe.model.get("fast_inference") and chosen.share is None:
        if device.vllm:
            why = "vLLM's share and training do not fit together"
        else:
            why = device.installation or "vLLM does not run here"
        found.append(("model.fast_inference", False, f"{why}; generate() of transformers is slower"))
    elif chosen.share is not None and chosen.share != asked:
        if asked is None:
            why = "a KV cache for the step's completions"
        elif chosen.share > asked:
            why = f"in {asked} there is no room for one whole sequence"
        else:
            why = f"{asked} leaves too little to train in"
        found.append(("model.gpu_memory_utilization", chosen.share, why))
    full, length = recipe.grpo["max_completion_length"], chosen.recipe.grpo["max_completion_length"]
    if length != full:
        why = f"{full} does not fit; at least {recipe.budget.min_completion_length} were allowed"
        found.append(("grpo.max_completion_length", length, why))
    return found


def suggest_changes(
    recipe: Recipe, shape: ModelShape, device: DeviceSpec, smaller_models: dict[str, ModelShape]
) -> list[str]:
    """Return the changes of which each alone makes the recipe fit, with the memory that it would then need.

    Of each kind (quantisation, vLLM, length, micro-batch, rank, model, GPU) the mildest that is enough is named; of the
    smaller models all that fit. `smaller_models` maps names to shapes. The list is empty where no single change is
    enough.
    """
    found = []

    def helps(change: str, changed: Recipe, shape: ModelShape = shape, device: DeviceSpec = device) -> bool:
        """Tell whether a change makes the recipe fit, and add it to what was found if it does."""
        result = best_candidate(shape, changed, device)
        fits = result.ratio <= FITS
        if fits:
            found.append(f"{change}: {result.bytes / GIB:.1f} GiB")
        return fits

    if bits(recipe, device.kind) > 4:
        others = [key for key in ("load_in_8bit", "load_in_16bit", "load_in_fp8") if recipe.model.get(key)]
        without = " (and without " + ", ".join(f"model.{key}" for key in others) + ")" if others else ""
        model = {**recipe.model, **dict.fromkeys(others, False), "load_in_4bit": True}
        helps(f"model.load_in_4bit = true{without}", recipe.model_copy(update={"model": model}))

    if recipe.model.get("fast_inference") and not device.vllm and with_vllm(device).vllm:
        helps("vLLM installed (in Colab: %run install.py --vllm)", recipe, device=with_vllm(device))

    for length in range(_next_shorter(recipe.grpo["max_completion_length"]), 0, -LENGTH_STEP):
        shorter = with_setting(recipe, "grpo", "max_completion_length", length)
        if helps(f"grpo.max_completion_length = {length}", shorter):
            break

    if recipe.budget.micro_batch > 1:
        helps("budget.micro_batch = 0 (by memory)", with_setting(recipe, "budget", "micro_batch", 0))

    for rank in (16, 8):
        lower = with_setting(with_setting(recipe, "lora", "r", rank), "model", "max_lora_rank", rank)
        if rank < recipe.lora.get("r", 16) and helps(f"lora.r = {rank} (and model.max_lora_rank)", lower):
            break

    for name, smaller in smaller_models.items():
        helps(f"model.model_name = {name!r}", with_setting(recipe, "model", "model_name", name), shape=smaller)

    for gpu in sorted(GPUS.values(), key=lambda gpu: gpu.total):
        other = with_vllm(gpu) if device.vllm else gpu
        if gpu.total > device.total and helps(f"another GPU, such as {gpu.name}", recipe, device=other):
            break
    return found
