"""Drawing: grids of ten colours, programs that draw them, and pictures of both. Nothing here needs torch.

The task and its rewards are imported on demand, because `tiny` and `reporting` need only canvases and pictures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grpo_colab.tasks.drawing.task import Drawing, exact_reward, foreground_reward, pixels_reward

__all__ = ["Drawing", "exact_reward", "foreground_reward", "pixels_reward"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from grpo_colab.tasks.drawing import task

    return getattr(task, name)


def __dir__() -> list[str]:
    return __all__
