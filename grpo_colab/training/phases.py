"""Say on the screen and in the run folder what a run is doing, from its first second to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from grpo_colab.errors import SettingError, one_line
from grpo_colab.runs.phase import WORKING, Phase, now, write_phase
from grpo_colab.training.endings import PretrainingStopped
from grpo_colab.utils.library_output import library_lines_once
from grpo_colab.utils.stage import Stage, stage

if TYPE_CHECKING:
    from grpo_colab.runs.run import Run


class Phases:
    """The phases of one run. `run` is None where nothing is to be written: in all processes but the first."""

    def __init__(self, run: Run | None = None) -> None:
        self.run = run
        self.now = Phase("importing", since=now())

    def begin(self, name: str) -> None:
        """Write that the run is in this phase, a key of `phase.WORKING`, from now on."""
        self._write(Phase(name, since=now()))

    @contextlib.contextmanager
    def stage(self, name: str, title: str, *, remember: str | None = None, ticking: bool = False) -> Iterator[Stage]:
        """Begin a phase, and show how far it is while the block runs, in phase.json, too: see `utils.stage.stage`."""
        self.begin(name)

        def write(share: float | None, left_s: float | None) -> None:
            self._write(self.now._replace(share=share, left_s=left_s))

        with stage(title, remember=remember, ticking=ticking, on_change=write) as shown:
            yield shown

    @contextlib.contextmanager
    def library_stage(
        self, name: str, title: str, *, remember: str | None = None, drop: bool = False
    ) -> Iterator[Stage]:
        """Do as `stage`, with a thread that redraws the bar, for a block in which libraries print what they like.

        Their lines come once, below ours; with `drop`, only their warnings do.
        """
        with self.stage(name, title, remember=remember, ticking=True) as shown, library_lines_once(drop):
            yield shown

    def end(self, name: str, why: str | None = None) -> None:
        """Write how the run has ended: one of `phase.ENDED`, and why, if there is a reason to tell."""
        during = self.now.name if self.now.name in WORKING else self.now.during
        self._write(Phase(name, since=now(), during=during, why=why))

    @contextlib.contextmanager
    def errors_told(self) -> Iterator[None]:
        """Write what an exception of the block means for the run, and pass it on: failed, or stopped for a signal."""
        try:
            yield
        except (KeyboardInterrupt, PretrainingStopped):
            self.end("stopped", "a signal")
            raise
        except BaseException as error:
            self.end("failed", str(error) if isinstance(error, SettingError) else one_line(error))
            raise

    def _write(self, phase: Phase) -> None:
        self.now = phase
        if self.run is not None:
            write_phase(self.run.path, phase)
