"""Take a test text apart: into what the program is asked, and what is judged where the program cannot reach.

`assert f(2) == 4` becomes the expression `f(2)`, evaluated after the program, and the value 4, compared with it outside
of the sandbox. Every other text becomes an `Exam`, which runs in a session of its own and only asks the program.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import functools
import warnings
from dataclasses import dataclass
from typing import Any, Final

from grpo_colab.plain import is_half_a_character, refusal
from grpo_colab.rewards.whose import BUILTINS, Names, bound_in, loaded_in, names_of, parameters_of, root_of
from grpo_colab.sandbox import Exam

_INSTEAD: Final = "Write it with the program's answer outside, as in assert apply(lambda x: x + 1, f(2)) == 5"
NOTHING: Final = object()  # a test that need only end
MOST_CHARACTERS: Final = 1_000_000
_IN_GLUE: Final = {"map": "_map", "filter": "_filter"}
_WITH_KEY: Final = {"sorted": "_order", "min": "_least", "max": "_most"}
_OF_ITEMS: Final = frozenset({"list", "tuple", "set", "frozenset", "sorted", "sum", "min", "max", "iter", "enumerate"})
_OF_VALUE: Final = frozenset({"str", "repr", "int", "float", "abs", "len", "bool"})
_STAYS_THERE: Final = frozenset({"range", "iter", "slice", "super", "keys", "values", "items"})
# What a method of a list, a dictionary or a set is called: handed over, it takes its owner along.
_METHODS: Final = frozenset(
    {"append", "add", "extend", "insert", "update", "setdefault", "pop", "remove", "discard", "get"}
)


@dataclass(frozen=True)
class Test:
    """One text: what to run after the program, the value that it must have, or `NOTHING`, and whom it asks."""

    source: str
    run: str | Exam
    expected: Any
    asks: frozenset[str]


class UnfitError(ValueError):
    """Say why a test, which is Python, can judge nothing."""


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
        return test or Test(source, _Rewriter(names).exam(tree), NOTHING, names.program)
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


class _Rewriter(ast.NodeTransformer):
    """Rewrite a test for a session that has none of the program's names, only what `referee` gives it."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.bound: dict[str, str] = {}
        self.lifted: list[str] = []
        self.there: list[ast.stmt] = []

    def exam(self, tree: ast.Module) -> Exam:
        source = "\n".join([*(f"import {name}" for name in self.names.imported), ast.unparse(self._new(tree))])
        shared = "\n".join(ast.unparse(text) for _, text in self.names.texts if text in self.there)
        return Exam(source, self.bound, shared, self.lifted)

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
            case [ast.Tuple() | ast.List()]:
                node.value = _calling("_each", node.value) if self._may(node.value) else node.value
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
        root = root_of(node.func)
        name = root.id if isinstance(root, ast.Name) else ""
        if isinstance(node.func, ast.Attribute) and node.func.value is root and name == "asyncio":
            return self._of_asyncio(node, node.func.attr)
        direct, asked = root is node.func, name in self.names.program
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if asked or name in self.names.own - self.names.defined:
            if any(self._cannot_cross(one) for one in given):
                if asked or direct:
                    return self._lift(node)
                # a method of what may be the program's, or a list of the test's own
                return ast.IfExp(_calling("_theirs", ast.Name(name, ast.Load())), self._lift(node), self._plain(node))
            return self._call(node, name, asked) if direct else self._method(node, given)
        if direct and name in BUILTINS - self.names.own:
            return self._builtin(node, name)
        return self._plain(node)

    def _plain(self, node: ast.Call) -> ast.Call:
        args, keywords = self._arguments(node)
        return ast.Call(self.visit(node.func), args, keywords)

    def _method(self, node: ast.Call, given: list[ast.expr]) -> ast.expr:
        """Call a method of what may be the program's instance, which may change the lists that it is given."""
        func = node.func
        if not isinstance(func, ast.Attribute) or not any(map(_may_be_changed, given)):
            return self._plain(node)
        owner: ast.expr = ast.Name(func.value.id if isinstance(func.value, ast.Name) else "_o", ast.Load())
        args, keywords = self._arguments(node)
        theirs = ast.Call(ast.Name("_method", ast.Load()), [owner, ast.Constant(func.attr), *args], keywords)
        plain = ast.Call(ast.Attribute(owner, func.attr, ast.Load()), args, keywords)
        either = ast.IfExp(_calling("_theirs", owner), theirs, plain)
        if isinstance(func.value, ast.Name) and func.value.id not in self.names.program:
            return either
        empty = ast.arguments(posonlyargs=[], args=[ast.arg("_o")], kwonlyargs=[], kw_defaults=[], defaults=[])
        return ast.Call(ast.Lambda(empty, either), [self.visit(func.value)], [])

    def _call(self, node: ast.Call, name: str, asked: bool) -> ast.expr:
        """Call the program's function, or what may be one. It may change the lists that the test's variables hold."""
        here = self.names.here(name) if asked else name
        if asked:
            self.bound[here] = name
        args, keywords = self._arguments(node)
        func = ast.Name(here, ast.Load())
        if any(map(_may_be_changed, [*node.args, *(keyword.value for keyword in node.keywords)])):
            return ast.Call(ast.Name("_call", ast.Load()), [func, *args], keywords)
        return ast.Call(func, args, keywords)

    def _builtin(self, node: ast.Call, name: str) -> ast.expr:
        if name in ("isinstance", "issubclass") and len(node.args) == 2 and self.names.may & loaded_in(node):
            kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
            return _calling("_is", ast.Constant(name), node.func, *map(self.visit, [node.args[0], *kinds]))
        args, keywords = self._arguments(node)
        if name in _IN_GLUE:
            return ast.Call(ast.Name(_IN_GLUE[name], ast.Load()), args, keywords)
        if name in _WITH_KEY and any(keyword.arg == "key" for keyword in keywords):
            return ast.Call(ast.Name(_WITH_KEY[name], ast.Load()), args, keywords)
        if len(args) == 1 and not isinstance(args[0], ast.Constant | ast.Starred):
            if name in _OF_ITEMS:
                return ast.Call(ast.Name("_items", ast.Load()), [node.func, *args], keywords)
            if name in _OF_VALUE and not keywords:
                return _calling("_text", ast.Constant(name), node.func, args[0])
        return ast.Call(node.func, args, keywords)

    def _arguments(self, node: ast.Call) -> tuple[list[ast.expr], list[ast.keyword]]:
        keywords = [ast.keyword(keyword.arg, self.visit(keyword.value)) for keyword in node.keywords]
        return [self.visit(one) for one in node.args], keywords

    def _cannot_cross(self, given: ast.expr) -> bool:
        """Say whether an argument is nothing plain: a function, say, or what the prelude or the test makes."""
        called_ones = [node.func for node in ast.walk(given) if isinstance(node, ast.Call)]
        for node in ast.walk(given):
            if isinstance(node, ast.Name) and (node.id in self.names.defined or node.id in self.names.given):
                return True
            if isinstance(node, ast.Lambda) or (self._is_method(node) and node not in called_ones):
                return True
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if called in _STAYS_THERE:
                    return True
        return False

    # Operators, which the interpreter does not ask of an instance outside of the program's session.

    def _may(self, node: ast.AST | None) -> bool:
        """Say whether this may be an instance of the program's."""
        root = root_of(node) if isinstance(node, ast.expr) else None
        return isinstance(root, ast.Name) and root.id in self.names.may

    def _each(self, node: ast.expr) -> Any:
        return _calling("_each", self.visit(node)) if self._may(node) else self.visit(node)

    def _truth(self, node: ast.expr) -> Any:
        """Return a condition, which asks an instance whether it is true."""
        if isinstance(node, ast.BoolOp):
            return ast.BoolOp(node.op, [self._truth(value) for value in node.values])
        return _calling("_truth", self.visit(node)) if self._may(node) else self.visit(node)

    def _tested(self, node: Any) -> Any:
        test, node.test = self._truth(node.test), ast.Constant(None)
        self.generic_visit(node)
        node.test = test
        return node

    visit_Assert = visit_If = visit_While = visit_IfExp = _tested

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        return ast.UnaryOp(
            node.op, self._truth(node.operand) if isinstance(node.op, ast.Not) else self.visit(node.operand)
        )

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        left, right = self.visit(node.left), self.visit(node.right)
        if not (self._may(node.left) and self._may(node.right)):
            return ast.BinOp(left, node.op, right)
        plain = ast.BinOp(ast.Name("a", ast.Load()), node.op, ast.Name("b", ast.Load()))
        asked = ast.BinOp(ast.Name("A", ast.Load()), node.op, ast.Name("B", ast.Load()))
        function = ast.parse(f"lambda a, b: {ast.unparse(plain)}", mode="eval").body
        return _calling(
            "_both", ast.Constant(ast.unparse(asked).replace("A", "{}").replace("B", "{}")), function, left, right
        )

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        match node:
            case ast.Compare(ast.Call(ast.Name("type"), [one], []), [ast.Is() | ast.Eq()], [ast.Name(name)]) if (
                name in self.names.program
            ):
                return _calling("_is_type", self.visit(one), self.visit(node.comparators[0]))
        pairs = zip(node.ops, node.comparators, strict=True)
        others = [self._each(one) if isinstance(op, ast.In | ast.NotIn) else self.visit(one) for op, one in pairs]
        return ast.Compare(self.visit(node.left), node.ops, others)

    def visit_For(self, node: ast.For) -> ast.AST:
        node.iter = _calling("_each", node.iter) if self._may(node.iter) else node.iter
        return self.generic_visit(node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        if self._may(node.value) and node.format_spec is None and node.conversion != ord("a"):
            shown = ast.Constant("repr" if node.conversion == ord("r") else "str")
            return ast.FormattedValue(_calling("_shown", shown, self.visit(node.value)), -1)
        return self.generic_visit(node)

    def _is_method(self, node: ast.AST) -> bool:
        """Say whether this is `seen.append`, of a variable of the test's, and no call."""
        owner = node.value if isinstance(node, ast.Attribute) and node.attr in _METHODS else None
        return isinstance(owner, ast.Name) and owner.id in self.names.own - self.names.defined

    def _lift(self, node: ast.Call) -> ast.expr:
        """Evaluate the whole call in the program's session, with the values that the test's variables have.

        Nothing may be judged there, where all that is compared, and what compares it, may be the program's. So what
        the program is to return is asked for here, and what it returned may go there as a plain value only.
        """
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        if any(map(self._is_method, given)):
            node = copy.copy(node)
            node.args = [_wrapped(one) if self._is_method(one) else one for one in node.args]
            for keyword in node.keywords:
                keyword.value = _wrapped(keyword.value) if self._is_method(keyword.value) else keyword.value
        parts = self._checked(node)
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        uncalled = {ast.unparse(one) for one in given} & (self.names.defined | self.names.given)
        judges = uncalled or any(isinstance(part, ast.Lambda) or not _only_made(part) for part in parts)
        text, hoisted = self._hoisted(node) if judges else (node, {})
        inner = parameters_of(text)
        inner |= {part.id for part in ast.walk(text) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
        local = sorted((loaded_in(text) & self.names.own) - self.names.defined - inner)
        root = root_of(text.func)
        first = [root.id] if isinstance(root, ast.Name) and root.id in local else []
        values: dict[str, ast.expr] = {name: ast.Name(name, ast.Load()) for name in first + local} | hoisted
        return self._lifted(text, values, len(first) if judges else -1)

    def _lifted(self, node: ast.expr, values: dict[str, ast.expr], plain_from: int = -1) -> ast.expr:
        self.there += self.names.reached(node)
        text = ast.unparse(node).replace("{", "{{").replace("}", "}}")
        self.lifted.append(f"(lambda {', '.join(values)}: {text})({', '.join(['{}'] * len(values))})")
        number, given = ast.Constant(len(self.lifted) - 1), ast.List(list(values.values()), ast.Load())
        return _calling("_lift", number, given, ast.Constant(plain_from))

    def _checked(self, node: ast.expr) -> list[ast.AST]:
        """Return the test's functions and classes that the program would run, or raise UnfitError."""
        parts: list[ast.AST] = [part for part in ast.walk(node) if isinstance(part, ast.Lambda)]
        definitions = [part for part in self.names.reached(node) if not isinstance(part, ast.Import | ast.ImportFrom)]
        said = f"{ast.unparse(node)!r:.80} hands the program a function of the test"
        for part in [*parts, *definitions]:
            bare = copy.copy(part)
            if isinstance(bare, ast.FunctionDef):
                bare.decorator_list = []
            if any(isinstance(inner, ast.Assert) for inner in ast.walk(bare)) or _may_raise(bare):
                raise UnfitError(f"{said} that asserts or raises, where the program could answer for it. {_INSTEAD}")
            variables = self.names.own - self.names.defined - set(bound_in(bare))
            calls = [inner.func for inner in ast.walk(bare) if isinstance(inner, ast.Call)]
            called = {func.id for func in calls if isinstance(func, ast.Name)} & variables
            if asks := sorted(loaded_in(bare) & self.names.program | called):
                raise UnfitError(f"{said} that asks {asks[0]!r}, where the program could answer for it. {_INSTEAD}")
            if part in definitions and (used := sorted(loaded_in(part) & variables)):
                raise UnfitError(f"{said} with the variable {used[0]!r}: write a lambda, or give it as an argument")
        return [*parts, *definitions]

    def _hoisted(self, node: ast.Call) -> tuple[ast.Call, dict[str, ast.expr]]:
        """Return the call with names for those of its arguments that ask the program, and what they ask."""
        new, found = copy.deepcopy(node), dict[str, ast.expr]()

        def named(given: ast.expr) -> ast.expr:
            if isinstance(given, ast.Starred):
                return ast.Starred(named(given.value), given.ctx)
            if isinstance(given, ast.Lambda) or not any(map(self._asks, ast.walk(given))):
                return given
            if self._cannot_cross(given) and not isinstance(given, ast.Call):
                raise UnfitError(f"{ast.unparse(given)!r:.80} asks the program beside a function: write it by itself")
            found[name := f"_g{len(found)}"] = self.visit(given)
            return ast.Name(name, ast.Load())

        at: ast.expr = new
        while isinstance(at, ast.Call | ast.Attribute | ast.Subscript):
            if isinstance(at, ast.Call):
                at.args = [named(one) for one in at.args]
                at.keywords = [ast.keyword(keyword.arg, named(keyword.value)) for keyword in at.keywords]
            at = at.func if isinstance(at, ast.Call) else at.value
        return new, found

    def _asks(self, node: ast.AST) -> bool:
        root = root_of(node) if isinstance(node, ast.Call) else None
        return isinstance(root, ast.Name) and root.id in self.names.program | (self.names.own - self.names.defined)

    # A coroutine of the test's is a function that runs here, when it is awaited; the program's is run there.

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        bare = copy.copy(node.args)
        bare.defaults, bare.kw_defaults = [], [None] * len(bare.kwonlyargs)
        given: list[ast.expr] = [ast.Name(one.arg, ast.Load()) for one in (*bare.posonlyargs, *bare.args)]
        given += [ast.Starred(ast.Name(bare.vararg.arg, ast.Load()), ast.Load())] if bare.vararg else []
        keys: list[ast.expr | None] = [ast.Constant(one.arg) for one in bare.kwonlyargs]
        named: list[ast.expr] = [ast.Name(one.arg, ast.Load()) for one in bare.kwonlyargs]
        if bare.kwarg:
            keys, named = [*keys, None], [*named, ast.Name(bare.kwarg.arg, ast.Load())]
        later = _calling("_Later", ast.Name("_body", ast.Load()), ast.Tuple(given, ast.Load()), ast.Dict(keys, named))
        body: list[ast.stmt] = [ast.FunctionDef("_body", bare, node.body, []), ast.Return(later)]
        return self.visit(ast.fix_missing_locations(ast.FunctionDef(node.name, node.args, body, node.decorator_list)))

    def visit_Await(self, node: ast.Await) -> ast.expr:
        return _calling("_awaited", self.visit(node.value))

    def _of_asyncio(self, node: ast.Call, name: str) -> ast.expr:
        args, keywords = self._arguments(node)
        if name == "run" and len(args) == 1:
            return _calling("_awaited", *args)
        if name == "gather" and not keywords:
            return _calling("_gather", *args)
        if name == "sleep":
            return _calling("_gather")
        if name in ("wait_for", "create_task", "ensure_future") and args:
            return _calling("_task", args[0])
        return self._no_async(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        is_it = isinstance(node.value, ast.Name) and node.value.id == "asyncio"
        return self._no_async(node) if is_it else self.generic_visit(node)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> ast.AST:
        module = node.module if isinstance(node, ast.ImportFrom) else ""
        renamed = [one for one in node.names if one.name.split(".")[0] == "asyncio" and (one.asname or "." in one.name)]
        return self._no_async(node) if renamed or (module or "").split(".")[0] == "asyncio" else node

    visit_ImportFrom = visit_Import

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        if node.is_async:
            return self._no_async(node)
        node.iter = _calling("_each", node.iter) if self._may(node.iter) else node.iter
        node.ifs = [self._truth(one) for one in node.ifs]
        node.target, node.iter = self.visit(node.target), self.visit(node.iter)
        return node

    def _no_async(self, node: ast.AST) -> Any:
        said = "write import asyncio, asyncio.run(f(2)), await f(2), or gather, sleep, wait_for, create_task of asyncio"
        raise UnfitError(f"{ast.unparse(node)!r:.80} is more of asyncio than a test may use: {said}")

    visit_AsyncFor = visit_AsyncWith = _no_async

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        roots = {root.id for root in map(root_of, node.decorator_list) if isinstance(root, ast.Name)}
        if not roots & self.names.program:
            if used := sorted(roots & (self.names.own - self.names.defined)):
                raise UnfitError(f"{used[0]!r} decorates a function: write the program's own name, or call it")
            return self.generic_visit(node)
        name = ast.Name(node.name, ast.Load())  # as the program's decorator leaves it
        self._checked(name)
        return ast.Assign([ast.Name(node.name, ast.Store())], self._lifted(name, {}))


def _may_be_changed(given: ast.expr) -> bool:
    """Say whether an argument may be a list that a variable of the test's holds."""
    return isinstance(given, ast.Name | ast.Attribute | ast.Subscript | ast.Starred)


def _wrapped(method: ast.expr) -> ast.expr:
    """Return `seen.append` as a function, which the interpreter has no other way to hand over."""
    return ast.parse(f"lambda *given: {ast.unparse(method)}(*given)", mode="eval").body


def _only_made(part: ast.AST) -> bool:
    """Say whether a definition is a class that can be made, but whose instances do nothing."""
    inside = [inner.name for inner in ast.walk(part) if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)]
    lambdas = any(isinstance(inner, ast.Lambda) for inner in ast.walk(part))
    return isinstance(part, ast.ClassDef) and set(inside) <= {"__init__"} and not lambdas


def _may_raise(part: ast.AST) -> bool:
    """Say whether a function raises by what it has been given: not so one that does nothing else than to raise."""
    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(part.body[-1], ast.Raise):
        return len(part.body) > 1 + isinstance(part.body[0], ast.Expr)
    return any(isinstance(inner, ast.Raise) for inner in ast.walk(part))


def _calling(function: str, *given: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(function, ast.Load()), list(given), [])
