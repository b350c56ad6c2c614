"""A reward for programs: a completion's code runs in the sandbox, against tests, an answer, or a check of your own.

    from grpo_colab.rewards import get_code_reward
    GRPOTrainer(..., reward_funcs=[get_code_reward()])      # a column "tests": ["assert double(2) == 4", ...]

Needs `grpo_colab[sandbox]`. A recipe names it as "grpo_colab.rewards.get_code_reward()".
"""

from __future__ import annotations

import ast
import contextlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError, one_of, shown
from grpo_colab.rewards.arguments import texts_of
from grpo_colab.rewards.assertions import NOTHING, Test, parse_test
from grpo_colab.sandbox import Exam, Outcome, Sandbox
from grpo_colab.sandbox.code_blocks import python_code
from grpo_colab.sandbox.limits import BOUNDS
from grpo_colab.sandbox.plain import OWN_INSTANCE, has_lone_surrogate, holds, is_nan
from grpo_colab.sandbox.sandbox import KINDS

if TYPE_CHECKING:
    from inspect import Signature

MOST_KNOWN: Final = 20_000  # tests, after which they are looked at again
# Programs that answer the same to anything: the last one's answer says that it equals, holds and is above all.
_ANSWERS: Final = (
    "def {0}(*args, **kwargs): return True",
    "def {0}(*args, **kwargs): return float('nan')",
    """class _A:
    def __eq__(self, other): return True
    def __ne__(self, other): return True
    def __contains__(self, other): return True
    def __hash__(self): return 0
def {0}(*args, **kwargs): return _A()""",
)
# Programs that end at once: a test that runs out of time, memory or Python with each of them does so with all.
_ENDING: Final = (
    "_n = 0\n{1}def {0}(*args, **kwargs):\n    global _n\n    _n += 1\n    return _n",
    "{1}def {0}(*args, **kwargs): return [1, 2]",
    "{1}def {0}(*args, **kwargs): return 0",
)


def get_code_reward(
    check: str | Callable[..., float | None] = "tests",
    *,
    prelude: str = "",
    extract: Callable[[str], str] = python_code,
    partial: bool = False,
    name: str = "code_reward",
    **limits: Any,
) -> CodeReward:
    """A reward for the code in a completion, which `extract` finds, run in a `Sandbox` of `prelude` and `limits`.

    `check` is "tests", a column with a row's tests: a list of texts, or one text. 1.0 for passing all, otherwise 0.0;
    with `partial` the share of the texts that passes, of which each counts as one, however many assertions it holds.

    A test runs in a session of its own, with built-ins and functions of the prelude that no program can redefine. It
    asks the program, which runs in another, and gets plain values: None, booleans, numbers, strings, bytes, lists,
    tuples, sets, dictionaries and dates, each of at most 100,000 items, and a range or an iterator as a tuple. So an
    object that says to equal everything passes no test, whatever its shape: an assertion, several, a loop, or
    `def check(candidate): ...` with its call. An instance or a function of the program may be called, its attributes
    read and set, its items counted, unpacked and looped over; it equals only itself, also where its class defines
    `__eq__`: compare its attributes. A list that a test hands over, and the program changes, is changed. The prelude's
    names that keep a state are the program's own. An instance of the test's or the prelude's class can be handed over
    in the call that makes it, not from a variable. A function that is handed over runs where the program does: it may
    neither assert nor ask the program. A test's coroutines run in the test's session: write `asyncio.run(main())`.

    What is not promised: a test tests what it asks. `assert f(7)` pays a program that always answers True, and `not
    abs(f(2) - 4) > 0.1` one that answers NaN; a row of nothing else is warned of once. A test may call the program
    10,000 times, in `time_limit_s` seconds of CPU time, one more to read its answers, and half a millisecond a call.

    Or "answer", a column with the value of the program's last expression; a string is compared with that value, or
    where it is None with what was printed, as texts without the white space around them.

    Or a function: `check(outcome, **row)` gives the reward, from the `Outcome` and the row's columns.

    What goes wrong in a program pays 0.0, and with `log_metric` the shares of the kinds are logged, of what has run. A
    row whose tests or answer are None gives None. ValueError for a missing column, for a test that is no Python, needs
    what the sandbox lacks, does not end, hands over what it cannot, or passes without any program, whether it is seen
    without a program or with three that answer something at once, and for a value that
    no program can return in these limits, or that NaN keeps from equalling anything.
    """
    if not callable(check) and check not in ("tests", "answer"):
        remedy = "write 'tests', 'answer', or a function of an outcome and a row"
        raise SettingError("is no such check", setting="check", value=check, remedy=remedy)
    if partial and check != "tests":
        problem = "only tests can be passed in part"
        raise SettingError(problem, setting="partial", value=partial, remedy="write partial=False")
    for setting, value in limits.items():
        if setting not in BOUNDS:
            problem = "get_code_reward has no such setting"
            raise SettingError(problem, setting=setting, value=value, remedy=one_of(setting, BOUNDS))
    return CodeReward(check, extract, partial, Sandbox(prelude, **limits), name)


