"""List the settings that a recipe's tables may have, for suggestions and for the completion of a shell."""

from __future__ import annotations

from collections.abc import Mapping

from grpo_colab.recipe import library_signatures
from grpo_colab.recipe.reading import OPTIONAL_TABLES, PASSED_THROUGH, TABLES
from grpo_colab.recipe.schema import (
    DERIVED,
    RENAMED,
    Budget,
    Evaluation,
    Hindsight,
    Pretraining,
    Prompts,
    Sampling,
    Table,
    Tripwires,
)
from grpo_colab.rewards.resolve import SHORT_NAMES
from grpo_colab.tasks import TASKS, task_options

OWN_TABLES: Mapping[str, type[Table]] = {
    "budget": Budget,
    "sampling": Sampling,
    "tripwires": Tripwires,
    "evaluation": Evaluation,
    "hindsight": Hindsight,
    "pretraining": Pretraining,
}


def known_settings(table: str) -> list[str]:
    """Return the names of the settings that the table of a recipe may have, without the table's name.

    Those of [task] are the settings of every task. Those of [rewards] are this package's rewards. The list is empty for
    [sweep], and for a library's table where the library is not installed. No library is imported.
    """
    if table in OWN_TABLES:
        return list(OWN_TABLES[table].model_fields)
    if table == "rewards":
        return list(SHORT_NAMES)
    if table == "task":
        options = [key for task in TASKS for key in task_options(task)]
        return list(dict.fromkeys([*Prompts.model_fields, *options]))
    if table in PASSED_THROUGH:
        accepted = library_signatures.accepted_arguments(table) or {}
        return [key for key in accepted if f"{table}.{key}" not in (*DERIVED, *RENAMED)]
    return []


def options_for(setting: str) -> list[str]:
    """Return the options of a command that set `setting` in some table, such as `--grpo.learning-rate`.

    `setting` is a name without its table; dashes in it count as underscores. For a name of older releases it is the
    option of today. The tables of drawings come last. The list is empty for a name that is no setting.
    """
    key = setting.replace("-", "_")
    found = []
    for table in (*TABLES, *OPTIONAL_TABLES):
        today = RENAMED.get(f"{table}.{key}")
        if today:
            found.append(option(*today.split(".", 1)))
        elif key in known_settings(table):
            found.append(option(table, key))
    return list(dict.fromkeys(found))


def option(table: str, key: str) -> str:
    """Return a setting as the option of a command. In [rewards] an underscore stays one."""
    return f"--{table}.{key if table == 'rewards' else key.replace('_', '-')}"
