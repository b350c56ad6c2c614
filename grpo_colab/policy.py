"""The policy: a causal language model with its tokenizer and its LoRA adapter, loaded, asked and saved here.

The only file that imports `unsloth`, and it does so before anything else of the stack: Unsloth rewrites parts of trl,
transformers and peft, which works only when it comes first. On a GPU this is Unsloth's 4-bit loader, with vLLM where
the recipe wants it and the machine has it; without a GPU the same two calls give Unsloth's CPU backend.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_colab import checkpoints, files
from grpo_colab.errors import SettingError, one_line

if TYPE_CHECKING:
    from grpo_colab.machine import Machine
    from grpo_colab.recipe import Recipe
    from grpo_colab.tasks import Message

ONE_THREAD_PARAMETERS = 10_000_000
SAME_NATS = 0.01  # a token, that a reloaded adapter may be away from what was saved: rounding, on a GPU
NO_MEMORY = ("out of memory", "can't allocate memory", "cublas_status_alloc_failed")
MUST_COME_AFTER_UNSLOTH = ("trl", "transformers", "peft")


@dataclass
class Policy:
    """What is trained and asked. `model` is a transformers causal model with a PEFT adapter."""

    model: Any
    tokenizer: Any

    def generate(self, prompts: Sequence[Sequence[Message]], max_new_tokens: int, batch_size: int = 64) -> list[str]:
        """Answer each conversation greedily; the completions' texts, special tokens left out, in the prompts' order."""
        texts = [self.prompt_text(prompt) for prompt in prompts]
        # of like length together, so that little of a batch is padding
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        said = self._complete([texts[index] for index in order], max_new_tokens, batch_size)
        answers = dict(zip(order, self.tokenizer.batch_decode(said, skip_special_tokens=True), strict=True))
        return [answers[index] for index in range(len(texts))]

    def sample(
        self,
        prompt: Sequence[Message],
        n: int,
        max_new_tokens: int,
        *,
        temperature: float,
        top_p: float = 1.0,
        batch_size: int = 64,
    ) -> list[list[int]]:
        """`n` completions of one conversation, as tokens; the end's token is the last one unless it was cut off."""
        texts = [self.prompt_text(prompt)] * n
        return self._complete(texts, max_new_tokens, batch_size, temperature=temperature, top_p=top_p)

    def _complete(
        self, texts: Sequence[str], max_new_tokens: int, batch_size: int, **sampling: float
    ) -> list[list[int]]:
        """The completions' tokens, in ever smaller batches where memory asks for it; greedy without `sampling`."""
        if texts and getattr(self.model, "vllm_engine", None) is not None:
            return self._complete_with_vllm(texts, max_new_tokens, **sampling)
        answers: list[list[int]] = []
        while len(answers) < len(texts):
            batch = texts[len(answers) :][:batch_size]
            try:
                answers += self._complete_batch(batch, max_new_tokens, **sampling)
                continue
            except RuntimeError as error:
                if not out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise SettingError(
                        f"evaluation.max_completion_tokens = {max_new_tokens}: out of memory with one answer alone "
                        f"({one_line(error)}); write less, or a smaller model.gpu_memory_utilization"
                    ) from error
            free_memory()
            batch_size = len(batch) // 2
        return answers

    def prompt_text(self, prompt: Sequence[Message]) -> str:
        return self.tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)

    def prompt_tokens(self, prompt: Sequence[Message]) -> int:
        """The prompt's length in tokens, the template's own included."""
        return len(self.tokenizer(self.prompt_text(prompt), add_special_tokens=False)["input_ids"])

    def _complete_batch(self, texts: Sequence[str], max_new_tokens: int, **sampling: float) -> list[list[int]]:
        import torch

        was_training = self.model.training
        self.mode(training=False)
        try:
            # Unsloth pads right for training; a batch that is continued must end where the answer begins
            inputs = self.tokenizer(
                list(texts), return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
            ).to(self.model.device)
            with torch.inference_mode():
                tokens = self.model.generate(
                    **inputs,
                    max_new_tokens=max_new_tokens,
                    do_sample=bool(sampling),
                    **({"top_k": 0, **sampling} if sampling else dict.fromkeys(("temperature", "top_p", "top_k"))),
                    repetition_penalty=1.0,  # as in training and with vLLM; some models' own configuration has more
                    pad_token_id=self.tokenizer.pad_token_id,
                )
        finally:
            self.mode(training=was_training)
        ends = self.model.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends, self.tokenizer.eos_token_id}
        return [up_to(ends, row) for row in tokens[:, inputs["input_ids"].shape[1] :].tolist()]

    def _complete_with_vllm(self, texts: Sequence[str], max_new_tokens: int, **sampling: float) -> list[list[int]]:
        from vllm import SamplingParams

        parameters = SamplingParams(max_tokens=max_new_tokens, **(sampling or {"temperature": 0.0}))
        with tempfile.TemporaryDirectory() as folder:  # vLLM takes an adapter from a folder
            self.model.save_lora(folder)
            # as ids: the template writes the beginning of the text itself, and vLLM would add another
            ids = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
            prompts = [{"prompt_token_ids": prompt} for prompt in ids]
            outputs = self.model.fast_generate(prompts, parameters, lora_request=self.model.load_lora(folder))
        return [list(output.outputs[0].token_ids) for output in outputs]

    def mode(self, training: bool) -> None:
        """Unsloth's switches where the model has them: they also turn its inference kernels on and off."""
        switch = "for_training" if training else "for_inference"
        if hasattr(self.model, switch):
            getattr(self.model, switch)()
        else:
            self.model.train(training)

    def save(self, path: Path) -> None:
        """The adapter and the tokenizer, as PEFT and transformers save them: whole, or what stood there before."""
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")  # which nobody has put there before
        temporary.mkdir(parents=True)
        try:
            self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            checkpoints.remove(path)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def load_adapter(self, path: Path) -> None:
        """Give the model's adapter the weights in the folder `path`; SettingError when they are not all there."""
        from peft import load_peft_weights, set_peft_model_state_dict
        from safetensors import SafetensorError

        kept = path / "adapter_model.safetensors"
        if not kept.is_file():  # PEFT would ask the hub for a repository of this folder's name
            raise SettingError(f"{path}: there is no {kept.name} in it; take another checkpoint, or train again")
        try:
            weights = load_peft_weights(str(path), device=str(self.model.device))
        except (SafetensorError, OSError, ValueError) as error:
            raise SettingError(
                f"{path}: its {kept.name} is damaged ({one_line(error)}); take another checkpoint, or train again"
            ) from error
        result = set_peft_model_state_dict(self.model, weights)
        # of this adapter: beside it TRL may keep another, the reference
        missing = [name for name in result.missing_keys if "lora_" in name and ".default." in name]
        if missing or result.unexpected_keys:
            raise SettingError(
                f"{path}: is no adapter of this model with this [lora] table ({len(missing)} of its matrices are "
                f"missing there, {len(result.unexpected_keys)} do not belong to it)"
            )

    def log_probabilities(
        self, samples: Sequence[tuple[Sequence[Message], str]], base: bool = False, limit_tokens: int = 128
    ) -> list[tuple[float, int]]:
        """What each completion's first tokens are worth to the policy, given its prompt: nats a token, and the tokens.

        With `base`, to the model below the adapter. Empty completions are left out. The random states, and the modes
        and flags of the model, are afterwards what they were.
        """
        import torch

        values = []
        with self._undisturbed(), self.model.disable_adapter() if base else contextlib.nullcontext():
            for prompt, completion in samples:
                if completion:
                    asked, said = (
                        self.tokenizer(text, add_special_tokens=False)["input_ids"]
                        for text in (self.prompt_text(prompt), completion)
                    )
                    said = said[:limit_tokens]
                    ids = torch.tensor([asked + said], device=self.model.device)
                    labels = torch.tensor([[-100] * len(asked) + said], device=self.model.device)
                    # the loss, their mean over the labels that are not -100: Unsloth's models may give no logits
                    loss = self.model(input_ids=ids, labels=labels, use_cache=False).loss.item()
                    values.append((-loss, len(said)))
        return values

    def prove(self, path: Path, samples: Sequence[tuple[Sequence[Message], str]]) -> list[str]:
        """What is wrong with the adapter saved in `path`, in words; nothing when it is what is in memory.

        `samples` are prompts with completions, to which the saved adapter, loaded beside the policy's own, must give
        the same log-probabilities.
        """
        from safetensors.torch import load_file

        troubles = []
        active = self.model.active_adapter
        with self._undisturbed():
            try:
                weights = load_file(path / "adapter_model.safetensors")
                matrices = [name for name in weights if "lora_B" in name]
                zero = [name for name in matrices if not weights[name].any()]
                broken = [name for name, values in weights.items() if not values.isfinite().all()]
                if zero:
                    nothing = ", so that the adapter changes nothing" if zero == matrices else ""
                    troubles.append(f"{len(zero)} of {len(matrices)} B matrices are zero{nothing} ({_named(zero)})")
                if broken:
                    troubles.append(f"{len(broken)} matrices hold NaN or infinity ({_named(broken)})")
                if self.model.peft_config[active].bias != "none":
                    return troubles  # PEFT takes no second adapter then
                memory = self.log_probabilities(samples)
                keys = self.model.load_adapter(str(path), "proof", torch_device=str(self.model.device))
                missing, foreign = len(keys.missing_keys), len(keys.unexpected_keys)
                if missing or foreign:
                    troubles.append(f"{missing} of its matrices are missing, {foreign} do not belong to this model")
                self.model.set_adapter("proof", inference_mode=True)
                pairs = zip(memory, self.log_probabilities(samples), strict=True)
                apart = [abs(ours - saved) for (ours, _), (saved, _) in pairs]
                if not all(nats <= SAME_NATS for nats in apart):
                    troubles.append(f"reloaded, it is {max(apart):.2g} nats a token away from the policy in memory")
            except Exception as error:  # noqa: BLE001 - whatever it is, it awaits all who load this adapter
                troubles.append(f"it cannot be reloaded ({one_line(error)})")
            finally:
                if "proof" in self.model.peft_config:
                    self.model.set_adapter(active)
                    self.model.delete_adapter("proof")
        return troubles

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[None]:
        """Evaluation mode, no gradients; afterwards random states, modes and requires_grad are what they were."""
        import torch

        modes = [(module, module.training) for module in self.model.modules()]
        learning = [(parameter, parameter.requires_grad) for parameter in self.model.parameters()]
        try:
            with torch.random.fork_rng(range(torch.cuda.device_count())), torch.no_grad():
                self.model.eval()
                yield
        finally:
            for module, training in modes:
                module.training = training
            for parameter, flag in learning:
                parameter.requires_grad_(flag)


