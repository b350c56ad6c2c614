"""Grade one completion: find its answer, read the number in it, compare it with the gold number, and say why.

The answer is looked for after the reasoning, and there is one: one closed `<answer>` block, one `####`, or one value in
`\\boxed{}`. A model that may answer several times learns to guess several times; one that need not close its block
learns to think past the end of its budget. Both are known to pay under graders that read the last number.

`number_parser.py` reads the numbers. What `grade` calls right, `lenient_grade` and `soft_grade` call right as well.
"""

from __future__ import annotations

import difflib
import re
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal, NamedTuple, get_args

from grpo_colab.errors import SettingError, shown
from grpo_colab.rewards import languages
from grpo_colab.rewards.markup import BOX
from grpo_colab.rewards.number_parser import first_number, last_number, read_number
from grpo_colab.rewards.numerals import DEFAULT_LOCALE, LOCALES, Reading
from grpo_colab.rewards.parametrised import require

TAGS: Final = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
ANSWER_OPEN, ANSWER_CLOSE = TAGS[2:]
REASONING_TAG: Final = "reasoning"
_THOUGHTS: Final = ("think", REASONING_TAG)  # the blocks after which an answer is looked for

# Where the answer is. Any other value is the name of a tag.
ANSWER_TAG, BOXED, HASH = "answer_tag", "boxed", "hash"
_PLACES: Final = (ANSWER_TAG, BOXED, HASH)
_NEARLY: Final = 0.85  # how similar to one of those a name is that must be misspelt: a letter of six is wrong
TAG_NAME: Final = r"[A-Za-z_][\w.-]*"
_MARK: Final = {BOXED: "\\boxed", HASH: "####"}
MOST_BOXES: Final = 20  # different ones
LONGEST_BOX: Final = 2_000  # characters of a box, braces included

NumberReason = Literal["right", "wrong", "no_tag", "many_tags", "unclosed", "many_numbers", "not_a_number", "too_long"]
REASONS: Final[tuple[NumberReason, ...]] = get_args(NumberReason)
# With the reasons of other kinds of answers.
Reason = NumberReason | Literal["many_answers", "not_a_choice", "not_json", "off_schema", "no_judgement"]


class Verdict(NamedTuple):
    """A grader's decision: the `reason`, and the number that was read, or None where none was.

    `partial` is what a wrong answer is worth, from 0.0 to below 1.0: above 0.0 only where a grader of others says so.
    """

    reason: Reason
    value: Fraction | None = None
    partial: float = 0.0

    @property
    def right(self) -> bool:
        """Tell whether the answer is right."""
        return self.reason == "right"

    @property
    def score(self) -> float:
        """Return what the answer is worth, from 0.0 to 1.0."""
        return 1.0 if self.reason == "right" else self.partial


def grade(
    completion: str,
    gold: str,
    *,
    answer_in: str = ANSWER_TAG,
    locale: str = DEFAULT_LOCALE,
    tolerance: float = 0.0,
    reasoning_tag: str = REASONING_TAG,
) -> Verdict:
    """Decide whether the number in the one answer of `completion` equals the number `gold`.

    `answer_in` says where the answer is, and `reasoning_tag` what comes before it: see `answer_block`. `locale` says
    how numbers are written: see `LOCALES`. The comparison is exact, since both numbers are fractions; with a
    `tolerance` of 0.01, the number may be a hundredth of the gold away from it. It takes time linear in the length of
    `completion`. For a completion without an answer or a number in it, the verdict's reason says so. Raises TypeError
    for texts that are not strings, and ValueError when the gold text is not a number: then the data is broken.
    """
    _need_strings("grade", completion, gold)
    target = gold_number(gold, locale)
    block = answer_block(completion, answer_in, reasoning_tag)
    return block if isinstance(block, Verdict) else _verdict(read_number(block, locale), target, tolerance)


def lenient_grade(
    completion: str,
    gold: str,
    *,
    answer_in: str = ANSWER_TAG,
    locale: str = DEFAULT_LOCALE,
    tolerance: float = 0.0,
    reasoning_tag: str = REASONING_TAG,
) -> Verdict:
    """Decide whether the last number anywhere in `completion` equals `gold`, or else whether `grade` says right.

    This is the evaluation's lenient accuracy, never a reward: where the answer is, and whether anything is marked as
    one, does not matter. Arguments and errors are those of `grade`.
    """
    _need_strings("lenient_grade", completion, gold)
    strict = grade(
        completion, gold, answer_in=answer_in, locale=locale, tolerance=tolerance, reasoning_tag=reasoning_tag
    )
    if strict.right:
        return strict
    return _verdict(last_number(completion, locale), gold_number(gold, locale), tolerance)


