"""Tell what a run is doing from its folder alone: while it trains, afterwards, and on a machine without torch.

No file is trusted: the run may be writing it, may have been killed in the middle of it, or may be of another version.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from grpo_colab.runs import collapse, records
from grpo_colab.runs.checkpoints import MANIFEST, best_of, greater_is_better, manifest, saved, sizes_are_right, step_of
from grpo_colab.runs.lock import Holder, holder
from grpo_colab.runs.phase import WORKING, Phase, read_phase
from grpo_colab.runs.run import Run
from grpo_colab.text import on_one_line, without_secrets
from grpo_colab.utils.files import number

WINDOW: Final = 10  # steps over which the reward's mean and the median step time are taken
MOST_WARNINGS: Final = 20_000
LONGEST: Final = 500  # characters in a line of `status_text`


def status(path: str | Path) -> dict[str, Any]:
    """Return the state of a run as JSON types. What its folder does not tell is None.

    Keys that end in "_s" are in seconds, and `_state` lists the values of "state". Steps count from 1; "step" is 0
    before the first. No link is followed. Secrets are masked or left out. Nothing is written. Raises SettingError where
    `path` is no run folder.
    """
    run = Run(path)
    rows, evaluation = run.metrics(records.SHARED), run.evaluation
    checkpoints: list[Path] = []
    with contextlib.suppress(OSError, ValueError):  # the folder of another user, or a disk that is gone
        checkpoints = saved(run.checkpoints)
    newest = next((checkpoint for checkpoint in reversed(checkpoints) if sizes_are_right(checkpoint)), None)
    step = max(0, records.last_step(rows), step_of(newest) if newest else 0)
    max_steps = run.max_steps
    finished = records.is_finished(evaluation, max_steps)
    step_s = statistics.median(_numbers(rows[-WINDOW:], "step_time") or [math.inf])
    lock_holder, phase = holder(run.path), read_phase(run.path)
    if finished:
        left_s: float | None = 0
    elif lock_holder.running and phase is not None and phase.name == "evaluating after":
        left_s = phase.left_s
    else:
        left_s = _seconds_left(run, max_steps, step, step_s)
    found = {
        "run": str(run.path),
        "recipe": run.settings.get("name"),
        "state": _state(lock_holder, finished, phase, begun=bool(rows or newest)),
        "phase": None if phase is None else phase._asdict(),
        "pid": lock_holder.pid,
        "host": lock_holder.host,
        "last_written_s": _age(*run.path.glob("[!.]*")),
        "step": step,
        "max_steps": max_steps,
        "step_s": step_s,
        "left_s": left_s,
        "reward_start": _mean_reward(rows[:WINDOW]),
        "reward_now": _mean_reward(rows[-WINDOW:]),
        "warnings": run.warnings(MOST_WARNINGS),
        "checkpoint": _newest(newest),
        "best": _best(checkpoints, greater_is_better(run.table("grpo"))),
        "mirror": _mirror(run, step),
        # What stopped the run is shown until the run has passed that step.
        "tripwire": _select(run.tripwire(step), ("wire", "step", "what", "suggestion")),
        "reward_failure": _select(run.reward_failure(step), ("reward", "step", "what")),
        "collapse": _collapse(run),
        "evaluation": evaluation,
    }
    shareable: dict[str, Any] = _json_types(without_secrets(found))
    return shareable


def _state(lock_holder: Holder, finished: bool, phase: Phase | None, begun: bool) -> str:
    """Return "unknown", "running", "finished", "failed", "stopped" or "not begun".

    It is "unknown" where the lock cannot be tried. A run whose process was killed is "stopped". `begun` says that there
    is a line of metrics or a checkpoint, which is all that tells of the runs of earlier releases.
    """
    if lock_holder.running is None:
        return "unknown"
    if lock_holder.running:
        return "running"
    if finished:
        return "finished"
    if phase is not None and phase.name == "failed":
        return "failed"
    return "stopped" if begun or phase is not None else "not begun"


def _seconds_left(run: Run, max_steps: float | None, step: int, step_s: float) -> float:
    """Return the seconds until the run is trained and evaluated; infinity where they cannot be told."""
    clock = run.read_json("clock.json") or {}
    steps_left = math.inf if max_steps is None else max(0, max_steps - step)
    return steps_left * step_s + (records.sound_number(clock.get("evaluation_s")) or 0)


def _newest(checkpoint: Path | None) -> dict[str, Any] | None:
    """Return the name, the step and the age in seconds of the newest whole checkpoint; None for None."""
    if checkpoint is None:
        return None
    return {"name": checkpoint.name, "step": step_of(checkpoint), "age_s": _age(checkpoint / MANIFEST)}


def _best(checkpoints: Sequence[Path], greater: bool) -> dict[str, Any] | None:
    """Return the name, the metric and the value of the best checkpoint; None while none has a value."""
    best = best_of(checkpoints, greater)
    if best is None:
        return None
    about = manifest(best)
    if number(about.get("value")) is None:  # the run has just replaced it
        return None
    return {"name": best.name, "metric": about.get("metric"), "value": about["value"]}


def _collapse(run: Run) -> dict[str, Any] | None:
    """Return the run's return to its best checkpoint, with its sentence; None for a run that has not gone back."""
    found = collapse.read_return(run)
    return None if found is None else {**dataclasses.asdict(found), "text": found.text}


