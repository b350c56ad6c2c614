"""Gold answers: what is one, what becomes of one that cannot be read, and which rewards read them beforehand."""

from __future__ import annotations

import pickle
import warnings
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from grpo_colab import rewards
from grpo_colab.rewards import (
    combine,
    correctness_reward,
    exact_answer_reward,
    get_correctness_reward,
    get_cosine_scaled_reward,
    get_length_reward,
    get_soft_correctness_reward,
    guard,
    length_reward,
    reads_golds,
    soft_correctness_reward,
    strict_format_reward,
)
from grpo_colab.rewards.golds import gold_readers

RIGHT, WRONG = "<answer>18</answer>", "<answer>19</answer>"


def pays(reward: Any, completion: str, gold: Any) -> Any:
    return reward(completions=[completion], answer=[gold], completion_ids=[[1, 2]])[0]


def reward_id(value: Any) -> str:
    """The same in every process, which the repr of a function and of a `combine` is not."""
    return getattr(value, "__qualname__", None) or (value.__name__ if isinstance(value, combine) else repr(value))


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("18", "18"),
        (18, "18"),
        (18.0, "18"),
        (-3, "-3"),
        (0.1, "0.1"),
        (1e22, "1" + "0" * 22),
        (Fraction(1, 2), "0.5"),
        (Fraction(6, 2), "3"),
        (np.int64(18), "18"),
        (np.float32(0.5), "1/2"),
        (np.float64(2.5), "2.5"),
        ("9 eggs at $2 each.\n#### 18", "18"),
        ("48/2 = 24\n#### 1,080", "1080"),
    ],
)
def test_texts_numbers_and_solutions_are_golds(gold: Any, answer: str) -> None:
    right, wrong = f"<answer>{answer}</answer>", f"<answer>{answer}1</answer>"
    for reward in (correctness_reward, soft_correctness_reward, get_cosine_scaled_reward(50)):
        assert pays(reward, right, gold) > 0.4
        assert pays(reward, wrong, gold) <= 0.0
    # the shorter of two right ones gains, of two wrong ones nothing does
    two = {"completion_ids": [[1], [1, 2]], "answer": [gold] * 2}
    assert length_reward([right] * 2, **two) == [0.5, -0.5]
    assert length_reward([wrong] * 2, **two) == [0.0, -0.5]


@pytest.mark.parametrize(
    ("gold", "answer", "paid"),
    [(18, "18", 1.0), (18.0, "18", 0.0), (18.0, "18.0", 1.0), ("6 * 3\n#### 18", " 18 ", 1.0), ("#### 18", "#18", 0.0)],
)
def test_the_text_of_a_gold_is_the_number_as_python_writes_it(gold: Any, answer: str, paid: float) -> None:
    assert pays(exact_answer_reward, f"<answer>{answer}</answer>", gold) == paid


def test_a_number_is_the_same_gold_in_every_language() -> None:
    """1.234 is a text that states over a thousand in German. The number 1.234 states one and a bit anywhere."""
    german = get_correctness_reward(locale="de")
    assert pays(german, "<answer>1,234</answer>", 1.234) == 1.0
    assert pays(german, "<answer>1.234</answer>", 1.234) == 0.0
    assert pays(german, "<answer>1.234</answer>", "1.234") == pays(german, "<answer>1234</answer>", "1.234") == 1.0
    assert pays(german, "<answer>1.234</answer>", 1234) == 1.0
    assert pays(get_soft_correctness_reward(locale="de"), "<answer>0,5 Liter</answer>", 0.5) == 1.0
    assert pays(get_cosine_scaled_reward(9, locale="de"), "<answer>0,5</answer>", 0.5) > 0.0


UNREADABLE = ["4 or 5", "", "about 18", "x^2", float("nan"), float("inf"), 10**5000]


