"""Pay for length, variety and structure of a completion, or for correctness scaled by length.

Most of these say nothing about whether the answer is right: give them small weights, or let `combine` count them only
where it is. Lengths are in tokens, from the `completion_ids` that TRL passes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from grpo_colab.rewards.arguments import Completions, Golds, texts_of
from grpo_colab.rewards.correctness import number_grader
from grpo_colab.rewards.golds import reads_golds
from grpo_colab.rewards.grading import REASONING_TAG, after_thoughts, gold_number
from grpo_colab.rewards.languages import SPACELESS
from grpo_colab.rewards.numerals import DEFAULT_LOCALE
from grpo_colab.rewards.parametrised import Parametrised, require
from grpo_colab.text import counted

if TYPE_CHECKING:
    from grpo_colab.rewards.graders import Grader

Ids = Sequence[Sequence[int]]
_BY_KIND: Final = "correctness"  # by the kind of answer, which is a number unless `answer` says otherwise
# A line that is a step; the group is what follows its marker.
_STEP: Final = re.compile(
    r"[ \t]*+(?:#++ )?(?:\*\*)?(?:Step [0-9]+[:.)]?|[0-9]+[.)](?=[ \t])|[-*•](?=[ \t])"
    r"|(?:First|Second|Third|Next|Then|Finally)\b[,:]?)(.*)",
    re.IGNORECASE,
)
# A word as `_words` takes it: a run of signs between spaces, or one sign of a script without spaces between words.
_WORD: Final = rf"[{SPACELESS}]|[^\s{SPACELESS}]+"


@reads_golds(gold_number)
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
    a group are equal, it pays 0.0. None without a gold, and for one that is no number: see `correctness_reward`.

    Raises ValueError for an argument of another length than `completions`, and TypeError for completions or golds of
    the wrong type.
    """
    return _length_reward(number_grader(), completions, answer, prompts, completion_ids, **kwargs)


def get_length_reward(
    grader: str = _BY_KIND,
    answer_in: str | None = None,
    locale: str = DEFAULT_LOCALE,
    tolerance: float = 0.0,
    *,
    answer: str = "number",
    reasoning_tag: str = REASONING_TAG,
    ignore: Sequence[str] | str | None = None,
    choices: Sequence[str] = (),
    schema: str = "",
) -> Parametrised:
    """Return `length_reward` with the grader that says what is right: `correctness`, `math`, or `my.py:grade`.

    The other settings are those of `get_correctness_reward` and `get_math_reward`. With `answer_in` None, the answer is
    where the grader looks by itself. Raises SettingError for a setting that cannot work, and the errors of
    `get_math_reward` for `math`.
    """
    judge = _grader(
        grader,
        answer=answer,
        answer_in=answer_in,
        reasoning_tag=reasoning_tag,
        locale=locale,
        tolerance=tolerance,
        ignore=ignore,
        choices=choices,
        schema=schema,
    )
    return _reading_golds(judge, Parametrised(_length_reward, judge))


def get_cosine_scaled_reward(
    max_len: int,
    min_value_wrong: float = -1.0,
    max_value_wrong: float = -0.5,
    min_value_correct: float = 0.5,
    max_value_correct: float = 1.0,
    grader: str = _BY_KIND,
    answer_in: str | None = None,
    locale: str = DEFAULT_LOCALE,
    tolerance: float = 0.0,
    *,
    answer: str = "number",
    reasoning_tag: str = REASONING_TAG,
    ignore: Sequence[str] | str | None = None,
    choices: Sequence[str] = (),
    schema: str = "",
) -> Parametrised:
    """Return correctness scaled by length along a cosine: short right answers earn most, short wrong ones lose most.

    This is from "Demystifying Long Chain-of-Thought Reasoning" (arXiv 2502.03373), appendix C.1, with TRL's names and
    defaults. The last settings say what is right: see `get_length_reward`. Lengths are in tokens. A right
    completion of length 0 earns `max_value_correct`, one of `max_len` or more `min_value_correct`. A wrong completion
    of length 0 earns `min_value_wrong`, one of `max_len` or more `max_value_wrong`. None without a gold that the grader
    reads, and without `completion_ids`.

    Raises SettingError unless `max_len` is 1 or more and no value is below the one before it in the signature, and as
    `get_length_reward` does. The reward raises as `correctness_reward` does, and ValueError for another number of
    `completion_ids` than of completions.
    """
    require(_is_integer(max_len, 1), "max_len", max_len, "a number of tokens, 1 or more")
    for name, low, high in (
        ("min_value_wrong", min_value_wrong, max_value_wrong),
        ("max_value_wrong", max_value_wrong, min_value_correct),
        ("min_value_correct", min_value_correct, max_value_correct),
    ):
        require(_are_finite(low, high) and low <= high, name, low, f"a number of at most {high!r}")
    judge = _grader(
        grader,
        answer=answer,
        answer_in=answer_in,
        reasoning_tag=reasoning_tag,
        locale=locale,
        tolerance=tolerance,
        ignore=ignore,
        choices=choices,
        schema=schema,
    )
    wrong, correct = (max_value_wrong, min_value_wrong), (min_value_correct, max_value_correct)
    return _reading_golds(judge, Parametrised(_cosine_scaled_reward, max_len, wrong, correct, judge))


