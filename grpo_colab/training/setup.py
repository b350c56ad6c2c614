"""Define what a run works with. It is made once, before the first step, and passed on as one value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from grpo_colab.evaluation.evaluate import OWN

if TYPE_CHECKING:
    from grpo_colab.plan import BatchPlan
    from grpo_colab.policy.policy import Policy
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.tasks import Problem, Task
    from grpo_colab.utils.device import Device


class Problems(NamedTuple):
    """The task with its problems, as they are read and checked before anything heavy is imported.

    `training` are the problems to train on, `held_out` those of the evaluation, `further` those of the task's further
    splits, and `probe` those that are asked during the training.
    """

    task: Task
    training: list[Problem]
    held_out: list[Problem]
    further: Mapping[str, list[Problem]] = MappingProxyType({})
    probe: Sequence[Problem] = ()

    @property
    def all_held_out(self) -> list[Problem]:
        """Return the held-out problems of all splits, and those of the probe."""
        return [*self.held_out, *itertools.chain.from_iterable(self.further.values()), *self.probe]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A checked recipe, the device, and what the recipe names: task, loaded policy and held-out problems.

    `further` are those of the task's further splits. `evaluation_batch` is the number of held-out problems that are
    answered together.
    """

    recipe: Recipe
    device: Device
    task: Task
    policy: Policy
    held_out: list[Problem]
    further: Mapping[str, list[Problem]] = field(default_factory=dict)
    evaluation_batch: int

    @property
    def evaluated(self) -> dict[str, list[Problem]]:
        """Return the held-out problems of each split, the recipe's own first."""
        return {OWN: self.held_out, **self.further}

    @property
    def kept_recipe(self) -> Recipe:
        """Return the recipe as the run folder keeps it."""
        return self.recipe


@dataclass(frozen=True, kw_only=True)
class GRPOSetup(Setup):
    """A setup for GRPO, with the training set, and how a step is cut to fit the memory.

    `rows` are the training set as TRL takes it: the prompt, and a column per keyword of the rewards. `problems` are
    those that the rows were made of, in the same order. `probe` are problems that are asked during the training.
    `batch_plan` says how a step is cut into micro-batches. `generation_batch` is the number of completions that are
    generated together, 0 for all of a step's.
    """

    rows: list[dict[str, Any]]
    problems: list[Problem]
    probe: list[Problem] = field(default_factory=list)
    batch_plan: BatchPlan
    generation_batch: int = 0

    @property
    def kept_recipe(self) -> Recipe:
        """Return the recipe with the chosen micro-batch, from which a resumed run starts."""
        budget = self.recipe.budget.model_copy(update={"micro_batch": self.batch_plan.micro_batch})
        return self.recipe.model_copy(update={"budget": budget})


class Outcome(NamedTuple):
    """The result of the learning.

    `step` is that of the adapter to evaluate, 0 when there is none. `solved` says whether a completion has earned
    budget.stop_at_reward, None when nothing was to be solved.
    """

    step: int
    solved: bool | None
