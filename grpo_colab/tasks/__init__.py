"""What to learn: a task is its problems, its prompt, its rewards and its grader, in one place. No torch here.

One task a file. `load_task(name, **options)` makes one; a task's options are the keyword arguments of its class, so
the `[task]` table of a recipe is checked against that signature and nothing is written twice.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, get_type_hints

from grpo_colab.errors import SettingError, one_of
from grpo_colab.rewards import Verdict, grade, lenient_grade

Message = dict[str, str]

# name in a recipe -> module and class; imported only when asked for
TASKS = {
    "gsm8k": ("grpo_colab.tasks.gsm8k", "GSM8K"),
    "word_problems": ("grpo_colab.tasks.word_problems", "WordProblems"),
    "jsonl": ("grpo_colab.tasks.jsonl", "JSONL"),
    "drawing": ("grpo_colab.tasks.drawing.task", "Drawing"),
}


@dataclass(frozen=True)
class Problem:
    """One problem. `answer` is the gold answer as its source writes it; `source` says where it stands (file:line).

    `steps` are the solution's steps where they are known, such as ("3 + 4 = 7", "7 * 2 = 14"). `messages` replaces
    the task's own prompt where the source brings a whole conversation. `columns` go to the reward functions, as the
    other columns of a data set do in TRL.
    """

    question: str
    answer: str
    source: str = ""
    steps: tuple[str, ...] = ()
    messages: tuple[Message, ...] | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


class Task(ABC):
    """Problems with one gold number each, asked in one prompt and graded by one parser."""

    name: ClassVar[str]
    default_system_prompt: ClassVar[str]
    default_rewards: ClassVar[Mapping[str, float]] = {
        "correctness": 2.0,
        "integer": 0.5,
        "strict_format": 0.5,
        "soft_format": 0.5,
        "tag_count": 0.5,
    }

    def __init__(self, *, system_prompt: str | None = None, seed: int = 0) -> None:
        self.system_prompt = self.default_system_prompt if system_prompt is None else system_prompt
        self.seed = seed

    @abstractmethod
    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """The first `n` problems (all for None) of `split`, "train" or "test", in an order that the seed fixes."""

    def reward_columns(self) -> list[str]:
        """The names under which a problem's values reach the reward functions."""
        return ["answer"]

    def check_model(self, name: str, path: str) -> None:  # noqa: B027 - most tasks ask nothing of a model
        """Look at the model's files before anything is loaded; SettingError for one that cannot do this task."""

    def messages(self, problem: Problem) -> list[Message]:
        """The prompt in TRL's conversational form; a problem that brings its own system message keeps it."""
        asked = list(problem.messages or [{"role": "user", "content": problem.question}])
        if self.system_prompt and asked[0]["role"] != "system":
            return [{"role": "system", "content": self.system_prompt}, *asked]
        return asked

    def golden_completion(self, problem: Problem) -> str:
        """A completion that deserves full marks from every reward of this task: worked, tagged and right."""
        worked = "\n".join(problem.steps) or "The answer follows from the question."
        return f"<reasoning>\n{worked}\n</reasoning>\n<answer>\n{problem.answer.strip()}\n</answer>\n"

    def grade(self, completion: str, problem: Problem) -> Verdict:
        """The verdict on one completion, by the parser that the rewards use too."""
        return grade(completion, problem.answer)

    def lenient_right(self, completion: str, problem: Problem) -> bool:
        """Whether it is right by the last number alone, whatever its form."""
        return lenient_grade(completion, problem.answer).right


def reward_columns(problems: Sequence[Problem]) -> dict[str, list[Any]]:
    """Return the problems' values by column, as the reward functions get them: `answer`, and the problems' own."""
    names = {name: None for problem in problems for name in problem.columns}
    return {
        "answer": [problem.answer for problem in problems],
        **{name: [problem.columns.get(name) for problem in problems] for name in names},
    }


def task_class(name: str) -> type[Task]:
    """The class of the task `name`, imported only now."""
    if name not in TASKS:
        raise SettingError("no such task", setting="task.name", value=name, remedy=one_of(name, TASKS))
    module, attribute = TASKS[name]
    return getattr(importlib.import_module(module), attribute)


def load_task(name: str, **options: Any) -> Task:
    """The task `name` made with its class's keyword options, which `task_options` lists."""
    return task_class(name)(**options)


def task_options(name: str) -> dict[str, Any]:
    """Option -> type of the task `name`, read off the keyword arguments of its class and the classes above it."""
    found: dict[str, Any] = {}
    for cls in task_class(name).__mro__:
        if "__init__" in vars(cls) and issubclass(cls, Task):
            hints = get_type_hints(cls.__init__)
            for parameter in inspect.signature(cls.__init__).parameters.values():
                if parameter.kind is parameter.KEYWORD_ONLY:
                    found.setdefault(parameter.name, hints[parameter.name])
    return found


def seeded_order(problems: Sequence[Problem], split: str, seed: int) -> list[Problem]:
    """`problems` shuffled by a hash of (split, seed), so that no two splits or seeds share an order by accident."""
    digest = hashlib.sha256(f"order/{split}/{seed}".encode()).digest()
    shuffled = list(problems)
    random.Random(digest).shuffle(shuffled)
    return shuffled
