"""Check a recipe's tables before anything is downloaded, imported or run.

`reading` makes the tables, `schema` has our own settings with their types and bounds, `library_signatures` knows which
arguments the libraries take. Here is what connects two settings or two tables. Each refusal names its setting.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Final

from grpo_colab.errors import SettingError, nearest, one_line, one_of
from grpo_colab.recipe import library_signatures
from grpo_colab.recipe.reading import DEFAULT_PRESET, DRAWING_TABLES, OPTIONAL_TABLES, PASSED_THROUGH, TABLES
from grpo_colab.recipe.sampling_table import checked_sampling
from grpo_colab.recipe.schema import Budget, Evaluation, Hindsight, Pretraining, own_table, typed
from grpo_colab.recipe.settings_search import secrets_in
from grpo_colab.recipe.task_table import checked_task
from grpo_colab.recipe.tripwires_table import checked_tripwires
from grpo_colab.rewards.names import parse_reward
from grpo_colab.rewards.static_check import check_without_import
from grpo_colab.tasks import TASKS, task_class, unpayable_rewards
from grpo_colab.tasks.names import OTHER_NAMES, parse_task
from grpo_colab.text import masked
from grpo_colab.utils.files import check_name, expanded, is_folder, read_bytes

# Settings that are texts even if they look like a number, as a commit may.
ALWAYS_TEXT = ("model_name", "revision", "token")
# Settings of [grpo] whose texts TRL compares with those that it knows, some only in the middle of a step.
COMPARED = ("loss_type", "scale_rewards", "importance_sampling_level", "multi_objective_aggregation")
# The setting of [model] that is ours and not the loader's, and the most bytes of the file that it names.
CHAT_TEMPLATE = "chat_template"
MOST_TEMPLATE = 1 << 16
# What TRL takes for settings of [grpo] that a recipe leaves out, made visible. On a GPU Unsloth's trainer would take
# something else for all but the first, and the recipe would learn otherwise there than on a CPU. Its vLLM samples by
# the weights that are trained, so that there is nothing to correct.
TRLS_DEFAULTS: dict[str, Any] = {
    "max_completion_length": 512,
    "learning_rate": 1e-6,
    "warmup_steps": 0,
    "weight_decay": 0.0,
    "optim": "adamw_torch_fused",
    "beta": 0.0,
    "loss_type": "dapo",
    "mask_truncated_completions": False,
    "vllm_importance_sampling_correction": False,
}
# Settings that every recipe must have -> what to write if one is missing.
REQUIRED = {
    "task.name": f"name a task: {', '.join(TASKS)}, {OTHER_NAMES}",
    "model.model_name": "name the model to train",
    "grpo.num_generations": "write how many completions a group has, 2 or more",
}


def checked_tables(read: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a recipe checked, typed and complete, as the fields of `Recipe`.

    `read` is what `read_tables` returns, with overrides; it is not changed. Settings that are None are left out. The
    seeds and TRLS_DEFAULTS are filled in. Paths become absolute, and our own tables become instances
    of their classes. Raises SettingError for the first setting that cannot work.
    """
    # In Python, None leaves a setting to the library's default. TOML has no None.
    tables = {table: {key: value for key, value in read[table].items() if value is not None} for table in TABLES}
    template = tables["model"].pop(CHAT_TEMPLATE, None)
    for table in PASSED_THROUGH:
        tables[table] = {key: _checked_argument(table, key, value) for key, value in tables[table].items()}
    for setting, remedy in REQUIRED.items():
        table, key = setting.split(".")
        if key not in tables[table]:
            raise _missing(setting, remedy, read["first"])
    model, lora, grpo = tables["model"], tables["lora"], tables["grpo"]
    task = checked_task(tables["task"], seed=grpo.setdefault("seed", 42))
    lora.setdefault("random_state", grpo["seed"])
    folder = expanded(model["model_name"])
    if is_folder(folder):
        model["model_name"] = str(folder.absolute())
    if template is not None:
        model[CHAT_TEMPLATE] = _checked_chat_template(template)
    accepted = library_signatures.accepted_arguments("grpo")
    upper_bound = {"epsilon_high": grpo.get("epsilon", 0.2)}  # which Unsloth would raise to 0.28 for some losses
    for key, value in {**TRLS_DEFAULTS, **upper_bound}.items():
        if accepted is None or key in accepted:
            grpo.setdefault(key, value)
    _check_grpo(grpo)
    _check_lengths(task, model, grpo)
    # Of the rewards that nobody has written, those go that could not pay this task's answers.
    unpayable = set(read.get("by_default", ())) & set(unpayable_rewards(task))
    rewards = {name: weight for name, weight in tables["rewards"].items() if name not in unpayable}
    budget = _checked_budget(tables["budget"], grpo["max_completion_length"])
    evaluation = own_table(Evaluation, "evaluation", tables["evaluation"])
    return {
        "name": read["name"],
        "description": read["description"],
        "task": task,
        "model": model,
        "lora": lora,
        "grpo": grpo,
        "rewards": checked_weights(rewards_of_task(rewards, task["name"]), may_be_none=bool(read.get("own_rewards"))),
        "budget": budget,
        "sampling": checked_sampling(tables["sampling"], grpo, budget),
        "tripwires": checked_tripwires(tables["tripwires"], grpo, evaluation),
        "evaluation": evaluation,
        **_checked_optional_tables(read, task),
    }


