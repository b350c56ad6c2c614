r"""Grade answers in LaTeX: fractions, roots, intervals, sets, equations, words. Needs `grpo_colab[math]`.

What states one number is read by the number parser, so that `correctness_reward` agrees. Words are compared as text.
Of anything else, `latex_tree.py` reads the structure, and math-verify compares the plain parts, in a process of its own
that a time limit kills (`latex_process.py`).

An equation is never reduced to its right side, unless the left side is a name for it: `2x = 18` is no 18. Nor is a
question an answer: an integral, a derivative, a sum or a limit that the gold answer has not is not worked out here
(`latex_doubt.py`), and an equation is no solution of itself. A box in a denial, as in `not \boxed{18}`, is no answer.
"""

from __future__ import annotations

import os
import re
from fractions import Fraction
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, Final, NamedTuple

from grpo_colab.errors import SettingError, shown
from grpo_colab.rewards import latex_process
from grpo_colab.rewards.arguments import Completions, Golds, graded_pairs
from grpo_colab.rewards.correctness import log_shares, paid_for
from grpo_colab.rewards.golds import reads_golds, warn_of_gold
from grpo_colab.rewards.grading import (
    ANSWER_TAG,
    BOXED,
    REASONING_TAG,
    Reason,
    Verdict,
    after_hash,
    after_thoughts,
    answer_block,
    check_grading,
    gold_number,
    is_close,
    marks_an_answer,
)
from grpo_colab.rewards.latex_doubt import has_doubt, has_new_question
from grpo_colab.rewards.latex_tree import Node, has_text, is_balanced, is_time, tree_of
from grpo_colab.rewards.markup import BOX
from grpo_colab.rewards.number_parser import MAX_CHARACTERS, read_number
from grpo_colab.rewards.numerals import DEFAULT_LOCALE
from grpo_colab.rewards.parametrised import Parametrised, require

TIME_LIMIT_S: Final = 0.25  # of CPU time per answer; ordinary ones take 1 to 70 ms on a slow machine
GOLD_TIME_LIMIT_S: Final = 1.0  # of CPU time, to read a gold answer
LONGEST_TEXT: Final = 200  # characters of a gold answer that is compared as text
Gold = Fraction | str  # a number, or a formula

# These patterns are text, so that they are compiled at their first use and not at import.
# What is marked as a formula, in `$`, `\(`, `\[` or `\boxed`; the last group that matched is the formula itself.
_FORMULA: Final = rf"(?s)(?<!\\)(\$\$?)((?:\\.|[^$\\])++)\1|\\\((.+?)\\\)|\\\[(.+?)\\\]|{BOX.removeprefix('(?s)')}"
_BETWEEN_FORMULAS: Final = r"\s*(?:[,;=]|[,;]?\s*(?:and|or))\s*|\s*"
# A gold answer that is a number with a letter right behind it is a product: 2t is not 2 tons.
_PRODUCT: Final = r"[0-9}][A-Za-z](?![\w+-])"


def math_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    r"""Pay 1.0 where the answer equals the gold as mathematics, else 0.0; None without a gold.

    The answer is the one closed answer block, or, without answer tags after the reasoning, what is in `\boxed{}`:
    several boxes are read as all of them. One formula in `$`, `\(` or `\boxed` may have the words around it that a
    number may have. A list is no number (`4, 4` is not 4), a decimal is no root, an equation is no solution, and a word
    is no product of letters.

    For a gold that cannot be read the reward is None, and a warning tells once: `read_math_gold` finds it before. An
    answer that takes more than 0.25 s of CPU time is wrong. Equal answers in one call are compared once. Verdicts are
    logged as by `correctness_reward`. The process that compares sees only the paths and the language of the trainer's
    environment.

    Raises ImportError without math-verify, SettingError on a system without fork (Windows), and RuntimeError when the
    process died or hung twice through no fault of the answer. Raises TypeError for arguments of the wrong type, and
    ValueError for another number of golds than of completions.
    """
    return _math_reward(TIME_LIMIT_S, None, DEFAULT_LOCALE, 0.0, REASONING_TAG, completions, answer, **kwargs)


