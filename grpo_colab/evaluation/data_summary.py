"""Describe the problems of a recipe before anything is trained: `grpo-colab data RECIPE`.

    describe_data(recipe)     read everything, and return what there is; `.text()` shows it to a person
    data_notes(task)          the sentences on it that a run prints, too

The model's weights are not loaded, and nothing is downloaded but the problems. Without the tokenizer on this machine,
lengths are in characters.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grpo_colab.evaluation.statistics import wilson_interval
from grpo_colab.policy.asking import Asking
from grpo_colab.policy.templates import check_prompts, load_tokenizer
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.trust import TASK_CODE, check_trust
from grpo_colab.tasks import Problem, Task
from grpo_colab.tasks.conversations import transcript
from grpo_colab.tasks.dataset import Dataset
from grpo_colab.tasks.duplicates import count_repeated, identity
from grpo_colab.tasks.own_tasks import problems_of
from grpo_colab.utils.console import info

SPLITS: Final = ("train", "test")
FEW_HELD_OUT: Final = 50  # problems; of fewer, an interval is wider than 27 points
MOST_MEASURED: Final = 20_000  # prompts of a split whose length is measured: some thousand per second
SHOWN: Final = 3  # prompts
LONGEST_SHOWN: Final = 1500  # characters of a prompt that are shown
KINDS: Final[Mapping[type, str]] = {bool: "true or false", int: "number", float: "number", str: "text", list: "list"}


@dataclass(frozen=True)
class Lengths:
    """How long the prompts of a split are, with the system prompt and the examples, as the model gets them.

    `measured` prompts were looked at, and `too_long` of them have more than task.max_prompt_tokens, None in characters.
    """

    unit: str  # "tokens" or "characters"
    measured: int
    shortest: int
    median: int
    longest: int
    too_long: int | None


@dataclass(frozen=True)
class Sample:
    """A problem as the model is asked it, with its gold answer as it is written and as it is read."""

    place: str
    prompt: str
    answer: str
    read_as: str


@dataclass(frozen=True)
class Split:
    """The problems of one split. `repeated` of them have the prompt of an earlier one."""

    problems: int
    repeated: int
    different_answers: int
    most_common_answer: str
    most_common_share: float
    lengths: Lengths


@dataclass(frozen=True)
class DataSummary:
    """What `describe_data` has found. `notes` are sentences, of which those to act on begin with "Warning"."""

    task: str
    source: str
    held_out_by: str
    prompt_from: str
    answer_from: str
    passed_on: Mapping[str, Mapping[str, int]]  # column for the rewards -> kind of value -> training problems
    splits: Mapping[str, Split]
    max_prompt_tokens: int
    samples: Sequence[Sample]
    notes: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """Return everything in types of JSON."""
        return dataclasses.asdict(self)

    def text(self) -> str:
        """Return a table for a person, then the prompts."""
        rows = [("task", self.task), ("source", self.source), ("held out", self.held_out_by)]
        if self.prompt_from:
            rows += [("prompt", f"from {self.prompt_from}"), ("answer", f"from {self.answer_from}")]
        passed = ", ".join(f"{name} ({_kinds(kinds)})" for name, kinds in self.passed_on.items())
        rows.append(("for rewards", passed or "no further columns"))
        for name, split in self.splits.items():
            repeated = f", {split.repeated:,} with a prompt that came before" if split.repeated else ""
            rows.append((name, f"{_count(split.problems, 'problem')}{repeated}"))
            rows.append(("", _length_line(split, self.max_prompt_tokens)))
            rows.append(("", _answer_line(split)))
        lines = [f"{label:<13}{value}" for label, value in rows]
        for number, sample in enumerate(self.samples, 1):
            read = "" if sample.read_as == sample.answer else f", read as {sample.read_as}"
            lines += ["", f"--- {number}: {sample.place}, gold answer {sample.answer!r}{read}", sample.prompt.rstrip()]
        return "\n".join([*lines, "", *self.notes]).rstrip()


def _kinds(kinds: Mapping[str, int]) -> str:
    """Return the kinds of a column's values; with their counts where there are several."""
    return next(iter(kinds)) if len(kinds) == 1 else ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())


