"""Let the processes that torchrun started agree: on who writes the run folder, and on values that they measure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from grpo_colab.utils.device import Device

T = TypeVar("T")


def join_processes(device: Device) -> None:
    """Connect to the other processes that torchrun started, over gloo on a CPU. A single process connects to none.

    accelerate keeps the state of this process, and every later user of accelerate gets the same state, the trainer
    among them. Among several processes on a CPU, torch is also taught to load a checkpoint to the device "cpu:0".
    """
    from accelerate import PartialState

    PartialState(cpu=device.kind == "cpu")
    if device.kind == "cpu" and device.processes > 1:
        from torch.serialization import register_package

        # transformers loads a checkpoint's optimiser to the device "cpu:0", a name that torch does not know.
        register_package(100, lambda storage: None, lambda storage, place: storage if place == "cpu:0" else None)


def is_main_process() -> bool:
    """Tell whether this is the process that writes the run folder; True where there is only one.

    Call `join_processes` before: the first use fixes accelerate's state.
    """
    from accelerate import PartialState

    return PartialState().is_main_process


def broadcast_from_main(value: T) -> T:
    """Return rank 0's value in every process. Measured values, such as free memory, differ between processes.

    All processes have to call this, since they wait for rank 0. A single process gets its own value back.
    """
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]
