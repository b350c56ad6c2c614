"""Parse a test into what the program is asked, and what is judged where the program cannot reach.

`assert f(2) == 4` becomes the expression `f(2)`, evaluated in the program's session, and the value 4, compared with it
outside of the sandbox. Every other test becomes an `Exam` (`exams.py`): it runs in a session of its own and only asks
the program.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import warnings
from dataclasses import dataclass
from typing import Any, Final

from grpo_colab.errors import shown
from grpo_colab.rewards.exams import ExamRewriter
from grpo_colab.rewards.name_owners import NameOwners, prelude_names, root_of
from grpo_colab.rewards.operators import UnfitError
from grpo_colab.sandbox import Exam
from grpo_colab.sandbox.plain import has_lone_surrogate, refusal

NOTHING: Final = object()  # the expected value of a test that only has to run to its end
MOST_CHARACTERS: Final = 1_000_000


@dataclass(frozen=True)
class Test:
    """One parsed test.

    `source` is its text. `run` is what to run after the program: an expression for the program's session, or an `Exam`.
    `expected` is the value that `run` must have, or `NOTHING`. `asks` are the program's names that the test uses.
    """

    source: str
    run: str | Exam
    expected: Any
    asks: frozenset[str]


@functools.lru_cache(maxsize=4096)  # the completions of a group share their tests
def parse_test(source: str, prelude: str) -> Test:
    """Parse the text of one test, `source`. `prelude` is the sandbox's trusted source, which also defines names.

    Nothing is run, and Python's warnings about the test are not shown. Raises ValueError for a test that is no Python,
    cannot judge a program, is nested too deeply, or has more than 1,000,000 characters.
    """
    if len(source) > MOST_CHARACTERS:
        raise ValueError(f"the test {source!r:.80} has {len(source)} characters: write at most {MOST_CHARACTERS}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # for example, that an assertion is a tuple and so always true
            compile(source, "<test>", "exec", dont_inherit=True)
            tree = ast.parse(source)
        if any(isinstance(node, ast.Constant) and has_lone_surrogate(node.value) for node in ast.walk(tree)):
            raise UnfitError("it holds half a character, a lone surrogate. Write the whole text")
        if any(isinstance(statement, ast.Raise) for statement in tree.body):
            raise UnfitError("it raises, whatever the program answers. Write what is to be raised below an if")
        names = NameOwners(tree, prelude_names(prelude))
        test = _comparison(source, tree.body, names)
        if test is not None:
            return test
        return Test(source, ExamRewriter(names).exam(tree), NOTHING, names.program)
    except UnfitError as error:
        raise ValueError(f"the test {source!r:.80} cannot be run: {error}") from None
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the test {source!r:.80} is no Python: {error}") from None
    except (MemoryError, RecursionError):
        raise ValueError(f"the test {source!r:.80} is nested too deeply: write it in more statements") from None


def _comparison(source: str, body: list[ast.stmt], names: NameOwners) -> Test | None:
    """Return the test if it is `assert f(2) == 4`, either way round; None otherwise.

    One side must be a call, an attribute or an item of a name of the program's. The other must be a literal that a
    program's result may equal.
    """
    match body:
        case [ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]))]:
            pass
        case _:
            return None
    for asked, literal in ((left, right), (right, left)):
        root = root_of(asked)
        if root is asked or not isinstance(root, ast.Name) or root.id not in names.program:
            continue
        with contextlib.suppress(ValueError, TypeError, MemoryError, RecursionError):
            expected = ast.literal_eval(literal)
            if not refusal(expected, 10**6, 100, 10**7):
                return Test(source, ast.unparse(asked), expected, names.program)
    return None


def parse_tests(row: Any, prelude: str) -> list[Test]:
    """Return the parsed tests of a row: none for None.

    Raises ValueError for a row that is no text or list of texts, for an empty list, and for a test that `parse_test`
    refuses.
    """
    if row is None:
        return []
    sources: list[Any] = []
    if isinstance(row, str):
        sources = [row]
    elif isinstance(row, list | tuple):
        sources = list(row)
    if not sources or not all(isinstance(source, str) for source in sources):
        raise ValueError(f"a row's tests are a string or a list of strings, at least one, got {shown(row)}")
    return [parse_test(source, prelude) for source in sources]


def awaits(test: Test) -> bool:
    """Tell whether a test awaits something, so that the program's functions must be coroutines."""
    return not isinstance(test.run, str) and "_awaited(" in test.run.source


class _AssertionRemover(ast.NodeTransformer):
    """Replace each assertion of a tree by its condition, which is then evaluated without being judged."""

    def visit_Assert(self, node: ast.Assert) -> ast.Expr:
        return ast.Expr(node.test)


def without_assertions(run: str | Exam) -> str | Exam:
    """Return what to run for a test without its assertions, since the first one to fail would hide what follows it.

    Their conditions are still evaluated. An expression, which has no assertions, is returned as it is.
    """
    if isinstance(run, str):
        return run
    tree = _AssertionRemover().visit(ast.parse(run.source))
    return run._replace(source=ast.unparse(ast.fix_missing_locations(tree)))
