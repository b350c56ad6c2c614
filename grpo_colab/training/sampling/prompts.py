"""Choose the problems of a step: those that the policy gets right about half of the time.

Of a group of completions that are all right, or all wrong, GRPO learns nothing but the format. MoPPS (arXiv 2507.04632)
therefore keeps a Beta posterior of each prompt's share of right completions, draws from it, and practises the prompts
whose draws are nearest to one half. A run of 250 steps hardly meets a prompt twice. So the posterior here is that of a
*kind* of problems, such as those with three steps in their solution, of which every step says something.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

CANDIDATES: Final = 8  # problems that are looked at for each one that is chosen
# What an older step still counts, from one step that met the kind to the next: the policy changes.
MEMORY: Final = 0.8
PRIOR: Final = 16.0  # completions


class PromptSampler:
    """Choose problems by their kinds, and learn from each step how often each kind comes out right.

    `kinds` has the kind of every problem, in the order of the training set. With `adaptive` off, every problem is as
    likely as any other. The choice depends on the seed, the step and what was learnt, and on nothing else, so every
    process makes the same.
    """

    def __init__(self, kinds: Sequence[str], seed: int, adaptive: bool) -> None:
        self.kinds, self.seed, self.adaptive = kinds, seed, adaptive
        self.counts: dict[str, list[float]] = {}  # kind -> right and wrong completions, of which older ones count less

    def choose(self, n: int, step: int, turn: int, taken: Collection[int] = ()) -> list[int]:
        """Return the indices of `n` problems for a turn of a step, none of `taken` while there are others.

        Where there are fewer than `n` problems, some come twice.
        """
        rng = random.Random(f"{self.seed}/{step}/{turn}")
        unwanted = set(taken)
        free = [index for index in range(len(self.kinds)) if index not in unwanted]
        if len(free) < n:
            free = list(range(len(self.kinds))) * -(-n // len(self.kinds))
        if not self.adaptive:
            return rng.sample(free, n)
        candidates = rng.sample(free, min(len(free), n * CANDIDATES))
        distances = []
        for index in candidates:
            right, wrong = self.counts.get(self.kinds[index], (0.0, 0.0))
            distances.append(abs(rng.betavariate(1 + right, 1 + wrong) - 0.5))
        nearest = sorted(range(len(candidates)), key=lambda place: distances[place])
        return [candidates[place] for place in nearest[:n]]

    def begin_with(self, outcomes: Sequence[tuple[int, int, int]]) -> None:
        """Begin with what was measured before the training, as `update` takes it, instead of with nothing.

        However much of it there is, a kind's counts begin as those of PRIOR completions.
        """
        self.update(outcomes)
        for kind, counts in self.counts.items():
            weight = PRIOR / max(PRIOR, sum(counts))
            self.counts[kind] = [weight * count for count in counts]

    def update(self, outcomes: Sequence[tuple[int, int, int]]) -> None:
        """Learn from what a turn sampled: of each problem its index, and how many completions were right and wrong."""
        met: dict[str, list[float]] = {}
        for index, right, wrong in outcomes:
            found = met.setdefault(self.kinds[index], [0.0, 0.0])
            found[0] += right
            found[1] += wrong
        for kind, new in met.items():
            before = self.counts.get(kind, [0.0, 0.0])
            self.counts[kind] = [MEMORY * old + found for old, found in zip(before, new, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        """Return what was learnt, in JSON's types."""
        return {"counts": {kind: list(counts) for kind, counts in self.counts.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.counts = {kind: list(counts) for kind, counts in state["counts"].items()}
