"""Makes the tiny model from nothing, measures it, and writes the folder that ships, card included.

The shipped recipe takes 15 to 25 minutes on one core: `python -m grpo_colab.tiny --out my-model`.
Only to see that it runs: `python -m grpo_colab.tiny --out smoke --steps 20`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from grpo_colab.tasks.word_problems import make_problem
from grpo_colab.tiny.card import model_card
from grpo_colab.tiny.measure import measure
from grpo_colab.tiny.pretrain import Pretraining, pretrain


def main() -> None:
    """Parse, train, save, measure, and write the card."""
    usual = Pretraining()
    parser = argparse.ArgumentParser(
        prog="python -m grpo_colab.tiny",
        description="Make the small model of the CPU default.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", type=Path, default=Path("word-problems"), help="folder to write")
    parser.add_argument("--seed", type=int, default=usual.seed, help="seed of the weights and the corpus")
    parser.add_argument("--steps", type=int, default=usual.steps, help="training steps")
    parser.add_argument("--threads", type=int, default=0, help="cores to use; 0 takes all")
    parser.add_argument("--measure", type=int, default=256, help="held-out problems to measure on")
    arguments = parser.parse_args()

    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    settings = Pretraining(steps=arguments.steps, seed=arguments.seed)
    start_s = time.monotonic()
    model, tokenizer, losses = pretrain(settings)
    minutes = (time.monotonic() - start_s) / 60
    model.half().save_pretrained(arguments.out)
    tokenizer.save_pretrained(arguments.out)
    # The numbers on the card are those of the rounded weights, which are what is shipped.
    measured = measure(model.float(), tokenizer, [make_problem("test", 0, index) for index in range(arguments.measure)])
    facts = {
        "parameters": model.num_parameters(),
        "minutes": minutes,
        "threads": torch.get_num_threads(),
        "loss": losses[-1],
        "problems": arguments.measure,
    }
    (arguments.out / "README.md").write_text(model_card(settings, facts, measured), encoding="utf-8")
    print(json.dumps({"loss/first": losses[0], "loss/last": losses[-1], "minutes": round(minutes, 2), **measured}))


if __name__ == "__main__":
    main()
