"""Pay for length, variety and structure of a completion, or for correctness scaled by length.

Most of these say nothing about whether the answer is right: give them small weights, or let `combine` count them only
where it is. Lengths are in tokens, from the `completion_ids` that TRL passes.
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
# A line that is a step; the group is what follows its marker.
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
    """Pay from 0.5 for the shortest completion of a group down to -0.5 for the longest; a wrong one at most 0.0.

    This is the length reward of Kimi k1.5 (arXiv 2501.12599, section 2.3.3), elsewhere called `len_reward`. It keeps
    answers from growing, and does not pay for short wrong ones. The completions of one prompt are a group; without
    prompts, all completions are one. Lengths are in tokens, or in words without `completion_ids`. Where all lengths of
    a group are equal, it pays 0.0. None without a gold.

    Raises ValueError for a gold that is no number and for an argument of another length than `completions`, and
    TypeError for completions or golds of the wrong type.
    """
    pairs = graded_pairs("length_reward", completions, answer)
    lengths = _lengths("length_reward", completion_ids, pairs) or [len(text.split()) for text, _ in pairs]
    keys = [repr(prompt) for prompt in prompts] if prompts is not None else [""] * len(pairs)
    lengths_of: dict[str, list[int]] = {}  # the lengths of each group
    for key, length in zip(keys, lengths, strict=True):
        lengths_of.setdefault(key, []).append(length)
    bounds = {key: (min(group), max(group)) for key, group in lengths_of.items()}
    rewards: list[float | None] = []
    for (text, gold), key, length in zip(pairs, keys, lengths, strict=True):
        shortest, longest = bounds[key]
        reward = 0.0 if shortest == longest else 0.5 - (length - shortest) / (longest - shortest)
        if gold is None:
            rewards.append(None)
        elif grade(text, gold).right:
            rewards.append(reward)
        else:
            rewards.append(min(0.0, reward))
    return rewards


def get_cosine_scaled_reward(
    max_len: int,
    min_value_wrong: float = -1.0,
    max_value_wrong: float = -0.5,
    min_value_correct: float = 0.5,
    max_value_correct: float = 1.0,
) -> Parametrised:
    """Return correctness scaled by length along a cosine: short right answers earn most, short wrong ones lose most.

    This is from "Demystifying Long Chain-of-Thought Reasoning" (arXiv 2502.03373), appendix C.1, with TRL's names and
    defaults, but graded like `correctness_reward`. Lengths are in tokens. A right completion of length 0 earns
    `max_value_correct`, one of `max_len` or more `min_value_correct`. A wrong completion of length 0 earns
    `min_value_wrong`, one of `max_len` or more `max_value_wrong`. None without a gold or `completion_ids`.

    Raises SettingError unless `max_len` is 1 or more and no value is below the one before it in the signature. The
    reward raises as `correctness_reward` does, and ValueError for another number of `completion_ids` than of
    completions.
    """
    require(_is_integer(max_len, 1), "max_len", max_len, "a number of tokens, 1 or more")
    for name, low, high in (
        ("min_value_wrong", min_value_wrong, max_value_wrong),
        ("max_value_wrong", max_value_wrong, min_value_correct),
        ("min_value_correct", min_value_correct, max_value_correct),
    ):
        require(_are_finite(low, high) and low <= high, name, low, f"a number of at most {high!r}")
    return Parametrised(
        _cosine_scaled_reward, max_len, (max_value_wrong, min_value_wrong), (min_value_correct, max_value_correct)
    )


def get_soft_overlong_punishment_reward(max_completion_len: int, soft_punish_cache: int) -> Parametrised:
    """Return a penalty for long completions: from 0.0 linearly down to -1.0 at `max_completion_len` tokens.

    It begins at `max_completion_len - soft_punish_cache` tokens. This is equation 13 of DAPO (arXiv 2503.14476), with
    TRL's names. A cache of 0 punishes only what is longer than the maximum. None without `completion_ids`. Raises
    SettingError unless the maximum is 1 or more and the cache from 0 to the maximum. The reward raises ValueError for
    another number of `completion_ids` than of completions, and TypeError for completions of the wrong type.
    """
    require(
        _is_integer(max_completion_len, 1), "max_completion_len", max_completion_len, "a number of tokens, 1 or more"
    )
    fits = _is_integer(soft_punish_cache, 0) and soft_punish_cache <= max_completion_len
    require(fits, "soft_punish_cache", soft_punish_cache, f"a number of tokens from 0 to {max_completion_len}")
    return Parametrised(_soft_overlong_punishment_reward, max_completion_len, soft_punish_cache)


def get_repetition_penalty_reward(ngram_size: int = 3, max_penalty: float = -1.0) -> Parametrised:
    """Return a penalty for repetition: the share of repeated n-grams times `max_penalty`, and 0.0 where none repeats.

    This is from "Demystifying Long Chain-of-Thought Reasoning" (arXiv 2502.03373), appendix C.2, with TRL's names. The
    n-grams are of tokens, or of words without `completion_ids`. A completion shorter than `ngram_size` earns 0.0.
    Raises SettingError unless `ngram_size` is 1 or more and `max_penalty` at most 0. The reward raises ValueError for
    another number of `completion_ids` than of completions, and TypeError for completions of the wrong type.
    """
    require(_is_integer(ngram_size, 1), "ngram_size", ngram_size, "a number of tokens, 1 or more")
    require(_are_finite(max_penalty) and max_penalty <= 0, "max_penalty", max_penalty, "a number of at most 0")
    return Parametrised(_repetition_penalty_reward, ngram_size, max_penalty)


def reasoning_steps_reward(completions: Completions, **kwargs: Any) -> list[float]:
    """Pay a third for each different step before the answer, at most 1.0: see `get_reasoning_steps_reward`."""
    return _reasoning_steps_reward(3, completions)


def get_reasoning_steps_reward(steps: int = 3) -> Parametrised:
    """Return a reward for the number of different steps before the answer, divided by `steps`, at most 1.0.

    The idea is open-r1's. Steps count before `<answer>`, or in the whole text where there is no `<answer>`. A step is a
    line that begins with "Step 2", "2.", "2)", a bullet, or First, Second, Third, Next, Then, Finally, and goes on
    after it. Steps are compared by what follows this marker: "Step 1: add" and "Step 2: add" count once. A marker alone
    does not count. Raises SettingError unless `steps` is 1 or more. The reward raises TypeError for completions of the
    wrong type.
    """
    require(_is_integer(steps, 1), "steps", steps, "a number of steps, 1 or more")
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
    lengths = _lengths("cosine_scaled_reward", completion_ids, pairs)
    if lengths is None:
        return [None] * len(pairs)
    rewards: list[float | None] = []
    for (text, gold), length in zip(pairs, lengths, strict=True):
        if gold is None:
            rewards.append(None)
            continue
        at_max_len, at_zero = correct if grade(text, gold).right else wrong
        # Beyond max_len the cosine would rise again.
        share = (1 + math.cos(math.pi * min(1.0, length / max_len))) / 2
        rewards.append(at_max_len + (at_zero - at_max_len) * share)
    return rewards


def _soft_overlong_punishment_reward(
    max_len: int, cache: int, /, completions: Completions, completion_ids: Ids | None = None, **kwargs: Any
) -> list[float | None]:
    texts = texts_of("soft_overlong_punishment_reward", completions)
    lengths = _lengths("soft_overlong_punishment_reward", completion_ids, texts)
    if lengths is None:
        return [None] * len(texts)
    rewards: list[float | None] = []
    for length in lengths:
        if length > max_len:
            rewards.append(-1.0)
        else:
            rewards.append(min(0.0, (max_len - cache - length) / (cache or 1)))
    return rewards


def _repetition_penalty_reward(
    size: int, penalty: float, /, completions: Completions, completion_ids: Ids | None = None, **kwargs: Any
) -> list[float]:
    texts = texts_of("repetition_penalty_reward", completions)
    _lengths("repetition_penalty_reward", completion_ids, texts)  # for its error alone
    sequences: Sequence[Sequence[Any]] = [text.split() for text in texts] if completion_ids is None else completion_ids
    rewards = []
    for sequence in sequences:
        ngrams = list(zip(*(sequence[start:] for start in range(size)), strict=False))
        repeated = 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
        rewards.append(penalty * repeated or 0.0)  # `or` turns -0.0 into 0.0
    return rewards


def _reasoning_steps_reward(steps: int, /, completions: Completions, **kwargs: Any) -> list[float]:
    rewards = []
    for text in texts_of("reasoning_steps_reward", completions):
        found: set[str] = set()
        for line in text.partition(ANSWER_OPEN)[0].splitlines():
            match = _STEP.match(line)
            if match:
                found.add(match[1].strip(" \t*:."))
        rewards.append(min(1.0, len(found - {""}) / steps))
    return rewards


def _lengths(function: str, completion_ids: Ids | None, completions: Sequence[Any]) -> list[int] | None:
    """Return the number of tokens of each completion, or None without `completion_ids`.

    Raises ValueError, naming the reward, unless there are as many as completions.
    """
    if completion_ids is None:
        return None
    if len(completion_ids) != len(completions):
        raise ValueError(f"{function}: {len(completion_ids)} completion_ids for {len(completions)} completions")
    return [len(ids) for ids in completion_ids]


def _is_integer(value: object, least: int) -> bool:
    """Tell whether `value` is an integer of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_finite(*values: object) -> bool:
    """Tell whether all `values` are finite numbers."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
