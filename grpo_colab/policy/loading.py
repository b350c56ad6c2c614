"""Load the recipe's model and give it an adapter, by FastLanguageModel.from_pretrained and get_peft_model.

On a GPU this is Unsloth's 4-bit loader, with vLLM where the recipe wants it and the machine has it. Without a GPU the
same two calls give Unsloth's CPU backend.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.policy.asking import Asking
from grpo_colab.policy.merging import MERGE_SETTING, unmergeable
from grpo_colab.policy.policy import Policy
from grpo_colab.policy.templates import with_chat_template
from grpo_colab.policy.turns import end_answers, text_tokenizer
from grpo_colab.recipe.validation import CHAT_TEMPLATE
from grpo_colab.utils.console import info
from grpo_colab.utils.hub import check_hub, not_loaded
from grpo_colab.utils.memory import out_of_memory
from grpo_colab.utils.stack import import_unsloth

if TYPE_CHECKING:
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.utils.device import Device

ONE_THREAD_PARAMETERS = 10_000_000  # a model with fewer uses one CPU thread


def load_policy(recipe: Recipe, device: Device, adapter: Path | None = None) -> Policy:
    """Load the recipe's model with a new LoRA adapter, or with the one that `Policy.save` wrote to `adapter`.

    Imports unsloth, which patches other libraries, and may download the model. On a CPU, a small model makes torch use
    one thread. Raises SettingError for a model that cannot be loaded or does not fit, for a [lora] or an adapter that
    it cannot take, and where unsloth is not installed or is imported too late.
    """
    loader = import_unsloth().FastLanguageModel
    arguments = model_arguments(recipe, device)

    try:
        check_hub(recipe.model_path)
        model, tokenizer = loader.from_pretrained(**_supported(loader.from_pretrained, arguments, device))
    # These mean no network, no access, no disk space, or a folder that holds no model. Unsloth's GPU loader raises most
    # of them as a RuntimeError.
    except (OSError, ValueError, RuntimeError, ImportError, NotImplementedError) as error:
        name = recipe.model["model_name"]
        if out_of_memory(error):
            raise SettingError(
                f"out of memory while it was loaded ({one_line(error)})",
                setting="model.model_name",
                value=name,
                remedy="free the memory that other processes hold (`grpo-colab doctor` names them), take a smaller "
                "model, or write model.load_in_4bit = true",
            ) from error
        raise SettingError(**not_loaded(name, error)) from error
    if device.kind == "cpu":
        _choose_threads(model)
        _multiply_logits_once(model)
    try:
        model = loader.get_peft_model(model, **recipe.lora)
    except (ValueError, TypeError, KeyError) as error:
        raise SettingError(
            f"this model cannot be given such an adapter ({one_line(error)})",
            setting="[lora]",
            remedy="write settings that PEFT takes for this model, such as the names of its own modules in "
            "lora.target_modules",
        ) from error
    tokenizer, asking = with_chat_template(recipe, tokenizer), Asking.of(recipe)
    _leave_spaces_alone(text_tokenizer(tokenizer))
    said = end_answers(model, tokenizer, asking)
    if said:
        info(said)
    reason = unmergeable(model) if asking.merged else None
    if reason:
        info(f"{MERGE_SETTING}: the adapter is not merged {reason}. It generates as usual")
    policy = Policy(model, tokenizer, asking)
    if adapter is not None:
        policy.load_adapter(adapter)
    return policy


def _leave_spaces_alone(tokenizer: Any) -> None:
    """Turn off a tokenizer's cleaning of spaces. For BPE transformers ignores it, with a remark at the first answer."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and type(backend.model).__name__ == "BPE":
        tokenizer.clean_up_tokenization_spaces = False


def _choose_threads(model: Any) -> None:
    """Make torch use one CPU thread for a small model, unless OMP_NUM_THREADS is set.

    A small model's matrices are too small to divide among threads. On idle cores a second thread makes a step a quarter
    shorter. Where another process uses one of the cores it makes a step six times longer, since each of thousands of
    small operations then waits for that core (tests/benchmarks/threads.py).
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and model.num_parameters() < ONE_THREAD_PARAMETERS:
        torch.set_num_threads(1)


def _multiply_logits_once(model: Any) -> None:
    """Give the model's head its hidden states in one piece, so that torch multiplies them as one matrix.

    A model passes the last positions of each sequence, a slice. For a slice torch copies a frozen head's weights once
    for each sequence of a batch, and multiplies one by one: of 152,000 tokens and 16 sequences it is a copy of 4 GiB,
    which takes most of a minute's work of a small model on a CPU (tests/benchmarks/head.py). A GPU copies nothing.
    """
    head = model.get_output_embeddings()
    if head is not None:
        head.register_forward_pre_hook(lambda _, hidden: tuple(one.contiguous() for one in hidden))


def model_arguments(recipe: Recipe, device: Device) -> dict[str, Any]:
    """Return the recipe's [model] table as arguments of from_pretrained, without the chat template, which is ours.

    The model's path and dtype are resolved, and vLLM is on only where it can run. With vLLM, the LoRA rank becomes
    max_lora_rank unless that is set, and for a GPU below compute capability 8.0 UNSLOTH_VLLM_NO_FLASHINFER is set in
    the environment. Raises SettingError for a dtype that torch does not have.
    """
    import torch

    arguments = {**recipe.model, "model_name": recipe.model_path}
    arguments.pop(CHAT_TEMPLATE, None)
    if isinstance(arguments.get("dtype"), str):
        arguments["dtype"] = getattr(torch, arguments["dtype"], None)
        if not isinstance(arguments["dtype"], torch.dtype):
            raise SettingError(
                "is not a dtype of torch",
                setting="model.dtype",
                value=recipe.model["dtype"],
                remedy="write 'float16' or 'bfloat16'",
            )
    if device.kind == "cuda" and "dtype" not in arguments:
        arguments["dtype"] = torch.bfloat16 if device.bf16 else torch.float16
    if device.kind == "cpu" and "dtype" not in arguments and recipe.brings_model:
        # Unsloth would take bfloat16 where the CPU has it. That is slower for models this small, and makes the results
        # depend on the CPU.
        arguments["dtype"] = torch.float32
    arguments["fast_inference"] = bool(arguments.get("fast_inference")) and device.vllm
    if arguments["fast_inference"]:
        arguments.setdefault("max_lora_rank", recipe.lora.get("r", 16))
        # FlashInfer has no kernels for a T4. Unsloth reads this variable.
        if (device.capability or (0, 0)) < (8, 0):
            os.environ.setdefault("UNSLOTH_VLLM_NO_FLASHINFER", "1")
    return arguments


def _supported(loader: Any, arguments: dict[str, Any], device: Device) -> dict[str, Any]:
    """Return the arguments that the loader has a parameter for; on a GPU all of them.

    Unsloth's CPU loader passes all others on to the model's constructor, which does not know those of the GPU loader.
    """
    if device.kind == "cuda":
        return arguments
    parameters = inspect.signature(loader).parameters
    return {key: value for key, value in arguments.items() if key in parameters}
