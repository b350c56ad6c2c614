"""A reward for programs: a completion's code runs in the sandbox, against tests, an answer, or a check of your own.

    from grpo_colab.rewards import get_code_reward
    GRPOTrainer(..., reward_funcs=[get_code_reward()])      # a column "tests": ["assert double(2) == 4", ...]

Needs `grpo_colab[sandbox]`. A recipe names it as "grpo_colab.rewards.get_code_reward()".
"""

from __future__ import annotations

import ast
import contextlib
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError, nearest
from grpo_colab.rewards.inputs import texts_of
from grpo_colab.sandbox import BOUNDS, KINDS, Outcome, Sandbox, python_code, refusal

if TYPE_CHECKING:
    from inspect import Signature

Test = tuple[str, Any]  # source to run after the program, and the value that it must have, or _NOTHING
_NOTHING: Final = object()  # a test that need only end


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

    `check` is "tests", a column with a row's tests: a list of assertions, or one string. 1.0 for passing all, otherwise
    0.0; with `partial` the share that passes. `assert f(2) == 4` is compared outside of the sandbox, where nothing that
    the program defines can make it true, if what is on its right is a literal of None, booleans, integers (of 4,096
    bits), floats, strings, lists, tuples and dictionaries. Any other test, such as one with a set or bytes on its
    right, passes when it raises nothing, in a session where the program may have redefined what it uses.

    Or "answer", a column with the value of the program's last expression; a string is compared with that value, or
    where it is None with what was printed, as texts without the white space around them.

    Or a function: `check(outcome, **row)` gives the reward, from the `Outcome` and the row's columns.

    What goes wrong in a program pays 0.0, and with `log_metric` the shares of the kinds are logged, of what has run. A
    row whose tests or answer are None gives None. ValueError for a missing column, for a test that is no Python, needs
    what the sandbox lacks, or passes without any program, and for a value that no program can return in these limits.
    """
    if not callable(check) and check not in ("tests", "answer"):
        raise SettingError(f"check = {check!r}: write 'tests', 'answer', or a function of an outcome and a row")
    if partial and check != "tests":
        raise SettingError("partial = True: write partial=False; only tests can be passed in part")
    for setting, value in limits.items():
        if setting not in BOUNDS:
            hint = nearest(setting, BOUNDS) or f"; the limits are {', '.join(BOUNDS)}"
            raise SettingError(f"{setting} = {value!r}: get_code_reward has no such setting{hint}")
    return CodeReward(check, extract, partial, Sandbox(prelude, **limits), name)


@dataclass(eq=False)
class CodeReward:
    """What `get_code_reward` returns: a reward that TRL can name and call, and that can be pickled."""

    check: str | Callable[..., float | None]
    extract: Callable[[str], str]
    partial: bool
    sandbox: Sandbox
    __name__: str

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
            ended, paid = self._tested(programs, [_tests(row) for row in rows["tests"]])
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
        self._need_tests([test for row in tests for test in row])
        ended: list[Outcome | None] = [None] * len(programs)
        passed, out = [0] * len(programs), set[int]()
        for turn in range(max(map(len, tests), default=0)):
            going = [index for index, row in enumerate(tests) if turn < len(row) and index not in out]
            then = [tests[index][turn][0] for index in going]
            met = self.sandbox.run([programs[index] for index in going], then=then)
            for index, outcome in zip(going, met, strict=True):
                ended[index], right = outcome, _passes(outcome, tests[index][turn][1])
                passed[index] += right
                if not right and (not self.partial or outcome.kind in ("time", "memory", "crash")):
                    out.add(index)
        shares = [count / len(row) if row else None for count, row in zip(passed, tests, strict=True)]
        return ended, [share if self.partial or share is None else float(share == 1) for share in shares]

    def _need_tests(self, tests: Sequence[Test]) -> None:
        """ValueError for a test that every program passes, or none."""
        # By itself a test mostly ends in a NameError, as the program is not there; not so what cannot be run at all.
        sources = list(dict.fromkeys(source for source, _ in tests))
        alone = dict(zip(sources, self.sandbox.run(sources), strict=True))
        for source, expected in tests:
            outcome, test = alone[source], f"{self.__name__}: the test {source!r:.80}"
            if outcome.kind == "unsupported" and not outcome.message.startswith("NameError"):
                raise ValueError(f"{test} cannot be run: {outcome.message}")
            if _passes(outcome, expected):
                raise ValueError(f"{test} passes without any program: write one that fails, as in assert f(2) == 4")
            self._need_reachable(None if expected is _NOTHING else expected)

    def _need_reachable(self, expected: object) -> None:
        if why := self.sandbox.refuses(expected):
            raise ValueError(f"{self.__name__}: no program can return the expected {expected!r:.80}: {why}")


def _fits(values: object, length: int) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str | bytes) and len(values) == length


def _passes(outcome: Outcome, expected: object) -> bool:
    if expected is _NOTHING:  # whatever its last expression gives
        return outcome.kind in ("ok", "result")
    return outcome.kind == "ok" and bool(outcome.value == expected)


def _read(gold: object, sandbox: Sandbox) -> object:
    """What a program must return: of a text that is too long to be printed or returned, the value that it shows."""
    if isinstance(gold, str):
        gold = gold.strip()
        if sandbox.refuses(gold):
            with contextlib.suppress(ValueError, SyntaxError, MemoryError, RecursionError):
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


def _tests(row: Any) -> list[Test]:
    """A row's tests, none for None."""
    if row is None:
        return []
    tests = [row] if isinstance(row, str) else list(row)
    if not tests or not all(isinstance(test, str) for test in tests):
        raise ValueError(f"a row's tests are a string or a list of strings, at least one, got {row!r:.80}")
    return [_test(test) for test in tests]


@functools.lru_cache(maxsize=4096)  # a group of completions shares its tests
def _test(source: str) -> Test:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"the test {source!r:.80} is no Python: {error}") from None
    match body:
        case [ast.Assert(test=ast.Compare(left=asked, ops=[ast.Eq()], comparators=[right]))]:
            with contextlib.suppress(ValueError):
                expected = ast.literal_eval(right)
                if not refusal(expected, 10**6, 100, 10**7):
                    return ast.unparse(asked), expected
    return source, _NOTHING
