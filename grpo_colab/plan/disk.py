"""Estimate what a run takes on the disk, and refuse a disk that cannot hold it."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.utils.files import number, read_bytes

if TYPE_CHECKING:
    from grpo_colab.plan import Plan

# Beside the adapter and up to four checkpoints a run folder needs room for logs, samples and a picture. The adapter and
# each checkpoint come with the tokenizer's files, some 17 MiB where the vocabulary is large.
RUN_FOLDER_BYTES = 2 * 2**20
HUB_TOKENIZER_BYTES = 17 * 2**20
CHECKPOINTS = 4  # the last two, the best, and the one that is being written
# What an 8B Llama has, for a model whose config.json is on the hub.
LLAMA_8B = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}


def adapter_bytes(recipe: Recipe) -> int:
    """Return what the adapter and its checkpoints take on the disk, in bytes.

    A checkpoint has the weights and AdamW's two moments, all in float32. The widths come from a local config.json.
    Those of an 8B Llama are assumed for what it does not tell, and for all where it is missing (a model on the hub) or
    damaged; the tokenizer's files then count as well. Nothing is raised for a config.json that cannot be read.
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


def checkpoint_bytes(plan: Plan) -> int:
    """Return about what one checkpoint of a planned run has in bytes: the adapter, its optimiser and the tokenizer."""
    sizes = plan.peaks["backward"]
    return sizes.get("adapter", 0) + sizes.get("optimiser", 0) + HUB_TOKENIZER_BYTES


def mirror_copies(recipe: Recipe, hours: float, step_s: float) -> int:
    """Return how many copies a mirror gets at most in one session of a run that takes `hours`, the last one included.

    `step_s` are the seconds of a step. There are never more copies than checkpoints: after the first step, every
    grpo.save_steps and every budget.save_minutes.
    """
    budget = recipe.budget
    hours = min(hours, budget.max_hours or hours)
    steps = min(budget.max_steps, hours * 3600 / max(step_s, 1e-9))
    save_steps = recipe.grpo.get("save_steps", 20)
    checkpoints = steps / max(1, save_steps if save_steps >= 1 else save_steps * budget.max_steps)  # a share of them
    if budget.save_minutes:
        checkpoints += hours * 60 / budget.save_minutes
    copies = min(checkpoints, steps)
    if budget.mirror_minutes:
        copies = min(copies, hours * 60 / budget.mirror_minutes)
    return 2 + math.floor(copies)


def check_disk(recipe: Recipe, out: Path) -> None:
    """Raise SettingError when the disk under `out`, which need not exist yet, cannot hold the run.

    Nothing is written. Raises OSError where the disk cannot be asked.
    """
    _, free = free_bytes(out)
    needed = adapter_bytes(recipe) + RUN_FOLDER_BYTES
    if free < needed:
        raise SettingError(
            f"has {free / 2**20:.0f} MiB free, but the adapter and its checkpoints need "
            f"{math.ceil(needed / 2**20)} MiB",
            setting="--out",
            value=str(out),
            remedy="free some space, or choose another disk",
        )


def free_bytes(path: Path) -> tuple[Path, int]:
    """Return the nearest folder above `path` that exists, or `path` itself, and the free bytes of its disk.

    Raises OSError where the disk cannot be asked.
    """
    absolute = path.absolute()
    folder = next(parent for parent in (absolute, *absolute.parents) if parent.exists())
    return folder, shutil.disk_usage(folder).free
