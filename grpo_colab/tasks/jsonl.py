"""A user's own problems: a file of JSON objects, one per line, each with a prompt and a gold number.

The gold number is a number or a text. In a solution that ends in `#### 18`, it follows the mark, and the lines before
are the solution's steps. The prompt is a text, or a conversation as TRL takes it (`[{"role": "user", "content":
"..."}]`). Every other column is passed to the reward functions under its own name. Without `test_path`, a tenth of the
rows is held out for evaluation. A hash of the prompt decides which, so rows with the same prompt are in the same split.
`jsonl_rows` reads the file.
"""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.rewards.resolve import ALWAYS_PASSED, NOT_PASSED
from grpo_colab.tasks import Problem, Task, seeded_order
from grpo_colab.tasks.conversations import transcript
from grpo_colab.tasks.gsm8k import GSM8K
from grpo_colab.tasks.jsonl_rows import check_values, checked_gold, column, gold_text, read_jsonl, shown, split_solution
from grpo_colab.utils.files import expanded, is_file

TEST_SHARE = 10  # one prompt in this many belongs to the test split
# Names that a reward gets from TRL, and ours for the gold answer. A column of such a name is not passed on.
RESERVED = frozenset({*ALWAYS_PASSED, *NOT_PASSED, "answer"})


class JSONL(Task):
    """Problems of your own, from the file `path`. A tenth of them is held out, unless `test_path` has others.

    `prompt_column` and `answer_column` name the columns of the prompt and the gold number. Raises SettingError without
    `path`, and for a file that does not exist. The files are read when the problems are asked for.
    """

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
        """Return the first `n` problems of a split (all with n = None) in the seed's order.

        Raises SettingError for a file that cannot be read or is empty, a row that is no problem, and a file too small
        to hold problems out.
        """
        path = self.path if split == "train" or self.test_path is None else self.test_path
        problems = [self._problem(where, row) for where, row in read_jsonl(path)]
        if not problems:
            raise SettingError("the data set is empty", place=path)
        if self.test_path is None:
            problems = [problem for problem in problems if _split_of(problem) == split]
            if not problems:
                raise SettingError(
                    f"has too few rows to hold any out for {split!r}",
                    setting="task.path",
                    value=str(path),
                    remedy="give the held-out rows as task.test_path",
                )
        return seeded_order(problems, split, self.seed)[:n]

    def reward_columns(self) -> list[str]:
        """Return `answer`, and the other columns that the first row has.

        The first row is read from the file at `path`; an empty file has `answer` only. Raises SettingError as
        `read_jsonl` does.
        """
        names = ["answer"]
        for _, first_row in islice(read_jsonl(self.path), 1):
            names += self._columns(first_row)
        return names

    def columns_place(self) -> str:
        """Return the place of the first row, `file:line`; an empty text for an empty file."""
        return next((where for where, _ in read_jsonl(self.path)), "")

    def _columns(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return what a reward gets of a row beside its prompt and its gold answer.

        A column with a name of RESERVED is left out: TRL passes another value under it.
        """
        not_passed_on = {self.prompt_column, self.answer_column, *RESERVED}
        return {key: value for key, value in row.items() if key not in not_passed_on}

    def _problem(self, where: str, row: dict[str, Any]) -> Problem:
        """Return the problem of a row; raise SettingError for a prompt or a gold answer that is missing or malformed.

        `where` is the row's place, `file:line`. The question of a conversation is its transcript.
        """
        check_values(row, where)
        prompt = column(row, self.prompt_column, where, "task.prompt_column")
        answer = gold_text(column(row, self.answer_column, where, "task.answer_column"), self.locale)
        if not isinstance(answer, str):
            raise SettingError(f"the gold answer is not one number: {shown(repr(answer))}", place=where)
        checked_gold(answer, where, self.locale)
        steps, gold = split_solution(answer) if "####" in answer else ((), answer)
        columns = self._columns(row)
        if isinstance(prompt, str) and prompt.strip():
            return Problem(prompt, gold, where, steps, columns=columns)
        if not isinstance(prompt, list) or not prompt:
            problem = f"the prompt is neither a text nor a list of role/content messages: {shown(repr(prompt))}"
            raise SettingError(f"column {self.prompt_column!r}: {problem}", place=where)
        for number, message in enumerate(prompt, 1):
            trouble = _message_problem(message)
            if trouble is not None:
                what = f"message {number} of {len(prompt)} {trouble}: {shown(repr(message))}"
                remedy = 'write each as {"role": "user", "content": "a text"}'
                raise SettingError(f"column {self.prompt_column!r}: {what}", remedy=remedy, place=where)
        return Problem(transcript(prompt), gold, where, steps, messages=tuple(prompt), columns=columns)


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


def _split_of(problem: Problem) -> str:
    """Return the split that a problem belongs to by a hash of its whole prompt, whatever the prompt's spacing."""
    digest = hashlib.sha256(" ".join(problem.question.split()).encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % TEST_SHARE == 0 else "train"
