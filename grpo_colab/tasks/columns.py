"""Find the prompt and the gold answer in a row: by a column's name, a dotted name, a template, or a conversation's end.

Without settings they are found by the names that people give them, where only one fits. Standard library only.
"""

from __future__ import annotations

import json
import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from grpo_colab.errors import SettingError, nearest
from grpo_colab.rewards.arguments import number_text
from grpo_colab.rewards.resolve import ALWAYS_PASSED, NOT_PASSED
from grpo_colab.tasks.jsonl_rows import Row, names, shown

Message = dict[str, str]

# Names that the prompt and the gold answer often have. The first is TRL's and ours: it wins over the others.
CONVERSATIONS: Final = ("messages", "conversations", "conversation")
PROMPTS: Final = ("prompt", "question", "problem", "instruction", "input", "query", *CONVERSATIONS)
ANSWERS: Final = (
    *("answer", "solution", "output", "label", "target", "response", "gold", "ground_truth", "final_answer"),
    "reward_model.ground_truth",  # as verl has it
)
INDEX: Final = re.compile(r"-?[0-9]{1,9}")
# Names that a reward gets from TRL, and ours for the gold answer. A column of such a name is not passed on.
RESERVED: Final = frozenset({*ALWAYS_PASSED, *NOT_PASSED, "answer"})
# The roles of ShareGPT's conversations, which have `from` and `value`.
ROLES: Final = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


@dataclass(frozen=True)
class Columns:
    """Where a row has its prompt and its gold answer.

    `prompt` and `answer` are columns, perhaps dotted. With a `template` the prompt is made of several columns, and
    `prompt` is empty. An `answer` that is empty stands for the last message of the conversation. `guessed` has those of
    the two that were found by a usual name.
    """

    prompt: str
    answer: str
    template: str = ""
    guessed: tuple[str, ...] = field(default=())

    @classmethod
    def of(cls, row: Row, where: str, prompt: str | None, answer: str | None, template: str | None) -> Columns:
        """Return the columns of a source whose first row is `row`, at the place `where`.

        `prompt`, `answer` and `template` are the settings, None for those that are not set. Raises SettingError where a
        column has to be guessed and none, or more than one, has a usual name.
        """
        guessed = []
        if template is None and prompt is None:
            prompt = _guess(row, where, PROMPTS, "prompt")
            guessed += [prompt] if prompt != PROMPTS[0] else []
        if answer is None:
            ends_in_answer = template is None and _ends_in_assistant(_messages(lookup(row, str(prompt), None)))
            answer = _guess(row, where, ANSWERS, "answer", may_lack=ends_in_answer)
            guessed += [answer] if answer not in ("", ANSWERS[0]) else []
        return cls(prompt or "", answer, template or "", tuple(guessed))

    @property
    def shown(self) -> str:
        """Return what the prompt is made of, for an error message."""
        return f"task.prompt = {self.template!r}" if self.template else f"column {self.prompt!r}"

    @property
    def answer_shown(self) -> str:
        """Return where the gold answer is."""
        return f"column {self.answer!r}" if self.answer else f"the last message in column {self.prompt!r}"

    def prompt_of(self, row: Row, where: str) -> Any:
        """Return the prompt of a row, a text or a list of messages, which is not checked any further.

        A conversation is without the answer at its end, where that is the gold, or where its column is one of
        CONVERSATIONS. Raises SettingError, with the place `where`, for a column that is missing or empty.
        """
        if self.template:
            return filled(self.template, row, where)
        prompt = value_of(row, self.prompt, where, "task.prompt_column")
        messages = _messages(prompt)
        if messages is None:
            return prompt
        with_answer = not self.answer or self.answer.startswith(f"{self.prompt}.-1") or self.prompt in CONVERSATIONS
        if with_answer and _ends_in_assistant(messages):
            return messages[:-1]
        return messages

    def answer_of(self, row: Row, where: str) -> Any:
        """Return the gold answer of a row as it is written; SettingError for one that is missing or empty."""
        if self.answer:
            return value_of(row, self.answer, where, "task.answer_column")
        messages = _messages(value_of(row, self.prompt, where, "task.prompt_column"))
        if not messages or not _ends_in_assistant(messages):
            raise SettingError(
                f"column {self.prompt!r}: does not end in an assistant's message, which is the gold answer here",
                remedy="end it so, take the row out, or set task.answer_column",
                place=where,
            )
        return value_of(messages[-1], "content", where, "task.answer_column")

    def others(self, row: Row) -> dict[str, Any]:
        """Return what a reward gets of a row beside its prompt and its gold answer.

        A column with a name of RESERVED is left out: TRL passes another value under it.
        """
        left_out = {self.prompt, self.answer, *RESERVED}
        return {key: value for key, value in row.items() if key not in left_out}


def _guess(row: Row, where: str, usual: Sequence[str], what: str, may_lack: bool = False) -> str:
    """Return the one of the `usual` names that the row has. The first of them wins, and else there must be one only.

    With `may_lack` the name is empty where there is none. Otherwise SettingError is raised.
    """
    found = [name for name in usual if _has(row, name)]
    if usual[0] in found:
        return usual[0]
    if len(found) == 1 or (may_lack and not found):
        return found[0] if found else ""
    if not found:
        problem = f"there is no column {what!r}; it has {names(row)}"
        more = ', or write it of several columns, task.prompt = "{name} ..."' if what == "prompt" else ""
        raise SettingError(problem, remedy=f"set task.{what}_column{more}", place=where)
    problem = f"it is not clear which column is the {what}: {', '.join(map(repr, found))}"
    both = f', or write task.prompt = "{" ".join(f"{{{name}}}" for name in found)}"' if what == "prompt" else ""
    raise SettingError(problem, remedy=f'set task.{what}_column = "{found[0]}"{both}', place=where)


