"""A model's shape, from its configuration alone: no weights are read or downloaded."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_colab import policy
from grpo_colab.errors import SettingError, one_line
from grpo_colab.recipe import Recipe

CONFIGURATIONS = Path(__file__).parents[1] / "models"  # of the presets' models, under their makers' names
OWNERS = ("unsloth", "meta-llama", "qwen")  # whose models of the same name have the same shape


class Unplanned(SettingError):
    """A model whose shape cannot be had or built here; whether it can be trained, its loader knows."""


@dataclass(frozen=True)
class Shape:
    """What decides memory and time. `linear` are the matrices that 4-bit loading quantises: name, inputs, outputs."""

    layers: int
    hidden: int
    inner: int
    vocab: int
    kv_width: int  # key-value heads x head size
    parameters: int
    linear: tuple[tuple[str, int, int], ...]
    kept: tuple[str, ...]  # modules that Unsloth's 4-bit copy of the model keeps in 16 bit


@functools.lru_cache
def adapted(shape: Shape, targets: str | tuple[str, ...], rank: int) -> int:
    """Parameters of LoRA matrices of `rank` on what [lora] target_modules names: endings, or in one text a pattern."""

    def named(name: str) -> bool:
        if isinstance(targets, str):
            return targets == "all-linear" or re.fullmatch(targets, name) is not None
        return name.endswith(tuple(f".{target}" for target in targets))

    return sum(rank * (inputs + outputs) for name, inputs, outputs in shape.linear if named(name))


def shape_of(recipe: Recipe) -> Shape:
    """The shape of the recipe's model; Unplanned where its configuration cannot be had, or built."""
    return _counted(json.dumps(configuration(recipe), sort_keys=True), recipe.model["model_name"])


def configuration(recipe: Recipe) -> dict[str, Any]:
    """The model's config.json: the folder's, the one that comes with the package, or the hub's, in this order."""
    name = recipe.model["model_name"]
    file = Path(recipe.model_path) / "config.json"
    if not file.is_file():
        file = shipped(name) or file
    try:
        if file.is_file():
            read = json.loads(file.read_text(encoding="utf-8"))
        elif Path(name).is_dir():
            raise FileNotFoundError("it has no config.json")
        else:
            read = _from_hub(recipe)
        if not isinstance(read, dict) or "model_type" not in read:
            raise ValueError("it says no model_type")
    except (OSError, ValueError) as error:
        if "gated repo" in str(error):
            raise Unplanned(policy._not_loaded(name, error)) from error
        raise Unplanned(
            f"model.model_name = {name!r}: its configuration cannot be had ({one_line(error)}); download config.json "
            "from the model's page into a folder, and write that folder as model.model_name"
        ) from error
    return read


def shipped(name: str) -> Path | None:
    """The package's own copy of a model's configuration, by the name of the model or of Unsloth's copies of it."""
    owner, _, model = name.lower().rpartition("/")
    wanted = model.removesuffix("-bnb-4bit").removesuffix("-unsloth").removeprefix("meta-")
    found = {path.stem.lower().rpartition("--")[2]: path for path in CONFIGURATIONS.glob("*.json")}
    return found.get(wanted) if owner in OWNERS else None


def _from_hub(recipe: Recipe) -> dict[str, Any]:
    transformers = stack()
    policy._check_hub(recipe.model_path)
    options = {key: recipe.model[key] for key in ("revision", "token", "trust_remote_code") if key in recipe.model}
    return transformers.AutoConfig.from_pretrained(recipe.model_path, **options).to_dict()


def stack() -> Any:
    """transformers, after Unsloth where this process may train later: that patches it only when it comes first.

    A process that does not train, such as the command line's `plan`, imports transformers itself beforehand and so
    saves the ten seconds that Unsloth takes.
    """
    if importlib.util.find_spec("unsloth") and not any(m in sys.modules for m in policy.MUST_COME_AFTER_UNSLOTH):
        policy.import_unsloth()
    for noisy in ("torchao", "torch.utils._pytree"):  # which transformers imports to build a model
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        import transformers
    except ModuleNotFoundError:
        raise SettingError(
            "transformers is not installed, and it knows the models' shapes; `pip install grpo_colab[train]`"
        ) from None
    return transformers


@functools.lru_cache(maxsize=8)
def _counted(text: str, name: str) -> Shape:
    """Build the model on the meta device, where nothing is allocated or drawn, and count its modules."""
    transformers = stack()
    import torch

    values = json.loads(text)
    kept = (values.pop("quantization_config", None) or {}).get("llm_int8_skip_modules") or []
    try:
        config = transformers.AutoConfig.for_model(**{k: v for k, v in values.items() if k != "transformers_version"})
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
    except (ValueError, TypeError, KeyError, AttributeError, ImportError, RuntimeError) as error:
        raise Unplanned(
            f"model.model_name = {name!r}: its config.json is of no causal language model that transformers "
            f"{transformers.__version__} can build ({one_line(error)})"
        ) from error
    config = config.get_text_config()
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    linear = [
        (name, module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    ]
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        inner=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        vocab=config.vocab_size,
        kv_width=(getattr(config, "num_key_value_heads", None) or heads) * head,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        linear=tuple(linear),
        kept=tuple(kept),
    )
