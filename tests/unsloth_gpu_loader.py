"""Run in a process of its own: Unsloth's GPU loader and its generated trainer, on the CPU.

    python unsloth_gpu_loader.py OUT

Importing this module first makes `unsloth.FastLanguageModel` the class that a GPU gets. Its questions to CUDA are
answered here for a card of 15 GiB, and three Triton kernels are written in torch. All the rest is Unsloth's own code:
loading, LoRA, generation with its cache, the trainer that it writes, saving.

As a program it trains the tiny model by our `train`, resumes a cut copy, and prints JSON for the tests.
"""

# ruff: noqa: E402 - torch's decorators are changed before unsloth uses them
from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ["UNSLOTH_ALLOW_CPU"] = "1"
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

GIB = 2**30
# Unsloth's own moves what it keeps to pinned memory, by CUDA's streams.
PLAIN = {"use_gradient_checkpointing": True}


def for_the_cpu(decorate: Any) -> Any:
    """Autocast's decorators of an autograd function, which name the GPU."""
    return lambda *args, device_type=None, **options: decorate(*args, device_type="cpu", **options)


torch.amp.custom_fwd, torch.amp.custom_bwd = map(for_the_cpu, (torch.amp.custom_fwd, torch.amp.custom_bwd))

import unsloth

del os.environ["UNSLOTH_ALLOW_CPU"]

from unsloth.models import _decode_graphs, llama, rl
from unsloth.models.llama import FastLlamaModel
from unsloth.models.loader import FastLanguageModel


def rms_norm(layer: Any, hidden: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    """In place of fast_rms_layernorm: [..., hidden] scaled to a root mean square of 1, times the layer's weight."""
    eps = getattr(layer, "variance_epsilon", None) or layer.eps
    values = hidden.float()
    values = values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + eps)
    return (layer.weight.float() * values).to(hidden.dtype)


