"""Define the subcommands that come before a run: init, recipes, data, difficulty, plan and doctor."""

from __future__ import annotations

import contextlib
import sys

import click

from grpo_colab.cli import completion
from grpo_colab.cli.completion import RecipeCommand
from grpo_colab.cli.group import cli
from grpo_colab.cli.options import PASS_ON, json_option, path_option, trust_option, words_argument
from grpo_colab.cli.output import chatter_to_stderr, json_text
from grpo_colab.errors import SettingError
from grpo_colab.text import printable


@cli.command(short_help="Write a folder with a recipe, data, a reward and tests, which trains as it is.")
@click.argument("name")
@click.option(
    "--kind",
    metavar="KIND",
    default="number",
    show_default=True,
    help="What the answers of the sample are: number, choice, text, json, code, or math.",
    shell_complete=completion.kinds,
)
def init(name: str, kind: str) -> None:
    """Write the folder NAME with a recipe, a sample of data, a reward, a test and a README, each a page.

    It trains as it is, on a CPU. Put your own rows in place of the sample's, and change what the recipe's comments
    point at. Nothing that exists is overwritten.
    """
    from grpo_colab.starter import write_starter

    click.echo(printable(write_starter(name, kind).text()))


@cli.command(
    cls=RecipeCommand,
    context_settings=PASS_ON,
    short_help="List the presets, or print every setting of a recipe.",
    help="List the presets, or print every setting of RECIPE as TOML. Settings can be overridden as with train.",
)
@words_argument
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the presets as a list, or RECIPE as an object.")
def recipes(words: tuple[str, ...], as_json: bool) -> None:
    from grpo_colab.recipe.overrides import read_recipe
    from grpo_colab.recipe.recipe import Recipe, preset_names

    if words:
        recipe = read_recipe(words)
        text = json_text(recipe.public(mode="json", exclude_none=True)) if as_json else recipe.to_toml().rstrip()
        click.echo(printable(text))
        return
    presets = {name: Recipe.load(name).description for name in preset_names()}
    if as_json:
        click.echo(json_text([{"name": name, "description": text} for name, text in presets.items()]))
        return
    for name, text in presets.items():
        click.echo(f"{name:<{max(map(len, presets)) + 2}}{text}")


@cli.command(
    cls=RecipeCommand,
    context_settings=PASS_ON,
    short_help="Show the problems of a recipe as they are read: columns, lengths, answers, duplicates.",
    help="Print what the problems of RECIPE are, before anything is trained: how many there are, which are held out, "
    "where prompt and answer come from, the lengths in tokens, repeated prompts, and three prompts as the model gets "
    "them. Settings can be overridden as with train: --task.name dataset --task.path problems.csv. No weights are "
    "loaded.",
)
@words_argument
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def data(words: tuple[str, ...], trust_code: bool, as_json: bool) -> None:
    import json

    from grpo_colab.evaluation.data_summary import describe_data
    from grpo_colab.recipe.overrides import read_recipe

    with chatter_to_stderr():
        found = describe_data(read_recipe(words), trust_code)
    click.echo(json.dumps(found.as_dict(), indent=2, ensure_ascii=False) if as_json else printable(found.text()))


@cli.command(
    cls=RecipeCommand,
    context_settings=PASS_ON,
    short_help="Sample a recipe's training problems before training: how hard are they for the model?",
    help="Sample a few completions of the first training problems of RECIPE by its model as it is, as training would. "
    "Print how many are right, which share of the groups would teach anything, and both for each kind of problems. "
    "Each problem is a line of a file: the same command goes on with it, and `train --sampling.strategy adaptive "
    "--sampling.prior FILE` begins from it. Settings can be overridden as with train.",
)
@words_argument
@click.option("--problems", type=int, metavar="N", default=200, show_default=True, help="How many training problems.")
@click.option("--samples", type=int, metavar="N", default=8, show_default=True, help="Completions of each.")
@path_option("--out", metavar="FILE", help="The file to write. [default: difficulty-RECIPE.jsonl]")
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def difficulty(
    words: tuple[str, ...], problems: int, samples: int, out: str | None, trust_code: bool, as_json: bool
) -> None:
    from grpo_colab.evaluation.difficulty import measure_difficulty
    from grpo_colab.recipe.overrides import read_recipe

    with chatter_to_stderr():
        found = measure_difficulty(read_recipe(words), out, problems, samples, trust_code)
    click.echo(json_text(found.as_dict()) if as_json else printable(found.text()))


