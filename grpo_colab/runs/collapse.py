"""Take a run that collapsed back to its best checkpoint, once, and keep what came after it beside.

    collapse.json               what was seen, the step gone back to, and the halved learning rate
    collapsed-metrics.jsonl     the lines of the steps after that one; the same of completions and warnings
    checkpoints/spoilt-...      its later checkpoints

`collapse.json` is what decides. Before it is written, nothing of the run has changed: a run that is killed then comes
to the same step again. Once it is written, `finish_going_back` does the rest, at once or when the run is resumed.
recipe.toml keeps the learning rate that was asked for, because running it again repeats the run, collapse and all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

from grpo_colab.runs import checkpoints
from grpo_colab.runs.records import OWN, sound_number
from grpo_colab.runs.run import GROWING, Run
from grpo_colab.utils import files
from grpo_colab.utils.console import warn

RECORD: Final = "collapse.json"
ASIDE: Final = "collapsed-"  # before the name of a file with the lines that were taken back


@dataclasses.dataclass(frozen=True)
class Return:
    """A run's return to its best checkpoint: after which step, to which, and from which learning rate to which."""

    step: int
    back_to: int
    learning_rate_before: float
    learning_rate: float
    what: str
    done: bool

    @property
    def text(self) -> str:
        """Return what happened as a sentence, without the step at which it was seen."""
        return (
            f"{self.what}: back to checkpoint-{self.back_to}, once, with half the learning rate "
            f"({self.learning_rate:g} for {self.learning_rate_before:g}); what came after it is kept in "
            f"{ASIDE}metrics.jsonl"
        )


def read_return(run: Run) -> Return | None:
    """Return the run's return to its best checkpoint; None for a run without one, or for a damaged record."""
    record = run.read_json(RECORD) or {}
    step, back_to = (sound_number(record.get(key)) for key in ("step", "back_to"))
    before, after = (sound_number(record.get(key)) for key in ("learning_rate_before", "learning_rate"))
    if step is None or back_to is None or before is None or after is None:
        return None
    return Return(int(step), int(back_to), before, after, str(record.get("what")), record.get("done") is True)


def rate_after_return(run: Run, learning_rate: float) -> float:
    """Return the learning rate to train with, where the recipe asks for `learning_rate`.

    It is the halved one after a return. A rate that was chosen since, by a resume with another one, stays as it is.
    """
    found = read_return(run)
    return found.learning_rate if found and found.learning_rate_before == learning_rate else learning_rate


def go_back(run: Run, record: Mapping[str, Any]) -> None:
    """Keep the lines after the step `back_to` beside, write collapse.json, and take the run back to that checkpoint.

    `record` has what `Return` has, but for `done`, and may have more. Its sentence is printed as a warning. Raises
    SettingError or OSError where the folder cannot be changed.
    """
    run.flush()
    for name in GROWING:
        rows = files.read_objects(run.path / name, *OWN).rows
        run.write_lines(f"{ASIDE}{name}", [row for row in rows if row.get("step", 0) > record["back_to"]])
    run.write_json(RECORD, {**record, "done": False})
    finish_going_back(run)


def finish_going_back(run: Run) -> None:
    """Do what is left of a return to the best checkpoint. Does nothing for a run without one that is unfinished.

    Later checkpoints are set aside, later lines deleted, and a line added to warnings.jsonl. Raises SettingError or
    OSError where the folder cannot be changed.
    """
    found = read_return(run)
    if found is None or found.done:
        return
    checkpoints.set_spoilt_aside(run.checkpoints, after=found.back_to)
    run.rewind_to(run.checkpoints / f"checkpoint-{found.back_to}")
    warn(found.text, step=found.step)
    if not any(row.get("kind") == "collapse" for row in files.read_objects(run.path / "warnings.jsonl").rows):
        # Of the step gone back to: lines of later ones are deleted when the run is resumed before it reaches them.
        text = f"at step {found.step} {found.text}"
        run.append("warnings.jsonl", [{"step": found.back_to, "kind": "collapse", "text": text}])
        run.flush()
    run.write_json(RECORD, {**(run.read_json(RECORD) or {}), "done": True})
