"""Train one of the tiny models from scratch, measure it, and write the folder that ships, with its card.

`python -m grpo_colab.tiny --out my-model` makes the word problem model in 15 to 25 minutes on one core. The drawing
model (`python -m grpo_colab.tiny drawing`) takes twice as long. Add `--steps 20` only to see that it runs.
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
    """Parse the command line, train and save a model, measure it, and write its card. Print the measures as JSON.

    The folder of --out gets the weights in float16, the tokenizer, and the card as README.md; what has these names
    there is replaced. The progress of the training is printed as well. Exits with status 2 for arguments that cannot be
    parsed.
    """
    parser = argparse.ArgumentParser(
        prog="python -m grpo_colab.tiny",
        description="Make one of the small models that the CPU presets train.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "model", nargs="?", choices=("word-problems", "drawing"), default="word-problems", help="the model"
    )
    parser.add_argument("--out", type=Path, help="folder to write; by default the model's name")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and the corpus")
    parser.add_argument(
        "--steps",
        type=int,
        help=f"training steps; by default {Pretraining.steps}, for drawing {DrawingPretraining.steps}",
    )
    parser.add_argument("--threads", type=int, default=0, help="cores to use; 0 takes all")
    parser.add_argument("--measure", type=int, default=256, help="held-out problems or drawings to measure on")
    arguments = parser.parse_args()

    import torch

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    out = arguments.out or Path(arguments.model)
    settings: DrawingPretraining | Pretraining
    if arguments.model == "drawing":
        settings = DrawingPretraining(seed=arguments.seed)
    else:
        settings = Pretraining(seed=arguments.seed)
    if arguments.steps is not None:
        settings = dataclasses.replace(settings, steps=arguments.steps)
    taught: set[int] = set()  # hashes of the drawings that the model has been trained on
    start_s = time.monotonic()
    if isinstance(settings, DrawingPretraining):
        model, tokenizer, losses = pretrain_drawing(settings, taught)
    else:
        model, tokenizer, losses = pretrain(settings)
    minutes = (time.monotonic() - start_s) / 60
    model.half().save_pretrained(out)
    tokenizer.save_pretrained(out)
    # Back in float32, the weights keep the rounding of the float16 that ships, so the card describes what ships.
    model.float()
    facts = {
        "parameters": model.num_parameters(),
        "minutes": minutes,
        "threads": torch.get_num_threads(),
        "loss": losses[-1],
        "measured_on": arguments.measure,
    }
    if isinstance(settings, DrawingPretraining):
        measured = measure_drawing(model, tokenizer, settings, arguments.measure, taught)
        card = drawing_card(settings, facts, measured)
    else:
        measured = measure(model, tokenizer, [make_problem("test", 0, index) for index in range(arguments.measure)])
        card = model_card(settings, facts, measured)
    (out / "README.md").write_text(card, encoding="utf-8")
    print(json.dumps({"loss/first": losses[0], "loss/last": losses[-1], "minutes": round(minutes, 2), **measured}))


if __name__ == "__main__":
    main()
