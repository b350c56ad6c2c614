"""Report to every tracker from one callback of the trainer: metrics, timings, completions, the adapter.

The trainer itself reports to none (`report_to = []`), because TRL would call the libraries of W&B, trackio and MLflow
without a time limit. W&B, TensorBoard and trackio are trackers of accelerate, each with a file beside this one. All
other names of `grpo.report_to` are callbacks of transformers: accelerate has no tracker for half of them, and for the
others transformers sends more (the trainer's arguments, models as artifacts).
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

ARTIFACT_LIMIT_S: Final = 300.0  # seconds for the upload of the adapter
LOG_ADAPTER: Final = ("end", "checkpoint")  # values of <TRACKER>_LOG_MODEL that ask for the adapter
ACCELERATE_TRACKERS: Final = ("wandb", "tensorboard", "trackio")


@dataclass
class Guarded:
    """A tracker with two guards of its calls, so that a table that it refuses does not cost its metrics."""

    tracker: Any
    guard: Guard
    table_guard: Guard


class TrackerCallback(TrainerCallback):
    """Report what the trainer logs to each tracker of grpo.report_to. Each call has a time limit, and none raises.

    Enter it around all trainers of a run: a run builds another trainer when memory runs out, and they share the W&B
    run. A trainer finds it as `trackers`, an attribute of its class (see TrackerMixin).

    On exit the adapter goes to W&B and trackio, where WANDB_LOG_MODEL or TRACKIO_LOG_MODEL asks for it.
    """

    def __init__(self, run: Run, recipe: Recipe) -> None:
        self.run, self.recipe = run, recipe
        self.names = tracker_names(recipe.grpo)
        self.trackers: dict[str, Guarded] = {}
        self.integrations: list[tuple[TrainerCallback, Guard]] = []  # transformers' callbacks

    def __enter__(self) -> TrackerCallback:
        """Start the W&B run if grpo.report_to names it, and receive TRL's timings until the exit.

        Return the callback.
        """
        with ExitStack() as entered:
            entered.enter_context(timings_to(self))
            tracker = entered.enter_context(wandb_tracker(self.run, self.recipe))
            if tracker is not None:
                self._add("wandb", tracker)
            self._entered = entered.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        """Log the adapter after a run that ended well, and end the W&B run. An exception of the block is passed on.

        The adapter is logged by rank 0 only, and only if it is in the run folder.
        """
        with ExitStack() as leaving:
            leaving.push(self._entered)  # ends the W&B run also where a signal interrupts the upload
            if exception[0] is None and self.run.adapter.is_dir() and int(os.environ.get("RANK", "0")) == 0:
                self._log_adapter()

    def _add(self, name: str, tracker: Any) -> None:
        """Report to a tracker from now on. Its two guards share a context, in which trackio keeps its run."""
        guard = Guard(tracker.title)
        table_guard = Guard(f"the table of completions in {tracker.title}", context=guard.context)
        self.trackers[name] = Guarded(tracker, guard, table_guard)

    def _log_adapter(self) -> None:
        """Log the trained adapter to W&B and trackio, each where its environment variable asks for it.

        Each may take ARTIFACT_LIMIT_S seconds. A failure is only a warning.
        """
        if "wandb" in self.trackers and self._wants_adapter("wandb"):
            Guard("the adapter in wandb", ARTIFACT_LIMIT_S)(self.trackers["wandb"].tracker.log_adapter)
        if self._wants_adapter("trackio"):
            Guard("the adapter in trackio", ARTIFACT_LIMIT_S)(log_adapter_to_trackio, self.run)

    def _wants_adapter(self, name: str) -> bool:
        return name in self.names and os.environ.get(f"{name.upper()}_LOG_MODEL", "").lower() in LOG_ADAPTER

    # The trainer's events. transformers' callbacks use no others than these.

    def on_init_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Make transformers' callbacks anew for each trainer, as a trainer with `report_to` would.

        One that cannot be made is left out, with a warning.
        """
        self.integrations = []
        names = [name for name in self.names if name not in ACCELERATE_TRACKERS]
        if is_kubeflow_available() and "kubeflow" not in self.names:
            names.append("kubeflow")  # transformers adds it by itself inside Kubeflow
        for name in names:
            callback_class = INTEGRATION_TO_CALLBACK[name]
            guard = Guard(callback_class.__name__.removesuffix("Callback"))
            callback = guard(callback_class)
            if callback is not None:
                self.integrations.append((callback, guard))
        self._pass_on("on_init_end", args, state, control, **kwargs)

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Start TensorBoard and trackio on the main process, and give all trackers the configuration."""
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
        """End the trackers that each trainer starts anew: all but W&B."""
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
        """Call transformers' callbacks that handle this event. The others inherit an empty method, and need no call."""
        for callback, guard in self.integrations:
            if getattr(type(callback), event) is not getattr(TrainerCallback, event):
                guard(getattr(callback, event), *arguments, **named)

    # What TRL reports to trackers directly, without an event of the trainer.

    def log_timing(self, values: dict[str, float], step: int) -> None:
        """Report the seconds that TRL measured for a part of the step to W&B, trackio and MLflow, as TRL itself would.

        `values` is one metric: TRL's name of the part, and its seconds.
        """
        for each in self.trackers.values():
            if each.tracker.has_tables:  # W&B and trackio
                each.guard(each.tracker.log_timing, values, step)
        for callback, guard in self.integrations:
            if isinstance(callback, INTEGRATION_TO_CALLBACK["mlflow"]):
                guard(log_timing_to_mlflow, values, step)

    def log_completions(self, trainer: Any, tables: bool) -> None:
        """Report the completions that the trainer has just learned from.

        `tables` says whether TRL writes a table of them: only then do W&B and trackio get them. TensorBoard gets
        completions unless the recipe says `grpo.log_completions = false`. A tracker that refuses them gets no more
        completions in this training, and still gets its metrics.
        """
        for each in self.trackers.values():
            wanted = tables if each.tracker.has_tables else self.recipe.grpo.get("log_completions", True)
            if wanted:
                each.table_guard(log_completions_of, trainer, each.tracker)


def trainer_config(arguments: dict[str, Any], model: Any) -> dict[str, Any]:
    """Return what transformers adds to a run's config: the trainer's arguments, the model's config, the adapter's.

    The model's number of parameters is added as well. What `model` does not have, or all of it for None, is left out.
    Where names are equal, `arguments` win.
    """
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
    """Log the completions of the trainer's last step: the table that TRL writes to its file, conversations as texts.

    Nothing is logged when there are none. A tracker that has tables also gets the images, and each prompt only once
    where TRL is told to log unique prompts.
    """
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
    """Return the contents of a conversation's messages, without images, as one text; a text as it is."""
    if isinstance(messages, list):
        return "\n\n".join(str(message.get("content")) for message in strip_images_from_messages(messages))
    return str(messages)


def log_timing_to_mlflow(values: dict[str, float], step: int) -> None:
    """Log seconds to the active MLflow run, if there is one: transformers' callback has no method for timings."""
    import mlflow

    if mlflow.active_run() is not None:
        mlflow.log_metrics(values, step=step)
