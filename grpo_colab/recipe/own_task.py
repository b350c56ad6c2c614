"""Check and complete a recipe by a task that is not this package's, once its code may run.

Reading a recipe imports nothing, so the settings of a class of one's own are known only afterwards: their names and
types, and the rewards that it has by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.errors import PydanticUserError

from grpo_colab.errors import SettingError
from grpo_colab.recipe.reading import renamed
from grpo_colab.recipe.schema import Prompts, Text, typed
from grpo_colab.recipe.task_table import checked_options
from grpo_colab.recipe.validation import checked_weights, rewards_of_task
from grpo_colab.tasks import options_of
from grpo_colab.tasks.names import parse_task
from grpo_colab.tasks.own_tasks import own_class, own_rewards


def completed_tables(
    task: Mapping[str, Any], rewards: Mapping[str, float], written: Mapping[str, Any] | None, seed: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """Import the task's class, and return the tables [task] and [rewards], checked and completed by it.

    `written` is [rewards] as the recipe has it, where the class's own rewards come first; None where `rewards` is all.
    `seed` is the default seed of a class that has this setting. Raises SettingError for a class that
    cannot be had, for a setting that it does not have, and for a value of another type.
    """
    name = parse_task(task["name"])
    cls = own_class(name)
    common = {key: value for key, value in task.items() if key in Prompts.model_fields}
    own = {key: value for key, value in task.items() if key not in common}
    options = options_of(cls)
    if "seed" in options:
        own.setdefault("seed", seed)
    values = {
        key: _as_meant(options[key], value, f"task.{key}") if key in options else value for key, value in own.items()
    }
    checked = common | checked_options(name.text, dict.fromkeys(options, Any), values)
    if written is None:
        return checked, dict(rewards)
    defaults = renamed("rewards", own_rewards(name, checked))
    return checked, checked_weights(rewards_of_task({**defaults, **written}, name.text))


def _as_meant(kind: Any, value: Any, setting: str) -> Any:
    """Return the value of a setting in its type, which was not known when the recipe was read.

    A text from a command line may be a number, such as 1e-5. A type that pydantic cannot check takes any value. Raises
    SettingError for a value of another type.
    """
    try:
        return typed(kind, value, setting)
    except PydanticUserError:
        return value
    except SettingError:
        if not isinstance(value, str):
            raise
    return typed(kind, Text(value), setting)
