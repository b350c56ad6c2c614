"""A single-turn environment of the library verifiers: `task.name = "verifiers:my-env"`.

`verifiers.load_environment("my-env", **task.args)` brings the problems with their prompts, the parser and the rubric.
The rubric is the reward and the grader: an answer is right where its reward reaches the environment's own
`pass_threshold`. Environments with several turns or with tools are refused: a completion here is one message.

The library's releases from 0.2 to 0.3 have such environments. It is imported when the task is made. Environments take
over the handlers of SIGINT and SIGTERM; these are given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import signal
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final

from grpo_colab.errors import SettingError, one_line, shown
from grpo_colab.rewards import Verdict
from grpo_colab.rewards.arguments import Completions, texts_of
from grpo_colab.tasks import Problem, Task, seeded_order
from grpo_colab.tasks.conversations import prompt_key, transcript
from grpo_colab.tasks.names import TO_INSTALL

TEST_SHARE: Final = 10  # one prompt in this many is held out, where the environment holds out none
REWARD: Final = "grpo_colab.tasks.verifiers.environment_reward"
PASS_THRESHOLD: Final = 0.5  # the library's own default
SPLITS: Final = ("train", "test")


class Verifiers(Task):
    """The problems of an environment that is installed, graded by its rubric.

    `args` are the arguments of its `load_environment`. Without a data set for the evaluation, a tenth of the prompts is
    held out. Raises SettingError for an environment that cannot be loaded, or that has several turns or tools.
    """

    correctness: ClassVar[str] = REWARD  # what [rewards] calls correctness
    default_system_prompt = ""  # the environment's prompts have their own
    default_rewards: ClassVar[Mapping[str, float]] = {REWARD: 1.0}

    def __init__(
        self,
        environment: str,
        /,
        *,
        args: dict[str, Any] | None = None,
        system_prompt: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(system_prompt=system_prompt, seed=seed)
        self.environment, self.args = environment, json.dumps(args or {}, sort_keys=True)
        self.name = f"verifiers:{environment}"  # type: ignore[misc] # every environment has a name of its own
        self.loaded = load_environment(environment, self.args)

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """Return the first `n` problems of a split (all with n = None) in the seed's order.

        A prompt that is held out is not trained on. Raises ValueError for another split than "train" and "test", and
        SettingError for a row that has no prompt of texts.
        """
        if split not in SPLITS:
            raise ValueError(f"split = {split!r}: an environment has {' and '.join(map(repr, SPLITS))}")
        found = {source: self._problems_of(source) for source in SPLITS if rows_of(self.loaded, source) is not None}
        if len(found) == 1:
            [every] = found.values()
            chosen = [problem for problem in every if _split_of(problem) == split]
        else:
            held_out = {problem.key for problem in found["test"]}
            chosen = [problem for problem in found[split] if split == "test" or problem.key not in held_out]
        return seeded_order(chosen, split, self.seed)[:n]

    def _problems_of(self, source: str) -> list[Problem]:
        """Return the problems of one of the environment's data sets, in its order."""
        rows = rows_of(self.loaded, source)
        return [self._problem(source, index, rows[index]) for index in range(len(rows))]

    def _problem(self, source: str, index: int, row: Mapping[str, Any]) -> Problem:
        """Return the problem of a row; raise SettingError for one without a prompt of texts."""
        place = f"{self.name} {source} row {index}"
        messages = []
        for message in row["prompt"]:
            given = message if isinstance(message, Mapping) else message.model_dump()
            if not isinstance(given.get("content"), str):
                problem = f"the prompt has a message without a text: {shown(given)}"
                raise SettingError(problem, setting="task.name", value=self.name, place=place)
            messages.append({"role": str(given["role"]), "content": given["content"]})
        answer = "" if row.get("answer") is None else str(row["answer"])
        entry = {"environment": self.environment, "args": self.args, "source": source, "row": index}
        return Problem(transcript(messages), answer, place, messages=tuple(messages), columns={"entry": entry})

    def reward_columns(self) -> list[str]:
        """Return `answer` and `entry`, without reading the environment's data."""
        return ["answer", "entry"]

    def score(self, completion: str, problem: Problem) -> float:
        """Return the rubric's reward of one completion."""
        return rubric_rewards([completion], [problem.columns["entry"]])[0]

    def grade(self, completion: str, problem: Problem) -> Verdict:
        """Return "right" where the rubric's reward reaches the environment's pass_threshold, and "wrong" elsewhere."""
        threshold = getattr(self.loaded, "pass_threshold", PASS_THRESHOLD)
        return Verdict("right" if self.score(completion, problem) >= threshold else "wrong")

    def lenient_right(self, completion: str, problem: Problem) -> None:
        """Return None: there is one way of grading."""

    def golden_completion(self, problem: Problem) -> str:
        """Return the gold answer in the form of the environment's parser, or in the first form that it grades right.

        An environment need not have gold answers, nor a form for them; then the completion is the answer alone.
        """
        forms = [f"<answer>\n{problem.answer}\n</answer>", f"\\boxed{{{problem.answer}}}", problem.answer]
        parser = self.loaded.parser
        with contextlib.suppress(AttributeError, ValueError, TypeError, KeyError):  # a parser without fields
            fields = dict.fromkeys(parser.get_fields(), "The answer follows from the question.")
            forms.insert(0, parser.format(**{**fields, getattr(parser, "answer_field", "answer"): problem.answer}))
        return next((form for form in forms if self.grade(form, problem).right), problem.answer)