@cli.command(
    context_settings=PASS_ON,
    short_help="Check whether a recipe fits a GPU, and how long it takes, before any download.",
    help="Print whether RECIPE fits the GPU's memory, part by part, which settings are chosen for it, and how long it "
    "takes. With several --gpu, print a table that compares them. Settings can be overridden as with train. The model "
    "is not loaded; its configuration is enough. The exit status is 1 when the recipe fits none of the devices.",
)
@words_argument
@click.option(
    "--gpu",
    "gpus",
    metavar="NAME",
    multiple=True,
    shell_complete=completion.devices,
    help="T4, L4, A100-40, ..., or cpu; once for each device to compare. [default: this machine]",
)
@click.option("--vram-gib", type=float, metavar="N", help="Plan for a GPU with this much memory.")
@click.option(
    "--vllm",
    is_flag=True,
    help="Plan for a GPU on which vLLM is installed. [default: without, as the Colab notebook is installed]",
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON; with several --gpu as a list.")
@path_option("--picture", metavar="FILE", help="Write the memory chart to this file, as a PNG.")
def plan(
    words: tuple[str, ...],
    gpus: tuple[str, ...],
    vram_gib: float | None,
    vllm: bool,
    as_json: bool,
    picture: str | None,
) -> None:
    import shutil

    from grpo_colab.plan import plan as fit
    from grpo_colab.plan.devices import device_for
    from grpo_colab.plan.model_shape import must_be_built
    from grpo_colab.plan.rendering import table
    from grpo_colab.recipe.overrides import read_recipe

    recipe = read_recipe(words)
    several = len(gpus) > 1
    for option, value in (("--vram-gib", vram_gib), ("--picture", picture)):
        if several and value is not None:
            raise SettingError("is for one device", setting=option, value=value, remedy="name one with --gpu")
    with chatter_to_stderr():
        for gpu in gpus:
            device_for(gpu, vram_gib, vllm)  # refuses a misspelt name before the model's configuration is asked for
        if must_be_built(recipe):
            # Imported here, without Unsloth, since nothing is trained in this process. If it is missing, the plan says
            # so.
            with contextlib.suppress(ModuleNotFoundError):
                import transformers  # noqa: F401

        plans = [fit(recipe, gpu, vram_gib, vllm) for gpu in gpus or (None,)]
        if picture:
            plans[0].draw(picture)
    colour, width = sys.stdout.isatty(), shutil.get_terminal_size().columns
    if as_json:
        found = [planned.as_dict() for planned in plans]
        click.echo(json_text(found if several else found[0]))
    else:
        click.echo(table(plans, colour, width) if several else plans[0].text(colour, width))
    sys.exit(1 if all(planned.fits == "no" for planned in plans) else 0)


@cli.command(
    cls=RecipeCommand,
    context_settings=PASS_ON,
    short_help="Check this machine, and say what to do. Exit status 1 if something is broken.",
)
@words_argument
@json_option
def doctor(words: tuple[str, ...], as_json: bool) -> None:
    """Check the GPU, the driver, the versions, the disk, the keys and the access to RECIPE's model, one line each."""
    from grpo_colab.doctor.diagnose import doctor as diagnose
    from grpo_colab.doctor.diagnose import doctor_text
    from grpo_colab.recipe.overrides import read_recipe

    recipe = read_recipe(words)
    with chatter_to_stderr():
        checks = diagnose(recipe)
    click.echo(json_text(checks) if as_json else doctor_text(checks, sys.stdout.isatty()))
    sys.exit(1 if any(check.state == "broken" for check in checks) else 0)
