"""`draw("12-squares", "her")`: one image is learnt at test time, by GRPO, by hindsight (HER), or by both.

A folder of run folders comes out, one per seed; each has the best drawings as a picture and as a GIF. Every run is
lived through by train.run_with, with the learner that its method names. What there is to try, and how several runs
compare, is in sweep.py.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.experiments.sweep import as_json, ended, method_of, variants
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.trust import all_trusted
from grpo_colab.runs.mirror import check_free as check_copies
from grpo_colab.runs.run import DRAW, Run, check_free, drawn_names, free_path
from grpo_colab.training.grpo import GRPOLearner
from grpo_colab.training.hindsight import HindsightLearner
from grpo_colab.training.pretraining import PretrainingStopped
from grpo_colab.training.train import run_with
from grpo_colab.utils.console import info
from grpo_colab.utils.device import this_machine
from grpo_colab.utils.files import read_json, write_json, write_text
from grpo_colab.utils.memory import free_memory
from grpo_colab.utils.stack import check_import_order, import_unsloth

DEFAULT_RECIPE = "drawing-tiny"
STOPPING = frozenset((signal.SIGINT, signal.SIGTERM))


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
    **overrides: Mapping[str, Any],
) -> list[Run]:
    """Learn to draw `image` once per seed, with `sweep` per combination of the recipe's [sweep]; return the runs.

    `image` is what task.image takes, `method` one of grpo, her and both (the recipe's for None), `recipe` a preset or a
    file, and `overrides` its tables, as in Recipe.load; a mapping as `sweep` is such a table. The seeds are grpo.seed
    and those after it. `out` chooses the folder of the runs. `resume` goes on with one, whose runs keep their recipes,
    and skips what is finished. `trust_code` lets run what a file names of others' code.

    A signal ends all, so that the last of the runs may be unfinished. An error ends one of them, and is raised after
    the others. Raises SettingError for what cannot work, before anything is loaded or written.
    """
    given = {"TASK": image, "--method": method, "--recipe": recipe, "--seeds": seeds != 1, "--sweep": sweep}
    for name, value in (given | {"--out": out, **overrides}).items():
        if resume is not None and value:
            raise SettingError(
                "goes on with the settings that it began with",
                setting="--resume",
                value=str(resume),
                remedy=f"leave out {name}",
            )
    recipes: dict[str, Recipe] = {}
    if resume is None:
        tables = recipe_tables(image, method, sweep, overrides)
        recipes = variants(recipe or DEFAULT_RECIPE, tables, seeds, bool(sweep))
    processes = this_machine().processes
    if processes > 1:
        raise SettingError(
            "one image is drawn by one process",
            setting="torchrun --nproc_per_node",
            value=processes,
            remedy="start it without torchrun",
        )
    check_import_order()
    all_trusted(recipes.values(), trust_code)
    runs = drawn_runs(resume) if resume is not None else new_runs(recipes, Path(out) if out else free_folder(recipes))
    for running in all_trusted([run.recipe for run in runs], trust_code):
        info(running)

    failed = None
    for n, run in enumerate(runs, 1):
        if ended(run):
            continue
        import_unsloth()
        info(f"{run.path} ({n} of {len(runs)}):")
        error, go_on = draw_once(run, trust_code)
        free_memory()
        failed = failed or error
        if not go_on:
            break
    write_json(runs[0].path.parent / DRAW, as_json(runs))
    if failed is not None:
        raise failed
    return runs


def recipe_tables(
    image: str | None,
    method: str | None,
    sweep: bool | Mapping[str, Sequence[Any]],
    overrides: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Return the overrides of the recipe, with the image, the method and the sweep. Refuses what is given twice."""
    tables = {table: dict(settings) for table, settings in overrides.items()}
    for table, key, value, word in (("task", "image", image, "TASK"), ("hindsight", "method", method, "--method")):
        if value is None:
            continue
        settings = tables.setdefault(table, {})
        if key in settings and settings[key] is not value:
            raise SettingError(
                f"is given by {word}, too",
                setting=f"{table}.{key}",
                value=settings[key],
                remedy="leave one of them out",
            )
        settings[key] = value
    if isinstance(sweep, Mapping):
        tables["sweep"] = dict(sweep)
    return tables


def free_folder(recipes: Mapping[str, Recipe]) -> Path:
    """Return runs/<date>-<recipe>-<image>-<method>, with a number if there is one already."""
    recipe = next(iter(recipes.values()))
    image = re.sub(r"[^\w.-]+", "-", recipe.task.get("image", "image"))
    name = f"{recipe.name}-{image if len(image) < 40 else 'image'}-{method_of(recipe)}"
    return free_path(recipe.model_copy(update={"name": name}))


def new_runs(recipes: Mapping[str, Recipe], folder: Path) -> list[Run]:
    """Make a run folder for each recipe. First comes draw.json, from which a resume can make all of them."""
    check_free(folder)
    for destination in dict.fromkeys(recipe.budget.mirror for recipe in recipes.values()):
        if destination:
            paths = [folder / name for name, recipe in recipes.items() if recipe.budget.mirror == destination]
            check_copies(destination, paths, "another budget.mirror")  # the names are of the seeds
    try:
        folder.mkdir(parents=True, exist_ok=True)
        texts = {name: recipe.to_toml() for name, recipe in recipes.items()}
        write_json(folder / DRAW, {"runs": [*recipes], "recipes": texts})
        return drawn_runs(folder)
    except OSError as error:
        raise SettingError(
            f"cannot be written to ({error.strerror})",
            setting="--out",
            value=str(folder),
            remedy="choose another folder",
        ) from None


def drawn_runs(folder: str | Path) -> list[Run]:
    """Return the runs in a folder that `draw` made, and make those that a kill came before."""
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


def draw_once(run: Run, trust_code: bool = False) -> tuple[SettingError | None, bool]:
    """Live through one run from where it is; return what went wrong, and whether to go on with the next one."""
    from grpo_colab.training.tripwires import Tripped  # needs transformers, which unsloth must precede

    failed = None
    with signals_heard() as heard:
        try:
            if method_of(run.recipe) == "grpo":
                run_with(GRPOLearner(), resume=run.path, trust_code=trust_code)
            else:
                run_with(HindsightLearner(), resume=run.path, trust_code=trust_code)
        except PretrainingStopped:
            raise
        except Tripped as error:  # by a learning rate that is too high, say: the next of a sweep may do
            text = str(error).replace(run.resume_command, f"{run.resume_command_alone} --TABLE.SETTING VALUE")
            info(f"{run.path}: {text}. It counts as not solved.")
        except SettingError as error:
            info(f"{run.path}: {error}")
            error.__cause__ = error.__context__ = None  # their frames hold the model
            failed = error.with_traceback(None)
        return failed, not heard() and (failed is not None or ended(run))


@contextlib.contextmanager
def signals_heard() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether a SIGINT or SIGTERM came, whoever handled it.

    A run that is nearly done when a signal comes finishes, and does not tell of it.
    """
    read, write = os.pipe()
    os.set_blocking(write, False)
    main = threading.current_thread() is threading.main_thread()  # it alone gets signals
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False) if main else -1
    try:
        # a byte of ours is written first, since a read from an empty pipe would wait
        yield lambda: os.write(write, b"\0") == 1 and not STOPPING.isdisjoint(os.read(read, 65536))
    finally:
        if main:
            signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)
