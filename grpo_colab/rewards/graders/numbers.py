"""Judge answers that are one number, or mathematics in LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from grpo_colab.rewards.graders.grader import NO_COLUMNS, Grader, Row
from grpo_colab.rewards.grading import ANSWER_TAG, REASONS, Reason, Verdict, gold_number, grade, lenient_grade


@dataclass(frozen=True, kw_only=True)
class NumberGrader(Grader):
    """Judge numbers by the number parser, exactly, or with a `tolerance`, a share of the gold number."""

    kind: ClassVar[str] = "number"
    reasons: ClassVar[tuple[Reason, ...]] = REASONS
    lenient: ClassVar[str] = "by the last number alone"

    tolerance: float = 0.0

    def verdicts(self, completions: Sequence[str], golds: Sequence[str], rows: Sequence[Row]) -> list[Verdict]:
        return [self._grade(completion, gold) for completion, gold in zip(completions, golds, strict=True)]

    def judge(self, response: str, gold: str, row: Row) -> Verdict:
        return self._grade(f"<answer>{response}</answer>", gold)

    def _grade(self, completion: str, gold: str, by: Callable[..., Verdict] = grade) -> Verdict:
        return by(
            completion,
            gold,
            answer_in=self.answer_in or ANSWER_TAG,
            locale=self.locale,
            tolerance=self.tolerance,
            reasoning_tag=self.reasoning_tag,
        )

    def read_gold(self, gold: str, row: Row = NO_COLUMNS) -> object:
        return gold_number(gold, self.locale)

    def lenient_right(self, completion: str, gold: str, row: Row = NO_COLUMNS) -> bool:
        return self._grade(completion, gold, by=lenient_grade).right


@dataclass(frozen=True, kw_only=True)
class MathGrader(NumberGrader):
    r"""Judge mathematics in LaTeX by `math_reward`'s grader: fractions, roots, intervals, sets, equations, words."""

    kind: ClassVar[str] = "math"
    lenient: ClassVar[str] = "in a box or a tag anywhere, or by the last number alone"

    def verdicts(self, completions: Sequence[str], golds: Sequence[str], rows: Sequence[Row]) -> list[Verdict]:
        return self._judged(completions, golds, self.answer_in)

    def _judged(self, completions: Sequence[str], golds: Sequence[str], answer_in: str | None) -> list[Verdict]:
        from grpo_colab.rewards.latex import math_reasons

        reasons = math_reasons(
            "math_reward",
            completions,
            golds,
            answer_in=answer_in,
            locale=self.locale,
            tolerance=self.tolerance,
            reasoning_tag=self.reasoning_tag,
        )
        return [Verdict(reason or "wrong") for reason in reasons]

    def read_gold(self, gold: str, row: Row = NO_COLUMNS) -> object:
        from grpo_colab.rewards.latex import read_math_gold

        return read_math_gold(gold, self.locale)

    def lenient_right(self, completion: str, gold: str, row: Row = NO_COLUMNS) -> bool:
        if any(self._judged([completion], [gold], place)[0].right for place in (self.answer_in, None)):
            return True
        try:
            return super().lenient_right(completion, gold)
        except ValueError:  # a gold that is no number
            return False
