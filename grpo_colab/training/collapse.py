"""Tell a collapse from noise: what a run is judged by falls from its best while it runs away, by its metrics alone.

    judged      `probe/accuracy`, the mean of the last two probes; without a probe `reward`, the mean of WINDOW steps
    its noise   of a share of n problems the binomial standard error; of a reward that of a mean of WINDOW steps
    a fall      more than ERRORS standard errors of the difference below the best; the two share no step
    run-away    since the best, entropy or completion length left their range, or the groups no longer differ

Both are needed. A fall alone may be luck: the best of many values is partly luck, and each new one may be below it by
chance. A run-away alone may be success: a policy that has learned its task is sure of its answers, and its groups are
all right. Of simulated runs of 250 steps whose probe or reward only varies by chance, 1 to 4 in a hundred fall by four
standard errors at some time (a third of them by three), and none of them trips as long as nothing runs away.

Nothing here knows a trainer. `training/tripwires.py` asks, and `runs/collapse.py` takes the run back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean, variance
from typing import Any, Final, NamedTuple

from grpo_colab.utils.files import number

PROBE: Final = "probe/accuracy"
REWARD: Final = "reward"
WINDOW: Final = 10  # steps of a mean of rewards, and of one of entropy and length
STRIDE: Final = 5  # steps between two means of rewards, and the fewest since the best that can tell a run-away
PROBES: Final = 2  # of a mean
ERRORS: Final = 4.0
# What counts as a run-away. `early` are the first WINDOW steps, `best` the WINDOW steps up to the best.
EXPLODED: Final = 3.0  # times the entropy of either
NEAR_NOTHING: Final = 0.1  # of the early entropy, and half of that at the best
LONGER: Final = 2.0  # times the length at the best
SHORTER: Final = 0.5
SILENT: Final = 0.5  # of the groups earn the same for all completions, and twice as many as early


class Reading(NamedTuple):
    """What the run is judged by, up to a step: the mean of `size` values, the first of which is of `first_step`."""

    first_step: int
    step: int
    value: float
    size: int
    variance: float  # of a step's reward; 0.0 for a probe, whose noise follows from its value


class Fall(NamedTuple):
    """A collapse: the step of the best, what was seen there and now, and the same in words."""

    best_step: int
    seen: dict[str, Any]
    description: str


class CollapseRule:
    """Read each step's row of metrics.jsonl, in order, and find the best step and a collapse.

    `probe_size` is the number of problems in the probe, 0 for a run that is judged by its reward. `iterations` is
    grpo.num_iterations: no checkpoint is written between steps that share their completions. After each row, `best` is
    the best reading so far, the newest of equals, of a step that a checkpoint can be written after; None before the
    first. All of it follows from the rows alone, so that a resumed run decides as one that was never cut.
    """

    def __init__(self, probe_size: int, iterations: int = 1) -> None:
        self.probe_size, self.iterations = probe_size, iterations
        self.metric = PROBE if probe_size else REWARD
        self.best: Reading | None = None
        self.rows: list[Mapping[str, Any]] = []
        self._judged: list[tuple[int, float]] = []  # steps with a value of the metric
        self._squared_changes = 0.0  # from one of these values to the next
        self._unread = 0  # values since the last reading

    def update(self, row: Mapping[str, Any]) -> Fall | None:
        """Add a step's row, which needs `step`. Return the collapse that it shows, None for none."""
        self.rows.append(row)
        now = self._reading(row)
        if now is None:
            return None
        if self.best is None or now.value >= self.best.value:
            if now.step % self.iterations == 0:
                self.best = now
            return None
        if now.first_step <= self.best.step:
            return None
        errors = (self.best.value - now.value) / self._standard_error(self.best, now)
        run_away = self._run_away(self.best) if errors > ERRORS else {}
        if not run_away:
            return None
        seen = {
            "metric": self.metric,
            "best": self.best.value,
            "now": now.value,
            "standard_errors": errors,
            "run_away": {name: values for name, (values, _) in run_away.items()},
        }
        shown = (f"{value:.1%}" if self.probe_size else f"{value:.3g}" for value in (self.best.value, now.value))
        from_to = " to ".join(shown)
        signs = " and ".join(text for _, text in run_away.values())
        description = f"{self.metric} fell from {from_to} ({errors:.1f} standard errors) since step {self.best.step}"
        return Fall(self.best.step, seen, f"{description}, while {signs}")

    def _reading(self, row: Mapping[str, Any]) -> Reading | None:
        """Return the reading that the row completes, None for none."""
        value, size = number(row.get(self.metric)), PROBES if self.probe_size else WINDOW
        if value is not None:
            if self._judged:
                self._squared_changes += (value - self._judged[-1][1]) ** 2
            self._judged.append((int(row["step"]), value))
            self._unread += 1
        taken = self._judged[-size:]
        if self.probe_size:
            due = value is not None  # the first probe counts alone
        else:
            due = self._unread >= STRIDE and len(taken) == size and row["step"] % self.iterations == 0
        if not due:
            return None
        self._unread = 0
        values = [each for _, each in taken]
        spread = 0.0 if self.probe_size else max(variance(values), self._step_variance())
        return Reading(taken[0][0], int(row["step"]), fmean(values), len(values), spread)

    def _step_variance(self) -> float:
        """Return the variance of a step's reward, from the changes between neighbouring steps of the whole run.

        A trend adds hardly anything to it. The spread within a window of steps that are all right is 0, which says
        nothing about the next.
        """
        return self._squared_changes / (len(self._judged) - 1) / 2

    def _standard_error(self, best: Reading, now: Reading) -> float:
        """Return the standard error of the difference of two readings, never 0.

        For a probe it is that of two shares under the hypothesis that they are equal, with one right and one wrong
        answer added. The problems are the same each time, so that the true one is smaller.
        """
        if not self.probe_size:
            return math.sqrt(best.variance / best.size + now.variance / now.size) or 1e-9
        asked = [reading.size * self.probe_size for reading in (best, now)]
        right = best.value * asked[0] + now.value * asked[1]
        share = (right + 1) / (sum(asked) + 2)
        return math.sqrt(share * (1 - share) * (1 / asked[0] + 1 / asked[1]))

    def _run_away(self, best: Reading) -> dict[str, tuple[list[float], str]]:
        """Return what ran away since the best, by metric: its values early, at the best and now, and in words."""
        found = {}
        for name, metric in (
            ("entropy", "entropy"),
            ("length", "completions/mean_length"),
            ("silent", "frac_reward_zero_std"),
        ):
            means = self._means(metric, best.step)
            text = _in_words(name, *means) if means is not None else None
            if means is not None and text:
                found[metric] = (list(means), text)
        return found

    def _means(self, metric: str, best_step: int) -> tuple[float, float, float] | None:
        """Return the means of a metric over the first steps, those up to the best, and the last since then.

        None with fewer than STRIDE steps since the best.
        """
        until: list[float] = []
        since: list[float] = []
        for row in self.rows:
            value = number(row.get(metric))
            if value is not None:
                (until if row["step"] <= best_step else since).append(value)
        if not until or len(since) < STRIDE:
            return None
        return fmean(until[:WINDOW]), fmean(until[-WINDOW:]), fmean(since[-WINDOW:])


def _in_words(name: str, early: float, at_best: float, now: float) -> str | None:
    """Return in words how a metric ran away, None where it did not."""
    if name == "entropy":
        if now > EXPLODED * max(early, at_best):
            return f"entropy grew to {now:.3g} (at first {early:.3g})"
        if now < NEAR_NOTHING * early and now < at_best / 2:
            return f"entropy fell to {now:.3g} (at first {early:.3g})"
    elif name == "length":
        if now > LONGER * at_best:
            return f"completions grew from {at_best:.0f} to {now:.0f} tokens"
        if now < SHORTER * at_best:
            return f"completions shrank from {at_best:.0f} to {now:.0f} tokens"
    elif now >= max(SILENT, 2 * early):
        return f"in {now:.0%} of the groups all completions earned the same (at first {early:.0%})"
    return None
