"""What a device has, what a recipe needs, and how it is made to fit.

    plan(Recipe.load("gsm8k-llama31-8b"), "T4").text()

Everything follows from the model's configuration: nothing is downloaded but that, and only where it does not come with
the package. Estimates are good to about 15 % in memory and to a factor of two in time.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.files import check_name, write_out
from grpo_colab.plan import show
from grpo_colab.plan.choose import FITS, TIGHT, advice, best, choices, room, with_setting
from grpo_colab.plan.gpus import CPU, GPUS, device_for
from grpo_colab.plan.hours import run_hours, step_s
from grpo_colab.plan.memory import adapter_parameters, copied_parameters, kv_bytes, sequence_tokens, width
from grpo_colab.plan.shape import CONFIGURATIONS, Shape, Unplanned, shape_of
from grpo_colab.plan.step import (
    GIB,
    Geometry,
    adapter_bytes,
    answers_at_once,
    answers_within,
    backward_bytes,
    check_disk,
    geometry,
)
from grpo_colab.recipe import Recipe

__all__ = [
    "CPU",
    "GIB",
    "GPUS",
    "Geometry",
    "Plan",
    "Unplanned",
    "adapter_bytes",
    "answers_at_once",
    "backward_bytes",
    "check_disk",
    "geometry",
    "plan",
]


@dataclass(frozen=True)
class Plan:
    """A recipe on a device. All sizes are bytes."""

    recipe: Recipe  # with what was chosen
    shape: Geometry
    device: str
    kind: str  # "cuda" or "cpu"
    memory: int  # that the run may take there
    fits: str  # "yes", "tight" or "no"
    peaks: dict[str, dict[str, int]]  # "generation" and "backward" -> part -> bytes
    parameters: int
    trained: int  # parameters
    kv_token: int  # what one token takes in the KV cache
    chosen: list[tuple[str, Any, str]]  # setting, value, why
    step_s: float
    hours: float
    advice: list[str]

    @property
    def parts(self) -> dict[str, int]:
        """Of the larger peak."""
        return max(self.peaks.values(), key=lambda parts: sum(parts.values()))

    @property
    def tokens(self) -> int:
        """Of the longest sequence: prompt and completion."""
        return sequence_tokens(self.recipe)

    @property
    def sequences(self) -> int:
        """So many of which the KV cache holds whole."""
        return self.peaks["generation"]["kv_cache"] // (self.kv_token * self.tokens)

    @property
    def bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def time(self) -> str:
        return show.time(self)

    def text(self, colour: bool = False, width: int = 80) -> str:
        return show.text(self, colour, width)

    def draw(self, path: str | Path) -> None:
        """Write a PNG of both peaks against the device's memory; SettingError where `path` cannot be written."""
        picture = io.BytesIO()
        check_name("--picture", path)
        show.draw(self, picture)
        try:
            write_out(path, picture.getvalue())
        except OSError as error:
            raise SettingError(
                f"cannot be written ({error.strerror or error})",
                setting="--picture",
                value=str(path),
                remedy="choose another file",
            ) from error

    def as_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.model_dump(mode="json", exclude_none=True),
            "device": self.device,
            "memory": self.memory,
            "fits": self.fits,
            "bytes": self.bytes,
            "peaks": self.peaks,
            "kv_token": self.kv_token,
            "sequences": self.sequences,
            "step": self.shape.as_grpo() | {"processes": self.shape.processes, "completions": self.shape.completions},
            "chosen": [{"setting": setting, "value": value, "why": why} for setting, value, why in self.chosen],
            "step_s": self.step_s,
            "hours": self.hours,
            "advice": self.advice,
        }

    def _repr_html_(self) -> str:
        return show.as_html(self)


def plan(recipe: Recipe, gpu: str | None = None, vram_gib: float | None = None) -> Plan:
    """Fit `recipe` on this machine, or on the device named `gpu`, with `vram_gib` GiB of memory if that is given.

    It chooses what the recipe leaves open: the micro-batch, vLLM's share, and the completions' length between
    budget.min_completion_length and grpo.max_completion_length. Raises SettingError for an unknown device, and for a
    memory that none has; Unplanned for a model whose configuration cannot be had, built, or counted for certain.
    """
    device = device_for(gpu, vram_gib)
    geometry(recipe, device.processes)  # whether the step divides at all
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
        shape=geometry(fitted, device.processes),
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


def smaller(shape: Shape) -> dict[str, Shape]:
    """The smaller ones of the models whose configurations come with the package, by Unsloth's names of them."""
    names = [f"unsloth/{path.stem.rpartition('--')[2]}" for path in CONFIGURATIONS.glob("*Instruct.json")]
    shapes = {name: shape_of(with_setting(Recipe.load(), "model", "model_name", name)) for name in sorted(names)}
    return {name: other for name, other in shapes.items() if other.parameters < shape.parameters}
