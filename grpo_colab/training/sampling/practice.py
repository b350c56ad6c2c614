"""Keep the state of [sampling] from step to step: what was learnt of the problems, and what is carried over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from grpo_colab.recipe.schema import Sampling
from grpo_colab.training.sampling.groups import Group
from grpo_colab.training.sampling.hints import Index
from grpo_colab.training.sampling.prompts import PromptSampler

SampleGroups = Callable[[list[Index]], list[Group]]
IsRight = Callable[[int, str, Sequence[float | None]], bool]
HintOf = Callable[[int, int], int]


class Practice:
    """Choose the groups that a step learns from.

    `features` are those of the training set's problems, and `weights` the rewards'. `step` has the prompts of a step
    and the completions of a group that are learnt from. `is_right` gives the verdict on a completion of the problem
    with an index, which may be seen from its rewards. `hint_of` returns how many steps of its solution a problem may
    show after so many steps of training. With all settings off it is not `active`, and is not asked.
    """

    def __init__(
        self,
        settings: Sampling,
        features: Sequence[Sequence[str]],
        seed: int,
        weights: Sequence[float],
        step: tuple[int, int],
        is_right: IsRight,
        hint_of: HintOf | None = None,
    ) -> None:
        self.settings, self.weights, self.is_right = settings, weights, is_right
        self.hint_of = hint_of if settings.hints == "solution" else None
        self.prompts_per_step, self.group = step
        self.prompts = PromptSampler(features, seed, settings.strategy == "adaptive")
        self.carried: list[Group] = []  # of the step before, which had no room for them
        self._before: tuple[int, dict[str, Any]] | None = None  # a step that has begun, and the state before it

    @property
    def active(self) -> bool:
        """Tell whether the settings choose anything."""
        return (
            self.prompts.adaptive or self.settings.refill > 0 or self.samples > self.group or self.hint_of is not None
        )

    @property
    def samples(self) -> int:
        """Return the completions that are sampled of each problem."""
        return self.settings.per_prompt(self.group)

    def choose(self, offered: list[int], step: int, sample: SampleGroups) -> tuple[list[Group], dict[str, float]]:
        """Return the groups of a step, and the step's metrics.

        `offered` are the problems that TRL's own order has for the step, which a uniform strategy takes. `step` is the
        number of steps that are done. `sample` samples the groups of some problems. It is called once, and again up to
        `refill` times while too few groups teach anything. Groups for which there is no room are carried over to the
        next step. There they stand behind those that its own policy sampled. With hints, `sample` is called for those
        that are all wrong once more. Nothing is learnt of how hard problems are from what came with a hint.
        """
        self._before = (step, self.state_dict())
        asked: list[Group] = []  # without a hint
        hinted: list[Group] = []
        sampled: list[Group] = []  # of each problem the one of the two that teaches more
        carried, self.carried = self.carried, []
        turns = 0
        while True:
            rows = offered
            if turns or self.prompts.adaptive:
                taken = [group.row for group in (*sampled, *carried)]
                rows = self.prompts.choose(self.prompts_per_step, step, turns, taken)
            found = sample(list(rows))
            self.prompts.update([(group.row, group.right, len(group.samples) - group.right) for group in found])
            with_hints = self._ask_with_hints(found, step, sample)
            asked += found
            hinted += with_hints.values()
            for place, group in enumerate(found):
                sampled.append(min(group, with_hints.get(place, group), key=lambda one: one.rank(self.weights)))
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
        metrics = {
            "sampling/turns": turns,
            "sampling/carried_over": sum(any(group is one for one in carried) for group in chosen),
            **self._found(asked, hinted),
        }
        return [group.cut(self.group, self.weights) for group in chosen], metrics

    def _ask_with_hints(self, groups: Sequence[Group], step: int, sample: SampleGroups) -> dict[int, Group]:
        """Return what the problems of groups that are all wrong gave with a hint, by the places of the groups."""
        if self.hint_of is None:
            return {}
        wrong = [place for place, group in enumerate(groups) if group.right == 0]
        shown = {place: self.hint_of(groups[place].row, step) for place in wrong}
        places = [place for place in wrong if shown[place]]
        if not places:
            return {}
        return dict(zip(places, sample([(groups[place].row, shown[place]) for place in places]), strict=True))

    def _found(self, asked: Sequence[Group], hinted: Sequence[Group]) -> dict[str, float]:
        """Return what sampling cost and found in a step. Only the cost counts groups with a hint, beside their own."""
        ranks = [group.rank(self.weights) for group in asked]
        completions = sum(len(group.samples) for group in asked)
        found = {
            "sampling/completions": completions + sum(len(group.samples) for group in hinted),
            "sampling/right": sum(group.right for group in asked) / completions,
            "sampling/groups_that_teach": ranks.count(0) / len(ranks),
            "sampling/groups_of_format_only": ranks.count(1) / len(ranks),
        }
        if self.hint_of is not None:
            found["sampling/hinted"] = len(hinted)
        if hinted:
            found["sampling/hinted_that_teach"] = sum(group.differs() for group in hinted) / len(hinted)
        return found

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
