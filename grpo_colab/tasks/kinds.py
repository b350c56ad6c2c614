"""Tell kinds of problems apart by what is known of them before anyone has tried them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

from grpo_colab.tasks import Problem

MOST_COUNTED: Final = 12  # larger numbers of steps, or of numbers, share a kind
SHARES: Final = 5  # kinds of problems by their length alone


def kinds_of(problems: Sequence[Problem]) -> list[str]:
    """Return the kind of each problem: by the steps of its solution, else by the numbers in its question.

    Where neither tells the problems apart, the kinds are five shares of equal size by the length of the question.
    """
    steps = [len(problem.steps) for problem in problems]
    numbers = [len(re.findall(r"\d+(?:[.,]\d+)*", problem.question)) for problem in problems]
    if _tells_apart(steps) and steps.count(0) <= 0.1 * len(steps):
        return [_counted(count, "step") for count in steps]
    if _tells_apart(numbers):
        return [_counted(count, "number") for count in numbers]
    order = sorted(range(len(problems)), key=lambda index: (len(problems[index].question), index))
    kinds = [""] * len(problems)
    for place, index in enumerate(order):
        kinds[index] = f"length {place * SHARES // len(problems) + 1} of {SHARES}"
    return kinds


def _tells_apart(counts: Sequence[int]) -> bool:
    """Tell whether no count is that of nearly all problems."""
    return bool(counts) and Counter(counts).most_common(1)[0][1] <= 0.9 * len(counts)


def _counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 step", "2 steps", "12 steps or more"."""
    plural = "" if count == 1 else "s"
    return f"{min(count, MOST_COUNTED)} {noun}{plural}{' or more' if count >= MOST_COUNTED else ''}"
