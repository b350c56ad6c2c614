"""Grading a completion: the table of verdicts, the real gold answers, and cheats that must not pay."""

from __future__ import annotations

import copy
import json
import pickle
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grpo_colab.errors import SettingError
from grpo_colab.rewards import REASONS, Verdict, gold_number, grade, lenient_grade
from grpo_colab.rewards.grading import TAGS, answer_block, check_grading, soft_grade

VERDICTS = [
    ("<answer>18</answer>", "right"),
    ("<answer>\n18\n</answer>", "right"),
    ("<reasoning>\nNine eggs\nat $2: 18\n</reasoning>\n<answer>\n18\n</answer>\n", "right"),
    ("<answer>$18.00</answer>", "right"),
    ("<answer>**18 eggs**</answer>", "right"),
    ("<answer>9 * 2 = 18</answer>", "right"),
    ("<answer>36/2</answer>", "right"),
    ("<answer>1.8e1</answer>", "right"),
    ("17 19 <answer>18</answer> 20", "right"),
    ("<answer>19</answer>", "wrong"),
    ("<answer>-18</answer>", "wrong"),
    ("<answer>18.000000000000000000000001</answer>", "wrong"),
    ("<reasoning>18</reasoning><answer>19</answer>", "wrong"),
    ("", "no_tag"),
    ("18", "no_tag"),
    ("The answer is 18.", "no_tag"),
    ("18</answer>", "no_tag"),
    ("<ANSWER>18</ANSWER>", "no_tag"),
    ("< answer >18</ answer >", "no_tag"),
    ("<answer id=1>18</answer>", "no_tag"),
    ("<answer>17</answer><answer>18</answer>", "many_tags"),
    ("<answer>18</answer><answer>18</answer>", "many_tags"),
    ("<answer>18</answer>" * 100, "many_tags"),
    ("<answer><answer>18</answer></answer>", "many_tags"),
    ("<answer>18</answer></answer>", "many_tags"),
    ("<answer><answer>18</answer>", "many_tags"),
    ("<answer>18", "unclosed"),
    ("<answer>18<answer/>", "unclosed"),
    ("</answer>18<answer>", "unclosed"),
    ("</answer><answer>18", "unclosed"),
    ("<answer>17 18 19</answer>", "many_numbers"),
    ("<answer>17 or 18</answer>", "many_numbers"),
    ("<answer>" + ", ".join(map(str, range(100))) + "</answer>", "many_numbers"),
    ("<answer></answer>", "not_a_number"),
    ("<answer>not 18</answer>", "not_a_number"),
    ("<answer><reasoning>18</reasoning></answer>", "no_tag"),
    ("<answer>answer</answer>", "not_a_number"),
    ("<answer>\u200f18</answer>", "not_a_number"),
    # after the reasoning, which may name the marks
    ("<think>I put it in <answer> tags: <answer>17</answer></think><answer>18</answer>", "right"),
    ("<reasoning><answer>18</answer></reasoning><answer>17</answer>", "wrong"),
    ("<think><answer>18</answer></think>", "no_tag"),
    ("<answer>18</answer></reasoning>", "no_tag"),
    ("<think>17</think><think>19</think><answer>18</answer>", "right"),
    ("<think>17 <answer>18</answer>", "right"),
    ("<think>17</think><answer>18</answer><answer>18</answer>", "many_tags"),
    ("<answer>" + "9" * 10_000 + "</answer>", "too_long"),
    ("<answer>" + "18 is it. " * 1000 + "</answer>", "too_long"),
    ("<answer>" + "\x00" * 2_000 + "</answer>", "too_long"),
]


@pytest.mark.parametrize(("completion", "reason"), VERDICTS, ids=lambda text: ascii(text)[:40])
def test_verdicts(completion: str, reason: str) -> None:
    verdict = grade(completion, "18")
    assert verdict.reason == reason
    assert verdict.right is (reason == "right")
    assert (verdict.value is not None) is (reason in {"right", "wrong"})


