"""Rewrite the operators and the coroutines of a test for a session that has none of the program's objects.

The interpreter asks no instance of the program's for `+`, `in` or its truth outside of the program's session, so these
become calls of what `referee` provides. A coroutine of the test's becomes a function.
"""

from __future__ import annotations

import ast
import copy
from typing import Any

from grpo_colab.rewards.whose import Names, root_of


class UnfitError(ValueError):
    """Say why a test, which is Python, can judge nothing."""


class OperatorRewriter(ast.NodeTransformer):
    """Rewrite what asks an instance of the program's without a call: operators, conditions, loops, f-strings."""

    def __init__(self, names: Names) -> None:
        self.names = names

    def _may(self, node: ast.AST | None) -> bool:
        """Say whether this may be an instance of the program's."""
        root = root_of(node) if isinstance(node, ast.expr) else None
        return isinstance(root, ast.Name) and root.id in self.names.may

    def _each(self, node: ast.expr) -> Any:
        return calling("_each", self.visit(node)) if self._may(node) else self.visit(node)

    def _truth(self, node: ast.expr) -> Any:
        """Return a condition, which asks an instance whether it is true."""
        if isinstance(node, ast.BoolOp):
            return ast.BoolOp(node.op, [self._truth(value) for value in node.values])
        return calling("_truth", self.visit(node)) if self._may(node) else self.visit(node)

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
        return calling(
            "_both", ast.Constant(ast.unparse(asked).replace("A", "{}").replace("B", "{}")), function, left, right
        )

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        match node:
            case ast.Compare(ast.Call(ast.Name("type"), [one], []), [ast.Is() | ast.Eq()], [ast.Name(name)]) if (
                name in self.names.program
            ):
                return calling("_is_type", self.visit(one), self.visit(node.comparators[0]))
        pairs = zip(node.ops, node.comparators, strict=True)
        others = [self._each(one) if isinstance(op, ast.In | ast.NotIn) else self.visit(one) for op, one in pairs]
        return ast.Compare(self.visit(node.left), node.ops, others)

    def visit_For(self, node: ast.For) -> ast.AST:
        node.iter = calling("_each", node.iter) if self._may(node.iter) else node.iter
        return self.generic_visit(node)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.AST:
        if self._may(node.value) and node.format_spec is None and node.conversion != ord("a"):
            shown = ast.Constant("repr" if node.conversion == ord("r") else "str")
            return ast.FormattedValue(calling("_shown", shown, self.visit(node.value)), -1)
        return self.generic_visit(node)


class CoroutineRewriter(OperatorRewriter):
    """Rewrite a coroutine of the test's to a function that runs here when it is awaited; the program's runs there."""

    def _arguments(self, node: ast.Call) -> tuple[list[ast.expr], list[ast.keyword]]:
        keywords = [ast.keyword(keyword.arg, self.visit(keyword.value)) for keyword in node.keywords]
        return [self.visit(one) for one in node.args], keywords

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        bare = copy.copy(node.args)
        bare.defaults, bare.kw_defaults = [], [None] * len(bare.kwonlyargs)
        given: list[ast.expr] = [ast.Name(one.arg, ast.Load()) for one in (*bare.posonlyargs, *bare.args)]
        given += [ast.Starred(ast.Name(bare.vararg.arg, ast.Load()), ast.Load())] if bare.vararg else []
        keys: list[ast.expr | None] = [ast.Constant(one.arg) for one in bare.kwonlyargs]
        named: list[ast.expr] = [ast.Name(one.arg, ast.Load()) for one in bare.kwonlyargs]
        if bare.kwarg:
            keys, named = [*keys, None], [*named, ast.Name(bare.kwarg.arg, ast.Load())]
        later = calling("_Later", ast.Name("_body", ast.Load()), ast.Tuple(given, ast.Load()), ast.Dict(keys, named))
        body: list[ast.stmt] = [ast.FunctionDef("_body", bare, node.body, []), ast.Return(later)]
        return self.visit(ast.fix_missing_locations(ast.FunctionDef(node.name, node.args, body, node.decorator_list)))

    def visit_Await(self, node: ast.Await) -> ast.expr:
        return calling("_awaited", self.visit(node.value))

    def _of_asyncio(self, node: ast.Call, name: str) -> ast.expr:
        args, keywords = self._arguments(node)
        if name == "run" and len(args) == 1:
            return calling("_awaited", *args)
        if name == "gather" and not keywords:
            return calling("_gather", *args)
        if name == "sleep":
            return calling("_gather")
        if name in ("wait_for", "create_task", "ensure_future") and args:
            return calling("_task", args[0])
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
        node.iter = calling("_each", node.iter) if self._may(node.iter) else node.iter
        node.ifs = [self._truth(one) for one in node.ifs]
        node.target, node.iter = self.visit(node.target), self.visit(node.iter)
        return node

    def _no_async(self, node: ast.AST) -> Any:
        said = "write import asyncio, asyncio.run(f(2)), await f(2), or gather, sleep, wait_for, create_task of asyncio"
        raise UnfitError(f"{ast.unparse(node)!r:.80} is more of asyncio than a test may use: {said}")

    visit_AsyncFor = visit_AsyncWith = _no_async


def calling(function: str, *given: ast.expr) -> ast.Call:
    """Return the call of a function of the referee's."""
    return ast.Call(ast.Name(function, ast.Load()), list(given), [])
