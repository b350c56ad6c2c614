"""What a run works with, made once before its first step and handed on as one value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grpo_colab.machine import Machine
    from grpo_colab.plan import Geometry
    from grpo_colab.policy import Policy
    from grpo_colab.recipe import Recipe
    from grpo_colab.tasks import Problem, Task


@dataclass(frozen=True)
class Setup:
    """A checked recipe with all that it names: the device, the task, the loaded policy and the problems.

    `recipe` is the one that the run folder keeps. `batch_plan` says how a step is cut to fit the memory. `rows` are
    the training set as TRL takes it: the prompt, and a column per keyword of the rewards. `generation_batch` is the
    number of completions that are generated together, 0 for all of a step's. `evaluation_batch` is the number of
    held-out problems that are answered together.
    """

    recipe: Recipe
    device: Machine
    task: Task
    policy: Policy
    batch_plan: Geometry
    rows: list[dict[str, Any]]
    held_out: list[Problem]
    generation_batch: int = 0
    evaluation_batch: int = 1
