"""From the name of a reward, as a recipe or a command line gives it, to the function; and whether TRL can call it."""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Collection, Iterable
from types import ModuleType
from typing import Any, Final, NamedTuple, TypeVar, cast

from grpo_colab.errors import SettingError, nearest, one_line
from grpo_colab.rewards import correctness, latex, shaping
from grpo_colab.rewards import format as formats

CallableT = TypeVar("CallableT", bound=Callable[..., Any])
_OURS: Final = {
    name: value
    for module in (correctness, formats, shaping, latex)
    for name, value in vars(module).items()
    if name.endswith("_reward") and name[0] != "_"
}
SHORT_NAMES: Final = tuple(dict.fromkeys(n.removeprefix("get_").removesuffix("_reward") for n in _OURS))
# What TRL passes to every reward function beside the columns of the data set, and the columns that it holds back.
_ALWAYS_PASSED: Final = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
_FACTORY: Final = r"get_(?:\w+_)?reward"
_MARK: Final = "makes_rewards"
_HELD_BACK: Final = frozenset({"prompt", "completion", "completion_ids"})


class RewardName(NamedTuple):
    """A reward's name, taken apart. `settings` are None without brackets, `origin` is empty for our short names."""

    text: str
    origin: str
    attribute: str
    settings: dict[str, Any] | None
    in_file: bool

    @property
    def ours(self) -> bool:
        """Tell whether it is this package's own: to import and call that is nothing that needs trust."""
        parts = self.origin.split(".")
        own = parts[0] == "grpo_colab" and parts[1:2] in (["rewards"], ["tasks"])
        return not self.origin or (own and not self.in_file and not any(part[:1] == "_" for part in parts))


def parse_reward(name: str) -> RewardName:
    """Take a reward's name apart: importing nothing, running nothing. SettingError for settings that are none."""
    head, settings = _settings(name)
    origin, colon, attribute = head.rpartition(":")
    if not (colon and origin.endswith(".py")):
        origin, _, attribute = head.rpartition(".")
    return RewardName(head, origin, attribute, settings, bool(colon and origin.endswith(".py")))


def resolve_reward(name: str) -> Callable[..., Any]:
    """Import and return the reward function called `name`; **this runs what the name leads to**.

    A short name of ours (`correctness` or `correctness_reward`), a dotted path (`package.module.function`), or a file
    (`path/to/file.py:function`), which is run afresh each time. With settings behind it, as in
    `cosine_scaled(max_len=512)`, it is what `get_cosine_scaled_reward(max_len=512)` returns; a path then names the
    factory itself, which is called `get_..._reward` or marked by `reward_factory`: nothing else is called. Everything
    that can be wrong with it is a SettingError of one line.
    """
    parsed = parse_reward(name)
    head, origin, attribute, settings, in_file = parsed
    if not origin:
        return _ours(head, settings)
    try:
        if not in_file:
            look_here(origin)
        module = _run_file(origin) if in_file else importlib.import_module(origin)
    except (Exception, SystemExit) as error:
        raise SettingError(f"{origin!r} does not import: {one_line(error)}") from error
    if not hasattr(module, attribute):
        raise no_such_function(origin, attribute, vars(module))
    function = getattr(module, attribute)
    if not callable(function):
        raise SettingError(f"{attribute!r} in {origin!r} is of type {type(function).__name__}, not a function")
    if parsed.ours and not str(getattr(function, "__module__", "")).startswith("grpo_colab."):
        remedy = "write the module that it comes from"
        raise SettingError(f"{attribute!r} in {origin!r} is no reward of grpo_colab", remedy=remedy)
    if settings is None:
        return function
    if not (re.fullmatch(_FACTORY, attribute) or getattr(function, _MARK, False)):
        raise SettingError(
            f"{head!r} has settings, and only a factory is called with them",
            remedy="name it get_..._reward, or mark it with grpo_colab.rewards.reward_factory",
        )
    return _made(head, function, settings)


def no_such_function(origin: str, attribute: str, known: Iterable[str]) -> SettingError:
    """Return the refusal of a name that a module or a file does not define."""
    near = nearest(attribute, known).removeprefix("; ")
    return SettingError(f"{origin!r} has no {attribute!r}", remedy=near or None)


def look_here(origin: str) -> None:
    """Let a package that lies where the user stands be imported from there, as `python` itself would, but last.

    That folder is on the path for what lies in it alone: else any library that is not installed, and that another one
    looks for, could be taken from there.
    """
    import importlib.machinery
    from pathlib import Path

    top, here = origin.partition(".")[0], str(Path.cwd())
    finder = importlib.machinery.PathFinder
    if (
        top not in sys.modules
        and here not in sys.path
        and finder.find_spec(top) is None
        and finder.find_spec(top, [here])
    ):
        sys.path.append(here)


def reward_factory(function: CallableT) -> CallableT:
    """Mark a function that makes rewards, for a recipe to call it with settings whatever it is called."""
    setattr(function, _MARK, True)
    return function


def split_names(text: str) -> list[str]:
    """`a,b(x=(1, 2), y="p,q")` as two names: commas in brackets and quotes do not part them."""
    names, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        depth += (character in "([{") - (character in ")]}") if not quote else 0
        if character == "," and not depth and not quote:
            names.append("")
        else:
            names[-1] += character
    return [name.strip() for name in names if name.strip()]


