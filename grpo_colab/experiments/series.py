"""Train several runs of one folder, one after the other in this process: what `draw` and `sweep` have in common.

A file in the folder, draw.json or sweep.json, lists the runs with their recipes, so that a resume finds them all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.experiments.results import is_over, method_of
from grpo_colab.recipe.functions import Reward, given_rewards
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs.folders import COMMANDS, DRAW, SWEEP, check_free, index_of, listed_names
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

STOP_SIGNALS = frozenset((signal.SIGINT, signal.SIGTERM))
AFTER_TRIPWIRE: Final = {DRAW: "It counts as not solved.", SWEEP: "It is never the best of the sweep."}


def need_one_process(problem: str) -> None:
    """Raise SettingError with this problem where torchrun has started several processes."""
    processes = process_count()
    if processes > 1:
        setting, remedy = "torchrun --nproc_per_node", "start it without torchrun"
        raise SettingError(problem, setting=setting, value=processes, remedy=remedy)


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


def new_runs(
    recipes: Mapping[str, Recipe], folder: Path, index: str, about: Mapping[str, Any] | None = None
) -> list[Run]:
    """Make a run folder per recipe, and return the runs. `recipes` maps the folders' names to the recipes.

    The file `index`, DRAW or SWEEP, is written first. It holds all the recipes, so that a resume can make the folders
    that a kill prevented, and what `about` has. Data files that a recipe keeps are copied into its folder. Raises
    SettingError for a folder that is in use or cannot be written, and for a mirror that has copies of that name.
    """
    check_free(folder)
    for destination in dict.fromkeys(recipe.budget.mirror for recipe in recipes.values()):
        if destination:
            paths = [folder / name for name, recipe in recipes.items() if recipe.budget.mirror == destination]
            # another --out is no remedy: the copies are named by the seeds alone
            check_copies(destination, paths, "another budget.mirror")
    with unwritable_refused("--out", folder, "choose another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, recipe in recipes.items():
            for file, text in recipe.data_files().items():
                (folder / name).mkdir(exist_ok=True)
                write_text(folder / name / file, text)
        texts = {name: recipe.to_toml() for name, recipe in recipes.items()}
        write_json(folder / index, {"runs": [*recipes], "recipes": texts, **(about or {})})
        return made_runs(folder, index)


def made_runs(folder: str | Path, index: str) -> list[Run]:
    """Return the runs in a folder with the file `index`, and make the run folders that a kill prevented.

    Raises SettingError for any other folder, for a list that names what cannot be a run folder, and where a recipe
    cannot be written.
    """
    folder = Path(folder)
    command = COMMANDS[index]
    found = read_json(folder / index)
    if found is None or not found.get("runs"):
        other = index_of(folder)
        made = f"; `grpo-colab {COMMANDS[other]}` made it" if other not in (None, index) else ""
        raise SettingError(
            f"has no {index}, so it is not a folder that `grpo-colab {command}` made{made}",
            setting="--resume",
            value=str(folder),
            remedy="name one that it made",
        )
    recipes = found.get("recipes", {})
    names = list(dict.fromkeys(listed_names(folder)))
    are_texts = isinstance(recipes, dict) and all(isinstance(recipes[name], str) for name in names if name in recipes)
    if not names or not are_texts:
        raise SettingError(
            f"its {index} names runs that are no folders there",
            setting="--resume",
            value=str(folder),
            remedy=f"{command} again with another --out",
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
    command = COMMANDS[index_of(run.path.parent) or DRAW]
    recipe.with_functions(own).need_functions(f"{command}(resume={str(run.path.parent)!r}, ")
    return own


def train_all(
    runs: Sequence[Run],
    trust_code: bool,
    functions: Mapping[str, Reward],
    after_each: Callable[[Run], object] = lambda run: None,
) -> SettingError | None:
    """Train the runs that are not over, one after the other, until a signal or another stop; return the first error.

    An error of one run leaves the others alone, as in `train_one`. `functions` are the rewards that no file could keep,
    and `after_each` is called with each run that was trained.
    """
    first_error = None
    for number, run in enumerate(runs, 1):
        if is_over(run):
            continue
        info(f"{run.path} ({number} of {len(runs)}):")
        error, go_on = train_one(run, trust_code, functions_of(run, functions))
        if "torch" in sys.modules:  # else the run was refused before anything was imported
            free_memory()
        first_error = first_error or error
        after_each(run)
        if not go_on:
            break
    return first_error


def train_one(run: Run, trust_code: bool = False, functions: Sequence[Reward] = ()) -> tuple[SettingError | None, bool]:
    """Train one run from where it is. Returns its error, if it had one, and whether the next run may start.

    `functions` are those of its rewards that its recipe's file could not keep.

    A SettingError is printed on stderr and returned, not raised. A tripwire is printed and is no error. The next run
    may not start after a signal, nor where this run stopped without an end or an error. Raises PretrainingStopped when
    a signal ended a pre-training, and every exception that is no SettingError.
    """
    error_of_run = None
    index = index_of(run.path.parent) or DRAW
    with stop_signals_watched() as stop_arrived:
        try:
            if method_of(run.recipe) == "grpo":
                run_with(
                    GRPOLearner(says_result=index == DRAW), rewards=functions, resume=run.path, trust_code=trust_code
                )
            else:
                run_with(HindsightLearner(), rewards=functions, resume=run.path, trust_code=trust_code)
        except PretrainingStopped:
            raise
        except Tripped as error:  # a learning rate that is too high, say: the next one of a sweep may do
            text = str(error).replace(run.resume_command, f"{run.resume_command_alone} --TABLE.SETTING VALUE")
            info(f"{run.path}: {text}. {AFTER_TRIPWIRE[index]}")
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
