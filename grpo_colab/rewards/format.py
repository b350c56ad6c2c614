"""Pay for the form of a completion: `<reasoning>` and `<answer>` blocks, or `<think>`; or an answer that is an integer.

The `get_...` variants take the names of the tags, so that `get_strict_format_reward("think", "SOLUTION")` asks for
`<think>...</think>` and then `<SOLUTION>...</SOLUTION>`. `think_format_reward` asks for what reasoning models write by
themselves: `<think>...</think>` and then the answer, without a tag of its own.

Neither block may be blank, nor the `...` with which a prompt shows the form: a model that finds no right answer soon
copies it, and is paid for the form alone.

A form is that of the whole completion: a tag that the reasoning only names is one tag too many. An answer is looked for
after the reasoning, so it is right all the same.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from grpo_colab.rewards.arguments import Completions, texts_of
from grpo_colab.rewards.grading import ANSWER_TAG, REASONING_TAG, TAG_NAME, TAGS, Verdict, answer_block, check_grading
from grpo_colab.rewards.markup import clean
from grpo_colab.rewards.number_parser import read_number
from grpo_colab.rewards.numerals import DEFAULT_LOCALE, LOCALES, MINUS
from grpo_colab.rewards.parametrised import Parametrised, require

# Per character after the answer. The notebook that made these rewards known takes 0.001 twice, on a scale of 0.5.
TRAILING_PENALTY: Final = 0.004
# The short names of the rewards that ask for an answer in `<answer>`, and so cannot pay one that is elsewhere.
ASKING_FOR_ANSWER_TAG: Final = ("strict_format", "soft_format", "tag_count")
Tags = tuple[str, ...]
THINK_OPEN, THINK_CLOSE = "<think>", "</think>"


def integer_reward(completions: Completions, **kwargs: Any) -> list[float]:
    """Pay 1.0 where the one closed answer block is an integer and nothing else, else 0.0.

    18, -3 and 1,200 are integers here; 18.0, $18 and 18 eggs are not. Raises TypeError for completions of the wrong
    type.
    """
    return _integer_reward(ANSWER_TAG, DEFAULT_LOCALE, REASONING_TAG, completions)


def get_integer_reward(
    answer_in: str | None = ANSWER_TAG, locale: str = DEFAULT_LOCALE, reasoning_tag: str = REASONING_TAG
) -> Parametrised:
    """Return `integer_reward` for answers elsewhere, or in another notation: in `de`, 1.200 is an integer.

    The settings and their errors are those of `get_correctness_reward`.
    """
    check_grading(answer_in, locale, 0.0)
    return Parametrised(_integer_reward, answer_in, locale, reasoning_tag)


def strict_format_reward(completions: Completions, **kwargs: Any) -> list[float]:
    r"""Pay 1.0 where the whole completion is `<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>`, else 0.0.

    One line break may follow. Either block may have several lines, neither may be blank or only dots, and each tag
    occurs once. Raises TypeError for completions of the wrong type.
    """
    return _strict_format_reward(TAGS, completions)


def soft_format_reward(completions: Completions, **kwargs: Any) -> list[float]:
    """Pay 1.0 where the completion opens with a reasoning block and an answer block follows it, else 0.0.

    There may be white space before, between and within the blocks, and anything after them. Neither block may be blank
    or only dots, and each tag occurs once. Takes time linear in the length of the completion, which the well-known
    pattern does not. Raises TypeError for completions of the wrong type.
    """
    return _soft_format_reward(TAGS, completions)


def tag_count_reward(completions: Completions, **kwargs: Any) -> list[float]:
    """Pay a quarter for each of the four tags that occurs exactly once, less 0.004 per character after the answer.

    Characters count from the first `</answer>` on, so that repeating it hides nothing; one line break is free. The
    reward is never below 0.0. Raises TypeError for completions of the wrong type.
    """
    return _tag_count_reward(TAGS, completions)


def think_format_reward(completions: Completions, **kwargs: Any) -> list[float]:
    """Pay 1.0 where the completion is `<think>...</think>` and then an answer, else 0.0.

    This is TRL's reward, but neither part may be blank or only dots. White space may come before. Each tag occurs once.
    When the chat template itself ends the prompt with `<think>`, no completion has that tag: see
    `get_think_format_reward`.
    Raises TypeError for completions of the wrong type.
    """
    return _think_format_reward(False, False, completions)


def get_strict_format_reward(reasoning_tag: str = "think", answer_tag: str = "answer") -> Parametrised:
    """Return `strict_format_reward` with other tags. Raises SettingError for what is no tag's name."""
    return Parametrised(_strict_format_reward, _tags(reasoning_tag, answer_tag))


def get_soft_format_reward(reasoning_tag: str = "think", answer_tag: str = "answer") -> Parametrised:
    """Return `soft_format_reward` with other tags. Raises SettingError for what is no tag's name."""
    return Parametrised(_soft_format_reward, _tags(reasoning_tag, answer_tag))


def get_tag_count_reward(reasoning_tag: str = "think", answer_tag: str = "answer") -> Parametrised:
    """Return `tag_count_reward` with other tags. Raises SettingError for what is no tag's name."""
    return Parametrised(_tag_count_reward, _tags(reasoning_tag, answer_tag))


def get_think_format_reward(prefilled: bool = False, empty: bool = False) -> Parametrised:
    """Return `think_format_reward`; with `prefilled`, for chat templates that end the prompt with `<think>`.

    A prefilled completion begins inside the block, so it must close the block once and never open it. With `empty`, the
    block may be blank, as Qwen3 writes it when it is told not to think; the answer may not. Raises SettingError for a
    setting that is not True or False.
    """
    for name, value in (("prefilled", prefilled), ("empty", empty)):
        require(isinstance(value, bool), name, value, "True or False")
    return Parametrised(_think_format_reward, prefilled, empty)


