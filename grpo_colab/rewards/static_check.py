"""Check a reward's name without importing or running anything, because reading a recipe must not run its code.

`resolve.py` imports what the name leads to.
"""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from grpo_colab.errors import SettingError, one_line
from grpo_colab.rewards.graders.own import OwnGrader
from grpo_colab.rewards.names import FACTORY_NAME, RewardName, parse_reward, reward_key
from grpo_colab.rewards.resolve import check_signature, no_such_function, resolve_reward, reward_name
from grpo_colab.utils.files import expanded, read_bytes

MOST_SOURCE: Final = 1 << 22  # bytes of a file with rewards
Wanted = Literal["reward", "grader"]  # what a function of a file is to be
# What such a function takes, and an example.
SHAPES: Final[Mapping[Wanted, tuple[str, str]]] = {
    "reward": ("completions", "my_reward(completions, **kwargs)"),
    "grader": ("a completion or a response", "grade(response, answer)"),
}


def check_without_import(name: str, columns: Collection[str] | None = None) -> str | None:
    """Check what can be checked of a reward without running it; return its key, or None where that cannot be told.

    This package's own rewards are imported and checked fully, and a grader in the brackets as its file shows it. Of a
    file, the check is whether it parses and defines the function, and, given the data set's `columns`, whether TRL can
    call it. Of a dotted path, it is whether the package exists. Of a function that Python code gives, nothing is
    checked. The key is None for a name with settings that is not this package's. Raises SettingError, of one line, for
    what is wrong.
    """
    need_function(name)
    parsed = parse_reward(name)
    if parsed.grader is not None:
        need_function(parsed.grader, wanted=("grader",))
        check_without_import(parsed.grader)
        OwnGrader(function=parsed.grader).check_source(columns)
    if parsed.ours:
        function = resolve_reward(name)
        if columns is not None:
            check_signature(function, columns)
        return reward_name(function)
    if parsed.in_file:
        function_in_source = function_in_file(parsed.origin, parsed.attribute)
        if columns is not None and function_in_source is not None and parsed.settings is None:
            check_signature(function_in_source, columns)
    elif not parsed.given:
        need_package(parsed.origin)
    return None if parsed.settings is not None else reward_key(parsed.attribute)


def need_function(name: str, command: str = "", wanted: Sequence[Wanted] = ("reward",)) -> None:
    """Raise SettingError for a name that is a file and no function in it, with the functions that could be `wanted`.

    Each is shown with the `command` that names it, such as "grpo-colab audit". Nothing is imported or run. Raises
    SettingError also for such a file that cannot be read or does not parse.
    """
    file = name.removesuffix(":")
    if not file.endswith(".py"):
        return
    found = functions_in_file(file, wanted)
    problem = f"is a file, and a {' or a '.join(wanted)} is a function in it"
    if not found:
        takes, example = SHAPES[wanted[0]]
        remedy = f"write one, such as def {example}, and put its name behind the file, after a colon"
        raise SettingError(f"{problem}; none of its functions takes {takes}", remedy=remedy)
    lines = [f"\n  {command} {shlex.quote(reward)}" if command else f"\n  {reward}" for reward in found]
    raise SettingError(problem, remedy=f"write one of:{''.join(lines)}")


def functions_in_file(file: str, wanted: Sequence[Wanted] = ("reward",)) -> list[str]:
    """Return the names, as `file.py:function`, of what a file defines that could be `wanted`, in the file's order.

    A reward is a function with a parameter `completions` or `completion_ids`, or whose name ends in `_reward` and that
    takes `**kwargs`; a factory, with its required settings to be filled in; or a variable whose name ends in `_reward`.
    A grader is a function with a parameter `completion` or `response`. Private names are left out. Nothing is run.
    Raises SettingError for a file that cannot be read or does not parse.
    """
    rewards = "reward" in wanted
    found: dict[str, None] = {}
    for node in _parsed(file).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) if not name.startswith("_"):
                settings = _as_factory(node) if rewards else None
                if settings is not None:
                    found[f"{file}:{name}({settings})"] = None
                elif (rewards and _could_be_reward(node)) or ("grader" in wanted and _could_be_grader(node)):
                    found[f"{file}:{name}"] = None
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if rewards and name.endswith("_reward") and not name.startswith("_"):
                    found[f"{file}:{name}"] = None
    return list(found)


