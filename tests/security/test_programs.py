"""No program earns by saying that it is right: neither what equals everything, nor what redefines a test's own words.

A test runs where nothing that the program defines can reach, and the program only answers with plain values. So each
shape of a test pays the right program and none of the others; and what a right program may do, it still may.
"""

from __future__ import annotations

import builtins
import math
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from grpo_colab.rewards import get_code_reward
from grpo_colab.rewards.assertions import parse_test
from grpo_colab.rewards.code import CodeReward
from grpo_colab.sandbox import Sandbox

RIGHT = "def f(x):\n    return x * x\n"
YES = ["eq", "ne", "lt", "le", "gt", "ge", "contains", "bool"]
ZERO = ["hash", "sub", "rsub", "abs", "int", "float", "mod"]
SELF = ["add", "getitem", "call", "round"]
EQUALS_ALL = (
    "class A:\n"
    + "".join(f"    def __{name}__(self, *others): return True\n" for name in YES)
    + "".join(f"    def __{name}__(self, *others): return 0\n" for name in ZERO)
    + "".join(f"    def __{name}__(self, *others): return A()\n" for name in SELF)
    + "    def __iter__(self): return iter([A()])\n"
)
BUILT_INS = [name for name in dir(builtins) if name.islower() and not name.startswith("_") and name != "print"]
GUESSED = ["_now", "_call", "_order", "_lift", "_theirs", "check", "candidate", "math", "same", "g", "y", "expected"]


SWALLOWS = "try:\n    y = f(2)\nexcept NameError:\n    raise\nexcept BaseException:\n    pass"


def redefined(names: list[str], body: str) -> str:
    return "".join(f"def {name}(*args, **named): {body}\n" for name in names)


