"""What a run is doing, read off its folder alone: while it trains, afterwards, and on a machine that has no torch.

Nothing here trusts a file. The run may be writing it, have been cut in the middle of it, or be of another version.
"""

from __future__ import annotations

import contextlib
import math
import re
import statistics
import time
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from grpo_colab.checkpoints import MANIFEST, best, greater_is_better, manifest, saved, sizes_are_right, step_of
from grpo_colab.files import number, read_json, read_objects
from grpo_colab.run import LOCK, Run

WINDOW: Final = 10  # steps that a reward's mean and a step's time are taken from


def status(path: str | Path) -> dict[str, Any]:
    """All that the folder tells, in JSON's types; what it does not tell is None. Raises SettingError for no run."""
    run = Run(path)
    recipe = _recipe(run.path / "recipe.toml")
    budget, grpo = recipe["budget"], recipe["grpo"]
    rows = [row for row in read_objects(run.path / "metrics.jsonl").rows if is_step(row.get("step"))]
    read = {name: read_json(run.path / f"{name}.json") for name in ("evaluation", "clock", "mirror")}
    checkpoint = next((path for path in reversed(saved(run.checkpoints)) if sizes_are_right(path)), None)
    step = max(rows[-1]["step"] if rows else 0, step_of(checkpoint) if checkpoint else 0)
    max_steps, evaluation = _number(budget, "max_steps", math.inf), read["evaluation"]
    # an evaluation without a step is of a run that was written before they had one, and only at its end
    ended = evaluation is not None and (
        evaluation.get("solved") is True or _number(evaluation, "step", math.inf) >= max_steps
    )
    running, pid, host = _holder(run.path / LOCK)
    state = "finished" if ended else "stopped" if rows or checkpoint else "not begun"
    step_s = statistics.median(_numbers(rows[-WINDOW:], "step_time") or [math.inf])
    left_s = 0 if ended else max(0, max_steps - step) * step_s + _number(read["clock"] or {}, "evaluation_s", 0)
    mirror = read["mirror"] or ({"destination": budget["mirror"]} if "mirror" in budget else None)
    top = best(run.checkpoints, greater_is_better(grpo))
    measured = {"max_steps": max_steps, "step_s": step_s, "left_s": left_s}
    return {
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
        "warnings": read_objects(run.path / "warnings.jsonl").rows,
        "checkpoint": checkpoint
        and {"name": checkpoint.name, "step": step_of(checkpoint), "age_s": _age(checkpoint / MANIFEST)},
        "best": top and {"name": top.name, **{key: manifest(top).get(key) for key in ("metric", "value")}},
        "mirror": mirror and {**mirror, "behind": max(0, step - _number(mirror, "step", 0))},
        # what stopped a run is told until the run has gone on beyond it
        "tripwire": _stopper(run.path / "tripwire.json", step, ("wire", "step")),
        "reward_failure": _stopper(run.path / "reward-failure.json", step + 1, ("reward", "step", "what")),
        "evaluation": evaluation,
    }


def status_text(found: Mapping[str, Any]) -> str:
    """`status` in a few aligned lines, for a person; whatever a model or a file wrote in it, in plain ASCII."""
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
    return "\n".join(f"{_plain(head):<16}{_plain(text)}".rstrip() for head, text in lines)


def _recipe(path: Path) -> dict[str, Any]:
    """Not through Recipe, which refuses what this version does not know."""
    read: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, RecursionError):
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    tables = {name: table if isinstance(table := read.get(name), dict) else {} for name in ("budget", "grpo")}
    return {"name": read.get("name"), **tables}


def is_step(value: Any) -> bool:
    return isinstance(value, int) and number(value) is not None


def _numbers(rows: Sequence[Mapping[str, Any]], key: str) -> list[float]:
    return [value for row in rows if (value := _number(row, key, math.inf)) < math.inf]


def _mean(rows: Sequence[Mapping[str, Any]]) -> float | None:
    return statistics.fmean(values) if (values := _numbers(rows, "reward")) else None


def _number(row: Mapping[str, Any], key: str, otherwise: float) -> float:
    value = number(row.get(key))
    return otherwise if value is None else value


def _age(*paths: Path) -> float | None:
    """Seconds since the last of them was written; none below 0, where a clock was put back."""
    moments = []
    for path in paths:
        with contextlib.suppress(OSError):  # replaced at this moment
            moments.append(path.stat().st_mtime)
    return max(0.0, time.time() - max(moments)) if moments else None


def _stopper(path: Path, since: int, keys: Sequence[str]) -> dict[str, Any] | None:
    found = read_json(path) or {}
    return {key: found.get(key) for key in keys} if _number(found, "step", -1) >= since else None


def _holder(lock: Path) -> tuple[bool | None, int | None, str | None]:
    """Whether a process holds the run's lock (None: cannot be told), and which one, on which machine."""
    if not lock.exists():
        return False, None, None
    try:
        from filelock import FileLock, Timeout

        try:
            FileLock(lock).acquire(blocking=False).lock.release()
            return False, None, None
        except Timeout:
            text = re.match(r"(\d+) on (\S+)", lock.read_text(encoding="utf-8", errors="replace"))
            return True, int(text[1]) if text else None, text[2] if text else None
    except (ImportError, OSError):  # another person's run, a read-only disk
        return None, None, None


def _span(seconds: float) -> str:
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _ago(seconds: float | None) -> str:
    return "at an unknown time" if seconds is None else f"{_span(seconds)} ago"


def _plain(text: str) -> str:
    """On one line and in ASCII; a terminal's escapes as Python shows them."""
    return re.sub(r"[^ -~]", lambda found: ascii(found[0])[1:-1], " ".join(text.split()))
