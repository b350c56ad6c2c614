"""Collect a run's metrics while it trains, and summarise them as texts: table cells, time left, the reward's curve.

live.py shows them.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import timedelta
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.evaluation.evaluate import BEFORE
from grpo_colab.reporting.curves import series
from grpo_colab.text import printable
from grpo_colab.utils.files import MOST_READ, read_bytes, read_lines

if TYPE_CHECKING:
    from grpo_colab.runs.run import Run

# TRL's metric, the column's head, and its format. A narrow terminal drops the last columns. Reward and its spread come
# first; the loss is left out, since in GRPO it is about 0 by construction and says nothing.
COLUMNS: Final = (
    ("reward", "reward", "{:.3f}"),
    ("reward_std", "spread", "{:.3f}"),
    ("probe/accuracy", "probe right", "{:.0%}"),  # the latest: it is asked every few steps
    ("sampling/groups_that_teach", "teaching", "{:.0%}"),
    ("frac_reward_zero_std", "no variance", "{:.0%}"),
    ("completions/mean_length", "tokens", "{:.0f}"),
    ("completions/clipped_ratio", "cut off", "{:.0%}"),
    ("kl", "KL", "{:.4f}"),
    ("step_time", "s/step", "{:.2f}"),
)
ROWS: Final = 12  # rows for a whole run: in the table once it has ended, and of `Lines`
WINDOW: Final = 10  # steps that the time left is estimated from


class RunProgress:
    """Collect the metrics of the steps so far, those before a resume included, and how fast the steps go.

    `run` is None in a script without a run folder. `step` is the last step that is done already, 0 for none.
    `max_steps` is the run's last step. `weights` are those of the rewards, in the order in which the metrics name them.
    What the run's folder has of earlier steps is read once; nothing is written.
    """

    def __init__(self, run: Run | None, step: int, max_steps: int, weights: Sequence[float]) -> None:
        self.run, self.step, self.max_steps, self.weights = run, step, max_steps, weights
        self.probe: float | None = None
        self.rows = [self._with_probe(row) for row in run.metrics() if row["step"] <= step] if run else []
        # With num_iterations above 1, completions serve several steps. Only the first of these has a reward.
        self.rewarded = [row for row in self.rows if "reward" in row]
        self.ended = False
        self.within = ""  # how far the present step is, as text
        self.began = time.monotonic()
        # The last step with a reward, and when it was logged.
        self.paced_step, self.paced_at = step, self.began
        self.pace: deque[float] = deque(maxlen=WINDOW)  # seconds per step
        right = not_nan(series(read_lines(run.path / BEFORE), "right")) if run else []
        self.before = f"{fmean(right):.1%} held-out right before" if len(right) > 1 else ""

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a step's row of metrics, with its number as "step". A step with a reward updates the pace."""
        row, self.step, self.within = self._with_probe(row), row["step"], ""
        self.rows.append(row)
        if "reward" not in row:
            return
        self.rewarded.append(row)
        # Steps that share completions take less time than the one that generates them, so average over all of them.
        now, steps = time.monotonic(), self.step - self.paced_step
        if steps > 0:
            self.pace.append((now - self.paced_at) / steps)
        self.paced_step, self.paced_at = self.step, now

    def _with_probe(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a copy of a step's row with what the probe said last, where it was not asked after this step."""
        self.probe = row.get("probe/accuracy", self.probe)
        return {**row} if self.probe is None else {**row, "probe/accuracy": self.probe}

    def overview(self) -> list[dict[str, Any]]:
        """Return up to ROWS rows with a reward, evenly spaced over the run, the first and the last among them."""
        rows = self.rewarded
        spacing = max(1.0, (len(rows) - 1) / (ROWS - 1))
        return [rows[round(i * spacing)] for i in range(min(ROWS, len(rows)))]

    def cells(self, rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        """Return the table's texts: a list of heads, then one for each row.

        A metric that no step has is left out. One that only this row lacks is "-".
        """
        columns = []
        for key, head, form in COLUMNS:
            if any(row.get(key) is not None for row in self.rewarded):
                columns.append((key, head, form))
        table = [["step", *(head for _, head, _ in columns)]]
        for row in rows:
            table.append([str(row["step"]), *(cell(row.get(key), form) for key, _, form in columns)])
        return table

    def left(self) -> str:
        """Return the estimated time left, such as "0:01:30"; "" when it is unknown or the run has ended."""
        if self.ended or not self.pace:
            return ""
        seconds = median(self.pace) * (self.max_steps - self.step)
        return str(timedelta(seconds=round(seconds))) if seconds else ""

    def facts(self) -> list[list[str]]:
        """Return two lines for below the table, each a list of facts with the most important first.

        The first tells the step, the time left or taken, and how many lines warnings.jsonl has now. The second tells
        the pace and the share of each part of a step, as far as they were measured; it may be empty.
        """
        taken, left = timedelta(seconds=round(time.monotonic() - self.began)), self.left()
        first = [f"step {self.step} of {self.max_steps}"]
        if self.within and not self.ended:
            first.append(f"the next: {self.within}")
        if left:
            first.append(f"{left} left")
        if self.ended:
            first.append(f"{taken} taken")
        if self.run is not None:
            warnings = 0
            with contextlib.suppress(OSError):
                warnings = read_bytes(self.run.path / "warnings.jsonl", MOST_READ).count(b"\n")
            first.append(f"{warnings or 'no'} warning{'s' * (warnings != 1)}")
        second = [f"{median(self.pace):.3g} s/step"] if self.pace else []
        seconds_by_part = self._seconds_by_part()
        total = sum(seconds_by_part.values())
        if total:
            second += [f"{printable(part)} {seconds / total:.0%}" for part, seconds in seconds_by_part.items()]
        return [first, second]

    def _seconds_by_part(self) -> dict[str, float]:
        """Return how many seconds each part of a step (generation, update, ...) took over the last WINDOW steps."""
        recent = self.rows[-WINDOW:]
        seconds_by_part: dict[str, float] = {}
        for row in recent:
            for key in row:
                part = key.removeprefix("time/").removesuffix("_s")
                if key.startswith("time/") and part not in seconds_by_part:
                    seconds_by_part[part] = sum(not_nan(series(recent, key)))
        return seconds_by_part

    def trend(self, cells: int, blocks: str) -> tuple[str, str]:
        """Return the reward's curve as characters of rising height, and its range, such as "0.20 to 0.80".

        `blocks` are the characters, from the lowest to the highest. The curve has `cells` of them when the run is over;
        before, it is as long as the share of the run that is done. Both texts are empty while no step has a reward.
        Where all rewards are NaN, the curve is spaces and the range is empty.
        """
        done = 1.0 if self.ended or self.max_steps <= 0 else min(1.0, self.step / self.max_steps)
        rewards, cells = series(self.rewarded, "reward"), max(1, round(done * cells))
        means = []  # one per character, NaN where no step has a reward
        for i in range(cells if rewards else 0):
            start = i * len(rewards) // cells
            end = max(start + 1, (i + 1) * len(rewards) // cells)
            values = not_nan(rewards[start:end])
            means.append(fmean(values) if values else math.nan)
        present = not_nan(means)
        if not present:
            return " " * len(means), ""
        low, high = min(present), max(present)
        top, span = len(blocks) - 1, (high - low) or 1.0
        curve = ""
        for mean in means:
            curve += " " if math.isnan(mean) else blocks[round((mean - low) / span * top)]
        return curve, f"{cell(low, '{:.2f}')} to {cell(high, '{:.2f}')}"


def not_nan(values: Sequence[float]) -> list[float]:
    """Return the values that are not NaN."""
    return [value for value in values if not math.isnan(value)]


def cell(value: Any, form: str) -> str:
    """Return a metric as text: "-" for what is no number, and scientific notation from a million on."""
    if not isinstance(value, int | float):
        return "-"
    return form.format(value) if abs(value) < 1e6 else f"{value:.1e}"  # NaN and infinity take the second form
