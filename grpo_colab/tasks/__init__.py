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
import json
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, get_type_hints

from grpo_colab.errors import SettingError, one_of
from grpo_colab.rewards import Verdict
from grpo_colab.rewards.format import ASKING_FOR_ANSWER_TAG
from grpo_colab.rewards.graders import grader_settings, make_grader
from grpo_colab.rewards.graders.settings import check_tag
from grpo_colab.rewards.grading import ANSWER_TAG, BOXED, HASH, REASONING_TAG, TAGS
from grpo_colab.rewards.numerals import DEFAULT_LOCALE
from grpo_colab.tasks.conversations import last_message, prompt_key
from grpo_colab.tasks.names import LIBRARIES, OTHER_NAMES, parse_task

Message = dict[str, str]

# Rewards that judge numbers, whatever task.answer says.
FOR_NUMBERS: Final = ("integer", "soft_correctness")
# What stands between a question and the first steps of its solution, where a training shows them.
HINT: Final = "A right solution begins like this:"
# What asks for an answer that is in no tag: the system prompts in place of a task's own.
SYSTEM_PROMPTS: Final = {
    BOXED: "Please reason step by step, and put your final answer within \\boxed{}.",
    HASH: "Please reason step by step, and end with a line of this form, and nothing after it:\n#### your final answer",
}

