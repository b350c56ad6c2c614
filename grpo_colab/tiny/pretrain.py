"""Makes the tiny model: supervised pre-training from scratch, on the CPU, in minutes.

A Llama of 0.6 million parameters reads the corpus of `corpus.py` once, in endless fresh rows. Only what the model will
have to say is in the loss: the completions, and the results in the rows of equations. Matrices learn with Muon
(https://kellerjordan.github.io/posts/muon), everything else with Adam; Adam alone learns less in the same time.
Left out, for it is a matter of minutes: validation on the way (see `measure.py`), checkpoints, mixed precision.

Run it as `python -m grpo_colab.tiny --out my-model`.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpo_colab.tasks.word_problems import WordProblems
from grpo_colab.tiny.corpus import answered_problems, equations
from grpo_colab.tiny.tokenizer import CONTEXT_TOKENS, train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

IGNORED = -100  # the label of a token that is not in the loss


@dataclass(frozen=True)
class Pretraining:
    """The settings of one pre-training run; the defaults make the shipped model."""

    steps: int = 1500
    seed: int = 0
    chat_rows: int = 56
    equation_rows: int = 8
    equations_per_row: int = 12
    muon_learning_rate: float = 0.02
    adam_learning_rate: float = 3e-3
    warmup_share: float = 1 / 30  # of the steps, over which the learning rates rise from 0
    decay_share: float = 1 / 2  # of the steps, the last ones, over which they fall back to 0
    vocab_size: int = 768
    hidden_size: int = 128
    intermediate_size: int = 352
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2


def pretrain(
    settings: Pretraining, log: Callable[[str], None] = print
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, list[float]]:
    """The trained model (float32, in evaluation mode), its tokenizer, and the loss of every step (nats a token)."""
    import torch

    torch.manual_seed(settings.seed)
    tokenizer = train_tokenizer(_plain_text(settings.seed, n=4000), settings.vocab_size)
    model = build_model(settings, tokenizer)
    log(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    # Embeddings and norms are no linear maps, so Muon is not for them; the output layer is tied to the embedding.
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=settings.muon_learning_rate, weight_decay=0.01),
        torch.optim.Adam(others, lr=settings.adam_learning_rate, betas=(0.9, 0.95)),
    ]
    schedules = [torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(settings)) for optimizer in optimizers]
    batches = make_batches(settings, tokenizer)
    losses, start_s = [], time.monotonic()
    for step in range(settings.steps):
        loss = completion_loss(model, *next(batches))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 50 == 0 or step == settings.steps - 1:
            log(f"step {step}: loss {losses[-1]:.4f}, {time.monotonic() - start_s:.0f} s")
    return model.eval(), tokenizer, losses


def build_model(settings: Pretraining, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """An untrained Llama that fits the tokenizer."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.intermediate_size,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.kv_heads,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    tokens = {name: getattr(config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    model.generation_config = GenerationConfig(max_new_tokens=64, **tokens)
    return model


def make_batches(
    settings: Pretraining, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (input ids, labels), both of shape [rows, tokens], padded on the right."""
    import torch

    chats, facts = answered_problems(settings.seed), equations(settings.seed)
    equals, newline = (tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))[0] for text in (" =", "\n"))
    task = WordProblems()
    while True:
        rows = []
        for problem, completion in itertools.islice(chats, settings.chat_rows):
            messages = task.messages(problem)
            prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
            answer = tokenizer.encode(completion + tokenizer.eos_token)
            rows.append((prompt + answer, [IGNORED] * len(prompt) + answer))
        for _ in range(settings.equation_rows):
            text = "\n".join(itertools.islice(facts, settings.equations_per_row)) + "\n"
            ids = [tokenizer.bos_token_id, *tokenizer.encode(text)]
            rows.append((ids, _results_only(ids, equals, newline)))
        length = max(len(ids) for ids, _ in rows)
        pad = tokenizer.pad_token_id
        yield (
            torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in rows]),
            torch.tensor([labels + [IGNORED] * (length - len(labels)) for _, labels in rows]),
        )


def completion_loss(model: LlamaForCausalLM, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the labelled tokens, in nats. Padding is on the right, where nothing attends to it."""
    import torch

    hidden = model.model(input_ids, use_cache=False).last_hidden_state[:, :-1]  # [rows, tokens - 1, hidden]
    targets = labels[:, 1:]
    in_loss = targets != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[in_loss]), targets[in_loss])


def _results_only(ids: list[int], equals: int, newline: int) -> list[int]:
    """Labels for a row of equations: what follows each "=", up to the end of its line."""
    labels, in_result = [], False
    for token in ids:
        labels.append(token if in_result else IGNORED)
        if token in (equals, newline):
            in_result = token == equals
    return labels


def _schedule(settings: Pretraining) -> Callable[[int], float]:
    """Warm up, hold, and fall linearly to 0."""
    warmup_steps, decay_steps = settings.warmup_share * settings.steps, settings.decay_share * settings.steps
    return lambda step: min(1.0, (step + 1) / warmup_steps, (settings.steps - step) / decay_steps)


def _plain_text(seed: int, n: int) -> Iterator[str]:
    """Text to learn merges from: questions and completions without their tags, which are tokens already."""
    for problem, completion in itertools.islice(answered_problems(seed), n):
        plain = completion.replace("<", "\n<").replace(">", ">\n")
        yield problem.question + "\n" + "\n".join(line for line in plain.splitlines() if not line.startswith("<"))
    for role in ("system", "user", "assistant", WordProblems.default_system_prompt):
        yield from [role + "\n\n"] * n
