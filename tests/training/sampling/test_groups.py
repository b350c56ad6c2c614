"""Whether a group teaches anything, and which of its completions teach the most."""

from __future__ import annotations

import itertools
import json
import random
from statistics import pvariance

import pytest

from grpo_colab.training.sampling.groups import Group, Sample, widest


def group(rights: str, rewards: list[list[float | None]] | None = None) -> Group:
    """A group with a letter per completion: r for a right one."""
    paid = rewards or [[2.0 if letter == "r" else 0.0] for letter in rights]
    return Group(3, [Sample([1], "text", one, letter == "r") for letter, one in zip(rights, paid, strict=True)])


@pytest.mark.parametrize(
    ("rights", "rewards", "rank"),
    [
        ("rrww", None, 0),
        ("rrrr", None, 2),
        ("wwww", None, 2),
        ("wwww", [[0, 0.5], [0, 0.0], [0, 0.5], [0, 0.5]], 1),
        ("rrrr", [[2, 0.5], [2, 0.0], [2, 0.5], [2, 0.5]], 1),
        # sums that differ in their last digit alone
        ("wwww", [[0.1 + 0.2, 0], [0.3, 0], [0.3, 0], [0.3, 0]], 2),
        # what is right earns nothing here, so that there is no gradient
        ("rrww", [[1.0, 0.0]] * 4, 2),
        # no reward could judge
        ("rrww", [[None, None]] * 4, 2),
        ("rrww", [[None, None], [None, None], [1.0, None], [0.0, None]], 0),
    ],
)
def test_a_group_that_differs_in_what_is_right_comes_first(rights: str, rewards: list, rank: int) -> None:
    assert group(rights, rewards).rank([1.0, 1.0]) == rank


def test_a_weight_of_zero_makes_no_difference() -> None:
    assert group("wwww", [[0, 0.5], [0, 0.0], [0, 0.5], [0, 0.5]]).rank([2.0, 0.0]) == 2


def test_the_widest_rewards_are_those_of_the_best_choice_of_all() -> None:
    rng = random.Random(0)
    for _ in range(200):
        totals = [rng.choice([0, 0.5, 1, 1.5, 2, 3.5, rng.random()]) for _ in range(rng.randint(2, 9))]
        size = rng.randint(1, len(totals))
        chosen = widest(totals, size)
        assert len(set(chosen)) == size and chosen == sorted(chosen)
        best = max(pvariance(each) for each in itertools.combinations(totals, size))
        assert pvariance([totals[index] for index in chosen]) == pytest.approx(best)


@pytest.mark.parametrize(
    ("totals", "size", "chosen"),
    [
        ([0, 0, 0, 4], 2, [0, 3]),
        ([4, 0, 4, 0, 4, 0], 4, [0, 1, 2, 3]),
        ([1, 1, 1, 1], 2, [0, 1]),
        ([0, 1, 2, 3, 4], 2, [0, 4]),
        ([0, 1, 2, 3, 4], 5, [0, 1, 2, 3, 4]),
    ],
)
def test_of_equal_rewards_the_first_are_taken(totals: list[float], size: int, chosen: list[int]) -> None:
    assert len(widest(totals, size)) == size
    assert sorted(totals[index] for index in widest(totals, size)) == sorted(totals[index] for index in chosen)


def test_a_group_is_cut_to_its_widest_rewards() -> None:
    cut = group("wwwwwwwr").cut(2, [1.0])
    assert [sample.right for sample in cut.samples] == [False, True]
    assert cut.row == 3
    assert group("rw").cut(2, [1.0]) == group("rw")


def test_a_group_goes_through_a_checkpoint() -> None:
    one = Group(
        7, [Sample([1, 2], [{"role": "assistant", "content": "ü"}], [None, 0.1], True, [-0.25, None], {"a": 1})]
    )
    assert Group.from_dict(json.loads(json.dumps(one.as_dict()))) == one
