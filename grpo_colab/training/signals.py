"""End a run in order on SIGINT (Ctrl-C) or SIGTERM, with what was learned on the disk."""

from __future__ import annotations

import contextlib
import math
import signal
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

from grpo_colab.utils.console import info

# Seconds to wait for the end of a step after a signal. A machine that is taken away gives about half a minute in all.
PATIENCE_S: Final = 10.0


class Stopped(KeyboardInterrupt):
    """A signal came outside training, or broke off a training step whose weights are still those of the step before.

    It is not an Exception, so that an `except Exception` in a user's reward does not swallow it.
    """


class Signals:
    """Handle SIGINT and SIGTERM while this context is open, and put the previous handlers back at its end.

    During training the first signal stops the run at the end of the step, or in the middle of it when the step would
    take longer than PATIENCE_S. A checkpoint, the adapter and the evaluation follow. A second signal skips the
    evaluation. Outside training, either one raises Stopped at once. Outside the main thread no signal is handled, and
    that raises no error.

    `count` is the number of signals so far. `breakable` says whether the present step may be broken off, because the
    weights are still those of the step before. `step_ends` is when the step is expected to end, by time.monotonic().
    """

    def __init__(self) -> None:
        self.count = 0
        self.training = False
        self.breakable = False
        self.step_ends = math.inf
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        with contextlib.suppress(ValueError):  # outside the main thread, which alone can handle signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)

    @contextlib.contextmanager
    def in_training(self) -> Iterator[None]:
        """Let the first signal wait for the end of the step while this context is open.

        After it, each signal raises Stopped at once again.
        """
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
            info("\nStopping: saving, then evaluating (once more: saving alone).", every_process=True)
        if self.breakable and (self.count > 1 or self.step_ends - time.monotonic() > PATIENCE_S):
            self.breakable = False
            raise Stopped
