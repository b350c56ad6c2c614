"""A child process of this package: how it is started, and how one is asked that may never answer."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from grpo_colab.mirror import layout

PROGRAM: Final = "grpo_colab.mirror"


def child(*arguments: str) -> tuple[list[str], dict[str, str]]:
    """The command of a child process, and its environment.

    Its modules come from where this process has its own, but not from the current folder, which may hold anything,
    unless the package itself lies there.
    """
    package, here = Path(__file__).parents[2], None
    with contextlib.suppress(OSError):  # it may be gone
        here = Path.cwd().resolve()
    entries = [Path(entry) for entry in sys.path if Path(entry).is_absolute() and os.pathsep not in entry]
    entries = [entry for entry in entries if entry == package or entry.resolve() != here]
    if package not in entries:
        entries.append(package)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, entries))}
    return [sys.executable, "-P", "-m", PROGRAM, *arguments], environment


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
