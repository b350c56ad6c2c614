"""A run folder read for its page, whatever state it is in. What is there is kept, and what is not is said in words.

No file is trusted: the run may be writing it, have been killed in the middle of it, or be of another version.
"""

from __future__ import annotations

import contextlib
import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.evaluate import AFTER, BEFORE, mcnemar_exact, wilson_interval
from grpo_colab.files import MOST_READ, number, read_json, read_objects
from grpo_colab.run import DRAW, Run
from grpo_colab.status import is_step, status

SIDES: Final = ("before", "after")
# what opens something: by its key, or as it stands in an address or a text
SECRET: Final = re.compile(r"(?i)(?:token|password|secret|(?:^|[_.-])key)$")
WRITTEN: Final = re.compile(
    r"(://)[^/\s@]+(?=@)|([?&][\w-]*(?:token|key|secret|password|signature|sig)=)[^&\s\"']+|\b(hf_|sk-)[\w-]{20,}", re.I
)
LEVELS: Final = 40  # of what is in what; Python itself ends at less than a thousand
MOST: Final = 1e30  # of a number that is drawn
MOST_NOTES: Final = 8  # about numbers that are none


@dataclass
class Reading:
    """A run as its page shows it."""

    run: Run
    name: str  # the folder's, or as much of the path as tells it from the others
    state: str  # as status.status names it
    told: dict[str, Any]  # what status.status tells
    recipe: dict[str, Any]  # the TOML file's tables, without keys to anything
    environment: dict[str, Any]
    metrics: list[dict[str, float]]  # one a step, in order; finite numbers alone
    completions: list[dict[str, Any]]
    answers: dict[str, list[dict[str, Any]]]  # before and after, one a held-out problem
    evaluation: dict[str, Any]  # n, solved, step, task; before, after: accuracy, low, high, lenient; gained, lost, p
    warnings: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)  # what is missing, left out, or cannot be read

    def table(self, name: str) -> dict[str, Any]:
        """A table of the recipe; empty where that has none."""
        return found if isinstance(found := self.recipe.get(name), dict) else {}

    @property
    def title(self) -> str:
        return str(self.recipe.get("name") or self.name)

    @property
    def steps(self) -> int:
        return int(self.told["step"])

    @property
    def max_steps(self) -> float | None:
        return number(self.told["max_steps"])

    @property
    def seconds(self) -> float:
        return sum(row.get("step_time", 0.0) for row in self.metrics)

    @functools.cached_property
    def weights(self) -> list[float]:
        """What each reward counts, in the order of the recipe."""
        return [number(weight) or 0.0 for weight in self.table("rewards").values()]

    def paid(self, rewards: Mapping[str, Any]) -> float:
        """A completion's reward: the sum that the recipe weighs, or the plain sum where it does not tell."""
        weights = self.weights if len(self.weights) == len(rewards) else [1.0] * len(rewards)
        return sum(weight * (number(value) or 0.0) for weight, value in zip(weights, rewards.values(), strict=True))

    @functools.cached_property
    def gradable(self) -> bool:
        """Whether an answer is one number: then a completion is graded anew, which costs microseconds."""
        from grpo_colab.tasks import Task, task_class

        with contextlib.suppress(SettingError, TypeError):
            return task_class(self.table("task").get("name", "")).grade is Task.grade
        return False

    def pairs(self) -> list[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
        """What was answered before and after to the same problem; None where it was not asked."""
        return _pairs(self.answers)


def find_runs(paths: Sequence[str | Path]) -> list[Run]:
    """The run folders among `paths`, and for a folder that `grpo-colab draw` made those in it; each once.

    SettingError names what is neither.
    """
    found: dict[Path, Run] = {}
    for path in map(Path, paths):
        if (path / DRAW).is_file() and not (path / "recipe.toml").is_file():
            names = (read_json(path / DRAW) or {}).get("runs")
            listed = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
            inside = listed or sorted(one.name for one in path.iterdir())
            runs = [Run(path / name) for name in inside if (path / name / "recipe.toml").is_file()]
            if not runs:
                raise SettingError(f"run {str(path)!r}: none of the runs that {DRAW} names has begun; nothing to show")
        else:
            runs = [Run(path)]
        found |= {run.path.resolve(): run for run in runs}
    if not found:
        raise SettingError("report: name at least one run folder, such as runs/2026-11-21-word-problems-tiny")
    return list(found.values())


def read(run: Run, name: str | None = None, evaluation: Mapping[str, Any] | None = None) -> Reading:
    """All that the folder tells. `evaluation` is what evaluation.json will hold, where that is not written yet."""
    notes: list[str] = []
    recipe = _recipe(run.path / "recipe.toml", notes)
    told = status(run.path)
    begun = told["state"] != "not begun"
    metrics = _metrics(run.path / "metrics.jsonl", notes, begun)
    completions = _rows(run.path / "completions.jsonl", notes, "No completions yet." if begun else "")
    told["step"] = max(told["step"], metrics[-1]["step"] if metrics else 0)
    answers = {"before": _rows(run.path / BEFORE, notes), "after": _rows(run.path / AFTER, notes)}
    given = _object(run.path / "evaluation.json", notes) if evaluation is None else dict(evaluation)
    evaluated = _evaluation(given, answers, notes)
    environment = _object(run.path / "environment.json", notes) or {}
    for key in ("tripwire", "reward_failure"):
        told[key] = _open(told[key]) if _sound(told[key]) else None
    if begun and not environment and not (run.path / "environment.json").exists():
        notes.append("environment.json is missing: the device and the versions are not known.")
    environment.pop("command", None)  # may hold a token
    # who gives an evaluation is about to end the run, and still holds its lock
    state = "finished" if evaluation is not None and _ended(evaluation, told["max_steps"]) else told["state"]
    warnings = _open(_rows(run.path / "warnings.jsonl", notes))
    kept = (metrics, completions, answers, evaluated, warnings, notes)
    return Reading(run, name or run.path.resolve().name, state, told, recipe, _open(environment), *kept)


def _ended(evaluation: Mapping[str, Any], max_steps: float | None) -> bool:
    step = number(evaluation.get("step"))
    return evaluation.get("solved") is True or step is None or max_steps is None or step >= max_steps


def _recipe(path: Path, notes: list[str]) -> dict[str, Any]:
    """Not through Recipe, which refuses what this version does not know."""
    try:
        if path.stat().st_size > MOST_READ:
            raise ValueError("it is too big")
        if not _sound(found := tomllib.loads(path.read_text(encoding="utf-8"))):
            raise ValueError("it is too deep")
        return _open(found)
    except (OSError, ValueError, RecursionError):
        notes.append("recipe.toml cannot be read: the settings are not known.")
        return {}


def _open(value: Any) -> Any:
    """A copy without what opens anything: the page may be sent to anyone. A number opens nothing: it is a weight."""
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if isinstance(inner, int | float) or not SECRET.search(key)}
        return {key: _open(inner) for key, inner in kept.items()}
    if isinstance(value, str):
        return WRITTEN.sub(lambda found: f"{found[1] or found[2] or found[3]}...", value)
    return [_open(inner) for inner in value] if isinstance(value, list) else value


