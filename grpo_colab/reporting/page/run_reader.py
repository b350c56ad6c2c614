"""Read a run folder for its page, and find the run folders that a page is asked for."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.evaluation.evaluate import AFTER, BEFORE
from grpo_colab.reporting.page.evaluation_reader import Answer, Evaluation, pair_answers, read_evaluation
from grpo_colab.reporting.page.file_reader import FileReader, PageShare
from grpo_colab.reporting.page.html import display_text, format_number, format_whole
from grpo_colab.runs.folders import index_of
from grpo_colab.runs.records import MOST_JSON, count, is_finished, weighted_reward, with_reward_keys
from grpo_colab.runs.run import Run
from grpo_colab.runs.status import phase_text, status
from grpo_colab.text import without_secrets
from grpo_colab.utils.files import MOST_READ, is_file, number, read_json, safe_join

if TYPE_CHECKING:
    from grpo_colab.rewards.graders import Grader

MOST_ANSWERS: Final = 50_000  # before and after each, and warnings
MOST_LISTED: Final = 5000  # names in a draw.json or sweep.json that are looked for
MOST_RUNS: Final = 100  # of a folder of drawings, on one page
# How a sentence calls the methods of hindsight.method.
METHODS: Final = {
    "grpo": "GRPO",
    "her": "hindsight experience replay",
    "both": "GRPO and hindsight experience replay",
}
SHARED_FILES: Final = ("metrics.jsonl", "completions.jsonl", "warnings.jsonl", BEFORE, AFTER)


@dataclass
class RunData:
    """A run as its page shows it. Everything in it was read from files that may be anyone's."""

    run: Run
    name: str  # the folder's, with as many folders above it as tell it from the other runs
    state: str  # as `status` names it
    phase: str  # what follows the state: what the process does, or did when the run ended
    error: str  # that ended a failed run, or nothing
    steps: int  # done
    max_steps: float | None
    tripwire: dict[str, Any] | None  # what stopped the run, with "wire" and "step"
    reward_failure: dict[str, Any] | None  # with "reward", "what" and "step"
    collapse: dict[str, Any] | None  # from which step it went back to its best checkpoint, with "step" and "text"
    recipe: dict[str, Any]  # the TOML file's tables, without secrets
    environment: dict[str, Any]  # without secrets
    metrics: list[dict[str, float]]  # a row per step, in order; finite numbers alone
    completions: list[dict[str, Any]]
    answers: dict[str, list[Answer]]  # "before" and "after": a row per held-out problem
    evaluation: Evaluation
    warnings: list[dict[str, Any]]  # in the order of their steps
    pictures: dict[str, str]  # file name -> base64; empty where several runs share a page
    notes: list[str]  # what is missing, left out, or cannot be read

    def table(self, name: str) -> dict[str, Any]:
        """Return a table of the recipe, empty where it has none."""
        found = self.recipe.get(name)
        return found if isinstance(found, dict) else {}

    @property
    def title(self) -> str:
        return self.drawing or self.recipe_name

    @property
    def recipe_name(self) -> str:
        return str(self.recipe.get("name") or self.name)

    @property
    def drawing(self) -> str:
        """Return the image that the run draws and its method, as "12-squares, drawn by GRPO"; "" for another task."""
        image = self.table("task").get("image")
        if self.table("task").get("name") != "drawing" or not isinstance(image, str):
            return ""
        method = METHODS.get(str(self.table("hindsight").get("method", "grpo")), "an unknown method")
        return f"{display_text(image, 60)}, drawn by {method}"

    @property
    def so_far(self) -> str:
        """Say in a sentence what a run is doing that has no step yet, or that goes on; "" for one that has ended."""
        if self.state == "not begun":
            return "No step has ended yet: the run was stopped, or has not begun."
        if self.state != "running":
            return ""
        if self.steps > 0:
            done = self.max_steps is not None and self.steps >= self.max_steps
            rest = "it answers the held-out problems again" if done else f"step {self.steps + 1:,} is under way"
            return f"The run goes on: {rest}. This page shows it as it was when it was made."
        if self.answers["before"]:
            return "The run has just begun: the held-out problems are answered, and its first step is under way."
        return "The run has just begun: it answers the held-out problems, before its first step."

    @property
    def lenient_words(self) -> str:
        """Return in words what the lenient accuracy looks at, such as "by the last number alone"."""
        from grpo_colab.rewards.graders import lenient_words

        return lenient_words(self.table("task"))

    @property
    def pretraining_steps(self) -> int:
        """Return the steps of the pre-training that came before the first evaluation, 0 for a run without one."""
        return count(self.table("pretraining").get("steps")) or 0

    @property
    def model_name(self) -> str:
        return str(self.table("model").get("model_name") or "an unknown model")

    @property
    def device_name(self) -> str:
        device = self.environment.get("device")
        return str((device.get("name") if isinstance(device, dict) else None) or "an unknown device")

    @property
    def task_name(self) -> str:
        return str(self.evaluation.task or self.table("task").get("name", "an unknown task"))

    @property
    def has_problems(self) -> bool:
        """Tell whether something is missing or went wrong."""
        return bool(self.notes or self.tripwire or self.reward_failure or self.collapse or self.warnings)

    @property
    def steps_text(self) -> str:
        """Return how many steps are done, as "5 of 20"; of a run that stops at a reward, "5 of at most 250"."""
        at_most = "at most " if self.table("budget").get("stop_at_reward") is not None else ""
        return f"{format_whole(self.steps)} of {at_most}{format_whole(self.max_steps)}"

    @property
    def duration(self) -> str:
        """Return how long all steps took together, in seconds, minutes or hours."""
        seconds = sum(min(max(row.get("step_time", 0.0), 0.0), 1e9) for row in self.metrics)
        if seconds < 60:
            return f"{format_number(seconds, 2)} s"
        return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"

    @functools.cached_property
    def reward_weights(self) -> list[float]:
        """Return the weight of each reward, in the order of the recipe."""
        return [float(number(weight) or 0.0) for weight in self.table("rewards").values()]

    def weighted_reward(self, rewards: Mapping[str, Any]) -> float:
        """Return a completion's reward: the weighted sum, or the plain sum where the recipe has other rewards."""
        return weighted_reward(rewards.values(), self.reward_weights)

    @functools.cached_property
    def grader(self) -> Grader | None:
        """Return the grader that gives the task's verdict on a completion again, within microseconds.

        None where a verdict costs more, as of code and formulas, or runs code of others; for an unknown task, and for
        settings that no task could have.
        """
        from grpo_colab.rewards.graders import grader_settings, make_grader
        from grpo_colab.tasks import TASKS, Task, task_class

        task = self.table("task")
        with contextlib.suppress(SettingError, TypeError, ImportError):
            settings = grader_settings(task)
            settings.pop("answer_tag", None)
            grader = make_grader(**settings)
            name = task.get("name")
            is_graded_so = name in TASKS and task_class(str(name)).grade is Task.grade
            if is_graded_so and grader.kind not in ("math", "code", "grader"):
                return grader
        return None

    def answer_pairs(self) -> list[tuple[Answer | None, Answer | None]]:
        """Return pairs of the answers before and after to the same problem, None where it was not asked."""
        return pair_answers(self.answers)


