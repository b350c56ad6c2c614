"""Divide a recipe's step into micro-batches that fit a machine, and check that the disk can hold the run.

A recipe says how many prompts a step has, and how many completions a prompt. TRL wants a per-device batch size and a
number of accumulation steps. `plan_batch` derives them: one optimiser step is always exactly prompts x completions, and
only the micro-batch (the completions of one backward pass) depends on memory. The estimates here are quick and rough;
those of a whole plan are in `memory`.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.utils.files import number, read_bytes

# The share of the memory left after loading that one backward pass may take. The rest is for generation's KV cache, the
# optimiser, and what the allocator loses.
BACKWARD_SHARE = 0.4
GENERATION_SHARE = 0.4  # the share of it that the KV cache of an evaluation may take
ANSWERS_AT_ONCE = 128  # at most
# Beside the adapter and up to four checkpoints a run folder needs room for logs, samples and a picture. The adapter and
# each checkpoint come with the tokenizer's files, some 17 MiB where the vocabulary is large.
RUN_FOLDER_BYTES = 2 * 2**20
HUB_TOKENIZER_BYTES = 17 * 2**20
CHECKPOINTS = 4  # the last two, the best, and the one that is being written
# What an 8B Llama has, for a model whose config.json is on the hub.
LLAMA_8B = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}


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
        """Return the division in one line, such as `2 prompts x 8 completions = 16 a step (...)`."""
        devices = f" x {self.processes} processes" if self.processes > 1 else ""
        return (
            f"{self.prompts_per_step} prompts x {self.group} completions = {self.completions} a step"
            f" ({self.micro_batch} a backward pass x {self.accumulation} accumulated{devices})"
        )


def plan_batch(recipe: Recipe, processes: int, model_config: Any = None, memory_bytes: int = 0) -> BatchPlan:
    """Divide the recipe's step into micro-batches.

    The micro-batch is `budget.micro_batch` or, where that is 0, the largest that divides the step and fits
    `memory_bytes`, the memory left after loading. Without a `model_config` it is the whole step of one process.

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
            f"does not divide the {per_process} completions that one process has per step",
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


def answers_at_once(recipe: Recipe, model_config: Any, memory_bytes: int) -> int:
    """Return how many held-out problems are answered together.

    That is `evaluation.batch_size` or, where it is 0, as many as have room for their KV cache in `memory_bytes`.
    """
    config = model_config.get_text_config()
    heads = config.num_attention_heads
    kv_width = getattr(config, "num_key_value_heads", heads) * config.hidden_size // heads
    return answers_at_once_by_width(recipe, config.num_hidden_layers * kv_width, memory_bytes)


def answers_at_once_by_width(recipe: Recipe, kv_width: int, memory_bytes: int) -> int:
    """Return the same as `answers_at_once`, for a model of which only the KV width is known.

    `kv_width` counts the numbers that all layers together keep as keys per token. There are as many values, and each
    number takes two bytes.
    """
    if recipe.evaluation.batch_size:
        return recipe.evaluation.batch_size
    tokens = recipe.prompts.max_prompt_tokens + recipe.max_completion_tokens
    fits_memory = int(GENERATION_SHARE * memory_bytes / (4 * kv_width * tokens))
    return max(1, min(ANSWERS_AT_ONCE, fits_memory))


def backward_bytes(config: Any, tokens: int) -> int:
    """Return a rough upper estimate of one sequence's forward and backward pass with gradient checkpointing, in bytes.

    Checkpointing keeps one hidden state per layer. Beside these there are one layer's activations (about 16 hidden and
    6 feed-forward widths per token), and the logits of the chunk that is being turned into log-probabilities, in
    float32, with their gradient.
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


def adapter_bytes(recipe: Recipe) -> int:
    """Return what the adapter and its checkpoints take on the disk, in bytes.

    A checkpoint has the weights and AdamW's two moments, all in float32. The widths come from a local config.json;
    without one (a model on the hub) those of an 8B Llama are assumed.
    """
    config: dict[str, Any] = {}
    # The loader reports what is wrong with a config.json. In a hub's cache the file is a link.
    with contextlib.suppress(OSError, ValueError, RecursionError):
        config = dict(json.loads(read_bytes(Path(recipe.model_path) / "config.json", follow=True)))
    sizes = {key: int(number(config.get(key)) or usual) for key, usual in LLAMA_8B.items()}
    hidden, inner = sizes["hidden_size"], sizes["intermediate_size"]
    parameters = sizes["num_hidden_layers"] * recipe.lora.get("r", 16) * (4 * 2 * hidden + 3 * (hidden + inner))
    tokenizers = 0 if config else (1 + CHECKPOINTS) * HUB_TOKENIZER_BYTES
    return parameters * 4 * (1 + CHECKPOINTS * 3) + tokenizers


def check_disk(recipe: Recipe, out: Path) -> None:
    """Raise SettingError when the disk under `out`, which need not exist yet, cannot hold the run."""
    out_absolute = out.absolute()
    folder = next(parent for parent in (out_absolute, *out_absolute.parents) if parent.exists())
    free = shutil.disk_usage(folder).free
    needed = adapter_bytes(recipe) + RUN_FOLDER_BYTES
    if free < needed:
        raise SettingError(
            f"has {free / 2**20:.0f} MiB free, but the adapter and its checkpoints need "
            f"{math.ceil(needed / 2**20)} MiB",
            setting="--out",
            value=str(out),
            remedy="free some space, or choose another disk",
        )
