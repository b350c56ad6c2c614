"""Check a recipe's tables before anything is downloaded, imported or run; each refusal names the setting."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, nearest, one_of
from grpo_colab.recipe import library_signatures
from grpo_colab.recipe.reading import DRAWING_TABLES, PASSED_THROUGH, TABLES
from grpo_colab.recipe.schema import (
    Budget,
    Evaluation,
    Hindsight,
    Pretraining,
    Prompts,
    Tripwires,
    keys_in,
    own_table,
    typed,
)
from grpo_colab.rewards.look import look_at_reward
from grpo_colab.rewards.resolve import parse_reward
from grpo_colab.tasks import TASKS, task_options
from grpo_colab.tasks.drawing.images import image_text, load_image
from grpo_colab.text import masked
from grpo_colab.utils.files import expanded, is_folder

NAMES = ("model_name", "revision", "token")  # texts, though a commit may look like a number
# What every recipe says, and what for.
NEEDED = {
    "task.name": f"name a task: {', '.join(TASKS)}",
    "model.model_name": "name the model to train",
    "grpo.num_generations": "write how many completions a group has, 2 or more",
}


def checked_tables(read: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a recipe as it is kept: typed, complete, every path absolute, our own as their classes.

    `read` is what `read_tables` returns. Raises SettingError for the first setting that cannot work.
    """
    # None is how Python says "leave it to the library"; TOML has no word for it
    tables = {table: {key: value for key, value in read[table].items() if value is not None} for table in TABLES}
    for setting, remedy in NEEDED.items():
        table, key = setting.split(".")
        if key not in tables[table]:
            raise SettingError("is missing", setting=setting, remedy=remedy)
    for table in PASSED_THROUGH:
        tables[table] = {key: _passed_through(table, key, value) for key, value in tables[table].items()}
    model, lora, grpo = (tables[table] for table in PASSED_THROUGH)
    task = _checked_task(tables["task"], seed=grpo.setdefault("seed", 42))
    lora.setdefault("random_state", grpo["seed"])
    if is_folder(folder := expanded(model["model_name"])):
        model["model_name"] = str(folder.absolute())
    grpo.setdefault("max_completion_length", 512)  # TRL's own default, made visible
    _check_grpo(grpo)
    _check_lengths(task, model, grpo)
    budget = _checked_budget(tables["budget"], grpo["max_completion_length"])
    return {
        "name": read["name"],
        "description": read["description"],
        "task": task,
        "model": model,
        "lora": lora,
        "grpo": grpo,
        "rewards": _checked_weights(tables["rewards"]),
        "budget": budget,
        "tripwires": own_table(Tripwires, "tripwires", tables["tripwires"]),
        "evaluation": own_table(Evaluation, "evaluation", tables["evaluation"]),
        **_checked_drawing_tables(read, task),
    }


def need_no_keys(written: Mapping[str, Any], rewards: Collection[str]) -> None:
    """Raise SettingError for what opens something in `written` or in a reward's name: a run writes these down."""
    found = [setting.removeprefix(".") for setting, _ in keys_in(written)]
    for name in rewards:
        settings = parse_reward(name).settings or {}
        if masked(name) != name or any(True for _ in keys_in(settings)):
            found.append(f"rewards.{parse_reward(name).text}")
    if found:
        raise SettingError(
            "a key that opens something, and a run writes its recipe down",
            setting=found[0],
            remedy="take it out, and read it from the environment where it is used",
        )


def need_new_metric(name: str, metric: str, metrics: dict[str, str]) -> None:
    """Add a reward to `metrics`, metric's name -> reward; raise SettingError where another one has that name."""
    if metric in metrics:
        raise SettingError(
            f"would be logged as {metric!r}, as {metrics[metric]} is", setting=f"rewards.{name}", remedy="rename one"
        )
    metrics[metric] = name


def checked_reward(name: str, columns: Collection[str] | None = None) -> str | None:
    """Return the name of a reward's metric where that can be told without importing it; see `look_at_reward`."""
    try:
        return look_at_reward(name, columns)
    except SettingError as error:
        raise of_reward(name, error) from None


def of_reward(name: str, error: SettingError) -> SettingError:
    """Return a refusal as one of [rewards]: of the reward, or of the setting in its brackets that it names."""
    setting = f"rewards.{name}"
    return error.at(setting) if error.setting else error.replace(setting=setting)


def _passed_through(table: str, key: str, value: Any) -> Any:
    """Return an argument of a library in its type; raise SettingError for one that the installed release lacks."""
    setting = f"{table}.{key}"
    known = library_signatures.accepted(table)
    if known is None:  # the library is not here, as where a recipe is only looked at
        return typed(Any, value, setting)
    if key not in known:
        problem = f"{library_signatures.OWNERS[table]} has no such argument"
        near = nearest(key, known).removeprefix("; ")
        raise SettingError(problem, setting=setting, value=value, remedy=near or None)
    return typed(str if key in NAMES else known[key], value, setting)


