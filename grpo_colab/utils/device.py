"""Find out which device this process trains on, and whether it runs in a notebook."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Device:
    """The device of one process."""

    kind: str  # "cuda" or "cpu"
    name: str
    capability: tuple[int, int] | None  # CUDA's compute capability; None on a CPU
    bf16: bool  # whether it computes in bfloat16, and does not only emulate it
    processes: int  # torchrun's world size, or 1

    @property
    def free_bytes(self) -> int:
        """Return the free memory in bytes that this process's device has now.

        On a GPU it is what the driver reports, without the unused memory that torch keeps in its cache. On a CPU it is
        this process's equal share of the available memory.
        """
        if self.kind == "cuda":
            import torch

            return torch.cuda.mem_get_info()[0]
        import psutil

        return psutil.virtual_memory().available // self.processes

    @property
    def total_bytes(self) -> int:
        """Return the memory in bytes of this process's device, free or not; on a CPU, its equal share."""
        if self.kind == "cuda":
            import torch

            return torch.cuda.mem_get_info()[1]
        import psutil

        return psutil.virtual_memory().total // self.processes

    @property
    def vllm(self) -> bool:
        """Tell whether vLLM can generate here: it needs CUDA and its own package."""
        return self.kind == "cuda" and importlib.util.find_spec("vllm") is not None


def current_device() -> Device:
    """Return the device that training would use: the current GPU where torch has one, else the CPU.

    It imports torch, which takes seconds, unless the installed one is built for the CPU alone. The number of processes
    is that of torchrun, from WORLD_SIZE. Raises ModuleNotFoundError where torch is not installed.
    """
    processes = process_count()
    if "torch" not in sys.modules and _torch_is_for_the_cpu():
        return Device("cpu", "CPU", None, bf16=cpu_has_bfloat16(), processes=processes)
    import torch

    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(torch.cuda.current_device())
        capability = (device.major, device.minor)
        # bfloat16 needs Ampere (8.0). Earlier GPUs such as the T4 (7.5) emulate it slowly, or not at all.
        return Device("cuda", device.name, capability, bf16=capability >= (8, 0), processes=processes)
    return Device("cpu", "CPU", None, bf16=cpu_has_bfloat16(), processes=processes)


def cpu_has_bfloat16() -> bool:
    """Tell whether Unsloth loads a model in bfloat16 on this CPU, because it computes in it.

    UNSLOTH_CPU_BF16 decides where it is set, and otherwise what Linux says of the processor; without that it is False,
    where Unsloth would measure it.
    """
    wish = os.environ.get("UNSLOTH_CPU_BF16", "").strip().lower()
    if wish in ("0", "false", "no", "off", "1", "true", "yes", "on"):
        return wish in ("1", "true", "yes", "on")
    try:
        told = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", told, re.MULTILINE)
    return flags is not None and bool({"amx_bf16", "avx512_bf16", "bf16"} & set(flags[1].split()))


def lowest_capability() -> tuple[int, int] | None:
    """Return the lowest compute capability of this machine's GPUs as nvidia-smi tells it; None where it tells none.

    torch is not asked, since it would start CUDA, before which Unsloth has to say how memory is allocated.
    """
    command = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = [(int(major), int(minor)) for major, minor in re.findall(r"^\s*(\d+)\.(\d+)\s*$", told, re.MULTILINE)]
    return min(found, default=None)


def process_count() -> int:
    """Return the number of processes that torchrun started, from WORLD_SIZE; 1 without torchrun. Needs no torch."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _torch_is_for_the_cpu() -> bool:
    """Tell whether the installed torch says in its version that it is built for the CPU alone, as in 2.13.0+cpu."""
    try:
        return importlib.metadata.version("torch").endswith("+cpu")
    except importlib.metadata.PackageNotFoundError:
        return False


def in_notebook() -> bool:
    """Tell whether this process is a notebook's kernel, which shows HTML and may run a cell again."""
    ipython = sys.modules.get("IPython")
    # Jupyter's shell has the first name, Colab's the second.
    return ipython is not None and type(ipython.get_ipython()).__name__ in ("ZMQInteractiveShell", "Shell")
