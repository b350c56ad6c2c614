"""Define the subcommands that look at what there is: status, report, embed, score and audit."""

from __future__ import annotations

import sys

import click

from grpo_colab.cli import completion
from grpo_colab.cli.completion import RecipeCommand
from grpo_colab.cli.group import cli
from grpo_colab.cli.options import PASS_ON, json_option, path_option, trust_option
from grpo_colab.cli.output import (
    announce_foreign_code,
    chatter_to_stderr,
    json_text,
)
from grpo_colab.errors import SettingError
from grpo_colab.text import printable


@cli.command(short_help="Print the progress of a run, while it runs or afterwards.")
@click.argument("run", required=False, shell_complete=completion.runs)
@json_option
def status(run: str | None, as_json: bool) -> None:
    """Print what the run in the folder RUN does: its phase, step, time left, reward, warnings, checkpoint and mirror.

    Without RUN it is the newest one in runs/.
    """
    from grpo_colab.runs.listing import newest_run
    from grpo_colab.runs.status import status as read_status
    from grpo_colab.runs.status import status_text

    found = read_status(newest_run() if run is None else run)
    click.echo(json_text(found) if as_json else printable(status_text(found)))


@cli.command(name="runs", short_help="List the runs: state, step, accuracy before and after.")
@click.argument("folder", required=False, metavar="[DIR]")
@json_option
def show_runs(folder: str | None, as_json: bool) -> None:
    """List the runs in the folder DIR, by default ./runs, newest first."""
    from grpo_colab.runs.folders import RUNS
    from grpo_colab.runs.listing import list_runs, runs_text

    place = RUNS if folder is None else folder
    rows = list_runs(place) if folder is not None or RUNS.is_dir() else []
    click.echo(json_text(rows) if as_json else printable(runs_text(rows, place)))


@cli.command(name="report", short_help="Write an HTML page about a run, or one that compares several.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", shell_complete=completion.runs)
@path_option(
    "--out", metavar="FILE", help="The page to write. [default: RUN/report.html; for several runs, ./report.html]"
)
@click.option("--json", "as_json", is_flag=True, help="Print the page's path and the state of each run as JSON.")
def make_report(runs: tuple[str, ...], out: str | None, as_json: bool) -> None:
    """Write report.html for the folder RUN, whether running, stopped or finished; for several, a page that compares.

    The page is one file that opens offline. It has the curves, the warnings, the problems gained and lost, and every
    completion with its rewards.
    """
    from grpo_colab.reporting import report
    from grpo_colab.reporting.page.run_reader import find_runs
    from grpo_colab.runs.status import status as read_status

    page = report(runs, out)
    if as_json:
        click.echo(json_text({"page": page, "runs": [read_status(run.path) for run in find_runs(runs)]}))
    else:
        click.echo(printable(page))


@cli.command(
    cls=RecipeCommand,
    context_settings=PASS_ON,
    short_help="Draw a map of a task's problems, also for the Embedding Projector.",
    help="Embed the problems of TASK (such as gsm8k, or a recipe; by default the task of --run). Writes a map as a "
    "picture and as a page, files for TensorFlow's Embedding Projector and for TensorBoard, and a list of "
    "near-duplicates between the splits. The task's settings can be overridden, such as --task.path DIR.",
)
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="[TASK] [--task.SETTING VALUE]...",
    shell_complete=completion.tasks,
)
@path_option(
    "--run",
    metavar="RUN",
    help="Add how this run's policy did on each problem before and after training.",
    shell_complete=completion.runs,
)
@path_option("--out", metavar="DIR", help="The folder to write. [default: embeddings/<task>]")
@click.option(
    "--model", metavar="NAME", help="A sentence-transformers model or folder. [default: an installed one or TF-IDF]"
)
@click.option("--n", type=int, metavar="N", help="Number of problems per split. [default: all]")
@trust_option
def embed(
    words: tuple[str, ...], run: str | None, out: str | None, model: str | None, n: int | None, trust_code: bool
) -> None:
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
        found = embed_task(
            names[0] if names else None, run=run, out=out, model=model, n=n, trust_code=trust_code, **options
        )
    click.echo(printable(embed_text(found)))


