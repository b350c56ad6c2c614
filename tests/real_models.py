"""Real pre-trained weights for tests, made once by a script that lies beside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

SCRIPT = Path(__file__).parents[2] / "shared" / "real_models.sh"
MODELS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grpo_colab" / "real-models"


def real_model(what: str, name: str) -> Path:
    """The folder of a real model, which is made if it is not there; the test is skipped where it cannot be."""
    folder = MODELS / name
    MODELS.mkdir(parents=True, exist_ok=True)
    with FileLock(MODELS / f"{name}.lock"):
        if (folder / "model.safetensors").is_file():
            return folder
        if not SCRIPT.is_file():
            pytest.skip("the script that makes real weights is not beside the checkout")
        try:
            subprocess.run(
                ["bash", str(SCRIPT), what, str(MODELS), sys.executable],
                capture_output=True,
                text=True,
                timeout=600,
                check=True,
            )
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"real weights cannot be had here: {error.stderr}")
    return folder
