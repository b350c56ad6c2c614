"""The reward for programs: what it pays, and which tests and answers it refuses because they could judge nothing."""

from __future__ import annotations

import ast
import inspect
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from refusals import refused

from grpo_colab import rewards
from grpo_colab.rewards import check_signature, get_code_reward, guard, resolve_reward, reward_name
from grpo_colab.rewards.code import CodeReward
from grpo_colab.sandbox import Outcome
from grpo_colab.sandbox.sandbox import KINDS

SHARED = "a = []\nfor _ in range(40):\n    a = [a, a]\n"
TESTS = ["assert f(2) == 4", "assert f(3) == 9", "assert f(-1) > 0"]
COMPLETIONS = {
    "```python\ndef f(x):\n    return x * x\n```": 3,
    "def f(x): return x * x": 3,
    "def f(x): return 2 * x": 1,
    "def f(x): return x ** 3": 0,
    "def f(x): return [x * x]": 0,
    "def f(x):\n    while True: pass": 0,
    "def f(x): return x * x\nif 0: \\": 0,
    'def f(x): return x * x\n"""': 0,
    "class A:\n    def __eq__(self, other): return True\ndef f(x): return A()": 0,
    "import numpy": 0,
    "": 0,
}


@pytest.fixture(scope="module")
def tested() -> Iterator[CodeReward]:
    reward = get_code_reward(partial=True, time_limit_s=2)
    yield reward
    reward.sandbox.close()


def test_the_share_of_tests_that_pass(tested: CodeReward) -> None:
    logged: dict[str, float] = {}
    paid = tested(list(COMPLETIONS), tests=[TESTS] * len(COMPLETIONS), log_metric=logged.__setitem__)
    assert paid == [passed / 3 for passed in COMPLETIONS.values()]
    assert sum(logged.values()) == pytest.approx(1)
    assert logged["code_reward/time"] == logged["code_reward/unsupported"] == pytest.approx(1 / len(COMPLETIONS))
    assert set(logged) == {f"code_reward/{kind}" for kind in KINDS}


def test_all_tests_or_nothing(tested: CodeReward) -> None:
    """Rows with other tests, one string instead of a list, and none; completions as messages."""
    reward = get_code_reward(name="exercise_reward", time_limit_s=10)
    messages = [[{"role": "assistant", "content": text}] for text in [*list(COMPLETIONS)[:3], "x = {1, 2}", "1 / 0"]]
    rows = [TESTS, "y = f(3)\nassert y == 9", TESTS, ["assert x == {2, 1}", "assert len(x) == 2"], None]
    with reward.sandbox:
        assert reward(messages, tests=rows, prompts=["p"] * 5, trainer_state=None) == [1.0, 1.0, 0.0, 1.0, None]


@pytest.mark.parametrize(
    ("test", "words"),
    [
        ("assert f(", "is no Python"),
        ("a\0", "is no Python"),
        ("import numpy\nassert f(2) == 4", "cannot be run: ModuleNotFoundError"),
        ("def g():\n    yield 1\nassert f(2) == 4", "cannot be run: NotImplementedError"),
    ],
)
def test_a_test_that_cannot_be_run_is_an_error(test: str, words: str, tested: CodeReward) -> None:
    with pytest.raises(ValueError, match=words):
        tested(["def f(x): return 4"], tests=[["assert f(2) == 4", test]])


def test_a_row_or_a_column_that_is_wrong_is_an_error(tested: CodeReward) -> None:
    for row in ([], [5], 7):
        with pytest.raises((ValueError, TypeError)):
            tested(["1"], tests=[row])
    with pytest.raises(ValueError, match="code_reward needs a column 'tests'"):
        tested(["1"], answer=["1"])
    with pytest.raises(ValueError, match="needs a column 'tests' with one entry per completion"):
        tested(["1", "2"], tests=[TESTS])
    with pytest.raises(TypeError, match="code_reward: a message's content is a string"):
        tested([[{"role": "assistant", "content": 5}]], tests=[TESTS])


