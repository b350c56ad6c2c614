"""What can be seen to go wrong in a run's metrics: told once, early, and with what to do about it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

WINDOW: Final = 20  # steps that a reward must stay the same, and that a trend is read off
NO_VARIANCE: Final = 3  # steps in a row in which no group taught anything
NOTHING: Final = 1e-6  # in 32 bits, eight times 0.1 have a spread of 8e-9
RISE: Final = 0.05  # of a reward's mean from one half of the window to the other
# How a reward's name tells what it pays for, where it is not one of ours.
CORRECTNESS: Final = ("correct", "accuracy", "answer", "math", "cosine_scaled")
FORMAT: Final = ("format", "tag", "integer", "xml")


class MetricMonitor:
    """Give it each step's line of metrics.jsonl, in order; it gives the warnings that this line completes.

    Each is a dict of `step`, `kind` (`constant`, `no_variance`, `hacking` or `cut_off`) and `text`. The same is told
    again after `WINDOW` steps at the earliest, and a constant reward when it has changed in between.
    """

    def __init__(self) -> None:
        self.rows: deque[Mapping[str, Any]] = deque(maxlen=WINDOW)
        self.same: dict[str, tuple[float, float]] = {}  # a reward's value, and the step since which it has had it
        self.flat = 0  # steps in a row without variance
        self.told: dict[str, int] = {}

    def update(self, row: Mapping[str, Any]) -> list[dict[str, Any]]:
        self.rows.append(row)
        found = [*self._constant(row), *self._no_variance(row), *self._hacking(), *self._cut_off()]
        warnings = []
        for kind, about, text in found:
            step = int(row["step"])
            if step - self.told.get(kind + about, -WINDOW) >= WINDOW:
                self.told[kind + about] = step
                warnings.append({"step": step, "kind": kind, "text": text})
        return warnings

    def _constant(self, row: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        for name in _rewards(row):
            mean, spread = row[f"rewards/{name}/mean"], row.get(f"rewards/{name}/std")
            flat = mean is not None and spread is not None and abs(spread) < NOTHING
            value, since = self.same.get(name, (math.nan, math.inf))
            if not flat or not abs(mean - value) < NOTHING:
                value, since = (mean, row["step"]) if flat else (math.nan, math.inf)
            self.same[name] = value, since
            if row["step"] - since >= WINDOW - 1:
                self.same[name] = value, math.inf  # told; not again before it changes
                yield (
                    "constant",
                    name,
                    f"{name} has been {mean:g} for every completion of {WINDOW} steps, and teaches nothing: well if "
                    "all is learnt, or nothing left to punish; if it is never earned, see what it wants with "
                    "`grpo-colab audit`",
                )

    def _no_variance(self, row: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
        self.flat = self.flat + 1 if row.get("frac_reward_zero_std") == 1 else 0
        if self.flat == NO_VARIANCE:
            yield (
                "no_variance",
                "",
                f"no group had any variance in reward for {NO_VARIANCE} steps, so that nothing was learnt: give each "
                "prompt more completions (grpo.num_generations), a step more prompts (budget.prompts_per_step), or "
                "prompts that are sometimes solved",
            )

    def _hacking(self) -> Iterator[tuple[str, str, str]]:
        if len(self.rows) < WINDOW:
            return
        form, truth = (self._change(words) for words in (FORMAT, CORRECTNESS))
        if form is not None and truth is not None and form > RISE and truth < -RISE:
            yield (
                "hacking",
                "",
                f"within {WINDOW} steps the format rewards rose by {form:.2f} while correctness fell by {-truth:.2f}: "
                "the policy may be learning the form alone; lower their weights, or let `combine` count them only "
                "where the answer is right",
            )

    def _change(self, words: Sequence[str]) -> float | None:
        """From the first half of the window to the second, in the mean of the rewards so named; None within chance."""
        names = [name for name in _rewards(self.rows[-1]) if any(word in name for word in words)]
        values = [
            [row[f"rewards/{name}/mean"] for name in names if row.get(f"rewards/{name}/mean") is not None]
            for row in self.rows
        ]
        means = [sum(step) / len(step) for step in values if step]
        if len(means) < WINDOW:
            return None
        (early, early_error), (late, late_error) = map(_mean, (means[: WINDOW // 2], means[WINDOW // 2 :]))
        change = late - early
        return change if abs(change) > 2 * math.hypot(early_error, late_error) else None

    def _cut_off(self) -> Iterator[tuple[str, str, str]]:
        recent = [row.get("completions/clipped_ratio") for row in list(self.rows)[-3:]]
        shares = [share for share in recent if share is not None]
        if shares and sum(shares) / len(shares) > 0.5:
            yield (
                "cut_off",
                "",
                f"{sum(shares) / len(shares):.0%} of the completions are cut off before they end, and cannot be "
                "right: raise grpo.max_completion_length, or ask for shorter answers",
            )


def _rewards(row: Mapping[str, Any]) -> list[str]:
    return [key.split("/")[1] for key in row if key.startswith("rewards/") and key.endswith("/mean")]


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error."""
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
