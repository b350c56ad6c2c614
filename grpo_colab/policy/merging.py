"""Generate with the adapter merged into the base's weights, where the answers stay the same.

Beside each matrix of the base, the adapter is two small products more, for every token. Merged, they are one addition
before the first token. In float32 the result differs by rounding alone, as it does between two ways of ordering a sum.
In bfloat16 and float16 a weight is rounded to 8 or 11 bits, and in 4 bits to one of 16 values: most of an adapter's
small changes would be lost, and the policy that samples would not be the one that learns.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Final

MERGE_SETTING: Final = "sampling.merge_adapter"


@contextlib.contextmanager
def merged_adapter(model: Any) -> Iterator[None]:
    """Merge the active adapter of a PEFT model inside, and put the base's very weights back afterwards.

    Afterwards they are the same to the last bit, also after an error. PEFT's own `unmerge` subtracts what was added,
    which leaves a rounding error each time. Inside the base takes its memory a second time. Nothing is done where
    `unmergeable` has a reason. Raises ValueError for an adapter with NaN or infinity.
    """
    if unmergeable(model):
        yield
        return
    layers = _layers(model)
    weights = [layer.get_base_layer().weight for layer in layers]
    originals = [weight.data for weight in weights]
    try:
        model.base_model.merge_adapter(safe_merge=True)  # it adds to a copy
        yield
    finally:
        for weight, original in zip(weights, originals, strict=True):
            weight.data = original
        for layer in layers:
            layer.merged_adapters.clear()


def unmergeable(model: Any) -> str | None:
    """Return where an adapter cannot be merged without a difference, in words; None where it can.

    `model` is a PEFT model. On a GPU it is never merged: Unsloth replays its decode steps from CUDA graphs, which keep
    the addresses of the weights.
    """
    if model.device.type != "cpu":
        return "on a GPU"
    layers, adapters = _layers(model), list(model.active_adapters)
    if not layers or len(adapters) != 1:
        return "without one adapter"
    reasons = (_difference(layer, adapters[0]) for layer in layers)
    return next((reason for reason in reasons if reason), None)


def _difference(layer: Any, adapter: str) -> str | None:
    """Return what makes a layer compute something else once its adapter is merged; None where nothing does."""
    import torch
    from peft.tuners.lora.layer import Linear

    base = layer.get_base_layer()
    if type(layer) is not Linear or type(base) is not torch.nn.Linear or adapter in layer.lora_variant:
        return "with other matrices than plain LoRA's"
    for matrix in (base, layer.lora_A[adapter], layer.lora_B[adapter]):
        if matrix.weight.dtype != torch.float32:
            return f"in {str(matrix.weight.dtype).removeprefix('torch.')}"
    if layer.lora_bias[adapter]:
        return "with lora.lora_bias"
    if not isinstance(layer.lora_dropout[adapter], torch.nn.Identity):
        return "with lora.lora_dropout"
    return None


def _layers(model: Any) -> list[Any]:
    """Return the model's layers that have an adapter."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
