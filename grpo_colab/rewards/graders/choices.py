"""Judge answers that are one of several choices: the choice's letter, or its text."""

from __future__ import annotations

import json
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from grpo_colab.errors import shown
from grpo_colab.rewards.graders.grader import NO_ANSWER, NO_COLUMNS, Grader, Row, stated
from grpo_colab.rewards.graders.texts import bare, normalised, without_lead_in
from grpo_colab.rewards.grading import Reason, Verdict, after_thoughts

COLUMN: Final = "choices"  # of a data set whose problems have choices of their own
MOST_CHOICES: Final = 1_000
_TAIL: Final = 20_000  # characters at the end of a completion in which a choice is looked for leniently
_LEAD_IN: Final = (
    r"(?:(?:so|thus|therefore),?\s+)?(?:i(?:\s+would)?\s+(?:choose|pick|say)|it\s+is|it's)?\s*(?:(?:the|my)\s+)?"
    r"(?:(?:final|correct|right|best)\s+)?(?:(?:answer|choice|option)\s*(?:is|:|=)?\s*:?\s*)*"
)
_TAIL_WORDS: Final = r"\s+is\s+(?:the\s+)?(?:correct|right|best)(?:\s+(?:answer|choice|option|one))?\s*[.!]?\Z"
_AROUND: Final = " \t\n\r.,;:!()[]{}<>*_#-–—`'\""  # what may stand around a label
_LABEL: Final = r"[A-Za-z]|[0-9]{1,3}"
# A label as people write it, `(B)`, `B.`, `B)`, `[B]`, `B:`, and the text that may follow it.
_LABELLED: Final = rf"[(\[]?({_LABEL})(?:[)\].:]+\s*|\s+[-–—:]\s+|\Z)(.*)"
# The words that may follow a label where the choices are not known: no sign, no other label, no doubt.
_PLAIN_WORDS: Final = r"(?:a|[^\W\d_]{2,})(?:[ '’-]+(?:a|[^\W\d_]{2,}))*"
_DOUBT: Final = r"(?i)\b(?:not|no|or|maybe|perhaps|wrong|incorrect|but|nor|never|isn|aren|unless|except|either)\b"

Choices = dict[str, str]  # a choice's label -> its text


def choices_of(value: object) -> Choices:
    """Return a row's choices, or those of a setting, by their labels.

    `value` is a list of texts, whose labels are A, B, C, ...; a mapping of labels to texts; a mapping with two lists,
    `label` and `text`, as ARC has it; a list of such pairs; or the JSON text of one of these, as a cell of a table has
    it. Choices that are null are left out. A label that a text bears itself, as in "A) tool", is taken off. Raises
    ValueError, which shows the value, for anything else, for fewer than two choices, and for two that are equal.
    """
    given = value
    if isinstance(value, str):
        try:
            given = json.loads(value)
        except ValueError:
            given = None
    pairs = _pairs(given)
    if pairs is None:
        raise ValueError(f"is no list of choices, and no mapping of letters to choices: {shown(value)}")
    choices: Choices = {}
    for label, text in pairs:
        if text is not None:
            choices.setdefault(str(label).strip(_AROUND), str(text).strip())
    count = sum(text is not None for _, text in pairs)
    if not 2 <= count <= MOST_CHOICES:
        raise ValueError(f"has {count} choices; write 2 or more: {shown(value)}")
    bears = {
        label: re.fullmatch(rf"[(\[]?{re.escape(label)}[)\].:]+\s*(\S.*)", text) for label, text in choices.items()
    }
    if all(bears.values()):
        choices = {label: found[1] for label, found in bears.items() if found}
    if len(choices) < count or len(set(choices.values())) < count or not all(choices.values()) or "" in choices:
        raise ValueError(f"has an empty choice, or two that are equal: {shown(value)}")
    return choices


