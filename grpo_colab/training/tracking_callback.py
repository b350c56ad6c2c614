"""The trainer's callback that tells every tracker, and the table of completions that it tells them.

The trainer reports to nobody itself (`report_to = []`): TRL would call the libraries of W&B, trackio and MLflow with no
limit to how long that takes. W&B, TensorBoard and trackio are accelerate's trackers. All other names of
`grpo.report_to` are transformers' callbacks: accelerate has no tracker for half of them, and for the others
transformers sends more (the trainer's arguments, models as artifacts).
"""

from __future__ import annotations

import contextlib
import os
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pandas
from transformers import TrainerCallback
from transformers.integrations import is_kubeflow_available
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from trl.trainer.utils import strip_images_from_messages

from grpo_colab.training.tracking import Guard, tracker_names
from grpo_colab.training.tracking_tensorboard import TensorBoardTracker
from grpo_colab.training.tracking_trackio import TrackioTracker, log_adapter_to_trackio
from grpo_colab.training.tracking_wandb import wandb_tracker
from grpo_colab.training.trainer import timings_to

if TYPE_CHECKING:
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.runs.run import Run

ARTIFACT_LIMIT_S: Final = 300.0  # for the upload of the adapter, where it is asked for
ARTIFACTS: Final = ("end", "checkpoint")  # what <TRACKER>_LOG_MODEL says to ask for the adapter
OURS: Final = ("wandb", "tensorboard", "trackio")


@dataclass
class Guarded:
    """A tracker, and the guards of its calls: a table may hold what it refuses, and then its metrics still come."""

    tracker: Any
    guard: Guard
    table_guard: Guard


