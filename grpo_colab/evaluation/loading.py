"""Import the libraries and load a policy for what is asked outside of a run, with a bar for what takes its time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.utils.library_output import library_lines_once
from grpo_colab.utils.stage import stage

if TYPE_CHECKING:
    from grpo_colab.policy.policy import Policy
    from grpo_colab.utils.device import Device


def show_import() -> None:
    """Import Unsloth, with a bar where that takes time. Raises SettingError as `import_unsloth` does."""
    from grpo_colab.utils.stack import import_unsloth

    if "unsloth" in sys.modules:
        import_unsloth()
        return
    with stage("Importing torch and Unsloth", remember="import", ticking=True), library_lines_once():
        import_unsloth()


def show_loading(recipe: Recipe, device: Device, adapter: Path | None = None) -> Policy:
    """Return the recipe's policy with a new adapter, or with the one in the folder `adapter`; a bar is shown meanwhile.

    Unsloth must be imported. Raises SettingError as `load_policy` does.
    """
    from grpo_colab.policy.loading import load_policy

    name = recipe.model["model_name"]
    with stage(f"Loading {name} on {device.name}", remember=f"load {name}", ticking=True), library_lines_once():
        return load_policy(recipe, device, adapter)
