"""The training loop that both tiny models share: matrices learn with Muon (https://kellerjordan.github.io/posts/muon),
everything else with Adam; Adam alone learns less in the same time.

Left out, for it is a matter of minutes: validation on the way, checkpoints, mixed precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IGNORED = -100  # the label of a token that is not in the loss


@dataclass(frozen=True)
class Descent:
    """How the weights go down the loss."""

    steps: int = 1500
    seed: int = 0
    muon_learning_rate: float = 0.02
    adam_learning_rate: float = 3e-3
    warmup_share: float = 1 / 30  # of the steps, over which the learning rates rise from 0
    decay_share: float = 1 / 2  # of the steps, the last ones, over which they fall back to 0

    def rate(self, step: int) -> float:
        """The share of the learning rates at a step: warm up, hold, and fall linearly to 0."""
        warmup_steps, decay_steps = self.warmup_share * self.steps, self.decay_share * self.steps
        return min(1.0, (step + 1) / warmup_steps, (self.steps - step) / decay_steps)


def descend(
    settings: Descent,
    next_loss: Callable[[], torch.Tensor],
    matrices: Sequence[torch.nn.Parameter],
    others: Sequence[torch.nn.Parameter],
    log: Callable[[str], None],
) -> list[float]:
    """Train for the settings' steps; the loss of each. Embeddings and norms, no linear maps, belong to `others`."""
    import torch

    optimizers = [
        torch.optim.Muon(matrices, lr=settings.muon_learning_rate, weight_decay=0.01),
        torch.optim.Adam(others, lr=settings.adam_learning_rate, betas=(0.9, 0.95)),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, settings.rate) for optimizer in optimizers]
    losses, start_s = [], time.monotonic()
    for step in range(settings.steps):
        loss = next_loss()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*matrices, *others], 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 50 == 0 or step == settings.steps - 1:
            log(f"step {step}: loss {losses[-1]:.4f}, {time.monotonic() - start_s:.0f} s")
    return losses
