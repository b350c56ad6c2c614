"""Compute the statistics of an evaluation: each side's accuracy, and whether the change is more than chance.

The same problems are answered before and after training, so the test is paired. Only the standard library is used,
because a report can be made on a machine without scipy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean
from typing import Any

from grpo_colab.runs.records import AnswerRow


def summary(rows: Sequence[AnswerRow]) -> dict[str, Any]:
    """Return one side of evaluation.json: accuracy with its 95 % interval, lenient accuracy, each reward's mean.

    Both accuracies are shares from 0 to 1; the lenient one is None where the task has none. A reward's mean is over the
    answers that it judged, and None where it judged none. `rows` must not be empty.
    """
    right = sum(row["right"] for row in rows)
    lenient = [row["lenient_right"] for row in rows if row["lenient_right"] is not None]
    means: dict[str, float | None] = {}
    for name in rows[0]["rewards"]:
        values = [row["rewards"][name] for row in rows]
        judged = [value for value in values if value is not None]
        means[name] = fmean(judged) if judged else None
    return {
        "accuracy": right / len(rows),
        "ci95": list(wilson_interval(right, len(rows))),
        "lenient_accuracy": fmean(lenient) if lenient else None,
        "rewards": means,
    }


def compare(before: Sequence[AnswerRow], after: Sequence[AnswerRow]) -> dict[str, Any]:
    """Return how many problems were gained and lost, and McNemar's exact p-value.

    `before[i]` and `after[i]` answer the same problem. A gained problem was wrong before and is right after. Raises
    ValueError for lists of different lengths.
    """
    gained = lost = 0
    for old, new in zip(before, after, strict=True):
        gained += new["right"] and not old["right"]
        lost += old["right"] and not new["right"]
    return {"gained": gained, "lost": lost, "p_value": mcnemar_exact(gained, lost)}


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval (Wilson 1927) of a proportion, which holds near 0 and 1 and for small n too.

    Both ends are shares from 0 to 1. Raises ZeroDivisionError where n is 0.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # rounding may leave p, or 0 and 1, outside of the interval
    low = max(0.0, min(p, centre - half))
    high = min(1.0, max(p, centre + half))
    return low, high


def mcnemar_exact(gained: int, lost: int) -> float:
    """Return McNemar's exact two-sided p-value (McNemar 1947): each verdict that changed is a toss of a fair coin.

    It is 1 where no verdict changed.
    """
    n, k = gained + lost, min(gained, lost)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
