"""The accuracy before and after a run: from evaluation.json, and what that lacks from the answers themselves."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from grpo_colab.evaluation.statistics import mcnemar_exact, wilson_interval
from grpo_colab.runs.records import count, share

SIDES: Final = ("before", "after")
MOST_PAIRS: Final = 2000  # of which the exact test is computed
MOST_FURTHER: Final = 20  # splits

Answer = dict[str, Any]  # one row of evaluation-before.jsonl or evaluation-after.jsonl, of which nothing is checked
Answers = Mapping[str, Sequence[Answer]]  # side -> its answers


@dataclass(frozen=True)
class Side:
    """How much was right before, or after: shares from 0 to 1, None where they are not known."""

    accuracy: float
    low: float | None  # of the 95 % interval
    high: float | None
    lenient: float | None  # by the last number of the answer alone; None also where answers are no numbers


@dataclass(frozen=True)
class Evaluation:
    """What is known of the evaluations before and after, and of the paired test between them."""

    task: Any
    solved: Any
    n: int | None  # problems
    step: int | None
    before: Side | None
    after: Side | None
    gained: float | None
    lost: float | None
    p: float | None
    note: str = ""  # of the task, on its held-out problems
    about: str = ""  # what is new in the problems of a further split
    further: Mapping[str, Evaluation] = field(default_factory=dict)  # further split -> what is known of it

    def sides(self) -> dict[str, Side | None]:
        """Return both sides by their names, "before" and "after"; None for one that is not known."""
        return {"before": self.before, "after": self.after}

    @property
    def is_paired(self) -> bool:
        """Tell whether the paired test is known."""
        return None not in (self.gained, self.lost, self.p)


def read_evaluation(given: Mapping[str, Any] | None, answers: Answers, notes: list[str]) -> Evaluation:
    """Return what evaluation.json's content `given` tells, completed from the answers.

    What the file lacks, what in it cannot be, and a missing file of answers are added to `notes`, as sentences. Without
    `given` everything comes from the answers, and nothing is noted. No content of the files raises an error.
    """
    told = given or {}
    missing: list[str] = []
    damaged: list[str] = []
    sides: dict[str, Side | None] = {}
    for name in SIDES:
        if given and not answers[name]:
            notes.append(f"evaluation-{name}.jsonl is missing: there is nothing of what was answered {name} training.")
        sides[name] = _side(told.get(name), answers[name], name, missing, damaged)
    gained, lost, p = _paired_test(told.get("paired"), answers, missing, damaged)
    if given and damaged:
        notes.append(f"evaluation.json is damaged: {', '.join(damaged)} cannot be, and was left out.")
    if given and missing:
        notes.append(f"evaluation.json lacks {', '.join(missing)}.")
    return Evaluation(
        task=told.get("task"),
        solved=told.get("solved"),
        n=count(told.get("n")) or len(answers["before"]) or None,
        step=count(told.get("step")),
        before=sides["before"],
        after=sides["after"],
        gained=gained,
        lost=lost,
        p=p,
        note=_text(told.get("note")),
        about=_text(told.get("about")),
        further=_further(told.get("further")),
    )


def _further(given: Any) -> dict[str, Evaluation]:
    """Return what `given`, "further" of evaluation.json, tells of each further split, of MOST_FURTHER at most.

    Their answers are in files of their own, which the page does not show.
    """
    found: dict[str, Any] = {}
    for split, told in (given if isinstance(given, dict) else {}).items():
        if isinstance(told, dict) and len(found) < MOST_FURTHER:
            own = {key: value for key, value in told.items() if key != "further"}
            found[split] = read_evaluation(own, dict.fromkeys(SIDES, ()), [])
    return found


def _text(value: Any) -> str:
    """Return a text unchanged, and an empty one for anything else."""
    return value if isinstance(value, str) else ""


def pair_answers(answers: Answers) -> list[tuple[Answer | None, Answer | None]]:
    """Return pairs of the answers before and after to the same problem, None where it was not asked.

    A problem is known by its source and its question. Those that were asked only after come last.
    """
    waiting: dict[tuple[str, str], deque[Answer]] = {}
    for row in answers["after"]:
        waiting.setdefault(_problem_of(row), deque()).append(row)
    pairs: list[tuple[Answer | None, Answer | None]] = []
    for row in answers["before"]:
        after = waiting.get(_problem_of(row))
        pairs.append((row, after.popleft() if after else None))
    return pairs + [(None, row) for rows in waiting.values() for row in rows]


def _problem_of(row: Answer) -> tuple[str, str]:
    """Return what a problem is known by: its source and its question."""
    return str(row.get("source")), str(row.get("question"))


def _side(given: Any, answers: Sequence[Answer], name: str, missing: list[str], damaged: list[str]) -> Side | None:
    """Return one side, None where its accuracy is not known.

    `given` is the side's content in evaluation.json; a share that it does not tell is computed from the answers. The
    names of fields that it lacks are added to `missing`, and of those that are no share from 0 to 1 to `damaged`. The
    lenient accuracy may lack.
    """
    written = given if isinstance(given, dict) else {}
    interval = written.get("ci95")
    low, high = interval if isinstance(interval, list) and len(interval) == 2 else (None, None)
    raw = {
        "accuracy": written.get("accuracy"),
        "low": low,
        "high": high,
        "lenient": written.get("lenient_accuracy"),
    }
    counted = _count_right(answers)
    rates: dict[str, float | None] = {}
    for key, value in raw.items():
        rates[key] = share(value)
        if value is None and key == "lenient":  # a task whose answers are texts has none
            rates[key] = None if "lenient_accuracy" in written else counted.get(key)
            continue
        if value is None:
            missing.append(f"{name}.{key}")
        elif rates[key] is None:
            damaged.append(f"{name}.{key}")
        if rates[key] is None:
            rates[key] = counted.get(key)
    accuracy = rates.pop("accuracy")
    return None if accuracy is None else Side(accuracy, **rates)


def _count_right(answers: Sequence[Answer]) -> dict[str, float | None]:
    """Return the fields of a Side from the answers themselves; an empty dict where none of them was judged."""
    accuracy = _share_true(answers, "right")
    if accuracy is None:
        return {}
    judged = sum(isinstance(row.get("right"), bool) for row in answers)
    low, high = wilson_interval(round(accuracy * judged), judged)
    return {"accuracy": accuracy, "low": low, "high": high, "lenient": _share_true(answers, "lenient_right")}


def _share_true(rows: Sequence[Answer], key: str) -> float | None:
    """Return the share of true among the truth values under `key`; None where no row has one."""
    found = [row[key] for row in rows if isinstance(row.get(key), bool)]
    return sum(found) / len(found) if found else None


def _paired_test(
    given: Any, answers: Answers, missing: list[str], damaged: list[str]
) -> tuple[float | None, float | None, float | None]:
    """Return the problems gained, those lost, and the p-value; all three from the answers where one of them lacks.

    `given` is "paired" of evaluation.json. Without a pair of judged answers what it tells is returned, with None for
    the rest. The names of fields that it lacks are added to `missing`, and of those with a wrong value to `damaged`.
    """
    written = given if isinstance(given, dict) else {}
    test = (count(written.get("gained")), count(written.get("lost")), share(written.get("p_value")))
    for key, value in zip(("gained", "lost", "p_value"), test, strict=True):
        if value is None:
            (missing if written.get(key) is None else damaged).append(f"paired.{key}")
    if None not in test:
        return test
    judged = [
        (before["right"], after["right"])
        for before, after in pair_answers(answers)
        if before and after and isinstance(before.get("right"), bool) and isinstance(after.get("right"), bool)
    ]
    if not judged:
        return test
    gained = sum(not before and after for before, after in judged)
    lost = sum(before and not after for before, after in judged)
    return gained, lost, _p_value(gained, lost)


def _p_value(gained: int, lost: int) -> float:
    """Return McNemar's exact p-value, or the normal approximation where more than MOST_PAIRS problems changed.

    The exact test of thousands of pairs takes minutes.
    """
    if gained + lost <= MOST_PAIRS:
        return mcnemar_exact(gained, lost)
    return math.erfc(max(0, abs(gained - lost) - 1) / math.sqrt(2 * (gained + lost)))
