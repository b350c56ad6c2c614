"""What to do when a device runs out of memory: recognise it, and give back what nothing holds any more."""

from __future__ import annotations

from typing import Final

OUT_OF_MEMORY: Final = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a device had no memory left: by the words of torch, of CUDA and of cuBLAS.

    accelerate's should_reduce_batch_size knows fewer, and takes an unsupported cuDNN call for one.
    """
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in OUT_OF_MEMORY)


def free_memory() -> None:
    """Collect garbage and empty the device's cache.

    Call it after an exception was handled, not within its handler: an exception's frames hold much.
    """
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)
