"""Pay for programs: run the code in a completion in the sandbox, against tests, a gold answer, or a check of your own.

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
from grpo_colab.rewards.arguments import is_column, texts_of
from grpo_colab.rewards.assertions import NOTHING, Test, awaits, parse_tests, without_assertions
from grpo_colab.sandbox import Outcome, Sandbox
from grpo_colab.sandbox.code_blocks import python_code
from grpo_colab.sandbox.limits import BOUNDS
from grpo_colab.sandbox.plain import OWN_INSTANCE, has_lone_surrogate, holds, is_nan
from grpo_colab.sandbox.sandbox import KINDS

if TYPE_CHECKING:
    from inspect import Signature

MOST_KNOWN: Final = 20_000  # checked tests to remember; above it all are forgotten, and checked again
# Programs that answer the same to anything, where {0} is the name that the test asks for. The answer of the last one
# says that it equals, contains and differs from everything.
_SAME_ANSWER_PROGRAMS: Final = (
    "def {0}(*args, **kwargs): return True",
    "def {0}(*args, **kwargs): return float('nan')",
    """class _A:
    def __eq__(self, other): return True
    def __ne__(self, other): return True
    def __contains__(self, other): return True
    def __hash__(self): return 0
def {0}(*args, **kwargs): return _A()""",
)
# Programs that return at once, where {1} is "async " for a test that awaits. A test that runs out of time, memory or
# Python with each of them does so with every program.
_QUICK_PROGRAMS: Final = (
    "_n = 0\n{1}def {0}(*args, **kwargs):\n    global _n\n    _n += 1\n    return _n",
    "{1}def {0}(*args, **kwargs): return [1, 2]",
    "{1}def {0}(*args, **kwargs): return 0",
)
_LIMITS_BROKEN: Final = ("time", "memory", "crash")


def get_code_reward(
    check: str | Callable[..., float | None] = "tests",
    *,
    prelude: str = "",
    extract: Callable[[str], str] = python_code,
    partial: bool = False,
    name: str = "code_reward",
    **limits: Any,
) -> CodeReward:
    """Return a reward that runs the code in a completion in a `Sandbox` of `prelude` and `limits`.

    `prelude` is trusted source whose names each program has. `limits` are the other settings of `Sandbox`, such as
    `time_limit_s`. `extract` finds the code in a completion's text. `name` is the reward's name, also in the metrics.
    `check` says what decides:

    - "tests": a column of tests, for each row a list of texts or one text. A completion earns 1.0 for passing all, else
      0.0. With `partial` it earns the share of the texts that pass; each text counts as one, however many assertions it
      holds.
    - "answer": a column with the value of the program's last expression. A string is compared as text, without the
      white space around it, with that value, or with what was printed where the value is None.
    - a function: `check(outcome, **row)` returns the reward, from the `Outcome` and the row's columns.

    **How a test runs.** It has a session of its own, with built-ins and functions of the prelude that no program can
    redefine. It asks the program, which runs in another session, and gets plain values back: None, booleans, numbers,
    strings, bytes, lists, tuples, sets, dictionaries and dates, each of at most 100,000 items, and a range or an
    iterator as a tuple. So an object that claims to equal everything passes no test of any shape: one assertion,
    several, a loop, or `def check(candidate): ...` with its call.

    An instance or a function of the program may be called, its attributes read and set, its items counted, unpacked and
    looped over. It equals only itself, even where its class defines `__eq__`: compare its attributes. A list that the
    test hands over is changed where the program changes it. The prelude's names that hold a state are the program's
    own. An instance of the test's or the prelude's class can be handed over in the call that makes it, not from a
    variable. A function that is handed over runs in the program's session: it may neither assert nor ask the program.
    A test's coroutines run in the test's session: write `asyncio.run(main())`.

    **What is not promised.** A test tests only what it asks. `assert f(7)` pays a program that always returns True, and
    `not abs(f(2) - 4) > 0.1` one that returns NaN. A row that has only such tests causes one warning. A test may call
    the program 10,000 times, in `time_limit_s` seconds of CPU time, one more second to read its answers, and half a
    millisecond per call.

    A program that fails in any way earns 0.0, unless a function decides. A row whose tests or answer are None gives
    None. Where TRL passes `log_metric`, the share of each kind of outcome among the programs that ran is logged as
    `<name>/<kind>`.

    Raises SettingError for settings that cannot work, and without pydantic-monty. The reward's first call starts the
    sandbox's processes. The reward raises ValueError for a missing column, and for an expected value that no program
    can return within the limits, or that holds NaN, which equals nothing. It also does for a test that is no Python,
    needs what the sandbox lacks, does not end, hands the program what cannot be handed over, or passes without a
    program. Tests are tried without a program, and with three that return something at once. The reward raises
    TypeError for completions of the wrong type, SettingError for a prelude that fails, and RuntimeError when the
    sandbox hangs. What a function as `check` raises passes through.
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
    """The reward that `get_code_reward` returns; TRL can name and call it, and it can be pickled.

    A call returns one reward per completion, None for a row that has no tests or answer. It runs the programs in the
    sandbox's processes, and logs and raises as `get_code_reward` says.
    """

    check: str | Callable[..., float | None]
    extract: Callable[[str], str]
    partial: bool
    sandbox: Sandbox
    __name__: str
    known: set[str] = field(default_factory=set, repr=False)  # sources of the tests that were checked and are sound
    warned: bool = field(default=False, repr=False)

    @property
    def __signature__(self) -> Signature:
        """Name the columns that the reward needs, so that `check_signature` can tell which one is missing."""
        import inspect

        names = ["completions"] if callable(self.check) else ["completions", self.check]
        needed = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
        return inspect.Signature([*needed, inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)])

    def __call__(self, /, completions: Sequence[Any], **columns: Any) -> list[float | None]:
        programs = [self.extract(text) for text in texts_of(self.__name__, completions)]
        rows = {name: values for name, values in columns.items() if is_column(values, len(programs))}
        if not callable(self.check) and self.check not in rows:
            raise ValueError(f"{self.__name__} needs a column {self.check!r} with one entry per completion")
        outcomes: Sequence[Outcome | None]
        rewards: list[float | None]
        if self.check == "tests":
            tests = [parse_tests(row, self.sandbox.prelude) for row in rows["tests"]]
            outcomes, rewards = self._by_tests(programs, tests)
        elif self.check == "answer":
            outcomes, rewards = self._by_answer(programs, rows["answer"])
        else:
            outcomes, rewards = self._by_function(programs, rows)
        kinds = [outcome.kind for outcome in outcomes if outcome is not None]
        if columns.get("log_metric") is not None and kinds:
            for kind in KINDS:
                columns["log_metric"](f"{self.__name__}/{kind}", kinds.count(kind) / len(kinds))
        return rewards

    def _by_answer(
        self, programs: Sequence[str], golds: Sequence[object]
    ) -> tuple[Sequence[Outcome], list[float | None]]:
        """Return each program's outcome, and 1.0 where it gave the gold answer, else 0.0; None where the gold is None.

        All programs are run. Raises ValueError for a gold answer that no program can return.
        """
        for gold in golds:
            self._need_reachable(_expected_value(gold, self.sandbox))
        outcomes = self.sandbox.run(programs)
        rewards: list[float | None] = []
        for outcome, gold in zip(outcomes, golds, strict=True):
            rewards.append(None if gold is None else float(_gives(outcome, gold)))
        return outcomes, rewards

    def _by_function(
        self, programs: Sequence[str], columns: dict[str, Sequence[Any]]
    ) -> tuple[Sequence[Outcome], list[float | None]]:
        """Return each program's outcome, and what the user's function pays for it.

        `columns` holds the row's values by the column's name. What the function returns is not checked here, and its
        exceptions pass through.
        """
        assert callable(self.check)
        outcomes = self.sandbox.run(programs)
        rewards = []
        for index, outcome in enumerate(outcomes):
            row = {name: values[index] for name, values in columns.items()}
            rewards.append(self.check(outcome, **row))
        return outcomes, rewards

    def _by_tests(
        self, programs: Sequence[str], tests: Sequence[list[Test]]
    ) -> tuple[list[Outcome | None], list[float | None]]:
        """Return the last outcome of each program, and what it earned by its tests; None for a row without tests.

        The outcome is None for a program that was not run. The first tests of all rows run together, then the second
        ones, and so on. A program that failed a test is not run again, unless `partial`. One that broke a limit never
        is: it would take its whole time in each of its tests.

        Raises ValueError for a test that cannot judge, as `_need_tests` does, or that hands the program an instance of
        its own class.
        """
        self.need_tests(tests)
        last: list[Outcome | None] = [None] * len(programs)
        passed = [0] * len(programs)
        out: set[int] = set()
        for turn in range(max(map(len, tests), default=0)):
            running = [index for index, row in enumerate(tests) if turn < len(row) and index not in out]
            then = [tests[index][turn].run for index in running]
            outcomes = self.sandbox.run([programs[index] for index in running], then=then)
            for index, outcome in zip(running, outcomes, strict=True):
                test = tests[index][turn]
                if outcome.kind == "unsupported" and outcome.message.startswith(OWN_INSTANCE):
                    raise ValueError(f"{self._naming(test)} cannot be run: {outcome.message}")
                last[index] = outcome
                if _passes(outcome, test.expected):
                    passed[index] += 1
                elif not self.partial or outcome.kind in _LIMITS_BROKEN:
                    out.add(index)
        rewards: list[float | None] = []
        for count, row in zip(passed, tests, strict=True):
            if not row:
                rewards.append(None)
            else:
                rewards.append(count / len(row) if self.partial else float(count == len(row)))
        return last, rewards

    def _naming(self, test: Test) -> str:
        """Return the beginning of an error about a test."""
        return f"{self.__name__}: the test {shown(test.source)}"

    def need_tests(self, rows: Sequence[list[Test]]) -> None:
        """Raise ValueError for a test that cannot judge a program; warn of a row's tests that one answer passes.

        Such a test passes without a program, cannot be run, does not end, or expects a value that no program returns. A
        new test is run without a program, where a sound one mostly ends in a NameError, then with quick ones. Its row
        is run with constant-answer programs until the UserWarning, which comes once per reward. Sound tests are added
        to `known`, and not checked again. Where `known` has more than MOST_KNOWN tests, it is emptied first.
        """
        fresh: dict[str, Test] = {}
        for row in rows:
            for test in row:
                if test.source not in self.known:
                    fresh[test.source] = test
        tests = list(fresh.values())
        outcomes = self.sandbox.run([""] * len(tests), then=[test.run for test in tests])
        for test, outcome in zip(tests, outcomes, strict=True):
            if outcome.kind == "unsupported" and not outcome.message.startswith("NameError"):
                raise ValueError(f"{self._naming(test)} cannot be run: {outcome.message}")
            if outcome.kind in _LIMITS_BROKEN:
                raise ValueError(f"{self._naming(test)} does not end by itself, without any program: {outcome.message}")
            if _passes(outcome, test.expected):
                raise ValueError(
                    f"{self._naming(test)} passes without any program: write one that fails, as in assert f(2) == 4"
                )
            self._need_reachable(None if test.expected is NOTHING else test.expected)
        self._need_an_end(tests)
        self._warn_of_one_answer([row for row in rows if any(test.source in fresh for test in row)])
        if len(self.known) > MOST_KNOWN:
            self.known.clear()
        self.known.update(fresh)

    def _need_an_end(self, tests: Sequence[Test]) -> None:
        """Raise ValueError for the first test that cannot be run, or does not end, whatever the program answers.

        Each test is run with one quick program after the other, until it ends within the limits with one of them.
        """
        suspects: list[tuple[Test, Outcome | None]] = [(test, None) for test in tests]
        for template in _QUICK_PROGRAMS:
            programs, then = [], []
            for test, _ in suspects:
                prefix = "async " if awaits(test) else ""
                programs.append("\n".join(template.format(name, prefix) for name in sorted(test.asks)))
                then.append(without_assertions(test.run))
            outcomes = self.sandbox.run(programs, then=then)
            broken = ("unsupported", *_LIMITS_BROKEN)
            tried = zip(suspects, outcomes, strict=True)
            suspects = [(test, outcome) for (test, _), outcome in tried if outcome.kind in broken]
        for test, outcome in suspects:
            assert outcome is not None
            how = "cannot be run" if outcome.kind == "unsupported" else "does not end well"
            raise ValueError(f"{self._naming(test)} {how}, whatever the program answers: {outcome.message}")

    def _warn_of_one_answer(self, rows: Sequence[list[Test]]) -> None:
        """Warn, once for this reward, of a row whose tests all pass for a program that always answers the same.

        The warning is a UserWarning, and sets `warned`. Once that is set, nothing is run here.
        """
        if self.warned or not rows:
            return
        tests = [test for row in rows for test in row]
        for template in _SAME_ANSWER_PROGRAMS:
            cheats = ["\n".join(template.format(name) for name in sorted(test.asks)) for test in tests]
            outcomes = iter(self.sandbox.run(cheats, then=[test.run for test in tests]))
            for row in rows:
                passed = [_passes(next(outcomes), test.expected) for test in row]
                if all(passed) and not self.warned:
                    self.warned = True
                    warnings.warn(
                        f"{self.__name__}: a program that answers the same to anything passes all tests of a row, "
                        f"{shown([test.source for test in row])}: add a test with another answer",
                        stacklevel=2,
                    )

    def _need_reachable(self, expected: object) -> None:
        """Raise ValueError for an expected value that no program's result can equal."""
        problem = f"{self.__name__}: no program can return the expected {shown(expected)}"
        reason = self.sandbox.refuses(expected)
        if reason:
            raise ValueError(f"{problem}: {reason}")
        if holds(expected, is_nan):
            raise ValueError(
                f"{problem}: NaN equals nothing. Write None for a row that cannot be judged, and a test with "
                "math.isnan for NaN"
            )
        if holds(expected, has_lone_surrogate):
            raise ValueError(f"{problem}: it holds half a character, a lone surrogate. Write the whole text")


