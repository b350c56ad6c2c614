"""Log each training step to the run folder, warn of what goes wrong, and stop a run that is solved.

Checkpoints are in checkpointing.py, the live display in progress.py, trackers in tracking_callback.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import fmean
from typing import TYPE_CHECKING, Any, cast

from transformers import TrainerCallback, TrainerControl, TrainerState

from grpo_colab.runs.records import CompletionRow, is_step_row, reaches, weighted_reward
from grpo_colab.training.metric_alerts import MetricMonitor
from grpo_colab.utils.console import warn

if TYPE_CHECKING:
    from grpo_colab.runs.run import Run


class StepLog(TrainerCallback):
    """Append each step's metrics to metrics.jsonl, for a trainer that generates no completions.

    Every process appends. The summary after the last step is left out. Rows that a full disk refuses stay in the run's
    memory, without a warning or an error, until a later append succeeds.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if logs is not None and is_step_row(logs):
            self.run.append("metrics.jsonl", [{"step": state.global_step, **logs}])


class Share(TrainerCallback):
    """Tell after each step which share of the steps is done, from 0 to 1."""

    def __init__(self, on_progress: Callable[[float], None]) -> None:
        self.on_progress = on_progress

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self.on_progress(state.global_step / state.max_steps)


class RunLog(TrainerCallback):
    """Append every step's metrics and completions to metrics.jsonl and completions.jsonl, on the main process only.

    Set `trainer` once it is built. Its `step_completions()` are gathered from all processes, with their rewards and
    advantages, and its `step_given()` is what the rewards were given. Rows that a full disk refuses stay in memory
    until there is space again. Then one warning is printed, and no error is raised.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.trainer: Any = None
        self.writing = True  # False while the disk is full, so that this is a single warning

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add the best and the worst total reward of the step's completions to the trainer's own metrics.

        They are `reward/max` and `reward/min`, of the weighted sums. Completions that no reward could judge do not
        count. `groups_that_teach` is the share of the groups in which some completions are right and others are not,
        where a reward for correctness tells: rewards for the format differ in other groups, too. Nothing is added when
        none could be judged, nor for a step that learns from the completions of an earlier one.
        """
        # With num_iterations above 1 a batch serves several steps. It counts once, at the first of them.
        if (state.global_step - 1) % args.num_iterations:
            return
        totals, right = [], []
        for row in self.trainer.step_completions():
            if any(value is not None for value in row["rewards"].values()):
                totals.append(weighted_reward(row["rewards"].values(), args.reward_weights))
            right.append(row["rewards"].get("correctness"))
        if totals:
            self.trainer.add_metrics(**{"reward/max": max(totals), "reward/min": min(totals)})
        if any(value is not None for value in right):
            size = self.trainer.num_generations
            groups = [right[start : start + size] for start in range(0, len(right), size)]
            self.trainer.add_metrics(groups_that_teach=fmean(len(set(group)) > 1 for group in groups))

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or logs is None or not is_step_row(logs):
            return
        written = self.run.append("metrics.jsonl", [{"step": state.global_step, **logs}])
        # With num_iterations above 1 a batch serves several steps. It is written once, at the first of them.
        if (state.global_step - 1) % args.num_iterations == 0:
            written = self.run.append("completions.jsonl", self._completions(state.global_step))
        if self.writing and not written:
            warn(
                f"cannot write to {self.run.path}; its lines stay in memory until there is space again",
                step=state.global_step,
            )
        self.writing = written

    def _completions(self, step: int) -> Iterator[CompletionRow]:
        """Yield a row of completions.jsonl for each completion of the trainer's last step, numbered `step`.

        A row has the gold answer and the columns that the rewards were given: see `RowsMixin.step_given`. It has
        `extra` only when a reward gave values to `log_extra`.
        """
        given = self.trainer.step_given()
        for index, one in enumerate(self.trainer.step_completions()):
            row: dict[str, Any] = {
                "step": step,
                "group": index // self.trainer.num_generations,
                "prompt": one["prompt"],
                "completion": one["completion"],
                "rewards": one["rewards"],
                "advantage": one["advantage"],
                **given[index],
            }
            if one["extra"]:
                row["extra"] = one["extra"]
            yield cast(CompletionRow, row)


class UntilSolved(TrainerCallback):
    """Stop a run after the step in which a completion earned `stop_at_reward`. With None, never stop it.

    In the list of callbacks it belongs after a RunLog, which adds the metric `reward/max` that is read here. A
    checkpoint of that step is asked for, unless the next step shares its completions.
    """

    def __init__(self, stop_at_reward: float | None) -> None:
        self.stop_at_reward = stop_at_reward

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        # The metrics cover the completions of all processes, so that each process decides alike.
        if logs is not None and reaches(logs, self.stop_at_reward):
            control.should_training_stop = True
            # Save here, unless the step's completions serve further steps: no checkpoint holds those completions.
            control.should_save = control.should_save or state.global_step % args.num_iterations == 0


class Alarms(TrainerCallback):
    """Print the warnings of `metric_alerts.MetricMonitor` to stderr, and append them to the run's warnings.jsonl.

    Without a run it only prints: `GRPOTrainer(..., callbacks=[Alarms()])` works in any TRL script. Only the main
    process prints and writes, and only at steps that have a reward. A full disk raises no error.
    """

    def __init__(self, run: Run | None = None) -> None:
        self.run = run
        self.monitor = MetricMonitor()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Give the monitor the earlier steps of a resumed run, without warning of them again.

        Without a run do nothing.
        """
        if self.run is None:
            return
        for row in self.run.metrics():
            if "reward" in row:
                self.monitor.update(row)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or logs is None or "reward" not in logs:
            return
        warnings = self.monitor.update({"step": state.global_step, **logs})
        for warning in warnings:
            warn(warning["text"], step=state.global_step)
        if warnings and self.run:
            self.run.append("warnings.jsonl", warnings)
