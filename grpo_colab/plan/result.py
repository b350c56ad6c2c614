"""The result of a plan: a recipe on a device, with all sizes, times and choices. `rendering` shows it."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from grpo_colab.plan import rendering
from grpo_colab.plan.batch import BatchPlan
from grpo_colab.plan.memory import sequence_tokens
from grpo_colab.plan.start import Start
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.utils.files import check_name, unwritable_refused, write_out


@dataclass(frozen=True)
class Plan:
    """A recipe fitted to a device. All sizes are bytes."""

    recipe: Recipe  # with the chosen settings
    batch_plan: BatchPlan
    device: str  # its name
    kind: str  # "cuda" or "cpu"
    vllm: bool  # whether vLLM is installed there
    installation: str  # the same in words, with whose it is; empty where nothing depends on it
    memory: int  # the memory that the run may use
    fits: str  # "yes", "tight" or "no"
    peaks: dict[str, dict[str, int]]  # "generation" and "backward" -> part -> bytes
    parameters: int  # of the model
    kv_token: int  # the KV cache of one token
    chosen: list[tuple[str, Any, str]]  # setting, value, reason
    start: Start  # what comes before the first step
    step_s: float  # seconds per step
    hours: float  # of the whole run, from the download to the evaluation after it
    advice: list[str]  # changes that would make the recipe fit, and a warning about its time limit

    @property
    def parts(self) -> dict[str, int]:
        """Return the parts of the larger peak: part -> bytes."""
        return max(self.peaks.values(), key=lambda parts: sum(parts.values()))

    @property
    def tokens(self) -> int:
        """Return the length of the longest sequence: prompt and completion."""
        return sequence_tokens(self.recipe)

    @property
    def sequences(self) -> int:
        """Return how many of the longest sequences the KV cache holds at once."""
        return self.peaks["generation"]["kv_cache"] // (self.kv_token * self.tokens)

    @property
    def bytes(self) -> int:
        """Return the size of the larger peak."""
        return sum(self.parts.values())

    @property
    def time(self) -> str:
        """Return the estimate of the time as a sentence."""
        return rendering.time(self)

    def text(self, colour: bool = False, width: int = 80) -> str:
        """Return the plan as text of `width` columns for a terminal; in ASCII unless `colour`."""
        return rendering.text(self, colour, width)

    def draw(self, path: str | Path) -> None:
        """Write a PNG of both peaks against the device's memory to `path`, in place of a file that is there.

        Raises SettingError where `path` cannot be written.
        """
        check_name("--picture", path)
        picture = io.BytesIO()
        rendering.draw(self, picture)
        with unwritable_refused("--picture", path, "choose another file"):
            write_out(path, picture.getvalue())

    def as_dict(self) -> dict[str, Any]:
        """Return the plan in JSON's types, without secrets, as `grpo-colab plan --json` prints it."""
        return {
            "recipe": self.recipe.public(mode="json", exclude_none=True),
            "device": self.device,
            "kind": self.kind,
            "vllm": self.vllm,
            "memory": self.memory,
            "fits": self.fits,
            "bytes": self.bytes,
            "peaks": self.peaks,
            "kv_token": self.kv_token,
            "sequences": self.sequences,
            "step": {
                **self.batch_plan.as_grpo(),
                "processes": self.batch_plan.processes,
                "completions": self.batch_plan.completions,
            },
            "chosen": [{"setting": setting, "value": value, "why": why} for setting, value, why in self.chosen],
            "start": {**asdict(self.start), "seconds": self.start.seconds},
            "step_s": self.step_s,
            "hours": self.hours,
            "advice": self.advice,
        }

    def _repr_html_(self) -> str:
        """Return the plan as a notebook shows it."""
        return rendering.as_html(self)
