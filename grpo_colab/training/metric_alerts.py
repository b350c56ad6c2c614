"""Warn about what can be seen to go wrong in a run's metrics, once and early, and say what to do about it.

`callbacks.Alarms` prints these warnings and writes them to the run folder. What stops a run is in tripwires.py.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Final, NamedTuple

from grpo_colab.runs.records import WarningRow, reward_of_metric

WINDOW: Final = 20  # steps over which a reward counts as constant and a trend is measured; also between two warnings
NO_VARIANCE: Final = 3  # consecutive steps in which no group had any variance in reward
ALL_RIGHT: Final = 10  # the same, where all completions are right
SAME: Final = 1e-6  # below it two rewards are equal: in 32 bits, eight times 0.1 have a spread of 8e-9
SHORTER: Final = 0.5  # of their former length: completions of the window's second half that shrank
PAID: Final = 0.8  # mean of the format rewards from which the form counts as learnt
RISE: Final = 0.05  # change of a mean reward from one half of the window to the other that counts
# Parts of a reward's name that tell what it pays for. They cover users' own rewards as well.
CORRECTNESS: Final = ("correct", "accuracy", "answer", "math", "cosine_scaled")
FORMAT: Final = ("format", "tag", "integer", "xml")


class Alert(NamedTuple):
    """One problem that a row of metrics shows: its kind, what to do about it, and the reward ("" for none)."""

    kind: str
    text: str
    reward: str = ""


class MetricMonitor:
    """Read each step's row of metrics.jsonl, in order, and return the warnings that this row completes.

    The `kind` of a warning is `constant`, `no_variance`, `no_reward`, `hacking`, `hollow` or `cut_off`. The same
    warning comes again after `WINDOW` steps at the earliest. A constant reward has to change before it is reported
    again.
    """

    def __init__(self) -> None:
        self.rows: deque[Mapping[str, Any]] = deque(maxlen=WINDOW)
        self.constant: dict[str, tuple[float, float]] = {}  # by reward: its value, and the step since which it has it
        self.steps_without_variance = 0  # consecutive
        self.steps_all_right = 0  # of these
        self.ever_paid = False  # whether any completion has earned anything from a reward
        self.last_warned: dict[str, int] = {}  # step of the last warning, by kind and reward

    def update(self, row: Mapping[str, Any]) -> list[WarningRow]:
        """Add a step's row, and return the warnings that are due after it; an empty list for none.

        The row needs `step`; every other metric may be missing. Nothing is printed.
        """
        self.rows.append(row)
        alerts = [*self._constant(row), *self._no_variance(row), *self._hacking(), *self._hollow(), *self._cut_off()]
        step = int(row["step"])
        warnings: list[WarningRow] = []
        for alert in alerts:
            key = alert.kind + alert.reward
            if step - self.last_warned.get(key, -WINDOW) >= WINDOW:
                self.last_warned[key] = step
                warnings.append({"step": step, "kind": alert.kind, "text": alert.text})
        return warnings

    def _constant(self, row: Mapping[str, Any]) -> Iterator[Alert]:
        """Yield an alert for each reward that paid every completion the same for WINDOW steps.

        A reward is reported once. It is reported again only after its value has changed and stayed the same for WINDOW
        steps.
        """
        for name, metric in _reward_metrics(row).items():
            mean, spread = row[f"{metric}/mean"], row.get(f"{metric}/std")
            all_equal = mean is not None and spread is not None and abs(spread) < SAME
            value, since = self.constant.get(name, (math.nan, math.inf))
            if not all_equal:
                value, since = math.nan, math.inf
            elif not abs(mean - value) < SAME:
                value, since = mean, row["step"]
            self.constant[name] = value, since
            if row["step"] - since >= WINDOW - 1:
                # infinity: no further alert before the value changes
                self.constant[name] = value, math.inf
                text = (
                    f"{name} has been {mean:g} for every completion of {WINDOW} steps, so nothing is learned from it. "
                    "That is fine when all is learned, or when there is nothing left to punish; if the reward is "
                    "never earned, see what it wants with `grpo-colab audit`"
                )
                yield Alert("constant", text, name)

    def _no_variance(self, row: Mapping[str, Any]) -> Iterator[Alert]:
        """Yield an alert at the NO_VARIANCE-th consecutive step in which all completions of each group earn the same.

        Their advantages are then zero, so that the step has no gradient. It is another alert, which comes again, while
        no reward has ever paid anything, and another one at the ALL_RIGHT-th step where all completions were right.
        """
        means = {name: row[f"{metric}/mean"] for name, metric in _reward_metrics(row).items()}
        self.ever_paid = self.ever_paid or not means or any(means.values())
        if row.get("frac_reward_zero_std") != 1:
            self.steps_without_variance = self.steps_all_right = 0
            return
        self.steps_without_variance += 1
        right = [mean for name, mean in means.items() if _tells(name, CORRECTNESS)]
        if right and all(mean is not None and abs(mean - 1) < SAME for mean in right):
            self.steps_all_right += 1
        others = self.steps_without_variance - self.steps_all_right
        if not self.ever_paid and self.steps_without_variance >= NO_VARIANCE:
            text = (
                f"no completion has earned anything from any reward in {self.steps_without_variance} steps, so nothing "
                "is learned: the model does not write what is asked for. completions.jsonl has what it writes. Show "
                "it: write the format out in task.system_prompt, line by line, or let [pretraining] teach it the "
                "golden completions of the training problems (--pretraining.steps 32); or take a larger or an "
                "instruct model, or easier problems"
            )
            yield Alert("no_reward", text)
        elif others == NO_VARIANCE:
            text = (
                f"no group had any variance in reward for {self.steps_without_variance} steps, so nothing was learned: "
                "use more completions per prompt (grpo.num_generations), more prompts per step "
                "(budget.prompts_per_step), or prompts that are sometimes solved"
            )
            yield Alert("no_variance", text)
        elif others == 0 and self.steps_all_right == ALL_RIGHT:
            text = (
                f"all completions of {ALL_RIGHT} steps are right, so nothing was learned from them. That is fine when "
                "all is learned; to go on, take harder problems, or let sampling.strategy = 'adaptive' look for them"
            )
            yield Alert("no_variance", text)

    def _hacking(self) -> Iterator[Alert]:
        """Yield an alert when the format rewards rise over the window while the correctness rewards fall.

        Each has to change by more than RISE. Nothing is yielded before the window is full, nor where `_change` gives
        None.
        """
        if len(self.rows) < WINDOW:
            return
        form, correctness = self._change(FORMAT), self._change(CORRECTNESS)
        if form is None or correctness is None:
            return
        if form > RISE and correctness < -RISE:
            text = (
                f"within {WINDOW} steps the format rewards rose by {form:.2f} while correctness fell by "
                f"{-correctness:.2f}: the policy may be learning the format alone; lower the weights of the format "
                "rewards, or count them only where the answer is right, with `combine`"
            )
            yield Alert("hacking", text)

    def _hollow(self) -> Iterator[Alert]:
        """Yield an alert when completions shrink to SHORTER of their length, are paid for their form, and are wrong.

        No more of them are right than before, and not half. Nothing is yielded before the window is full.
        """
        lengths = [row["completions/mean_length"] for row in self.rows if row.get("completions/mean_length")]
        form, correctness = self._means(FORMAT), self._means(CORRECTNESS)
        if min(len(lengths), len(form), len(correctness)) < WINDOW:
            return
        (before, now), (_, paid), (were_right, right) = (_halves(means) for means in (lengths, form, correctness))
        if now < SHORTER * before and paid > PAID and right < 0.5 and right - were_right <= RISE:
            text = (
                f"within {WINDOW} steps the completions shrank from {before:.0f} to {now:.0f} tokens, and no more of "
                "them are right: the policy is paid for the form of an answer, and may think no more. Lower the "
                "weights of the format rewards, count them only where the answer is right, with `combine`, or lower "
                "grpo.learning_rate"
            )
            yield Alert("hollow", text)

    def _means(self, name_parts: Sequence[str]) -> list[float]:
        """Return, for each step of the window that has any, the mean of the rewards whose names contain such a part."""
        rewards = _reward_metrics(self.rows[-1])
        metrics = [metric for name, metric in rewards.items() if _tells(name, name_parts)]
        means = []
        for row in self.rows:
            values = [row.get(f"{metric}/mean") for metric in metrics]
            judged = [value for value in values if value is not None]
            if judged:
                means.append(sum(judged) / len(judged))
        return means

    def _change(self, name_parts: Sequence[str]) -> float | None:
        """Return by how much the mean of some rewards changed from the first half of the window to the second.

        These are the rewards whose names contain one of `name_parts`. None when a step of the window has no such
        reward, or when the change is within two standard errors.
        """
        means = self._means(name_parts)
        if len(means) < WINDOW:
            return None
        early, early_error = _mean_and_error(means[: WINDOW // 2])
        late, late_error = _mean_and_error(means[WINDOW // 2 :])
        change = late - early
        return change if abs(change) > 2 * math.hypot(early_error, late_error) else None

    def _cut_off(self) -> Iterator[Alert]:
        """Yield an alert when over half of the completions of the last three steps reached the length limit.

        Before the third step, the steps so far count. A step without this metric is left out.
        """
        recent = [row.get("completions/clipped_ratio") for row in list(self.rows)[-3:]]
        shares = [share for share in recent if share is not None]
        if shares and sum(shares) / len(shares) > 0.5:
            text = (
                f"{sum(shares) / len(shares):.0%} of the completions are cut off before they end, and cannot be "
                "right: raise grpo.max_completion_length, or ask for shorter answers"
            )
            yield Alert("cut_off", text)


def _reward_metrics(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the metric `rewards/<function>` by reward key, without `/mean`, for each reward with a mean in the row."""
    found = {}
    for metric in row:
        name = reward_of_metric(metric)
        if name is not None:
            found[name] = metric.removesuffix("/mean")
    return found


def _tells(name: str, name_parts: Sequence[str]) -> bool:
    """Tell whether a reward's name contains one of these parts."""
    return any(part in name for part in name_parts)


def _halves(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of the first half of the values, and that of the second."""
    half = len(values) // 2
    return fmean(values[:half]), fmean(values[half:])


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean of at least two values, and its standard error."""
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))
