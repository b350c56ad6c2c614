"""Keep the state of [sampling] from step to step: what was learnt of the problems, and what is carried over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from grpo_colab.recipe.schema import Sampling
from grpo_colab.training.sampling.groups import Group
from grpo_colab.training.sampling.prompts import PromptSampler

SampleGroups = Callable[[list[int]], list[Group]]
IsRight = Callable[[int, str, Sequence[float | None]], bool]


class Practice:
    """Choose the groups that a step learns from.

    `kinds` are those of the training set's problems, and `weights` the rewards'. `step` has the prompts of a step and
    the completions of a group that are learnt from. `is_right` gives the verdict on a completion of the problem with
    an index, which may be seen from its rewards. With all settings off it is not `active`, and is not asked.
    """

    def __init__(
        self,
        settings: Sampling,
        kinds: Sequence[str],
        seed: int,
        weights: Sequence[float],
        step: tuple[int, int],
        is_right: IsRight,
    ) -> None:
        self.settings, self.weights, self.is_right = settings, weights, is_right
        self.prompts_per_step, self.group = step
        self.prompts = PromptSampler(kinds, seed, settings.strategy == "adaptive")
        self.carried: list[Group] = []  # of the step before, which had no room for them
        self._before: tuple[int, dict[str, Any]] | None = None  # a step that has begun, and the state before it

    @property
    def active(self) -> bool:
        """Tell whether the settings choose anything."""
        return self.prompts.adaptive or bool(self.settings.refill or self.settings.generate_more)

    @property
    def samples(self) -> int:
        """Return the completions that are sampled of each problem."""
        return self.settings.generate_more or self.group

    def choose(self, offered: list[int], step: int, sample: SampleGroups) -> tuple[list[Group], dict[str, float]]:
        """Return the groups of a step, and the step's metrics.

        `offered` are the problems that TRL's own order has for the step, which a uniform strategy takes. `step` is the
        number of steps that are done. `sample` samples the groups of some problems. It is called once, and again up to
        `refill` times while too few groups teach anything. Groups for which there is no room are carried over to the
        next step. There they stand behind those that its own policy sampled.
        """
        self._before = (step, self.state_dict())
        sampled: list[Group] = []
        carried, self.carried = self.carried, []
        turns = 0
        while True:
            rows = offered
            if turns or self.prompts.adaptive:
                taken = [group.row for group in (*sampled, *carried)]
                rows = self.prompts.choose(self.prompts_per_step, step, turns, taken)
            found = sample(rows)
            self.prompts.update([(group.row, group.right, len(group.samples) - group.right) for group in found])
            sampled += found
            turns += 1
            useful = [group for group in (*sampled, *carried) if group.rank(self.weights) == 0]
            if len(useful) >= self.prompts_per_step or turns > self.settings.refill:
                break
        ranked = sorted((*sampled, *carried), key=lambda group: group.rank(self.weights))
        chosen, left = ranked[: self.prompts_per_step], ranked[self.prompts_per_step :]
        if self.settings.refill:
            fresh = {id(group) for group in sampled}
            useful_left = [group for group in left if id(group) in fresh and group.rank(self.weights) == 0]
            self.carried = useful_left[: self.prompts_per_step]
        metrics = self._metrics(sampled, chosen, turns)
        return [group.cut(self.group, self.weights) for group in chosen], metrics

    def _metrics(self, sampled: Sequence[Group], chosen: Sequence[Group], turns: int) -> dict[str, float]:
        """Return what sampling cost and found in a step."""
        ranks = [group.rank(self.weights) for group in sampled]
        completions = sum(len(group.samples) for group in sampled)
        fresh = {id(group) for group in sampled}
        return {
            "sampling/turns": turns,
            "sampling/completions": completions,
            "sampling/right": sum(group.right for group in sampled) / completions,
            "sampling/groups_that_teach": ranks.count(0) / len(ranks),
            "sampling/groups_of_format_only": ranks.count(1) / len(ranks),
            "sampling/carried_over": sum(id(group) not in fresh for group in chosen),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state in JSON's types."""
        return {"prompts": self.prompts.state_dict(), "carried": [group.as_dict() for group in self.carried]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.prompts.load_state_dict(state["prompts"])
        self.carried = [Group.from_dict(stored) for stored in state["carried"]]
        self._before = None

    def state_after(self, step: int) -> dict[str, Any]:
        """Return the state at the end of a step. Of a step that has begun since, nothing is in it."""
        if self._before is not None and self._before[0] == step:
            return self._before[1]
        return self.state_dict()