CHEATS = {
    "it equals all": EQUALS_ALL + "def f(x): return A()",
    "it is a class that equals all": EQUALS_ALL + "f = A",
    "a list of what equals all": EQUALS_ALL + "def f(x): return [A()]",
    "a set of what equals all": EQUALS_ALL + "def f(x): return {A()}",
    "a dictionary keyed by what equals all": EQUALS_ALL + "def f(x): return {A(): 1}",
    "built-ins say yes": redefined(BUILT_INS, "return True") + "def f(x): return 0",
    "built-ins return an empty list": redefined(BUILT_INS, "return []") + "def f(x): return 17",
    "built-ins equal all": EQUALS_ALL + redefined(BUILT_INS, "return A()") + "def f(x): return A()",
    "built-ins are what equals all": EQUALS_ALL + "".join(f"{n} = A()\n" for n in BUILT_INS) + "f = A()",
    "it knows the names": EQUALS_ALL + redefined(GUESSED, "return True") + "def f(x): return A()",
    "it overwrites the names": EQUALS_ALL
    + "def f(x):\n    global y, expected, cases, __v, __e, __a0\n"
    + "    y = expected = cases = __v = __e = __a0 = A()\n    return A()",
    "it stops the iteration": "def f(x): raise StopIteration",
    "it exits": "def f(x): raise SystemExit(0)",
    "it returns itself": "f = lambda *args, **named: f",
    "its text is right": "class S:\n    def __str__(self): return '9'\n    __repr__ = __str__\ndef f(x): return S()",
    "NaN": "def f(x): return float('nan')",
}
SHAPES = [
    "assert f(2) - 4 == 0 and not f(2) - 4",
    "y, z = f(2), f(3)\nassert y + z == 13 and f'{y}' == '4'",
    "assert 4 in [f(2)] and f(2) in [4]",
    "assert f(2) == 4",
    "assert (f(2) == 4) == True",
    "assert f(2) == 4 and f(3) == 9",
    "assert 4 == f(2)",
    "assert f(2) in (4,)",
    "assert f(2) == 4\nassert f(3) == 9",
    "def check(candidate):\n    assert candidate(2) == 4, 'This'\n    assert abs(candidate(3) - 9) < 1e-6\n\ncheck(f)",
    "assert not f(2) != 4",
    "assert f(2) is not None and f(2) == 4",
    "assert 3 < f(2) < 5",
    "assert abs(f(2) - 4) < 1e-6",
    "import math\nassert math.isclose(f(2), 4)",
    "assert math.isclose(f(2), 4)",
    "assert round(f(2.0), 2) == 4.0",
    "assert isinstance(f(2), int) and f(2) == 4",
    "for a, b in [(2, 4), (3, 9)]:\n    assert f(a) == b",
    "assert all(f(i) == i * i for i in range(5))",
    "assert list(map(f, [1, 2])) == [1, 4]",
    "assert {f(2)} == {4}",
    "assert set([f(2), f(-2)]) == {4}",
    "assert sorted([f(3), f(2)]) == [4, 9]",
    "assert str(f(2)) == '4'",
    "y = f(2)\nassert y == 4",
    "expected = [0, 1, 4]\nassert [f(i) for i in range(3)] == expected",
    "assert len([1] * f(2)) == 4",
    "assert f(f(2)) == 16",
    "assert f(2) % 2 == 0 and f(3) == 9",
    "def same(a, b):\n    return a == b\nassert same(f(2), 4)",
    "class T:\n    def run(self):\n        assert f(2) == 4\nT().run()",
    "if f(3) != 9:\n    raise ValueError('wrong')",
    "g = f\nassert g(2) == 4",
    "cases = [(2, 4)]\nwhile cases:\n    a, b = cases.pop()\n    assert f(a) == b",
    "assert sorted([3, 1, 2], key=f) == [1, 2, 3] and max([f(2)]) == 4",
    "match f(2):\n    case 4: pass\n    case _: assert False",
]
STACK = """
class Stack:
    def __init__(self, *items):
        self.items = list(items)
    def push(self, x):
        self.items.append(x)
        return self
    def pop(self): return self.items.pop()
    def fill(self, xs): xs.extend(self.items)
    def __str__(self): return f'S{self.items}'
    def map(self, g): return Stack(*[g(i) for i in self.items])
"""
NODES = """
class Node:
    def __init__(self, v, after=None):
        self.v, self.after = v, after
def build(xs):
    head = None
    for x in reversed(xs): head = Node(x, head)
    return head
def values(n):
    found = []
    while n:
        found.append(n.v)
        n = n.after
    return found
"""
VECTOR = """
class V:
    def __init__(self, *x): self.x = x
    def __len__(self): return len(self.x)
    def __bool__(self): return self.x != ()
    def __abs__(self): return sum(self.x)
    def __repr__(self): return f'V{self.x}'
    def __iter__(self): return iter(list(self.x))
    def __contains__(self, y): return y in self.x
    def __add__(self, other): return V(self.x[0] + other.x[0])
    def __lt__(self, other): return self.x < other.x
"""
EACH = "def each(xs, g):\n    for x in xs: g(x)"
MAPPED = "def mapped(g, xs): return [g(x) for x in xs]"
RIGHTS = [
    ("def sum(a, b): return 6", "assert sum(10, 15) == 6"),  # as MBPP has it
    ("def f(a, b): return tuple(set(a) & set(b))", "assert set(f((3, 4, 5), (5, 7, 4))) == set((4, 5))"),
    ("import math\ndef ball(r): return 4.1888 * r**3", "assert math.isclose(ball(10), 4188.79, rel_tol=0.01)"),
    ("from collections import Counter\ndef f(x): return Counter(x)", "assert f('aab') == {'a': 2, 'b': 1}"),
    ("def f(x): return b'ab' if x else {1, 2}", "assert f(1) == b'ab'\nassert f(0) == {2, 1}"),
    ("def f(d): return d.keys()", "assert sorted(f({'b': 1, 'a': 2})) == ['a', 'b'] and 'b' in f({'b': 1})"),
    ("def f(n): return range(n)", "assert list(f(3)) == [0, 1, 2] and sum(f(4)) == 6 and f(3) != [0, 1, 2]"),
    (MAPPED, "assert mapped(lambda x: x + 1, [1, 2]) == [2, 3]"),
    (MAPPED, "def inc(x):\n    return x + 1\nassert mapped(inc, [1, 2]) == [2, 3]"),
    (MAPPED, "def check(run):\n    for m in range(3):\n        assert run(lambda v: v * m, [1]) == [m]\ncheck(mapped)"),
    (MAPPED, "from math import sqrt\nassert mapped(sqrt, [4]) == [2.0] and mapped(str, [1]) == ['1']"),
    ("def adder(n): return lambda x: x + n", "assert adder(3)(4) == 7\nadd = adder(1)\nassert add(1) == 2"),
    (STACK, "s = Stack()\ns.push(1)\ns.push(2)\nassert s.pop() == 2\nassert s.items == [1]\nassert str(s) == 'S[1]'"),
    (STACK, "s = Stack(1)\ns.items = [7]\nassert s.pop() == 7 and isinstance(s, Stack)\nassert not hasattr(s, 'size')"),
    (STACK, "s = Stack(1)\nassert s.map(lambda v: v + 1).items == [2]\nassert Stack(1).push(2).items == [1, 2]"),
    (STACK, "s = Stack()\ntry:\n    s.pop()\nexcept IndexError:\n    pass\nelse:\n    assert False"),
    (NODES, "n = build([1, 2])\nassert n.after.v == 2\nn.after = build([3])\nassert values(n) == [1, 3]"),
    ("def order(xs): xs.sort()", "x = [3, 1, 2]\norder(x)\nassert x == [1, 2, 3]"),
    ("def turn(m): m[:] = [list(r) for r in zip(*m[::-1])]", "m = [[1, 2], [3, 4]]\nturn(m)\nassert m[0] == [3, 1]"),
    ("def f(x): raise ValueError('no')", "try:\n    f(1)\n    assert 0\nexcept ValueError as e:\n    assert str(e)"),
    ("n = 0\ndef f():\n    global n\n    n += 1", "f()\nf()\nassert n == 2"),
    ("def f(x): return 3**x", "assert f(10007) % 1000 == pow(3, 10007, 1000)"),
    ("def f(x): return list(range(x))", "assert len(f(50000)) == 50000"),
    ("def f(s): return [f'<p>{s}</p>', 'f(x)']", "assert f('a')[0] == '<p>a</p>' and 'f(x)' in set(f('a'))"),
    ("def f(a, b=2, *c, d=4, **e): return (a, b, c, d, e)", "assert f(*(1, 2), **{'d': 9}) == (1, 2, (), 9, {})"),
    (VECTOR, "n = V(1, 2)\nassert len(n) == 2 and len(V()) == 0"),
    (VECTOR, "n = V(1, 2)\nassert abs(n) == 3 and repr(n) == 'V(1, 2)' and bool(n) and not bool(V())"),
    (VECTOR, "n = V(1)\nassert n and not V() and (n or V()) is n\nif not n: raise ValueError\nwhile V(): pass"),
    (VECTOR, "n = V(1, 2)\nassert 1 in n and 5 not in n\na, b = n\nassert (a, b) == (1, 2)"),
    (VECTOR, "def total(n):\n    t = 0\n    for x in n: t += x\n    return t\nassert total(V(1, 2)) == 3 == sum(V(3))"),
    (VECTOR, "n = V(1)\nassert [x + 1 for x in n if n] == [2] and (n + V(2)).x == (3,) and type(n) is V"),
    (VECTOR, "n = V(1)\nassert f'{n} {n!r} {n!s}{1:>2}' == 'V(1,) V(1,) V(1,) 1'"),
    (STACK, "def check(K):\n    assert isinstance(K(), K) and not isinstance(3, K)\ncheck(Stack)"),
    (STACK, "xs = [1]\ns = Stack(2)\ns.fill(xs)\nStack(3).fill(xs)\ns.fill(xs=xs)\nassert xs == [1, 2, 3, 2]"),
    ("def f(xs): xs.append(2)", "xs = [1]\nf(xs=xs)\nassert xs == [1, 2]"),
    ("def f(xs, *, d): d[1] = xs.pop()", "xs, d = [1], {}\nf(xs, d=d)\nassert (xs, d) == ([], {1: 1})"),
    ("def f(x): return [1, x]", "x = 3\nxs = [[]]\nxs[0].append(x)\nassert f(x).index(x) == 1 and xs == [[3]]"),
    (RIGHT, "q = [2, 3]\nassert f(q.pop()) == 9 and q == [2]"),
    (EACH, "seen = []\neach([1, 2], lambda x: seen.append(x))\nassert seen == [1, 2]"),
    (EACH, "seen = []\neach([1, 2], seen.append)\neach(xs=[3], g=seen.append)\nassert seen == [1, 2, 3]"),
    ("def memo(g): return lambda x: g(x)", "@memo\ndef sq(x):\n    return x * x\nassert [sq(3), sq(2)] == [9, 4]"),
    ("def times(n): return lambda g: lambda x: n * g(x)", "@times(2)\ndef sq(x):\n    return x\nassert sq(3) == 6"),
    ("def f(x): return list(range(x))", "for i in range(4):\n    assert len(f(50000)) == 50000"),
    ("def code(s): return s[::-1]", "import random\ns = str(random.random())\nassert code(code(s)) == s"),
]  # fmt: skip