def find_runs(paths: Sequence[str | Path]) -> list[Run]:
    """Return the runs in `paths`, each once. A folder that `draw` or `sweep` made stands for the runs in it.

    Raises SettingError for a path that is neither, and for no path at all.
    """
    found: dict[Path, Run] = {}
    for path in map(Path, paths):
        index = index_of(path)
        if index is not None and not is_file(path / "recipe.toml"):
            runs = _listed_runs(path, index)
            if not runs:
                raise SettingError(
                    f"none of the runs that {index} names has begun, so that there is nothing to show", place=path
                )
        else:
            runs = [Run(path)]
        found |= {run.path.resolve(): run for run in runs}
    if not found:
        raise SettingError(
            "no run folder is given",
            setting="RUN",
            remedy="name at least one run folder, such as runs/2026-11-21-word-problems-tiny",
        )
    return list(found.values())


def _listed_runs(folder: Path, index: str) -> list[Run]:
    """Return the runs that the file `index` of a folder names, or all in it where it names none.

    At most MOST_RUNS are taken, none outside of the folder, and none through a link. Those that have not begun are left
    out.
    """
    names = (read_json(folder / index, MOST_JSON) or {}).get("runs")
    listed = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    candidates = list(dict.fromkeys(listed)) or sorted(path.name for path in folder.iterdir())
    runs: list[Run] = []
    for name in candidates[:MOST_LISTED]:
        with contextlib.suppress(ValueError, OSError):  # SettingError is a ValueError: that run has not begun
            runs.append(Run(safe_join(folder, name)))
        if len(runs) == MOST_RUNS:
            break
    return runs


