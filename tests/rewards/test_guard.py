"""The guard: what is well formed goes through unchanged, what is not is named with its step and completion."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy
import pytest
from refusals import refused

from grpo_colab.rewards import RewardError, check_signature, combine, correctness_reward, failure, guard, reward_name

TEXTS = ["one", "two", "three"]
TOLD = [[{"role": "assistant", "content": text}] for text in TEXTS]


FINITE = "a reward is a finite number, or None where it cannot judge"


def gives(value: Any) -> Any:
    def own_reward(completions: list[Any], **kwargs: Any) -> Any:
        return value

    return own_reward


@pytest.mark.parametrize(
    "value",
    [[0.0, 1, None], (0.5, True, -3), numpy.array([1.0, 2.0, 3.0]), [numpy.float32(1), Fraction(1, 2), None]],
    ids=str,
)
def test_what_is_well_formed_goes_through(value: Any) -> None:
    paid = guard(gives(value))(completions=TEXTS)
    assert paid == [None if item is None else float(item) for item in value]
    assert all(item is None or type(item) is float for item in paid)


def test_torch_tensors_are_lists_of_numbers_too() -> None:
    torch = pytest.importorskip("torch")
    assert guard(gives(torch.tensor([1.0, 2.0, 0.0])))(completions=TEXTS) == [1.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([1.0, 2.0], {"problem": "gave 2 rewards for 3 completions (at step 7)"}),
        ([], {"problem": "gave 0 rewards for 3 completions"}),
        (1.0, {"problem": "gave a float", "remedy": "a reward gives a list"}),
        (None, {"problem": "gave a NoneType", "remedy": "a reward gives a list"}),
        ("111", {"problem": "gave a str"}),
        ({"a": 1, "b": 2, "c": 3}, {"problem": "gave a dict"}),
        ((x for x in (1, 2, 3)), {"problem": "gave a generator"}),
        ({0.0, 1.0, 2.0}, {"problem": "gave a set"}),
        (numpy.array(1.0), {"problem": "gave a ndarray", "remedy": "a reward gives a list"}),
        (numpy.zeros((3, 2)), {"problem": "gave array([0., 0.])", "remedy": FINITE}),
        ([0.0, math.nan, 1.0], {"problem": "gave nan (at step 7, on completion 2 of 3: 'two')", "remedy": FINITE}),
        ([0.0, 0.0, math.inf], {"problem": "gave inf (at step 7, on completion 3 of 3: 'three')", "remedy": FINITE}),
        ([-math.inf, 0.0, 0.0], {"problem": "gave -inf (at step 7, on completion 1 of 3: 'one')", "remedy": FINITE}),
        ([0.0, "1.0", 0.0], {"problem": "gave '1.0' (at step 7, on completion 2 of 3", "remedy": FINITE}),
        ([0.0, [1.0], 0.0], {"problem": "gave [1.0] (at step 7, on completion 2 of 3", "remedy": FINITE}),
        ([0.0, 1j, 0.0], {"problem": "gave 1j (at step 7, on completion 2 of 3", "remedy": FINITE}),
        ([0.0, 10**400, 0.0], {"problem": "gave 1000", "remedy": FINITE}),
    ],
    ids=lambda value: str(value)[:30] if not isinstance(value, dict) or "problem" not in value else "",
)
@pytest.mark.parametrize("completions", [TEXTS, TOLD], ids=["texts", "conversations"])
def test_what_is_not_is_named(value: Any, said: dict[str, str], completions: list[Any]) -> None:
    with refused("rewards.own", kind=RewardError, **said):
        guard(gives(value))(completions=completions, trainer_state=SimpleNamespace(global_step=6))


def fragile_reward(completions: list[str], answer: list[str], log_metric: Any = None, **kwargs: Any) -> list[float]:
    if log_metric:
        log_metric("seen", len(completions))
    return [1 / len(text.removeprefix("two")) for text in completions]


def test_an_exception_names_the_function_the_step_and_the_completion_it_fails_on() -> None:
    saved: list[dict[str, Any]] = []

    def save(record: dict[str, Any]) -> str:
        saved.append(record)
        return "runs/x/reward-failure.json"

    logged: list[Any] = []
    passed = {"prompts": ["p1", "p2", "p3"], "answer": ["1", "2", "3"], "completion_ids": [[1], [2], [3]]}
    problem = "raised ZeroDivisionError: division by zero (at step 7, on completion 2 of 3: 'two')"
    place = "tests/rewards/test_guard.py:"
    remedy = "see runs/x/reward-failure.json"
    with refused("rewards.fragile", problem=problem, remedy=remedy, place=place, kind=RewardError) as caught:
        guard(fragile_reward, save)(
            completions=TEXTS,
            trainer_state=SimpleNamespace(global_step=6),
            log_metric=lambda *metric: logged.append(metric),
            **passed,
        )
    assert isinstance(caught.value, RewardError)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    (record,) = saved
    assert record is caught.value.record
    assert (record["reward"], record["step"], record["index"]) == ("fragile", 7, 1)
    assert (record["completions"], record["prompts"], record["answer"]) == (["two"], ["p2"], ["2"])
    assert "fragile_reward" in record["traceback"]
    assert logged == [("seen", 3)]  # looking for the culprit logs nothing


def test_only_the_same_failure_makes_a_culprit() -> None:
    def group_reward(completions: list[str], **kwargs: Any) -> list[float]:
        if len(completions) % 3:
            raise ValueError("groups of 3 expected")
        raise KeyError("two")

    problem = "raised KeyError: 'two' (outside of training, on the batch of 3; completion 1 alone raised ValueError: "
    with refused("rewards.group", problem=problem, kind=RewardError) as caught:
        guard(group_reward)(completions=TEXTS)
    assert isinstance(caught.value, RewardError)
    assert caught.value.record["completions"] == TEXTS


def test_a_guarded_part_is_named_and_saved_once_and_whole() -> None:
    saved: list[dict[str, Any]] = []
    parts = combine([correctness_reward, gives([0.0, math.inf, 0.0])], clip=(0.0, 1.0))
    problem, remedy = "gave inf (outside of training, on completion 2 of 3: 'two')", f"{FINITE}; see 0"
    with refused("rewards.own", problem=problem, remedy=remedy, kind=RewardError):
        guard(parts, lambda record: saved.append(record) or len(saved) - 1)(completions=TEXTS, answer=["1"] * 3)
    assert [(record["reward"], record["completions"]) for record in saved] == [("own", ["two"])]


def test_when_no_completion_is_to_blame_alone_all_are_kept() -> None:
    def crowd_reward(completions: list[str], **kwargs: Any) -> list[float]:
        raise_if = len(completions) > 2
        return [1 / (not raise_if)] * len(completions)

    only = "only on the batch of 3: it raises on no completion alone"
    problem = f"raised ZeroDivisionError: division by zero (outside of training, {only})"
    with refused("rewards.crowd", problem=problem, kind=RewardError) as caught:
        guard(crowd_reward)(completions=TEXTS)
    assert isinstance(caught.value, RewardError)
    assert caught.value.record["index"] is None
    assert caught.value.record["completions"] == TEXTS


def test_an_interrupt_is_no_failure() -> None:
    def stopped_reward(completions: list[str], **kwargs: Any) -> list[float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guard(stopped_reward)(completions=TEXTS)


async def waiting_reward(completions: list[str], **kwargs: Any) -> list[float]:
    await asyncio.sleep(0)
    return [1 / (text != "three") for text in completions]


def test_async_rewards_stay_async() -> None:
    guarded = guard(waiting_reward)
    assert inspect.iscoroutinefunction(type(guarded).__call__)
    assert asyncio.run(guarded(completions=["one", "two"])) == [1.0, 1.0]
    problem = "raised ZeroDivisionError: division by zero (outside of training, on completion 3 of 3: 'three')"
    with refused("rewards.waiting", problem=problem, kind=RewardError) as caught:
        asyncio.run(guarded(completions=TEXTS))
    assert isinstance(caught.value, RewardError)
    assert caught.value.record["completions"] == ["three"]


def test_the_search_ends_in_the_middle_of_a_call_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure, "SEARCH_S", 0.2)

    async def endless_reward(completions: list[str], **kwargs: Any) -> list[float]:
        if len(completions) > 1:
            raise KeyError("two")
        await asyncio.sleep(3600)
        return [0.0]

    problem = "on one of 3 completions, which was not found within 0.2 s"
    with refused("rewards.endless", problem=problem, kind=RewardError):
        asyncio.run(guard(endless_reward)(completions=TEXTS))


def test_it_bears_the_name_and_signature_of_what_it_guards() -> None:
    guarded = guard(functools.partial(correctness_reward))
    assert (guarded.__name__, reward_name(guarded)) == ("correctness_reward", "correctness")
    with refused(None, problem="correctness_reward needs a column 'answer'", remedy="the columns are none"):
        check_signature(guarded, ["prompt"])
    assert guarded(completions=["<answer>18</answer>"], answer=["18"]) == [1.0]


def test_a_long_completion_is_shortened_in_the_message_and_whole_in_the_record() -> None:
    text = "x" * 100_000
    with pytest.raises(RewardError) as caught:
        guard(gives([math.nan]))(completions=[text])
    assert len(str(caught.value)) < 500
    assert caught.value.record["completions"] == [text]


@pytest.mark.parametrize("completion", [[], [3], None, {"a": 1}, [{"role": "assistant"}]], ids=str)
def test_a_completion_that_is_none_is_shown_as_it_is(completion: Any) -> None:
    with refused("rewards.own", problem="on completion 1 of 1: ", kind=RewardError):
        guard(gives([math.nan]))(completions=[completion])
