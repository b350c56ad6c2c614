"""GSM8K: 7,473 training and 1,319 test word problems (Cobbe et al. 2021, arXiv 2110.14168), MIT licence.

The problems come from the hub (`openai/gsm8k`, configuration `main`). With `path` they come from a folder that has
`train.jsonl` and `test.jsonl` with the columns `question` and `answer`. A solution ends in `#### <number>`: that number
is the gold answer. The lines before it are the steps, whose calculator marks such as `<<48/2=24>>` are removed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.rewards import gold_number
from grpo_colab.rewards.numerals import DEFAULT_LOCALE
from grpo_colab.tasks import Problem, Task, seeded_order
from grpo_colab.tasks.jsonl_rows import check_values, checked_gold, column, read_jsonl, shown, split_solution
from grpo_colab.utils.files import expanded, is_file

HUB_NAME, HUB_CONFIGURATION = "openai/gsm8k", "main"
CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")


class GSM8K(Task):
    """Grade-school mathematics. Every answer is one number.

    Raises SettingError for a `path` without train.jsonl and test.jsonl. The problems are read, or downloaded, when they
    are asked for.
    """

    name = "gsm8k"
    default_system_prompt = "Respond in the following format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>"

    def __init__(self, *, path: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.path = None if path is None else expanded(path)
        if self.path is not None:
            for split in ("train", "test"):
                if not is_file(self.path / f"{split}.jsonl"):
                    problem = f"no {split}.jsonl there"
                    remedy = 'give a folder that has it, or write task.name = "dataset" for problems of your own'
                    raise SettingError(problem, setting="task.path", value=path, remedy=remedy)

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """Return the first `n` problems of a split (all with n = None) in the seed's order.

        Without `path` they are downloaded from the hub, or come from its cache. Raises SettingError for a file that
        cannot be read, a split without rows, a row that is no problem, and a hub that cannot be reached.
        """
        problems = [self._problem(where, row) for where, row in self._rows(split)]
        if not problems:
            raise SettingError(f"{split}.jsonl has no rows", setting="task.path", value=str(self.path))
        return seeded_order(problems, split, self.seed)[:n]

    def _rows(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield where each row of a split is, and the row, from the file in `path` or from the hub.

        Raises SettingError for a file that cannot be read, and for a hub that cannot be reached.
        """
        if self.path is not None:
            yield from read_jsonl(self.path / f"{split}.jsonl")
            return
        from datasets import load_dataset  # heavy, and only the hub needs it

        try:
            rows = load_dataset(HUB_NAME, HUB_CONFIGURATION, split=split)
        except OSError as error:  # no network, no such repository, no access, no disk
            raise SettingError(
                f"{HUB_NAME} cannot be downloaded from the hub ({one_line(error)})",
                setting="task.name",
                value=self.name,
                remedy="with a copy of its train.jsonl and test.jsonl, write task.path = their folder",
            ) from error
        for number, row in enumerate(rows, 1):
            yield f"{HUB_NAME} {split} row {number}", dict(row)

    def _problem(self, where: str, row: dict[str, Any]) -> Problem:
        """Return the problem of a row; raise SettingError if the row has no question, or no gold number.

        `where` is the row's place, for the error and the problem's `source`.
        """
        check_values(row, where)
        question = column(row, "question", where, "task.name = 'dataset' and its column names")
        solution = column(row, "answer", where, "task.name = 'dataset' and its column names")
        if "####" not in str(solution):
            problem = f"the solution has no '####' before its gold answer: {shown(str(solution))}"
            raise SettingError(problem, place=where)
        lines, gold = split_solution(str(solution))
        steps = tuple(CALCULATOR_MARK.sub("", line).strip() for line in lines)
        checked_gold(gold, where)
        if self.locale != DEFAULT_LOCALE:  # the golds are written in English
            gold = str(gold_number(gold))
        return Problem(str(question), gold, where, steps)
