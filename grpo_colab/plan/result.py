"""What a plan found: a recipe on a device, with all sizes, times and choices."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.plan import rendering
from grpo_colab.plan.batch import BatchPlan
from grpo_colab.plan.memory import sequence_tokens
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.utils.files import check_name, write_out


@dataclass(frozen=True)
class Plan:
    """A recipe on a device. All sizes are bytes."""

    recipe: Recipe  # with what was chosen
    shape: BatchPlan
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
        return rendering.time(self)

    def text(self, colour: bool = False, width: int = 80) -> str:
        return rendering.text(self, colour, width)

    def draw(self, path: str | Path) -> None:
        """Write a PNG of both peaks against the device's memory; SettingError where `path` cannot be written."""
        picture = io.BytesIO()
        check_name("--picture", path)
        rendering.draw(self, picture)
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
        return rendering.as_html(self)
