"""Find the reward function that a recipe or a command line names, and check that TRL can call it.

`names.py` reads the name itself. `static_check.py` tells what it can about a name without importing anything.
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from types import ModuleType
from typing import Any, Final, TypeVar, cast

from grpo_colab.errors import SettingError, nearest, one_line
from grpo_colab.rewards import correctness, latex, shaping
from grpo_colab.rewards import format as formats
from grpo_colab.rewards.names import FACTORY_NAME, parse_reward, reward_key

CallableT = TypeVar("CallableT", bound=Callable[..., Any])
_OURS: Final = {
    name: value
    for module in (correctness, formats, shaping, latex)
    for name, value in vars(module).items()
    if name.endswith("_reward") and name[0] != "_"
}
SHORT_NAMES: Final = tuple(dict.fromkeys(n.removeprefix("get_").removesuffix("_reward") for n in _OURS))
# What TRL passes to every reward function besides the columns of the data set, and the columns that it does not pass.
ALWAYS_PASSED: Final = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
NOT_PASSED: Final = frozenset({"prompt", "completion", "completion_ids"})
_FACTORY_MARK: Final = "makes_rewards"  # the attribute that `reward_factory` sets


def resolve_reward(name: str, grading: Mapping[str, str] | None = None) -> Callable[..., Any]:
    """Import and return the reward function called `name`; **this runs what the name leads to**.

    The name is one of:

    - a short name of this package's: `correctness` or `correctness_reward`
    - a dotted path: `package.module.function`
    - a file and a function: `path/to/file.py:function`; the file is run again each time

    With settings, `cosine_scaled(max_len=512)` is what `get_cosine_scaled_reward(max_len=512)` returns. A path with
    settings names the factory itself, which must be called `get_..._reward` or marked by `reward_factory`; nothing else
    is called.

    `grading` are a task's settings, such as `answer_in`. A reward of a short name takes those of them that its factory
    has, unless its brackets set them.

    For a dotted path, the current folder may be added to `sys.path`: see `look_here`. A file stays in `sys.modules`.
    Raises SettingError, of one line, for a name that leads to no function, for code that fails while it is imported,
    and for settings that its factory refuses.
    """
    parsed = parse_reward(name)
    head, origin, attribute, settings, in_file = parsed
    if parsed.given:
        raise SettingError(
            f"{attribute!r} is a Python function, to which no name leads",
            remedy=f"write the file that has it, as in my_rewards.py:{attribute}",
        )
    if not origin:
        return _ours(head, settings, grading or {})
    try:
        if not in_file:
            look_here(origin)
        module = run_file(origin) if in_file else importlib.import_module(origin)
    except (Exception, SystemExit) as error:
        from grpo_colab.rewards.failure import place_of_error

        raise SettingError(f"{origin!r} does not import: {one_line(error)}", place=place_of_error(error)) from error
    try:
        function = getattr(module, attribute)
    except AttributeError:
        raise no_such_function(origin, attribute, dir(module)) from None
    except Exception as error:  # the module imports its names on demand
        raise SettingError(f"{attribute!r} of {origin!r} does not import: {one_line(error)}") from error
    if not callable(function):
        raise SettingError(f"{attribute!r} in {origin!r} is of type {type(function).__name__}, not a function")
    if parsed.ours and not str(getattr(function, "__module__", "")).startswith("grpo_colab."):
        remedy = "write the module that it comes from"
        raise SettingError(f"{attribute!r} in {origin!r} is no reward of grpo_colab", remedy=remedy)
    if settings is None:
        return function
    if not (re.fullmatch(FACTORY_NAME, attribute) or getattr(function, _FACTORY_MARK, False)):
        raise SettingError(
            f"{head!r} has settings, and only a factory is called with them",
            remedy="name it get_..._reward, or mark it with grpo_colab.rewards.reward_factory",
        )
    return _made(head, function, settings)


def name_to_import(function: Callable[..., Any]) -> str | None:
    """Return the name by which `resolve_reward` finds this very function in another process; None where none does.

    This is the short name of a reward of this package that has no settings, or the dotted path of a function at the top
    level of a module that can be imported. `__main__`, a script or a notebook, is never imported: that would run it.
    """
    name = getattr(function, "__qualname__", "")
    if _OURS.get(name) is function and not name.startswith("get_"):
        return reward_key(name)
    module = str(getattr(function, "__module__", None))
    found = getattr(sys.modules.get(module), name, None) if name.isidentifier() else None
    if module == "__main__" or found is not function or callable_name(function) != name:
        return None
    # A module of this process may have been made in another way than by an import of its name.
    is_importable = any(finder.find_spec(module.partition(".")[0], None) for finder in sys.meta_path)
    return f"{module}.{name}" if is_importable else None


def no_such_function(origin: str, attribute: str, known: Iterable[str]) -> SettingError:
    """Return the error for a name that a module or a file does not define, with the nearest one that it does."""
    near = nearest(attribute, known)
    return SettingError(f"{origin!r} has no {attribute!r}", remedy=near or None)


def look_here(origin: str) -> None:
    """Allow importing the package of `origin` from the current folder, as `python` itself would, but last.

    The folder is added to the path only if the package is in it and nowhere else. Otherwise a library that is not
    installed, and that another library looks for, could be imported from there.
    """
    import importlib.machinery
    from pathlib import Path

    package, here = origin.partition(".")[0], str(Path.cwd())
    if package in sys.modules or here in sys.path:
        return
    finder = importlib.machinery.PathFinder
    if finder.find_spec(package) is None and finder.find_spec(package, [here]):
        sys.path.append(here)


def reward_factory(function: CallableT) -> CallableT:
    """Mark a function as one that makes rewards, so that a recipe may call it with settings under any name.

    Returns the function itself, which has one attribute more.
    """
    setattr(function, _FACTORY_MARK, True)
    return function


def _ours(name: str, settings: dict[str, Any] | None, grading: Mapping[str, str]) -> Callable[..., Any]:
    """Return this package's reward of a short name: the plain one, or what its factory makes with the settings.

    Settings of `grading` that the factory has count where `settings` has no others.
    Raises SettingError for an unknown name, for settings of a reward that has none, and for settings that cannot work.
    """
    short = name.removesuffix("_reward")
    if short not in SHORT_NAMES:
        near = nearest(short, SHORT_NAMES)
        known = f"{near} Or" if near else f"there are {', '.join(sorted(SHORT_NAMES))}; or"
        remedy = f"{known} write package.module.function, or path/to/file.py:function"
        raise SettingError(f"there is no reward {name!r}", remedy=remedy)
    plain, factory = _OURS.get(f"{short}_reward"), _OURS.get(f"get_{short}_reward")
    if factory is not None and grading:
        import inspect

        taken = inspect.signature(factory).parameters
        followed = {setting: value for setting, value in grading.items() if setting in taken}
        settings = followed | (settings or {}) if followed else settings
    if plain is not None and settings is None:
        return plain
    if factory is None:
        raise SettingError(f"the reward {name!r} has no settings", remedy="take out the brackets")
    return _made(name, factory, settings or {})


def _made(name: str, factory: Callable[..., Any], settings: dict[str, Any]) -> Callable[..., Any]:
    """Return the reward that a factory makes with these settings, or raise SettingError."""
    with_settings = f"{name!r} with {settings or 'no settings'}"
    try:
        made = factory(**settings)
    except SettingError:  # it names the setting itself
        raise
    except Exception as error:
        raise SettingError(f"{with_settings}: {one_line(error)}") from error
    if not callable(made):
        raise SettingError(f"{with_settings} gives a {type(made).__name__}, not a function")
    return cast(Callable[..., Any], made)


class MissingColumn(SettingError):
    """Refuse a reward that needs a column which the data set lacks."""


def check_signature(function: Callable[..., Any], columns: Collection[str]) -> None:
    """Raise SettingError, naming the parameter, unless TRL can call `function` for a data set with `columns`.

    TRL calls every reward function by keyword: prompts, completions, completion_ids, trainer_state, log_extra,
    log_metric, and every column but `prompt` and `completion`. The parts of a `combine` are checked as well. A function
    without a readable signature is refused, too. The function is not called.
    """
    import inspect

    name = callable_name(function)
    parts = getattr(function, "parts", ())  # of `combine`
    if isinstance(parts, list | tuple):
        for part in parts:
            check_signature(part, columns)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        problem = f"{name} has no signature that can be read, so it is no reward function"
        raise SettingError(problem, remedy="name a Python function") from None
    available = sorted(set(columns) - NOT_PASSED)
    passed = {*ALWAYS_PASSED, *available}
    for parameter in parameters:
        is_optional = parameter.default is not parameter.empty
        if is_optional or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise SettingError(
                f"{name} takes {parameter.name!r} by position only, and TRL passes everything by keyword"
            )
        if parameter.name not in passed:
            remedy = f"the columns are {', '.join(available) or 'none'}"
            raise MissingColumn(f"{name} needs a column {parameter.name!r}", remedy=remedy)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    refused = [] if takes_all else sorted(passed - named)
    if refused:
        problem = f"{name} must accept {', '.join(refused)}, which TRL passes"
        raise SettingError(problem, remedy="add **kwargs to its parameters")


def reward_name(function: Callable[..., Any]) -> str:
    """Return the key of a reward function; see `reward_key`."""
    return reward_key(callable_name(function))


def callable_name(function: Callable[..., Any]) -> str:
    """Return the name that TRL uses for a function, for what a partial wraps, or for the class of a callable object."""
    function = _unwrapped(function)
    return str(getattr(function, "__name__", type(function).__name__))


def is_async(function: Callable[..., Any]) -> bool:
    """Tell whether calling `function` returns a coroutine, which TRL awaits."""
    import inspect

    function = _unwrapped(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return what a partial, or a partial of a partial, calls."""
    while isinstance(function, functools.partial):
        function = function.func
    return function


def run_file(file: str) -> ModuleType:
    """Run a file as a module, enter it in `sys.modules`, so that its functions can be pickled, and return it.

    The module's name depends on the whole path, since two folders may have files of the same name. Raises OSError for a
    file that cannot be read, SyntaxError for one that is no Python, and whatever the file raises.
    """
    import importlib.util  # importing it costs a third as much as the rewards do, and few of their users need it
    import zlib

    from grpo_colab.utils.files import expanded

    path = expanded(file)
    name = f"{path.stem}_{zlib.crc32(bytes(path.resolve())):08x}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    # The loader's own exec_module would run stale byte code when a file is saved twice within a second.
    code = compile(path.read_bytes(), str(path), "exec")
    sys.modules[name] = module
    exec(code, module.__dict__)  # noqa: S102 - the user's own file, named by the user
    return module
