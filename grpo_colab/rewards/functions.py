"""The reward functions, with TRL's signature: `noun_reward(completions, <column>, **kwargs) -> list[float | None]`.

`completions` is a list with one entry a completion: a string, or a conversation (a list of messages, of which the
content of the last assistant message counts). A column is a list of the same length. Each function pays from 0.0 to 1.0
a completion; weights come from the recipe. All are deterministic, thread-safe and picklable, and ignore what else TRL
passes. What is of the wrong type raises a TypeError, a column of the wrong length a ValueError.

The six of the study ("LLM Reinforcement Learning with GRPO", 2025) and their weights there: `exact_answer_reward` 1.0,
`soft_correctness_reward` 1.0, and `integer_reward`, `strict_format_reward`, `soft_format_reward`, `tag_count_reward`
0.5 each. `correctness_reward` is ours, and the one to train for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from grpo_colab.rewards.answers import ANSWER_CLOSE, REASONS, TAGS, answer_block, grade, last_block, soft_grade
from grpo_colab.rewards.numbers import parse_number

Completions = Sequence[str] | Sequence[Sequence[Mapping[str, Any]]]
Golds = Sequence[str | None]

# A character after the answer. The notebook that made these rewards known takes 0.001 twice, on a scale of 0.5.
TRAILING_PENALTY: Final = 0.004
_TAG: Final = re.compile(f"({'|'.join(TAGS)})")
_INTEGER: Final = re.compile(r"[-+−]?[0-9,]+")  # of what already parses as one number


def correctness_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """1.0 where the number in the one closed answer block equals the gold number, else 0.0; None without a gold.

    The block may say `$1,000.00` for the gold 1000: see `grpo_colab.rewards.numbers`. Where TRL passes `log_metric`,
    the share of each verdict among the graded completions is logged as `verdict/<reason>`. Raises ValueError for a gold
    that is no number.
    """
    pairs = _pairs("correctness_reward", completions, answer)
    verdicts = [None if gold is None else grade(text, gold) for text, gold in pairs]
    _log_shares(kwargs.get("log_metric"), [verdict.reason for verdict in verdicts if verdict is not None])
    return [None if verdict is None else float(verdict.right) for verdict in verdicts]


def exact_answer_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """1.0 where the answer's text is the gold text, character for character: the study's hard correctness.

    The answer is what stands between the last `<answer>` and the `</answer>` that follows it, as in the study, so other
    answer blocks before it are not punished here. Both texts are stripped of white space. None without a gold.
    """
    pairs = _pairs("exact_answer_reward", completions, answer)
    return [None if gold is None else float(_is_gold_text(last_block(text), gold)) for text, gold in pairs]


def soft_correctness_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """1.0 where the first number of the answer equals the gold number: the study's, so "96%", "72 units", "$27" count.

    The answer is `exact_answer_reward`'s block, or the whole completion when it has no answer tag at all; with an
    unclosed tag it is nothing. What else the answer says is not read ("18 or 19" pays for 18), so let
    `correctness_reward` decide where that matters. None without a gold; ValueError for a gold that is no number.
    """
    pairs = _pairs("soft_correctness_reward", completions, answer)
    return [None if gold is None else float(soft_grade(text, gold).right) for text, gold in pairs]


def integer_reward(completions: Completions, **kwargs: Any) -> list[float]:
    """1.0 where the one closed answer block is an integer and nothing else: 18, -3, 1,200; not 18.0, $18 or 18 eggs."""
    return [float(_is_integer(text)) for text in _texts("integer_reward", completions)]


def strict_format_reward(completions: Completions, **kwargs: Any) -> list[float]:
    r"""1.0 where the whole completion is `<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>`, else 0.0.

    One line break may follow. Either block may have several lines, neither may be blank, and each tag stands once.
    """
    return [float(_is_strict(text)) for text in _texts("strict_format_reward", completions)]


def soft_format_reward(completions: Completions, **kwargs: Any) -> list[float]:
    """1.0 where the completion opens with a reasoning block and an answer block follows it, else 0.0.

    White space may stand before, between and within, and anything after. Neither block may be blank, and each tag
    stands once. Linear in the length of the completion, which the well-known pattern for this is not.
    """
    return [float(_is_soft(text)) for text in _texts("soft_format_reward", completions)]


def tag_count_reward(completions: Completions, **kwargs: Any) -> list[float]:
    """A quarter for each of the four tags that stands exactly once, less 0.004 a character after the answer.

    Characters count from the first `</answer>` on, so that repeating it hides nothing; one line break is free. Never
    below 0.0.
    """
    return [_tag_score(text) for text in _texts("tag_count_reward", completions)]


def _is_gold_text(block: str | None, gold: str) -> bool:
    return block is not None and block.strip() == gold.strip()


def _is_integer(text: str) -> bool:
    block = answer_block(text)
    return isinstance(block, str) and parse_number(block) is not None and bool(_INTEGER.fullmatch(block.strip()))


def _blocks(text: str) -> list[str] | None:
    """What stands before, in, between, in and after the two blocks; None unless each tag stands once, in order."""
    parts = _TAG.split(text, maxsplit=len(TAGS) + 1)  # one more than may be, so that megabytes of tags cost nothing
    between_tags = parts[::2]
    return between_tags if tuple(parts[1::2]) == TAGS and parts[2].strip() and parts[6].strip() else None


def _is_strict(text: str) -> bool:
    if (blocks := _blocks(text)) is None:
        return False
    before, reasoning, between, answer, after = blocks
    own_lines = all(block[0] == block[-1] == "\n" for block in (reasoning, answer))
    return own_lines and before == "" and between == "\n" and after in ("", "\n")


def _is_soft(text: str) -> bool:
    blocks = _blocks(text)
    return blocks is not None and not blocks[0].strip() and not blocks[2].strip()


def _tag_score(text: str) -> float:
    _, _, trailing = text.partition(ANSWER_CLOSE)
    once = sum(text.count(tag) == 1 for tag in TAGS)
    return max(0.0, once / len(TAGS) - TRAILING_PENALTY * len(trailing.removeprefix("\n")))


def _log_shares(log_metric: Callable[[str, float], None] | None, met: list[str]) -> None:
    """Every reason each time, also those that nobody met: TRL averages over the calls that logged a name."""
    if log_metric is not None and met:
        for reason in REASONS:
            log_metric(f"verdict/{reason}", met.count(reason) / len(met))


def _pairs(function: str, completions: Completions, answer: Golds) -> list[tuple[str, str | None]]:
    texts = _texts(function, completions)
    _need_list(function, "answer", answer)
    if len(answer) != len(texts):
        raise ValueError(f"{function}: {len(answer)} answers for {len(texts)} completions")
    for gold in answer:
        if gold is not None and not isinstance(gold, str):
            raise TypeError(f"{function}: a gold answer is a string or None, got {type(gold).__name__}: {gold!r}")
    return list(zip(texts, answer, strict=True))


def _texts(function: str, completions: Completions) -> list[str]:
    _need_list(function, "completions", completions)
    return [item if isinstance(item, str) else _said(function, item) for item in completions]


def _said(function: str, conversation: Any) -> str:
    """The content of the last assistant message: none when it only calls a tool, joined when it is a list of parts."""
    if not isinstance(conversation, Sequence) or not all(isinstance(message, Mapping) for message in conversation):
        raise TypeError(f"{function}: a completion is a string or a list of messages, got {conversation!r:.80}")
    spoken = [message.get("content") for message in conversation if message.get("role") == "assistant"]
    if not spoken:
        raise TypeError(f"{function}: no message of the role 'assistant' in the completion {conversation!r:.80}")
    content = "" if spoken[-1] is None else spoken[-1]
    if isinstance(content, list | tuple) and all(isinstance(part, Mapping) for part in content):
        content = "".join(part["text"] for part in content if part.get("type") == "text")
    if not isinstance(content, str):
        raise TypeError(f"{function}: a message's content is a string or a list of parts, got {content!r:.80}")
    return content


def _need_list(function: str, name: str, value: object) -> None:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{function}: {name} must be a list with one entry a completion, got {type(value).__name__}")
