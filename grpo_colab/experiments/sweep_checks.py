"""Make the runs of a sweep, and check each as its run would before its first step. Nothing is written or trained."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.experiments.results import method_of
from grpo_colab.experiments.values import settings_tried
from grpo_colab.experiments.variants import (
    Variant,
    check_hindsight_alone,
    need_seeds,
    need_weights,
    recipes_of,
    settings_to_try,
    told,
    with_settings,
)
from grpo_colab.plan import CannotEstimate, plan, plan_batch
from grpo_colab.plan.model_shape import must_be_built
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.training.checks import check_arguments, check_fits
from grpo_colab.training.grpo import GRPOLearner
from grpo_colab.training.hindsight import HindsightLearner
from grpo_colab.training.phases import Phases
from grpo_colab.training.preparation import show_import
from grpo_colab.utils import console
from grpo_colab.utils.device import current_device
from grpo_colab.utils.library_output import library_lines_once

MOST_RUNS: Final = 1000


def sweep_variants(source: str | Path, overrides: Mapping[str, Any], seeds: int) -> dict[str, Variant]:
    """Return the runs of a new sweep by the names of their folders: every seed of every combination of values.

    Settings that make no difference to a drawing's method are left out. Raises SettingError for a sweep of nothing, for
    one of more than MOST_RUNS runs, and for a recipe that cannot work.
    """
    need_seeds(seeds)
    tables, tried, by_user = settings_tried(source, overrides)
    need_weights(tables, tried)
    first = {setting: values[0] for setting, values in tried.items()}
    base = Recipe.load(source, **with_settings(tables, first))
    if base.task["name"] == "drawing" and tried:
        kept = settings_to_try(base.model_copy(update={"sweep": tried}))
        tried = {setting: values for setting, values in tried.items() if setting in kept}
    count = seeds * math.prod(map(len, tried.values()))
    if count == 1 and not tried:
        raise SettingError(
            "there is one run, and nothing to compare",
            setting="sweep",
            remedy="write several values of a setting, such as --grpo.learning-rate 1e-5,2e-5, or --seeds 3",
        )
    if count > MOST_RUNS:
        remedy = f"write fewer values, for {MOST_RUNS:,} runs at most"
        raise SettingError("would be too many runs", setting="sweep", value=count, remedy=remedy)
    # whose values are the user's own, so that the user is trusted with the code that they name
    named = {setting: tried[setting] for setting in tried if setting in by_user}
    found = recipes_of(source, {**tables, "sweep": named}, tried, seeds, base)
    alone = {name: one._replace(recipe=one.recipe.model_copy(update={"sweep": None})) for name, one in found.items()}
    for one in alone.values():
        check_hindsight_alone(one.recipe)
    return alone


def check_each(variants: Mapping[str, Variant], by: str) -> None:
    """Check the data, the rewards and the step of every combination, as its run would before its first step.

    Recipes that differ in nothing that their problems depend on, but a seed, read them once. Nothing is printed but
    warnings. Raises SettingError for what cannot work, with the combination as its place.
    """
    seen: list[dict[str, Any]] = []
    for one in _combinations(variants).values():
        recipe = one.recipe
        with _of_combination(one.settings):
            if by == "probe" and not 0 < recipe.evaluation.every <= recipe.budget.max_steps:
                remedy = "write --evaluation.every N, such as 10"
                raise SettingError("asks no probe in these steps", setting="--by", value="probe", remedy=remedy)
            plan_batch(recipe, 1)
            # all that the problems and their checks depend on
            tables = recipe.public(include={"task", "rewards", "sampling", "evaluation", "hindsight"})
            tables["task"].pop("seed", None)
            if tables in seen:
                continue
            seen.append(tables)
            learner = GRPOLearner() if method_of(recipe) == "grpo" else HindsightLearner()
            with _quiet():
                problems = learner.check(recipe.completed_by_task())
            if by == "probe" and any(problem in problems.held_out for problem in problems.probe):
                raise SettingError(
                    "its problems are among those of the accuracy, since the split has no others",
                    setting="--by",
                    value="probe",
                    remedy="write a smaller evaluation.n",
                )


def hours_of(one: Variant) -> float | None:
    """Return the hours that a plan estimates for a run, None where there is no plan.

    There is none for hindsight, and for a model that transformers would have to build before Unsloth is imported.
    Raises SettingError, with the combination as its place, for a run that cannot fit.
    """
    recipe = one.recipe
    if method_of(recipe) != "grpo":
        return None
    with _of_combination(one.settings), contextlib.suppress(CannotEstimate):
        if "unsloth" not in sys.modules and must_be_built(recipe):
            return None
        planned = plan(recipe)
        check_fits(planned, recipe)
        return planned.hours
    return None


def check_with_libraries(variants: Mapping[str, Variant]) -> None:
    """Import the training stack, and let TRL and transformers check the settings of every combination.

    Raises SettingError for what they refuse, with the combination as its place.
    """
    show_import(Phases())
    device = current_device()
    for one in _combinations(variants).values():
        if method_of(one.recipe) == "grpo":
            with _of_combination(one.settings), library_lines_once():
                check_arguments(one.recipe, device)


def _combinations(variants: Mapping[str, Variant]) -> dict[str, Variant]:
    """Return the first run of every combination, by the combination's text."""
    found: dict[str, Variant] = {}
    for one in variants.values():
        found.setdefault(told(one.settings), one)
    return found


@contextlib.contextmanager
def _of_combination(settings: Mapping[str, Any]) -> Iterator[None]:
    """Give a SettingError of the block that is about none of these settings the combination as its place."""
    try:
        yield
    except SettingError as error:
        if not settings or error.setting in settings:
            raise
        raise error.at(told(settings)) from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Print warnings alone in the block: each run says the rest itself."""
    before = console.verbosity()
    console.set_verbosity(console.Verbosity.QUIET)
    try:
        yield
    finally:
        console.set_verbosity(before)
