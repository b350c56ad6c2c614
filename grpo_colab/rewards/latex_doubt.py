r"""Find what makes a formula no answer: a question that is left to work out, and words that deny, hedge or scale."""

from __future__ import annotations

import re
from typing import Final

from grpo_colab.rewards import languages
from grpo_colab.rewards.latex_tidy import FUNCTIONS, GREEK, tidy
from grpo_colab.rewards.latex_tree import Node, without_commands

# These patterns are text, so that they are compiled at their first use and not at import.
_D: Final = r"(?:d|\\partial|\{\s*(?:d|\\partial)\s*\})"
# What is a question, and no answer, unless the gold answer has it, too. Names as `y_{dx}` are no derivatives to take.
_QUESTION: Final = (
    r"\\(?:i*int|oint|sum|prod|lim|limsup|liminf|max|min|gcd|lcm|det|[bp]?mod)(?![A-Za-z])"
    rf"|\\frac\s*\{{\s*{_D}(?:[^{{}}]|\{{[^{{}}]*\}})*\}}\s*\{{\s*{_D}\s*(?:{GREEK}|[A-Za-z])|(?<![A-Za-z])d\s*/\s*d\s*[a-z]"
    r"|\\begin\s*\{[vV]matrix|(?:\||\\[lr]?vert)\s*\\begin"
    r"|\\end\s*\{\w+\}\s*\)?\s*(?:\^\s*\{?\s*-?\d|(?:\\(?:cdot|times))?\s*\(?\s*\\begin)"
    r"|\|\s*_|[∫∮∑∏∂]|(?<![A-Za-z\\])lim(?![A-Za-z])"
)
_UNDERSTOOD: Final = frozenset(f"inf infinity {FUNCTIONS}".replace("|", " ").split())


def has_new_question(formula: str, gold: str) -> bool:
    """Tell whether an answer has a question that the gold answer has not, such as an integral to take."""
    return bool(_questions(formula) - _questions(gold))


def _questions(formula: str) -> set[str]:
    """Return the questions in a formula."""
    return {found[0].replace(" ", "") for found in re.finditer(_QUESTION, tidy(formula))}


def has_doubt(formula: str, gold: str, expected: Node) -> bool:
    """Tell whether an answer has words that deny, hedge or scale, which the gold answer, read as `expected`, has not.

    Letters, and names of functions, are no words: many of them are words that doubt in some language.
    """
    words = without_commands(formula)
    allowed = {word.lower() for word in re.findall(r"[^\W\d_]+", without_commands(gold))} | _UNDERSTOOD
    parts = expected[3][-1] if expected[0] == "equation" else expected
    if "mod" in gold:
        allowed |= {"mod"}
    if parts[0] in ("list", "set") or "\\cup" in gold:
        allowed |= {"or"}  # "1 or 2" states the set of 1 and 2
    text = re.sub(
        r"[^\W\d_]+",
        lambda word: " " if word[0].lower() in allowed or re.match(r"[A-Za-z]\Z", word[0]) else word[0],
        words,
    )
    return languages.is_doubtful(text)
