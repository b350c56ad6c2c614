"""The command line: parse, call one function, print. Results go to stdout, chatter to stderr; bad input is status 2."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from grpo_colab.cli_output import chatter_to_stderr, evaluation_text, say, show_traceback
from grpo_colab.errors import SettingError
from grpo_colab.text import printable

EXAMPLES = """\b
  grpo-colab train                                  the CPU default: minutes, no account, no download
  grpo-colab train gsm8k-llama31-8b --grpo.learning-rate 1e-5
  grpo-colab train mine.toml --out runs/mine        a file of yours: preset = "gsm8k-tiny", then tables
  grpo-colab plan gsm8k-llama31-8b --gpu T4         does it fit, how long will it take
  grpo-colab doctor                                 what is wrong with this machine
  grpo-colab recipes gsm8k-tiny                     every setting of a recipe, resolved
  grpo-colab train --resume runs/2026-11-21-gsm8k-tiny          after Ctrl-C, a crash, a full disk
  grpo-colab draw 12-squares --method both          one image, learnt at test time: GRPO, hindsight, both
  grpo-colab status runs/2026-11-21-gsm8k-tiny      how far it is, while it runs
  grpo-colab report runs/2026-11-21-gsm8k-tiny      a page of it; of several runs, how they compare
  grpo-colab embed gsm8k                            a map of the problems
  grpo-colab evaluate runs/2026-11-21-gsm8k-tiny    ask a trained adapter again
  grpo-colab score completions.jsonl --rewards correctness,my_rewards.py:brevity_reward
  grpo-colab audit my_rewards.py:brevity_reward     what could a model exploit in it?
"""

PASS_ON = {"ignore_unknown_options": True}  # --table.setting is the recipe's to know


def _named(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty path, which an unset variable leaves: nobody means the default by it."""
    if value is not None and not value.strip():
        raise SettingError(
            "is empty", setting=f"--{parameter.name}", value=value, remedy="write a name, or leave the option out"
        )
    return value


def path_option(*names: str, **options: Any) -> Callable[[Any], Any]:
    return click.option(*names, callback=_named, **options)


trust_option = click.option(
    "--trust-code", is_flag=True, help="Let run what a recipe's file or a run folder names of others' code. Once."
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
    short_help="Train a recipe, and evaluate it before and after.",
    help="Train RECIPE (a preset's name or a .toml file), and evaluate it before and after.\n\n"
    "Any setting of the recipe can follow as --TABLE.SETTING VALUE, such as --budget.max-steps 20, --task.path DIR, "
    "--lora.r 16 or --rewards.integer false; `grpo-colab recipes RECIPE` shows them all.",
)
@words_argument
@path_option("--out", metavar="DIR", help="The run folder. [default: runs/<date>-<recipe>]")
@path_option(
    "--resume", metavar="RUN", help="Go on with a run that was stopped, killed or cut: its folder, or a mirror's copy."
)
@trust_option
def train(words: tuple[str, ...], out: str | None, resume: str | None, trust_code: bool) -> None:
    from grpo_colab import train as run_training
    from grpo_colab.recipe.overrides import read_recipe

    with chatter_to_stderr():
        if resume and words:  # the settings are on top of the run's own, which may have to be brought here first
            from grpo_colab.runs.resume import restore_run

            resume, out = str(restore_run(resume, out).path), None
        recipe = None if resume and not words else read_recipe(words, resume)
        run = run_training(recipe, out=out, resume=resume or False, trust_code=trust_code)
    if run.evaluation is not None and os.environ.get("RANK", "0") == "0":  # of torchrun's processes, one speaks
        click.echo(printable(evaluation_text(run.evaluation)))


