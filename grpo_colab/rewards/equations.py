"""Decide whether the right side of an equation is what the equation states.

It is where the left side is words (`Total = 18`), one plain letter (`x = 18`), or arithmetic without unknowns
(`3 * 6 = 18`). `2x = 18`, `x^2 = 18`, `x/2 = 18` and `-x = 18` do not state 18, and neither does `twice Tom = 18`.
Texts are as `markup.clean` returns them.

A side is looked at with `0` in place of its numerals. It is split at its operators into operands, which are numbers
with their units, or else words; a single letter is an unknown.
"""

from __future__ import annotations

import re
from typing import Final

from grpo_colab.rewards.context import SHORT_UNITS
from grpo_colab.rewards.languages import LATIN, LETTER
from grpo_colab.rewards.numerals import DEFAULT_LOCALE, MINUS, MONEY, token

# These patterns are text, so that they are compiled at their first use and not at import.
_ALLOWED: Final = rf"[{LETTER}{MONEY}0-9\s.,;:!'\"“”‘’()\[\]{{}}%°`#&@*_^+/\\×÷·√∠△⁰¹²³⁴-⁹=−–—-]*(?<!/)"
_PARTS: Final = r"\n|[.;]\s|,\s|\b(?:and|so|then|therefore|thus|hence|because|since)\b"  # of working on one line
_BLANK: Final = (
    r"\(\s*\)|\.\.\.|(?<![A-Za-z0-9])_+(?![A-Za-z0-9{])|[-+*/]\s*\Z"  # something to be filled in, and x *= 18
)
_ASSIGNMENT: Final = (
    rf"\A(?:[^=0-9]*?(?=[{LETTER}])|[^{LETTER}0-9=]*)([{LETTER}][{LETTER}\s]*[0-9]*|[0-9]+)[\s:`$]*=\s*([^=]*)\Z"
)
_ASSIGNED: Final = rf"(?<![{LETTER}'’])([{LETTER}])\s*(?:\bis\b|:)\s*(?=[{MINUS}]?[{MONEY}]?[0-9])"  # x is 17
_CLAIM: Final = (  # "The answer is 17", "17 eggs", "17 is the answer"
    r"(?i)[\s#*`$\"'“‘(]*(?:(?:the|my|so|final)\s+)*(?:answer|total|result)\b|[\s$]*[0-9]+ is the answer"
    rf"|[^{LETTER}]*[0-9][^{LETTER}]*(?:[{LETTER}]+\W*)?\Z"
)
_NUMERAL: Final = rf"[\s`$]*[{MINUS}]?[{MONEY}]?[0-9][0-9.,]*[\s`$.]*\Z"

_ENDING: Final = "`$.,;:()[]{}\"'“”‘’ \n\t"
_OPERATOR: Final = r"\*\*|[-+*/×÷·^−–]|(?<=[\s)0])[xX](?=[\s(0])"
_MULTIPLIES: Final = frozenset({"*", "/", "×", "÷", "·", "x", "X"})
_TIMES: Final = rf"0\s[xX]\s(?=[{MONEY}0(])"
_JUXTAPOSED: Final = r"([0)])\s?\("  # 2(4 + 5)
_OF: Final = rf"(?i)(0[%°]?(?:\s\w+)?)\sof\s(?=[{MONEY}]?0)"  # 20% of 90
_RATIO: Final = r"(?<=0)\s?:\s?(?=0)"  # 36:2, as a division
_PER: Final = rf"(0\s?(?:[{LETTER}]+[\s`]?){{0,3}})\s?/\s?`?(?:[{LETTER}]{{2,}}|[hsdmgl](?![{LETTER}]))"  # 9 km/h
_SIGN: Final = rf"([{MINUS}(*/×÷·^+]|\A)\s*[{MINUS}]\s*(?=[(\s]*0)"  # of a number: (-3), and 3 * -6
_FRACTION: Final = r"\\[dtc]?frac"
_POWERS: Final = str.maketrans({"²": "^2", "³": "^3", "⁴": "^4", "⁵": "^5", "⁶": "^6"})
_HYPHEN: Final = rf"(?<=[{LETTER}])-(?=[{LETTER}]{{2}})"  # push-ups
_ANGLE: Final = r"m?∠\s?\w{1,3}|△\s?\w{3}"