def _pairs(value: object) -> list[tuple[Any, Any]] | None:
    """Return labels and texts as they are given; None for what has none."""
    if isinstance(value, Mapping) and {"label", "text"} <= set(value):
        labels, texts = value["label"], value["text"]
        are_lists = all(isinstance(one, Sequence) and not isinstance(one, str) for one in (labels, texts))
        return list(zip(labels, texts, strict=False)) if are_lists and len(labels) == len(texts) else None
    if isinstance(value, Mapping):
        return list(value.items())
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    if value and all(isinstance(one, Mapping) and {"label", "text"} <= set(one) for one in value):
        return [(one["label"], one["text"]) for one in value]
    if any(isinstance(one, Mapping | list | tuple) for one in value):
        return None
    return [(_letter(index), text) for index, text in enumerate(value)]


def _letter(index: int) -> str:
    """Return the label of the choice at an index: A to Z, then AA, AB, and so on."""
    name = ""
    rest = index + 1
    while rest:
        rest, letter = divmod(rest - 1, 26)
        name = string.ascii_uppercase[letter] + name
    return name


def _key(text: str) -> str:
    return normalised(unicodedata.normalize("NFKC", text))


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

    longest: ClassVar[int] = 4_000

    choices: tuple[str, ...] = ()

    def gold_of(self, value: object, row: Row) -> str:
        """Return a gold answer as text; a whole number is the index of a choice from 0 where the choices are known."""
        if isinstance(value, int) and not isinstance(value, bool):
            choices = self._choices(row)
            label = list(choices)[value] if 0 <= value < len(choices) else ""
            if label and str(value) not in choices:
                return choices[label] if self.choices else label
        return self.gold_text(value)

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

    def read_gold(self, gold: str, row: Row = NO_COLUMNS) -> str:
        """Return the label of the gold choice, or its text where the choices are not known.

        Where the choices are known, the gold is a label, a text, `B) tool`, or the index of a choice from 0.
        """
        text, choices = bare(stated(gold)), self._choices(row)
        if not choices:
            labelled = re.fullmatch(_LABELLED, text)
            return labelled[1].upper() if labelled and not labelled[2] else _key(text)
        label = _read(text, choices, not self.choices)
        if label in choices:
            return label
        if re.fullmatch("[0-9]{1,3}", text) and int(text) < len(choices):
            return list(choices)[int(text)]
        raise ValueError(f"the gold answer {shown(gold)} is none of the choices {shown(list(choices.values()))}")

    def judge(self, response: str, gold: str, row: Row) -> Verdict:
        wanted, choices = self.read_gold(gold, row), self._choices(row)
        given = _read(response, choices, not self.choices) if choices else _read_unknown(response, wanted)
        if given in ("many_answers", "not_a_choice"):
            return Verdict(given)  # type: ignore[arg-type] # mypy does not narrow a str to the two literals
        return Verdict("right" if given == wanted else "wrong")

    def lenient_right(self, completion: str, gold: str, row: Row = NO_COLUMNS) -> bool:
        if self.grade(completion, gold, row).right:
            return True
        text = after_thoughts(completion, self.reasoning_tag)[-_TAIL:]
        wanted, choices = self.read_gold(gold, row), self._choices(row)
        places: dict[str, tuple[int, int]] = {}  # where a choice is named last: its end, and how much is named
        for label, choice in (choices or {wanted: wanted}).items():
            flags = 0 if len(choice) == 1 else re.IGNORECASE
            named = [match.span() for match in re.finditer(rf"(?<![\w'’]){re.escape(choice)}(?!\w)", text, flags)]
            mark = rf"[(\[]{re.escape(label)}[)\]]|(?<![\w'’]){re.escape(label)}(?=[).:]|\W*\Z)"
            named += [match.span() for match in re.finditer(mark, text)]
            places[label] = max(((end, end - start) for start, end in named), default=(-1, 0))
        last = max(places, key=lambda label: places[label])
        return places[last][0] >= 0 and last == wanted

    def golden_answer(self, gold: str, row: Row = NO_COLUMNS) -> str:
        choices = self._choices(row)
        if not choices:
            return stated(gold)
        label = self.read_gold(gold, row)
        return choices[label] if self.choices else label

    def with_choices(self, prompt: str, row: Row) -> str:
        """Return a prompt with the row's own choices below it, one per line, unless it has all of them already."""
        choices = {} if self.choices else self._choices(row)
        shown_there = [
            re.search(rf"(?<!\w){re.escape(text)}(?!\w)", prompt, re.IGNORECASE) for text in choices.values()
        ]
        return prompt if all(shown_there) else f"{prompt.rstrip()}\n{listed(choices)}"

    def request(self) -> str:
        if not self.choices:
            return "The answer is one of the choices: write its letter alone."
        return f"The answer is one of these, and nothing else: {', '.join(self.choices)}."


