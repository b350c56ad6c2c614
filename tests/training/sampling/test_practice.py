"""How a step's groups are chosen: what is sampled again, what is carried over, and what a checkpoint keeps of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from grpo_colab.recipe.schema import Sampling
from grpo_colab.training.sampling import Group, Practice, Sample

ROWS = 100


def practice(prompts: int = 2, **settings: Any) -> Practice:
    return Practice(Sampling(**settings), ["a", "b"] * (ROWS // 2), 0, [1.0], (prompts, 4), lambda *_: True)


class Policy:
    """Samples groups that are useful where `useful` says so, and remembers what it was asked."""

    def __init__(self, *useful: bool) -> None:
        self.useful = list(useful)
        self.asked: list[list[int]] = []

    def __call__(self, rows: list[int]) -> list[Group]:
        self.asked.append(list(rows))
        return [group(row, self.useful.pop(0)) for row in rows]


def group(row: int, useful: bool, size: int = 4) -> Group:
    return Group(row, [Sample([n], "x", [float(useful and n == 0)], useful and n == 0) for n in range(size)])


def test_all_off_nothing_is_chosen() -> None:
    assert not practice().active
    assert not practice(skip_zero_advantage=True).active  # which the loss looks at
    for settings in ({"strategy": "adaptive"}, {"refill": 1}, {"generate_more": 8}):
        assert practice(**settings).active


def test_trls_order_is_kept_where_prompts_are_uniform() -> None:
    policy = Policy(True, False)
    chosen, metrics = practice(generate_more=8).choose([7, 9], 0, policy)
    assert policy.asked == [[7, 9]]
    assert [one.row for one in chosen] == [7, 9]
    assert metrics["sampling/groups_that_teach"] == 0.5


def test_what_teaches_nothing_is_replaced() -> None:
    policy = Policy(False, True, True, False)
    chosen, metrics = practice(refill=3).choose([7, 9], 0, policy)
    assert len(policy.asked) == 2 and policy.asked[0] == [7, 9]
    assert [one.row for one in chosen] == [9, policy.asked[1][0]]
    assert not set(policy.asked[1]) & {7, 9}
    assert metrics["sampling/turns"] == 2
    assert metrics["sampling/completions"] == 16


def test_after_so_many_turns_the_step_takes_what_there_is() -> None:
    policy = Policy(*[False] * 6)
    chosen, metrics = practice(refill=2).choose([7, 9], 0, policy)
    assert len(policy.asked) == 3 and len({row for asked in policy.asked for row in asked}) == 6
    assert [one.row for one in chosen] == [7, 9]
    assert metrics["sampling/turns"] == 3


def test_the_surplus_is_carried_over_for_one_step() -> None:
    chooser = practice(refill=1)
    policy = Policy(False, True, True, True)  # one too many
    first, _ = chooser.choose([1, 2], 0, policy)
    assert [one.row for one in first] == [2, policy.asked[1][0]]
    assert [one.row for one in chooser.carried] == [policy.asked[1][1]]
    again = Policy(True, False)
    second, metrics = chooser.choose([3, 4], 1, again)
    assert again.asked == [[3, 4]]  # with the one that was left there are enough
    assert [one.row for one in second] == [3, policy.asked[1][1]]
    assert metrics["sampling/carried_over"] == 1
    assert chooser.carried == []


def test_what_nobody_had_room_for_grows_no_older() -> None:
    chooser = practice(refill=1)
    chooser.choose([1, 2], 0, Policy(False, True, True, True))
    chosen, _ = chooser.choose([3, 4], 1, Policy(True, True))
    assert [one.row for one in chosen] == [3, 4]
    assert chooser.carried == []


def test_more_is_sampled_than_learnt_from() -> None:
    chooser = practice(prompts=1, generate_more=8)
    assert chooser.samples == 8
    (chosen,), metrics = chooser.choose([5], 0, lambda rows: [group(row, True, size=8) for row in rows])
    assert len(chosen.samples) == 4 and chosen.right == 1
    assert metrics["sampling/completions"] == 8
    assert metrics["sampling/right"] == pytest.approx(1 / 8)


def test_a_checkpoint_has_the_state_of_the_last_whole_step() -> None:
    chooser, whole = practice(refill=1, strategy="adaptive"), practice(refill=1, strategy="adaptive")
    chooser.choose([1, 2], 0, Policy(False, True, True, True))
    after_first = json.loads(json.dumps(chooser.state_after(1)))
    chooser.choose([3, 4], 1, Policy(False, False, True, True))  # the second step, that breaks off
    assert chooser.state_after(1) == after_first != chooser.state_after(2)

    resumed = practice(refill=1, strategy="adaptive")
    resumed.load_state_dict(after_first)
    whole.choose([1, 2], 0, Policy(False, True, True, True))
    policies = Policy(False, True, True, False), Policy(False, True, True, False)
    steps = [one.choose([3, 4], 1, policy) for one, policy in zip((resumed, whole), policies, strict=True)]
    assert steps[0] == steps[1]
    assert policies[0].asked == policies[1].asked
    assert resumed.state_after(2) == whole.state_after(2)


def hinting(answers: dict[Any, bool], prompts: int = 2, **settings: Any) -> tuple[Practice, list[list[Any]], Any]:
    """A practice that shows one step to everyone, what it asked, and a policy: `answers` says which groups teach."""
    settings = {"hints": "solution", **settings}
    features = [("a",), ("b",)] * (ROWS // 2)
    made = Practice(Sampling(**settings), features, 0, [1.0], (prompts, 4), lambda *_: True, lambda row, step: 1)
    asked: list[list[Any]] = []

    def sample(rows: list[Any]) -> list[Group]:
        asked.append(list(rows))
        found = []
        for index in rows:
            row, hint = index if isinstance(index, tuple) else (index, 0)
            found.append(Group(row, group(row, answers[index]).samples, hint))
        return found

    return made, asked, sample


def test_what_is_all_wrong_is_asked_again_with_a_hint() -> None:
    made, asked, sample = hinting({7: False, 9: True, (7, 1): True})
    assert made.active
    chosen, metrics = made.choose([7, 9], 0, sample)
    assert asked == [[7, 9], [(7, 1)]]
    assert [one.index for one in chosen] == [(7, 1), 9]
    assert metrics["sampling/completions"] == 12
    assert metrics["sampling/hinted"] == 1
    assert metrics["sampling/hinted_that_teach"] == 1
    # of the policy without a hint
    assert metrics["sampling/groups_that_teach"] == 0.5
    assert metrics["sampling/right"] == 1 / 8


def test_a_hint_that_teaches_nothing_takes_no_place() -> None:
    made, _, sample = hinting({7: False, 9: True, (7, 1): False})
    chosen, metrics = made.choose([7, 9], 0, sample)
    assert sorted(one.row for one in chosen) == [7, 9]
    assert not any(one.hint for one in chosen)
    assert metrics["sampling/hinted_that_teach"] == 0


def test_hints_say_nothing_of_how_hard_a_kind_is() -> None:
    made, _, sample = hinting({7: False, 9: False, (7, 1): True, (9, 1): True})
    made.choose([7, 9], 0, sample)
    shares = [made.prompts.forecast.share(row) for row in (7, 9)]
    assert max(shares) < 0.2, "all completions without a hint were wrong"


def test_a_hint_may_spare_a_refill() -> None:
    made, asked, sample = hinting({7: False, 9: True, (7, 1): True}, refill=2)
    _, metrics = made.choose([7, 9], 0, sample)
    assert metrics["sampling/turns"] == 1
    assert len(asked) == 2


def test_a_carried_group_keeps_its_hint() -> None:
    carried = Group(7, group(7, True).samples, 2)
    assert Group.from_dict(json.loads(json.dumps(carried.as_dict()))) == carried
    assert carried.cut(2, [1.0]).index == (7, 2)


def test_nobody_is_shown_a_step_where_there_is_none() -> None:
    features = [("a",)] * ROWS
    made = Practice(Sampling(hints="solution"), features, 0, [1.0], (1, 4), lambda *_: True, lambda row, step: 0)
    policy = Policy(False)
    _, metrics = made.choose([7], 0, policy)
    assert policy.asked == [[7]]
    assert metrics["sampling/hinted"] == 0
    assert "sampling/hinted_that_teach" not in metrics
