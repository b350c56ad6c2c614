"""Choose the problems of a step: those that the policy gets right about half of the time.

Of a group of completions that are all right, or all wrong, GRPO learns nothing but the format. MoPPS (arXiv 2507.04632)
therefore keeps a posterior of each prompt's share of right completions, draws from it, and practises the prompts whose
draws are nearest to one half. A run of 250 steps hardly meets a prompt twice. So what is known of a prompt before
anyone has tried it decides, and `forecast` learns from every step what that is worth.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from grpo_colab.training.sampling.forecast import Forecast

CANDIDATES: Final = 8  # problems that are looked at for each one that is chosen


class PromptSampler:
    """Choose problems by their features, and learn from each step how often they come out right.

    `features` has those of every problem, in the order of the training set. With `adaptive` off, every problem is as
    likely as any other. The choice depends on the seed, the step and what was learnt, and on nothing else, so every
    process makes the same.
    """

    def __init__(self, features: Sequence[Sequence[str]], seed: int, adaptive: bool) -> None:
        self.problems, self.seed, self.adaptive = len(features), seed, adaptive
        self.forecast = Forecast(features)

    def choose(self, n: int, step: int, turn: int, taken: Collection[int] = ()) -> list[int]:
        """Return the indices of `n` problems for a turn of a step, none of `taken` while there are others.

        Where there are fewer than `n` problems, some come twice.
        """
        rng = random.Random(f"{self.seed}/{step}/{turn}")
        unwanted = set(taken)
        free = [index for index in range(self.problems) if index not in unwanted]
        if len(free) < n:
            free = list(range(self.problems)) * -(-n // self.problems)
        if not self.adaptive:
            return rng.sample(free, n)
        candidates = rng.sample(free, min(len(free), n * CANDIDATES))
        distances = [abs(self.forecast.draw(index, rng) - 0.5) for index in candidates]
        nearest = sorted(range(len(candidates)), key=lambda place: distances[place])
        return [candidates[place] for place in nearest[:n]]

    def begin_with(self, outcomes: Sequence[tuple[int, int, int]]) -> None:
        """Begin with what was measured before the training, as `update` takes it, instead of with nothing."""
        self.forecast.begin_with(outcomes)

    def update(self, outcomes: Sequence[tuple[int, int, int]]) -> None:
        """Learn from what a turn sampled: of each problem its index, and how many completions were right and wrong."""
        self.forecast.update(outcomes)

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt, in JSON's types."""
        return self.forecast.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.forecast.load_state_dict(state)
