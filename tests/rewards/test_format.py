"""The `<think>` forms, and the reasoning/answer forms under another tag's name. The plain ones: test_functions."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from refusals import refused

from grpo_colab.rewards import (
    get_soft_format_reward,
    get_strict_format_reward,
    get_tag_count_reward,
    get_think_format_reward,
    soft_format_reward,
    strict_format_reward,
    think_format_reward,
)

STRICT = "<think>\nwhy\n</think>\n<answer>\n18\n</answer>"


@pytest.mark.parametrize(
    ("text", "paid"),
    [
        ("<think>why</think>18", 1.0),
        ("\n<think>\nwhy\nand how\n</think>\n\nThe answer is 18.", 1.0),
        (STRICT, 1.0),
        ("<think>why</think>", 0.0),  # no answer
        ("<think>why</think>  \n", 0.0),
        ("<think> \n</think>18", 0.0),  # no thought
        ("Well. <think>why</think>18", 0.0),  # does not begin with it
        ("<think>why 18", 0.0),
        ("why</think>18", 0.0),
        ("</think>18<think>why", 0.0),
        ("<think>a</think>b<think>c</think>18", 0.0),
        ("<think>a<think>b</think>18", 0.0),
        ("<think>a</think>b</think>18", 0.0),
        ("<Think>why</Think>18", 0.0),
        ("", 0.0),
    ],
)
def test_think_format(text: str, paid: float) -> None:
    assert think_format_reward([text]) == [paid]
    assert think_format_reward([[{"role": "assistant", "content": text}]]) == [paid]


@pytest.mark.parametrize(
    ("text", "paid"),
    [("why</think>18", 1.0), ("<think>why</think>18", 0.0), ("</think>18", 0.0), ("why</think>", 0.0), ("why", 0.0)],
)
def test_think_format_where_the_template_opens_the_block(text: str, paid: float) -> None:
    assert get_think_format_reward(prefilled=True)(completions=[text]) == [paid]


@pytest.mark.parametrize(
    ("text", "prefilled", "paid"),
    [
        ("<think>\n\n</think>\n\nThe answer is 18.", False, 1.0),  # Qwen3, told not to think
        ("<think></think>18", False, 1.0),
        ("<think>why</think>18", False, 1.0),
        ("\n\n</think>\n\n18", True, 1.0),
        ("</think>18", True, 1.0),
        ("<think>\n\n</think>\n\n", False, 0.0),  # no answer
        ("<think>\n\n", False, 0.0),
        ("18", False, 0.0),
        ("Well. <think></think>18", False, 0.0),
        ("<think></think><think></think>18", False, 0.0),
        ("<think>\n\n</think>\n\n18", True, 0.0),
    ],
)
def test_an_empty_block_is_a_block_where_it_may_be(text: str, prefilled: bool, paid: float) -> None:
    assert get_think_format_reward(prefilled, empty=True)(completions=[text]) == [paid]


FORM = "<reasoning>\n{}\n</reasoning>\n<answer>\n{}\n</answer>"


@pytest.mark.parametrize(
    ("thought", "answer", "paid"),
    [
        ("...", "10", 0.0),  # what Qwen2.5-Coder-0.5B wrote after 30 steps of GSM8K
        ("…", "10", 0.0),
        (". . .", "10", 0.0),
        ("[...]", "10", 0.0),
        ("---\n***", "10", 0.0),
        ("...", "...", 0.0),
        ("3 + 4 = 7", "...", 0.0),
        ("3 + 4 = 7", "…", 0.0),
        ("3 + 4 = 7...", "7", 1.0),
        ("7", "7", 1.0),
        ("答えは七", "7", 1.0),
        ("½", "7", 1.0),
        ("there are none", "[]", 1.0),  # an answer in JSON
        ("it diverges", "∞", 1.0),
        ("it is negative", "-", 1.0),
    ],
)
def test_the_dots_of_the_prompt_are_no_thought_and_no_answer(thought: str, answer: str, paid: float) -> None:
    text = FORM.format(thought, answer)
    assert strict_format_reward([text]) == soft_format_reward([text]) == [paid]
    assert think_format_reward([f"<think>{thought}</think>{answer}"]) == [paid]
    assert get_think_format_reward(empty=True)(completions=[f"<think>{thought}</think>{answer}"]) == [paid]


def test_the_other_forms_under_the_think_tag() -> None:
    reasoning = STRICT.replace("think", "reasoning")
    assert get_strict_format_reward("think")(completions=[STRICT, reasoning, STRICT[1:]]) == [1.0, 0.0, 0.0]
    assert strict_format_reward([STRICT, reasoning]) == [0.0, 1.0]
    soft = "<think>why</think> <answer>18</answer> bye"
    assert get_soft_format_reward("think")(completions=[soft, f"x{soft}"]) == [1.0, 0.0]
    # all four; without </think>; all four and 10 characters after the answer at 0.004 each
    texts = [STRICT, STRICT.replace("</think>", ""), STRICT + "0123456789"]
    assert get_tag_count_reward("think")(completions=texts) == pytest.approx([1.0, 0.75, 0.96])


@pytest.mark.parametrize("tag", ["<think>", "", "a b", "think|x", None, 3])
def test_what_is_no_tags_name_is_refused(tag: Any) -> None:
    for make in (get_strict_format_reward, get_soft_format_reward, get_tag_count_reward):
        with refused("reasoning_tag", tag, remedy="write the name alone"):
            make(tag)
        with refused("answer_tag", tag, remedy="write the name alone"):
            make("think", tag)
        with refused("reasoning_tag", "answer", remedy="another name"):
            make("answer")


def test_the_answers_tag_may_have_another_name() -> None:
    text = STRICT.replace("<answer>", "<SOLUTION>").replace("</answer>", "</SOLUTION>")
    for make in (get_strict_format_reward, get_soft_format_reward, get_tag_count_reward):
        assert make("think", "SOLUTION")(completions=[text, STRICT])[0] == 1.0
        assert make("think", "SOLUTION")(completions=[text, STRICT])[1] < 1.0


def test_prefilled_is_yes_or_no() -> None:
    with refused("prefilled", "yes", remedy="write True or False"):
        get_think_format_reward("yes")  # type: ignore[arg-type]
    with refused("empty", 1, remedy="write True or False"):
        get_think_format_reward(empty=1)  # type: ignore[arg-type]


def test_names_and_pickles() -> None:
    for reward in (
        get_strict_format_reward(),
        get_soft_format_reward(),
        get_tag_count_reward(),
        get_think_format_reward(),
    ):
        again = pickle.loads(pickle.dumps(reward))
        assert again.__name__ == reward.__name__
        assert reward.__name__.endswith("_reward")
        columns: dict[str, Any] = {"reasoning_tag": ["x"], "prefilled": [True], "tags": ["x"]}
        assert again(completions=[STRICT], **columns) == reward(completions=[STRICT]) == [1.0]


@pytest.mark.parametrize("text", ["<think>" * 1_000_000, "</think>" * 1_000_000, "<think>" + "a" * 10_000_000])
def test_megabytes_of_tags(text: str) -> None:
    assert think_format_reward([text]) == get_think_format_reward(True)(completions=[text]) == [0.0]