@pytest.fixture(scope="module")
def reward() -> Iterator[CodeReward]:
    made = get_code_reward(time_limit_s=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield made
    made.sandbox.close()


@pytest.mark.parametrize("test", SHAPES)
def test_no_shape_of_a_test_pays_what_says_yes_to_all(test: str, reward: CodeReward) -> None:
    paid = reward([RIGHT, *CHEATS.values()], tests=[test] * (1 + len(CHEATS)))
    assert paid[0] == 1.0
    assert [name for name, earned in zip(CHEATS, paid[1:], strict=True) if earned] == []


@pytest.mark.parametrize(("program", "test"), RIGHTS)
def test_no_right_program_is_denied(program: str, test: str, reward: CodeReward) -> None:
    assert reward([program, "x = 1"], tests=[test, test]) == [1.0, 0.0]


ASYNC = "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x * x\n"
ASYNC_CHEATS = [
    EQUALS_ALL + "import asyncio\nasync def f(x): return A()",
    EQUALS_ALL + "    def __await__(self): return iter([])\ndef f(x): return A()",
    EQUALS_ALL + "f = A\nclass asyncio:\n    def run(x): return x",
    "class asyncio:\n    def run(x): return None\n    def gather(*x): return None",
    RIGHT,
]


@pytest.mark.parametrize(
    "test",
    [
        "async def main():\n    assert await f(2) == 4\nasyncio.run(main())",
        "import asyncio\nasync def main(g, *more, m=1, **k):\n    assert await g(2) == 4\nasyncio.run(main(f, z=2))",
        "import asyncio\nasync def check(c, x=2):\n    x = x + 1\n    assert await c(x) == 9\nasyncio.run(check(f))",
        "assert asyncio.run(f(2)) == 4",
        "y = asyncio.run(f(2))\nassert 4 == y",
        "class T:\n    async def run(self):\n        assert await f(2) == 4\nasyncio.run(T().run())",
        "async def one(x):\n    return await f(x)\nasync def main():\n    found = await asyncio.gather(f(1), one(2))\n"
        "    task = asyncio.create_task(one(3))\n    await asyncio.sleep(0)\n"
        "    assert found + [await task] == [1, 4, await asyncio.wait_for(f(3), 1)]\nasyncio.run(main())",
    ],
)
def test_a_coroutine_of_the_tests_judges_where_no_program_is(test: str, reward: CodeReward) -> None:
    paid = reward([ASYNC, *ASYNC_CHEATS], tests=[test] * (1 + len(ASYNC_CHEATS)))
    assert paid == [1.0] + [0.0] * len(ASYNC_CHEATS)


APPLY = "def apply(g, x): return g(x)\ndef every(g, xs): return all([g(x) for x in xs])\ndef run(t): return None\n"


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("def t():\n    assert f(2) == 4\nrun(t)", "asserts or raises, where the program could answer for it"),
        ("def t(y):\n    if y != 4:\n        raise ValueError\nrun(t)", "asserts or raises"),
        ("class T:\n    def run(self):\n        assert f(2) == 4\nrun(T())", "asserts or raises"),
        ("async def t():\n    assert await f(2) == 4\nrun(t())", "asserts or raises"),
        ("def ok(x): return f(x) == 4\nassert apply(ok, 2)", "asks 'f', where the program"),
        (
            "def in_it(x): return f(x) == 4\ndef ok(x): return in_it(x)\nassert apply(ok, 2)",
            "asks 'f', where the program",
        ),
        ("assert every(lambda x: f(x) == x * x, [2, 3])", "asks 'f', where the program"),
        ("def check(c):\n    assert every(lambda x: c(x) == 4, [2])\ncheck(f)", "asks 'c', where the program"),
        ("assert apply(lambda x: x, [f, f(2), lambda x: x == 4])", "asks the program beside a function"),
        ("def check(c):\n    @c\n    def g(x): return x\n    assert g(1)\ncheck(f)", "'c' decorates a function"),
        ("seen = []\ndef note(x): seen.append(x)\nrun(note)\nassert seen", "with the variable 'seen': write a lambda"),
        ("@run\ndef t():\n    assert f(2) == 4", "asserts or raises"),
        ("from asyncio import run as go\nassert go(f(2)) == 4", "more of asyncio than a test may use"),
        ("async def main():\n    async with f(2) as y:\n        assert y == 4\nasyncio.run(main())", "more of asyncio"),
        ("raise SystemExit", "it raises, whatever the program answers"),
        ("assert f(1)\nraise SystemExit", "it raises, whatever the program answers"),
        ("assert f(1) == '\\ud800'", "half a character"),
        ("assert f(1) == '\ud800'", "no Python"),
        ("assert f(1) in ['a', 'b\\udc80']", "half a character"),
        ("assert f(1) == 9**9**9", "does not end well, whatever the program answers: MemoryError"),
        ("y = f(1)\nimport numpy\nassert y == 4", "cannot be run, whatever the program answers: ModuleNotFoundError"),
        ("y = f(1)\nexit()", "cannot be run, whatever the program answers: NameError"),
        ("g = [lambda x: x]\nassert apply(g[0], 3) == 4", "hands a function over that is no name"),
        ("assert f(1) == 4\nx = 3\nassert apply({'g': f}, x)", "inside of another value"),
        ("return f(1)", "is no Python"),
        ("await f(1)", "is no Python"),
        ("nonlocal x", "is no Python"),
    ],
)
def test_what_a_program_could_answer_for_is_no_test(test: str, words: str, reward: CodeReward) -> None:
    with pytest.raises(ValueError, match=words):
        reward([APPLY + RIGHT], tests=[test])