_BARE: Final = rf"[{MINUS}]?[{MONEY}]?[0-9.,]+%?"
_AROUND: Final = " \t`$():.,;#>\"'"
_ONE_LETTER: Final = rf"[{LETTER}][′']?"
_LABEL: Final = rf"\A[{LETTER}\s`]*(?::\s*|\b(?:is|so|thus|hence|therefore|then|get|have)\s+)(?=\S)"
_SUBSCRIPT: Final = rf"(?<![{LETTER}])([{LETTER}])_(?:\w(?!\w)|\{{[\w△∠ ]{{1,20}}\}})"
_SINGLE: Final = rf"(?<![{LETTER}'’])[{LETTER}](?![{LETTER}])"
_SINGLE_UNIT: Final = r"(?<=0)\s?`?\s?[gmshlL](?![^\W\d_])"
_ARTICLE: Final = rf"(?<![{LETTER}])[aAI](?=\s[{LETTER}]{{2}})"
_FUNCTION_OF_LETTERS: Final = rf"(?:√|\b(?:sin|cos|tan|cot|log|ln|exp|sqrt)\b)[\s(`]*[{LETTER}]"
_UNIT: Final = rf"(?:{'|'.join(sorted(SHORT_UNITS))}|gcd|lcm|nth)(?![{LATIN}])"
# Runs of letters that are unknowns side by side, and no words: xy, 2ab, πr, lwh, lnx.
_NO_WORD: Final = (
    rf"(?<![{LETTER}])(?i:[xyz]{{2,3}})(?![{LETTER}])|(?<=0)(?!{_UNIT})[a-z]{{2}}(?![{LATIN}])"
    rf"|[α-ω][A-Za-z]|[A-Za-z][α-ω]|0[α-ωΣ]|Σ|\b(?:sin|cos|tan|log|ln)[xyzα-ω](?![{LATIN}])|\babc\b"
    rf"|(?<![{LETTER}])(?!{_UNIT})[bcdfghjklmnpqrstvwxz]{{2,4}}(?![{LATIN}])"
)
_PRODUCT: Final = rf"(?<![{LETTER}])(?!(?:is|of|to|at|so|it|be|by|on|as|an|am|do|go|up|us|me)\b|{_UNIT})[a-z]{{2}}\Z"
# Words by which an unknown is multiplied.
_MULTIPLIED: Final = (
    r"(?i)\b(?:twice|double|triple|thrice|quadruple|half|third|quarter|squared?|cubed?|doubled|tripled|halved|times|two|three|four|five|six"
    r"|ten|percent|if)\b|的(?:平方|一半|两倍)"
)


def states_its_right_side(before: str) -> bool:
    """Tell whether what stands before the last `=` makes the right side the value that the text states.

    In a chain such as `F = ma = 3 * 6 = 18`, the first side and the last one count.
    """
    if not re.fullmatch(_ALLOWED, before) or re.search(_BLANK, before):
        return False
    if re.search(rf"(?<![{LETTER}])[{LETTER}]\s+and\s+[{LETTER}][\s`$]*\Z", before):
        return False  # x and y = 18
    *_, last = re.split(_PARTS, before)
    first, *_, side = ["", *last.split("=")] if "=" not in last else last.split("=")
    return _is_left_side(side) and (not first.strip() or _is_left_side(first))


def bare_sides(before: str) -> list[str]:
    """Return the sides of the last equation, before its last `=`, that are a numeral and nothing else."""
    *_, last = re.split(_PARTS, before)
    sides = [re.sub(_LABEL, "", side.strip(_AROUND)) for side in last.split("=")]
    return [side for side in sides if re.fullmatch(_BARE, side)]


def claims(before: str) -> list[str]:
    """Return what is said before an equation, and outside of others, as if it were the answer: "17, since"."""
    parts = re.split(rf"{_PARTS}|\s\(", before)[:-1]
    return [part for part in parts if "=" not in part and re.match(_CLAIM, part)]