def _read(answer: str, choices: Choices, has_labels: bool) -> str:
    """Return the label of the choice that an answer names; "many_answers" or "not_a_choice" where it names no one.

    With `has_labels` the prompt shows labels, which then come before texts: "A" is the choice A, and no vitamin.
    Without, texts come first, and a label counts only where no choice has it for its text.
    """
    keys = [_key(choice) for choice in choices.values()]
    by_text = {_key(text): label for label, text in choices.items() if keys.count(_key(text)) == 1}
    by_text |= {text: label for label, text in choices.items() if keys.count(_key(text)) > 1}  # by their case alone
    labels = {label.casefold(): label for label in choices}
    if has_labels:
        by_text = {text: label for text, label in by_text.items() if text.casefold() not in labels}
    else:
        labels = {key: label for key, label in labels.items() if key not in by_text}
    for text in _said(answer):
        for found in (by_text.get(_key(text)), by_text.get(text)):
            if found is not None:
                return found
        label = labels.get(text.strip(_AROUND).casefold())
        if label is not None:
            return label
        for key, one in labels.items():
            if _key(choices[one]) and _has_both(text, key, _key(choices[one])):
                return one
    text = bare(answer)
    named = [one for one, choice in choices.items() if _names(text, one, choice)]
    return "many_answers" if len(named) > 1 else "not_a_choice"


def _said(answer: str) -> list[str]:
    """Return the forms of an answer that are looked up: as it is, and without the words before it and behind it."""
    whole = unicodedata.normalize("NFKC", bare(answer)).replace("**", "").replace("__", "")
    whole = bare(whole)
    short = bare(re.sub(rf"\A{_LEAD_IN}", "", whole, flags=re.IGNORECASE)) or whole
    shorter = bare(re.sub(_TAIL_WORDS, "", short, flags=re.IGNORECASE)) or short
    return list(dict.fromkeys([whole, without_lead_in(whole), short, shorter]))


def _has_both(text: str, label: str, key: str) -> bool:
    """Tell whether a text is a label and its choice's text, such as `B) tool`, `B, tool` and `tool (B)`."""
    text = text.casefold().strip()
    front = text.lstrip("([{")
    is_before = front.startswith(label) and not front[len(label) : len(label) + 1].isalnum()
    if is_before and _key(front[len(label) :].strip(_AROUND)) == key:
        return True
    back = text.rstrip(")]}. ")
    is_behind = back.endswith(label) and back[: -len(label)][-1:] in ("(", "[")
    return is_behind and _key(back[: -len(label)].strip(_AROUND)) == key


def _names(text: str, label: str, choice: str) -> bool:
    """Tell whether a text names a choice anywhere, by its label or by its text."""
    by_text = re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", text, re.IGNORECASE)
    return bool(by_text or re.search(rf"(?<!\w){re.escape(label)}(?!\w)", text))


def _read_unknown(answer: str, wanted: str) -> str:
    """Return the label or the text that an answer names, where the choices are not known.

    `wanted` is what the gold answer names. Behind a label there may be the words of one choice; where a text is wanted,
    it may stand behind any label.
    """
    for text in _said(answer):
        if _key(text) == wanted.casefold():
            return wanted
        label = text.strip(_AROUND)
        if re.fullmatch(_LABEL, label):
            return label.upper()
        labelled = re.fullmatch(_LABELLED, text, re.DOTALL)
        if labelled is None:
            continue
        rest = labelled[2].strip()
        if _key(rest) == wanted.casefold() and len(rest) > 1:
            return wanted
        if re.fullmatch(_PLAIN_WORDS, rest) and not re.search(_DOUBT, rest):
            return labelled[1].upper()
        return "many_answers"
    several = len(re.findall(r"(?<!\w)[A-Z](?!\w)", bare(answer))) > 1
    return "many_answers" if several else _key(answer)