@pytest.mark.parametrize("test", ["while True: f(1)", "for i in range(10_001): f(i)\nassert f(2) == 4"])
def test_a_test_that_never_ends_is_refused_before_any_program_is_judged(test: str) -> None:
    words = "does not end well, whatever the program answers: .* (10000 times|too long|time)"
    with (made := get_code_reward(workers=1)).sandbox, pytest.raises(ValueError, match=words):
        made([RIGHT], tests=[test])


@pytest.mark.parametrize(
    "test",
    [
        "x = 0\nwhile f(x) != 4: x += 1\nassert x == 2",
        "x = 2\nwhile x < 99: x = f(x)\nassert x == 256",
        "if f(2) != 4: raise SystemExit",
        "assert [x for x in range(9) if f(x) == 4] == [2]",
        "x = 0\nwhile not f(x): x += 1\nassert x == 1",
    ],
)
def test_a_test_that_ends_with_a_right_program_alone_is_a_test(test: str) -> None:
    with (made := get_code_reward(workers=1, time_limit_s=0.5)).sandbox:
        made.warned = True  # or it asks what says the same to anything, ten thousand times
        assert made([RIGHT, "x = 1"], tests=[test] * 2) == [1.0, 0.0]


@pytest.mark.parametrize(
    "test",
    [
        "assert apply(lambda y: y == 4, f(2))",
        "y = f(2)\nassert apply(lambda x: y == x, 4)",
        "y = [f(2)]\nassert apply(lambda x: x[0] - 4, y) == 0",
        "def same(y): return y == 4\nassert apply(same, x=f(2))",
        "def check(c):\n    assert apply(lambda y: y == 4, c(2))\ncheck(f)",
        "class Four:\n    def __call__(self, y): return y == 4\nassert apply(Four().__call__, f(2))",
        "assert isinstance(f(2), P)",
        "assert isinstance(f(2), (P, str)) and not isinstance(f(2), str)",
    ],
)
@pytest.mark.filterwarnings("ignore:code_reward. a program that answers the same")
def test_an_instance_meets_no_function_of_the_tests_where_the_program_rules(test: str, reward: CodeReward) -> None:
    cheat = EQUALS_ALL + redefined(BUILT_INS, "return True") + "def f(x): return A()\ndef apply(g, x): return g(x)\n"
    assert reward([APPLY + RIGHT + "P = int", cheat + "P = 3.0.__class__"], tests=[test] * 2) == [1.0, 0.0]


