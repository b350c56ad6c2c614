"""Import a task of somebody's own, and check what it gives: its class, its settings, its problems.

A class of one's own is wrong in ways that this package's are not. Each is refused in one sentence that names the file,
the line, and what to write instead. `names` reads the name without importing anything.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from grpo_colab.errors import SettingError, one_line, shown
from grpo_colab.rewards.resolve import SHORT_NAMES, look_here, no_such_function, run_file
from grpo_colab.tasks import Problem, Task, task_class
from grpo_colab.tasks.jsonl_rows import check_values
from grpo_colab.tasks.names import TaskName
from grpo_colab.utils.files import expanded, read_bytes
from grpo_colab.utils.stack import imported_early

REPEATED: Final = 8  # problems that are asked for twice
HOW: Final = "write `class {}(Task)`, with `from grpo_colab.tasks import Problem, Task`"


def own_class(name: TaskName) -> type[Task]:
    """Import and return the class of a task of others; **this runs the file or the module that the name leads to**.

    A library's data set has a class of this package, and nothing is run here. A file is run again when its content has
    changed. A class without a `name` is called as it is called in Python. Raises SettingError, with the place, for code
    that does not import, and for what is no complete subclass of Task.
    """
    if not name.is_own:
        return task_class(name.text)
    with _blamed(name, "does not import"):
        module = _module_of(name)
        cls = getattr(module, name.attribute, None)
    if cls is None:
        missing = no_such_function(name.origin, name.attribute, dir(module))
        raise missing.replace(setting="task.name", value=name.text)
    if not isinstance(cls, type):
        problem = f"{name.attribute!r} is of type {type(cls).__name__}, not a class"
        raise _refused(name, problem, HOW.format(name.attribute))
    place = _line_of(cls)
    if not issubclass(cls, Task):
        problem = f"{cls.__name__!r} is no subclass of grpo_colab.tasks.Task"
        raise _refused(name, problem, HOW.format(cls.__name__), place)
    if inspect.isabstract(cls):
        missing_methods = ", ".join(sorted(cls.__abstractmethods__))
        remedy = "write def problems(self, split, n=None), which returns a list of Problem"
        raise _refused(name, f"{cls.__name__!r} does not define {missing_methods}", remedy, place)
    if not isinstance(getattr(cls, "name", None), str):
        cls.name = cls.__name__
    return cls


def make_task(name: TaskName, options: Mapping[str, Any]) -> Task:
    """Make a task of others with these options, which runs its code.

    Raises SettingError for a class that cannot be had, and for a constructor that raises anything.
    """
    cls = own_class(name)
    given = (name.attribute,) if name.kind == "library" else ()
    for parameter in inspect.signature(cls).parameters.values():
        is_keyword = parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        if is_keyword and parameter.default is parameter.empty and parameter.name not in options:
            remedy = f"the task {name.label!r} needs it"
            raise SettingError("is missing", setting=f"task.{parameter.name}", remedy=remedy, place=_line_of(cls))
    with _blamed(name, f"{cls.__name__}() raises", _line_of(cls)):
        return cls(*given, **options)


def own_rewards(name: TaskName, settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the weights of the rewards that a task of others has by default, by their full names.

    A class may name a function of its own file or module by that function's name alone.
    """
    cls = own_class(name)
    with _blamed(name, "its default_rewards cannot be read", _line_of(cls)):
        weights = dict(cls.rewards_by_default(settings))
    module = sys.modules[cls.__module__]
    return {_full_name(name, module, reward): weight for reward, weight in weights.items()}


def columns_of(task: Task) -> list[str]:
    """Return the columns that a task passes to the rewards; those of a class of one's own come from its first problem.

    A class that defines `reward_columns` is asked for them. Raises SettingError as `problems_of` does.
    """
    if not _is_own(task):
        return task.reward_columns()
    method = type(task).reward_columns
    if method is Task.reward_columns:
        first = problems_of(task, "train", 1)
        return ["answer", *(first[0].columns if first else ())]
    with _blamed_task(task, "reward_columns() raises", method):
        return task.reward_columns()


def problems_of(task: Task, split: str, n: int | None = None) -> list[Problem]:
    """Return the first `n` problems of a split, all with n = None; those of a class of one's own are checked.

    Raises what the tasks of this package raise. For a class of one's own, raises SettingError, with the place, where
    `problems` raises anything, for what is no Problem or none that can be trained on, and where the same call gives
    other problems the second time.
    """
    if not _is_own(task):
        return task.problems(split, n)
    called = f"problems({split!r}, {n})"
    method = type(task).problems
    with _blamed_task(task, f"{called} raises", method):
        found = task.problems(split, n)
        if isinstance(found, Iterable) and not isinstance(found, str | Mapping):
            found = list(found)[:n]
    if not isinstance(found, list):
        problem = f"{called} returns {shown(found)}"
        raise _refused_task(task, problem, "return a list of Problem", method)
    for index, one in enumerate(found):
        _check_problem(task, f"{called}[{index}]", one)
    with _blamed_task(task, f"problems({split!r}, {REPEATED}) raises", method):
        again = list(task.problems(split, REPEATED))
    known = [(problem.key, problem.answer) for problem in found[:REPEATED]]
    if known != [(problem.key, problem.answer) for problem in again[: len(known)]]:
        raise _refused_task(
            task,
            f"{called} and problems({split!r}, {REPEATED}) begin with different problems, so no run could be resumed",
            "take the first n of one order, and draw what is random from random.Random(f'{split}/{self.seed}')",
            method,
        )
    return found