def _passes(outcome: Outcome, expected: object) -> bool:
    """Tell whether a program passed a test: it ended well, and its value is the expected one.

    Where `NOTHING` is expected, any value will do.
    """
    return outcome.kind == "ok" and (expected is NOTHING or bool(outcome.value == expected))


def _expected_value(gold: object, sandbox: Sandbox) -> object:
    """Return the value that a program must give for this gold answer.

    A text loses the white space around it. A text that is too long for the sandbox's output stands for the value that
    it shows as a literal. If it shows none, it stays a text. Every other gold is returned as it is.
    """
    if isinstance(gold, str):
        gold = gold.strip()
        if sandbox.refuses(gold):
            with contextlib.suppress(ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                return ast.literal_eval(gold)
    return gold


def _gives(outcome: Outcome, gold: object) -> bool:
    """Tell whether a program's value, or what it printed where it has none, equals the gold answer.

    A gold text is compared with the value's text, without the white space around either. Tuples and lists are equal
    where their items are. A program that failed gives nothing, so the result is False.
    """
    given = outcome.value
    if isinstance(gold, str):
        text = outcome.output if given is None else str(given)
        given, gold = text.strip(), gold.strip()
    return outcome.kind == "ok" and bool(_as_lists(given) == _as_lists(gold))


def _as_lists(value: Any) -> Any:
    """Return `value` with its tuples as lists, as a data set would store them."""
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value
