"""Rewrite a test to an `Exam`: text for a session of its own, which asks the program by the functions of `referee`.

What cannot cross between the two sessions, such as a function that is handed over, is evaluated whole in the program's;
nothing may be judged there.
"""

from __future__ import annotations

import ast
import copy
from typing import Any, Final

from grpo_colab.rewards.operators import CoroutineRewriter, UnfitError, calling
from grpo_colab.rewards.whose import BUILTINS, Names, bound_in, loaded_in, parameters_of, root_of
from grpo_colab.sandbox import Exam

_INSTEAD: Final = "Write it with the program's answer outside, as in assert apply(lambda x: x + 1, f(2)) == 5"
_IN_GLUE: Final = {"map": "_map", "filter": "_filter"}
_WITH_KEY: Final = {"sorted": "_order", "min": "_least", "max": "_most"}
_OF_ITEMS: Final = frozenset({"list", "tuple", "set", "frozenset", "sorted", "sum", "min", "max", "iter", "enumerate"})
_OF_VALUE: Final = frozenset({"str", "repr", "int", "float", "abs", "len", "bool"})
_STAYS_THERE: Final = frozenset({"range", "iter", "slice", "super", "keys", "values", "items"})
# What a method of a list, a dictionary or a set is called: handed over, it takes its owner along.
_METHODS: Final = frozenset(
    {"append", "add", "extend", "insert", "update", "setdefault", "pop", "remove", "discard", "get"}
)


class ExamRewriter(CoroutineRewriter):
    """Rewrite a test for a session that has none of the program's names, only what `referee` gives it."""

    def __init__(self, names: Names) -> None:
        super().__init__(names)
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
            return calling("_now", ast.Constant(node.id))
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        match node.targets:
            case [ast.Attribute(value=ast.Name() as owner, attr=name)]:
                return self._assigned(owner, name, node.value)
            case [ast.Subscript(value=ast.Name() as owner, slice=key)] if not isinstance(key, ast.Slice):
                given = [self.visit(owner), self.visit(key), self.visit(node.value)]
                return ast.Expr(calling("_assign_item", *given))
            case [ast.Tuple() | ast.List()]:
                node.value = calling("_each", node.value) if self._may(node.value) else node.value
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        value, key = self.visit(node.value), self.visit(node.slice)
        plain = isinstance(key, ast.Slice | ast.Tuple) or not isinstance(
            node.value, ast.Name | ast.Call | ast.Attribute
        )
        if isinstance(node.ctx, ast.Load) and not plain:
            return calling("_item", value, key)
        return ast.Subscript(value, key, node.ctx)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        match node.target:
            case ast.Attribute(value=ast.Name() as owner, attr=name):
                old = ast.Attribute(ast.Name(owner.id, ast.Load()), name, ast.Load())
                return self._assigned(owner, name, ast.BinOp(old, node.op, node.value))
        return self.generic_visit(node)

    def _assigned(self, owner: ast.Name, name: str, value: ast.expr) -> ast.stmt:
        new = calling("_assign", self.visit(owner), ast.Constant(name), self.visit(value))
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
                return ast.IfExp(calling("_theirs", ast.Name(name, ast.Load())), self._lift(node), self._plain(node))
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
        either = ast.IfExp(calling("_theirs", owner), theirs, plain)
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
            return calling("_is", ast.Constant(name), node.func, *map(self.visit, [node.args[0], *kinds]))
        args, keywords = self._arguments(node)
        if name in _IN_GLUE:
            return ast.Call(ast.Name(_IN_GLUE[name], ast.Load()), args, keywords)
        if name in _WITH_KEY and any(keyword.arg == "key" for keyword in keywords):
            return ast.Call(ast.Name(_WITH_KEY[name], ast.Load()), args, keywords)
        if len(args) == 1 and not isinstance(args[0], ast.Constant | ast.Starred):
            if name in _OF_ITEMS:
                return ast.Call(ast.Name("_items", ast.Load()), [node.func, *args], keywords)
            if name in _OF_VALUE and not keywords:
                return calling("_text", ast.Constant(name), node.func, args[0])
        return ast.Call(node.func, args, keywords)

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
        return calling("_lift", number, given, ast.Constant(plain_from))

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
