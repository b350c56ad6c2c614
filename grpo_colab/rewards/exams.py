"""Rewrite a test to an `Exam`: source for a session of its own, which asks the program through `sandbox/referee.py`.

Plain values cross between the test's session and the program's. A call with an argument that cannot cross, such as a
function, is evaluated whole in the program's session. Nothing may be judged there, because the program could redefine
whatever judges it. `operators.py` does the rest of the rewriting.
"""

from __future__ import annotations

import ast
import copy
from typing import Final

from grpo_colab.rewards.name_owners import BUILTINS, NameOwners, bound_in, loaded_in, parameters_of, root_of
from grpo_colab.rewards.operators import CoroutineRewriter, UnfitError, calling
from grpo_colab.sandbox import Exam

_REMEDY: Final = "Write it with the program's answer outside, as in assert apply(lambda x: x + 1, f(2)) == 5"
# Built-ins that call a function of the test's, and the referee's helpers that replace them.
_HELPER_OF: Final = {"map": "_map", "filter": "_filter"}
_HELPER_WITH_KEY: Final = {"sorted": "_order", "min": "_least", "max": "_most"}
# Built-ins of one argument: those that loop over it, and those that ask it for a value.
_OF_ITEMS: Final = frozenset({"list", "tuple", "set", "frozenset", "sorted", "sum", "min", "max", "iter", "enumerate"})
_OF_VALUE: Final = frozenset({"str", "repr", "int", "float", "abs", "len", "bool"})
# Calls whose results have no plain value.
_NOT_PLAIN: Final = frozenset({"range", "iter", "slice", "super", "keys", "values", "items"})
# Methods of lists, dictionaries and sets: one that is handed over takes its owner along.
_METHODS: Final = frozenset(
    {"append", "add", "extend", "insert", "update", "setdefault", "pop", "remove", "discard", "get"}
)


