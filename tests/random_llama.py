"""A model folder with random weights, in 4 bits as Unsloth's own copies on the hub are: for tests/gpu, and in small.

The shape is that of the packaged config.json of Llama-3.1-8B, with the modules that Unsloth's copy keeps in 16 bits.
The weights are drawn and quantised on the GPU, a layer at a time, so that 5.7 GB are written in place of the 16 GB that
the loader would have to quantise.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from grpo_colab.plan.model_shape import CONFIGURATIONS
from grpo_colab.recipe.recipe import TINY_MODEL

LLAMA_8B: dict[str, Any] = json.loads((CONFIGURATIONS / "meta-llama--Llama-3.1-8B-Instruct.json").read_text())
# The same model in small, for a rehearsal on a CPU. The vocabulary is larger than the tokenizer's, too.
SMALL: dict[str, Any] = LLAMA_8B | {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 2048,
}
SCALE = 0.02  # the standard deviation that transformers initialises a Llama with
QUANTISATION = {
    "quant_method": "bitsandbytes",
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": "bfloat16",
    "bnb_4bit_quant_storage": "uint8",
}


def write_model(folder: Path, shape: dict[str, Any], device: str) -> None:
    """Write config.json, the tiny model's tokenizer, and a file of weights per layer to the existing `folder`.

    `shape` is a config.json. Its llm_int8_skip_modules stay in bfloat16. Random numbers are drawn on `device`.
    """
    import torch
    from safetensors.torch import save_file

    for path in TINY_MODEL.iterdir():
        if "token" in path.name or "template" in path.name:
            shutil.copy(path, folder)
    special = json.loads((TINY_MODEL / "config.json").read_text())
    ids = {key: special[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    quantised = QUANTISATION | shape["quantization_config"]
    config = shape | ids | {"torch_dtype": "bfloat16", "quantization_config": quantised}
    (folder / "config.json").write_text(json.dumps(config))

    hidden, inner, vocab = shape["hidden_size"], shape["intermediate_size"], shape["vocab_size"]
    queries = shape["num_attention_heads"] * shape["head_dim"]
    keys = shape["num_key_value_heads"] * shape["head_dim"]
    projections = {  # (outputs, inputs), as torch keeps a linear layer's weight
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    generator = torch.Generator(device).manual_seed(0)
    index: dict[str, str] = {}

    def normal(*size: int) -> torch.Tensor:
        return SCALE * torch.randn(*size, generator=generator, device=device, dtype=torch.bfloat16)

    def write(tensors: dict[str, torch.Tensor], name: str) -> None:
        save_file({key: tensor.cpu() for key, tensor in tensors.items()}, folder / name, metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, name))

    ends = {"model.embed_tokens.weight": normal(vocab, hidden), "lm_head.weight": normal(vocab, hidden)}
    write(ends | {"model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16)}, "model-ends.safetensors")
    for number in range(shape["num_hidden_layers"]):
        prefix = f"model.layers.{number}."
        tensors = {}
        for name, size in projections.items():
            in_16_bits = any(f"{prefix}{name}.".startswith(f"{kept}.") for kept in quantised["llm_int8_skip_modules"])
            weight = normal(*size)
            tensors |= {f"{prefix}{name}.weight": weight} if in_16_bits else in_4_bits(f"{prefix}{name}.weight", weight)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{prefix}{norm}.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
        write(tensors, f"model-{number}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def in_4_bits(name: str, weight: Any) -> dict[str, Any]:
    """Return the tensors that bitsandbytes saves for a weight of this name: packed numbers, and their scales."""
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weight, compress_statistics=True, quant_type="nf4")
    return {name: packed} | {f"{name}.{key}": value for key, value in state.as_dict(packed=True).items()}
