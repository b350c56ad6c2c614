"""Define the subcommands that run a policy: train, sweep, draw and evaluate."""

from __future__ import annotations

import os
import sys

import click

from grpo_colab.cli import completion
from grpo_colab.cli.completion import RecipeCommand
from grpo_colab.cli.group import cli
from grpo_colab.cli.options import PASS_ON, path_option, trust_option, verbosity_options, words_argument
from grpo_colab.cli.output import (
    chatter_to_stderr,
    evaluation_text,
    json_text,
)
from grpo_colab.errors import SettingError
from grpo_colab.text import printable
from grpo_colab.utils.console import info


@cli.command(
    cls=RecipeCommand,
    context_settings=PASS_ON,
    short_help="Train a recipe, and evaluate the model before and after.",
    help="Train RECIPE (a preset's name or a .toml file), and evaluate the model before and after.\n\n"
    "Any setting of the recipe can be overridden by --TABLE.SETTING VALUE, such as --budget.max-steps 20, "
    "--task.path DIR, --lora.r 16 or --rewards.integer false; `grpo-colab recipes RECIPE` shows them all.",
)
@words_argument
@path_option("--out", metavar="DIR", help="The run folder. [default: runs/<date>-<recipe>]")
@path_option(
    "--resume",
    metavar="RUN",
    help="Resume a run that was stopped or killed: its folder, or its copy in a mirror.",
    shell_complete=completion.runs,
)
@trust_option
@click.option(
    "--dry-run",
    is_flag=True,
    help="Stop before the first step: check, import, load, try the longest step, print the estimates; keep nothing.",
)
@verbosity_options
def train(words: tuple[str, ...], out: str | None, resume: str | None, trust_code: bool, dry_run: bool) -> None:
    from grpo_colab.recipe.overrides import read_recipe
    from grpo_colab.training.grpo import GRPOLearner, whats_next
    from grpo_colab.training.train import run_with
    from grpo_colab.training.train import train as run_training

    with chatter_to_stderr():
        if resume and words:
            # the overrides are applied to the run's own recipe, which a mirror may have to bring here first
            from grpo_colab.runs.resume import restore_run

            resume, out = str(restore_run(resume, out).path), None
        recipe = None if resume and not words else read_recipe(words, resume)
        if dry_run:
            run_training(recipe, out=out, resume=resume or False, trust_code=trust_code, dry_run=True)
            return
        learner = GRPOLearner(says_result=False)
        run = run_with(learner, recipe, out=out, resume=resume or False, trust_code=trust_code)
    is_main_process = os.environ.get("RANK", "0") == "0"  # torchrun numbers its processes
    if run.evaluation is not None and is_main_process:
        click.echo(printable(evaluation_text(run.evaluation)))
    if run.finished:
        info(whats_next(run))


