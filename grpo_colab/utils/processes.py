"""Set the environment of the processes that this package starts: where they import from, and no secrets."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path


def module_path() -> str:
    """Return a PYTHONPATH for a child process: this process's `sys.path`, without the current folder.

    Any file in the current folder could stand in for a module. The current folder stays only if this package is in it.
    Relative entries are left out. The package's own folder is added where it is missing. Start the child with `-P` as
    well.
    """
    package, here = Path(__file__).parents[2], None
    with contextlib.suppress(OSError):  # the current folder may have been removed
        here = Path.cwd().resolve()
    entries = []
    for entry in map(Path, sys.path):
        if not entry.is_absolute() or os.pathsep in str(entry):
            continue
        if entry == package or entry.resolve() != here:
            entries.append(entry)
    if package not in entries:
        entries.append(package)
    return os.pathsep.join(map(str, entries))


def bare_environment(kept: Iterable[str] = ("PATH", "LD_LIBRARY_PATH")) -> dict[str, str]:
    """Return an environment without secrets: the `kept` variables that are set, and PYTHONPATH."""
    return {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONPATH": module_path()}
