"""Measure what the tiny model can do before GRPO, by plain generation of transformers: the numbers on its card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grpo_colab.rewards import grade, strict_format_reward
from grpo_colab.tasks import Problem
from grpo_colab.tasks.word_problems import WordProblems

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


def complete(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    *,
    temperature: float = 0.0,
    opening: str = "",
    banned: Sequence[str] = (),
    batch_size: int = 128,
) -> list[str]:
    """Return a completion for each problem, greedy at temperature 0 and sampled otherwise, in their order.

    Every completion begins with `opening`, which the model continues by up to 48 tokens. Special tokens are left out.
    The tokens in `banned` are never generated. `batch_size` problems are answered at once.
    """
    import torch

    settings: dict[str, Any] = {"do_sample": temperature > 0, "max_new_tokens": 48}
    if temperature > 0:
        settings |= {"temperature": temperature, "top_k": 0}
    if banned:
        settings["suppress_tokens"] = tokenizer.convert_tokens_to_ids(list(banned))
    task = WordProblems()
    prompts = [
        tokenizer.apply_chat_template(task.messages(problem), add_generation_prompt=True, tokenize=False) + opening
        for problem in problems
    ]
    completions: list[str] = []
    for first in range(0, len(prompts), batch_size):
        batch = tokenizer(
            prompts[first : first + batch_size],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
        )
        with torch.inference_mode():
            ids = model.generate(**batch, **settings)  # [problems, prompt and completion tokens]
        tails = tokenizer.batch_decode(ids[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
        completions += [opening + tail for tail in tails]
    return completions


def accuracy(completions: Sequence[str], problems: Sequence[Problem]) -> float:
    """Return the share of completions, from 0 to 1, that are right by the parser of the rewards.

    Completion i answers problem i. Raises ValueError for lists of different lengths, and ZeroDivisionError for empty
    ones.
    """
    right = [grade(text, problem.answer).right for text, problem in zip(completions, problems, strict=True)]
    return sum(right) / len(right)


def measure(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: Sequence[Problem]
) -> dict[str, float]:
    """Return the accuracy of greedy and of sampled completions, and the share of samples in the strict format.

    All are shares from 0 to 1. Each accuracy is measured twice: without a restriction, and restricted to the
    step-by-step style. Samples are at temperature 1. Raises ZeroDivisionError without problems.
    """
    # A sum on one line differs from a step by beginning with a bracket. Without brackets, only steps are left.
    brackets = [token for token in tokenizer.get_vocab() if "(" in token]
    steps_only: dict[str, Any] = {"opening": "<reasoning>\n", "banned": brackets}
    sampled = complete(model, tokenizer, problems, temperature=1.0)
    return {
        "accuracy/greedy": accuracy(complete(model, tokenizer, problems), problems),
        "accuracy/sampled": accuracy(sampled, problems),
        "accuracy/steps_greedy": accuracy(complete(model, tokenizer, problems, **steps_only), problems),
        "accuracy/steps_sampled": accuracy(
            complete(model, tokenizer, problems, temperature=1.0, **steps_only), problems
        ),
        "format/strict": sum(strict_format_reward(sampled)) / len(sampled),
    }
