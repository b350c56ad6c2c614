"""Tasks: what to learn. A task has its problems, its prompt, its rewards and its grader in one file.

`load_task(name, **options)` makes a task. Its options are the keyword arguments of its class, and a recipe's `[task]`
table is checked against that signature, so no option is declared twice. A task of one's own is the same class in
another file: `names` reads what it is called, and `own_tasks` imports it. Nothing here needs torch.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import importlib
import inspect
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, get_type_hints

from grpo_colab.errors import SettingError, one_of
from grpo_colab.rewards import Verdict, grade, lenient_grade
from grpo_colab.rewards.format import ASKING_FOR_ANSWER_TAG
from grpo_colab.rewards.grading import ANSWER_CLOSE, ANSWER_OPEN, ANSWER_TAG, BOXED, HASH, check_grading
from grpo_colab.rewards.numerals import DEFAULT_LOCALE
from grpo_colab.tasks.conversations import last_message, prompt_key
from grpo_colab.tasks.names import LIBRARIES, OTHER_NAMES, parse_task

Message = dict[str, str]

# The settings of a task that a reward takes too, where it has them.
GRADING: Final[tuple[str, ...]] = ("answer_in", "locale")
# What asks for an answer that is in no tag: the system prompts in place of a task's own.
SYSTEM_PROMPTS: Final = {
    BOXED: "Please reason step by step, and put your final answer within \\boxed{}.",
    HASH: "Please reason step by step, and end with a line of this form, and nothing after it:\n#### your final answer",
}

# The name of a task in a recipe -> its module and class. The module is imported when the task is used.
TASKS: Final = {
    "gsm8k": ("grpo_colab.tasks.gsm8k", "GSM8K"),
    "word_problems": ("grpo_colab.tasks.word_problems", "WordProblems"),
    "jsonl": ("grpo_colab.tasks.jsonl", "JSONL"),
    "drawing": ("grpo_colab.tasks.drawing", "Drawing"),
}


@dataclass(frozen=True)
class Problem:
    """One problem of a task.

    `answer` is the gold answer as its source writes it, and `source` says where that is (file:line). `steps` are the
    steps of the solution if they are known, such as ("3 + 4 = 7", "7 * 2 = 14"). `messages` replaces the task's own
    prompt if the source has a whole conversation; then `question` is its `transcript`. `columns` go to the reward
    functions, as the other columns of a data set do in TRL.
    """

    question: str
    answer: str
    source: str = ""
    steps: tuple[str, ...] = ()
    messages: tuple[Message, ...] | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return the identity of the problem's prompt: its whole conversation, without the task's system prompt."""
        return prompt_key(self.messages or self.question)

    @property
    def known_as(self) -> tuple[str, ...]:
        """Return the texts by which a run folder may know the problem: folders of before have the last message."""
        return (self.question, last_message(self.messages)) if self.messages else (self.question,)


class Task(ABC):
    """A task whose problems have one gold number each. All have the same prompt and are graded by one parser.

    The class's prompt and rewards are those for an answer in `<answer>`. For `answer_in` elsewhere, they follow from
    them.
    """

    name: ClassVar[str]
    default_system_prompt: ClassVar[str] = (
        "Respond in the following format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>"
    )
    default_rewards: ClassVar[Mapping[str, float]] = {
        "correctness": 2.0,
        "integer": 0.5,
        "strict_format": 0.5,
        "soft_format": 0.5,
        "tag_count": 0.5,
    }

    def __init__(
        self,
        *,
        system_prompt: str | None = None,
        seed: int = 0,
        answer_in: str = ANSWER_TAG,
        locale: str = DEFAULT_LOCALE,
    ) -> None:
        """Make a task; with system_prompt = None it has its class's own, with an empty text it has none.

        `seed` decides the order of the problems, or, where they are generated, the problems themselves. `answer_in`
        says where a completion has its answer: `answer_tag`, `boxed`, `hash`, or the name of another tag. `locale` says
        how numbers are written. Raises SettingError for a value of these two that no grader can work with.
        """
        try:
            check_grading(answer_in, locale, 0.0)
        except SettingError as error:
            raise error.replace(setting=f"task.{error.setting}") from None
        self.answer_in, self.locale = ANSWER_TAG if answer_in == "answer" else answer_in, locale
        self.system_prompt = self._own_prompt() if system_prompt is None else system_prompt
        self.seed = seed

    def _own_prompt(self) -> str:
        """Return the class's system prompt, changed to ask for the answer where `answer_in` says.

        A class without a system prompt has none for any `answer_in`.
        """
        if not self.default_system_prompt or self.answer_in == ANSWER_TAG:
            return self.default_system_prompt
        if self.answer_in in SYSTEM_PROMPTS:
            return SYSTEM_PROMPTS[self.answer_in]
        opening, closing = f"<{self.answer_in}>", f"</{self.answer_in}>"
        return self.default_system_prompt.replace(ANSWER_OPEN, opening).replace(ANSWER_CLOSE, closing)

    @classmethod
    def rewards_by_default(cls, answer_in: str = ANSWER_TAG) -> dict[str, float]:
        """Return the weights of the class's rewards, without those that cannot pay an answer in `answer_in`."""
        if answer_in in (ANSWER_TAG, "answer"):
            return dict(cls.default_rewards)
        return {name: weight for name, weight in cls.default_rewards.items() if name not in ASKING_FOR_ANSWER_TAG}

    @abstractmethod
    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """Return the first `n` problems of `split`, "train" or "test", in an order that the seed decides.

        With n = None, return all of them; with fewer than `n`, those that there are. The tasks say which errors they
        raise.
        """

    def reward_columns(self) -> list[str]:
        """Return the names under which a problem's values are passed to the reward functions.

        They are those of the first training problem. A task that would download it says so without.
        """
        first = self.problems("train", 1)
        return ["answer", *(first[0].columns if first else ())]

    def columns_place(self) -> str:
        """Return the place (file:line) of the row that `reward_columns` describes; an empty text for no file."""
        return ""

    def check_model(self, name: str, path: str) -> None:  # noqa: B027 - most tasks ask nothing of a model
        """Raise SettingError if the model cannot do this task, as far as its files show before it is loaded.

        `name` is the model's name in the recipe, `path` its folder or its name on the hub. A task that asks nothing of
        a model raises nothing.
        """

    def messages(self, problem: Problem) -> list[Message]:
        """Return the prompt in TRL's conversational form: the task's system prompt, then the problem.

        The problem is its own `messages`, or its question as a user's message. A problem that begins with a system
        message keeps it, and gets no other. Without a system prompt there is none.
        """
        messages = list(problem.messages or [{"role": "user", "content": problem.question}])
        if self.system_prompt and messages[0]["role"] != "system":
            return [{"role": "system", "content": self.system_prompt}, *messages]
        return messages

    def golden_completion(self, problem: Problem) -> str:
        """Return a completion that gets full marks from every reward of this task: steps, and the gold answer."""
        reasoning = "\n".join(problem.steps) or "The answer follows from the question."
        answer = problem.answer.strip()
        if self.answer_in == BOXED:
            return f"{reasoning}\n\nThe final answer is \\boxed{{{answer}}}.\n"
        if self.answer_in == HASH:
            return f"{reasoning}\n#### {answer}\n"
        tag = "answer" if self.answer_in == ANSWER_TAG else self.answer_in
        return f"<reasoning>\n{reasoning}\n</reasoning>\n<{tag}>\n{answer}\n</{tag}>\n"

    def grade(self, completion: str, problem: Problem) -> Verdict:
        """Return the verdict on one completion, by the parser that the rewards use.

        Raises ValueError for a problem whose answer is not one number.
        """
        return grade(completion, problem.answer, answer_in=self.answer_in, locale=self.locale)

    def lenient_right(self, completion: str, problem: Problem) -> bool:
        """Tell whether the last number of a completion is the gold answer, whatever the completion's form.

        Raises ValueError for a problem whose answer is not one number.
        """
        return lenient_grade(completion, problem.answer, answer_in=self.answer_in, locale=self.locale).right


