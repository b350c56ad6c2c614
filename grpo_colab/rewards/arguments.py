"""Read the arguments that TRL passes to a reward into texts and gold answers, and check their types and lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grpo_colab.errors import shown

Completions = Sequence[str] | Sequence[Sequence[Mapping[str, Any]]]
Golds = Sequence[str | None]


def is_column(value: object, size: int) -> bool:
    """Tell whether an argument of a reward has one entry for each of `size` completions. A text never has."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes) and len(value) == size


def graded_pairs(function: str, completions: Completions, answer: Golds) -> list[tuple[str, str | None]]:
    """Return each completion's text with its gold answer, for the reward called `function`.

    A gold answer of None stays None. Raises TypeError for arguments of the wrong type, and ValueError for another
    number of answers than of completions. Both name the reward.
    """
    texts = texts_of(function, completions)
    _need_list(function, "answer", answer)
    if len(answer) != len(texts):
        raise ValueError(f"{function}: {len(answer)} answers for {len(texts)} completions")
    for gold in answer:
        if gold is not None and not isinstance(gold, str):
            raise TypeError(f"{function}: a gold answer is a string or None, got {type(gold).__name__}: {shown(gold)}")
    return list(zip(texts, answer, strict=True))


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
