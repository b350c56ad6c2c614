"""Bound what a program in the sandbox may take, and how long the sandbox itself waits."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from grpo_colab.errors import SettingError

# The interpreter ignores its time limit while it compares shared lists; it is killed this much later.
GRACE_S: Final = 0.1
READING_S: Final = 0.05  # of CPU time to read what a program returned, besides two microseconds per item
HANGING_S: Final = 60.0  # after which a silent worker counts as hung; its start takes seconds at most
MOST_QUESTIONS: Final = 30_000  # that a test may ask a program
SHORT: Final = 16_384  # bytes of a request that fits into a socket's buffer twice
BOUNDS: Final = {  # the smallest and the largest value of each setting of `Sandbox`
    "workers": (1, 64),
    "time_limit_s": (0.001, 60),
    "memory_mb": (1, 4096),
    "max_items": (0, 10**6),
    "max_depth": (0, 100),
    "max_output": (0, 10**7),
}


def check_settings(settings: Mapping[str, float]) -> None:
    """Raise SettingError for a setting out of its bounds, or of the wrong type: only `time_limit_s` may be a float."""
    for name, value in settings.items():
        least, most = BOUNDS[name]
        kinds = (int, float) if name == "time_limit_s" else (int,)
        if type(value) not in kinds or not least <= value <= most:
            remedy = f"write a number from {least} to {most}"
            raise SettingError("is out of bounds", setting=name, value=value, remedy=remedy)


def limit_this_process(memory_mb: int) -> None:
    """Limit this process to the address space that programs of `memory_mb` MiB need; switch off core dumps.

    That is 1 GiB plus eight times `memory_mb` MiB, or the hard limit where that is lower. On macOS, which refuses to
    set it, there is no limit, and nothing is raised.
    """
    import resource

    most = (1 << 30) + (memory_mb << 23)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # macOS knows this limit, and refuses to set it
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def used_s(pids: Sequence[int]) -> float:
    """Return the CPU seconds of the interpreters: of those that have ended, and of those alive, whose ids are `pids`.

    Where the system does not tell (not Linux), return a clock's time: differences are then wall time.
    """
    import resource

    if sys.platform != "linux":
        return time.monotonic()
    used_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    for pid in pids:
        with contextlib.suppress(OSError):
            used_s += time.clock_gettime((~pid << 3) | 2)  # the clock id that clock_getcpuclockid(3) gives
    return used_s