def test_a_trusted_function_of_the_prelude_cannot_be_redefined() -> None:
    prelude = "EPSILON = 1e-6\ndef close(a, b): return abs(a - b) < EPSILON\nboard = []\ndef put(x): board.append(x)"
    cheat = "EPSILON = 99\ndef close(a, b): return True\ndef f(x): return 0"
    state = "put(3)\ndef f(x): put(x)"
    with (made := get_code_reward(prelude=prelude, time_limit_s=5)).sandbox:
        assert made([RIGHT, cheat], tests=["assert close(f(2), 4.0)"] * 2) == [1.0, 0.0]
        assert made([state, RIGHT], tests=["f(4)\nassert board == [3, 4]"] * 2) == [1.0, 0.0]  # what it drew is its own


def test_what_the_prelude_makes_is_handed_over() -> None:
    reverse = "def f(n):\n    back = None\n    while n:\n        n.after, back, n = back, n, n.after\n    return back"
    texts = [
        "assert values(f(build([1, 2, 3]))) == [3, 2, 1]",
        "assert values(f(Node(1, Node(2)))) == [2, 1]",
        "def check(candidate):\n    assert values(candidate(build([1, 2]))) == [2, 1]\ncheck(f)",
    ]
    with (made := get_code_reward(prelude=NODES, time_limit_s=5)).sandbox:
        assert made([reverse, "def f(n): return n"], tests=[texts] * 2) == [1.0, 0.0]
        in_check = "def check(c):\n    n = build([1])\n    assert values(c(n)) == [1]\ncheck(f)"
        for text in ("n = build([1])\nassert values(f(n)) == [1]", in_check):
            with pytest.raises(ValueError, match="class Node: make it in the call that hands it over"):
                made([reverse], tests=[text])
        said = "def f(n): raise NotImplementedError('a test hands the program an instance of its own class A')"
        assert made([said], tests=[texts]) == [0.0]  # words of the program's raise nothing