def need_separate_splits(task: Task, problems: Iterable[Problem], held_out: Iterable[Problem]) -> None:
    """Raise SettingError where a class of one's own trains on a prompt that it also holds out for the evaluation."""
    if not _is_own(task):
        return
    trained = {problem.key for problem in problems}
    shared = [problem for problem in held_out if problem.key in trained]
    if shared:
        raise _refused_task(
            task,
            f"{len(shared)} of its held-out prompts are trained on, too, such as {shown(shared[0].question)}",
            'give "train" and "test" different problems, or write evaluation.split = "train"',
            type(task).problems,
        )


def _check_problem(task: Task, where: str, problem: Any) -> None:
    """Raise SettingError for what is no Problem, or one that no prompt and no reward could be made of."""
    method = type(task).problems
    if not isinstance(problem, Problem):
        remedy = "write Problem(question, answer), from grpo_colab.tasks"
        raise _refused_task(task, f"{where} is {shown(problem)}, no Problem", remedy, method)
    for field in ("question", "answer", "source"):
        text = getattr(problem, field)
        if not isinstance(text, str) or (field == "question" and not text.strip()):
            raise _refused_task(task, f"{where} has the {field} {shown(text)}", "write a text", method)
    if not isinstance(problem.columns, Mapping) or not all(isinstance(key, str) for key in problem.columns):
        raise _refused_task(task, f"{where} has the columns {shown(problem.columns)}", "write a dict by name", method)
    try:
        check_values({"question": problem.question, "answer": problem.answer, **problem.columns}, where)
    except SettingError as error:
        raise error.replace(place=f"{_line_of(method)}: {error.place}") from None


def _module_of(name: TaskName) -> ModuleType:
    """Import the module of a task of one's own, or run its file, and return the module."""
    if name.kind == "module":
        look_here(name.origin)
        return importlib.import_module(name.origin)
    path = expanded(name.origin).absolute()
    return _module_in(path, read_bytes(path, follow=True))


@functools.lru_cache(maxsize=16)  # so that a task that is made several times runs its file once
def _module_in(path: Path, content: bytes) -> ModuleType:
    """Run a file with this content as a module."""
    return run_file(str(path))


def _full_name(name: TaskName, module: ModuleType, reward: str) -> str:
    """Return a reward's name as a recipe writes it, where a class names a function of its own file or module."""
    if "." in reward or ":" in reward or reward.removesuffix("_reward") in SHORT_NAMES:
        return reward
    function = next((one for one in (reward, f"{reward}_reward") if hasattr(module, one)), reward)
    if name.kind == "file":
        return f"{expanded(name.origin).absolute()}:{function}"
    return f"{module.__name__}.{function}"


def _is_own(task: Task) -> bool:
    """Tell whether a task's class is somebody's own, and not of this package."""
    return not type(task).__module__.startswith("grpo_colab.")


@contextlib.contextmanager
def _blamed(name: TaskName, what: str, place: str | None = None) -> Iterator[None]:
    """Raise as a SettingError whatever the code of a task raises, with the line of that code where it is known.

    A SettingError passes as it is. `what` says what was done, `place` is the place where no line is known. Also raises
    SettingError for code that imports a library which unsloth has to come before: a training would only fail later.
    """
    before = imported_early()
    try:
        yield
    except SettingError:
        raise
    except (Exception, SystemExit) as error:
        found = _raised_at(error, name) or place
        raise _refused(name, f"{what}: {one_line(error)}", "correct it there", found) from error
    early = [library for library in imported_early() if library not in before]
    if early and "unsloth" not in sys.modules:
        problem = f"imports {', '.join(early)}, which unsloth must come before"
        remedy = "call `import_unsloth()` first, with `from grpo_colab.utils.stack import import_unsloth`"
        raise _refused(name, problem, remedy, place)


@contextlib.contextmanager
def _blamed_task(task: Task, what: str, method: Any) -> Iterator[None]:
    """Raise as a SettingError whatever a method of a task raises; see `_blamed`."""
    with _blamed(_name_of(task), what, _line_of(method)):
        yield


def _name_of(task: Task) -> TaskName:
    """Return the name of a task of one's own by its class: its file, or its module where it has none."""
    cls = type(task)
    file = inspect.getsourcefile(cls) or cls.__module__
    return TaskName(f"{file}:{cls.__name__}", file, cls.__name__, "file")


def _refused(name: TaskName, problem: str, remedy: str, place: str | None = None) -> SettingError:
    """Return the refusal of a task; `place` is a file with a line."""
    return SettingError(problem, setting="task.name", value=name.label, remedy=remedy, place=place)


def _refused_task(task: Task, problem: str, remedy: str, method: Any) -> SettingError:
    """Return the refusal of what a method of a task has returned."""
    return _refused(_name_of(task), problem, remedy, _line_of(method))


def _raised_at(error: BaseException, name: TaskName) -> str | None:
    """Return the last line of the task's own file that an exception came through, as file:line; None for none."""
    file = str(expanded(name.origin).absolute()) if name.kind == "file" else None
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = str(Path(__file__).parents[1])
    own = [one for one in frames if (one.filename == file if file else not one.filename.startswith((ours, "<")))]
    return f"{own[-1].filename}:{own[-1].lineno}" if own else None


def _line_of(code: Any) -> str:
    """Return where a class or a function is defined, as file:line, or the name of its module."""
    with contextlib.suppress(OSError, TypeError):
        return f"{inspect.getsourcefile(code)}:{inspect.getsourcelines(code)[1]}"
    return str(getattr(code, "__module__", ""))
