"""List the runs in a folder, such as runs/: how far each is, and what it has brought."""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.runs.folders import RUNS, listed_names
from grpo_colab.runs.phase import Phase
from grpo_colab.runs.run import Run
from grpo_colab.runs.status import status
from grpo_colab.text import on_one_line
from grpo_colab.utils.files import is_folder, number

LONGEST_NAME: Final = 60  # characters of a name in the table


def run_folders(folder: str | Path = RUNS) -> list[Path]:
    """Return the run folders in `folder`, and those in folders that `draw` or `sweep` made there, newest first.

    The newest is the one with the latest file. Folders that cannot be read are left out. Raises SettingError where
    `folder` is no folder.
    """
    folder = Path(folder)
    if not is_folder(folder):
        raise SettingError(
            "there is no such folder",
            setting="DIR",
            value=str(folder),
            remedy="name the folder that your runs are in, or go to the one that holds runs/",
        )
    found: list[Path] = []
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            found += [path, *(path / name for name in listed_names(path))]
    runs = [path for path in found if _is_run(path)]
    return sorted(runs, key=_written_at, reverse=True)


def newest_run(folder: str | Path = RUNS) -> Path:
    """Return the run in `folder` that was written to last. Raises SettingError where there is none."""
    runs = run_folders(folder) if is_folder(folder) else []
    if not runs:
        raise SettingError(
            f"there is no run in {str(folder)!r}",
            setting="RUN",
            remedy="name a run folder, or go to the folder that holds runs/",
        )
    return runs[0]


def list_runs(folder: str | Path = RUNS) -> list[dict[str, Any]]:
    """Return a dict for each run in `folder`, newest first, as JSON types. What is not known is None.

    The keys are "name", relative to `folder`, "path", "recipe", "state" and "phase" as in `status`, "step",
    "max_steps", "accuracy_before" and "accuracy_after" from 0 to 1, "written_at" in UTC in ISO format, and "error".
    Raises SettingError where `folder` is no folder.
    """
    return [_row(path, Path(folder)) for path in run_folders(folder)]


def _row(path: Path, folder: Path) -> dict[str, Any]:
    found = status(path)
    evaluation, phase = found["evaluation"] or {}, found["phase"] or {}
    written_at = datetime.datetime.fromtimestamp(_written_at(path), datetime.UTC)
    return {
        "name": path.relative_to(folder).as_posix(),
        "path": str(path),
        "recipe": found["recipe"],
        "state": found["state"],
        "phase": phase.get("name"),
        "during": phase.get("during"),
        "step": found["step"],
        "max_steps": found["max_steps"],
        "accuracy_before": number((evaluation.get("before") or {}).get("accuracy")),
        "accuracy_after": number((evaluation.get("after") or {}).get("accuracy")),
        "written_at": written_at.isoformat(timespec="seconds"),
        "error": phase.get("why") if found["state"] == "failed" else None,
    }


def runs_text(rows: Sequence[Mapping[str, Any]], folder: str | Path = RUNS) -> str:
    """Return the result of `list_runs` as a table for a person, without terminal control characters."""
    if not rows:
        return f"There is no run in {on_one_line(str(folder))} yet."
    table = [["run", "state", "step", "before", "after", "last written"]]
    table += [[on_one_line(text) for text in _cells(row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        name, state, *others = cells
        # Names are read from the left, numbers from the right.
        padded = [name.ljust(widths[0]), state.ljust(widths[1]), *map(str.rjust, others, widths[2:])]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _cells(row: Mapping[str, Any]) -> list[str]:
    """Return the texts of a row of the table."""
    name = row["name"] if len(row["name"]) <= LONGEST_NAME else f"...{row['name'][-LONGEST_NAME + 3 :]}"
    state = row["state"]
    # A run that trains shows its step; of any other phase the name is worth its place.
    if row["phase"] and state in ("running", "failed") and row["phase"] != "training":
        state = f"{state}: {row['phase'] if state == 'running' else Phase(row['phase'], during=row['during']).doing}"
    step = f"{row['step']} of {row['max_steps'] or '?'}"
    accuracies = ["-" if value is None else f"{value:.1%}" for value in (row["accuracy_before"], row["accuracy_after"])]
    return [name, state, step, *accuracies, _local(row["written_at"])]


def _local(written_at: str) -> str:
    """Return a time in ISO format as the local date and time, to the minute."""
    return datetime.datetime.fromisoformat(written_at).astimezone().strftime("%Y-%m-%d %H:%M")


def _is_run(path: Path) -> bool:
    with contextlib.suppress(SettingError, OSError):
        Run(path)
        return True
    return False


def _written_at(path: Path) -> float:
    """Return when a run's latest visible file was written, in seconds since 1970; now for a time to come."""
    times = [0.0]
    with contextlib.suppress(OSError):
        for file in path.glob("[!.]*"):
            with contextlib.suppress(OSError):  # the run has just replaced it
                times.append(file.lstat().st_mtime)
    return min(time.time(), max(times))
