"""Read a model's shape from its configuration alone: no weights are read or downloaded.

The decoders of DENSE are counted by arithmetic. Others are built by transformers, whose import takes seconds.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.utils import hub
from grpo_colab.utils.files import read_bytes
from grpo_colab.utils.stack import import_transformers

CONFIGURATIONS = Path(__file__).parent / "model_configs"  # of the presets' models, as `owner--name.json`
ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}  # the kinds of layer_types that a plan knows
OTHER_SHARE = (
    0.05  # of the parameters may be outside linear layers and embeddings, such as a vision tower's convolutions
)
# Keys of a configuration that count modules. Building a model of millions of layers would take for ever.
COUNTS = r"(?:num_|n_)(?:\w*_)?(?:layers?|experts)"
MOST_MODULES = 2000
MOST_READ = 1 << 24  # bytes of a configuration
OWNERS = ("unsloth", "meta-llama", "qwen")  # their models of the same name have the same shape
# Decoders of the same build, by model_type: projections that always have a bias, and norms per layer of a head's width.
DENSE: dict[str, tuple[str, int]] = {"llama": ("", 0), "mistral": ("", 0), "qwen2": ("qkv", 0), "qwen3": ("", 2)}


class CannotEstimate(SettingError):
    """Raised for a recipe whose memory cannot be estimated.

    The recipe may still be fit for training: only the model's loader can tell.
    """


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model that decide its memory and its speed."""

    layers: int
    hidden: int  # width of the hidden states
    inner: int  # width of the feed-forward layers
    vocab: int
    kv_width: int  # key-value heads x head size
    parameters: int
    embeddings: tuple[int, ...]  # parameters of embed_tokens, and of lm_head where the two are not tied
    linear: tuple[tuple[str, int, int], ...]  # matrices that 4-bit loading quantises: name, inputs, outputs
    kept: tuple[str, ...]  # modules that Unsloth's 4-bit copy of the model keeps in 16 bits


@functools.lru_cache
def adapted(shape: ModelShape, targets: str | tuple[str, ...], rank: int) -> int:
    """Count the parameters of LoRA matrices of `rank` on the modules that [lora] target_modules names.

    `targets` are the last parts of modules' names. As one text it is "all-linear", or a regular expression for whole
    names. Only the modules in `shape.linear` are looked at. Raises SettingError for a text that is no regular
    expression.
    """

    def is_target(name: str) -> bool:
        """Tell whether the module of this name gets LoRA matrices.

        With a tuple, the name must end in a dot and one of the targets. "all-linear" matches every name. Any other text
        is a regular expression, which must match the whole name. Raises SettingError where it is none.
        """
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

    return sum(rank * (inputs + outputs) for name, inputs, outputs in shape.linear if is_target(name))


def bits(recipe: Recipe, kind: str = "cuda") -> int:
    """Return the bits per number in linear layers as Unsloth loads them on a device of this kind: 4, 8 or 16.

    16 means that nothing is quantised. On a CPU nothing is quantised to 8 bits.
    """
    model = recipe.model
    if model.get("load_in_8bit") or (model.get("load_in_fp8") and kind == "cuda"):
        return 8 if kind == "cuda" else 16
    return 4 if model.get("load_in_4bit", True) and not model.get("load_in_16bit") else 16


def shape_of(recipe: Recipe) -> ModelShape:
    """Return the shape of the recipe's model.

    Reads its config.json, which is downloaded if neither a folder nor the package has it. Imports torch and
    transformers for a model that must be built to be counted; see `must_be_built`. Raises CannotEstimate for a model
    whose configuration cannot be had, built, or counted for certain, and for one that is not trained by LoRA in 4, 8 or
    16 bits. A plan may refuse a run, so a model that is not understood must have no plan. Raises SettingError where a
    library that is needed is not installed.
    """
    name, config = recipe.model["model_name"], configuration(recipe)
    for setting in ("full_finetuning", "quantization_config", "qat_scheme"):
        if recipe.model.get(setting):
            raise CannotEstimate(
                "cannot be planned for: a plan knows only LoRA on a model in 4, 8 or 16 bits",
                setting=f"model.{setting}",
                value=recipe.model[setting],
            )
    quantised = config.get("quantization_config") or {}
    foreign = quantised.get("quant_method", "bitsandbytes") != "bitsandbytes" or quantised.get("load_in_8bit")
    if foreign or (quantised.get("load_in_4bit") and bits(recipe) != 4):
        raise CannotEstimate(
            "its weights are already quantised, in another way than [model] asks for, so their size in memory is not "
            "known",
            setting="model.model_name",
            value=name,
            remedy="name the original model to plan it",
        )
    return dense_shape(config) or _build_and_count(json.dumps(config, sort_keys=True), name)


