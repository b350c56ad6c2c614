"""Weights, gates and clips by hand; and that TRL can tell the parts apart."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from refusals import refused

from grpo_colab.rewards import (
    RewardError,
    check_signature,
    combine,
    correctness_reward,
    reward_name,
    strict_format_reward,
)

GOOD = "<reasoning>\nbecause\n</reasoning>\n<answer>\n18\n</answer>"
RIGHT, WRONG, NEITHER = "<answer>18</answer>", GOOD.replace("18", "19"), "18"
TEXTS, GOLDS = [GOOD, RIGHT, WRONG, NEITHER], ["18"] * 4


def sometimes_reward(completions: list[str], **kwargs: Any) -> list[float | None]:
    return [None if len(text) < 10 else 2.0 for text in completions]


def test_a_weighted_sum() -> None:
    reward = combine([correctness_reward, strict_format_reward], weights=[1.0, 0.25])
    assert reward(TEXTS, answer=GOLDS) == [1.25, 1.0, 0.25, 0.0]
    assert combine([correctness_reward, strict_format_reward])(TEXTS, answer=GOLDS) == [2.0, 1.0, 1.0, 0.0]


def test_format_counts_only_where_the_answer_is_right() -> None:
    gates = {"strict_format": "correctness"}
    reward = combine([correctness_reward, strict_format_reward], weights=[1.0, 0.25], gates=gates)
    assert reward(TEXTS, answer=GOLDS) == [1.25, 1.0, 0.0, 0.0]
    only_gate = combine([correctness_reward, strict_format_reward], weights=[0, 1], gates=gates)
    assert only_gate(TEXTS, answer=GOLDS) == [1.0, 0.0, 0.0, 0.0]


def test_a_clip() -> None:
    reward = combine([correctness_reward, strict_format_reward], weights=[1.0, -3.0], clip=(-0.5, 0.75))
    assert reward(TEXTS, answer=GOLDS) == [-0.5, 0.75, -0.5, 0.0]


def test_none_is_left_out_and_shuts_a_gate() -> None:
    reward = combine([correctness_reward, sometimes_reward], weights=[1.0, 0.5])
    assert reward([GOOD, "18"], answer=["18", None]) == [2.0, None]
    assert reward([GOOD, "18"], answer=[None, "18"]) == [1.0, 0.0]
    gated = combine([strict_format_reward, correctness_reward], gates={"strict_format": "correctness_reward"})
    for name in ("correctness_reward_reward", "correctness"):
        assert combine([strict_format_reward, correctness_reward], gates={"strict_format": name}).gates == gated.gates
    assert gated([GOOD], answer=[None]) == [0.0]


def test_every_part_is_logged_by_itself_as_trl_logs_a_reward() -> None:
    metrics: dict[str, float] = {}
    columns: dict[str, list[Any]] = {}
    reward = combine([correctness_reward, sometimes_reward], weights=[0.5, 10], clip=(0, 1))
    reward(TEXTS, answer=GOLDS, log_metric=metrics.__setitem__, log_extra=columns.__setitem__)
    assert metrics["rewards/correctness_reward/mean"] == 0.5
    assert metrics["rewards/correctness_reward/std"] == pytest.approx((1 / 3) ** 0.5)  # of 1 1 0 0, as TRL counts it
    assert metrics["rewards/sometimes_reward/mean"] == 2.0  # of the three that it judged
    assert metrics["verdict/right"] == 0.5
    assert columns == {"correctness": [1.0, 1.0, 0.0, 0.0], "sometimes": [2.0, 2.0, 2.0, None]}


def test_it_is_a_reward_like_any_other() -> None:
    reward = combine(
        [correctness_reward, strict_format_reward], gates={"strict_format": "correctness"}, name="all_reward"
    )
    assert reward_name(reward) == "all"
    assert pickle.loads(pickle.dumps(reward))(TEXTS, answer=GOLDS, other=[1] * 4) == reward(TEXTS, answer=GOLDS)
    check_signature(reward, ["prompt", "answer", "other"])
    with refused(None, problem="correctness_reward needs a column 'answer'", remedy="the columns are gold"):
        check_signature(reward, ["prompt", "gold"])
    inner = combine([reward, sometimes_reward])
    assert inner(TEXTS, answer=GOLDS) == [4.0, 3.0, 2.0, 0.0]


def test_numbers_of_other_libraries_are_logged_as_plain_ones() -> None:
    numpy = pytest.importorskip("numpy")
    columns: dict[str, list[Any]] = {}

    def array_reward(completions: list[str], **kwargs: Any) -> Any:
        return numpy.array([0.5] * len(completions), dtype=numpy.float32)

    combine([correctness_reward, array_reward])(TEXTS, answer=GOLDS, log_extra=columns.__setitem__)
    assert columns["array"] == [0.5] * 4
    assert all(type(value) is float for value in columns["array"])


def test_a_part_that_trl_could_not_call_is_refused_by_its_signature() -> None:
    def plain_reward(completions: list[str], answer: list[str]) -> list[float]:
        return [1.0] * len(completions)

    with refused(None, problem="plain_reward must accept completion_ids, ", remedy="add **kwargs"):
        check_signature(combine([correctness_reward, plain_reward]), ["answer"])


async def async_reward(completions: list[str], **kwargs: Any) -> list[float]:
    return [1.0] * len(completions)


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("parts", [], "a list of one reward or more"),
        ("weights", [1.0], "write one for each of correctness, strict_format"),
        ("weights", [1.0, float("inf")], "finite numbers"),
        ("gates", {"strict_fromat": "correctness"}, "did you mean 'strict_format'"),
        ("gates", {"strict_format": "length"}, "names of parts: correctness, strict_format"),
        ("gates", {"correctness": "correctness"}, "cannot open itself"),
        ("clip", (1, 0), "write (lowest, highest)"),
    ],
)
def test_settings_that_cannot_work_are_named(setting: str, value: Any, remedy: str) -> None:
    settings = {setting: value}
    with refused(setting, value, remedy=remedy):
        combine(**{"parts": [correctness_reward, strict_format_reward], **settings})


def test_parts_of_one_name_are_refused() -> None:
    with refused("parts", ["correctness", "correctness"], remedy="parts of different names"):
        combine([correctness_reward, correctness_reward])


def test_a_part_must_be_a_function_that_does_not_wait() -> None:
    for part in ("correctness", async_reward):
        with pytest.raises(TypeError, match="a part is a function that is not async"):
            combine([part])  # type: ignore[list-item]


def test_a_part_of_the_wrong_length_is_named() -> None:
    def short_reward(completions: list[str], **kwargs: Any) -> list[float]:
        return [1.0]

    with refused("rewards.short", problem="gave 1 reward for 4 completions", kind=RewardError):
        combine([short_reward])(TEXTS)
