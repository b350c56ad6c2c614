"""Read the name of a task, without importing or running what it leads to.

    gsm8k                       a task of this package
    my_task.py:MyTask           a file and a class in it
    package.module:MyTask       a module and a class in it
    reasoning_gym:chain_sum     a data set of the library reasoning-gym
    verifiers:my-env            a single-turn environment of the library verifiers

All but the first run code that is not this package's as soon as the task is made.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Literal, NamedTuple

from grpo_colab.errors import SettingError
from grpo_colab.rewards.names import RewardName
from grpo_colab.rewards.static_check import function_in_file, need_package, place_of
from grpo_colab.utils.files import expanded

# A library of tasks -> our class for them, and the package to install. The name of a task there goes to the class.
LIBRARIES: Final = {
    "reasoning_gym": ("grpo_colab.tasks.reasoning_gym", "ReasoningGym"),
    "verifiers": ("grpo_colab.tasks.verifiers", "Verifiers"),
}
TO_INSTALL: Final = {"reasoning_gym": "grpo_colab[reasoning-gym]", "verifiers": "verifiers>=0.2,<0.4"}
OTHER_NAMES: Final = "my_task.py:MyTask, package.module:MyTask, reasoning_gym:DATASET or verifiers:ENVIRONMENT"


class TaskName(NamedTuple):
    """A parsed task's name. `origin` is the file, the module or the library, and `attribute` what is named there.

    For a task of this package, `origin` is empty.
    """

    text: str
    origin: str
    attribute: str
    kind: Literal["ours", "file", "module", "library"]

    @property
    def runs_code(self) -> bool:
        """Tell whether making the task runs code that is not this package's."""
        return self.kind != "ours"

    @property
    def is_own(self) -> bool:
        """Tell whether the task's class is somebody's own, so that only an import shows its settings."""
        return self.kind in ("file", "module")

    @property
    def label(self) -> str:
        """Return the name for people: a file without its folders."""
        return f"{Path(self.origin).name}:{self.attribute}" if self.kind == "file" else self.text


def parse_task(name: str) -> TaskName:
    """Parse a task's name. Whether there is such a task is not checked, and nothing is raised."""
    origin, colon, attribute = name.rpartition(":")
    if not colon:
        return TaskName(name, "", name, "ours")
    if origin.endswith(".py"):
        return TaskName(name, origin, attribute, "file")
    return TaskName(name, origin, attribute, "library" if origin in LIBRARIES else "module")


def canonical_task(name: str) -> str:
    """Return the one spelling of a task's name: a file gets its absolute path, so that a run resumes from anywhere."""
    parsed = parse_task(name)
    return f"{expanded(parsed.origin).absolute()}:{parsed.attribute}" if parsed.kind == "file" else name


def check_task_name(name: TaskName) -> None:
    """Raise SettingError, naming task.name, for a task of others that surely does not exist; nothing is imported.

    A file must be there, parse, and define the class. A module's package, a library, and the package of a library's
    environment must be installed.
    """
    if not re.fullmatch(r"[A-Za-z_][\w./-]*", name.attribute):
        problem = "has no name of a class behind its colon" if name.is_own else "has no name behind its colon"
        raise SettingError(problem, setting="task.name", value=name.text, remedy=f"write {OTHER_NAMES}")
    remedy = None
    try:
        if name.kind == "file":
            if function_in_file(name.origin, name.attribute) is not None:
                problem = f"{name.attribute!r} in {name.origin!r} is a function, not a class"
                raise SettingError(problem, remedy=f"write class {name.attribute}(Task)")
            return
        if name.kind == "library":
            remedy = f'run `pip install "{TO_INSTALL[name.origin]}"`'
            need_package(name.origin)
            remedy = "install the package of that environment"
        need_package(package_of(name))
    except SettingError as error:
        raise error.replace(setting="task.name", value=name.text, remedy=remedy or error.remedy) from None


def package_of(name: TaskName) -> str:
    """Return the module whose import makes the task: the library's, or that of an environment of verifiers."""
    if name.origin == "verifiers" and name.kind == "library":
        return environment_module(name.attribute)
    return name.origin


def environment_module(environment: str) -> str:
    """Return the module of an environment of verifiers, by the rule of that library."""
    return environment.replace("-", "_").split("/")[-1]


def task_code(name: TaskName) -> str:
    """Return the name of the code that a task runs, with its place, by which it is trusted."""
    origin = package_of(name)
    place = place_of(RewardName(name.text, origin, name.attribute, None, name.kind == "file"))
    return f"{place}:{name.attribute}" if name.kind == "file" else f"{name.text} from {place}"
