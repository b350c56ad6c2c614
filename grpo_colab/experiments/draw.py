"""Learn to draw one image at test time, by GRPO, by hindsight (HER), or by both: `draw("12-squares", "her")`.

The result is a folder of run folders, one per seed; each has the best drawings as a picture and as a GIF. Every run is
trained by train.run_with, with the learner of its method. sweep.py says which recipes a sweep tries, and makes the
table of the runs; comparison.py compares methods.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.experiments.results import as_json, is_over, method_of
from grpo_colab.experiments.sweep import copied_tables, variants
from grpo_colab.recipe.functions import Reward, given_rewards
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.trust import check_trust_of_all
from grpo_colab.runs.folders import DRAW, check_free, drawn_names, free_path
from grpo_colab.runs.mirror import check_free as check_copies
from grpo_colab.runs.run import Run
from grpo_colab.training.endings import PretrainingStopped, Tripped
from grpo_colab.training.grpo import GRPOLearner
from grpo_colab.training.hindsight import HindsightLearner
from grpo_colab.training.train import run_with
from grpo_colab.utils.console import info
from grpo_colab.utils.device import process_count
from grpo_colab.utils.files import read_json, unwritable_refused, write_json, write_text
from grpo_colab.utils.memory import free_memory
from grpo_colab.utils.stack import check_import_order

DEFAULT_RECIPE = "drawing-tiny"
STOP_SIGNALS = frozenset((signal.SIGINT, signal.SIGTERM))


def draw(
    image: str | None = None,
    method: str | None = None,
    *,
    recipe: str | Path | None = None,
    seeds: int = 1,
    sweep: bool | Mapping[str, Sequence[Any]] = False,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    trust_code: bool = False,
    **overrides: Any,
) -> list[Run]:
    """Learn to draw `image` with every seed, and with `sweep` for every combination of values; return the runs.

    `image` is a value of task.image. `method` is grpo, her or both, and by default the recipe's. `recipe` is a preset
    or a file, by default the preset drawing-tiny, and `overrides` are its tables, as in Recipe.load. `seeds` runs are
    made, from grpo.seed on. `sweep` is True for the recipe's [sweep], or such a table. `out` is the folder for the
    runs, by default a new one in runs/. `resume` is a folder that `draw` made: its runs keep their recipes, and
    finished ones are skipped. Python functions among their rewards are given again, as `rewards=[my_reward]`.
    `trust_code` allows other people's code that a file names to run; the code is then remembered as trusted. Progress
    is printed on stderr. The summaries of all runs are written to draw.json in their folder at the end.

    A SIGINT or SIGTERM stops this run and all later ones; the runs are then returned as they are. A SettingError in one
    run is raised after the others have run. PretrainingStopped is raised at once when a signal ends a pre-training.
    Raises SettingError for what cannot work before anything is loaded or written.
    """
    if resume is not None:
        given = {"TASK": image, "--method": method, "--recipe": recipe, "--seeds": seeds != 1, "--sweep": sweep}
        refuse_with_resume(resume, given | {"--out": out, **without_functions(overrides)})
    recipes: dict[str, Recipe] = {}
    if resume is None:
        tables = recipe_tables(image, method, sweep, overrides)
        recipes = variants(recipe or DEFAULT_RECIPE, tables, seeds, bool(sweep))
    processes = process_count()
    if processes > 1:
        raise SettingError(
            "one image is drawn by one process",
            setting="torchrun --nproc_per_node",
            value=processes,
            remedy="start it without torchrun",
        )
    check_import_order()
    check_trust_of_all(recipes.values(), trust_code)
    if resume is None:
        folder = Path(out) if out else free_folder(recipes)
        runs = new_runs(recipes, folder)
    else:
        runs = drawn_runs(resume)
    functions = given_rewards(overrides.get("rewards", {})).functions
    for run in runs:
        functions_of(run, functions)
    for foreign_code in check_trust_of_all([run.recipe for run in runs], trust_code):
        info(foreign_code)

    first_error = None
    for number, run in enumerate(runs, 1):
        if is_over(run):
            continue
        info(f"{run.path} ({number} of {len(runs)}):")
        error, go_on = train_one(run, trust_code, functions_of(run, functions))
        if "torch" in sys.modules:  # else the run was refused before anything was imported
            free_memory()
        first_error = first_error or error
        if not go_on:
            break
    write_json(runs[0].path.parent / DRAW, as_json(runs))
    if first_error is not None:
        raise first_error
    return runs


def refuse_with_resume(resume: str | Path, given: Mapping[str, Any]) -> None:
    """Raise SettingError for the first of these options that has a value: a resumed run keeps its settings."""
    for name, value in given.items():
        if value:
            raise SettingError(
                "goes on with the settings that it began with",
                setting="--resume",
                value=str(resume),
                remedy=f"leave out {name}",
            )


def without_functions(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the overrides without a list of rewards, which gives resumed runs their functions and changes nothing."""
    if not given_rewards(overrides.get("rewards", {})).are_all:
        return dict(overrides)
    return {table: settings for table, settings in overrides.items() if table != "rewards"}


