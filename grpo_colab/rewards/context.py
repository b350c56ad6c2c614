"""Decide whether what touches a number leaves it what it is: a unit does, and `x12`, `5th`, `18!`, `5k` and `18x` not.

`languages.py` knows the words farther away. Texts are as `markup.clean` returns them.
"""

from __future__ import annotations

import re
from typing import Final

from grpo_colab.rewards.languages import LETTER, SPACELESS, words
from grpo_colab.rewards.numerals import MINUS, MONEY

# The patterns are text, so that they are compiled at their first use and not at import.
# What may be right before and right after the number.
_EDGE_LEFT: Final = (
    rf"(?:^|[\s\"'“‘`:$]|(?<![{LETTER}])(?<![{LETTER}]`)\(|[{SPACELESS}\uac00-\ud7a3]\(?|(?<=[{LETTER}]),"
    rf"|(?<![^\s`(\"'])%)\Z"
)
_EDGE_RIGHT: Final = (
    rf"\Z|[\s)%°\"'”’`;{MONEY}{LETTER}]|:(?=\s|\Z)|\.{{1,2}}(?!\.)|,(?:\s*\Z|\s+[^\s]|[\")'`.$])|-(?=[{LETTER}])"
    rf"|\s?/(?=\s?[{LETTER}])|\((?![a-fi-kn-rt-zA-Z]\))(?=[{LETTER}%°/]+\))"  # 18(cm)
)
PROSE: Final = (
    rf"(?:[{LETTER}{MONEY}\s.,;:'\"“”‘’()%°`#–—]|(?<=[{LETTER}])[!&]|(?<=[{LETTER}%])-(?=[{LETTER}])"
    rf"|(?<=[{LETTER}`])·(?=\s{{0,2}}`?[{LETTER}])|(?<=[{LETTER}`]\s)·(?=\s{{0,2}}`?[{LETTER}])"
    rf"|(?<=[{LETTER}%`])/(?=\s{{0,2}}`?[{LETTER}])|(?<=[{LETTER}%`]\s)/(?=\s{{0,2}}`?[{LETTER}]))*"
)
_UNKNOWN_BEFORE: Final = (
    rf"(?<![{LETTER}'’])(?:[b-zB-Zα-ωΑ-Ω]|[pP][iI])[\s`$]*\Z|\A[\s`$(\"'“«#]*[—–]\s*\Z"  # x 18, and — 18
)
_UNKNOWN_AFTER: Final = rf"(?i)(?<![{LETTER}'’])[xyz](?![{LETTER}-])"  # 18% of x, and not X-rays
_BEFORE_SIGN: Final = rf"(?:^|[:=])[\s(`\"'{MONEY}*#]*\Z"  # of a minus sign that is apart from its number

# The word right after the number.
_PER: Final = rf"\s?/\s?([{LETTER}]+)"
NEXT_WORD: Final = rf"([\s`%°-]*)([{LETTER}]+)"
_ABBREVIATED_SCALES: Final = frozenset({"k", "K", "M", "B", "T", "bn", "mn", "mln", "mil"})  # 5 m, a length
_FACTORS: Final = frozenset({"x", "y", "z", "n", "i", "j", "e", "pi", "squared", "cubed", "mod"})
ORDINAL_WORDS: Final = frozenset(
    f"{stem}{ending}"
    for stem in re.findall(
        "[a-z]+",
        """third four fif six seven eigh nin ten eleven twelf thirteen fourteen fifteen sixteen seventeen eighteen
        nineteen twentie thirtie fortie fiftie sixtie seventie eightie ninetie hundred thousand million billion""",
    )
    for ending in ("th", "ths")
) | {"third", "thirds", "half", "halves"}
_SUFFIXES: Final = frozenset({"st", "nd", "rd", "th", "ish", "odd"})  # 5th, 18ish
# What may be attached to the number: one letter that is no unknown, and units of up to three letters.
_UNIT_LETTERS: Final = frozenset("gmshldpcwvf")
_UNIT_CAPITALS: Final = frozenset("NJΩ")  # n and j are unknowns
_MONEY_SCALES: Final = frozenset({"m", "mm", "k", "b", "bn", "t", "mil"})
SHORT_UNITS: Final = frozenset(
    re.findall(
        "[a-z]+",
        """km kg cm mm ml mg dm dl cl hr hrs ft lb lbs yd yds gb mb kb tb kw mw hz pc pcs px pt pts qt kj kn kmh
    kph mph ppm rpm kwh yr yrs wk wks ct cts gm gms kgs kms cms mls sq gbp chf usd eur yen won min sec day mi in oz gal
    ton tbs tsp cup men egg pen box""",
    )
)


def stands_alone(left: str, numeral: str, right: str) -> bool:
    """Tell whether no letter, sign or suffix next to the numeral makes it something else (x12, 5th, 18!, 5k, 18x)."""
    foreign_money = numeral[0] in MONEY and left[-1:].isalpha()  # US$5
    if not (foreign_money or re.search(_EDGE_LEFT, left[-3:])) or not re.match(_EDGE_RIGHT, right):
        return False
    is_divisor = left.rstrip(" `$").endswith("/")
    if is_divisor or re.search(_UNKNOWN_BEFORE, left[-12:]) or re.search(_UNKNOWN_AFTER, right):
        return False
    is_apart = numeral[0] in MINUS and numeral[1:2].isspace()
    if is_apart and not re.search(_BEFORE_SIGN, left[-20:]):
        return False
    following = re.match(NEXT_WORD, right)
    if following is None:
        per = re.match(_PER, right)
        return per is None or len(per[1]) > 1 or per[1].lower() in _UNIT_LETTERS
    is_money = numeral.lstrip(f"{MINUS}+")[:1] in MONEY and "$" not in right  # two are the marks of mathematics
    if is_money and following[2].lower() in _MONEY_SCALES:  # $18m is no length
        return False
    return _may_follow(following[1], following[2], right[following.end() :])


def _may_follow(gap: str, word: str, rest: str) -> bool:
    """Tell whether `word`, after a number and `gap`, leaves the number what it is: a unit, and no unknown or suffix."""
    lower = word.lower()
    if word in _UNIT_CAPITALS or re.match(rf"-[{LETTER}]{{2}}", rest):  # T-shirts
        return True
    if word in _ABBREVIATED_SCALES or lower in _FACTORS or (gap in ("", "-") and lower in _SUFFIXES):
        return False
    if len(word) == 1 and word.isalpha():
        is_article = word in "aAI" and gap.isspace() and bool(words(rest))  # "$18 a day"
        return lower in _UNIT_LETTERS or is_article or (not word.isascii() and not "α" <= lower <= "ω")
    return gap != "" or len(word) > 3 or lower in SHORT_UNITS or not word.isascii()