@cli.command(short_help="Compute what rewards pay for the completions in a file.")
@click.argument("file")
@click.option(
    "--rewards",
    shell_complete=completion.rewards,
    metavar="A,B,...",
    help="Built-in names (with settings: cosine_scaled(max_len=512)), package.module.function, or file.py:function. "
    "[default: a run's own; for a file, correctness,strict_format]",
)
@click.option(
    "--answer-column", default="answer", show_default=True, metavar="NAME", help="The column of the gold answer."
)
@path_option("--golds", metavar="FILE", help="A .jsonl of problems with the answers that the completions lack.")
@path_option("--out", metavar="FILE", help="Write every row with its scores, as JSON lines.")
@trust_option
@json_option
def score(
    file: str,
    rewards: str | None,
    answer_column: str,
    golds: str | None,
    out: str | None,
    trust_code: bool,
    as_json: bool,
) -> None:
    """Score the completions in FILE (.jsonl, or TRL's .parquet) or in a run folder, without a model.

    Each row has a `completion` and the columns that the rewards need, such as `answer`.
    """
    from grpo_colab.evaluation.score_json import score_json
    from grpo_colab.evaluation.scoring import default_rewards
    from grpo_colab.evaluation.scoring import score as score_file
    from grpo_colab.rewards.names import split_names
    from grpo_colab.utils.files import check_name

    if out:
        check_name("--out", out)
    names = default_rewards(file, trust_code) if rewards is None else split_names(rewards)
    announce_foreign_code(names)
    with chatter_to_stderr():
        scores = score_file(file, names, answer_column, golds)
        if out:
            scores.write(out)
    click.echo(json_text(score_json(scores)) if as_json else printable(scores.text()))


@cli.command(short_help="Find what a model could exploit in a reward. Exit status 1 if there is something.")
@click.argument("reward", metavar="PATH:FUNCTION", shell_complete=completion.rewards)
@click.option(
    "--kind",
    metavar="KIND",
    help="What the reward judges: number, math, text, choice, json, code, format, ... [default: detected]",
)
@path_option("--golds", metavar="FILE", help="A .jsonl of your own problems, of whose answers the attacks are made.")
@path_option("--task", metavar="RECIPE", help="A preset or a .toml, of whose task's answers the attacks are made.")
@click.option("--answer-column", metavar="NAME", help="The parameter for the gold answer. [default: detected]")
@click.option("--time-limit", type=float, default=1.0, show_default=True, metavar="S", help="Seconds per completion.")
@click.option("--all", "every", is_flag=True, help="Print every finding, and not one of each sort.")
def audit(
    reward: str,
    kind: str | None,
    golds: str | None,
    task: str | None,
    answer_column: str | None,
    time_limit: float,
    every: bool,
) -> None:
    """Attack a reward or a grader: my_rewards.py:my_reward, package.module.function, or a built-in name.

    For a file without a function, it lists the functions that could be rewards, and runs nothing.

    The reward gets completions that cheat or say nothing, which it should not pay, and right answers as people write
    them, which it should. The audit also checks that the function is deterministic, independent of the order,
    picklable, thread-safe and quick.
    """
    from pathlib import Path

    from grpo_colab.evaluation.golds import examples_in_file, examples_of_task
    from grpo_colab.evaluation.scoring import as_option_error
    from grpo_colab.rewards import resolve_reward
    from grpo_colab.rewards.audit import audit as audit_reward
    from grpo_colab.rewards.audit import gold_columns
    from grpo_colab.rewards.graders.own import is_grader
    from grpo_colab.rewards.static_check import need_function

    if golds and task:
        raise SettingError("is given beside --task", setting="--golds", value=golds, remedy="leave one of them out")
    examples, grading = examples_of_task(task) if task else ([], {})
    try:
        need_function(reward, "grpo-colab audit", ("reward", "grader"))
        announce_foreign_code([reward])
        function = resolve_reward(reward, grading)
        if is_grader(function):
            function = resolve_reward(f"correctness(grader={reward!r})", grading)
    except SettingError as error:
        raise as_option_error("audit", reward, error) from None
    if golds:
        columns = [answer_column] if answer_column else [*gold_columns(function), "answer"]
        examples = examples_in_file(Path(golds), columns)
    found = audit_reward(function, kind, time_limit_s=time_limit, answer_column=answer_column, examples=examples)
    click.echo(printable(found.text(every)))
    sys.exit(0 if found.ok else 1)
