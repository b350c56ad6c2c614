"""Read off which arguments the installed libraries accept, without importing them.

`[model]`, `[lora]` and `[grpo]` go to Unsloth, PEFT and TRL under their own names. Importing those libraries takes ten
seconds and more, and Unsloth must come first. Parsing their source with `ast` takes milliseconds, so a misspelt key is
refused before anything heavy starts. If a library is not installed, every key is accepted. `validation` asks here.
"""

from __future__ import annotations

import ast
import enum
import functools
import importlib.util
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Per table, where its arguments are declared: (package, file, class, method); without a method, the fields of a
# dataclass. If two declare the same argument, the first counts. `get_peft_model` passes on to LoraConfig what it does
# not know itself, so both count for [lora].
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

# Arguments that accept more types than the type of their default, by their documentation.
WIDER_TYPES = {"load_in_fp8": bool | str}
OWNERS = {"model": "FastLanguageModel.from_pretrained", "lora": "get_peft_model", "grpo": "GRPOConfig"}


@functools.cache
def accepted_arguments(table: str) -> dict[str, Any] | None:
    """Return the name and the type of every key that a recipe's table may have.

    `table` is "model", "lora" or "grpo". The type is Any where none can be read, such as a class of the library's own.
    Returns None if one of the libraries that declare the table is not installed. Their source is parsed, not imported,
    once per process. For a release whose source lacks what SOURCES names, raises OSError, StopIteration or IndexError.
    """
    types: dict[str, Any] = {}
    for package, file, class_name, method in SOURCES[table]:
        folder = _package_folder(package)
        if folder is None:
            return None
        module = _parse(folder / file)
        class_node = next(node for node in module.body if isinstance(node, ast.ClassDef) and node.name == class_name)
        if method is None:
            declared = _with_documented(class_node, _field_types(class_node))
        else:
            declared = _parameter_types(class_node, method)
        for name, kind in declared.items():
            types.setdefault(name, kind)
    return types


@functools.cache
def known_values(argument: str) -> list[str]:
    """Return the texts that the installed GRPOTrainer compares `self.<argument>` with, sorted.

    These are the values it knows, such as the losses for "loss_type". The list is empty if TRL is not installed, or
    compares the argument with no text. TRL's source is parsed, not imported.
    """
    folder = _package_folder("trl")
    if folder is None:
        return []
    values: set[str] = set()
    for node in ast.walk(_parse(folder / "trainer" / "grpo_trainer.py")):
        if not isinstance(node, ast.Compare):
            continue
        if not isinstance(node.left, ast.Attribute) or node.left.attr != argument:
            continue
        # What it is compared with may be one constant, or a list of them.
        for comparator in node.comparators:
            for inner in ast.walk(comparator):
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                    values.add(inner.value)
    return sorted(values)


def _package_folder(package: str) -> Path | None:
    """Return the folder of an installed package, or None. A top-level package is found without importing it."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None


@functools.cache
def _parse(path: Path) -> ast.Module:
    """Return the syntax tree of a source file, parsed once."""
    return ast.parse(path.read_text(encoding="utf-8"))


# Types by the names that a docstring gives them. An int passes for a float already.
DOCUMENTED: Mapping[str, Any] = {"bool": bool, "str": str, "dict": dict, "list": list}


def _with_documented(class_node: ast.ClassDef, types: Mapping[str, Any]) -> dict[str, Any]:
    """Return the types of a dataclass's fields, each with the further types that its documentation names.

    An annotation may be narrower than what is taken: TRL documents grpo.scale_rewards as "(`str` or `bool`, *optional*,
    defaults to ...)" and annotates str.
    """
    documented = dict(re.findall(r"^\s*(\w+) \((.*)\):\s*$", ast.get_docstring(class_node) or "", re.MULTILINE))
    wider = {}
    for name, kind in types.items():
        wider[name] = kind
        for written in re.findall(r"`([^`]+)`", documented.get(name, "").partition("defaults to")[0]):
            further = DOCUMENTED.get(written.partition("[")[0])
            taken = [typing.get_origin(one) or one for one in typing.get_args(kind) or (kind,)]
            # A Literal says more than the documentation does.
            is_plain = Any not in taken and typing.Literal not in taken and typing.get_origin(kind) != typing.Literal
            if further is not None and further not in taken and is_plain:
                wider[name] = wider[name] | further
    return wider


def _field_types(class_node: ast.ClassDef) -> dict[str, Any]:
    """Return the name and the type of every field of a dataclass."""
    return {
        item.target.id: _annotated_type(item.annotation)
        for item in class_node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def _parameter_types(class_node: ast.ClassDef, method: str) -> dict[str, Any]:
    """Return the name and the type of every parameter of a method, the type read off its default.

    `self`, `cls` and `model` are left out, and so are *args and **kwargs. WIDER_TYPES precede the default. Raises
    IndexError for a class without such a method.
    """
    # If a class defines a method more than once, the last definition wins, as in Python.
    definitions = [node for node in class_node.body if isinstance(node, ast.FunctionDef) and node.name == method]
    signature = definitions[-1].args
    parameters = [*signature.args, *signature.kwonlyargs]
    # `ast` lists the defaults of the last positional parameters only.
    without_default = [None] * (len(signature.args) - len(signature.defaults))
    defaults = [*without_default, *signature.defaults, *signature.kw_defaults]
    types: dict[str, Any] = {}
    for parameter, default in zip(parameters, defaults, strict=True):
        name = parameter.arg
        if name not in ("self", "cls", "model"):
            types[name] = WIDER_TYPES.get(name, _type_of_default(default))
    return types


def _type_of_default(default: ast.expr | None) -> Any:
    """Return the type that a parameter's default suggests, or Any.

    A text suggests a text or a boolean. A default of None, one that is no constant, and a missing one suggest Any.
    """
    value = default.value if isinstance(default, ast.Constant) else None
    if isinstance(value, bool):
        return bool
    if isinstance(value, int):
        return int
    if isinstance(value, float):
        return float
    if isinstance(value, str):
        return str | bool  # such as use_gradient_checkpointing = "unsloth"
    return Any


class _AnnotationNames(dict[str, Any]):
    """The names that an annotation may use: those of `typing`, and Any for every unknown one."""

    def __missing__(self, name: str) -> Any:
        return Any


def _annotated_type(annotation: ast.expr) -> Any:
    """Return the type that an annotation describes, with Any in place of the library's own classes.

    The annotation is evaluated, without Python's built-in functions. An unknown name becomes Any only where it has no
    dot and no quotes. A quoted annotation is returned as its text. Returns Any where evaluating raises TypeError. Other
    errors pass, such as AttributeError for a dotted name.
    """
    names = _AnnotationNames(vars(typing))
    names.update({kind.__name__: kind for kind in (bool, int, float, str, list, dict, tuple, set)}, Enum=enum.Enum)
    code = compile(ast.Expression(annotation), "<annotation>", "eval")
    try:
        return eval(code, {"__builtins__": {}}, names)  # noqa: S307
    except TypeError:  # such as Any | str on a Python that cannot join them
        return Any
