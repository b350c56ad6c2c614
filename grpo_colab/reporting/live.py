"""A run while it trains, shown as a live table in a terminal, as charts in a notebook, and as lines anywhere else.

What a model wrote is never shown here.
"""

from __future__ import annotations

import atexit
import contextlib
import html
import io
import itertools
import math
import os
import sys
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.evaluation.evaluate import BEFORE
from grpo_colab.reporting.curves import draw_live, series
from grpo_colab.text import printable
from grpo_colab.utils.console import info
from grpo_colab.utils.files import MOST_READ, read_bytes, read_lines

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from grpo_colab.runs.run import Run

# TRL's metric, the column's head, and how it is shown; a narrow terminal drops the last. Reward and its spread are
# first, for the loss of GRPO is about 0 by construction and says nothing
COLUMNS: Final = (
    ("reward", "reward", "{:.3f}"),
    ("reward_std", "spread", "{:.3f}"),
    ("frac_reward_zero_std", "no variance", "{:.0%}"),
    ("completions/mean_length", "tokens", "{:.0f}"),
    ("completions/clipped_ratio", "cut off", "{:.0%}"),
    ("kl", "KL", "{:.4f}"),
    ("step_time", "s/step", "{:.2f}"),
)
ROWS: Final = 12  # of a whole run, where not each step has one
LATEST: Final = 8  # steps in the live table
WINDOW: Final = 10  # steps that the time left is judged by
BLOCKS, ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.,:-=+#"
CHARTS_S: Final = 2.0  # between two pictures, at least
CHARTS_SHARE: Final = 0.05  # of the time, at most, for drawing them


