"""Write the tiny models' cards: how the models were made and what was measured, filled in by the run that made them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from grpo_colab.tiny.corpus import STYLE_SHARES
from grpo_colab.tiny.drawings import DrawingPretraining
from grpo_colab.tiny.pretrain import Pretraining

CARD = """---
license: apache-2.0
language: en
library_name: transformers
pipeline_tag: text-generation
---
# A tiny model for GRPO on a CPU

A Llama of {parameters:,} parameters that answers generated word problems of one to three steps and knows nothing else.
The CPU default of `grpo_colab` starts from it. It can calculate, but most often it writes a whole sum on one line that
it cannot compute at once, and it often leaves out the tags. GRPO teaches it to work step by step in the strict format.
It is of no other use.

Made from scratch, without downloaded weights or text, in {minutes:.0f} minutes with {threads} CPU thread(s) by

    python -m grpo_colab.tiny --seed {seed} --steps {steps}

Each step reads {chat_rows} answered problems and {equation_rows} rows of {equations_per_row} equations, all generated,
all of the "train" split; the last loss was {loss:.3f} nats per token. The answers are all right, and come in styles:
{styles}. The weights are stored in float16; train them in float32.

| measured on {measured_on} held-out problems ("test" split, seed 0) | |
|---|---|
{rows}

`steps_...` is the accuracy when restricted to the step-by-step style, which limits what GRPO can reach; `sampled` is at
temperature 1.0; `strict` is the share of samples in the strict format.

Licence: Apache-2.0.
"""


DRAWING_CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# A tiny model that writes drawing programs

A Llama of {parameters:,} parameters. It reads an image of up to {max_side} x {max_side} cells in ten colours and
writes a program of pixels, lines, rectangles and squares that draws it, in the language of
`grpo_colab.tasks.drawing.compact`:

    rows2 columns4 y0x0:1 y0x2:4 y1x0:1 y1x2:4     ->     S c1 y0 x0 n2 S c4 y0 x2 n2

It was taught drawings of 1 to {draws} statements and knows nothing else: `grpo-colab draw` shows what it then learns
by itself from one image that needs many more.

Made from scratch, without downloaded weights or data, in {minutes:.0f} minutes with {threads} CPU thread(s) by

    python -m grpo_colab.tiny drawing --seed {seed} --steps {steps}

Each step reads {rows} random drawings, {min_side} to {max_side} rows and columns; the last loss was {loss:.3f} nats per
token. The weights are stored in float16; train them in float32.

| measured on {measured_on} random drawings of 1 to {draws} statements | |
|---|---|
{measurements}

`greedy` is the share that the most likely program draws, `pass@8` the share that one of 8 samples at temperature 1.0
draws. `random` are any random drawings, and small ones among them may have been in the training; `unseen` are not.

Licence: Apache-2.0.
"""


def model_card(settings: Pretraining, facts: Mapping[str, float], measured: Mapping[str, float]) -> str:
    """Return the card of the word problem model as Markdown.

    `facts` has its `parameters`, the `minutes` and CPU `threads` of the training, its last `loss` in nats per token,
    and `measured_on`, the number of problems that `measured` is from. `measured` is what `measure` returns. Raises
    KeyError for a fact that is missing.
    """
    return CARD.format(
        styles=", ".join(f"{style} {share:.0%}" for style, share in STYLE_SHARES.items()),
        rows=_rows(measured),
        **dataclasses.asdict(settings),
        **facts,
    )


def drawing_card(settings: DrawingPretraining, facts: Mapping[str, float], measured: Mapping[str, float]) -> str:
    """Return the card of the drawing model as Markdown.

    `facts` is as for `model_card`, and `measured` is what `measure_drawing` returns.
    """
    return DRAWING_CARD.format(measurements=_rows(measured), **dataclasses.asdict(settings), **facts)


def _rows(measured: Mapping[str, float]) -> str:
    """Return the rows of a Markdown table, one per measure."""
    return "\n".join(f"| {name} | {value:.3f} |" for name, value in measured.items())