# The name of a task in a recipe -> its module and class. The module is imported when the task is used.
TASKS: Final = {
    "gsm8k": ("grpo_colab.tasks.gsm8k", "GSM8K"),
    "word_problems": ("grpo_colab.tasks.word_problems", "WordProblems"),
    "dataset": ("grpo_colab.tasks.dataset", "Dataset"),
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
    """A task whose problems have one gold answer each. All have the same prompt and are graded by one `grader`.

    The class's prompt and rewards are those for a number in `<answer>`. For other answers, and elsewhere, they follow
    from them.
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
    # A sentence on the held-out problems that a result on them has to say; empty where there is nothing to say.
    held_out_note: ClassVar[str] = ""
    # Held-out splits that are evaluated beside "test": what `problems` calls each, and some words on what is new in it.
    further_splits: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        *,
        system_prompt: str | None = None,
        seed: int = 0,
        answer: str = "number",
        grader: str | None = None,
        answer_in: str = ANSWER_TAG,
        answer_tag: str = "answer",
        reasoning_tag: str = REASONING_TAG,
        locale: str = DEFAULT_LOCALE,
        tolerance: float = 0.0,
        ignore: list[str] | str | None = None,
        choices: list[str] | None = None,
        schema: dict[str, Any] | str | None = None,
    ) -> None:
        """Make a task; with system_prompt = None it has its class's own, with an empty text it has none.

        `seed` decides the order of the problems, or, where they are generated, the problems themselves. `answer` is the
        kind of the answers: `number`, `math`, `text`, `choice`, `json` or `code`; a `grader` is a function of yours
        that judges them instead, such as `my.py:grade`. `answer_in` says where a completion has its answer:
        `answer_tag`, `boxed`, `hash`, or the name of another tag. `answer_tag` and `reasoning_tag` name the two tags.
        The other settings are the kinds': see `get_correctness_reward`. `grading` are those of all these that differ
        from their defaults, as the rewards take them. Raises SettingError for a value that no grader
        can work with.
        """
        given = {
            "answer": answer,
            "grader": grader,
            "answer_in": answer_in,
            "answer_tag": answer_tag,
            "reasoning_tag": reasoning_tag,
            "locale": locale,
            "tolerance": tolerance,
            "ignore": ignore,
            "choices": choices,
            "schema": json.dumps(schema) if isinstance(schema, Mapping) else schema,
        }
        try:
            check_tag("answer_tag", answer_tag)
            if answer_tag in ("think", REASONING_TAG, reasoning_tag):
                remedy = "write another name than that of the reasoning"
                raise SettingError("is around the reasoning", setting="answer_tag", value=answer_tag, remedy=remedy)
            settings = grader_settings(given)
            self.grading = {key: value for key, value in settings.items() if value != _DEFAULTS[key]}
            self.answer_tag: str = settings.pop("answer_tag")
            self.grader = make_grader(**settings)
        except SettingError as error:
            raise error.replace(setting=f"task.{error.setting}") from None
        except ImportError as error:  # of math-verify
            raise SettingError(str(error), setting="task.answer", value=answer) from None
        place = self.grader.answer_in or ANSWER_TAG
        self.answer_in = ANSWER_TAG if place == "answer" else place
        self.reasoning_tag, self.locale = reasoning_tag, locale
        self.system_prompt = self._own_prompt() if system_prompt is None else system_prompt
        self.seed = seed

    def _own_prompt(self) -> str:
        """Return the class's system prompt, changed to ask for this kind of answer where `answer_in` says.

        A class without a system prompt has none for any answer.
        """
        prompt = self.default_system_prompt
        if not prompt:
            return ""
        if self.answer_in in SYSTEM_PROMPTS:
            prompt = SYSTEM_PROMPTS[self.answer_in]
        else:
            for tag, own in zip(TAGS, self.tags, strict=True):
                prompt = prompt.replace(tag, own)
        request = self.grader.request()
        return f"{prompt}\n{request}" if request else prompt

    @property
    def tags(self) -> tuple[str, str, str, str]:
        """Return the four tags of a completion: those around its reasoning, and those around its answer."""
        return f"<{self.reasoning_tag}>", f"</{self.reasoning_tag}>", f"<{self.answer_tag}>", f"</{self.answer_tag}>"

    @property
    def columns_known(self) -> bool:
        """Tell whether `reward_columns` can tell them now, without a download."""
        return True

    @classmethod
    def rewards_by_default(cls, settings: Mapping[str, Any] | None = None) -> dict[str, float]:
        """Return the weights of the class's rewards, without those that cannot pay an answer by a task's `settings`."""
        unpayable = unpayable_rewards(settings or {})
        return {name: weight for name, weight in cls.default_rewards.items() if name not in unpayable}

    @abstractmethod
    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """Return the first `n` problems of `split`, in an order that the seed decides.

        The split is "train", "test", or one of `further_splits`. With n = None, return all of them; with fewer than
        `n`, those that there are. The tasks say which errors they raise.
        """

    def reward_columns(self) -> list[str]:
        """Return the names under which a problem's values are passed to the reward functions."""
        return ["answer"]

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

    def hinted_messages(self, problem: Problem, shown: int) -> list[Message]:
        """Return the prompt with the first `shown` steps of the problem's solution behind the last message.

        A training with sampling.hints asks with it. An evaluation never does.
        """
        *before, last = self.messages(problem)
        hint = "\n".join(problem.steps[:shown])
        return [*before, {**last, "content": f"{last['content']}\n\n{HINT}\n{hint}"}]

    def golden_completion(self, problem: Problem) -> str:
        """Return a completion that gets full marks from every reward of this task: steps, and the gold answer.

        It is an empty text where no right answer is known, as of code that has tests and no solution.
        """
        reasoning = "\n".join(problem.steps) or "The answer follows from the question."
        answer = self.grader.golden_answer(problem.answer, problem.columns)
        if answer is None:
            return ""
        if self.answer_in == BOXED:
            return f"{reasoning}\n\nThe final answer is \\boxed{{{answer}}}.\n"
        if self.answer_in == HASH:
            return f"{reasoning}\n#### {answer}\n"
        opened, closed, answer_opened, answer_closed = self.tags
        return f"{opened}\n{reasoning}\n{closed}\n{answer_opened}\n{answer}\n{answer_closed}\n"

    def grade(self, completion: str, problem: Problem) -> Verdict:
        """Return the verdict on one completion, by the grader that the rewards use.

        Raises ValueError for a problem whose answer is no gold answer of this kind.
        """
        return self.grader.grade(completion, problem.answer, problem.columns)

    def lenient_right(self, completion: str, problem: Problem) -> bool | None:
        """Tell whether a completion ends with the gold answer, whatever its form, such as the last number of all.

        `grader.lenient` says in words what is looked at. None where a completion can be judged in one way only. Raises
        ValueError as `grade` does.
        """
        return self.grader.lenient_right(completion, problem.answer, problem.columns)

    def check_gold(self, problem: Problem) -> None:
        """Raise ValueError, which shows the gold answer, for a problem whose gold answer cannot judge."""
        self.grader.read_gold(problem.answer, problem.columns)


_DEFAULTS: Final[Mapping[str, Any]] = dict(Task.__init__.__kwdefaults__ or {})


def column_values(problems: Sequence[Problem]) -> dict[str, list[Any]]:
    """Return the columns that the reward functions get: `answer`, and every column that a problem has.

    A column has one value per problem, None for a problem without it. The values are copies, so that a reward cannot
    change a problem.
    """
    names = {name: None for problem in problems for name in problem.columns}  # a dict keeps the order
    columns = {name: [copy.deepcopy(problem.columns.get(name)) for problem in problems] for name in names}
    return {"answer": [problem.answer for problem in problems], **columns}


def unpayable_rewards(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the rewards of ours that cannot pay an answer by a task's settings, each with the reason in words."""
    found = {}
    place = settings.get("answer_in")
    if place in (BOXED, HASH):
        found = dict.fromkeys(ASKING_FOR_ANSWER_TAG, f"asks for an answer in a tag, and task.answer_in = {place!r}")
    kind = settings.get("answer", "number")
    if kind != "number":
        found |= dict.fromkeys(FOR_NUMBERS, f"judges numbers, and task.answer = {kind!r}")
    return found


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
