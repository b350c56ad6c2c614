"""Define the rows of a run folder's .jsonl files, read them, and answer questions about them.

Decided here, once for the package: what counts as a step, the reward of a completion and of a step, which metrics are
the same in a repeated run, the key of a reward, and when a run is finished.

Rows that this package could not have written are left out when a file is read. Nothing here needs torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, NotRequired, TypedDict, TypeGuard, TypeVar, cast

from grpo_colab.rewards.names import reward_key
from grpo_colab.utils.files import MOST_KEPT, MOST_READ, number, read_objects
from grpo_colab.utils.json_rows import MOST_ROWS

MOST: Final = 1e30  # of a metric, so that its square and sums of a million of them stay finite
MOST_JSON: Final = 1 << 23  # bytes of a JSON file, which takes thirty times as much in memory
TIMES_AND_MEMORY: Final = re.compile(r"time/.*|memory/.*|step_time|sample_time|train_runtime")

# A line of metrics.jsonl: its `step`, and numbers or None under TRL's names. A TypedDict cannot list these names, since
# some contain the name of a reward (see `reward_of_metric`).
MetricsRow = dict[str, Any]
Row = TypeVar("Row", bound=Mapping[str, Any])


class CompletionRow(TypedDict):
    """A line of completions.jsonl: one completion of one training step."""

    step: int
    prompt: Any  # a list of chat messages; in folders by other programs also a text
    completion: str
    rewards: dict[str, float | None]  # unweighted, by `reward_key`, in the order of the recipe's [rewards]
    group: NotRequired[int]  # the same number for all completions of one prompt in one step
    answer: NotRequired[str | None]
    advantage: NotRequired[float]
    hint: NotRequired[int]  # steps of the solution that the prompt shows, since all completions without it were wrong
    extra: NotRequired[dict[str, Any]]  # values that rewards passed to log_extra, by column
    # What else the rewards were given, so that they can be called again on the run; see `given_columns`.
    columns: NotRequired[dict[str, Any]]  # of the data set, beside the prompt and the answer
    left_out: NotRequired[list[str]]  # columns that had no room in the row
    completion_ids: NotRequired[str]  # of the completion, apart by spaces: a list would count as many values


class AnswerRow(TypedDict):
    """A line of evaluation-before.jsonl or evaluation-after.jsonl, or of a further split's: one held-out problem."""

    question: str
    completion: str
    right: bool
    verdict: str
    lenient_right: bool | None  # None where a completion can be judged in one way only
    rewards: dict[str, float | None]  # as in CompletionRow
    source: NotRequired[str]  # where the problem comes from, such as file:line
    answer: NotRequired[str]  # the gold answer


class WarningRow(TypedDict):
    """A line of warnings.jsonl: one thing that looked wrong at a training step."""

    step: int
    kind: str
    text: str


class Limit(NamedTuple):
    """How much of a .jsonl file is read. Of a larger file, parts spread evenly over it are read."""

    bytes: int
    rows: int


OWN: Final = Limit(MOST_KEPT, 16 * MOST_ROWS)  # for a run that is trained here
SHARED: Final = Limit(MOST_READ, MOST_ROWS)  # for a folder that anyone may have written


def read_metrics(path: Path, limit: Limit = OWN) -> list[MetricsRow]:
    """Return the rows of metrics.jsonl that have a step.

    Values that are no number or at least 1e30 in size are left out of their row. NaN, infinity and None are kept.
    Returns an empty list, and raises nothing, where the file is missing or cannot be read.
    """
    found = []
    for row in read_objects(path, *limit).rows:
        if is_step_number(row.get("step")):
            found.append({key: value for key, value in row.items() if value is None or _is_metric(value)})
    return found


def read_completions(path: Path, limit: Limit = OWN) -> list[CompletionRow]:
    """Return the complete rows of completions.jsonl (see `is_completion`), with the present key for each reward.

    Returns an empty list, and raises nothing, where the file is missing or cannot be read.
    """
    return [with_reward_keys(row) for row in read_objects(path, *limit).rows if is_completion(row)]


def read_answers(path: Path, limit: Limit = OWN) -> list[AnswerRow]:
    """Return the complete rows (see `is_answer`) of an evaluation's .jsonl file.

    Rows whose reward keys are not those of the first complete row are left out. Returns an empty list, and raises
    nothing, where the file is missing or cannot be read.
    """
    found = [row for row in read_objects(path, *limit).rows if is_answer(row)]
    return [row for row in found if row["rewards"].keys() == found[0]["rewards"].keys()]


