"""What happens beside a training step: the run folder grows by a line, a person sees how it goes and what goes wrong,
and nothing of a whole step is lost to Ctrl-C or a broken reward.
"""

from __future__ import annotations

import json
import math
import random
import signal
import sys
from collections.abc import Iterable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy
import torch
from accelerate.utils import gather_object
from transformers import TrainerCallback, TrainerControl, TrainerState

from grpo_colab.alarms import Watch

if TYPE_CHECKING:
    from grpo_colab.run import Run

# TRL's metric, the column's head, and how it is shown; reward and its spread first, for the loss of GRPO is about 0 by
# construction and says nothing
COLUMNS = (
    ("reward", "reward", "{:.3f}"),
    ("reward_std", "± std", "{:.3f}"),
    ("frac_reward_zero_std", "no variance", "{:.0%}"),
    ("completions/mean_length", "tokens", "{:.0f}"),
    ("completions/clipped_ratio", "cut off", "{:.0%}"),
    ("kl", "KL", "{:.4f}"),
)


class RunLog(TrainerCallback):
    """Appends every step's metrics and completions to the run folder, on the main process alone.

    `answers` maps a prompt (as `prompt_key` writes it) to its gold answer. Set `trainer` once the trainer is made: the
    step's completions, gathered from all processes with their rewards and advantages, are in its `_logs`, which TRL
    fills for its own completions table.
    """

    def __init__(self, run: Run, answers: Mapping[str, str]) -> None:
        self.run, self.answers = run, answers
        self.trainer: Any = None

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or logs is None or "reward" not in logs:
            return  # the summary after the last step has no reward
        self.run.append("metrics.jsonl", [{"step": state.global_step, **logs}])
        # with num_iterations above 1 a batch serves several steps; it is written once
        if (state.global_step - 1) % args.num_iterations == 0:
            self.run.append("completions.jsonl", self._completions(state.global_step))

    def _completions(self, step: int) -> Iterable[dict[str, Any]]:
        logs = self.trainer._logs
        names = list(logs["rewards"])
        rows = zip(
            logs["prompt"], logs["completion"], logs["advantages"], *(logs["rewards"][n] for n in names), strict=True
        )
        extra = {name: list(values) for name, values in logs["extra"].items()}  # what rewards gave to log_extra
        for index, (prompt, completion, advantage, *rewards) in enumerate(rows):
            yield {
                "step": step,
                "group": index // self.trainer.num_generations,
                "prompt": prompt,
                "completion": completion[-1]["content"] if isinstance(completion, list) else completion,
                "answer": self.answers.get(prompt_key(prompt)),
                "rewards": {
                    name: None if math.isnan(value) else value for name, value in zip(names, rewards, strict=True)
                },
                "advantage": advantage,
                **({"extra": {name: values[index] for name, values in extra.items()}} if extra else {}),
            }


def prompt_key(prompt: Any) -> str:
    return json.dumps(prompt, sort_keys=True, ensure_ascii=False)


class Progress(TrainerCallback):
    """A bar, and a row of the columns above: a line now and then in a terminal, a growing table in a notebook."""

    def __init__(self, rows: int = 12) -> None:
        self.rows = rows
        self.bar: Any = None
        self.table: list[dict[str, str]] = []
        self.display: Any = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        from tqdm.auto import tqdm

        if state.is_world_process_zero:
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, unit="step", dynamic_ncols=True)
            if not in_notebook():
                self.bar.write("  step  " + "  ".join(f"{head:>11}" for _, head, _ in COLUMNS), file=sys.stderr)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if self.bar is None or logs is None or "reward" not in logs:
            return
        cells = {head: form.format(logs[key]) if logs.get(key) is not None else "-" for key, head, form in COLUMNS}
        every = max(1, state.max_steps // self.rows)
        if in_notebook():
            self._show({"step": str(state.global_step), **cells})
        elif state.global_step == 1 or state.global_step % every == 0:
            self.bar.write(f"{state.global_step:>6}  " + "  ".join(f"{c:>11}" for c in cells.values()), file=sys.stderr)
        self.bar.update(state.global_step - self.bar.n)

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.bar is not None:
            self.bar.close()

    def _show(self, row: dict[str, str]) -> None:
        import pandas
        from IPython.display import HTML, display

        self.table.append(row)
        table = HTML(pandas.DataFrame(self.table).to_html(index=False))
        if self.display is None:
            self.display = display(table, display_id=True)
        else:
            self.display.update(table)


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel, which shows HTML."""
    shell = sys.modules.get("IPython")
    return shell is not None and type(shell.get_ipython()).__name__ in (
        "ZMQInteractiveShell",
        "Shell",
    )  # Colab's: Shell


class Alarms(TrainerCallback):
    """Says what `grpo_colab.alarms` sees in the metrics, on stderr and in the run's warnings.jsonl.

    Without a run it only speaks: `GRPOTrainer(..., callbacks=[Alarms()])` works in anyone's script.
    """

    def __init__(self, run: Run | None = None) -> None:
        self.run = run
        self.watch = Watch()

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        for row in self.run.metrics() if self.run else ():  # of a resumed run
            self.watch.see(row)

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero or logs is None or "reward" not in logs:
            return
        from tqdm.auto import tqdm

        if warnings := self.watch.see({"step": state.global_step, **logs}):
            tqdm.write("\n".join(f"Warning, step {state.global_step}: {w['text']}" for w in warnings), file=sys.stderr)
            if self.run:
                self.run.append("warnings.jsonl", warnings)


class LastStep(TrainerCallback):
    """Remembers the random states and counters at the end of each step, so that one that breaks can be begun again."""

    def __init__(self) -> None:
        self.states: tuple[Any, ...] | None = None

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        counted = {name: value for name, value in vars(state).items() if isinstance(value, int | float)}  # tokens seen
        self.states = (random.getstate(), numpy.random.get_state(), torch.get_rng_state(), cuda, counted)

    def save(self, trainer: Any) -> None:
        """A checkpoint as of the last whole step. Among several processes only one may have stopped: there is none."""
        if self.states is None or trainer.args.world_size > 1:
            return
        python, arrays, tensors, cuda, counted = self.states
        random.setstate(python)
        numpy.random.set_state(arrays)
        torch.set_rng_state(tensors)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)
        vars(trainer.state).update(counted)
        trainer._save_checkpoint(trainer.model, trial=None)


class StopOnInterrupt(TrainerCallback):
    """Ctrl-C finishes the step, saves a checkpoint and stops; a second Ctrl-C stops at once.

    A context manager: the signal's handler is put back at the end. `stopped` says afterwards whether it happened.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._previous: Any = None

    def __enter__(self) -> StopOnInterrupt:
        try:
            self._previous = signal.signal(signal.SIGINT, self._on_signal)
        except ValueError:  # not the main thread, which alone gets signals
            self._previous = None
        return self

    def __exit__(self, *exception: object) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.stopped:
            raise KeyboardInterrupt
        self.stopped = True
        print("\nFinishing this step, then saving (Ctrl-C again stops at once).", file=sys.stderr)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> TrainerControl:
        if args.world_size > 1:  # the signal may reach the processes on two sides of a step; they must stop at one
            self.stopped = any(gather_object([self.stopped]))
        if self.stopped:
            control.should_save = control.should_training_stop = True
        return control
