"""The rows of a run folder's .jsonl files: their types, which of them are read, and what they say.

What counts as a step, what a completion or a step has earned, which metrics repeat from run to run, under which key a
reward is kept, and when a run is finished: each is decided here, once.

Rows that are not what this package writes are left out when a file is read. Nothing here needs torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NotRequired, TypedDict, TypeGuard, TypeVar, cast

from grpo_colab.rewards.resolve import reward_key
from grpo_colab.utils.files import MOST_KEPT, MOST_READ, number, read_objects
from grpo_colab.utils.json_rows import MOST_ROWS

MOST: Final = 1e30  # of a metric: its square, and a sum of a million of them, are numbers still
MOST_JSON: Final = 1 << 23  # bytes of a JSON file: in memory it is thirty times as big
TIMES_AND_MEMORY: Final = re.compile(r"time/.*|memory/.*|step_time|sample_time|train_runtime")

# A line of metrics.jsonl: the number of its `step`, and numbers (or None) under TRL's names. No TypedDict can list
# these, since some hold the name of a reward: `reward_of_metric` tells which.
MetricsRow = dict[str, Any]
Row = TypeVar("Row", bound=Mapping[str, Any])


class CompletionRow(TypedDict):
    """A line of completions.jsonl: one completion of one training step."""

    step: int
    prompt: Any  # a conversation of messages; a text in folders of others
    completion: str
    rewards: dict[str, float | None]  # unweighted, by `reward_key`, in the order of the recipe's [rewards]
    group: NotRequired[int]  # completions of one prompt in one step share it
    answer: NotRequired[str | None]
    advantage: NotRequired[float]
    extra: NotRequired[dict[str, Any]]  # what rewards gave to log_extra, by column


class AnswerRow(TypedDict):
    """A line of evaluation-before.jsonl or evaluation-after.jsonl: one held-out problem."""

    question: str
    completion: str
    right: bool
    verdict: str
    lenient_right: bool
    rewards: dict[str, float | None]  # as in CompletionRow
    source: NotRequired[str]  # where the problem stands
    answer: NotRequired[str]  # the gold answer


class WarningRow(TypedDict):
    """A line of warnings.jsonl."""

    step: int
    kind: str
    text: str


class Limit(NamedTuple):
    """How much of a .jsonl file is read; of a larger one, parts that are spread evenly over it."""

    bytes: int
    rows: int


OWN: Final = Limit(MOST_KEPT, 16 * MOST_ROWS)  # of a run that is trained here
SHARED: Final = Limit(MOST_READ, MOST_ROWS)  # of a folder that anyone may have written


def read_metrics(path: Path, limit: Limit = OWN) -> list[MetricsRow]:
    """Return the rows that have a step, each without values that are no number, or beyond 1e30. NaN is kept."""
    return [
        {key: value for key, value in row.items() if value is None or _is_metric(value)}
        for row in read_objects(path, *limit).rows
        if is_step_number(row.get("step"))
    ]


def read_completions(path: Path, limit: Limit = OWN) -> list[CompletionRow]:
    """Return the rows that are whole, with the present key for each reward."""
    return [with_reward_keys(row) for row in read_objects(path, *limit).rows if is_completion(row)]


def read_answers(path: Path, limit: Limit = OWN) -> list[AnswerRow]:
    """Return the rows that are whole and have the same rewards as the first one."""
    found = [row for row in read_objects(path, *limit).rows if is_answer(row)]
    return [row for row in found if row["rewards"].keys() == found[0]["rewards"].keys()]


def is_completion(row: Mapping[str, Any]) -> TypeGuard[CompletionRow]:
    """Tell whether a row has all that every line of completions.jsonl must have."""
    return (
        is_step_number(row.get("step"))
        and _is_prompt(row.get("prompt"))
        and isinstance(row.get("completion"), str)
        and _are_rewards(row.get("rewards"))
    )


def is_answer(row: Mapping[str, Any]) -> TypeGuard[AnswerRow]:
    """Tell whether a row has all that an evaluation is computed from."""
    texts, truths = ("question", "completion", "verdict"), ("right", "lenient_right")
    return (
        all(isinstance(row.get(key), str) for key in texts)
        and all(isinstance(row.get(key), bool) for key in truths)
        and _are_rewards(row.get("rewards"))
    )


def with_reward_keys(row: Row) -> Row:
    """Return a row of completions.jsonl with the present key for each reward.

    Earlier versions wrote the functions' names there: `correctness_reward`, where all other files have `correctness`.
    """
    rewards = row.get("rewards")
    if not isinstance(rewards, dict) or all(name == reward_key(name) for name in rewards):
        return row
    return cast(Row, {**row, "rewards": {reward_key(name): value for name, value in rewards.items()}})


def rewards_of_each(paid: Mapping[str, Iterable[float]]) -> list[dict[str, float | None]]:
    """Return the rewards of each completion, by key.

    `paid` has a value per completion for each reward function, by the function's name, as TRL keeps it. NaN, by which
    TRL says that a reward did not judge, becomes None.
    """
    keys = [reward_key(name) for name in paid]
    return [
        {key: None if math.isnan(value) else value for key, value in zip(keys, values, strict=True)}
        for values in zip(*paid.values(), strict=True)
    ]


def reward_of_metric(metric: str, of: str = "mean") -> str | None:
    """Return the key of the reward that TRL's metric `rewards/<function>/<of>` is about; None for other metrics."""
    head, tail = "rewards/", f"/{of}"
    if not (metric.startswith(head) and metric.endswith(tail) and len(metric) > len(head) + len(tail)):
        return None
    return reward_key(metric[len(head) : -len(tail)])


