"""The house stands: importing it costs little, one file imports unsloth, and every file can be read at one sitting.

Which wing may import which is a contract of import-linter, in pyproject.toml; `make lint` checks it.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import grpo_colab

PACKAGE = Path(grpo_colab.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def test_no_file_is_longer_than_400_lines() -> None:
    lines = {path.relative_to(PACKAGE).as_posix(): len(path.read_text().splitlines()) for path in FILES}
    assert {name: count for name, count in lines.items() if count > 400} == {}


def test_every_file_is_named_where_a_person_looks_for_it() -> None:
    """In the README of its wing, or at the head of its own folder."""
    unnamed = []
    for path in FILES:
        folder = path.parent
        if folder == PACKAGE or path.stem.startswith("__"):
            continue
        texts = [
            readme.read_text() for readme in (folder / "README.md", folder.parent / "README.md") if readme.exists()
        ]
        words = set(re.findall(r"`(\w+)(?:\.py)?`", "".join(texts)))
        words |= set(re.findall(r"\w+", ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""))
        if path.stem not in words:
            unnamed.append(path.relative_to(PACKAGE).as_posix())
    assert unnamed == []


def test_one_file_imports_unsloth() -> None:
    importing = set()
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "unsloth" for name in names):
                importing.add(path.relative_to(PACKAGE).as_posix())
    assert importing == {"utils/stack.py"}


HEAVY = "torch transformers trl peft unsloth datasets accelerate numpy pandas matplotlib pydantic"


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import grpo_colab", ""),
        ("import grpo_colab.rewards", ""),
        ("from grpo_colab.tasks.gsm8k import GSM8K", ""),
        ("from grpo_colab.tasks.jsonl import JSONL", ""),
        ("from grpo_colab.tasks.word_problems import WordProblems", ""),
        ("from grpo_colab.tasks.drawing.task import Drawing", ""),
        ("import grpo_colab.sandbox.sandbox", ""),
        ("import grpo_colab.tiny", ""),
        ("from grpo_colab import Recipe; Recipe.load()", "pydantic"),
    ],
)
def test_light_imports_stay_light(statement: str, allowed: str) -> None:
    heavy = sorted(set(HEAVY.split()) - set(allowed.split()))
    code = f"{statement}\nimport sys\nprint([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_has_the_name_of_a_function() -> None:
    """`grpo_colab.train` stays the function, whatever was imported before."""
    assert not {path.stem for path in PACKAGE.iterdir()} & set(grpo_colab.__all__)