@pytest.mark.parametrize(
    ("program", "answer", "paid"),
    [
        ("6 * 7", 42, 1.0),
        ("6 * 7", "42", 1.0),
        ("print(6 * 7)", " 42\n", 1.0),
        ("print('so')\n42", "42", 1.0),
        ("print(42)", 42, 0.0),
        ("41", 42, 0.0),
        ("1 / 0", "", 0.0),
        ("print(42)\n1 / 0", "42", 0.0),
        ("[(1, 2), (3,)]", [[1, 2], [3]], 1.0),
        ("[[1, 2], [3]]", [[1, 2], [4]], 0.0),
        ("{'a': 1}", {"a": 1}, 1.0),
        ("1 / 0", None, None),
        (SHARED + "a", [[]], 0.0),
    ],
)
def test_a_programs_answer(program: str, answer: Any, paid: float | None, answered: CodeReward) -> None:
    assert answered(completions=[program], answer=[answer]) == [paid]


@pytest.fixture(scope="module")
def answered() -> Iterator[CodeReward]:
    reward = get_code_reward("answer", workers=1)
    yield reward
    reward.sandbox.close()


def _closeness(outcome: Outcome, target: float, **row: Any) -> float:
    assert set(row) == {"prompts"}
    return 0.0 if outcome.kind != "ok" else 1 / (1 + abs(outcome.value - target))


def test_a_check_of_ones_own() -> None:
    reward = get_code_reward(_closeness, prelude="def double(n): return 2 * n", name="close_reward", workers=1)
    with reward.sandbox:
        columns = {"target": [10, 12, 1], "prompts": ["p"] * 3, "trainer_state": object(), "log_metric": None}
        assert reward(["double(5)", "double(5)", "1 / 0"], **columns) == [1.0, pytest.approx(1 / 3), 0.0]
        broken = get_code_reward(lambda outcome, **row: 1 / 0, workers=1)
        with pytest.raises(ZeroDivisionError), broken.sandbox:
            broken(["1"])


def test_a_reward_like_ours(tested: CodeReward) -> None:
    """Its name, what TRL is told that it needs, pickled, guarded."""
    assert reward_name(tested) == "code"
    assert list(inspect.signature(tested).parameters) == ["completions", "tests", "kwargs"]
    check_signature(tested, ["prompt", "tests"])
    with refused(None, problem="code_reward needs a column 'tests'", remedy="the columns are answer"):
        check_signature(tested, ["prompt", "answer"])
    again = pickle.loads(pickle.dumps(tested))
    with again.sandbox:
        assert guard(again)(completions=["def f(x): return 4"], tests=[TESTS[:2]]) == [0.5]
    assert again.sandbox.settings == tested.sandbox.settings | {}
    assert again.sandbox is not tested.sandbox


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"check": "test"}, "write 'tests', 'answer', or a function"),
        ({"partial": True, "check": "answer"}, "write partial=False"),
        ({"workers": 0}, "write a number from 1 to 64"),
        ({"timeout": 1}, "there are: workers, time_limit_s,"),
        ({"memory": 1}, "did you mean 'memory_mb'"),
    ],
    ids=str,
)
def test_settings_of_the_reward_that_cannot_work(settings: dict[str, Any], remedy: str) -> None:
    setting, value = next(iter(settings.items()))
    with refused(setting, value, remedy=remedy):
        get_code_reward(**settings)


def test_conversations_pay_what_the_last_assistant_message_says(tested: CodeReward) -> None:
    right, wrong = "def f(x): return x * x", "def f(x): return 0"
    conversations = [
        [{"role": "assistant", "content": wrong}, {"role": "assistant", "content": right}],
        [{"role": "assistant", "content": [{"type": "text", "text": right[:9]}, {"type": "text", "text": right[9:]}]}],
        [{"role": "assistant", "content": right}, {"role": "tool", "content": wrong}],
        [{"role": "assistant", "content": None}],
    ]
    assert tested(conversations, tests=[TESTS] * 4) == [1.0, 1.0, 1.0, 0.0]


HUMAN_EVAL = "def check(candidate):\n    assert candidate(2) == 4\n"


@pytest.mark.parametrize(
    "test",
    ['["assert f(2) == 4"]', HUMAN_EVAL, "assert 2 + 2 == 4", "x = 1", "{1, 2}", "import math", "# f(2) == 4"],
)
def test_a_test_that_tests_nothing_is_an_error(test: str, tested: CodeReward) -> None:
    """A column that is JSON, one that defines `check` and never calls it: else they would pay every program."""
    with pytest.raises(ValueError, match=r"code_reward: the test .* passes without any program"):
        tested(["def f(x): return x * x", "1 / 1"], tests=[["assert f(2) == 4", test]] * 2)


