"""Know a prompt by all of its messages: as one text, by a key, and by the part in which it differs from others.

A prompt is a text, or a conversation: a list of messages with a role and a content. A text is the same prompt as the
conversation of that one user message. Standard library only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

LONGEST_SHARED: Final = 80  # characters at the start of texts that all share and that are still shown


def transcript(prompt: Any) -> str:
    """Return a prompt as one text: a text as it is, the content of a single user message, else all messages.

    Each message is its role, a colon and its content; there is an empty line between messages. Other keys of a message
    that are not null follow it, as JSON. What is no prompt is returned as str() has it, and None as an empty text.
    """
    if not isinstance(prompt, Sequence) or isinstance(prompt, str):
        return "" if prompt is None else str(prompt)
    messages = [_without_nulls(message) for message in prompt]
    if len(messages) == 1 and messages[0].keys() == {"role", "content"} and messages[0]["role"] == "user":
        return str(messages[0]["content"])
    return "\n\n".join(map(_message_text, messages))


def prompt_key(prompt: Any) -> str:
    """Return the identity of a prompt: equal for the same roles and contents, in the same order.

    Keys of a message with the value null do not count, nor does white space around a content. Nothing is raised.
    """
    if not isinstance(prompt, Sequence) or isinstance(prompt, str):
        prompt = [{"role": "user", "content": "" if prompt is None else str(prompt)}]
    messages = [_without_nulls(message) for message in prompt]
    for message in messages:
        if isinstance(message.get("content"), str):
            message["content"] = message["content"].strip()
    return json.dumps(messages, sort_keys=True, default=str)


def without_system(prompt: Any) -> Any:
    """Return a conversation without the system messages that it begins with; a text as it is."""
    if not isinstance(prompt, Sequence) or isinstance(prompt, str):
        return prompt
    start = 0
    while start < len(prompt) and _without_nulls(prompt[start]).get("role") == "system":
        start += 1
    return prompt[start:]


def distinct_parts(texts: Sequence[str]) -> list[str]:
    """Return each text without the beginning that it shares with others, for a list in which one looks for differences.

    The beginning is cut off at the end of a line, or at a space where the rest of the line would be longer than
    LONGEST_SHARED, and "... " takes its place. A text stays whole where it shares less, and where what is left of it
    would be left of another text, too.
    """
    different = sorted(set(texts))
    shared = [0, *map(_shared_size, different, different[1:]), 0]  # with the neighbour before, and with the one after
    cut = {}
    for text, before, after in zip(different, shared, shared[1:], strict=False):
        end = _line_or_word(text[: max(before, after)])
        cut[text] = f"... {text[end:]}" if 0 < end < len(text) else text
    often = Counter(cut.values())
    return [cut[text] if often[cut[text]] == 1 else text for text in texts]


def _shared_size(one: str, other: str) -> int:
    """Return how many characters two texts share at their beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _line_or_word(shared: str) -> int:
    """Return where to cut what a text shares with another: after a line, or after a word of a long line."""
    end = shared.rfind("\n") + 1
    if len(shared) - end > LONGEST_SHARED:
        end = shared.rfind(" ") + 1 or len(shared)
    return end


def distinct_questions(prompts: Sequence[Any]) -> list[str] | None:
    """Return the `distinct_parts` of the prompts; None where already their last messages tell them apart."""
    if len({last_message(prompt) for prompt in prompts}) == len({prompt_key(prompt) for prompt in prompts}):
        return None
    return distinct_parts([transcript(prompt) for prompt in prompts])


def last_message(prompt: Any) -> str:
    """Return the content of a conversation's last message, or a text as it is; an empty text for anything else."""
    if isinstance(prompt, Sequence) and not isinstance(prompt, str):
        prompt = _without_nulls(prompt[-1]).get("content") if prompt else None
    return prompt if isinstance(prompt, str) else ""


def _without_nulls(message: Any) -> dict[str, Any]:
    """Return a message without keys that are null; what is no message becomes the content of one without a role."""
    if not isinstance(message, Mapping):
        return {"content": message}
    return {str(key): _deep_without_nulls(value) for key, value in message.items() if value is not None}


def _deep_without_nulls(value: Any) -> Any:
    """Return a value of JSON's types without the keys that are null, however deep: Arrow adds such keys."""
    if isinstance(value, Mapping):
        return {key: _deep_without_nulls(one) for key, one in value.items() if one is not None}
    if isinstance(value, list | tuple):
        return [_deep_without_nulls(one) for one in value]
    return value


def _message_text(message: Mapping[str, Any]) -> str:
    return f"{message.get('role', '')}: {said_in(message)}"


def said_in(message: Any) -> str:
    """Return a message's content, followed by its other keys that are not null, as JSON, but for its role."""
    message = _without_nulls(message)
    rest = {key: value for key, value in message.items() if key not in ("role", "content")}
    said = str(message.get("content", ""))
    return f"{said}\n{json.dumps(rest, sort_keys=True, ensure_ascii=False, default=str)}" if rest else said