def _missing(setting: str, remedy: str, file: str) -> SettingError:
    """Return the refusal of a recipe without a setting that it must have.

    `file` is the name of the user's file that starts from no preset, where there is one.
    """
    if not file:
        return SettingError("is missing", setting=setting, remedy=remedy)
    start = f'write preset = "{DEFAULT_PRESET}" in its first line (`grpo-colab recipes` lists the presets)'
    return SettingError(
        "is missing, and no preset gives it", setting=setting, remedy=f"{start}, or {remedy}", place=file
    )


def need_no_secrets(tables: Mapping[str, Any], rewards: Collection[str]) -> None:
    """Raise SettingError for a secret in `tables` or in the name of a reward, because a run writes both to its folder.

    A secret is a token, a password or another key that opens an account.
    """
    found = [setting.removeprefix(".") for setting, _ in secrets_in(tables)]
    for name in rewards:
        settings = parse_reward(name).settings or {}
        if masked(name) != name or any(True for _ in secrets_in(settings)):
            found.append(f"rewards.{parse_reward(name).text}")
    if found:
        raise SettingError(
            "is a secret, and a run writes its recipe to its folder",
            setting=found[0],
            remedy="take it out, and read it from the environment where it is used",
        )


def need_new_metric(name: str, metric: str, metrics: dict[str, str]) -> None:
    """Add the reward `name` to `metrics`, which maps the name of a metric to its reward.

    Raises SettingError if another reward would be logged as the same metric.
    """
    if metric in metrics:
        raise SettingError(
            f"would be logged as {metric!r}, as {metrics[metric]} is", setting=f"rewards.{name}", remedy="rename one"
        )
    metrics[metric] = name


def need_payable_rewards(rewards: Collection[str], task: Mapping[str, Any]) -> None:
    """Raise SettingError for rewards of ours that cannot pay an answer of the kind and in the place of [task]."""
    unpayable = unpayable_rewards(task)
    found = [name for name in rewards if parse_reward(name).text in unpayable]
    if found:
        raise SettingError(
            unpayable[parse_reward(found[0]).text],
            setting=f"rewards.{found[0]}",
            remedy=f"write {', '.join(f'{name} = false' for name in found)} in [rewards], or change that setting",
        )


