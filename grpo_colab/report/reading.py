"""A run folder read for its page, whatever state it is in. What is there is kept, and what is not is said in words.

No file is trusted: the run may be writing it, have been killed in the middle of it, or be of another version.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from grpo_colab.console import without_secrets
from grpo_colab.errors import SettingError
from grpo_colab.evaluate import AFTER, BEFORE, mcnemar_exact, wilson_interval
from grpo_colab.files import MOST_READ, inside, is_file, number, read_bytes, read_json, read_objects
from grpo_colab.json_rows import MOST_ROWS, is_sound
from grpo_colab.records import MOST, count, is_step, share
from grpo_colab.run import DRAW, Run
from grpo_colab.status import MOST_JSON, status
from grpo_colab.toml_reading import read_toml

SIDES: Final = ("before", "after")
TOLD: Final = ("state", "step", "max_steps", "tripwire", "reward_failure")
MOST_NOTES: Final = 8  # about numbers that are none
MOST_ANSWERS: Final = 50_000  # before, after, and warnings
MOST_LISTED: Final = 5000  # names in its draw.json that are looked for
MOST_PAIRS: Final = 2000
MOST_RUNS: Final = 100  # of a folder of drawings, on one page
MOST_CELLS: Final = 10_000_000  # metrics by steps: beyond that the last names are left out
FEWEST_NAMES, MOST_NAMES = 64, 1000  # of metrics that are kept in any case, and at most
BIGGEST_PICTURE: Final = 1_500_000  # bytes
# A picture's name in a run folder, and how a file of its kind begins.
PICTURES: Final = {"drawing.png": (b"\x89PNG\r\n\x1a\n",), "drawing.gif": (b"GIF87a", b"GIF89a")}


class Room(NamedTuple):
    """What may be kept of a run, where others share the page: of rows and values a part, of each file so many bytes."""

    runs: int = 1
    bytes: Mapping[str, int] = {}


ALONE: Final = Room()


@dataclass
class Reading:
    """A run as its page shows it."""

    run: Run
    name: str  # the folder's, or as much of the path as tells it from the others
    state: str  # as status.status names it
    told: dict[str, Any]  # of what status.status tells, TOLD
    recipe: dict[str, Any]  # the TOML file's tables, without keys to anything
    environment: dict[str, Any]
    metrics: list[dict[str, float]]  # one a step, in order; finite numbers alone
    completions: list[dict[str, Any]]
    answers: dict[str, list[dict[str, Any]]]  # before and after, one a held-out problem
    evaluation: dict[str, Any]  # n, solved, step, task; before, after: accuracy, low, high, lenient; gained, lost, p
    warnings: list[dict[str, Any]]
    pictures: dict[str, str]  # by name, in base64
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
        return sum(min(max(row.get("step_time", 0.0), 0.0), 1e9) for row in self.metrics)

    @functools.cached_property
    def weights(self) -> list[float]:
        """What each reward counts, in the order of the recipe."""
        return [float(number(weight) or 0.0) for weight in self.table("rewards").values()]

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
        if is_file(path / DRAW) and not is_file(path / "recipe.toml"):
            runs = _drawn(path)
            if not runs:
                raise SettingError(f"run {str(path)!r}: none of the runs that {DRAW} names has begun; nothing to show")
        else:
            runs = [Run(path)]
        found |= {run.path.resolve(): run for run in runs}
    if not found:
        raise SettingError("report: name at least one run folder, such as runs/2026-11-21-word-problems-tiny")
    return list(found.values())


def _drawn(folder: Path) -> list[Run]:
    """The runs that a folder's draw.json names, or else all in it; MOST_RUNS of them, none outside or by a link."""
    names = (read_json(folder / DRAW, MOST_JSON) or {}).get("runs")
    listed = list(dict.fromkeys(name for name in names if isinstance(name, str))) if isinstance(names, list) else []
    runs: list[Run] = []
    for name in (listed or sorted(one.name for one in folder.iterdir()))[:MOST_LISTED]:
        with contextlib.suppress(ValueError, OSError):  # SettingError is a ValueError: it has not begun
            runs.append(Run(inside(folder, name)))
        if len(runs) == MOST_RUNS:
            break
    return runs


def read_all(runs: Sequence[Run], names: Sequence[str]) -> list[Reading]:
    """Several runs, of which no more is kept than of one; what the small ones leave is the others'."""
    files = ("metrics.jsonl", "completions.jsonl", "warnings.jsonl", BEFORE, AFTER)
    room = Room(len(runs), {file: _fair([_bytes(run.path / file) for run in runs]) for file in files})
    return [read(run, name, room=room) for run, name in zip(runs, names, strict=True)]