def must_be_built(recipe: Recipe) -> bool:
    """Tell whether transformers must build the recipe's model to count it, since it is none of DENSE.

    Its config.json may be downloaded. Raises CannotEstimate where there is no configuration that can be read.
    """
    return dense_shape(configuration(recipe)) is None


def dense_shape(config: Mapping[str, Any]) -> ModelShape | None:
    """Return the shape of a decoder of DENSE by arithmetic from its config.json, or None for any other model.

    It is what building the model and counting gives. None is also returned where the configuration leaves a size to
    transformers, or where the sizes do not go together, which transformers is to explain.
    """
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    sizes = [config.get(key) for key in (*keys, "vocab_size")]
    tied, biased, kind = config.get("tie_word_embeddings"), config.get("attention_bias", False), config["model_type"]
    known = kind in DENSE and all(type(size) is int and size > 0 for size in sizes) and type(tied) is bool
    if (
        not known
        or type(biased) is not bool
        or config.get("mlp_bias")
        or set(config.get("layer_types") or ()) - ATTENTION
    ):
        return None
    hidden, inner, layers, heads, kv_heads, vocab = (int(size) for size in sizes if size)
    head_size = config.get("head_dim") or (None if kind == "qwen3" or hidden % heads else hidden // heads)
    if type(head_size) is not int or head_size < 1 or heads % kv_heads:
        return None

    always_biased, head_norms = DENSE[kind]
    if biased and not always_biased:
        always_biased = "qkvo"
    queries, keys_and_values = heads * head_size, kv_heads * head_size
    matrices = (
        ("self_attn.q_proj", hidden, queries),
        ("self_attn.k_proj", hidden, keys_and_values),
        ("self_attn.v_proj", hidden, keys_and_values),
        ("self_attn.o_proj", queries, hidden),
        ("mlp.gate_proj", hidden, inner),
        ("mlp.up_proj", hidden, inner),
        ("mlp.down_proj", inner, hidden),
    )
    attention_biases = {"q": queries, "k": keys_and_values, "v": keys_and_values, "o": hidden}
    per_layer = sum(inputs * outputs for _, inputs, outputs in matrices) + 2 * hidden + head_norms * head_size
    per_layer += sum(attention_biases[letter] for letter in always_biased)
    embeddings = (vocab * hidden,) if tied else (vocab * hidden, vocab * hidden)
    quantised = config.get("quantization_config") or {}
    return ModelShape(
        layers=layers,
        hidden=hidden,
        inner=inner,
        vocab=vocab,
        kv_width=keys_and_values,
        parameters=layers * per_layer + hidden + sum(embeddings),
        embeddings=embeddings,
        linear=tuple((f"model.layers.{n}.{name}", a, b) for n in range(layers) for name, a, b in matrices),
        kept=tuple(quantised.get("llm_int8_skip_modules") or ()),
    )


def configuration(recipe: Recipe, adapters: bool = True) -> dict[str, Any]:
    """Return the model's config.json: the folder's, the one that comes with the package, or the hub's, in this order.

    The hub's file is downloaded to the hub's cache. An adapter has no config.json. Where `adapters` are allowed, the
    configuration of its base model is returned; an adapter on an adapter is not followed. Raises CannotEstimate where
    there is no configuration that can be read, and SettingError for the path of a folder that does not exist.
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
            base = {**recipe.model, "model_name": read["base_model_name_or_path"], "revision": None}
            return configuration(recipe.model_copy(update={"model": base}), adapters=False)
        if not isinstance(read, dict) or "model_type" not in read:
            raise ValueError("it says no model_type")
        for key, value in read.items():
            if re.fullmatch(COUNTS, key) and isinstance(value, int) and value > MOST_MODULES:
                raise ValueError(f"{key} = {value} is more than any model has")
    except SettingError:  # it names the setting itself
        raise
    except (OSError, ValueError, RecursionError) as error:
        if hub.is_gated(error):
            raise CannotEstimate(**hub.not_loaded(name, error)) from error
        raise CannotEstimate(
            f"its configuration cannot be read ({one_line(error)})",
            setting="model.model_name",
            value=name,
            remedy="download config.json from the model's page into a folder, and write that folder as "
            "model.model_name",
        ) from error
    return read


def shipped(name: str) -> Path | None:
    """Return the package's copy of a model's configuration, or None where it has none.

    `name` is the model's name on the hub, or that of one of Unsloth's copies of it. Upper case makes no difference.
    Returns None for a name without an owner, and for an owner that is not in OWNERS.
    """
    found = {path.stem.lower().rpartition("--")[2]: path for path in CONFIGURATIONS.glob("*.json")}
    return found.get(bare_name(name)) if name.lower().rpartition("/")[0] in OWNERS else None


def bare_name(name: str) -> str:
    """Return what the names of a model's copies on the hub have in common, without the owner and in lower case."""
    model = name.lower().rpartition("/")[2]
    return model.removesuffix("-bnb-4bit").removesuffix("-unsloth").removeprefix("meta-")


def _from_hub(recipe: Recipe) -> dict[str, Any]:
    """Return the config.json of the model on the hub, or else its adapter_config.json.

    What is in the hub's cache is taken from there, and what is missing is downloaded to it. Raises OSError where the
    hub has neither or does not answer, ValueError for a file that is no JSON, and SettingError where huggingface_hub is
    not installed.
    """
    try:
        from huggingface_hub import hf_hub_download, try_to_load_from_cache
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )
    except ModuleNotFoundError as error:
        raise SettingError(
            f"{error.name} is not installed, and the configuration of {recipe.model_path!r} is on the hub",
            remedy="run `pip install grpo_colab[train]`",
        ) from None
    hub.check_hub(recipe.model_path)
    # Read the file itself: AutoConfig would run the model's own Python code where the recipe allows that.
    for file in ("config.json", "adapter_config.json"):
        revision = recipe.model.get("revision")
        found = try_to_load_from_cache(recipe.model_path, file, revision=revision)
        if not isinstance(found, str):
            try:
                found = hf_hub_download(recipe.model_path, file, revision=revision, token=recipe.model.get("token"))
            except LocalEntryNotFoundError as error:
                problem = "it is not in the hub's cache, and the hub was not asked or did not answer"
                raise FileNotFoundError(problem) from error
            except EntryNotFoundError:
                continue
            except GatedRepoError:  # which is a missing one, too, by its class
                raise
            except RepositoryNotFoundError as error:  # whose words speak of gated ones
                raise FileNotFoundError("the hub has no model of this name, or a private one") from error
        return json.loads(read_bytes(Path(found), MOST_READ, follow=True))
    raise FileNotFoundError("the hub has no config.json of it")


