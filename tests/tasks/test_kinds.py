"""Kinds of problems: by their steps, their numbers, or their length."""

from __future__ import annotations

from grpo_colab.tasks import Problem
from grpo_colab.tasks.kinds import features_of, kinds_of


def problems(*questions: str, steps: int = 0) -> list[Problem]:
    return [Problem(question, "7", steps=("1 + 1 = 2",) * steps) for question in questions]


def test_a_kind_is_the_number_of_steps_where_solutions_are_known() -> None:
    many = [problem for n in (1, 2, 3, 40) for problem in problems("a 1", "b 2 3", steps=n)]
    assert [kind.split()[0] for kind in kinds_of(many)] == ["1", "1", "2", "2", "3", "3", "12", "12"]
    assert set(kinds_of(many)) == {"1 step", "2 steps", "3 steps", "12 steps or more"}


def test_else_it_is_the_numbers_in_the_question() -> None:
    assert kinds_of(problems("1 and 2,000 and 3.5", "4 apples", "no number")) == ["3 numbers", "1 number", "0 numbers"]


def test_else_it_is_a_fifth_by_the_length_of_the_question() -> None:
    words = problems(*("x" * length for length in (9, 2, 7, 4, 5, 6, 3, 8, 1, 10)))
    assert [kind[7] for kind in kinds_of(words)] == ["5", "1", "4", "2", "3", "3", "2", "4", "1", "5"]
    assert kinds_of(problems("one")) == ["length 1 of 5"]


def test_a_count_that_nearly_all_problems_have_tells_nothing() -> None:
    assert {kind[:6] for kind in kinds_of(problems(*["1 and 2"] * 19, "1"))} == {"length"}


def test_features_are_all_that_may_tell_how_hard_a_problem_is() -> None:
    found = features_of(
        [
            Problem("I have 2 apples and 3 pears.", "5", steps=("2 + 3 = 5",)),
            Problem("How much is 48 / 2, and then some more?", "20", steps=("48/2=24", "24-4 = <<24-4=20>>20")),
            Problem("Well-known?", "yes"),
        ]
    )
    assert [row[0] for row in found] == ["1 step", "2 steps", "0 steps"]
    assert [row[1] for row in found] == ["2 numbers", "2 numbers", "0 numbers"]
    assert [row[3] for row in found] == ["operations +", "operations -/", "operations "]
    assert [row[2] for row in found] == ["length 2 of 5", "length 4 of 5", "length 1 of 5"]
