"""Read the arguments that TRL passes to a reward into texts and gold answers, and check their types and lengths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from numbers import Integral, Rational, Real
from typing import Any

from grpo_colab.errors import shown
from grpo_colab.rewards.numerals import DEFAULT_LOCALE
from grpo_colab.text import counted

Completions = Sequence[str] | Sequence[Sequence[Mapping[str, Any]]]
Golds = Sequence[str | float | Fraction | None]  # float stands for int, too


def is_column(value: object, size: int) -> bool:
    """Tell whether an argument of a reward has one entry for each of `size` completions. A text never has."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == size


def graded_pairs(
    function: str, completions: Completions, answer: Golds, locale: str = DEFAULT_LOCALE
) -> list[tuple[str, str | None]]:
    """Return each completion's text with the text of its gold answer, for the reward called `function`.

    A gold answer of None stays None, and a number becomes the text that states it in `locale`: see `number_text`.
    Raises TypeError for arguments of the wrong type, and ValueError for another number of answers than of completions.
    Both name the reward.
    """
    texts = texts_of(function, completions)
    _need_list(function, "answer", answer)
    if len(answer) != len(texts):
        raise ValueError(f"{function}: {counted(len(answer), 'answer')} for {counted(len(texts), 'completion')}")
    golds = [gold if gold is None or isinstance(gold, str) else _as_text(function, gold, locale) for gold in answer]
    return list(zip(texts, golds, strict=True))


def _as_text(function: str, gold: object, locale: str) -> str:
    """Return a gold answer that is a number as text. Raises TypeError, naming the reward, for anything else."""
    if isinstance(gold, Real) and not isinstance(gold, bool):
        return number_text(gold, locale)
    problem = f"a gold answer is a string, a number or None, got {type(gold).__name__}: {shown(gold)}"
    raise TypeError(f"{function}: {problem}")


def number_text(number: Real | float, locale: str = DEFAULT_LOCALE) -> str:
    """Return the text that states a number in `locale`: `18`, `18.0`, `1/2`.

    Outside of English, where 0.5 may be written 0,5, a float becomes a fraction, which every language writes the same.
    A number that no text states, such as NaN, becomes a text that no parser reads.
    """
    try:
        if isinstance(number, Integral):
            return str(int(number))
        if isinstance(number, Rational):
            return str(Fraction(number))
        text = repr(float(number))
        return text if locale == DEFAULT_LOCALE or not math.isfinite(number) else str(Fraction(text))
    except (ValueError, OverflowError):  # thousands of digits
        return shown(number)


def texts_of(function: str, completions: Completions) -> list[str]:
    """Return each completion's text, for the reward called `function`.

    A completion is a string, or a list of messages of which the last assistant message counts. Raises TypeError, naming
    the reward, for anything else.
    """
    _need_list(function, "completions", completions)
    return [item if isinstance(item, str) else _last_reply(function, item) for item in completions]


def _last_reply(function: str, conversation: Any) -> str:
    """Return the text of the last assistant message, for the reward called `function`.

    The text is empty where the message has no content, as when it only calls a tool. Where the content is a list of
    parts, their texts are joined. Raises TypeError, naming the reward, for what is no list of messages, for a
    conversation without an assistant message, and for content of another type.
    """
    if not isinstance(conversation, Sequence) or not all(isinstance(message, Mapping) for message in conversation):
        raise TypeError(f"{function}: a completion is a string or a list of messages, got {shown(conversation)}")
    replies = [message.get("content") for message in conversation if message.get("role") == "assistant"]
    if not replies:
        raise TypeError(f"{function}: no message of the role 'assistant' in the completion {shown(conversation)}")
    content = "" if replies[-1] is None else replies[-1]
    if isinstance(content, list | tuple) and all(isinstance(part, Mapping) for part in content):
        texts = [part.get("text") for part in content if part.get("type") == "text"]
        content = "".join(texts) if all(isinstance(text, str) for text in texts) else content
    if not isinstance(content, str):
        raise TypeError(f"{function}: a message's content is a string or a list of parts, got {shown(content)}")
    return content


def _need_list(function: str, name: str, value: object) -> None:
    """Raise TypeError, naming the reward and the argument, for a value that is no sequence. A text counts as none."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise TypeError(f"{function}: {name} must be a list with one entry per completion, got {type(value).__name__}")