def soft_grade(
    completion: str,
    gold: str,
    *,
    answer_in: str = ANSWER_TAG,
    locale: str = DEFAULT_LOCALE,
    tolerance: float = 0.0,
    reasoning_tag: str = REASONING_TAG,
) -> Verdict:
    """Decide whether the first number of the answer equals `gold`, or else whether `grade` says right.

    This is the study's soft correctness. The answer is the one that `grade` reads, or the whole completion when nothing
    in it is marked as one. Arguments and errors are those of `grade`.
    """
    _need_strings("soft_grade", completion, gold)
    strict = grade(
        completion, gold, answer_in=answer_in, locale=locale, tolerance=tolerance, reasoning_tag=reasoning_tag
    )
    if strict.right:
        return strict
    answer = (
        answer_block(completion, answer_in, reasoning_tag) if marks_an_answer(completion, answer_in) else completion
    )
    if isinstance(answer, Verdict):
        return answer
    return _verdict(first_number(answer, locale), gold_number(gold, locale), tolerance)


def gold_number(text: str, locale: str = DEFAULT_LOCALE) -> Fraction:
    """Return the number that a gold answer states, read by the parser that reads the completions.

    In a solution that ends in `#### 18`, as GSM8K's do, that is the gold answer. Raises ValueError if there is none,
    and TypeError if it is not a string.
    """
    if not isinstance(text, str):
        raise TypeError(f"a gold answer is a string, got {type(text).__name__}: {text!r}")
    return _gold_number(after_hash(text), locale)


@lru_cache(maxsize=4096)  # the completions of a group share their gold answer
def _gold_number(text: str, locale: str) -> Fraction:
    """Return the number of a gold answer without its solution; raise ValueError if there is none."""
    value, refusal = read_number(text, locale)
    if value is None:
        raise ValueError(f"the gold answer is not one number ({refusal}): {shown(text)}")
    return value


def after_hash(gold: str) -> str:
    """Return what follows the last `####` of a gold answer, or all of it where there is none."""
    return gold.rpartition(_MARK[HASH])[2]


def check_grading(answer_in: str | None, locale: str, tolerance: float) -> None:
    """Raise SettingError, naming the setting, for a value that no grader can work with.

    An `answer_in` of None is allowed: some graders then find the place by themselves.
    """
    is_name = isinstance(answer_in, str) and re.fullmatch(TAG_NAME, answer_in) and answer_in not in _THOUGHTS
    known = answer_in is None or is_name
    require(
        bool(known), "answer_in", answer_in, "'answer_tag', 'boxed', 'hash', or the name of a tag, as in 'SOLUTION'"
    )
    if isinstance(answer_in, str) and answer_in not in _PLACES:
        for near in difflib.get_close_matches(answer_in.casefold().replace("-", "_"), _PLACES, n=1, cutoff=_NEARLY):
            problem = f"would be the tag <{answer_in}>, and is nearly {near!r}"
            remedy = f"write {near!r}, or call the tag otherwise"
            raise SettingError(problem, setting="answer_in", value=answer_in, remedy=remedy)
    require(isinstance(locale, str) and locale in LOCALES, "locale", locale, f"one of {', '.join(map(repr, LOCALES))}")
    number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool) and 0 <= tolerance < 1
    require(number, "tolerance", tolerance, "a share of the gold number, from 0 to below 1, as in 0.0001")


def answer_block(completion: str, answer_in: str = ANSWER_TAG, reasoning_tag: str = REASONING_TAG) -> str | Verdict:
    r"""Return the text of the one answer of `completion`, or the verdict that says why there is none.

    The answer is looked for after the last `</think>`, `</reasoning>` or end of `reasoning_tag`, since thoughts may
    name the marks. Where it is depends on `answer_in`:

    - `answer_tag`: in `<answer>...</answer>`
    - another name, such as `SOLUTION`: in `<SOLUTION>...</SOLUTION>`
    - `hash`: after `####`, to the end of that line
    - `boxed`: in `\boxed{...}`. Several different boxes are one answer, joined by commas.

    The reason is `no_tag` without such a mark, `unclosed` where it does not end, and `many_tags` where either tag, or
    `####`, occurs twice. A box is `unclosed` in a thought that is still open, since thoughts have boxes, and above
    2,000 characters; `not_a_number` where the words that touch it deny it, as in "It is not"; and of more than 20
    different boxes, the reason is `many_numbers`. Takes time linear in the length of `completion`.
    """
    text = after_thoughts(completion, reasoning_tag)
    if answer_in == BOXED:
        return _boxed(text, reasoning_tag)
    if answer_in == HASH:
        return _after_one_hash(text)
    if answer_in == ANSWER_TAG:
        return _tagged(text, ANSWER_OPEN, ANSWER_CLOSE)
    return _tagged(text, f"<{answer_in}>", f"</{answer_in}>")


def marks_an_answer(completion: str, answer_in: str = ANSWER_TAG) -> bool:
    """Tell whether anything in `completion`, the reasoning included, is marked as an answer, closed or not."""
    if answer_in in _MARK:
        return _MARK[answer_in] in completion
    tag = "answer" if answer_in == ANSWER_TAG else answer_in
    return f"<{tag}>" in completion or f"</{tag}>" in completion


