"""Read the one number that a short text states, exactly. Rewards, evaluation and gold answers all read numbers here.

So what training pays is what evaluation counts.

A text states a number when it has exactly one, in one of the ways people write one (`-3`, `$1,000.00`, `50%`, `1/2`,
`3½`, `\\frac{1}{2}`, `1.5×10^3`, `$3.5 million`, `eighteen`, `**18**`, `\\boxed{18}`, `5 km/h`, `18元`, `٣٤`, `10 pm`,
"The answer is 18.", `3 * 6 = 18`), and nothing around it changes its meaning: it is not denied ("not 18"), hedged
("about 18"), bounded ("at least 18") or an unknown's multiple (`2x = 18`). The same number twice is one number.

Doubtful texts are refused: to pay for a doubtful answer teaches doubtful answers, and to refuse one costs a single
sample. Ranges are no numbers here.

`markup.py` cleans the text, `numerals.py` finds the numerals, `equations.py` knows what an equation states, and
`languages.py` the words that change a meaning. A text longer than `MAX_CHARACTERS` is refused unread, which bounds the
cost. `first_number` and `last_number` find one digit by a linear scan, then read as many characters around it. No
string makes these functions raise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise
from typing import Final, NamedTuple

from grpo_colab.rewards import equations, languages
from grpo_colab.rewards.context import NEXT_WORD, ORDINAL_WORDS, PROSE, stands_alone
from grpo_colab.rewards.languages import LETTER, NUMBER_WORD, NUMBER_WORDS, SCALES, words
from grpo_colab.rewards.markup import BOX, clean, without_unit_powers
from grpo_colab.rewards.numerals import DEFAULT_LOCALE, MINUS, MONEY, Reading, Refusal, token, value_of

MAX_CHARACTERS: Final = 1_000  # of a text that states one number
MAX_WORDS: Final = 20  # around the number

_PLAIN: Final = re.compile(r"-?[0-9]{1,18}")  # nine answers of ten, which need none of the checks below
# What models write most: the general way would read it alike, in a tenth of the speed.
_FRAMED: Final = re.compile(
    r"(?:(?:The |the )?(?:[Ff]inal )?[Aa]nswer(?: is:? |: ))?"
    r"(?:\$?(-?[0-9]{1,15})(?:\.00?)?|\$?\\boxed\{\$?(-?[0-9]{1,15})\}\$?|\*\*\$?(-?[0-9]{1,15})\*\*)\.?"
)
_DIGIT: Final = re.compile(r"\d")
_LAST_DIGIT: Final = re.compile(r"\d\D*\Z")
_EQUALS_BOX: Final = r"=[\s$`*(\[{]*\\boxed"
_OPERATION: Final = r"=|[\d)]\s*[-−–/*×÷·+]\s*[\d(]"

_IN_BRACKETS: Final = rf"(?:\(\s?[{MONEY}]\s?[0-9.,]+\s?\)|[{MONEY}]\s?\(\s?[0-9.,]+\s?\))"
_DECORATION: Final = " `\"'“”‘’.,;:#"
_BULLET: Final = r"[·•▪◦*]\s+"
_MINUS_WORD: Final = r"(?i)(?:^|[\s(`:$\"'“‘])(?:minus|negative)[\s`]+\Z"
_SAYS: Final = frozenset({"is", "was", "be", "equals", "answer", "total", "result", "to", "exactly", "only", "just"})
_DETERMINERS: Final = frozenset({"the", "these", "those", "all", "both", "his", "her", "their", "its", "other", "last"})
# Between two statements of one number: a new line or sentence, a bracket, or a word such as "is".
_SAID_AGAIN: Final = r"(?s)[\s%°`]+|.*(?:\n|\(|[.:]\s|\b(?:is|so|thus|hence|therefore|answer)\b).*"

_UNIT: Final = rf"[\s`(]*([{LETTER}]{{2,}})"
_NEAR: Final = 60  # characters in which a label is looked for
_NAMED: Final = rf"(?<![{LETTER}])([{LETTER}]+)\s*(?::|\bis\b|\bare\b)[\s`$(]*\Z"
_NO_UNITS: Final = frozenset(
    re.findall(
        "[a-z]+", "in is are so total which and left more the for each per it final number value that of oclock as"
    )
)


class _Found(NamedTuple):
    """A number found in a statement: from where to where, and its value."""

    start: int
    end: int
    reading: Reading


def parse_number(text: str, locale: str = DEFAULT_LOCALE) -> Fraction | None:
    """Return the one number that `text` states, or None; `read_number` also says why there is none.

    No string makes it raise.
    """
    return read_number(text, locale).value


def read_number(text: str, locale: str = DEFAULT_LOCALE) -> Reading:
    """Read the one number that `text` states; in an equation, the value after the last `=`.

    `locale` says how numbers are written there: see `numerals.LOCALES`. The refusal is `too_long` for more than 1,000
    characters, 20 words or 400 digits, or an exponent above 400. It is `many_numbers` where the text states several
    numbers, and `not_a_number` otherwise. No string makes it raise. Takes a few milliseconds at most. May raise
    KeyError for an unknown locale: see `grading.check_grading`.
    """
    text = text.strip()
    if len(text) > MAX_CHARACTERS:
        return Reading(None, "too_long")
    if _PLAIN.fullmatch(text):
        return _plain(text)
    framed = _FRAMED.fullmatch(text) if locale == DEFAULT_LOCALE else None
    if framed:
        return _plain(framed[framed.lastindex or 0])
    return _read(text, locale)


@lru_cache(maxsize=4096)  # a group of completions gives a handful of answers, one of which is the gold
def _plain(text: str) -> Reading:
    """Read a text that is an integer and nothing else."""
    return Reading(Fraction(int(text)))


@lru_cache(maxsize=4096)
def _read(text: str, locale: str) -> Reading:
    """Read the number in a text that is not too long: in its one box, if the rest only leads there."""
    boxes = {box.strip() for box in re.findall(BOX, text)} if "\\boxed" in text else set()
    if len(boxes) == 1 and not re.search(_EQUALS_BOX, text):
        working = clean(re.sub(BOX, " ", text))
        if _DIGIT.search(working) and re.search(_OPERATION, working):
            return _boxed_result(working, clean(f"\\boxed{{{boxes.pop()}}}"), locale)
    return _statement(clean(text).strip(), locale)


def _boxed_result(working: str, box: str, locale: str) -> Reading:
    """Read the number in a box that stands beside the working which leads to it; both are cleaned.

    The working must be prose and arithmetic, and the value after its last `=` must not be another one.
    """
    boxed = _statement(box.strip(), locale)
    if boxed.value is None or "=" not in working:
        prose = re.sub(r"[0-9=*×÷·+/^−-]", " ", working)
        first_word = " ".join(words(prose)[:1])
        doubtful = (
            not re.fullmatch(PROSE, prose) or languages.is_doubtful(working) or languages.follows_doubt(first_word)
        )
        return Reading(None, "not_a_number") if doubtful and boxed.value is not None else boxed
    result = _statement(working.strip(), locale)
    return boxed if result.value == boxed.value else Reading(None, result.refusal or "many_numbers")


def _statement(text: str, locale: str) -> Reading:
    """Read the number that a cleaned text states."""
    before, equals, statement = text.rpartition("=")
    statement = without_unit_powers(statement)
    core = statement.strip(_DECORATION)
    if core[:1] == core[-1:] == "$":
        core = core.strip(f"${_DECORATION}")
    if not equals and re.fullmatch(_IN_BRACKETS, core):  # as accountants write a negative amount
        return _negated(_statement(re.sub("[()]", "", core), locale))
    if not equals and re.match(_BULLET, statement):
        statement = re.sub(_BULLET, "", statement, count=1)
    found = _numerals(statement, locale)
    refusal = _not_one(statement, found)
    if refusal is None and equals:
        refusal = _no_equation_of(before, statement, found[-1], locale)
    return Reading(None, refusal) if refusal else _undoubted(before, statement, found)


def _not_one(statement: str, found: Sequence[_Found]) -> Refusal | None:
    """Return why the numbers found in a statement are not one number, said once or several times, or None."""
    if not found:
        return "not_a_number"
    if len(found) > languages.MOST_NUMERALS:
        return "many_numbers"
    if len(found) > 1 and not _is_said_again(statement, found):
        return "not_a_number" if _are_one_word(statement, found) else "many_numbers"
    return next((number.reading.refusal for number in found if number.reading.refusal), None)


def _no_equation_of(before: str, statement: str, number: _Found, locale: str) -> Refusal | None:
    """Return why `before` and a `=` do not make `number` the value that the text states, or None."""
    before = _with_digits(before)
    if equations.states_several(before, _with_digits(statement)):
        return "many_numbers"
    stated = [*equations.bare_sides(before), *equations.claims(before)]  # 17 = 18; the answer is 17, since 9 + 9 = 18
    if any(read_number(text, locale).value not in (None, number.reading.value) for text in stated):
        return "many_numbers"
    letter = re.search(rf"[\s$`(]+[{LETTER}][\s$`]*\Z", before)  # "about x = 18"
    is_hedged = letter is not None and languages.follows_doubt(before[: letter.start()])
    return "not_a_number" if is_hedged or not equations.states_its_right_side(before) else None


def _with_digits(text: str) -> str:
    """Return a text with its number words as digits, but for "one", which is mostly a pronoun."""
    return re.sub(NUMBER_WORD, lambda word: word[0] if word[0].lower() == "one" else str(_spelt(word)), text)


def _spelt(word: re.Match[str]) -> int:
    """Return the number that a number word, a match of `NUMBER_WORD`, names."""
    return NUMBER_WORDS[(word["word"] or word["tens"]).lower()] + NUMBER_WORDS.get((word["ones"] or "").lower(), 0)


def _negated(reading: Reading) -> Reading:
    """Return the same reading with the other sign."""
    return reading if reading.value is None else Reading(-reading.value)


def _numerals(statement: str, locale: str) -> list[_Found]:
    """Return the numbers in a statement, numerals and number words, in order."""
    found = [_Found(part.start(), part.end(), value_of(part, locale)) for part in token(locale).finditer(statement)]
    spelt = []
    for word in re.finditer(NUMBER_WORD, statement):
        spelt.append(_Found(word.start(), word.end(), Reading(Fraction(_spelt(word)))))
    if found:  # "the two of them have 18"
        spelt = [number for number in spelt if not _is_determined(statement, number)]
    if found or (len(spelt) == 1 and not _is_counted(statement, spelt[0])):
        spelt = [number for number in spelt if not _is_pronoun(statement, number)]
    return sorted(found + spelt)


def _is_counted(statement: str, number: _Found) -> bool:
    """Tell whether a number word begins a statement, or follows a word such as "is": "this one" is no number."""
    return _follows_nothing_but(_SAYS, statement[: number.start])


def _is_pronoun(statement: str, number: _Found) -> bool:
    """Tell whether a number word is "one", and no number: "18 in one day", and not "18 and one"."""
    added = words(statement[: number.start])[-1:] in (["and"], ["less"], ["plus"], ["minus"], ["or"])
    return statement[number.start : number.end].lower() == "one" and not added


def _is_determined(statement: str, number: _Found) -> bool:
    """Tell whether a number word counts what is known: "the two of them", and not "the two, 18"."""
    before, after = words(statement[: number.start])[-1:], re.match(rf"\s+([{LETTER}]+)", statement[number.end :])
    return bool(before) and before[0] in _DETERMINERS and after is not None and after[1].lower() not in ("and", "or")


def _follows_nothing_but(allowed: frozenset[str], left: str) -> bool:
    """Tell whether the last word of `left` is one of `allowed`, or there is no word."""
    return allowed.issuperset(words(left)[-1:])


def _is_said_again(statement: str, found: Sequence[_Found]) -> bool:
    """Tell whether a statement states one number several times, and not a list or a sum of equal numbers."""
    if len({number.reading for number in found}) > 1 or _are_of_different_things(statement, found):
        return False
    gaps = [statement[one.end : other.start] for one, other in pairwise(found)]
    return all(gap != ".(" and re.fullmatch(_SAID_AGAIN, gap) and re.fullmatch(PROSE, f"N{gap}N") for gap in gaps)


def _are_of_different_things(statement: str, found: Sequence[_Found]) -> bool:
    """Tell whether equal numbers have different units, or different labels: 18 boys and 18 girls."""
    units, labels = set(), set()
    for number, following in zip(found, [*found[1:], None], strict=True):
        unit = re.match(_UNIT, statement[number.end : following.start if following else None])
        label = re.search(_NAMED, statement[max(0, number.start - _NEAR) : number.start])
        units |= {unit[1].lower()} - _NO_UNITS if unit else set()
        labels |= {label[1].lower()} - _SAYS - _NO_UNITS if label else set()
    return len(units) > 1 or len(labels) > 1


def _are_one_word(text: str, found: Sequence[_Found]) -> bool:
    """Tell whether the first two numerals are in one word (12:30, 0x12, 1.2.3), and not two numbers (4 or 5; 1,2)."""
    gap = text[found[0].end : found[1].start]
    return not re.search(r"[\s,;]", gap) and text[found[1].start] not in f"{MINUS}+{MONEY}"


def _undoubted(before: str, statement: str, found: Sequence[_Found]) -> Reading:
    """Return the reading of the last of the equal numbers in a statement, or the refusal where something doubts it.

    `before` is what precedes the last `=`. A minus in words negates the number, and a scale word after it multiplies
    it.
    """
    *earlier, last = found
    parts = [(statement[: n.start], statement[n.start : n.end], statement[n.end :]) for n in found]
    if not all(stands_alone(*part) for part in parts[:-1]):
        return Reading(None, "not_a_number")
    left, numeral, right = parts[-1]
    for number in earlier:
        left = left[: number.start] + "`" * (number.end - number.start) + left[number.end :]
    if len(words(f"{before} {left}")) + len(words(right)) > MAX_WORDS:
        return Reading(None, "too_long")
    assert last.reading.value is not None
    left, sign = _without_minus_word(left)
    right, factor = _without_scale(right)
    ordinal = ORDINAL_WORDS if _DIGIT.search(numeral) else ORDINAL_WORDS | {"first", "second", "quarter", "quarters"}
    following = words(right)
    # two thirds, twenty-first; but 18 fifth graders are 18
    is_fraction = not ordinal.isdisjoint(following[:1]) and not (
        _DIGIT.search(numeral) and len(following) > 1 and not following[0].endswith("s")
    )
    # Accountants' brackets count where nothing else is said; "She earns ($5)" is in doubt.
    in_brackets = not earlier and numeral[0] in MONEY and left[-1:] == "(" and right[:1] == ")"
    doubtful = (
        is_fraction
        or in_brackets
        or not stands_alone(left, numeral, right)
        # With a letter in place of the numeral, the hyphen of "18-inch" is one between letters.
        or not re.fullmatch(PROSE, f"{left}N{right}")
        or languages.changes_meaning(before, left, right)
    )
    if doubtful:
        return Reading(None, "not_a_number")
    return last.reading if sign == factor == 1 else Reading(last.reading.value * sign * factor)


def _without_minus_word(left: str) -> tuple[str, int]:
    """Return what is left of a number without "minus" or "negative", and the sign: "eggs minus 18" has none."""
    minus = re.search(_MINUS_WORD, left)
    if minus is None or not _follows_nothing_but(_SAYS, left[: minus.start()]):
        return left, 1
    return left[: minus.start()] + " ", -1


def _without_scale(right: str) -> tuple[str, int]:
    """Return what is right of a number without "million" and its like, and the factor."""
    scale = re.match(NEXT_WORD, right)
    is_compound = scale is not None and right[scale.end() :][:1] == "-"  # hundred-dollar bills
    if scale is None or is_compound or scale[1].strip("` ") not in ("", "-") or words(right)[1:2] == ["and"]:
        return right, 1
    factor = _factor(scale[2])
    return (right[scale.end() :], factor) if factor > 1 else (right, 1)


def _factor(word: str) -> int:
    """Return what a scale word multiplies by, in the singular or the plural; 1 for any other word."""
    return SCALES.get(word.lower()) or SCALES.get(word.lower().removesuffix("s"), 1)


def first_number(text: str, locale: str = DEFAULT_LOCALE) -> Reading:
    """Read the first numeral in `text`, whatever is around it, in time linear in the length of `text`.

    The refusal is `not_a_number` without a digit, or for a numeral without a value, such as 1/0. It is `too_long` for a
    numeral that is too long to be read. No string makes it raise.
    """
    digit = _DIGIT.search(text)
    if digit is None:
        return Reading(None, "not_a_number")
    start = max(0, digit.start() - 20)  # room for a sign, a currency sign and `\\frac{`
    window = clean(text[start : start + MAX_CHARACTERS])
    numeral = next(token(locale).finditer(window), None)
    if numeral is None:
        return Reading(None, "not_a_number")
    goes_on = numeral.end() == len(window) and len(text) - start > MAX_CHARACTERS
    return Reading(None, "too_long") if goes_on else _in_text(numeral, locale, window)


def last_number(text: str, locale: str = DEFAULT_LOCALE) -> Reading:
    """Read the last numeral in `text`, whatever is around it, in time linear in the length of `text`.

    The refusal is `not_a_number` without a digit, or for a numeral without a value, such as 1/0. It is `too_long` for a
    numeral that is too long to be read. No string makes it raise.
    """
    digit = _LAST_DIGIT.search(text)
    if digit is None:
        return Reading(None, "not_a_number")
    end = digit.start() + 1
    start = max(0, end - MAX_CHARACTERS)
    window = clean(text[start : end + 20])  # room for the end of `\\frac{1}{2 }`, and for a scale word
    *_, numeral = [None, *token(locale).finditer(window)]
    if numeral is None:
        return Reading(None, "not_a_number")
    began_before = numeral.start() == 0 < start
    return Reading(None, "too_long") if began_before else _in_text(numeral, locale, window)


def _in_text(numeral: re.Match[str], locale: str, text: str) -> Reading:
    """Return the value of a numeral in running text, times the scale word that follows it."""
    reading = value_of(numeral, locale, text)
    scale = re.compile(NEXT_WORD).match(text, numeral.end())
    if reading.value is None or scale is None or scale[1].strip():
        return reading
    return Reading(reading.value * _factor(scale[2]))
