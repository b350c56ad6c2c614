"""Define the command line. Each command parses its arguments, calls one function, and prints the result.

Results go to stdout, all other output to stderr. A SettingError is printed in one line, with exit status 2.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from grpo_colab.cli_output import (
    announce_foreign_code,
    chatter_to_stderr,
    escape_unprintable,
    evaluation_text,
    print_traceback,
)
from grpo_colab.errors import SettingError
from grpo_colab.text import printable
from grpo_colab.utils.console import info

EXAMPLES = """\b
  grpo-colab train                                  the default, on a CPU: minutes, no account, no download
  grpo-colab train gsm8k-llama31-8b --grpo.learning-rate 1e-5
  grpo-colab train mine.toml --out runs/mine        your own file: preset = "gsm8k-tiny", then tables
  grpo-colab plan gsm8k-llama31-8b --gpu T4         does it fit, and how long will it take?
  grpo-colab doctor                                 what is wrong with this machine?
  grpo-colab recipes gsm8k-tiny                     every setting of a recipe
  grpo-colab train --resume runs/2026-11-21-gsm8k-tiny          after Ctrl-C, a crash, a full disk
  grpo-colab draw 12-squares --method both          learn one image at test time: GRPO, hindsight, or both
  grpo-colab status runs/2026-11-21-gsm8k-tiny      the progress of a run
  grpo-colab report runs/2026-11-21-gsm8k-tiny      an HTML page of a run, or of several compared
  grpo-colab embed gsm8k                            a map of the problems
  grpo-colab evaluate runs/2026-11-21-gsm8k-tiny    evaluate a trained adapter again
  grpo-colab score completions.jsonl --rewards correctness,my_rewards.py:brevity_reward
  grpo-colab audit my_rewards.py:brevity_reward     what could a model exploit in it?
"""

# Leave --table.setting to the recipe's own parser, which knows the settings.
PASS_ON = {"ignore_unknown_options": True}


def _not_empty(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Return the option's value, None for an option left out. Raises SettingError for an empty or blank value."""
    if value is not None and not value.strip():
        raise SettingError(
            "is empty", setting=f"--{parameter.name}", value=value, remedy="write a name, or leave the option out"
        )
    return value


def path_option(*names: str, **options: Any) -> Callable[[Any], Any]:
    """Return a click option for a path or a name. Its callback raises SettingError for an empty value."""
    return click.option(*names, callback=_not_empty, **options)


trust_option = click.option(
    "--trust-code", is_flag=True, help="Allow other people's code that a recipe file or run folder names. Needed once."
)
words_argument = click.argument(
    "words", nargs=-1, type=click.UNPROCESSED, metavar="[RECIPE] [--TABLE.SETTING VALUE]..."
)