def weighted_reward(rewards: Iterable[float | None], weights: Sequence[float]) -> float:
    """Return what a completion earns: the sum of its rewards, each times its weight. None adds nothing, as in TRL.

    Both are in the order of the recipe's [rewards]. Where there is not a weight for each reward, since a recipe cannot
    be read, it is the plain sum.
    """
    values = [number(value) or 0.0 for value in rewards]
    if len(weights) != len(values):
        weights = [1.0] * len(values)
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def step_reward(row: Mapping[str, Any]) -> float | None:
    """Return the mean of what the completions of a step earned, by its line of metrics.

    None for a step without completions of its own: with grpo.num_iterations above 1, several steps share them.
    """
    return number(row.get("reward"))


def is_step_row(row: Mapping[str, Any]) -> bool:
    """Tell whether what the trainer logs is of a step, and not the summary after the last one."""
    return "loss" in row


def repeatable(rows: Iterable[Mapping[str, Any]]) -> list[MetricsRow]:
    """Return metrics without times and memory: runs of one recipe and seed share the rest to the last digit."""
    return [{key: value for key, value in row.items() if not TIMES_AND_MEMORY.fullmatch(key)} for row in rows]


def steps_logged(state: Mapping[str, Any] | None) -> list[MetricsRow]:
    """Return the steps' metrics from a checkpoint's trainer_state.json, as metrics.jsonl has them."""
    log = (state or {}).get("log_history")
    rows = [row for row in log if isinstance(row, dict)] if isinstance(log, list) else []
    return [{"step": row["step"], **row} for row in rows if is_step_number(row.get("step")) and is_step_row(row)]


def sound_evaluation(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the content of evaluation.json; None where a value is of another type or range than we write."""
    if found is None:
        return None
    kinds: Mapping[str, Callable[[Any], bool]] = {
        "step": is_step_number,
        "n": _is_count,
        "solved": lambda value: isinstance(value, bool),
        "before": _is_side,
        "after": _is_side,
        "paired": _is_test,
    }
    return found if all(fits(found[key]) for key, fits in kinds.items() if key in found) else None


def is_finished(evaluation: Mapping[str, Any] | None, max_steps: float | None) -> bool:
    """Tell whether a run is finished: its last adapter is evaluated, after all steps or once it was solved.

    `evaluation` is the content of evaluation.json. One without a step is from a release that evaluated at the end
    alone. `max_steps` is budget.max_steps, None where the recipe cannot be read.
    """
    if evaluation is None:
        return False
    step = number(evaluation.get("step"))
    return evaluation.get("solved") is True or step is None or (max_steps is not None and step >= max_steps)


def is_step_number(value: Any) -> bool:
    """Tell whether a value can be the number of a step."""
    return isinstance(value, int) and number(value) is not None and abs(value) < MOST


def last_step(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return the last step of these lines of metrics, 0 where there are none."""
    return max((row["step"] for row in rows), default=0)


def sound_number(value: Any) -> float | None:
    """Return a number below 1e30 as it is, and None for all else: what is computed from it is a number, too."""
    return value if number(value) is not None and abs(value) < MOST else None


def share(value: Any) -> float | None:
    """Return a number from 0 to 1 as it is, and None for all else."""
    return value if number(value) is not None and 0 <= value <= 1 else None


def count(value: Any) -> int | None:
    """Return a whole number from 0 to 1e30 as it is, and None for all else."""
    return value if is_step_number(value) and value >= 0 else None


def _is_metric(value: Any) -> bool:
    if isinstance(value, int):
        return abs(value) < MOST
    return isinstance(value, float) and not MOST <= abs(value) < float("inf")


def _is_prompt(value: Any) -> bool:
    """Tell whether a value is a text, or a conversation of messages."""
    if isinstance(value, str):
        return True
    return isinstance(value, list) and all(isinstance(one, dict) and isinstance(one.get("role"), str) for one in value)


def _are_rewards(value: Any) -> bool:
    return isinstance(value, dict) and all(one is None or number(one) is not None for one in value.values())


def _is_side(value: Any) -> bool:
    """Tell whether a value is one side of evaluation.json. Keys may be missing."""
    if not isinstance(value, dict):
        return False
    limits = value.get("ci95", [0, 1])
    rates = [value.get(key, 0) for key in ("accuracy", "lenient_accuracy")]
    paid = value.get("rewards", {})
    whole = isinstance(limits, list) and len(limits) == 2 and _are_rewards(paid)
    return whole and all(share(one) is not None for one in (*rates, *limits))


def _is_test(value: Any) -> bool:
    """Tell whether a value is the paired test of evaluation.json. Keys may be missing."""
    if not isinstance(value, dict):
        return False
    counts = all(_is_count(value.get(key, 0)) for key in ("gained", "lost"))
    return counts and share(value.get("p_value", 1)) is not None


def _is_count(value: Any) -> bool:
    return count(value) is not None
