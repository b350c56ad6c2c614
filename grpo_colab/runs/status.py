"""Tell what a run is doing from its folder alone: while it trains, afterwards, and on a machine without torch.

No file is trusted: the run may be writing it, have been killed in the middle of it, or be of another version.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from grpo_colab.runs import records
from grpo_colab.runs.checkpoints import MANIFEST, best_of, greater_is_better, manifest, saved, sizes_are_right, step_of
from grpo_colab.runs.lock import holder
from grpo_colab.runs.run import Run
from grpo_colab.text import on_one_line, without_secrets
from grpo_colab.utils.files import number

WINDOW: Final = 10  # steps that a reward's mean and a step's time are taken from
MOST_WARNINGS: Final = 20_000
LONGEST: Final = 500  # characters of what a file says, in a line for a person


def status(path: str | Path) -> dict[str, Any]:
    """Return all that the folder tells, in JSON's types; what it does not tell is None.

    Times are in seconds. No link is followed. Keys to anything are masked, or left out. Raises SettingError for what is
    no run folder.
    """
    run = Run(path)
    budget, rows, evaluation = run.table("budget"), run.metrics(records.SHARED), run.evaluation
    there = saved(run.checkpoints)
    checkpoint = next((path for path in reversed(there) if sizes_are_right(path)), None)
    step = max(0, records.last_step(rows), step_of(checkpoint) if checkpoint else 0)
    max_steps, finished = run.max_steps, records.is_finished(evaluation, run.max_steps)
    step_s = statistics.median(_numbers(rows[-WINDOW:], "step_time") or [math.inf])
    left_s: float = 0
    if not finished:
        clock = run.read_json("clock.json") or {}
        steps_left = math.inf if max_steps is None else max(0, max_steps - step)
        left_s = steps_left * step_s + (records.sound_number(clock.get("evaluation_s")) or 0)
    held = holder(run.path)
    state = "finished" if finished else "stopped" if rows or checkpoint else "not begun"
    mirror = run.read_json("mirror.json") or ({"destination": budget["mirror"]} if "mirror" in budget else None)
    found = {
        "run": str(run.path),
        "recipe": run.settings.get("name"),
        "state": "unknown" if held.running is None else "running" if held.running else state,
        "pid": held.pid,
        "host": held.host,
        "last_written_s": _age(*run.path.glob("[!.]*")),
        "step": step,
        "max_steps": max_steps,
        "step_s": step_s,
        "left_s": left_s,
        "reward_start": _mean_reward(rows[:WINDOW]),
        "reward_now": _mean_reward(rows[-WINDOW:]),
        "warnings": run.warnings(MOST_WARNINGS),
        "checkpoint": checkpoint
        and {"name": checkpoint.name, "step": step_of(checkpoint), "age_s": _age(checkpoint / MANIFEST)},
        "best": _best(there, greater_is_better(run.table("grpo"))),
        "mirror": mirror and {**mirror, "behind": max(0, step - (records.sound_number(mirror.get("step")) or 0))},
        # what stopped a run is told until the run has gone on beyond it
        "tripwire": _part(run.tripwire(step), ("wire", "step")),
        "reward_failure": _part(run.reward_failure(step), ("reward", "step", "what")),
        "evaluation": evaluation,
    }
    told: dict[str, Any] = _finite(without_secrets(found))
    return told


def status_text(found: Mapping[str, Any]) -> str:
    """Return what `status` found as a few aligned lines for a person, without anything that a terminal obeys."""
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


def _best(there: Sequence[Path], greater: bool) -> dict[str, Any] | None:
    """Tell which checkpoint is the best and its value; None while none has a value."""
    best = best_of(there, greater)
    about = manifest(best) if best is not None else {}
    if best is None or number(about.get("value")) is None:  # the run may have replaced it meanwhile
        return None
    return {"name": best.name, "metric": about.get("metric"), "value": about["value"]}


def _part(record: Mapping[str, Any] | None, keys: Sequence[str]) -> dict[str, Any] | None:
    return None if record is None else {key: record.get(key) for key in keys}


def _finite(value: Any) -> Any:
    """Return a copy in JSON's types alone: a number that is not finite becomes None, and a date of TOML's a text."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [value for row in rows if (value := records.sound_number(row.get(key))) is not None]


def _mean_reward(rows: Sequence[Mapping[str, Any]]) -> float | None:
    values = [value for row in rows if (value := records.step_reward(row)) is not None]
    return statistics.fmean(values) if values else None


def _age(*paths: Path) -> float | None:
    """Return the seconds since the last of these files was written, 0 where a clock was put back."""
    moments = []
    for path in paths:
        with contextlib.suppress(OSError):  # replaced at this moment
            moments.append(path.lstat().st_mtime)
    return max(0.0, time.time() - max(moments)) if moments else None


def _span(seconds: float) -> str:
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days" if seconds < 1e9 else "ages"


def _ago(seconds: float | None) -> str:
    return "at an unknown time" if seconds is None else f"{_span(seconds)} ago"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
