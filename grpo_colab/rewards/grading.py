"""Grading one completion: find its answer block, read the number in it, compare with the gold number, say why.

Exactly one closed `<answer>` block may stand in a completion. A model that may close several, or none, learns to guess
several times or to think past the end of its budget; both are known to pay under graders that read the last number.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal, NamedTuple, get_args

from grpo_colab.rewards.number_parser import first_number, last_number, read_number

TAGS: Final = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
ANSWER_OPEN, ANSWER_CLOSE = TAGS[2:]

Reason = Literal["right", "wrong", "no_tag", "many_tags", "unclosed", "many_numbers", "not_a_number", "too_long"]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


class Verdict(NamedTuple):
    """What a grader decided. `value` is the number that was read; None when none was, which `reason` then explains."""

    reason: Reason
    value: Fraction | None = None

    @property
    def right(self) -> bool:
        return self.reason == "right"


def grade(completion: str, gold: str) -> Verdict:
    """Whether the number in the one closed answer block of `completion` equals the number `gold`.

    Linear in the length of `completion`, and right or wrong exactly: both numbers are fractions. Raises TypeError for
    what is not a string, and ValueError when the gold text is not a number, since then the data is broken.
    """
    _need_strings("grade", completion, gold)
    target = gold_number(gold)
    block = answer_block(completion)
    return block if isinstance(block, Verdict) else _judge(*read_number(block), target)


def lenient_grade(completion: str, gold: str) -> Verdict:
    """Whether the last number anywhere in `completion` equals `gold`: evaluation's lenient accuracy, never a reward.

    Tags do not count. Raises as `grade` does.
    """
    _need_strings("lenient_grade", completion, gold)
    return _judge(*last_number(completion), gold_number(gold))


def soft_grade(completion: str, gold: str) -> Verdict:
    """Whether the first number of the answer equals `gold`: the study's soft correctness. Raises as `grade` does.

    The answer is the one closed answer block, or the whole completion when it has no answer tag at all.
    """
    _need_strings("soft_grade", completion, gold)
    target = gold_number(gold)
    tagged = ANSWER_OPEN in completion or ANSWER_CLOSE in completion
    answer = answer_block(completion) if tagged else completion
    return answer if isinstance(answer, Verdict) else _judge(*first_number(answer), target)


@lru_cache(maxsize=4096)  # a group of completions shares its gold answer
def gold_number(text: str) -> Fraction:
    """The number that a gold answer states, by the parser that reads the completions; ValueError if it states none."""
    if not isinstance(text, str):
        raise TypeError(f"a gold answer is a string, got {type(text).__name__}: {text!r}")
    value, refusal = read_number(text)
    if value is None:
        shown = repr(text) if len(text) <= 80 else f"{text[:30]!r} ... {text[-30:]!r}"
        raise ValueError(f"the gold answer is not one number ({refusal}): {shown}")
    return value


def answer_block(completion: str) -> str | Verdict:
    """The text in the one closed answer block, or the verdict that says why there is none."""
    opened, closed = completion.find(ANSWER_OPEN), completion.find(ANSWER_CLOSE)
    again = completion.find(ANSWER_OPEN, opened + 1) if opened >= 0 else -1
    if again >= 0 or (closed >= 0 and completion.find(ANSWER_CLOSE, closed + 1) >= 0):
        return Verdict("many_tags")
    if opened < 0:
        return Verdict("no_tag")
    return Verdict("unclosed") if closed < opened else completion[opened + len(ANSWER_OPEN) : closed]


def _judge(value: Fraction | None, refusal: Reason | None, target: Fraction) -> Verdict:
    if refusal is not None:
        return Verdict(refusal)
    return Verdict("right" if value is target or value == target else "wrong", value)


def _need_strings(function: str, completion: object, gold: object) -> None:
    for name, value in (("completion", completion), ("gold", gold)):
        if not isinstance(value, str):
            raise TypeError(f"{function}() needs a string as its {name}, got {type(value).__name__}")