def _has(row: Row, name: str) -> bool:
    missing = object()
    return lookup(row, name, missing) is not missing


def lookup(row: Any, name: str, missing: Any) -> Any:
    """Return the value of a column, or of a dotted name such as `extra_info.answer` and `choices.0`; else `missing`.

    A column whose own name has a dot is found, too. In a list, -1 is the last item.
    """
    value = _item(row, name, missing)
    dot = name.find(".")
    while value is missing and dot > 0:
        inner = _item(row, name[:dot], missing)
        if inner is not missing:
            value = lookup(inner, name[dot + 1 :], missing)
        dot = name.find(".", dot + 1)
    return value


def _item(container: Any, key: str, missing: Any) -> Any:
    """Return what an object has under a key, or a list at an index; else `missing`."""
    if isinstance(container, Mapping):
        return container.get(key, missing)
    if isinstance(container, list | tuple) and INDEX.fullmatch(key) and -len(container) <= int(key) < len(container):
        return container[int(key)]
    return missing


def value_of(row: Row, name: str, where: str, setting: str) -> Any:
    """Return a column's value. Raises SettingError for one that is missing, null, NaN, or a text without a sign.

    `name` may be dotted. The error lists the row's columns, and its remedy is to change `setting`.
    """
    missing = object()
    value = lookup(row, name, missing)
    if value is missing:
        near = nearest(name, row) if "." not in name else ""
        raise SettingError(
            f"there is no column {name!r}; it has {_names(row, name)}",
            remedy=f"set {setting}; {near}" if near else f"set {setting}",
            place=where,
        )
    trouble = None
    if value is None:
        trouble = "is null"
    elif isinstance(value, float) and math.isnan(value):
        trouble = "is NaN, which stands for an empty cell"
    elif isinstance(value, str) and not value.strip():
        trouble = "is empty"
    if trouble is not None:
        remedy = f"write a value, take the row out, or set {setting}"
        raise SettingError(f"column {name!r}: {trouble}", remedy=remedy, place=where)
    return value


def _names(row: Row, name: str) -> str:
    """Return the names of a row's columns, and those inside of the column where a dotted name begins."""
    head, dot, _ = name.partition(".")
    inner = row.get(head) if dot else None
    if isinstance(inner, Mapping):
        return f"{names(row)}, and {head!r} has {names(inner)}"
    if isinstance(inner, list | tuple):
        return f"{names(row)}, and {head!r} has {len(inner)} items"
    return names(row)


def template_columns(template: str) -> list[str]:
    """Return the columns that a template names in braces; SettingError for a template that cannot be filled.

    `{{` and `}}` stand for braces.
    """
    fields: dict[str, Any] = {"setting": "task.prompt", "value": template}
    remedy = "write columns in braces, as {question}, and a brace itself twice, as {{"
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise SettingError(f"is no template ({error})", remedy=remedy, **fields) from None
    found = []
    for _, name, spec, conversion in parts:
        if name is None:
            continue
        if not name or spec or conversion:
            what = f"{{{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}}}"
            raise SettingError(f"has {what}, which names no column", remedy=remedy, **fields)
        found.append(name)
    if not found:
        raise SettingError("names no column, so all prompts would be the same", remedy=remedy, **fields)
    return found


def filled(template: str, row: Row, where: str) -> str:
    """Return a template with the values of a row in place of its columns.

    A text and a number stand as they are, anything else as JSON. An empty text is a value here. Raises SettingError,
    with the place `where`, for a column that is missing, null or NaN.
    """
    texts = []
    for literal, name, _, _ in string.Formatter().parse(template):
        texts.append(literal)
        if name is None:
            continue
        value = lookup(row, name, None)
        if not isinstance(value, str):
            value = value_of(row, name, where, "task.prompt")
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            value = number_text(value) if is_number else json.dumps(value, ensure_ascii=False, default=str)
        texts.append(value)
    return "".join(texts)


def _messages(value: Any) -> list[Any] | None:
    """Return the messages of a conversation with `role` and `content`, also of one with ShareGPT's `from` and `value`.

    What is no list is no conversation: None. Nothing else is checked.
    """
    if not isinstance(value, list | tuple):
        return None
    return [_message(message) for message in value]


def _message(message: Any) -> Any:
    """Return a message of ShareGPT's as one of a role and a content; anything else as it is."""
    if isinstance(message, dict) and "role" not in message and {"from", "value"} <= message.keys():
        said_by = message["from"]
        role = ROLES.get(said_by, said_by) if isinstance(said_by, str) else said_by
        return {"role": role, "content": message["value"]}
    return message


def _ends_in_assistant(messages: Sequence[Any] | None) -> bool:
    """Tell whether a conversation's last message is an assistant's."""
    last = messages[-1] if messages else None
    return isinstance(last, dict) and last.get("role") == "assistant"


def check_messages(messages: Sequence[Any], column: str, where: str) -> None:
    """Raise SettingError, with the place `where`, for a message without a role and a text, in the column `column`."""
    for number, message in enumerate(messages, 1):
        trouble = _message_problem(message)
        if trouble is not None:
            what = f"message {number} of {len(messages)} {trouble}: {shown(repr(message))}"
            remedy = 'write each as {"role": "user", "content": "a text"}'
            raise SettingError(f"column {column!r}: {what}", remedy=remedy, place=where)


def _message_problem(message: Any) -> str | None:
    """Return what is wrong with a message of a conversation; None for a role and a text."""
    if not isinstance(message, dict):
        return "is no object with a role and a content"
    if not isinstance(message.get("role"), str):
        return "has no role"
    content = message.get("content")
    if isinstance(content, list):
        return "has a list of parts for its content"
    return None if isinstance(content, str) else "has no text for its content"
