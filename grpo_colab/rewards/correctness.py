"""Pay for right answers. The rewards here have the signature that TRL calls.

It is `noun_reward(completions, <column>, **kwargs) -> list[float | None]`, and this holds for all rewards of the
package: `completions` has one entry per completion, a string or a conversation (a list of messages, of which the last
assistant message counts). A column is a list of the same length. Rewards are deterministic, thread-safe and picklable,
return None where they cannot judge, and ignore what else TRL passes. They raise TypeError for an argument of the wrong
type, and ValueError for a column of the wrong length. Unless a reward says otherwise it pays from 0.0 to 1.0; weights
come from the recipe.

The six rewards of the study ("LLM Reinforcement Learning with GRPO", 2025), with their weights there, are
`exact_answer_reward` 1.0, `soft_correctness_reward` 1.0, and `integer_reward`, `strict_format_reward`,
`soft_format_reward`, `tag_count_reward` 0.5 each. `correctness_reward` is ours, and the one to train with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import shown
from grpo_colab.rewards.arguments import Completions, Golds, graded_pairs
from grpo_colab.rewards.golds import reads_golds, warn_of_gold
from grpo_colab.rewards.grading import (
    ANSWER_TAG,
    REASONING_TAG,
    REASONS,
    Reason,
    Verdict,
    after_hash,
    answer_block,
    check_grading,
    gold_number,
    soft_grade,
)
from grpo_colab.rewards.numerals import DEFAULT_LOCALE
from grpo_colab.rewards.parametrised import Parametrised

if TYPE_CHECKING:
    from grpo_colab.rewards.graders import Grader


@reads_golds(gold_number)
def correctness_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """Pay 1.0 where the number in the one closed answer block equals the gold number, else 0.0; None without a gold.

    The block may say `$1,000.00` for the gold 1000: see `number_parser`. A gold may be a number, or a solution that
    ends in `#### 18`; for one that states no number the reward is None, and a warning tells once. Where TRL passes
    `log_metric`, the share of each verdict among the graded completions is logged as `verdict/<reason>`. Raises
    ValueError for another number of golds than of completions, and TypeError for arguments of the wrong type.
    """
    return _correctness_reward(number_grader(), completions, answer, **kwargs)


def get_correctness_reward(
    answer_in: str | None = ANSWER_TAG,
    locale: str = DEFAULT_LOCALE,
    tolerance: float = 0.0,
    *,
    answer: str = "number",
    reasoning_tag: str = REASONING_TAG,
    ignore: Sequence[str] | str | None = None,
    choices: Sequence[str] = (),
    schema: str = "",
    grader: str = "",
) -> Parametrised:
    r"""Return `correctness_reward` for answers of another kind, elsewhere, in another notation, or with a tolerance.

    `answer` is the kind: `number`, `math`, `text`, `choice`, `json` or `code`. `answer_in` is `answer_tag` (or None),
    `boxed` (`\boxed{18}`), `hash` (`#### 18`), or the name of another tag. The answer is looked for after the last
    `</think>`, `</reasoning>`, or end of the `reasoning_tag`. `locale` says how numbers are written, golds included:
    `de` reads 1.234,5. With a `tolerance` of 0.01, a number may be a hundredth of the gold away from it.

    Of a text, `ignore` names what does not count: `case`, `spaces`, `articles`, `punctuation`. `choices` are the
    choices of all problems; without them, each row may have its own in a column `choices`. `schema` is the text of a
    JSON schema. `grader` names a function of yours that judges instead, such as `my.py:grade`; it is imported at the
    first call, and where it returns a number from 0 to 1, the reward pays that. Raises SettingError for a setting that
    cannot work.
    """
    from grpo_colab.rewards.graders import make_grader

    judge = make_grader(
        answer,
        answer_in=answer_in or ANSWER_TAG,
        reasoning_tag=reasoning_tag,
        locale=locale,
        tolerance=tolerance,
        ignore=ignore,
        choices=choices,
        schema=schema,
        grader=grader,
    )
    reward = Parametrised(_correctness_reward, judge)
    return reward if judge.needs_row else reads_golds(judge.read_gold)(reward)


def _need_text(gold: str) -> None:
    """Raise ValueError for a gold answer without a text, which an empty answer would equal."""
    if not after_hash(gold).strip():
        raise ValueError(f"the gold answer is empty: {shown(gold)}")


@reads_golds(_need_text)
def exact_answer_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """Pay 1.0 where the answer's text equals the gold text exactly, else 0.0: the study's hard correctness.

    The answer is the one closed answer block. (The study took the last block, so it also pays a completion that closes
    a hundred.) Of a gold that ends in `#### 18`, the gold text is what follows the mark. White space around either text
    does not count. None without a gold, and for an empty one. Raises TypeError for arguments of the wrong type, and
    ValueError for another number of golds than of completions.
    """
    return _exact_answer_reward(ANSWER_TAG, REASONING_TAG, completions, answer, **kwargs)


def get_exact_answer_reward(answer_in: str | None = ANSWER_TAG, reasoning_tag: str = REASONING_TAG) -> Parametrised:
    """Return `exact_answer_reward` for answers elsewhere: see `get_correctness_reward`, also for its errors."""
    check_grading(answer_in, DEFAULT_LOCALE, 0.0)
    return reads_golds(_need_text)(Parametrised(_exact_answer_reward, answer_in, reasoning_tag))


@reads_golds(gold_number)
def soft_correctness_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """Pay 1.0 where the first number of the answer equals the gold number, else 0.0: the study's soft correctness.

    So "96%", "72 units" and "$27" count. The answer is the one closed answer block, or the whole completion when it has
    no answer tag at all. The rest of the answer is not read: "18 or 19" pays for 18. Let `correctness_reward` decide
    where that matters. Golds and errors are those of `correctness_reward`.
    """
    return _soft_correctness_reward(ANSWER_TAG, DEFAULT_LOCALE, 0.0, REASONING_TAG, completions, answer, **kwargs)


def get_soft_correctness_reward(
    answer_in: str | None = ANSWER_TAG,
    locale: str = DEFAULT_LOCALE,
    tolerance: float = 0.0,
    reasoning_tag: str = REASONING_TAG,
) -> Parametrised:
    """Return `soft_correctness_reward` with the settings of `get_correctness_reward`, also for its errors."""
    check_grading(answer_in, locale, tolerance)
    reward = Parametrised(_soft_correctness_reward, answer_in, locale, tolerance, reasoning_tag)
    return reads_golds(partial(gold_number, locale=locale))(reward)


@lru_cache(maxsize=1)
def number_grader() -> Grader:
    """Return the grader of `correctness_reward`, imported at the first call: importing the rewards stays light."""
    from grpo_colab.rewards.graders.numbers import NumberGrader

    return NumberGrader()


def paid_for(reasons: list[Reason | None]) -> list[float | None]:
    """Return 1.0 for each right answer and 0.0 for any other; None stays None."""
    return [None if reason is None else float(reason == "right") for reason in reasons]


def _correctness_reward(
    grader: Grader, /, completions: Completions, answer: Golds, **kwargs: Any
) -> list[float | None]:
    """Pay as `correctness_reward` does, by a grader's verdicts."""
    verdicts = grader.judge_columns("correctness_reward", completions, answer, kwargs)
    log_shares(kwargs.get("log_metric"), [verdict.reason for verdict in verdicts if verdict], grader.reasons)
    return [None if verdict is None else verdict.score for verdict in verdicts]


