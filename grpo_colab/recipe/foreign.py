"""Find the functions that a recipe's [rewards] name, and the settings that run code from outside this package."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError
from grpo_colab.recipe.reading import PASSED_THROUGH
from grpo_colab.recipe.settings_search import brings_code
from grpo_colab.recipe.validation import checked_reward, of_reward
from grpo_colab.rewards import check_signature, resolve_reward
from grpo_colab.rewards.graders.own import OwnGrader
from grpo_colab.rewards.names import parse_reward
from grpo_colab.rewards.parametrised import settings_of
from grpo_colab.tasks.names import parse_task

if TYPE_CHECKING:
    from grpo_colab.recipe.recipe import Recipe


def foreign_settings(recipe: Recipe) -> list[str]:
    """Return the dotted names of the settings that make a run execute code from outside this package.

    These are tasks, graders and rewards of others, and settings such as trust_remote_code. A function that Python
    code gives is none: whoever gives it is there. Nothing is imported.
    """
    settings = ["task.name"] if parse_task(recipe.task["name"]).runs_code else []
    if recipe.task.get("grader"):
        settings.append("task.grader")
    for name in recipe.rewards:
        if parse_reward(name).runs_code:
            settings.append(f"rewards.{name}")
    for table in PASSED_THROUGH:
        settings += [f"{table}.{key}" for key, value in getattr(recipe, table).items() if brings_code(key, value)]
    return settings


def named_function(name: str, grading: Mapping[str, Any]) -> Callable[..., Any]:
    """Import a reward and return its function, which runs the file or module that it names; see `resolve_reward`.

    Raises SettingError, which names the reward's setting in [rewards], for one that cannot be imported.
    """
    try:
        return resolve_reward(name, grading)
    except SettingError as error:
        raise of_reward(name, error) from None


def check_unimported(
    rewards: Iterable[str],
    functions: Mapping[str, Callable[..., Any]],
    grader: str | None,
    columns: Collection[str] | None,
) -> None:
    """Raise SettingError for a reward or the task's own grader that surely cannot be called with these columns.

    `functions` are those that Python code gave. Nothing of others is imported: what a file defines is looked at as
    source text. Columns that are None are not known yet.
    """
    for name in rewards:
        if name in functions:
            check_function(name, functions[name], columns)
        else:
            checked_reward(name, columns)
    if grader:
        OwnGrader(function=grader).check_source(columns)


def check_function(name: str, function: Callable[..., Any], columns: Collection[str] | None) -> None:
    """Raise SettingError, which names the reward's setting, unless TRL can call its function; see `check_signature`.

    Columns that are None are not known yet, and nothing is checked.
    """
    if columns is None:
        return
    try:
        check_signature(function, columns)
    except SettingError as error:
        raise of_reward(name, error) from None


def check_grader(name: str, function: Callable[..., Any], columns: Collection[str]) -> None:
    """Raise SettingError for a reward whose grader is a function of the user's that these columns do not suit.

    That function is imported.
    """
    for setting in settings_of(function):
        if isinstance(setting, OwnGrader):
            try:
                setting.check(columns)
            except SettingError as error:
                raise of_reward(name, error) from None
