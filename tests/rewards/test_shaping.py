"""Length, repetition, steps: worked out by hand from the papers' formulas, and against TRL's own where it has one."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from refusals import refused

from grpo_colab.rewards import (
    get_cosine_scaled_reward,
    get_length_reward,
    get_reasoning_steps_reward,
    get_repetition_penalty_reward,
    get_soft_overlong_punishment_reward,
    length_reward,
    reasoning_steps_reward,
)

RIGHT, WRONG = "<answer>18</answer>", "<answer>19</answer>"


def ids(*lengths: int) -> list[list[int]]:
    return [list(range(length)) for length in lengths]


def test_the_shortest_of_a_group_gets_a_half_and_a_wrong_one_never_gains() -> None:
    # lengths 10, 20, 30: shares 0.5 - 0, 0.5 - 10/20, 0.5 - 20/20
    assert length_reward([RIGHT] * 3, ["18"] * 3, completion_ids=ids(10, 20, 30)) == [0.5, 0.0, -0.5]
    assert length_reward([WRONG] * 3, ["18"] * 3, completion_ids=ids(10, 20, 30)) == [0.0, 0.0, -0.5]


def test_lengths_are_compared_within_a_prompt() -> None:
    completions, prompts = (
        [RIGHT] * 4,
        ["a", "a", [{"role": "user", "content": "b"}], [{"role": "user", "content": "b"}]],
    )
    paid = length_reward(completions, ["18"] * 4, prompts=prompts, completion_ids=ids(1, 2, 100, 300))
    assert paid == [0.5, -0.5, 0.5, -0.5]
    together = length_reward(completions, ["18"] * 4, completion_ids=ids(0, 50, 100, 200))
    assert together == [0.5, 0.25, 0.0, -0.5]


def test_one_length_is_neither_paid_nor_punished_and_words_count_without_tokens() -> None:
    assert length_reward([RIGHT, WRONG], ["18", "18"], completion_ids=ids(7, 7)) == [0.0, 0.0]
    assert length_reward([RIGHT, f"one two three {RIGHT}"], ["18", "18"]) == [0.5, -0.5]
    assert length_reward([RIGHT, RIGHT], ["18", None], completion_ids=ids(1, 2)) == [0.5, None]


@pytest.mark.parametrize(
    ("settings", "right", "wrong"),
    [
        ({"answer_in": "boxed"}, "\\boxed{18}", RIGHT),
        ({"answer_in": "hash", "locale": "de"}, "#### 18,0", "#### 18.5"),
        ({"tolerance": 0.1}, "<answer>19</answer>", "<answer>20</answer>"),
        ({"grader": "math"}, "\\boxed{\\frac{36}{2}}", "\\boxed{\\frac{36}{3}}"),
        ({"grader": "math"}, "<answer>3 \\cdot 6</answer>", WRONG),
        ({"grader": "math", "answer_in": "SOLUTION"}, "<SOLUTION>$2 \\cdot 9$</SOLUTION>", RIGHT),
    ],
)
def test_length_and_cosine_follow_the_grader_and_where_it_looks(
    settings: dict[str, Any], right: str, wrong: str
) -> None:
    given: dict[str, Any] = {"completions": [right, wrong] * 2, "answer": ["18"] * 4, "completion_ids": ids(0, 0, 9, 9)}
    assert get_length_reward(**settings)(**given) == [0.5, 0.0, -0.5, -0.5]
    assert get_cosine_scaled_reward(9, **settings)(**given) == pytest.approx([1.0, -1.0, 0.5, -0.5])


def test_formulas_are_golds_of_the_math_grader() -> None:
    given: dict[str, Any] = {
        "completions": ["\\boxed{\\frac{\\sqrt{8}}{2}}", "<answer>2</answer>"],
        "answer": ["\\sqrt{2}"] * 2,
        "completion_ids": ids(4, 4),
    }
    assert get_cosine_scaled_reward(4, grader="math")(**given) == pytest.approx([0.5, -0.5])


@pytest.mark.parametrize(
    ("length", "right", "wrong"),
    [(0, 1.0, -1.0), (50, 0.75, -0.75), (100, 0.5, -0.5), (250, 0.5, -0.5)],
)
def test_the_cosine_runs_from_the_short_value_to_the_long_one(length: int, right: float, wrong: float) -> None:
    reward = get_cosine_scaled_reward(max_len=100)
    paid = reward(completions=[RIGHT, WRONG], answer=["18", "18"], completion_ids=ids(length, length))
    assert paid == pytest.approx([right, wrong])


def test_the_cosine_pays_trls_values() -> None:
    rewards = pytest.importorskip("trl.rewards")
    settings: dict[str, Any] = {
        "max_len": 64, "min_value_wrong": -2.0, "max_value_wrong": -0.25, "min_value_correct": 0.1,
        "max_value_correct": 3.0,
    }  # fmt: skip
    lengths = [0, 1, 13, 32, 63, 64, 65, 500]
    ours = get_cosine_scaled_reward(**settings)
    said = [{"role": "assistant", "content": RIGHT}]
    expected = [0.1 + 2.9 * (1 + math.cos(min(1.0, n / 64) * math.pi)) / 2 for n in lengths]
    paid = ours(completions=[said] * 8, answer=["18"] * 8, completion_ids=ids(*lengths))
    assert paid == pytest.approx(expected)
    theirs = rewards.get_soft_overlong_punishment(max_completion_len=64, soft_punish_cache=16)(ids(*lengths, 48, 56))
    texts = [RIGHT] * 10
    mine = get_soft_overlong_punishment_reward(64, 16)(completions=texts, completion_ids=ids(*lengths, 48, 56))
    assert mine == pytest.approx(theirs)
    repeated = [[1, 2, 3, 1, 2, 3, 1], [5] * 9, [1, 2], [1, 2, 3, 4], []]
    assert get_repetition_penalty_reward(3, -0.5)(completions=[RIGHT] * 5, completion_ids=repeated) == pytest.approx(
        rewards.get_repetition_penalty_reward(3, -0.5)(repeated)
    )


def test_overlong_by_hand() -> None:
    reward = get_soft_overlong_punishment_reward(max_completion_len=100, soft_punish_cache=20)
    assert reward(completions=[""] * 5, completion_ids=ids(0, 80, 90, 100, 101)) == [0.0, 0.0, -0.5, -1.0, -1.0]
    sharp = get_soft_overlong_punishment_reward(100, 0)
    assert sharp(completions=[""] * 2, completion_ids=ids(100, 101)) == [0.0, -1.0]


def test_what_needs_tokens_cannot_judge_without_them() -> None:
    assert get_soft_overlong_punishment_reward(100, 20)(completions=["a", "b"]) == [None, None]
    assert get_cosine_scaled_reward(100)(completions=[RIGHT], answer=["18"]) == [None]
    assert get_cosine_scaled_reward(100)(completions=[RIGHT], answer=[None], completion_ids=ids(3)) == [None]
    with pytest.raises(ValueError, match="2 completion_ids for 1 completion"):
        get_cosine_scaled_reward(100)(completions=[RIGHT], answer=["18"], completion_ids=ids(1, 2))


def test_repetition_by_hand() -> None:
    reward = get_repetition_penalty_reward(ngram_size=2, max_penalty=-1.0)
    # 5 5 5 5 5 has four pairs, one of them different from the rest: 1 - 1/4
    assert reward(completions=[""] * 3, completion_ids=[[1, 2, 3, 4], [5] * 5, [1]]) == [0.0, -0.75, 0.0]
    assert reward(completions=["a b a b a", "a b c d", ""]) == [-0.5, 0.0, 0.0]  # ab ba ab ba: two of four


@pytest.mark.parametrize(
    ("text", "penalty"),
    [
        ("The the THE the", -2 / 3),  # the-the three times
        ("Straße STRASSE strasse", -0.5),
        ("我我我我", -2 / 3),
        ("我爱你我爱你", -0.4),  # 我爱 爱你 你我 我爱 爱你: three of five differ
        ("カカカ", -0.5),
        ("กกก ກກກ", -2 / 5),  # Thai, then Lao: กก กก กກ ກກ ກກ
        ("\u1000\u1000\u1000", -0.5),  # Burmese
        ("\u1780\u1780\u1780", -0.5),  # Khmer
        ("나는 나는 나는", -0.5),  # Korean has words
        ("나나나나", 0.0),
        ("用Python写Python写", -0.25),  # 用-python python-写 写-python python-写
    ],
)
def test_words_have_no_case_and_a_character_is_one_where_no_spaces_are(text: str, penalty: float) -> None:
    assert get_repetition_penalty_reward(ngram_size=2)([text]) == pytest.approx([penalty])


def test_a_longer_text_without_spaces_is_longer() -> None:
    assert length_reward([RIGHT, f"三个鸡蛋加五个{RIGHT}"], ["18", "18"]) == [0.5, -0.5]


def test_token_ids_alone_as_trls_own_tests_and_examples_call_them() -> None:
    repetition, overlong = get_repetition_penalty_reward(2, -1.0), get_soft_overlong_punishment_reward(100, 20)
    repeated, long = [[1, 2, 3, 4], [5] * 5, []], [[1] * 90, [1] * 101, [1]]
    for call in (lambda reward, tokens: reward(completion_ids=tokens), lambda reward, tokens: reward(tokens)):
        assert call(repetition, repeated) == [0.0, -0.75, 0.0]
        assert call(overlong, long) == [-0.5, -1.0, 0.0]
    assert repetition(completion_ids=[]) == overlong(completion_ids=[]) == []
    for reward in (repetition, overlong):
        with pytest.raises(TypeError, match=f"{reward.__name__}: completions must be a list, or completion_ids"):
            reward(prompts=["a"])
        for broken in ([[]], [["a"]], [[1.5]]):  # none of which can only be token ids
            with pytest.raises(TypeError, match=reward.__name__):
                reward(broken)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("Step 1: add\nStep 2: multiply\nStep 3: done\n<answer>1</answer>", 1.0),
        ("1. add\n2) multiply\n", 2 / 3),
        ("- a\n* b\n• c\n- d\n", 1.0),
        ("First, a\nThen b\nnothing\n", 2 / 3),
        ("**Step 1:** add\n### Step 2: subtract", 2 / 3),
        ("Step 1:\nStep 2:\nStep 3:\n", 0.0),  # markers alone
        ("1. same\n2. same\n3. same\n", 1 / 3),
        ("3.5 apples\n-4 is less\nThenceforth x\n", 0.0),  # no markers
        ("<answer>\n1. a\n2. b\n3. c\n</answer>", 0.0),  # in the answer, not before it
        ("<think>\nI write <answer> last\n1. a\n2. b\n</think>\n3. c\n<answer>\n4. d\n</answer>", 1.0),
        ("", 0.0),
    ],
)
def test_steps_are_different_lines_with_something_in_them(text: str, share: float) -> None:
    assert reasoning_steps_reward([text]) == pytest.approx([share])


def test_the_number_of_steps_asked_for() -> None:
    assert get_reasoning_steps_reward(steps=4)(completions=["1. a\n2. b"]) == [0.5]


@pytest.mark.parametrize(
    ("make", "setting", "value", "remedy"),
    [
        (lambda: get_cosine_scaled_reward(0), "max_len", 0, "a number of tokens, 1 or more"),
        (lambda: get_cosine_scaled_reward(10.5), "max_len", 10.5, "a number of tokens"),  # type: ignore[arg-type]
        (
            lambda: get_cosine_scaled_reward(9, min_value_wrong=0.0),
            "min_value_wrong",
            0.0,
            "write a number of at most -0.5",
        ),
        (lambda: get_cosine_scaled_reward(9, max_value_wrong=0.7), "max_value_wrong", 0.7, "at most 0.5"),
        (lambda: get_cosine_scaled_reward(9, max_value_correct=math.nan), "min_value_correct", 0.5, "at most nan"),
        (lambda: get_cosine_scaled_reward(9, grader="maths"), "grader", "maths", "write 'correctness' or 'math'"),
        (lambda: get_length_reward("latex"), "grader", "latex", "write 'correctness' or 'math'"),
        (lambda: get_soft_overlong_punishment_reward(100, 101), "soft_punish_cache", 101, "from 0 to 100"),
        (lambda: get_soft_overlong_punishment_reward(True, 0), "max_completion_len", True, "1 or more"),
        (lambda: get_repetition_penalty_reward(0), "ngram_size", 0, "1 or more"),
        (lambda: get_repetition_penalty_reward(3, 0.5), "max_penalty", 0.5, "write a number of at most 0"),
        (lambda: get_reasoning_steps_reward(-1), "steps", -1, "1 or more"),
    ],
)
def test_settings_that_cannot_work_are_named(make: Any, setting: str, value: Any, remedy: str) -> None:
    with refused(setting, value, remedy=remedy):
        make()


@pytest.mark.parametrize(
    ("reward", "name"),
    [
        (get_cosine_scaled_reward(50), "cosine_scaled_reward"),
        (get_cosine_scaled_reward(50, grader="math", answer_in="answer_tag"), "cosine_scaled_reward"),
        (get_length_reward("math"), "length_reward"),
        (get_soft_overlong_punishment_reward(50, 10), "soft_overlong_punishment_reward"),
        (get_repetition_penalty_reward(2), "repetition_penalty_reward"),
        (get_reasoning_steps_reward(2), "reasoning_steps_reward"),
    ],
)
def test_they_are_named_pickled_and_deaf_to_other_columns(reward: Any, name: str) -> None:
    assert reward.__name__ == name
    passed: dict[str, Any] = {
        "completions": [RIGHT, WRONG * 3, "a a a a\n1. b"],
        "answer": ["18"] * 3,
        "completion_ids": [*ids(3, 45), [1] * 60],
    }
    paid = reward(**passed)
    assert pickle.loads(pickle.dumps(reward))(**passed) == paid
    # columns with the names of the settings replace none of them
    columns = {
        "max_len": [1] * 3,
        "steps": [9] * 3,
        "ngram_size": [1] * 3,
        "soft_punish_cache": [0] * 3,
        "size": [1] * 3,
    }
    assert reward(**passed, **columns, prompts=["p"] * 3, trainer_state=None) == paid
    assert any(paid)


def test_megabytes_take_no_time_to_speak_of() -> None:
    text = "1. " * 1_000_000 + "\n" * 1_000_000 + "Step 1:" * 500_000
    assert 0.0 <= reasoning_steps_reward([text])[0] <= 1.0


def test_what_a_stranger_may_get_wrong_is_named() -> None:
    with pytest.raises(ValueError, match="length_reward: 1 prompt for 2 completions"):
        length_reward([RIGHT, WRONG], ["18", "18"], prompts=["a"])
    with refused("grader", ["math"], remedy="'correctness' or 'math'"):
        get_cosine_scaled_reward(100, grader=["math"])
    assert get_repetition_penalty_reward(10**7)([RIGHT, "a a a a"]) == [0.0, 0.0]
