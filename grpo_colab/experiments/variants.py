"""Make the recipes of several runs: one for every seed of every combination of values, by the names of their folders.

`recipes_of` is for any recipe. `variants` is for `draw`: what it checks, and which settings of [sweep] a method reads.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

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
FOLLOWERS: Final = (("task", "seed"), ("lora", "random_state"))  # seeds that are grpo.seed where nobody wrote another
AS_IT_IS: Final = "the recipe as it is"  # the one combination of several seeds alone


class Variant(NamedTuple):
    """One run of several: its recipe, the values of the settings that are tried, and its seed."""

    recipe: Recipe
    settings: Mapping[str, Any]
    seed: int


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
    need_seeds(seeds)
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
    found = recipes_of(source, tables, tried, seeds, base)
    for one in found.values():
        check_hindsight_alone(one.recipe)
    return {name: one.recipe for name, one in found.items()}


def need_seeds(seeds: int) -> None:
    """Raise SettingError for a number of seeds below 1."""
    if seeds < 1:
        raise SettingError("must be positive", setting="--seeds", value=seeds, remedy="write 1 or more")


def need_weights(tables: Mapping[str, Any], tried: Iterable[str]) -> None:
    """Raise SettingError for rewards that are a list where the weight of one is among the settings to try."""
    if not isinstance(tables.get("rewards", {}), Mapping) and any(name.startswith("rewards.") for name in tried):
        problem, remedy = "is a list, and [sweep] changes the weight of one", "write {my_reward: 1.0, ...}"
        raise SettingError(problem, setting="[rewards]", remedy=remedy)


def recipes_of(
    source: str | Path, tables: Mapping[str, Any], tried: Mapping[str, Sequence[Any]], seeds: int, base: Recipe
) -> dict[str, Variant]:
    """Return a variant per seed of every combination of the values in `tried`, by the names of their run folders.

    `source` is a preset or a file, `tables` are its overrides, and `tried` maps dotted settings to their values. The
    seeds begin with grpo.seed of `base`, the recipe without `tried`. task.seed and lora.random_state follow it where
    `base` has the same number there. Nothing is written. Raises SettingError for two values that would have one run
    folder, for rewards that are a list where the weight of one is tried, and for any recipe that cannot work.
    """
    need_weights(tables, tried)
    # Whoever named a setting is trusted with the code that it names: the user for overrides and a [sweep] among them,
    # the file for its own [sweep].
    by_user = copied_tables(tables)
    for swept in tables.get("sweep", {}):
        table, _, key = swept.partition(".")
        by_user.setdefault(table, {})[key] = None

    first_seed = base.grpo["seed"]
    following = [(table, key) for table, key in FOLLOWERS if getattr(base, table).get(key) == first_seed]
    names = short_names(tried)
    found: dict[str, Variant] = {}
    for values in itertools.product(*tried.values()):
        settings = dict(zip(tried, values, strict=True))
        chosen = with_settings(tables, settings)
        label = "".join(f"{names[setting]}={value}-" for setting, value in settings.items())
        for seed in range(first_seed, first_seed + seeds):
            chosen["grpo"] = {**chosen.get("grpo", {}), "seed": seed}
            for table, key in following:
                if f"{table}.{key}" not in tried:
                    chosen[table] = {**chosen.get(table, {}), key: seed}
            recipe = _loaded(source, chosen, settings).with_user_overrides(by_user)
            name = folder_name(f"{label}seed={seed}")
            if name in found:
                raise SettingError(
                    f"two of its values would share the run folder {name}",
                    setting="--sweep",
                    remedy="write values that differ in their letters or digits",
                )
            found[name] = Variant(recipe, settings, seed)
    return found


def with_settings(tables: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the tables of overrides in which these dotted settings have these values."""
    chosen = copied_tables(tables)
    for setting, value in settings.items():
        table, key = setting.split(".", 1)
        chosen.setdefault(table, {})[key] = value
    return chosen


def short_names(settings: Iterable[str]) -> dict[str, str]:
    """Return each dotted setting's name without its table; with the table where two would have the same name."""
    last = {setting: setting.rpartition(".")[2] for setting in settings}
    return {name: short if [*last.values()].count(short) == 1 else name for name, short in last.items()}


def _loaded(source: str | Path, chosen: Mapping[str, Any], settings: Mapping[str, Any]) -> Recipe:
    """Return the recipe of one combination. An error that is about another setting names the combination, too."""
    try:
        return Recipe.load(source, **chosen)
    except SettingError as error:
        if not settings or error.setting in settings:
            raise
        raise error.at(told(settings)) from None


def told(settings: Mapping[str, Any]) -> str:
    """Return the values of a combination as a person reads them: `learning_rate = 1e-05, num_generations = 4`."""
    names = short_names(settings)
    return ", ".join(f"{names[setting]} = {value_text(value)}" for setting, value in settings.items())


def value_text(value: Any) -> str:
    """Return a setting's value in a table: booleans as in TOML, all others as Python prints them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


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
