"""Make the recipes of several runs of one image.

There is a run for every seed, and with a sweep for every combination of the values in the recipe's [sweep]. draw.py
trains them, and results.py sums them up.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.experiments.results import method_of
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.schema import Sampling
from grpo_colab.training.tracking import tracker_names
from grpo_colab.utils.console import info
from grpo_colab.utils.files import LONGEST_NAME

# Settings that make no difference to a method, so that a sweep skips them. The seeds come from --seeds.
SETTINGS_WITHOUT_EFFECT = {
    "grpo": r"hindsight\.(?!method$)|grpo\.seed$",
    "her": r"tripwires\.|sampling\.|hindsight\.(near|goal_weight)$|grpo\.(?!max_completion_length$)",
    "both": r"tripwires\.|sampling\.|grpo\.(?!max_completion_length$)",
}


def copied_tables(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of overrides, each copied, so that it may be changed. A list of rewards stays as it is."""
    return {name: dict(table) if isinstance(table, Mapping) else table for name, table in tables.items()}


def variants(source: str | Path, tables: Mapping[str, Any], seeds: int, sweep: bool) -> dict[str, Recipe]:
    """Return the recipes to train, checked, by the names of their run folders.

    There is one per seed, from grpo.seed on, and with `sweep` one per seed of every combination of the values in
    [sweep]. `source` is a preset or a file, and `tables` are its overrides. Settings without an effect on the method
    are skipped, and printed on stderr. Nothing is written. Raises SettingError for `seeds` below 1, for random images,
    for a recipe that draws nothing, for a missing [sweep], for two values of it that would have one run folder, and for
    any recipe that cannot work.
    """
    if seeds < 1:
        raise SettingError("must be positive", setting="--seeds", value=seeds, remedy="write 1 or more")
    base = Recipe.load(source, **tables)
    if base.task["name"] != "drawing":
        remedy = 'take one with task.name = "drawing", such as drawing-tiny'
        raise SettingError("draws nothing", setting="--recipe", value=str(source), remedy=remedy)
    if base.task.get("image") == "random":
        raise SettingError(
            "is for training on many images",
            setting="task.image",
            value="random",
            remedy="write one image, such as '12-squares'",
        )
    if sweep and not base.sweep:
        raise SettingError(
            f"recipe {str(source)!r} has no [sweep]",
            setting="--sweep",
            remedy="write that table, with settings and the values to try",
        )
    tried = settings_to_try(base) if sweep else {}
    if not isinstance(tables.get("rewards", {}), Mapping) and any(name.startswith("rewards.") for name in tried):
        problem, remedy = "is a list, and [sweep] changes the weight of one", "write {my_reward: 1.0, ...}"
        raise SettingError(problem, setting="[rewards]", remedy=remedy)
    # Whoever named a setting is trusted with the code that it names: the user for overrides and a [sweep] among them,
    # the file for its own [sweep].
    by_user = copied_tables(tables)
    for swept in tables.get("sweep", {}):
        table, _, key = swept.partition(".")
        by_user.setdefault(table, {})[key] = None

    recipes = {}
    for values in itertools.product(*tried.values()):
        chosen = copied_tables(tables)
        label = ""
        for setting, value in zip(tried, values, strict=True):
            table, key = setting.split(".", 1)
            chosen.setdefault(table, {})[key] = value
            label += f"{setting.rpartition('.')[2]}={value}-"
        for seed in range(base.grpo["seed"], base.grpo["seed"] + seeds):
            chosen["grpo"] = {**chosen.get("grpo", {}), "seed": seed}
            recipe = Recipe.load(source, **chosen).with_user_overrides(by_user)
            name = folder_name(f"{label}seed={seed}")
            if name in recipes:
                raise SettingError(
                    f"two of its values would share the run folder {name}",
                    setting="--sweep",
                    remedy="write values that differ in their letters or digits",
                )
            recipes[name] = recipe
            check_hindsight_alone(recipe)
    return recipes


def check_hindsight_alone(recipe: Recipe) -> None:
    """Raise SettingError for a recipe that learns by hindsight, wholly or in part, and has settings of GRPO's alone.

    These are a tracker, a probe, and [sampling].
    """
    if method_of(recipe) == "grpo":
        return
    named = tracker_names(recipe.grpo)
    if named:
        raise SettingError(
            "hindsight reports to no tracker",
            setting="grpo.report_to",
            value=named,
            remedy='write "none", or --method grpo',
        )
    asked_for = {
        "[sampling]": recipe.sampling != Sampling.model_validate({}),
        "evaluation.every": recipe.evaluation.every > 0,
    }
    for setting, is_asked in asked_for.items():
        if is_asked:
            problem = "is for GRPO, and hindsight has no such thing"
            raise SettingError(problem, setting=setting, remedy="take it out, or write --method grpo")


def settings_to_try(recipe: Recipe) -> dict[str, list[Any]]:
    """Return the settings of [sweep] that make a difference to at least one method, with their values.

    The methods are the values of hindsight.method in [sweep], or else the recipe's one. Prints on stderr which settings
    are left out. Without a [sweep] the dict is empty. Raises SettingError when [sweep] has settings and none remains.
    """
    swept = recipe.sweep or {}
    methods = swept.get("hindsight.method", [method_of(recipe)])
    tried = {}
    for setting, values in swept.items():
        for method in methods:
            without_effect = SETTINGS_WITHOUT_EFFECT.get(str(method), "$")
            if not re.match(without_effect, setting):
                tried[setting] = values
    left_out = ", ".join(setting for setting in swept if setting not in tried)
    if swept and not tried:
        raise SettingError(
            f"nothing in it makes a difference to method {method_of(recipe)!r}: {left_out}",
            setting="--sweep",
            remedy="write a setting that does, such as hindsight.samples for her and both, grpo.learning_rate for grpo",
        )
    if left_out:
        info(f"--sweep: without {left_out}, which makes no difference to method {method_of(recipe)!r}")
    return tried


def folder_name(label: str) -> str:
    """Return the run folder's name for a label, with dashes for all but letters, digits and _ . = -.

    Raises SettingError if it is too long for a file system.
    """
    name = re.sub(r"[^\w.=-]+", "-", label)
    if len(name.encode()) > LONGEST_NAME:
        raise SettingError(
            f"the run folder {name[:60]}... would have a name of over {LONGEST_NAME} bytes",
            setting="--sweep",
            remedy="write shorter values",
        )
    return name