def up_to(ends: Collection[int | None], tokens: list[int]) -> list[int]:
    """`tokens` up to the first that ends an answer, that one included; the rest is padding."""
    return next((tokens[: place + 1] for place, token in enumerate(tokens) if token in ends), tokens)


def _named(names: Sequence[str]) -> str:
    short = [name.removeprefix("base_model.model.").removesuffix(".weight") for name in names[:3]]
    return ", ".join([*short, "..."] if len(names) > 3 else short)


def out_of_memory(error: BaseException) -> bool:
    """Whether a device had no memory left, in the words of torch's allocators, of CUDA and of cuBLAS.

    accelerate's should_reduce_batch_size knows fewer, and takes an unsupported cuDNN call for one.
    """
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in NO_MEMORY)


def free_memory() -> None:
    """Give back what nothing holds any more: after an exception, whose frames hold much, not while it is handled."""
    from accelerate.utils.memory import clear_device_cache

    clear_device_cache(garbage_collection=True)


def import_unsloth() -> Any:
    """Import unsloth, or raise SettingError when it is too late for that or it is not installed."""
    check_import_order()
    # where it keeps compiled code, and imports it from: else a folder where the user stands, before all libraries
    cache = files.expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "grpo_colab" / "unsloth_compiled_cache"
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(cache))
    # said at every import where there is no triton, and nothing that a person could do about
    for name in ("torch.utils._pytree", "torchao.kernel.intmm"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        import unsloth
    except ModuleNotFoundError as error:
        if error.name != "unsloth":
            raise
        raise SettingError("unsloth is not installed; `pip install grpo_colab[train]`, or `make setup`") from None
    return unsloth


def check_import_order() -> None:
    """Raise SettingError when something of the stack was imported before unsloth, which then cannot patch it."""
    early = [name for name in MUST_COME_AFTER_UNSLOTH if name in sys.modules]
    if early and "unsloth" not in sys.modules:
        raise SettingError(
            f"{', '.join(early)} was imported before unsloth, which cannot patch it any more; put `import unsloth` "
            "first in your script, or restart the notebook's runtime and call grpo_colab first"
        )


def load_policy(recipe: Recipe, machine: Machine, adapter: Path | None = None) -> Policy:
    """Load the recipe's model and give it an adapter: FastLanguageModel.from_pretrained, then get_peft_model.

    The adapter is fresh, or holds the weights that `Policy.save` wrote to the folder `adapter`.
    """
    loader = import_unsloth().FastLanguageModel
    arguments = model_arguments(recipe, machine)

    try:
        _check_hub(recipe.model_path)
        model, tokenizer = loader.from_pretrained(**_taken(loader.from_pretrained, arguments, machine))
    # no network, no access, no disk; a folder that is no model; Unsloth's GPU loader says most of it as a RuntimeError
    except (OSError, ValueError, RuntimeError, ImportError, NotImplementedError) as error:
        name = recipe.model["model_name"]
        if out_of_memory(error):
            raise SettingError(
                f"model.model_name = {name!r}: out of memory while it was loaded ({one_line(error)}); free what others "
                "hold (`grpo-colab doctor` says who), take a smaller model, or write model.load_in_4bit = true"
            ) from error
        raise SettingError(_not_loaded(name, error)) from error
    if machine.kind == "cpu":
        _choose_threads(model)
    try:
        model = loader.get_peft_model(model, **recipe.lora)
    except (ValueError, TypeError, KeyError) as error:
        raise SettingError(f"[lora]: this model cannot be given such an adapter ({one_line(error)})") from error
    learner = Policy(model, tokenizer)
    if adapter is not None:
        learner.load_adapter(adapter)
    return learner


def is_local(name: str) -> bool:
    """Tell a folder's name from a repository's, which is `owner/model`."""
    return files.is_folder(name) or name[:1] in (".", "/", "~") or name.count("/") > 1 or "\\" in name


def _check_hub(name: str) -> None:
    """Ask the hub once, for the loader asks a dozen times and waits a minute each; OSError when it does not answer.

    The hub is never asked for what is a folder's name here: that is nobody's business there, and may be taken there.
    """
    import httpx
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, is_offline_mode, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    if is_local(name) and not files.is_folder(name):
        raise FileNotFoundError("there is no such folder")
    if files.is_folder(name) or is_offline_mode() or isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (httpx.TransportError, HfHubHTTPError) as error:
        if isinstance(error, httpx.TransportError) or error.response.status_code >= 500:  # the loader says the rest
            raise OSError(f"{constants.ENDPOINT} does not answer: {one_line(error)}") from error


def _not_loaded(name: str, error: Exception) -> str:
    """What a person can do about a model that was not loaded; every loader's words for a gated one have these two."""
    if "gated repo" in str(error):
        return (
            f"model.model_name = {name!r}: is gated; ask for access on https://huggingface.co/{name}, then set "
            "HF_TOKEN or run `hf auth login`; or write the name of an open copy, such as "
            f"'unsloth/{name.rpartition('/')[2]}'"
        )
    return (
        f"model.model_name = {name!r}: cannot be loaded ({one_line(error)}); write the name of a model on the hub that "
        "you can reach, or the folder of a copy"
    )


def _choose_threads(model: Any) -> None:
    """One thread for a small model, unless OMP_NUM_THREADS says otherwise.

    Its matrices are too small to share out well: a second thread makes a step a quarter shorter on idle cores and six
    times longer where another process has one of them, since each of thousands of small operations then waits for it
    (tests/benchmarks/threads.py).
    """
    import torch

    if "OMP_NUM_THREADS" not in os.environ and model.num_parameters() < ONE_THREAD_PARAMETERS:
        torch.set_num_threads(1)


def model_arguments(recipe: Recipe, machine: Machine) -> dict[str, Any]:
    """The recipe's [model] table as from_pretrained takes it: paths and dtypes resolved, vLLM only where it can run."""
    import torch

    arguments = {**recipe.model, "model_name": recipe.model_path}
    if isinstance(arguments.get("dtype"), str):
        arguments["dtype"] = getattr(torch, arguments["dtype"], None)
        if not isinstance(arguments["dtype"], torch.dtype):
            raise SettingError(f"model.dtype = {recipe.model['dtype']!r}: no such dtype; write 'float16' or 'bfloat16'")
    if machine.kind == "cuda" and "dtype" not in arguments:
        arguments["dtype"] = torch.bfloat16 if machine.bf16 else torch.float16
    if machine.kind == "cpu" and "dtype" not in arguments and recipe.brings_model:
        # Unsloth would take bfloat16 where the CPU has it: slower for models as small, and other results on other CPUs
        arguments["dtype"] = torch.float32
    arguments["fast_inference"] = bool(arguments.get("fast_inference")) and machine.vllm
    if arguments["fast_inference"]:
        arguments.setdefault("max_lora_rank", recipe.lora.get("r", 16))
        if (machine.capability or (0, 0)) < (8, 0):  # FlashInfer has no kernels for a T4, and Unsloth looks here
            os.environ.setdefault("UNSLOTH_VLLM_NO_FLASHINFER", "1")
    return arguments


def _taken(function: Any, arguments: dict[str, Any], machine: Machine) -> dict[str, Any]:
    """On the CPU, without what only the GPU loader has: its **kwargs would reach the model's constructor."""
    if machine.kind == "cuda":
        return arguments
    return {key: value for key, value in arguments.items() if key in inspect.signature(function).parameters}
