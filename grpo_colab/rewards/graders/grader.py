"""Define what all graders share: they find the one answer of a completion, and say why it is right or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Final

from grpo_colab.errors import shown
from grpo_colab.rewards.arguments import Completions, graded_pairs, is_column, number_text
from grpo_colab.rewards.golds import warn_of_gold
from grpo_colab.rewards.grading import ANSWER_TAG, REASONING_TAG, Reason, Verdict, after_hash, answer_block
from grpo_colab.rewards.numerals import DEFAULT_LOCALE

Row = Mapping[str, Any]  # a problem's other columns
# What the search for boxes says, in the words of the kinds that are no numbers.
_IN_OTHER_WORDS: Final[Mapping[Reason, Reason]] = {"many_numbers": "many_tags", "not_a_number": "wrong"}
NO_COLUMNS: Final[Row] = {}
# What `answer_block` finds in the place of an answer.
NO_ANSWER: Final[tuple[Reason, ...]] = ("no_tag", "many_tags", "unclosed")


@dataclass(frozen=True, kw_only=True)
class Grader(ABC):
    """Judge answers of one kind by their gold answers.

    `answer_in` says where a completion has its answer (None: in its tag, or where the kind looks by itself), and
    `reasoning_tag` names the block that comes before: see `answer_block`. A grader is immutable and picklable. `kind`
    is its name in task.answer, `reasons` are those that its verdicts have, and `lenient` says in words what
    `lenient_right` looks at. `needs_row` says that it looks at other columns than the gold answer. An answer of
    more than `longest` characters is none.
    """

    kind: ClassVar[str]
    reasons: ClassVar[tuple[Reason, ...]] = ("right", "wrong", *NO_ANSWER, "too_long")
    lenient: ClassVar[str] = ""
    needs_row: ClassVar[bool] = False
    longest: ClassVar[int] = 20_000

    answer_in: str | None = ANSWER_TAG
    reasoning_tag: str = REASONING_TAG
    locale: str = DEFAULT_LOCALE

    @abstractmethod
    def judge(self, response: str, gold: str, row: Row) -> Verdict:
        """Return the verdict on an answer's text, `response`, given the gold answer and the row's other columns."""

    @abstractmethod
    def read_gold(self, gold: str, row: Row = NO_COLUMNS) -> object:
        """Return what a gold answer states; raise ValueError, whose words show it, for one that cannot judge."""

    def verdicts(self, completions: Sequence[str], golds: Sequence[str], rows: Sequence[Row]) -> list[Verdict]:
        """Return the verdict on each completion. The golds must be readable."""
        found = []
        for completion, gold, row in zip(completions, golds, rows, strict=True):
            block = self.answer_block(completion)
            if isinstance(block, Verdict):
                found.append(Verdict(_IN_OTHER_WORDS.get(block.reason, block.reason)))
            elif len(block) > self.longest:
                found.append(Verdict("too_long"))
            else:
                found.append(self.judge(block, gold, row))
        return found

    def answer_block(self, completion: str) -> str | Verdict:
        """Return the text of the one answer of a completion, or the verdict that says why there is none."""
        return answer_block(completion, self.answer_in or ANSWER_TAG, self.reasoning_tag)

    def grade(self, completion: str, gold: str, row: Row = NO_COLUMNS) -> Verdict:
        """Return the verdict on one completion. Raises ValueError for a gold answer that cannot be read."""
        self.read_gold(gold, row)
        return self.verdicts([completion], [gold], [row])[0]

    def lenient_right(self, completion: str, gold: str, row: Row = NO_COLUMNS) -> bool | None:
        """Tell whether a completion states the gold answer in any form; None where only the strict form can be read.

        What `grade` calls right is right here, too.
        """
        return None

    def gold_text(self, value: object) -> str:
        """Return a value of a data set as the text of a gold answer; raise ValueError for one that is none."""
        if isinstance(value, str):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return number_text(value, self.locale)
        raise ValueError(f"the gold answer is of type {type(value).__name__}, not a text or a number: {shown(value)}")

    def gold_of(self, value: object, row: Row) -> str:
        """Return a value of a data set as the text of a gold answer, given the row's other columns: see `gold_text`."""
        return self.gold_text(value)

    def golden_answer(self, gold: str, row: Row = NO_COLUMNS) -> str | None:
        """Return the text of an answer that is right, as a golden completion has it; None where none is known."""
        return gold.strip()

    def with_choices(self, prompt: str, row: Row) -> str:
        """Return a prompt with the choices that its row has, for a kind that has choices; others return it as it is."""
        return prompt

    def request(self) -> str:
        """Return the sentence by which a system prompt asks for this kind of answer; an empty text for none."""
        return ""

    def judge_columns(
        self, function: str, completions: Completions, answer: Sequence[Any], columns: Mapping[str, Any]
    ) -> list[Verdict | None]:
        """Return the verdict on each completion, for the reward called `function`; None where it cannot judge.

        That is without a gold, and for a gold that cannot be read: a warning names it and the reward, once. `columns`
        are the other columns that TRL passes. Raises TypeError and ValueError as `graded_pairs` does.
        """
        size = 0 if isinstance(answer, str) else len(answer)
        rows: Sequence[Row] = rows_of(columns, size) if self.needs_row else [NO_COLUMNS] * size
        if not isinstance(answer, str):
            answer = [self._text_or_value(gold, row) for gold, row in zip(answer, rows, strict=True)]
        pairs = graded_pairs(function, completions, answer, self.locale)
        judged = []
        for index, (_, gold) in enumerate(pairs):
            if gold is not None and self._is_readable(function, gold, rows[index]):
                judged.append(index)
        found: list[Verdict | None] = [None] * len(pairs)
        verdicts = self.verdicts(
            [pairs[index][0] for index in judged],
            [str(pairs[index][1]) for index in judged],
            [rows[index] for index in judged],
        )
        for index, verdict in zip(judged, verdicts, strict=True):
            found[index] = None if verdict.reason == "no_judgement" else verdict
        return found

    def _text_or_value(self, gold: Any, row: Row) -> Any:
        """Return a gold of a column as its text where this kind has golds of its type, else as it is."""
        if gold is None or isinstance(gold, str):
            return gold
        try:
            return self.gold_of(gold, row)
        except ValueError:
            return gold  # graded_pairs names its type

    def _is_readable(self, function: str, gold: str, row: Row) -> bool:
        """Tell whether a gold answer can be read; warn, in the name of the reward called `function`, where not."""
        return _warns_once(self, function, gold) if row is NO_COLUMNS else _can_read(self, function, gold, row)


@lru_cache(maxsize=4096)  # so that a gold is warned of once, and read once
def _warns_once(grader: Grader, function: str, gold: str) -> bool:
    return _can_read(grader, function, gold, NO_COLUMNS)


def _can_read(grader: Grader, function: str, gold: str, row: Row) -> bool:
    try:
        grader.read_gold(gold, row)
    except ValueError as error:
        warn_of_gold(function, error)
        return False
    return True


def rows_of(columns: Mapping[str, Any], size: int) -> list[dict[str, Any]]:
    """Return the values of each of `size` rows by their columns' names, of all columns that have as many values."""
    full = {name: values for name, values in columns.items() if is_column(values, size)}
    return [{name: values[index] for name, values in full.items()} for index in range(size)]


def stated(gold: str) -> str:
    """Return what a gold answer states: what follows its last `####`, or all of it. Raises ValueError for no text."""
    text = after_hash(gold).strip()
    if not text:
        raise ValueError(f"the gold answer is empty: {shown(gold)}")
    return text
