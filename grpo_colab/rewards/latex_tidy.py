r"""Write a formula in one way: without spacing and sizes, with one command for each sign, with names for derivatives.

`latex_tree.py` reads what is left. All patterns are text, so that they are compiled at their first use.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Final

FUNCTIONS: Final = "sqrt|arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|sec|csc|cot|log|ln|exp"  # longer names first
WRAPPED: Final = (
    r"\\(?:text(?:bf|it|rm|sf|tt|up|normal)?|math(?:rm|bf|it|sf|tt|up|normal)|mbox|hbox|operatorname\*?)\s*\{([^{}]*)\}"
)
_SIGNS: Final = {
    "−": "-", "–": "-", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "÷": r"\div ", "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ",
    "°": r"^\circ ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}", "ℕ": r"\mathbb{N}",
    "ℂ": r"\mathbb{C}", "′": "'", "’": "'", "…": r"\ldots ", "≈": r"\approx ", "±": r"\pm ", "²": "^2", "³": "^3",
    "≡": r"\equiv ",
    "（": "(", "）": ")", "，": ",", "；": ";", "：": ":", "⟨": r"\langle ", "⟩": r"\rangle ",
}  # fmt: skip
END: Final = r"(?![A-Za-z])"  # of a command
GREEK: Final = (
    r"\\(?:alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|(?:var)?phi|chi|psi"
    r"|omega|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega)"
)
_GROUP: Final = r"\{(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*+\})*+\})*+\})*+\}"  # in braces, nested up to four deep
_ARGUMENT: Final = rf"(\\pi{END}|{GREEK}{END}|[A-Za-z0-9])"  # without braces
_HALF: Final = r"((?:[^{}]|\{[^{}]*\})*?)"  # of what is around `\over`
_DEGREE: Final = rf"\s*(?:\^\s*(?:\{{\s*\\circ\s*\}}|\\circ{END})|\\degree{END})"
_ANGLE: Final = rf"(\d+(?:\.\d+)?|{GREEK}{END}|[A-Za-z]){_DEGREE}"
_TRIGONOMETRIC: Final = "(?:sin|cos|tan|cot|sec|csc)"
_WITH_ANGLE: Final = (  # one of these functions, of what is in brackets, in a fraction, or one angle
    rf"(\\{_TRIGONOMETRIC}{END}(?:\s*\^\s*(?:\{{\d+\}}|\d))?)\s*(\([^()]*\)|{_GROUP}|\\frac\s*{_GROUP}\s*{_GROUP}|{_ANGLE})"
)


def _in_radians(found: re.Match[str]) -> str:
    r"""Return `\sin 30^\circ` as the sine of a number; a degree is one in 180 parts of pi in there."""
    if not re.search(_DEGREE, found[2]):
        return found[0]
    inner = re.sub(_ANGLE, r"\\frac{\1\\pi}{180}", found[2])
    return f"{found[1]}{inner}" if inner.startswith("(") else f"{found[1]}({inner})"


_TIDY: Final[tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]] = (
    (r"[\x00-\x1f\x7f]", " "),
    (r"\*\*", "^"),
    (rf"\\lg{END}", r"\\log_{10} "),
    (r"\\in\s*(?:\\math(?:bf|rm)\s*\{\s*([NZQRC])\s*\}|([NZQRC])(?![A-Za-z]))", r"\\in \\mathbb{\1\2}"),
    (r"\\left\s*<", r"\\langle "),
    (r"\\right\s*>", r"\\rangle "),
    (r"^\s*\\mathbf\s*\{\s*R\s*\}\s*$|\\R(?:eals)?(?![A-Za-z])", r"\\mathbb{R}"),
    (r"\{\s*\\(?:rm|bf|it)\s+([^{}]*)\}", r"{\\mathrm{\1}}"),
    (r"\\operatorname\*?\s*\{(?:arctg|arctan)\}", r"\\arctan "),
    (r"\\operatorname\*?\s*\{tg\}", r"\\tan "),
    (r"\\operatorname\*?\s*\{ctg\}", r"\\cot "),
    (r"√\s*(\d+)", r"\\sqrt{\1}"),
    ("√", r"\\sqrt "),
    (rf"\\(?:left|right)\s*\.|\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|nolimits){END}", " "),
    (rf"\\lbrace{END}", r"\\{"),
    (rf"\\rbrace{END}", r"\\}"),
    (r"(?<=\d)(?:\{,\}|,\\!)\s*(?=\d{3})", ""),
    (r"(?<!\\)\\[,;:!> ]|~", " "),
    (rf"\\q?quad{END}", ","),
    (r"\\[dtc]frac", r"\\frac"),
    (rf"\\leq?(?:slant)?{END}|<=", r"\\le "),
    (rf"\\geq?(?:slant)?{END}|>=", r"\\ge "),
    (rf"\\neq?{END}|\\not\s*=|!=", r"\\ne "),
    (rf"\\lt{END}", "<"),
    (rf"\\gt{END}", ">"),
    (rf"\\varnothing{END}|\\\{{\s*\\\}}", r"\\emptyset "),
    (rf"\\colon{END}", ":"),
    (rf"(?<![A-Za-z\\])(?={_TRIGONOMETRIC}[\s({{]*{_ANGLE})", r"\\"),
    (_WITH_ANGLE, _in_radians),
    (_DEGREE, " "),
    (r"\\\$", " "),
    (r"\\%", "%"),
    (r"\\(?:mathbf|boldsymbol|bm)\s*\{([A-Za-z])\}", r"\1"),
    (r"\\(?:text|math)(?:rm)?\s*\{([^{}^]*)\^\s*(?:\{([23])\}|([23]))\s*\}", r"\\text{\1}^\2\3"),
    (WRAPPED, r"\\text{\1}"),
    (r"\\text\{\s*\}", " "),
    (r"\\text\{([eidjk])\}|(?<=[+=-])\s*\\text\{\s*([A-Za-z])\s*\}", r" \1\2 "),
    (r"^\s*([A-Z])\s*\)\s*$", r"\1"),
    (r"^\s*(\d+)\s*(?:to|\\text\{\s*to\s*\})\s*(\d+)\s*$", r"\1:\2"),
    (rf"\\text\{{\s*({FUNCTIONS})\s*\}}|(?<![A-Za-z\\])({FUNCTIONS})(?![A-Za-z])", r"\\\1\2 "),
    (r"(?<![^\W\d_])(?<!\\)pi(?![^\W\d_])", r"\\pi "),
    (r"\\text\{\s*(?:infinity|inf)\s*\}|(?<![A-Za-z\\])(?:infinity|inf)(?![A-Za-z])", r"\\infty "),
    (r"\\begin\s*\{(?:array\}\s*\{[clr| ]*|[bpB]?matrix)\}", r"\\begin{pmatrix}"),
    (r"\\end\s*\{(?:array|[bpB]?matrix)\}", r"\\end{pmatrix}"),
    (r"(?<=[A-Za-z])\s*_\s*\{\s*(\w)\s*\}", r"_\1 "),
    (r"\\[dt]binom", r"\\binom"),
    (rf"(\\(?:frac|binom))\s*{_ARGUMENT}", r"\1{\2}"),
    (rf"(\\(?:frac|binom)\s*{_GROUP})\s*{_ARGUMENT}", r"\1{\2}"),
    (r"(\\sqrt\s*\[[^][]*\])\s*(\w)", r"\1{\2}"),
    (rf"\{{{_HALF}\\over{END}{_HALF}\}}", r"\\frac{\1}{\2}"),
    (rf"\{{{_HALF}\\choose{END}{_HALF}\}}", r"\\binom{\1}{\2}"),
    (r"\\(vec|overrightarrow|overline|bar|hat)\s+([A-Za-z])(?![A-Za-z])", r"\\\1{\2}"),
    # 4 1/2 is four and a half; math-verify would add the 4 and the 1
    (r"(?<![\d.,^_/])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])", r"\1\\frac{\2}{\3}"),
    # Derivatives become names with a subscript: math-verify drops the primes, and differentiates y as a constant.
    (
        r"\\frac\{\s*(?:d|\\partial)(?:\s*\^\{?(\d)\}?)?\s*([A-Za-z])\s*\}"
        r"\{\s*(?:d|\\partial)\s*([A-Za-z])(?:\s*\^\{?\d\}?)?\s*\}",
        r"\2_{d\1\3}",
    ),
    (r"(?<![A-Za-z\\])d([A-Za-z])\s*/\s*d([A-Za-z])(?![A-Za-z])", r"\1_{d\2}"),
    (r"(?<![A-Za-z\\])([fghFGH])\s*\^\s*\{\s*-\s*1\s*\}(?=\s*\()", r"\1_{inv}"),
)


def tidy(formula: str) -> str:
    """Return a formula in one way of writing: without spacing and sizes, and with one command for each sign."""
    text = formula.translate({ord(sign): command for sign, command in _SIGNS.items()})
    for pattern, replacement in _TIDY:
        text = re.sub(pattern, replacement, text)
    for _ in range(3):
        text = re.sub(r"(\\sqrt|\^)\s*\(((?:[^()]|\([^()]*\))*)\)", r"\1{\2}", text)
    text = re.sub(
        rf"(?!{GREEK})\\[A-Za-z]+|({GREEK}|[A-Za-z])\s*(?:\^\s*\{{?\s*((?:\\prime\s*)+)\}}?|('+))", _primed, text
    )
    text = re.sub(r"(?<![\d.,^_])(\d{1,9})\s*\\frac\{(\d{1,9})\}\{(\d{1,9})\}", _mixed, text)
    text = re.sub(r"(\d*)\.(\d*)\\(?:overline|bar)\s*(?:\{(\d{1,9})\}|(\d))", _repeating, text)
    text = re.sub(r"(?<=\d)\.(?![\d.])", "", re.sub(r"(?<![\d.])\.(?=\d)", "0.", text))
    return re.sub(r"^[\s,;]+|[\s.,;]+$", "", " ".join(text.split()))


def _primed(found: re.Match[str]) -> str:
    """Return `y''` as `y_{pp}`, and a command as it is."""
    if not found[1]:
        return found[0]
    count = found[0].count("\\prime") or found[0].count("'")
    return f"{found[1]}_{{{'p' * count}}}"


def _mixed(found: re.Match[str]) -> str:
    r"""Return a mixed number, as `2\frac{1}{2}`, as a fraction, and what only looks like one as it is."""
    whole, top, bottom = map(int, found.groups())
    return rf"\frac{{{whole * bottom + top}}}{{{bottom}}}" if 0 < top < bottom else found[0]


def _repeating(found: re.Match[str]) -> str:
    r"""Return `0.1\overline{6}` as a fraction."""
    whole, decimals, period = found[1], found[2], found[3] or found[4]
    value = Fraction(int((whole or "0") + decimals), 10 ** len(decimals))
    value += Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(decimals))
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"