def _sound(value: Any, levels: int = LEVELS) -> bool:
    """Whether it can be shown at all: not too deep, and without integers of which Python writes no digits."""
    if isinstance(value, int):
        return value.bit_length() < 4096
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_sound(one, levels - 1) for one in inner)


def _object(path: Path, notes: list[str]) -> dict[str, Any] | None:
    """The JSON object in a file; None, with a note where it cannot be read, where there is none."""
    found = None
    if path.exists():
        with contextlib.suppress(OSError):
            found = read_json(path) if path.is_file() and path.stat().st_size <= MOST_READ else None
        if found is None or not _sound(found):
            found = None
            notes.append(f"{path.name} cannot be read.")
    return found


def _rows(path: Path, notes: list[str], missing: str = "") -> list[dict[str, Any]]:
    found = read_objects(path)
    if missing and (found.error or found.size == 0):
        notes.append(missing)
    if found.error and path.exists():
        notes.append(f"{path.name} cannot be read: {found.error}.")
    if found.size > MOST_READ:
        notes.append(
            f"{path.name} has {found.size / 1e6:,.0f} MB; {MOST_READ / 1e6:.0f} MB evenly over it were read, and the "
            "rest was left out."
        )
    rows = [row for row in found.rows if _sound(row)]
    if bad := found.bad + len(found.rows) - len(rows):
        notes.append(f"{path.name}: {_many(bad, 'line')} {'is' if bad == 1 else 'are'} no JSON object.")
    if found.torn:
        notes.append(f"{path.name}: its last line is cut off, and was left out.")
    return rows