class TrackerCallback(TrainerCallback):
    """Tell each tracker of grpo.report_to what the trainer logs. Each call has a time limit, and none raises.

    Enter it around all trainers of a run, since the W&B run lasts longer than one of them. Each trainer has it as the
    `trackers` of its class, by TrackerMixin.

    At the end the adapter goes to each tracker that takes one, where WANDB_LOG_MODEL or TRACKIO_LOG_MODEL is set.
    """

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self.run, self.recipe = run, recipe
        self.names = tracker_names(recipe.grpo)
        self.trackers: dict[str, Guarded] = {}
        self.integrations: list[tuple[TrainerCallback, Guard]] = []

    def __enter__(self) -> TrackerCallback:
        with ExitStack() as entered:
            entered.enter_context(timings_to(self))
            tracker = entered.enter_context(wandb_tracker(self.run, self.recipe))
            if tracker is not None:
                self._add("wandb", tracker)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        if exception[0] is None and self.run.adapter.is_dir() and int(os.environ.get("RANK", "0")) == 0:
            self._log_adapter()
        self._entered.__exit__(*exception)

    def _add(self, name: str, tracker: Any) -> None:
        guard = Guard(tracker.title)
        table_guard = Guard(f"the table of completions in {tracker.title}", context=guard.context)
        self.trackers[name] = Guarded(tracker, guard, table_guard)

    def _log_adapter(self) -> None:
        asked = {name for name in self.names if os.environ.get(f"{name.upper()}_LOG_MODEL", "").lower() in ARTIFACTS}
        if "wandb" in asked and "wandb" in self.trackers:
            Guard("the adapter in wandb", ARTIFACT_LIMIT_S)(self.trackers["wandb"].tracker.log_adapter)
        if "trackio" in asked:
            Guard("the adapter in trackio", ARTIFACT_LIMIT_S)(log_adapter_to_trackio, self.run)

    # Events, as the trainer calls them. transformers' callbacks use no others.

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make transformers' callbacks, for each trainer anew, as it would by itself."""
        self.integrations = []
        kubeflow = ["kubeflow"] if is_kubeflow_available() and "kubeflow" not in self.names else []
        for name in [name for name in (*self.names, *kubeflow) if name not in OURS]:
            kind = INTEGRATION_TO_CALLBACK[name]
            guard = Guard(kind.__name__.removesuffix("Callback"))
            callback = guard(kind)
            if callback is not None:
                self.integrations.append((callback, guard))
        self._pass_on("on_init_end", args, state, control, **kwargs)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            if "tensorboard" in self.names:
                self._add("tensorboard", TensorBoardTracker(self.run, state.global_step))
            if "trackio" in self.names:
                self._add("trackio", TrackioTracker(self.run, resume=state.global_step > 0))
            arguments = {**args.to_dict(), "report_to": self.names}
            config = trainer_config(arguments, model)
            for each in self.trackers.values():
                each.guard(each.tracker.begin_training, arguments, config, model)
        self._pass_on("on_train_begin", args, state, control, model=model, **kwargs)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        for each in self.trackers.values():
            each.guard(each.tracker.log_step, logs, state.global_step)
        self._pass_on("on_log", args, state, control, logs=logs, **kwargs)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if (wandb := self.trackers.get("wandb")) is not None:
            wandb.guard(wandb.tracker.log_checkpoint, args.to_dict(), state)
        self._pass_on("on_save", args, state, control, **kwargs)

    def on_push_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if (trackio := self.trackers.get("trackio")) is not None:
            trackio.guard(trackio.tracker.on_push_begin, args, state, control, **kwargs)
        self._pass_on("on_push_begin", args, state, control, **kwargs)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End what is begun anew for each trainer: all but W&B."""
        for name in ("tensorboard", "trackio"):
            if (each := self.trackers.pop(name, None)) is not None:
                each.guard(each.tracker.end_training, args, state, control, **kwargs)
        self._pass_on("on_train_end", args, state, control, **kwargs)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._pass_on("on_step_end", args, state, control, **kwargs)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._pass_on("on_evaluate", args, state, control, **kwargs)

    def on_predict(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._pass_on("on_predict", args, state, control, **kwargs)

    def _pass_on(self, event: str, *arguments: Any, **named: Any) -> None:
        for callback, guard in self.integrations:
            if getattr(type(callback), event) is not getattr(TrainerCallback, event):  # else there is nothing to guard
                guard(getattr(callback, event), *arguments, **named)

    # What TRL tells the trackers by itself, not as an event.

    def log_timing(self, values: dict[str, float], step: int) -> None:
        """Tell what TRL measured of a part of the training step `step`, in seconds."""
        for each in self.trackers.values():
            if each.tracker.has_tables:  # TRL tells these and MLflow
                each.guard(each.tracker.log_timing, values, step)
        for callback, guard in self.integrations:
            if isinstance(callback, INTEGRATION_TO_CALLBACK["mlflow"]):
                guard(log_timing_to_mlflow, values, step)

    def log_completions(self, trainer: Any, tables: bool) -> None:
        """Tell the completions that the trainer has just learnt from; those that take tables only with `tables`."""
        for each in self.trackers.values():
            if tables if each.tracker.has_tables else self.recipe.grpo.get("log_completions", True):
                each.table_guard(log_completions_of, trainer, each.tracker)


def trainer_config(arguments: dict[str, Any], model: Any) -> dict[str, Any]:
    """Return what transformers adds to a run's config: the trainer's arguments, and how the model is built."""
    config: dict[str, Any] = {}
    if getattr(model, "peft_config", None) is not None:
        config["peft_config"] = model.peft_config
    if getattr(model, "config", None) is not None:
        config |= model.config if isinstance(model.config, dict) else model.config.to_dict()
    config |= arguments
    with contextlib.suppress(AttributeError):
        config["model/num_parameters"] = model.num_parameters()
    return config


def log_completions_of(trainer: Any, tracker: Any) -> None:
    """Give a tracker the completions of the trainer's step: what TRL writes to its file, conversations as texts."""
    columns, images, rewards = trainer.completion_columns()
    if not columns["completion"]:
        return
    for name in ("prompt", "completion"):
        columns[name] = [text_of(messages) for messages in columns[name]]
    table = pandas.DataFrame(columns)
    if tracker.has_tables and images:
        table["image"] = pandas.Series([found or [] for found in images], dtype=object)
    if tracker.has_tables and trainer.log_unique_prompts:
        table = table[~table["prompt"].duplicated()]
    tracker.log_completions(table, rewards, trainer.state.global_step)


def text_of(messages: Any) -> str:
    """Return what is said in a conversation, without its images; a text as it is."""
    if isinstance(messages, list):
        return "\n\n".join(str(message.get("content")) for message in strip_images_from_messages(messages))
    return str(messages)


def log_timing_to_mlflow(values: dict[str, float], step: int) -> None:
    import mlflow

    if mlflow.active_run() is not None:
        mlflow.log_metrics(values, step=step)