def is_completion(row: Mapping[str, Any]) -> TypeGuard[CompletionRow]:
    """Tell whether a row has all required keys of a `CompletionRow`, with values of their types."""
    return (
        is_step_number(row.get("step"))
        and _is_prompt(row.get("prompt"))
        and isinstance(row.get("completion"), str)
        and _are_rewards(row.get("rewards"))
    )


def given_columns(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the columns that a run's rewards were given with a completion, beside the prompt and the answer.

    Returns None for a row that is no complete row of completions.jsonl. A row of an earlier release has no columns.
    """
    if not is_completion(row):
        return None
    columns = row.get("columns")
    return columns if isinstance(columns, dict) else {}


def is_answer(row: Mapping[str, Any]) -> TypeGuard[AnswerRow]:
    """Tell whether a row has all required keys of an `AnswerRow`, with values of their types."""
    return (
        all(isinstance(row.get(key), str) for key in ("question", "completion", "verdict"))
        and isinstance(row.get("right"), bool)
        and isinstance(row.get("lenient_right", 0), bool | None)
        and _are_rewards(row.get("rewards"))
    )


def with_reward_keys(row: Row) -> Row:
    """Return a row of completions.jsonl with the present key for each reward.

    Earlier versions wrote the names of the functions there: `correctness_reward`, where all other files have
    `correctness`.
    """
    rewards = row.get("rewards")
    if not isinstance(rewards, dict) or all(name == reward_key(name) for name in rewards):
        return row
    return cast(Row, {**row, "rewards": {reward_key(name): value for name, value in rewards.items()}})


def rewards_of_each(by_function: Mapping[str, Iterable[float]]) -> list[dict[str, float | None]]:
    """Return the rewards of each completion, by reward key.

    `by_function` is TRL's table: for each reward function, by its name, one value per completion. NaN, which TRL writes
    where a reward could not judge a completion, becomes None. Returns an empty list for no functions. Raises ValueError
    where the functions have different numbers of values.
    """
    keys = [reward_key(name) for name in by_function]
    found = []
    for values in zip(*by_function.values(), strict=True):
        rewards = zip(keys, values, strict=True)
        found.append({key: None if math.isnan(value) else value for key, value in rewards})
    return found


def reward_of_metric(metric: str, of: str = "mean") -> str | None:
    """Return the reward key in the name of TRL's metric rewards/<function>/<of>; None for other metrics.

    `of` is the statistic: "mean" or "std".
    """
    head, tail = "rewards/", f"/{of}"
    if not (metric.startswith(head) and metric.endswith(tail) and len(metric) > len(head) + len(tail)):
        return None
    return reward_key(metric[len(head) : -len(tail)])


def weighted_reward(rewards: Iterable[float | None], weights: Sequence[float]) -> float:
    """Return the reward of a completion: the sum of its rewards times their weights. None adds nothing, as in TRL.

    Rewards and weights are in the order of the recipe's [rewards]. Where their numbers differ, because the recipe
    cannot be read, every weight is 1.
    """
    values = [number(value) or 0.0 for value in rewards]
    if len(weights) != len(values):
        weights = [1.0] * len(values)
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


def step_reward(row: Mapping[str, Any]) -> float | None:
    """Return the mean weighted reward of a step's completions, from its line of metrics.

    Returns None for a step without completions of its own: with grpo.num_iterations above 1, several steps share them.
    """
    return number(row.get("reward"))


def is_step_row(row: Mapping[str, Any]) -> bool:
    """Tell whether a row that the trainer logs is about a step. The summary after the last step is not."""
    return "loss" in row


def repeatable(rows: Iterable[Mapping[str, Any]]) -> list[MetricsRow]:
    """Return metrics without times and memory. The rest repeats exactly with the recipe and the seed."""
    return [{key: value for key, value in row.items() if not TIMES_AND_MEMORY.fullmatch(key)} for row in rows]


def steps_logged(state: Mapping[str, Any] | None) -> list[MetricsRow]:
    """Return the metrics of each step in a checkpoint's trainer_state.json, in the format of metrics.jsonl.

    `state` is the content of that file, None where it cannot be read. Returns an empty list for None, and where it has
    no log.
    """
    log = (state or {}).get("log_history")
    found = []
    for row in log if isinstance(log, list) else []:
        if isinstance(row, dict) and is_step_number(row.get("step")) and is_step_row(row):
            found.append({"step": row["step"], **row})
    return found


def sound_evaluation(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the content of evaluation.json, given as `found`; None where a value has a wrong type or range.

    None stays None. Keys may be missing, and unknown keys are not checked.
    """
    if found is None:
        return None
    kinds: Mapping[str, Callable[[Any], bool]] = {
        "step": is_step_number,
        "n": _is_count,
        "solved": lambda value: isinstance(value, bool),
        "before": _is_side,
        "after": _is_side,
        "paired": _is_test,
        "note": _is_text,
        "about": _is_text,
        "further": _are_further,
    }
    return found if all(fits(found[key]) for key, fits in kinds.items() if key in found) else None


def is_finished(evaluation: Mapping[str, Any] | None, max_steps: float | None) -> bool:
    """Tell whether a run is finished: whether its final adapter is evaluated, after all steps or after it was solved.

    `evaluation` is the content of evaluation.json, None for none. An evaluation without a step is by an earlier
    release, which evaluated only at the end. `max_steps` is budget.max_steps, None where the recipe cannot be read.
    """
    if evaluation is None:
        return False
    step = number(evaluation.get("step"))
    return evaluation.get("solved") is True or step is None or (max_steps is not None and step >= max_steps)


def is_step_number(value: Any) -> bool:
    """Tell whether a value can be the number of a step: a whole number below 1e30 in size."""
    return isinstance(value, int) and number(value) is not None and abs(value) < MOST


def last_step(rows: Iterable[Mapping[str, Any]]) -> int:
    """Return the last step of these lines of metrics, 0 for no lines."""
    return max((row["step"] for row in rows), default=0)


def sound_number(value: Any) -> float | None:
    """Return a finite number below 1e30 in size unchanged, and None for anything else. See `MOST`."""
    return value if number(value) is not None and abs(value) < MOST else None


def share(value: Any) -> float | None:
    """Return a number from 0 to 1 unchanged, and None for anything else."""
    return value if number(value) is not None and 0 <= value <= 1 else None


def count(value: Any) -> int | None:
    """Return a whole number from 0 to 1e30 unchanged, and None for anything else."""
    return value if is_step_number(value) and value >= 0 else None


def _is_metric(value: Any) -> bool:
    """Tell whether a value is a number below 1e30 in size, NaN or infinite."""
    if isinstance(value, int):
        return abs(value) < MOST
    return isinstance(value, float) and not MOST <= abs(value) < float("inf")


def _is_prompt(value: Any) -> bool:
    """Tell whether a value is a text or a list of chat messages."""
    if isinstance(value, str):
        return True
    if not isinstance(value, list):
        return False
    return all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in value)


