"""Run all checks of whether a recipe can be trained here, before anything is downloaded: `grpo-colab doctor`.

No check raises, asks a person, or takes longer than its limit. unsloth, trl, transformers and peft are not imported, so
that unsloth can still come first; their versions are read from their metadata. vLLM, whose import may crash, is
imported in a process of its own. `import unsloth` is not tried: it takes a quarter of a minute and memory on the GPU,
and what would break it has checks of its own.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from grpo_colab.doctor import limits
from grpo_colab.doctor.findings import COLOURS, Answer, Check, Probe, ok, safe, tried, warning
from grpo_colab.doctor.fit import check_fit
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
from grpo_colab.doctor.template import check_template
from grpo_colab.errors import one_line
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.text import counted

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
    check_fit,
    check_hf_token,
    check_model,
    check_template,
    check_data,
    check_wandb,
    check_other_runs,
)
# These look at the first GPU, and are skipped where there is none.
GPU_CHECKS: Final = (check_driver, check_capability, check_bfloat16, check_gpu_memory)


def doctor(recipe: Recipe | None = None) -> list[Check]:
    """Return the result of each check: of the machine, of the packages and, with a recipe, of what it needs.

    There is one result per function of CHECKS, in their order. The checks run at the same time, each within its limit.
    torch is imported, other programs are started, and the network is asked. Nothing is printed. Nothing that a check
    raises is raised here: it becomes a warning.
    """
    torch = tried(limits.LIMIT_S * 3, importlib.import_module, "torch")
    cuda = hasattr(torch, "cuda") and tried(limits.LIMIT_S, torch.cuda.is_available) is True
    found = tried(limits.LIMIT_S, cards_here, torch if cuda else None)
    cards, trouble = ([], one_line(found)) if isinstance(found, Exception) else found
    probe = Probe(recipe, cards, trouble, torch, cuda)
    # In threads, since most of their time is spent waiting for the network and for other processes.
    with ThreadPoolExecutor(len(CHECKS)) as pool:
        return list(pool.map(_run_check, CHECKS, [probe] * len(CHECKS)))


def doctor_text(checks: list[Check], colour: bool = False) -> str:
    """Return the checks as aligned lines, each with its advice below it, and a last line that counts the findings.

    Raises ValueError for an empty list. With `colour` the states have a terminal's codes for colours.
    """
    lines = []
    width = max(len(check.name) for check in checks) + 2
    for check in checks:
        state = f"{check.state:<9}"
        if colour:
            state = f"\033[{COLOURS[check.state]}m{state}\033[0m"
        lines.append(f"{state}{check.name:<{width}}{check.found}")
        if check.advice:
            lines.append(f"{'':<{width + 9}}-> {check.advice}")
    warnings = sum(check.state == "warning" for check in checks)
    broken = sum(check.state == "broken" for check in checks)
    counts = []
    if warnings:
        counts.append(counted(warnings, "warning"))
    if broken:
        counts.append(f"{broken} broken")
    lines.append(", ".join(counts) or "All is well")
    return "\n".join(lines)


def _run_check(check: Callable[[Probe], Answer], probe: Probe) -> Check:
    """Run a check within its time limit, and return its result; what it raises becomes a warning.

    A check of GPU_CHECKS is not run where there is no GPU, and its state is then ok. Secrets in the result are masked.
    """
    own: dict[Any, float] = {
        check_vllm: limits.VLLM_S,
        check_template: limits.TEMPLATE_S,
        check_fit: limits.TEMPLATE_S,
    }  # of the processes that they start
    limit_s = own.get(check, 0.0) + limits.LIMIT_S
    answer: Any = ok("no card")
    if probe.cards or check not in GPU_CHECKS:
        answer = tried(limit_s, check, probe)
    if isinstance(answer, ModuleNotFoundError):
        answer = warning(f"{answer.name} is not installed", '`pip install "grpo_colab[train]"`')
    elif isinstance(answer, Exception):
        answer = warning(f"could not be looked at ({one_line(answer)})", "look at it yourself, or go on without")
    state, found, advice = answer
    name = check.__name__.removeprefix("check_").replace("_", " ")
    return Check(name, state, safe(found, probe), safe(advice, probe))
