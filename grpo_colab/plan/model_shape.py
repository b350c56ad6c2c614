"""A model's shape, from its configuration alone: no weights are read or downloaded."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.utils import hub
from grpo_colab.utils.files import read_bytes
from grpo_colab.utils.stack import import_transformers

CONFIGURATIONS = Path(__file__).parent / "model_configs"  # of the presets' models, under their makers' names
ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}  # of a configuration's layer_types
OTHER_SHARE = 0.05  # of the numbers, that may be outside linear layers and embeddings, such as an eye's convolutions
PARTS = r"(?:num_|n_)(?:\w*_)?(?:layers?|experts)"  # what a model is built of, one by one
MOST_PARTS = 2000
MOST_READ = 1 << 24  # bytes of a configuration
OWNERS = ("unsloth", "meta-llama", "qwen")  # whose models of the same name have the same shape


class Unplanned(SettingError):
    """A recipe whose memory cannot be told for certain here; whether it can be trained, its loader knows."""


@dataclass(frozen=True)
class ModelShape:
    """What decides memory and time. `linear` are the matrices that 4-bit loading quantises: name, inputs, outputs."""

    layers: int
    hidden: int
    inner: int
    vocab: int
    kv_width: int  # key-value heads x head size
    parameters: int
    embeddings: tuple[int, ...]  # numbers of embed_tokens, and of lm_head where that is not the same
    linear: tuple[tuple[str, int, int], ...]
    kept: tuple[str, ...]  # modules that Unsloth's 4-bit copy of the model keeps in 16 bit


@functools.lru_cache
def adapted(shape: ModelShape, targets: str | tuple[str, ...], rank: int) -> int:
    """Parameters of LoRA matrices of `rank` on what [lora] target_modules names: endings, or in one text a pattern."""

    def named(name: str) -> bool:
        if isinstance(targets, str):
            try:
                return targets == "all-linear" or re.fullmatch(targets, name) is not None
            except re.error as error:
                raise SettingError(
                    f"is not a regular expression ({error})",
                    setting="lora.target_modules",
                    value=targets,
                    remedy="write a list of modules' names, 'all-linear', or an expression that matches whole names",
                ) from None
        return name.endswith(tuple(f".{target}" for target in targets))

    return sum(rank * (inputs + outputs) for name, inputs, outputs in shape.linear if named(name))


def bits(recipe: Recipe, kind: str = "cuda") -> int:
    """Of a number in a linear layer, as Unsloth loads it; 16 where nothing is quantised, as 8 bits are not on a CPU."""
    model = recipe.model
    if model.get("load_in_8bit") or (model.get("load_in_fp8") and kind == "cuda"):
        return 8 if kind == "cuda" else 16
    return 4 if model.get("load_in_4bit", True) and not model.get("load_in_16bit") else 16


def shape_of(recipe: Recipe) -> ModelShape:
    """The shape of the recipe's model; Unplanned where its configuration cannot be had, built, or counted for certain.

    A plan may refuse a run, so that what is not certain must have none.
    """
    name, values = recipe.model["model_name"], configuration(recipe)
    for setting in ("full_finetuning", "quantization_config", "qat_scheme"):
        if recipe.model.get(setting):
            raise Unplanned(
                "cannot be planned for: a plan knows only LoRA on a model in 4, 8 or 16 bits",
                setting=f"model.{setting}",
                value=recipe.model[setting],
            )
    held = values.get("quantization_config") or {}
    foreign = held.get("quant_method", "bitsandbytes") != "bitsandbytes" or held.get("load_in_8bit")
    if foreign or (held.get("load_in_4bit") and bits(recipe) != 4):
        raise Unplanned(
            "its weights are already quantised, in another way than [model] asks for, so their size in memory is not "
            "known",
            setting="model.model_name",
            value=name,
            remedy="name the original model to plan it",
        )
    return _counted(json.dumps(values, sort_keys=True), name)


def configuration(recipe: Recipe, adapters: bool = True) -> dict[str, Any]:
    """The model's config.json: the folder's, the one that comes with the package, or the hub's, in this order.

    An adapter has none; where `adapters` may be named, it is that of the model below it.
    """
    name, folder = recipe.model["model_name"], Path(recipe.model_path)
    file, adapter = folder / "config.json", folder / "adapter_config.json"
    if not file.is_file():
        file = shipped(name) or file
    try:
        if file.is_file():
            read = json.loads(read_bytes(file, MOST_READ, follow=True))
        elif adapter.is_file():
            read = json.loads(read_bytes(adapter, MOST_READ, follow=True))
        elif folder.is_dir():
            raise FileNotFoundError("it has no config.json")
        else:
            read = _from_hub(recipe)
        if adapters and isinstance(read, dict) and isinstance(read.get("base_model_name_or_path"), str):
            below = {**recipe.model, "model_name": read["base_model_name_or_path"], "revision": None}
            return configuration(recipe.model_copy(update={"model": below}), adapters=False)
        if not isinstance(read, dict) or "model_type" not in read:
            raise ValueError("it says no model_type")
        for key, value in read.items():
            if re.fullmatch(PARTS, key) and isinstance(value, int) and value > MOST_PARTS:
                raise ValueError(f"{key} = {value} is more than any model has")
    except Unplanned:
        raise
    except (OSError, ValueError, RecursionError) as error:
        if hub.is_gated(error):
            raise Unplanned(**hub.not_loaded(name, error)) from error
        raise Unplanned(
            f"its configuration cannot be read ({one_line(error)})",
            setting="model.model_name",
            value=name,
            remedy="download config.json from the model's page into a folder, and write that folder as "
            "model.model_name",
        ) from error
    return read


def shipped(name: str) -> Path | None:
    """The package's own copy of a model's configuration, by the name of the model or of Unsloth's copies of it."""
    owner, _, model = name.lower().rpartition("/")
    wanted = model.removesuffix("-bnb-4bit").removesuffix("-unsloth").removeprefix("meta-")
    found = {path.stem.lower().rpartition("--")[2]: path for path in CONFIGURATIONS.glob("*.json")}
    return found.get(wanted) if owner in OWNERS else None


