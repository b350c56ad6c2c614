"""Generate with the policy, save it, and check what was saved.

The policy is a causal language model with its tokenizer and its LoRA adapter. `loading` loads one.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.policy.adapter_file import trouble_in_matrices
from grpo_colab.policy.asking import Asking
from grpo_colab.policy.engine import awake, free_decoding, release_engine, replayed_decoding
from grpo_colab.policy.merging import merged_adapter
from grpo_colab.policy.turns import end_tokens
from grpo_colab.utils import files
from grpo_colab.utils.memory import free_memory, out_of_memory

if TYPE_CHECKING:
    from grpo_colab.tasks import Message

# How far the log-probabilities of a reloaded adapter may be from those in memory, in nats per token: a GPU rounds.
SAME_NATS = 0.01


@dataclass
class Policy:
    """The model that is trained. `model` is a causal language model of transformers with a PEFT adapter.

    `asking` renders its prompts and decides its answers, in training and everywhere else.
    """

    model: Any
    tokenizer: Any
    asking: Asking = field(default_factory=Asking)

    def generate(
        self,
        prompts: Sequence[Sequence[Message]],
        max_new_tokens: int,
        batch_size: int = 64,
        on_progress: Callable[[float], None] | None = None,
    ) -> list[str]:
        """Return a greedy completion of each conversation, as text without special tokens, in the prompts' order.

        Without prompts the list is empty. vLLM answers all prompts at once where the model has it, and shows a bar of
        its own. transformers answers `batch_size` at a time, and fewer when memory runs out; `on_progress` is then
        called after each token with the share that is done, from 0 to 1, as if no completion ended early. Raises
        SettingError when memory runs out with one.
        """
        texts = [self.prompt_text(prompt) for prompt in prompts]
        # Batch prompts of similar length, so that little of a batch is padding.
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        tokens = self._complete([texts[index] for index in order], max_new_tokens, batch_size, on_progress)
        completions = dict(zip(order, self.tokenizer.batch_decode(tokens, skip_special_tokens=True), strict=True))
        return [completions[index] for index in range(len(texts))]

    def sample(
        self,
        prompts: Sequence[Sequence[Message]],
        n: int,
        max_new_tokens: int,
        *,
        temperature: float,
        top_p: float = 1.0,
        batch_size: int = 64,
    ) -> list[list[int]]:
        """Sample `n` completions of each conversation, and return the tokens of those of the first, then of the next.

        The last token of a completion is one that ends an answer, unless it was cut off at `max_new_tokens`. Batches
        are made, and SettingError is raised, as in `generate`.
        """
        texts = [text for text in map(self.prompt_text, prompts) for _ in range(n)]
        return self._complete(texts, max_new_tokens, batch_size, temperature=temperature, top_p=top_p)

    def _complete(
        self,
        texts: Sequence[str],
        max_new_tokens: int,
        batch_size: int,
        on_progress: Callable[[float], None] | None = None,
        **sampling: float,
    ) -> list[list[int]]:
        """Return the tokens of a completion for each prompt text, in their order; greedy without `sampling`.

        `sampling` is temperature and top_p. A model with vLLM gets all texts at once. Otherwise, when memory runs out,
        the batch is halved and tried again. Raises SettingError when a batch of one is too large, and passes on every
        other error.
        """
        if texts and getattr(self.model, "vllm_engine", None) is not None:
            return self._complete_with_vllm(texts, max_new_tokens, **sampling)
        completions: list[list[int]] = []
        with replayed_decoding(self.model), self.merged():
            while len(completions) < len(texts):
                batch = texts[len(completions) :][:batch_size]
                ticker = None
                if on_progress is not None:
                    ticker = _TokenTicker(on_progress, len(completions), len(batch), len(texts), max_new_tokens)
                try:
                    completions += self._complete_batch(batch, max_new_tokens, ticker, **sampling)
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
                # Only outside of the handler: the exception's frames hold the batch's memory.
                free_decoding(self.model)
                free_memory()
                batch_size = len(batch) // 2
        return completions

    def merged(self) -> AbstractContextManager[None]:
        """Return a context in which the adapter is merged into the base, where `asking` says so and that is exact."""
        return merged_adapter(self.model) if self.asking.merged else contextlib.nullcontext()

    def prompt_text(self, prompt: Sequence[Message]) -> str:
        """Return the conversation as the model's chat template writes it, up to where its answer begins."""
        return self.asking.prompt_text(self.tokenizer, prompt)

    def prompt_ids(self, prompt: Sequence[Message]) -> list[int]:
        """Return the conversation's tokens, including those of the chat template."""
        return self.asking.prompt_ids(self.tokenizer, prompt)

    def _complete_batch(
        self, texts: Sequence[str], max_new_tokens: int, ticker: _TokenTicker | None = None, **sampling: float
    ) -> list[list[int]]:
        """Return the tokens of a completion for each prompt text, generated as one batch by transformers.

        A completion ends with its first end token. `ticker` is told of each token. The model is in evaluation mode
        meanwhile, and gets its mode back also after an error. Raises RuntimeError when memory runs out.
        """
        import torch

        # Without sampling these have no meaning, and None keeps transformers from warning about the model's own values.
        options: dict[str, Any] = dict.fromkeys(("temperature", "top_p", "top_k"))
        if sampling:
            options = {"top_k": 0, **sampling}
        was_training = self.model.training
        self.set_training(training=False)
        try:
            # Unsloth pads right for training. For generation a prompt must end where the completion begins.
            inputs = self.tokenizer(
                list(texts), return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False
            ).to(self.model.device)
            with torch.inference_mode():
                tokens = self.model.generate(
                    **inputs,
                    max_new_tokens=max_new_tokens,
                    do_sample=bool(sampling),
                    **({"streamer": ticker} if ticker is not None else {}),
                    **options,
                    # As in training. It has a repetition penalty, since some models' own configuration has a high one.
                    **self.asking.decoding,
                    pad_token_id=self.tokenizer.pad_token_id,
                )
        finally:
            self.set_training(training=was_training)
        ends, prompt_length = end_tokens(self.model, self.tokenizer), inputs["input_ids"].shape[1]
        return [_cut_after_end(row, ends) for row in tokens[:, prompt_length:].tolist()]

    def _complete_with_vllm(self, texts: Sequence[str], max_new_tokens: int, **sampling: float) -> list[list[int]]:
        """Return the tokens of a completion for each prompt text, generated by the model's vLLM engine.

        The adapter is saved to a temporary folder first, from which vLLM loads it. An engine that sleeps is woken.
        """
        from vllm import SamplingParams

        decoding = {key: value for key, value in self.asking.decoding.items() if key != "cache_implementation"}
        # The engine has a tokenizer and a configuration of its own, which may name other ends.
        decoding["stop_token_ids"] = end_tokens(self.model, self.tokenizer)
        parameters = SamplingParams(max_tokens=max_new_tokens, **decoding, **(sampling or {"temperature": 0.0}))
        # vLLM loads an adapter from a folder.
        with awake(self.model.vllm_engine), tempfile.TemporaryDirectory() as folder:
            self.model.save_lora(folder)
            # Pass token ids: the chat template writes the beginning-of-sequence token, and vLLM would add another.
            ids = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
            prompts = [{"prompt_token_ids": prompt} for prompt in ids]
            outputs = self.model.fast_generate(prompts, parameters, lora_request=self.model.load_lora(folder))
        return [list(output.outputs[0].token_ids) for output in outputs]

    def close(self) -> None:
        """Give back the memory of the model's vLLM engine, if it has one: a second one would not fit beside it.

        The policy generates without vLLM afterwards. Its weights are freed with its last reference.
        """
        release_engine(self.model)

    def set_training(self, training: bool) -> None:
        """Put the model into training or evaluation mode.

        Unsloth's models have switches of their own, which also turn its inference kernels off and on.
        """
        switch = "for_training" if training else "for_inference"
        if hasattr(self.model, switch):
            getattr(self.model, switch)()
        else:
            self.model.train(training)

    def save(self, path: Path, card: str = "") -> None:
        """Write the adapter and the tokenizer to the folder `path`, as PEFT and transformers save them.

        `card` becomes its README.md, in place of PEFT's form, which names the base model's folder on this machine.
        Folders above it are made. Both are written to a temporary folder, which then replaces all that is at `path`: a
        failure to write them leaves what was there before. Such a failure is raised as OSError, or as the error that
        safetensors or tokenizers has for it.
        """
        # A name that nobody can guess, so that nothing stands there already.
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
        temporary.mkdir(parents=True)
        try:
            self.model.save_pretrained(temporary)
            self.tokenizer.save_pretrained(temporary)
            readme = temporary / "README.md"
            readme.unlink(missing_ok=True)
            if card:
                files.write_text(readme, card)
            files.remove(path)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def load_adapter(self, path: Path) -> None:
        """Load the weights in the folder `path` into the model's adapter.

        Raises SettingError when they are missing, damaged, or do not belong to this adapter. Where only some do not
        belong, the others are loaded all the same. Raises RuntimeError for matrices of another size.
        """
        from peft import load_peft_weights, set_peft_model_state_dict
        from safetensors import SafetensorError

        file = path / "adapter_model.safetensors"
        # Without this PEFT would ask the hub for a repository of this folder's name.
        if not file.is_file():
            raise SettingError(f"has no {file.name}", remedy="take another checkpoint, or train again", place=path)
        try:
            weights = load_peft_weights(str(path), device=str(self.model.device))
        except (SafetensorError, OSError, ValueError) as error:
            raise SettingError(
                f"its {file.name} is damaged ({one_line(error)})",
                remedy="take another checkpoint, or train again",
                place=path,
            ) from error
        remedy = "write the [model] and [lora] that it was trained with, or train again"
        try:
            result = set_peft_model_state_dict(self.model, weights)
        except RuntimeError as error:  # matrices of other sizes, as of another rank
            problem = f"is not an adapter of this model with this [lora] table ({one_line(error)})"
            raise SettingError(problem, remedy=remedy, place=path) from error
        # Look only at this adapter's matrices: TRL may keep another one beside it, the reference.
        missing = [name for name in result.missing_keys if "lora_" in name and ".default." in name]
        if missing or result.unexpected_keys:
            raise SettingError(
                f"is not an adapter of this model with this [lora] table ({len(missing)} of its matrices are missing "
                f"there, {len(result.unexpected_keys)} do not belong to it)",
                remedy=remedy,
                place=path,
            )

    def log_probabilities(
        self, samples: Sequence[tuple[Sequence[Message], str]], base: bool = False, limit_tokens: int = 128
    ) -> list[tuple[float, int]]:
        """Return for each completion its mean log-probability, in nats per token, and the number of tokens it is over.

        `samples` are prompts with completions, of which the first `limit_tokens` tokens count. Empty completions are
        left out, so the list may be shorter than `samples`. With `base` the model without its adapter is asked. The
        random states, and the model's modes and flags, are restored afterwards.
        """
        import torch

        values = []
        with self._restore_state(), self.model.disable_adapter() if base else contextlib.nullcontext():
            for prompt, completion in samples:
                if not completion:
                    continue
                prompt_ids = self.prompt_ids(prompt)
                completion_ids = self.tokenizer(completion, add_special_tokens=False)["input_ids"][:limit_tokens]
                ids = torch.tensor([prompt_ids + completion_ids], device=self.model.device)
                labels = torch.tensor([[-100] * len(prompt_ids) + completion_ids], device=self.model.device)
                # The loss is the negative mean over the labels that are not -100. Unsloth's models may return no
                # logits to compute it from.
                loss = self.model(input_ids=ids, labels=labels, use_cache=False).loss.item()
                values.append((-loss, len(completion_ids)))
        return values

    def check_saved_adapter(self, path: Path, samples: Sequence[tuple[Sequence[Message], str]]) -> list[str]:
        """Return what is wrong with the adapter saved in `path`, in words; an empty list when it is the one in memory.

        The saved adapter is loaded beside the policy's own, and removed again. For `samples`, prompts with completions,
        it must give the same log-probabilities. An adapter with biases is not loaded; only its matrices are looked at.
        Any exception, as for a missing file, becomes one of the returned texts.
        """
        troubles: list[str] = []
        active = self.model.active_adapter
        with self._restore_state():
            try:
                troubles += trouble_in_matrices(path)
                # PEFT takes a second adapter only where none has a bias.
                if self.model.peft_config[active].bias != "none":
                    return troubles
                in_memory = self.log_probabilities(samples)
                keys = self.model.load_adapter(str(path), "saved", torch_device=str(self.model.device))
                missing, foreign = len(keys.missing_keys), len(keys.unexpected_keys)
                if missing or foreign:
                    troubles.append(f"{missing} of its matrices are missing, {foreign} do not belong to this model")
                self.model.set_adapter("saved", inference_mode=True)
                pairs = zip(in_memory, self.log_probabilities(samples), strict=True)
                differences = [abs(ours - saved) for (ours, _), (saved, _) in pairs]
                # Not `any(... > SAME_NATS)`, which would let NaN pass.
                if not all(nats <= SAME_NATS for nats in differences):
                    troubles.append(
                        f"reloaded, it is {max(differences):.2g} nats per token away from the policy in memory"
                    )
            except Exception as error:  # noqa: BLE001 - whoever loads this adapter would meet the same error
                troubles.append(f"it cannot be reloaded ({one_line(error)})")
            finally:
                if "saved" in self.model.peft_config:
                    self.model.set_adapter(active)
                    self.model.delete_adapter("saved")
        return troubles

    @contextlib.contextmanager
    def _restore_state(self) -> Iterator[None]:
        """Evaluate without gradients, then restore the random states, the modules' modes and requires_grad."""
        import torch

        modes = [(module, module.training) for module in self.model.modules()]
        gradients = [(parameter, parameter.requires_grad) for parameter in self.model.parameters()]
        try:
            with torch.random.fork_rng(range(torch.cuda.device_count())), torch.no_grad():
                self.model.eval()
                yield
        finally:
            for module, training in modes:
                module.training = training
            for parameter, requires_grad in gradients:
                parameter.requires_grad_(requires_grad)


class _TokenTicker:
    """Tell how far a generation is, as a streamer of transformers, which is handed each token as it comes.

    `before` completions are done, this batch has `rows` of them, and all batches together have `total`.
    """

    def __init__(
        self, on_progress: Callable[[float], None], before: int, rows: int, total: int, max_new_tokens: int
    ) -> None:
        self.on_progress, self.before, self.rows, self.total = on_progress, before, rows, total
        self.max_new_tokens = max_new_tokens
        self.tokens = -1  # the prompt comes first

    def put(self, value: Any) -> None:
        """Count one more token of each completion. `value` holds them, and at first the prompts."""
        self.tokens += 1
        self.on_progress((self.before + self.rows * min(1.0, self.tokens / self.max_new_tokens)) / self.total)

    def end(self) -> None:
        """Count the whole batch as done."""
        self.on_progress((self.before + self.rows) / self.total)


def _cut_after_end(tokens: list[int], ends: Collection[int]) -> list[int]:
    """Return the tokens up to and including the first that ends a completion; what follows it is padding."""
    for position, token in enumerate(tokens):
        if token in ends:
            return tokens[: position + 1]
    return tokens
