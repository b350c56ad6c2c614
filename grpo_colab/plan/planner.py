"""Fit a recipe to a device: choose the settings that it leaves open, and estimate memory and time.

`model_shape` reads the model, `search` finds the settings, `memory`, `duration` and `start` estimate, and `result`
holds the plan.
"""

from __future__ import annotations

from typing import Any, Final

from grpo_colab.plan.batch import plan_batch
from grpo_colab.plan.devices import DeviceSpec, device_for
from grpo_colab.plan.duration import evaluation_s, probes_s, step_s
from grpo_colab.plan.memory import answers_with_room, kv_bytes, unquantised_bytes
from grpo_colab.plan.model_shape import CONFIGURATIONS, CannotEstimate, ModelShape, shape_of
from grpo_colab.plan.result import Plan
from grpo_colab.plan.search import (
    FITS,
    TIGHT,
    best_candidate,
    explain_choices,
    suggest_changes,
    usable_bytes,
    with_more_samples,
    with_setting,
)
from grpo_colab.plan.start import start_of
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.text import duration

# Settings of [model] that say in how many bits its weights are loaded.
BITS: Final = ("load_in_4bit", "load_in_8bit", "load_in_16bit", "load_in_fp8", "full_finetuning", "quantization_config")


def plan(recipe: Recipe, gpu: str | None = None, vram_gib: float | None = None, vllm: bool = False) -> Plan:
    """Fit `recipe` to this machine, or to the device named `gpu`, with `vram_gib` GiB of memory if that is given.

    A GPU that is not this machine's is planned for without vLLM, as the Colab notebook is installed, or with it where
    `vllm` says so.

    The plan chooses what the recipe leaves open: the bits per weight, the micro-batch, vLLM's share of the memory, and
    the length of completions between budget.min_completion_length and grpo.max_completion_length. A recipe that does
    not fit has a plan as well, which says so. The model's config.json may be downloaded. Few models need transformers
    to be counted: see `model_shape`.

    Raises SettingError for an unknown device, for a memory that no device has, for `vllm` of this machine, for a step
    that does not divide, and where a library that is needed is not installed. Raises CannotEstimate for a model whose
    configuration cannot be had, built, or counted for certain.
    """
    device = device_for(gpu, vram_gib, vllm)
    plan_batch(recipe, device.processes)  # raises where the step does not divide at all
    recipe, unpacked = with_bits(recipe, device)
    shape = shape_of(recipe)
    candidate = best_candidate(shape, recipe, device)
    chosen = [*unpacked, *explain_choices(recipe, candidate, device)]
    if recipe.sampling.generate_more == "auto":
        candidate, why = with_more_samples(shape, device, candidate)
        chosen.append(("sampling.generate_more", candidate.recipe.sampling.generate_more, why))
    fitted = candidate.recipe
    for setting, value, _ in chosen:
        table, key = setting.split(".", 1)
        fitted = with_setting(fitted, table, key, value)

    memory = usable_bytes(device)
    generation = candidate.peaks["generation"]
    free_for_cache = memory - sum(generation.values()) + generation.get("kv_cache", 0)
    evaluation_batch = answers_with_room(fitted, shape.kv_width * shape.layers, free_for_cache)
    evaluating = evaluation_s(shape, fitted, device, candidate.share, evaluation_batch)
    start = start_of(shape, fitted, device, candidate.share, evaluating)
    per_step = step_s(shape, fitted, device, candidate.share)
    probing = probes_s(shape, fitted, device, candidate.share, evaluation_batch)
    hours = (start.seconds + recipe.budget.max_steps * per_step + probing + evaluating) / 3600

    if candidate.ratio <= FITS:
        fits = "yes"
    elif candidate.ratio <= TIGHT:
        fits = "tight"
    else:
        fits = "no"
    advice: list[str] = []
    if fits != "yes":
        advice = suggest_changes(recipe, shape, device, smaller_models(shape))
        if not advice:
            advice = ["no single change makes it fit: take a smaller model, or a device with more memory"]
    if recipe.budget.max_hours and recipe.budget.max_hours < hours:
        advice.append(
            f"budget.max_hours = {recipe.budget.max_hours:g} stops before the estimated {duration(3600 * hours)} are "
            "over; the run then goes on with --resume"
        )
    return Plan(
        recipe=fitted,
        batch_plan=plan_batch(fitted, device.processes),
        device=device.name,
        kind=device.kind,
        vllm=device.vllm,
        installation=device.installation if recipe.model.get("fast_inference") else "",
        memory=memory,
        fits=fits,
        peaks=candidate.peaks,
        parameters=shape.parameters,
        kv_token=kv_bytes(shape, unquantised_bytes(recipe, device)),
        chosen=chosen,
        start=start,
        step_s=per_step,
        hours=hours,
        advice=advice,
    )


def with_bits(recipe: Recipe, device: DeviceSpec) -> tuple[Recipe, list[tuple[str, Any, str]]]:
    """Return the recipe with model.load_in_4bit, and what was chosen, as (setting, value, reason).

    A recipe that leaves the setting open gets what Unsloth takes, 4 bits; but on a CPU 16, where they fit: a CPU has to
    unpack 4 bits for every product, which takes it twice as long. A recipe that has the setting, or another number of
    bits, is returned as it is. So is one that cannot be planned, with 4 bits.
    """
    if any(key in recipe.model for key in BITS):
        return recipe, []
    packed = with_setting(recipe, "model", "load_in_4bit", True)
    if device.kind != "cpu":
        return packed, []
    unpacked = with_setting(recipe, "model", "load_in_4bit", False)
    try:
        if best_candidate(shape_of(unpacked), unpacked, device).ratio > FITS:
            return packed, []
    except CannotEstimate:  # such as weights that are packed on the disk already
        return packed, []
    return unpacked, [("model.load_in_4bit", False, "16 bits fit, and a CPU is quicker with them")]


def smaller_models(shape: ModelShape) -> dict[str, ModelShape]:
    """Return the models with fewer parameters, of those whose configurations come with the package: name -> shape.

    Only instruct models are looked at. The names are those of Unsloth's copies on the hub. The dict is empty where no
    model has fewer. Nothing is downloaded.
    """
    names = sorted(f"unsloth/{path.stem.rpartition('--')[2]}" for path in CONFIGURATIONS.glob("*Instruct.json"))
    shapes = {name: shape_of(with_setting(Recipe.load(), "model", "model_name", name)) for name in names}
    return {name: other for name, other in shapes.items() if other.parameters < shape.parameters}
