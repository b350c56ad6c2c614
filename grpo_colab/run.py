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

A file is written under a temporary name and then renamed, so that a run that is killed leaves whole files. The two
`.jsonl` files that grow do so by whole lines; a damaged line is left out when they are read. `.lock` is held by the
process that trains, and freed by the system however that process ends.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import platform
import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from grpo_colab import checkpoints, files, records
from grpo_colab.console import on_one_line
from grpo_colab.errors import SettingError, one_line
from grpo_colab.recipe import Recipe

RUNS = Path("runs")
LOCK = ".lock"
DRAW = "draw.json"  # in a folder of run folders that `grpo-colab draw` made
# What a killed process of this or an earlier release leaves: .<random>.tmp, .<name>.<random or process>.tmp
LEFTOVER = re.compile(r"\.[0-9a-f]{16}\.tmp|\..+\.(?:[0-9a-f]{16}|[0-9]+)\.tmp")
GROWING = ("metrics.jsonl", "completions.jsonl", "warnings.jsonl")


class Run:
    """A run folder. `Run(path)` opens one that exists; `Run.create` makes a new one."""

    def __init__(self, path: str | Path) -> None:
        if not str(path).strip():
            raise SettingError(f"run {str(path)!r}: is empty, as an unset variable leaves it; name a run folder")
        self.path = Path(path)
        self._unwritten: dict[str, str] = {}
        there = link = False
        with contextlib.suppress(OSError, ValueError):  # no such name can be
            there, link = (self.path / "recipe.toml").is_file(), (self.path / "recipe.toml").is_symlink()
        if link:
            raise SettingError(f"run {str(path)!r}: its recipe.toml is a link, which is not followed; copy it there")
        if not there:
            raise SettingError(f"run {str(path)!r}: no recipe.toml there, so it is no run folder")

    @classmethod
    def create(cls, recipe: Recipe, out: str | Path | None = None) -> Run:
        """Make the folder, `out` or runs/<date>-<recipe>[-n], with the recipe in it.

        Raises SettingError for a folder that holds anything already, or that cannot be written.
        """
        path = free_path(recipe) if out is None else Path(out)
        check_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
            files.write_text(path / "recipe.toml", recipe.to_toml())
        except OSError as error:
            raise SettingError(f"--out {str(path)!r}: cannot write there ({error.strerror})") from None
        return cls(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def recipe(self) -> Recipe:
        return Recipe.load(self.path / "recipe.toml")

    @property
    def resume(self) -> str:
        """The command that goes on with it, and with those beside it that `grpo-colab draw` made with it."""
        if self.path.name in drawn_names(self.path.parent):
            return f"grpo-colab draw --resume {quote(self.path.parent)}"
        return self.resume_alone

    @property
    def resume_alone(self) -> str:
        return f"grpo-colab train --resume {quote(self.path)}"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """Before / after / paired, as evaluation.json has them; None while there is none, or none that is whole."""
        return records.evaluation(files.read_json(self.path / "evaluation.json"))

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or it was solved before, and the adapter of the last one is evaluated."""
        evaluation, steps = self.evaluation, self.recipe.budget.max_steps
        return evaluation is not None and (evaluation.get("solved", False) or evaluation.get("step", steps) >= steps)

    @property
    def solved(self) -> bool | None:
        """Whether a completion has reached budget.stop_at_reward; None where there is none."""
        stop = self.recipe.budget.stop_at_reward
        return None if stop is None else any(reaches(row, stop) for row in self.metrics())

    def metrics(self) -> list[dict[str, Any]]:
        """One dict a step, in order: its number, and numbers by their names. What is damaged is left out."""
        return records.metrics(self.path / "metrics.jsonl")

    @property
    def last_step(self) -> int:
        rows = self.metrics()
        return rows[-1]["step"] if rows else 0

    def completions(self) -> list[dict[str, Any]]:
        """One dict a completion, with its step, prompt, text and rewards. What is damaged is left out."""
        return records.completions(self.path / "completions.jsonl")

    def answers(self, name: str) -> list[dict[str, Any]]:
        """The rows of an evaluation's .jsonl file that are whole."""
        return records.answers(self.path / name)

    def write_json(self, name: str, value: Any) -> None:
        files.write_json(self.path / name, value)

    def write_lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """A .jsonl file at once."""
        files.write_text(self.path / name, files.lines(rows))

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> bool:
        """Add rows to a .jsonl file; whether they are written. What a full disk refuses is kept for the next time."""
        self._unwritten[name] = self._unwritten.get(name, "") + files.lines(rows)
        try:
            self.flush()
        except OSError:
            return False
        return True

    def flush(self) -> None:
        """Write what could not be written before; OSError when it still cannot."""
        for name in list(self._unwritten):
            files.append(self.path / name, self._unwritten[name])
            del self._unwritten[name]

    def to_disk(self) -> None:
        """Have the lines so far on the disk: a checkpoint must never be further than they are."""
        self.flush()
        for name in GROWING:
            if (self.path / name).exists():
                files.to_disk(self.path / name)

    def save_failure(self, record: Mapping[str, Any]) -> Path:
        """Keep what a reward broke on; returns the file. What JSON cannot hold is written as Python shows it."""
        path = self.path / "reward-failure.json"
        files.write_text(path, json.dumps(record, indent=2, default=repr) + "\n")
        return path

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint, whole or not; `checkpoints.newest_whole` is what a run goes on from."""
        return next(reversed(checkpoints.saved(self.checkpoints)), None)

    def go_back_to(self, checkpoint: Path | None) -> list[str]:
        """Drop the lines of steps after a checkpoint (all for None), which are written again, and what is half done.

        Lines of metrics that the checkpoint knows of and the file has lost are put back from the trainer's own log.
        Returns what was damaged, and what was done about it, in words.
        """
        if self.checkpoints.is_symlink():
            raise SettingError(
                f"run {str(self.path)!r}: its checkpoints is a link, which is not followed; put the folder itself there"
            )
        done = checkpoints.step_of(checkpoint) if checkpoint else 0
        try:
            for leftover in self.path.glob(".*.tmp"):
                known = leftover.is_symlink() or leftover.is_file() or leftover.is_dir()
                if known and LEFTOVER.fullmatch(leftover.name):
                    checkpoints.remove(leftover)
            checkpoints.remove(self.checkpoints / checkpoints.STAGING)
            notes = [note for name in GROWING if (note := records.rewind(self.path / name, done))]
        except OSError as error:
            raise SettingError(
                f"run {str(self.path)!r}: cannot go back to step {done} ({one_line(error)}); make space, or put right "
                "what is there"
            ) from None
        rows = {row["step"]: row for row in self.metrics()}
        if checkpoint and len(rows) < done:
            logged = records.steps_logged(files.read_json(checkpoint / "trainer_state.json", files.MOST_KEPT))
            lost = {row["step"]: row for row in logged if row["step"] not in rows and row["step"] <= done}
            if lost:
                self.write_lines("metrics.jsonl", [row for _, row in sorted({**lost, **rows}.items())])
                notes.append(
                    f"metrics.jsonl: the {len(lost):,} lines that were lost are put back from {checkpoint.name}"
                )
        return notes


def drawn_names(folder: Path) -> list[str]:
    """The run folders that a folder's draw.json names; empty where any of it is not what `grpo-colab draw` writes."""
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
    """Whether the best completion of a step, by its line of metrics, earned that much, but for 32 bits' rounding."""
    best = row.get("reward/max")
    return stop_at_reward is not None and (-math.inf if best is None else best) >= stop_at_reward - 1e-6


def quote(path: Path) -> str:
    """As a shell takes it."""
    return shlex.quote(str(path))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a run folder, made when missing, so that no other process trains there; SettingError when one does."""
    from filelock import FileLock, Timeout

    lock = FileLock(path / LOCK)
    if (path / LOCK).is_symlink():
        raise SettingError(f"run {str(path)!r}: its {LOCK} is a link, which is not followed; remove it")
    try:
        path.mkdir(parents=True, exist_ok=True)
        check_no_links(path)
        with files.open_to_change(path / LOCK, os.O_CREAT):  # some releases of filelock would follow a link there
            pass
        lock.acquire(timeout=1)  # longer than a look at the lock takes
    except (Timeout, RuntimeError):  # RuntimeError: this very thread holds it
        holder = "another process"
        with contextlib.suppress(OSError):
            holder = f"process {on_one_line(files.read_bytes(path / LOCK, 200).decode(errors='replace'))}"
        raise SettingError(f"run {str(path)!r}: is being trained by {holder}; wait for it, or stop it first") from None
    except OSError as error:
        raise SettingError(f"--out {str(path)!r}: cannot write there ({error.strerror})") from None
    try:
        # for people; the lock is the system's
        with contextlib.suppress(OSError), files.open_to_change(path / LOCK) as file:
            file.truncate(0)
            file.write(f"{os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        lock.release()


def check_no_links(path: Path) -> None:
    """Raise SettingError for a run folder with a link that leads out of it: a run writes through none."""
    root = path.resolve()
    for folder, folders, names in os.walk(path, followlinks=False):
        if Path(folder).name == "wandb" and Path(folder).parent == path:  # W&B's own, which links to its logs
            folders.clear()
            continue
        for name in (*folders, *names):
            link = Path(folder, name)
            if link.is_symlink() and not link.resolve().is_relative_to(root):
                raise SettingError(
                    f"run {str(path)!r}: {str(link.relative_to(path))!r} is a link out of the folder, and a run is "
                    "kept in one folder; put there what it leads to, or make the whole folder a link"
                )


def unfinished(recipe: Recipe, folders: Iterable[Path]) -> Iterator[Path]:
    """Those of `folders` that hold an unfinished run of the same recipe, newest first."""
    found = []
    for folder in folders:
        with contextlib.suppress(SettingError, OSError):
            run = Run(folder)
            if run.recipe.repeats(recipe) and not run.finished:
                found.append(((folder / "recipe.toml").stat().st_mtime, folder))
    yield from (folder for _, folder in sorted(found, reverse=True))


def free_path(recipe: Recipe, taken: Collection[str] = ()) -> Path:
    """runs/<date>-<recipe>, with -2, -3, ... when there is such a folder, or the name is among `taken`."""
    base = RUNS / f"{datetime.date.today().isoformat()}-{recipe.name}"
    path, n = base, 1
    while path.exists() or path.name in taken:
        n += 1
        path = base.with_name(f"{base.name}-{n}")
    return path


def check_free(path: Path) -> None:
    """Raise SettingError when `path` is a file or a folder with anything in it, or has a name that cannot be kept."""
    try:
        files.check_name("--out", path)
    except ValueError as error:
        raise SettingError(str(error)) from None
    if files.is_file(path / "recipe.toml"):
        raise SettingError(
            f"--out {str(path)!r}: holds a run already; choose another folder, or --resume {quote(path)}"
        )
    there = files.is_folder(path)
    if (os.path.lexists(path) and not there) or (there and any(inside.name[0] != "." for inside in path.iterdir())):
        raise SettingError(f"--out {str(path)!r}: is not an empty folder; choose another")