class ExamRewriter(CoroutineRewriter):
    """Rewrite one test for a session that has none of the program's names, only the helpers of the referee.

    While it runs it collects the parts of the exam: `bound`, the program's functions that the test calls; `lifted`, the
    expressions to evaluate in the program's session; and `shared`, the test's definitions that these need there.
    """

    def __init__(self, names: NameOwners) -> None:
        super().__init__(names)
        self.bound: dict[str, str] = {}  # the name in the test -> the program's own name
        self.lifted: list[str] = []
        self.shared: list[ast.stmt] = []

    def exam(self, tree: ast.Module) -> Exam:
        """Return the exam of the test `tree`, which is changed. Raises UnfitError for a test that cannot judge."""
        imports = [f"import {name}" for name in self.names.imported]
        rewritten = ast.fix_missing_locations(self.visit(tree))
        source = "\n".join([*imports, ast.unparse(rewritten)])
        shared = [ast.unparse(text) for _, text in self.names.definitions if text in self.shared]
        return Exam(source, self.bound, "\n".join(shared), self.lifted)

    @property
    def _variables(self) -> set[str]:
        """The names that the test binds and that are no definitions: each may hold anything, the program's included."""
        return self.names.own - self.names.defined

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if isinstance(node.ctx, ast.Load) and node.id in self.names.program:
            return calling("_now", ast.Constant(node.id))
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        match node.targets:
            case [ast.Attribute(value=ast.Name() as owner, attr=name)]:
                return self._attribute_assignment(owner, name, node.value)
            case [ast.Subscript(value=ast.Name() as owner, slice=key)] if not isinstance(key, ast.Slice):
                arguments = [self.visit(owner), self.visit(key), self.visit(node.value)]
                return ast.Expr(calling("_assign_item", *arguments))
            case [ast.Tuple() | ast.List()]:
                if self._maybe_program(node.value):
                    node.value = calling("_each", node.value)
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        value, key = self.visit(node.value), self.visit(node.slice)
        owner_may_answer = isinstance(node.value, ast.Name | ast.Call | ast.Attribute)
        if isinstance(node.ctx, ast.Load) and owner_may_answer and not isinstance(key, ast.Slice | ast.Tuple):
            return calling("_item", value, key)
        return ast.Subscript(value, key, node.ctx)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        match node.target:
            case ast.Attribute(value=ast.Name() as owner, attr=name):
                old = ast.Attribute(ast.Name(owner.id, ast.Load()), name, ast.Load())
                return self._attribute_assignment(owner, name, ast.BinOp(old, node.op, node.value))
        return self.generic_visit(node)

    def _attribute_assignment(self, owner: ast.Name, name: str, value: ast.expr) -> ast.stmt:
        return ast.Expr(calling("_assign", self.visit(owner), ast.Constant(name), self.visit(value)))

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Rewrite a call by what it calls: asyncio's, the program's, a variable's or its method, a built-in, others.

        Adds to `bound`, `lifted` and `shared` what the new call needs. Raises UnfitError for a call that a test may not
        make.
        """
        root = root_of(node.func)
        name = root.id if isinstance(root, ast.Name) else ""
        if isinstance(node.func, ast.Attribute) and node.func.value is root and name == "asyncio":
            return self._asyncio_call(node, node.func.attr)
        is_direct = root is node.func  # f(...), not f.g(...) or f(...)(...)
        of_program = name in self.names.program
        if of_program or name in self._variables:
            arguments = _arguments_of(node)
            if any(self._cannot_cross(argument) for argument in arguments):
                if of_program or is_direct:
                    return self._lift(node)
                # The variable may hold the program's instance or a list of the test's: the exam finds out which.
                return ast.IfExp(calling("_theirs", ast.Name(name, ast.Load())), self._lift(node), self._plain(node))
            return self._call(node, name, of_program) if is_direct else self._method(node, arguments)
        if is_direct and name in BUILTINS - self.names.own:
            return self._builtin(node, name)
        return self._plain(node)

    def _plain(self, node: ast.Call) -> ast.Call:
        """Return the call as it is, with its parts rewritten."""
        args, keywords = self._arguments(node)
        return ast.Call(self.visit(node.func), args, keywords)

    def _call(self, node: ast.Call, name: str, of_program: bool) -> ast.expr:
        """Return the call of the program's function, or of a variable that may hold one, with its arguments rewritten.

        The program's function is added to `bound`. Where an argument may be a list of the test's, the helper `_call`
        makes the call, and copies back what the program has changed in the list.
        """
        local_name = self.names.local_name(name) if of_program else name
        if of_program:
            self.bound[local_name] = name
        args, keywords = self._arguments(node)
        function = ast.Name(local_name, ast.Load())
        if any(map(_may_be_changed, _arguments_of(node))):
            return ast.Call(ast.Name("_call", ast.Load()), [function, *args], keywords)
        return ast.Call(function, args, keywords)

    def _method(self, node: ast.Call, arguments: list[ast.expr]) -> ast.expr:
        """Return the call of a method whose owner may be the program's instance.

        Such a method may change the lists that it is given. The result is `_method(o, "name", ...) if _theirs(o) else
        o.name(...)`. Where the owner `o` is no plain variable of the test's, a lambda around it evaluates the owner
        once. Where no argument may be such a list, the result is the plain call.
        """
        func = node.func
        if not isinstance(func, ast.Attribute) or not any(map(_may_be_changed, arguments)):
            return self._plain(node)
        owner: ast.expr = ast.Name(func.value.id if isinstance(func.value, ast.Name) else "_o", ast.Load())
        args, keywords = self._arguments(node)
        theirs = ast.Call(ast.Name("_method", ast.Load()), [owner, ast.Constant(func.attr), *args], keywords)
        plain = ast.Call(ast.Attribute(owner, func.attr, ast.Load()), args, keywords)
        either = ast.IfExp(calling("_theirs", owner), theirs, plain)
        if isinstance(func.value, ast.Name) and func.value.id not in self.names.program:
            return either
        parameters = ast.arguments(posonlyargs=[], args=[ast.arg("_o")], kwonlyargs=[], kw_defaults=[], defaults=[])
        return ast.Call(ast.Lambda(parameters, either), [self.visit(func.value)], [])

    def _builtin(self, node: ast.Call, name: str) -> ast.expr:
        """Return the call of a built-in, or of a referee's helper where the built-in could not ask the program."""
        if name in ("isinstance", "issubclass") and len(node.args) == 2 and self.names.maybe_program & loaded_in(node):
            kinds = node.args[1].elts if isinstance(node.args[1], ast.Tuple) else [node.args[1]]
            return calling("_is", ast.Constant(name), node.func, *map(self.visit, [node.args[0], *kinds]))
        args, keywords = self._arguments(node)
        if name in _HELPER_OF:
            return ast.Call(ast.Name(_HELPER_OF[name], ast.Load()), args, keywords)
        if name in _HELPER_WITH_KEY and any(keyword.arg == "key" for keyword in keywords):
            return ast.Call(ast.Name(_HELPER_WITH_KEY[name], ast.Load()), args, keywords)
        if len(args) == 1 and not isinstance(args[0], ast.Constant | ast.Starred):
            if name in _OF_ITEMS:
                return ast.Call(ast.Name("_items", ast.Load()), [node.func, *args], keywords)
            if name in _OF_VALUE and not keywords:
                return calling("_text", ast.Constant(name), node.func, args[0])
        return ast.Call(node.func, args, keywords)

    def _cannot_cross(self, argument: ast.expr) -> bool:
        """Tell whether an argument has no plain value: a function, say, or what the prelude or the test defines."""
        called = [node.func for node in ast.walk(argument) if isinstance(node, ast.Call)]
        for node in ast.walk(argument):
            if isinstance(node, ast.Name) and (node.id in self.names.defined or node.id in self.names.prelude):
                return True
            if isinstance(node, ast.Lambda) or (self._is_bound_method(node) and node not in called):
                return True
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                if name in _NOT_PLAIN:
                    return True
        return False

    def _is_bound_method(self, node: ast.AST) -> bool:
        """Tell whether this looks like `seen.append`, where `seen` is a variable of the test's."""
        if not (isinstance(node, ast.Attribute) and node.attr in _METHODS):
            return False
        return isinstance(node.value, ast.Name) and node.value.id in self._variables

    def _lift(self, node: ast.Call) -> ast.expr:
        """Return a call that evaluates `node` whole in the program's session.

        The test's variables have their values there. Where the call hands over a function of the test's, the program
        could answer for that function. So what the call asks the program for is asked first, in the test's session, and
        goes there as a plain value only. Raises UnfitError where that is not enough. Adds to `lifted` and `shared`.
        """
        if any(map(self._is_bound_method, _arguments_of(node))):
            node = copy.copy(node)
            node.args = [self._as_lambda(argument) for argument in node.args]
            for keyword in node.keywords:
                keyword.value = self._as_lambda(keyword.value)
        functions = self._functions_handed_over(node)
        handed_by_name = {ast.unparse(argument) for argument in _arguments_of(node)}
        handed_by_name &= self.names.defined | self.names.prelude
        hands_a_function = bool(handed_by_name)
        for function in functions:
            if isinstance(function, ast.Lambda) or not _is_plain_class(function):
                hands_a_function = True
        asked_first: dict[str, ast.expr] = {}
        if hands_a_function:
            node, asked_first = self._ask_first(node)
        bound_inside = parameters_of(node)
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                bound_inside.add(part.id)
        variables = sorted((loaded_in(node) & self.names.own) - self.names.defined - bound_inside)
        # The variable that is called comes first: it alone may hold the program's instance.
        root = root_of(node.func)
        called = [root.id] if isinstance(root, ast.Name) and root.id in variables else []
        values: dict[str, ast.expr] = {name: ast.Name(name, ast.Load()) for name in called + variables} | asked_first
        return self._lifted(node, values, len(called) if hands_a_function else -1)

    def _lifted(self, node: ast.expr, values: dict[str, ast.expr], plain_from: int = -1) -> ast.expr:
        """Add `node` to `lifted`, and the definitions that it uses to `shared`; return the test's call of it.

        `values` maps the names that the expression needs in the program's session to what they are in the test. Those
        from the index `plain_from` on must be plain; -1 allows instances of the program's in all of them.
        """
        self.shared += self.names.definitions_used_by(node)
        text = ast.unparse(node).replace("{", "{{").replace("}", "}}")
        slots = ", ".join(["{}"] * len(values))
        self.lifted.append(f"(lambda {', '.join(values)}: {text})({slots})")
        index, given = ast.Constant(len(self.lifted) - 1), ast.List(list(values.values()), ast.Load())
        return calling("_lift", index, given, ast.Constant(plain_from))

    def _functions_handed_over(self, node: ast.expr) -> list[ast.AST]:
        """Return the test's functions and classes that the program would run with `node`.

        Raises UnfitError for one that asserts, raises, asks the program, or uses a variable that is not there.
        """
        lambdas: list[ast.AST] = [part for part in ast.walk(node) if isinstance(part, ast.Lambda)]
        definitions: list[ast.AST] = []
        for definition in self.names.definitions_used_by(node):
            if not isinstance(definition, ast.Import | ast.ImportFrom):
                definitions.append(definition)
        problem = f"{ast.unparse(node)!r:.80} hands the program a function of the test"
        for part in [*lambdas, *definitions]:
            bare = copy.copy(part)
            if isinstance(bare, ast.FunctionDef):
                bare.decorator_list = []
            if any(isinstance(inner, ast.Assert) for inner in ast.walk(bare)) or _may_raise(bare):
                raise UnfitError(f"{problem} that asserts or raises, where the program could answer for it. {_REMEDY}")
            variables = self._variables - set(bound_in(bare))
            calls = [inner.func for inner in ast.walk(bare) if isinstance(inner, ast.Call)]
            called = {func.id for func in calls if isinstance(func, ast.Name)} & variables
            asked = sorted(loaded_in(bare) & self.names.program | called)
            if asked:
                raise UnfitError(f"{problem} that asks {asked[0]!r}, where the program could answer for it. {_REMEDY}")
            used = sorted(loaded_in(part) & variables) if part in definitions else []
            if used:
                raise UnfitError(f"{problem} with the variable {used[0]!r}: write a lambda, or give it as an argument")
        return [*lambdas, *definitions]

    def _ask_first(self, node: ast.Call) -> tuple[ast.Call, dict[str, ast.expr]]:
        """Replace the arguments that ask the program by names `_g0`, `_g1`, ...; return the call, and what they ask.

        The arguments of every call in the chain are replaced, but a lambda stays. The call is a copy. The second is a
        dictionary from the names to the rewritten arguments, empty where none asks. Rewriting adds to `bound`, `lifted`
        and `shared`. Raises UnfitError for an argument that asks the program and also holds what cannot cross, unless
        it is a call. What cannot cross has no plain value, such as a function, or is defined by the test or prelude.
        """
        new = copy.deepcopy(node)
        found: dict[str, ast.expr] = {}

        def replaced(argument: ast.expr) -> ast.expr:
            if isinstance(argument, ast.Starred):
                return ast.Starred(replaced(argument.value), argument.ctx)
            if isinstance(argument, ast.Lambda) or not any(map(self._asks, ast.walk(argument))):
                return argument
            if self._cannot_cross(argument) and not isinstance(argument, ast.Call):
                raise UnfitError(
                    f"{ast.unparse(argument)!r:.80} asks the program beside a function: write it by itself"
                )
            name = f"_g{len(found)}"
            found[name] = self.visit(argument)
            return ast.Name(name, ast.Load())

        # Walk down the chain of calls, attributes and items, from the last call to the root.
        link: ast.expr = new
        while isinstance(link, ast.Call | ast.Attribute | ast.Subscript):
            if isinstance(link, ast.Call):
                link.args = [replaced(argument) for argument in link.args]
                link.keywords = [ast.keyword(keyword.arg, replaced(keyword.value)) for keyword in link.keywords]
            link = link.func if isinstance(link, ast.Call) else link.value
        return new, found

    def _asks(self, node: ast.AST) -> bool:
        """Tell whether this is a call of the program's, or of a variable that may hold something of the program's."""
        root = root_of(node) if isinstance(node, ast.Call) else None
        return isinstance(root, ast.Name) and root.id in self.names.program | self._variables

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Rewrite a function; one with a decorator of the program's is evaluated whole in the program's session.

        Raises UnfitError where a variable of the test's decorates it, or where the program could answer for it.
        """
        decorators = {root.id for root in map(root_of, node.decorator_list) if isinstance(root, ast.Name)}
        if not decorators & self.names.program:
            variables = sorted(decorators & self._variables)
            if variables:
                raise UnfitError(f"{variables[0]!r} decorates a function: write the program's own name, or call it")
            return self.generic_visit(node)
        decorated = ast.Name(node.name, ast.Load())
        self._functions_handed_over(decorated)
        return ast.Assign([ast.Name(node.name, ast.Store())], self._lifted(decorated, {}))

    def _as_lambda(self, argument: ast.expr) -> ast.expr:
        """Return `seen.append` as a lambda, since the interpreter cannot hand a method over; all else as it is."""
        if not self._is_bound_method(argument):
            return argument
        return ast.parse(f"lambda *given: {ast.unparse(argument)}(*given)", mode="eval").body


def _arguments_of(node: ast.Call) -> list[ast.expr]:
    """Return the values of all arguments of a call, positional ones first."""
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _may_be_changed(argument: ast.expr) -> bool:
    """Tell whether an argument may be a list that a variable of the test's holds."""
    return isinstance(argument, ast.Name | ast.Attribute | ast.Subscript | ast.Starred)


def _is_plain_class(definition: ast.AST) -> bool:
    """Tell whether a definition is a class with no method but `__init__`, if any: its instances can judge nothing."""
    methods: set[str] = set()
    for inner in ast.walk(definition):
        if isinstance(inner, ast.Lambda):
            return False
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
            methods.add(inner.name)
    return isinstance(definition, ast.ClassDef) and methods <= {"__init__"}


def _may_raise(part: ast.AST) -> bool:
    """Tell whether a function may raise, depending on its arguments: one that only ever raises does not count."""
    if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(part.body[-1], ast.Raise):
        statements_allowed = 2 if isinstance(part.body[0], ast.Expr) else 1  # a docstring, and the raise
        return len(part.body) > statements_allowed
    return any(isinstance(inner, ast.Raise) for inner in ast.walk(part))
