"""The laws that hold for all graders, on everything that the tables of the parser's tests call a number or none.

What is right strictly is right leniently and softly. `correctness` and `math` agree wherever one number is read. What
is only put around an answer changes nothing, and saying a number twice is saying it.
"""

from __future__ import annotations

from fractions import Fraction

import pytest
from answers import DOES_NOT, DOUBTFUL, HONEST, IS_A_NUMBER, IS_NONE, STATES

from grpo_colab.rewards import correctness_reward, soft_correctness_reward
from grpo_colab.rewards.audit.battery import Battery
from grpo_colab.rewards.grading import grade, lenient_grade, soft_grade
from grpo_colab.rewards.number_parser import read_number

RIGHT = [
    *((text, Fraction(value)) for text, value in IS_A_NUMBER),
    *((text, Fraction(18)) for texts in HONEST.values() for text in texts),
    *((text, Fraction(18)) for text in STATES),
]
NONE = [
    *(text for text, _ in IS_NONE),
    *(text for texts in DOUBTFUL.values() for text in texts),
    *DOES_NOT,
]
# Only Markdown that is well-formed is markup: nothing is bold that has spaces inside its marks, or is bold already.
NOT_IN_BOLD = {" 18\n", "\u00a018\u2009", "The total is:\n\n**$18**\n"}
WITH_A_BOX = {text for text, _ in RIGHT if "boxed" in text and not text.startswith(("\\boxed{", "$\\boxed"))}
WITH_A_BULLET = {
    *("\u2022 18", "* 18", "- **18**", "\u2234 18", "= 18", "=> 18", "---\n18"),
    *("- Eggs: 18", "1. The answer is 18.", "> The answer is 18."),
}
# Round brackets around an amount of money are a minus, and a minus that is apart must come first.
MONEY = {
    text
    for text, _ in RIGHT
    if text.strip("(-.) ")[:1] in "$€£₹\\"
    or text[:2] in ("RM", "US", "CA", "Rs")
    or text in ("($5)", "($1,234.50)", "$(5)", "US$5")
}
APART = {"- 5", "\u2212 5"}

DECORATIONS = {
    "{}.": set(),
    "{},": {"18,"},
    "{}。": set(),
    "{} \u2713": set(),
    "\u2705 {}": WITH_A_BULLET,
    "({})": MONEY | WITH_A_BULLET,
    "[{}]": WITH_A_BULLET,
    "{{{}}}": WITH_A_BULLET,
    "\\left[{}\\right]": WITH_A_BULLET,
    "**{}**": NOT_IN_BOLD | WITH_A_BOX | WITH_A_BULLET,
    "*{}*": NOT_IN_BOLD | WITH_A_BOX | WITH_A_BULLET,
    "`{}`": WITH_A_BULLET,
    "<b>{}</b>": WITH_A_BULLET,
    "<p>{}</p>": WITH_A_BULLET,
    '"{}"': WITH_A_BULLET,
    "«{}»": WITH_A_BULLET,
    "### {}": WITH_A_BULLET,
    "\\({}\\)": WITH_A_BULLET,
    "\\[{}\\]": WITH_A_BULLET,
    "\\text{{{}}}": WITH_A_BULLET,
    "\\boxed{{{}}}": WITH_A_BOX | WITH_A_BULLET,
    "\\displaystyle {}": WITH_A_BULLET,
    " \n{}\n": set(),
    "Answer: {}": MONEY | WITH_A_BULLET,
    "The answer is {}": MONEY | APART | WITH_A_BULLET,
}


@pytest.mark.parametrize("decoration", DECORATIONS)
def test_what_is_only_put_around_an_answer_changes_nothing(decoration: str) -> None:
    for text, value in RIGHT:
        if text not in DECORATIONS[decoration]:
            assert read_number(decoration.format(text)).value == value, decoration.format(text)


@pytest.mark.parametrize("decoration", DECORATIONS)
def test_and_makes_no_number_of_what_is_none(decoration: str) -> None:
    for text in NONE:
        is_dash = text == "\u2014 18" and "nswer" in decoration  # a dash after a label is no minus
        if not is_dash and text.strip() not in ("", ".", "-", "$"):
            read = read_number(decoration.format(text)).value
            assert read is None, decoration.format(text)


AGAIN = [
    "{0} {0}",
    "{0}\n{0}",
    "{0}\nThe final answer is {0}.",
    "{0}. So it is {0}",
    "{0} ({0})",
    "{0}\n\\boxed{{{0}}}",
]
PLAIN = ["18", "-3", "1,000", "1.5", "1/2", "$18", "18%", "300", "½", "٣٤", "eighteen"]


@pytest.mark.parametrize("again", AGAIN)
@pytest.mark.parametrize("plain", PLAIN)
def test_a_number_said_twice_is_one_number(again: str, plain: str) -> None:
    assert read_number(again.format(plain)).value == read_number(plain).value
    assert read_number(again.replace("{0}", "{1}", 1).format(plain, "70.5")).value is None


def _completions() -> list[tuple[str, str]]:
    """Completions with their golds: every right answer of the tables and of the audit, in a block."""
    tables = [(f"<reasoning>\nSo 7.\n</reasoning>\n<answer>\n{text}\n</answer>\n", str(value)) for text, value in RIGHT]
    battery = Battery("answer")
    audit = [(case.text, case.gold) for case in battery.cases("right", battery.styles[0], False)]
    return tables + audit


def test_strictly_right_is_leniently_and_softly_right() -> None:
    for completion, gold in _completions():
        assert grade(completion, gold).right, completion
        assert lenient_grade(completion, gold).right, completion
        assert soft_grade(completion, gold).right, completion
        assert correctness_reward([completion], [gold]) == soft_correctness_reward([completion], [gold]) == [1.0]
    for completion, _ in _completions():
        for function in (grade, lenient_grade, soft_grade):
            assert not function(completion, "1000003").right, completion


def test_the_graders_agree_wherever_one_number_is_read() -> None:
    pytest.importorskip("math_verify", reason="needs grpo_colab[math]")
    from grpo_colab.rewards import math_reward

    completions = [f"<answer>{text}</answer>" for text, _ in RIGHT]
    for golds in ([str(value) for _, value in RIGHT], ["7000001"] * len(RIGHT)):
        paid = math_reward(completions, golds)
        for (text, _), ours, theirs in zip(RIGHT, correctness_reward(completions, golds), paid, strict=True):
            assert ours == theirs, text


def test_math_does_not_pay_either_for_what_states_no_number() -> None:
    pytest.importorskip("math_verify", reason="needs grpo_colab[math]")
    from grpo_colab.rewards import math_reward

    # Expressions, which `math` may work out, are not among them.
    texts = [text for texts in DOUBTFUL.values() for text in texts] + DOES_NOT
    for text, paid in zip(
        texts, math_reward([f"<answer>{text}</answer>" for text in texts], ["18"] * len(texts)), strict=True
    ):
        assert paid == 0.0, text
