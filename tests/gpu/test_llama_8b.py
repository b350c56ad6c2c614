"""On a CUDA device: the shape of Llama-3.1-8B with random weights, through the same `train` as everything else.

Random weights cost what real ones cost. They never end a completion, so that every one runs to its full length: the
worst step that a real run can meet. Prints seconds per step and peak memory (`pytest tests/gpu -s`).
"""

from __future__ import annotations

import gc
import json
import shutil
from pathlib import Path

import pytest

from grpo_colab import Recipe, train
from grpo_colab.plan import plan
from grpo_colab.plan.memory import VLLM_OUTSIDE_BYTES
from grpo_colab.recipe.recipe import TINY_MODEL

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

GIB = 2**30
SHAPE = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "rope_theta": 500000.0,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def random_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder of 16 GB in bfloat16, written a layer at a time, with the tiny model's tokenizer."""
    from safetensors.torch import save_file
    from transformers import LlamaConfig

    folder = tmp_path_factory.mktemp("llama-8b")
    if shutil.disk_usage(folder).free < 20 * GIB:
        pytest.skip("needs 20 GiB of disk for random weights in the shape of an 8B model")
    for path in TINY_MODEL.iterdir():
        if "token" in path.name or "template" in path.name:
            shutil.copy(path, folder)
    special = json.loads((TINY_MODEL / "config.json").read_text())
    ids = {key: special[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    LlamaConfig(**SHAPE, **ids, architectures=["LlamaForCausalLM"], dtype="bfloat16").save_pretrained(folder)

    hidden, inner, kv = 4096, 14336, 1024
    projections = {
        "self_attn.q_proj": (hidden, hidden),
        "self_attn.k_proj": (kv, hidden),
        "self_attn.v_proj": (kv, hidden),
        "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return (0.02 * torch.randn(*shape, generator=generator)).to(torch.bfloat16)

    shards: dict[str, dict[str, torch.Tensor] | None] = {"ends": None, **{f"layer-{n}": None for n in range(32)}}
    index = {}
    for number, shard in enumerate(shards):
        if shard == "ends":
            tensors = {
                "model.embed_tokens.weight": normal(SHAPE["vocab_size"], hidden),
                "lm_head.weight": normal(SHAPE["vocab_size"], hidden),
                "model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16),
            }
        else:
            prefix = f"model.layers.{number - 1}."
            tensors = {f"{prefix}{name}.weight": normal(*shape) for name, shape in projections.items()}
            for norm in ("input_layernorm", "post_attention_layernorm"):
                tensors[f"{prefix}{norm}.weight"] = torch.ones(hidden, dtype=torch.bfloat16)
        save_file(tensors, folder / f"model-{shard}.safetensors", metadata={"format": "pt"})
        index.update(dict.fromkeys(tensors, f"model-{shard}.safetensors"))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


@pytest.mark.parametrize("vllm", [False, True], ids=["generate", "vllm"])
def test_three_steps_of_groups_of_six_at_full_length(random_llama: Path, tmp_path: Path, vllm: bool) -> None:
    if vllm:
        pytest.importorskip("vllm")
    recipe = Recipe.load(
        "gsm8k-llama31-8b",
        task={"name": "word_problems", "max_prompt_tokens": 256, "system_prompt": "Reason. " * 33},
        model={"model_name": str(random_llama), "fast_inference": vllm},
        grpo={"num_generations": 6, "mask_truncated_completions": False, "max_completion_length": 768},
        budget={"max_steps": 3, "prompts_per_step": 1},
        evaluation={"n": 4},
    )
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    planned = plan(recipe)
    assert (planned.recipe.model["fast_inference"], planned.fits) == (vllm, "yes")
    run = train(recipe, out=tmp_path / "run")
    metrics = run.metrics()
    assert [row["step"] for row in metrics] == [1, 2, 3]
    assert all(row["completions/max_length"] == 768 for row in metrics)
    assert metrics[0]["num_tokens"] / 6 > 200 + 768  # the questions themselves are some 60 tokens long
    seconds = [row["step_time"] for row in metrics]
    peak_gib = torch.cuda.max_memory_reserved() / GIB
    print(
        f"\n{torch.cuda.get_device_name()}: Llama-3.1-8B's shape, 4-bit, LoRA r 32, 6 x (256 + 768) tokens, "
        f"{'vLLM' if vllm else 'generate()'}: {min(seconds):.1f} s per step (first {seconds[0]:.1f} s), "
        f"peak {peak_gib:.2f} GiB"
    )
    assert run.recipe.lora["r"] == 32
    # what torch's allocator never sees: CUDA's context, and vLLM's libraries
    outside = planned.parts["runtime"] + (VLLM_OUTSIDE_BYTES if vllm else 0)
    expected = (planned.bytes - outside) / GIB
    print(
        f"planned: {expected:.2f} GiB in torch's allocator, {planned.step_s:.1f} s per step\n{planned.text(width=120)}"
    )
    assert run.recipe.budget.micro_batch == planned.batch_plan.micro_batch
    assert peak_gib - before / GIB == pytest.approx(expected, rel=0.15)
