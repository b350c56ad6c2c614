"""The run folder: everything that a run leaves behind, and nothing anywhere else.

    runs/2026-11-21-word-problems-tiny/
        recipe.toml         resolved; running it again repeats the run
        environment.json    versions, device, seeds
        metrics.jsonl       one line a step
        completions.jsonl   what the policy wrote, with each reward
        checkpoints/        to go on from: the last two, and the best
        adapter/            the trained LoRA with its tokenizer
        evaluation.json     before, after, and the paired test
        evaluation-before.jsonl, evaluation-after.jsonl     what was answered, one row a problem
        warnings.jsonl      what looked wrong, and at which step
        reward-failure.json the completion on which a reward broke, when one did
        tripwire.json       what stopped the run, when a tripwire did
        clock.json          what an evaluation and a checkpoint took, in seconds
        mirror.json         how far the copy elsewhere is, where there is one
        rewards.png         the curves
        drawing.png, drawing.gif            of a drawing task: the image asked for, and the best drawings of it
        report.html         all of this as one page, which opens offline
        tensorboard/, wandb/, wandb.json    what those trackers keep, where grpo.report_to names them

A file is written under a temporary name and then renamed, so that a run that is killed leaves whole files. The three
`.jsonl` files that grow do so by whole lines; a damaged line is left out when they are read. `.lock` is held by the
process that trains; the operating system frees it however that process ends.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs import checkpoints, jsonl_repair, records
from grpo_colab.utils import files
from grpo_colab.utils.toml_reading import read_toml

RUNS = Path("runs")
DRAW = "draw.json"  # in a folder of run folders that `grpo-colab draw` made
# What a killed process of this or an earlier release leaves: .<random>.tmp, .<name>.<random or process>.tmp
LEFTOVER = re.compile(r"\.[0-9a-f]{16}\.tmp|\..+\.(?:[0-9a-f]{16}|[0-9]+)\.tmp")
GROWING = ("metrics.jsonl", "completions.jsonl", "warnings.jsonl")


class Run:
    """A run folder, and what its files say. `Run(path)` opens one that exists; `Run.create` makes a new one.

    Every property is read from the files when it is asked for: another process may be training the run.
    """

    def __init__(self, path: str | Path) -> None:
        if not str(path).strip():
            raise SettingError(
                "is empty, as an unset variable leaves it", setting="run", value=str(path), remedy="name a run folder"
            )
        self.path = Path(path)
        self._unwritten: dict[str, str] = {}
        there = link = False
        with contextlib.suppress(OSError, ValueError):  # no such name can be
            there, link = (self.path / "recipe.toml").is_file(), (self.path / "recipe.toml").is_symlink()
        if link:
            raise self.error("its recipe.toml is a link, which is not followed", "copy it there")
        if not there:
            raise self.error("no recipe.toml there, so it is no run folder")

    @classmethod
    def create(cls, recipe: Recipe, out: str | Path | None = None) -> Run:
        """Make the folder with the recipe in it: `out`, or runs/<date>-<recipe>[-n].

        Raises SettingError for a folder that holds anything already, or that cannot be written.
        """
        path = free_path(recipe) if out is None else Path(out)
        check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            files.write_text(path / "recipe.toml", recipe.to_toml())
        except OSError as error:
            raise unwritable(path, error) from None
        return cls(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def error(self, problem: str, remedy: str | None = None) -> SettingError:
        """Return the error that says what is wrong with this folder."""
        return SettingError(problem, remedy=remedy, place=f"run {str(self.path)!r}")

    @property
    def recipe(self) -> Recipe:
        return Recipe.load(self.path / "recipe.toml")

    def table(self, name: str) -> dict[str, Any]:
        """Return a table of recipe.toml as it is written; empty where there is none that can be read.

        Not through Recipe, which refuses what this version does not know.
        """
        return table if isinstance(table := self.settings.get(name), dict) else {}

    @property
    def settings(self) -> dict[str, Any]:
        """All of recipe.toml as it is written; empty where it cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            return read_toml(self.path / "recipe.toml")
        return {}

    @property
    def max_steps(self) -> float | None:
        """How many steps it is to have; None where its recipe does not tell."""
        return records.sound_number(self.table("budget").get("max_steps"))

    @property
    def resume_command(self) -> str:
        """The command that goes on with it, and with the other runs of the same `grpo-colab draw`."""
        if self.path.name in drawn_names(self.path.parent):
            return f"grpo-colab draw --resume {quote(self.path.parent)}"
        return self.resume_command_alone

    @property
    def resume_command_alone(self) -> str:
        """The command that goes on with this run and no other."""
        return f"grpo-colab train --resume {quote(self.path)}"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """The content of evaluation.json; None while there is none, or where it is damaged."""
        return records.sound_evaluation(self.read_json("evaluation.json"))

    @property
    def finished(self) -> bool:
        """Whether its last adapter is evaluated, after all steps or once it was solved."""
        return records.is_finished(self.evaluation, self.max_steps)

    @property
    def tripped(self) -> bool:
        """Whether a tripwire has stopped it, now or before it went on."""
        return (self.path / "tripwire.json").is_file()

    @property
    def solved(self) -> bool | None:
        """Whether a completion has reached budget.stop_at_reward; None where the recipe has none."""
        stop = self.recipe.budget.stop_at_reward
        return None if stop is None else any(reaches(row, stop) for row in self.metrics())

    @property
    def last_step(self) -> int:
        """The last step that metrics.jsonl has, 0 where it has none."""
        return records.last_step(self.metrics())

    def metrics(self, limit: records.Limit = records.OWN) -> list[records.MetricsRow]:
        """Return the lines of metrics.jsonl, one per step; damaged ones are left out."""
        return records.read_metrics(self.path / "metrics.jsonl", limit)

    def completions(self, limit: records.Limit = records.OWN) -> list[records.CompletionRow]:
        """Return the lines of completions.jsonl, one per completion; damaged ones are left out."""
        return records.read_completions(self.path / "completions.jsonl", limit)

    def answers(self, name: str, limit: records.Limit = records.OWN) -> list[records.AnswerRow]:
        """Return the lines of an evaluation's .jsonl file, one per problem; damaged ones are left out."""
        return records.read_answers(self.path / name, limit)

    def warnings(self, most: int) -> list[dict[str, Any]]:
        """Return the lines of warnings.jsonl as they are, at most about so many."""
        return files.read_objects(self.path / "warnings.jsonl", most_rows=most).rows

    def tripwire(self, step: int) -> dict[str, Any] | None:
        """Return what tripwire.json says; None where there is none, or the run, now at `step`, has gone on beyond."""
        return self._record_since("tripwire.json", step)

    def reward_failure(self, step: int) -> dict[str, Any] | None:
        """Return what reward-failure.json says; None where there is none, or the run, now at `step`, has gone on."""
        return self._record_since("reward-failure.json", step + 1)

    def _record_since(self, name: str, step: int) -> dict[str, Any] | None:
        found = self.read_json(name) or {}
        at = records.sound_number(found.get("step"))
        return found if at is not None and at >= step else None

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return the JSON object in a file of the folder; None where there is none that can be read."""
        return files.read_json(self.path / name, records.MOST_JSON)

    def write_json(self, name: str, value: Any) -> None:
        files.write_json(self.path / name, value)

    def write_lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a .jsonl file as a whole."""
        files.write_text(self.path / name, files.lines(rows))

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> bool:
        """Add rows to a .jsonl file, and return whether they are written; what a full disk refuses is written later."""
        self._unwritten[name] = self._unwritten.get(name, "") + files.lines(rows)
        try:
            self.flush()
        except OSError:
            return False
        return True

    def flush(self) -> None:
        """Write the rows that could not be written before; OSError when they still cannot."""
        for name in list(self._unwritten):
            files.append(self.path / name, self._unwritten[name])
            del self._unwritten[name]

    def to_disk(self) -> None:
        """Have all lines so far on the disk, since a checkpoint must never be ahead of them."""
        self.flush()
        for name in GROWING:
            if (self.path / name).exists():
                files.to_disk(self.path / name)

    def save_failure(self, record: Mapping[str, Any]) -> Path:
        """Write what a reward broke on to reward-failure.json, and return the file.

        What JSON cannot hold is written as Python shows it.
        """
        path = self.path / "reward-failure.json"
        files.write_text(path, json.dumps(record, indent=2, default=repr) + "\n")
        return path

    def last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint, whole or not; a run goes on from `checkpoints.newest_whole`."""
        return next(reversed(checkpoints.saved(self.checkpoints)), None)

    def go_back_to(self, checkpoint: Path | None) -> list[str]:
        """Drop the lines of steps after a checkpoint (of all steps for None), and what a killed process left half done.

        Lines of metrics that the file has lost are put back from the log in the checkpoint. Returns what was damaged,
        and what was done about it, in words.
        """
        if self.checkpoints.is_symlink():
            raise self.error("its checkpoints is a link, which is not followed", "put the folder itself there")
        done = checkpoints.step_of(checkpoint) if checkpoint else 0
        try:
            self._remove_leftovers()
            notes = [note for name in GROWING if (note := jsonl_repair.rewind(self.path / name, done))]
        except OSError as error:
            raise self.error(
                f"cannot go back to step {done} ({one_line(error)})", "make space, or put right what is there"
            ) from None
        if checkpoint is not None and (lost := self._put_back_metrics(checkpoint, done)):
            notes.append(f"metrics.jsonl: the {lost:,} lines that were lost are put back from {checkpoint.name}")
        return notes

    def _remove_leftovers(self) -> None:
        for leftover in self.path.glob(".*.tmp"):
            known = leftover.is_symlink() or leftover.is_file() or leftover.is_dir()
            if known and LEFTOVER.fullmatch(leftover.name):
                files.remove(leftover)
        files.remove(self.checkpoints / checkpoints.STAGING)

    def _put_back_metrics(self, checkpoint: Path, done: int) -> int:
        """Write the steps up to `done` that metrics.jsonl lacks and the checkpoint knows; return how many they are."""
        rows = {row["step"]: row for row in self.metrics()}
        if len(rows) >= done:
            return 0
        logged = records.steps_logged(files.read_json(checkpoint / "trainer_state.json", files.MOST_KEPT))
        lost = {row["step"]: row for row in logged if row["step"] not in rows and row["step"] <= done}
        if lost:
            self.write_lines("metrics.jsonl", [row for _, row in sorted({**lost, **rows}.items())])
        return len(lost)


def drawn_names(folder: Path) -> list[str]:
    """Return the run folders that a folder's draw.json names; none where it is not what `grpo-colab draw` writes."""
    names = (files.read_json(folder / DRAW) or {}).get("runs")
    if not isinstance(names, list):
        return []
    try:
        paths = [files.inside(folder, name) for name in names]
    except ValueError:
        return []
    plain = all(path.parent == folder and path.name.isprintable() for path in paths)
    return [path.name for path in paths] if plain else []


