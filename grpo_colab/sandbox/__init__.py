"""Run programs that a model wrote, in processes that cannot harm this machine.

    from grpo_colab.sandbox import Sandbox
    Sandbox().run(["print(1 + 1)"])

The names are imported on demand, because the workers import this package, too, and need only some of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grpo_colab.sandbox.code_blocks import python_code
    from grpo_colab.sandbox.sandbox import Exam, Outcome, Sandbox

__all__ = ["Exam", "Outcome", "Sandbox", "python_code"]

_HOMES = {"Exam": "sandbox", "Outcome": "sandbox", "Sandbox": "sandbox", "python_code": "code_blocks"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"grpo_colab.sandbox.{_HOMES[name]}"), name)