@click.group(
    help="Teach an open model to reason with GRPO on one GPU, or a tiny one on the CPU.\n\nExamples:\n\n" + EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(package_name="grpo_colab")
def cli() -> None:
    pass


@cli.command(
    context_settings=PASS_ON,
    short_help="Train a recipe, and evaluate the model before and after.",
    help="Train RECIPE (a preset's name or a .toml file), and evaluate the model before and after.\n\n"
    "Any setting of the recipe can be overridden by --TABLE.SETTING VALUE, such as --budget.max-steps 20, "
    "--task.path DIR, --lora.r 16 or --rewards.integer false; `grpo-colab recipes RECIPE` shows them all.",
)
@words_argument
@path_option("--out", metavar="DIR", help="The run folder. [default: runs/<date>-<recipe>]")
@path_option(
    "--resume", metavar="RUN", help="Resume a run that was stopped or killed: its folder, or its copy in a mirror."
)
@trust_option
def train(words: tuple[str, ...], out: str | None, resume: str | None, trust_code: bool) -> None:
    from grpo_colab import train as run_training
    from grpo_colab.recipe.overrides import read_recipe

    with chatter_to_stderr():
        if resume and words:
            # the overrides are applied to the run's own recipe, which a mirror may have to bring here first
            from grpo_colab.runs.resume import restore_run

            resume, out = str(restore_run(resume, out).path), None
        recipe = None if resume and not words else read_recipe(words, resume)
        run = run_training(recipe, out=out, resume=resume or False, trust_code=trust_code)
    is_main_process = os.environ.get("RANK", "0") == "0"  # torchrun numbers its processes
    if run.evaluation is not None and is_main_process:
        click.echo(printable(evaluation_text(run.evaluation)))


@cli.command(
    context_settings=PASS_ON,
    short_help="Learn to draw one image at test time, by GRPO, hindsight, or both.",
    help="Learn to draw TASK (9-vertical-lines, N-squares, chick, a text or PNG file, or rows such as 8888/8448) at "
    "test time, by GRPO, by hindsight experience replay, or by both. Settings can be overridden as with train.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="TASK [--TABLE.SETTING VALUE]...")
@click.option("--method", metavar="NAME", help="grpo, her, or both. [default: the recipe's]")
@click.option(
    "--seeds", type=int, default=1, show_default=True, metavar="N", help="Number of runs, each with its own seed."
)
@path_option("--recipe", metavar="NAME", help="A preset, or a .toml file. [default: drawing-tiny]")
@click.option(
    "--sweep",
    is_flag=True,
    help="Try each combination of the recipe's [sweep]. --sweep.TABLE.SETTING '[...]' adds one.",
)
@path_option("--out", metavar="DIR", help="The folder for the runs. [default: runs/<date>-<recipe>-<task>-<method>]")
@path_option("--resume", metavar="DIR", help="Resume the runs in this folder; finished ones are skipped.")
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
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
    import json

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
    click.echo(json.dumps(results_of(runs), indent=2) if as_json else draw_text(runs, sys.stdout.isatty()))


@cli.command(
    context_settings=PASS_ON,
    short_help="List the presets, or print every setting of a recipe.",
    help="List the presets, or print every setting of RECIPE as TOML. Settings can be overridden as with train.",
)
@words_argument
def recipes(words: tuple[str, ...]) -> None:
    from grpo_colab.recipe.overrides import read_recipe
    from grpo_colab.recipe.recipe import Recipe, preset_names

    if words:
        click.echo(printable(read_recipe(words).to_toml()), nl=False)
    else:
        names = preset_names()
        for name in names:
            click.echo(f"{name:<{max(map(len, names)) + 2}}{Recipe.load(name).description}")


@cli.command(
    context_settings=PASS_ON,
    short_help="Check whether a recipe fits a GPU, and how long it takes, before any download.",
    help="Print whether RECIPE fits the GPU's memory, part by part, which settings are chosen for it, and how long it "
    "takes. Settings can be overridden as with train. The model is not loaded; its configuration is enough. The exit "
    "status is 1 when the recipe does not fit.",
)
@words_argument
@click.option("--gpu", metavar="NAME", help="T4, L4, A100-40, ..., or cpu. [default: this machine]")
@click.option("--vram-gib", type=float, metavar="N", help="Plan for a GPU with this much memory.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@path_option("--picture", metavar="FILE", help="Write the memory chart to this file, as a PNG.")
def plan(words: tuple[str, ...], gpu: str | None, vram_gib: float | None, as_json: bool, picture: str | None) -> None:
    import json
    import shutil

    from grpo_colab.plan import plan as fit
    from grpo_colab.plan.devices import device_for
    from grpo_colab.recipe.overrides import read_recipe

    recipe = read_recipe(words)
    with chatter_to_stderr():
        device_for(gpu, vram_gib)  # refuses a misspelt name before the imports, which take seconds
        # Imported here, without Unsloth, since nothing is trained in this process. If it is missing, the plan says so.
        with contextlib.suppress(ModuleNotFoundError):
            import transformers  # noqa: F401

        planned = fit(recipe, gpu, vram_gib)
        if picture:
            planned.draw(picture)
    width = shutil.get_terminal_size().columns
    click.echo(json.dumps(planned.as_dict(), indent=2) if as_json else planned.text(sys.stdout.isatty(), width))
    sys.exit(1 if planned.fits == "no" else 0)


@cli.command(
    context_settings=PASS_ON, short_help="Check this machine, and say what to do. Exit status 1 if something is broken."
)
@words_argument
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def doctor(words: tuple[str, ...], as_json: bool) -> None:
    """Check the GPU, the driver, the versions, the disk, the keys and the access to RECIPE's model, one line each."""
    import dataclasses
    import json

    from grpo_colab.doctor.diagnose import doctor as diagnose
    from grpo_colab.doctor.diagnose import doctor_text
    from grpo_colab.recipe.overrides import read_recipe

    recipe = read_recipe(words)
    with chatter_to_stderr():
        checks = diagnose(recipe)
    found = [dataclasses.asdict(check) for check in checks]
    click.echo(json.dumps(found, indent=2) if as_json else doctor_text(checks, sys.stdout.isatty()))
    sys.exit(1 if any(check.state == "broken" for check in checks) else 0)


@cli.command(short_help="Print the progress of a run, while it runs or afterwards.")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def status(run: str, as_json: bool) -> None:
    """Print the step, rate, time left, reward, warnings, last checkpoint and mirror of the run in the folder RUN."""
    import json

    from grpo_colab.runs.status import status as read_status
    from grpo_colab.runs.status import status_text

    found = read_status(run)
    click.echo(json.dumps(found, indent=2) if as_json else printable(status_text(found)))


@cli.command(name="report", short_help="Write an HTML page about a run, or one that compares several.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@path_option(
    "--out", metavar="FILE", help="The page to write. [default: RUN/report.html; for several runs, ./report.html]"
)
def make_report(runs: tuple[str, ...], out: str | None) -> None:
    """Write report.html for the folder RUN, whether running, stopped or finished; for several, a page that compares.

    The page is one file that opens offline. It has the curves, the warnings, the problems gained and lost, and every
    completion with its rewards.
    """
    from grpo_colab.reporting import report

    click.echo(printable(report(runs, out)))


@cli.command(
    context_settings=PASS_ON,
    short_help="Draw a map of a task's problems, also for the Embedding Projector.",
    help="Embed the problems of TASK (such as gsm8k, or a recipe; by default the task of --run). Writes a map as a "
    "picture and as a page, files for TensorFlow's Embedding Projector and for TensorBoard, and a list of "
    "near-duplicates between the splits. The task's settings can be overridden, such as --task.path DIR.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[TASK] [--task.SETTING VALUE]...")
@path_option("--run", metavar="RUN", help="Add how this run's policy did on each problem before and after training.")
@path_option("--out", metavar="DIR", help="The folder to write. [default: embeddings/<task>]")
@click.option(
    "--model", metavar="NAME", help="A sentence-transformers model or folder. [default: an installed one or TF-IDF]"
)
@click.option("--n", type=int, metavar="N", help="Number of problems per split. [default: all]")
def embed(words: tuple[str, ...], run: str | None, out: str | None, model: str | None, n: int | None) -> None:
    from grpo_colab.recipe.overrides import parse_overrides
    from grpo_colab.reporting.embedding import embed as embed_task
    from grpo_colab.reporting.embedding import embed_text

    names, overrides = parse_overrides(words)
    options = overrides.pop("task", {})
    if overrides:
        raise SettingError(
            "embed takes settings of the task alone",
            setting=f"--{next(iter(overrides))}",
            remedy="write --task.SETTING VALUE, such as --task.path DIR",
        )
    if len(names) > 1:
        raise SettingError(
            "embed takes one task at a time", setting="TASK", value=" ".join(names), remedy="name one of them"
        )
    with chatter_to_stderr():
        found = embed_task(names[0] if names else None, run=run, out=out, model=model, n=n, **options)
    click.echo(printable(embed_text(found)))


@cli.command(short_help="Evaluate a run's trained adapter again.")
@click.argument("run")
@trust_option
def evaluate(run: str, trust_code: bool) -> None:
    """Load the adapter of the folder RUN, answer its held-out problems again, and print the comparison as JSON."""
    import json

    from grpo_colab.evaluation.evaluate import evaluate_run

    with chatter_to_stderr():
        evaluation = evaluate_run(run, trust_code)
    click.echo(json.dumps(evaluation, indent=2))


@cli.command(short_help="Compute what rewards pay for the completions in a file.")
@click.argument("file")
@click.option(
    "--rewards",
    default="correctness,strict_format",
    show_default=True,
    metavar="A,B,...",
    help="Built-in names (with settings: cosine_scaled(max_len=512)), package.module.function, or file.py:function.",
)
@click.option(
    "--answer-column", default="answer", show_default=True, metavar="NAME", help="The column of the gold answer."
)
@path_option("--golds", metavar="FILE", help="A .jsonl of problems with the answers that the completions lack.")
@path_option("--out", metavar="FILE", help="Write every row with its scores, as JSON lines.")
def score(file: str, rewards: str, answer_column: str, golds: str | None, out: str | None) -> None:
    """Score the completions in FILE (.jsonl, or TRL's .parquet) or in a run folder, without a model.

    Each row has a `completion` and the columns that the rewards need, such as `answer`.
    """
    from grpo_colab.evaluation.scoring import score as score_file
    from grpo_colab.rewards.resolve import split_names
    from grpo_colab.utils.files import check_name

    if out:
        check_name("--out", out)
    names = split_names(rewards)
    announce_foreign_code(names)
    with chatter_to_stderr():
        scores = score_file(file, names, answer_column, golds)
        if out:
            scores.write(out)
    click.echo(printable(scores.text()))


@cli.command(short_help="Find what a model could exploit in a reward. Exit status 1 if there is something.")
@click.argument("reward", metavar="PATH:FUNCTION")
@click.option(
    "--kind", metavar="KIND", help="What the reward promises: correctness, format, code, ... [default: detected]"
)
@click.option("--answer-column", metavar="NAME", help="The parameter for the gold answer. [default: detected]")
@click.option("--time-limit", type=float, default=1.0, show_default=True, metavar="S", help="Seconds per completion.")
def audit(reward: str, kind: str | None, answer_column: str | None, time_limit: float) -> None:
    """Attack a reward: my_rewards.py:my_reward, package.module.function, or a built-in name.

    The reward gets completions that cheat or say nothing, which it should not pay, and right answers as people write
    them, which it should. The audit also checks that the function is deterministic, independent of the order,
    picklable, thread-safe and quick.
    """
    from grpo_colab.evaluation.scoring import as_option_error
    from grpo_colab.rewards import resolve_reward
    from grpo_colab.rewards.audit import audit as audit_reward

    try:
        announce_foreign_code([reward])
        function = resolve_reward(reward)
    except SettingError as error:
        raise as_option_error("audit", reward, error) from None
    found = audit_reward(function, kind, time_limit_s=time_limit, answer_column=answer_column)
    click.echo(printable(found))
    sys.exit(0 if found.ok else 1)


def main(arguments: list[str] | None = None) -> None:
    """Run the console script and exit, with status 2 and one line on stderr for a SettingError. Sets sys.excepthook."""
    sys.excepthook = print_traceback
    escape_unprintable()
    try:
        cli(arguments, prog_name="grpo-colab")
    except SettingError as error:
        info(f"grpo-colab: {error}", every_process=True)
        sys.exit(2)
