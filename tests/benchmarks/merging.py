"""Measure what a merged adapter takes off the generation: the same completions with it and without, in one process.

    python tests/benchmarks/merging.py [--rounds 20] [--model DIR]

Both sides answer in turns, with the same seeds.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import torch

from grpo_colab import Recipe
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.policy import Policy
from grpo_colab.utils.device import current_device


def main() -> None:
    """Print the seconds of a step's generation, and of an evaluation's, merged and not, and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--model", default="tiny", help="another model's folder, which is loaded in float32")
    asked = parser.parse_args()
    recipe = Recipe.load(
        model={"model_name": asked.model, "dtype": "float32"},
        lora={"random_state": 1},
        sampling={"merge_adapter": True},
    )
    merged = load_policy(recipe, current_device())
    for name, parameter in merged.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    plain = Policy(merged.model, merged.tokenizer)
    task = recipe.load_task()
    prompts = [task.messages(problem) for problem in task.problems("test", 128)]
    works = {
        "a step: 2 x 8 completions sampled": lambda one: one.sample(prompts[:2], 8, 48, temperature=1.0),
        "128 answers, greedy": lambda one: one.generate(prompts, 48, batch_size=128),
    }
    for name, work in works.items():
        seconds: dict[bool, list[float]] = {True: [], False: []}
        same = True
        for number in range(asked.rounds):
            results = {}
            for is_merged, policy in ((True, merged), (False, plain)):
                torch.manual_seed(number)
                began = time.perf_counter()
                results[is_merged] = work(policy)
                seconds[is_merged].append(time.perf_counter() - began)
            same = same and results[True] == results[False]
        with_it, without = median(seconds[True]), median(seconds[False])
        print(f"{name}: {with_it:.3f} s merged, {without:.3f} s not: {with_it / without:.2f}; all the same: {same}")


if __name__ == "__main__":
    main()
