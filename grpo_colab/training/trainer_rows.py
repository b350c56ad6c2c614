"""Give TRL's trainer the rows of the training set as they are, and take a step's completions out of it again.

A data set of `datasets` is an Arrow table. It gives all messages the same keys and all objects of a column the same
fields, and it refuses columns of two types and large numbers. So the trainer's data set holds the rows' indices alone.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grpo_colab.runs.records import rewards_of_each

if TYPE_CHECKING:
    from trl import GRPOTrainer as Trainer  # the mixins' `super()`, once they are mixed in

    from grpo_colab.policy.policy import Policy
else:
    Trainer = object


def index_column(rows: Sequence[Any]) -> dict[str, list[int]]:
    """Return the trainer's data set as columns: the indices of the rows, under the one name that TRL always keeps."""
    return {"prompt": list(range(len(rows)))}


class RowsMixin(Trainer):
    """Put the rows of `training_rows` in the place of their indices, and let the policy render their prompts.

    A row is a dict of `prompt` and the columns that the rewards take. A reward gets copies, so that it cannot change
    the training set.
    """

    trained_policy: Policy
    training_rows: Sequence[dict[str, Any]]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        from accelerate.utils import gather_object

        indices = [one["prompt"] for one in inputs]
        # TRL's log of completions holds this many, gathered in the same order.
        self._step_indices = deque(gather_object(indices), maxlen=self.args.generation_batch_size)
        return super()._generate_and_score_completions([copy.deepcopy(self.training_rows[index]) for index in indices])

    def _tokenize_prompts(self, prompts: list[Any]) -> Any:
        """Return the tokens of the prompts as everything else asks the policy; there are no images and no fields."""
        return [self.trained_policy.prompt_ids(prompt) for prompt in prompts], None, {}

    def step_rows(self) -> list[dict[str, Any]]:
        """Return the training row of each of the newest completions, in the order of `step_completions`."""
        return [self.training_rows[index] for index in self._step_indices]


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
