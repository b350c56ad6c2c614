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

from collections.abc import Callable
from typing import Any

from grpo_colab.rewards.arguments import Completions, Golds, graded_pairs
from grpo_colab.rewards.grading import REASONS, Verdict, answer_block, grade, soft_grade


def correctness_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """Pay 1.0 where the number in the one closed answer block equals the gold number, else 0.0; None without a gold.

    The block may say `$1,000.00` for the gold 1000: see `number_parser`. Where TRL passes `log_metric`, the share of
    each verdict among the graded completions is logged as `verdict/<reason>`. Raises ValueError for a gold that is no
    number and for another number of golds than of completions, and TypeError for arguments of the wrong type.
    """
    pairs = graded_pairs("correctness_reward", completions, answer)
    verdicts = [None if gold is None else grade(text, gold) for text, gold in pairs]
    log_shares(kwargs.get("log_metric"), [verdict.reason for verdict in verdicts if verdict is not None])
    return [None if verdict is None else float(verdict.right) for verdict in verdicts]


def exact_answer_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """Pay 1.0 where the answer's text equals the gold text exactly, else 0.0: the study's hard correctness.

    The answer is the one closed answer block. (The study took the last block, so it also pays a completion that closes
    a hundred.) White space around either text does not count. None without a gold. Raises TypeError for arguments of
    the wrong type, and ValueError for another number of golds than of completions.
    """
    pairs = graded_pairs("exact_answer_reward", completions, answer)
    return [None if gold is None else float(_is_gold_text(answer_block(text), gold)) for text, gold in pairs]


def soft_correctness_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """Pay 1.0 where the first number of the answer equals the gold number, else 0.0: the study's soft correctness.

    So "96%", "72 units" and "$27" count. The answer is the one closed answer block, or the whole completion when it has
    no answer tag at all. The rest of the answer is not read: "18 or 19" pays for 18. Let `correctness_reward` decide
    where that matters. None without a gold. Raises ValueError for a gold that is no number and for another number of
    golds than of completions, and TypeError for arguments of the wrong type.
    """
    pairs = graded_pairs("soft_correctness_reward", completions, answer)
    return [None if gold is None else float(soft_grade(text, gold).right) for text, gold in pairs]


def _is_gold_text(block: str | Verdict, gold: str) -> bool:
    """Tell whether the text of an answer block is the gold text; white space around either does not count.

    `block` is as `answer_block` returns it: a verdict says that there is no block, and so is False.
    """
    return isinstance(block, str) and block.strip() == gold.strip()


def log_shares(log_metric: Callable[[str, float], None] | None, reasons: list[str]) -> None:
    """Log the share of each reason among the verdicts as `verdict/<reason>`.

    Every reason is logged each time, even with a share of 0: TRL averages over the calls that logged a name. Nothing is
    logged where `log_metric` is None or there are no reasons.
    """
    if log_metric is not None and reasons:
        for reason in REASONS:
            log_metric(f"verdict/{reason}", reasons.count(reason) / len(reasons))
