"""Judge answers that are one of several choices: the choice's letter, or its text."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from grpo_colab.errors import shown
from grpo_colab.rewards.graders.grader import _NO_COLUMNS, NO_ANSWER, Grader, Row, stated
from grpo_colab.rewards.graders.texts import DEFAULT_IGNORED, bare, normalised
from grpo_colab.rewards.grading import Reason, Verdict, after_thoughts

COLUMN: Final = "choices"  # of a data set whose problems have choices of their own
MOST_CHOICES: Final = 1_000
_LEAD_IN: Final = (
    r"(?:(?:so|thus|therefore),?\s+)?(?:the|my)?\s*(?:final|correct|right|best)?\s*"
    r"(?:answer|choice|option)\s*(?:is|:|=)?\s*:?\s*"
)
_LABEL: Final = r"[A-Za-z]|[0-9]{1,3}"
# A label as people write it, `(B)`, `B.`, `B)`, `[B]`, `B:`, and the text that may follow it.
_LABELLED: Final = rf"[(\[]?({_LABEL})(?:[)\].:]+\s*|\s+[-–—:]\s+|\Z)(.*)"
# Where a text names another choice as well.
_ANOTHER: Final = r"(?:^|[\s,;(\[])[(\[]?[A-Z][)\]](?:\s|$)|\b(?:or|and)\s+[(\[]?[A-Z]\b"

Choices = dict[str, str]  # a choice's label -> its text


def choices_of(value: object) -> Choices:
    """Return a row's choices, or those of a setting, by their labels.

    `value` is a list of texts, whose labels are A, B, C, ...; a mapping of labels to texts; or a mapping with two
    lists, `label` and `text`, as ARC has it. Raises ValueError, which shows the value, for anything else, for fewer
    than two choices, and for two that are equal.
    """
    labels: Sequence[Any]
    texts: Sequence[Any]
    if isinstance(value, Mapping) and {"label", "text"} <= set(value):
        labels, texts = value["label"], value["text"]
    elif isinstance(value, Mapping):
        labels, texts = list(value), list(value.values())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        labels, texts = [_letter(index) for index in range(len(value))], value
    else:
        raise ValueError(f"is no list of choices, and no mapping of letters to choices: {shown(value)}")
    if len(labels) != len(texts) or not 2 <= len(texts) <= MOST_CHOICES:
        raise ValueError(f"has {len(texts)} choices and {len(labels)} labels; write 2 or more: {shown(value)}")
    choices = {str(label).strip(): str(text).strip() for label, text in zip(labels, texts, strict=True)}
    if len(choices) < len(texts) or len(set(map(_key, choices.values()))) < len(texts) or not all(choices.values()):
        raise ValueError(f"has an empty choice, or two that are equal: {shown(value)}")
    return choices


def _letter(index: int) -> str:
    """Return the label of the choice at an index: A to Z, then numbers from 27."""
    return string.ascii_uppercase[index] if index < 26 else str(index + 1)


def _key(text: str) -> str:
    return normalised(text, DEFAULT_IGNORED)


def listed(choices: Choices) -> str:
    """Return choices as a prompt lists them, one per line: `A) tool`."""
    return "\n".join(f"{label}) {text}" for label, text in choices.items())


@dataclass(frozen=True, kw_only=True)
class ChoiceGrader(Grader):
    """Judge a choice by its label or its text: `B`, `(B)`, `B.`, `tool`, `B) tool`.

    `choices` are those of all problems; without them, each row may have its own in a column `choices`. Where neither
    says what there is, a gold answer is a label, or the text of a choice.
    """

    kind: ClassVar[str] = "choice"
    reasons: ClassVar[tuple[Reason, ...]] = ("right", "wrong", *NO_ANSWER, "many_answers", "not_a_choice", "too_long")
    lenient: ClassVar[str] = "by the last choice that is named"
    needs_row: ClassVar[bool] = True

    choices: tuple[str, ...] = ()

    def _choices(self, row: Row) -> Choices:
        """Return the choices of a row, an empty dict where they are not known. Raises ValueError as `choices_of`."""
        if self.choices:
            return choices_of(self.choices)
        value = row.get(COLUMN)
        if value is None:
            return {}
        try:
            return choices_of(value)
        except ValueError as error:
            raise ValueError(f"the column {COLUMN!r} {error}") from None

    def read_gold(self, gold: str, row: Row = _NO_COLUMNS) -> str:
        """Return the label of the gold choice, or its text where the choices are not known.

        Where the choices are known, the gold is a label, a text, `B) tool`, or the index of a choice from 0.
        """
        text, choices = bare(stated(gold)), self._choices(row)
        if not choices:
            labelled = re.fullmatch(_LABELLED, text)
            return labelled[1].upper() if labelled and not labelled[2] else _key(text)
        label = _read(text, choices)
        if label in choices:
            return label
        if re.fullmatch("[0-9]{1,3}", text) and int(text) < len(choices):
            return list(choices)[int(text)]
        raise ValueError(f"the gold answer {shown(gold)} is none of the choices {shown(list(choices.values()))}")

    def judge(self, response: str, gold: str, row: Row) -> Verdict:
        wanted, choices = self.read_gold(gold, row), self._choices(row)
        given = _read(response, choices) if choices else _read_unknown(response, wanted)
        if given in ("many_answers", "not_a_choice"):
            return Verdict(given)  # type: ignore[arg-type] # mypy does not narrow a str to the two literals
        return Verdict("right" if given == wanted else "wrong")

    def lenient_right(self, completion: str, gold: str, row: Row = _NO_COLUMNS) -> bool:
        if self.grade(completion, gold, row).right:
            return True
        text, choices = after_thoughts(completion, self.reasoning_tag), self._choices(row)
        wanted = self.read_gold(gold, row)
        places: dict[str, int] = {}
        for label, choice in (choices or {wanted: wanted}).items():
            names = [rf"(?<![\w'’]){re.escape(choice)}(?!\w)"] if len(choice) > 1 else []
            for pattern in (*names, rf"[(\[]{re.escape(label)}[)\]]|(?<![\w'’]){re.escape(label)}(?=[).:]|\W*\Z)"):
                flags = re.IGNORECASE if pattern in names else 0
                ends = [match.end() for match in re.finditer(pattern, text, flags)]
                places[label] = max([places.get(label, -1), *ends])
        last = max(places, key=lambda label: places[label])
        return places[last] >= 0 and last == wanted

    def golden_answer(self, gold: str, row: Row = _NO_COLUMNS) -> str:
        choices = self._choices(row)
        if not choices:
            return stated(gold)
        label = self.read_gold(gold, row)
        return choices[label] if self.choices else label

    def with_choices(self, prompt: str, row: Row) -> str:
        """Return a prompt with the row's own choices below it, one per line, unless it has one of them already."""
        choices = {} if self.choices else self._choices(row)
        if not choices or any(choice.casefold() in prompt.casefold() for choice in choices.values()):
            return prompt
        return f"{prompt.rstrip()}\n{listed(choices)}"

    def request(self) -> str:
        if not self.choices:
            return "The answer is one of the choices: write its letter alone."
        return f"The answer is one of these, and nothing else: {', '.join(self.choices)}."


