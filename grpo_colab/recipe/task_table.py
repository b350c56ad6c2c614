"""Check the table [task]: its settings by the task's class; paths, schemas and images as a resumed run finds them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, one_line, one_of
from grpo_colab.recipe.schema import Prompts, own_table, typed
from grpo_colab.rewards.names import with_paths
from grpo_colab.rewards.static_check import check_without_import, need_function
from grpo_colab.tasks import task_class, task_options
from grpo_colab.tasks.dataset import Dataset
from grpo_colab.tasks.drawing.images import image_text, load_image
from grpo_colab.tasks.given_rows import json_lines_of
from grpo_colab.tasks.names import check_task_name, parse_task
from grpo_colab.tasks.sources import RUN, is_fixed
from grpo_colab.utils.files import expanded, read_bytes


def checked_task(values: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the [task] table typed, with `seed` as its default seed, and with absolute paths.

    A drawing's image that is the path of a file is read, and replaced by its rows of pixels. The settings of a class of
    somebody's own are not known before it is imported: see `own_task`. Raises SettingError for an unknown task, for a
    setting that the task does not have, and for a value of another type.
    """
    common = own_table(Prompts, "task", {key: value for key, value in values.items() if key in Prompts.model_fields})
    name = parse_task(common.name)
    if name.runs_code:
        check_task_name(name)
    own = {key: value for key, value in values.items() if key not in Prompts.model_fields}
    chosen = checked_options(common.name, dict.fromkeys(own, Any) if name.is_own else task_options(common.name), own)
    for key in ("path", "test_path"):
        if isinstance(chosen.get(key), str) and not is_fixed(chosen[key]):
            chosen[key] = str(expanded(chosen[key]).absolute())
    if chosen.get("grader"):
        chosen["grader"] = with_paths(chosen["grader"], lambda path: str(expanded(path).absolute()))
        try:
            need_function(chosen["grader"], wanted=("grader",))
            check_without_import(chosen["grader"])
        except SettingError as error:
            raise error.replace(setting="task.grader", value=chosen["grader"]) from None
    if not name.is_own and chosen.get("schema"):
        chosen["schema"] = _schema_text(chosen["schema"])
    # Keep the content of an image's file in place of its name: a resumed run must not depend on the file.
    image = chosen.get("image", "")
    if common.name == "drawing" and len(image) < 256 and Path(image).is_file():
        chosen["image"] = image_text(load_image(image)).replace("\n", "/")
    if not name.is_own:  # whose class need not have one
        chosen.setdefault("seed", seed)
    return common.model_dump(exclude_none=True) | chosen


def _schema_text(schema: Mapping[str, Any] | str) -> str:
    """Return a JSON schema: the content of the file that it names, for a resumed run, or the text that it is itself.

    Raises SettingError for a file that cannot be read.
    """
    if isinstance(schema, Mapping):  # a table of TOML
        return json.dumps(schema)
    if schema.lstrip().startswith("{"):
        return schema
    try:
        return " ".join(read_bytes(expanded(schema), follow=True).decode().split())
    except (OSError, UnicodeDecodeError) as error:
        problem = f"no file of this name can be read ({one_line(error)})"
        remedy = "write the path of a file with a JSON schema, or the schema itself"
        raise SettingError(problem, setting="task.schema", value=schema, remedy=remedy) from None


def own_options(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a [task] table that are the task's own, without its name and the prompts' limits."""
    return {key: value for key, value in task.items() if key not in Prompts.model_fields}


def checked_options(task: str, options: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's own settings, typed by `options`, which maps their names to their types.

    Raises SettingError for a setting that the task does not have, and for a value of another type.
    """
    for key in values:
        if key not in options:
            problem = f"the task {parse_task(task).label!r} has no such setting"
            remedy = one_of(key, [*Prompts.model_fields, *options])
            if key in task_options("dataset").keys() - task_options("word_problems"):
                remedy = 'write task.name = "dataset" too, for problems of your own'
            raise SettingError(problem, setting=f"task.{key}", remedy=remedy)
    return {key: typed(options[key], values[key], f"task.{key}") for key in options if key in values}


def with_given_rows(task: Mapping[str, Any], dataset: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the table [task] for the problems of `dataset`, and the texts of the files that a run keeps of them.

    See `Recipe.with_dataset`, also for its errors.
    """
    if task["name"] == "drawing":
        remedy = "begin with another preset, such as gsm8k-tiny"
        raise SettingError("draws its own problems", setting="task.name", value="drawing", remedy=remedy)
    kept = {key: value for key, value in task.items() if key in (*Prompts.model_fields, *task_options("dataset"))}
    if not issubclass(task_class(kept["name"]), Dataset):
        kept.pop("path", None)
        kept["name"] = Dataset.name
    for setting in ("path", "test_path"):
        if setting in kept:
            problem, remedy = "names other problems than dataset=", "leave out one of the two"
            raise SettingError(problem, setting=f"task.{setting}", value=kept[setting], remedy=remedy)
    texts = json_lines_of(dataset)
    names = dict(zip(("path", "test_path"), (f"{RUN}{name}" for name in texts), strict=False))
    return {**kept, **names}, texts
