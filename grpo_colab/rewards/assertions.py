"""Take a test text apart: into what the program is asked, and what is judged where the program cannot reach.

`assert f(2) == 4` becomes the expression `f(2)`, evaluated after the program, and the value 4, compared with it outside
of the sandbox. Every other text becomes an `Exam`, which runs in a session of its own and only asks the program.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import warnings
from dataclasses import dataclass
from typing import Any, Final

from grpo_colab.rewards.exams import ExamRewriter
from grpo_colab.rewards.operators import UnfitError
from grpo_colab.rewards.whose import Names, names_of, root_of
from grpo_colab.sandbox import Exam
from grpo_colab.sandbox.plain import is_half_a_character, refusal

NOTHING: Final = object()  # a test that need only end
MOST_CHARACTERS: Final = 1_000_000


@dataclass(frozen=True)
class Test:
    """One text: what to run after the program, the value that it must have, or `NOTHING`, and whom it asks."""

    source: str
    run: str | Exam
    expected: Any
    asks: frozenset[str]


@functools.lru_cache(maxsize=4096)  # a group of completions shares its tests
def take_apart(source: str, prelude: str) -> Test:
    """Return the test that `source` is, or raise ValueError for what is no Python."""
    if len(source) > MOST_CHARACTERS:
        raise ValueError(f"the test {source!r:.80} has {len(source)} characters: write at most {MOST_CHARACTERS}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an assertion that is a tuple, say
            compile(source, "<test>", "exec", dont_inherit=True)
            tree = ast.parse(source)
        if any(isinstance(node, ast.Constant) and is_half_a_character(node.value) for node in ast.walk(tree)):
            raise UnfitError("it holds half a character, a lone surrogate. Write the whole text")
        if any(isinstance(statement, ast.Raise) for statement in tree.body):
            raise UnfitError("it raises, whatever the program answers. Write what is to be raised below an if")
        names = Names(tree, names_of(prelude))
        test = _comparison(source, tree.body, names)
        return test or Test(source, ExamRewriter(names).exam(tree), NOTHING, names.program)
    except UnfitError as error:
        raise ValueError(f"the test {source!r:.80} cannot be run: {error}") from None
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the test {source!r:.80} is no Python: {error}") from None
    except (MemoryError, RecursionError):
        raise ValueError(f"the test {source!r:.80} is nested too deeply: write it in more statements") from None


def _comparison(source: str, body: list[ast.stmt], names: Names) -> Test | None:
    """Return the test of `assert f(2) == 4`, either way round, if it is one: a call, and a literal that may leave."""
    match body:
        case [ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]))]:
            for asked, literal in ((left, right), (right, left)):
                root = root_of(asked)
                if root is not asked and isinstance(root, ast.Name) and root.id in names.program:
                    with contextlib.suppress(ValueError, TypeError, MemoryError, RecursionError):
                        expected = ast.literal_eval(literal)
                        if not refusal(expected, 10**6, 100, 10**7):
                            return Test(source, ast.unparse(asked), expected, names.program)
    return None
