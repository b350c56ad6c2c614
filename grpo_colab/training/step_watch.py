"""Tell how far the present step is, by the forward passes of its model. Needs torch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from grpo_colab.utils.stage import Stage, clock


class StepWatch:
    """Count the forward passes of a step of GRPO, and call `on_change` with this object after each.

    Generation makes a pass without gradients per token, and learning one with gradients per micro-batch; each of the
    two counts as half of the step. Completions mostly end before `tokens`, so the share jumps ahead then. Where vLLM
    generates, or the step has its completions from an earlier one, only the learning is counted.
    """

    def __init__(self, model: Any, tokens: int, micro_batches: int, on_change: Callable[[StepWatch], None]) -> None:
        """Watch `model`, whose completions have at most `tokens` tokens, and whose step has so many micro-batches."""
        self.tokens, self.micro_batches, self.on_change = max(1, tokens), max(1, micro_batches), on_change
        self.begin_step()
        # PEFT generates by the model that it wraps, and learns by the wrapper, which may call the other.
        watched = {id(each): each for each in (model, getattr(model, "get_base_model", lambda: model)())}
        self._handles = [each.register_forward_pre_hook(self._count) for each in watched.values()]

    def begin_step(self) -> None:
        """Count from the beginning of another step."""
        self._generated: Counter[int] = Counter()  # passes of each of the watched models
        self._learned: Counter[int] = Counter()
        self.began = time.monotonic()

    @property
    def generated(self) -> int:
        """Return the number of passes that generated a token."""
        return max(self._generated.values(), default=0)

    @property
    def learned(self) -> int:
        """Return the number of micro-batches that are learned from or being learned from."""
        return max(self._learned.values(), default=0)

    def close(self) -> None:
        """Watch the model no longer."""
        for handle in self._handles:
            handle.remove()

    @property
    def share(self) -> float:
        """Return how much of the step is done, from 0 to 0.99: its end is for others to tell."""
        if not self.learned:
            return 0.5 * min(1.0, self.generated / self.tokens)
        return min(0.99, 0.5 + 0.5 * (self.learned - 1) / self.micro_batches)

    @property
    def text(self) -> str:
        """Return what the step does, how far it is and how long it takes yet, such as "generating, 20% after 0:40"."""
        shown = Stage("step")
        shown.began, shown.done = self.began, self.share
        left = f", about {clock(shown.left_s)} left" if shown.left_s is not None else ""
        return f"{'learning' if self.learned else 'generating'}, {self.share:.0%} after {clock(shown.elapsed_s)}{left}"

    def _count(self, module: Any, *_: Any) -> None:
        if torch.is_grad_enabled():
            self._learned[id(module)] += 1
        elif not self._learned:
            self._generated[id(module)] += 1
        else:  # between two steps, such as a tripwire that scores a few completions
            return
        self.on_change(self)