def after_thoughts(completion: str, reasoning_tag: str = REASONING_TAG) -> str:
    """Return what follows the last `</think>`, `</reasoning>` or `</reasoning_tag>`: all where there is none."""
    end = 0
    for name in _thoughts(reasoning_tag):
        closed = completion.rfind(f"</{name}>")
        if closed >= 0:
            end = max(end, closed + len(f"</{name}>"))
    return completion[end:]


def _thoughts(reasoning_tag: str) -> tuple[str, ...]:
    """Return the names of the blocks that hold thoughts."""
    return _THOUGHTS if reasoning_tag in _THOUGHTS else (*_THOUGHTS, reasoning_tag)


def _tagged(text: str, opening: str, closing: str) -> str | Verdict:
    """Return the text between two tags that occur once, or the verdict that says why there is none."""
    opened, closed = text.find(opening), text.find(closing)
    opened_again = opened >= 0 and text.find(opening, opened + 1) >= 0
    closed_again = closed >= 0 and text.find(closing, closed + 1) >= 0
    if opened_again or closed_again:
        return Verdict("many_tags")
    if opened < 0:
        return Verdict("no_tag")
    if closed < opened:
        return Verdict("unclosed")
    return text[opened + len(opening) : closed]


def _after_one_hash(text: str) -> str | Verdict:
    """Return the rest of the line after the one `####`, or the verdict that says why there is none."""
    _, *parts = text.split(_MARK[HASH], 2)
    if len(parts) != 1:
        return Verdict("many_tags" if parts else "no_tag")
    return parts[0].partition("\n")[0]


_NEAR: Final = 40  # characters of what is right before a box, or behind it
_RELATION: Final = (
    r"(?:(?<![A-Za-z\"'/])[<>]|[≤≥≈~±]|\\(?:ge|le|geq|leq|approx|neq?|pm|sim|gt|lt)(?![A-Za-z]))[\s$\\({]*\Z"
)
_SAID_AFTER: Final = r"(?i)[\s$\\)\]]*(?:is|are|was|were|can|could|would)(?:\s+be)?((?:n['’]t|\s+\w+))"


def _boxed(text: str, reasoning_tag: str) -> str | Verdict:
    """Return what is in the boxes of a text, or the verdict that says why there is nothing.

    Every box must be closed, and stand outside a block of reasoning that is still open.
    """
    contents: dict[str, None] = {}  # a dict keeps the order
    is_denied, end = False, 0
    while (start := text.find(_MARK[BOXED], end)) >= 0:
        box = re.match(BOX, text[start : start + LONGEST_BOX])
        if box is None:
            return Verdict("unclosed")
        contents.setdefault(box[1].strip())
        if len(contents) > MOST_BOXES:
            return Verdict("many_numbers")
        before, end = text[max(end, start - _NEAR) : start], start + box.end()
        is_joiner = len(contents) > 1 and re.fullmatch(r"\W*(?:or|and)\W*", before)
        is_denied = is_denied or (not is_joiner and _denies_a_box(before, text[end : end + _NEAR]))
    if not contents:
        return Verdict("no_tag")
    if any(f"<{name}>" in text for name in _thoughts(reasoning_tag)):
        return Verdict("unclosed")
    return Verdict("not_a_number") if is_denied else ", ".join(contents)


def _denies_a_box(before: str, after: str) -> bool:
    r"""Tell whether what touches a box denies, hedges or asks, as in "It is not \boxed{18}".

    A sentence may well have a "not" that is about something else: "The number of pages not read is".
    """
    said = re.match(_SAID_AFTER, after)
    return (
        after.lstrip(" $").startswith("?")
        or re.search(_RELATION, before) is not None
        or languages.denies_what_follows(before)
        or (said is not None and languages.is_doubtful(said[1]))
    )


def _verdict(reading: Reading, target: Fraction, tolerance: float) -> Verdict:
    """Return the verdict on what was read, given the gold number."""
    value, refusal = reading
    if value is None:
        return Verdict(refusal or "not_a_number")
    return Verdict("right" if is_close(value, target, tolerance) else "wrong", value)


def is_close(value: Fraction, target: Fraction, tolerance: float) -> bool:
    """Tell whether two numbers are equal, or at most `tolerance` times `target` apart."""
    # `is` first: the parser caches plain numbers, and comparing fractions takes longer.
    if value is target or value == target:
        return True
    return tolerance > 0 and abs(value - target) <= Fraction(tolerance) * abs(target)


def _need_strings(function: str, completion: object, gold: object) -> None:
    """Raise TypeError, naming the function and the argument, for a completion or a gold that is not a string."""
    for name, value in (("completion", completion), ("gold", gold)):
        if not isinstance(value, str):
            raise TypeError(f"{function}() needs a string as its {name}, got {type(value).__name__}")
