"""Read the one number that a short text states, exactly. Rewards, evaluation and gold answers all read numbers here.

So what training pays is what evaluation counts.

A text states a number when it has exactly one, in one of the ways people write one (`-3`, `$1,000.00`, `50%`, `1/2`,
`\\frac{1}{2}`, `1.5e3`, `**18**`, `\\boxed{18}`, `5 km/h`, "The answer is 18.", `3 * 6 = 18`), and nothing around it
changes its meaning ("not 18", "about 18", "5 thousand").

Doubtful texts are refused: to pay for a doubtful answer teaches doubtful answers, and to refuse one costs a single
sample. So mixed numbers ("3 1/2"), number words, a detached minus ("- 18") and digits of other scripts are no numbers
here.

A text longer than `MAX_CHARACTERS` is refused unread, which bounds the cost. `first_number` and `last_number` find one
digit by a linear scan, then read as many characters around it. No string makes these functions raise.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal, NamedTuple

MAX_CHARACTERS: Final = 1_000  # of a text that states one number
MAX_WORDS: Final = 20  # around the number
MAX_DIGITS: Final = 400  # of a numeral: more than any float has, and less than the smallest limit of Python's int()
MAX_EXPONENT: Final = 400  # of ten, positive or negative: beyond what a float can hold

Refusal = Literal["many_numbers", "not_a_number", "too_long"]


class Reading(NamedTuple):
    """The result of reading a text: a `value`, or the `refusal` that says why there is none. The other one is None."""

    value: Fraction | None
    refusal: Refusal | None = None


_LETTER: Final = "A-Za-zµÀ-ÖØ-öø-ɏ"  # Latin letters only: in other scripts the parser does not know "or" and "not"
_MONEY: Final = "$€£¥₹¢"
# [0-9] and never \d, which also matches the digits of every other script.
_NUMERAL: Final = r"(?:(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
_TOKEN: Final = re.compile(
    rf"""(?P<sign>[-+−]?)(?:\\?[{_MONEY}]\s?)?(?P<inner>[-+−]?)
    (?:\\[dtc]?frac
        (?:\{{\s?(?P<top_sign>[-+−]?)(?P<top>{_NUMERAL})\s?\}}\s?\{{\s?(?P<bottom>{_NUMERAL})\s?\}}
        |(?P<digit_top>[0-9])(?P<digit_bottom>[0-9]))
    |(?P<whole>{_NUMERAL})(?:[eE](?P<exponent>[-+−]?[0-9]+)|\s?/\s?(?P<divisor>{_NUMERAL}))?)""",
    re.VERBOSE,
)
_PLAIN: Final = re.compile(r"-?[0-9]{1,18}")  # nine answers of ten, which need none of the checks below
_DIGIT: Final = re.compile(r"[0-9]")

# Markup. Each piece is replaced by a backtick, and not removed, so that unwrapping never joins two numbers into one.
_MARKUP: Final = frozenset("\\{*_`^²³")
_ESCAPE: Final = re.compile(r"\\([$%])")
_SPACING: Final = re.compile(r"\\[,;:!()\[\] ]")
_WRAPPER: Final = re.compile(
    r"\\(?:boxed|fbox|mbox|text(?:bf|it|rm)?|math(?:bf|it|rm))\s?\{((?:[^{}]++|\{[^{}]*+\})*+)\}"
)
_WRAPPER_DEPTH: Final = 4
_EMPHASIS: Final = re.compile(r"(?<![\w*`])[*_`]++(?=\S)|(?<=[^\s*_`])[*_`]++(?!\w)")
_UNIT_POWER: Final = re.compile(rf"(?<=[{_LETTER}])(`?)(?:\^(?:[23]|\{{[23]\}})(?![0-9]|\.[0-9])|[²³])")

# What may be around the number.
_BEFORE_EQUALS: Final = re.compile(rf"[{_LETTER}{_MONEY}0-9\s.,;:'\"“”‘’()\[\]{{}}|%°`#&@*_^+/\\×÷·²³=−–—-]*(?<!/)")
_TWO_EQUATIONS: Final = re.compile(r"=[^=\n]*(?:[,;](?![0-9])|\band\b)")  # "x = 17, y = 18"
_EDGE_LEFT: Final = re.compile(rf"(?:^|[\s\"'“‘`:$]|(?<![{_LETTER}`])\()\Z")
_EDGE_RIGHT: Final = re.compile(
    rf"\Z|[\s)%°\"'”’`;:{_MONEY}{_LETTER}]|\.(?!\.)|,\s+[^\s)]|-(?=[{_LETTER}])|\s?/(?=\s?[{_LETTER}])"
)
_PROSE: Final = re.compile(
    rf"(?:[{_LETTER}{_MONEY}\s.,;:'\"“”‘’()%°`#–—]|(?<=[{_LETTER}])[!&]|(?<=[{_LETTER}%])-(?=[{_LETTER}])"
    rf"|(?<=[{_LETTER}%])/(?=\s?[{_LETTER}])|(?<=[{_LETTER}%]\s)/(?=\s?[{_LETTER}]))*"
)
_WORD: Final = re.compile(rf"[{_LETTER}]+")
_NEGATED: Final = re.compile(r"n['’]t\b", re.IGNORECASE)
NUMBER_WORDS: Final = frozenset(
    _WORD.findall("""zero two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety""")
)
CHANGES_MEANING: Final = frozenset(
    _WORD.findall("""not no never nor neither none cannot except but unlike wrong incorrect false or either
    maybe perhaps possibly probably likely might could between vs versus unknown least most approximately
    approx roughly nearly almost circa estimate estimated half halves tenths hundredths thousandths hundred
    hundreds thousand thousands million millions billion billions trillion trillions dozen dozens lakh lakhs
    crore crores minus negative plus opposite divided multiplied power root factorial sqrt log ln infinity inf
    nan tens hexadecimal binary octal ne neq sim le leq ge geq lt gt pm""")  # ne to pm are LaTeX's: \neq, \sim, \leq
)
CHANGES_WHAT_FOLLOWS: Final = frozenset(
    _WORD.findall("""about around than over under above below beyond exceed exceeds exceeding times twice
    thrice double triple third thirds quarter quarters fifth fifths tenth tenths percent besides excluding
    excludes sin cos tan""")
)
_BEFORE_IT: Final = [["up", "to"], ["close", "to"], ["square", "of"], ["cube", "of"]]
_NEXT_WORD: Final = re.compile(rf"[\s`%°]*([{_LETTER}]+)")
_SCALES: Final = frozenset({"k", "K", "M", "B", "T", "bn", "mn", "mln", "mil"})  # case matters: 5 m is a length
_FACTORS: Final = frozenset({"x", "y", "z", "n", "i", "j", "e", "pi", "squared", "cubed", "mod"})
_SUFFIXES: Final = frozenset({"st", "nd", "rd", "th", "ish"})  # 5th, 18ish


def parse_number(text: str) -> Fraction | None:
    """Return the one number that `text` states, or None; `read_number` also says why there is none.

    No string makes it raise.
    """
    return read_number(text).value


def read_number(text: str) -> Reading:
    """Read the one number that `text` states; in an equation, the value after the last `=`.

    The refusal is `too_long` for more than 1,000 characters, 20 words or 400 digits, or an exponent above 400. It is
    `many_numbers` where the text states several numbers, and `not_a_number` otherwise. No string makes it raise. Takes
    a few milliseconds at most.
    """
    text = text.strip()
    if len(text) > MAX_CHARACTERS:
        return Reading(None, "too_long")
    if _PLAIN.fullmatch(text):
        return _plain(text)
    before, _, statement = _unwrap(text).rpartition("=")
    numerals = list(_TOKEN.finditer(statement))
    if len(numerals) != 1:
        many = len(numerals) > 1 and not _are_one_word(statement, numerals)
        return Reading(None, "many_numbers" if many else "not_a_number")
    numeral = numerals[0]
    refusal = _doubt(before, statement[: numeral.start()], numeral.group(), statement[numeral.end() :])
    return Reading(None, refusal) if refusal else _value(numeral)


@lru_cache(maxsize=4096)  # a group of completions gives a handful of answers, one of which is the gold
def _plain(text: str) -> Reading:
    """Read a text that is an integer and nothing else."""
    return Reading(Fraction(int(text)))


def first_number(text: str) -> Reading:
    """Read the first numeral in `text`, whatever is around it, in time linear in the length of `text`.

    The refusal is `not_a_number` without a digit, or for a numeral without a value, such as 1/0. It is `too_long` for a
    numeral that is too long to be read. No string makes it raise.
    """
    digit = _DIGIT.search(text)
    if digit is None:
        return Reading(None, "not_a_number")
    start = max(0, digit.start() - 20)  # room for a sign, a currency sign and `\frac{`
    window = text[start : start + MAX_CHARACTERS]
    numeral = next(_TOKEN.finditer(window))
    goes_on = numeral.end() == len(window) < len(text) - start
    return Reading(None, "too_long") if goes_on else _value(numeral, window)


def last_number(text: str) -> Reading:
    """Read the last numeral in `text`, whatever is around it, in time linear in the length of `text`.

    The refusal is `not_a_number` without a digit, or for a numeral without a value, such as 1/0. It is `too_long` for a
    numeral that is too long to be read. No string makes it raise.
    """
    end = max(text.rfind(digit) for digit in "0123456789") + 1
    if end == 0:
        return Reading(None, "not_a_number")
    start = max(0, end - MAX_CHARACTERS)
    window = text[start : end + 2]  # room for the end of `\frac{1}{2 }`
    *_, numeral = _TOKEN.finditer(window)
    began_before = numeral.start() == 0 < start
    return Reading(None, "too_long") if began_before else _value(numeral, window)


def _unwrap(text: str) -> str:
    """Return `text` without LaTeX wrappers, emphasis and the powers of units."""
    if _MARKUP.isdisjoint(text):
        return text
    if "\\" in text or "{" in text:
        text = text.replace("{,}", ",").replace(",\\!", ",")  # thousands, as LaTeX writes them
        text = _SPACING.sub(" ", _ESCAPE.sub(r"\1", text))
        for _ in range(_WRAPPER_DEPTH):
            text = _WRAPPER.sub(r" `\1`", text)
    return _UNIT_POWER.sub(r"\1", _EMPHASIS.sub("`", text))


def _are_one_word(text: str, numerals: list[re.Match[str]]) -> bool:
    """Tell whether the first two numerals are in one word (12:30, 0x12, 1.2.3), and not two numbers (4 or 5; 1,2)."""
    gap = text[numerals[0].end() : numerals[1].start()]
    return not re.search(r"[\s,;]", gap) and numerals[1].group()[0] not in "-+−" + _MONEY


def _doubt(before: str, left: str, numeral: str, right: str) -> Refusal | None:
    """Return why the one numeral in a text is not the number that the text states, or None if it is.

    `left` and `right` are what surrounds it, and `before` is what precedes the last `=`. The refusal is `too_long` for
    more than MAX_WORDS words in all three. It is `many_numbers` for a number word, and for another equation in
    `before`. It is `not_a_number` for a sign, a suffix, a symbol or a word that makes it something else. Units, percent
    and prose are allowed.
    """
    leading, trailing = words(f"{before} {left}"), words(right)
    all_words = {*leading, *trailing}
    if len(leading) + len(trailing) > MAX_WORDS:
        return "too_long"
    if not NUMBER_WORDS.isdisjoint(all_words) or _TWO_EQUATIONS.search(before):
        return "many_numbers"
    clear = (
        _BEFORE_EQUALS.fullmatch(before)
        and _stands_alone(left, numeral, right)
        # With a letter in place of the numeral, the hyphen of "18-inch" is one between letters.
        and _PROSE.fullmatch(f"{left}N{right}")
        and CHANGES_MEANING.isdisjoint(all_words)
        and CHANGES_WHAT_FOLLOWS.isdisjoint(words(left))
        and leading[-2:] not in _BEFORE_IT
        and trailing[:2] != ["and", "a"]  # "18 and a quarter"
        and not _NEGATED.search(f"{before} {left} {right}")
    )
    return None if clear else "not_a_number"


def words(text: str) -> list[str]:
    """Return the Latin words of `text`, in lower case."""
    return [word.lower() for word in _WORD.findall(text)]


def _stands_alone(left: str, numeral: str, right: str) -> bool:
    """Tell whether no letter, sign or suffix next to the numeral makes it something else (x12, 5th, 18!, 5k, 18x)."""
    foreign_money = numeral[0] in _MONEY and left[-1:].isalpha()  # US$5
    if not (foreign_money or _EDGE_LEFT.search(left)) or not _EDGE_RIGHT.match(right):
        return False
    following = _NEXT_WORD.match(right)
    if following is None:
        return True
    word = following[1]
    is_attached = following.start(1) == 0
    is_suffix = is_attached and word.lower() in _SUFFIXES
    return not (word in _SCALES or word.lower() in _FACTORS or is_suffix)


def _value(numeral: re.Match[str], text: str = "") -> Reading:
    """Return the value of one numeral, a match of `_TOKEN`, found in `text`.

    In running text, a sign right after a letter, a digit or a closing bracket is an operator, and not the numeral's.
    Without `text`, the sign always counts. The refusal is `too_long` for too many digits or too large an exponent, and
    `not_a_number` for two signs around a currency sign or a divisor of 0.
    """
    part = numeral.groupdict()
    top = (part["whole"] or part["top"] or part["digit_top"]).replace(",", "")
    bottom = (part["divisor"] or part["bottom"] or part["digit_bottom"] or "1").replace(",", "")
    exponent = (part["exponent"] or "0").replace("−", "-")
    if max(len(top), len(bottom)) > MAX_DIGITS or len(exponent.lstrip("+-0")) > len(str(MAX_EXPONENT)):
        return Reading(None, "too_long")
    power = int(exponent)
    if abs(power) > MAX_EXPONENT:
        return Reading(None, "too_long")
    previous = text[numeral.start() - 1 : numeral.start()]
    is_operator = previous.isalnum() or previous in tuple(")]}%")
    outer_sign = "" if is_operator else part["sign"]  # before a currency sign; the inner one is after it
    numerator, decimals = _scaled(top)
    divisor, divisor_decimals = _scaled(bottom)
    if (outer_sign and part["inner"]) or divisor == 0:
        return Reading(None, "not_a_number")
    minus_signs = [sign for sign in (outer_sign, part["inner"], part["top_sign"]) if sign in ("-", "−")]
    if len(minus_signs) % 2:
        numerator = -numerator
    power += divisor_decimals - decimals
    return Reading(Fraction(numerator * 10 ** max(power, 0), divisor * 10 ** max(-power, 0)))


def _scaled(numeral: str) -> tuple[int, int]:
    """Return `1234.50` as 123450 and its 2 decimals.

    The numeral has at most `MAX_DIGITS` characters, since int() takes time quadratic in them.
    """
    whole, _, decimals = numeral.partition(".")
    return int(whole + decimals), len(decimals)