def _exact_answer_reward(
    answer_in: str | None, reasoning_tag: str, /, completions: Completions, answer: Golds, **kwargs: Any
) -> list[float | None]:
    """Pay as `exact_answer_reward` does, for answers in `answer_in`."""
    pairs = graded_pairs("exact_answer_reward", completions, answer)
    where = answer_in or ANSWER_TAG
    rewards: list[float | None] = []
    for text, gold in pairs:
        is_empty = gold is None or not after_hash(gold).strip()
        rewards.append(None if is_empty else float(_is_gold_text(answer_block(text, where, reasoning_tag), str(gold))))
    return rewards


def _soft_correctness_reward(
    answer_in: str | None,
    locale: str,
    tolerance: float,
    reasoning_tag: str,
    /,
    completions: Completions,
    answer: Golds,
    **kwargs: Any,
) -> list[float | None]:
    """Pay as `soft_correctness_reward` does, by the settings of `get_soft_correctness_reward`."""
    place = answer_in or ANSWER_TAG
    settings: dict[str, Any] = {"answer_in": place, "locale": locale, "tolerance": tolerance}
    rewards: list[float | None] = []
    for text, gold in graded_pairs("soft_correctness_reward", completions, answer, locale):
        if gold is None or not _is_number("soft_correctness_reward", gold, locale):
            rewards.append(None)
        else:
            rewards.append(soft_grade(text, gold, reasoning_tag=reasoning_tag, **settings).score)
    return rewards


def _is_gold_text(block: str | Verdict, gold: str) -> bool:
    """Tell whether the text of an answer block is the gold text; white space around either does not count.

    `block` is as `answer_block` returns it: a verdict says that there is no block, and so is False.
    """
    return isinstance(block, str) and block.strip() == after_hash(gold).strip()


@lru_cache(maxsize=4096)  # so that a gold is warned of once, and read once
def _is_number(function: str, gold: str, locale: str) -> bool:
    """Tell whether a gold answer states a number; warn, in the name of the reward called `function`, where not."""
    try:
        gold_number(gold, locale)
    except ValueError as error:
        warn_of_gold(function, error)
        return False
    return True


def log_shares(
    log_metric: Callable[[str, float], None] | None, reasons: Sequence[Reason], known: Sequence[Reason] = REASONS
) -> None:
    """Log the share of each reason among the verdicts as `verdict/<reason>`.

    Every reason that is `known` is logged each time, even with a share of 0: TRL averages over the calls that logged a
    name. Nothing is logged where `log_metric` is None or there are no reasons.
    """
    if log_metric is not None and reasons:
        for reason in known:
            log_metric(f"verdict/{reason}", reasons.count(reason) / len(reasons))
