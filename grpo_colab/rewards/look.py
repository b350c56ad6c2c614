"""What can be told of a reward by its name alone: nothing is imported or run, for to read a recipe is not to run it."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from grpo_colab.errors import SettingError, one_line
from grpo_colab.rewards.resolve import (
    RewardName,
    check_signature,
    no_such_function,
    parse_reward,
    resolve_reward,
    reward_name,
)
from grpo_colab.utils.files import expanded, read_bytes

MOST_SOURCE: Final = 1 << 22  # bytes of a file of rewards


def look_at_reward(name: str, columns: Collection[str] | None = None) -> str | None:
    """Say what can be told of a reward without importing or running it; returns its metric's name, or None.

    Of this package's own all is told. Of a file, whether it parses and defines the function, and whether TRL can call
    that; of a dotted path, whether there is such a package. What is wrong is a SettingError of one line.
    """
    parsed = parse_reward(name)
    if parsed.ours:
        function = resolve_reward(name)
        if columns is not None:
            check_signature(function, columns)
        return reward_name(function)
    if parsed.in_file:
        defined = _defined(parsed.origin, parsed.attribute)
        if columns is not None and defined is not None and parsed.settings is None:
            check_signature(defined, columns)
    else:
        _need_package(parsed.origin)
    return None if parsed.settings is not None else parsed.attribute.removesuffix("_reward") or parsed.attribute


def place_of(parsed: RewardName) -> str:
    """Where a reward that is not ours would be imported from, found without importing it."""
    if parsed.in_file:
        return str(expanded(parsed.origin).absolute())
    spec = _spec(parsed.origin.partition(".")[0])
    found = [spec.origin] if spec and spec.origin else [*(spec.submodule_search_locations or ())] if spec else []
    return str(Path(found[0]).absolute()) if found else "nowhere"


class _Described:
    """A function as its source describes it: what `check_signature` asks for, and nothing to run."""

    def __init__(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        given, empty = node.args, inspect.Parameter.empty
        positional = [*given.posonlyargs, *given.args]
        without = len(positional) - len(given.defaults)
        kinds = inspect.Parameter
        found = [
            kinds(
                argument.arg,
                kinds.POSITIONAL_ONLY if n < len(given.posonlyargs) else kinds.POSITIONAL_OR_KEYWORD,
                default=empty if n < without else None,
            )
            for n, argument in enumerate(positional)
        ]
        if given.vararg:
            found.append(kinds(given.vararg.arg, kinds.VAR_POSITIONAL))
        for argument, default in zip(given.kwonlyargs, given.kw_defaults, strict=True):
            found.append(kinds(argument.arg, kinds.KEYWORD_ONLY, default=empty if default is None else None))
        if given.kwarg:
            found.append(kinds(given.kwarg.arg, kinds.VAR_KEYWORD))
        self.__name__, self.__signature__ = node.name, inspect.Signature(found)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self.__name__} was only looked at")


def _defined(file: str, attribute: str) -> _Described | None:
    """The function of a file as its source describes it; None where that cannot be told. SettingError for none."""
    try:
        tree = ast.parse(read_bytes(expanded(file), most=MOST_SOURCE, follow=True))
    except (OSError, SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise SettingError(f"{file!r} does not import: {one_line(error)}") from None
    names: set[str] = set()
    hidden = False  # names that no reader can see
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
                hidden |= node.name == "__getattr__"
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.Name(id="globals" | "vars" | "exec" | "setattr" | "locals"):
                hidden = True
            case ast.alias(name="*"):
                hidden = True
            case ast.alias():
                names.add((node.asname or node.name).partition(".")[0])
    if attribute not in names and not hidden:
        raise no_such_function(file, attribute, names)
    plain = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = [node for node in plain if node.name == attribute and not node.decorator_list]
    return _Described(found[-1]) if len(found) == 1 and not hidden else None


def _need_package(origin: str) -> None:
    top = origin.partition(".")[0]
    if not (top in sys.modules or (top and _spec(top) is not None)):
        raise SettingError(f"{origin!r} does not import: ModuleNotFoundError: No module named {top!r}")


def _spec(package: str) -> Any:
    """What importing a top-level package would read, found without importing it; None for nothing."""
    import importlib.machinery
    import importlib.util

    try:
        here = importlib.machinery.PathFinder.find_spec(package, [str(Path.cwd())])
        return importlib.util.find_spec(package) or here
    except (ImportError, ValueError, AttributeError, OSError):
        return None
