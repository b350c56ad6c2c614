"""Estimate before a run whether a recipe fits a device, with which settings, and how long it takes.

    plan(Recipe.load("gsm8k-llama31-8b"), "T4").text()

Everything follows from the model's configuration. Nothing else is downloaded, and that only where it does not come with
the package. Estimates are good to about 15 % in memory and to a factor of two in time.
"""

from grpo_colab.plan.batch import BatchPlan, plan_batch
from grpo_colab.plan.devices import GIB
from grpo_colab.plan.disk import check_disk
from grpo_colab.plan.memory import answers_at_once
from grpo_colab.plan.model_shape import CannotEstimate
from grpo_colab.plan.planner import plan
from grpo_colab.plan.result import Plan

__all__ = [
    "GIB",
    "BatchPlan",
    "CannotEstimate",
    "Plan",
    "answers_at_once",
    "check_disk",
    "plan",
    "plan_batch",
]