class RunProgress:
    """The steps so far, those before a resume among them, and how fast they go."""

    def __init__(self, run: Run | None, step: int, max_steps: int, weights: Sequence[float]) -> None:
        self.run, self.step, self.max_steps, self.weights = run, step, max_steps, weights
        self.rows = [row for row in run.metrics() if row["step"] <= step] if run else []
        # where completions serve several steps, the first of these alone has a reward
        self.rewarded = [row for row in self.rows if "reward" in row]
        self.ended = False
        self.began = self.at = time.monotonic()
        self.paced = step
        self.pace: deque[float] = deque(maxlen=WINDOW)
        right = known(series(read_lines(run.path / BEFORE), "right")) if run else []
        self.before = f"{fmean(right):.1%} held-out right before" if len(right) > 1 else ""

    def add(self, row: Mapping[str, Any]) -> None:
        row, self.step = dict(row), row["step"]
        self.rows.append(row)
        if "reward" in row:
            self.rewarded.append(row)
            now, steps = time.monotonic(), self.step - self.paced  # which are not alike where they share completions
            if steps > 0:
                self.pace.append((now - self.at) / steps)
            self.at, self.paced = now, self.step

    def overview(self) -> list[dict[str, Any]]:
        """Return rows from all over the run, the first and the last among them."""
        rows = self.rewarded
        apart = max(1.0, (len(rows) - 1) / (ROWS - 1))
        return [rows[round(i * apart)] for i in range(min(ROWS, len(rows)))]

    def cells(self, rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        """Return the heads, and below them a list for each row, without the columns that no step has."""
        columns = [column for column in COLUMNS if any(row.get(column[0]) is not None for row in self.rewarded)]
        body = [[str(row["step"]), *(cell(row.get(key), form) for key, _, form in columns)] for row in rows]
        return [["step", *(head for _, head, _ in columns)], *body]

    def left(self) -> str:
        seconds = median(self.pace) * (self.max_steps - self.step) if self.pace and not self.ended else 0.0
        return str(timedelta(seconds=round(seconds))) if seconds else ""

    def facts(self) -> list[list[str]]:
        """Return the lines beside the table, each a list of facts with the most important first."""
        taken, left = timedelta(seconds=round(time.monotonic() - self.began)), self.left()
        first = [f"step {self.step} of {self.max_steps}", *([f"{left} left"] if left else [])]
        if self.ended:
            first.append(f"{taken} taken")
        if self.run is not None:
            warnings = 0
            with contextlib.suppress(OSError):
                warnings = read_bytes(self.run.path / "warnings.jsonl", MOST_READ).count(b"\n")
            first.append(f"{warnings or 'no'} warning{'s' * (warnings != 1)}")
        recent = self.rows[-WINDOW:]
        spent = {
            key[5:].removesuffix("_s"): sum(known(series(recent, key)))
            for key in {key: None for row in recent for key in row if key.startswith("time/")}
        }
        second = [f"{median(self.pace):.3g} s a step"] if self.pace else []
        if whole := sum(spent.values()):
            second += [f"{printable(name)} {seconds / whole:.0%}" for name, seconds in spent.items()]
        return [first, second]

    def trend(self, cells: int, blocks: str) -> tuple[str, str]:
        """Return the reward as characters of rising height, and its range in words.

        There are as many characters as the run has gone of `cells`.
        """
        done = 1.0 if self.ended or self.max_steps <= 0 else min(1.0, self.step / self.max_steps)
        rewards, cells = series(self.rewarded, "reward"), max(1, round(done * cells))
        means = []
        for i in range(cells if rewards else 0):
            start = i * len(rewards) // cells
            values = known(rewards[start : max(start + 1, (i + 1) * len(rewards) // cells)])
            means.append(fmean(values) if values else math.nan)
        if not (finite := known(means)):
            return " " * len(means), ""
        low, high = min(finite), max(finite)
        top, span = len(blocks) - 1, (high - low) or 1.0
        return (
            "".join(" " if math.isnan(mean) else blocks[round((mean - low) / span * top)] for mean in means),
            f"{cell(low, '{:.2f}')} to {cell(high, '{:.2f}')}",
        )


def known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def cell(value: Any, form: str) -> str:
    if not isinstance(value, int | float):
        return "-"
    return form.format(value) if abs(value) < 1e6 else f"{value:.1e}"  # nan and inf, too


class Lines:
    """A line now and then, with no sign that a file could not keep."""

    def __init__(self, progress: RunProgress) -> None:
        self.progress, self.written, self.due = progress, progress.step, 0
        self.head: list[str] = []

    def show(self, last: bool = False) -> None:
        rows = self.progress.rewarded[-1:]
        if not rows or rows[0]["step"] <= self.written or not (last or rows[0]["step"] >= self.due):
            return
        head, row = self.progress.cells(rows)
        every, self.written = max(1, self.progress.max_steps // ROWS), rows[0]["step"]
        self.due = (self.written // every + 1) * every
        for texts in ([*head, "left"], [*row, self.progress.left()])[head == self.head :]:
            info("".join(text.rjust(max(9, len(name) + 2)) for text, name in zip(texts, [*head, "left"], strict=True)))
        self.head = head

    def end(self) -> None:
        self.show(last=True)


def live_terminal() -> bool:
    """Tell whether stderr is a screen on which lines can be painted again."""
    from rich.console import Console

    # what `!grpo-colab train` writes in a notebook goes through a terminal, too, but to a page that knows no cursor
    at_hand = innermost(sys.stderr, sys.__stderr__) is not None
    return at_hand and "JPY_PARENT_PID" not in os.environ and Console(stderr=True).is_interactive


def innermost(stream: Any, first: Any) -> Any:
    """Return the terminal's own stream that `stream` is, or that it leads to where that is the `first` one; else None.

    What filters or copies the output goes on doing so: Unsloth puts a filter before stderr, and people have their own.
    None, too, where somebody has replaced the stream's `write`, and would miss what goes past it. wandb replaces it as
    soon as it is imported, but listens only where WANDB_CONSOLE asks for it.
    """
    for each in (stream, first):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # None, closed, or none of the system's
            write = vars(each).get("write")
            own = write is None or (write.__module__.startswith("wandb.") and "WANDB_CONSOLE" not in os.environ)
            if type(each) is io.TextIOWrapper and own and each.isatty():
                return each if os.path.sameopenfile(each.fileno(), stream.fileno()) else None
    return None


class Table:
    """The last steps, painted again in place; what others write meanwhile stays above them, byte for byte.

    rich's own redirection replaces sys.stdout and sys.stderr, wraps what goes through them and reads markup in it. A
    logging handler that holds the stream writes past it. Here the streams' `write` is replaced instead: whole lines go
    above the table as they are, and a line without its end waits for it. What is written without Python's streams (by
    C, by other processes) still lands on the table.
    """

    present: Table | None = None  # a screen has room for one

    def __init__(self, progress: RunProgress) -> None:
        from rich.console import Console
        from rich.live import Live

        if Table.present is not None:  # of a training that was broken off where nobody said so
            with contextlib.suppress(Exception):
                Table.present.close()
        self.progress, self.process, self.lock = progress, os.getpid(), threading.RLock()
        self.taken: list[tuple[Any, Any, Any]] = []  # a stream, its own `write` if it had one, and ours
        # a stream of our own to the same terminal: sys.stderr's leads here
        handle, encoding = os.dup(sys.stderr.fileno()), sys.stderr.encoding
        self.file = os.fdopen(handle, "w", encoding=encoding, errors="backslashreplace")
        self.console = Console(file=self.file)
        self.live = Live(
            get_renderable=lambda: painted(progress, self.console),
            console=self.console,
            auto_refresh=False,  # no thread, so that a process may fork at any moment
            redirect_stdout=False,
            redirect_stderr=False,
        )
        Table.present = self
        atexit.register(self.close)
        for stream, first in ((sys.stdout, sys.__stdout__), (sys.stderr, sys.__stderr__)):
            self._take(innermost(stream, first))
        self.live.start()
        self.console.show_cursor(True)  # live has hidden it, and a process that is killed could not bring it back

    def show(self) -> None:
        with self.lock:
            self.live.refresh()

    def end(self) -> None:
        self.close()

    def close(self) -> None:
        """Leave the table where it is, and the streams as they were."""
        atexit.unregister(self.close)
        if os.getpid() != self.process or Table.present is not self:
            return
        Table.present, self.progress.ended = None, True
        try:
            with self.lock:
                self.live.stop()
        finally:
            for stream, before, above in self.taken:
                if vars(stream).get("write") is above:  # else another has taken it since, and gives it back
                    vars(stream).update(write=before)
                    if before is None:
                        del stream.write
                with contextlib.suppress(OSError, ValueError):
                    above("")
            with contextlib.suppress(OSError):
                self.file.close()

    def _take(self, stream: Any) -> None:
        """Send what is written to a stream of this terminal above the table."""
        if stream is None or not os.path.sameopenfile(stream.fileno(), self.file.fileno()):
            return
        from rich.segment import Segment, Segments

        stream.flush()
        write: Callable[[str], int] = stream.write
        waiting = ""

        def above(text: str) -> int:
            nonlocal waiting
            if os.getpid() != self.process:
                return write(text)
            with self.lock:
                whole, waiting = waiting + text, ""
                if Table.present is not self:
                    write(whole)
                    return len(text)
                lines, newline, waiting = whole.rpartition("\n")
                waiting = waiting[waiting.rfind("\r", 0, -1) + 1 :]  # of a bar that overwrites itself, the last
                if newline:
                    self.console.print(Segments([Segment(lines + newline)]), crop=False, end="")
            return len(text)

        self.taken.append((stream, vars(stream).get("write"), above))
        stream.write = above


def painted(progress: RunProgress, console: Console) -> RenderableType:
    """Return the live table, as large as the screen has room for."""
    from rich.console import Group
    from rich.text import Text

    width, height = console.size
    lines: list[Text] = []

    def line(text: str, style: str = "") -> Text:
        """Add a text as one line, in characters that the screen has."""
        code = console.encoding
        text = printable(text).replace("\n", r"\n").replace("\t", r"\t").encode(code, "backslashreplace").decode(code)
        lines.append(Text(text, style, no_wrap=True, overflow="crop"))
        return lines[-1]

    if progress.run is not None:
        line(", ".join([progress.run.path.name, *([progress.before] if progress.before else [])]), "dim")
    facts = [fitting(facts, width) for facts in progress.facts() if facts]
    rows = progress.overview() if progress.ended else progress.rewarded[-max(1, min(LATEST, height - len(facts) - 4)) :]
    cells = progress.cells(rows) if rows else []
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    shown = sum(end <= width for end in itertools.accumulate(widths, lambda end, more: end + 2 + more))
    for index, row in enumerate(cells):
        style = "dim" if index == 0 else "bold" if index == len(cells) - 1 else ""
        line("  ".join(map(str.rjust, row[:shown], widths)), style)
    unicode = not console.options.ascii_only
    signs, span = progress.trend(max(8, min(48, width - 26)), BLOCKS if unicode else ASCII_BLOCKS)
    ahead = ("\u2500" if unicode else "-") * (max(8, min(48, width - 26)) - len(signs))
    if progress.rewarded:
        line(f"reward  {signs}{ahead}  {span}")
        lines[-1].stylize("cyan", 8, 8 + len(signs))
        lines[-1].stylize("dim", 8 + len(signs), 8 + len(signs) + len(ahead))
    for text in facts:
        line(text)
    return Group(*lines, *([] if progress.ended else [Text()]))  # the cursor waits in a line of its own


def fitting(texts: Sequence[str], width: int) -> str:
    """Join as many of the texts as fit on a line, at least one."""
    ends = itertools.accumulate(map(len, texts), lambda end, more: end + 2 + more)
    return ", ".join(texts[: max(1, sum(end <= width for end in ends))])


class Charts:
    """Three small charts and the latest row, in one output that is drawn anew in place."""

    def __init__(self, progress: RunProgress) -> None:
        import matplotlib.figure  # noqa: F401 - now, so that its loading does not count as drawing

        self.progress, self.due = progress, 0.0
        self.handle: Any = None

    def show(self) -> None:
        rows = self.progress.rewarded
        if not rows or (time.monotonic() < self.due and not self.progress.ended):
            return
        from IPython.display import display

        began = time.monotonic()
        picture = b64encode(draw_live(rows, self.progress.weights)).decode()
        head, row = self.progress.cells(rows[-1:])
        facts = "; ".join(", ".join(facts) for facts in self.progress.facts() if facts)
        heads = "".join(f"<th>{html.escape(text)}</th>" for text in head)
        cells = "".join(f"<td>{html.escape(text)}</td>" for text in row)
        page = (
            f'<img src="data:image/png;base64,{picture}" alt="{html.escape(facts)}"'
            ' style="max-width: 100%; background: #fff">'
            f"<table><tr>{heads}</tr><tr>{cells}</tr></table><p>{html.escape(facts)}</p>"
        )
        data = {"text/html": page, "text/plain": facts}
        if self.handle is None:
            self.handle = display(data, raw=True, display_id=True)
        else:
            self.handle.update(data, raw=True)
        now = time.monotonic()
        self.due = now + max(CHARTS_S, (now - began) / CHARTS_SHARE)

    def end(self) -> None:
        self.show()
