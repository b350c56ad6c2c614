"""Read and check which trackers `grpo.report_to` names (W&B, TensorBoard, ...), and guard each call of one.

    tracking            read and check the names; `Guard`, a call with a time limit
    tracking_callback   the trainer's callback, which reports to all of them
    tracking_wandb, tracking_trackio, tracking_tensorboard
                        what each of these needs beyond accelerate's tracker
    tracking_wandb_service
                        W&B's service process, and the files that it leaves in a run folder

A tracker may fail or hang at any time. The run then continues without it. Importing this module imports neither a
tracker nor transformers.
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from grpo_colab.errors import SettingError, one_line, one_of
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs.run import Run
from grpo_colab.utils import console
from grpo_colab.utils.timeouts import run_with_timeout

LIMIT_S = 30.0  # seconds for one call of a tracker
# Metrics of a whole training. As with transformers, they go to the summary of a W&B run; of the charts, only
# TensorBoard's have them.
SUMMARY: Final = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")

T = TypeVar("T")


def tracker_names(grpo: Mapping[str, Any]) -> list[str]:
    """Return the names of the trackers in grpo.report_to, which may be a list, one name, "none" or "all".

    `grpo` is the recipe's table. "none", or no such setting, gives an empty list. "all" imports transformers to ask
    what is installed, so import unsloth before.
    """
    named = grpo.get("report_to", "none")
    names = named if isinstance(named, list) else [named]
    if names == ["all"]:
        from transformers.integrations import get_available_reporting_integrations

        return list(get_available_reporting_integrations())
    return [] if names == ["none"] else names


def check_trackers(grpo: Mapping[str, Any]) -> None:
    """Raise SettingError for a tracker that does not exist or is not installed.

    Where there is one, this imports transformers, so import unsloth before.
    """
    names = tracker_names(grpo)
    if not names:
        return
    from transformers.integrations import get_available_reporting_integrations
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for name in names:
        if name not in INTEGRATION_TO_CALLBACK:
            raise SettingError(
                f"{name}: no such tracker",
                setting="grpo.report_to",
                value=grpo["report_to"],
                remedy=one_of(name, INTEGRATION_TO_CALLBACK),
            )
        try:
            # transformers' list of what is installed leaves some out. Their callbacks check that themselves.
            if name not in get_available_reporting_integrations():
                INTEGRATION_TO_CALLBACK[name]()
        except (RuntimeError, ImportError) as error:
            raise SettingError(
                f"{name} is not installed ({one_line(error)})",
                setting="grpo.report_to",
                value=grpo["report_to"],
                remedy=f'`pip install {name}`, or write "none"',
            ) from None


def table_arguments(grpo: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments of GRPOConfig that turn on TRL's table of completions, where a tracker takes tables.

    TRL then writes each step's completions to a file, and prints none of them. Return an empty dict where neither W&B
    nor trackio is named, or where the recipe itself says whether to log completions.
    """
    takes_tables = {"wandb", "trackio"}.intersection(tracker_names(grpo))
    if not takes_tables or "log_completions" in grpo:
        return {}
    return {"log_completions": True, "num_completions_to_print": 0}


def public_config(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe in JSON's types, without access tokens, as the config of a tracker's run."""
    return recipe.public(mode="json")


def run_name(run: Run) -> str:
    """Return the name of a tracker's run: grpo.run_name, or else that of the run folder."""
    return str(run.recipe.grpo.get("run_name") or run.path.resolve().name)


class Guard:
    """Call functions that may raise or hang. After the first failure, warn and ignore all later calls.

    A call fails when it raises or takes longer than `limit_s` seconds (LIMIT_S by default). Each runs in a thread of
    its own, which goes on by itself when the time is over. `name` is who failed, in the warning. What a function prints
    goes to stderr. All calls run in one `contextvars` context, where trackio keeps its run; guards that share a
    `context` share that run.
    """

    def __init__(self, name: str, limit_s: float | None = None, context: contextvars.Context | None = None) -> None:
        self.name, self.on, self.limit_s = name, True, limit_s
        self.context = context or contextvars.copy_context()

    def __call__(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T | None:
        """Return the function's result; None when it fails, or when an earlier call failed.

        Only KeyboardInterrupt is raised.
        """
        if not self.on:
            return None
        try:
            with contextlib.redirect_stdout(sys.stderr):
                return run_with_timeout(self.limit_s or LIMIT_S, self.context.run, function, *args, **kwargs)
        except Exception as error:  # noqa: BLE001 - whatever a tracker's library raises
            self.on = False
            console.warn(f"{self.name} is off for the rest of this run ({one_line(error)})")
            return None
