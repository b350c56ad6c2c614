"""How a recipe's step is cut to fit a machine.

A recipe says prompts a step and completions a prompt. TRL wants a per-device batch, accumulation steps and a generation
batch; `geometry` derives them, so that one optimiser step is always exactly prompts x completions and only the
micro-batch (completions in one backward pass) depends on memory.
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

GIB = 2**30
# Share of the memory left after loading that one backward pass may take; the rest is for generation's KV cache, the
# optimiser, and what the allocator loses.
BACKWARD_SHARE = 0.4
GENERATION_SHARE = 0.4  # likewise, that the KV cache of an evaluation's answers may take
# What a run folder needs beside the adapter and the checkpoints: logs, samples, a picture; and each of those five has
# the tokenizer's files, some 17 MiB where the vocabulary is large.
RUN_FOLDER_BYTES = 2 * 2**20
HUB_TOKENIZER_BYTES = 17 * 2**20


@dataclass(frozen=True)
class BatchPlan:
    """One optimiser step in TRL's words; completions a step = micro_batch x accumulation x processes."""

    micro_batch: int
    accumulation: int
    processes: int
    prompts_per_step: int
    group: int

    @property
    def completions(self) -> int:
        return self.micro_batch * self.accumulation * self.processes

    def as_grpo(self) -> dict[str, int]:
        """The arguments of GRPOConfig. The generation batch is one step's completions, TRL's default."""
        return {"per_device_train_batch_size": self.micro_batch, "gradient_accumulation_steps": self.accumulation}

    def __str__(self) -> str:
        devices = f" x {self.processes} processes" if self.processes > 1 else ""
        return (
            f"{self.prompts_per_step} prompts x {self.group} completions = {self.completions} a step"
            f" ({self.micro_batch} a backward pass x {self.accumulation} accumulated{devices})"
        )


def plan_batch(recipe: Recipe, processes: int, model_config: Any = None, memory_bytes: int = 0) -> BatchPlan:
    """Cut the recipe's step into micro-batches: the largest that divides it and fits `memory_bytes`.

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
    share = total // processes
    asked = recipe.budget.micro_batch
    if asked:
        if share % asked:
            raise SettingError(
                f"does not divide the {share} completions that one process has per step",
                setting="budget.micro_batch",
                value=asked,
                remedy=f"write one of {', '.join(map(str, divisors(share)))}",
            )
        micro_batch = asked
    else:
        fitting = share
        if model_config is not None:
            tokens = recipe.prompts.max_prompt_tokens + recipe.grpo["max_completion_length"]
            text_config = model_config.get_text_config()
            fitting = max(1, int(BACKWARD_SHARE * memory_bytes / backward_bytes(text_config, tokens)))
        micro_batch = max(divisor for divisor in divisors(share) if divisor <= max(1, fitting))
    return BatchPlan(
        micro_batch, share // micro_batch, processes, recipe.budget.prompts_per_step, recipe.grpo["num_generations"]
    )


def answers_at_once(recipe: Recipe, model_config: Any, memory_bytes: int) -> int:
    """How many held-out problems are answered together: the recipe's word, else what fits with its KV cache."""
    config = model_config.get_text_config()
    heads = config.num_attention_heads
    kv_width = getattr(config, "num_key_value_heads", heads) * config.hidden_size // heads
    return answers_within(recipe, config.num_hidden_layers * kv_width, memory_bytes)


def answers_within(recipe: Recipe, kv_numbers: int, memory_bytes: int) -> int:
    """The same for a model with `kv_numbers` keys and as many values a token, at two bytes each; up to 128."""
    if recipe.evaluation.batch_size:
        return recipe.evaluation.batch_size
    tokens = recipe.prompts.max_prompt_tokens + recipe.max_completion_tokens
    return max(1, min(128, int(GENERATION_SHARE * memory_bytes / (4 * kv_numbers * tokens))))


def backward_bytes(config: Any, tokens: int) -> int:
    """A rough upper estimate of one sequence's forward and backward pass with gradient checkpointing, in bytes.

    Kept: one hidden state a layer. Live: one layer's activations (about 16 hidden + 6 feed-forward widths a token), and
    the logits of the chunk that is being turned into log-probabilities, in float32, with their gradient.
    """
    width, inner = config.hidden_size, getattr(config, "intermediate_size", 4 * config.hidden_size)
    kept = config.num_hidden_layers * width * 2
    live = (16 * width + 6 * inner) * 2
    logits = 2 * config.vocab_size * 4
    return tokens * (kept + live + logits)


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def adapter_bytes(recipe: Recipe) -> int:
    """What the adapter and its checkpoints (weights and two moments each, float32) take on the disk, in bytes.

    There are up to four: the last two, the best, and the one that is being written.

    The shapes come from a local config.json; without one (a model on the hub) those of an 8B Llama are assumed.
    """
    path = Path(recipe.model_path) / "config.json"
    config: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError, RecursionError):  # what is wrong with it, its loader says
        config = dict(json.loads(read_bytes(path, follow=True)))  # in a hub's cache it is a link
    given = {key: number(config.get(key)) for key in ("hidden_size", "intermediate_size", "num_hidden_layers")}
    hidden, inner, layers = (int(given[key] or usual) for key, usual in zip(given, (4096, 14336, 32), strict=True))
    parameters = layers * recipe.lora.get("r", 16) * (4 * 2 * hidden + 3 * (hidden + inner))
    return parameters * 4 * (1 + 4 * 3) + (0 if config else 5 * HUB_TOKENIZER_BYTES)


def check_disk(recipe: Recipe, out: Path) -> None:
    """Raise SettingError when the disk under `out` cannot hold the run."""
    folder = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.exists())
    free, needed = shutil.disk_usage(folder).free, adapter_bytes(recipe) + RUN_FOLDER_BYTES
    if free < needed:
        raise SettingError(
            f"has {free / 2**20:.0f} MiB free, but the adapter and its checkpoints need "
            f"{math.ceil(needed / 2**20)} MiB",
            setting="--out",
            value=str(out),
            remedy="free some space, or choose another disk",
        )
