"""Where a step's time goes, and how much memory it took, beside TRL's own metrics.

    time/generation_s   sampling the completions
    time/reward_s       the reward functions
    time/update_s       the rest of TRL's step_time: log probabilities, loss and gradients
    memory/peak_gib     the most so far: of torch's allocator on a GPU, else what the process had at the end of a step

Seconds are of the main process. A step that learns from completions of a step before has no generation in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

GIB = 2**30


def timed(trainer_class: type) -> type:
    """The trainer's class, stock or Unsloth's, that logs the metrics above with each step."""

    class Timed(trainer_class):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._spent = {"generation": 0.0, "reward": 0.0}
            self._peak_bytes = 0
            super().__init__(*args, **kwargs)

        def _spend(self, name: str, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                self._spent[name] += time.perf_counter() - began

        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            return self._spend("generation", super()._generate, *args, **kwargs)

        def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Any:
            return self._spend("reward", super()._calculate_rewards, *args, **kwargs)

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            metrics = self._metrics["train"]
            before = len(metrics["step_time"])
            result = super().training_step(*args, **kwargs)
            if len(metrics["step_time"]) > before:  # the last of the step's micro-batches
                spent = {**self._spent, "update": max(0.0, metrics["step_time"][-1] - sum(self._spent.values()))}
                for name, seconds in spent.items():
                    metrics[f"time/{name}_s"].append(seconds)
                self._spent = dict.fromkeys(self._spent, 0.0)
                self._peak_bytes = max(self._peak_bytes, taken_bytes())
                metrics["memory/peak_gib"].append(self._peak_bytes / GIB)
            return result

    Timed.__name__ = trainer_class.__name__
    return Timed


def taken_bytes() -> int:
    """The most that torch's allocator has held of a GPU, or what this process holds of the machine's memory now."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    import psutil

    return psutil.Process().memory_info().rss
