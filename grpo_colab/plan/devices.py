"""List the devices that a plan can be made for, with memory and speed, and look up one of them or this machine's."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace

from grpo_colab.errors import SettingError, nearest
from grpo_colab.utils.device import current_device
from grpo_colab.utils.memory import free_memory

GIB = 2**30
# What a CUDA context takes before anything is loaded. The stored T4 run asked for 0.6 of the free memory and got 0.5943
# of the whole.
CONTEXT_BYTES = int(0.14 * GIB)
MOST_GIB = 10_000.0
VLLM_CAPABILITY = (7, 5)  # the lowest that vLLM runs on; a CPU has (0, 0)
CPU_GIB = 12.0  # what Colab's CPU runtime leaves of its 12.7


@dataclass(frozen=True)
class DeviceSpec:
    """A device that a plan is made for. `total` and `free` are bytes."""

    name: str
    kind: str  # "cuda" or "cpu"
    total: int
    free: int  # before a model is loaded, without what other processes hold
    bandwidth: float  # bytes per second
    flops: float  # 16-bit, dense, accumulated in 32 bit (32-bit on a CPU)
    capability: tuple[int, int] = (0, 0)
    vllm: bool = False  # whether vLLM is installed there
    processes: int = 1
    bf16: bool = True  # whether it computes in bfloat16; asked of a CPU alone
    here: bool = False  # whether it is this machine's, and no machine that was only named

    @property
    def installation(self) -> str:
        """Say whether vLLM is installed there, and whose installation that is; an empty text for a CPU."""
        if self.kind == "cpu":
            return ""
        if self.vllm:
            return "with vLLM"
        return "without vLLM" if self.here else "without vLLM, as the Colab notebook is installed"


def _gpu(name: str, gib: float, bandwidth_gb: float, tflops: float, capability: tuple[int, int]) -> DeviceSpec:
    """Return an idle GPU with `gib` GiB of memory, `bandwidth_gb` GB/s and `tflops` TFLOPS."""
    total = int(gib * GIB)
    return DeviceSpec(
        name,
        "cuda",
        total,
        total - CONTEXT_BYTES,
        bandwidth_gb * 1e9,
        tflops * 1e12,
        capability,
    )


# Memory: what CUDA reports of each, as Unsloth prints it in public logs ("Max memory: 14.741 GB"). Bandwidth and tensor
# throughput: NVIDIA's data sheets; the GeForce cards at their halved rate for 32-bit accumulation.
GPUS = {
    device.name: device
    for device in (
        _gpu("T4", 14.74, 320, 65, (7, 5)),
        _gpu("L4", 22.16, 300, 121, (8, 9)),
        _gpu("A100-40", 39.56, 1555, 312, (8, 0)),
        _gpu("A100-80", 79.15, 2039, 312, (8, 0)),
        _gpu("H100", 79.18, 3350, 989, (9, 0)),
        _gpu("RTX3090", 23.68, 936, 71, (8, 6)),
        _gpu("RTX4090", 23.53, 1008, 165, (8, 9)),
        _gpu("RTX5090", 31.34, 1792, 209, (12, 0)),
    )
}
# Two shared server cores, measured: 8 to 11 GB/s of a sum, 100 to 118 GFLOPS of a float32 product of 1,024 rows.
CPU = DeviceSpec("Colab's CPU", "cpu", int(CPU_GIB * GIB), int(CPU_GIB * GIB), 1e10, 1e11, bf16=False)


def device_for(gpu: str | None, vram_gib: float | None, vllm: bool = False) -> DeviceSpec:
    """Return the device named `gpu`, with `vram_gib` GiB of memory if that is given.

    Upper case and spaces in the name make no difference; "cpu" is Colab's CPU. With `vram_gib` alone it is an unnamed
    GPU of that size; with neither it is this machine's device, for which torch is imported. A GPU that is named or
    given by its memory has what the Colab notebook installs, which is no vLLM, unless `vllm` says that it is there. Of
    this machine it is known. Raises SettingError for a name that is not in the table, for a memory that no device has,
    for `vllm` of this machine, and where torch is needed and not installed.
    """
    if vram_gib is not None and not 1 <= vram_gib <= MOST_GIB:
        raise SettingError(
            f"is not between 1 and {MOST_GIB:,.0f}",
            setting="--vram-gib",
            value=vram_gib,
            remedy="write the GiB of memory that the device has, such as 24",
        )
    if gpu is None:
        if vram_gib is not None:
            unnamed = _with_memory(_nearest_gpu(vram_gib * GIB, None), vram_gib, f"{vram_gib:g} GiB")
            return with_vllm(unnamed) if vllm else unnamed
        if vllm:
            raise SettingError(
                "is for a GPU that is named: of this machine it is known whether vLLM is installed",
                setting="--vllm",
                value=True,
                remedy="name the GPU, such as --gpu T4, or leave it out",
            )
        return _this_device()
    known = {**{name.lower(): device for name, device in GPUS.items()}, "cpu": CPU}
    wanted = gpu.strip().lower().replace(" ", "")
    device = known.get(wanted)
    if device is None:
        suggestion = nearest(wanted, GPUS)
        remedy = f"write one of {', '.join([*GPUS, 'cpu'])}, or for another card its memory, as --vram-gib N"
        raise SettingError(
            "is not in the table of devices",
            setting="--gpu",
            value=gpu,
            remedy=f"{suggestion} Or {remedy}" if suggestion else remedy,
        )
    if vllm:
        device = with_vllm(device)
    if vram_gib is None:
        return device
    return _with_memory(device, vram_gib, f"{device.name} with {vram_gib:g} GiB")


def with_vllm(device: DeviceSpec) -> DeviceSpec:
    """Return the device with vLLM installed; one on which vLLM does not run, as it is."""
    return replace(device, vllm=device.capability >= VLLM_CAPABILITY)


def _with_memory(device: DeviceSpec, gib: float, name: str) -> DeviceSpec:
    """Return the device with another name and `gib` GiB of memory, all of it free but a CUDA context."""
    total = int(gib * GIB)
    context = CONTEXT_BYTES if device.kind == "cuda" else 0
    return replace(device, name=name, total=total, free=total - context)


def _nearest_gpu(total: float, capability: tuple[int, int] | None) -> DeviceSpec:
    """Return the GPU of the table whose speed an unlisted GPU is taken to have.

    It is the nearest by generation, then by capability, then by memory. `total` is the unlisted GPU's memory in bytes.
    Without a `capability` memory alone decides.
    """

    def distance(gpu: DeviceSpec) -> tuple[bool, bool, float]:
        """Order GPUs by another generation, another capability of it, and the ratio of the memories."""
        wanted = capability or gpu.capability
        return gpu.capability[0] != wanted[0], gpu.capability != wanted, abs(math.log(gpu.total / total))

    return min(GPUS.values(), key=distance)


def _this_device() -> DeviceSpec:
    """Return this machine's device, with the memory that is free now.

    Where this process has used a GPU, garbage is collected and torch's cache is emptied before. Raises SettingError
    where torch or psutil is not installed.
    """
    # An earlier run in this process may have left memory in torch's cache, which counts as free.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        free_memory()
    try:
        device = current_device()
        total, free = device.total_bytes, device.free_bytes
    except ModuleNotFoundError as error:
        raise SettingError(
            f"{error.name} is not installed, and a plan for this machine needs it",
            remedy="run `pip install grpo_colab[train]`, or name a device, such as --gpu T4",
        ) from None
    if device.kind == "cpu":
        cpu = replace(CPU, name="this CPU", total=total, free=free, processes=device.processes, bf16=device.bf16)
        return replace(cpu, here=True)
    return replace(
        _nearest_gpu(total, device.capability),
        here=True,
        name=device.name,
        total=total,
        free=free,
        capability=device.capability or (0, 0),
        vllm=device.vllm,
        processes=device.processes,
    )
