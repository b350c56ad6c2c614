r"""Clean a text before a number is read in it: unwrap LaTeX, HTML and Markdown, and write all scripts' digits as ASCII.

What is taken off leaves a backtick or a space, so that unwrapping never joins two numbers into one. A LaTeX command
that is not known here stays, with its backslash, and no number is read beside it: `\pm`, `\le` and `\ne` change what a
number means, and they are no words.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from grpo_colab.rewards.languages import LETTER, NUMBER_WORD

# Characters of other scripts, and of typography, that stand for an ASCII one.
_SAME: Final = {
    "\u3000": " ", "。": ".", "、": ",", "،": ",", "؛": ";", "।": ".", "۔": ".", "٫": ".", "٬": ",", "٪": "%",
    "﹪": "%", "‑": "-", "‐": "-", "﹣": "-", "⁄": "/", "∕": "/", "￥": "¥", "￦": "₩", "￡": "£", "￠": "¢",
    "∗": "*", "⋅": "·", "∙": "·", "•": "·", "【": "[", "】": "]", "「": '"', "」": '"', "『": '"', "』": '"',
    "→": "\n", "⇒": "\n", "∴": "\n", "∶": ":", "⟹": "\n",
    "《": '"', "》": '"', "«": '"', "»": '"', "„": '"', "‟": '"', "‹": "'", "›": "'", "‚": "'",
}  # fmt: skip
_VULGAR: Final = {
    "¼": "1/4", "½": "1/2", "¾": "3/4", "⅐": "1/7", "⅑": "1/9", "⅒": "1/10", "⅓": "1/3", "⅔": "2/3", "⅕": "1/5",
    "⅖": "2/5", "⅗": "3/5", "⅘": "4/5", "⅙": "1/6", "⅚": "5/6", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8",
}  # fmt: skip
_SUPERSCRIPTS: Final = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
# LaTeX commands that stand for a character, or for nothing but a look.
_COMMANDS: Final = {
    "times": "×", "cdot": "·", "ast": "*", "div": "÷", "circ": "°", "degree": "°", "textdegree": "°", "percent": "%",
    "euro": "€", "pounds": "£", "yen": "¥", "rupee": "₹", "sqrt": "√", "quad": " ", "qquad": " ", "left": " ",
    "right": " ", "big": " ", "Big": " ", "bigl": " ", "bigr": " ", "displaystyle": " ", "textstyle": " ", "rm": " ",
    "bf": " ", "it": " ", "bfseries": " ", "large": " ", "Large": " ", "huge": " ", "Huge": " ", "space": " ",
    "checkmark": " ", "lbrace": "{", "rbrace": "}", "lbrack": "[", "rbrack": "]", "angle": "∠", "triangle": "△",
    "therefore": "\n", "implies": "\n", "Rightarrow": "\n", "Longrightarrow": "\n", "rightarrow": "\n", "to": "\n",
    "gcd": " gcd ", "lcm": " lcm ", "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "theta": "θ", "lambda": "λ",
    "mu": "μ", "phi": "φ", "omega": "ω", "pi": "π", "varphi": "φ", "epsilon": "ε", "rho": "ρ", "sigma": "σ", "tau": "τ",
}  # fmt: skip

# These patterns are text, so that they are compiled at their first use and not at import.
# A box; its group is the text in the braces, with braces nested in it up to five deep.
_BRACED = r"(?:\\.|[^{}\\])*+"
for _ in range(5):
    _BRACED = rf"(?:\\.|[^{{}}\\]|\{{{_BRACED}\}})*+"
BOX: Final = rf"(?s)\\boxed\s*\{{({_BRACED})\}}"

_DIGITS: Final = r"\d+"
_VULGAR_FRACTION: Final = rf"(?<![.,/^])([{''.join(_VULGAR)}])(?!\d)"
_POWER_OF_TEN: Final = "(?<![0-9.,])10([⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+)"
_BRACED_POWER: Final = r"\^\{\s?([-+−–]?[0-9]+)\s?\}"
_LOOSE_FRACTION: Final = r"(\\[dtc]?frac)\s([0-9])\s?([0-9])(?![0-9])"
_MINUS_WORD: Final = r"[负負](?=\d)"
_FRACTION_WORD: Final = r"(\d+)\s?(?:分之|分の|분의)\s?(\d+)"  # 4分之3 is 3/4
_AND_FRACTION: Final = r"(?<=\d)又(?=\d+/\d)"  # 1又3/4

# HTML that only marks; what is struck out, raised or lowered is left as it is, and so refused.
_HTML: Final = (
    r"(?i)</?(?:b|i|u|em|strong|code|span|p|div|br|big|small|mark|center|font|h[1-6]|li|ul|pre|samp|kbd|tt|t[dhr])"
    r"(?:\s(?![^<>]*line-through)[^<>]{0,80})?/?>"
)
_CALCULATOR: Final = r"<<[^<>]*>>"  # as in GSM8K's solutions
_ANGLE_BRACKETS: Final = r"<\s?([-+−–$€£]{0,2}[0-9.][^<>]{0,80})>"
# A tick, or another picture; not one that says no, or that is a number.
_TICK: Final = "(?![❌🚫❓❔❗👎🤔🤷🙅⛔❎🔟💯])[✓✔✅☑✨⭐➡\U0001f300-\U0001faff]\ufe0f?\\s*"

_ESCAPE: Final = r"\\([$%#&_{}])"
_UNIT_OPERATOR: Final = r"(?<=[0-9])([\s~]*(?:\\[,;: ])?)\\operatorname\s?\{"
_SPACING: Final = r"\\[,;:!()\[\] >]|(?<=[0-9}{ ])~(?=[A-Za-z\\])"
_DEGREES: Final = r"\^\s?(?:\\circ(?![A-Za-z])|\{\s?\\circ\s?\})"
_COLOUR: Final = r"\\(?:textcolor|color)\s?\{[a-zA-Z]+\}"
_ENVIRONMENT: Final = r"\\(?:begin|end)\s?\{(?:aligned|align|equation|gather|gathered|center|split)\*?\}"
_QUANTITY: Final = r"\\(?:SI|qty)\s?\{([^{}]*)\}\s?\{([^{}]*)\}"
_OVER_LETTERS: Final = r"\\(?:overline|overrightarrow|vec|widehat|hat)\s?\{([A-Za-z]+)\}"  # not 0.\overline{3}
_WRAPPER: Final = (
    r"\\(?:boxed|fbox|mbox|underline|emph|text(?:bf|it|rm|sf|tt|normal)?|math(?:bf|it|rm|sf|tt)|bm|num|unit|si)"
    r"\s?\{((?:[^{}]++|\{[^{}]*+\})*+)\}"
)
_WRAPPER_DEPTH: Final = 4
_COMMAND: Final = r"\\([A-Za-z]+)"
# Not the sign of a product, as in (10-1)*2 and 6*$3.
_BOLD: Final = (
    r"(?<![A-Za-z0-9*_)\]}])(?:\*{1,3}+|__)(?=[^\s=])|(?<=[^\s*_])(?:\*{1,3}+|__)(?![A-Za-z0-9_{(*$\\]|\.[0-9])"
)
_EMPHASIS: Final = r"(?<![A-Za-z0-9_*`)\]}])[*_`]++(?=[^\s=])|(?<=[^\s*_`])[*_`]++(?![A-Za-z0-9_{($\\]|\.[0-9])"
_UNIT_POWER: Final = (
    rf"(?<=[{LETTER}])(`?)(?:\^[-−]?[1-4](?![0-9]|\.[0-9])|⁻?[¹²³])"
    r"|((?<=[0-9/])\s?[kcd]?m)[23](?!\w)"  # 18m2, kg/m3
)
_BRACKETS: Final = r"(?<![\w)}])\[((?:[^\[\]{}]|\{[^{}]*\})*)\]|(?<![\w)}^_])\{((?:[^\[\]{}]|\{[^{}]*\})*)\}"
_BRACKETED_UNIT: Final = r"(?<=[0-9])\[([A-Za-z/²³%°]+)\]"
_BRACKET_DEPTH: Final = 3
# A marker of a list or a quotation, before words. A dash before anything else may be a minus, and `> 18` a relation.
_LIST_ITEM: Final = (
    rf"(?i)\A\s*(?:-|>|1[.)])\s+(?!(?:minus|negative)\b|{NUMBER_WORD.removeprefix('(?i)')})(?=[A-Za-z]{{2}})"
    r"|\A\s*>\s+(?=\*\*|__)|\A\s*=>\s+"
)
_SNAKE: Final = r"(?<=[A-Za-z]{2})_(?=[A-Za-z]{2})"  # final_answer
_RULE: Final = r"(?m)^\s*-{3,}\s*$"
_BOLD_ITEM: Final = r"\A\s*-\s+(?=\*\*|__)"  # in a list; anything else after a dash may be negative
_POINT_BEFORE_DIVISOR: Final = r"(?<=\d)\.(?=/\d)"  # "3./2"
_MARKUP: Final = frozenset("\\{*_`^<[&")
_END_OF_PRICE: Final = r"(?<=[0-9])(?:/[-–]|[.,][-–—])(?!\w)"  # 18/-, and €18,-
_CURRENCY_CODE: Final = (
    r"(?<![A-Za-z])(?:RM|Rp|Rs|K[Ss]h|USD|EUR|GBP|INR|CAD|AUD|CNY|RMB|JPY|Tk|S/|(?:CA|US|AU|HK|NT|A|C|R)\$)"
    r"\.?\s?(?=[0-9])"
)

# An hour alone is a number, `5:00 PM` too; any other time of day is none.
_HOUR: Final = r"(?i)(?<![\d:.,/])(0?[1-9]|1[0-2])(?::00)?\s?`?\s?(?:(?:[ap]m\b|[ap]\.\s?m\b\.?)|o['’]\s?clock\b)"


def clean(text: str) -> str:
    """Return `text` with other scripts' digits in ASCII, and without markup, typography and LaTeX that only looks.

    Square, curly and angle brackets become backticks, as all markup does. `½` becomes `1/2`, and `10 p.m.` becomes
    `10 oclock`. Takes time linear in the length of `text`.
    """
    if not text.isascii():
        text = _as_ascii(text)
    text = re.sub(_LIST_ITEM, "", text)
    if "_" in text or "---" in text:
        text = re.sub(_RULE, "", re.sub(_SNAKE, " ", text))
    if not _MARKUP.isdisjoint(text):
        text = _unwrapped(text)
    if "./" in text:
        text = re.sub(_POINT_BEFORE_DIVISOR, "", text)
    text = re.sub(_END_OF_PRICE, "", re.sub(_CURRENCY_CODE, "$", text))
    return re.sub(_HOUR, r"\1 oclock", text)


def without_unit_powers(text: str) -> str:
    """Return a cleaned `text` without the powers of units: `5 m` for `5 m^2`."""
    number = re.search("[0-9]", text)  # before it, n^2 is no unit
    start = number.start() if number else len(text)
    return text[:start] + re.sub(_UNIT_POWER, r"\1\2", text[start:])


def _as_ascii(text: str) -> str:
    """Return `text` with digits, signs and brackets of other scripts, and of full width, in ASCII.

    A run of digits of two scripts, and a mark over a digit, stay as they are or worse, and so are refused.
    """
    import unicodedata  # costs a millisecond, and English texts need it not

    text = unicodedata.normalize("NFC", text)
    text = re.sub(_DIGITS, _digits, text).translate(_translation())
    text = re.sub(_POWER_OF_TEN, lambda found: f"10^{found[1].translate(_SUPERSCRIPTS)}", text)
    text = re.sub(_AND_FRACTION, " ", re.sub(_FRACTION_WORD, r"\2/\1", text))
    text = re.sub(_TICK, "`", re.sub(_MINUS_WORD, "-", text))

    def vulgar(found: re.Match[str]) -> str:
        after_a_digit = text[found.start() - 1 : found.start()].isdigit() and found.start() > 0
        return f"{' ' if after_a_digit else ''}{_VULGAR[found[1]]}"

    return re.sub(_VULGAR_FRACTION, vulgar, text)


def _digits(run: re.Match[str]) -> str:
    """Return a run of digits in ASCII, or a sign that no text may have where it mixes scripts."""
    if len({ord(digit) - int(digit) for digit in run[0]}) > 1:
        return "\ufffd"
    return "".join(str(int(digit)) for digit in run[0])


@lru_cache(maxsize=1)
def _translation() -> dict[int, str]:
    """Return what `str.translate` needs: ASCII for each character of full width but digits, and for `_SAME`'s."""
    full_width = {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F) if not chr(code).isdecimal()}
    return {**full_width, **str.maketrans(_SAME)}