def _length_line(split: Split, limit: int) -> str:
    lengths = split.lengths
    of = f" in {lengths.measured:,} of them" if lengths.measured < split.problems else ""
    line = f"{lengths.shortest:,} to {lengths.longest:,} {lengths.unit}{of}, half of them up to {lengths.median:,}"
    if lengths.too_long is None:
        return f"{line} (the tokenizer is not on this machine)"
    left_out = "none is" if not lengths.too_long else f"{lengths.too_long:,} are left out as"
    left_out = "all are left out as" if lengths.too_long == lengths.measured else left_out
    return f"{line}; {left_out} longer than task.max_prompt_tokens = {limit}"


def _answer_line(split: Split) -> str:
    common = f"the most common, {split.most_common_answer!r}, {split.most_common_share:.0%} of the time"
    return f"{_count(split.different_answers, 'different answer')}; {common}"


def describe_data(recipe: Recipe, trust_code: bool = False) -> DataSummary:
    """Read the problems of a recipe, and return what a user should know before the training.

    The problems may be downloaded. Nothing else is: the tokenizer is used where it is on this machine already. Raises
    SettingError for what is wrong with the data, as the training does. A task or a grader of others runs its code: it
    is named on stderr, and refused where a file names it and the user has not trusted it, unless `trust_code`.
    """
    announced = check_trust(recipe, trust_code, only=TASK_CODE)
    if announced:
        info(announced)
    recipe = recipe.completed_by_task()
    task = recipe.load_task()
    problems = {name: problems_of(task, name) for name in (*SPLITS, *task.further_splits)}
    tokenizer = load_tokenizer(recipe, download=False)
    for name in problems:
        check_prompts(recipe, task, problems[name][:MOST_MEASURED], tokenizer)
    asking = Asking.of(recipe)

    def prompt(problem: Problem) -> str:
        messages = task.messages(problem)
        return asking.prompt_text(tokenizer, messages) if tokenizer is not None else transcript(messages)

    limit = recipe.prompts.max_prompt_tokens
    splits = {}
    for name, found in problems.items():
        if found:
            texts = [prompt(problem) for problem in found[:MOST_MEASURED]]
            splits[name] = _split(found, _lengths(texts, tokenizer, limit))
    samples = [
        Sample(
            place=problem.source or f"problem {number}",
            prompt=_cut(prompt(problem)),
            answer=problem.answer,
            read_as=_read_as(task, problem),
        )
        for number, problem in enumerate(problems["train"][:SHOWN], 1)
    ]
    own = task if isinstance(task, Dataset) else None
    return DataSummary(
        task=task.name,
        source=str(getattr(task, "path", None) or "made or downloaded by the task"),
        held_out_by=own.held_out_by if own else "the task",
        prompt_from=own.splits.columns.shown if own else "",
        answer_from=own.splits.columns.answer_shown if own else "",
        passed_on=_columns(problems["train"]),
        splits=splits,
        max_prompt_tokens=limit,
        samples=samples,
        notes=[
            *data_notes(task),
            *([f"test: {task.held_out_note}"] if task.held_out_note else []),
            *(f"{split}: held out, too, {about}." for split, about in task.further_splits.items()),
            *_limit_notes(recipe, len(problems["train"]), len(problems["test"])),
        ],
    )