def get_math_reward(
    time_limit_s: float = TIME_LIMIT_S,
    answer_in: str | None = None,
    locale: str = DEFAULT_LOCALE,
    tolerance: float = 0.0,
    reasoning_tag: str = REASONING_TAG,
) -> Parametrised:
    r"""Return `math_reward` with another time limit per answer, from 0.01 to 60 seconds of CPU time.

    `answer_in`, `locale`, `tolerance` and `reasoning_tag` are those of `get_correctness_reward`; with an `answer_in` of
    None, the answer is looked for as `math_reward` does. With a `tolerance` of 0.0001, `3.3333` is right for `10/3`,
    and `1.4142` for `\sqrt{2}`. Raises SettingError for a setting that cannot work and on a system without fork, and
    ImportError without math-verify.
    """
    number = isinstance(time_limit_s, int | float) and not isinstance(time_limit_s, bool)
    require(number and 0.01 <= time_limit_s <= 60, "time_limit_s", time_limit_s, "seconds from 0.01 to 60")
    check_grading(answer_in, locale, tolerance)
    need_math_verify()
    reward = Parametrised(_math_reward, float(time_limit_s), answer_in, locale, tolerance, reasoning_tag)
    return reads_golds(partial(read_math_gold, locale=locale))(reward)


def math_reasons(
    function: str,
    completions: Completions,
    answer: Golds,
    *,
    answer_in: str | None = None,
    locale: str = DEFAULT_LOCALE,
    tolerance: float = 0.0,
    time_limit_s: float = TIME_LIMIT_S,
    reasoning_tag: str = REASONING_TAG,
) -> list[Reason | None]:
    """Return the reason of the verdict on each completion, for the reward called `function`; None where it has none.

    That is without a gold, and for a gold that cannot be read: a warning names it and the reward, once. The settings
    are those of `get_math_reward`. Raises the errors of `math_reward`, and OSError where the process that compares
    cannot be started.
    """
    pairs = graded_pairs(function, completions, answer, locale)
    need_math_verify()
    rule = _Rule(locale, tolerance, time_limit_s)
    judge = lru_cache(maxsize=None)(_judge)  # for this call only: equal answers are compared once
    reasons: list[Reason | None] = []
    for (text, gold_text), stated in zip(pairs, answer, strict=True):
        is_number = not isinstance(stated, str)
        gold = None if gold_text is None else _gold_or_warning(function, gold_text, locale, is_number)
        reasons.append(None if gold is None else judge(_answer(text, answer_in, reasoning_tag), gold, rule))
    return reasons


def read_math_gold(text: str, locale: str = DEFAULT_LOCALE) -> Gold:
    """Return the number that a gold answer states, or else its formula.

    In a solution that ends in `#### 18`, as GSM8K's do, that is the gold answer. Raises ValueError, naming the gold,
    for one that states neither or has more than 1,000 characters. Raises TypeError if it is not a string, and
    RuntimeError and OSError as `math_reasons` does.
    """
    if not isinstance(text, str):
        raise TypeError(f"a gold answer is a string, got {type(text).__name__}: {text!r}")
    gold, problem = _read_gold(text, locale)
    if gold is None:
        raise ValueError(f"the gold answer {shown(text)} {problem}")
    return gold


def need_math_verify() -> None:
    """Raise SettingError on a system without fork, and ImportError without math-verify."""
    from importlib.util import find_spec

    if not hasattr(os, "fork"):
        raise SettingError(
            "runs math-verify in a forked process, and this system has no fork",
            setting="math_reward",
            remedy="run it on Linux or macOS",
        )
    if find_spec("math_verify") is None:
        raise ImportError('math_reward needs math-verify: pip install "grpo_colab[math]"')


class _Rule(NamedTuple):
    """How answers are judged."""

    locale: str
    tolerance: float
    time_limit_s: float


def _math_reward(
    time_limit_s: float,
    answer_in: str | None,
    locale: str,
    tolerance: float,
    reasoning_tag: str,
    /,
    completions: Completions,
    answer: Golds,
    **kwargs: Any,
) -> list[float | None]:
    """Pay as `math_reward` does, by the settings of `get_math_reward`."""
    reasons = math_reasons(
        "math_reward",
        completions,
        answer,
        answer_in=answer_in,
        locale=locale,
        tolerance=tolerance,
        time_limit_s=time_limit_s,
        reasoning_tag=reasoning_tag,
    )
    log_shares(kwargs.get("log_metric"), [reason for reason in reasons if reason is not None])
    return paid_for(reasons)


