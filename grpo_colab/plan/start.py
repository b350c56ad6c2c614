"""Estimate what a run does before its first step: download, compiling, pre-training, and the evaluation before."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from grpo_colab.plan.devices import DeviceSpec
from grpo_colab.plan.duration import pretraining_s
from grpo_colab.plan.memory import weight_bytes
from grpo_colab.plan.model_shape import MOST_READ, ModelShape, bare_name, bits, shipped
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.utils import hub
from grpo_colab.utils.files import read_bytes

# Bytes per second from the model hub: an assumption. Public logs have 115 MB/s on a T4 of Colab and 26 MB/s elsewhere,
# and one connection is held to some 40 MB/s. On a bad day it is 1 MB/s.
HUB_BYTES_S = 50e6
# Unsloth compiles the trainer's loss, and Triton the kernels of the forward and the backward pass, when they are first
# called: a guess. On two cores the loss of the tiny model takes 18 s (tests/benchmarks/LOG.md: a training of 38 s takes
# 20 without the compiler). Nothing is compiled for training on a CPU.
COMPILE_S = 60.0
VLLM_START_S = 43.0  # the stored T4 run: "Graph capturing finished in 43 secs, took 0.59 GiB"


@dataclass(frozen=True)
class Start:
    """What a run does before its first step."""

    download_bytes: int
    download_s: float
    compile_s: float
    pretraining_s: float  # of an adapter that is made once; no plan knows whether it is there already
    evaluation_s: float  # of the evaluation before the training

    @property
    def seconds(self) -> float:
        """Return the seconds until the first step."""
        return self.download_s + self.compile_s + self.pretraining_s + self.evaluation_s


def start_of(shape: ModelShape, recipe: Recipe, device: DeviceSpec, share: float | None, evaluation_s: float) -> Start:
    """Return what a run does before its first step.

    `share` is vLLM's share of the memory, or None where generate() takes its place. `evaluation_s` are the seconds of
    one evaluation.
    """
    size = download_bytes(shape, recipe, device)
    compiling = 0.0
    if device.kind == "cuda":
        compiling = COMPILE_S + (0.0 if share is None else VLLM_START_S)
    return Start(size, size / HUB_BYTES_S, compiling, pretraining_s(shape, recipe, device), evaluation_s)


def download_bytes(shape: ModelShape, recipe: Recipe, device: DeviceSpec) -> int:
    """Return the bytes of the weights that are downloaded: 0 for a folder, and for what this machine's cache has.

    In 4 bits on a GPU that is Unsloth's 4-bit copy, where there is one. Else it is the original, in 16 bits, whatever
    it is loaded in. For a device that is only named, the cache of this machine is not asked.
    """
    name = model_on_hub(recipe)
    if name is None:
        return 0
    four_bit = device.kind == "cuda" and bits(recipe, device.kind) == 4
    has_copy = four_bit and (shipped(name) is not None or name.lower().endswith("-bnb-4bit"))
    if device.here and weights_are_cached(name, has_copy):
        return 0
    return weight_bytes(shape, recipe, device) if has_copy else 2 * shape.parameters


def model_on_hub(recipe: Recipe) -> str | None:
    """Return the name on the hub of the model whose weights a run loads; None where they are in a folder.

    An adapter in a folder names the model below it.
    """
    name = recipe.model_path
    if not hub.is_local(name):
        return name
    folder = Path(name)
    if (folder / "config.json").is_file() or not (folder / "adapter_config.json").is_file():
        return None
    base = json.loads(read_bytes(folder / "adapter_config.json", MOST_READ, follow=True))["base_model_name_or_path"]
    return None if hub.is_local(base) else base


def weights_are_cached(name: str, four_bit: bool) -> bool:
    """Tell whether the hub's cache has weights of the model `name`, or with `four_bit` of a 4-bit copy of it.

    Upper case makes no difference, since Unsloth's copies differ in it. Nothing is downloaded. False where
    huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError:
        return False
    for folder in Path(constants.HF_HUB_CACHE).glob("models--*--*"):
        found = folder.name.removeprefix("models--").replace("--", "/").lower()
        if four_bit:
            wanted = found.endswith("-bnb-4bit") and bare_name(found) == bare_name(name)
        else:
            wanted = found == name.lower()
        if wanted and any(folder.glob("snapshots/*/*.safetensors")):
            return True
    return False
