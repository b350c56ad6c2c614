"""What generates beside transformers: vLLM's engine, and on a GPU Unsloth's decoding from CUDA graphs.

vLLM's engine is that of the model, made by Unsloth. While a step learns it may sleep, and its memory is then the
trainer's. An engine that sleeps answers nobody: whoever asks it waits forever.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError, one_line
from grpo_colab.utils.console import warn
from grpo_colab.utils.memory import free_memory

if TYPE_CHECKING:
    from grpo_colab.recipe.recipe import Recipe

STANDBY: Final = "UNSLOTH_VLLM_STANDBY"  # the environment variable by which Unsloth makes engines that can sleep
# What Unsloth gives a model that has an engine, and what leads to it.
OF_THE_ENGINE: Final = ("vllm_engine", "fast_generate", "fast_generate_batches", "load_lora")


def check_standby(recipe: Recipe) -> None:
    """Raise SettingError where TRL would put vLLM's engine to sleep, and Unsloth makes it without that mode.

    Such an engine gives no memory back. vLLM may also refuse to let it sleep, since Unsloth then lets torch's memory
    grow in segments.
    """
    setting = "vllm_enable_sleep_mode"
    if recipe.grpo.get(setting) and os.environ.get(STANDBY, "0") == "0":
        raise SettingError(
            f"Unsloth makes an engine that can sleep only with {STANDBY}=1 in the environment",
            setting=f"grpo.{setting}",
            value=recipe.grpo[setting],
            remedy=f"set {STANDBY}=1 before Unsloth is imported, by which the engine sleeps between the generations, "
            "or take it out",
        )


@contextlib.contextmanager
def awake(engine: Any) -> Iterator[None]:
    """Wake a vLLM engine that sleeps, and put it back to sleep afterwards, also after an error.

    An engine that is awake stays so. TRL remembers whether its engine sleeps. It wakes one that sleeps without its
    knowledge only in part, and vLLM then maps memory twice.
    """
    slept = _wake(engine)
    try:
        yield
    finally:
        if slept:
            engine.sleep()  # level 1, which loses no weights


def _wake(engine: Any) -> bool:
    """Wake a vLLM engine, and tell whether it slept."""
    if not engine.llm_engine.is_sleeping():
        return False
    free_memory()  # what torch keeps in its cache is memory that the engine is about to map
    engine.wake_up()
    return True


def release_engine(model: Any) -> None:
    """Take vLLM's engine from a model that has one, and give its memory back by Unsloth's own `delete_vllm`.

    The model keeps its weights, and generates by transformers from then on. An engine that sleeps is woken before,
    since vLLM frees what it has mapped. Where that fails, a warning says so. Among several processes nothing is done:
    the engines end with them, and `delete_vllm` would end what connects the processes.
    """
    if getattr(model, "vllm_engine", None) is None:
        return
    import torch.distributed

    if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
        return
    engine = model.vllm_engine
    for module in model.modules():
        for name in OF_THE_ENGINE:
            vars(module).pop(name, None)
    try:
        from unsloth_zoo.vllm_utils import delete_vllm

        _wake(engine)
        delete_vllm(engine)
    except Exception as error:  # noqa: BLE001 - it is told, and the run's result does not depend on it
        warn(f"vLLM's memory was not given back ({one_line(error)}): restart this process before the next model")
    del engine  # the last reference to it
    free_memory()


@contextlib.contextmanager
def replayed_decoding(model: Any) -> Iterator[None]:
    """Generate inside as Unsloth's trainers do: on a GPU the decode steps are replayed from CUDA graphs.

    Unsloth does so for a trainer's completions alone, and for Llama and Qwen3 models; a replayed step computes bit for
    bit what the usual one does. UNSLOTH_DECODE_CUDA_GRAPHS=0 turns it off, as in training. Elsewhere, and with a
    version of Unsloth that has none, nothing changes. The graphs and the key-value cache are freed at the end.
    """
    with getattr(_decode_graphs(), "rl_generation", contextlib.nullcontext)():
        try:
            yield
        finally:
            free_decoding(model)


def free_decoding(model: Any) -> None:
    """Free the graphs and the key-value cache that Unsloth keeps in a model after it has generated."""
    release = getattr(_decode_graphs(), "release_for_training", None)
    if release is not None:
        release(model)


def _decode_graphs() -> Any:
    """Return Unsloth's module of CUDA graphs; None where it has none, or its loader of a GPU is not in use."""
    return sys.modules.get("unsloth.models._decode_graphs")
