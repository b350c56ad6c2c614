"""The devices that a plan can be made for: how much they hold and how fast they are."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace

from grpo_colab.errors import SettingError, nearest
from grpo_colab.utils.device import this_machine
from grpo_colab.utils.memory import free_memory

GIB = 2**30
# Taken before anything is loaded: the stored T4 run asked for 0.6 of what was free and got 0.5943 of the whole.
CONTEXT_BYTES = int(0.14 * GIB)
MOST_GIB = 10_000.0
CPU_GIB = 12.0  # what Colab's CPU runtime leaves of its 12.7


@dataclass(frozen=True)
class Device:
    """What a plan is made for; `free` is what is left of `total` over what others hold, before a model is loaded."""

    name: str
    kind: str  # "cuda" or "cpu"
    total: int
    free: int
    bandwidth: float  # bytes a second
    flops: float  # 16-bit, dense, accumulated in 32 bit (32-bit on a CPU)
    capability: tuple[int, int] = (0, 0)
    vllm: bool = False
    processes: int = 1


def _gpu(name: str, gib: float, bandwidth_gb: float, tflops: float, capability: tuple[int, int]) -> Device:
    total = int(gib * GIB)
    return Device(
        name,
        "cuda",
        total,
        total - CONTEXT_BYTES,
        bandwidth_gb * 1e9,
        tflops * 1e12,
        capability,
        vllm=capability >= (7, 5),  # assumed to be installed; where it is not, train falls back by itself
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
CPU = Device("Colab's CPU", "cpu", int(CPU_GIB * GIB), int(CPU_GIB * GIB), 1e10, 1e11)


def device_for(gpu: str | None, vram_gib: float | None) -> Device:
    """The device named `gpu`, with another memory where `vram_gib` is given; this machine's where neither is.

    Raises SettingError for a name that is not in the table, and for a memory that no device has.
    """
    if vram_gib is not None and not 1 <= vram_gib <= MOST_GIB:
        raise SettingError(
            f"is not between 1 and {MOST_GIB:,.0f}",
            setting="--vram-gib",
            value=vram_gib,
            remedy="write the GiB of memory that the device has, such as 24",
        )
    if gpu is None:
        return _here() if vram_gib is None else _with_memory(_like(vram_gib * GIB, None), vram_gib, f"{vram_gib:g} GiB")
    known = {**{name.lower(): device for name, device in GPUS.items()}, "cpu": CPU}
    device = known.get(gpu.strip().lower().replace(" ", ""))
    if device is None:
        meant = nearest(gpu.lower(), known).removeprefix("; ")
        remedy = f"write one of {', '.join([*GPUS, 'cpu'])}, or for another card its memory, as --vram-gib N"
        raise SettingError(
            "is not in the table of devices",
            setting="--gpu",
            value=gpu,
            remedy=f"{meant} Or {remedy}" if meant else remedy,
        )
    return device if vram_gib is None else _with_memory(device, vram_gib, f"{device.name} with {vram_gib:g} GiB")


def _with_memory(device: Device, gib: float, name: str) -> Device:
    total = int(gib * GIB)
    return replace(device, name=name, total=total, free=total - (CONTEXT_BYTES if device.kind == "cuda" else 0))


def _like(total: float, capability: tuple[int, int] | None) -> Device:
    """The card of the table that is nearest by generation, then by memory: its speed stands for an unlisted one's."""

    def distance(gpu: Device) -> tuple[bool, bool, float]:
        wanted = capability or gpu.capability
        return gpu.capability[0] != wanted[0], gpu.capability != wanted, abs(math.log(gpu.total / total))

    return min(GPUS.values(), key=distance)


def _here() -> Device:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():  # what an earlier run left in torch's cache is free
        free_memory()
    try:
        machine = this_machine()
    except ModuleNotFoundError as error:
        raise SettingError(
            f"{error.name} is not installed, and a plan for this machine needs it",
            remedy="run `pip install grpo_colab[train]`, or name a device, such as --gpu T4",
        ) from None
    if machine.kind == "cpu":
        return replace(
            CPU, name="this CPU", total=machine.total_bytes, free=machine.free_bytes, processes=machine.processes
        )
    return replace(
        _like(machine.total_bytes, machine.capability),
        name=machine.name,
        total=machine.total_bytes,
        free=machine.free_bytes,
        capability=machine.capability or (0, 0),
        vllm=machine.vllm,
        processes=machine.processes,
    )
