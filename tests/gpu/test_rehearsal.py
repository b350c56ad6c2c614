"""The GPU tests on a CPU with a small model, in a process of their own, so that they still run when a GPU is lent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.long
def test_all_phases_are_gone_through_and_kept(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", HERE / "test_llama_8b.py", "-s", "-p", "no:cacheprovider"],
        env={**os.environ, "GRPO_GPU_REHEARSAL": "1", "OUT": str(tmp_path)},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    found = json.loads((tmp_path / "results.json").read_text())
    phases = [name for name, value in found.items() if isinstance(value, dict)]
    assert phases == [
        "random weights",
        "load",
        "dry run",
        "three steps, evaluated before and after",
        "resumed for the last step",
        "the bare notebook's script, 3 steps",
    ]