def column_values(problems: Sequence[Problem]) -> dict[str, list[Any]]:
    """Return the columns that the reward functions get: `answer`, and every column that a problem has.

    A column has one value per problem, None for a problem without it. The values are copies, so that a reward cannot
    change a problem.
    """
    names = {name: None for problem in problems for name in problem.columns}  # a dict keeps the order
    columns = {name: [copy.deepcopy(problem.columns.get(name)) for problem in problems] for name in names}
    return {"answer": [problem.answer for problem in problems], **columns}


def task_class(name: str) -> type[Task]:
    """Import and return the class of a task of this package; nothing else is imported.

    A data set of a library, such as `reasoning_gym:chain_sum`, has a class here, too. Raises SettingError for an
    unknown name, and for a task of somebody's own, which `own_tasks` imports.
    """
    parsed = parse_task(name)
    if name not in TASKS and parsed.kind != "library":
        remedy = f"{one_of(name, TASKS)}; or write {OTHER_NAMES}"
        raise SettingError("no such task", setting="task.name", value=name, remedy=remedy)
    module, attribute = LIBRARIES[parsed.origin] if parsed.kind == "library" else TASKS[name]
    return getattr(importlib.import_module(module), attribute)


def load_task(name: str, **options: Any) -> Task:
    """Make the task `name` with these options; `task_options` lists those that it has.

    **A name with a colon runs what it leads to**: see `names`. Raises SettingError for an unknown name, for an option's
    value that the task refuses, and for a class of others that is no task. Raises TypeError for an unknown option.
    """
    parsed = parse_task(name)
    if not parsed.runs_code:
        return task_class(name)(**options)
    from grpo_colab.tasks.own_tasks import make_task

    return make_task(parsed, options)


def task_options(name: str) -> dict[str, Any]:
    """Return the options of a task of this package, or of a library's data set, with their types; see `options_of`.

    The task's module is imported, and the library is not. Raises SettingError as `task_class` does.
    """
    return options_of(task_class(name))


def options_of(task: type[Task]) -> dict[str, Any]:
    """Return the options of a task's class with their types: the keyword arguments of it and of its base classes.

    A class that takes no `**options` takes none of its base classes. An argument without an annotation, or with one
    that cannot be read, has the type Any.
    """
    options: dict[str, Any] = {}
    for cls in task.__mro__:
        if "__init__" not in vars(cls) or not issubclass(cls, Task):
            continue
        types: dict[str, Any] = {}
        with contextlib.suppress(NameError, TypeError):  # an annotation that only a type checker can read
            types = get_type_hints(cls.__init__)
        _, *parameters = inspect.signature(cls.__init__).parameters.values()  # without `self`
        for parameter in parameters:
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                options.setdefault(parameter.name, types.get(parameter.name, Any))
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return options


def seeded_order(problems: Sequence[Problem], split: str, seed: int) -> list[Problem]:
    """Return a copy of `problems`, shuffled by a hash of (split, seed): each split and seed has an order of its own."""
    digest = hashlib.sha256(f"order/{split}/{seed}".encode()).digest()
    shuffled = list(problems)
    random.Random(digest).shuffle(shuffled)
    return shuffled
