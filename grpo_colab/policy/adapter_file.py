"""Look at the matrices of a saved adapter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path


def trouble_in_matrices(path: Path) -> Iterator[str]:
    """Yield what is wrong with the matrices of the adapter saved in `path`; nothing where they are sound.

    Looked for are B matrices that are all zero, and matrices with NaN or infinity. Raises OSError or SafetensorError
    for weights that are missing or damaged.
    """
    from safetensors.torch import load_file

    weights = load_file(path / "adapter_model.safetensors")
    b_matrices = [name for name in weights if "lora_B" in name]
    zero = [name for name in b_matrices if not weights[name].any()]
    not_finite = [name for name, values in weights.items() if not values.isfinite().all()]
    if zero:
        effect = ", so that the adapter changes nothing" if zero == b_matrices else ""
        yield f"{len(zero)} of {len(b_matrices)} B matrices are zero{effect} ({_list_names(zero)})"
    if not_finite:
        yield f"{len(not_finite)} matrices hold NaN or infinity ({_list_names(not_finite)})"


def _list_names(names: Sequence[str]) -> str:
    """Return the first three names of matrices, without what all of them begin and end with."""
    short = [name.removeprefix("base_model.model.").removesuffix(".weight") for name in names[:3]]
    return ", ".join([*short, "..."] if len(names) > 3 else short)