PLACES = [
    ("boxed", r"So \boxed{18}.", "right"),
    ("boxed", r"<think>\boxed{17}</think> It is $\boxed{18\text{ eggs}}$", "right"),
    ("boxed", r"\boxed{18} and again \boxed{18}", "right"),
    ("boxed", r"\boxed{\frac{36}{2}}", "right"),
    ("boxed", r"\boxed{17} or \boxed{18}", "many_numbers"),
    ("boxed", r"\boxed{17}, \boxed{18}", "many_numbers"),
    ("boxed", r"\boxed{17}, no: \boxed{18}", "many_numbers"),
    ("boxed", r"It is not \boxed{18}", "not_a_number"),
    ("boxed", r"Is it \boxed{18}?", "not_a_number"),
    ("boxed", r"$x \ge \boxed{18}$", "not_a_number"),
    ("boxed", r"x > \boxed{18}", "not_a_number"),
    ("boxed", r"<b>So</b>\boxed{18}", "right"),
    ("boxed", r"It cannot be $\boxed{18}$", "not_a_number"),
    ("boxed", r"\boxed{18} is not it", "not_a_number"),
    ("boxed", r"答案不是\boxed{18}", "not_a_number"),
    ("boxed", r"The number of pages not read is \boxed{18}.", "right"),
    ("boxed", r"So $9 \times 2 = \boxed{18}$", "right"),
    ("boxed", r"The other half is \boxed{18}", "right"),
    ("boxed", r"\boxed{not 18}", "not_a_number"),
    ("boxed", r"\boxed{17} <answer>18</answer>", "wrong"),
    ("boxed", r"\boxed{18", "unclosed"),
    ("boxed", r"\boxed 18", "unclosed"),
    ("boxed", r"<think>\boxed{18}", "unclosed"),
    ("boxed", r"<think>\boxed{18}</think>", "no_tag"),
    ("boxed", "<answer>18</answer>", "no_tag"),
    ("hash", "16 + 2\n#### 18", "right"),
    ("hash", "#### $18.00\nDone.", "right"),
    ("hash", "#### 17\n18", "wrong"),
    ("hash", "#### 17\n#### 18", "many_tags"),
    ("hash", "<think>#### 17</think>#### 18", "right"),
    ("hash", "18", "no_tag"),
    ("hash", "####", "not_a_number"),
    ("SOLUTION", "<SOLUTION>18</SOLUTION>", "right"),
    ("SOLUTION", "<answer>18</answer>", "no_tag"),
    ("SOLUTION", "<SOLUTION>18", "unclosed"),
    ("SOLUTION", "<SOLUTION>17</SOLUTION><SOLUTION>18</SOLUTION>", "many_tags"),
]


@pytest.mark.parametrize(("answer_in", "completion", "reason"), PLACES)
def test_the_answer_is_where_the_setting_says(answer_in: str, completion: str, reason: str) -> None:
    assert grade(completion, "18", answer_in=answer_in).reason == reason
    if reason == "right":
        assert soft_grade(completion, "18", answer_in=answer_in).right
        assert lenient_grade(completion, "18", answer_in=answer_in).right


def test_soft_reads_the_whole_completion_where_nothing_is_marked() -> None:
    assert soft_grade("18, or 19", "18", answer_in="boxed").right
    assert soft_grade("18, or 19", "18", answer_in="hash").right
    assert not soft_grade("18 <SOLUTION>17</SOLUTION>", "18", answer_in="SOLUTION").right
    assert soft_grade("18 <SOLUTION>17</SOLUTION>", "18").right


@pytest.mark.parametrize(
    ("answer", "tolerance", "right"),
    [
        ("3.33333333", 0.0, False),
        ("3.33333333", 1e-6, True),
        ("3.3", 1e-6, False),
        ("3.3", 0.01, True),
        ("-3.33333333", 0.01, False),
        ("10/3", 0.0, True),
        ("0", 0.5, False),
    ],
)
def test_tolerance_is_a_share_of_the_gold(answer: str, tolerance: float, right: bool) -> None:
    assert grade(f"<answer>{answer}</answer>", "10/3", tolerance=tolerance).right is right


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("answer_in", "<answer>", "the name of a tag"),
        ("answer_in", "", "'answer_tag', 'boxed', 'hash'"),
        ("answer_in", 3, "'answer_tag', 'boxed', 'hash'"),
        ("locale", "klingon", "one of 'en'"),
        ("locale", ["de"], "one of 'en'"),
        ("tolerance", 1.0, "from 0 to below 1"),
        ("tolerance", -0.1, "from 0 to below 1"),
        ("tolerance", float("nan"), "from 0 to below 1"),
        ("tolerance", True, "from 0 to below 1"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(setting: str, value: object, remedy: str) -> None:
    good = {"answer_in": "answer_tag", "locale": "en", "tolerance": 0.0}
    check_grading(**good)
    with pytest.raises(SettingError) as error:
        check_grading(**{**good, setting: value})
    assert error.value.setting == setting and remedy in str(error.value.remedy)


@pytest.mark.parametrize(
    ("gold", "value"),
    [
        ("9 * 2 = 18\n#### 18", 18),
        ("#### 1,450", 1450),
        ("a #### 1 #### 2", 2),
        ("18元", 18),
        ("34 بيضة", 34),
        ("½", "1/2"),
    ],
)
def test_golds_as_data_sets_write_them(gold: str, value: int | str) -> None:
    assert gold_number(gold) == Fraction(value)


def test_every_reason_is_met_and_listed() -> None:
    assert {reason for _, reason in VERDICTS} == set(REASONS)


@pytest.mark.parametrize(("answer", "gold"), [("1000", "1,000"), ("$1,000.00", "1000"), ("0.5", "1/2"), ("50", "50%")])
def test_the_gold_goes_through_the_same_parser(answer: str, gold: str) -> None:
    assert grade(f"<answer>{answer}</answer>", gold).right


def test_verdicts_are_values() -> None:
    verdict = grade("<answer>18</answer>", "18")
    assert verdict == Verdict("right", Fraction(18))
    assert pickle.loads(pickle.dumps(verdict)) == copy.deepcopy(verdict) == verdict
    with pytest.raises(AttributeError):
        verdict.reason = "wrong"  # type: ignore[misc]


@pytest.mark.parametrize("function", [grade, lenient_grade, soft_grade])
@pytest.mark.parametrize(
    ("arguments", "words"), [((18, "18"), "completion, got int"), (("18", None), "gold, got None")]
)
def test_what_is_not_a_string_is_a_type_error(function, arguments, words: str) -> None:
    with pytest.raises(TypeError, match=words) as error:
        function(*arguments)
    assert function.__name__ in str(error.value)


@pytest.mark.parametrize("gold", ["", "eggs", "17 or 18", "2x = 18", "9" * 5000])
def test_a_gold_that_is_no_number_raises_and_is_named(gold: str) -> None:
    for call in (lambda: gold_number(gold), lambda: grade("<answer>18</answer>", gold), lambda: grade("", gold)):
        with pytest.raises(ValueError, match="gold answer is not one number") as error:
            call()
        assert repr(gold[:30])[:-1] in str(error.value)
        assert len(str(error.value)) < 200
    with pytest.raises(TypeError, match="int: 18"):
        gold_number(18)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("completion", "reason"),
    [
        ("9 * 2 = 18", "right"),
        ("16-3 is 13, so 18.", "right"),
        ("<answer>18", "right"),
        ("<answer>18</answer> not 19", "right"),  # as grade says
        ("<answer>17</answer> 18", "right"),
        ("so it is 1{,}800", "wrong"),
        ("18 is it, 1.8e1 too", "right"),
        ("it costs $18 million", "wrong"),
        ("19 - 18", "right"),
        ("17 or 18", "right"),
        ("none", "not_a_number"),
        ("9" * 5000, "too_long"),
    ],
)
def test_lenient_takes_the_last_number(completion: str, reason: str) -> None:
    assert lenient_grade(completion, "18").reason == reason


