"""Word problems: disjoint splits, gold answers that follow from their steps, seeds that have nothing in common."""

import doctest
import hashlib
import itertools
import random
import re
from collections import Counter

import pytest

from grpo_colab.rewards import call_reward, resolve_reward
from grpo_colab.tasks import Problem, load_task, word_problems
from grpo_colab.tasks.word_problems import DEFAULT_SIZES, NEW_STORIES, WordProblems, make_problem, split_of
from grpo_colab.tiny.corpus import answered_problems

SEEDS = (0, 1, 2, 7, 2**40)
# What differs between two problems of one template.
FILLED = {
    "<name>": "|".join(word_problems.NAMES),
    "<thing>": "|".join(word_problems.THINGS),
    "<she>": "[Ss]?[Hh]e",
    "<her>": "her|him",
    "<number>": r"\d+",
}


def template_of(sentence: str) -> str:
    """Return a sentence, or a whole question, without its names, things, pronouns and numbers."""
    for kind, words in FILLED.items():
        sentence = re.sub(rf"\b(?:{words})(?=s?\b)", kind, sentence)
    return sentence


def sentences_of(problem: Problem) -> list[str]:
    """Return the templates of a question's sentences."""
    return [template_of(sentence) for sentence in re.findall(r"[^.?]+[.?]", problem.question)]


@pytest.fixture(scope="module")
def known() -> list[Problem]:
    """5,000 training problems and 1,000 of the test split, whose templates are all there are."""
    return [*(make_problem("train", 0, n) for n in range(5000)), *(make_problem("test", 0, n) for n in range(1000))]


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


@pytest.mark.parametrize("split", ["train", NEW_STORIES])
def test_the_answer_follows_from_the_steps_and_the_steps_from_the_question(split):
    for index in range(3000):
        problem = make_problem(split, 3, index)
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


@pytest.mark.parametrize("split", DEFAULT_SIZES)
def test_every_template_is_filled(split):
    for index in range(500):
        question = make_problem(split, 5, index).question
        assert not re.search(r"[{}]|None|\s\s", question)
        assert question.endswith("?")


@pytest.mark.parametrize("split", DEFAULT_SIZES)
def test_same_arguments_same_problem(split):
    assert make_problem(split, 4, 9) == make_problem(split, 4, 9)
    random.seed(0)
    first = WordProblems(seed=4).problems(split, 20)
    random.seed(1)
    assert WordProblems(seed=4).problems(split, 20) == first
    assert WordProblems(seed=4).problems(split, 30)[:20] == first


@pytest.mark.parametrize(
    ("split", "digest"),
    [
        ("train", "9e4748230a6a167e"),
        ("test", "d10ef9d0a6a79d0f"),
    ],
)
def test_the_problems_are_those_on_which_the_published_numbers_were_measured(split, digest):
    """The digests are of the code before there was a third split."""
    texts = [(one.question, one.answer, one.steps, one.source) for one in WordProblems().problems(split)]
    assert hashlib.sha256(repr(texts).encode()).hexdigest()[:16] == digest


def test_no_sentence_of_the_test_problems_is_new_as_their_note_says(known):
    trained = {sentence for problem in known[:4096] for sentence in sentences_of(problem)}
    assert all({*sentences_of(problem)} <= trained for problem in WordProblems().problems("test"))
    assert "No sentence of these problems is new" in WordProblems.held_out_note


def test_no_sentence_of_a_new_story_is_in_training_in_pre_training_or_in_the_test_problems(known):
    pretraining = [problem for problem, _ in itertools.islice(answered_problems(0), 5000)]
    known_sentences = {sentence for problem in (*known, *pretraining) for sentence in sentences_of(problem)}
    stories = [make_problem(NEW_STORIES, 0, n) for n in range(2000)]
    new = {sentence for problem in stories for sentence in sentences_of(problem)}
    assert not new & known_sentences
    assert len({problem.question for problem in stories}) > 1900
    # every clause is drawn, so that this is all there is; a closing may have two sentences
    assert len(new) == sum(len(re.findall(r"[.?]", text)) for made_of in word_problems.NEW for _, text in made_of)


def test_new_stories_have_no_word_that_training_has_not(known):
    """The tiny model has learnt no other words: it would fail for them, and not for the story."""
    words = {word for problem in known[:5000] for word in re.findall(r"[A-Za-z']+", problem.question)}
    for index in range(2000):
        assert {*re.findall(r"[A-Za-z']+", make_problem(NEW_STORIES, 0, index).question)} <= words


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
    assert [len(task.problems(split)) for split in ("train", "test", NEW_STORIES)] == [4096, 256, 256]
    with pytest.raises(ValueError, match="validation"):
        task.problems("validation")


@pytest.mark.parametrize("split", ["test", NEW_STORIES])
def test_the_golden_completion_earns_full_marks_and_a_spoilt_one_is_wrong(split):
    task = WordProblems()
    for problem in task.problems(split, 50):
        golden = task.golden_completion(problem)
        assert task.grade(golden, problem).right
        for name in task.default_rewards:
            assert call_reward(resolve_reward(name), ["?"], [golden], [[]], {"answer": [problem.answer]}) == [1.0]
        wrong = golden.replace(f"\n{problem.answer}\n<", f"\n{int(problem.answer) + 1}\n<")
        assert not task.grade(wrong, problem).right
