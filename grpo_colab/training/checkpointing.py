"""Decide when a checkpoint is due, have it written whole, and stop a run in time so that nothing is lost.

The trainer writes its checkpoint to a staging folder, and one rename publishes it (runs/checkpoints.py). A run stops
early when budget.max_hours are nearly over, or at a signal: it saves, and the final evaluation follows.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

import numpy
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState

from grpo_colab.errors import nearest, one_line
from grpo_colab.runs import checkpoints
from grpo_colab.runs.mirror import PATIENCE_S as MIRROR_PATIENCE_S
from grpo_colab.runs.records import is_step_row
from grpo_colab.training.signals import Signals, Stopped
from grpo_colab.utils import files
from grpo_colab.utils.console import warn

if TYPE_CHECKING:
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.runs.mirror import Mirror
    from grpo_colab.runs.run import Run
    from grpo_colab.training.collapse import CollapseRule

WINDOW: Final = 10  # steps from which a step's seconds and a checkpoint's value are estimated


class LastStep(TrainerCallback):
    """Remember the random states and counters at the end of each step, so that a broken step can be repeated exactly.

    `folder` is the run's folder of checkpoints.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.states: tuple[Any, ...] | None = None

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        # The trainer's counters, such as the number of tokens so far.
        counters = {name: value for name, value in vars(state).items() if isinstance(value, int | float)}
        self.states = (random.getstate(), numpy.random.get_state(), torch.get_rng_state(), cuda, counters)

    def save(self, trainer: Any, together: bool) -> None:
        """Write a checkpoint of the last whole step, unless there is one already.

        Before that, the random states and the trainer's counters are set back to those of that step. Nothing at all is
        done before the first step has ended. `together` says whether all processes have come here. Without it nothing
        is done among several processes, since all of them take part in writing and one may have stopped alone. No
        checkpoint is written between two steps that share their completions, because no checkpoint holds these. A write
        that fails is a warning, as in `CheckpointManager.save`.
        """
        if self.states is None or (trainer.args.world_size > 1 and not together):
            return
        python, arrays, tensors, cuda, counters = self.states
        random.setstate(python)
        numpy.random.set_state(arrays)
        torch.set_rng_state(tensors)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        vars(trainer.state).update(counters)

        step = trainer.state.global_step
        newest = next(reversed(checkpoints.saved(self.folder)), None)
        is_new = newest is None or checkpoints.step_of(newest) < step
        if is_new and step % trainer.args.num_iterations == 0:
            trainer.save_checkpoint()


