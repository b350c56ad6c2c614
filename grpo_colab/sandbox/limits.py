"""What a program in the sandbox may take: time, memory and size, and what the sandbox itself waits for."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from grpo_colab.errors import SettingError

GRACE_S: Final = 0.1  # to compare shared lists ignores the time limit; this much later the interpreter is killed
READING_S: Final = 0.05  # of CPU time, to read what a program returned, and two microseconds an item
HANGING_S: Final = 60.0  # until a worker that neither answers nor dies counts as hung; its start takes seconds at most
MOST_QUESTIONS: Final = 30_000  # that an exam may ask of a program
SHORT: Final = 16_384  # bytes of a request, which fit into a socket's buffer twice
BOUNDS: Final = {
    "workers": (1, 64),
    "time_limit_s": (0.001, 60),
    "memory_mb": (1, 4096),
    "max_items": (0, 10**6),
    "max_depth": (0, 100),
    "max_output": (0, 10**7),
}


def check_settings(settings: Mapping[str, float]) -> None:
    """Raise SettingError for a limit out of its bounds; only `time_limit_s` may be a fraction."""
    for name, value in settings.items():
        least, most = BOUNDS[name]
        kinds = (int, float) if name == "time_limit_s" else (int,)
        if type(value) not in kinds or not least <= value <= most:
            remedy = f"write a number from {least} to {most}"
            raise SettingError("is out of bounds", setting=name, value=value, remedy=remedy)


def limit_this_process(memory_mb: int) -> None:
    """Bound the address space of this process by what programs of `memory_mb` MiB need; it writes no core dump."""
    import resource

    most = (1 << 30) + (memory_mb << 23)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # macOS knows the limit, but sets none
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def used_s(pids: Sequence[int]) -> float:
    """Return the CPU time of the interpreters, of which `pids` live. Where it cannot be known, the time."""
    import resource

    if sys.platform != "linux":
        return time.monotonic()
    used_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    for pid in pids:
        with contextlib.suppress(OSError):
            used_s += time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) gives
    return used_s
