"""Let TRL's trainer learn from completions that [sampling] has chosen, and skip those that teach nothing.

TRL samples a group per prompt and learns from it, in one method. Here the groups are sampled and rewarded first, by
TRL's own methods, as many as are wanted. Then TRL's method is called for those that were chosen, and finds their
completions and rewards in the place of new ones. So advantages, masks and metrics stay TRL's, and Unsloth's.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.evaluation.difficulty import read_difficulty
from grpo_colab.rewards.names import parse_reward
from grpo_colab.tasks.kinds import features_of
from grpo_colab.training.sampling import Group, HintedRows, Index, Practice, Sample
from grpo_colab.utils import files

if TYPE_CHECKING:
    from trl import GRPOTrainer as Trainer  # the mixins' `super()`, once they are mixed in

    from grpo_colab.policy.policy import Policy
    from grpo_colab.tasks import Message
    from grpo_colab.training.setup import GRPOSetup
else:
    Trainer = object

STATE_FILE: Final = "sampling.json"  # in a checkpoint
# The losses of GRPOConfig.loss_type whose divisor a completion without a gradient is part of, and which part.
PER_SEQUENCE: Final = ("grpo", "dr_grpo", "sapo", "luspo")
PER_TOKEN: Final = ("bnpo",)


class SamplingMixin(Trainer):
    """Sample the groups that `practice` wants of a step, and give TRL those that it chose.

    It stands before RowsMixin, and ReplayMixin behind everything else.
    """

    practice: Practice
    _replayed: list[Sample] | None
    training_rows: HintedRows
    num_generations: int

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
        if not self.practice.active:
            return super()._generate_and_score_completions(inputs)
        from accelerate.utils import gather_object

        offered = gather_object([one["prompt"] for one in inputs])[:: self.num_generations]
        groups, metrics = self.practice.choose(offered, self.state.global_step, self._sample_groups)
        for name, value in metrics.items():
            self._metrics["train"][name].append(value)
        self._replayed = [sample for group in groups for sample in group.samples]
        rows = self._my_share([group.index for group in groups for _ in group.samples])
        try:
            return super()._generate_and_score_completions([{"prompt": row} for row in rows])
        finally:
            self._replayed = None

    def _sample_groups(self, rows: list[Index]) -> list[Group]:
        """Return a group of completions, with their rewards, for each of these training rows."""
        from accelerate.utils import gather_object

        size = self.practice.samples
        asked = list(rows)
        while len(asked) * size % self.accelerator.num_processes:  # every process samples as many
            asked.append(rows[0])
        repeated = self._my_share([row for row in asked for _ in range(size)])
        inputs = [copy.deepcopy(self.training_rows[row]) for row in repeated]
        prompts = [one["prompt"] for one in inputs]
        _, ids, _, completions, logprobs, *_ = self._generate(prompts)
        paid = self._calculate_rewards(inputs, prompts, completions, ids)
        extra = self._pending_extra_logs
        mine = [
            {
                "ids": ids[place],
                "completion": completions[place],
                "logprobs": None if logprobs is None else logprobs[place],
                "extra": {name: values[place] for name, values in extra.items() if len(values) == len(ids)},
            }
            for place in range(len(ids))
        ]
        extra.clear()
        given = [index if isinstance(index, tuple) else (index, 0) for index in asked]
        samples = []
        for place, (stored, rewards) in enumerate(zip(gather_object(mine), paid.tolist(), strict=True)):
            judged = [None if math.isnan(value) else value for value in rewards]
            right = self.practice.is_right(given[place // size][0], text_of(stored["completion"]), judged)
            samples.append(Sample(**stored, rewards=judged, right=right))
        groups = []
        for place, (row, hint) in enumerate(given[: len(rows)]):
            groups.append(Group(row, samples[place * size : (place + 1) * size], hint))
        return groups

    def _my_share(self, values: list[Any]) -> list[Any]:
        """Return this process's part of a list that all processes have: an equal part each, in their order."""
        return share_of(values, self.accelerator.process_index, self.accelerator.num_processes)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.practice.active and self.accelerator.is_main_process:
            step = self.state.global_step
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{step}"
            text = json.dumps(self.practice.state_after(step), default=files.to_jsonable)
            (folder / STATE_FILE).write_text(text, encoding="utf-8")

    def _load_from_checkpoint(self, path: str, model: Any = None) -> None:
        super()._load_from_checkpoint(path, model)
        if self.practice.active and (Path(path) / STATE_FILE).is_file():
            self.practice.load_state_dict(json.loads((Path(path) / STATE_FILE).read_text(encoding="utf-8")))


class MergedGenerationMixin(Trainer):
    """Generate with the adapter merged into the base, where sampling.merge_adapter says so and that is exact.

    It stands before ChunkedGenerationMixin, so that a step's chunks share one merge.
    """

    trained_policy: Policy

    def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
        with self.trained_policy.merged():
            return super()._generate_single_turn(*args, **kwargs)