@cli.command(
    context_settings=PASS_ON,
    short_help="Learn to draw one image at test time, by GRPO, hindsight, or both.",
    help="Learn to draw TASK (9-vertical-lines, N-squares, chick, a text or PNG file, or rows such as 8888/8448) at "
    "test time, by GRPO, by hindsight experience replay, or by both. Settings of the recipe can follow as with train.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="TASK [--TABLE.SETTING VALUE]...")
@click.option("--method", metavar="NAME", help="grpo, her, or both. [default: the recipe's]")
@click.option(
    "--seeds", type=int, default=1, show_default=True, metavar="N", help="So many runs, each with its own seed."
)
@path_option("--recipe", metavar="NAME", help="A preset, or a .toml file. [default: drawing-tiny]")
@click.option(
    "--sweep", is_flag=True, help="Each combination of the recipe's [sweep]; --sweep.TABLE.SETTING '[...]' adds to it."
)
@path_option("--out", metavar="DIR", help="The folder of the runs. [default: runs/<date>-<recipe>-<task>-<method>]")
@path_option("--resume", metavar="DIR", help="Go on with such a folder; what is finished is left out.")
@trust_option
@click.option("--json", "as_json", is_flag=True, help="What came of it, as JSON.")
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

    from grpo_colab.recipe.overrides import read_words

    names, overrides = read_words(words)
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
        from grpo_colab.experiments.sweep import as_json as found
        from grpo_colab.experiments.sweep import draw_text

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
    click.echo(json.dumps(found(runs), indent=2) if as_json else draw_text(runs, sys.stdout.isatty()))


@cli.command(
    context_settings=PASS_ON,
    short_help="List the recipes, or print one resolved.",
    help="List the presets, or print RECIPE with every setting resolved, as TOML; settings can follow as with train.",
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
    short_help="Does a recipe fit a GPU, and how long will it take? Before any download.",
    help="Say whether RECIPE fits, part by part, what is chosen for it, and how long it takes; settings can follow as "
    "with train. Nothing is loaded: the model's configuration is enough. The status is 1 when it does not fit.",
)
@words_argument
@click.option("--gpu", metavar="NAME", help="T4, L4, A100-40, ..., or cpu. [default: this machine]")
@click.option("--vram-gib", type=float, metavar="N", help="A GPU with so much memory.")
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON.")
@path_option("--picture", metavar="FILE", help="Draw it, as a PNG.")
def plan(words: tuple[str, ...], gpu: str | None, vram_gib: float | None, as_json: bool, picture: str | None) -> None:
    import json
    import shutil

    from grpo_colab.plan import plan as fit
    from grpo_colab.plan.devices import device_for
    from grpo_colab.recipe.overrides import read_recipe

    recipe = read_recipe(words)
    with chatter_to_stderr():
        device_for(gpu, vram_gib)  # what is misspelt is said before seconds of imports
        with contextlib.suppress(ModuleNotFoundError):  # the plan says what is missing
            import transformers  # noqa: F401 - without Unsloth, since nothing is trained in this process

        planned = fit(recipe, gpu, vram_gib)
        if picture:
            planned.draw(picture)
    width = shutil.get_terminal_size().columns
    click.echo(json.dumps(planned.as_dict(), indent=2) if as_json else planned.text(sys.stdout.isatty(), width))
    sys.exit(1 if planned.fits == "no" else 0)


@cli.command(
    context_settings=PASS_ON, short_help="What is wrong with this machine, and what to do. Status 1 when broken."
)
@words_argument
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON.")
def doctor(words: tuple[str, ...], as_json: bool) -> None:
    """Look at the GPU, the driver, the versions, the disk, the keys and the way to RECIPE's model, a line each."""
    import dataclasses
    import json

    from grpo_colab.doctor.diagnose import doctor as look
    from grpo_colab.doctor.diagnose import doctor_text
    from grpo_colab.recipe.overrides import read_recipe

    recipe = read_recipe(words)
    with chatter_to_stderr():
        checks = look(recipe)
    found = [dataclasses.asdict(check) for check in checks]
    click.echo(json.dumps(found, indent=2) if as_json else doctor_text(checks, sys.stdout.isatty()))
    sys.exit(1 if any(check.state == "broken" for check in checks) else 0)


@cli.command(short_help="How far a run is, while it runs or afterwards.")
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="All of it, as JSON.")
def status(run: str, as_json: bool) -> None:
    """Read the folder RUN alone: step, rate, time left, reward, warnings, last checkpoint, mirror."""
    import json

    from grpo_colab.runs.status import status as look
    from grpo_colab.runs.status import status_text

    found = look(run)
    click.echo(json.dumps(found, indent=2) if as_json else printable(status_text(found)))


@cli.command(name="report", short_help="A page of what a run has learnt, or of how several compare.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@path_option(
    "--out", metavar="FILE", help="The page to write. [default: RUN/report.html; of several, report.html here]"
)
def make_report(runs: tuple[str, ...], out: str | None) -> None:
    """Make report.html of the folder RUN, running, stopped or finished; of several RUNs, one page that compares them.

    One file that opens offline: curves, warnings, what was gained and lost, and every completion with its rewards.
    """
    from grpo_colab.reporting import report

    click.echo(printable(report(runs, out)))


