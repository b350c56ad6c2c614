"""The statistics against published and independent values, and grading through the same parser as the rewards."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from grpo_colab import Recipe
from grpo_colab.evaluation.evaluate import grade_all
from grpo_colab.evaluation.statistics import compare, mcnemar_exact, summary, wilson_interval
from grpo_colab.runs.records import AnswerRow
from grpo_colab.tasks import Problem


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_is_the_published_one(successes: int, n: int, low: float, high: float) -> None:
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_holds_its_proportion_at_the_ends_too() -> None:
    """By a rounding of 1e-16 it did not, and a run that ended at 100 % died when it drew its error bars."""
    for n in range(1, 400):
        for successes in (0, n // 2, n):
            low, high = wilson_interval(successes, n)
            assert 0.0 <= low <= successes / n <= high <= 1.0


def test_mcnemar_is_the_two_sided_sign_test() -> None:
    """Against the definition: the share of all outcomes of fair coins at least as lopsided as this one."""
    for gained, lost in itertools.product(range(7), repeat=2):
        n = gained + lost
        as_lopsided = [c for c in itertools.product((0, 1), repeat=n) if abs(2 * sum(c) - n) >= abs(gained - lost)]
        assert mcnemar_exact(gained, lost) == pytest.approx(float(Fraction(len(as_lopsided), 2**n)))


def answered(*completions: str) -> list[AnswerRow]:
    recipe = Recipe.load()
    problems = [Problem(f"question {index}", "18") for index in range(len(completions))]
    return grade_all(recipe, recipe.load_task(), problems, completions, [[]] * len(completions))


RIGHT = "<reasoning>\n9 * 2 = 18\n</reasoning>\n<answer>\n18\n</answer>"
STYLED = "<reasoning>\n9 * 2 = 18\n</reasoning>\n<answer>\n$18.00\n</answer>"
WRONG = "<reasoning>\n9 * 2 = 17\n</reasoning>\n<answer>\n17\n</answer>"
UNTAGGED = "It is 18"


def test_strict_and_lenient_accuracy_and_reward_means() -> None:
    side = summary(answered(RIGHT, STYLED, WRONG, UNTAGGED))
    assert side["accuracy"] == 0.5
    assert side["lenient_accuracy"] == 0.75
    assert side["rewards"]["correctness"] == 0.5
    assert side["rewards"]["integer"] == 0.5
    assert side["rewards"]["strict_format"] == 0.75
    assert side["ci95"] == list(wilson_interval(2, 4))


def test_paired_counts_problems_not_sums() -> None:
    before, after = answered(RIGHT, WRONG, WRONG, UNTAGGED), answered(WRONG, RIGHT, STYLED, RIGHT)
    assert compare(before, after) == {"gained": 3, "lost": 1, "p_value": pytest.approx(0.625)}
    assert compare(before, before) == {"gained": 0, "lost": 0, "p_value": 1.0}
