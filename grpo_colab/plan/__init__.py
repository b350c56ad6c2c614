"""What a device has, what a recipe needs, and how it is made to fit.

    plan(Recipe.load("gsm8k-llama31-8b"), "T4").text()

Everything follows from the model's configuration: nothing is downloaded but that, and only where it does not come with
the package. Estimates are good to about 15 % in memory and to a factor of two in time.
"""

from grpo_colab.plan.batch import (
    GIB,
    BatchPlan,
    adapter_bytes,
    answers_at_once,
    backward_bytes,
    check_disk,
    plan_batch,
)
from grpo_colab.plan.devices import CPU, GPUS
from grpo_colab.plan.model_shape import Unplanned
from grpo_colab.plan.planner import plan
from grpo_colab.plan.result import Plan

__all__ = [
    "CPU",
    "GIB",
    "GPUS",
    "BatchPlan",
    "Plan",
    "Unplanned",
    "adapter_bytes",
    "answers_at_once",
    "backward_bytes",
    "check_disk",
    "plan",
    "plan_batch",
]