def _integer_reward(
    answer_in: str | None, locale: str, reasoning_tag: str, /, completions: Completions, **kwargs: Any
) -> list[float]:
    blocks = [
        answer_block(text, answer_in or ANSWER_TAG, reasoning_tag) for text in texts_of("integer_reward", completions)
    ]
    return [float(_is_integer(block, locale)) for block in blocks]


def _strict_format_reward(tags: Tags, /, completions: Completions, **kwargs: Any) -> list[float]:
    return [float(_is_strict(text, tags)) for text in texts_of("strict_format_reward", completions)]


def _soft_format_reward(tags: Tags, /, completions: Completions, **kwargs: Any) -> list[float]:
    return [float(_is_soft(text, tags)) for text in texts_of("soft_format_reward", completions)]


def _tag_count_reward(tags: Tags, /, completions: Completions, **kwargs: Any) -> list[float]:
    return [_tag_score(text, tags) for text in texts_of("tag_count_reward", completions)]


def _think_format_reward(prefilled: bool, empty: bool, /, completions: Completions, **kwargs: Any) -> list[float]:
    return [float(_thinks(text, prefilled, empty)) for text in texts_of("think_format_reward", completions)]


def _is_integer(block: str | Verdict, locale: str) -> bool:
    """Tell whether an answer block holds an integer and nothing else; a verdict says that there is no block."""
    if not isinstance(block, str) or read_number(block, locale).value is None:
        return False
    text = (block if block.isascii() else clean(block)).strip()  # in any script's digits
    return re.fullmatch(rf"[{MINUS}+]?(?:{LOCALES[locale].grouped}|[0-9]+)", text) is not None


def _tags(reasoning_tag: str, answer_tag: str = "answer") -> Tags:
    """Return the four tags, in order. Raises SettingError for a tag that is no name, and for two that are the same."""
    for setting, name in (("reasoning_tag", reasoning_tag), ("answer_tag", answer_tag)):
        good = isinstance(name, str) and re.fullmatch(TAG_NAME, name)
        require(bool(good), setting, name, "the name alone, such as 'think'")
    require(reasoning_tag != answer_tag, "reasoning_tag", reasoning_tag, "another name than that of the answer's tag")
    return (f"<{reasoning_tag}>", f"</{reasoning_tag}>", f"<{answer_tag}>", f"</{answer_tag}>")


@lru_cache
def _pattern(tags: Tags) -> re.Pattern[str]:
    return re.compile(f"({'|'.join(map(re.escape, tags))})")


def _blocks(text: str, tags: Tags) -> list[str] | None:
    """Split a completion at its four tags into five texts: before, reasoning, between, answer, after.

    Returns None unless each tag occurs once, in order, and neither block is blank.
    """
    # One split too many is enough to tell, so that megabytes of tags cost nothing.
    parts = _pattern(tags).split(text, maxsplit=len(tags) + 1)
    texts, found_tags = parts[::2], tuple(parts[1::2])
    if found_tags != tags:
        return None
    _, reasoning, _, answer, _ = texts
    return None if _is_wordless(reasoning) or _is_dots(answer) else texts


def _is_wordless(thought: str) -> bool:
    """Tell whether a thought has no letter and no digit: it is blank, or the dots that a prompt shows the form with."""
    return not any(character.isalnum() for character in thought)


def _is_dots(answer: str) -> bool:
    """Tell whether an answer is blank, or dots in the place of one. Other signs may be an answer, such as []."""
    return not answer.strip(".… \t\r\n\v\f")


def _is_strict(text: str, tags: Tags) -> bool:
    """Tell whether a completion has the form that `strict_format_reward` pays, with these tags."""
    blocks = _blocks(text, tags)
    if blocks is None:
        return False
    before, reasoning, between, answer, after = blocks
    own_lines = all(block[0] == block[-1] == "\n" for block in (reasoning, answer))
    return own_lines and before == "" and between == "\n" and after in ("", "\n")


def _is_soft(text: str, tags: Tags) -> bool:
    """Tell whether a completion has the soft form: only white space before and between the blocks."""
    blocks = _blocks(text, tags)
    if blocks is None:
        return False
    before, _, between, _, _ = blocks
    return not before.strip() and not between.strip()


def _tag_score(text: str, tags: Tags) -> float:
    """Return what `tag_count_reward` pays for one completion."""
    _, _, trailing = text.partition(tags[-1])
    once = sum(text.count(tag) == 1 for tag in tags)
    return max(0.0, once / len(tags) - TRAILING_PENALTY * len(trailing.removeprefix("\n")))


def _thinks(text: str, prefilled: bool, empty: bool) -> bool:
    """Tell whether a completion is a block of thought and then an answer, neither of them blank.

    With `prefilled`, the completion begins inside the block, and `<think>` must not occur. With `empty`, the thought
    may be blank.
    """
    openings = 0 if prefilled else 1
    if text.count(THINK_OPEN) != openings or text.count(THINK_CLOSE) != 1:
        return False
    before, rest = "", text
    if not prefilled:
        before, _, rest = text.partition(THINK_OPEN)
    thought, closed, answer = rest.partition(THINK_CLOSE)
    is_thought = not _is_wordless(thought) or (empty and not thought.strip())
    return not before.strip() and bool(closed) and is_thought and not _is_dots(answer)
