"""Show the policy the beginning of a solution that it does not find: the first steps of the gold one, in the prompt.

A group that is all wrong has nothing to learn from. Asked again with a part of the solution, some of its completions
come out right (GHPO, arXiv 2507.10628; NuRL, 2509.25666; SAGE, 2602.03143). Evaluations never have a hint. So the part
that is shown shrinks to nothing towards the end of the training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from grpo_colab.tasks import Message, Problem

Index = int | tuple[int, int]  # of a training row, or of one with so many steps of its solution


def steps_shown(share: float, done: float, steps: int) -> int:
    """Return how many of a solution's steps a hint shows: `share` of them at first, and none at the end.

    `done` is the share of the training that is over. Half a step is shown. The last step, which has the answer, never
    is.
    """
    return max(0, min(steps - 1, math.floor(share * (1 - done) * steps + 0.5)))


class HintedRows:
    """The rows of a training set, of which each may be had with a hint in its prompt.

    `rows[7]` is a row, and `rows[7, 2]` the same with two steps of its solution. There may be more rows than
    `problems`: then these come again in the same order. `messages` returns the prompt of a problem with so many steps,
    and `fits` tells whether a prompt is short enough.
    """

    def __init__(
        self,
        rows: Sequence[dict[str, Any]],
        problems: Sequence[Problem],
        messages: Callable[[Problem, int], list[Message]],
        fits: Callable[[list[Message]], bool],
    ) -> None:
        self.rows, self.problems, self.messages, self.fits = rows, problems, messages, fits

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Index) -> dict[str, Any]:
        if isinstance(index, int):
            return self.rows[index]
        row, shown = index
        return {**self.rows[row], "prompt": self.messages(self.problem(row), shown)}

    def problem(self, row: int) -> Problem:
        """Return the problem that a row was made of."""
        return self.problems[row % len(self.problems)]

    def hint(self, row: int, share: float, done: float) -> int:
        """Return how many steps a hint for a row shows, by `steps_shown`, or as many of them as the prompt has room."""
        problem = self.problem(row)
        shown = steps_shown(share, done, len(problem.steps))
        while shown and not self.fits(self.messages(problem, shown)):
            shown -= 1
        return shown
