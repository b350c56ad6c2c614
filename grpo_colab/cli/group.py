"""Define the command `grpo-colab`, to which the other files of this folder add their subcommands."""

from __future__ import annotations

import click

EXAMPLES = """\b
  grpo-colab train                                  the default, on a CPU: minutes, no account, no download
  grpo-colab train gsm8k-llama31-8b --grpo.learning-rate 1e-5
  grpo-colab train mine.toml --out runs/mine        your own file: preset = "gsm8k-tiny", then tables
  grpo-colab init mine                              a folder to start from: recipe, data, reward, tests
  grpo-colab data mine.toml                         what is in my data, and what is wrong with it?
  grpo-colab difficulty mine.toml                   how hard is it for the model, before it learns?
  grpo-colab plan gsm8k-llama31-8b --gpu T4         does it fit, and how long will it take?
  grpo-colab doctor                                 what is wrong with this machine?
  grpo-colab recipes gsm8k-tiny                     every setting of a recipe
  grpo-colab train mine.toml --dry-run              all that comes before the first step, and the estimates
  grpo-colab train --resume runs/2026-11-21-gsm8k-tiny          after Ctrl-C, a crash, a full disk
  grpo-colab sweep mine.toml --grpo.learning-rate 1e-5,2e-5 --seeds 2        which value learns more?
  grpo-colab draw 12-squares --method both          learn one image at test time: GRPO, hindsight, or both
  grpo-colab status                                 the progress of the newest run, or of one that you name
  grpo-colab runs                                   all runs in ./runs: state, step, accuracy before and after
  grpo-colab report runs/2026-11-21-gsm8k-tiny      an HTML page of a run, or of several compared
  grpo-colab embed gsm8k                            a map of the problems
  grpo-colab evaluate runs/2026-11-21-gsm8k-tiny    evaluate a trained adapter again
  grpo-colab score completions.jsonl --rewards correctness,my_rewards.py:brevity_reward
  grpo-colab audit my_rewards.py:brevity_reward     what could a model exploit in it?
"""


@click.group(
    help="Teach an open model to reason with GRPO on one GPU, or a tiny one on the CPU.\n\nExamples:\n\n" + EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="grpo_colab")
def cli() -> None:
    pass
