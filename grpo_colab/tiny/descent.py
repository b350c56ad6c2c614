"""Train a tiny model: the loop that both models share.

Matrices are optimised with Muon (https://kellerjordan.github.io/posts/muon), everything else with Adam. Adam alone
learns less in the same time. There is no validation during training, no checkpoint and no mixed precision, because
training takes minutes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

IGNORED = -100  # the label of a token that the loss ignores


@dataclass(frozen=True)
class Descent:
    """The settings of gradient descent."""

    steps: int = 1500
    seed: int = 0
    muon_learning_rate: float = 0.02
    adam_learning_rate: float = 3e-3
    warmup_share: float = 1 / 30  # share of the steps, at the beginning, in which the learning rates rise from 0
    decay_share: float = 1 / 2  # share of the steps, at the end, in which the learning rates fall to 0

    def rate(self, step: int) -> float:
        """Return the factor of the learning rates at a step: it rises to 1, stays there, and falls linearly to 0.

        Steps are counted from 0. Raises ZeroDivisionError where the settings have no steps.
        """
        warmup_steps, decay_steps = self.warmup_share * self.steps, self.decay_share * self.steps
        return min(1.0, (step + 1) / warmup_steps, (self.steps - step) / decay_steps)


def descend(
    settings: Descent,
    next_loss: Callable[[], torch.Tensor],
    matrices: Sequence[torch.nn.Parameter],
    others: Sequence[torch.nn.Parameter],
    log: Callable[[str], None],
) -> list[float]:
    """Train for `settings.steps` steps, which changes the parameters in place, and return the loss of each step.

    `next_loss` computes the loss of the next batch. `matrices` are the weights of linear layers, `others` are all other
    parameters, such as embeddings and norms. The gradient of all parameters together is clipped to norm 1. `log` gets a
    line every 50 steps, and one for the last step.
    """
    import torch

    optimizers = [
        torch.optim.Muon(matrices, lr=settings.muon_learning_rate, weight_decay=0.01),
        torch.optim.Adam(others, lr=settings.adam_learning_rate, betas=(0.9, 0.95)),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, settings.rate) for optimizer in optimizers]
    losses: list[float] = []
    start_s = time.monotonic()
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
