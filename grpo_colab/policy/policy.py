"""The policy: a causal language model with its tokenizer and its LoRA adapter. It is asked, saved and proved here.

`policy_loading` makes one.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.utils import files
from grpo_colab.utils.memory import free_memory, out_of_memory

if TYPE_CHECKING:
    from grpo_colab.tasks import Message

SAME_NATS = 0.01  # per token, that a reloaded adapter may differ from what was saved: a GPU rounds


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
                        f"out of memory with a single answer ({one_line(error)})",
                        setting="evaluation.max_completion_tokens",
                        value=max_new_tokens,
                        remedy="write fewer, or a smaller model.gpu_memory_utilization",
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
            files.remove(path)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def load_adapter(self, path: Path) -> None:
        """Give the model's adapter the weights in the folder `path`; SettingError when they are not all there."""
        from peft import load_peft_weights, set_peft_model_state_dict
        from safetensors import SafetensorError

        kept = path / "adapter_model.safetensors"
        if not kept.is_file():  # PEFT would ask the hub for a repository of this folder's name
            raise SettingError(f"has no {kept.name}", remedy="take another checkpoint, or train again", place=path)
        try:
            weights = load_peft_weights(str(path), device=str(self.model.device))
        except (SafetensorError, OSError, ValueError) as error:
            raise SettingError(
                f"its {kept.name} is damaged ({one_line(error)})",
                remedy="take another checkpoint, or train again",
                place=path,
            ) from error
        result = set_peft_model_state_dict(self.model, weights)
        # of this adapter: beside it TRL may keep another, the reference
        missing = [name for name in result.missing_keys if "lora_" in name and ".default." in name]
        if missing or result.unexpected_keys:
            raise SettingError(
                f"is not an adapter of this model with this [lora] table ({len(missing)} of its matrices are missing "
                f"there, {len(result.unexpected_keys)} do not belong to it)",
                remedy="write the [model] and [lora] that it was trained with, or train again",
                place=path,
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
                in_memory = self.log_probabilities(samples)
                keys = self.model.load_adapter(str(path), "proof", torch_device=str(self.model.device))
                missing, foreign = len(keys.missing_keys), len(keys.unexpected_keys)
                if missing or foreign:
                    troubles.append(f"{missing} of its matrices are missing, {foreign} do not belong to this model")
                self.model.set_adapter("proof", inference_mode=True)
                pairs = zip(in_memory, self.log_probabilities(samples), strict=True)
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