@lru_cache(maxsize=4096)  # so that a gold is warned of once
def _gold_or_warning(function: str, text: str, locale: str, is_number: bool) -> Gold | None:
    """Return a gold answer; or None, after a warning in the name of the reward called `function`.

    `is_number` says that the text is that of a number: infinity and NaN are none.
    """
    try:
        return gold_number(text, locale) if is_number else read_math_gold(text, locale)
    except ValueError as error:
        warn_of_gold(function, error)
        return None


@lru_cache(maxsize=4096)  # the completions of a group share their gold answer
def _read_gold(text: str, locale: str) -> tuple[Gold | None, str]:
    """Return a gold answer as `read_math_gold` does, or None and what is wrong with it."""
    stated = after_hash(text).strip()
    if len(stated) > MAX_CHARACTERS:  # the search for formulas is quadratic
        return None, f"has {len(stated)} characters: write at most {MAX_CHARACTERS}"
    value = None if _is_product(stated) or is_time(stated) else read_number(stated, locale).value
    formula = _formula(stated, locale)
    if value is not None or formula is None:
        return value, "is neither one number nor one formula: write the answer alone, as in \\frac{1}{2}"
    tree = _tree(formula, locale)
    if tree[0] == "leaf" and not _is_product(formula):
        value = read_number(tree[1], locale).value  # of 0.\overline{3}, say
    if value is not None:
        return value, ""
    reason = latex_process.compare(GOLD_TIME_LIMIT_S, tree, None)
    # What math-verify cannot read is compared as text, if it is in order.
    is_text = reason == "not_a_number" or (reason == "right" and has_text(tree))
    problem = {
        "right": "cannot be read: write a number, a formula in LaTeX, or a few words",
        "not_a_number": "cannot be read: write a number, a formula in LaTeX, or a few words",
        "too_long": f"takes more than {GOLD_TIME_LIMIT_S:g} s to read: write it in a simpler form",
    }.get(reason, "says nothing: write a number, or a formula that has a value")
    is_read = _is_text_answer(formula) and tree[1] != "" if is_text else reason == "right"
    return (formula if is_read else None), problem


def _is_product(gold: str) -> bool:
    """Tell whether a gold answer ends in a letter right behind a digit, or has an operator: `2t` is not 2 tons."""
    return re.search(_PRODUCT, f"{gold}$") is not None or r"\operatorname" in gold


def _is_text_answer(formula: str) -> bool:
    """Tell whether a formula is short, has something in it, and closes its brackets."""
    has_sign = re.search(r"[^\W_]", formula) is not None
    has_sign = has_sign and formula.casefold() != "nan"
    return len(formula) <= LONGEST_TEXT and has_sign and "?" not in formula and is_balanced(formula)


def _answer(completion: str, answer_in: str | None, reasoning_tag: str) -> str | Verdict:
    """Return the text of the answer, or the verdict that says why there is none.

    Takes time linear in the length of `completion`.
    """
    if answer_in is None:
        answer_in = ANSWER_TAG if marks_an_answer(after_thoughts(completion, reasoning_tag)) else BOXED
    return answer_block(completion, answer_in, reasoning_tag)


