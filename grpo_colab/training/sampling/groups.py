"""What was sampled of a problem: whether it teaches anything, and which of its completions teach the most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import pvariance
from typing import Any, Final

from grpo_colab.runs.records import weighted_reward
from grpo_colab.training.sampling.hints import Index

# Rewards that differ by less are the same: sums of floats differ in their last digits.
EPSILON: Final = 1e-6


@dataclass(frozen=True)
class Sample:
    """One completion as the trainer needs it to learn from it.

    `ids` are its tokens, `logprobs` their log-probabilities where the engine gave them, and `completion` is a text or a
    list of messages. `rewards` are those of each reward, unweighted, None where it could not judge. `right` is the
    grader's verdict. `extra` holds what rewards gave to `log_extra`.
    """

    ids: list[int]
    completion: Any
    rewards: list[float | None]
    right: bool
    logprobs: list[float | None] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """The completions of one problem, by its index in the training set.

    `hint` is the number of steps of the problem's solution that its prompt had.
    """

    row: int
    samples: list[Sample]
    hint: int = 0

    @property
    def index(self) -> Index:
        """Return the index of its training row, with its hint."""
        return (self.row, self.hint) if self.hint else self.row

    @property
    def right(self) -> int:
        """Return how many of its completions are right."""
        return sum(sample.right for sample in self.samples)

    def differs(self) -> bool:
        """Tell whether some completions are right and others are not: a group that teaches more than the format."""
        return 0 < self.right < len(self.samples)

    def spread(self, weights: Sequence[float]) -> bool:
        """Tell whether its total rewards differ at all. Without that GRPO learns nothing from it."""
        totals = self.totals(weights)
        return bool(totals) and max(totals) - min(totals) > EPSILON

    def totals(self, weights: Sequence[float]) -> list[float]:
        """Return the weighted reward of each completion that any reward could judge."""
        judged = (sample.rewards for sample in self.samples)
        return [weighted_reward(paid, weights) for paid in judged if any(value is not None for value in paid)]

    def rank(self, weights: Sequence[float]) -> int:
        """Return 0 for a group that differs in what is right, 1 for one that differs in other rewards, 2 for none."""
        if not self.spread(weights):
            return 2
        return 0 if self.differs() else 1

    def cut(self, size: int, weights: Sequence[float]) -> Group:
        """Return the group with the `size` completions whose rewards are furthest apart, in their order."""
        if len(self.samples) <= size:
            return self
        totals = [weighted_reward(sample.rewards, weights) for sample in self.samples]
        return Group(self.row, [self.samples[index] for index in widest(totals, size)], self.hint)

    def as_dict(self) -> dict[str, Any]:
        """Return the group in JSON's types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Group:
        """Return the group that `as_dict` wrote."""
        return cls(stored["row"], [Sample(**sample) for sample in stored["samples"]], stored.get("hint", 0))


def widest(totals: Sequence[float], size: int) -> list[int]:
    """Return the indices of the `size` numbers with the greatest variance, in ascending order.

    They are always some of the largest and the rest of the smallest (PODS, arXiv 2504.13818, theorem 1), so that
    `size` + 1 choices are compared. Of equal ones the first is taken, and of equal variances that with more large ones.
    """
    order = sorted(range(len(totals)), key=lambda index: (-totals[index], index))
    choices = []
    for best in range(size, -1, -1):
        worst = size - best
        choices.append(order[:best] + (order[-worst:] if worst else []))
    return sorted(max(choices, key=lambda chosen: pvariance([totals[index] for index in chosen])))
