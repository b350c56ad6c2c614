"""Show a run while it trains: as a live table in a terminal, as charts in a notebook, as lines of text anywhere else.

`Table`, `Charts` and `Lines` show the numbers of a `run_progress.RunProgress`. training/progress.py calls them from the
trainer. What a model wrote is never shown here.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from grpo_colab.reporting.curves import draw_live
from grpo_colab.reporting.notebook_html import live_html
from grpo_colab.reporting.run_progress import ROWS, RunProgress
from grpo_colab.text import escaped
from grpo_colab.utils.console import info
from grpo_colab.utils.stage import LINE_S

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

LATEST: Final = 8  # steps in the live table, at most
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.,:-=+#"
REDRAWN_S: Final = 1.0  # seconds between two states of the table within a step, at least
CHARTS_S: Final = 2.0  # seconds between two pictures, at least
CHARTS_SHARE: Final = 0.05  # share of the time that may go into drawing them


class Step(Protocol):
    """How far a step is that takes long: `training.step_watch.StepWatch`."""

    @property
    def text(self) -> str:
        """Return it as text, such as "generating, 20% after 0:40"."""
        ...


class Lines:
    """Print a line of metrics on stderr about ROWS times per run, in plain characters that a log file can hold."""

    def __init__(self, progress: RunProgress) -> None:
        self.progress = progress
        self.printed_step, self.due_step = progress.step, 0
        self.printed_at = time.monotonic()
        self.head: list[str] = []

    def show(self, last: bool = False) -> None:
        """Print the latest step with a reward, if it is due and not printed yet. `last` prints it before it is due.

        The heads are printed above it the first time, and whenever they have changed. Nothing is printed while no step
        has a reward.
        """
        if not self.progress.rewarded:
            return
        latest = self.progress.rewarded[-1]
        step = latest["step"]
        if step <= self.printed_step or not (last or step >= self.due_step):
            return
        head, row = self.progress.cells([latest])
        every = max(1, self.progress.max_steps // ROWS)
        self.printed_step, self.due_step = step, (step // every + 1) * every
        names = [*head, "left"]
        if head != self.head:
            self._print(names, names)
        self._print([*row, self.progress.left()], names)
        self.head = head

    def show_within(self, step: Step) -> None:
        """Print how far the present step is, if LINE_S seconds have passed since the last line."""
        if time.monotonic() - self.printed_at >= LINE_S:
            self.printed_at = time.monotonic()
            info(f"step {self.progress.step + 1} of {self.progress.max_steps}: {step.text}")

    def _print(self, texts: Sequence[str], names: Sequence[str]) -> None:
        """Print texts on one line of stderr, each in a column that is wide enough for its name."""
        self.printed_at = time.monotonic()
        info("".join(text.rjust(max(9, len(name) + 2)) for text, name in zip(texts, names, strict=True)))

    def end(self) -> None:
        """Print the last step, unless it is printed already."""
        self.show(last=True)


def live_terminal() -> bool:
    """Tell whether stderr is a terminal on which lines can be redrawn."""
    from rich.console import Console

    # `!grpo-colab train` in a notebook has a terminal, too, but its output goes to a page that cannot move a cursor.
    at_hand = innermost(sys.stderr, sys.__stderr__) is not None
    return at_hand and "JPY_PARENT_PID" not in os.environ and Console(stderr=True).is_interactive


def innermost(stream: Any, first: Any) -> Any:
    """Return the text stream that leads straight to the terminal: `stream`, or `first` where both are one terminal.

    `stream` is sys.stdout or sys.stderr now, and `first` is what it was when Python started. They differ when something
    filters or copies the output, as Unsloth does with stderr; that keeps working.

    Returns None where neither is such a stream, also for a stream that is None, closed or no file. Returns None as well
    where somebody has replaced the stream's `write`, and so would miss what is written directly. wandb replaces it as
    soon as it is imported, but needs it only where WANDB_CONSOLE is set, so without that its replacement does not
    count.
    """
    for each in (stream, first):
        # A stream may be None, closed, or no file of the system.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            write = vars(each).get("write")
            unused = write is None or (write.__module__.startswith("wandb.") and "WANDB_CONSOLE" not in os.environ)
            if type(each) is io.TextIOWrapper and unused and each.isatty():
                return each if os.path.sameopenfile(each.fileno(), stream.fileno()) else None
    return None


class Table:
    """Redraw the last steps in place, on the terminal of stderr. What others print goes above them, byte for byte.

    rich's own redirection replaces sys.stdout and sys.stderr, wraps long lines and interprets markup, and a logging
    handler that holds the old stream writes into the table. Here the `write` of the streams is replaced instead: whole
    lines go above the table unchanged, and an unfinished line waits for its end. What is written without Python's
    streams (by C code, by other processes) still lands on the table.

    `Table(progress)` draws the table at once. Stderr must be a terminal (`live_terminal`), and a stream that leads
    elsewhere stays as it is. A table that is still on the screen is closed first. The new one is closed when Python
    exits, if not before.
    """

    present: Table | None = None  # the table on the screen, which has room for one

    def __init__(self, progress: RunProgress) -> None:
        """Draw the table on stderr's terminal, and send above it what stdout and stderr write to that terminal.

        Stderr must be a terminal (`live_terminal`). A table that is still on the screen is closed first. The new one is
        closed when Python exits, if not before.
        """
        from rich.console import Console
        from rich.live import Live

        if Table.present is not None:  # left by a training that was interrupted before its end was reported
            with contextlib.suppress(Exception):
                Table.present.close()
        self.progress, self.process, self.lock = progress, os.getpid(), threading.RLock()
        self.drawn_at = time.monotonic()
        # Each stream that prints above the table, its instance's own `write` or None, and the one that replaces it.
        self.taken: list[tuple[Any, Any, Any]] = []
        # Draw through a stream of its own to the same terminal: what goes to sys.stderr is sent above the table.
        handle, encoding = os.dup(sys.stderr.fileno()), sys.stderr.encoding
        self.file = os.fdopen(handle, "w", encoding=encoding, errors="backslashreplace")
        self.console = Console(file=self.file)
        self.live = Live(
            get_renderable=lambda: painted(progress, self.console),
            console=self.console,
            auto_refresh=False,  # without a thread, so that the process may fork at any time
            redirect_stdout=False,
            redirect_stderr=False,
        )
        Table.present = self
        atexit.register(self.close)
        for stream, first in ((sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__)):
            self._take(innermost(stream, first))
        self.live.start()
        self.console.show_cursor(True)  # Live hides it, and a process that is killed could not show it again

    def show_within(self, step: Step) -> None:
        """Redraw the table with how far the present step is, if REDRAWN_S seconds have passed since the last time."""
        if time.monotonic() - self.drawn_at >= REDRAWN_S:
            self.progress.within = step.text
            self.show()

    def show(self) -> None:
        """Redraw the table in its place."""
        self.drawn_at = time.monotonic()
        with self.lock:
            self.live.refresh()

    def end(self) -> None:
        """Draw the table a last time, leave it on the screen, and restore the streams."""
        self.close()

    def close(self) -> None:
        """Draw the table a last time, stop redrawing it, and restore the streams; unfinished lines are written out.

        Marks the progress as ended. Does nothing in a forked process, for a table that is closed, and for one that
        another has replaced.
        """
        atexit.unregister(self.close)
        if os.getpid() != self.process or Table.present is not self:
            return
        Table.present, self.progress.ended = None, True
        try:
            with self.lock:
                self.live.stop()
        finally:
            for stream, before, above in self.taken:
                # If somebody else has replaced `write` since, restoring it is up to them.
                if vars(stream).get("write") is above:
                    vars(stream).update(write=before)
                    if before is None:
                        del stream.write
                with contextlib.suppress(OSError, ValueError):
                    above("")
            with contextlib.suppress(OSError):
                self.file.close()

    def _take(self, stream: Any) -> None:
        """Replace a stream's `write`, so that what is written goes above the table.

        Does nothing for None, and for a stream that leads elsewhere than to the table's terminal.
        """
        if stream is None or not os.path.sameopenfile(stream.fileno(), self.file.fileno()):
            return
        from rich.segment import Segment, Segments

        stream.flush()
        write: Callable[[str], int] = stream.write
        waiting = ""

        def above(text: str) -> int:
            """Print whole lines above the table, keep an unfinished one until its end comes; return the text's length.

            In a forked process, and once the table is closed, the text goes to the stream itself.
            """
            nonlocal waiting
            if os.getpid() != self.process:
                return write(text)
            with self.lock:
                whole, waiting = waiting + text, ""
                if Table.present is not self:
                    write(whole)
                    return len(text)
                lines, newline, waiting = whole.rpartition("\n")
                # A progress bar overwrites itself after each carriage return: keep only its last state.
                waiting = waiting[waiting.rfind("\r", 0, -1) + 1 :]
                if newline:
                    self.console.print(Segments([Segment(lines + newline)]), crop=False, end="")
            return len(text)

        self.taken.append((stream, vars(stream).get("write"), above))
        stream.write = above


def painted(progress: RunProgress, console: Console) -> RenderableType:
    """Return the live table for rich: the run's name, rows of metrics, the reward's curve and the facts.

    It is cut to the width of the console. While the run goes on, it has the latest rows, as many as the console's
    height has room for. Once the run has ended, it has rows from all of it.
    """
    from rich.console import Group
    from rich.text import Text

    width, height = console.size
    lines: list[Text] = []

    def line(text: str, style: str = "") -> Text:
        """Add a text as one line, with escapes for the characters that the encoding lacks, and return the line."""
        code = console.encoding
        text = escaped(text).encode(code, "backslashreplace").decode(code)
        lines.append(Text(text, style, no_wrap=True, overflow="crop"))
        return lines[-1]

    if progress.run is not None:
        title = [progress.run.path.name, progress.before]
        line(", ".join(text for text in title if text), "dim")
    facts = [join_to_width(texts, width) for texts in progress.facts() if texts]
    if progress.ended:
        rows = progress.overview()
    else:
        room = max(1, min(LATEST, height - len(facts) - 4))  # 4: the title, the heads, the trend and the cursor's line
        rows = progress.rewarded[-room:]
    cells = progress.cells(rows) if rows else []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    shown = sum(end <= width for end in itertools.accumulate(widths, lambda end, more: end + 2 + more))
    for index, row in enumerate(cells):
        style = "dim" if index == 0 else "bold" if index == len(cells) - 1 else ""
        line("  ".join(map(str.rjust, row[:shown], widths)), style)
    unicode = not console.options.ascii_only
    trend_width = max(8, min(48, width - 26))
    curve, reward_range = progress.trend(trend_width, BLOCKS if unicode else ASCII_BLOCKS)
    ahead = ("\u2500" if unicode else "-") * (trend_width - len(curve))
    if progress.rewarded:
        label = "reward  "
        trend = line(f"{label}{curve}{ahead}  {reward_range}")
        curve_end = len(label) + len(curve)
        trend.stylize("cyan", len(label), curve_end)
        trend.stylize("dim", curve_end, curve_end + len(ahead))
    for text in facts:
        line(text)
    if not progress.ended:
        lines.append(Text())  # an empty line, in which the cursor waits
    return Group(*lines)


def join_to_width(texts: Sequence[str], width: int) -> str:
    """Return as many of the texts as fit into `width` characters, at least one, joined by commas."""
    ends = itertools.accumulate(map(len, texts), lambda end, more: end + 2 + more)
    return ", ".join(texts[: max(1, sum(end <= width for end in ends))])


class Charts:
    """Show three small charts and the latest row in a notebook, in one output that is redrawn in place."""

    def __init__(self, progress: RunProgress) -> None:
        import matplotlib.figure  # noqa: F401 - here, so that its import time does not count as drawing

        self.progress, self.due = progress, 0.0  # `due`: when the next picture may be drawn, by time.monotonic()
        self.handle: Any = None
        self.told_at = time.monotonic()

    def show_within(self, step: Step) -> None:
        """Print how far the first step is, every LINE_S seconds; later there is a picture."""
        if not self.progress.rewarded and time.monotonic() - self.told_at >= LINE_S:
            self.told_at = time.monotonic()
            info(f"step {self.progress.step + 1} of {self.progress.max_steps}: {step.text}")

    def show(self) -> None:
        """Draw the charts in the notebook, the first time in a new output, then in its place.

        Nothing is drawn while no step has a reward, or while the last picture is too recent: pictures are at least
        CHARTS_S seconds apart, and take at most CHARTS_SHARE of the time. Once the run has ended, they are drawn in any
        case.
        """
        rows = self.progress.rewarded
        if not rows or (time.monotonic() < self.due and not self.progress.ended):
            return
        from IPython.display import display

        began = time.monotonic()
        picture = draw_live(rows, self.progress.weights)
        head, row = self.progress.cells(rows[-1:])
        facts = "; ".join(", ".join(facts) for facts in self.progress.facts() if facts)
        data = {"text/html": live_html(picture, head, row, facts), "text/plain": facts}
        if self.handle is None:
            self.handle = display(data, raw=True, display_id=True)
        else:
            self.handle.update(data, raw=True)
        now = time.monotonic()
        self.due = now + max(CHARTS_S, (now - began) / CHARTS_SHARE)

    def end(self) -> None:
        """Draw the charts a last time. The caller marks the progress as ended before."""
        self.show()