@dataclass(eq=False)
class CodeReward:
    """What `get_code_reward` returns: a reward that TRL can name and call, and that can be pickled."""

    check: str | Callable[..., float | None]
    extract: Callable[[str], str]
    partial: bool
    sandbox: Sandbox
    __name__: str
    known: set[str] = field(default_factory=set, repr=False)  # the tests that were found to judge something
    warned: bool = field(default=False, repr=False)

    @property
    def __signature__(self) -> Signature:
        import inspect

        names = ["completions"] if callable(self.check) else ["completions", self.check]
        needed = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
        return inspect.Signature([*needed, inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)])

    def __call__(self, /, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        programs = [self.extract(text) for text in texts_of(self.__name__, completions)]
        rows = {name: values for name, values in columns.items() if _fits(values, len(programs))}
        if not callable(self.check) and self.check not in rows:
            raise ValueError(f"{self.__name__} needs a column {self.check!r} with one entry a completion")
        ended: Sequence[Outcome | None]
        paid: list[float | None]
        if self.check == "tests":
            ended, paid = self._tested(programs, [_tests(row, self.sandbox.prelude) for row in rows["tests"]])
        elif self.check == "answer":
            for gold in rows["answer"]:
                self._need_reachable(_read(gold, self.sandbox))
            outcomes = ended = self.sandbox.run(programs)
            golds = zip(outcomes, rows["answer"], strict=True)
            paid = [None if gold is None else float(_says(outcome, gold)) for outcome, gold in golds]
        else:
            assert callable(self.check)
            outcomes = ended = self.sandbox.run(programs)
            each = [{name: values[index] for name, values in rows.items()} for index in range(len(programs))]
            paid = [self.check(outcome, **row) for outcome, row in zip(outcomes, each, strict=True)]
        kinds = [outcome.kind for outcome in ended if outcome is not None]
        if columns.get("log_metric") is not None and kinds:
            for kind in KINDS:
                columns["log_metric"](f"{self.__name__}/{kind}", kinds.count(kind) / len(kinds))
        return paid

    def _tested(
        self, programs: Sequence[str], tests: Sequence[list[Test]]
    ) -> tuple[list[Outcome | None], list[float | None]]:
        """The last outcome of each program, and what it earned. A program that hangs does so in one test only."""
        self._need_tests(tests)
        ended: list[Outcome | None] = [None] * len(programs)
        passed, out = [0] * len(programs), set[int]()
        for turn in range(max(map(len, tests), default=0)):
            going = [index for index, row in enumerate(tests) if turn < len(row) and index not in out]
            then = [tests[index][turn].run for index in going]
            met = self.sandbox.run([programs[index] for index in going], then=then)
            for index, outcome in zip(going, met, strict=True):
                test = tests[index][turn]
                if outcome.kind == "unsupported" and outcome.message.startswith(OWN_INSTANCE):
                    said = f"{self.__name__}: the test {shown(test.source)}"
                    raise ValueError(f"{said} cannot be run: {outcome.message}")
                ended[index], right = outcome, _passes(outcome, test.expected)
                passed[index] += right
                if not right and (not self.partial or outcome.kind in ("time", "memory", "crash")):
                    out.add(index)
        shares = [count / len(row) if row else None for count, row in zip(passed, tests, strict=True)]
        return ended, [share if self.partial or share is None else float(share == 1) for share in shares]

    def _need_tests(self, rows: Sequence[list[Test]]) -> None:
        """ValueError for a test that every program passes, or none; a warning for tests that ask for one answer."""
        # By itself a test mostly ends in a NameError, as the program is not there; not so what cannot be run at all.
        fresh = {test.source: test for row in rows for test in row if test.source not in self.known}
        tests = list(fresh.values())
        for test, outcome in zip(tests, self.sandbox.run([""] * len(tests), then=[t.run for t in tests]), strict=True):
            said = f"{self.__name__}: the test {shown(test.source)}"
            if outcome.kind == "unsupported" and not outcome.message.startswith("NameError"):
                raise ValueError(f"{said} cannot be run: {outcome.message}")
            if outcome.kind in ("time", "memory", "crash"):
                raise ValueError(f"{said} does not end by itself, without any program: {outcome.message}")
            if _passes(outcome, test.expected):
                raise ValueError(f"{said} passes without any program: write one that fails, as in assert f(2) == 4")
            self._need_reachable(None if test.expected is NOTHING else test.expected)
        self._need_an_end(tests)
        self._warn_of_one_answer([row for row in rows if any(test.source in fresh for test in row)])
        if len(self.known) > MOST_KNOWN:
            self.known.clear()
        self.known.update(fresh)

    def _need_an_end(self, tests: Sequence[Test]) -> None:
        """ValueError for a test that cannot be run, or does not end, whatever the program answers."""
        met = dict[str, Outcome]()
        for ending in _ENDING:
            programs = [
                "\n".join(ending.format(name, "async " if _awaits(test) else "") for name in sorted(test.asks))
                for test in tests
            ]
            outcomes = self.sandbox.run(programs, then=[_without_assertions(test.run) for test in tests])
            ended = zip(tests, outcomes, strict=True)
            met |= {test.source: out for test, out in ended if out.kind in ("unsupported", "time", "memory", "crash")}
            tests = [test for test, out in zip(tests, outcomes, strict=True) if met.get(test.source) is out]
        for test in tests:
            said = f"{self.__name__}: the test {shown(test.source)}"
            outcome = met[test.source]
            how = "cannot be run" if outcome.kind == "unsupported" else "does not end well"
            raise ValueError(f"{said} {how}, whatever the program answers: {outcome.message}")

    def _warn_of_one_answer(self, rows: Sequence[list[Test]]) -> None:
        """Warn once of a row whose tests a program passes that answers the same to whatever it is asked."""
        if self.warned or not rows:
            return
        for answer in _ANSWERS:
            cheats = ["\n".join(answer.format(name) for name in sorted(t.asks)) for row in rows for t in row]
            met = iter(self.sandbox.run(cheats, then=[test.run for row in rows for test in row]))
            for row in rows:
                paid = [_passes(next(met), test.expected) for test in row]
                if all(paid) and not self.warned:
                    self.warned = True
                    warnings.warn(
                        f"{self.__name__}: a program that answers the same to anything passes all tests of a row, "
                        f"{shown([test.source for test in row])}: add a test with another answer",
                        stacklevel=2,
                    )

    def _need_reachable(self, expected: object) -> None:
        if why := self.sandbox.refuses(expected):
            raise ValueError(f"{self.__name__}: no program can return the expected {shown(expected)}: {why}")
        said = f"{self.__name__}: no program can return the expected {shown(expected)}"
        if holds(expected, is_nan):
            raise ValueError(
                f"{said}: NaN equals nothing. Write None for a row that cannot be judged, and a test with math.isnan "
                "for NaN"
            )
        if holds(expected, has_lone_surrogate):
            raise ValueError(f"{said}: it holds half a character, a lone surrogate. Write the whole text")


def _awaits(test: Test) -> bool:
    return not isinstance(test.run, str) and "_awaited(" in test.run.source


class _Unasserted(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> ast.Expr:
        return ast.Expr(node.test)


def _without_assertions(run: str | Exam) -> str | Exam:
    """What a test does, whether its assertions hold or not: the first one to fail would hide the rest."""
    if isinstance(run, str):
        return run
    tree = _Unasserted().visit(ast.parse(run.source))
    return run._replace(source=ast.unparse(ast.fix_missing_locations(tree)))


def _fits(values: object, length: int) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str | bytes) and len(values) == length


def _passes(outcome: Outcome, expected: object) -> bool:
    return outcome.kind == "ok" and (expected is NOTHING or bool(outcome.value == expected))


def _read(gold: object, sandbox: Sandbox) -> object:
    """What a program must return: of a text that is too long to be printed or returned, the value that it shows."""
    if isinstance(gold, str):
        gold = gold.strip()
        if sandbox.refuses(gold):
            with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                return ast.literal_eval(gold)
    return gold


def _says(outcome: Outcome, gold: object) -> bool:
    said = outcome.value
    if isinstance(gold, str):
        said, gold = (outcome.output if said is None else str(said)).strip(), gold.strip()
    return outcome.kind == "ok" and bool(_as_lists(said) == _as_lists(gold))


def _as_lists(value: Any) -> Any:
    """Tuples as lists, which is what a data set makes of them."""
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _tests(row: Any, prelude: str) -> list[Test]:
    """A row's tests, none for None."""
    if row is None:
        return []
    tests = [row] if isinstance(row, str) else list(row) if isinstance(row, list | tuple) else []
    if not tests or not all(isinstance(test, str) for test in tests):
        raise ValueError(f"a row's tests are a string or a list of strings, at least one, got {shown(row)}")
    return [parse_test(test, prelude) for test in tests]
