"""A data set of Reasoning Gym (Stojanovski et al. 2025, arXiv 2505.24760): `task.name = "reasoning_gym:chain_sum"`.

The library generates problems of a hundred kinds without end, and grades an answer from 0.0 to 1.0. It derives problem
i of a seed from `seed + i`, so that problem 1 of seed 0 is problem 0 of seed 1. Here the training and the held-out
problems have seeds that are gigantic distances apart. Where a kind has few different problems, a hash of the question
decides which split it belongs to.

A reward gets the column `entry`, which says how to generate the problem again: its data set, settings, seed and index.
The library is imported when the task is made. It is not this package's code, and some of its graders evaluate the
answer as an expression.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from grpo_colab.errors import SettingError, one_line, one_of
from grpo_colab.rewards import Verdict
from grpo_colab.rewards.arguments import Completions, texts_of
from grpo_colab.rewards.grading import ANSWER_TAG, answer_block
from grpo_colab.tasks import Problem, Task

DEFAULT_SIZES: Final = {"train": 1024, "test": 256}
TEST_SHARE: Final = 4  # one question in this many belongs to the test split
FIRST_SEED: Final = {"train": 0, "test": 1 << 31}  # each split has the 2**31 seeds from here on; numpy takes 32 bits
SEEDS: Final = 1 << 30  # different first seeds within a split, which leaves room for as many problems behind the last
BLOCK: Final = 16384  # problems of one data set object; some take no more, or make a list of that length
MOST_TRIES: Final = 100  # questions that may be drawn for each that is found
# These draw other problems where Python hashes texts in another way, as it does in every process (0.1.25).
BY_HASH: Final = ("isomorphic_strings", "knight_swap", "polynomial_multiplication", "ransom_note", "word_ladder")
REWARD: Final = "grpo_colab.tasks.reasoning_gym.reasoning_gym_reward"


class ReasoningGym(Task):
    """Generated problems of one data set of Reasoning Gym, graded by the library.

    `config` has the data set's own settings, such as {min_terms = 2}. Raises SettingError for an unknown data set, for
    settings that it refuses, and for one that could not be resumed as Python is started here.
    """

    correctness: ClassVar[str] = REWARD  # what [rewards] calls correctness
    default_rewards: ClassVar[Mapping[str, float]] = {
        REWARD: 2.0,
        "strict_format": 0.5,
        "soft_format": 0.5,
        "tag_count": 0.5,
    }

    def __init__(
        self,
        dataset: str,
        /,
        *,
        config: dict[str, Any] | None = None,
        system_prompt: str | None = None,
        seed: int = 0,
        answer_in: str = ANSWER_TAG,
    ) -> None:
        super().__init__(system_prompt=system_prompt, seed=seed, answer_in=answer_in)
        self.dataset, self.config = dataset, json.dumps(config or {}, sort_keys=True)
        self.name = f"reasoning_gym:{dataset}"  # type: ignore[misc] # every data set has a name of its own
        _check_dataset(dataset, config or {})

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """Return the first `n` problems of `split`; with n = None, 1,024 for training and 256 for testing.

        They are generated, so there are as many as are asked for. Some data sets take a second for each. Raises
        ValueError for another split than "train" and "test", and SettingError for a data set that has too few different
        questions for two splits.
        """
        if split not in DEFAULT_SIZES:
            raise ValueError(f"split = {split!r}: generated problems have {' and '.join(map(repr, DEFAULT_SIZES))}")
        wanted = DEFAULT_SIZES[split] if n is None else n
        found: list[Problem] = []
        for index in range(MOST_TRIES * (wanted + 1)):
            if len(found) == wanted:
                break
            entry = self._entry(split, index)
            generated = generate(entry)
            if split_of(generated["question"]) == split:
                answer = "" if generated["answer"] is None else str(generated["answer"])
                source = f"{self.name}/{split}/{self.seed}/{index}"
                found.append(Problem(generated["question"], answer, source, columns={"entry": entry}))
        if len(found) < wanted:
            raise SettingError(
                f"has too few different questions: {len(found)} of {wanted} for {split!r}",
                setting="task.name",
                value=self.name,
                remedy="set task.config for more of them, or ask for fewer with task.limit and evaluation.n",
            )
        return found

    def reward_columns(self) -> list[str]:
        """Return `answer` and `entry`, without generating a problem."""
        return ["answer", "entry"]

    def score(self, answer: str, problem: Problem) -> float:
        """Return what the library's `score_answer` gives the text of an answer, from 0.0 to 1.0."""
        return score_answer(answer, problem.columns["entry"])

    def grade(self, completion: str, problem: Problem) -> Verdict:
        """Return "right" for an answer that scores 1.0 and "wrong" for any other, or why there is no answer."""
        block = answer_block(completion, self.answer_in, self.reasoning_tag)
        if isinstance(block, Verdict):
            return block
        score = self.score(block, problem)
        return Verdict("right") if score >= 1.0 else Verdict("wrong", None, score)

    def lenient_right(self, completion: str, problem: Problem) -> None:
        """Return None: there is one way of grading."""

    def _entry(self, split: str, index: int) -> dict[str, Any]:
        """Return how problem `index` of a split is generated, as a column of JSON."""
        digest = hashlib.blake2b(f"{split}/{self.seed}".encode(), digest_size=8).digest()
        first = FIRST_SEED[split] + int.from_bytes(digest, "big") % SEEDS
        return {
            "dataset": self.dataset,
            "config": self.config,
            "seed": first + index // BLOCK * BLOCK,
            "index": index % BLOCK,
            "answer_in": self.answer_in,
        }