def rotate(
    queries: torch.Tensor, keys: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, indices: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """In place of fast_rope_embedding: queries and keys [batch, heads, tokens, width], turned by their positions.

    Without `indices` the positions are 0, 1, 2, ...; with them, each token's own.
    """
    tokens = queries.shape[2]
    cos, sin = cos.squeeze(), sin.squeeze()
    if indices is None:
        cos, sin = cos[None, None, :tokens], sin[None, None, :tokens]
    else:
        places = indices.reshape(-1).long()
        cos, sin = (table[places].view(-1, tokens, table.shape[-1])[:, None] for table in (cos, sin))
    cos, sin = cos.to(queries.dtype), sin.to(queries.dtype)
    half = queries.shape[-1] // 2

    def turned(x: torch.Tensor) -> torch.Tensor:
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin

    return turned(queries), turned(keys)


def build_rope_cache(self: Any, device_index: int) -> None:
    """In place of _PerDeviceRopeCache._build_rope_cache: the tables of cosines and sines, on the CPU."""
    kept = self.current_rope_size
    with self._rope_build_mode():
        self._set_cos_sin_cache(
            seq_len=self._rope_cache_rows(), device=torch.device("cpu", 0), dtype=self._rope_cache_dtype
        )
    self.current_rope_size = kept
    self._rope_cache_versions[device_index] = self._rope_cache_version
    self._mark_rope_build(device_index)


def everywhere(name: str, value: Any) -> None:
    """Set a name in each module of Unsloth that has it, since they import it from one another."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").lower().startswith("unsloth") and name in vars(module):
            setattr(module, name, value)


def answer_for_cuda() -> None:
    """Answer what Unsloth asks of CUDA, as a card of compute capability 8.0 would."""
    card = SimpleNamespace(
        name="a stub", total_memory=15 * GIB, major=8, minor=0, multi_processor_count=40, is_integrated=False
    )
    torch.cuda.get_device_capability = lambda *_, **__: (8, 0)
    torch.cuda.get_device_properties = lambda *_, **__: card
    torch.cuda.mem_get_info = lambda *_, **__: (10 * GIB, 15 * GIB)
    torch.cuda.empty_cache = lambda: None
    torch.cuda.synchronize = lambda *_: None
    torch.cuda.current_device = lambda: 0
    _decode_graphs._DEFAULT_OK = True  # an NVIDIA card; a step on a CPU's tensors is not captured all the same
    llama.get_device_stats = lambda: ("a stub. ", "no CUDA.", 15)
    llama.is_bfloat16_supported = lambda: True
    everywhere("DEVICE_TYPE_TORCH", "cpu")
    everywhere("DEVICE_COUNT", 1)
    everywhere("device_synchronize", lambda *_, **__: None)
    everywhere("get_current_device", lambda: "cpu")
    everywhere("fast_rms_layernorm", rms_norm)
    everywhere("fast_rope_embedding", rotate)
    cache = llama._PerDeviceRopeCache
    cache._build_rope_cache = build_rope_cache
    ensure, get = cache._ensure_rope_cache, cache.get_cached
    cache._ensure_rope_cache = lambda self, index: ensure(self, index or 0)
    cache.get_cached = lambda self, seq_len=None, device_index=None: get(self, seq_len, device_index or 0)


from trl.trainer.grpo_config import GRPOConfig as StockConfig

# As on a GPU: TRL's trainer becomes Unsloth's; not all twelve trainers, which would take half a minute.
rl.patch_trl_rl_trainers = lambda: rl._patch_trl_rl_trainers("grpo_trainer")
rl.PatchFastRL(FastLanguageModel=FastLlamaModel)
answer_for_cuda()
unsloth.FastLanguageModel = FastLanguageModel


def decoded() -> dict[str, object]:
    """Return how a policy decodes: the answers with CUDA graphs and without, as a trainer's, and what is left of them.

    Where a decode step may be replayed, Unsloth keeps buffers of its own for it, also on a CPU.
    """
    from trl.trainer import grpo_trainer

    from grpo_colab import Recipe
    from grpo_colab.policy import loading
    from grpo_colab.utils.device import current_device

    policy = loading.load_policy(Recipe.load(model=PLAIN, lora=PLAIN), current_device())
    prompts = [[{"role": "user", "content": text}] for text in ("Tom has 3 apples.", "Ann has 4 pens and buys 5 more.")]
    kept: list[tuple[bool, bool]] = []
    once = policy._complete_batch
    fails = False

    def complete(*arguments: Any, **sampling: Any) -> list[list[int]]:
        nonlocal fails
        before = left("_unsloth_graph_buffers")
        tokens = once(*arguments, **sampling)
        kept.append((before, left("_unsloth_graph_buffers")))
        if fails:
            fails = False
            raise RuntimeError("CUDA out of memory")
        return tokens

    def left(name: str) -> bool:
        return any(name in vars(module) for module in policy.model.modules())

    policy._complete_batch = complete
    policy.set_training(training=True)
    answers = policy.generate(prompts, 24)
    is_left = left("paged_attention") or left("_unsloth_graph_buffers")
    fails = True
    one_by_one = policy.generate(prompts, 24)
    os.environ["UNSLOTH_DECODE_CUDA_GRAPHS"] = "0"
    plain = policy.generate(prompts, 24)
    del os.environ["UNSLOTH_DECODE_CUDA_GRAPHS"]
    accelerator = SimpleNamespace(unwrap_model=lambda model, **_: model, state=SimpleNamespace(deepspeed_plugin=None))
    with grpo_trainer.unwrap_model_for_generation(policy.model, accelerator):
        by_trainer = once([policy.prompt_text(prompt) for prompt in prompts], 24)
    return {
        "kept": kept,
        "is_left": is_left,
        "training": policy.model.training,
        "answers": answers,
        "one_by_one": one_by_one,
        "plain": plain,
        "by_trainer": policy.tokenizer.batch_decode(by_trainer, skip_special_tokens=True),
    }


def main(out: Path) -> dict[str, object]:
    """Train, resume a copy that was cut after one of three steps, and return what the tests look at."""
    import trl
    from safetensors.torch import load_file

    from grpo_colab import Recipe, Run, train
    from grpo_colab.plan import plan_batch
    from grpo_colab.runs.records import repeatable
    from grpo_colab.training.trainer import grpo_arguments
    from grpo_colab.utils.device import current_device

    recipe = Recipe.load(
        model=PLAIN,
        lora=PLAIN,
        task={"limit": 32},
        budget={"max_steps": 3, "prompts_per_step": 1, "rehearsal": False},
        grpo={"max_completion_length": 16, "save_steps": 1, "save_total_limit": 9, "num_generations": 4},
        evaluation={"n": 2, "max_completion_tokens": 8},
    )
    run = train(recipe, out=out)
    cut = Run(shutil.copytree(run.path, out.with_name("cut")))
    for step in (2, 3):
        shutil.rmtree(cut.checkpoints / f"checkpoint-{step}")
    (cut.path / "evaluation.json").unlink()
    train(resume=cut.path)
    weights = [load_file(one.adapter / "adapter_model.safetensors") for one in (run, cut)]
    # A recipe that says next to nothing: what decides the rest?
    path = out.with_name("short.toml")
    path.write_text('[task]\nname = "word_problems"\n[model]\nmodel_name = "tiny"\n[grpo]\nnum_generations = 4\n')
    short = Recipe.load(path)
    arguments = grpo_arguments(short, out, plan_batch(short, 1), current_device())
    by_both = [config(**arguments) for config in (StockConfig, trl.GRPOConfig)]
    return {
        "differ": {
            field.name: [repr(getattr(config, field.name)) for config in by_both]
            for field in dataclasses.fields(StockConfig)
            if getattr(by_both[0], field.name) != getattr(by_both[1], field.name)
        },
        "trainer": trl.GRPOTrainer.__name__,
        "loader": FastLanguageModel.__module__,
        "steps": [row["step"] for row in run.metrics()],
        "same_metrics": repeatable(run.metrics()) == repeatable(cut.metrics()),
        "same_adapter": all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0]),
        "moved": sum(bool(weights[0][name].any()) for name in weights[0] if "lora_B" in name),
        "warnings": run.warnings(99),
        "decoded": decoded(),
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
