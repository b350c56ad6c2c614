"""environment.json: the machine, the versions and the seeds that a run began with."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs import jsonl_repair
from grpo_colab.runs.run import Run, writing_to
from grpo_colab.text import on_one_line
from grpo_colab.utils import files
from grpo_colab.utils.console import info
from grpo_colab.utils.device import Machine

# The packages whose versions may change a run's numbers.
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "unsloth", "unsloth_zoo")


def keep_environment(run: Run, recipe: Recipe, machine: Machine) -> None:
    """Write environment.json, or warn of what has changed since the run began.

    A damaged one is set aside and written anew. Raises SettingError where it cannot be written.
    """
    path, now = run.path / "environment.json", environment(recipe, machine)
    began = files.read_json(path)
    if began is None:
        with writing_to(run):
            if os.path.lexists(path):
                info(
                    f"Warning: environment.json cannot be read; it is set aside as {jsonl_repair.set_aside(path).name}"
                )
            run.write_json("environment.json", now)
        return
    before, after = _flat(began), _flat(now)
    changed = [f"{name} {before.get(name)} -> {value}" for name, value in after.items() if before.get(name) != value]
    if changed:
        also = on_one_line(", ".join(changed))
        info(f"Warning: this run began elsewhere, so that it goes on, but not to the last digit: {also}")


def _flat(environment: dict[str, Any]) -> dict[str, Any]:
    """Return the versions, the device's name and the number of processes; None for what a damaged file lacks."""
    versions, device = (
        found if isinstance(found := environment.get(key), dict) else {} for key in ("versions", "device")
    )
    return {**versions, "device": device.get("name"), "processes": environment.get("processes")}


def environment(recipe: Recipe, machine: Machine) -> dict[str, Any]:
    """Return the content of environment.json. Tokens in the command line are masked."""
    versions: dict[str, str | None] = {}
    for name in ("grpo_colab", *PACKAGES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "device": {"kind": machine.kind, "name": machine.name, "capability": machine.capability, "bf16": machine.bf16},
        "processes": machine.processes,
        "seeds": {"grpo": recipe.grpo["seed"], "task": recipe.task["seed"], "lora": recipe.lora["random_state"]},
        "command": recipe.without_tokens(sys.argv),
    }
