"""The parser: what people write as one number, what is none, and that nothing is slow or raises."""

from __future__ import annotations

import string
import time
from decimal import Decimal
from fractions import Fraction

import pytest
from answers import IS_A_NUMBER, IS_NONE
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grpo_colab.rewards import number_parser
from grpo_colab.rewards.number_parser import first_number, last_number, parse_number, read_number


@pytest.mark.parametrize(("text", "value"), IS_A_NUMBER)
def test_reads_what_people_write(text: str, value: int | str) -> None:
    assert read_number(text) == (Fraction(value), None)
    assert parse_number(text) == Fraction(value)


@pytest.mark.parametrize(("text", "refusal"), IS_NONE, ids=lambda text: ascii(text)[:40])
def test_refuses_the_rest(text: str, refusal: str) -> None:
    assert read_number(text) == (None, refusal)
    assert parse_number(text) is None


FIRST_AND_LAST = [
    ("16 - 3 = 13", 16, 13),
    ("16-3", 16, 3),
    ("it is -3", -3, -3),
    ("16 - 3", 16, 3),
    ("it is: - 3", -3, -3),
    ("It is 1{,}000.", 1000, 1000),
    ("$3.5 million", 3500000, 3500000),
    ("so 3\\frac12 of 4\u00bd", "7/2", "9/2"),
    ("\u0663\u0664 \u0628\u064a\u0636\u0629", 34, 34),
    ("96%", 96, 96),
    ("$1,200.50 for 2", "2401/2", 2),
    ("half is \\frac{1}{2}.", "1/2", "1/2"),
    ("from -\\frac{1}{2} to \\frac{3}{4 }", "-1/2", "3/4"),
    ("no numbers", None, None),
    ("x" * 5000 + "7" + "y" * 5000, 7, 7),
    ("1 " + "x" * 5000 + " 2", 1, 2),
    ("9" * 5000, None, None),
    ("1" + ",111" * 2000, None, None),
    ("", None, None),
    ("\u0661", 1, 1),
]


@pytest.mark.parametrize(("text", "first", "last"), FIRST_AND_LAST, ids=lambda value: ascii(value)[:30])
def test_first_and_last_number(text: str, first: int | str | None, last: int | str | None) -> None:
    assert first_number(text).value == (None if first is None else Fraction(first))
    assert last_number(text).value == (None if last is None else Fraction(last))


STYLES = [
    "{}",
    "  {}\n",
    "**{}**",
    "\\boxed{{{}}}",
    "$\\boxed{{{}}}$",
    "{} eggs",
    "{} km/h",
    "{} cm^2",
    "{}%",
    "The answer is {}.",
    "3 * 6 = {}",
    "\\text{{{} eggs}}",
]
style = st.sampled_from(STYLES)
whole = st.integers(min_value=-(10**300), max_value=10**300)


def _money(number: int) -> str:
    return f"{'-' if number < 0 else ''}${abs(number):,}.00"


@given(number=whole, style=style, write=st.sampled_from([str, "{:,}".format, "{:,}.00".format, _money]))
@settings(deadline=None)
def test_any_integer_in_any_style_is_read_back(number: int, style: str, write) -> None:
    assert parse_number(style.format(write(number))) == number
    assert parse_number(style.format(write(number).replace("-", "\u2212"))) == number


@given(number=st.floats(allow_nan=False, allow_infinity=False), style=style)
@example(number=5e-324, style="{}")
@example(number=1.7976931348623157e308, style="{}%")
@settings(deadline=None)
def test_any_float_in_any_style_is_read_back(number: float, style: str) -> None:
    exact = Fraction(Decimal(repr(number)))
    assert parse_number(style.format(repr(number))) == exact
    assert parse_number(style.format(f"{number:.6f}")) == Fraction(Decimal(f"{number:.6f}"))


@given(top=whole, bottom=st.integers(min_value=1, max_value=10**12), style=style)
@settings(deadline=None)
def test_any_fraction_in_any_style_is_read_back(top: int, bottom: int, style: str) -> None:
    for written in (f"{top}/{bottom}", f"{top} / {bottom}", f"{top:,}/{bottom:,}", f"\\frac{{{top}}}{{{bottom}}}"):
        assert parse_number(style.format(written)) == Fraction(top, bottom)


PIECES = [
    *string.printable,
    *"\u2212\u00b2\u20ac\u0661\u200b\u00bd\ud800",
    "\\frac{",
    "\\boxed{",
    "**",
    "1,000",
    "e9",
    "=",
]
near_numbers = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@given(text=st.text() | near_numbers)
@settings(deadline=None, max_examples=500)
def test_no_text_raises_and_a_value_is_exact_or_refused(text: str) -> None:
    for read in (read_number, first_number, last_number):
        value, refusal = read(text)
        assert (value is None) != (refusal is None)
        assert value is None or type(value) is Fraction


@given(text=st.text() | near_numbers, times=st.sampled_from([1, 30, 1_000, 100_000]))
@settings(deadline=None, max_examples=200)
def test_no_text_takes_over_50_ms(text: str, times: int) -> None:
    """Of this thread's own time, the best of three: the machine may be busy."""
    text = (text * times)[:1_000_000]

    def thread_seconds() -> float:
        start = time.thread_time()
        read_number(text), first_number(text), last_number(text)
        return time.thread_time() - start

    assert min(thread_seconds() for _ in range(3)) < 0.05


@given(text=near_numbers)
@settings(deadline=None)
def test_two_numbers_are_never_one(text: str) -> None:
    between = text.replace("=", "").replace("/", "")  # 17 = 18 states 18, and 17 / 18 is one fraction
    assert parse_number(f"17 {between} 18") is None


UNITS = [
    "9",
    "1,",
    "1 ",
    "1/",
    "$ ",
    "- ",
    "a ",
    "*a",
    "\\boxed{",
    "\\frac{1}{",
    "{}",
    "a=b,",
    "=",
    "n't ",
    "`",
    "\u2212",
]


@pytest.mark.parametrize("unit", UNITS)
def test_time_grows_with_length_not_faster(unit: str) -> None:
    def seconds(size: int) -> float:
        text = (unit * size)[:size]
        return min(_timed(text) for _ in range(3))

    assert seconds(number_parser.MAX_CHARACTERS) < 16 * max(seconds(number_parser.MAX_CHARACTERS // 4), 1e-3)
    assert seconds(2_000_000) < 16 * max(seconds(500_000), 1e-3)


def _timed(text: str) -> float:
    start = time.process_time()
    for read in (read_number, first_number, last_number):
        read(text)
    return time.process_time() - start


FRAMES = [
    "{}",
    "The answer is {}",
    "the answer is: {}.",
    "Final answer: {}",
    "Answer {}",
    "answer is {}",
    "The answer{}",
    "Answer-{}",
]
NUMERALS = [
    "18",
    "-18",
    "$18",
    "$-18",
    "18.00",
    "\\boxed{18}",
    "$\\boxed{-18}$",
    "\\boxed{$18}",
    "**18**",
    "**$18**",
    "**18**.",
]


@pytest.mark.parametrize("frame", FRAMES)
def test_what_has_a_pattern_of_its_own_is_read_as_the_general_way_reads_it(frame: str) -> None:
    for numeral in NUMERALS:
        text = frame.format(numeral)
        assert read_number(text) == number_parser._read.__wrapped__(text, "en"), text
