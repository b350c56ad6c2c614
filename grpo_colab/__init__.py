"""Teach an open model to reason by reinforcement learning on the one GPU that you have.

    from grpo_colab import Recipe, train
    run = train(Recipe.load("gsm8k-llama31-8b"))

    from grpo_colab import draw
    runs = draw("12-squares", "both")

    from grpo_colab import sweep
    found = sweep("word-problems-tiny", grpo={"learning_rate": [2e-4, 4e-4]}, seeds=2)

    from grpo_colab.rewards import correctness_reward  # needs no torch

Importing this package takes milliseconds. Heavy libraries are imported by the functions that need them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grpo_colab.experiments.draw import draw
    from grpo_colab.experiments.sweep import sweep
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.runs.run import Run
    from grpo_colab.training.train import train

__all__ = ["Recipe", "Run", "draw", "sweep", "train"]

# Each public name's module.
_HOMES = {
    "Recipe": "grpo_colab.recipe.recipe",
    "Run": "grpo_colab.runs.run",
    "draw": "grpo_colab.experiments.draw",
    "sweep": "grpo_colab.experiments.sweep",
    "train": "grpo_colab.training.train",
}


def __getattr__(name: str) -> Any:
    """Import the public name `name` from its module, and return it. Raises AttributeError for any other name."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
