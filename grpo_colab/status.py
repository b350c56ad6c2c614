"""What a run is doing, read off its folder alone: while it trains, afterwards, and on a machine that has no torch.

Nothing here trusts a file. The run may be writing it, have been cut in the middle of it, or be of another version.
"""

from __future__ import annotations

import contextlib
import math
import re
import stat
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from grpo_colab import records
from grpo_colab.checkpoints import MANIFEST, greater_is_better, manifest, saved, sizes_are_right, step_of
from grpo_colab.console import on_one_line, without_secrets
from grpo_colab.files import number, open_to_read, read_json, read_objects
from grpo_colab.run import LOCK, Run
from grpo_colab.toml_reading import read_toml

WINDOW: Final = 10  # steps that a reward's mean and a step's time are taken from
MOST_JSON: Final = 1 << 23  # bytes of a JSON file: in memory it is thirty times as big
MOST_WARNINGS: Final = 20_000
LONGEST: Final = 500  # characters of what a file says, in a line for a person


def status(path: str | Path) -> dict[str, Any]:
    """All that the folder tells, in JSON's types; what it does not tell is None. Raises SettingError for no run.

    No link is followed. What opens something has dots for it, or is left out.
    """
    run = Run(path)
    recipe = _recipe(run.path / "recipe.toml")
    budget, grpo = recipe["budget"], recipe["grpo"]
    rows = [row for row in read_objects(run.path / "metrics.jsonl").rows if records.is_step(row.get("step"))]
    read = {name: read_json(run.path / f"{name}.json", MOST_JSON) for name in ("evaluation", "clock", "mirror")}
    there = _checkpoints(run.checkpoints)
    checkpoint = next((path for path in reversed(there) if sizes_are_right(path)), None)
    step = max(rows[-1]["step"] if rows else 0, step_of(checkpoint) if checkpoint else 0)
    max_steps, evaluation = _number(budget, "max_steps", math.inf), records.evaluation(read["evaluation"])
    # an evaluation without a step is of a run that was written before they had one, and only at its end
    ended = evaluation is not None and (
        evaluation.get("solved") is True or _number(evaluation, "step", math.inf) >= max_steps
    )
    running, pid, host = _holder(run.path / LOCK)
    state = "finished" if ended else "stopped" if rows or checkpoint else "not begun"
    step_s = statistics.median(_numbers(rows[-WINDOW:], "step_time") or [math.inf])
    left_s = 0 if ended else max(0, max_steps - step) * step_s + _number(read["clock"] or {}, "evaluation_s", 0)
    mirror = read["mirror"] or ({"destination": budget["mirror"]} if "mirror" in budget else None)
    measured = {"max_steps": max_steps, "step_s": step_s, "left_s": left_s}
    found = {
        "run": str(run.path),
        "recipe": recipe["name"],
        "state": "unknown" if running is None else "running" if running else state,
        "pid": pid,
        "host": host,
        "last_written_s": _age(*run.path.glob("[!.]*")),
        "step": step,
        **{key: value if math.isfinite(value) else None for key, value in measured.items()},
        "reward_start": _mean(rows[:WINDOW]),
        "reward_now": _mean(rows[-WINDOW:]),
        "warnings": read_objects(run.path / "warnings.jsonl", most_rows=MOST_WARNINGS).rows,
        "checkpoint": checkpoint
        and {"name": checkpoint.name, "step": step_of(checkpoint), "age_s": _age(checkpoint / MANIFEST)},
        "best": _best(there, greater_is_better(grpo)),
        "mirror": mirror and {**mirror, "behind": max(0, step - _number(mirror, "step", 0))},
        # what stopped a run is told until the run has gone on beyond it
        "tripwire": _stopper(run.path / "tripwire.json", step, ("wire", "step")),
        "reward_failure": _stopper(run.path / "reward-failure.json", step + 1, ("reward", "step", "what")),
        "evaluation": evaluation,
    }
    told: dict[str, Any] = _finite(without_secrets(found))
    return told


