"""Make the tiny word problem model: supervised training from scratch, on the CPU, in minutes.

A Llama of 0.6 million parameters reads rows of `corpus`, each of them once. The loss covers only what the model has to
write itself: the completions, and the results in the rows of equations.

Run it as `python -m grpo_colab.tiny --out my-model`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grpo_colab.tasks.word_problems import WordProblems
from grpo_colab.tiny.corpus import answered_problems, equations
from grpo_colab.tiny.descent import IGNORED, Descent, descend
from grpo_colab.tiny.tokenizer import CONTEXT_TOKENS, train_tokenizer

if TYPE_CHECKING:
    import torch
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Pretraining(Descent):
    """The settings of a training; the defaults make the shipped model. A batch has chat rows and equation rows."""

    chat_rows: int = 56
    equation_rows: int = 8
    equations_per_row: int = 12
    vocab_size: int = 768
    hidden_size: int = 128
    intermediate_size: int = 352
    layers: int = 3
    heads: int = 4
    kv_heads: int = 2


def pretrain(
    settings: Pretraining, log: Callable[[str], None] = print
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, list[float]]:
    """Return the trained model (float32, in evaluation mode), its tokenizer, and the loss of every step.

    Losses are in nats per token. `log` gets a line with the model's size, and one every 50 steps. The seed of torch is
    set to that of the settings.
    """
    import torch

    torch.manual_seed(settings.seed)
    tokenizer = train_tokenizer(_plain_text(settings.seed, n=4000), settings.vocab_size)
    model = build_model(settings, tokenizer)
    log(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens")
    # Embeddings are no linear layers, so Muon does not optimise them. The output layer is tied to the embedding.
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    batches = make_batches(settings, tokenizer)
    losses = descend(settings, lambda: completion_loss(model, *next(batches)), matrices, others, log)
    return model.eval(), tokenizer, losses


def build_model(settings: Pretraining, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return an untrained Llama with the tokenizer's vocabulary."""
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
    """Yield batches without end: input ids and labels, both of shape [rows, tokens], padded on the right.

    A batch has the answered problems first, then the rows of equations. The labels are IGNORED but for the completions
    and for the results of the equations. The same seed gives the same batches.
    """
    import torch

    chats = answered_problems(settings.seed)
    steps = equations(settings.seed)
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
            text = "\n".join(itertools.islice(steps, settings.equations_per_row)) + "\n"
            ids = [tokenizer.bos_token_id, *tokenizer.encode(text)]
            rows.append((ids, _results_only(ids, equals, newline)))
        length = max(len(ids) for ids, _ in rows)
        pad = tokenizer.pad_token_id
        yield (
            torch.tensor([ids + [pad] * (length - len(ids)) for ids, _ in rows]),
            torch.tensor([labels + [IGNORED] * (length - len(labels)) for _, labels in rows]),
        )


def completion_loss(model: LlamaForCausalLM, input_ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the mean cross-entropy over the labelled tokens, in nats; the arguments are of shape [rows, tokens]."""
    import torch

    # No attention mask is needed: padding is on the right, and a causal model does not attend to it.
    hidden = model.model(input_ids, use_cache=False).last_hidden_state[:, :-1]  # [rows, tokens - 1, hidden]
    targets = labels[:, 1:]
    in_loss = targets != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[in_loss]), targets[in_loss])


def _results_only(ids: list[int], equals: int, newline: int) -> list[int]:
    """Return the labels of a row of equations: what follows each "=" up to the end of its line, with the line end.

    All other labels are IGNORED. There is a label per token of `ids`. `equals` and `newline` are the ids of those
    tokens.
    """
    labels = []
    in_result = False
    for token in ids:
        labels.append(token if in_result else IGNORED)
        if token in (equals, newline):
            in_result = token == equals
    return labels


def _plain_text(seed: int, n: int) -> Iterator[str]:
    """Yield the text from which the tokenizer learns its merges.

    These are `n` questions with their completions, without the tags, which are tokens already. Roles and the system
    prompt follow, `n` times each, so that they are merged into few tokens.
    """
    for problem, completion in itertools.islice(answered_problems(seed), n):
        tags_alone = completion.replace("<", "\n<").replace(">", ">\n")
        lines = [line for line in tags_alone.splitlines() if not line.startswith("<")]
        yield problem.question + "\n" + "\n".join(lines)
    for role in ("system", "user", "assistant", WordProblems.default_system_prompt):
        yield from [role + "\n\n"] * n
