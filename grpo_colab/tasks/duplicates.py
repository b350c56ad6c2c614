"""Find prompts that come twice: in training and held out, or with two answers. Standard library only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from grpo_colab.errors import SettingError
from grpo_colab.tasks import Problem
from grpo_colab.tasks.jsonl_rows import shown

Duplicates = Literal["refuse", "drop", "keep"]
DROP: Final = 'task.duplicates = "drop"'
KEEP: Final = '"keep" keeps all'


def identity(problem: Problem) -> str:
    """Return the text by which a prompt is the same as another: all of its messages, whatever the spacing."""
    return " ".join(problem.question.split())


def without_duplicates(
    train: Sequence[Problem],
    held_out: Sequence[Problem],
    duplicates: Duplicates,
    are_equal: Callable[[str, str], bool],
) -> tuple[list[Problem], list[Problem], list[str]]:
    """Return the training and the held-out problems that stay, and a sentence on each kind that was left out.

    `are_equal` tells whether two gold answers are the same. Refuse two answers to one prompt, and a training prompt
    that is held out: raise SettingError with both places. With "drop", leave out all problems of a prompt with two
    answers, and the training copies of the held-out ones. With "keep", leave out none. A prompt that comes twice on one
    side with the same answer stays.
    """
    if duplicates == "keep":
        return list(train), list(held_out), []
    contradicted = _contradicted([*held_out, *train], duplicates, are_equal)
    notes = []
    if contradicted:
        rows = sum(identity(problem) in contradicted for problem in (*train, *held_out))
        notes.append(f"{rows:,} rows are left out: their prompts have more than one answer")
        train = [problem for problem in train if identity(problem) not in contradicted]
        held_out = [problem for problem in held_out if identity(problem) not in contradicted]
    places = {identity(problem): problem.source for problem in reversed(held_out)}
    leaked = [problem for problem in train if identity(problem) in places]
    if leaked and duplicates == "refuse":
        raise _leak(leaked, places)
    if leaked:
        notes.append(f"{len(leaked):,} training rows are left out: their prompts are held out")
    return [problem for problem in train if identity(problem) not in places], list(held_out), notes


def _leak(leaked: Sequence[Problem], places: dict[str, str]) -> SettingError:
    """Return the refusal of training problems that are held out as well; the first of them is named."""
    first = leaked[0]
    first_of = f", the first of {len(leaked):,}," if len(leaked) > 1 else ""
    return SettingError(
        f"the prompt {shown(first.question, 60)}{first_of} is held out as well, at {places[identity(first)]}, so the "
        "evaluation would ask what was trained on",
        remedy=f"take one of them out, or write {DROP}, which leaves it out of the training; {KEEP}",
        place=first.source,
    )


def _contradicted(
    problems: Iterable[Problem], duplicates: Duplicates, are_equal: Callable[[str, str], bool]
) -> set[str]:
    """Return the identities of the prompts that have different answers; with "refuse", raise for the first of them."""
    first: dict[str, Problem] = {}
    found = set()
    for problem in problems:
        known = first.setdefault(identity(problem), problem)
        if known is problem or known.answer == problem.answer or are_equal(known.answer, problem.answer):
            continue
        if duplicates == "refuse":
            raise SettingError(
                f"the prompt {shown(problem.question, 60)} has the answer {shown(problem.answer, 40)} here, and "
                f"{shown(known.answer, 40)} at {known.source}",
                remedy=f"correct one of them, or write {DROP}, which leaves out both; {KEEP}",
                place=problem.source,
            )
        found.add(identity(problem))
    return found


def count_repeated(problems: Iterable[Problem]) -> int:
    """Return how many problems have the prompt of an earlier one."""
    counts = Counter(map(identity, problems))
    return sum(counts.values()) - len(counts)
