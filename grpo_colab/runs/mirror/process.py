"""A child process of this package: how it is started, and how one is asked that may never answer."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any, Final

from grpo_colab.runs.mirror import layout
from grpo_colab.utils.processes import module_path

PROGRAM: Final = "grpo_colab.runs.mirror"


def child(*arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command of a child process, and its environment."""
    return [sys.executable, "-P", "-m", PROGRAM, *arguments], os.environ | {"PYTHONPATH": module_path()}


def ask(*arguments: str) -> Any:
    """What a child says about a destination, from JSON; None when it does not answer in time."""
    command, environment = child(*arguments)
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet)
    try:
        output, _ = process.communicate(timeout=layout.REACH_S)
    except subprocess.TimeoutExpired:
        process.kill()  # without waiting for it: one that hangs in the kernel does not die
        return None
    with contextlib.suppress(ValueError):
        return json.loads(output) if process.returncode == 0 else None
    return None
