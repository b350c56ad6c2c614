"""Decide who owns each name in a test: the test itself, the program under test, or the trusted prelude.

`assertions.py` builds one `NameOwners` per test; `operators.py` and `exams.py` rewrite the test by it.
"""

from __future__ import annotations

import ast
import builtins
import copy
import functools
from collections.abc import Iterator
from typing import Final

BUILTINS: Final = frozenset(dir(builtins))
# A test may use these where only the program has imported them, as HumanEval's tests do.
_MODULES: Final = frozenset({"math", "re", "itertools", "functools", "collections", "json"})
_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
# Values that a prelude can assign without giving the program anything that it could change.
_STATELESS_VALUES: Final = (ast.Constant, ast.Tuple, ast.UnaryOp, ast.BinOp, ast.Lambda)


def root_of(node: ast.expr) -> ast.expr:
    """Return the leftmost expression of a chain of calls, attributes and items: `f` for `f(2).x[0]`."""
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node


def bound_in(tree: ast.AST) -> Iterator[str]:
    """Yield every name that is bound anywhere in `tree`: assigned, deleted, defined, imported, or a parameter."""
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
    """Return every name that is read anywhere in `tree`."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def parameters_of(tree: ast.AST) -> set[str]:
    """Return the parameters of all functions and lambdas in `tree`."""
    return {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


@functools.lru_cache(maxsize=16)
def prelude_names(prelude: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that a prelude binds, as two sets: the stateful ones and the pure ones.

    A stateful name holds something that can change, or uses a stateful name; it counts as the program's own. Both sets
    are empty for a prelude that does not parse.
    """
    try:
        tree = ast.parse(prelude)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return frozenset(), frozenset()
    stateful: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            stateful.update(node.names)
    uses: dict[str, set[str]] = {}
    for statement in tree.body:
        bound = set(bound_in(statement))
        if isinstance(statement, _DEFINITIONS):
            bound = {statement.name}
        elif isinstance(statement, ast.Assign | ast.AnnAssign) and not isinstance(statement.value, _STATELESS_VALUES):
            stateful |= bound
        for name in bound:
            uses.setdefault(name, set()).update(loaded_in(statement))
    # A name that uses a stateful one is stateful, too. Repeat until no name is added.
    added = True
    while added:
        new = {name for name, used in uses.items() if used & stateful} - stateful
        stateful |= new
        added = bool(new)
    return frozenset(stateful & set(uses)), frozenset(set(uses) - stateful)


class NameOwners:
    """The owners of the names in one test.

    - `own`: every name that the test binds.
    - `definitions`: what the test may hand to the program, as pairs of the names bound and a copy of the statement: its
      functions, named lambdas, classes and imports, in the order of the source.
    - `defined`: the names of these definitions, a part of `own`.
    - `prelude`: the prelude's pure names that the test does not bind.
    - `imported`: modules that the test needs and does not import.
    - `program`: names that the test takes from the program.
    - `renamed`: the names in `program` that get another name in the test, since a built-in or the prelude has theirs.
    - `maybe_program`: names that may hold an instance of the program's.
    """

    def __init__(self, tree: ast.Module, prelude: tuple[frozenset[str], frozenset[str]]) -> None:
        stateful, pure = prelude
        self.own = set(bound_in(tree))
        # Copies, because the rewriters change the statements of the tree.
        self.definitions = [(set(_names_bound_by(found)), copy.deepcopy(found)) for found in _definitions(tree)]
        self.defined: set[str] = set()
        for names, _ in self.definitions:
            self.defined |= names
        self.prelude = pure - self.own
        foreign = {name for name in loaded_in(tree) - self.own - pure if not name.startswith("__")}
        owners = [node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        with_attributes = {owner.id for owner in owners if isinstance(owner, ast.Name)}
        self.imported = sorted(foreign & _MODULES & with_attributes - stateful)
        program = foreign - BUILTINS - set(self.imported) - {"asyncio"}
        program |= foreign & stateful
        if not program:
            # A test that names nothing else is about a program that redefines a built-in.
            called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
            program = {function.id for function in called if isinstance(function, ast.Name)} & foreign & BUILTINS
        self.program = frozenset(program)
        self.renamed = self.program & (BUILTINS | stateful)
        self.maybe_program = self._maybe_program(tree)

    def _maybe_program(self, tree: ast.AST) -> set[str]:
        """Return the names that may hold an instance of the program's, by following assignments and loops.

        The names in `program` are among them, and so are the parameters of the test's functions.
        """
        flows: list[tuple[set[str], set[str]]] = []  # the names that get a value, and the names it comes from
        for node in ast.walk(tree):
            if isinstance(node, ast.For | ast.comprehension):
                flows.append((set(bound_in(node.target)), loaded_in(node.iter)))
            elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and node.value:
                flows.append((set(bound_in(node)), loaded_in(node.value)))
        found = set(self.program) | (parameters_of(tree) & self.own)
        added = True
        while added:
            new: set[str] = set()
            for targets, sources in flows:
                if sources & found:
                    new |= targets
            added = not new <= found
            found |= new
        return found

    def definitions_used_by(self, node: ast.AST) -> list[ast.stmt]:
        """Return the test's definitions that `node` uses, directly or through other definitions."""
        found: list[ast.stmt] = []
        used = loaded_in(node)
        while True:
            new = [text for names, text in self.definitions if names & used and text not in found]
            if not new:
                return found
            found += new
            for text in new:
                used = used | loaded_in(text)

    def local_name(self, name: str) -> str:
        """Return the name that the program's `name` has in the test's session, where a built-in may have that name."""
        return f"_p_{name}" if name in self.renamed else name


def _definitions(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield the definitions that a test may hand to the program: classes, imports, and functions at any depth."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _is_named_lambda(node):
            assert isinstance(node, ast.stmt)
            yield node
            yield from _definitions(node)
        elif not isinstance(node, ast.expr):
            yield from _definitions(node)


def _is_named_lambda(node: ast.AST) -> bool:
    """Tell whether this is `name = lambda ...`."""
    if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda)):
        return False
    return all(isinstance(target, ast.Name) for target in node.targets)


def _names_bound_by(definition: ast.stmt) -> Iterator[str]:
    """Yield the names that a definition gives to the test, without those that are bound only inside of it."""
    if isinstance(definition, _DEFINITIONS):
        yield definition.name
    else:
        parameters = parameters_of(definition)
        yield from (name for name in bound_in(definition) if name not in parameters)
