"""Check that the user trusts the code from outside this package that a recipe would run.

Reading, printing, planning and comparing a recipe runs nothing that it names. Training and evaluation run its task and
its rewards, and with `trust_remote_code` a model's own Python. If the user named that code, on the command line or as
an override in Python, it is the user's own choice. If a file named it (a recipe, a run folder or a mirror), the user
has to trust it once, by `--trust-code`. The names of trusted code are kept in `grpo_colab/trusted.txt` in the user's
configuration folder, one per line.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final

from grpo_colab.errors import SettingError
from grpo_colab.recipe.foreign import foreign_settings
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.rewards.names import parse_reward
from grpo_colab.rewards.static_check import place_of
from grpo_colab.tasks.names import parse_task, task_code
from grpo_colab.text import escaped
from grpo_colab.utils import files

# What this process has read and added. It is all there is if the file cannot be written.
_remembered: Final[set[str]] = set()


TASK_CODE: Final = ("task.name", "task.grader")  # the settings whose code runs when the problems are read


def check_trust(recipe: Recipe, trust_code: bool = False, only: Collection[str] | None = None) -> str | None:
    """Return a line that says which code from outside this package the recipe runs, None if it runs none.

    `only` are the settings whose code is about to run, None for all. Nothing is imported, run or printed. The code is
    remembered as trusted, in the user's file of trusted code. Raises SettingError for code that a file named and the
    user has not trusted yet, unless `trust_code` is true; then nothing is remembered.
    """
    foreign = [setting for setting in foreign_settings(recipe) if only is None or setting in only]
    code_of = {setting: named_code(recipe, setting) for setting in foreign}
    if not code_of:
        return None
    known = trusted()
    untrusted = [code for setting, code in code_of.items() if setting in recipe.received and code not in known]
    if untrusted and not trust_code:
        raise _untrusted(untrusted, f"recipe {recipe.name!r}")
    remember(code for code in code_of.values() if code not in known)
    return f"Running code that is not grpo_colab's: {_listed(list(code_of.values()))}"


def check_trust_of_all(recipes: Iterable[Recipe], trust_code: bool = False) -> list[str]:
    """Call `check_trust` for every recipe; return its lines in order, without repetitions.

    Raises SettingError at the first recipe with code that is not trusted. The code of those before it is remembered.
    """
    lines = []
    for recipe in recipes:
        line = check_trust(recipe, trust_code)
        if line and line not in lines:
            lines.append(line)
    return lines


def check_trust_of_rewards(names: Iterable[str], place: str, trust_code: bool = False) -> None:
    """Check rewards that a file named, as `check_trust` checks a recipe; `place` says which file.

    What is trusted is remembered. Raises SettingError for a reward from outside this package that the user has not
    trusted yet, unless `trust_code` is true, and for a name whose settings cannot be read.
    """
    code = [_reward_code(name) for name in names if parse_reward(name).runs_code]
    known = trusted()
    new = [name for name in code if name not in known]
    if new and not trust_code:
        raise _untrusted(new, place)
    remember(new)


def announced(names: list[str]) -> str | None:
    """Return a line that says which of these rewards are from outside this package, None if none is.

    The user has named them, so nothing has to be trusted. Raises SettingError for a name whose settings cannot be read.
    """
    foreign = [_reward_code(name) for name in names if parse_reward(name).runs_code]
    return f"Running code that is not grpo_colab's: {_listed(foreign)}" if foreign else None


def _untrusted(code: list[str], place: str) -> SettingError:
    """Return the refusal of code that a file named and that the user has not trusted."""
    return SettingError(
        f"came as a file, and runs code that is not grpo_colab's: {_listed(code)}",
        remedy="read that code; if you trust it, write --trust-code once (trust_code=True in Python)",
        place=place,
    )


def named_code(recipe: Recipe, setting: str) -> str:
    """Return the name and the place of the code that a setting of `foreign_settings` runs.

    `setting` is its dotted name. For a setting of a model, the place is the model with its revision. Under this text
    the code is trusted, so the same name in another file or revision has to be trusted anew.
    """
    table, _, key = setting.partition(".")
    if table == "rewards":
        return _reward_code(key)
    if setting == "task.grader":
        return _reward_code(recipe.task["grader"])
    if table == "task":
        return escaped(task_code(parse_task(recipe.task["name"])))
    model, revision = recipe.model.get("model_name"), recipe.model.get("revision")
    at_revision = f" at {revision}" if revision else ""
    return escaped(f"{setting} of the model {model}{at_revision}")


def trusted() -> set[str]:
    """Return the names of all code that this user has trusted, in the file or in this process.

    The file is read anew each time. A missing or unreadable one adds nothing and raises nothing.
    """
    with contextlib.suppress(OSError, UnicodeDecodeError):
        _remembered.update(files.read_bytes(_trusted_file()).decode().splitlines())
    return _remembered


def remember(names: Iterable[str]) -> None:
    """Add names to the file of trusted code, whose folder is made if it is missing.

    If the file cannot be written, only this process remembers them, and nothing is raised.
    """
    new = list(names)
    _remembered.update(new)
    if new:
        with contextlib.suppress(OSError):
            _trusted_file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            files.append(_trusted_file(), "".join(f"{name}\n" for name in new))


def _trusted_file() -> Path:
    """Return the file with the names of trusted code, in the user's configuration folder."""
    return files.expanded(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "grpo_colab" / "trusted.txt"


def _reward_code(name: str) -> str:
    """Return a reward's full name with its settings, and the file or the package that it comes from."""
    parsed = parse_reward(name)
    if parsed.grader is not None:
        return _reward_code(parsed.grader)
    settings = ""
    if parsed.settings is not None:
        settings = f"({', '.join(f'{key}={value!r}' for key, value in parsed.settings.items())})"
    if parsed.in_file:
        return escaped(f"{place_of(parsed)}:{parsed.attribute}{settings}")
    return escaped(f"{parsed.text}{settings} from {place_of(parsed)}")


def _listed(names: list[str]) -> str:
    """Return the first five names in a row, and how many more there are."""
    listed = ", ".join(names[:5])
    return f"{listed} and {len(names) - 5} more" if len(names) > 5 else listed