def split_settings(name: str) -> tuple[str, str]:
    """The function's name, and its settings with their brackets, or an empty string. Brackets in a path are none."""
    found = re.fullmatch(r"(.+?\.py:\w+|[\w.]+)\s*(\(.*\))", name.strip(), re.DOTALL)
    return (found[1], found[2]) if found else (name, "")


def _settings(name: str) -> tuple[str, dict[str, Any] | None]:
    """`cosine_scaled(max_len=512)` as its name and its settings, which are None without parentheses."""
    head, inside = split_settings(name)
    if not inside and not re.fullmatch(r"[\w.]+\(.*", head, re.DOTALL):
        return name, None
    import ast

    try:
        call = ast.parse(f"call{inside}", mode="eval").body
        assert isinstance(call, ast.Call) and not call.args
        return head, {str(pair.arg): ast.literal_eval(pair.value) for pair in call.keywords}
    except (SyntaxError, ValueError, AssertionError, MemoryError, RecursionError):
        remedy = "write them as in cosine_scaled(max_len=512)"
        raise SettingError(f"the settings of {name!r:.200} cannot be read", remedy=remedy) from None


def _ours(name: str, settings: dict[str, Any] | None) -> Callable[..., Any]:
    short = name.removesuffix("_reward")
    if short not in SHORT_NAMES:
        near = nearest(short, SHORT_NAMES).removeprefix("; ")
        known = f"{near} Or" if near else f"there are {', '.join(sorted(SHORT_NAMES))}; or"
        remedy = f"{known} write package.module.function, or path/to/file.py:function"
        raise SettingError(f"there is no reward {name!r}", remedy=remedy)
    plain, factory = _OURS.get(f"{short}_reward"), _OURS.get(f"get_{short}_reward")
    if plain is not None and settings is None:
        return plain
    if factory is None:
        raise SettingError(f"the reward {name!r} has no settings", remedy="take out the brackets")
    return _made(name, factory, settings or {})


def _made(name: str, factory: Callable[..., Any], settings: dict[str, Any]) -> Callable[..., Any]:
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


def check_signature(function: Callable[..., Any], columns: Collection[str]) -> None:
    """Raise SettingError unless TRL can call `function` for a data set with `columns`; name the parameter in its way.

    TRL calls every reward function by keyword: prompts, completions, completion_ids, trainer_state, log_extra,
    log_metric, and every column but `prompt` and `completion`.
    """
    import inspect

    name = callable_name(function)
    parts = getattr(function, "parts", ())
    for part in parts if isinstance(parts, list | tuple) else ():  # of combine
        check_signature(part, columns)
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        problem = f"{name} has no signature that can be read, so it is no reward function"
        raise SettingError(problem, remedy="name a Python function") from None
    available = sorted(set(columns) - _HELD_BACK)
    passed = {*_ALWAYS_PASSED, *available}
    for p in parameters:
        if p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            continue
        if p.kind is p.POSITIONAL_ONLY:
            raise SettingError(f"{name} takes {p.name!r} by position only, and TRL passes everything by keyword")
        if p.name not in passed:
            remedy = f"the columns are {', '.join(available) or 'none'}"
            raise SettingError(f"{name} needs a column {p.name!r}", remedy=remedy)
    named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if not takes_all and (refused := sorted(passed - named)):
        problem = f"{name} must accept {', '.join(refused)}, which TRL passes"
        raise SettingError(problem, remedy="add **kwargs to its parameters")


def reward_name(function: Callable[..., Any]) -> str:
    """Return the key under which a reward is kept; see `reward_key`."""
    return reward_key(callable_name(function))


def reward_key(name: str) -> str:
    """Return the key of a reward by its function's name: `correctness` for `correctness_reward`.

    Every file that we write has the key, as recipes do. TRL's own metrics have the function's name. The key of a key is
    the key itself.
    """
    end = len(name)
    while name.endswith("_reward", 0, end):
        end -= len("_reward")
    return name[:end] or name


def callable_name(function: Callable[..., Any]) -> str:
    """The name that TRL knows it by: of what a partial wraps, of the class of a callable object."""
    function = _unwrapped(function)
    return str(getattr(function, "__name__", type(function).__name__))


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine, which TRL then awaits."""
    import inspect

    function = _unwrapped(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _run_file(file: str) -> ModuleType:
    """The module in the file, also entered in `sys.modules`, without which its functions could not be pickled."""
    import importlib.util  # a third of what importing the rewards would cost, for what few of their users call
    import zlib

    from grpo_colab.utils.files import expanded

    path = expanded(file)
    name = f"{path.stem}_{zlib.crc32(bytes(path.resolve())):08x}"  # files of one name in two folders are two modules
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # the name ends in .py
    module = importlib.util.module_from_spec(spec)
    # not the loader's exec_module: its byte code is stale when a file is saved twice within a second
    code = compile(path.read_bytes(), str(path), "exec")
    sys.modules[name] = module
    exec(code, module.__dict__)  # noqa: S102 - the user's own file, named by the user
    return module
