"""Say which training problems nobody had solved, and whether they were solved with a hint, and later without one."""

from __future__ import annotations

from typing import Any, NamedTuple

from grpo_colab.reporting.page.run_reader import RunData
from grpo_colab.rewards.names import reward_key
from grpo_colab.tasks import HINT
from grpo_colab.tasks.conversations import last_message
from grpo_colab.utils.files import number


class Hinted(NamedTuple):
    """What became of the problems that were asked with a hint, because no completion of a group had been right.

    `problems` is their number, as far as they were learnt from. `with_hint` are the questions that a completion then
    solved, `came_back` counts those that were asked again in a later step without a hint, and `since` are the questions
    that a completion solved then.
    """

    problems: int
    with_hint: list[str]
    came_back: int
    since: list[str]


def hinted_problems(run: RunData) -> Hinted | None:
    """Return what became of a run's hinted problems. None where its completions have no hint."""
    first: dict[str, float] = {}  # question -> the step that asked it with a hint first
    for row in run.completions:
        if number(row.get("hint")):
            question = _question(row)
            first[question] = min(first.get(question, number(row.get("step")) or 0), number(row.get("step")) or 0)
    if not first:
        return None
    with_hint: dict[str, None] = {}
    came_back: dict[str, None] = {}
    since: dict[str, None] = {}
    for row in run.completions:
        question = _question(row)
        if question not in first:
            continue
        right = _is_right(row)
        if number(row.get("hint")):
            if right:
                with_hint[question] = None
        elif (number(row.get("step")) or 0) > first[question]:
            came_back[question] = None
            if right:
                since[question] = None
    return Hinted(len(first), list(with_hint), len(came_back), list(since))


def _question(row: dict[str, Any]) -> str:
    """Return the last message of a completion's prompt, without its hint."""
    return " ".join(last_message(row.get("prompt")).partition(f"\n\n{HINT}\n")[0].split())


def _is_right(row: dict[str, Any]) -> bool:
    """Tell whether the reward for correctness paid a completion in full."""
    rewards = row.get("rewards")
    paid = rewards if isinstance(rewards, dict) else {}
    return any(number(value) == 1.0 for name, value in paid.items() if reward_key(str(name)) == "correctness")
