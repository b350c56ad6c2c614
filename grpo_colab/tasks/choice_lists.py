"""Find the choices that a data set does not say: what a policy is to choose from must be known to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from grpo_colab.errors import SettingError, shown
from grpo_colab.rewards.graders import Grader
from grpo_colab.tasks import Problem

COLUMN: Final = "choices"
MOST_PROPOSED: Final = 20
_MARKED: Final = r"(?m)^\s*[(\[]?{label}[)\].:]"  # a line of a prompt that begins with a label


def unknown_choices(problems: Sequence[Problem], grader: Grader) -> list[str]:
    """Return a warning where neither task.choices, nor a column, nor the prompt says what there is to choose from.

    Raises SettingError, which proposes task.choices, where the gold answers are texts: nobody could guess them.
    """
    if getattr(grader, "choices", ()) or all(problem.columns.get(COLUMN) is not None for problem in problems):
        return []
    unsaid = [problem for problem in problems if problem.columns.get(COLUMN) is None]
    golds = sorted({problem.answer for problem in unsaid})
    texts = [gold for gold in golds if not re.fullmatch(r"[(\[]?(?:[A-Za-z]|[0-9]{1,3})[)\].:]?", gold.strip())]
    if texts:
        proposed = golds if len(golds) <= MOST_PROPOSED else [*golds[:3], "..."]
        first = next(problem for problem in unsaid if problem.answer in texts)
        raise SettingError(
            f"nothing says what the choices are, and the gold answer is {shown(first.answer)}",
            setting="task.choices",
            remedy=f"write task.choices = {proposed}, or a column {COLUMN!r}",
            place=first.source,
        )
    first = unsaid[0]
    if re.search(_MARKED.format(label=re.escape(first.answer.strip("()[]. :"))), first.question):
        return []
    return [
        f"Warning: the prompt of {first.source} does not show the choices, of which the answer is a letter. Write them "
        'into it, as in task.prompt = "{question}\\nA) {a}\\nB) {b}"'
    ]
