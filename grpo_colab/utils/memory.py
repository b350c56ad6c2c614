"""Tell what is held of a device's memory and whether it is out of it, and free what is no longer used."""

from __future__ import annotations

import traceback
from typing import Final

OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a device is out of memory, by the messages of torch, CUDA and cuBLAS.

    accelerate's should_reduce_batch_size knows fewer of them, and takes an unsupported cuDNN call for one.
    """
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)


def forget_frames(error: BaseException) -> None:
    """Clear the local variables of the calls that an error and its causes have ended, so that none keeps a model alive.

    A notebook keeps the last error with all of its frames. Calls that still run keep their variables.
    """
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            traceback.clear_frames(one.__traceback__)
            waiting += [one.__cause__, one.__context__]


def free_memory() -> None:
    """Collect garbage and empty the device's cache.

    Call it after an exception's handler, not within it: the exception's frames still hold their tensors there.
    """
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)


def bytes_held() -> int:
    """Return the most that torch's allocator has held of the GPU, or without one what this process holds now."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved()
    import psutil

    return psutil.Process().memory_info().rss
