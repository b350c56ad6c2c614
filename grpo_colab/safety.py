"""Nothing is lost: when a checkpoint is due, how it is written, and how a run stops in time and in order.

A checkpoint is the trainer's own, written to a staging folder and then published whole (checkpoints.py). A run stops
because its hours are over, or at a signal: it saves, and the final evaluation follows.
"""

from __future__ import annotations

import contextlib
import math
import random
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import numpy
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState

from grpo_colab import checkpoints, files
from grpo_colab.callbacks import over_bar, warn
from grpo_colab.errors import nearest, one_line
from grpo_colab.mirror import PATIENCE_S as MIRROR_PATIENCE_S
from grpo_colab.records import is_step_row

if TYPE_CHECKING:
    from grpo_colab.mirror import Mirror
    from grpo_colab.policy import Policy
    from grpo_colab.recipe import Recipe
    from grpo_colab.run import Run

WINDOW: Final = 10  # steps: what one costs, and what a checkpoint is worth, are read off so many
PATIENCE_S: Final = 10.0  # after a signal, for the end of a step: machines that are taken away give half a minute


class Stopped(KeyboardInterrupt):
    """A signal where nothing is unsaved. Not an Exception: a reward's `except Exception` must not take it."""


class Signals:
    """SIGINT (Ctrl-C) and SIGTERM stop a run in order. A context manager: the handlers are put back at its end.

    In training the first one stops at the end of the step, or before it where that would take longer than PATIENCE_S;
    a checkpoint, the adapter and the evaluation follow. A second one leaves the evaluation out. Where nothing is being
    trained, either ends at once with Stopped.
    """

    def __init__(self) -> None:
        self.count = 0
        self.training = False
        self.breakable = False  # the present step can be broken off: the weights are still those of the last one
        self.step_ends = math.inf  # by time.monotonic(), as far as is known
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        with contextlib.suppress(ValueError):  # not the main thread, which alone gets signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    @contextlib.contextmanager
    def in_training(self) -> Iterator[None]:
        self.training = True
        try:
            yield
        finally:
            self.training = self.breakable = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if not self.training:
            raise Stopped
        if self.count == 1:
            over_bar("\nStopping: saving, then evaluating (once more: saving alone).")
        if self.breakable and (self.count > 1 or self.step_ends - time.monotonic() > PATIENCE_S):
            self.breakable = False
            raise Stopped


