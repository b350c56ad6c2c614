"""Fit a recipe to a device: choose what the recipe leaves open, and tell what it takes."""

from __future__ import annotations

from grpo_colab.plan.batch import answers_within, plan_batch
from grpo_colab.plan.devices import device_for
from grpo_colab.plan.duration import run_hours, step_s
from grpo_colab.plan.memory import adapter_parameters, copied_parameters, kv_bytes, width
from grpo_colab.plan.model_shape import CONFIGURATIONS, ModelShape, shape_of
from grpo_colab.plan.result import Plan
from grpo_colab.plan.search import FITS, TIGHT, advice, best, choices, room, with_setting
from grpo_colab.recipe.recipe import Recipe


def plan(recipe: Recipe, gpu: str | None = None, vram_gib: float | None = None) -> Plan:
    """Fit `recipe` on this machine, or on the device named `gpu`, with `vram_gib` GiB of memory if that is given.

    It chooses what the recipe leaves open: the micro-batch, vLLM's share, and the completions' length between
    budget.min_completion_length and grpo.max_completion_length. Raises SettingError for an unknown device, and for a
    memory that none has; Unplanned for a model whose configuration cannot be had, built, or counted for certain.
    """
    device = device_for(gpu, vram_gib)
    plan_batch(recipe, device.processes)  # whether the step divides at all
    shape = shape_of(recipe)
    found = best(shape, recipe, device)
    chosen = choices(recipe, found, device)
    fitted = found.recipe
    for setting, value, _ in chosen:
        table, key = setting.split(".", 1)
        fitted = with_setting(fitted, table, key, value)
    memory = room(device)
    spare = memory - sum(found.peaks["generation"].values()) + found.peaks["generation"].get("kv_cache", 0)
    hours = run_hours(shape, fitted, device, found.share, answers_within(fitted, shape.kv_width * shape.layers, spare))
    fits = "yes" if found.ratio <= FITS else "tight" if found.ratio <= TIGHT else "no"
    said = advice(recipe, shape, device, smaller(shape)) if fits != "yes" else []
    if fits != "yes" and not said:
        said = ["no single change makes it fit: take a smaller model, or a device with more memory"]
    if recipe.budget.max_hours and recipe.budget.max_hours < hours:
        said.append(
            f"budget.max_hours = {recipe.budget.max_hours:g} stops before the estimated {hours:.1f} h are over; the "
            "run then goes on with --resume"
        )
    return Plan(
        recipe=fitted,
        shape=plan_batch(fitted, device.processes),
        device=device.name,
        kind=device.kind,
        memory=memory,
        fits=fits,
        peaks=found.peaks,
        parameters=shape.parameters,
        trained=adapter_parameters(shape, recipe) + copied_parameters(shape, recipe),
        kv_token=kv_bytes(shape, width(recipe, device)),
        chosen=chosen,
        step_s=step_s(shape, fitted, device, found.share),
        hours=hours,
        advice=said,
    )


def smaller(shape: ModelShape) -> dict[str, ModelShape]:
    """The smaller ones of the models whose configurations come with the package, by Unsloth's names of them."""
    names = [f"unsloth/{path.stem.rpartition('--')[2]}" for path in CONFIGURATIONS.glob("*Instruct.json")]
    shapes = {name: shape_of(with_setting(Recipe.load(), "model", "model_name", name)) for name in sorted(names)}
    return {name: other for name, other in shapes.items() if other.parameters < shape.parameters}