def get_soft_overlong_punishment_reward(max_completion_len: int, soft_punish_cache: int) -> Parametrised:
    """Return a penalty for long completions: from 0.0 linearly down to -1.0 at `max_completion_len` tokens.

    It begins at `max_completion_len - soft_punish_cache` tokens. This is equation 13 of DAPO (arXiv 2503.14476), with
    TRL's names. A cache of 0 punishes only what is longer than the maximum. None without `completion_ids`, which are
    all that the reward needs: it may be called with them alone, as TRL's. Raises SettingError unless the maximum is 1
    or more and the cache from 0 to the maximum. The reward raises ValueError for another number of `completion_ids`
    than of completions, and TypeError for completions of the wrong type.
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
    n-grams are of tokens, and the reward may be called with `completion_ids` alone, as TRL's. Without them, they are of
    words, whatever their case. In scripts without spaces, such as Chinese and Thai, each character is a word. A
    completion shorter than `ngram_size` earns 0.0. Raises SettingError unless `ngram_size` is 1 or more and
    `max_penalty` at most 0. The reward raises ValueError for another number of `completion_ids` than of completions,
    and TypeError for completions of the wrong type.
    """
    require(_is_integer(ngram_size, 1), "ngram_size", ngram_size, "a number of tokens, 1 or more")
    require(_are_finite(max_penalty) and max_penalty <= 0, "max_penalty", max_penalty, "a number of at most 0")
    return Parametrised(_repetition_penalty_reward, ngram_size, max_penalty)


def reasoning_steps_reward(completions: Completions, **kwargs: Any) -> list[float]:
    """Pay a third for each different step before the answer, at most 1.0: see `get_reasoning_steps_reward`."""
    return _reasoning_steps_reward(3, "answer", REASONING_TAG, completions)


def get_reasoning_steps_reward(
    steps: int = 3, answer_tag: str = "answer", reasoning_tag: str = REASONING_TAG
) -> Parametrised:
    """Return a reward for the number of different steps before the answer, divided by `steps`, at most 1.0.

    The idea is open-r1's. Steps count before the `<answer>` (or `answer_tag`) that follows the last `</think>`,
    `</reasoning>` or end of `reasoning_tag`, or in the whole text where there is none. A step is a line that begins
    with "Step 2", "2.", "2)", a bullet, or First, Second, Third, Next, Then, Finally, and goes on after it. Steps are
    compared by what follows this marker: "Step 1: add" and "Step 2: add" count once. A marker alone does not count.
    Raises SettingError unless `steps` is 1 or more. The reward raises TypeError for completions of the wrong type.
    """
    require(_is_integer(steps, 1), "steps", steps, "a number of steps, 1 or more")
    return Parametrised(_reasoning_steps_reward, steps, answer_tag, reasoning_tag)


def _length_reward(
    grader: Grader,
    /,
    completions: Completions,
    answer: Golds,
    prompts: Sequence[Any] | None = None,
    completion_ids: Ids | None = None,
    **kwargs: Any,
) -> list[float | None]:
    """Pay as `length_reward` does, by the settings of `get_length_reward`."""
    verdicts = grader.judge_columns("length_reward", completions, answer, kwargs)
    lengths = _lengths("length_reward", completion_ids, completions)
    if lengths is None:
        lengths = [len(_words(text)) for text in texts_of("length_reward", completions)]
    if prompts is not None and len(prompts) != len(verdicts):
        said = f"{counted(len(prompts), 'prompt')} for {counted(len(verdicts), 'completion')}"
        raise ValueError(f"length_reward: {said}")
    keys = [repr(prompt) for prompt in prompts] if prompts is not None else [""] * len(verdicts)
    lengths_of: dict[str, list[int]] = {}  # the lengths of each group
    for key, length in zip(keys, lengths, strict=True):
        lengths_of.setdefault(key, []).append(length)
    bounds = {key: (min(group), max(group)) for key, group in lengths_of.items()}
    rewards: list[float | None] = []
    for verdict, key, length in zip(verdicts, keys, lengths, strict=True):
        shortest, longest = bounds[key]
        reward = 0.0 if shortest == longest else 0.5 - (length - shortest) / (longest - shortest)
        if verdict is None:
            rewards.append(None)
        elif verdict.right:
            rewards.append(reward)
        else:
            rewards.append(min(0.0, reward))
    return rewards


def _cosine_scaled_reward(
    max_len: int,
    wrong: tuple[float, float],
    correct: tuple[float, float],
    grader: Grader,
    /,
    completions: Completions,
    answer: Golds,
    completion_ids: Ids | None = None,
    **kwargs: Any,
) -> list[float | None]:
    verdicts = grader.judge_columns("cosine_scaled_reward", completions, answer, kwargs)
    lengths = _lengths("cosine_scaled_reward", completion_ids, completions)
    if lengths is None:
        return [None] * len(verdicts)
    rewards: list[float | None] = []
    for verdict, length in zip(verdicts, lengths, strict=True):
        if verdict is None:
            rewards.append(None)
            continue
        at_max_len, at_zero = correct if verdict.right else wrong
        # Beyond max_len the cosine would rise again.
        share = (1 + math.cos(math.pi * min(1.0, length / max_len))) / 2
        rewards.append(at_max_len + (at_zero - at_max_len) * share)
    return rewards