def status_text(found: Mapping[str, Any]) -> str:
    """`status` in a few aligned lines, for a person, without anything that a terminal obeys."""
    top, checkpoint, mirror, warnings = (found[key] for key in ("best", "checkpoint", "mirror", "warnings"))
    wire, failure, evaluation = (found[key] for key in ("tripwire", "reward_failure", "evaluation"))
    who = f", process {found['pid'] or '?'} on {found['host'] or '?'}" if found["state"] == "running" else ""
    pace = f", {found['step_s']:.3g} s a step" if found["step_s"] is not None else ""
    pace += f", about {_span(found['left_s'])} left" if found["left_s"] else ""
    worth = f"; best {top['name']} ({top['metric']} {top['value']:.3f})" if top else ""
    lines = [
        ("run", f"{found['run']} ({found['recipe']})"),
        ("state", f"{found['state']}{who}; last written {_ago(found['last_written_s'])}"),
        ("step", f"{found['step']} of {found['max_steps'] or '?'}{pace}"),
        ("reward", "none yet"),
        ("checkpoint", f"{checkpoint['name']}, saved {_ago(checkpoint['age_s'])}{worth}" if checkpoint else "none yet"),
    ]
    if found["reward_now"] is not None:
        rewards = f"{found['reward_now']:.3f} now, {found['reward_start']:.3f} at the start"
        lines[3] = ("reward", f"{rewards} (means of {WINDOW} steps)")
    if mirror:
        behind = f"{mirror['behind']} steps behind" if mirror.get("step") else "nothing there yet"
        error = f"; {mirror['error']}" if mirror.get("error") else ""
        lines.append(("mirror", f"{mirror.get('destination')}, {behind}{error}"))
    if wire:
        lines.append(("tripwire", f"{wire['wire']} at step {wire['step']}; see tripwire.json"))
    if failure:
        what = f"{failure['reward']} {failure['what']} at step {failure['step']}"
        lines.append(("reward failure", f"{what}; see reward-failure.json"))
    with contextlib.suppress(KeyError, TypeError, ValueError):
        before, after = (evaluation[side]["accuracy"] for side in ("before", "after"))
        solved = "solved; " if evaluation.get("solved") is True else ""
        lines.append(("evaluation", f"{solved}{before:.1%} right before, {after:.1%} after"))
    texts = [f"step {row.get('step')}: {row.get('text')}" for row in warnings[-3:]]
    lines += zip([f"warnings ({len(warnings)})", "", ""], texts or ["none"], strict=False)
    return "\n".join(f"{head:<16}{_short(on_one_line(text))}".rstrip() for head, text in lines)


def _recipe(path: Path) -> dict[str, Any]:
    """Not through Recipe, which refuses what this version does not know."""
    read: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        read = read_toml(path)
    tables = {name: table if isinstance(table := read.get(name), dict) else {} for name in ("budget", "grpo")}
    return {"name": read.get("name"), **tables}


def _checkpoints(folder: Path) -> list[Path]:
    """Those that are no links, oldest first; none where the folder is a link itself."""
    with contextlib.suppress(OSError, ValueError):
        if not folder.is_symlink():
            return [path for path in saved(folder) if not path.is_symlink()]
    return []


def _best(there: Sequence[Path], greater: bool) -> dict[str, Any] | None:
    """The checkpoint whose manifest has the best value, the newer of equals; None while none has a number."""
    told = [(path.name, manifest(path)) for path in there]
    known = [(value, name, about) for name, about in told if (value := number(about.get("value"))) is not None]
    if not known:
        return None
    value, name, about = max(reversed(known), key=lambda one: one[0] if greater else -one[0])
    return {"name": name, "metric": about.get("metric"), "value": value}


def _finite(value: Any) -> Any:
    """A copy of JSON's types, and of TOML's, in which what JSON has no sign for is None or a text."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [value for row in rows if (value := _number(row, key, math.inf)) < math.inf]


def _mean(rows: Sequence[Mapping[str, Any]]) -> float | None:
    values = _numbers(rows, "reward")
    return statistics.fmean(values) if values else None


def _number(row: Mapping[str, Any], key: str, otherwise: float) -> float:
    """The number there, unless it is so great that what is reckoned from it might be none."""
    value = number(row.get(key))
    return otherwise if value is None or abs(value) >= records.MOST else value


def _age(*paths: Path) -> float | None:
    """Seconds since the last of them was written; none below 0, where a clock was put back."""
    moments = []
    for path in paths:
        with contextlib.suppress(OSError):  # replaced at this moment
            moments.append(path.lstat().st_mtime)
    return max(0.0, time.time() - max(moments)) if moments else None


def _stopper(path: Path, since: int, keys: Sequence[str]) -> dict[str, Any] | None:
    found = read_json(path, MOST_JSON) or {}
    return {key: found.get(key) for key in keys} if _number(found, "step", -1) >= since else None


def _holder(lock: Path) -> tuple[bool | None, int | None, str | None]:
    """Whether a process holds the run's lock (None: cannot be told), and which one, on which machine."""
    try:
        if not stat.S_ISREG(lock.lstat().st_mode):  # to try a lock empties the file, be it another's
            return None, None, None
    except OSError:
        return False, None, None
    try:
        from filelock import FileLock, Timeout

        try:
            FileLock(lock).acquire(blocking=False).lock.release()
            return False, None, None
        except Timeout:
            with open_to_read(lock) as file:
                text = re.match(r"(\d{1,20}) on (\S+)", file.read(500).decode(errors="replace"))
            return True, int(text[1]) if text else None, text[2] if text else None
    except (ImportError, OSError):  # another person's run, a read-only disk
        return None, None, None


def _span(seconds: float) -> str:
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days" if seconds < 1e9 else "ages"


def _ago(seconds: float | None) -> str:
    return "at an unknown time" if seconds is None else f"{_span(seconds)} ago"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
