"""Time a model's forward pass on a CPU, with its hidden states given to a frozen head as a slice and in one piece.

    python tests/benchmarks/head.py [--model DIR] [--rows 16] [--rounds 3]

Without --model, a model of Qwen2.5-0.5B's shape with two of its 24 layers and random weights, in bfloat16. Both are
timed in turns in one process: the prompt of a generation, of which one position is asked, and a learning step's forward
pass, of which 200 are.
"""

from __future__ import annotations

import argparse
import statistics
import time

from grpo_colab import Recipe
from grpo_colab.policy.loading import load_policy
from grpo_colab.utils.device import current_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    model = loaded(given.model)
    import torch

    head = model.get_output_embeddings()
    (in_one_piece,) = head._forward_pre_hooks.values()
    ids = torch.randint(10, 1000, (given.rows, 270))
    for what, tokens, kept in (("prompt, 1 position of 70", 70, 1), ("completion, 201 positions of 270", 270, 201)):
        seconds: dict[str, list[float]] = {"slice": [], "one piece": []}
        for _ in range(given.rounds):
            for way, times in seconds.items():
                head._forward_pre_hooks.clear()
                if way == "one piece":
                    head.register_forward_pre_hook(in_one_piece)
                began = time.perf_counter()
                with torch.no_grad():
                    model(input_ids=ids[:, :tokens], logits_to_keep=kept, use_cache=False)
                times.append(time.perf_counter() - began)
        medians = {way: statistics.median(times) for way, times in seconds.items()}
        ratio = medians["slice"] / medians["one piece"]
        print(
            f"{what}: {medians['slice']:.2f} s as a slice, {medians['one piece']:.2f} in one piece, {ratio:.1f} times"
        )


def loaded(folder: str | None) -> object:
    """Return the model in a folder with an adapter, or one of random weights."""
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        if folder is None:
            write_random(made)
        recipe = Recipe.load("gsm8k-qwen25-0.5b", model={"model_name": folder or made, "dtype": "bfloat16"})
        return load_policy(recipe, current_device()).model


def write_random(folder: str) -> None:
    """Write a model of two layers, with the small model's tokenizer, whose words are enough for random numbers."""
    from grpo_colab.recipe.recipe import OWN_MODELS
    from grpo_colab.utils.stack import import_unsloth

    import_unsloth()
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    shape = {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 2, "num_attention_heads": 14}
    config = Qwen2Config(**shape, num_key_value_heads=2, vocab_size=151936, tie_word_embeddings=True)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    AutoTokenizer.from_pretrained(OWN_MODELS["tiny"]).save_pretrained(folder)


if __name__ == "__main__":
    main()
