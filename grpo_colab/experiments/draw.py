"""Learn to draw one image at test time, by GRPO, by hindsight (HER), or by both: `draw("12-squares", "her")`.

The result is a folder of run folders, one per seed; each has the best drawings as a picture and as a GIF. series.py
trains them, one after the other. variants.py says which recipes a sweep tries, and results.py makes the table of the
runs; comparison.py compares methods.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.experiments.results import as_json, method_of
from grpo_colab.experiments.series import (
    functions_of,
    made_runs,
    need_one_process,
    new_runs,
    refuse_with_resume,
    train_all,
    without_functions,
)
from grpo_colab.experiments.variants import copied_tables, variants
from grpo_colab.recipe.functions import given_rewards
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.trust import check_trust_of_all
from grpo_colab.runs.folders import DRAW, free_path
from grpo_colab.runs.run import Run
from grpo_colab.utils.console import info
from grpo_colab.utils.files import write_json
from grpo_colab.utils.stack import check_import_order

DEFAULT_RECIPE = "drawing-tiny"


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
    need_one_process("one image is drawn by one process")
    check_import_order()
    check_trust_of_all(recipes.values(), trust_code)
    if resume is None:
        folder = Path(out) if out else free_folder(recipes)
        runs = new_runs(recipes, folder, DRAW)
    else:
        runs = made_runs(resume, DRAW)
    functions = given_rewards(overrides.get("rewards", {})).functions
    for run in runs:
        functions_of(run, functions)
    for foreign_code in check_trust_of_all([run.recipe for run in runs], trust_code):
        info(foreign_code)

    first_error = train_all(runs, trust_code, functions)
    write_json(runs[0].path.parent / DRAW, as_json(runs))
    if first_error is not None:
        raise first_error
    return runs


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
