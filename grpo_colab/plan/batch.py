"""Divide a recipe's step into micro-batches that fit a device.

A recipe says how many prompts a step has, and how many completions per prompt. TRL wants a per-device batch size and a
number of accumulation steps. `plan_batch` derives them: one optimiser step is always exactly prompts x completions, and
only the micro-batch (the completions of one backward pass) depends on memory. The estimates here are quick and rough;
those of a whole plan are in `memory`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.text import counted

# The share of the memory left after loading that one backward pass may take. The rest is for generation's KV cache, the
# optimiser, and what the allocator loses.
BACKWARD_SHARE = 0.4


@dataclass(frozen=True)
class BatchPlan:
    """How one optimiser step is divided: completions per step = micro_batch x accumulation x processes."""

    micro_batch: int  # completions in one backward pass
    accumulation: int  # backward passes of one process per step
    processes: int
    prompts_per_step: int
    group: int  # completions per prompt

    @property
    def completions(self) -> int:
        """Return the completions per step, of all processes together."""
        return self.micro_batch * self.accumulation * self.processes

    def as_grpo(self) -> dict[str, int]:
        """Return the arguments of GRPOConfig. The generation batch is one step's completions, TRL's default."""
        return {"per_device_train_batch_size": self.micro_batch, "gradient_accumulation_steps": self.accumulation}

    def __str__(self) -> str:
        """Return the division in one line, such as `2 prompts x 8 completions = 16 per step (...)`."""
        devices = f" x {self.processes} processes" if self.processes > 1 else ""
        return (
            f"{counted(self.prompts_per_step, 'prompt')} x {self.group} completions = {self.completions} per step"
            f" ({self.micro_batch} per backward pass x {self.accumulation} accumulated{devices})"
        )


def plan_batch(recipe: Recipe, processes: int, model_config: Any = None, memory_bytes: int = 0) -> BatchPlan:
    """Divide the recipe's step into micro-batches.

    The micro-batch is `budget.micro_batch` or, where that is 0, the largest that divides one process's step and fits
    the memory. `memory_bytes` is the device's memory left after loading, and a backward pass may take only
    BACKWARD_SHARE of it. `model_config` is the model's configuration in transformers. With it the micro-batch is at
    least one completion, also for 0 `memory_bytes`. Without it, the whole step of one process counts as fitting.

    Raises SettingError when the step does not divide among the processes, or budget.micro_batch does not divide it.
    """
    total = recipe.completions_per_step
    if total % processes:
        raise SettingError(
            f"the step's {total} completions do not divide among {processes} processes",
            setting="budget.prompts_per_step",
            value=recipe.budget.prompts_per_step,
            remedy=f"make budget.prompts_per_step x grpo.num_generations a multiple of {processes}",
        )
    per_process = total // processes
    micro_batch = recipe.budget.micro_batch
    if micro_batch and per_process % micro_batch:
        raise SettingError(
            f"does not divide the {counted(per_process, 'completion')} that one process has per step",
            setting="budget.micro_batch",
            value=micro_batch,
            remedy=f"write one of {', '.join(map(str, divisors(per_process)))}",
        )
    if not micro_batch:
        fits_memory = per_process
        if model_config is not None:
            tokens = recipe.prompts.max_prompt_tokens + recipe.grpo["max_completion_length"]
            sequence_bytes = backward_bytes(model_config.get_text_config(), tokens)
            fits_memory = max(1, int(BACKWARD_SHARE * memory_bytes / sequence_bytes))
        micro_batch = max(divisor for divisor in divisors(per_process) if divisor <= fits_memory)
    return BatchPlan(
        micro_batch=micro_batch,
        accumulation=per_process // micro_batch,
        processes=processes,
        prompts_per_step=recipe.budget.prompts_per_step,
        group=recipe.grpo["num_generations"],
    )


def backward_bytes(config: Any, tokens: int) -> int:
    """Return a rough upper estimate of one sequence's forward and backward pass with gradient checkpointing, in bytes.

    `config` is the configuration of the model's text part, and `tokens` the length of prompt and completion.
    Checkpointing keeps one hidden state per layer. Beside these there are one layer's activations, about 16 hidden and
    6 feed-forward widths per token. All of these numbers have 2 bytes. The logits of all tokens of the sequence count
    in float32, with their gradient. A missing `intermediate_size` counts as 4 hidden widths.
    """
    hidden = config.hidden_size
    inner = getattr(config, "intermediate_size", 4 * hidden)
    kept = config.num_hidden_layers * hidden * 2
    live = (16 * hidden + 6 * inner) * 2
    logits = 2 * config.vocab_size * 4
    return tokens * (kept + live + logits)


def divisors(n: int) -> list[int]:
    """Return the divisors of a positive integer, in ascending order."""
    return [d for d in range(1, n + 1) if n % d == 0]
