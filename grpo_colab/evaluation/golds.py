"""Find the gold answer of a completion by its prompt, in a file of problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from grpo_colab.errors import SettingError
from grpo_colab.rewards import gold_number
from grpo_colab.rewards.golds import gold_readers, read_all
from grpo_colab.rewards.graders import grader_settings
from grpo_colab.rewards.grading import after_hash
from grpo_colab.tasks.conversations import last_message, prompt_key, without_system
from grpo_colab.tasks.jsonl_rows import gold_text, read_jsonl

if TYPE_CHECKING:
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.rewards.audit import Example

PROMPTS: Final = ("prompt", "question")  # the columns that may hold a prompt
MOST_EXAMPLES: Final = 200


class Gold(NamedTuple):
    """A gold answer, and its place in the file of problems."""

    answer: str
    place: str


class Golds:
    """The gold answers in a file of problems, by their prompts.

    The prompt of a completion is looked up as a whole conversation. A system message that only one of the two has may
    be the task's, so then the rest is looked up. At last the last message is, among the problems whose prompt is a
    text: the messages before it may be examples. Raises SettingError for a file that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.whole: dict[str, list[Gold]] = {}
        self.texts: dict[str, list[Gold]] = {}  # those whose prompt is a text
        self.with_system: dict[str, list[Gold]] = {}  # those with a system message, by the rest of the conversation
        self.without_system: dict[str, list[Gold]] = {}
        for place, row in read_jsonl(path):
            prompt = prompt_of(row)
            answer = gold_text(row.get("answer"))
            if prompt is None or answer is None:
                continue
            gold = Gold(after_hash(str(answer)).strip(), place)
            self.whole.setdefault(prompt_key(prompt), []).append(gold)
            if isinstance(prompt, str):
                self.texts.setdefault(prompt_key(prompt), []).append(gold)
            rest = without_system(prompt)
            if rest == prompt:
                self.without_system.setdefault(prompt_key(prompt), []).append(gold)
            elif rest:
                self.with_system.setdefault(prompt_key(rest), []).append(gold)

    def find(self, row: Mapping[str, Any], place: str) -> str | None:
        """Return the gold answer of a row's prompt, None where there is none.

        Raises SettingError, with the places of both, where two problems with that prompt have different answers.
        """
        prompt = prompt_of(row)
        if prompt is None:
            return None
        rest = without_system(prompt)
        golds = self.whole.get(prompt_key(prompt), [])
        if not golds and rest:
            golds = (self.with_system if rest == prompt else self.without_system).get(prompt_key(rest), [])
        if not golds:
            golds = self.texts.get(prompt_key(last_message(prompt)), [])
        for other in golds[1:]:
            if not _are_equal(other.answer, golds[0].answer):
                raise SettingError(
                    f"two problems of --golds have the prompt of this row and different answers: {golds[0].place} has "
                    f"{golds[0].answer!r:.80}, {other.place} has {other.answer!r:.80}",
                    setting="--golds",
                    remedy="take one of them out, or write the answers into the completions' own rows",
                    place=place,
                )
        return golds[0].answer if golds else None


def examples_in_file(path: Path, columns: Sequence[str] = ("answer",)) -> list[Example]:
    """Return the problems of a .jsonl file as examples for an audit, MOST_EXAMPLES at most.

    A row has a `prompt` or a `question`, and its gold in the first of `columns` that any row has. Its other columns are
    the example's. Raises SettingError for a file that cannot be read, and for one without a gold.
    """
    from grpo_colab.rewards.audit import Example

    rows = [row for _, row in islice(read_jsonl(path), MOST_EXAMPLES)]
    column = next((name for name in columns if any(row.get(name) is not None for row in rows)), None)
    if column is None:
        known = " or ".join(map(repr, columns))
        raise SettingError(
            f"no row has a gold answer in the column {known}", remedy="name it with --answer-column", place=path
        )
    examples = []
    for row in rows:
        gold = row.get(column)
        if gold is not None:
            gold = after_hash(gold).strip() if isinstance(gold, str) else gold
            others = {name: value for name, value in row.items() if name not in (*PROMPTS, column, "completion")}
            examples.append(Example(prompt_of(row), gold, others))
    return examples


def examples_of_task(name: str) -> tuple[list[Example], dict[str, Any]]:
    """Return training problems of a preset's or a recipe file's task as examples, and its settings that rewards take.

    There are MOST_EXAMPLES examples at most. Raises SettingError for a recipe or for data that cannot be read.
    """
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.recipe.trust import TASK_CODE, check_trust

    recipe = Recipe.load(name)
    check_trust(recipe, only=TASK_CODE)
    recipe = recipe.completed_by_task()
    return examples_in_task(recipe), grader_settings(recipe.task)


def examples_in_task(recipe: Recipe) -> list[Example]:
    """Return training problems of a recipe's task as examples for an audit, MOST_EXAMPLES at most.

    Raises SettingError for data that cannot be read.
    """
    from grpo_colab.rewards.audit import Example

    problems = recipe.load_task().problems("train", MOST_EXAMPLES)
    return [Example(problem.question, problem.answer, problem.columns) for problem in problems]


def _are_equal(one: str, other: str) -> bool:
    """Tell whether two gold answers are the same number, or the same text where one is no number."""
    try:
        return gold_number(one) == gold_number(other)
    except ValueError:
        return one == other


def prompt_of(row: Mapping[str, Any]) -> Any:
    """Return the prompt of a row, from its column `prompt` or `question`; None where both are missing or null."""
    return next((row[column] for column in PROMPTS if row.get(column) is not None), None)


def check_golds(name: str, reward: Callable[..., Any], where: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise SettingError, with the row's place, for a gold answer that the reward called `name` cannot judge by."""
    golds = [
        (row["answer"], place) for place, row in zip(where, rows, strict=True) if isinstance(row.get("answer"), str)
    ]
    remedy = "correct that gold answer, or write null there"
    read_all(gold_readers(reward), golds, setting="--rewards", value=name, remedy=remedy)
