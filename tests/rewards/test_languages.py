"""Other languages and scripts: doubt is doubt, a unit is a unit, and a digit is a digit, in all of them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from answers import DOUBTFUL, HONEST

from grpo_colab.errors import SettingError
from grpo_colab.rewards.grading import check_grading, gold_number, grade
from grpo_colab.rewards.languages import word_tables
from grpo_colab.rewards.number_parser import first_number, last_number, parse_number, read_number
from grpo_colab.rewards.numerals import LOCALES


@pytest.mark.parametrize("text", [text for texts in HONEST.values() for text in texts])
def test_an_honest_answer_is_read(text: str) -> None:
    assert read_number(text) == (Fraction(18), None)


@pytest.mark.parametrize("text", [text for texts in DOUBTFUL.values() for text in texts])
def test_doubt_does_not_pay(text: str) -> None:
    assert read_number(text).value != 18


@pytest.mark.parametrize("language", word_tables())
def test_every_doubtful_word_is_found_where_it_counts(language: str) -> None:
    row = word_tables()[language]
    anywhere, next_to, after = (row.get(place, "") for place in ("anywhere", "next_to", "after"))
    scales = {"hundred", "thousand", "million", "billion", "trillion", "dozen", "lakh", "crore"}
    for word in (word.removesuffix("*") for word in f"{anywhere} {next_to}".split()):
        assert read_number(_put(word, f"{word} 18")).value != 18, word
        assert read_number(_put(word, f"{word} 18").upper()).value != 18, word
    for word in (word.removesuffix("*") for word in f"{anywhere} {after}".split()):
        read = read_number(_put(word, f"18 {word}")).value
        assert read != 18 and (read is None or word.removesuffix("s") in scales), word


SCRIPTS = {
    "Arabic": "٣٤",
    "Persian": "۳۴",
    "Devanagari": "३४",
    "Bengali": "৩৪",
    "Tamil": "௩௪",
    "Thai": "๓๔",
    "Khmer": "៣៤",
    "Burmese": "၃၄",
    "full width": "３４",
    "mathematical bold": "𝟑𝟒",
}


@pytest.mark.parametrize("digits", SCRIPTS.values(), ids=SCRIPTS)
def test_digits_of_every_script_are_digits(digits: str) -> None:
    one, other = digits
    for text in (digits, f"{digits}.", f"({digits})", f"**{digits}**", f"\\boxed{{{digits}}}", f"= {digits}"):
        assert parse_number(text) == 34, text
    assert parse_number(f"-{digits}") == -34
    assert parse_number(f"{digits}.{one}") == Fraction("34.3")
    assert gold_number(digits) == 34
    assert first_number(f"a {digits} b").value == last_number(f"a {digits} b").value == 34
    assert grade(f"<answer>{digits}</answer>", "34").right and grade("<answer>34</answer>", digits).right
    for text in (f"{one} {other}", f"{one}4", f"3{other}", f"{one}\u200b{other}", f"\u200f{digits}"):
        assert parse_number(text) != 34, text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("－18", -18),
        ("18％", 18),
        ("＄18", 18),
        ("（18）", 18),
        ("ｘ＝18", 18),
        ("１，０００", 1000),
        ("１．５", "3/2"),
        ("١٬٢٣٤٫٥", "2469/2"),
        ("٣٤٪", 34),
        ("负5", -5),
        ("18、", 18),
        ("18。", 18),
        ("«18»", 18),
    ],
)
def test_signs_of_other_scripts_are_signs(text: str, value: int | str) -> None:
    assert parse_number(text) == Fraction(value)


LOCAL = {
    "de": [("1.234,56", "30864/25"), ("1 234,56", "30864/25"), ("12,5", "25/2"), ("1'234", 1234), ("1.234", 1234)],
    "fr": [("1 234,56 €", "30864/25"), ("1\u202f234\u202f567", 1234567), ("-0,5", "-1/2"), ("x = 1 234", 1234)],
    "ch": [("1'234.56", "30864/25"), ("1’234", 1234), ("12.5", "25/2")],
    "in": [("12,34,567.5", "2469135/2"), ("1,234,567", 1234567), ("₹ 5,00,000", 500000)],
    "en": [("1,234.56", "30864/25"), ("1.234", "617/500")],
}


@pytest.mark.parametrize(("locale", "text", "value"), [(key, *case) for key, cases in LOCAL.items() for case in cases])
def test_how_a_number_is_written_is_a_setting(locale: str, text: str, value: int | str) -> None:
    assert parse_number(text, locale) == Fraction(value)
    assert grade(f"<answer>{text}</answer>", text, locale=locale).right


@pytest.mark.parametrize(
    ("locale", "text"),
    [
        ("en", "1.234,56"),
        ("en", "1 234,56"),
        ("en", "12,5"),
        ("en", "1'234"),
        ("en", "12,34,567"),
        ("de", "12.50"),
        ("de", "1,234.5"),
        ("de", "1.23.456"),
        ("de", "12 5"),
        ("de", "1 2345"),
        ("ch", "12,5"),
        ("in", "12,5"),
    ],
)
def test_and_is_never_guessed(locale: str, text: str) -> None:
    assert parse_number(text, locale) is None


def test_the_locales_that_there_are() -> None:
    for locale in LOCALES:
        check_grading("answer_tag", locale, 0.0)
        assert parse_number("18", locale) == parse_number("The answer is 18.", locale) == 18
    with pytest.raises(SettingError, match="locale") as error:
        check_grading("answer_tag", "klingon", 0.0)
    assert error.value.value == "klingon"


def _put(word: str, text: str) -> str:
    return word.replace("_", " ").replace("N", "18").replace("$", "").strip() if {"N", "$"} & set(word) else text
