"""The trackers that `grpo.report_to` names (W&B, TensorBoard, ...): which they are, and how one is called.

    tracking            which are asked for, and the guard around each call
    tracking_callback   the trainer's callback, which tells all of them
    tracking_wandb, tracking_trackio, tracking_tensorboard
                        what each of these needs beside accelerate's tracker
    tracking_wandb_service
                        W&B's process, and what it leaves in a run folder

A tracker may fail or hang at any time, and then the run goes on without it. Nothing here imports one of them, or
transformers, before it is asked for.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from grpo_colab.errors import SettingError, nearest, one_line
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs.run import Run
from grpo_colab.utils import console
from grpo_colab.utils.timeouts import run_with_timeout

LIMIT_S = 30.0  # for one call of a tracker
# Of a whole training: as transformers has it, in a W&B run's summary, and in no chart but TensorBoard's.
SUMMARY: Final = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")

T = TypeVar("T")


def tracker_names(grpo: Mapping[str, Any]) -> list[str]:
    """Return the names in grpo.report_to as transformers reads them, which "all" imports: unsloth must be before it."""
    named = grpo.get("report_to", "none")
    named = named if isinstance(named, list) else [named]
    if named == ["all"]:
        from transformers.integrations import get_available_reporting_integrations

        return list(get_available_reporting_integrations())
    return [] if named == ["none"] else named


def check_trackers(grpo: Mapping[str, Any]) -> None:
    """Raise SettingError for a tracker that does not exist or is not installed. Imports transformers, after unsloth."""
    if not (names := tracker_names(grpo)):
        return
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            near = nearest(name, INTEGRATION_TO_CALLBACK).removeprefix("; ")
            raise SettingError(
                f"{name}: no such tracker",
                setting="grpo.report_to",
                value=grpo["report_to"],
                remedy=f"{near} There are: {', '.join(INTEGRATION_TO_CALLBACK)}".strip(),
            )
        try:
            if name not in get_available_reporting_integrations():  # a list that leaves some out; they know themselves
                INTEGRATION_TO_CALLBACK[name]()
        except (RuntimeError, ImportError) as error:
            raise SettingError(
                f"{name} is not installed ({one_line(error)})",
                setting="grpo.report_to",
                value=grpo["report_to"],
                remedy=f'`pip install {name}`, or write "none"',
            ) from None


def table_arguments(grpo: Mapping[str, Any]) -> dict[str, Any]:
    """Return GRPOConfig's arguments by which TRL keeps each step's completions, for a tracker that has tables.

    It writes them to a file, and prints none of them.
    """
    wanted = {"wandb", "trackio"}.intersection(tracker_names(grpo)) and "log_completions" not in grpo
    return {"log_completions": True, "num_completions_to_print": 0} if wanted else {}


def config_of(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe in JSON's types, without its tokens."""
    return recipe.public(mode="json")


def name_of(run: Run) -> str:
    """Return what a tracker calls the run: grpo.run_name, or else its folder's name."""
    return str(run.recipe.grpo.get("run_name") or run.path.resolve().name)


class Guard:
    """Call what may raise or hang, for `limit_s` seconds at most, and call no more after it did, which is said once.

    What it prints goes to stderr. All calls share one context of variables, in which trackio keeps its run.
    """

    def __init__(self, name: str, limit_s: float | None = None, context: contextvars.Context | None = None) -> None:
        self.name, self.on, self.limit_s = name, True, limit_s
        self.context = context or contextvars.copy_context()

    def __call__(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T | None:
        if not self.on:
            return None
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return run_with_timeout(self.limit_s or LIMIT_S, self.context.run, function, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever a tracker's library raises
            self.on = False
            console.warn(f"{self.name} is off for the rest of this run ({one_line(error)})")
            return None