@functools.lru_cache(maxsize=8)
def _build_and_count(config_json: str, name: str) -> ModelShape:
    """Build the model on the meta device, where no memory is allocated, and count its modules.

    `config_json` is its config.json as a text; `name` is for the refusal. No code of the model's own is run. Raises
    CannotEstimate for a model that cannot be built, or whose count is in doubt, and SettingError where transformers is
    not installed.
    """
    transformers = import_transformers()
    import torch

    values = json.loads(config_json)
    quantised = values.pop("quantization_config", None) or {}
    kept = quantised.get("llm_int8_skip_modules") or []
    values.pop("transformers_version", None)
    try:
        config = transformers.AutoConfig.for_model(**values)
        with torch.device("meta"):
            model = transformers.AutoModelForCausalLM.from_config(config)
        shape = _count(torch, model, config.get_text_config(), tuple(kept))
        doubt = _reason_for_doubt(torch, model, config.get_text_config())
    except Exception as error:  # a model's code may raise anything
        raise CannotEstimate(
            f"its config.json describes no causal language model that transformers {transformers.__version__} can "
            f"build and whose parts are known ({one_line(error)})",
            setting="model.model_name",
            value=name,
        ) from error
    if doubt:
        raise CannotEstimate(f"{doubt}, so its memory is not known for certain", setting="model.model_name", value=name)
    return shape


def _count(torch: Any, model: Any, config: Any, kept: tuple[str, ...]) -> ModelShape:
    """Return the shape of a model that was built, with the configuration of its text part."""
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    linear = [
        (name, module.in_features, module.out_features)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    ]
    embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
    # Tied embeddings share one weight, which counts once.
    embedding_sizes = {id(module.weight): module.weight.numel() for module in embeddings if module is not None}
    return ModelShape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        inner=getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        vocab=config.vocab_size,
        kv_width=(getattr(config, "num_key_value_heads", None) or heads) * head_size,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        embeddings=tuple(embedding_sizes.values()),
        linear=tuple(linear),
        kept=kept,
    )


def _reason_for_doubt(torch: Any, model: Any, config: Any) -> str:
    """Return why the count is not certain, or an empty text where it is.

    Where many parameters are in neither linear layers nor embeddings, it is not known what loading quantises. Where
    layers differ or share their keys and values, the size of the KV cache is not known. `config` is that of the text
    part.
    """
    others = [module for module in model.modules() if not isinstance(module, (torch.nn.Linear, torch.nn.Embedding))]
    outside = 0
    for module in others:
        outside += sum(parameter.numel() for parameter in module.parameters(recurse=False) if parameter.ndim > 1)
    if outside > OTHER_SHARE * sum(parameter.numel() for parameter in model.parameters()):
        return "much of it is in no linear layer, as in a mixture of experts, and may be quantised or not"
    unknown_kinds = set(getattr(config, "layer_types", None) or ()) - ATTENTION
    shares_keys = getattr(config, "kv_lora_rank", None) or getattr(config, "multi_query", False)
    if unknown_kinds or shares_keys or any(isinstance(module, torch.nn.Conv1d) for module in others):
        return "its layers differ, or share their keys and values in a way of their own"
    return ""