def _unwrapped(text: str) -> str:
    """Return `text` without LaTeX wrappers, HTML, emphasis, and brackets that are not round."""
    if "&" in text and ";" in text:
        import html

        text = html.unescape(text)
    if "<" in text:
        text = re.sub(_CALCULATOR, "", text)
        text = re.sub(_ANGLE_BRACKETS, r"`\1`", re.sub(_HTML, "`", text))
    if "\\begin" in text:
        text = re.sub(_ENVIRONMENT, "`", text).replace("&=", "=")
    if "*" in text or "__" in text:
        text = re.sub(_BOLD, "`", re.sub(_BOLD_ITEM, "", text))
    if "\\" in text or "{" in text:
        text = text.replace("{,}", ",").replace(",\\!", ",").replace("\\!", "")  # thousands, as LaTeX writes them
        text = re.sub(_UNIT_OPERATOR, r"\1\\text{", text)
        text = text.replace("\\\\", "\n")
        text = re.sub(_OVER_LETTERS, r"\1", re.sub(_QUANTITY, r"\1 \2", text))
        text = re.sub(_SPACING, " ", re.sub(_ESCAPE, r"\1", text))
        text = re.sub(_DEGREES, "°", re.sub(_COLOUR, "", text))
        text = re.sub(_LOOSE_FRACTION, r"\1\2\3", re.sub(r"\}\s+\{", "}{", text))
        for _ in range(_WRAPPER_DEPTH):
            text = re.sub(_WRAPPER, r" `\1`", text)
        text = re.sub(_COMMAND, lambda found: _COMMANDS.get(found[1], found[0]), text)
    text = re.sub(_BRACED_POWER, r"^\1", text)
    text = re.sub(_EMPHASIS, "`", text)
    if "[" in text or "{" in text:
        text = re.sub(_BRACKETED_UNIT, r" \1", text)
        for _ in range(_BRACKET_DEPTH):
            text = re.sub(_BRACKETS, lambda found: f"`{found[1] or found[2] or ''}`", text)
    return text
