"""Where a reward looks for the answer, in which notation it reads numbers, and by how much they may be off."""

from __future__ import annotations

import functools

import pytest
from refusals import refused

from grpo_colab import rewards
from grpo_colab.rewards import correctness_reward

ELSEWHERE = {  # where the answer is -> how 18 and 19 stand there
    "answer_tag": ("<answer>18</answer>", "<answer>19</answer>"),
    "answer": ("<answer>18</answer>", "<answer>19</answer>"),
    "boxed": ("So it is \\boxed{18}.", "So it is $\\boxed{19}$."),
    "hash": ("6 * 3 = 18\n#### 18\n", "6 * 3 = 18\n#### 19"),
    "SOLUTION": ("<SOLUTION> 18 </SOLUTION>", "<SOLUTION>19</SOLUTION>"),
}


@pytest.mark.parametrize("answer_in", ELSEWHERE)
def test_the_answer_where_it_was_asked_for(answer_in: str) -> None:
    judges = [
        rewards.get_correctness_reward(answer_in),
        rewards.get_soft_correctness_reward(answer_in),
        rewards.get_exact_answer_reward(answer_in),
    ]
    integer = rewards.get_integer_reward(answer_in)
    right, wrong = ELSEWHERE[answer_in]
    for end in ("</think>", "</reasoning>"):
        # only what follows the last thought counts
        mixed = [right, wrong, f"{wrong}{end}{right}", f"{right}{end}{wrong}", f"{right}{end}18", f"a{end}{right}{end}"]
        for judge in judges:
            assert judge(completions=mixed, answer=["18"] * 6) == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
        assert integer(completions=mixed) == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    for other in set(ELSEWHERE) - {answer_in, "answer", "answer_tag"}:
        if answer_in not in ("answer", "answer_tag"):
            assert rewards.get_correctness_reward(other)(completions=[right], answer=["18"]) == [0.0]


@pytest.mark.parametrize(
    ("locale", "answer", "gold", "correct", "integer"),
    [
        ("de", "1.234,5", "1.234,5", 1, 0),
        ("de", "1.200", "1200", 1, 1),
        ("de", "18,0", "18", 1, 0),
        ("de", "0,0", "0", 1, 0),
        ("de", "1,200", "1200", 0, 0),
        ("en", "1,200", "1200", 1, 1),
        ("en", "1.200", "1200", 0, 0),
        ("in", "12,34,567", "1234567", 1, 1),
        ("en", "12,34,567", "1234567", 0, 0),
        ("ch", "1'200", "1200", 1, 1),
        ("fr", "1 200", "1200", 1, 1),
    ],
)
def test_numbers_as_a_language_writes_them(locale: str, answer: str, gold: str, correct: int, integer: int) -> None:
    completions = [f"\\boxed{{{answer}}}"]
    assert rewards.get_correctness_reward("boxed", locale)(completions=completions, answer=[gold]) == [correct]
    assert rewards.get_integer_reward("boxed", locale)(completions=completions) == [integer]


def test_a_tolerance_is_a_share_of_the_gold() -> None:
    near = rewards.get_correctness_reward(tolerance=0.01)
    completions = [f"<answer>{answer}</answer>" for answer in ("100", "101", "99", "101.1", "-100")]
    assert near(completions=completions, answer=[100] * 5) == [1.0, 1.0, 1.0, 0.0, 0.0]
    assert correctness_reward(completions, [100] * 5) == [1.0, 0.0, 0.0, 0.0, 0.0]
    soft = rewards.get_soft_correctness_reward(tolerance=0.01)
    assert soft(completions=["<answer>101 or 7</answer>"], answer=["100"]) == [1.0]


MAKERS = [
    rewards.get_correctness_reward,
    rewards.get_soft_correctness_reward,
    rewards.get_length_reward,
    functools.partial(rewards.get_cosine_scaled_reward, 40),
]


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("answer_in", "<answer>", "'answer_tag', 'boxed', 'hash', or the name of a tag"),
        ("answer_in", "two words", "the name of a tag"),
        ("answer_in", 3, "the name of a tag"),
        ("answer_in", "boxd", "write 'boxed'"),
        ("answer_in", "Boxed", "write 'boxed'"),
        ("answer_in", "boxxed", "write 'boxed'"),
        ("answer_in", "HASH", "write 'hash'"),
        ("answer_in", "answer-tag", "write 'answer_tag'"),
        ("answer_in", "answertag", "write 'answer_tag'"),
        ("answer_in", "think", "the name of a tag"),  # after which the answer is looked for
        ("answer_in", "reasoning", "the name of a tag"),
        ("locale", "xx", "one of 'en'"),
        ("locale", None, "one of 'en'"),
        ("tolerance", 1, "from 0 to below 1"),
        ("tolerance", -0.1, "from 0 to below 1"),
        ("tolerance", "1%", "from 0 to below 1"),
    ],
)
def test_settings_of_the_grading_that_cannot_work_are_named(setting: str, value: object, remedy: str) -> None:
    makers = list(MAKERS)
    if setting != "tolerance":
        makers.append(rewards.get_integer_reward)
    if setting == "answer_in":
        makers.append(rewards.get_exact_answer_reward)
    for make in makers:
        with refused(setting, value, remedy=remedy, snapshot=make is makers[0]):
            make(**{setting: value})
