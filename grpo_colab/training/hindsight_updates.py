"""Take hindsight's optimiser steps, which raise the weighted log-probability of rows, in chunks that fit the memory.

relabelling.py makes the rows, and hindsight.py says when to step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from grpo_colab.policy.policy import Policy
    from grpo_colab.recipe.schema import Hindsight
    from grpo_colab.training.relabelling import Row

LOGITS_BYTES = 2**29  # for the float32 logits of one backward pass, which bounds how many rows it has


class Updates:
    """Hold the adapter's optimiser, with a loss scaler where the model is in float16, as on a T4.

    `tokens_at_once` is the number of completion tokens in one backward pass. It is halved whenever memory runs out, and
    stays so.
    """

    def __init__(self, policy: Policy, settings: Hindsight) -> None:
        """Make AdamW for the policy's trainable weights, at `settings.learning_rate` and without weight decay.

        `tokens_at_once` starts at the number of tokens whose float32 logits take LOGITS_BYTES, and at 1 at least.
        """
        import torch

        self.policy, self.settings = policy, settings
        self.weights = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=settings.learning_rate, weight_decay=0.0)
        device = policy.model.device.type
        in_float16 = device != "cpu" and policy.model.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(device, enabled=in_float16)
        self.tokens_at_once = max(1, LOGITS_BYTES // (4 * policy.model.config.vocab_size))

    def step(self, rows: Sequence[Row]) -> float:
        """Take one optimiser step on the rows, of which there must be some, and return the loss before it.

        The loss is minus the weighted log-probability, divided by the number of completion tokens: nats per token. When
        memory runs out, retry in smaller chunks. Raises RuntimeError when not even one row at a time fits. Raises
        FloatingPointError, without a step, when the loss or the gradient is not finite. In float16 a gradient that is
        not finite raises nothing: the loss scaler skips the step. After a step the policy is in evaluation mode.
        """
        import torch

        from grpo_colab.utils.memory import free_memory, out_of_memory

        self.policy.set_training(training=True)
        while True:
            try:
                loss = self._backward(rows)
                break
            except RuntimeError as error:
                longest = max(len(row.completion) for row in rows)
                if not out_of_memory(error) or self.tokens_at_once < 2 * longest:
                    raise
            self.optimizer.zero_grad(set_to_none=True)
            free_memory()
            self.tokens_at_once //= 2
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.settings.max_grad_norm).item()
        # In float16 an infinite gradient only means that the loss scale was too large: the scaler skips the step.
        if not math.isfinite(loss) or not (math.isfinite(norm) or self.scaler.is_enabled()):
            self.optimizer.zero_grad(set_to_none=True)
            raise FloatingPointError(f"the loss was {loss:g} and the gradient's norm {norm:g}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.policy.set_training(training=False)
        return loss

    def _backward(self, rows: Sequence[Row]) -> float:
        """Accumulate the gradients of the rows, chunk by chunk, and return the loss in nats per token.

        The gradients are those of the loss times the loss scale. Raises RuntimeError when a chunk does not fit the
        memory.
        """
        tokens, loss = sum(len(row.completion) for row in rows), 0.0
        longest = max(len(row.completion) for row in rows)
        rows_at_once = max(1, self.tokens_at_once // longest)
        for first in range(0, len(rows), rows_at_once):
            value = -weighted_log_probability(self.policy, rows[first : first + rows_at_once]) / tokens
            self.scaler.scale(value).backward()
            loss += value.item()
        return loss

    def state(self) -> dict[str, Any]:
        """Return the optimiser's and the scaler's state, for a checkpoint."""
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the `state` of a checkpoint. That of a scaler is empty where there was none, as in bfloat16."""
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])


def weighted_log_probability(policy: Policy, rows: Sequence[Row]) -> torch.Tensor:
    """Return the sum over the rows of weight times log-probability of the completion: a scalar, in nats."""
    import torch

    longest = max(len(row.completion) for row in rows)
    width, pad = max(len(row.prompt) for row in rows), policy.tokenizer.pad_token_id
    device = policy.model.device

    def padded(fill: int, left: Sequence[Sequence[int]], right: Sequence[Sequence[int]]) -> torch.Tensor:
        """Pad `left` on the left to `width` and `right` on the right to `longest`: [rows, width + longest]."""
        padded_rows = []
        for prompt, completion in zip(left, right, strict=True):
            before, after = [fill] * (width - len(prompt)), [fill] * (longest - len(completion))
            padded_rows.append([*before, *prompt, *completion, *after])
        return torch.tensor(padded_rows, device=device)

    prompts, completions = [row.prompt for row in rows], [row.completion for row in rows]
    ids = padded(pad, prompts, completions)
    mask = padded(0, [[1] * len(prompt) for prompt in prompts], [[1] * len(one) for one in completions])
    with torch.autocast(device.type, policy.model.dtype, enabled=device.type != "cpu"):
        # [rows, longest + 1, vocabulary]; the logits before a token predict it, so the last ones are not used
        logits = policy.model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=longest + 1).logits
    log_probabilities = torch.log_softmax(logits[:, -longest - 1 : -1].float(), dim=-1)
    chosen = log_probabilities.gather(-1, ids[:, width:, None])[..., 0] * mask[:, width:]  # [rows, longest]
    weights = torch.tensor([row.weight for row in rows], device=device)
    return (weights * chosen.sum(1)).sum()