def reasoning_gym_reward(
    completions: Completions, entry: Sequence[Mapping[str, Any] | None], **kwargs: Any
) -> list[float | None]:
    """Pay what Reasoning Gym's grader gives the text of each completion's one answer, from 0.0 to 1.0.

    A completion without one answer gets 0.0, and a row without an `entry` None. Raises TypeError for arguments of other
    types, and ValueError for lists of different lengths.
    """
    paid: list[float | None] = []
    for text, how in zip(texts_of("reasoning_gym_reward", completions), entry, strict=True):
        if how is None:
            paid.append(None)
            continue
        block = answer_block(text, how["answer_in"])
        paid.append(0.0 if isinstance(block, Verdict) else score_answer(block, how))
    return paid


def split_of(question: str) -> str:
    """Return the split that a question belongs to by a hash of its text."""
    digest = hashlib.blake2b(question.encode(), digest_size=8).digest()
    return "test" if digest[0] % TEST_SHARE == 0 else "train"


def generate(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the library's problem for an `entry`: a dict of question, answer and metadata, not to be changed."""
    return _generated(entry["dataset"], entry["config"], entry["seed"], entry["index"])


def score_answer(answer: str, entry: Mapping[str, Any]) -> float:
    """Return the library's score of an answer's text, from 0.0 to 1.0.

    Some graders raise for a text that they cannot read. That is a wrong answer of the model, so it scores 0.0, and a
    warning tells once.
    """
    generator = _made(entry["dataset"], entry["config"], entry["seed"])
    problem = generate(entry)
    try:
        score = float(generator.score_answer(answer.strip(), problem))
    except Exception as error:  # noqa: BLE001 - whatever a text makes it raise
        kind, dataset = type(error).__name__, entry["dataset"]  # no more, so that the same warning comes once
        warnings.warn(f"the grader of {dataset} raises {kind} on some answers, which count as 0.0", stacklevel=2)
        return 0.0
    return min(1.0, max(0.0, score))


def _library() -> Any:
    """Import and return Reasoning Gym; raise SettingError where it is not installed."""
    try:
        with warnings.catch_warnings(action="ignore"):  # those of its own dependencies
            import reasoning_gym
    except ImportError as error:
        remedy = 'run `pip install "grpo_colab[reasoning-gym]"`'
        problem = f"reasoning_gym does not import: {one_line(error)}"
        raise SettingError(problem, setting="task.name", remedy=remedy) from error
    return reasoning_gym


@functools.lru_cache(maxsize=8)
def _made(dataset: str, config: str, seed: int) -> Any:
    """Return the library's data set object with these settings, given as JSON."""
    library = _library()
    settings = json.loads(config)
    if dataset == "composite" and isinstance(settings.get("datasets"), list):
        from reasoning_gym.composite import DatasetSpec

        settings["datasets"] = [DatasetSpec(**{"weight": 1.0, "config": {}, **spec}) for spec in settings["datasets"]]
    return library.create_dataset(dataset, **settings, seed=seed, size=BLOCK)


@functools.lru_cache(maxsize=1 << 16)  # the completions of a group share their problem
def _generated(dataset: str, config: str, seed: int, index: int) -> dict[str, Any]:
    """Return the problem of a data set object at an index; raise SettingError where the library fails to draw it."""
    generator = _made(dataset, config, seed)
    try:
        return dict(generator[index])
    except Exception as error:
        raise SettingError(
            f"{dataset} fails to draw problem {index} of seed {seed} ({one_line(error)})",
            setting="task.config",
            value=json.loads(config),
            remedy="write other settings",
        ) from error


@functools.lru_cache(maxsize=64)
def _names() -> tuple[str, ...]:
    """Return the names of the library's data sets, sorted."""
    _library()
    from reasoning_gym.factory import DATASETS

    return tuple(sorted(DATASETS))


def _check_dataset(dataset: str, config: Mapping[str, Any]) -> None:
    """Raise SettingError for an unknown data set, for settings that it refuses, and for one that cannot be resumed."""
    name = f"reasoning_gym:{dataset}"
    if dataset not in _names():
        raise SettingError("no such data set", setting="task.name", value=name, remedy=one_of(dataset, _names()))
    from reasoning_gym.factory import DATASETS

    settings = [field.name for field in dataclasses.fields(DATASETS[dataset][1]) if field.name not in ("seed", "size")]
    for key in config:
        if key not in settings:
            problem, remedy = f"the data set {dataset!r} has no such setting", one_of(key, settings)
            if key in ("seed", "size"):
                problem, remedy = "is set by the task", "write task.seed, task.limit or evaluation.n"
            raise SettingError(problem, setting=f"task.config.{key}", value=config[key], remedy=remedy)
    try:
        _made(dataset, json.dumps(config, sort_keys=True), 0)
    except Exception as error:
        remedy = f"its settings are {', '.join(settings) or 'none'}"
        raise SettingError(
            f"{dataset} refuses it ({one_line(error)})", setting="task.config", value=dict(config), remedy=remedy
        ) from error
    if dataset in BY_HASH and os.environ.get("PYTHONHASHSEED", "random") in ("", "random"):
        raise SettingError(
            "draws other problems in every process, so that no run of it could be resumed",
            setting="task.name",
            value=name,
            remedy="set PYTHONHASHSEED=0 in the environment, before Python starts",
        )