@pytest.mark.parametrize("gold", UNREADABLE, ids=lambda gold: type(gold).__name__)
@pytest.mark.parametrize(
    "reward",
    [
        correctness_reward,
        soft_correctness_reward,
        get_correctness_reward("boxed"),
        length_reward,
        get_length_reward(locale="de"),
        get_cosine_scaled_reward(50),
    ],
    ids=reward_id,
)
def test_what_is_no_number_is_not_judged_by(reward: Any, gold: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paid = reward(completions=[RIGHT, RIGHT, ""], answer=[gold, "18", gold], completion_ids=[[1], [1], [1]])
    assert paid[0] is paid[2] is None
    assert paid[1] is not None


def test_a_warning_names_the_reward_and_the_gold_once() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            correctness_reward([RIGHT] * 3, ["21 or 22", "21 or 22", "23 or 24"])
            length_reward([RIGHT], ["21 or 22"], completion_ids=[[1]])
    said = [str(one.message) for one in caught]
    assert len(said) == 3
    assert [("correctness_reward" in text, "length_reward" in text) for text in said] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    assert ["'21 or 22'" in text for text in said] == [True, False, True]


def test_no_verdict_is_logged_for_a_gold_that_cannot_be_read() -> None:
    logged: dict[str, float] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        correctness_reward([RIGHT, RIGHT, WRONG], ["18", "1 or 2", "18"], log_metric=logged.__setitem__)
    assert (logged["verdict/right"], logged["verdict/wrong"]) == (0.5, 0.5)


def refuses(reward: Any, gold: str) -> str | None:
    """The words of the first of a reward's readers that refuses a gold."""
    for read in gold_readers(reward):
        try:
            read(gold)
        except ValueError as error:
            return str(error)
    return None


@pytest.mark.parametrize(
    ("reward", "unreadable", "readable"),
    [
        (correctness_reward, "4 or 5", "1,234.5"),
        (soft_correctness_reward, "4 or 5", "#### 5"),
        (length_reward, "", "18"),
        (get_correctness_reward("boxed", locale="de"), "1,234.5", "1.234,5"),
        (get_length_reward(locale="de"), "1,234.5", "1.234,5"),
        (get_cosine_scaled_reward(9, locale="ch"), "1.234,5", "1'234.5"),
        (get_length_reward("math"), "\\frac{", "\\frac{x}{2}"),
        (rewards.math_reward, "\\frac{", "\\sqrt{2}"),
        (combine([strict_format_reward, correctness_reward]), "4 or 5", "5"),
        (combine([combine([get_correctness_reward(locale="de")])], name="outer"), "1,234.5", "5"),
    ],
    ids=reward_id,
)
def test_a_reward_says_beforehand_which_gold_it_cannot_read(reward: Any, unreadable: str, readable: str) -> None:
    for one in (reward, pickle.loads(pickle.dumps(reward))):
        assert repr(unreadable)[1:-1] in (refuses(one, unreadable) or "nothing is refused")
        assert refuses(one, readable) is None


def own_reward(completions: list[Any], **kwargs: Any) -> list[float]:
    return [1.0] * len(completions)


def test_what_reads_no_golds_refuses_none_and_a_users_own_may_say_what_it_reads() -> None:
    assert [*gold_readers(own_reward), *gold_readers(strict_format_reward)] == []
    assert refuses(exact_answer_reward, "any text") is None and "empty" in str(refuses(exact_answer_reward, " "))

    def even(gold: str) -> None:
        if int(gold) % 2:
            raise ValueError(f"{gold!r} is odd")

    def even_reward(completions: list[Any], **kwargs: Any) -> list[float]:
        return [1.0] * len(completions)

    marked = reads_golds(even)(even_reward)
    assert marked is even_reward
    assert refuses(marked, "3") == "'3' is odd"
    assert refuses(marked, "4") is None


def test_a_guarded_reward_does_not_break_on_a_gold() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert guard(correctness_reward)(completions=[RIGHT], answer=["5 or 6"]) == [None]
