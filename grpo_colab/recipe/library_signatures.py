"""What the installed libraries accept, read off their source without importing them.

`[model]`, `[lora]` and `[grpo]` go to Unsloth, PEFT and TRL under their own names. Importing those takes ten seconds
and more, and Unsloth must come first; reading a signature with `ast` takes milliseconds, so that a misspelt key is an
error before anything heavy starts. A library that is not installed accepts everything (there is nothing to read).
"""

from __future__ import annotations

import ast
import enum
import functools
import importlib.util
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Where each table goes: (file inside the package, class, method or None for a dataclass's fields), first match wins.
# get_peft_model hands what it does not know itself to LoraConfig, so both count.
SOURCES: Mapping[str, tuple[tuple[str, str, str, str | None], ...]] = {
    "model": (("unsloth", "models/loader.py", "FastLanguageModel", "from_pretrained"),),
    "lora": (
        ("peft", "tuners/lora/config.py", "LoraConfig", None),
        ("unsloth", "models/llama.py", "FastLlamaModel", "get_peft_model"),
    ),
    "grpo": (
        ("trl", "trainer/grpo_config.py", "GRPOConfig", None),
        ("trl", "trainer/base_config.py", "_BaseConfig", None),
        ("transformers", "training_args.py", "TrainingArguments", None),
    ),
}

# Arguments whose documentation allows more than their default's type tells.
WIDER = {"load_in_fp8": bool | str}
OWNERS = {"model": "FastLanguageModel.from_pretrained", "lora": "get_peft_model", "grpo": "GRPOConfig"}


@functools.cache
def accepted(table: str) -> dict[str, Any] | None:
    """Name -> type of every key of the recipe's table `table`; None when its library is not installed.

    A type that cannot be read (a class of the library's own, a default without annotation that says nothing) is Any.
    """
    found: dict[str, Any] = {}
    for package, file, class_name, method in SOURCES[table]:
        root = _package_folder(package)
        if root is None:
            return None
        tree = _parsed(root / file)
        node = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == class_name)
        read = _fields(node) if method is None else _parameters(node, method)
        for name, kind in read.items():
            found.setdefault(name, kind)
    return found


@functools.cache
def compared(argument: str) -> list[str]:
    """The texts with which the installed GRPOTrainer compares `self.<argument>`: the values that it knows."""
    root = _package_folder("trl")
    found: set[str] = set()
    for node in ast.walk(_parsed(root / "trainer" / "grpo_trainer.py")) if root is not None else ():
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Attribute) and node.left.attr == argument:
            constants = (inner for side in node.comparators for inner in ast.walk(side))
            found |= {c.value for c in constants if isinstance(c, ast.Constant) and isinstance(c.value, str)}
    return sorted(found)


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package)  # finds a top-level package without importing it
    return Path(spec.origin).parent if spec is not None and spec.origin else None


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _fields(node: ast.ClassDef) -> dict[str, Any]:
    return {
        item.target.id: _annotation(item.annotation)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def _parameters(node: ast.ClassDef, method: str) -> dict[str, Any]:
    # the last definition wins, as in Python; a pass-through wrapper (*args, **kwargs alone) says nothing
    function = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == method][-1].args
    names = [*function.args, *function.kwonlyargs]
    padded = [None] * (len(function.args) - len(function.defaults)) + [*function.defaults, *function.kw_defaults]
    read = {arg.arg: _of_default(default) for arg, default in zip(names, padded, strict=True)}
    return {name: WIDER.get(name, kind) for name, kind in read.items() if name not in ("self", "cls", "model")}


def _of_default(default: ast.expr | None) -> Any:
    value = default.value if isinstance(default, ast.Constant) else None
    if isinstance(value, bool):
        return bool
    if isinstance(value, int):
        return int
    if isinstance(value, float):
        return float
    return str | bool if isinstance(value, str) else Any  # such as use_gradient_checkpointing = "unsloth"


class _Names(dict[str, Any]):
    """Names for evaluating an annotation: the typing words that libraries use, and Any for their own classes."""

    def __missing__(self, name: str) -> Any:
        return Any


def _annotation(node: ast.expr) -> Any:
    names = _Names(vars(typing))
    names.update({kind.__name__: kind for kind in (bool, int, float, str, list, dict, tuple, set)}, Enum=enum.Enum)
    try:
        return eval(compile(ast.Expression(node), "<annotation>", "eval"), {"__builtins__": {}}, names)  # noqa: S307
    except TypeError:  # such as Any | str on a Python that cannot join them
        return Any
