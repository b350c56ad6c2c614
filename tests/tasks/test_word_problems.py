"""Word problems: disjoint splits, gold answers that follow from their steps, seeds that have nothing in common."""

import doctest
import random
import re
from collections import Counter

import pytest

from grpo_colab.tasks import load_task, word_problems
from grpo_colab.tasks.word_problems import WordProblems, make_problem, split_of

SEEDS = (0, 1, 2, 7, 2**40)


def test_splits_are_disjoint_whatever_the_seed():
    questions = {
        split: {make_problem(split, seed, index).question for seed in SEEDS for index in range(2000)}
        for split in ("train", "test")
    }
    assert not questions["train"] & questions["test"]
    # Nearly every draw is a new problem, so the splits are large, not merely apart.
    assert all(len(texts) > 9_900 for texts in questions.values())
    assert all(split_of(question) == split for split, texts in questions.items() for question in texts)


def test_a_split_does_not_depend_on_case_or_spacing():
    question = make_problem("test", 0, 0).question
    assert split_of("  " + question.upper().replace(" ", "\n\t ")) == "test"


def test_the_answer_follows_from_the_steps_and_the_steps_from_the_question():
    for index in range(3000):
        problem = make_problem("train", 3, index)
        assert 1 <= len(problem.steps) <= 3
        value, numbers = None, []
        for step in problem.steps:
            left, operation, right, result = re.fullmatch(r"(\d+) ([-+*/]) (\d+) = (\d+)", step).groups()
            assert eval(f"{left} {operation} {right}") == int(result), problem  # noqa: S307 - our own digits
            assert value in (None, left), f"the chain breaks in {problem}"
            numbers += [left] * (value is None) + [right]
            value = result
            assert 2 <= int(right) <= 29
            assert 1 <= int(result) <= 99
        assert value == problem.answer
        assert re.findall(r"\d+", problem.question) == numbers, "the story tells the numbers in the order of the steps"


def test_the_example_in_the_header_is_real():
    assert doctest.testmod(word_problems).attempted == 1
    assert doctest.testmod(word_problems).failed == 0


def test_every_template_is_filled():
    for index in range(500):
        question = make_problem("test", 5, index).question
        assert not re.search(r"[{}]|None|\s\s", question)
        assert question.endswith("?")


def test_same_arguments_same_problem():
    assert make_problem("test", 4, 9) == make_problem("test", 4, 9)
    random.seed(0)
    first = WordProblems(seed=4).problems("train", 20)
    random.seed(1)
    assert WordProblems(seed=4).problems("train", 20) == first
    assert WordProblems(seed=4).problems("train", 30)[:20] == first


@pytest.mark.parametrize("shift", [1, 2, 10])
def test_seeds_are_no_sums(shift):
    one, other = ([make_problem("train", seed, i).question for i in range(300)] for seed in (5, 5 + shift))
    assert not set(one) & set(other)


def test_the_mix_of_lengths_and_operations():
    problems = [make_problem("train", 11, index) for index in range(2000)]
    steps = Counter(len(problem.steps) for problem in problems)
    assert all(abs(steps[n] / 2000 - share) < 0.04 for n, share in ((1, 0.31), (2, 0.39), (3, 0.30)))
    operations = Counter(step.split()[1] for problem in problems for step in problem.steps)
    assert set(operations) == set("+-*/")
    assert min(operations.values()) > 100
    # No constant answer is worth learning.
    assert Counter(problem.answer for problem in problems).most_common(1)[0][1] < 0.05 * 2000


def test_default_sizes_and_unknown_splits():
    task = load_task("word_problems", seed=2)
    assert (len(task.problems("train")), len(task.problems("test"))) == (4096, 256)
    with pytest.raises(ValueError, match="validation"):
        task.problems("validation")


def test_the_golden_completion_is_right_and_a_spoilt_one_wrong():
    task = WordProblems()
    for problem in task.problems("test", 50):
        golden = task.golden_completion(problem)
        assert task.grade(golden, problem).right
        wrong = golden.replace(f"\n{problem.answer}\n<", f"\n{int(problem.answer) + 1}\n<")
        assert not task.grade(wrong, problem).right
