"""Show how a run goes: a live table in a terminal, charts in a notebook, lines of text anywhere else.

reporting/live.py draws them. A display that fails is switched off, and the training continues. What a model wrote is
never shown here.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState

from grpo_colab.errors import one_line
from grpo_colab.reporting.live import Charts, Lines, Table, live_terminal
from grpo_colab.reporting.run_progress import RunProgress
from grpo_colab.runs.records import is_step_row
from grpo_colab.text import on_one_line
from grpo_colab.training.step_watch import StepWatch
from grpo_colab.utils.console import Verbosity, info, verbosity
from grpo_colab.utils.device import in_notebook

if TYPE_CHECKING:
    from grpo_colab.runs.run import Run


class Progress(TrainerCallback):
    """Show how a run goes, on stderr or in the notebook, on the main process only.

    With a `run`, the steps before a resume are shown, too, and its warnings are counted, so this belongs after the
    callbacks that write them. Without one it works in any TRL script: `GRPOTrainer(callbacks=[Progress()])`. A display
    that fails is reported once and switched off; it raises no error.
    """

    def __init__(self, run: Run | None = None) -> None:
        self.run = run
        self.view: Lines | Table | Charts | None = None
        self.watch: StepWatch | None = None

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            self._shielded(self._begin, args, state)
            self._shielded(self._watch, args, kwargs.get("model"))

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self.watch is not None:
            self.watch.begin_step()

    def on_log(
        self, args: Any, state: TrainerState, control: TrainerControl, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if logs is not None and is_step_row(logs):
            self._shielded(self._step, {**logs, "step": state.global_step})

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._shielded(self._end)

    def _begin(self, args: Any, state: TrainerState) -> None:
        """Choose the display, and show it: charts in a notebook, a live table in a terminal, lines anywhere else.

        Without a notebook and without stderr there is no display, and neither is there with Verbosity.QUIET.
        """
        progress = RunProgress(
            self.run, state.global_step, state.max_steps, getattr(args, "reward_weights", None) or ()
        )
        if verbosity() == Verbosity.QUIET:
            return
        if in_notebook():
            self.view = Charts(progress)
        elif sys.stderr is not None:  # None in a process without one, such as pythonw's
            self.view = Table(progress) if live_terminal() else Lines(progress)
        if self.view is not None:
            self.view.show()

    def _watch(self, args: Any, model: Any) -> None:
        """Have the display tell how far the present step is, where the trainer generates completions."""
        tokens = getattr(args, "max_completion_length", None)
        if self.view is not None and model is not None and tokens:
            self.watch = StepWatch(model, tokens, args.gradient_accumulation_steps, self._within_step)

    def _within_step(self, watch: StepWatch) -> None:
        if self.view is not None:
            self._shielded(self.view.show_within, watch)

    def _step(self, row: Mapping[str, Any]) -> None:
        if self.view is not None:
            self.view.progress.add(row)
            self.view.show()

    def _end(self) -> None:
        view, self.view = self.view, None
        if self.watch is not None:
            self.watch.close()
            self.watch = None
        if view is not None:
            view.progress.ended = True
            view.end()

    def _shielded(self, show: Callable[..., None], *arguments: Any) -> None:
        """Call a method of the display. When it fails, print so once, and show nothing from then on.

        Only KeyboardInterrupt is raised.
        """
        try:
            show(*arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a front end raises; SystemExit is rich's
            self.view = None
            with contextlib.suppress(Exception, SystemExit):
                if Table.present is not None:
                    Table.present.close()
            with contextlib.suppress(Exception):
                info(f"Progress is shown no more ({on_one_line(one_line(error))}); the training goes on.")
