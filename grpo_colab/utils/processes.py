"""What the processes that this package starts have in common: where their modules come from, which keys they get."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from pathlib import Path


def module_path() -> str:
    """Return a PYTHONPATH for a child: where this process has its modules from, but not the current folder.

    That may hold anything, unless the package itself lies there. Start the child with `-P`, too.
    """
    package, here = Path(__file__).parents[2], None
    with contextlib.suppress(OSError):  # it may be gone
        here = Path.cwd().resolve()
    entries = [Path(entry) for entry in sys.path if Path(entry).is_absolute() and os.pathsep not in entry]
    entries = [entry for entry in entries if entry == package or entry.resolve() != here]
    if package not in entries:
        entries.append(package)
    return os.pathsep.join(map(str, entries))


def bare_environment(kept: Iterable[str] = ("PATH", "LD_LIBRARY_PATH")) -> dict[str, str]:
    """Return an environment without the trainer's keys: what is `kept`, where it is set, and the way to our imports."""
    return {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONPATH": module_path()}
