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
    steps, numbers = _steps(problems), _numbers(problems)
    if _tells_apart(steps) and steps.count(0) <= 0.1 * len(steps):
        return [_counted(count, "step") for count in steps]
    if _tells_apart(numbers):
        return [_counted(count, "number") for count in numbers]
    return _lengths(problems)


def features_of(problems: Sequence[Problem]) -> list[tuple[str, ...]]:
    """Return what may tell how hard each problem is: its steps, numbers, length, and the operations of its solution.

    Each is a text, such as "3 steps". Which of them tells is for `training.sampling.forecast` to learn.
    """
    steps = [_counted(count, "step") for count in _steps(problems)]
    numbers = [_counted(count, "number") for count in _numbers(problems)]
    operations = []
    for problem in problems:
        found = sorted(set(re.findall(r"(?<=[\d\s])[-+*/](?=[\d\s])", " ".join(problem.steps))))
        operations.append("operations " + "".join(found))
    return list(zip(steps, numbers, _lengths(problems), operations, strict=True))


def _steps(problems: Sequence[Problem]) -> list[int]:
    """Return how many steps the solution of each problem has."""
    return [len(problem.steps) for problem in problems]


def _numbers(problems: Sequence[Problem]) -> list[int]:
    """Return how many numbers each question has."""
    return [len(re.findall(r"\d+(?:[.,]\d+)*", problem.question)) for problem in problems]


def _lengths(problems: Sequence[Problem]) -> list[str]:
    """Return which share of the problems each one belongs to, of five of equal size by the length of the question."""
    order = sorted(range(len(problems)), key=lambda index: (len(problems[index].question), index))
    lengths = [""] * len(problems)
    for place, index in enumerate(order):
        lengths[index] = f"length {place * SHARES // len(problems) + 1} of {SHARES}"
    return lengths


def _tells_apart(counts: Sequence[int]) -> bool:
    """Tell whether no count is that of nearly all problems."""
    return bool(counts) and Counter(counts).most_common(1)[0][1] <= 0.9 * len(counts)


def _counted(count: int, noun: str) -> str:
    """Return a count with its noun: "1 step", "2 steps", "12 steps or more"."""
    plural = "" if count == 1 else "s"
    return f"{min(count, MOST_COUNTED)} {noun}{plural}{' or more' if count >= MOST_COUNTED else ''}"
