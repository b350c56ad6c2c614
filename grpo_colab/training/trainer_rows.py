"""Give TRL's trainer the rows of the training set as they are, and take a step's completions out of it again.

A data set of `datasets` is an Arrow table. It gives all messages the same keys and all objects of a column the same
fields, and it refuses columns of two types and large numbers. So the trainer's data set holds the rows' indices alone.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from grpo_colab.runs.records import rewards_of_each
from grpo_colab.utils.files import to_jsonable

if TYPE_CHECKING:
    from trl import GRPOTrainer as Trainer  # the mixins' `super()`, once they are mixed in

    from grpo_colab.policy.policy import Policy
else:
    Trainer = object


# How much a row of completions.jsonl keeps of its columns: a page of all completions has room for some thousand rows.
MOST_CHARACTERS: Final = 1 << 13  # as JSON
MOST_VALUES: Final = 500


class Kept(NamedTuple):
    """What completions.jsonl keeps of what the rewards were given, so that they can be called again on the run.

    `named` are the columns that a reward has a parameter for. `others` tells whether a reward may read all columns, by
    `**kwargs`; rewards of this package read what they name. `token_ids` tells whether a reward names `completion_ids`.
    """

    named: frozenset[str] = frozenset()
    others: bool = False
    token_ids: bool = False

    @classmethod
    def of(cls, rewards: Iterable[Callable[..., Any]]) -> Kept:
        """Return what these rewards may read. The parts of a `combine` count as well."""
        named: set[str] = set()
        others = False
        waiting = list(rewards)
        while waiting:
            reward = waiting.pop()
            parameters = inspect.signature(reward).parameters.values()
            named.update(parameter.name for parameter in parameters)
            takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
            while isinstance(reward, functools.partial):
                reward = reward.func
            others |= takes_all and not str(getattr(reward, "__module__", "")).startswith("grpo_colab.")
            parts = getattr(reward, "parts", ())
            waiting += parts if isinstance(parts, list | tuple) else ()
        return cls(frozenset(named), others, "completion_ids" in named)

    def columns_of(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return the columns of a training row to keep, without its prompt and its answer, and the names left out.

        The columns that a reward names come first. What has no room within MOST_CHARACTERS and MOST_VALUES is left out
        whole, since a part of it would be judged otherwise.
        """
        seen = [name for name in row if name in self.named or self.others]
        columns: dict[str, Any] = {}
        left_out = []
        characters = values = 0
        for name in sorted(seen, key=lambda name: name not in self.named):
            if name in ("prompt", "answer"):
                continue
            text = json.dumps(row[name], ensure_ascii=False, default=to_jsonable)
            if characters + len(text) > MOST_CHARACTERS or values + text.count(",") >= MOST_VALUES:
                left_out.append(name)
                continue
            characters, values = characters + len(text), values + text.count(",") + 1
            columns[name] = row[name]
        return columns, left_out


class Rows(Protocol):
    """A training set: a list of rows, or one that has further rows under indices of its own."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> dict[str, Any]: ...


def index_column(rows: Sized) -> dict[str, list[int]]:
    """Return the trainer's data set as columns: the indices of the rows, under the one name that TRL always keeps."""
    return {"prompt": list(range(len(rows)))}


class RowsMixin(Trainer):
    """Put the rows of `training_rows` in the place of their indices, and let the policy render their prompts.

    A row is a dict of `prompt` and the columns that the rewards take. A reward gets copies, so that it cannot change
    the training set.
    """

    trained_policy: Policy
    training_rows: Rows
    kept = Kept()

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        from accelerate.utils import gather_object

        indices = [one["prompt"] for one in inputs]
        # TRL's log of completions holds this many, gathered in the same order.
        self._step_indices = deque(gather_object(indices), maxlen=self.args.generation_batch_size)
        return super()._generate_and_score_completions([copy.deepcopy(self.training_rows[index]) for index in indices])

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, token_ids: list[list[int]]) -> Any:
        """Keep the tokens of the completions, as the rewards get them, where a reward asks for them."""
        from accelerate.utils import gather_object

        if self.kept.token_ids:
            self._step_token_ids = deque(gather_object(token_ids), maxlen=self.args.generation_batch_size)
        return super()._calculate_rewards(inputs, prompts, completions, token_ids)

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        """Return the tokens of the prompts as everything else asks the policy; there are no images and no fields."""
        return [self.trained_policy.prompt_ids(prompt) for prompt in prompts], None, {}

    def step_rows(self) -> list[dict[str, Any]]:
        """Return the training row of each of the newest completions, in the order of `step_completions`."""
        return [self.training_rows[index] for index in self._step_indices]

    def step_given(self) -> list[dict[str, Any]]:
        """Return, in the order of `step_completions`, what completions.jsonl keeps of what the rewards were given.

        The keys are those of a CompletionRow: `answer`, and `columns`, `left_out`, `hint` and `completion_ids` where
        there are any.
        """
        found = []
        for place, (index, row) in enumerate(zip(self._step_indices, self.step_rows(), strict=True)):
            columns, left_out = self.kept.columns_of(row)
            given: dict[str, Any] = {"answer": row["answer"]}
            if columns:
                given["columns"] = columns
            if left_out:
                given["left_out"] = left_out
            if isinstance(index, tuple):
                given["hint"] = index[1]
            if self.kept.token_ids:
                given["completion_ids"] = " ".join(map(str, self._step_token_ids[place]))
            found.append(given)
        return found


class CompletionLogMixin(Trainer):
    """Hand out a step's completions from the log that TRL keeps for its own table, and add metrics to a step's."""

    def step_completions(self) -> list[dict[str, Any]]:
        """Return the newest completions, gathered from all processes, each with its prompt, rewards and advantage.

        `prompt` is a text or a conversation, `completion` always a text. `rewards` holds what each reward paid,
        unweighted, by its key; None when it could not judge. `extra` holds what rewards gave to `log_extra`.
        """
        log = self._logs
        extra = {name: list(values) for name, values in log["extra"].items()}
        rewards = rewards_of_each(log["rewards"])
        columns = zip(log["prompt"], log["completion"], rewards, log["advantages"], strict=True)
        rows = []
        for index, (prompt, completion, paid, advantage) in enumerate(columns):
            rows.append(
                {
                    "prompt": prompt,
                    "completion": completion[-1]["content"] if isinstance(completion, list) else completion,
                    "rewards": paid,
                    "advantage": advantage,
                    "extra": {name: values[index] for name, values in extra.items()},
                }
            )
        return rows

    def add_metrics(self, **values: float) -> None:
        """Log these with the metrics of the current step."""
        for name, value in values.items():
            self._metrics["train"][name].append(value)