def _judge(answer: str | Verdict, gold: Gold, rule: _Rule) -> Reason:
    """Return the reason of the verdict on an answer; math-verify is asked only where nothing simpler decides.

    `answer` and `gold` are as `_answer` and `read_math_gold` return them; a verdict as the answer keeps its reason.
    Raises RuntimeError as `Worker.ask` does.
    """
    if isinstance(answer, Verdict):
        return answer.reason
    value, refusal = read_number(answer, rule.locale)
    if value is not None and isinstance(gold, Fraction):
        return _number_reason(value, gold, rule)
    if len(answer.strip()) > MAX_CHARACTERS:
        return "too_long"
    expected = ["leaf", str(gold)] if isinstance(gold, Fraction) else _tree(gold, rule.locale)
    is_product = isinstance(gold, str) and _is_product(gold)
    if value is not None and not is_product and expected[0] not in ("text", "run"):
        return latex_process.compare(rule.time_limit_s, expected, ["leaf", str(value)], rule.tolerance)
    formula = _formula(answer, rule.locale)
    if formula is None:
        return refusal or "not_a_number"
    given = tree_of(formula, partial(_is_law, rule.locale), isinstance(gold, Fraction), is_product)
    return _simple_reason(formula, given, gold, expected, refusal or "not_a_number", rule) or latex_process.compare(
        rule.time_limit_s, expected, given, rule.tolerance
    )


def _number_reason(value: Fraction, gold: Fraction, rule: _Rule) -> Reason:
    """Return the reason of the verdict on a number."""
    return "right" if is_close(value, gold, rule.tolerance) else "wrong"


def _simple_reason(
    formula: str, given: Node, gold: Gold, expected: Node, refusal: Reason, rule: _Rule
) -> Reason | None:
    """Return the reason of the verdict on an answer where math-verify is not needed, else None.

    `given` is the structure of the answer `formula`, and `expected` that of the gold. `refusal` is the reason for an
    answer that is doubtful.
    """
    number = read_number(given[1], rule.locale).value if given[0] == "leaf" and isinstance(gold, Fraction) else None
    kinds = {expected[0], given[0]}
    reason: Reason | None = None
    if kinds <= {"text", "run"}:
        reason = "right" if expected[1] == given[1] else "wrong"
    elif (given != expected and "text" in kinds) or has_doubt(formula, str(gold), expected):
        reason = refusal
    elif number is not None and isinstance(gold, Fraction):
        reason = _number_reason(number, gold, rule)
    elif given == expected:
        reason = "right"
    elif has_new_question(formula, str(gold)):
        reason = "wrong"
    return reason


@lru_cache(maxsize=4096)
def _tree(gold: str, locale: str) -> Node:
    """Return the structure of a gold answer."""
    return tree_of(gold, partial(_is_law, locale))


def _is_law(locale: str, text: str) -> bool:
    """Tell whether a text states the number 1: then a number may have around it what stands around this one."""
    return read_number(text, locale).value == 1


def _formula(text: str, locale: str) -> str | None:
    r"""Return the one formula in `text`, or None where there is none, or something around it makes it doubtful.

    The formula may be marked several times, as in `$\boxed{x}$`, and in several pieces, as in `$1$ and $2$`. With 1 in
    its place, the text around it must state the number 1. Without a mark, the whole text is the formula.
    """
    text = _bare(text)
    while True:
        found = list(re.finditer(_FORMULA, text))
        if not found:
            break
        gaps = [text[one.end() : other.start()] for one, other in pairwise(found)]
        before, after = text[: found[0].start()], text[found[-1].end() :]
        is_framed = not re.search(r"[\d\\]", before + after) and _is_law(locale, f"{before} 1 {after}")
        if not is_framed or not all(re.fullmatch(_BETWEEN_FORMULAS, gap) for gap in gaps):
            return None
        pieces = [piece[piece.lastindex or 0] for piece in found]
        is_repeated = len(set(pieces)) == 1 and not any(gap.strip() for gap in gaps)
        others = () if is_repeated else zip(gaps, pieces[1:], strict=True)
        text = _bare("".join([pieces[0], *(f"{gap if gap.strip() else ', '}{piece}" for gap, piece in others)]))
    has_stray_dollar = re.search(r"(?<!\\)\$", text)
    return None if not text or has_stray_dollar else text


def _bare(text: str) -> str:
    """Return a text in one line, without emphasis, quotes and full stops around it."""
    text = re.sub(r"^[\s*`_]+|[\s*`_]+$", "", " ".join(text.split()))
    text = re.sub(r"^[\"“«]([^\"“”«»]+)[\"”»]\.?$", r"\1", text)
    return text.rstrip(" .").lstrip() if text.count("*") % 2 == 0 else text


reads_golds(read_math_gold)(math_reward)  # down here, where the reader is known