def read_runs(runs: Sequence[Run], names: Sequence[str]) -> list[RunData]:
    """Read several runs for one page, and keep no more of all of them than of a run alone.

    What small runs leave is for the big ones. `names` are what the page calls the runs.
    """
    share = PageShare(len(runs), {file: equal_share([_size(run.path / file) for run in runs]) for file in SHARED_FILES})
    return [read_run(run, name, share=share) for run, name in zip(runs, names, strict=True)]


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.lstat().st_size
    return 0


def equal_share(sizes: Sequence[int], total: int = MOST_READ) -> int:
    """Return how many bytes of each file are read at most, so that all together have `total`.

    What files leave that are smaller than an equal share is for the bigger ones. Returns MOST_READ where all files fit.
    """
    for n, size in enumerate(sorted(sizes)):
        share = total // (len(sizes) - n)
        if size > share:
            return share
        total -= size
    return MOST_READ


def read_run(
    run: Run, name: str | None = None, evaluation: Mapping[str, Any] | None = None, share: PageShare | None = None
) -> RunData:
    """Read everything that a run folder tells, and write nothing.

    `name` is what the page calls the run, the folder's name for None. `evaluation` is the content of evaluation.json,
    for a caller that has not written that file yet. `share` is how much is kept, as much as of a run alone for None. A
    file that is missing or damaged raises nothing; a note on the page says so.
    """
    share = share or PageShare()
    files = FileReader(run.path, share)
    recipe = files.recipe()
    told = status(run.path)
    # Nothing is missing of a run without a step: one that has just begun, was refused, or was killed before.
    has_step = bool(told["step"]) or (told["state"] != "running" and not told["phase"])
    begun = told["state"] != "not begun" and has_step
    metrics = files.metrics(begun)
    rows = files.rows("completions.jsonl", if_missing="No completions yet." if begun else "")
    completions = [with_reward_keys(row) for row in rows]
    answers = {side: files.rows(file, most=MOST_ANSWERS) for side, file in (("before", BEFORE), ("after", AFTER))}
    given = files.json_object("evaluation.json") if evaluation is None else dict(evaluation)
    evaluated = read_evaluation(given, answers, files.notes)
    environment = _environment(files, begun)
    warnings = without_secrets(files.rows("warnings.jsonl", most=MOST_ANSWERS))
    pictures = files.pictures()
    for folder in (run.checkpoints, run.adapter):
        if folder.is_symlink():
            files.notes.append(f"{folder.name} is a link, which is not followed.")
    state = _state(told, evaluation)
    return RunData(
        run=run,
        name=name or run.path.resolve().name,
        state=state,
        phase=phase_text(told) if state == told["state"] else "",
        error=str(told["phase"]["why"] or "") if state == "failed" else "",
        steps=told["step"],
        max_steps=number(told["max_steps"]),
        tripwire=told["tripwire"],
        reward_failure=told["reward_failure"],
        collapse=told["collapse"],
        recipe=recipe,
        environment=environment,
        metrics=metrics,
        completions=completions,
        answers=answers,
        evaluation=evaluated,
        # The return to the best checkpoint has a line of its own.
        warnings=sorted(
            (row for row in warnings if row.get("kind") != "collapse" or not told["collapse"]),
            key=lambda row: number(row.get("step")) or 0,
        ),
        pictures=pictures if share.runs == 1 else {},
        notes=files.notes,
    )


def _environment(files: FileReader, begun: bool) -> dict[str, Any]:
    """Return environment.json without the command, which may hold a token, and without other secrets.

    Returns an empty dict where it is missing or cannot be read. A note says so, for a missing file only once the run
    has begun.
    """
    environment = files.json_object("environment.json") or {}
    if begun and not environment and not (files.folder / "environment.json").exists():
        files.notes.append("environment.json is missing: the device and the versions are not known.")
    environment.pop("command", None)
    found: dict[str, Any] = without_secrets(environment)
    return found


def _state(told: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> str:
    """Return the run's state, as `status` names it, or "finished" where the given evaluation ends the run.

    The process that gives the evaluation still holds the run's lock, so that `status` finds the run running.
    """
    if is_finished(evaluation, number(told["max_steps"])):
        return "finished"
    return str(told["state"])