def states_several(before: str, statement: str) -> bool:
    """Tell whether a text sets two unknowns (`x = 17, y = 18`), or one to two values, on one line or on several."""
    before = re.sub(_ASSIGNED, r"\1 = ", before)
    parts = re.split(_PARTS, re.sub(r"[^\S\n]+", " ", f"{before}={statement}"))
    parts = [re.sub(_SUBSCRIPT, r"\1", re.sub(_LABEL, "", part)) for part in parts]
    assigned = [found for part in parts if (found := re.match(_ASSIGNMENT, part))]
    named = [(_name(found[1]), found[2].strip(_ENDING)) for found in assigned]
    unknowns = {name for name, _ in named if len(name) == 1}
    values = [(name, value) for name, value in named if re.match(_NUMERAL, value)]
    names, same_line = {name for name, _ in values}, "\n" not in before
    return len(unknowns) > 1 or len(set(values)) > len(names) or (same_line and len(names) > 1)


def _name(label: str) -> str:
    """Return the unknown at the end of a label, as in "the answer is x", or the whole label in lower case."""
    *_, last = label.split()
    return last if len(last) == 1 else " ".join(label.lower().split())


def _is_left_side(side: str) -> bool:
    """Tell whether one side of an equation is nothing, words, one plain letter, or arithmetic without unknowns."""
    side = re.sub(_SUBSCRIPT, r"\1", re.sub(_LABEL, "", side.strip(_AROUND))).translate(_POWERS)
    side = re.sub(_HYPHEN, "", re.sub(_ANGLE, "AB", side))
    if re.fullmatch(_ONE_LETTER, side):
        return True
    side = token(DEFAULT_LOCALE).sub(_zero, side.replace("\\binom", " "))
    side = re.sub(_FRACTION, " ", side).replace("{", "(").replace("}", ")").replace("0!", "0")
    side = re.sub(_PER, r"\1", re.sub(_RATIO, " / ", side))
    if "\\" in side or "!" in side or re.search(_NO_WORD, side) or re.search(_FUNCTION_OF_LETTERS, side):
        return False
    side = re.sub(_OF, r"\1 * ", re.sub(_TIMES, "0 * ", re.sub(_JUXTAPOSED, r"\1 * (", side)))
    for _ in range(2):
        side = re.sub(_SIGN, r"\1 ", side)
    operators = re.findall(_OPERATOR, side)
    return _is_arithmetic(side, operators) if "0" in side or operators else _are_words(side)


def _is_arithmetic(side: str, operators: list[str]) -> bool:
    """Tell whether a side, with `0` for each numeral, is numbers or words joined by operators, and not both.

    Numbers may have units. A single letter is an unknown, unless it is an article, or a unit in a product. A number and
    a noun, as in `2 apples`, may be the multiple of an unknown, too.
    """
    if _MULTIPLIES.issuperset(operators) and side.count("0") > 1:
        side = re.sub(_SINGLE_UNIT, "", side)
    if re.search(_SINGLE, re.sub(_ARTICLE, "", re.sub(_OPERATOR, " ", side))):
        return False
    first, *others = [operand.strip(_AROUND + "√%°!") for operand in re.split(_OPERATOR, side)]
    operands = [first, *others] if first else others  # nothing is before a sign
    numeric = ["0" in operand for operand in operands]
    is_negated_word = not first and not numeric[0]  # -Total
    words_between = r"(?:\w+\s)?" if side.count("0") == 1 else ""
    is_part = re.search(rf"(?i)0[%°]?\s+{words_between}of\b", side) is not None  # 1/3 of the number
    is_multiple = side.count("0") == 1 and re.search(rf"0[\s`(]*[{LETTER}]{{2}}", side) is not None  # 2 apples
    is_list = any(operand.count("0") > 1 for operand in operands) and not re.search("gcd|lcm", side)  # (3, 4)
    is_one_value = len(set(numeric)) == 1 and not is_list
    return all(operands) and is_one_value and not (is_negated_word or is_part or is_multiple)


def _zero(numeral: re.Match[str]) -> str:
    """Return `0` for a numeral, with the operator that its sign may be."""
    sign, zero = (numeral["sign"] or "").strip(), "0 / 0" if numeral["divisor"] else "0"
    return f" {sign} {zero}" if sign else zero


def _are_words(side: str) -> bool:
    """Tell whether a side without digits and operators is words, with at most one single letter, the unknown."""
    letters = re.findall(_SINGLE, re.sub(_ARTICLE, "", side))
    return len(letters) <= 1 and not re.search(_PRODUCT, side) and not re.search(_MULTIPLIED, side)
