"""Makes one of the tiny models from nothing, measures it, and writes the folder that ships, card included.

The shipped recipe takes 15 to 25 minutes on one core for the word problems, twice that for the drawings:
`python -m grpo_colab.tiny drawing --out my-model`. Only to see that it runs: `... --out smoke --steps 20`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

from grpo_colab.tasks.word_problems import make_problem
from grpo_colab.tiny.card import drawing_card, model_card
from grpo_colab.tiny.drawings import DrawingPretraining, measure_drawing, pretrain_drawing
from grpo_colab.tiny.measure import measure
from grpo_colab.tiny.pretrain import Pretraining, pretrain


def main() -> None:
    """Parse, train, save, measure, and write the card."""
    parser = argparse.ArgumentParser(
        prog="python -m grpo_colab.tiny",
        description="Make a small model of the CPU defaults.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("model", nargs="?", choices=("word-problems", "drawing"), default="word-problems", help="which")
    parser.add_argument("--out", type=Path, help="folder to write; the model's name when left out")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and the corpus")
    parser.add_argument(
        "--steps", type=int, help=f"training steps; {Pretraining.steps} or {DrawingPretraining.steps} when left out"
    )
    parser.add_argument("--threads", type=int, default=0, help="cores to use; 0 takes all")
    parser.add_argument("--measure", type=int, default=256, help="held-out problems or drawings to measure on")
    arguments = parser.parse_args()

    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    drawing, out = arguments.model == "drawing", arguments.out or Path(arguments.model)
    settings = DrawingPretraining(seed=arguments.seed) if drawing else Pretraining(seed=arguments.seed)
    if arguments.steps is not None:
        settings = dataclasses.replace(settings, steps=arguments.steps)
    known: set[int] = set()
    start_s = time.monotonic()
    model, tokenizer, losses = (
        pretrain_drawing(settings, known) if isinstance(settings, DrawingPretraining) else pretrain(settings)
    )
    minutes = (time.monotonic() - start_s) / 60
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    model.float()  # the numbers on the card are those of the rounded weights, which are what is shipped
    facts = {
        "parameters": model.num_parameters(),
        "minutes": minutes,
        "threads": torch.get_num_threads(),
        "loss": losses[-1],
        "measured_on": arguments.measure,
    }
    if isinstance(settings, DrawingPretraining):
        measured = measure_drawing(model, tokenizer, settings, arguments.measure, known)
        card = drawing_card(settings, facts, measured)
    else:
        measured = measure(model, tokenizer, [make_problem("test", 0, index) for index in range(arguments.measure)])
        card = model_card(settings, facts, measured)
    (out / "README.md").write_text(card, encoding="utf-8")
    print(json.dumps({"loss/first": losses[0], "loss/last": losses[-1], "minutes": round(minutes, 2), **measured}))


if __name__ == "__main__":
    main()