def environment_reward(
    completions: Completions, entry: Sequence[Mapping[str, Any] | None], **kwargs: Any
) -> list[float | None]:
    """Pay what the rubric of a verifiers environment gives each completion; None for a row without an `entry`.

    The completions to one problem are scored together, as rubrics that compare them need. Raises TypeError for
    arguments of other types, and ValueError for lists of different lengths.
    """
    texts = texts_of("environment_reward", completions)
    asked = [(text, how) for text, how in zip(texts, entry, strict=True) if how is not None]
    rewards = iter(rubric_rewards([text for text, _ in asked], [how for _, how in asked]))
    return [None if how is None else next(rewards) for how in entry]


def rubric_rewards(texts: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the reward of each text as an answer to the problem of its entry; the same problem's texts are a group.

    What a function of the rubric raises is the library's to handle: it logs an error, and counts 0.0.
    """
    groups: dict[tuple[str, str, str, int], list[int]] = {}
    for index, entry in enumerate(entries):
        key = (entry["environment"], entry["args"], entry["source"], entry["row"])
        groups.setdefault(key, []).append(index)
    rewards = [0.0] * len(texts)
    for (environment, args, source, row), indices in groups.items():
        loaded = load_environment(environment, args)
        scored = _finished(_scored(loaded, rows_of(loaded, source)[row], [texts[index] for index in indices]))
        for index, reward in zip(indices, scored, strict=True):
            rewards[index] = reward
    return rewards


async def _scored(environment: Any, row: Mapping[str, Any], texts: Sequence[str]) -> list[float]:
    """Return the rubric's rewards of a group of texts, each as the end of a rollout of one turn."""
    states = [await _state_of(environment, dict(row), text) for text in texts]
    await environment.rubric.score_group(states)
    for state in states:
        await environment.rubric.cleanup(state)
    return [float(state["reward"]) for state in states]


async def _state_of(environment: Any, row: dict[str, Any], text: str) -> Any:
    """Return the state of a rollout of one turn in which the model said `text`, as a rubric gets it."""
    import verifiers
    from verifiers.types import RolloutTiming
    from verifiers.utils.message_utils import normalize_messages

    if isinstance(row.get("info"), str):
        row["info"] = json.loads(row["info"])
    prompt = normalize_messages(row["prompt"], field_name="input.prompt")
    said = normalize_messages([{"role": "assistant", "content": text}], field_name="completion")
    step = {"prompt": prompt, "completion": said, "response": None, "tokens": None, "reward": None, "advantage": None}
    state = verifiers.State(input={**row, "prompt": prompt})
    state.update(
        {
            "task": {**row, "prompt": prompt},
            "completion": said,
            "trajectory": [{**step, "is_truncated": False, "trajectory_id": "", "extras": {}}],
            "is_completed": True,
            "is_truncated": False,
            "tool_defs": [],
            "timing": RolloutTiming(),
            "error": None,
            "reward": None,
            "metrics": None,
        }
    )
    return await environment.setup_state(state) or state


def rows_of(environment: Any, source: str) -> Any:
    """Return the environment's rows for "train" or "test", None where it has none; they are made at the first call."""
    return environment.build_dataset() if source == "train" else environment.build_eval_dataset()


@functools.lru_cache(maxsize=8)
def load_environment(environment: str, args: str) -> Any:
    """Load and return an environment of one turn; `args` are its arguments as JSON.

    Raises SettingError for a release of the library that has no such environments, for an environment that cannot be
    loaded, and for one with several turns or tools.
    """
    name = f"verifiers:{environment}"
    remedy = f'run `pip install "{TO_INSTALL["verifiers"]}"`'
    try:
        import verifiers

        single_turn, load = verifiers.SingleTurnEnv, verifiers.load_environment
    except (ImportError, AttributeError) as error:
        problem = f"this release of verifiers cannot load environments ({one_line(error)})"
        raise SettingError(problem, setting="task.name", value=name, remedy=remedy) from error
    try:
        with _handlers_kept():
            loaded = load(environment, **json.loads(args))
    except Exception as error:
        remedy = "install its package; task.args are the arguments of its load_environment"
        problem = f"the environment cannot be loaded ({one_line(error)})"
        raise SettingError(problem, setting="task.name", value=name, remedy=remedy) from error
    kind = type(loaded).__name__
    remedy = "take one of one turn, whose class is SingleTurnEnv"
    if not isinstance(loaded, single_turn):
        problem = f"is a {kind}: a conversation of several turns, with tools or as a group of environments"
        raise SettingError(problem, setting="task.name", value=name, remedy=remedy)
    if getattr(loaded, "tool_defs", None):
        raise SettingError(f"is a {kind} with tools", setting="task.name", value=name, remedy=remedy)
    if getattr(loaded, "message_type", "chat") != "chat":
        problem = f"is a {kind} whose prompts are texts to complete, not messages"
        raise SettingError(problem, setting="task.name", value=name, remedy="take one of chat messages")
    return loaded


def _split_of(problem: Problem) -> str:
    """Return the split that a problem belongs to by a hash of its prompt, where the environment has one data set."""
    digest = hashlib.sha256(prompt_key(problem.messages).encode()).digest()
    return "test" if int.from_bytes(digest[:8], "big") % TEST_SHARE == 0 else "train"


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Give SIGINT and SIGTERM back to their handlers, which an environment replaces while it is made."""
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _finished(work: Coroutine[Any, Any, list[float]]) -> list[float]:
    """Return the result of a coroutine, run in a thread of its own: a notebook's thread has an event loop already."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
