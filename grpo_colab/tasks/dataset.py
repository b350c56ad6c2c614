"""A user's own problems, from a file, a folder, or a data set on the hub: each row has a prompt and a gold answer.

`sources` finds the rows, `columns` finds the prompt and the gold answer in them, and `duplicates` looks for prompts
that come twice. The gold answer is of the kind that task.answer names. In a solution that ends in `#### 18`, it follows
the mark, and the lines before are the solution's steps. Every column but the prompt and the answer is passed to the
reward functions under its own name.

Where the source has no split for it, a tenth of the rows is held out for evaluation. A hash of the prompt decides
which, so rows with the same prompt are in the same split.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Annotated, Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.rewards.graders.json_values import is_json
from grpo_colab.tasks import Message, Problem, Task, seeded_order
from grpo_colab.tasks.choice_lists import unknown_choices
from grpo_colab.tasks.columns import Columns, check_messages, template_columns
from grpo_colab.tasks.conversations import transcript
from grpo_colab.tasks.duplicates import Duplicates, identity, without_duplicates
from grpo_colab.tasks.gsm8k import GSM8K
from grpo_colab.tasks.jsonl_rows import Placed, Row, check_values, no_number, shown, split_boxed, split_solution
from grpo_colab.tasks.sources import (
    Rows,
    RunFiles,
    Source,
    check_source,
    choose_held_out,
    choose_splits,
    find_source,
    is_remote,
)

TEST_SHARE: Final = 0.1  # of the prompts, where nothing else says what is held out


@dataclass(frozen=True)
class Splits:
    """The problems of a data set in its own order, and the examples that are shown before each prompt.

    `columns` says where the rows to train on have their prompt and their answer. `left_out` has a sentence on each kind
    of rows and files that was left out.
    """

    train: list[Problem]
    test: list[Problem]
    examples: list[Problem]
    columns: Columns
    left_out: tuple[str, ...]


class Dataset(Task):
    """Problems of your own: the rows of a file, a folder of splits, or a data set on the hub.

    Raises SettingError for a source that does not exist, and for settings that contradict each other. The rows are read
    when the problems are asked for. `path` may be left out until then, for `train(recipe, dataset=...)`.
    """

    name = "dataset"
    default_system_prompt = GSM8K.default_system_prompt

    def __init__(
        self,
        *,
        path: Annotated[
            str | None,
            "a .jsonl, .json, .csv, .tsv or .parquet file, a folder with train.csv and test.csv or the like, or "
            "hf://owner/name/configuration@revision",
        ] = None,
        test_path: Annotated[
            str | None, "the held-out problems, as `path`; by default the test or validation split of `path`"
        ] = None,
        test_share: Annotated[
            float | None,
            "without both, the share of the problems to hold out, or from 1 on their number; 0.1 if not set",
        ] = None,
        prompt: Annotated[str | None, "a template of several columns, such as {question} ({unit})"] = None,
        prompt_column: Annotated[
            str | None, "the prompt's column, perhaps dotted (extra_info.question); by default one of a usual name"
        ] = None,
        answer_column: Annotated[
            str | None, "the gold answer's column, perhaps dotted; by default one of a usual name, or the last message"
        ] = None,
        examples: Annotated[
            int | list[dict[str, Any]],
            "problems to show, answered, before each prompt: [{question = ..., answer = ...}], or a number of training "
            "rows, which are then not trained on",
        ] = 0,
        duplicates: Annotated[
            Duplicates, "what to do with a training prompt that is held out, and with two answers to one prompt"
        ] = "refuse",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if path is not None:
            check_source(path, "task.path")
        if test_path is not None:
            check_source(test_path, "task.test_path")
        if prompt is not None:
            template_columns(prompt)
            if prompt_column is not None:
                problem, remedy = "is a second place for the prompt, beside task.prompt", "take one of the two out"
                raise SettingError(problem, setting="task.prompt_column", value=prompt_column, remedy=remedy)
        _check_share(test_share, test_path)
        if isinstance(examples, int) and examples < 0:
            raise SettingError("is too small", setting="task.examples", value=examples, remedy="write 0 or more")
        self.path, self.test_path, self.test_share = path, test_path, test_share
        self.prompt, self.prompt_column, self.answer_column = prompt, prompt_column, answer_column
        self.examples, self.duplicates = examples, duplicates
        self.run_files: RunFiles = None  # where a path that begins with run: is

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """Return the first `n` problems of a split (all with n = None) in the seed's order.

        The first call reads all rows of both splits, which may download them. Raises SettingError for a source that
        cannot be read or is empty, a row that is no problem, prompts that come twice as `duplicates` refuses them, and
        for too few rows to hold any out.
        """
        problems = self.splits.train if split == "train" else self.splits.test
        return seeded_order(problems, split, self.seed)[:n]

    def reward_columns(self) -> list[str]:
        """Return `answer`, and the other columns that the first row has; an empty source has `answer` only.

        Only the first row is read. Raises SettingError where that fails.
        """
        names = ["answer"]
        for where, row in islice(self._sources[0](), 1):
            names += self._columns_of(where, row).others(row)
        return names

    def columns_place(self) -> str:
        """Return the place of the first row, such as `file:line`; an empty text for an empty source."""
        return next((where for where, _ in self._sources[0]()), "")

    def messages(self, problem: Problem) -> list[Message]:
        """Return the prompt in TRL's conversational form, with the examples after the system messages."""
        messages = super().messages(problem)
        if not self.examples:
            return messages
        start = 0
        while start < len(messages) and messages[start]["role"] == "system":
            start += 1
        return [*messages[:start], *self._example_turns, *messages[start:]]

    @cached_property
    def _example_turns(self) -> list[Message]:
        """Return the examples as turns of a user, who asks, and of an assistant, who answers as the task wants it."""
        turns: list[Message] = []
        for example in self.splits.examples:
            asked = example.messages or [{"role": "user", "content": example.question}]
            turns += [message for message in asked if message["role"] != "system"]
            turns.append({"role": "assistant", "content": self.golden_completion(example).strip()})
        return turns

    @cached_property
    def splits(self) -> Splits:
        """Read all rows, and return the problems of both splits. Raises what `problems` raises."""
        rows, held_out_rows = self._sources
        problems, columns = self._read(rows(), self._source.place)
        if held_out_rows is None:
            train, held_out = self._divided(problems)
        else:
            train, (held_out, _) = problems, self._read(held_out_rows(), self.test_path or self._source.place)
        train, held_out, left_out = without_duplicates(train, held_out, self.duplicates, self._same_gold)
        for split, left in (("train", train), ("test", held_out)):
            if not left:
                problem = f"has no row left for {split!r}, of the {len(problems):,} that it had"
                remedy = "correct the rows, or give others as task.test_path"
                raise SettingError(problem, setting="task.path", value=self.path, remedy=remedy)
        if self.grader.kind == "choice":
            left_out = [*left_out, *unknown_choices([*train, *held_out], self.grader)]
        examples, train = self._examples(train, held_out)
        return Splits(train, held_out, examples, columns, (*self._source.notes, *left_out))

    @property
    def held_out_by(self) -> str:
        """Return in words what decides which rows are held out."""
        if self.test_path is not None:
            return f"all of {self.test_path}"
        train, name = choose_splits(self._source.splits, {})
        if name is not None:
            unused = [repr(other) for other in self._source.splits if other not in (train, name)]
            return f"its own split {name!r}" + (f"; not used: {', '.join(unused)}" if unused else "")
        share = TEST_SHARE if self.test_share is None else self.test_share
        return (
            f"{share:.0%} of the prompts, by a hash" if share < 1 else f"{int(share):,} rows, by a hash of the prompt"
        )

    @property
    def columns_known(self) -> bool:
        """Tell whether the first row can be read now: not on the hub, nor before the rows are given."""
        return self.path is not None and not is_remote(self.path)

    @cached_property
    def _source(self) -> Source:
        if self.path is None:
            remedy = (
                f"the task {self.name!r} needs a file, a folder, or a data set of the hub as hf://owner/name; "
                "in Python train(recipe, dataset=...) will do"
            )
            raise SettingError("is missing", setting="task.path", remedy=remedy)
        return find_source(self.path, "task.path", self.run_files)

    @cached_property
    def _sources(self) -> tuple[Rows, Rows | None]:
        """Return what reads the rows to train on, and what reads the held-out ones, None where they are divided."""
        fields: dict[str, Any] = {"setting": "task.path", "value": self.path}
        train, held_out = choose_splits(self._source.splits, fields)
        rows = self._source.splits[train]
        if self.test_path is not None:
            test = find_source(self.test_path, "task.test_path", self.run_files)
            return rows, test.splits[choose_held_out(test.splits, "task.test_path", self.test_path)]
        if held_out is None:
            return rows, None
        if self.test_share is not None:
            raise SettingError(
                f"the source has held-out rows, {held_out!r}",
                setting="task.test_share",
                value=self.test_share,
                remedy="take it out, or name the file to train on as task.path",
            )
        return rows, self._source.splits[held_out]

    def _columns_of(self, where: str, row: Row) -> Columns:
        """Return where the rows have their prompt and their gold answer, by the first of them."""
        return Columns.of(row, where, self.prompt_column, self.answer_column, self.prompt)

    def _read(self, rows: Iterable[Placed], place: str) -> tuple[list[Problem], Columns]:
        """Return the problems of some rows, and where they have their prompts and gold answers.

        Raises SettingError, with the `place` of the rows, where there is none.
        """
        problems: list[Problem] = []
        columns: Columns | None = None
        for where, row in rows:
            columns = columns or self._columns_of(where, row)
            problems.append(self._problem(columns, where, row))
        if columns is None:
            raise SettingError("the data set is empty", remedy="write rows into it, or name another", place=place)
        return problems, columns

    def _problem(self, columns: Columns, where: str, row: Row) -> Problem:
        """Return the problem of a row; raise SettingError for a prompt or a gold answer that is missing or malformed.

        `where` is the row's place, such as `file:line`. The question of a conversation is its transcript.
        """
        check_values(row, where)
        prompt = columns.prompt_of(row, where)
        others = columns.others(row)
        steps, gold = self._gold(columns.answer_of(row, where), others, where)
        if isinstance(prompt, str) and prompt.strip():
            problem = Problem(self.grader.with_choices(prompt, others), gold, where, steps, columns=others)
            self._check_golden(problem)
            return problem
        if not isinstance(prompt, list) or not prompt:
            raise SettingError(
                f"{columns.shown}: the prompt is neither a text nor a list of role/content messages: "
                f"{shown(repr(prompt))}",
                remedy='write a text, or [{"role": "user", "content": "a text"}], or take the row out',
                place=where,
            )
        check_messages(prompt, columns.prompt, where)
        return Problem(transcript(prompt), gold, where, steps, messages=tuple(prompt), columns=others)

    def _gold(self, value: Any, others: Row, where: str) -> tuple[tuple[str, ...], str]:
        """Return the steps and the gold answer of a row's value, which is neither null, NaN nor empty.

        `others` are the row's other columns. Raises SettingError, with the place `where`, for a gold answer that is
        none of the task's kind.
        """
        grader = self.grader
        try:
            text = grader.gold_of(value, others)
            is_whole = grader.kind == "code" or (grader.kind == "json" and is_json(text))
            steps, gold = ((), text) if is_whole else split_solution(text)
            if grader.kind == "math" and "\\boxed" in gold:
                steps, gold = split_boxed(gold)
            grader.read_gold(gold, others)
        except ValueError as error:
            if grader.kind == "number":
                raise no_number(value, where) from None
            remedy = f"correct it, take the row out, or change task.answer, which is {grader.kind!r}"
            raise SettingError(str(error), remedy=remedy, place=where) from None
        return steps, gold

    def _check_golden(self, problem: Problem) -> None:
        """Raise SettingError for a gold answer that no completion can state where `answer_in` looks for it.

        A `}` that nothing opens cannot be in a box, for example. Kinds whose golds are numbers, formulas and code are
        not asked.
        """
        golden = self.golden_completion(problem)
        if self.grader.kind in ("text", "choice", "json") and not self.grade(golden, problem).right:
            raise SettingError(
                f"the gold answer cannot be stated with task.answer_in = {self.answer_in!r}: {shown(problem.answer)}",
                remedy="correct it, take the row out, or change task.answer_in or task.answer_tag",
                place=problem.source,
            )

    def _same_gold(self, one: str, other: str) -> bool:
        """Tell whether two different texts are the same gold answer, as 1,000 and 1000 are."""
        if self.grader.needs_row:
            return one == other
        return bool(self.grader.read_gold(one) == self.grader.read_gold(other))

    def _divided(self, problems: Sequence[Problem]) -> tuple[list[Problem], list[Problem]]:
        """Return the problems to train on and those to hold out, by a hash of the whole prompt.

        Problems of one prompt are on the same side. A share below 1 is of the prompts. A number of rows is reached with
        the prompts of the lowest hashes. A greater share or number holds out the same problems and more. Raises
        SettingError where one of the sides would be empty.
        """
        share = TEST_SHARE if self.test_share is None else self.test_share
        places = {key: _place(key) for key in map(identity, problems)}
        if share >= len(problems) > 1:
            problem, remedy = f"is all of the {len(problems):,} rows there are, or more", "hold out fewer, such as 0.2"
            raise SettingError(problem, setting="task.test_share", value=int(share), remedy=remedy)
        if share < 1:
            bound = share
        else:
            ordered = sorted(places[identity(problem)] for problem in problems)
            bound = math.nextafter(ordered[min(int(share), len(ordered)) - 1], 1.0)
        train = [problem for problem in problems if places[identity(problem)] >= bound]
        test = [problem for problem in problems if places[identity(problem)] < bound]
        for split, side in (("train", train), ("test", test)):
            if not side:
                raise SettingError(
                    f"has too few rows to hold any out for {split!r}",
                    setting="task.path",
                    value=self.path,
                    remedy="give the held-out rows as task.test_path, or set task.test_share",
                )
        return train, test

    def _examples(self, train: list[Problem], held_out: list[Problem]) -> tuple[list[Problem], list[Problem]]:
        """Return the examples that are shown before each prompt, and the problems that are left to train on.

        Raises SettingError for an example that is no problem or is held out, and where nothing is left to train on.
        """
        if isinstance(self.examples, int):
            if self.examples >= len(train):
                raise SettingError(
                    f"are as many as the {len(train):,} training rows or more",
                    setting="task.examples",
                    value=self.examples,
                    remedy="write a smaller number, such as 3",
                )
            examples = train[: self.examples]
            shown_prompts = set(map(identity, examples))
            return examples, [problem for problem in train if identity(problem) not in shown_prompts]
        places = {identity(problem): problem.source for problem in held_out}
        examples = []
        for number, row in enumerate(self.examples, 1):
            where = f"task.examples, number {number}"
            try:
                example = self._problem(Columns.of(row, where, None, None, None), where, row)
            except SettingError as error:
                raise error.replace(remedy='write each as { question = "...", answer = "..." }') from None
            if identity(example) in places:
                problem = f"is held out as well, at {places[identity(example)]}"
                raise SettingError(problem, remedy="show another example", place=where)
            examples.append(example)
        return examples, train


def _place(key: str) -> float:
    """Return the place of a prompt from 0 to 1, by a hash of its text; its last decimal digit comes first.

    So the prompts below 0.1 are those whose hash ends in 0, which earlier releases held out.
    """
    rest, digit = divmod(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big"), 10)
    return (digit + rest / (2**64 / 10)) / 10


def _check_share(share: float | None, test_path: str | None) -> None:
    """Raise SettingError for a task.test_share that is neither a share below 1 nor a number of rows."""
    if share is None:
        return
    fields: dict[str, Any] = {"setting": "task.test_share", "value": share}
    if test_path is not None:
        raise SettingError("has no use beside task.test_path", remedy="take one of the two out", **fields)
    if not (0 < share < 1 or (share >= 1 and math.isfinite(share) and share == int(share))):
        remedy = "write a share of the rows, such as 0.2, or a whole number of rows"
        raise SettingError("is neither a share nor a number of rows", remedy=remedy, **fields)
