"""Check [tripwires] beside the settings of [grpo] and [evaluation] that it depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.recipe.schema import Evaluation, Tripwires, own_table

# Schedules without a rate of each step, so that there is none to halve.
WITHOUT_RATE: Final = ("reduce_lr_on_plateau", "greedy")


def checked_tripwires(table: Mapping[str, Any], grpo: Mapping[str, Any], evaluation: Evaluation) -> Tripwires:
    """Return the table [tripwires]. Raise SettingError for a setting that cannot work beside the others.

    `tripwires.collapse` needs the best checkpoint by what it judges the run by, and a learning rate to halve.
    """
    tripwires = own_table(Tripwires, "tripwires", table)
    if not tripwires.collapse:
        return tripwires
    off = "or tripwires.collapse = false"
    if str(grpo.get("save_strategy", "steps")) == "no":
        raise SettingError(
            "needs checkpoints to go back to, and grpo.save_strategy = 'no' keeps none",
            setting="tripwires.collapse",
            value=True,
            remedy=f"take grpo.save_strategy out, {off}",
        )
    metric = "probe/accuracy" if evaluation.every else "reward"
    judges = str(grpo.get("metric_for_best_model", metric)) == metric and grpo.get("greater_is_better", True)
    if not judges:
        raise SettingError(
            f"goes back to the best checkpoint by {metric}, and grpo.metric_for_best_model chooses it otherwise",
            setting="tripwires.collapse",
            value=True,
            remedy=f"take grpo.metric_for_best_model and grpo.greater_is_better out, {off}",
        )
    schedule = str(grpo.get("lr_scheduler_type", "linear"))
    if schedule in WITHOUT_RATE:
        raise SettingError(
            f"halves the learning rate, and grpo.lr_scheduler_type = {schedule!r} sets its own",
            setting="tripwires.collapse",
            value=True,
            remedy=f"write grpo.lr_scheduler_type = 'linear', {off}",
        )
    return tripwires