@pytest.mark.parametrize(
    ("program", "test"),
    [
        # words of the program's that could become source in the process between
        (
            "def g(): return A()\nclass A: x = 4\ndef f(x): return 'x{0.__class__}'",
            "a = g()\nassert getattr(a, f(2)) == 4",
        ),
        ("def g(**named): return 4\ndef f(x): return {'x{0.__class__}': 3}", "y = g(**f(2))\nassert y == 5"),
        # what ends a program ends its test, which may not go on
        ("def f(x):\n    while True: pass", SWALLOWS),
        ("def f(x): return [0] * 10**9", SWALLOWS),
        ("class A: pass\ndef f(x): return {A(): 1}", SWALLOWS),
        ("a = ()\nfor _ in range(40): a = (a, a)\ndef f(x): return {a: 1}", "y = f(2)\nassert y"),
        ("a = []\nfor _ in range(40): a = [a, a]\ndef f(x): return a", "y = f(2)\nassert y"),
        ("def f(x): return '<a>' * 10**6", "y = f(2)\nassert y"),
        ("def f(x):\n    for i in range(10**5): x += 1\n    return x", "for i in range(2000):\n    f(i)"),
    ],
)
def test_a_program_that_attacks_its_test_ends_the_test_alone(program: str, test: str) -> None:
    with (made := get_code_reward(workers=1, time_limit_s=0.5)).sandbox, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        began = time.monotonic()
        assert made([program, RIGHT + "def g(): return 1"], tests=[test, "y = f(2)\nassert y == 4"]) == [0.0, 1.0]
        assert time.monotonic() - began < 120  # a hang


SLOW_TO_READ = [
    ("S = {i * (2**61 - 1) for i in range(3000)}", "result"),  # whose hashes are all 0
    ("S = [{i * (2**61 - 1) for i in range(90)}] * 400", "time"),
    ("S = list(range(99_000))", "time"),
]


