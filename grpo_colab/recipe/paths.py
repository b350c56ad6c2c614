"""Find the files that a recipe's file names: beside it, or else from the current folder, as on a command line.

So a folder with a recipe, its data and its rewards works from wherever it is used, and may be moved.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from grpo_colab.rewards.names import with_paths
from grpo_colab.utils.files import expanded, is_file, is_folder

# The settings that may name a file or a folder to read, and those that may name a function in a file. What a run
# writes, such as budget.mirror, goes where the command runs.
_PATHS: Final = {
    "task": ("path", "test_path", "schema", "image"),
    "model": ("model_name", "chat_template"),
    "sampling": ("prior",),
}
_FUNCTIONS: Final = ("name", "grader")  # of [task]


def beside_file(content: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a recipe file's content, in which each path that leads to something in `folder` begins there.

    `folder` is that of the file. The paths are a `preset` that is a file, the settings of _PATHS and _FUNCTIONS, and
    the files of [rewards]. An absolute path, and one that leads nowhere from `folder`, is left as it is. Nothing is
    read, and nothing is raised.
    """
    found = dict(content)
    if str(found.get("preset", "")).endswith(".toml"):
        found["preset"] = _path(found["preset"], folder)
    for table, settings in _PATHS.items():
        if table in found:
            found[table] = dict(found[table])
            for setting in settings:
                if setting in found[table]:
                    found[table][setting] = _path(found[table][setting], folder)
    for setting in _FUNCTIONS:
        if setting in found.get("task", {}):
            found["task"][setting] = _function(found["task"][setting], folder)
    if "rewards" in found:
        found["rewards"] = {_function(name, folder): weight for name, weight in found["rewards"].items()}
    return found


def _path(value: Any, folder: Path) -> Any:
    """Return the path of a file or a folder with `folder` before it, if it is there; any other value as it is."""
    if not isinstance(value, str) or not value or expanded(value).is_absolute():
        return value
    path = folder / value
    return str(path) if is_file(path) or is_folder(path) else value


def _function(value: Any, folder: Path) -> Any:
    """Return the name of a function in a file, `my.py:grade`, with the path that `_path` gives to the file.

    Settings in brackets stay behind it, and a grader among them gets its path, too. Any other value is returned as it
    is.
    """
    return with_paths(value, lambda path: str(_path(path, folder))) if isinstance(value, str) else value