def test_blocks() -> None:
    assert answer_block("a<answer> b </answer>c") == " b "
    assert TAGS == ("<reasoning>", "</reasoning>", "<answer>", "</answer>")


PIECES = [
    *TAGS,
    "<think>",
    "</think>",
    "18",
    "17",
    ",",
    "$",
    " ",
    "\n",
    "=",
    "or",
    "\u2212",
    "\\boxed{",
    "}",
    "\u200b",
    "9" * 999,
]


@given(completion=st.text() | st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
@settings(deadline=None, max_examples=300)
def test_any_text_gets_a_verdict(completion: str) -> None:
    for function in (grade, lenient_grade, soft_grade):
        assert function(completion, "18").reason in REASONS


@given(
    other=st.integers().filter(lambda number: number != 18),
    between=st.text(max_size=20).filter(lambda text: "</" not in text),  # what closes a thought leaves one guess
)
@settings(deadline=None)
def test_more_guesses_never_pay(other: int, between: str) -> None:
    assert not grade(f"<answer>{other} {between.replace('=', '')} 18</answer>", "18").right
    assert not grade(f"<answer>{other}</answer>{between}<answer>18</answer>", "18").right
    assert not grade(f"18{between}<answer>{other}</answer>{between}18", "18").right


MEGABYTES = [
    "<answer>",
    "</answer>",
    "<answer></answer>",
    "9",
    "1,000",
    "$ ",
    "\\frac{1",
    " ",
    "<reasoning>\n",
    "\u0661",
]


@pytest.mark.parametrize("unit", MEGABYTES)
def test_grading_is_linear_at_megabytes(unit: str) -> None:
    def seconds(size: int) -> float:
        body = (unit * size)[:size]
        return min(_timed(body), _timed(body), _timed(body))

    assert seconds(4_000_000) < 16 * max(seconds(1_000_000), 1e-3)


def _timed(body: str) -> float:
    start = time.process_time()
    for function in (grade, lenient_grade, soft_grade):
        function(body, "18")
        function(f"<answer>{body}</answer>", "18")
    return time.process_time() - start


TWELVE_STYLES = [
    "{}",
    "${}",
    "{}.00",
    "{} eggs",
    "**{}**",
    "\\boxed{{{}}}",
    "$\\boxed{{{}}}$",
    "The answer is {}.",
    "{} km/h",
    "{}%",
    "x = {}",
    "\n  {} dollars.\n",
]


def test_every_gold_answer_of_gsm8k_in_twelve_styles(gsm8k: Path) -> None:
    rows = [json.loads(line) for name in ("train", "test") for line in (gsm8k / f"{name}.jsonl").open(encoding="utf-8")]
    golds = [row["answer"].rpartition("####")[2].strip() for row in rows]
    assert len(golds) == 8792
    for gold in set(golds):
        assert gold_number(gold) == int(gold.replace(",", ""))
        plain = gold.replace(",", "")
        for style in TWELVE_STYLES:
            for written in {gold, plain, f"{int(plain):,}"}:
                assert grade(f"<answer>{style.format(written)}</answer>", gold).right, (style, written)
        assert not grade(f"<answer>{int(plain) + 1}</answer>", gold).right
    for row, gold in zip(rows, golds, strict=True):
        assert lenient_grade(row["answer"], gold).right, row["answer"]
