"""A user's own problems: a file of JSON objects, one a line, with a prompt and a gold number each.

The prompt is a text, or a conversation as TRL takes it (`[{"role": "user", "content": "..."}]`). Every other column
is handed to the reward functions under its own name. Without `test_path`, a tenth of the rows is held out for
evaluation, chosen by a hash of the prompt: a row that stands twice is then never on both sides.
"""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.tasks import Problem, Task, seeded_order
from grpo_colab.tasks.gsm8k import GSM8K
from grpo_colab.tasks.jsonl_rows import checked_gold, column, read_jsonl, shown
from grpo_colab.utils.files import expanded, is_file

TEST_ONE_IN = 10
# Names under which TRL passes something of its own to a reward, and ours for the gold answer.
RESERVED = frozenset((
    "prompt", "answer", "completion", "prompts", "completions", "completion_ids",
    "trainer_state", "log_extra", "log_metric",
))  # fmt: skip


class JSONL(Task):
    """Problems from `path` (training, and a held-out tenth) or from `path` and `test_path`."""

    name = "jsonl"
    default_system_prompt = GSM8K.default_system_prompt

    def __init__(
        self,
        *,
        path: str | None = None,
        test_path: str | None = None,
        prompt_column: str = "prompt",
        answer_column: str = "answer",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if path is None:
            remedy = "the task 'jsonl' needs a file of JSON objects, one on each line"
            raise SettingError("is missing", setting="task.path", remedy=remedy)
        for setting, value in (("path", path), ("test_path", test_path)):
            if value is not None and not is_file(expanded(value)):
                raise SettingError("there is no such file", setting=f"task.{setting}", value=value)
        self.path = expanded(path)
        self.test_path = None if test_path is None else expanded(test_path)
        self.prompt_column, self.answer_column = prompt_column, answer_column

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        if self.test_path is not None:
            path = self.path if split == "train" else self.test_path
            found = [self._problem(where, row) for where, row in read_jsonl(path)]
        else:
            path = self.path
            found = [self._problem(where, row) for where, row in read_jsonl(path)]
            if found:
                found = [problem for problem in found if _split_of(problem) == split]
                if not found:
                    raise SettingError(
                        f"has too few rows to hold any out for {split!r}",
                        setting="task.path",
                        value=str(path),
                        remedy="give the held-out rows as task.test_path",
                    )
        if not found:
            raise SettingError("the data set is empty", place=path)
        return seeded_order(found, split, self.seed)[:n]

    def reward_columns(self) -> list[str]:
        first = islice(read_jsonl(self.path), 1)
        return ["answer", *(key for _, row in first for key in self._columns(row))]

    def _columns(self, row: dict[str, Any]) -> dict[str, Any]:
        """What a reward gets beside prompt and answer: not what TRL passes itself, nor another column called answer."""
        taken = {self.prompt_column, self.answer_column, *RESERVED}
        return {key: value for key, value in row.items() if key not in taken}

    def _problem(self, where: str, row: dict[str, Any]) -> Problem:
        prompt = column(row, self.prompt_column, where, "task.prompt_column")
        answer = column(row, self.answer_column, where, "task.answer_column")
        if isinstance(answer, bool) or not isinstance(answer, str | int | float):
            raise SettingError(f"the gold answer is not one number: {shown(repr(answer))}", place=where)
        gold = checked_gold(str(answer), where)
        columns = self._columns(row)
        if isinstance(prompt, str) and prompt.strip():
            return Problem(prompt, gold, where, columns=columns)
        if isinstance(prompt, list) and prompt and all(_is_message(message) for message in prompt):
            return Problem(prompt[-1]["content"], gold, where, messages=tuple(prompt), columns=columns)
        problem = f"the prompt is neither a text nor a list of role/content messages: {shown(repr(prompt))}"
        raise SettingError(problem, place=where)


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
    )


def _split_of(problem: Problem) -> str:
    digest = hashlib.sha256(" ".join(problem.question.split()).encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % TEST_ONE_IN == 0 else "train"
