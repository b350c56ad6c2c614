"""Judge answers that are texts, compared as wholes: names, words, categories."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar, Final

from grpo_colab.errors import shown
from grpo_colab.rewards.graders.grader import NO_COLUMNS, Grader, Row, stated
from grpo_colab.rewards.grading import Verdict, after_thoughts

# What a comparison may ignore, in the order in which it is taken off. Numbers keep their punctuation.
IGNORABLE: Final = ("case", "punctuation", "articles", "spaces")
DEFAULT_IGNORED: Final = ("case", "spaces")
_ARTICLES: Final = r"\b(?:a|an|the)\b(?=\s*\S)"  # but not the last word, as in vitamin A
_KEPT: Final = "#%&@*/\\+"  # punctuation that makes another word: C# is not C
_SHORT_NAME: Final = r"[^\W\d_]{1,2}"
_LATEX: Final = r"\\(?:text|math)?(?:text|bf|it|rm|sf|tt|boxed|mbox|underline|emph)?\s*\{(.*)\}"
_HTML: Final = r"</?(?:b|i|u|em|strong|code|p|span)>"
_INVISIBLE: Final = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_SAME_SIGN: Final = str.maketrans("’‘ʼ‚＇“”„«»＂。．（）−", 5 * "'" + 6 * '"' + 2 * "." + "()-")
# Marks around an answer that belong to no answer, with what closes them.
_PAIRS: Final = (("***", "***"), ("**", "**"), ("__", "__"), ("*", "*"), ("_", "_"), ("```", "```"), ("`", "`"))
_QUOTES: Final = (
    ("$$", "$$"),
    ("$", "$"),
    (r"\(", r"\)"),
    *map(tuple, ('""', "''", "()", "「」", "『』", "【】", "《》", "‹›")),
)
_MOST_MARKS: Final = 12  # around one another
_LEAD_IN: Final = (
    r"(?:(?:so|thus|therefore),?\s+)?(?:(?:the|my)\s+)?(?:(?:final|correct|right|best)\s+)?"
    r"answer(?:\s+is)?\s*(?::|=|(?<=is))\s*"
)
_TAIL: Final = 2_000  # characters at the end of a completion in which its last words are


def bare(text: str) -> str:
    """Return a text without Markdown, LaTeX, HTML and quotes around it, composed as NFC, and without a last full stop.

    Only what surrounds the whole text is taken off. A text of such marks alone stays as it is.
    """
    text = unicodedata.normalize("NFC", text).translate(_INVISIBLE).translate(_SAME_SIGN)
    text = re.sub(_HTML, "", text).replace("\\ ", " ").strip()
    for _ in range(_MOST_MARKS):
        shorter = text[:-1].rstrip() if text.endswith(".") and not text.endswith("..") else text
        latex = re.fullmatch(_LATEX, shorter, re.DOTALL)
        if latex and latex[1].find("}") >= latex[1].find("{"):  # of several commands, not the first alone
            shorter = latex[1].strip()
        for opening, closing in (*_PAIRS, *_QUOTES):
            inner = shorter[len(opening) : len(shorter) - len(closing)]
            is_around = shorter.startswith(opening) and shorter.endswith(closing) and len(shorter) > len(opening)
            if is_around and inner.strip() and opening not in inner and closing not in inner:
                shorter = inner.strip()
                break
        if shorter == text or not shorter:
            break
        text = shorter
    return text


def without_lead_in(text: str) -> str:
    """Return an answer without words such as "The answer is" before it."""
    return bare(re.sub(rf"\A{_LEAD_IN}", "", text, flags=re.IGNORECASE)) or text


def normalised(text: str, ignore: tuple[str, ...] = DEFAULT_IGNORED) -> str:
    """Return a text as it is compared, without what `ignore` names: see IGNORABLE.

    `punctuation` is every sign of Unicode's categories P, but for those that make another word (C# is not C), those of
    a number, as in 1.5 and -5, and the minus of a short name, as in -x and AB-. `articles` are a, an and the. Marks
    around the whole text never count: see `bare`.
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
    """Return the character at an index, or what takes its place where it is punctuation that belongs to no number.

    An apostrophe and a full stop within a word vanish; other signs become a space.
    """
    character = text[index]
    if unicodedata.category(character)[0] != "P" or character in _KEPT:
        return character
    before, after = text[index - 1 : index] if index else "", text[index + 1 : index + 2]
    if character in "-–" and _is_sign_of_name(text, index):
        return "-"
    if after.isdigit() and (before.isdigit() or (character in "-." and not before.isalnum())):
        return character
    return "" if character in "'." and before.isalpha() else " "


def _is_sign_of_name(text: str, index: int) -> bool:
    """Tell whether the minus at an index stands before or behind a name of one or two letters, as in -x and AB-."""
    before, after = text[max(0, index - 3) : index], text[index + 1 : index + 4]
    if before[-1:].isalnum() == after[:1].isalnum():
        return False
    return bool(re.match(rf"{_SHORT_NAME}(?!\w)", after) or re.search(rf"(?:\A|\W){_SHORT_NAME}\Z", before))


@dataclass(frozen=True, kw_only=True)
class TextGrader(Grader):
    """Judge a text by whether it equals the gold text, but for what `ignore` names: see `normalised`."""

    kind: ClassVar[str] = "text"
    lenient: ClassVar[str] = "by the last words alone"

    longest: ClassVar[int] = 4_000

    ignore: tuple[str, ...] = DEFAULT_IGNORED

    def read_gold(self, gold: str, row: Row = NO_COLUMNS) -> str:
        text = normalised(stated(gold), self.ignore)
        if not text:
            raise ValueError(f"nothing is left of the gold answer {shown(gold)} without {', '.join(self.ignore)}")
        return text

    def judge(self, response: str, gold: str, row: Row) -> Verdict:
        wanted = self.read_gold(gold)
        said = (response, without_lead_in(bare(response)))
        return Verdict("right" if any(normalised(text, self.ignore) == wanted for text in said) else "wrong")

    def lenient_right(self, completion: str, gold: str, row: Row = NO_COLUMNS) -> bool:
        if self.grade(completion, gold).right:
            return True
        last = after_thoughts(completion, self.reasoning_tag)[-_TAIL:]
        text = re.sub(r"</?[A-Za-z_][\w.-]*>", " ", last)
        words, wanted = normalised(text, self.ignore).split(), self.read_gold(gold).split()
        return words[-len(wanted) :] == wanted

    def golden_answer(self, gold: str, row: Row = NO_COLUMNS) -> str:
        return " ".join(stated(gold).split()) if "spaces" in self.ignore else stated(gold)