def _mirror(run: Run, step: int) -> dict[str, Any] | None:
    """Return the content of mirror.json, and as "behind" by how many steps the copy lags; None for no mirror."""
    budget = run.table("budget")
    mirror = run.read_json("mirror.json")
    if not mirror and "mirror" in budget:
        mirror = {"destination": budget["mirror"]}
    if not mirror:
        return None
    return {**mirror, "behind": max(0, step - (records.sound_number(mirror.get("step")) or 0))}


def status_text(found: Mapping[str, Any]) -> str:
    """Return the result of `status` as a few aligned lines for a person, without terminal control characters."""
    lines = [
        ("run", f"{found['run']} ({found['recipe']})"),
        ("state", _state_text(found)),
        ("step", _step_text(found)),
        ("reward", _reward_text(found)),
        ("checkpoint", _checkpoint_text(found)),
    ]
    if found["state"] == "failed" and found["phase"]["why"]:
        lines.insert(2, ("error", found["phase"]["why"]))
    mirror, tripwire, failure = found["mirror"], found["tripwire"], found["reward_failure"]
    if mirror:
        behind = f"{mirror['behind']} steps behind" if mirror.get("step") else "nothing there yet"
        error = f"; {mirror['error']}" if mirror.get("error") else ""
        lines.append(("mirror", f"{mirror.get('destination')}, {behind}{error}"))
    if tripwire:
        what = f": {tripwire['what']}" if tripwire["what"] else ""
        lines.append(("tripwire", f"{tripwire['wire']} at step {tripwire['step']}{what}; see tripwire.json"))
    if found["collapse"]:
        lines.append(("collapse", f"at step {found['collapse']['step']} {found['collapse']['text']}"))
    if failure:
        what = f"{failure['reward']} {failure['what']} at step {failure['step']}"
        lines.append(("reward failure", f"{what}; see reward-failure.json"))
    with contextlib.suppress(KeyError, TypeError, ValueError):  # an evaluation that lacks these keys
        evaluation = found["evaluation"]
        accuracies = _accuracies(evaluation)
        solved = "solved; " if evaluation.get("solved") is True else ""
        lines.append(("evaluation", f"{solved}{accuracies}"))
        for name, further in evaluation.get("further", {}).items():
            lines.append(("", f"{name}: {_accuracies(further)}"))

    warnings = found["warnings"]
    last = [f"step {row.get('step')}: {row.get('text')}" for row in warnings[-3:]] or ["none"]
    lines.append((f"warnings ({len(warnings)})", last[0]))
    lines += [("", text) for text in last[1:]]
    return "\n".join(f"{head:<16}{_shorten(on_one_line(text))}".rstrip() for head, text in lines)


