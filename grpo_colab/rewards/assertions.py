"""Take a test text apart: into what the program is asked, and what is judged where the program cannot reach.

`assert f(2) == 4` becomes the expression `f(2)`, evaluated after the program, and the value 4, compared with it outside
of the sandbox. Every other text becomes an `Exam`, which runs in a session of its own and only asks the program.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from grpo_colab.plain import refusal
from grpo_colab.sandbox import Exam

NOTHING: Final = object()  # a test that need only end
MOST_CHARACTERS: Final = 1_000_000
_BUILTINS: Final = frozenset(dir(builtins))
# A test may use them where only the program has imported them, as in HumanEval.
_MODULES: Final = frozenset({"math", "re", "itertools", "functools", "collections", "json"})
_IN_GLUE: Final = {"map": "_map", "filter": "_filter"}
_WITH_KEY: Final = {"sorted": "_order", "min": "_least", "max": "_most"}
_OF_ITEMS: Final = frozenset({"list", "tuple", "set", "frozenset", "sorted", "sum", "min", "max", "iter", "enumerate"})
_OF_VALUE: Final = frozenset({"str", "repr", "int", "float", "abs", "len", "bool"})
_STAYS_THERE: Final = frozenset({"range", "iter", "slice", "super", "keys", "values", "items"})
_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


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
        tree = ast.parse(source)
        names = _Names(tree, _names_of(prelude))
        test = _comparison(source, tree.body, names)
        return test or Test(source, _Rewriter(names).exam(tree), NOTHING, names.program)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the test {source!r:.80} is no Python: {error}") from None
    except (MemoryError, RecursionError):
        raise ValueError(f"the test {source!r:.80} is nested too deeply: write it in more statements") from None


def _comparison(source: str, body: list[ast.stmt], names: _Names) -> Test | None:
    """Return the test of `assert f(2) == 4`, either way round, if it is one: a call, and a literal that may leave."""
    match body:
        case [ast.Assert(test=ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]))]:
            for asked, literal in ((left, right), (right, left)):
                root = _root(asked)
                if root is not asked and isinstance(root, ast.Name) and root.id in names.program:
                    with contextlib.suppress(ValueError, TypeError, MemoryError, RecursionError):
                        expected = ast.literal_eval(literal)
                        if not refusal(expected, 10**6, 100, 10**7):
                            return Test(source, ast.unparse(asked), expected, names.program)
    return None


def _root(node: ast.expr) -> ast.expr:
    """Return what stands at the left of a chain of calls, attributes and items."""
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node


def _own(tree: ast.AST) -> Iterator[str]:
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


def _loaded(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


@functools.lru_cache(maxsize=16)
def _names_of(prelude: str) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that a prelude binds: those that keep a state, which is the program's, and all others."""
    with contextlib.suppress(SyntaxError, ValueError, MemoryError, RecursionError):
        body = ast.parse(prelude).body
        uses: dict[str, set[str]] = {}
        state = {name for node in ast.walk(ast.parse(prelude)) if isinstance(node, ast.Global) for name in node.names}
        for statement in body:
            bound = set(_own(statement))
            if isinstance(statement, _DEFINITIONS):
                bound = {statement.name}
            elif isinstance(statement, ast.Assign | ast.AnnAssign) and not isinstance(
                statement.value, ast.Constant | ast.Tuple | ast.UnaryOp | ast.BinOp | ast.Lambda
            ):
                state |= bound
            for name in bound:
                uses.setdefault(name, set()).update(_loaded(statement))
        while more := {name for name, used in uses.items() if used & state} - state:
            state |= more
        return frozenset(state & set(uses)), frozenset(set(uses) - state)
    return frozenset(), frozenset()