def checked_reward(name: str, columns: Collection[str] | None = None) -> str | None:
    """Return the name of a reward's metric, or None if only a call can tell.

    No code from outside this package is imported. Raises SettingError for a reward that does not exist or does not
    parse, and for one that needs other columns than `columns`; with None the columns are not checked. See
    `check_without_import`.
    """
    try:
        return check_without_import(name, columns)
    except SettingError as error:
        raise of_reward(name, error) from None


def of_reward(name: str, error: SettingError) -> SettingError:
    """Return a copy of `error` that names the reward's setting in [rewards].

    If `error` names a setting already, it is one in the reward's brackets, and the reward becomes its place.
    """
    setting = f"rewards.{name}"
    return error.within(setting, setting=setting)


def _checked_argument(table: str, key: str, value: Any) -> Any:
    """Return an argument of a library in its type; raise SettingError if the installed release has no such argument.

    Raises SettingError also for a value of another type. Where the library is not installed, every argument passes.
    """
    setting = f"{table}.{key}"
    accepted = library_signatures.accepted_arguments(table)
    # A recipe may be read where the library is not installed. Then every argument passes.
    if accepted is None:
        return typed(Any, value, setting)
    if key not in accepted:
        problem = f"{library_signatures.OWNERS[table]} has no such argument"
        suggestion = nearest(key, accepted)
        raise SettingError(problem, setting=setting, value=value, remedy=suggestion or None)
    return typed(str if key in ALWAYS_TEXT else accepted[key], value, setting)


def _checked_chat_template(given: Any) -> str:
    """Return the text of model.chat_template, which is that text or the path of its file.

    A recipe keeps the text, since a resumed run must not depend on the file. Whether it is sound Jinja, and writes a
    prompt, is for `policy.templates` to tell. Raises SettingError for a file that cannot be read, for one that shows
    nothing of a conversation, and for one with a secret.
    """
    setting = f"model.{CHAT_TEMPLATE}"
    text: str = typed(str, given, setting)
    named = {"setting": setting, "value": text}
    if not any(mark in text for mark in ("{{", "{%", "\n")):
        path = expanded(text)
        check_name(setting, path)
        try:
            text = read_bytes(path, MOST_TEMPLATE, follow=True).decode("utf-8-sig")
        except UnicodeDecodeError:
            raise SettingError("is not UTF-8", remedy="save it as UTF-8", **named) from None
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or one_line(error)
            remedy = "write the path of a Jinja file"
            raise SettingError(f"cannot be read ({why})", remedy=remedy, **named) from None
        text = text.replace("\r\n", "\n").replace("\r", "\n")  # as transformers reads a template
    if "{{" not in text:
        remedy = "write a Jinja template with {{ message.content }} in it"
        raise SettingError("shows nothing of a conversation", remedy=remedy, **named)
    if masked(text) != text:
        problem = "has what looks like a secret, and a run writes it to its folder"
        raise SettingError(problem, remedy="take that out of the file", **named)
    return text


def _check_grpo(grpo: Mapping[str, Any]) -> None:
    """Raise SettingError for values that TRL itself would refuse only in the middle of a run.

    These are fewer than 2 completions per group, a temperature that is not above 0, and a loss that TRL does not know.
    """
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
    for key in COMPARED:
        known, given = library_signatures.known_values(key), grpo.get(key)
        if known and isinstance(given, str) and given not in known:
            raise SettingError(
                "TRL knows no such value", setting=f"grpo.{key}", value=given, remedy=one_of(given, known)
            )
    if grpo.get("sync_ref_model"):
        raise SettingError(
            "cannot work with an adapter, whose reference is the model without it",
            setting="grpo.sync_ref_model",
            value=True,
            remedy="take it out",
        )


