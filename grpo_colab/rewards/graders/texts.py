"""Judge answers that are texts, compared as wholes: names, words, categories."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar, Final

from grpo_colab.errors import shown
from grpo_colab.rewards.graders.grader import _NO_COLUMNS, Grader, Row, stated
from grpo_colab.rewards.grading import Verdict, after_thoughts

# What a comparison may ignore, in the order in which it is taken off. Numbers keep their punctuation.
IGNORABLE: Final = ("case", "punctuation", "articles", "spaces")
DEFAULT_IGNORED: Final = ("case", "spaces")
_ARTICLES: Final = r"\b(?:a|an|the)\b"
_LATEX: Final = r"\\(?:text|textbf|textit|mathrm|mathbf|boxed)\s*\{([^{}]*)\}"
# Marks around an answer that belong to no answer, with what closes them.
_PAIRS: Final = (("**", "**"), ("__", "__"), ("*", "*"), ("`", "`"), ("$", "$"), ('"', '"'), ("“", "”"), ("'", "'"))


def bare(text: str) -> str:
    """Return a text without Markdown, LaTeX and quotes around it, composed as NFC, and without a full stop at its end.

    Only what surrounds the whole text is taken off. A text of such marks alone stays as it is.
    """
    text = unicodedata.normalize("NFC", text).strip()
    while True:
        shorter = text.removesuffix(".").rstrip() if not text.endswith("..") else text
        latex = re.fullmatch(_LATEX, shorter)
        shorter = latex[1].strip() if latex else shorter
        for opening, closing in _PAIRS:
            inner = shorter[len(opening) : len(shorter) - len(closing)]
            is_around = shorter.startswith(opening) and shorter.endswith(closing) and len(shorter) > len(opening)
            if is_around and inner.strip() and opening not in inner and closing not in inner:
                shorter = inner.strip()
                break
        if shorter == text or not shorter:
            return text
        text = shorter


def normalised(text: str, ignore: tuple[str, ...] = DEFAULT_IGNORED) -> str:
    """Return a text as it is compared, without what `ignore` names: see IGNORABLE.

    `punctuation` is every sign of Unicode's categories P and S, but for one between two digits, as in 1.5, and a minus
    before one. `articles` are a, an and the. Marks around the whole text never count: see `bare`.
    """
    text = bare(text)
    if "case" in ignore:
        text = text.casefold()
    if "punctuation" in ignore:
        text = "".join(_without_sign(text, index) for index in range(len(text)))
    if "articles" in ignore:
        text = re.sub(_ARTICLES, " ", text, flags=re.IGNORECASE)
    if "spaces" in ignore:
        text = " ".join(text.split())
    return text.strip() if {"punctuation", "articles"} & set(ignore) else text


def _without_sign(text: str, index: int) -> str:
    """Return the character at an index, or a space where it is punctuation that does not belong to a number."""
    character = text[index]
    if unicodedata.category(character)[0] not in "PS":
        return character
    before, after = text[index - 1 : index] if index else "", text[index + 1 : index + 2]
    in_number = after.isdigit() and (before.isdigit() or (character in "-−+" and not before.isalnum()))
    return character if in_number else " "


@dataclass(frozen=True, kw_only=True)
class TextGrader(Grader):
    """Judge a text by whether it equals the gold text, but for what `ignore` names: see `normalised`."""

    kind: ClassVar[str] = "text"
    lenient: ClassVar[str] = "by the last words alone"

    ignore: tuple[str, ...] = DEFAULT_IGNORED

    def read_gold(self, gold: str, row: Row = _NO_COLUMNS) -> str:
        text = normalised(stated(gold), self.ignore)
        if not text:
            raise ValueError(f"nothing is left of the gold answer {shown(gold)} without {', '.join(self.ignore)}")
        return text

    def judge(self, response: str, gold: str, row: Row) -> Verdict:
        return Verdict("right" if normalised(response, self.ignore) == self.read_gold(gold) else "wrong")

    def lenient_right(self, completion: str, gold: str, row: Row = _NO_COLUMNS) -> bool:
        if self.grade(completion, gold).right:
            return True
        text = re.sub(r"</?[A-Za-z_][\w.-]*>", " ", after_thoughts(completion, self.reasoning_tag))
        words, wanted = normalised(text, self.ignore).split(), self.read_gold(gold).split()
        return words[-len(wanted) :] == wanted

    def golden_answer(self, gold: str, row: Row = _NO_COLUMNS) -> str:
        return stated(gold)