def _state_text(found: Mapping[str, Any]) -> str:
    process = f", process {found['pid'] or '?'} on {found['host'] or '?'}" if found["state"] == "running" else ""
    return f"{found['state']}{phase_text(found)}{process}; last written {_ago(found['last_written_s'])}"


def phase_text(found: Mapping[str, Any]) -> str:
    """Return what follows the state in a result of `status`: what the process does, or did when the run ended."""
    if found["phase"] is None:
        return ""
    state, phase = found["state"], Phase(**found["phase"])
    if state == "running" and phase.name in WORKING:
        done = [f"{phase.share:.0%}"] if phase.share is not None else []
        left = [f"about {_duration(phase.left_s)} left"] if phase.left_s is not None else []
        progress = f" ({', '.join(done + left)})" if done or left else ""
        return f", {phase.doing}{progress}"
    if state == "stopped" and phase.name in WORKING:
        return f" while {phase.doing} (its process was killed)"
    if state in ("stopped", "failed") and phase.name == state:
        by = f" by {phase.why}" if phase.why and state == "stopped" else ""
        return f"{by} while {phase.doing}"
    return ""


def _step_text(found: Mapping[str, Any]) -> str:
    pace = f", {found['step_s']:.3g} s per step" if found["step_s"] is not None else ""
    left = f", about {_duration(found['left_s'])} left" if found["left_s"] else ""
    return f"{found['step']} of {found['max_steps'] or '?'}{pace}{left}"


def _reward_text(found: Mapping[str, Any]) -> str:
    if found["reward_now"] is None:
        return "none yet"
    return f"{found['reward_now']:.3f} now, {found['reward_start']:.3f} at the start (means of {WINDOW} steps)"


def _checkpoint_text(found: Mapping[str, Any]) -> str:
    checkpoint, best = found["checkpoint"], found["best"]
    if not checkpoint:
        return "none yet"
    about_best = f"; best {best['name']} ({best['metric']} {best['value']:.3f})" if best else ""
    return f"{checkpoint['name']}, saved {_ago(checkpoint['age_s'])}{about_best}"


def _accuracies(evaluation: Mapping[str, Any]) -> str:
    """Return the accuracies of an evaluation in words. Raises what reading another value raises."""
    return f"{evaluation['before']['accuracy']:.1%} right before, {evaluation['after']['accuracy']:.1%} after"


def _select(record: Mapping[str, Any] | None, keys: Sequence[str]) -> dict[str, Any] | None:
    return None if record is None else {key: record.get(key) for key in keys}


def _json_types(value: Any) -> Any:
    """Return a copy of a value in JSON types: numbers that are not finite become None, TOML dates become text."""
    if isinstance(value, dict):
        return {key: _json_types(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_json_types(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    """Return the values of a key that are numbers, in the order of the rows."""
    values = [records.sound_number(row.get(key)) for row in rows]
    return [value for value in values if value is not None]


def _mean_reward(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean reward of these steps; None where no step has one."""
    rewards = [records.step_reward(row) for row in rows]
    values = [reward for reward in rewards if reward is not None]
    return statistics.fmean(values) if values else None


def _age(*paths: Path) -> float | None:
    """Return the seconds since the latest of these files was written; 0 for a time in the future, None for no file."""
    written_at = []
    for path in paths:
        with contextlib.suppress(OSError):  # the run has just replaced it
            written_at.append(path.lstat().st_mtime)
    return max(0.0, time.time() - max(written_at)) if written_at else None


def _duration(seconds: float) -> str:
    """Return a time span in the unit that a person would choose, for example "16 s" or "3 h"."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days" if seconds < 1e9 else "ages"


def _ago(seconds: float | None) -> str:
    return "at an unknown time" if seconds is None else f"{_duration(seconds)} ago"


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