def test_human_evals_column_with_the_call_that_it_needs(tested: CodeReward) -> None:
    completions = ["def f(x): return x * x", "def f(x): return 0", "x = 1"]
    assert tested(completions, tests=[HUMAN_EVAL + "check(f)"] * 3) == [1.0, 0.0, 0.0]


def test_a_test_may_end_in_a_value_of_any_type(tested: CodeReward) -> None:
    assert tested(["def f(x): return {x}", "1"], tests=["f(2)"] * 2) == [1.0, 0.0]


BEYOND = {
    "[[[[[1]]]]]": "max_depth=4",
    repr(list(range(10_001))): "max_items=10000",
    repr("a" * 10_001): "max_output=10000",
}


@pytest.mark.parametrize(("value", "setting"), BEYOND.items(), ids=BEYOND.values())
def test_an_expected_value_that_no_program_can_return_is_an_error(
    value: str, setting: str, tested: CodeReward, answered: CodeReward
) -> None:
    with pytest.raises(ValueError, match=f"code_reward: no program can return the expected .* {setting}"):
        tested([f"def f(): return {value}"], tests=[[f"assert f() == {value}"]])
    with pytest.raises(ValueError, match=f"no program can return the expected .* {setting}"):
        answered([value], answer=[ast.literal_eval(value)])


def test_the_largest_expected_values_can_be_met(answered: CodeReward) -> None:
    """Also a text longer than what may be printed, where it is the text of a list."""
    values = [[[[[1]]]], list(range(10_000)), "a" * 10_000, repr(list(range(10_000))), "[[[[[1]]]]]"]
    programs = [*map(repr, values[:3]), "list(range(10_000))", "print('[[[[[1]]]]]')"]
    assert answered(programs, answer=values) == [1.0] * 5
    with pytest.raises(ValueError, match=r"no program can return the expected 'aaa.* max_output=10000"):
        answered(["print('a' * 10_001)"], answer=["a" * 10_001])
    larger = get_code_reward(workers=1, max_depth=5)
    with larger.sandbox:
        assert larger(["def f(): return [[[[[1]]]]]"], tests=["assert f() == [[[[[1]]]]]"]) == [1.0]


def test_a_program_may_define_what_the_interpreter_lacks(tested: CodeReward) -> None:
    assert tested(["def vars(x): return x", "1"], tests=["assert vars(3) == 3"] * 2) == [1.0, 0.0]


def test_what_equals_everything_passes_no_test(tested: CodeReward) -> None:
    cheat = "class A:\n    def __eq__(self, other): return True\ndef f(): return A()"
    plain = ["None", "True", "4", "-4.5", "'a'", "[1]", "(1,)", "{'a': 1}", "{1, 2}", "b'ab'"]
    assert tested([cheat], tests=[[f"assert f() == {value}" for value in plain]]) == [0.0]


def test_rows_without_tests_are_not_counted_as_programs_that_ran(tested: CodeReward) -> None:
    logged: dict[str, float] = {}
    assert tested(["1 / 0"] * 3, tests=[TESTS, None, None], log_metric=logged.__setitem__) == [0.0, None, None]
    assert (logged["code_reward/error"], logged["code_reward/ok"]) == (1.0, 0.0)
    logged.clear()
    assert tested(["1"], tests=[None], log_metric=logged.__setitem__) == [None]
    assert logged == {}


def test_a_recipe_can_name_it() -> None:
    reward = resolve_reward("grpo_colab.rewards.get_code_reward(check='answer', workers=1)")
    with reward.sandbox:
        assert reward(completions=["6 * 7"], answer=[42]) == [1.0]


def test_importing_the_rewards_imports_neither_the_sandbox_nor_its_interpreter() -> None:
    code = (
        "import sys\nsys.modules['pydantic_monty'] = None\nfrom grpo_colab import rewards\n"
        "print('grpo_colab.sandbox.sandbox' in sys.modules)\n"
        "try: rewards.get_code_reward()\nexcept (ValueError, ImportError) as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "False"
    assert "pydantic-monty" in second
    with pytest.raises(AttributeError, match="has no attribute 'get_cod_reward'"):
        rewards.get_cod_reward  # noqa: B018
