"""Find the numerals in a cleaned text, and compute their values, exactly.

A numeral is digits as people write a number: `-3`, `1,000.00`, `1/2`, `3 1/2`, `\\frac{1}{2}`, `3\\frac12`, `1.5e3`,
`1.5×10^3`, with a currency sign or without. `markup.py` cleans the text before. What the words around a numeral make of
it is decided in `number_parser.py`.

Which sign is the decimal one is a setting, and never guessed: `1.234` is one and a bit in English, and over a thousand
in German.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal, NamedTuple

MAX_DIGITS: Final = 400  # of a numeral: more than any float has, and less than the smallest limit of Python's int()
MAX_EXPONENT: Final = 400  # of ten, positive or negative: beyond what a float can hold

MONEY: Final = "$€£¥₹¢₩₽₺₫฿₦₱₪₴₿৳₡₲₸₮₭₼₾"
MINUS: Final = "-−–"
DEFAULT_LOCALE: Final = "en"

Refusal = Literal["many_numbers", "not_a_number", "too_long"]


class Reading(NamedTuple):
    """The result of reading a text: a `value`, or the `refusal` that says why there is none. The other one is None."""

    value: Fraction | None
    refusal: Refusal | None = None


class Locale(NamedTuple):
    """How a language writes numbers: patterns of its grouped digits, and its decimal sign."""

    grouped: str
    decimal: str


_SPACE: Final = "[ \u00a0\u2009\u202f]"
_BY_COMMA: Final = "[1-9][0-9]{0,2}(?:,[0-9]{3})+"
_BY_SPACE: Final = f"[1-9][0-9]{{0,2}}(?:{_SPACE}[0-9]{{3}}(?![0-9]))+"
_BY_APOSTROPHE: Final = "[1-9][0-9]{0,2}(?:['’][0-9]{3})+"
_BY_POINT: Final = r"[1-9][0-9]{0,2}(?:\.[0-9]{3})+"
_CONTINENTAL: Final = Locale(f"{_BY_POINT}|{_BY_SPACE}|{_BY_APOSTROPHE}", ",")
LOCALES: Final = {
    DEFAULT_LOCALE: Locale(_BY_COMMA, "."),  # 1,234.56; Chinese, Japanese and Arabic text, too
    "in": Locale(f"{_BY_COMMA}|[1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}}", "."),  # 12,34,567.89
    "ch": Locale(f"{_BY_APOSTROPHE}|{_BY_SPACE}", "."),  # 1'234.56
    # 1.234,56 or 1 234,56
    **dict.fromkeys(("de", "fr", "es", "it", "pt", "nl", "pl", "ru", "uk", "tr", "id", "vi", "sv", "cs"), _CONTINENTAL),
}


@lru_cache(maxsize=len(LOCALES))
def token(locale: str) -> re.Pattern[str]:
    """Return the pattern of a numeral in a locale; `value_of` reads its groups."""
    grouped, decimal = LOCALES[locale].grouped, re.escape(LOCALES[locale].decimal)
    # [0-9] and never \d, which also matches the digits of every other script.
    numeral = rf"(?:(?:(?:{grouped})|[0-9]+)(?:{decimal}[0-9]+)?|{decimal}[0-9]+)"
    integer = rf"[{MINUS}+]?[0-9]+(?![0-9])"
    ten_to = r"10\s?(?:\^|\*\*)\s?"
    return re.compile(
        rf"""(?P<sign>[{MINUS}]\s?|\+)?(?:[{MONEY}]\s?)?(?P<inner>[{MINUS}+]?)
        (?:(?:(?P<before_fraction>[0-9]+)\s?)?\\[dtc]?frac
            (?:\{{\s?(?P<top_sign>[{MINUS}+]?)(?P<top>{numeral})\s?\}}\s?\{{\s?(?P<bottom>{numeral})\s?\}}
            |(?P<digit_top>[0-9])(?P<digit_bottom>[0-9]))
        |{ten_to}(?P<power_of_ten>{integer})
        |(?P<whole>{numeral})
            (?:[eE](?P<exponent>{integer})
            |\s?(?:[*×·]|(?<=\s)[xX](?=\s))\s?{ten_to}(?P<times_ten_to>{integer})
            |\s?/\s?(?P<divisor>{numeral})
            |[\x20\u00a0\u2009]{{1,3}}(?:and\s)?
                (?P<part_top>[0-9]{{1,9}})\s?/\s?(?P<part_bottom>[0-9]{{1,9}})(?![0-9]))?)""",
        re.VERBOSE,
    )


def value_of(numeral: re.Match[str], locale: str, text: str = "") -> Reading:
    """Return the value of one numeral, a match of `token(locale)`, found in `text`.

    In running text, a sign may be an operator, and not the numeral's: right after a letter, a digit or a closing
    bracket, and with space behind it anywhere but after `=` or `:`. Without `text`, the sign always counts. The refusal
    is `too_long` for too many digits or too large an exponent, and `not_a_number` for two signs around a currency sign,
    a divisor of 0, and a mixed number such as `3 5/2`.
    """
    written = numeral["sign"] or ""
    sign, inner_sign = "" if _is_operator(written, text[: numeral.start()]) else written.strip(), numeral["inner"]
    if numeral.lastgroup == "whole" and not sign and not inner_sign and numeral["whole"].isdigit():  # most of them
        return _integer(numeral["whole"])
    part = numeral.groupdict()
    top = part["whole"] or part["top"] or part["digit_top"] or "1"
    bottom = part["divisor"] or part["bottom"] or part["digit_bottom"] or "1"
    exponent = part["exponent"] or part["times_ten_to"] or part["power_of_ten"] or "0"
    mixed_with = part["before_fraction"] or part["part_bottom"] or ""
    longest = max(sum(map(str.isdigit, digits)) for digits in (top, bottom, mixed_with))
    if longest > MAX_DIGITS or len(exponent.lstrip(f"{MINUS}+0")) > len(str(MAX_EXPONENT)):
        return Reading(None, "too_long")
    power = int(re.sub(f"[{MINUS}]", "-", exponent))
    if abs(power) > MAX_EXPONENT:
        return Reading(None, "too_long")
    (numerator, decimals), (divisor, divisor_decimals) = _scaled(top, locale), _scaled(bottom, locale)
    if (sign and inner_sign) or divisor == 0:
        return Reading(None, "not_a_number")
    power += divisor_decimals - decimals
    value = Fraction(numerator * 10 ** max(power, 0), divisor * 10 ** max(-power, 0))
    if mixed_with:
        mixed = _mixed(part, value)
        if mixed is None:
            return Reading(None, "not_a_number")
        value = mixed
    minus_signs = [sign for sign in (sign, inner_sign, part["top_sign"]) if sign and sign in MINUS]
    return Reading(-value if len(minus_signs) % 2 else value)


def _is_operator(sign: str, before: str) -> bool:
    """Tell whether a sign is an operator, given the text before it."""
    if sign[-1:].isspace():
        return before.rstrip()[-1:] not in ("", "=", ":", "(")
    return before[-1:].isalnum() or before[-1:] in tuple(")]}%")


@lru_cache(maxsize=4096)  # a group of completions gives a handful of answers, one of which is the gold
def _integer(digits: str) -> Reading:
    """Return the value of a numeral that is digits and nothing else."""
    return Reading(None, "too_long") if len(digits) > MAX_DIGITS else Reading(Fraction(int(digits)))


def _mixed(part: dict[str, str | None], value: Fraction) -> Fraction | None:
    """Return the value of a mixed number; None unless a whole number and a fraction below 1 make it up.

    `value` is that of the fraction in `3\\frac12`, and of the whole number in `3 1/2`.
    """
    if part["before_fraction"]:
        whole, fraction = Fraction(int(part["before_fraction"])), value
    else:
        bottom = int(part["part_bottom"] or "0")
        whole, fraction = value, Fraction(int(part["part_top"] or "0"), bottom) if bottom else Fraction(0)
    is_mixed = whole.denominator == 1 and 0 < fraction < 1 and not part["top_sign"]
    return whole + fraction if is_mixed else None


def _scaled(numeral: str, locale: str) -> tuple[int, int]:
    """Return `1234.50` as 123450 and its 2 decimals.

    The numeral has at most `MAX_DIGITS` characters, since int() takes time quadratic in them.
    """
    whole, _, decimals = numeral.partition(LOCALES[locale].decimal)
    return int(re.sub("[^0-9]", "", whole) + decimals), len(decimals)
