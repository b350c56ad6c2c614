"""Read the tables of a recipe from a preset or a TOML file, merged into the preset that the file starts from.

Settings get today's names. Their values are not checked here: see `validation`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, one_of
from grpo_colab.recipe.functions import given_rewards
from grpo_colab.recipe.paths import beside_file
from grpo_colab.recipe.schema import DERIVED, RENAMED
from grpo_colab.recipe.settings_search import secrets_in
from grpo_colab.rewards.names import parse_reward, split_settings, with_paths
from grpo_colab.tasks import TASKS, task_class
from grpo_colab.tasks.names import canonical_task, parse_task
from grpo_colab.utils.files import check_name, expanded
from grpo_colab.utils.toml_reading import read_toml

PRESETS = Path(__file__).parent / "presets"
DEFAULT_PRESET = "word-problems-tiny"
# In bytes. The name of a run folder also has the date, and for a drawing the image and the method.
LONGEST_RECIPE_NAME = 150
TABLES = ("task", "model", "lora", "grpo", "rewards", "budget", "sampling", "tripwires", "evaluation")
OPTIONAL_TABLES = ("hindsight", "pretraining", "sweep")
DRAWING_TABLES = ("hindsight",)  # of these, for drawing tasks only
DATASET_TASKS = ("dataset", "jsonl")  # whose problems are those of task.path
PASSED_THROUGH = ("model", "lora", "grpo")  # arguments of the libraries, under their own names


def preset_names() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def read_tables(source: str | Path, based_on_it: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the tables of `source`, a preset or a TOML file, merged into those of the preset that it starts from.

    Beside the tables, the result has the recipe's "name" and "description", and as "first" the name of the user's file
    at the start of the chain if that has no `preset`, else an empty text. It has each of OPTIONAL_TABLES only where a
    file has it. A file without `preset` and without [rewards] gets the rewards of its task; for a class of somebody's
    own, these come later, and "own_rewards" says so. `based_on_it` is the chain of files that led here, each of which
    starts from the next. Values are not checked. Raises SettingError for an unknown preset, for a file that cannot be
    read or that starts from itself, for an unknown table, for a secret in [model], [lora] or [grpo], for a name that no
    folder can have, and for whatever `renamed` refuses.
    """
    path = _path_of(source, based_on_it)
    content = _parse(path, source, based_on_it)
    name = _recipe_name(content, path)
    for table in PASSED_THROUGH:
        _need_no_secrets(content.get(table, {}), table, path)
    if "preset" in content:
        tables = read_tables(content["preset"], (*based_on_it, path))
    elif "rewards" in content:
        # Without a preset, a file either lists all of its rewards or gets those of its task.
        tables = {"rewards": {}}
    else:
        tables = _default_rewards(content.get("task", {}))
    tables.setdefault("first", "" if path.parent == PRESETS else path.name)
    tables = merged(tables, content)
    for table in TABLES:
        tables.setdefault(table, {})
    return tables | {"name": name, "description": content.get("description", "")}


