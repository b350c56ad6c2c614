"""Whether a recipe can be trained here, asked before anything is downloaded: `grpo-colab doctor`.

No check raises, asks a person, or waits longer than its limit. unsloth, trl, transformers and peft stay unimported, so
that unsloth can still come first. Their versions are read off their metadata, and vLLM, whose import may crash, is
tried in a process of its own. `import unsloth` is not tried: it takes a quarter of a minute and memory on the card, and
what would break it is looked at by itself.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpo_colab.doctor.findings as limits
from grpo_colab.doctor import packages
from grpo_colab.doctor.findings import COLOURS, Answer, Check, Probe, ok, safe, tried, warning
from grpo_colab.doctor.hardware import (
    cards_here,
    check_bfloat16,
    check_capability,
    check_disk,
    check_driver,
    check_gpu,
    check_gpu_memory,
    check_model_cache,
    check_other_runs,
    check_ram,
    check_torch,
)
from grpo_colab.doctor.network import check_data, check_hf_token, check_model, check_wandb
from grpo_colab.doctor.packages import (
    check_conflicts,
    check_import_order,
    check_in_memory,
    check_packages,
    check_python,
    check_vllm,
)
from grpo_colab.errors import one_line
from grpo_colab.recipe.recipe import Recipe

CHECKS: Final[tuple[Callable[[Probe], Answer], ...]] = (
    check_python,
    check_packages,
    check_conflicts,
    check_in_memory,
    check_import_order,
    check_gpu,
    check_torch,
    check_driver,
    check_capability,
    check_bfloat16,
    check_gpu_memory,
    check_vllm,
    check_disk,
    check_model_cache,
    check_ram,
    check_hf_token,
    check_model,
    check_data,
    check_wandb,
    check_other_runs,
)
OF_A_CARD: Final = (check_driver, check_capability, check_bfloat16, check_gpu_memory)


def doctor(recipe: Recipe | None = None) -> list[Check]:
    """Return a line per check: of the machine, of the environment and, with a recipe, of what that needs as well."""
    torch = tried(limits.LIMIT_S * 3, importlib.import_module, "torch")
    cuda = hasattr(torch, "cuda") and tried(limits.LIMIT_S, torch.cuda.is_available) is True
    told = tried(limits.LIMIT_S, cards_here, torch if cuda else None)
    cards, trouble = ([], one_line(told)) if isinstance(told, Exception) else told
    probe = Probe(recipe, cards, trouble, torch, cuda)
    with ThreadPoolExecutor(len(CHECKS)) as pool:  # side by side: what waits, waits for the world
        return list(pool.map(_checked, CHECKS, [probe] * len(CHECKS)))


def doctor_text(checks: list[Check], colour: bool = False) -> str:
    """Return the checks in aligned lines, each with its advice below it, and how many of them are not ok."""
    width, lines = max(len(check.name) for check in checks) + 2, []
    for check in checks:
        mark = f"\033[{COLOURS[check.state]}m{check.state:<9}\033[0m" if colour else f"{check.state:<9}"
        lines += [f"{mark}{check.name:<{width}}{check.found}"]
        lines += [f"{'':<{width + 9}}-> {check.advice}"] if check.advice else []
    warnings, broken = ([check.state for check in checks].count(state) for state in ("warning", "broken"))
    counts = [f"{warnings} warning{'s' * (warnings > 1)}"] * bool(warnings) + [f"{broken} broken"] * bool(broken)
    return "\n".join([*lines, ", ".join(counts) or "All is well"])


def _checked(check: Callable[[Probe], Answer], probe: Probe) -> Check:
    """Return a check's line, whatever it raises and however long it takes."""
    answer: Any = ok("no card")
    if probe.cards or check not in OF_A_CARD:
        answer = tried(packages.VLLM_S + limits.LIMIT_S if check is check_vllm else limits.LIMIT_S, check, probe)
    if isinstance(answer, ModuleNotFoundError):
        answer = warning(f"{answer.name} is not installed", '`pip install "grpo_colab[train]"`')
    elif isinstance(answer, Exception):
        answer = warning(f"could not be looked at ({one_line(answer)})", "look at it yourself, or go on without")
    state, found, advice = answer
    name = check.__name__.removeprefix("check_").replace("_", " ")
    return Check(name, state, safe(found, probe), safe(advice, probe))