def _from_hub(recipe: Recipe) -> dict[str, Any]:
    """The config.json there, or else the adapter_config.json."""
    transformers = import_transformers()
    hub.check_hub(recipe.model_path)
    options = {key: recipe.model[key] for key in ("revision", "token") if recipe.model.get(key)}
    # the file as it is: AutoConfig would run the model's own Python where the recipe allows that
    found = transformers.utils.cached_file(
        recipe.model_path, "config.json", _raise_exceptions_for_missing_entries=False, **options
    )
    if found is None:
        from transformers.utils.peft_utils import find_adapter_config_file

        found = find_adapter_config_file(recipe.model_path, **options)
    if found is None:
        raise FileNotFoundError("the hub has no config.json of it")
    return json.loads(read_bytes(Path(found), MOST_READ, follow=True))


@functools.lru_cache(maxsize=8)
def _counted(text: str, name: str) -> ModelShape:
    """Build the model on the meta device, where nothing is allocated or drawn, and count its modules."""
    transformers = import_transformers()
    import torch

    values = json.loads(text)
    kept = (values.pop("quantization_config", None) or {}).get("llm_int8_skip_modules") or []
    try:
        config = transformers.AutoConfig.for_model(**{k: v for k, v in values.items() if k != "transformers_version"})
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        shape = _shape(torch, model, config.get_text_config(), tuple(kept))
        doubt = _doubt(torch, model, config.get_text_config())
    except Exception as error:  # whatever a model's own code raises
        raise Unplanned(
            f"its config.json describes no causal language model that transformers {transformers.__version__} can "
            f"build and whose parts are known ({one_line(error)})",
            setting="model.model_name",
            value=name,
        ) from error
    if doubt:
        raise Unplanned(f"{doubt}, so its memory is not known for certain", setting="model.model_name", value=name)
    return shape


def _shape(torch: Any, model: Any, config: Any, kept: tuple[str, ...]) -> ModelShape:
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    linear = [
        (name, module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    ]
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    weights = {id(module.weight): module.weight.numel() for module in ends if module is not None}
    return ModelShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        inner=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        vocab=config.vocab_size,
        kv_width=(getattr(config, "num_key_value_heads", None) or heads) * head,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        embeddings=tuple(weights.values()),
        linear=tuple(linear),
        kept=kept,
    )


def _doubt(torch: Any, model: Any, config: Any) -> str:
    """Why the count is not certain: what loading quantises, or what a token has in the KV cache; else nothing."""
    plain = (torch.nn.Linear, torch.nn.Embedding)
    own = [m for m in model.modules() if not isinstance(m, plain)]
    other = sum(p.numel() for module in own for p in module.parameters(recurse=False) if p.ndim > 1)
    if other > OTHER_SHARE * sum(parameter.numel() for parameter in model.parameters()):
        return "much of it is in no linear layer, as in a mixture of experts, and may be quantised or not"
    kinds = set(getattr(config, "layer_types", None) or ()) - ATTENTION
    shared = getattr(config, "kv_lora_rank", None) or getattr(config, "multi_query", False)
    if kinds or shared or any(isinstance(module, torch.nn.Conv1d) for module in own):
        return "its layers differ, or share their keys and values in a way of their own"
    return ""
