"""What a run is doing, kept in its phase.json from its first second to its end: loading, training, failed, ...

The training process writes the file. One that is killed leaves the phase in which it was: whether the process is still
there is told by the run's lock, as in `status`. Mirrors do not carry the file, since it is about a process here.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from grpo_colab.text import masked, on_one_line
from grpo_colab.utils import files

PHASE: Final = "phase.json"
# The phases of a run in their order, each with what the process does then.
WORKING: Final = {
    "importing": "importing the libraries",
    "pre-training": "pre-training on random drawings",
    "loading": "loading the model",
    "dry run": "trying the longest step",
    "evaluating before": "evaluating before training",
    "training": "training",
    "evaluating after": "evaluating after training",
}
ENDED: Final = ("finished", "stopped", "failed")
LONGEST_WHY: Final = 1000  # characters
# What a folder may hold without its run having begun, beside hidden files.
PREPARED: Final = frozenset((PHASE, "recipe.toml", "environment.json"))


class Phase(NamedTuple):
    """The content of phase.json. What is not known is None.

    `name` is a key of WORKING or one of ENDED. `during` is the phase in which an ended run was, and `why` what ended
    it, such as an error. `share` says how much of the phase was done at the last writing, from 0 to 1, and `left_s` how
    many seconds it would take from then on.
    """

    name: str
    since: str | None = None
    during: str | None = None
    why: str | None = None
    share: float | None = None
    left_s: float | None = None

    @property
    def doing(self) -> str:
        """Return what the process does or did in this phase, or was doing when the run ended."""
        return WORKING.get(self.during or self.name, self.name)


def read_phase(run: Path) -> Phase | None:
    """Return the phase in a run folder's phase.json; None where there is none, or it cannot be read."""
    found = files.read_json(run / PHASE) or {}
    name, during = _text(found.get("phase")), _text(found.get("during"))
    if name is None or (name not in WORKING and name not in ENDED):
        return None
    share, left_s = files.number(found.get("share")), files.number(found.get("left_s"))
    return Phase(
        name,
        _text(found.get("since")),
        during if during in WORKING else None,
        _text(found.get("why")),
        share if share is not None and 0 <= share <= 1 else None,
        left_s if left_s is not None and left_s >= 0 else None,
    )


def _text(value: Any) -> str | None:
    return value[:LONGEST_WHY] if isinstance(value, str) else None


def write_phase(run: Path, phase: Phase) -> None:
    """Write phase.json, whole or not at all. Where the disk refuses it, the file stays as it was; nothing is raised."""
    why = None if phase.why is None else on_one_line(masked(phase.why))[:LONGEST_WHY]
    left_s = None if phase.left_s is None else round(phase.left_s)
    share = None if phase.share is None else round(phase.share, 3)
    about = {"phase": phase.name, "since": phase.since, "during": phase.during, "why": why}
    with contextlib.suppress(OSError):
        files.write_json(run / PHASE, {**about, "share": share, "left_s": left_s})


def now() -> str:
    """Return the present time in UTC in ISO format, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def never_began(run: Path) -> bool:
    """Tell whether a folder holds nothing but a run that ended before its evaluation: refused, stopped or killed.

    Another run may take its place, since nothing was learned or answered there. The lock is not looked at.
    """
    if read_phase(run) is None:
        return False
    with contextlib.suppress(OSError):
        names = {entry.name for entry in os.scandir(run)}
        # a run that has a mirror has a copy with its identity
        return ".mirror.id" not in names and all(name in PREPARED or name[0] == "." for name in names)
    return False
