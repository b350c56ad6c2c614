"""Teach an open model to reason by reinforcement learning on the one GPU that you have.

    from grpo_colab import Recipe, train
    run = train(Recipe.load("gsm8k-llama31-8b"))

    from grpo_colab import draw
    runs = draw("12-squares", "both")

    from grpo_colab.rewards import correctness_reward  # needs no torch

Importing this package costs milliseconds; what is heavy is imported when it is used.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grpo_colab.draw import draw
    from grpo_colab.recipe import Recipe
    from grpo_colab.run import Run
    from grpo_colab.train import train

__all__ = ["Recipe", "Run", "draw", "train"]

_HOMES = {"Recipe": "grpo_colab.recipe", "Run": "grpo_colab.run"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


class _Package(types.ModuleType):
    """`grpo_colab.train` is the function, also after something has imported the file of that name; so is `draw`.

    Importing a submodule sets it as an attribute of its package; without this, `from grpo_colab import train` would be
    the function or the module depending on what was imported before.
    """

    @property
    def train(self) -> Any:
        return importlib.import_module("grpo_colab.train").train

    @train.setter
    def train(self, module: types.ModuleType) -> None:
        pass

    @property
    def draw(self) -> Any:
        return importlib.import_module("grpo_colab.draw").draw

    @draw.setter
    def draw(self, module: types.ModuleType) -> None:
        pass


sys.modules[__name__].__class__ = _Package
