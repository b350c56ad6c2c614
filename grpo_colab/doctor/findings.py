"""Define what a check gets and returns, and the helpers that checks share."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from grpo_colab.errors import SettingError
from grpo_colab.plan.model_shape import bits
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.text import masked, on_one_line
from grpo_colab.utils import hub
from grpo_colab.utils.timeouts import run_with_timeout

COLOURS: Final = {"ok": 32, "warning": 33, "broken": 31}

State = Literal["ok", "warning", "broken"]
Answer = tuple[State, str, str]  # state, what was found, what to do about it


@dataclass(frozen=True)
class Check:
    """One line of the doctor's output."""

    name: str
    state: State
    found: str
    advice: str  # what to do about it; empty where the state is ok


class Card(NamedTuple):
    """A GPU that this process may use, as nvidia-smi reports it. What it does not report is 0, "" or ()."""

    name: str
    total: float  # memory in MiB
    free: float  # memory in MiB
    driver: str
    capability: tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """What a check is given: the recipe, and what was found out about GPUs and torch."""

    recipe: Recipe | None
    cards: list[Card]
    trouble: str  # why nvidia-smi reports no GPU, in its own words; may be empty
    torch: Any  # the module, or the exception that its import raised
    cuda: bool  # whether torch can use a GPU

    def model(self, key: str) -> Any:
        """Return a setting of the recipe's [model] table, or None."""
        return self.recipe.model.get(key) if self.recipe else None

    @property
    def in_4_bits(self) -> bool:
        """Tell whether the recipe's model is loaded in 4 bits on a GPU, as Unsloth does unless it is told otherwise."""
        return self.recipe is not None and bits(self.recipe) == 4

    @property
    def hub_name(self) -> str:
        """Return the name of the recipe's model if it comes from the hub, or an empty string."""
        if self.recipe is None or hub.is_local(self.recipe.model_path):
            return ""
        return self.recipe.model_path

    @property
    def wants_vllm(self) -> bool:
        """Tell whether the recipe asks for vLLM on a machine with a GPU."""
        return bool(self.model("fast_inference")) and self.cuda

    @property
    def built_for(self) -> str:
        """Return the CUDA version that torch is built for, or an empty string."""
        return getattr(getattr(self.torch, "version", None), "cuda", None) or ""


def ok(found: str) -> Answer:
    """Return the answer that all is well."""
    return "ok", found, ""


def warning(found: str, advice: str) -> Answer:
    """Return the answer that a run may suffer from what was found."""
    return "warning", found, advice


def broken(found: str, advice: str) -> Answer:
    """Return the answer that no run can work as things are."""
    return "broken", found, advice


def refused(error: Exception) -> Answer:
    """Return the answer for a SettingError: its message is what is broken, and its remedy the advice.

    Raises any other error that is passed.
    """
    if not isinstance(error, SettingError):
        raise error
    remedy = error.remedy or ""
    return broken(str(error).removesuffix(f"; {remedy}"), remedy)


def tried(limit_s: float, function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns, or the exception that it raises.

    Returns a TimeoutError after `limit_s` seconds. The function then goes on in a thread that is left alone. An exit
    that the function asks for is returned as a RuntimeError.
    """
    try:
        return run_with_timeout(limit_s, function, *args)
    except Exception as error:  # noqa: BLE001 - any error is a finding
        return error


def run(limit_s: float, *command: str) -> str:
    """Run a program without input, and return what it prints on stdout.

    Raises CalledProcessError for a status that is not 0 and, after `limit_s` seconds, TimeoutExpired; the program is
    then killed. Both have what it printed until then. Raises OSError where it cannot be started.
    """
    text: Any = {"text": True, "errors": "replace", "stdin": subprocess.DEVNULL}
    return subprocess.run(command, capture_output=True, timeout=limit_s, check=True, **text).stdout


def numbers(text: str) -> tuple[int, ...]:
    """Return the whole numbers in a text, such as a version; an empty tuple where it has none."""
    return tuple(map(int, re.findall(r"\d+", text)))


def safe(text: str, probe: Probe) -> str:
    """Return a text on one line, with control characters shown as text and secrets masked, as an error may quote both.

    The secrets are API keys of known forms, the recipe's token, and what the environment has under names such as TOKEN
    or KEY, from 8 characters on.
    """
    secrets = [value for name, value in os.environ.items() if re.search("TOKEN|KEY|SECRET|PASSWORD", name)]
    for secret in (*secrets, str(probe.model("token") or "")):
        text = text.replace(secret, "***") if len(secret) >= 8 else text
    return on_one_line(masked(text))