def _are_rewards(value: Any) -> bool:
    """Tell whether a value is a dict whose values are finite numbers or None."""
    return isinstance(value, dict) and all(one is None or number(one) is not None for one in value.values())


def _is_side(value: Any) -> bool:
    """Tell whether a value is one side of evaluation.json, "before" or "after". Keys may be missing."""
    if not isinstance(value, dict):
        return False
    interval = value.get("ci95", [0, 1])
    if not isinstance(interval, list) or len(interval) != 2 or not _are_rewards(value.get("rewards", {})):
        return False
    lenient = value.get("lenient_accuracy")
    shares = [value.get("accuracy", 0), 0 if lenient is None else lenient, *interval]
    return all(share(one) is not None for one in shares)


def _are_further(value: Any) -> bool:
    """Tell whether a value is "further" of evaluation.json: for each further split what the file has of its own."""
    if not isinstance(value, dict):
        return False
    inside = [found for found in value.values() if isinstance(found, dict) and "further" not in found]
    return len(inside) == len(value) and all(sound_evaluation(found) is not None for found in inside)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_test(value: Any) -> bool:
    """Tell whether a value is the paired test of evaluation.json. Keys may be missing."""
    if not isinstance(value, dict):
        return False
    are_counts = all(_is_count(value.get(key, 0)) for key in ("gained", "lost"))
    return are_counts and share(value.get("p_value", 1)) is not None


def _is_count(value: Any) -> bool:
    return count(value) is not None


def reaches(row: Mapping[str, Any], stop_at_reward: float | None) -> bool:
    """Tell whether the best completion of a step earned `stop_at_reward`, within the rounding of float32.

    `row` is the step's line of metrics. False where `stop_at_reward` is None or the row has no reward/max.
    """
    best = row.get("reward/max")
    if stop_at_reward is None or best is None:
        return False
    return bool(best >= stop_at_reward - 1e-6)
