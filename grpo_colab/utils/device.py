"""The device that this process would train on, and whether a person looks on from a notebook."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One process's device; `processes` is torchrun's world size."""

    kind: str  # "cuda" or "cpu"
    name: str
    capability: tuple[int, int] | None
    bf16: bool
    processes: int

    @property
    def free_bytes(self) -> int:
        """The memory that this process may still take on its device, now."""
        if self.kind == "cuda":
            import torch

            return torch.cuda.mem_get_info()[0]
        import psutil

        return psutil.virtual_memory().available // self.processes

    @property
    def total_bytes(self) -> int:
        """The memory of its device, whoever holds it now."""
        if self.kind == "cuda":
            import torch

            return torch.cuda.mem_get_info()[1]
        import psutil

        return psutil.virtual_memory().total // self.processes

    @property
    def vllm(self) -> bool:
        """Whether vLLM can generate here; it needs CUDA and its own package."""
        return self.kind == "cuda" and importlib.util.find_spec("vllm") is not None


def this_machine() -> Machine:
    """Look at the device that training would use."""
    import torch

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if torch.cuda.is_available():
        device = torch.cuda.get_device_properties(torch.cuda.current_device())
        capability = (device.major, device.minor)
        # bfloat16 needs Ampere; earlier cards such as the T4 (7.5) emulate it slowly or not at all
        return Machine("cuda", device.name, capability, capability >= (8, 0), processes)
    return Machine("cpu", "CPU", None, False, processes)


def in_notebook() -> bool:
    """Whether this process is a notebook's kernel, which shows HTML and is run again cell by cell."""
    shell = sys.modules.get("IPython")
    # Colab's own is called Shell
    return shell is not None and type(shell.get_ipython()).__name__ in ("ZMQInteractiveShell", "Shell")