def recipe_tables(
    image: str | None,
    method: str | None,
    sweep: bool | Mapping[str, Sequence[Any]],
    overrides: Mapping[str, Any],
) -> dict[str, Any]:
    """Return a copy of the recipe's overrides with the image, the method and the sweep among them.

    An image or a method of None adds nothing, and so does a sweep that is no table. Raises SettingError for an image or
    a method that `overrides` has as well, unless both are the same object. Rewards that are no table stay as they are.
    """
    tables = copied_tables(overrides)
    for table, key, value, option in (("task", "image", image, "TASK"), ("hindsight", "method", method, "--method")):
        if value is None:
            continue
        settings = tables.setdefault(table, {})
        if key in settings and settings[key] is not value:
            raise SettingError(
                f"is given by {option}, too",
                setting=f"{table}.{key}",
                value=settings[key],
                remedy="leave one of them out",
            )
        settings[key] = value
    if isinstance(sweep, Mapping):
        tables["sweep"] = dict(sweep)
    return tables


def free_folder(recipes: Mapping[str, Recipe]) -> Path:
    """Return runs/<date>-<recipe>-<image>-<method>, with a number behind it if that folder exists.

    The first recipe decides. Nothing is made. An image of 40 characters or more, which is rows of pixels, becomes
    "image".
    """
    recipe = next(iter(recipes.values()))
    image = re.sub(r"[^\w.-]+", "-", recipe.task.get("image", "image"))
    if len(image) >= 40:  # the rows of an image
        image = "image"
    return free_path(recipe.model_copy(update={"name": f"{recipe.name}-{image}-{method_of(recipe)}"}))