def _metrics(path: Path, notes: list[str], begun: bool) -> list[dict[str, float]]:
    """One row of finite numbers a step; of two lines of a step the later. What was no number is noted, by its key."""
    steps: dict[int, dict[str, float]] = {}
    strange: dict[str, list[int]] = {}
    read = _rows(path, notes)
    stepped = [row for row in read if is_step(row.get("step")) and abs(row["step"]) < MOST]
    for row in stepped:
        numbers = {key: value for key, value in row.items() if number(value) is not None and abs(value) < MOST}
        steps[row["step"]] = numbers
        for key in row.keys() - numbers.keys():
            if row[key] is not None:
                strange.setdefault(key, []).append(row["step"])
    if without := len(read) - len(stepped):
        notes.append(f"{path.name}: {_many(without, 'line')} without a step.")
    for key, where in list(strange.items())[:MOST_NOTES]:
        notes.append(
            f"{path.name}: {key!r} is no number, or beyond 1e30, in {_many(len(where), 'step')}, first in step "
            f"{where[0]}."
        )
    if len(strange) > MOST_NOTES:
        notes.append(f"{path.name}: nor are {len(strange) - MOST_NOTES:,} others.")
    if not steps:
        notes.append("No metrics." if begun else "No metrics yet: no step has ended.")
    return [steps[step] for step in sorted(steps)]


def _evaluation(
    given: dict[str, Any] | None, answers: Mapping[str, Sequence[dict[str, Any]]], notes: list[str]
) -> dict[str, Any]:
    """Before, after and the paired test: from evaluation.json, and what that lacks from the answers themselves."""
    lacks: list[str] = []
    found: dict[str, Any] = {key: (given or {}).get(key) for key in ("task", "solved")}
    for side in SIDES:
        told, own = _told((given or {}).get(side)), _counted(answers[side])
        if given:
            lacks += [f"{side}.{key}" for key, value in told.items() if value is None]
        if given and not answers[side]:
            notes.append(f"evaluation-{side}.jsonl is missing: there is nothing of what was answered {side} training.")
        both = {key: own.get(key) if value is None else value for key, value in told.items()}
        found[side] = both if both["accuracy"] is not None else None
    rights = [(before.get("right"), after.get("right")) for before, after in _pairs(answers) if before and after]
    pairs = [pair for pair in rights if all(isinstance(right, bool) for right in pair)]
    test = test if isinstance(test := (given or {}).get("paired"), dict) else {}
    for key, name in (("gained", "gained"), ("lost", "lost"), ("p_value", "p")):
        found[name] = number(test.get(key))
        lacks += [f"paired.{key}"] if given and found[name] is None else []
    if None in (found["gained"], found["lost"], found["p"]) and pairs:
        found["gained"] = sum(not before and after for before, after in pairs)
        found["lost"] = sum(before and not after for before, after in pairs)
        found["p"] = mcnemar_exact(found["gained"], found["lost"])
    found["n"] = number((given or {}).get("n")) or len(answers["before"]) or None
    found["step"] = number((given or {}).get("step"))
    if lacks:
        notes.append(f"evaluation.json lacks {', '.join(lacks)}.")
    return found


def _told(side: Any) -> dict[str, float | None]:
    """One side of evaluation.json."""
    side = side if isinstance(side, dict) else {}
    limits = side["ci95"] if isinstance(side.get("ci95"), list) and len(side["ci95"]) == 2 else [None, None]
    values = (side.get("accuracy"), *limits, side.get("lenient_accuracy"))
    return dict(zip(("accuracy", "low", "high", "lenient"), map(number, values), strict=True))


def _counted(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The same from the answers themselves."""
    right = _share(rows, "right")
    if right is None:
        return {}
    judged = sum(isinstance(row.get("right"), bool) for row in rows)
    low, high = wilson_interval(round(right * judged), judged)
    return {"accuracy": right, "low": low, "high": high, "lenient": _share(rows, "lenient_right")}


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _share(rows: Sequence[Mapping[str, Any]], key: str) -> float | None:
    values = [row[key] for row in rows if isinstance(row.get(key), bool)]
    return sum(values) / len(values) if values else None


def _pairs(
    answers: Mapping[str, Sequence[dict[str, Any]]],
) -> list[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
    waiting: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in answers["after"]:
        waiting.setdefault(_asked(row), []).append(row)
    found: list[tuple[dict[str, Any] | None, dict[str, Any] | None]] = []
    for row in answers["before"]:
        after = waiting.get(_asked(row))
        found.append((row, after.pop(0) if after else None))
    return found + [(None, row) for rows in waiting.values() for row in rows]


def _asked(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row.get("source")), str(row.get("question"))