def merged(tables: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return `tables` with the tables of `layer` over them, a file's or a caller's, under today's names.

    Other keys of `layer` are left out. Rewards that are a list are all that there are. Rewards are for a task: where
    the layer names another task, and either is not this package's, the new task's own rewards take the place of those
    below. A budget.min_completion_length of below is lowered to a smaller grpo.max_completion_length. Raises
    SettingError for whatever `renamed` refuses.
    """
    result = dict(tables)
    before = result.get("task", {}).get("name")
    for table in (*TABLES, *OPTIONAL_TABLES):
        if table not in layer:
            continue
        written = renamed(table, layer[table])
        are_all = table == "rewards" and given_rewards(layer[table]).are_all
        result[table] = written if are_all else {**result.get(table, {}), **written}
        if table == "rewards":
            result["by_default"] = [name for name in result.get("by_default", ()) if name not in written]
        if table == "task":
            after = result["task"].get("name")
            names = [name for name in (before, after) if isinstance(name, str)]
            if before != after and len(names) == 2 and any(parse_task(name).runs_code for name in names):
                result |= _default_rewards(result["task"])
    return result | {"budget": _with_shortest(result, layer)} if "budget" in result else result


def _with_shortest(tables: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table [budget], whose min_completion_length is no more than a grpo.max_completion_length of `layer`.

    What the layer says itself is left as it is.
    """
    budget, longest = tables["budget"], layer.get("grpo", {}).get("max_completion_length")
    shortest = budget.get("min_completion_length")
    # From a command line they are texts. What is no number is for others to refuse.
    are_numbers = all(str(length).isdecimal() for length in (longest, shortest))
    if (
        are_numbers
        and int(str(longest)) < int(str(shortest))
        and "min_completion_length" not in layer.get("budget", {})
    ):
        return {**budget, "min_completion_length": longest}
    return dict(budget)


def name_with_data(source: str | Path, name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the name of a recipe whose [task] was overridden, such as `gsm8k-tiny-mine` for a file mine.jsonl.

    `before` and `after` are its [task] without and with the overrides. A preset learns other data where the task is
    another, or where it is the task of a file and the file is another; `name` then gets the file's or the task's name
    as its last part. A TOML file of the user's keeps the `name` that it gives itself.
    """
    data = [
        (str(task.get("name")), str(task.get("path", "")) * (task.get("name") in DATASET_TASKS))
        for task in (before, after)
    ]
    if Path(source).suffix == ".toml" or data[0] == data[1]:
        return name
    last = Path(str(after.get("path") or parse_task(str(after.get("name"))).label)).stem
    last = re.sub(r"[^\w.-]+", "-", last).strip("-.")
    whole = f"{name}-{last or after.get('name')}"
    return whole.encode()[:LONGEST_RECIPE_NAME].decode(errors="ignore")


def need_table(table: str) -> None:
    """Raise SettingError unless a recipe may have a table of this name."""
    known = (*TABLES, *OPTIONAL_TABLES)
    if table not in known:
        raise SettingError("no such table", setting=table, remedy=one_of(table, known))


def renamed(table: str, values: Any) -> dict[str, Any]:
    """Return the settings of `table` under today's names.

    `values` maps settings to their values, which are not checked. For [rewards] it is all that `given_rewards` takes. A
    reward's name, and the name of a task in a file, get their one spelling; other values are not changed. Raises
    SettingError for what is no table, for a setting that has moved to another table, and for one that is computed from
    others.
    """
    settings = {}
    if table == "rewards":
        values = given_rewards(values).weights
    if not isinstance(values, Mapping):
        raise SettingError("must be a table", setting=table, value=values, remedy="write {setting: value}")
    for key, value in values.items():
        setting = f"{table}.{key}"
        if setting in DERIVED:
            raise SettingError("is computed from other settings", setting=setting, value=value, remedy=DERIVED[setting])
        new_table, new_key = RENAMED.get(setting, setting).split(".", 1)
        if new_table != table:
            raise SettingError(
                "has moved to another table",
                setting=setting,
                value=value,
                remedy=f"write {new_table}.{new_key} = {value}",
            )
        if table == "task" and new_key == "name" and isinstance(value, str) and parse_task(value).runs_code:
            value = canonical_task(value)  # noqa: PLW2901 - its one spelling
        settings[_canonical_name(new_key) if table == "rewards" else new_key] = value
    return settings


def _path_of(source: str | Path, based_on_it: tuple[Path, ...]) -> Path:
    """Return the path of a preset's file, or of the TOML file that `source` names.

    Whether a TOML file exists is not checked. Raises SettingError for an unknown preset, and for a file that starts
    from itself: it is in `based_on_it`, the chain of files that led here.
    """
    path = Path(source)
    if path in based_on_it:
        raise _unreadable(f"starts from itself, by way of {based_on_it[-1]}", source, based_on_it)
    if path.suffix == ".toml":
        return path
    names = preset_names()
    if str(source) not in names:
        remedy = f"{one_of(str(source), names)}; or give the path of a .toml file"
        raise _unreadable("no such preset", source, based_on_it, remedy)
    return PRESETS / f"{source}.toml"


def _parse(path: Path, source: str | Path, based_on_it: tuple[Path, ...]) -> dict[str, Any]:
    """Return the content of a recipe's file: the known tables as dicts, everything else as texts.

    The paths of files beside it begin with its folder: see `beside_file`. A link is followed. `source` and
    `based_on_it` are for the refusal only. Raises SettingError for a file that cannot be read or is not TOML, for an
    unknown table, and for a value of another kind.
    """
    try:
        content = read_toml(path, follow=True)
    except OSError as error:
        raise _unreadable(f"cannot read it ({error.strerror})", source, based_on_it) from None
    except ValueError as error:
        raise _unreadable(f"not TOML: {error}", source, based_on_it, getattr(error, "remedy", None)) from None
    tables = (*TABLES, *OPTIONAL_TABLES)
    known = ("preset", "name", "description", *tables)
    for key, value in content.items():
        if key not in known:
            raise SettingError("no such table", setting=key, remedy=one_of(key, known), place=path.name)
        if key in tables and not isinstance(value, dict):
            raise SettingError("must be a table", setting=key, value=value, place=path.name)
        if key not in tables and not isinstance(value, str):
            raise SettingError("must be a text", setting=key, value=value, place=path.name)
    return content if path.parent == PRESETS else beside_file(content, path.parent)


def _unreadable(
    problem: str, source: str | Path, based_on_it: tuple[Path, ...], remedy: str | None = None
) -> SettingError:
    """Return the refusal of a recipe that cannot be read, or of the preset that the last file of the chain names."""
    if based_on_it:
        setting, place = "preset", based_on_it[-1].name
    else:
        setting, place = "recipe", None
    return SettingError(problem, setting=setting, value=str(source), remedy=remedy, place=place)


def _need_no_secrets(settings: Mapping[str, Any], table: str, path: Path) -> None:
    """Raise SettingError for a token or another secret in a table of the file `path`."""
    for setting, _ in secrets_in(settings, table):
        raise SettingError(
            "is a secret, and no file may hold one",
            setting=setting,
            remedy="take the line out, and set HF_TOKEN in the environment, or run `hf auth login`",
            place=path.name,
        )


def _recipe_name(content: Mapping[str, Any], path: Path) -> str:
    """Return the name that a recipe's file gives itself, or else the name of the file without its suffix.

    Raises SettingError for a name that cannot be a part of a folder's name or cannot be printed.
    """
    name = content.get("name", path.stem)
    try:
        check_name("name", name)
    except SettingError as error:
        raise error.at(path.name) from None
    if not name or Path(name).name != name or len(name.encode()) > LONGEST_RECIPE_NAME:
        raise SettingError(
            "cannot be a part of the run folder's name",
            setting="name",
            value=name,
            remedy=f"write a plain file name of at most {LONGEST_RECIPE_NAME} bytes",
            place=path.name,
        )
    return name


def _default_rewards(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rewards that the task of a [task] table has by default, as "rewards", "own_rewards" and "by_default".

    "by_default" are the names of those that nobody has written. "own_rewards" is true for a class of somebody's own,
    which has to be imported for them. Without a known task, there are none.
    """
    name = task.get("name")
    rewards: dict[str, float] = {}
    if isinstance(name, str) and (name in TASKS or parse_task(name).kind == "library"):
        rewards = task_class(name).rewards_by_default()
    return {
        "rewards": rewards,
        "by_default": list(rewards),
        "own_rewards": isinstance(name, str) and parse_task(name).is_own,
    }


def _canonical_name(name: str) -> str:
    """Return the one spelling of a reward's name, so that two spellings of a reward are one key.

    A short name loses its suffix `_reward`. The file of a reward or a grader gets its absolute path.
    """
    if parse_reward(name).given:
        return name
    name, settings = split_settings(with_paths(name, lambda path: str(expanded(path).absolute())))
    if "." not in name:
        name = name.removesuffix("_reward")
    return name + settings