def new_runs(recipes: Mapping[str, Recipe], folder: Path) -> list[Run]:
    """Make a run folder per recipe, and return the runs. `recipes` maps the folders' names to the recipes.

    draw.json, which holds all the recipes, is written first: a resume can make the folders that a kill prevented.
    Raises SettingError for a folder that is in use or cannot be written, and for a mirror that has copies of that name.
    """
    check_free(folder)
    for destination in dict.fromkeys(recipe.budget.mirror for recipe in recipes.values()):
        if destination:
            paths = [folder / name for name, recipe in recipes.items() if recipe.budget.mirror == destination]
            # another --out is no remedy: the copies are named by the seeds alone
            check_copies(destination, paths, "another budget.mirror")
    with unwritable_refused("--out", folder, "choose another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        texts = {name: recipe.to_toml() for name, recipe in recipes.items()}
        write_json(folder / DRAW, {"runs": [*recipes], "recipes": texts})
        return drawn_runs(folder)


def drawn_runs(folder: str | Path) -> list[Run]:
    """Return the runs in a folder that `draw` made, and make the run folders that a kill prevented.

    Raises SettingError for any other folder, for a draw.json that names what cannot be a run folder, and where a recipe
    cannot be written.
    """
    folder = Path(folder)
    found = read_json(folder / DRAW)
    if found is None or not found.get("runs"):
        raise SettingError(
            f"has no {DRAW}, so it is not a folder that `grpo-colab draw` made",
            setting="--resume",
            value=str(folder),
            remedy="name one that it made",
        )
    recipes = found.get("recipes", {})
    names = list(dict.fromkeys(drawn_names(folder)))
    are_texts = isinstance(recipes, dict) and all(isinstance(recipes[name], str) for name in names if name in recipes)
    if not names or not are_texts:
        raise SettingError(
            f"its {DRAW} names runs that are no folders there",
            setting="--resume",
            value=str(folder),
            remedy="draw again with another --out",
        )
    for name in names:
        path = folder / name / "recipe.toml"
        if name not in recipes or path.is_file():
            continue
        try:
            path.parent.mkdir(exist_ok=True)
            write_text(path, recipes[name])
        except OSError as error:
            raise SettingError(
                f"{str(path)!r} cannot be written ({error.strerror})",
                setting="--resume",
                value=str(folder),
                remedy="make space, or move what is there",
            ) from None
    return [Run(folder / name) for name in names]


def functions_of(run: Run, functions: Mapping[str, Reward]) -> list[Reward]:
    """Return those of the given functions that are rewards of the run. Raises SettingError where one is missing."""
    recipe = run.recipe
    own = [function for name, function in functions.items() if name in recipe.rewards]
    recipe.with_functions(own).need_functions(f"draw(resume={str(run.path.parent)!r}, ")
    return own


def train_one(run: Run, trust_code: bool = False, functions: Sequence[Reward] = ()) -> tuple[SettingError | None, bool]:
    """Train one run from where it is. Returns its error, if it had one, and whether the next run may start.

    `functions` are those of its rewards that its recipe's file could not keep.

    A SettingError is printed on stderr and returned, not raised. A tripwire is printed and is no error. The next run
    may not start after a signal, nor where this run stopped without an end or an error. Raises PretrainingStopped when
    a signal ended a pre-training, and every exception that is no SettingError.
    """
    error_of_run = None
    with stop_signals_watched() as stop_arrived:
        try:
            if method_of(run.recipe) == "grpo":
                run_with(GRPOLearner(), rewards=functions, resume=run.path, trust_code=trust_code)
            else:
                run_with(HindsightLearner(), rewards=functions, resume=run.path, trust_code=trust_code)
        except PretrainingStopped:
            raise
        except Tripped as error:  # a learning rate that is too high, say: the next one of a sweep may do
            text = str(error).replace(run.resume_command, f"{run.resume_command_alone} --TABLE.SETTING VALUE")
            info(f"{run.path}: {text}. It counts as not solved.")
        except SettingError as error:
            info(f"{run.path}: {error}")
            # the frames of the traceback hold the model, whose memory the next run needs
            error.__cause__ = error.__context__ = None
            error_of_run = error.with_traceback(None)
        if stop_arrived():
            return error_of_run, False
        # a run that is neither over nor broken was stopped in another way, such as by its hours
        return error_of_run, error_of_run is not None or is_over(run)


@contextlib.contextmanager
def stop_signals_watched() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether a SIGINT or SIGTERM has arrived, whichever handler took it.

    A run that is nearly done when a signal arrives finishes without reporting it, so the run cannot be asked. Python
    writes the number of every signal to the wakeup file descriptor, here a pipe. Each call empties the pipe, so it
    tells of the signals since the last call. Outside of the main thread it always tells False. The earlier file
    descriptor is restored at the end.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    # Python allows a wakeup file descriptor in the main thread only
    in_main_thread = threading.current_thread() is threading.main_thread()
    previous = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False) if in_main_thread else -1

    def stop_arrived() -> bool:
        os.write(write_end, b"\0")  # a read from an empty pipe would wait
        arrived = os.read(read_end, 65536)
        return not STOP_SIGNALS.isdisjoint(arrived)

    try:
        yield stop_arrived
    finally:
        if in_main_thread:
            signal.set_wakeup_fd(previous)
        os.close(read_end)
        os.close(write_end)