def data_notes(task: Task) -> list[str]:
    """Return what a user should know of problems of their own before the training, in sentences; none for other tasks.

    These are columns that were guessed, rows that are left out, and a warning of too few held-out problems. The
    problems are read.
    """
    if not isinstance(task, Dataset):
        return []
    columns = task.splits.columns
    notes = []
    if columns.guessed:
        notes.append(f"The prompt is {columns.shown}, the gold answer {columns.answer_shown}, by their names.")
    notes += [f"{sentence}." for sentence in task.splits.left_out]
    held_out_prompts = set(map(identity, task.splits.test))
    trained_too = sum(identity(problem) in held_out_prompts for problem in task.splits.train)
    if trained_too:
        notes.append(
            f'Warning: {_count(trained_too, "training prompt")} held out as well, as task.duplicates = "keep" allows: '
            "the evaluation asks what was trained on."
        )
    notes += _mixed_kinds([*task.splits.train, *task.splits.test])
    held_out = len(task.splits.test)
    if held_out < FEW_HELD_OUT:
        low, high = wilson_interval(held_out // 2, held_out)
        notes.append(
            f"Warning: {_count(held_out, 'held-out problem')} cannot tell much: the 95 % interval of "
            f"{held_out // 2 / held_out:.0%} right is {low:.0%} to {high:.0%}. Hold out more with task.test_share or "
            "task.test_path; 400 give about 5 points on either side."
        )
    return notes


def _mixed_kinds(problems: Sequence[Problem]) -> list[str]:
    """Return a warning for each column with values of several kinds, nulls aside, and the first of the rare kind."""
    warnings = []
    for name, kinds in _columns(problems).items():
        kinds.pop("null", None)
        if len(kinds) > 1:
            rare = list(kinds)[-1]
            first = next(
                problem for problem in problems if name in problem.columns and _kind(problem.columns[name]) == rare
            )
            warnings.append(
                f"Warning: column {name!r} has values of several kinds, {_kinds(kinds)}, the first {rare} at "
                f"{first.source}; a reward gets them as they are."
            )
    return warnings


def _limit_notes(recipe: Recipe, train: int, test: int) -> list[str]:
    """Return which of the problems the recipe uses, where it does not use all."""
    notes = []
    if recipe.prompts.limit is not None and recipe.prompts.limit < train:
        notes.append(f"task.limit = {recipe.prompts.limit} trains on the first {recipe.prompts.limit:,} of {train:,}.")
    if recipe.evaluation.split == "test" and recipe.evaluation.n < test:
        notes.append(f"evaluation.n = {recipe.evaluation.n} evaluates on {recipe.evaluation.n:,} of {test:,}.")
    return notes


def _split(problems: Sequence[Problem], lengths: Lengths) -> Split:
    answers = Counter(problem.answer for problem in problems)
    answer, count = answers.most_common(1)[0]
    return Split(
        problems=len(problems),
        repeated=count_repeated(problems),
        different_answers=len(answers),
        most_common_answer=answer[:80],
        most_common_share=count / len(problems),
        lengths=lengths,
    )


def _lengths(texts: Sequence[str], tokenizer: Any, limit: int) -> Lengths:
    """Return how long these prompts are, in tokens, or without a tokenizer in characters."""
    if tokenizer is None:
        sizes = sorted(map(len, texts))
    else:
        sizes = sorted(map(len, tokenizer(list(texts), add_special_tokens=False)["input_ids"]))
    return Lengths(
        unit="characters" if tokenizer is None else "tokens",
        measured=len(sizes),
        shortest=sizes[0],
        median=sizes[len(sizes) // 2],
        longest=sizes[-1],
        too_long=None if tokenizer is None else sum(size > limit for size in sizes),
    )


def _read_as(task: Task, problem: Problem) -> str:
    """Return the gold answer as the evaluation reads it, such as a number, or the letter of a choice."""
    if type(task).grade is not Task.grade:
        return problem.answer
    if task.grader.kind == "choice":  # whose label is in the prompt only where the row has choices of its own
        return str(task.grader.golden_answer(problem.answer, problem.columns))
    return str(task.grader.read_gold(problem.answer, problem.columns))


def _columns(problems: Sequence[Problem]) -> dict[str, dict[str, int]]:
    """Return the columns that are passed to the rewards, and how many problems have which kind of value in them."""
    found: dict[str, Counter[str]] = {}
    for problem in problems:
        for name, value in problem.columns.items():
            found.setdefault(name, Counter())[_kind(value)] += 1
    return {name: dict(kinds.most_common()) for name, kinds in found.items()}


def _kind(value: Any) -> str:
    return "null" if value is None else KINDS.get(type(value), "object")


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}... ({len(text):,} characters)"