def _read(answer: str, choices: Choices) -> str:
    """Return the label of the choice that an answer names; "many_answers" or "not_a_choice" where it names no one.

    A label counts in any case. A text that is a label of another choice, such as "A" for vitamin A, counts only behind
    its own label.
    """
    text = _without_lead_in(bare(answer))
    labels = {label.casefold(): label for label in choices}
    texts = {_key(choice): label for label, choice in choices.items() if choice.casefold() not in labels}
    if _key(text) in texts:
        return texts[_key(text)]
    labelled = re.fullmatch(_LABELLED, text, re.DOTALL)
    label = labels.get(labelled[1].casefold()) if labelled else None
    if labelled is None or label is None:
        label, rest = labels.get(text.strip("()[]").casefold()), ""
    else:
        rest = labelled[2].strip()
    if label is not None and (not rest or _key(rest) == _key(choices[label])):
        return label
    named = [one for one, choice in choices.items() if _names(text, one, choice)]
    return "many_answers" if len(named) > 1 else "not_a_choice"


def _names(text: str, label: str, choice: str) -> bool:
    """Tell whether a text names a choice anywhere, by its label or by its text."""
    by_text = re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text, re.IGNORECASE)
    return bool(by_text or re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text))


def _read_unknown(answer: str, wanted: str) -> str:
    """Return the label or the text that an answer names, where the choices are not known.

    `wanted` is what the gold answer names. Behind a label that is wanted there may be any one text; where a text is
    wanted, it may stand behind any label.
    """
    text = _without_lead_in(bare(answer))
    if _key(text) == wanted.casefold():
        return wanted
    labelled = re.fullmatch(_LABELLED, text, re.DOTALL) or re.fullmatch(rf"({_LABEL})()", text.strip("()[]"))
    if labelled is None:
        return "many_answers" if re.search(_ANOTHER, text) else _key(text)
    label, rest = labelled[1].upper(), labelled[2].strip()
    if not rest:
        return label
    if re.search(_ANOTHER, rest) or "\n" in rest or len(rest) > 200:
        return "many_answers"
    return wanted if _key(rest) == wanted.casefold() else label


def _without_lead_in(text: str) -> str:
    """Return an answer without words such as "The answer is" before it."""
    return bare(re.sub(rf"\A{_LEAD_IN}", "", text, flags=re.IGNORECASE)) or text
