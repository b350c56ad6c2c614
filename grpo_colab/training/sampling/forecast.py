"""Forecast how often a problem will come out right, from what is known of it and what the steps so far have shown.

A logistic regression: the policy, each feature of a problem, such as "3 steps", and the problem itself have a weight,
and their sum is the logit of the share that is right. Weights are normally distributed, and learnt from step to step. A
new problem has its features' weights, and a better policy lifts all problems at once. Older steps count less.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

POLICY: Final = "policy"  # the weight that all problems share
MEMORY: Final = 0.9  # what is known of a weight still counts so much when a step meets it again
FEATURE_VARIANCE: Final = 0.5  # of a weight of which nothing is known; logits
PROBLEM_VARIANCE: Final = 1.0
LEAST_VARIANCE: Final = 0.03  # about what a weight has that every step meets
EXPLORATION: Final = 0.25  # standard deviations, with which a share is drawn
NEWTON_STEPS: Final = 8
FARTHEST: Final = 30.0  # a logit, of which exp is still a number


class Weight(NamedTuple):
    """What is known of a weight: its mean and its variance, in logits."""

    mean: float
    variance: float


class Forecast:
    """Forecast the share of a problem's completions that will be right.

    `features` has those of every problem, in the order of the training set.
    """

    def __init__(self, features: Sequence[Sequence[str]]) -> None:
        self.features = features
        self.weights: dict[str, Weight] = {}

    def share(self, row: int) -> float:
        """Return the share of right completions that is expected of the problem with an index."""
        return logistic(self._logit(row).mean)

    def draw(self, row: int, rng: random.Random) -> float:
        """Return a share drawn about the expected one: the less is known of the problem, the further from it."""
        mean, variance = self._logit(row)
        return logistic(rng.gauss(mean, EXPLORATION * math.sqrt(variance)))

    def update(self, outcomes: Sequence[tuple[int, int, int]]) -> None:
        """Learn from a step: of each problem its index, and how many completions were right and wrong."""
        met = {name for row, _, _ in outcomes for name in self._names(row)}
        for name in met & self.weights.keys():
            mean, variance = self.weights[name]
            self.weights[name] = Weight(mean, min(_prior(name).variance, variance / MEMORY))
        for row, right, wrong in outcomes:
            self._learn(row, right, right + wrong)

    def begin_with(self, outcomes: Sequence[tuple[int, int, int]]) -> None:
        """Learn what was measured before the training, which a changing policy must be able to outgrow."""
        self.update(outcomes)
        for name, (mean, variance) in self.weights.items():
            self.weights[name] = Weight(mean, max(LEAST_VARIANCE, variance))

    def _learn(self, row: int, right: int, completions: int) -> None:
        """Move the weights of a problem to the most likely logit, each by its share of their variance (Laplace)."""
        expected, variance = self._logit(row)
        logit = expected
        for _ in range(NEWTON_STEPS):
            share = logistic(logit)
            slope = right - completions * share - (logit - expected) / variance
            curvature = completions * share * (1 - share) + 1 / variance
            logit += max(-2.0, min(2.0, slope / curvature))
        share = logistic(logit)
        information = completions * share * (1 - share)
        for name in self._names(row):
            before = self._weight(name)
            mean = before.mean + before.variance / variance * (logit - expected)
            learnt = before.variance**2 * information / (1 + information * variance)
            self.weights[name] = Weight(mean, before.variance - learnt)

    def _logit(self, row: int) -> Weight:
        """Return the logit of a problem's share, as the sum of its weights."""
        weights = [self._weight(name) for name in self._names(row)]
        return Weight(sum(weight.mean for weight in weights), sum(weight.variance for weight in weights))

    def _names(self, row: int) -> list[str]:
        """Return the names of a problem's weights."""
        return [POLICY, *self.features[row], f"#{row}"]

    def _weight(self, name: str) -> Weight:
        return self.weights.get(name) or _prior(name)

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt, in JSON's types."""
        return {"weights": {name: list(weight) for name, weight in self.weights.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned. The state of the sampler before this one has no weights: begin anew."""
        self.weights = {name: Weight(*weight) for name, weight in state.get("weights", {}).items()}


def logistic(logit: float) -> float:
    """Return the share that belongs to a logit."""
    return 1 / (1 + math.exp(-max(-FARTHEST, min(FARTHEST, logit))))


def _prior(name: str) -> Weight:
    """Return what is known of a weight before any step."""
    return Weight(0.0, PROBLEM_VARIANCE if name.startswith("#") else FEATURE_VARIANCE)