def _check_lengths(task: Mapping[str, Any], model: Mapping[str, Any], grpo: Mapping[str, Any]) -> None:
    """Raise SettingError if a prompt and its completion do not fit into the model's context, all in tokens.

    Without model.max_seq_length nothing is checked.
    """
    longest = task.get("max_prompt_tokens", 0) + grpo["max_completion_length"]
    context = model.get("max_seq_length")
    if context is not None and longest > context:
        raise SettingError(
            f"task.max_prompt_tokens + grpo.max_completion_length = {longest} do not fit",
            setting="model.max_seq_length",
            value=context,
            remedy=f"write {longest} or more, or make one of them smaller",
        )


def _checked_budget(values: Mapping[str, Any], max_completion_length: int) -> Budget:
    """Return the [budget] table, checked; `max_completion_length` is in tokens.

    Raises SettingError for a setting that does not fit, and for a budget.min_completion_length above
    `max_completion_length`.
    """
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


def rewards_of_task(rewards: Mapping[str, Any], task: str) -> dict[str, Any]:
    """Return the table [rewards], in which `correctness` is the reward that pays what this task's `grade` says.

    That of a library's data set is its own. The later one of two settings of it counts.
    """
    if parse_task(task).kind != "library":
        return dict(rewards)
    own = getattr(task_class(task), "correctness", "correctness")
    return {own if name == "correctness" else name: weight for name, weight in rewards.items()}


def checked_weights(rewards: Mapping[str, Any], may_be_none: bool = False) -> dict[str, float]:
    """Return the weight of every reward that is not set to false.

    A reward with weight 0 is kept, since its values are still logged. Raises SettingError for a weight that is no
    finite number, for a reward that does not exist, for two rewards with one metric, and, unless `may_be_none`, if all
    weights are 0.
    """
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
        metric = checked_reward(name)
        if metric:
            need_new_metric(name, metric, metrics)
        weights[name] = float(weight)
    if not any(weights.values()) and not may_be_none:
        problem = "no reward has a weight that is not 0"
        raise SettingError(problem, setting="[rewards]", remedy="write for instance correctness = 1.0")
    return weights


# What [pretraining] has where nothing is drawn, and it does not say: 256 golden completions.
WARM_UP: Final = {"steps": 32, "batch_size": 8, "micro_batch": 4}


def _checked_optional_tables(read: Mapping[str, Any], task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of OPTIONAL_TABLES that `read` has, checked; an empty dict where it has none.

    A task that draws nothing has other defaults in [pretraining]. Raises SettingError for a table of DRAWING_TABLES
    beside such a task, and for a setting that does not fit.
    """
    checked: dict[str, Any] = {}
    for table in OPTIONAL_TABLES:
        if table not in read:
            continue
        draws = task["name"] == "drawing"
        if table in DRAWING_TABLES and not draws:
            remedy = 'take it out, or write task.name = "drawing"'
            raise SettingError("is for drawing tasks", setting=f"[{table}]", remedy=remedy)
        values = {key: value for key, value in read[table].items() if value is not None}
        if table == "hindsight":
            checked[table] = own_table(Hindsight, table, values)
        elif table == "pretraining":
            checked[table] = own_table(Pretraining, table, values if draws else {**WARM_UP, **values})
        else:
            checked[table] = {setting: checked_sweep(setting, given) for setting, given in values.items()}
    return checked


def checked_sweep(setting: str, given: Any) -> list[Any]:
    """Return the values that a sweep tries for `setting`, a dotted name.

    Raises SettingError for a name without a table that can be swept, and for values that are not a list of at least
    one. The values themselves are not checked.
    """
    sweepable = (*TABLES, "hindsight", "pretraining")
    values = typed(Any, given, f"sweep.{setting}")  # parses the text of a command line
    table, _, key = setting.partition(".")
    if table not in sweepable or not key or not isinstance(values, list) or not values:
        raise SettingError(
            "is no setting with a list of values",
            setting=f"sweep.{setting}",
            value=values,
            remedy=f'write "table.setting" = [value, ...]; tables are {", ".join(sweepable)}',
        )
    return values
