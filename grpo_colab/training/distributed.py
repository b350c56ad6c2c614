"""What the processes that torchrun started have to agree on: who writes, and which value counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from grpo_colab.utils.device import Machine

T = TypeVar("T")


def join_processes(device: Machine) -> None:
    """Join the other processes that torchrun started, over gloo on a CPU; a single process joins nobody.

    accelerate keeps one state per process and shares it with whoever asks later, the trainer among them.
    """
    from accelerate import PartialState

    PartialState(cpu=device.kind == "cpu")
    if device.kind == "cpu" and device.processes > 1:
        from torch.serialization import register_package

        # transformers loads a checkpoint's optimiser to the device "cpu:0" in each process, which torch does not know
        register_package(100, lambda storage: None, lambda storage, place: storage if place == "cpu:0" else None)


def is_main_process() -> bool:
    """Tell whether this is the process that writes the run folder."""
    from accelerate import PartialState

    return PartialState().is_main_process


def broadcast_from_main(value: T) -> T:
    """Return rank 0's value in every process: what is measured, such as free memory, differs between them."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]
