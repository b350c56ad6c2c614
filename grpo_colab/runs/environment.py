"""Write environment.json, the machine, versions and seeds of a run, and compare it when the run is resumed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs import jsonl_repair
from grpo_colab.runs.run import Run, writing_to
from grpo_colab.utils import files
from grpo_colab.utils.console import warn
from grpo_colab.utils.device import Device

# The packages whose versions may change a run's numbers.
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "unsloth", "unsloth_zoo")


def keep_environment(run: Run, recipe: Recipe, device: Device) -> None:
    """Write environment.json for a new run. For a resumed one, print a warning of what has changed since it began.

    A run is a resumed one if it has that file, which then stays as it is. A damaged file is set aside with a warning,
    and written anew. Raises SettingError where it cannot be written.
    """
    path, current = run.path / "environment.json", environment(recipe, device)
    original = files.read_json(path)
    if original is None:
        with writing_to(run):
            if os.path.lexists(path):
                aside = jsonl_repair.set_damaged_aside(path)
                warn(f"environment.json cannot be read; it is set aside as {aside.name}")
            run.write_json("environment.json", current)
        return
    before, after = _compared_values(original), _compared_values(current)
    changed = [f"{name} {before.get(name)} -> {value}" for name, value in after.items() if before.get(name) != value]
    if changed:
        effect = "this run began in another environment, so its metrics will differ in the last digits"
        warn(f"{effect}: {', '.join(changed)}")


def _compared_values(environment: dict[str, Any]) -> dict[str, Any]:
    """Return what is compared of the content of environment.json.

    That is each package's version under its name, the device's name as "device", and the number of processes as
    "processes". Of a damaged file, missing versions are left out, and the other two are None.
    """
    versions, device = environment.get("versions"), environment.get("device")
    versions = versions if isinstance(versions, dict) else {}
    device = device if isinstance(device, dict) else {}
    return {**versions, "device": device.get("name"), "processes": environment.get("processes")}


def environment(recipe: Recipe, device: Device) -> dict[str, Any]:
    """Return the content of environment.json for this process. Nothing is written.

    The version of a package that is not installed is None. Tokens in the command line are masked.
    """
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
        "device": {"kind": device.kind, "name": device.name, "capability": device.capability, "bf16": device.bf16},
        "processes": device.processes,
        "seeds": {"grpo": recipe.grpo["seed"], "task": recipe.task["seed"], "lora": recipe.lora["random_state"]},
        "command": recipe.without_tokens(sys.argv),
    }


def own_version() -> str:
    """Return this package's version; "of a checkout" where it is not installed."""
    try:
        return importlib.metadata.version("grpo_colab")
    except importlib.metadata.PackageNotFoundError:
        return "of a checkout"
