"""Train a recipe's policy by TRL's own trainer and none of ours, for benchmarks that compare the two.

Model, prompts, rewards and the arguments of GRPOConfig are the recipe's. Nothing else of ours takes part in a step. A
probe is asked and timed as a run of ours does it.
"""

from __future__ import annotations

import unsloth  # isort: skip  # noqa: F401 - before transformers

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from grpo_colab import Recipe
from grpo_colab.evaluation import evaluate
from grpo_colab.evaluation.statistics import summary
from grpo_colab.training.phases import Phases
from grpo_colab.training.preparation import check, prepare
from grpo_colab.training.trainer import grpo_arguments


def train_bare(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Train, and return what is written to `folder`/bare.json: see the keys below. What is there is not repeated.

    `curve` has a row per probe: step, share right, seconds and completions of all steps until then. `before` and
    `after` have the graded answers by split.
    """
    file = folder / "bare.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    recipe = recipe.completed_by_task()
    with contextlib.ExitStack() as held:
        setup = prepare(recipe, check(recipe), None, None, Phases(), held)
        import trl
        from datasets import Dataset

        def answers() -> dict[str, Any]:
            return {
                split: evaluate.answer(setup.policy, recipe, setup.task, problems, setup.evaluation_batch)
                for split, problems in setup.evaluated.items()
            }

        before, probes = answers(), Probes(setup)
        trainer = trl.GRPOTrainer(
            model=setup.policy.model,
            processing_class=setup.policy.tokenizer,
            reward_funcs=recipe.reward_functions(),
            args=trl.GRPOConfig(**grpo_arguments(recipe, folder, setup.batch_plan, setup.device)),
            train_dataset=Dataset.from_list(setup.rows),
            callbacks=[probes],
        )
        trainer.train()
        curve = curve_of(probes, trainer.state.log_history, recipe.completions_per_step)
        found = {"curve": curve, "before": before, "after": answers()}
    file.write_text(json.dumps(found), encoding="utf-8")
    return found


class Probes(TrainerCallback):
    """Ask the probe between the steps."""

    def __init__(self, setup: Any) -> None:
        self.setup = setup
        self.found: list[tuple[int, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        setup, recipe = self.setup, self.setup.recipe
        if state.global_step % recipe.evaluation.every == 0:
            rows = evaluate.answer(setup.policy, recipe, setup.task, setup.probe, setup.evaluation_batch)
            self.found.append((state.global_step, summary(rows)["accuracy"]))


def curve_of(probes: Probes, history: Sequence[dict[str, Any]], per_step: int) -> list[tuple[int, float, float, int]]:
    """Return each probe with the seconds, by TRL's own clock, and the completions of all steps until then."""
    step_times = {row["step"]: row["step_time"] for row in history if "step_time" in row}
    curve = []
    for step, share in probes.found:
        seconds = sum(taken for at, taken in step_times.items() if at <= step)
        curve.append((step, share, seconds, step * per_step))
    return curve