class ReplayMixin(Trainer):
    """Give TRL chosen completions and their rewards in the place of new ones, and learn from the useful alone.

    It stands last of all mixins, next to TRL's trainer.
    """

    practice: Practice
    _replayed: list[Sample] | None = None

    def _generate(self, prompts: list[Any]) -> Any:
        if self._replayed is None:
            return super()._generate(prompts)
        mine = share_of(self._replayed, self.accelerator.process_index, self.accelerator.num_processes)
        prompt_ids, images, fields = self._tokenize_prompts(prompts)
        logprobs = None if mine[0].logprobs is None else [sample.logprobs for sample in mine]
        completions = [copy.deepcopy(sample.completion) for sample in mine]
        return prompt_ids, [list(sample.ids) for sample in mine], None, completions, logprobs, fields, images, []

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, token_ids: list[list[int]]) -> Any:
        if self._replayed is None:
            return super()._calculate_rewards(inputs, prompts, completions, token_ids)
        import torch

        mine = share_of(self._replayed, self.accelerator.process_index, self.accelerator.num_processes)
        for name in {name for sample in self._replayed for name in sample.extra}:
            self._pending_extra_logs[name].extend(sample.extra.get(name) for sample in mine)
        unjudged = float("nan")
        paid = [[unjudged if value is None else value for value in sample.rewards] for sample in self._replayed]
        return torch.tensor(paid, dtype=torch.float32, device=self.accelerator.device)

    def compute_loss(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if not self.practice.settings.skip_zero_advantage:
            return super().compute_loss(model, inputs, *args, **kwargs)
        kept, scale = useful_rows(inputs, self.loss_type)
        return super().compute_loss(model, kept, *args, **kwargs) * scale


def rows_of(setup: GRPOSetup, rows: Sequence[dict[str, Any]]) -> HintedRows:
    """Return the training set, whose rows are the setup's, once or several times, with hints for those who ask."""
    limit = setup.recipe.prompts.max_prompt_tokens

    def fits(prompt: list[Message]) -> bool:
        return len(setup.policy.prompt_ids(prompt)) <= limit

    return HintedRows(rows, setup.problems, setup.task.hinted_messages, fits)


def practice_of(setup: GRPOSetup, rows: HintedRows) -> Practice:
    """Return what chooses a run's groups from its training set."""
    problems, task, recipe = setup.problems, setup.task, setup.recipe

    named = [parse_reward(name).text.removesuffix("_reward") for name in recipe.rewards]

    def is_right(row: int, completion: str, rewards: Sequence[float | None]) -> bool:
        """Return the verdict on a completion of a training row: what correctness paid, or else the task's own."""
        if "correctness" in named:  # it has run the grader, which may run programs, already
            return rewards[named.index("correctness")] == 1.0
        return task.grade(completion, rows.problem(row)).right

    def hint_of(row: int, done: int) -> int:
        return rows.hint(row, recipe.sampling.hint_share, done / recipe.budget.max_steps)

    features = features_of(problems) * (len(rows) // len(problems))
    step = recipe.budget.prompts_per_step, recipe.grpo["num_generations"]
    seed = int(recipe.grpo.get("seed", 42))  # TRL's own default
    practice = Practice(recipe.sampling, features, seed, list(recipe.rewards.values()), step, is_right, hint_of)
    if recipe.sampling.prior:
        index_of = {problem.question: index for index, problem in enumerate(problems)}
        measured = read_difficulty(recipe.sampling.prior).rows
        found = [(index_of[row["question"]], row) for row in measured if row.get("question") in index_of]
        practice.prompts.begin_with([(index, row["right"], row["samples"] - row["right"]) for index, row in found])
    return practice


def text_of(completion: Any) -> str:
    """Return the text of a completion, which TRL keeps as a text or as a list of messages."""
    return completion if isinstance(completion, str) else completion[-1]["content"]


def share_of(values: list[Any], process: int, processes: int) -> list[Any]:
    """Return the part of a list that belongs to a process, of equal parts in their order."""
    size = len(values) // processes
    return values[process * size : (process + 1) * size]


def useful_rows(inputs: Mapping[str, Any], loss_type: str) -> tuple[dict[str, Any], float]:
    """Return a micro-batch without the completions that have no gradient, and what its loss is then multiplied by.

    `inputs` are TRL's: tensors with a row per completion, and `num_items_in_batch`, which stays. A completion has no
    gradient where its advantage is 0, and where all of it is masked as cut off. One is kept where none has any. A loss
    that is a mean over completions, or over their tokens, would grow by what is left out: so it is scaled back.
    """
    advantages, mask = inputs["advantages"], inputs["completion_mask"]
    useful = (advantages != 0) & (mask.sum(dim=1) > 0)
    if bool(useful.all()):
        return dict(inputs), 1.0
    if not bool(useful.any()):
        useful[0] = True
    rows = len(advantages)
    kept = {
        name: value[useful] if getattr(value, "ndim", 0) and len(value) == rows else value
        for name, value in inputs.items()
    }
    scale = 1.0
    if loss_type in PER_SEQUENCE:
        scale = len(kept["advantages"]) / rows
    elif loss_type in PER_TOKEN:
        scale = float(kept["completion_mask"].sum() / mask.sum().clamp(min=1))
    return kept, scale