def _check_grpo(grpo: Mapping[str, Any]) -> None:
    """Raise SettingError for values that TRL itself would refuse only in the middle of a run."""
    if grpo["num_generations"] < 2:
        raise SettingError(
            "a group of one has no advantage",
            setting="grpo.num_generations",
            value=grpo["num_generations"],
            remedy="write 2 or more",
        )
    if grpo.get("temperature", 1.0) <= 0:
        raise SettingError(
            "the completions of a group are sampled",
            setting="grpo.temperature",
            value=grpo["temperature"],
            remedy="write a number above 0",
        )
    losses = library_signatures.compared("loss_type")
    if losses and (loss := grpo.get("loss_type", "dapo")) not in losses:
        raise SettingError("no such loss", setting="grpo.loss_type", value=loss, remedy=one_of(loss, losses))


def _check_lengths(task: Mapping[str, Any], model: Mapping[str, Any], grpo: Mapping[str, Any]) -> None:
    """Raise SettingError where a prompt and its completion do not fit into the model's context."""
    longest, room = task.get("max_prompt_tokens", 0) + grpo["max_completion_length"], model.get("max_seq_length")
    if room is not None and longest > room:
        raise SettingError(
            f"task.max_prompt_tokens + grpo.max_completion_length = {longest} do not fit",
            setting="model.max_seq_length",
            value=room,
            remedy=f"write {longest} or more, or make one of them smaller",
        )


def _checked_task(values: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the [task] table with its seed, its paths absolute, and nothing in it that the task does not take."""
    common = own_table(Prompts, "task", {key: value for key, value in values.items() if key in Prompts.model_fields})
    options = task_options(common.name)
    known = [*Prompts.model_fields, *options]
    for key in values:
        if key not in known:
            problem = f"the task {common.name!r} has no such setting"
            raise SettingError(problem, setting=f"task.{key}", remedy=one_of(key, known))
    chosen = {key: typed(options[key], values[key], f"task.{key}") for key in options if key in values}
    for key in ("path", "test_path"):
        if chosen.get(key) is not None:
            chosen[key] = str(expanded(chosen[key]).absolute())
    image = chosen.get("image", "")
    if common.name == "drawing" and len(image) < 256 and Path(image).is_file():  # kept as it is now
        chosen["image"] = image_text(load_image(chosen["image"])).replace("\n", "/")
    chosen.setdefault("seed", seed)
    return common.model_dump(exclude_none=True) | chosen


def _checked_budget(values: Mapping[str, Any], max_completion_length: int) -> Budget:
    budget = own_table(Budget, "budget", values)
    shortest = budget.min_completion_length
    if shortest is not None and shortest > max_completion_length:
        raise SettingError(
            f"more than grpo.max_completion_length = {max_completion_length}",
            setting="budget.min_completion_length",
            value=shortest,
            remedy=f"write {max_completion_length} or less",
        )
    return budget


def _checked_weights(rewards: Mapping[str, Any]) -> dict[str, float]:
    """Return reward -> weight, without those that are set to false; 0 keeps a reward in the log alone."""
    weights: dict[str, float] = {}
    metrics: dict[str, str] = {}
    for name, given in rewards.items():
        setting = f"rewards.{name}"
        weight = typed(float | bool, given, setting)
        if weight is False:
            continue
        if weight is True or not math.isfinite(weight):
            remedy = "write a finite weight, or false to take the reward out"
            raise SettingError("is no weight", setting=setting, value=weight, remedy=remedy)
        if metric := checked_reward(name):  # else only a call can tell
            need_new_metric(name, metric, metrics)
        weights[name] = float(weight)
    if not any(weights.values()):
        problem = "no reward has a weight that is not 0"
        raise SettingError(problem, setting="[rewards]", remedy="write for instance correctness = 1.0")
    return weights


def _checked_drawing_tables(read: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of DRAWING_TABLES that are there."""
    found: dict[str, Any] = {}
    for table in DRAWING_TABLES:
        if table not in read:
            continue
        if task["name"] != "drawing":
            remedy = 'take it out, or write task.name = "drawing"'
            raise SettingError("is for drawing tasks", setting=f"[{table}]", remedy=remedy)
        values = {key: value for key, value in read[table].items() if value is not None}
        if table == "hindsight":
            found[table] = own_table(Hindsight, table, values)
        elif table == "pretraining":
            found[table] = own_table(Pretraining, table, values)
        else:
            found[table] = {setting: _checked_sweep(setting, given) for setting, given in values.items()}
    return found


def _checked_sweep(setting: str, given: Any) -> list[Any]:
    """Return the values that a sweep tries for a setting."""
    tables = (*TABLES, *DRAWING_TABLES[:2])
    tried = typed(Any, given, f"sweep.{setting}")  # a text, from the command line
    table, _, key = setting.partition(".")
    if table not in tables or not key or not isinstance(tried, list) or not tried:
        raise SettingError(
            "is no setting with a list of values",
            setting=f"sweep.{setting}",
            value=tried,
            remedy=f'write "table.setting" = [value, ...]; tables are {", ".join(tables)}',
        )
    return tried
