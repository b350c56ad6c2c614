"""Rewrite the operators and coroutines of a test for a session that holds none of the program's objects.

Outside of the program's session the interpreter cannot apply `+`, `in` or a condition to an instance of the program's.
So these become calls of helpers in `sandbox/exam_helpers.py` (`_each`, `_truth`, `_both`, ...), which ask the
program. A coroutine of the test's becomes a function. `exams.py` builds on this and rewrites names and calls.
"""

from __future__ import annotations

import ast
import copy
from typing import Any

from grpo_colab.rewards.name_owners import NameOwners, root_of


class UnfitError(ValueError):
    """Say why a test, though valid Python, cannot judge a program."""


class OperatorRewriter(ast.NodeTransformer):
    """Rewrite what asks an instance of the program's without a call: operators, conditions, loops, f-strings."""

    def __init__(self, names: NameOwners) -> None:
        self.names = names

    def _maybe_program(self, node: ast.AST | None) -> bool:
        """Tell whether the value of `node` may be an instance of the program's."""
        root = root_of(node) if isinstance(node, ast.expr) else None
        return isinstance(root, ast.Name) and root.id in self.names.maybe_program

    def _iterable(self, node: ast.expr) -> Any:
        """Return the rewritten `node`, which gives the items to loop over or to search.

        Where it may be an instance of the program's, the helper `_each` has the program list the items.
        """
        asks_program = self._maybe_program(node)  # before `visit` changes the node
        rewritten = self.visit(node)
        return calling("_each", rewritten) if asks_program else rewritten

    def _condition(self, node: ast.expr) -> Any:
        """Return the rewritten condition.

        Where it may be an instance of the program's, the helper `_truth` has the program say whether the instance is
        true.
        """
        if isinstance(node, ast.BoolOp):
            return ast.BoolOp(node.op, [self._condition(value) for value in node.values])
        asks_program = self._maybe_program(node)  # before `visit` changes the node
        rewritten = self.visit(node)
        return calling("_truth", rewritten) if asks_program else rewritten

    def _with_condition(self, node: Any) -> Any:
        """Rewrite a statement or expression that has a condition, `node.test`.

        The node itself is changed, and returned.
        """
        condition = self._condition(node.test)
        # A placeholder, so that generic_visit does not rewrite the condition a second time.
        node.test = ast.Constant(None)
        self.generic_visit(node)
        node.test = condition
        return node

    visit_Assert = visit_If = visit_While = visit_IfExp = _with_condition

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.Not):
            return ast.UnaryOp(node.op, self._condition(node.operand))
        return ast.UnaryOp(node.op, self.visit(node.operand))

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Turn `x + y` into `_both("{} + {}", lambda a, b: a + b, x, y)` where both may be the program's instances."""
        left, right = self.visit(node.left), self.visit(node.right)
        if not (self._maybe_program(node.left) and self._maybe_program(node.right)):
            return ast.BinOp(left, node.op, right)
        here = ast.BinOp(ast.Name("a", ast.Load()), node.op, ast.Name("b", ast.Load()))
        there = ast.BinOp(ast.Name("A", ast.Load()), node.op, ast.Name("B", ast.Load()))
        function = ast.parse(f"lambda a, b: {ast.unparse(here)}", mode="eval").body
        form = ast.unparse(there).replace("A", "{}").replace("B", "{}")
        return calling("_both", ast.Constant(form), function, left, right)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        match node:
            # type(value) is Class, where the class is the program's
            case ast.Compare(ast.Call(ast.Name("type"), [value], []), [ast.Is() | ast.Eq()], [ast.Name(name)]) if (
                name in self.names.program
            ):
                return calling("_is_type", self.visit(value), self.visit(node.comparators[0]))
        comparators = []
        for operator, comparator in zip(node.ops, node.comparators, strict=True):
            is_container = isinstance(operator, ast.In | ast.NotIn)
            comparators.append(self._iterable(comparator) if is_container else self.visit(comparator))
        return ast.Compare(self.visit(node.left), node.ops, comparators)

    def visit_For(self, node: ast.For) -> ast.AST:
        if self._maybe_program(node.iter):
            node.iter = calling("_each", node.iter)
        return self.generic_visit(node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        if self._maybe_program(node.value) and node.format_spec is None and node.conversion != ord("a"):
            function = ast.Constant("repr" if node.conversion == ord("r") else "str")
            return ast.FormattedValue(calling("_shown", function, self.visit(node.value)), -1)
        return self.generic_visit(node)


class CoroutineRewriter(OperatorRewriter):
    """Rewrite the test's coroutines to functions that run in its session when awaited; the program's run in its own."""

    def _arguments(self, node: ast.Call) -> tuple[list[ast.expr], list[ast.keyword]]:
        """Return the rewritten positional and keyword arguments of a call."""
        keywords = [ast.keyword(keyword.arg, self.visit(keyword.value)) for keyword in node.keywords]
        return [self.visit(argument) for argument in node.args], keywords

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        """Turn `async def f(x): ...` into `def f(x)` that returns `_Later(_body, (x,), {})`, with `_body` inside."""
        bare = copy.copy(node.args)
        bare.defaults, bare.kw_defaults = [], [None] * len(bare.kwonlyargs)
        positional: list[ast.expr] = [ast.Name(one.arg, ast.Load()) for one in (*bare.posonlyargs, *bare.args)]
        if bare.vararg:
            positional.append(ast.Starred(ast.Name(bare.vararg.arg, ast.Load()), ast.Load()))
        keys: list[ast.expr | None] = [ast.Constant(one.arg) for one in bare.kwonlyargs]
        values: list[ast.expr] = [ast.Name(one.arg, ast.Load()) for one in bare.kwonlyargs]
        if bare.kwarg:
            keys.append(None)  # {..., **kwargs}
            values.append(ast.Name(bare.kwarg.arg, ast.Load()))
        given, named = ast.Tuple(positional, ast.Load()), ast.Dict(keys, values)
        later = calling("_Later", ast.Name("_body", ast.Load()), given, named)
        body: list[ast.stmt] = [ast.FunctionDef("_body", bare, node.body, []), ast.Return(later)]
        return self.visit(ast.fix_missing_locations(ast.FunctionDef(node.name, node.args, body, node.decorator_list)))

    def visit_Await(self, node: ast.Await) -> ast.expr:
        return calling("_awaited", self.visit(node.value))

    def _asyncio_call(self, node: ast.Call, name: str) -> ast.expr:
        """Return what replaces a call of `asyncio.<name>`, or raise UnfitError for one that has no replacement."""
        args, keywords = self._arguments(node)
        if name == "run" and len(args) == 1:
            return calling("_awaited", *args)
        if name == "gather" and not keywords:
            return calling("_gather", *args)
        if name == "sleep":
            return calling("_gather")  # of nothing: no time passes in the sandbox
        if name in ("wait_for", "create_task", "ensure_future") and args:
            return calling("_task", args[0])
        return self._refuse_asyncio(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        of_asyncio = isinstance(node.value, ast.Name) and node.value.id == "asyncio"
        return self._refuse_asyncio(node) if of_asyncio else self.generic_visit(node)

    def visit_Import(self, node: ast.Import | ast.ImportFrom) -> ast.AST:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "asyncio":
            return self._refuse_asyncio(node)
        for alias in node.names:
            if alias.name.split(".")[0] == "asyncio" and (alias.asname or "." in alias.name):
                return self._refuse_asyncio(node)
        return node

    visit_ImportFrom = visit_Import

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        if node.is_async:
            return self._refuse_asyncio(node)
        if self._maybe_program(node.iter):
            node.iter = calling("_each", node.iter)
        node.ifs = [self._condition(condition) for condition in node.ifs]
        node.target = self.visit(node.target)
        node.iter = self.visit(node.iter)
        return node

    def _refuse_asyncio(self, node: ast.AST) -> Any:
        remedy = (
            "write import asyncio, asyncio.run(f(2)), await f(2), or gather, sleep, wait_for, create_task of asyncio"
        )
        raise UnfitError(f"{ast.unparse(node)!r:.80} is more of asyncio than a test may use: {remedy}")

    visit_AsyncFor = visit_AsyncWith = _refuse_asyncio


def calling(function: str, *arguments: ast.expr) -> ast.Call:
    """Return a call of one of the helpers in `sandbox/exam_helpers.py`."""
    return ast.Call(ast.Name(function, ast.Load()), list(arguments), [])
