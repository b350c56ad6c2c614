r"""Find what makes a formula no answer: a question that is left to work out, and words that deny, hedge or scale."""

from __future__ import annotations

import re
from typing import Final

from grpo_colab.rewards import languages
from grpo_colab.rewards.grading import BOX, after_thoughts
from grpo_colab.rewards.latex_tidy import FUNCTIONS, tidy
from grpo_colab.rewards.latex_tree import Node, without_commands

# These patterns are text, so that they are compiled at their first use and not at import.
_D: Final = r"(?:\{?\s*d\s*\}?|\{?\s*\\partial\s*\}?)"
# What is a question, and no answer, unless the gold answer has it, too. Names as `y_{dx}` are no derivatives to take.
_QUESTION: Final = (
    r"\\(?:i*int|oint|sum|prod|lim|limsup|liminf|max|min|gcd|lcm|det|[bp]?mod)(?![A-Za-z])"
    rf"|\\frac\s*\{{\s*{_D}[^|]*?\}}\s*\{{\s*{_D}\s*[A-Za-z]|(?<![A-Za-z])d\s*/\s*d\s*[a-z]"
    r"|\\begin\s*\{[vV]matrix|\|\s*\\begin"
)
_UNDERSTOOD: Final = frozenset(f"inf infinity {FUNCTIONS}".replace("|", " ").split())
_MOST_WORDS: Final = 4  # before or after a box, that may deny it
_CLAUSE_END: Final = r"[.,;!?\n]"
_SAID_AFTER: Final = r"(?i)[\s$\\)\]]*(?:is|are|was|were|isn|aren|wasn|does|doesn|can|cannot|could|would)\b"


def has_new_question(formula: str, gold: str) -> bool:
    """Tell whether an answer has a question that the gold answer has not, such as an integral to take."""
    return bool(_questions(formula) - _questions(gold))


def _questions(formula: str) -> set[str]:
    """Return the questions in a formula, as it is written and as it is when tidy."""
    return {found[0].replace(" ", "") for text in (formula, tidy(formula)) for found in re.finditer(_QUESTION, text)}


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


def denies_its_box(completion: str) -> bool:
    r"""Tell whether a few words around a `\boxed{}` deny or hedge what is in it, as in "It is not 18"."""
    text, start = after_thoughts(completion), 0
    for box in re.finditer(BOX, text):
        before = re.split(_CLAUSE_END, text[max(start, box.start() - 200) : box.start()])[-1]
        after = re.split(_CLAUSE_END, text[box.end() : box.end() + 200])[0]
        said = _words(after)[:_MOST_WORDS] if re.match(_SAID_AFTER, after) else []
        if any(languages.is_doubtful(" ".join(words)) for words in (_words(before)[-_MOST_WORDS:], said)):
            return True
        start = box.end()
    return False


def _words(text: str) -> list[str]:
    """Return the words of a text, without single letters, which are names."""
    return re.findall(r"[^\W\d_]{2,}(?:['’][^\W\d_]+)?", without_commands(text))