class LastStep(TrainerCallback):
    """Remembers the random states and counters at the end of each step, so that one that breaks can be begun again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # of the checkpoints
        self.states: tuple[Any, ...] | None = None

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        counted = {name: value for name, value in vars(state).items() if isinstance(value, int | float)}  # tokens seen
        self.states = (random.getstate(), numpy.random.get_state(), torch.get_rng_state(), cuda, counted)

    def save(self, trainer: Any, together: bool) -> None:
        """A checkpoint as of the last whole step, where there is none yet.

        Not `together`, that is where one of several processes may have stopped alone, there can be none; nor between
        two steps that share their completions, which would be asked for anew.
        """
        if self.states is None or (trainer.args.world_size > 1 and not together):
            return
        python, arrays, tensors, cuda, counted = self.states
        random.setstate(python)
        numpy.random.set_state(arrays)
        torch.set_rng_state(tensors)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        vars(trainer.state).update(counted)
        step, last = trainer.state.global_step, next(reversed(checkpoints.saved(self.folder)), None)
        if step % trainer.args.num_iterations == 0 and (last is None or checkpoints.step_of(last) < step):
            trainer._save_checkpoint(trainer.model, trial=None)


class Keeper(TrainerCallback):
    """Has checkpoints written in time and whole, and ends the run before its hours do, or at a signal.

    `deadline` is by time.monotonic(), so that a clock that is put right does not matter. `evaluation_s` is what the
    final evaluation will take. `stopped_by` says afterwards why the run ended before its last step.
    """

    def __init__(self, run: Run, recipe: Recipe, signals: Signals, deadline: float, mirror: Mirror | None) -> None:
        self.run, self.recipe, self.signals, self.deadline, self.mirror = run, recipe, signals, deadline, mirror
        told = files.read_json(run.path / "clock.json") or {}
        known = {key: value for key, value in told.items() if files.number(value) is not None}
        self.costs: dict[str, float] = {key: value for key, value in known.items() if 0 <= value < 1e9}
        self.steps_s: deque[float] = deque(maxlen=WINDOW)
        self.values: deque[float | None] = deque(maxlen=WINDOW)
        self.stopped_by: str | None = None
        self.unsaved: str | None = None  # why the last checkpoint could not be written
        self.due = False
        self.sampler: Any = None
        self.saved_at = self.step_began = time.monotonic()
        self.saving_s = 0.0

    @property
    def staging(self) -> str:
        return str(self.run.checkpoints / checkpoints.STAGING)

    def learnt(self, **costs_s: float) -> None:
        """Keep what something took, in seconds; a resumed run need not learn it again."""
        self.costs |= costs_s
        with contextlib.suppress(OSError):
            self.run.write_json("clock.json", self.costs)

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        metric = args.metric_for_best_model
        self.values.extend(row.get(metric) for row in self.run.metrics() if row.get(metric) is not None)
        for _ in range(int(state.epoch or 0)):
            next(iter(self.sampler))  # draws an epoch's order of prompts, as every epoch before did
        self.saved_at = self.step_began = time.monotonic()
        # a resumed schedule brings the learning rate that it began with; another in the recipe is meant
        schedule, rates = kwargs["lr_scheduler"], set(getattr(kwargs["lr_scheduler"], "base_lrs", ()))
        if len(rates) == 1 and (began_with := rates.pop()) and began_with != args.learning_rate:
            for index, group in enumerate(kwargs["optimizer"].param_groups):
                group["initial_lr"] = schedule.base_lrs[index] = args.learning_rate
                group["lr"] *= args.learning_rate / began_with
                schedule._last_lr[index] = group["lr"]  # which the trainer logs

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, model: Any, **kwargs: Any) -> None:
        if args.world_size > 1 or state.global_step % args.num_iterations:
            return
        self.signals.breakable = True
        vllm = getattr(model, "vllm_engine", None) is not None  # left in the middle of its work, it would not evaluate
        step_s = max(self.steps_s, default=math.inf)
        self.signals.step_ends = time.monotonic() + (0.0 if vllm else step_s)
        if self.signals.count:  # it came while the last step was saved
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
        by_time = 0 < self.recipe.budget.save_minutes * 60 <= now - self.saved_at
        last = state.global_step >= state.max_steps  # whatever the strategy: only the evaluation must be left to lose
        if last or (args.save_strategy != "no" and (by_time or state.global_step == 1 or control.should_save)):
            self.due = True  # at the first step, too: it tells what a checkpoint costs, and whether there is space
        reason = (
            "a signal" if self.signals.count else "budget.max_hours" if now + self.left_s() > self.deadline else None
        )
        if args.world_size > 1:  # what one process sees is agreed upon, so that they stop at one step
            seen = gather_object([(self.due, reason)])
            self.due, reason = any(due for due, _ in seen), next((why for _, why in seen if why), None)
        control.should_save = False
        if state.global_step % args.num_iterations == 0 or last:
            # completions that serve several steps are not in a checkpoint, so that none is made between these steps
            if reason and not last:
                self.stopped_by = reason
                self.due = control.should_training_stop = True
            control.should_save, self.due = self.due, False
        return control

    def left_s(self) -> float:
        """What must still fit before the end if another step is begun: that step, saving and the evaluation."""
        step_s, save_s = max(self.steps_s), self.costs.get("save_s", 0.0)
        mirror_s = MIRROR_PATIENCE_S if self.mirror is not None else 0.0
        # two saves, for there is the adapter, too; and a trained policy's answers may be longer
        return step_s + 2 * save_s + 1.2 * self.costs.get("evaluation_s", 0.0) + mirror_s

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        metric = args.metric_for_best_model
        if logs is None or not is_step_row(logs):
            return
        if metric in logs:
            self.values.append(logs[metric])
        elif not self.values and state.global_step == 1 and state.is_world_process_zero:
            warn(1, f"grpo.metric_for_best_model = {metric!r}: no such metric{nearest(metric, logs)}")

    def save(self, trainer: Any, write: Callable[[], None]) -> None:
        """Have the trainer `write` a checkpoint to the staging folder, and publish it; a full disk ends no run."""
        began, error = time.monotonic(), None
        main, step = trainer.accelerator.is_main_process, trainer.state.global_step
        if main:
            try:
                checkpoints.new_staging(self.run.checkpoints)
            except OSError as caught:
                error = one_line(caught)
        error = self._anyones(error)
        try:
            if error is None:
                write()
        except Exception as caught:  # noqa: BLE001 - a full disk is an OSError, a SafetensorError, or just an Exception
            error = one_line(caught)
        error = self._anyones(error)
        if main and error is None:
            try:
                self._publish(trainer, step)
            except OSError as caught:
                error = one_line(caught)
        if main and error is not None:
            with contextlib.suppress(OSError):
                checkpoints.remove(Path(self.staging))
            last = self.run.last_checkpoint()
            kept = f"the last one is {last.name}" if last else "there is none yet"
            warn(step, f"the checkpoint could not be written ({error}); {kept}, and the next is tried in time")
        self.unsaved = error
        trainer.accelerator.wait_for_everyone()
        self.saved_at = time.monotonic()
        self.saving_s = self.saved_at - began
        if main and error is None:
            self.learnt(save_s=self.saving_s)

    def _anyones(self, error: str | None) -> str | None:
        """What went wrong in any of the processes, once all have come here."""
        return next((text for text in gather_object([error]) if text), None)

    def _publish(self, trainer: Any, step: int) -> None:
        args, folder = trainer.args, self.run.checkpoints
        self.run.to_disk()
        values = [value for value in self.values if value is not None and math.isfinite(value)]
        # one lucky step is no best checkpoint; several iterations share their rewards
        enough = len(self.values) >= min(WINDOW, trainer.state.max_steps // args.num_iterations)
        worth = fmean(values) if values and enough else None
        name = f"checkpoint-{step}"
        checkpoints.seal(folder / checkpoints.STAGING / name, folder, args.metric_for_best_model, worth)
        if args.save_total_limit:
            also = self.mirror.pinned if self.mirror else None
            checkpoints.prune(folder, args.save_total_limit, args.greater_is_better, also)
        if self.mirror is not None:
            self.mirror.request()


def kept_by(keeper: Keeper, learner: Policy, trainer_class: type) -> type:
    """The trainer's class, stock or Unsloth's, with its checkpoints written through the keeper and read in full."""

    class Kept(trainer_class):
        def _load_from_checkpoint(self, path: str, model: Any = None) -> None:
            super()._load_from_checkpoint(path, model)
            learner.load_adapter(Path(path))  # transformers leaves it out where there is a reference adapter beside

        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            keeper.sampler = super()._get_train_sampler(*args, **kwargs)
            return keeper.sampler

        def _get_output_dir(self, trial: Any) -> str:
            return keeper.staging

        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            keeper.save(self, lambda: super(Kept, self)._save_checkpoint(model, trial))

    Kept.__name__ = trainer_class.__name__
    return Kept