@pytest.mark.parametrize(("slow", "kind"), SLOW_TO_READ)
def test_what_is_slow_to_read_holds_nobody_for_long(slow: str, kind: str) -> None:
    program = f"{slow}\nclass Stack:\n    def push(self, x): return S\n    def pop(self): return 999"
    test = "s = Stack()\nfor i in range(1000): s.push(i)\nassert s.pop() == 999"
    logged: dict[str, float] = {}
    with (made := get_code_reward(workers=1)).sandbox, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made(["class Stack:\n    def push(self, x): pass\n    def pop(self): return 999"], tests=[test])
        before_s = of_its_processes(made)
        assert made([program], tests=[test], log_metric=logged.__setitem__) == [0.0]
        assert of_its_processes(made) - before_s < 4  # seconds of CPU time, as a busy machine is no fault
    assert logged[f"code_reward/{kind}"] == 1.0


def of_its_processes(made: CodeReward) -> float:
    (worker,) = made.sandbox._running
    ticks = Path(f"/proc/{worker.process.pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def test_an_instance_that_a_test_compares_is_said_to_be_one(reward: CodeReward) -> None:
    logged: dict[str, float] = {}
    assert reward([CHEATS["it equals all"]], tests=["y = f(2)\nassert y == 4"], log_metric=logged.__setitem__) == [0.0]
    assert logged["code_reward/result"] == 1.0


@pytest.mark.parametrize("test", ["assert V(1) < V(2)", "n = V(1)\nn += V(2)\nassert n.x == (3,)"])
def test_an_operator_that_no_session_can_ask_is_said_to_be_missing(test: str, reward: CodeReward) -> None:
    (outcome,) = reward.sandbox.run([VECTOR], then=[parse_test(test, "").run])
    assert outcome.kind == "unsupported" and "compare its attributes" in outcome.message


def test_tests_that_one_answer_passes_are_told_of_once() -> None:
    made = get_code_reward(time_limit_s=5)
    with made.sandbox, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made([RIGHT], tests=[["assert f(7)", "assert not f(0)"]])
        assert told == []
        made([RIGHT] * 2, tests=[["assert f(7)", "assert f(2) != 5"], "assert f(8)"])
        made([RIGHT], tests=["assert f(9)"])
    assert len(told) == 1
    assert "answers the same to anything" in str(told[0].message) and "assert f(7)" in str(told[0].message)


# What a program returns: plain values, or another type than promised.

OTHERS = [
    "range(3)",
    "lambda x: x",
    "import math\nmath",
    "class A: pass\nA",
    "class A: pass\n{A(): 1}",
    "class A: pass\n[{A()}]",
    "class A: pass\n{1: {2: A()}}",
    "{range(3): 1}",
    "{(1, print): 1}",
    "[1, [range(3)]]",
    "{'a': slice(1)}",
    "iter([1])",
    "{1: 2}.keys()",
    "ValueError",
    "[ValueError('x')]",
    "import re\nre.compile('a')",
    "list[int]",
    "int | None",
    "from typing import Any\nAny",
    "def type(x): return 'str'\nstr = int\nrange(3)",
    "def eval(*args): return ['str']\n[range(3)]",
    "[{1, 2}]",
    "[...]",
    "[1j]",
    "(b'a',)",
    "a = []\na.append(a)\na",
]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(workers=1, time_limit_s=5) as made:
        yield made


def test_another_type_than_promised_is_a_result_and_ends_no_process(sandbox: Sandbox) -> None:
    sandbox.run(["1"])
    (worker,) = sandbox._running
    kinds = {program: sandbox.run([program])[0].kind for program in OTHERS}
    assert kinds == dict.fromkeys(OTHERS, "result")
    assert sandbox._running == [worker]


@pytest.mark.parametrize(
    "text", ["range(0, 3)", "<p>a</p>", "[...]", "f(x)", "<class 'A'>", "int | None", "a[0]", "..."]
)
def test_a_text_that_looks_like_an_object_is_a_text(text: str, sandbox: Sandbox) -> None:
    values = [text, [text, {text: (1, text)}]]
    assert [outcome.value for outcome in sandbox.run([*map(repr, values), f"x = 1\n{text!r}"])] == [*values, text]


# Tests and golds that can judge nothing.


def shared() -> list[Any]:
    found: list[Any] = []
    for _ in range(40):
        found = [found, found]
    return found


def of_itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("test", "words"),
    [
        (5, "tests are a string or a list of strings"),
        (math.nan, "tests are a string or a list of strings"),
        (b"assert f(2) == 4", "tests are a string or a list of strings"),
        ([b"assert f(2) == 4"], "tests are a string or a list of strings"),
        ([math.nan], "tests are a string or a list of strings"),
        (shared(), "tests are a string or a list of strings"),
        (of_itself(), "tests are a string or a list of strings"),
        ({"assert f(2) == 4": 1}, "tests are a string or a list of strings"),
        ("assert f(2) == " + "-" * 3000 + "4", "nested too deeply|is no Python"),
        ("assert f(2) == " + "-" * 90_000 + "4", "nested too deeply|is no Python"),
        ("assert f(2) == " + "(" * 90_000 + "4", "nested too deeply|is no Python"),
        ("assert f(2) == " + "[" * 90 + "4" + "]" * 90, "max_depth=4"),
        ("assert f(2) == " + "1+" * 50_000 + "1", "nested too deeply|cannot be run"),
        ("assert f(2) == " + "9" * 5000, "is no Python"),
        ("assert f(2) == 4\n" * 60_000, "has 1020000 characters: write at most 1000000"),
        ("while True: pass", "does not end by itself, without any program"),
        ("x = [0] * 10**9\nassert f(2) == 4", "does not end by itself, without any program"),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_test_that_can_judge_nothing_is_refused_in_words(test: Any, words: str) -> None:
    began = time.monotonic()
    with (made := get_code_reward(workers=1)).sandbox, pytest.raises(ValueError, match=words) as refused:
        made([RIGHT], tests=[test])
    assert len(str(refused.value)) < 500
    assert time.monotonic() - began < 60  # a hang


def test_a_long_test_is_run(reward: CodeReward) -> None:
    assert reward([RIGHT, "def f(x): return 4"], tests=["assert f(2) == 4\n" * 3000 + "assert f(3) == 9"] * 2) == [
        1.0,
        0.0,
    ]


@pytest.mark.parametrize(
    ("gold", "words"),
    [
        (shared(), "no program can return the expected .* max_depth"),
        (of_itself(), "no program can return the expected .* max_depth"),
        (10**5000, "no program can return the expected .* 4096 bits"),
        ([10**5000], "no program can return the expected .* 4096 bits"),
        (math.nan, "NaN equals nothing. Write None for a row that cannot be judged"),
        ([{"a": (math.nan,)}], "NaN equals nothing"),
        ([{"a": "b\ud800"}], "half a character"),
        ({1, 2}, "a value of type"),
        (object(), "a value of type"),
        ("[" * 20_000, "max_output"),
        ("{[]: " + "1, " * 20_000 + "}", "max_output"),
    ],
    ids=lambda value: repr(value)[:40] if isinstance(value, str) else "",
)
def test_a_gold_that_can_judge_nothing_is_refused_in_words(gold: Any, words: str) -> None:
    began = time.monotonic()
    with (made := get_code_reward("answer", workers=1)).sandbox, pytest.raises(ValueError, match=words) as refused:
        made(["1"], answer=[gold])
    assert len(str(refused.value)) < 500
    assert time.monotonic() - began < 60  # a hang


def test_the_tests_own_process_has_none_of_the_trainers_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary-7361")
    with (made := get_code_reward(workers=1, time_limit_s=5)).sandbox:
        assert made([RIGHT, RIGHT], tests=["y = f(3)\nassert y == 9\nassert f(1) == 1"] * 2) == [1.0, 1.0]
        (worker,) = made.sandbox._running
        tasks = Path(f"/proc/{worker.process.pid}/task").glob("*/children")
        inner = [int(pid) for task in tasks for pid in task.read_text().split()]
        assert len(inner) == 2  # the program's, and the tests'
        assert os.getpid() not in inner
        for pid in [worker.process.pid, *inner]:
            assert b"canary-7361" not in Path(f"/proc/{pid}/environ").read_bytes()
