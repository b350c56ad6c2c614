"""A device that runs out of memory, for test_memory_fit.py and for the rewritten trainer of unsloth_patched.py."""

from __future__ import annotations

from typing import Any

from grpo_colab.policy.policy import Policy


class Small:
    """A device with room for so many sequences at once: real forward passes, and torch's own error above that.

    `since` is the number of forward passes with gradients that go well before; their (rows, tokens) are in `seen`.
    """

    def __init__(
        self, policy: Policy, backward: int = 999, forward: int = 999, since: int = 0, tokens: int = 10**9
    ) -> None:
        self.backward, self.forward, self.since, self.tokens = backward, forward, since, tokens
        self.seen: list[tuple[int, int]] = []
        self.errors = 0
        policy.model.get_base_model().register_forward_pre_hook(self.check, with_kwargs=True)

    def check(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        import torch

        rows, tokens = kwargs["input_ids"].shape
        learning = torch.is_grad_enabled()
        if learning:
            self.seen.append((rows, tokens))
        room = self.backward if learning else self.forward
        too_many = rows > room or (learning and rows * tokens > self.tokens)
        if too_many and (not learning or len(self.seen) > self.since):
            self.errors += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