class CheckpointManager(TrainerCallback):
    """Save checkpoints in time and whole, and end the run before its deadline, or at a signal.

    `deadline` is a time by time.monotonic(), which does not change when the system's clock is set; math.inf for none.
    `mirror` is None for a run without one. `costs` holds the seconds that a checkpoint (`save_s`) and an evaluation
    (`evaluation_s`) take, at first those in clock.json. The trainer's sampler of prompts must be in `sampler` before
    training; CheckpointMixin puts it there. After training, `stopped_by` says why the run ended before its last step,
    and `unsaved` why the last checkpoint could not be written; else they are None.

    In a single process, the beginning of a step raises Stopped for a signal that came while the step before was saved.
    """

    def __init__(self, run: Run, recipe: Recipe, signals: Signals, deadline: float, mirror: Mirror | None) -> None:
        self.run, self.recipe, self.signals, self.deadline, self.mirror = run, recipe, signals, deadline, mirror
        kept = files.read_json(run.path / "clock.json") or {}
        numbers = {key: value for key, value in kept.items() if files.number(value) is not None}
        self.costs: dict[str, float] = {key: value for key, value in numbers.items() if 0 <= value < 1e9}
        self.steps_s: deque[float] = deque(maxlen=WINDOW)
        every = recipe.evaluation.every
        by_probe = every and str(recipe.grpo.get("metric_for_best_model", "probe/")).startswith("probe/")
        self.spacing = every if by_probe else 1  # steps from one value to the next
        self.values: deque[float | None] = deque(maxlen=max(1, WINDOW // self.spacing))
        # With tripwires.collapse: it alone says which checkpoint is the best, because the run may go back to that one.
        self.best_by: CollapseRule | None = None
        self.stopped_by: str | None = None
        self.unsaved: str | None = None
        self.due = False  # whether to save as soon as a checkpoint can be written
        self.sampler: Any = None  # the trainer's sampler of prompts
        self.saved_at = self.step_began = time.monotonic()
        self.saving_s = 0.0

    @property
    def staging(self) -> str:
        """Return the folder that the trainer writes checkpoints to."""
        return str(self.run.checkpoints / checkpoints.STAGING)

    def record_cost(self, **costs_s: float) -> None:
        """Add these seconds to `costs`, and write `costs` to clock.json, from which a resumed run takes them.

        The keywords are `save_s` and `evaluation_s`. A file that cannot be written raises no error.
        """
        self.costs |= costs_s
        with contextlib.suppress(OSError):
            self.run.write_json("clock.json", self.costs)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        metric = args.metric_for_best_model
        self.values.clear()  # of a trainer before this one
        self.values.extend(row.get(metric) for row in self.run.metrics() if row.get(metric) is not None)
        # Each epoch draws its order of prompts from the sampler's generator. Draw those of the finished epochs.
        for _ in range(int(state.epoch or 0)):
            next(iter(self.sampler))
        self.saved_at = self.step_began = time.monotonic()
        self._follow_recipe(args.learning_rate, kwargs["optimizer"], kwargs["lr_scheduler"])

    def _follow_recipe(self, wanted: float, optimizer: Any, schedule: Any) -> None:
        """Give a resumed run the rate of the recipe's schedule at its step, from its first step on.

        The checkpoint holds the rates at the start and at its step, by the learning rate and the number of steps that
        the run had then. Schedules that follow a metric have no rate of a step and keep theirs, but for the scale.
        """
        rates = set(getattr(schedule, "base_lrs", ()))
        if len(rates) != 1:
            return
        began_with = rates.pop()
        for index, group in enumerate(optimizer.param_groups):
            if began_with and began_with != wanted:
                group["initial_lr"] = schedule.base_lrs[index] = wanted
                group["lr"] *= wanted / began_with
            lambdas = getattr(schedule, "lr_lambdas", None)
            if lambdas:  # transformers makes nearly all schedules of these, for the present number of steps
                group["lr"] = schedule.base_lrs[index] * lambdas[index](schedule.last_epoch)
            schedule._last_lr[index] = group["lr"]  # the trainer logs this one

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, model: Any, **kwargs: Any) -> None:
        if args.world_size > 1 or state.global_step % args.num_iterations:
            return
        self.signals.breakable = True
        # After an interruption vLLM would not answer the evaluation, so its step is always allowed to end.
        vllm = getattr(model, "vllm_engine", None) is not None
        step_s = max(self.steps_s, default=math.inf)
        self.signals.step_ends = time.monotonic() + (0.0 if vllm else step_s)
        if self.signals.count:  # the signal came while the previous step was saved
            self.signals.breakable = False
            raise Stopped

    def on_pre_optimizer_step(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.signals.breakable = False

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        now = time.monotonic()
        self.steps_s.append(now - self.step_began - self.saving_s)
        self.step_began, self.saving_s = now, 0.0
        if self.mirror is not None:
            self.mirror.poll()

        # Save the last step whatever the strategy, so that only the evaluation can still be lost. Save the first one,
        # too: it shows how long a checkpoint takes, and whether there is space for one.
        last = state.global_step >= state.max_steps
        by_time = 0 < self.recipe.budget.save_minutes * 60 <= now - self.saved_at
        if last or (args.save_strategy != "no" and (by_time or state.global_step == 1 or control.should_save)):
            self.due = True
        reason = None
        if self.signals.count:
            reason = "a signal"
        elif now + self.seconds_to_finish() > self.deadline:
            reason = "budget.max_hours"
        if args.world_size > 1:  # all processes stop and save at the same step when one of them has to
            gathered = gather_object([(self.due, reason)])
            self.due = any(due for due, _ in gathered)
            reason = next((why for _, why in gathered if why), None)

        # No checkpoint holds the completions that serve several steps, so none is written between such steps.
        control.should_save = False
        if state.global_step % args.num_iterations == 0 or last:
            if reason and not last:
                self.stopped_by = reason
                self.due = control.should_training_stop = True
            control.should_save, self.due = self.due, False
        return control

    def seconds_to_finish(self) -> float:
        """Return the seconds that have to be left for another step: for the step itself and for what follows it.

        That is the longest of the last WINDOW steps, two saves, the evaluation with a fifth added, and the wait for a
        mirror. A cost that is not known yet counts as 0. Call it after at least one step.
        """
        step_s, save_s = max(self.steps_s), self.costs.get("save_s", 0.0)
        mirror_s = MIRROR_PATIENCE_S if self.mirror is not None else 0.0
        # The second save is the adapter's. 1.2: a trained policy's answers may be longer than those before.
        return step_s + 2 * save_s + 1.2 * self.costs.get("evaluation_s", 0.0) + mirror_s

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        metric = args.metric_for_best_model
        if logs is None or not is_step_row(logs):
            return
        if metric in logs:
            self.values.append(logs[metric])
        elif not self.values and state.global_step == 1 and state.is_world_process_zero and self.spacing == 1:
            problem = f"grpo.metric_for_best_model = {metric!r}: no such metric"
            warn("; ".join(filter(None, (problem, nearest(metric, logs)))), step=1)

    def save(self, trainer: Any, write: Callable[[], None]) -> None:
        """Let the trainer `write` a checkpoint of its step to the staging folder, and publish it.

        All processes call this together. Old checkpoints are deleted, and the mirror is asked for a copy. A failure in
        any process raises nothing: it is printed as a warning, `unsaved` says why, and the staging folder is deleted.
        After a success `unsaved` is None, and the seconds that it took go to clock.json.
        """
        began, error = time.monotonic(), None
        main, step = trainer.accelerator.is_main_process, trainer.state.global_step
        if main:
            try:
                checkpoints.new_staging(self.run.checkpoints)
            except OSError as caught:
                error = one_line(caught)
        error = self._first_error(error)
        try:
            if error is None:
                write()
        except Exception as caught:  # noqa: BLE001 - a full disk is an OSError, a SafetensorError, or just an Exception
            error = one_line(caught)
        error = self._first_error(error)
        if main and error is None:
            try:
                self._publish(trainer, step)
            except OSError as caught:
                error = one_line(caught)
        if main and error is not None:
            with contextlib.suppress(OSError):
                files.remove(Path(self.staging))
            last = self.run.last_checkpoint()
            kept = f"the last one is {last.name}" if last else "there is none yet"
            warn(f"the checkpoint could not be written ({error}); {kept}, and the next is tried in time", step=step)
        self.unsaved = error
        trainer.accelerator.wait_for_everyone()
        self.saved_at = time.monotonic()
        self.saving_s = self.saved_at - began
        if main and error is None:
            self.record_cost(save_s=self.saving_s)

    def _first_error(self, error: str | None) -> str | None:
        """Wait for all processes, and return what went wrong in any of them; None where nothing did.

        `error` is what went wrong in this process. Where several failed, the one of the lowest rank is returned.
        """
        return next((text for text in gather_object([error]) if text), None)

    def _publish(self, trainer: Any, step: int) -> None:
        """Seal and publish the staged checkpoint of a step, delete old ones, and ask the mirror for a copy.

        The run's lines are flushed to the disk before. Raises OSError where something cannot be written.
        """
        args, folder = trainer.args, self.run.checkpoints
        self.run.to_disk()
        staged = folder / checkpoints.STAGING / f"checkpoint-{step}"
        checkpoints.seal(staged, folder, args.metric_for_best_model, self._value(args, trainer.state))
        if args.save_total_limit:
            being_copied = self.mirror.pinned if self.mirror else None
            checkpoints.prune(folder, args.save_total_limit, args.greater_is_better, being_copied)
        if self.mirror is not None:
            self.mirror.request()

    def _value(self, args: Any, state: TrainerState) -> float | None:
        """Return the value by which the best checkpoint is chosen; None where this one cannot be the best.

        It is a mean over a window: one step may be luck. Iterations that share completions share their rewards, so they
        give one value.
        """
        if self.best_by is not None:
            # Only the steps that the rule asked a checkpoint of have a value. Others are saved by the clock, so that a
            # run that was cut would go back to another one.
            best = self.best_by.best
            return best.value if best is not None and best.step == state.global_step else None
        values = [value for value in self.values if value is not None and math.isfinite(value)]
        all_values = state.max_steps // args.num_iterations // self.spacing
        enough = len(self.values) >= min(self.values.maxlen or WINDOW, all_values)
        return fmean(values) if values and enough else None