def _bytes(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0


def _fair(sizes: Sequence[int], most: int = MOST_READ) -> int:
    """The most that each may have for all to have `most` together."""
    for n, size in enumerate(sorted(sizes)):
        if size > (share := most // (len(sizes) - n)):
            return share
        most -= size
    return MOST_READ


def read(run: Run, name: str | None = None, evaluation: Mapping[str, Any] | None = None, room: Room = ALONE) -> Reading:
    """All that the folder tells. `evaluation` is what evaluation.json will hold, where that is not written yet."""
    notes: list[str] = []
    recipe = _recipe(run.path / "recipe.toml", notes)
    told = {key: value for key, value in status(run.path).items() if key in TOLD}
    begun = told["state"] != "not begun"
    metrics = _metrics(run.path / "metrics.jsonl", notes, begun, room)
    rows = functools.partial(_rows, notes=notes, room=room)
    completions = rows(run.path / "completions.jsonl", missing="No completions yet." if begun else "")
    told["step"] = max(told["step"], metrics[-1]["step"] if metrics else 0)
    sides = zip(SIDES, (BEFORE, AFTER), strict=True)
    answers = {side: rows(run.path / file, most=MOST_ANSWERS) for side, file in sides}
    given = _object(run.path / "evaluation.json", notes, room) if evaluation is None else dict(evaluation)
    evaluated = _evaluation(given, answers, notes)
    environment = _object(run.path / "environment.json", notes, room) or {}
    if begun and not environment and not (run.path / "environment.json").exists():
        notes.append("environment.json is missing: the device and the versions are not known.")
    environment.pop("command", None)  # may hold a token
    # who gives an evaluation is about to end the run, and still holds its lock
    state = "finished" if evaluation is not None and _ended(evaluation, told["max_steps"]) else told["state"]
    warnings = without_secrets(rows(run.path / "warnings.jsonl", most=MOST_ANSWERS))
    pictures = {picture: data for picture in PICTURES if (data := _picture(run.path / picture, notes))}
    pictures = pictures if room.runs == 1 else {}  # which no page of several shows
    for folder in (run.checkpoints, run.adapter):
        if folder.is_symlink():
            notes.append(f"{folder.name} is a link, which is not followed.")
    kept = (metrics, completions, answers, evaluated, warnings, pictures, notes)
    return Reading(run, name or run.path.resolve().name, state, told, recipe, without_secrets(environment), *kept)


def _ended(evaluation: Mapping[str, Any], max_steps: float | None) -> bool:
    step = number(evaluation.get("step"))
    return evaluation.get("solved") is True or step is None or max_steps is None or step >= max_steps


def _recipe(path: Path, notes: list[str]) -> dict[str, Any]:
    """Not through Recipe, which refuses what this version does not know."""
    try:
        found: dict[str, Any] = without_secrets(read_toml(path))
    except (OSError, ValueError) as error:
        notes.append(f"{_unread(path.name, error)} The settings are not known.")
        return {}
    return found


def _unread(name: str, error: Exception | str) -> str:
    """Say that a file cannot be read, and why; a link is no fault of the file's."""
    why = error if isinstance(error, str) else getattr(error, "strerror", None) or str(error)
    if "link" in why:
        return f"{name} is a link, which is not followed."
    return f"{name} cannot be read: {why}."


def _object(path: Path, notes: list[str], room: Room) -> dict[str, Any] | None:
    """The JSON object in a file; None, with a note where it cannot be read, where there is none."""
    try:
        found = json.loads(read_bytes(path, MOST_JSON // room.runs))
        if isinstance(found, dict) and is_sound(found):
            return found
        notes.append(f"{path.name} cannot be read: it is no JSON object of sound values.")
    except FileNotFoundError:
        pass
    except OSError as error:
        notes.append(_unread(path.name, error))
    except (ValueError, RecursionError):
        notes.append(f"{path.name} cannot be read: it is no JSON.")
    return None


def _picture(path: Path, notes: list[str]) -> str:
    """A picture in base64; empty, with a note unless there is none, for what is no picture."""
    try:
        content = read_bytes(path, BIGGEST_PICTURE)
    except FileNotFoundError:
        return ""
    except OSError as error:
        notes.append(_unread(path.name, error))
        return ""
    if not content.startswith(PICTURES[path.name]):
        notes.append(f"{path.name} is no {path.suffix[1:].upper()}, and is left out.")
        return ""
    return base64.b64encode(content).decode()


def _rows(path: Path, notes: list[str], room: Room, missing: str = "", most: int = MOST_ROWS) -> list[dict[str, Any]]:
    limit = room.bytes.get(path.name, MOST_READ)
    found = read_objects(path, limit, max(1, most // room.runs))
    if missing and (found.error or found.size == 0):
        notes.append(missing)
    if found.error and (path.is_symlink() or path.exists()):
        notes.append(_unread(path.name, found.error))
    if found.size > limit:
        notes.append(
            f"{path.name} has {found.size / 1e6:,.0f} MB; {limit / 1e6:.2g} MB evenly over it were read, and the "
            "rest was left out."
        )
    if found.left:
        notes.append(f"{path.name} has more lines or values than are read: {found.left:,} lines were left out.")
    if bad := found.bad:
        notes.append(f"{path.name}: {_many(bad, 'line')} {'is' if bad == 1 else 'are'} no JSON object.")
    if found.torn:
        notes.append(f"{path.name}: its last line is cut off, and was left out.")
    return found.rows


def _metrics(path: Path, notes: list[str], begun: bool, room: Room) -> list[dict[str, float]]:
    """One row of finite numbers a step; of two lines of a step the later. What was no number is noted, by its key."""
    steps: dict[int, dict[str, float]] = {}
    strange: dict[str, list[int]] = {}
    read = _rows(path, notes, room)
    stepped = [row for row in read if is_step(row.get("step"))]
    most = max(FEWEST_NAMES, min(MOST_NAMES, MOST_CELLS // room.runs // max(1, len(stepped))))
    names: dict[str, None] = {"step": None}
    left: set[str] = set()
    for row in stepped:
        numbers = {}
        for key, value in row.items():
            if key not in names and len(names) >= most:
                left.add(key)
            elif number(value) is not None and abs(value) < MOST:
                names[key] = None
                numbers[key] = value
            elif value is not None:
                strange.setdefault(key, []).append(row["step"])
        steps[row["step"]] = numbers
    if without := len(read) - len(stepped):
        notes.append(f"{path.name}: {_many(without, 'line')} without a step.")
    for key, where in list(strange.items())[:MOST_NOTES]:
        notes.append(
            f"{path.name}: {key!r} is no number, or beyond 1e30, in {_many(len(where), 'step')}, first in step "
            f"{where[0]}."
        )
    if len(strange) > MOST_NOTES:
        notes.append(f"{path.name}: nor are {len(strange) - MOST_NOTES:,} others.")
    if left:
        notes.append(f"{path.name}: {len(left):,} metrics beyond the first {most:,} were left out.")
    if not steps:
        notes.append("No metrics." if begun else "No metrics yet: no step has ended.")
    return [steps[step] for step in sorted(steps)]


def _evaluation(
    given: dict[str, Any] | None, answers: Mapping[str, Sequence[dict[str, Any]]], notes: list[str]
) -> dict[str, Any]:
    """Before, after and the paired test: from evaluation.json, and what that lacks from the answers themselves."""
    lacks: list[str] = []
    wrong: list[str] = []
    found: dict[str, Any] = {key: (given or {}).get(key) for key in ("task", "solved")}
    for side in SIDES:
        there, own = _told((given or {}).get(side)), _counted(answers[side])
        told = {key: share(value) for key, value in there.items()}
        if given:
            lacks += [f"{side}.{key}" for key, value in there.items() if value is None]
            wrong += [f"{side}.{key}" for key, value in told.items() if value is None and there[key] is not None]
        if given and not answers[side]:
            notes.append(f"evaluation-{side}.jsonl is missing: there is nothing of what was answered {side} training.")
        both = {key: own.get(key) if value is None else value for key, value in told.items()}
        found[side] = both if both["accuracy"] is not None else None
    rights = [(before.get("right"), after.get("right")) for before, after in _pairs(answers) if before and after]
    pairs = [pair for pair in rights if all(isinstance(right, bool) for right in pair)]
    test = test if isinstance(test := (given or {}).get("paired"), dict) else {}
    for key, name, right in (("gained", "gained", count), ("lost", "lost", count), ("p_value", "p", share)):
        found[name] = right(test.get(key))
        if given and found[name] is None:
            (lacks if test.get(key) is None else wrong).append(f"paired.{key}")
    if None in (found["gained"], found["lost"], found["p"]) and pairs:
        found["gained"] = sum(not before and after for before, after in pairs)
        found["lost"] = sum(before and not after for before, after in pairs)
        found["p"] = _p_value(found["gained"], found["lost"])
    found["n"] = count((given or {}).get("n")) or len(answers["before"]) or None
    found["step"] = count((given or {}).get("step"))
    if wrong:
        notes.append(f"evaluation.json is damaged: {', '.join(wrong)} cannot be, and was left out.")
    if lacks:
        notes.append(f"evaluation.json lacks {', '.join(lacks)}.")
    return found


def _p_value(gained: int, lost: int) -> float:
    """The exact test's; of thousands of pairs, which take it minutes, what it comes close to."""
    if gained + lost <= MOST_PAIRS:
        return mcnemar_exact(gained, lost)
    return math.erfc(max(0, abs(gained - lost) - 1) / math.sqrt(2 * (gained + lost)))


def _told(side: Any) -> dict[str, Any]:
    """One side of evaluation.json as it is there."""
    side = side if isinstance(side, dict) else {}
    limits = side["ci95"] if isinstance(side.get("ci95"), list) and len(side["ci95"]) == 2 else [None, None]
    values = (side.get("accuracy"), *limits, side.get("lenient_accuracy"))
    return dict(zip(("accuracy", "low", "high", "lenient"), values, strict=True))


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
    waiting: dict[tuple[str, str], deque[dict[str, Any]]] = {}
    for row in answers["after"]:
        waiting.setdefault(_asked(row), deque()).append(row)
    found: list[tuple[dict[str, Any] | None, dict[str, Any] | None]] = []
    for row in answers["before"]:
        after = waiting.get(_asked(row))
        found.append((row, after.popleft() if after else None))
    return found + [(None, row) for rows in waiting.values() for row in rows]


def _asked(row: Mapping[str, Any]) -> tuple[str, str]:
    return str(row.get("source")), str(row.get("question"))
