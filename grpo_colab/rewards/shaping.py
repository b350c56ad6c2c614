"""How long, how repetitive and how structured a completion is; and correctness scaled by length.

These shape what the answer's own reward leaves open, and say nothing about truth: give them small weights, or let
`combine` count them only where the answer is right. A length is in tokens, from the `completion_ids` that TRL passes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, Final

from grpo_colab.rewards.arguments import Completions, Golds, graded_pairs, texts_of
from grpo_colab.rewards.grading import ANSWER_OPEN, grade
from grpo_colab.rewards.parametrised import Parametrised, require

Ids = Sequence[Sequence[int]]
_STEP: Final = re.compile(
    r"[ \t]*+(?:#++ )?(?:\*\*)?(?:Step [0-9]+[:.)]?|[0-9]+[.)](?=[ \t])|[-*•](?=[ \t])"
    r"|(?:First|Second|Third|Next|Then|Finally)\b[,:]?)(.*)",
    re.IGNORECASE,
)


def length_reward(
    completions: Completions,
    answer: Golds,
    prompts: Sequence[Any] | None = None,
    completion_ids: Ids | None = None,
    **kwargs: Any,
) -> list[float | None]:
    """From 0.5 for the shortest completion of a group down to -0.5 for the longest; a wrong one never gets above 0.0.

    The length reward of Kimi k1.5 (arXiv 2501.12599, section 2.3.3), elsewhere called `len_reward`: it keeps answers
    from growing without paying for short wrong ones. The completions of one prompt are a group; without prompts, all
    are. Lengths are compared within it, in tokens, or in words where no `completion_ids` are given; a group of one
    length gets 0.0. None without a gold.
    """
    pairs = graded_pairs("length_reward", completions, answer)
    lengths = _lengths("length_reward", completion_ids, pairs) or [len(text.split()) for text, _ in pairs]
    keys = [repr(prompt) for prompt in prompts] if prompts is not None else [""] * len(pairs)
    groups: dict[str, list[int]] = {}
    for key, length in zip(keys, lengths, strict=True):
        groups.setdefault(key, []).append(length)
    bounds = {key: (min(group), max(group)) for key, group in groups.items()}
    paid: list[float | None] = []
    for (text, gold), key, length in zip(pairs, keys, lengths, strict=True):
        shortest, longest = bounds[key]
        share = 0.0 if shortest == longest else 0.5 - (length - shortest) / (longest - shortest)
        paid.append(None if gold is None else share if grade(text, gold).right else min(0.0, share))
    return paid


def get_cosine_scaled_reward(
    max_len: int,
    min_value_wrong: float = -1.0,
    max_value_wrong: float = -0.5,
    min_value_correct: float = 0.5,
    max_value_correct: float = 1.0,
) -> Parametrised:
    """Correctness scaled by length along a cosine: short right answers earn most, short wrong ones lose most.

    "Demystifying Long Chain-of-Thought Reasoning" (arXiv 2502.03373), appendix C.1, with TRL's names and defaults, but
    graded like `correctness_reward`. A right completion of 0 tokens gets `max_value_correct`, one of `max_len` or more
    `min_value_correct`; a wrong one `min_value_wrong` and `max_value_wrong`. None without a gold or `completion_ids`.
    """
    require(_whole(max_len, 1), "max_len", max_len, "a number of tokens, 1 or more")
    for name, low, high in (
        ("min_value_wrong", min_value_wrong, max_value_wrong),
        ("max_value_wrong", max_value_wrong, min_value_correct),
        ("min_value_correct", min_value_correct, max_value_correct),
    ):
        require(_finite(low, high) and low <= high, name, low, f"a number of at most {high!r}")
    return Parametrised(
        _cosine_scaled_reward, max_len, (max_value_wrong, min_value_wrong), (min_value_correct, max_value_correct)
    )


def get_soft_overlong_punishment_reward(max_completion_len: int, soft_punish_cache: int) -> Parametrised:
    """0.0 up to `max_completion_len - soft_punish_cache` tokens, then linearly down to -1.0 at `max_completion_len`.

    DAPO (arXiv 2503.14476), equation 13, with TRL's names. A cache of 0 punishes only what is longer than the maximum.
    None without `completion_ids`.
    """
    require(_whole(max_completion_len, 1), "max_completion_len", max_completion_len, "a number of tokens, 1 or more")
    good = _whole(soft_punish_cache, 0) and soft_punish_cache <= max_completion_len
    require(good, "soft_punish_cache", soft_punish_cache, f"a number of tokens from 0 to {max_completion_len}")
    return Parametrised(_soft_overlong_punishment_reward, max_completion_len, soft_punish_cache)


def get_repetition_penalty_reward(ngram_size: int = 3, max_penalty: float = -1.0) -> Parametrised:
    """The share of repeated n-grams times `max_penalty`: 0.0 where none repeats.

    "Demystifying Long Chain-of-Thought Reasoning" (arXiv 2502.03373), appendix C.2, with TRL's names: n-grams of
    tokens, or of words where no `completion_ids` are given. A completion of fewer than `ngram_size` gets 0.0.
    """
    require(_whole(ngram_size, 1), "ngram_size", ngram_size, "a number of tokens, 1 or more")
    require(_finite(max_penalty) and max_penalty <= 0, "max_penalty", max_penalty, "a number of at most 0")
    return Parametrised(_repetition_penalty_reward, ngram_size, max_penalty)


def reasoning_steps_reward(completions: Completions, **kwargs: Any) -> list[float]:
    """The number of steps before the answer, out of three, at most 1.0: see `get_reasoning_steps_reward`."""
    return _reasoning_steps_reward(3, completions)


def get_reasoning_steps_reward(steps: int = 3) -> Parametrised:
    """The number of different steps before the answer, divided by `steps`, at most 1.0 (open-r1's idea).

    A step is a line that begins with "Step 2", "2.", "2)", a bullet, or First, Second, Third, Next, Then, Finally, and
    goes on. A step that repeats another word for word does not count, so that a marker alone earns nothing.
    """
    require(_whole(steps, 1), "steps", steps, "a number of steps, 1 or more")
    return Parametrised(_reasoning_steps_reward, steps)


def _cosine_scaled_reward(
    max_len: int,
    wrong: tuple[float, float],
    correct: tuple[float, float],
    /,
    completions: Completions,
    answer: Golds,
    completion_ids: Ids | None = None,
    **kwargs: Any,
) -> list[float | None]:
    pairs = graded_pairs("cosine_scaled_reward", completions, answer)
    if (lengths := _lengths("cosine_scaled_reward", completion_ids, pairs)) is None:
        return [None] * len(pairs)
    paid: list[float | None] = []
    for (text, gold), length in zip(pairs, lengths, strict=True):
        if gold is None:
            paid.append(None)
            continue
        longest, shortest = correct if grade(text, gold).right else wrong
        share = (1 + math.cos(math.pi * min(1.0, length / max_len))) / 2  # the cosine would rise again past max_len
        paid.append(longest + (shortest - longest) * share)
    return paid


def _soft_overlong_punishment_reward(
    most: int, cache: int, /, completions: Completions, completion_ids: Ids | None = None, **kwargs: Any
) -> list[float | None]:
    texts = texts_of("soft_overlong_punishment_reward", completions)
    lengths = _lengths("soft_overlong_punishment_reward", completion_ids, texts)
    if lengths is None:
        return [None] * len(texts)
    return [-1.0 if length > most else min(0.0, (most - cache - length) / (cache or 1)) for length in lengths]


def _repetition_penalty_reward(
    size: int, penalty: float, /, completions: Completions, completion_ids: Ids | None = None, **kwargs: Any
) -> list[float]:
    texts = texts_of("repetition_penalty_reward", completions)
    _lengths("repetition_penalty_reward", completion_ids, texts)
    units: Sequence[Sequence[Any]] = completion_ids if completion_ids is not None else [t.split() for t in texts]
    paid = []
    for unit in units:
        ngrams = list(zip(*(unit[start:] for start in range(size)), strict=False))
        repeated = 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
        paid.append(penalty * repeated or 0.0)  # never -0.0
    return paid


def _reasoning_steps_reward(steps: int, /, completions: Completions, **kwargs: Any) -> list[float]:
    paid = []
    for text in texts_of("reasoning_steps_reward", completions):
        lines = text.partition(ANSWER_OPEN)[0].splitlines()
        found = {match[1].strip(" \t*:.") for match in map(_STEP.match, lines) if match} - {""}
        paid.append(min(1.0, len(found) / steps))
    return paid


def _lengths(function: str, completion_ids: Ids | None, completions: Sequence[Any]) -> list[int] | None:
    """Tokens a completion, or None where none are given."""
    if completion_ids is None:
        return None
    if len(completion_ids) != len(completions):
        raise ValueError(f"{function}: {len(completion_ids)} completion_ids for {len(completions)} completions")
    return [len(ids) for ids in completion_ids]


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _finite(*values: object) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
