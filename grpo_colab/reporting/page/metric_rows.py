"""The rows of metrics.jsonl as charts take them: which keys they have, and fewer of them where they are many."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Final

from grpo_colab.runs.records import reward_of_metric

Row = Mapping[str, float]

MOST_POINTS: Final = 400  # of a line; a longer one becomes means of several steps
VARIANCE: Final = "groups_with_variance"  # TRL logs its complement, frac_reward_zero_std


def with_variance_share(metrics: Sequence[Row]) -> list[dict[str, float]]:
    """Return copies of the rows that also have, under VARIANCE, the share of groups whose rewards differ.

    A row without TRL's frac_reward_zero_std does not get it.
    """
    return [
        {**row, VARIANCE: 1 - row["frac_reward_zero_std"]} if "frac_reward_zero_std" in row else dict(row)
        for row in metrics
    ]


def spread_band(metrics: Sequence[Row]) -> list[dict[str, float]]:
    """Return a row per step with a reward and its spread: "low" and "high", the mean less and plus the deviation.

    Neither goes beyond the step's worst and best completion, where these are known: no completion is there.
    """
    found = []
    for row in metrics:
        if "reward" in row and "reward_std" in row:
            low, high = row["reward"] - row["reward_std"], row["reward"] + row["reward_std"]
            low, high = max(low, row.get("reward/min", low)), min(high, row.get("reward/max", high))
            found.append({"step": row["step"], "low": low, "high": high})
    return found


def downsample(rows: Sequence[Row]) -> list[dict[str, float]]:
    """Return copies of the rows; of more than MOST_POINTS, the means of several at a time, MOST_POINTS at most.

    A key with the word "min" or "max" in its name gets the minimum or the maximum of those rows. The step is that of
    the last of them.
    """
    every = -(-len(rows) // MOST_POINTS)
    if every <= 1:
        return [dict(row) for row in rows]
    buckets = [rows[start : start + every] for start in range(0, len(rows), every)]
    return [{**_merge(bucket), "step": bucket[-1]["step"]} for bucket in buckets]


def _merge(rows: Sequence[Row]) -> dict[str, float]:
    """Return one row for all: the mean of each key, or its extreme where "min" or "max" is a word of the key."""
    merged = {}
    for key in all_keys(rows):
        aggregate: Callable[[Iterable[float]], float] = fmean
        extreme = re.search(r"(?:^|[/_])(min|max)(?:_|$)", key)
        if extreme:
            aggregate = min if extreme[1] == "min" else max
        merged[key] = aggregate(values(rows, key)[1])
    return merged


def all_keys(rows: Iterable[Row]) -> list[str]:
    """Return the keys of all rows, in the order in which they first come."""
    return list(dict.fromkeys(key for row in rows for key in row))


def reward_keys(rows: Iterable[Row], statistic: str = "mean") -> list[str]:
    """Return the keys `rewards/NAME/STATISTIC` of the rows; the statistic is "mean" or "std"."""
    return [key for key in all_keys(rows) if is_reward_key(key, statistic)]


def is_reward_key(key: str, statistic: str = "mean") -> bool:
    return reward_of_metric(key, statistic) is not None


def values(rows: Iterable[Row], key: str) -> tuple[list[float], list[float]]:
    """Return the steps that have a number under `key`, and those numbers."""
    found = [(row["step"], row[key]) for row in rows if key in row]
    return [step for step, _ in found], [value for _, value in found]
