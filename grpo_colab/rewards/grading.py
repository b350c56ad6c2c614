"""Grade one completion: find its answer block, read the number in it, compare it with the gold number, and say why.

A completion must have exactly one closed `<answer>` block. A model that may close several learns to guess several
times; one that need not close any learns to think past the end of its budget. Both are known to pay under graders that
read the last number. `number_parser.py` reads the numbers.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal, NamedTuple, get_args

from grpo_colab.rewards.number_parser import Reading, first_number, last_number, read_number

TAGS: Final = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
ANSWER_OPEN, ANSWER_CLOSE = TAGS[2:]

Reason = Literal["right", "wrong", "no_tag", "many_tags", "unclosed", "many_numbers", "not_a_number", "too_long"]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


class Verdict(NamedTuple):
    """A grader's decision: the `reason`, and the number that was read, or None where none was."""

    reason: Reason
    value: Fraction | None = None

    @property
    def right(self) -> bool:
        """Tell whether the answer is right."""
        return self.reason == "right"


def grade(completion: str, gold: str) -> Verdict:
    """Decide whether the number in the one closed answer block of `completion` equals the number `gold`.

    The comparison is exact, since both numbers are fractions. It takes time linear in the length of `completion`. For a
    completion without such a block or number, the verdict's reason says so. Raises TypeError for arguments that are not
    strings, and ValueError when the gold text is not a number: then the data is broken.
    """
    _need_strings("grade", completion, gold)
    target = gold_number(gold)
    block = answer_block(completion)
    return block if isinstance(block, Verdict) else _verdict(read_number(block), target)


def lenient_grade(completion: str, gold: str) -> Verdict:
    """Decide whether the last number anywhere in `completion` equals `gold`. Tags do not matter.

    This is the evaluation's lenient accuracy, never a reward. Raises as `grade` does.
    """
    _need_strings("lenient_grade", completion, gold)
    return _verdict(last_number(completion), gold_number(gold))


def soft_grade(completion: str, gold: str) -> Verdict:
    """Decide whether the first number of the answer equals `gold`: the study's soft correctness.

    The answer is the one closed answer block, or the whole completion when it has no answer tag at all. Raises as
    `grade` does.
    """
    _need_strings("soft_grade", completion, gold)
    target = gold_number(gold)
    has_tag = ANSWER_OPEN in completion or ANSWER_CLOSE in completion
    answer = answer_block(completion) if has_tag else completion
    return answer if isinstance(answer, Verdict) else _verdict(first_number(answer), target)


@lru_cache(maxsize=4096)  # the completions of a group share their gold answer
def gold_number(text: str) -> Fraction:
    """Return the number that a gold answer states, read by the parser that reads the completions.

    Raises ValueError if it states none, and TypeError if it is not a string.
    """
    if not isinstance(text, str):
        raise TypeError(f"a gold answer is a string, got {type(text).__name__}: {text!r}")
    value, refusal = read_number(text)
    if value is None:
        shown = repr(text) if len(text) <= 80 else f"{text[:30]!r} ... {text[-30:]!r}"
        raise ValueError(f"the gold answer is not one number ({refusal}): {shown}")
    return value


def answer_block(completion: str) -> str | Verdict:
    """Return the text in the one closed answer block, or the verdict that says why there is none.

    The reason is `many_tags` where either tag occurs twice, `no_tag` without an opening tag, and `unclosed` without a
    closing tag after it.
    """
    opened, closed = completion.find(ANSWER_OPEN), completion.find(ANSWER_CLOSE)
    opened_again = opened >= 0 and completion.find(ANSWER_OPEN, opened + 1) >= 0
    closed_again = closed >= 0 and completion.find(ANSWER_CLOSE, closed + 1) >= 0
    if opened_again or closed_again:
        return Verdict("many_tags")
    if opened < 0:
        return Verdict("no_tag")
    if closed < opened:
        return Verdict("unclosed")
    return completion[opened + len(ANSWER_OPEN) : closed]


def _verdict(reading: Reading, target: Fraction) -> Verdict:
    """Return the verdict on what was read, given the gold number."""
    value, refusal = reading
    if refusal is not None:
        return Verdict(refusal)
    # `is` first: the parser caches plain numbers, and comparing fractions takes longer.
    is_right = value is target or value == target
    return Verdict("right" if is_right else "wrong", value)


def _need_strings(function: str, completion: object, gold: object) -> None:
    """Raise TypeError, naming the function and the argument, for a completion or a gold that is not a string."""
    for name, value in (("completion", completion), ("gold", gold)):
        if not isinstance(value, str):
            raise TypeError(f"{function}() needs a string as its {name}, got {type(value).__name__}")
