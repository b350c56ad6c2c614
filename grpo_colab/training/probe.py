"""Ask a small fixed set of held-out problems during the training, every evaluation.every steps.

They are not those of the evaluation before and after: to choose a checkpoint by these would flatter it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from grpo_colab.evaluation import evaluate
from grpo_colab.evaluation.statistics import summary

if TYPE_CHECKING:
    from grpo_colab.training.setup import GRPOSetup


class Probe(TrainerCallback):
    """Answer the setup's probe greedily after every evaluation.every steps, and log how much is right.

    Set `trainer` once it is built. Its metrics get `probe/accuracy`, and `probe/lenient_accuracy` where answers can be
    judged leniently: shares from 0 to 1. Nothing of the training depends on it, not even a random number.
    """

    def __init__(self, setup: GRPOSetup) -> None:
        self.setup = setup
        self.trainer: Any = None

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        setup, every = self.setup, self.setup.recipe.evaluation.every
        if not every or state.global_step % every:
            return
        rows = evaluate.answer(setup.policy, setup.recipe, setup.task, setup.probe, setup.evaluation_batch)
        side = summary(rows)
        found = {"accuracy": side["accuracy"], "lenient_accuracy": side["lenient_accuracy"]}
        self.trainer.add_metrics(**{f"probe/{name}": value for name, value in found.items() if value is not None})