def _could_be_reward(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    by_name = node.name.endswith("_reward") and node.args.kwarg is not None
    return by_name or bool(_parameters(node) & {"completions", "completion_ids"})


def _could_be_grader(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return bool(_parameters(node) & {"completion", "response"})


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the names of a function's parameters."""
    arguments = node.args
    return {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


def _as_factory(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str | None:
    """Return the settings that a factory requires, as `low=..., high=...`; None for a function that is no factory."""
    marks = [ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list]
    if not re.fullmatch(FACTORY_NAME, node.name) and "reward_factory" not in marks:
        return None
    parameters = _signature(node.args).parameters.values()
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    required = [one.name for one in parameters if one.kind in plain and one.default is one.empty]
    return ", ".join(f"{name}=..." for name in required)


def place_of(parsed: RewardName) -> str:
    """Return the file or folder that a reward not of this package would be imported from, without importing it.

    The path is absolute; that of a file need not exist. It is "nowhere" for a package that is not found.
    """
    if parsed.in_file:
        return str(expanded(parsed.origin).absolute())
    spec = _spec(parsed.origin.partition(".")[0])
    if spec is None:
        return "nowhere"
    if spec.origin:
        return str(Path(spec.origin).absolute())
    folders = list(spec.submodule_search_locations or ())  # of a package without an __init__.py
    return str(Path(folders[0]).absolute()) if folders else "nowhere"


class _SourceFunction:
    """A function as its source describes it: it has the name and the signature that `check_signature` needs.

    A call raises TypeError, since nothing was imported.
    """

    def __init__(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.__name__, self.__signature__ = node.name, _signature(node.args)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self.__name__} was only looked at")


def _signature(arguments: ast.arguments) -> inspect.Signature:
    """Return the signature that a function's source states. A default is None, whatever its source says."""
    kinds = inspect.Parameter
    positional = [*arguments.posonlyargs, *arguments.args]
    required = len(positional) - len(arguments.defaults)
    parameters = []
    for index, argument in enumerate(positional):
        is_positional_only = index < len(arguments.posonlyargs)
        kind = kinds.POSITIONAL_ONLY if is_positional_only else kinds.POSITIONAL_OR_KEYWORD
        parameters.append(kinds(argument.arg, kind, default=kinds.empty if index < required else None))
    if arguments.vararg:
        parameters.append(kinds(arguments.vararg.arg, kinds.VAR_POSITIONAL))
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        parameters.append(kinds(argument.arg, kinds.KEYWORD_ONLY, default=kinds.empty if default is None else None))
    if arguments.kwarg:
        parameters.append(kinds(arguments.kwarg.arg, kinds.VAR_KEYWORD))
    return inspect.Signature(parameters)


def function_in_file(file: str, attribute: str) -> _SourceFunction | None:
    """Return a function of a file as its source describes it, or None where the source does not tell for certain.

    Raises SettingError for a file that cannot be read or does not parse, or that surely does not define the name.
    """
    tree = _parsed(file)
    names: set[str] = set()
    may_define_more = False  # names that only running the file would show
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                names.add(node.name)
                may_define_more |= node.name == "__getattr__"
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case ast.Name(id="globals" | "vars" | "exec" | "setattr" | "locals"):
                may_define_more = True
            case ast.alias(name="*"):
                may_define_more = True
            case ast.alias():
                names.add((node.asname or node.name).partition(".")[0])
    if attribute not in names and not may_define_more:
        raise no_such_function(file, attribute, names)
    # Only a single definition, at the top level and without a decorator, is certain to be the function.
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = [node for node in functions if node.name == attribute and not node.decorator_list]
    return _SourceFunction(found[0]) if len(found) == 1 and not may_define_more else None


def _parsed(file: str) -> ast.Module:
    """Return the syntax tree of a file. Raises SettingError for one that cannot be read or does not parse."""
    try:
        tree = ast.parse(read_bytes(expanded(file), most=MOST_SOURCE, follow=True), file)
        with warnings.catch_warnings(action="ignore"):
            compile(tree, file, "exec", dont_inherit=True)  # finds what parsing does not, such as a parameter twice
    except (OSError, SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise SettingError(f"{file!r} does not import: {one_line(error)}") from None
    return tree


def need_package(origin: str) -> None:
    """Raise SettingError unless the top-level package of a dotted path exists."""
    package = origin.partition(".")[0]
    if package in sys.modules:
        return
    if not package or _spec(package) is None:
        raise SettingError(f"{origin!r} does not import: ModuleNotFoundError: No module named {package!r}")


def _spec(package: str) -> Any:
    """Return the import spec of a top-level package, without importing it; None where there is no such package."""
    import importlib.machinery
    import importlib.util

    try:
        here = importlib.machinery.PathFinder.find_spec(package, [str(Path.cwd())])
        return importlib.util.find_spec(package) or here
    except (ImportError, ValueError, AttributeError, OSError):
        return None