@cli.command(
    cls=RecipeCommand,
    context_settings=PASS_ON,
    short_help="Train a recipe with every combination of several values, and compare.",
    help="Train RECIPE (a preset's name or a .toml file) with every combination of the values that its settings have: "
    "--grpo.learning-rate 1e-5,2e-5 --grpo.num-generations 4,8 are four. A setting with one value is the same in all "
    "runs.\n\n"
    "Commas part the values of a setting that takes numbers, true and false, or one of a few names. Where a setting "
    "takes a text, a list or a table, a comma is part of its one value; several are written as a list: "
    "--sweep.TABLE.SETTING '[...]', or in the recipe's [sweep].\n\n"
    "All runs are checked before the first one begins, and are trained one after the other. The folder then has "
    "sweep.json, sweep.png and best.toml, the best recipe, which train takes; `grpo-colab report DIR` compares "
    "the runs.",
)
@words_argument
@click.option(
    "--seeds", type=int, default=1, show_default=True, metavar="N", help="Runs of each combination, each with its seed."
)
@click.option(
    "--by",
    metavar="NAME",
    help="What the best is chosen by: after, the mean held-out accuracy, or probe, the last one of evaluation.every, "
    "which asks other problems. [default: after]",
)
@path_option("--out", metavar="DIR", help="The folder for the runs. [default: runs/<date>-<recipe>-sweep]")
@path_option("--resume", metavar="DIR", help="Resume the runs in this folder; finished ones are skipped.")
@trust_option
@click.option("--dry-run", is_flag=True, help="Check all runs, print the list of them, and stop; keep nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@verbosity_options
def sweep(
    words: tuple[str, ...],
    seeds: int,
    by: str | None,
    out: str | None,
    resume: str | None,
    trust_code: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    from grpo_colab.recipe.overrides import one_name, parse_overrides

    names, overrides = parse_overrides(words)
    with chatter_to_stderr():
        from grpo_colab.experiments.sweep import prepare_sweep

        prepared = prepare_sweep(
            one_name(names),
            seeds=seeds,
            out=out,
            resume=resume,
            by=by,
            trust_code=trust_code,
            overrides=overrides,
        )
        result = None if dry_run else prepared.run()
    if result is None:
        info(prepared.about())
        click.echo(json_text(prepared.as_dict()) if as_json else printable(prepared.text()))
        info(
            "Dry run: nothing was trained or written. `grpo-colab train RECIPE --dry-run` tries a step of one of them."
        )
        return
    click.echo(json_text(result.as_dict()) if as_json else printable(result.text()))
    if result.error is not None:
        raise result.error


@cli.command(
    cls=RecipeCommand,
    context_settings=PASS_ON,
    short_help="Learn to draw one image at test time, by GRPO, hindsight, or both.",
    help="Learn to draw TASK (9-vertical-lines, N-squares, chick, a text or PNG file, or rows such as 8888/8448) at "
    "test time, by GRPO, by hindsight experience replay, or by both. Settings can be overridden as with train.",
)
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="TASK [--TABLE.SETTING VALUE]...",
    shell_complete=completion.images,
)
@click.option("--method", metavar="NAME", help="grpo, her, or both. [default: the recipe's]")
@click.option(
    "--seeds", type=int, default=1, show_default=True, metavar="N", help="Number of runs, each with its own seed."
)
@path_option(
    "--recipe",
    metavar="NAME",
    help="A preset, or a .toml file. [default: drawing-tiny]",
    shell_complete=completion.recipes,
)
@click.option(
    "--sweep",
    is_flag=True,
    help="Try each combination of the recipe's [sweep]. --sweep.TABLE.SETTING '[...]' adds one.",
)
@path_option("--out", metavar="DIR", help="The folder for the runs. [default: runs/<date>-<recipe>-<task>-<method>]")
@path_option("--resume", metavar="DIR", help="Resume the runs in this folder; finished ones are skipped.")
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
@verbosity_options
def draw(
    words: tuple[str, ...],
    method: str | None,
    seeds: int,
    recipe: str | None,
    sweep: bool,
    out: str | None,
    resume: str | None,
    trust_code: bool,
    as_json: bool,
) -> None:
    from grpo_colab.recipe.overrides import parse_overrides

    names, overrides = parse_overrides(words)
    if not resume and len(names) != 1:
        from grpo_colab.tasks.drawing.images import NAMED

        raise SettingError(
            "draw learns one image at a time",
            setting="TASK",
            value=" ".join(names),
            remedy=f"write one of {', '.join(NAMED)}, N-squares for any N, a file (text or PNG), or rows of digits "
            "such as 8888/8448",
        )
    with chatter_to_stderr():
        from grpo_colab import draw as draw_image
        from grpo_colab.experiments.results import as_json as results_of
        from grpo_colab.experiments.results import draw_text

        runs = draw_image(
            names[0] if names else None,
            method,
            recipe=recipe,
            seeds=seeds,
            sweep=overrides.pop("sweep", sweep),
            out=out,
            resume=resume,
            trust_code=trust_code,
            **overrides,
        )
    click.echo(json_text(results_of(runs)) if as_json else draw_text(runs, sys.stdout.isatty()))


@cli.command(short_help="Evaluate a run's trained adapter again.")
@click.argument("run", shell_complete=completion.runs)
@trust_option
@verbosity_options
def evaluate(run: str, trust_code: bool) -> None:
    """Load the adapter of the folder RUN, answer its held-out problems again, and print the comparison as JSON."""
    from grpo_colab.evaluation.evaluate import evaluate_run

    with chatter_to_stderr():
        evaluation = evaluate_run(run, trust_code)
    click.echo(json_text(evaluation))