def reaches(row: Mapping[str, Any], stop_at_reward: float | None) -> bool:
    """Tell whether the best completion of a step, by its line of metrics, earned so much, within float32's rounding."""
    best = row.get("reward/max")
    return stop_at_reward is not None and (-math.inf if best is None else best) >= stop_at_reward - 1e-6


def quote(path: Path) -> str:
    """Return a path as a shell takes it."""
    return shlex.quote(str(path))


@contextlib.contextmanager
def writing_to(run: Run) -> Iterator[None]:
    """Turn an error in writing to a run's folder, whatever class a library gives it, into a SettingError."""
    try:
        yield
    except Exception as error:
        # safetensors and tokenizers have exceptions of their own, with these words in the text
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        raise run.error(
            f"cannot be written to ({one_line(error)})", f"make space, and go on with: {run.resume_command}"
        ) from error


def unfinished(recipe: Recipe, folders: Iterable[Path]) -> Iterator[Path]:
    """Yield those of `folders` that hold an unfinished run of the same recipe, newest first."""
    found = []
    for folder in folders:
        with contextlib.suppress(SettingError, OSError):
            run = Run(folder)
            if run.recipe.repeats(recipe) and not run.finished:
                found.append(((folder / "recipe.toml").stat().st_mtime, folder))
    yield from (folder for _, folder in sorted(found, reverse=True))


def free_path(recipe: Recipe, taken: Collection[str] = ()) -> Path:
    """Return runs/<date>-<recipe>, with -2, -3, ... where there is such a folder, or the name is among `taken`."""
    base = RUNS / f"{datetime.date.today().isoformat()}-{recipe.name}"
    path, n = base, 1
    while path.exists() or path.name in taken:
        n += 1
        path = base.with_name(f"{base.name}-{n}")
    return path


def check_free(path: Path) -> None:
    """Raise SettingError when `path` is a file or a folder with anything in it, or has a name that cannot be kept."""
    files.check_name("--out", path)
    if files.is_file(path / "recipe.toml"):
        raise SettingError(
            "holds a run already",
            setting="--out",
            value=str(path),
            remedy=f"choose another folder, or --resume {quote(path)}",
        )
    there = files.is_folder(path)
    if (os.path.lexists(path) and not there) or (there and any(inside.name[0] != "." for inside in path.iterdir())):
        raise SettingError("is not an empty folder", setting="--out", value=str(path), remedy="choose another")


def unwritable(path: Path, error: OSError) -> SettingError:
    """Return the error for a run folder that cannot be written."""
    return SettingError(f"cannot write there ({error.strerror})", setting="--out", value=str(path))
