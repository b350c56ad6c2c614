"""Whose a test's names are: its own, the program's, or the prelude's."""

from __future__ import annotations

import ast
import builtins
import contextlib
import copy
import functools
from collections.abc import Iterator
from typing import Final

BUILTINS: Final = frozenset(dir(builtins))
# A test may use them where only the program has imported them, as in HumanEval.
_MODULES: Final = frozenset({"math", "re", "itertools", "functools", "collections", "json"})
_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def root_of(node: ast.expr) -> ast.expr:
    """Return what stands at the left of a chain of calls, attributes and items."""
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node


def bound_in(tree: ast.AST) -> Iterator[str]:
    """Yield the names that a text binds anywhere."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.arg(arg=name) | ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield name
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name.partition(".")[0]


def loaded_in(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


@functools.lru_cache(maxsize=16)
def names_of(prelude: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that a prelude binds: those that keep a state, which is the program's, and all others."""
    with contextlib.suppress(SyntaxError, ValueError, MemoryError, RecursionError):
        body = ast.parse(prelude).body
        uses: dict[str, set[str]] = {}
        state = {name for node in ast.walk(ast.parse(prelude)) if isinstance(node, ast.Global) for name in node.names}
        for statement in body:
            bound = set(bound_in(statement))
            if isinstance(statement, _DEFINITIONS):
                bound = {statement.name}
            elif isinstance(statement, ast.Assign | ast.AnnAssign) and not isinstance(
                statement.value, ast.Constant | ast.Tuple | ast.UnaryOp | ast.BinOp | ast.Lambda
            ):
                state |= bound
            for name in bound:
                uses.setdefault(name, set()).update(loaded_in(statement))
        while more := {name for name, used in uses.items() if used & state} - state:
            state |= more
        return frozenset(state & set(uses)), frozenset(set(uses) - state)
    return frozenset(), frozenset()


class Names:
    """Whose a test's names are: its `own`, those that it defines as functions among them, or the `program`'s."""

    def __init__(self, tree: ast.Module, prelude: tuple[frozenset[str], frozenset[str]]) -> None:
        state, pure = prelude
        self.own = set(bound_in(tree))
        self.shared = list(_shared(tree))
        self.defined = {name for statement in self.shared for name in _heads(statement)}
        # as they are before they are rewritten
        self.texts = [(set(_heads(statement)), copy.deepcopy(statement)) for statement in self.shared]
        self.given = pure - self.own
        loaded = {name for name in loaded_in(tree) - self.own - pure if not name.startswith("__")}
        owners = [node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        roots = {owner.id for owner in owners if isinstance(owner, ast.Name)}
        self.imported = sorted(loaded & _MODULES & roots - state)
        program = loaded - BUILTINS - set(self.imported) - {"asyncio"}
        if not program | (loaded & state):
            # A test that names nothing else is about a program that redefines a built-in.
            called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
            program = {func.id for func in called if isinstance(func, ast.Name)} & loaded & BUILTINS
        self.program = frozenset(program | (loaded & state))
        self.renamed = self.program & (BUILTINS | state)

        self.may = self._may_be_the_programs(tree)

    def _may_be_the_programs(self, tree: ast.AST) -> set[str]:
        """Return the names that may stand for an instance of the program's."""
        flows = list[tuple[set[str], set[str]]]()
        for node in ast.walk(tree):
            if isinstance(node, ast.For | ast.comprehension):
                flows.append((set(bound_in(node.target)), loaded_in(node.iter)))
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value:
                flows.append((set(bound_in(node)), loaded_in(node.value)))
        found = set(self.program) | (parameters_of(tree) & self.own)
        while more := {name for names, used in flows if used & found for name in names} - found:
            found |= more
        return found

    def reached(self, node: ast.AST) -> list[ast.stmt]:
        """Return the test's definitions that `node` needs."""
        found, names = list[ast.stmt](), loaded_in(node)
        while more := [text for heads, text in self.texts if heads & names and text not in found]:
            found += more
            names = names.union(*map(loaded_in, more))
        return found

    def here(self, name: str) -> str:
        """Return the name of the program's `name` in the test's session, where a built-in may have that name."""
        return f"_p_{name}" if name in self.renamed else name


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def _shared(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield the definitions of a test that it may hand to the program: classes, and functions at any depth."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
            isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda) and all(map(_is_name, node.targets))
        ):
            yield node
            yield from _shared(node)
        elif not isinstance(node, ast.expr):
            yield from _shared(node)


def _heads(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, _DEFINITIONS):
        yield statement.name
    else:  # the import of a module, or a lambda's name; what is in a lambda binds no name here
        yield from (name for name in bound_in(statement) if name not in parameters_of(statement))


def parameters_of(tree: ast.AST) -> set[str]:
    return {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