@cli.command(
    context_settings=PASS_ON,
    short_help="See a task's problems: as a map, and in the Embedding Projector.",
    help="Write the problems of TASK (gsm8k, ..., a recipe; that of --run) as embeddings: a map as a picture and as a "
    "page, files for TensorFlow's Embedding Projector and for TensorBoard, and near-duplicates between the splits. The "
    "task's settings can follow, as --task.path DIR.",
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[TASK] [--task.SETTING VALUE]...")
@path_option("--run", metavar="RUN", help="Add what this run's policy made of each problem before and after.")
@path_option("--out", metavar="DIR", help="The folder to write. [default: embeddings/<task>]")
@click.option(
    "--model",
    metavar="NAME",
    help="A sentence-transformers model, or a folder. [default: one if it is there, or TF-IDF]",
)
@click.option("--n", type=int, metavar="N", help="So many problems of each split. [default: all]")
def embed(words: tuple[str, ...], run: str | None, out: str | None, model: str | None, n: int | None) -> None:
    from grpo_colab.recipe.overrides import read_words
    from grpo_colab.reporting.embedding import embed as embed_task
    from grpo_colab.reporting.embedding import embed_text

    names, overrides = read_words(words)
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


@cli.command(short_help="Ask a run's trained adapter its held-out problems again.")
@click.argument("run")
@trust_option
def evaluate(run: str, trust_code: bool) -> None:
    """Load the adapter of the folder RUN, answer its held-out problems again, and print the comparison as JSON."""
    import json

    from grpo_colab.evaluation.evaluate import evaluate_run

    with chatter_to_stderr():
        evaluation = evaluate_run(run, trust_code)
    click.echo(json.dumps(evaluation, indent=2))


@cli.command(short_help="What rewards pay for the completions in a file.")
@click.argument("file")
@click.option(
    "--rewards",
    default="correctness,strict_format",
    show_default=True,
    metavar="A,B,...",
    help="Names of ours (settings as in cosine_scaled(max_len=512)), package.module.function, or file.py:function.",
)
@click.option("--answer-column", default="answer", show_default=True, metavar="NAME", help="Where the gold answer is.")
@path_option("--golds", metavar="FILE", help="Problems (.jsonl) with the answers that the completions lack.")
@path_option("--out", metavar="FILE", help="Write every row with its scores, as JSON lines.")
def score(file: str, rewards: str, answer_column: str, golds: str | None, out: str | None) -> None:
    """Score the completions in FILE (.jsonl, or TRL's .parquet) or in a run folder, without a model.

    Each row has a `completion`, and the columns that the rewards ask for, such as `answer`.
    """
    from grpo_colab.evaluation.scoring import check_out
    from grpo_colab.evaluation.scoring import score as score_file
    from grpo_colab.rewards.resolve import split_names

    if out:
        check_out(out)
    names = split_names(rewards)
    say_code(names)
    with chatter_to_stderr():
        scores = score_file(file, names, answer_column, golds)
        if out:
            scores.write(out)
    click.echo(printable(scores.text()))


@cli.command(short_help="What could a model exploit in a reward? Status 1 when something.")
@click.argument("reward", metavar="PATH:FUNCTION")
@click.option("--kind", metavar="KIND", help="correctness, format, code, ...: what it promises. [default: found out]")
@click.option(
    "--answer-column", metavar="NAME", help="The parameter that takes the gold answer, where it is a rare one."
)
@click.option("--time-limit", type=float, default=1.0, show_default=True, metavar="S", help="Seconds a completion.")
def audit(reward: str, kind: str | None, answer_column: str | None, time_limit: float) -> None:
    """Play an adversary against a reward: my_rewards.py:my_reward, package.module.function, or a name of ours.

    A battery of completions that cheat or say nothing, and of right answers as people write them; and whether the
    function is deterministic, independent of the order, picklable, thread-safe and quick.
    """
    from grpo_colab.evaluation.scoring import as_option_error
    from grpo_colab.rewards import resolve_reward
    from grpo_colab.rewards.audit import audit as play_the_adversary

    try:
        say_code([reward])
        function = resolve_reward(reward)
    except SettingError as error:
        raise as_option_error("audit", reward, error) from None
    found = play_the_adversary(function, kind, time_limit_s=time_limit, answer_column=answer_column)
    click.echo(printable(found))
    sys.exit(0 if found.ok else 1)


def say_code(names: list[str]) -> None:
    """Say which of these rewards are code of others; what is wrong with a name says who resolves it."""
    from grpo_colab.recipe.trust import announced
    from grpo_colab.rewards.look import look_at_reward

    with contextlib.suppress(ValueError):
        for name in names:
            look_at_reward(name)
        if running := announced(names):
            say(running)


def main(arguments: list[str] | None = None) -> None:
    """The console script: a SettingError becomes a line on stderr and exit status 2."""
    sys.excepthook = show_traceback
    for stream in (sys.stdout, sys.stderr):  # where a terminal knows ASCII alone, other signs are escaped
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        cli(arguments, prog_name="grpo-colab")
    except SettingError as error:
        say(f"grpo-colab: {error}")
        sys.exit(2)