class _Names:
    """Whose a test's names are: its `own`, those that it defines as functions among them, or the `program`'s."""

    def __init__(self, tree: ast.Module, prelude: tuple[frozenset[str], frozenset[str]]) -> None:
        state, pure = prelude
        self.own = set(_own(tree))
        self.shared = list(_shared(tree))
        self.defined = {name for statement in self.shared for name in _heads(statement)}
        self.given = pure - self.own
        loaded = {name for name in _loaded(tree) - self.own - pure if not name.startswith("__")}
        owners = [node.value for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        roots = {owner.id for owner in owners if isinstance(owner, ast.Name)}
        self.imported = sorted(loaded & _MODULES & roots - state)
        program = loaded - _BUILTINS - set(self.imported)
        if not program | (loaded & state):
            # A test that names nothing else is about a program that redefines a built-in.
            called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
            program = {func.id for func in called if isinstance(func, ast.Name)} & loaded & _BUILTINS
        self.program = frozenset(program | (loaded & state))
        self.renamed = self.program & (_BUILTINS | state)

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
        yield from (name for name in _own(statement) if name not in _parameters(statement))


def _parameters(tree: ast.AST) -> set[str]:
    return {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}


class _Rewriter(ast.NodeTransformer):
    """Rewrite a test for a session that has none of the program's names, only what `referee` gives it."""

    def __init__(self, names: _Names) -> None:
        self.names = names
        self.bound: dict[str, str] = {}
        self.lifted: list[str] = []

    def exam(self, tree: ast.Module) -> Exam:
        shared = "\n".join(map(ast.unparse, self.names.shared))
        source = "\n".join([*(f"import {name}" for name in self.names.imported), ast.unparse(self._new(tree))])
        return Exam(source, self.bound, shared if self.lifted else "", self.lifted)

    def _new(self, tree: Any) -> Any:
        return ast.fix_missing_locations(self.visit(tree))

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id in self.names.program:
            return _calling("_now", ast.Constant(node.id))
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        match node.targets:
            case [ast.Attribute(value=ast.Name() as owner, attr=name)]:
                return self._assigned(owner, name, node.value)
            case [ast.Subscript(value=ast.Name() as owner, slice=key)] if not isinstance(key, ast.Slice):
                given = [self.visit(owner), self.visit(key), self.visit(node.value)]
                return ast.Expr(_calling("_assign_item", *given))
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        value, key = self.visit(node.value), self.visit(node.slice)
        plain = isinstance(key, ast.Slice | ast.Tuple) or not isinstance(
            node.value, ast.Name | ast.Call | ast.Attribute
        )
        if isinstance(node.ctx, ast.Load) and not plain:
            return _calling("_item", value, key)
        return ast.Subscript(value, key, node.ctx)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        match node.target:
            case ast.Attribute(value=ast.Name() as owner, attr=name):
                old = ast.Attribute(ast.Name(owner.id, ast.Load()), name, ast.Load())
                return self._assigned(owner, name, ast.BinOp(old, node.op, node.value))
        return self.generic_visit(node)

    def _assigned(self, owner: ast.Name, name: str, value: ast.expr) -> ast.stmt:
        new = _calling("_assign", self.visit(owner), ast.Constant(name), self.visit(value))
        return ast.Expr(new)

    def visit_Call(self, node: ast.Call) -> ast.expr:
        root = _root(node.func)
        name = root.id if isinstance(root, ast.Name) else ""
        direct, asked = root is node.func, name in self.names.program
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if asked or name in self.names.own - self.names.defined:
            lifts = any(self._cannot_cross(one) for one in given)
            if lifts and (asked or direct):
                return self._lift(node)
            if direct:
                return self._call(node, name, asked)
            if lifts:  # a method of what may be the program's, or a list of the test's own
                return ast.IfExp(_calling("_theirs", ast.Name(name, ast.Load())), self._lift(node), self._plain(node))
        elif direct and name in _BUILTINS - self.names.own:
            return self._builtin(node, name)
        elif ast.unparse(node.func) == "asyncio.run" and self.names.program & _loaded(node):
            return self._lift(node)
        return self._plain(node)

    def _plain(self, node: ast.Call) -> ast.Call:
        args, keywords = self._arguments(node)
        return ast.Call(self.visit(node.func), args, keywords)

    def _call(self, node: ast.Call, name: str, asked: bool) -> ast.expr:
        """Call the program's function, or what may be one. It may change the lists that the test's variables hold."""
        here = self.names.here(name) if asked else name
        if asked:
            self.bound[here] = name
        args, keywords = self._arguments(node)
        func = ast.Name(here, ast.Load())
        if any(isinstance(one, ast.Name | ast.Attribute | ast.Subscript | ast.Starred) for one in node.args):
            return ast.Call(ast.Name("_call", ast.Load()), [func, *args], keywords)
        return ast.Call(func, args, keywords)

    def _builtin(self, node: ast.Call, name: str) -> ast.expr:
        if name in ("isinstance", "issubclass") and len(node.args) == 2 and self.names.program & _loaded(node.args[1]):
            return self._lift(node)
        args, keywords = self._arguments(node)
        if name in _IN_GLUE:
            return ast.Call(ast.Name(_IN_GLUE[name], ast.Load()), args, keywords)
        if name in _WITH_KEY and any(keyword.arg == "key" for keyword in keywords):
            return ast.Call(ast.Name(_WITH_KEY[name], ast.Load()), args, keywords)
        if len(args) == 1 and not isinstance(args[0], ast.Constant | ast.Starred):
            if name in _OF_ITEMS:
                return ast.Call(ast.Name("_items", ast.Load()), [node.func, *args], keywords)
            if name in _OF_VALUE and not keywords:
                return _calling("_text", node.func, args[0])
        return ast.Call(node.func, args, keywords)

    def _arguments(self, node: ast.Call) -> tuple[list[ast.expr], list[ast.keyword]]:
        keywords = [ast.keyword(keyword.arg, self.visit(keyword.value)) for keyword in node.keywords]
        return [self.visit(one) for one in node.args], keywords

    def _cannot_cross(self, given: ast.expr) -> bool:
        """Say whether an argument is nothing plain: a function, say, or what the prelude or the test makes."""
        for node in ast.walk(given):
            if isinstance(node, ast.Name) and (node.id in self.names.defined or node.id in self.names.given):
                return True
            if isinstance(node, ast.Lambda):
                return True
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if called in _STAYS_THERE:
                    return True
        return False

    def _lift(self, node: ast.Call) -> ast.expr:
        """Evaluate the whole call in the program's session, with the values that the test's variables have."""
        inner = _parameters(node)
        inner |= {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        local = sorted((_loaded(node) & self.names.own) - self.names.defined - inner)
        text = ast.unparse(node).replace("{", "{{").replace("}", "}}")
        self.lifted.append(f"(lambda {', '.join(local)}: {text})({', '.join(['{}'] * len(local))})")
        values = ast.List([ast.Name(name, ast.Load()) for name in local], ast.Load())
        return _calling("_lift", ast.Constant(len(self.lifted) - 1), values)


def _calling(function: str, *given: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(function, ast.Load()), list(given), [])
