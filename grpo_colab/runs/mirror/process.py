"""Start child processes of this package, and ask one that may never answer."""

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


def child_command(*arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command line of a mirror's child process with these arguments, and its environment."""
    return [sys.executable, "-P", "-m", PROGRAM, *arguments], os.environ | {"PYTHONPATH": module_path()}


def ask_child(*arguments: str) -> Any:
    """Run a child with these arguments and return the JSON value that it prints.

    Returns None when it fails, prints no JSON, or does not end within `layout.REACH_S` seconds; it is then killed. What
    it prints on stderr is dropped. Raises OSError where no process can be started.
    """
    command, environment = child_command(*arguments)
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, env=environment, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet)
    try:
        output, _ = process.communicate(timeout=layout.REACH_S)
    except subprocess.TimeoutExpired:
        process.kill()  # without waiting for its end: a process that hangs in the kernel does not die
        return None
    with contextlib.suppress(ValueError):
        return json.loads(output) if process.returncode == 0 else None
    return None
