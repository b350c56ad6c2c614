"""What the processes that this package starts have in common."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable


def bare_environment(kept: Iterable[str] = ("PATH", "LD_LIBRARY_PATH")) -> dict[str, str]:
    """Return an environment without the trainer's keys: what is `kept`, where it is set, and the way to our imports."""
    path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)  # noqa: PTH100 - not to be resolved
    return {name: os.environ[name] for name in kept if name in os.environ} | {"PYTHONPATH": path}
