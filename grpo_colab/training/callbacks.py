"""What happens beside a training step: the run folder grows by a line, and a person sees how it goes and what goes
wrong. What keeps a run is in checkpointing.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from grpo_colab.runs.records import CompletionRow, is_step_row, weighted_reward
from grpo_colab.runs.run import reaches
from grpo_colab.training.metric_alerts import MetricMonitor
from grpo_colab.utils.console import warn

if TYPE_CHECKING:
    from grpo_colab.runs.run import Run


class StepLog(TrainerCallback):
    """Appends every step's metrics to the run folder: all that a trainer without completions has to tell."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if logs is not None and is_step_row(logs):
            self.run.append("metrics.jsonl", [{"step": state.global_step, **logs}])


class RunLog(TrainerCallback):
    """Appends every step's metrics and completions to the run folder, on the main process alone.

    `answers` maps a prompt (as `prompt_key` writes it) to its gold answer. Set `trainer` once it is made: it hands out
    the step's completions, gathered from all processes with their rewards and advantages.
    """

    def __init__(self, run: Run, answers: Mapping[str, str]) -> None:
        self.run, self.answers = run, answers
        self.trainer: Any = None
        self.writing = True

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Give the trainer the best and the worst of the step's completions, to log with its own metrics."""
        if (state.global_step - 1) % args.num_iterations:  # a batch that serves several steps counts once
            return
        earned = []
        for row in self.trainer.step_completions():
            if any(value is not None for value in row["rewards"].values()):
                earned.append(weighted_reward(row["rewards"].values(), args.reward_weights))
        if earned:
            self.trainer.add_metrics(**{"reward/max": max(earned), "reward/min": min(earned)})

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or logs is None or not is_step_row(logs):
            return
        written = self.run.append("metrics.jsonl", [{"step": state.global_step, **logs}])
        # with num_iterations above 1 a batch serves several steps; it is written once
        if (state.global_step - 1) % args.num_iterations == 0:
            written = self.run.append("completions.jsonl", self._completions(state.global_step))
        if self.writing and not written:
            warn(
                f"cannot write to {self.run.path}; its lines are kept until there is space again",
                step=state.global_step,
            )
        self.writing = written

    def _completions(self, step: int) -> Iterator[CompletionRow]:
        for index, one in enumerate(self.trainer.step_completions()):
            row: CompletionRow = {
                "step": step,
                "group": index // self.trainer.num_generations,
                "prompt": one["prompt"],
                "completion": one["completion"],
                "answer": self.answers.get(prompt_key(one["prompt"])),
                "rewards": one["rewards"],
                "advantage": one["advantage"],
            }
            if one["extra"]:
                row["extra"] = one["extra"]
            yield row


class UntilSolved(TrainerCallback):
    """Ends a run after the step in which one completion earned `stop_at_reward`; needs a RunLog before it."""

    def __init__(self, stop_at_reward: float | None) -> None:
        self.stop_at_reward = stop_at_reward

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if logs is not None and reaches(logs, self.stop_at_reward):  # the rewards of all processes, in each of them
            control.should_training_stop = True
            # only the evaluation is left to lose; completions that serve several steps are in no checkpoint
            control.should_save = control.should_save or state.global_step % args.num_iterations == 0


def prompt_key(prompt: Any) -> str:
    return json.dumps(prompt, sort_keys=True, ensure_ascii=False)


class Alarms(TrainerCallback):
    """Says what `grpo_colab.training.metric_alerts` sees in the metrics, on stderr and in the run's warnings.jsonl.

    Without a run it only speaks: `GRPOTrainer(..., callbacks=[Alarms()])` works in anyone's script.
    """

    def __init__(self, run: Run | None = None) -> None:
        self.run = run
        self.monitor = MetricMonitor()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        for row in self.run.metrics() if self.run else ():  # of a resumed run
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
