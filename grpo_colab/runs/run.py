"""The run folder, which holds everything that a run leaves behind: `Run` reads and writes its files.

    runs/2026-11-21-word-problems-tiny/
        recipe.toml         resolved; running it again repeats the run
        data-*.jsonl        the problems that a Python program gave, or train-*.jsonl and test-*.jsonl of them
        environment.json    versions, device, seeds
        metrics.jsonl       one line per step
        completions.jsonl   the policy's completions, with each reward and the advantage
        checkpoints/        to resume from: the last two, and the best
        adapter/            the trained LoRA with its tokenizer
        evaluation.json     before, after, and the paired test
        evaluation-before.jsonl, evaluation-after.jsonl     the answers, one row per problem
        evaluation-before-*.jsonl, evaluation-after-*.jsonl the same of a task's further held-out splits, by their names
        warnings.jsonl      what looked wrong, and at which step
        reward-failure.json the completion on which a reward failed, if one did
        tripwire.json       which tripwire stopped the run, if one did
        collapse.json       from where to where the run went back to its best checkpoint, if it did
        collapsed-*.jsonl   metrics, completions and warnings of the steps that it took back then
        clock.json          how long an evaluation and a checkpoint took, in seconds
        mirror.json         the state of the copy elsewhere, if there is one
        phase.json          what the run is doing, or how it ended
        rewards.png         the curves
        drawing.png, drawing.gif            for a drawing task: the target image, and the best drawings of it
        report.html         all of this on one page, which opens offline
        tensorboard/, wandb/, wandb.json    files of those trackers, if grpo.report_to names them

A file is written under a temporary name and then renamed, so that a killed run leaves whole files. The `.jsonl` files
that grow do so by whole lines, and damaged lines are left out when they are read. The training process holds `.lock`,
which the operating system releases however that process ends.

`records.py` has the types of the rows, `checkpoints.py` the checkpoints, `folders.py` the names of run folders, and
`resume.py` the choice of the run to resume.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.recipe.functions import arguments_for, missing_functions
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs import checkpoints, jsonl_repair, records
from grpo_colab.runs.folders import COMMANDS, check_free, clear, free_path, index_of, listed_names, quote
from grpo_colab.utils import files
from grpo_colab.utils.toml_reading import read_toml

# Temporary names that a killed process of this or an earlier release leaves: .<random>.tmp, .<name>.<random or pid>.tmp
LEFTOVER = re.compile(r"\.[0-9a-f]{16}\.tmp|\..+\.(?:[0-9a-f]{16}|[0-9]+)\.tmp")
GROWING = ("metrics.jsonl", "completions.jsonl", "warnings.jsonl")


class Run:
    """A run folder. `Run(path)` opens one that exists, and `Run.create` makes a new one.

    Every property is read from the files each time, since another process may be training the run.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a run folder. Raises SettingError for an empty path, and where recipe.toml is missing or a link."""
        if not str(path).strip():
            raise SettingError(
                "is empty, as an unset variable leaves it", setting="run", value=str(path), remedy="name a run folder"
            )
        self.path = Path(path)
        self._unwritten: dict[str, str] = {}  # lines by file name that a full disk refused
        recipe = self.path / "recipe.toml"
        is_file = is_link = False
        with contextlib.suppress(OSError, ValueError):  # a path that no file can have
            is_file, is_link = recipe.is_file(), recipe.is_symlink()
        if is_link:
            raise self.error("its recipe.toml is a link, which is not followed", "put the file itself there")
        if not is_file:
            raise self.error("has no recipe.toml, so it is no run folder")

    @classmethod
    def create(cls, recipe: Recipe, out: str | Path | None = None) -> Run:
        """Make a run folder with the recipe in it, and return the run.

        The folder is `out`, or else runs/<date>-<recipe>, with -2, -3, ... where that is taken. Parent folders are made
        too. A run there that never began is deleted. Raises SettingError for a folder that `check_free` refuses or that
        cannot be written.
        """
        path = free_path(recipe) if out is None else Path(out)
        check_free(path)
        data_files = recipe.data_files()  # which may lie in the folder that is cleared
        with files.unwritable_refused("--out", path, "choose another folder"):
            path.mkdir(parents=True, exist_ok=True)
            clear(path)
            for name, text in data_files.items():
                files.write_text(path / name, text)
            files.write_text(path / "recipe.toml", recipe.to_toml())  # last: it makes the folder a run
        return cls(path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def error(self, problem: str, remedy: str | None = None) -> SettingError:
        """Return a SettingError about this run folder, which the caller raises."""
        return SettingError(problem, remedy=remedy, place=f"run {str(self.path)!r}")

    @property
    def recipe(self) -> Recipe:
        """Return the run's recipe. Raises SettingError where this version cannot read it."""
        return Recipe.load(self.path / "recipe.toml")

    def table(self, name: str) -> dict[str, Any]:
        """Return a table of recipe.toml as it is written; an empty dict where it is missing or cannot be read.

        Unlike `recipe`, it also reads settings that this version does not know.
        """
        table = self.settings.get(name)
        return table if isinstance(table, dict) else {}

    @property
    def settings(self) -> dict[str, Any]:
        """Return all of recipe.toml as it is written; an empty dict where it cannot be read."""
        with contextlib.suppress(OSError, ValueError):
            return read_toml(self.path / "recipe.toml")
        return {}

    @property
    def max_steps(self) -> float | None:
        """Return budget.max_steps; None where recipe.toml has no such number or cannot be read."""
        return records.sound_number(self.table("budget").get("max_steps"))

    @property
    def resume_command(self) -> str:
        """Return the command that resumes this run, together with the other runs of the same `draw` or `sweep`."""
        index = index_of(self.path.parent)
        if index is not None and self.path.name in listed_names(self.path.parent):
            command, functions = COMMANDS[index], missing_functions(self.table("rewards"), {})
            if functions:
                return f"{command}(resume={str(self.path.parent)!r}, {arguments_for(functions)}) in Python"
            return f"grpo-colab {command} --resume {quote(self.path.parent)}"
        return self.resume_command_alone

    @property
    def resume_command_alone(self) -> str:
        """Return the command that resumes this run and no other.

        It is a call in Python where the run needs functions that no command can give.
        """
        functions = missing_functions(self.table("rewards"), {})
        if functions:
            return f"train(resume={str(self.path)!r}, {arguments_for(functions)}) in Python"
        return f"grpo-colab train --resume {quote(self.path)}"

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the run's checkpoints."""
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        """Return the folder of the trained adapter."""
        return self.path / "adapter"

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """Return the content of evaluation.json; None while there is none, or where it is damaged."""
        return records.sound_evaluation(self.read_json("evaluation.json"))

    @property
    def finished(self) -> bool:
        """Tell whether the final adapter is evaluated: after all steps, or after the task was solved."""
        return records.is_finished(self.evaluation, self.max_steps)

    @property
    def tripped(self) -> bool:
        """Tell whether a tripwire has ever stopped the run, even if it was resumed since."""
        return (self.path / "tripwire.json").is_file()

    @property
    def solved(self) -> bool | None:
        """Tell whether a completion has reached budget.stop_at_reward; None if unset. Raises as `recipe` does."""
        stop = self.recipe.budget.stop_at_reward
        if stop is None:
            return None
        return any(records.reaches(row, stop) for row in self.metrics())

    @property
    def last_step(self) -> int:
        """Return the last step in metrics.jsonl; 0 for none."""
        return records.last_step(self.metrics())

    def metrics(self, limit: records.Limit = records.OWN) -> list[records.MetricsRow]:
        """Return the lines of metrics.jsonl, one per step, without damaged ones; [] for no file."""
        return records.read_metrics(self.path / "metrics.jsonl", limit)

    def completions(self, limit: records.Limit = records.OWN) -> list[records.CompletionRow]:
        """Return the lines of completions.jsonl, one per completion, without damaged ones; [] for no file."""
        return records.read_completions(self.path / "completions.jsonl", limit)

    def answers(self, name: str, limit: records.Limit = records.OWN) -> list[records.AnswerRow]:
        """Return the lines of an evaluation's file `name`, one per problem, without damaged ones; [] for no file."""
        return records.read_answers(self.path / name, limit)

    def warnings(self, most: int) -> list[dict[str, Any]]:
        """Return the lines of warnings.jsonl unchecked, about `most` of a longer file, all over it; [] for no file."""
        return files.read_objects(self.path / "warnings.jsonl", most_rows=most).rows

    def tripwire(self, step: int) -> dict[str, Any] | None:
        """Return the content of tripwire.json; None where it is missing or damaged, or the run is past its step.

        `step` is the last step that the run has finished.
        """
        return self._record_since("tripwire.json", step)

    def reward_failure(self, step: int) -> dict[str, Any] | None:
        """Return the content of reward-failure.json; None where it is missing or damaged, or its step is finished.

        `step` is the last step that the run has finished.
        """
        return self._record_since("reward-failure.json", step + 1)

    def _record_since(self, name: str, first_step: int) -> dict[str, Any] | None:
        """Return the JSON object in a file if its "step" is `first_step` or later, else None."""
        record = self.read_json(name) or {}
        step = records.sound_number(record.get("step"))
        return record if step is not None and step >= first_step else None

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return the JSON object in a file of the folder; None where it is missing, unreadable or over 8 MiB."""
        return files.read_json(self.path / name, records.MOST_JSON)

    def write_json(self, name: str, value: Any) -> None:
        """Write a value to a JSON file of the folder, whole or not at all. Raises OSError where that fails."""
        files.write_json(self.path / name, value)

    def write_lines(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write these rows to a .jsonl file, in place of what it held. Raises OSError where that fails."""
        files.write_text(self.path / name, files.lines(rows))

    def append(self, name: str, rows: Iterable[Mapping[str, Any]]) -> bool:
        """Append rows to a .jsonl file, and return whether they are written.

        Where writing fails, as on a full disk, no OSError is raised: the rows are kept in memory, and written by the
        next `append` or `flush` that succeeds. Returns False too where earlier rows, of any file, are still kept.
        """
        self._unwritten[name] = self._unwritten.get(name, "") + files.lines(rows)
        try:
            self.flush()
        except OSError:
            return False
        return True

    def flush(self) -> None:
        """Write the rows that `append` could not write. Raises OSError when they still cannot be written."""
        for name in list(self._unwritten):
            files.append(self.path / name, self._unwritten[name])
            del self._unwritten[name]

    def to_disk(self) -> None:
        """Write the rows that `append` could not write, and sync the growing .jsonl files to the disk.

        Called before each checkpoint, which must never be ahead of them. Raises OSError where that fails.
        """
        self.flush()
        for name in GROWING:
            if (self.path / name).exists():
                files.to_disk(self.path / name)

    def save_failure(self, record: Mapping[str, Any]) -> Path:
        """Write the record of a failed reward to reward-failure.json, and return the file's path.

        Values that JSON cannot hold are written by `repr`. Raises OSError where the file cannot be written.
        """
        path = self.path / "reward-failure.json"
        files.write_text(path, json.dumps(record, indent=2, default=repr) + "\n")
        return path

    def last_checkpoint(self) -> Path | None:
        """Return the newest checkpoint, damaged or not; None for none. Runs resume from `checkpoints.newest_whole`."""
        return next(reversed(checkpoints.saved(self.checkpoints)), None)

    def rewind_to(self, checkpoint: Path | None) -> list[str]:
        """Delete the lines of all steps after a checkpoint (of all steps for None) and leftovers of killed processes.

        Lines that metrics.jsonl has lost are restored from the log in the checkpoint. Returns a sentence for each
        damage found, with what was done about it. Raises SettingError where a file cannot be changed or checkpoints/
        is a link, and OSError where the restored lines cannot be written.
        """
        if self.checkpoints.is_symlink():
            raise self.error("its checkpoints is a link, which is not followed", "put the folder itself there")
        done = checkpoints.step_of(checkpoint) if checkpoint else 0
        try:
            self._remove_leftovers()
            damages = [jsonl_repair.rewind(self.path / name, done) for name in GROWING]
        except OSError as error:
            raise self.error(
                f"cannot be rewound to step {done} ({one_line(error)})", "free some space, or move what is in the way"
            ) from None
        notes = [damage for damage in damages if damage]
        if checkpoint is not None:
            lost = self._restore_metrics(checkpoint, done)
            if lost:
                notes.append(f"metrics.jsonl: the {lost:,} lines that were lost are restored from {checkpoint.name}")
        return notes

    def _remove_leftovers(self) -> None:
        """Delete a killed process's temporary files at the top, and checkpoints/.new. Raises OSError if that fails."""
        for leftover in self.path.glob(".*.tmp"):
            known = leftover.is_symlink() or leftover.is_file() or leftover.is_dir()
            if known and LEFTOVER.fullmatch(leftover.name):
                files.remove(leftover)
        files.remove(self.checkpoints / checkpoints.STAGING)

    def _restore_metrics(self, checkpoint: Path, done: int) -> int:
        """Add the steps up to `done` that metrics.jsonl lacks and the checkpoint has. Return how many there were.

        The file is written anew then, ordered by step. Raises OSError where that fails.
        """
        rows = {row["step"]: row for row in self.metrics()}
        if len(rows) >= done:
            return 0
        logged = records.steps_logged(files.read_json(checkpoint / "trainer_state.json", files.MOST_KEPT))
        lost = {row["step"]: row for row in logged if row["step"] not in rows and row["step"] <= done}
        if lost:
            self.write_lines("metrics.jsonl", [row for _, row in sorted({**lost, **rows}.items())])
        return len(lost)


@contextlib.contextmanager
def writing_to(run: Run) -> Iterator[None]:
    """Turn an error of the block in writing to the run's folder into a SettingError with the command to resume.

    Such an error is an OSError, or an exception of a library whose text has "os error". All others pass unchanged.
    """
    try:
        yield
    except Exception as error:
        # safetensors and tokenizers raise exceptions of their own, whose text has these words.
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        raise run.error(
            f"cannot be written to ({one_line(error)})", f"free some space, then resume with: {run.resume_command}"
        ) from error