def _soft_overlong_punishment_reward(
    max_len: int,
    cache: int,
    /,
    completions: Completions | None = None,
    completion_ids: Ids | None = None,
    **kwargs: Any,
) -> list[float | None]:
    texts, completion_ids = _texts_and_ids("soft_overlong_punishment_reward", completions, completion_ids)
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
    size: int,
    penalty: float,
    /,
    completions: Completions | None = None,
    completion_ids: Ids | None = None,
    **kwargs: Any,
) -> list[float]:
    texts, completion_ids = _texts_and_ids("repetition_penalty_reward", completions, completion_ids)
    _lengths("repetition_penalty_reward", completion_ids, texts)  # for its error alone
    sequences: Sequence[Sequence[Any]] = [_words(text) for text in texts] if completion_ids is None else completion_ids
    rewards = []
    for sequence in sequences:
        starts = range(min(size, len(sequence) + 1))  # a shorter sequence has no n-gram
        ngrams = list(zip(*(sequence[start:] for start in starts), strict=False)) if len(sequence) >= size else []
        repeated = 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
        rewards.append(penalty * repeated or 0.0)  # `or` turns -0.0 into 0.0
    return rewards


def _reasoning_steps_reward(
    steps: int, answer_tag: str, reasoning_tag: str, /, completions: Completions, **kwargs: Any
) -> list[float]:
    rewards = []
    for text in texts_of("reasoning_steps_reward", completions):
        found: set[str] = set()
        rest = after_thoughts(text, reasoning_tag)
        before_answer = text[: len(text) - len(rest)] + rest.partition(f"<{answer_tag}>")[0]
        for line in before_answer.splitlines():
            match = _STEP.match(line)
            if match:
                found.add(match[1].strip(" \t*:."))
        rewards.append(min(1.0, len(found - {""}) / steps))
    return rewards


def _grader(name: str, **settings: Any) -> Grader:
    """Return the grader of a name: `correctness`, `math`, or a function such as `my.py:grade`.

    Raises SettingError for a setting that cannot work, and as `get_math_reward` does.
    """
    from grpo_colab.rewards.graders import make_grader

    known = isinstance(name, str) and (name in (_BY_KIND, "math") or "." in name)
    require(known, "grader", name, "'correctness' or 'math', or a function such as 'my.py:grade'")
    if name == "math":
        settings = settings | {"answer": "math"}
    elif name != _BY_KIND:
        settings = settings | {"grader": name}
    return make_grader(**settings)


def _reading_golds(grader: Grader, reward: Parametrised) -> Parametrised:
    """Return the reward, which declares how its grader reads a gold, where that takes the gold alone."""
    return reward if grader.needs_row else reads_golds(grader.read_gold)(reward)


def _texts_and_ids(
    function: str, completions: Completions | None, completion_ids: Ids | None
) -> tuple[Sequence[Any], Ids | None]:
    """Return the completions' texts and token ids, where only one of the two may be given.

    The ids may also be in the first argument's place, where TRL's own rewards take them. Without texts, the first list
    is that of the ids. Raises TypeError, naming the reward, for neither, and for completions of the wrong type.
    """
    if completion_ids is None and _are_ids(completions):
        completions, completion_ids = None, completions
    if completions is not None:
        return texts_of(function, completions), completion_ids
    if completion_ids is None:
        raise TypeError(f"{function}: completions must be a list, or completion_ids must be given; got NoneType")
    return completion_ids, completion_ids


def _are_ids(value: object) -> TypeGuard[Ids]:
    """Tell whether a value can be nothing but token ids: lists of integers, of which at least one is not empty."""
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(item, list) for item in value):
        return False
    tokens = [token for ids in value for token in ids]
    return bool(tokens) and all(isinstance(token, int) for token in tokens)


def _words(text: str) -> list[str]:
    """Return the words of a text, in one case. In a script without spaces between words, each character is one."""
    return re.findall(_WORD, text.casefold())


def _lengths(function: str, completion_ids: Ids | None, completions: Sequence[Any]) -> list[int] | None:
    """Return the number of tokens of each completion, or None without `completion_ids`.

    Raises ValueError, naming the reward, unless there are as many as completions.
    """
    if completion_ids is None:
        return None
    if len(completion_ids) != len(completions):
        raise ValueError(
            f"{function}: {len(completion_ids)} completion_ids for {counted(len(completions), 'completion')}"
        )
    return [len(ids) for ids in completion_ids]


def _is_integer(value: object, least: int) -> bool:
    """Tell whether `value` is an integer of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _are_finite(*values: object) -> bool:
    """Tell whether all `values` are finite numbers."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
