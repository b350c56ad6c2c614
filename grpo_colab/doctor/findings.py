"""What a check finds, and the limits within which it looks: nothing here raises, or waits for longer."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.text import masked, on_one_line
from grpo_colab.utils import hub
from grpo_colab.utils.timeouts import run_with_timeout

ANSWER_S = 5.0  # for an answer from outside
LIMIT_S = 20.0  # for a whole check, with what it imports
COLOURS: Final = {"ok": 32, "warning": 33, "broken": 31}

State = Literal["ok", "warning", "broken"]
Answer = tuple[State, str, str]


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, its state, what was found, and what to do about it unless it is ok."""

    name: str
    state: State
    found: str
    advice: str


class Card(NamedTuple):
    """A GPU that this process may use, as nvidia-smi tells it; memory in MiB, and 0, "" or () where it is not told."""

    name: str
    total: float
    free: float
    driver: str
    capability: tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """What several checks look at."""

    recipe: Recipe | None
    cards: list[Card]
    trouble: str  # what nvidia-smi says where it tells of no card
    torch: Any  # the module, or the exception that its import raised
    cuda: bool  # whether torch can use a card

    def model(self, key: str) -> Any:
        return self.recipe.model.get(key) if self.recipe else None

    @property
    def hub_name(self) -> str:
        """Return the name of the recipe's model where it has to come from the hub, or an empty string."""
        return "" if not self.recipe or hub.is_local(self.recipe.model_path) else self.recipe.model_path

    @property
    def wants_vllm(self) -> bool:
        return bool(self.model("fast_inference")) and self.cuda

    @property
    def built_for(self) -> str:
        """Return the version of CUDA that torch is built for, or an empty string."""
        return getattr(getattr(self.torch, "version", None), "cuda", None) or ""


def ok(found: str) -> Answer:
    return "ok", found, ""


def warning(found: str, advice: str) -> Answer:
    return "warning", found, advice


def broken(found: str, advice: str) -> Answer:
    return "broken", found, advice


def refused(error: Exception) -> Answer:
    """Return the answer of a check that raised this error: what a SettingError says is broken, and its remedy."""
    if not isinstance(error, SettingError):
        raise error
    remedy = error.remedy or ""
    return broken(str(error).removesuffix(f"; {remedy}"), remedy)


def tried(limit_s: float, function: Callable[..., Any], *args: Any) -> Any:
    """Return what a function returns, or the exception that it raised. TimeoutError when it took longer."""
    try:
        return run_with_timeout(limit_s, function, *args)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return error


def run(limit_s: float, *command: str) -> str:
    """Return what a program prints; CalledProcessError or TimeoutExpired with what it printed until then."""
    text: Any = {"text": True, "errors": "replace", "stdin": subprocess.DEVNULL}
    return subprocess.run(command, capture_output=True, timeout=limit_s, check=True, **text).stdout


def numbers(text: str) -> tuple[int, ...]:
    """Return the whole numbers in a text: a version, say."""
    return tuple(map(int, re.findall(r"\d+", text)))


def safe(text: str, probe: Probe) -> str:
    """Return a text on one line, without a terminal's escapes, and without a secret that some error quoted."""
    secrets = [value for name, value in os.environ.items() if re.search("TOKEN|KEY|SECRET|PASSWORD", name)]
    for secret in (*secrets, str(probe.model("token") or "")):
        text = text.replace(secret, "***") if len(secret) >= 8 else text
    return on_one_line(masked(text))
