"""Write report.html for one run, or for several that are compared.

The head, the accuracy, what is missing and the recipe are in the page's own text, by the templates. The charts and the
lists are drawn by page.js from the page's data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import tomli_w

from grpo_colab.errors import SettingError
from grpo_colab.reporting.page.charts import run_charts
from grpo_colab.reporting.page.comparison import (
    comparison_charts,
    differing_settings,
    distinguishing_names,
    places_by_value,
)
from grpo_colab.reporting.page.completions import Sources, build_lists, collect_sources
from grpo_colab.reporting.page.figures import Figure, line_style, smoothed
from grpo_colab.reporting.page.hinted import hinted_problems
from grpo_colab.reporting.page.html import (
    FOLDER,
    TEMPLATES,
    format_number,
    format_percent,
    render_page,
    short_name,
    unique_names,
)
from grpo_colab.reporting.page.metric_rows import downsample, values
from grpo_colab.reporting.page.run_reader import RunData, find_runs, read_run, read_runs
from grpo_colab.runs.run import Run
from grpo_colab.utils.files import check_name, is_folder, write_out, write_text

NAME: Final = "report.html"
MOST_BYTES: Final = 7_800_000
MOST_CHARACTERS: Final = 24_000_000  # of completions and answers, before it is known how well they compress
MOST_WARNINGS: Final = 50  # of a run
FIRST_WARNINGS: Final = 6  # that are not folded
MOST_DIFFERENCES: Final = 60  # settings
MOST_COLUMNS: Final = 4  # runs that have a column each in the table of settings
PICTURE_TEXTS: Final = {
    "drawing.png": "The image asked for, and the best drawings of it",
    "drawing.gif": "The best drawing of each step",
}


class Section(NamedTuple):
    """A section of the page: its title, and the template of what is below it."""

    title: str
    template: str


def report(paths: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write the page of one or several runs, and return its file.

    It is report.html in the folder of a single run, ./report.html for several, or `out`, whose folder is made if it is
    missing. A folder that `grpo-colab draw` made stands for all its runs. Runs are shown in whatever state they are.
    Raises SettingError for what is no run folder, for no path, and where the page cannot be written.
    """
    if out is not None:
        check_name("--out", out)
    runs = find_runs(paths)
    target = _target(runs, out)
    page = _render_within_limit([read_run(runs[0])] if len(runs) == 1 else read_runs(runs, distinguishing_names(runs)))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if out is None:
            write_text(target, page)
        else:
            write_out(target, page)
    except OSError as error:
        raise SettingError(
            f"the page cannot be written ({error.strerror})", place=target, remedy="choose --out FILE"
        ) from None
    return target


def write_report(run: Run, evaluation: Mapping[str, Any] | None = None) -> Path:
    """Write a run's report.html from what is in its folder, however far the run is; return the file.

    `evaluation` is the content of evaluation.json, for a caller that has not written that file yet. Raises OSError
    where the page cannot be written.
    """
    path = run.path / NAME
    write_text(path, _render_within_limit([read_run(run, evaluation=evaluation)]))
    return path


def _target(runs: Sequence[Run], out: str | Path | None) -> Path:
    """Return the file that the page is written to: `out`, or report.html in the only run's or in the current folder.

    Raises SettingError where that is a folder.
    """
    target = Path(NAME if out is None else out)
    if out is None and len(runs) == 1:
        target = runs[0].path / NAME
    if is_folder(target):
        raise SettingError(
            "is a folder", setting="--out", value=str(target), remedy=f"write a file, such as {str(target / NAME)!r}"
        )
    return target


def _render_within_limit(runs: Sequence[RunData]) -> str:
    """Return the page, with fewer completions and answers where all of them would make it bigger than MOST_BYTES.

    It stays bigger where everything else on the page is too big already.
    """
    sources = collect_sources(runs)
    charts = comparison_charts(runs) if len(runs) > 1 else run_charts(runs[0])
    page, characters = _render(runs, sources, charts, MOST_CHARACTERS)
    if len(page) <= MOST_BYTES:
        return page
    bare = len(_render(runs, sources, charts, 0)[0])
    while len(page) > MOST_BYTES and characters > 1000:
        # how much of the lists would fit, if they compressed as well as those that were just rendered
        share = max(0.1, (MOST_BYTES - bare) / (len(page) - bare))
        page, characters = _render(runs, sources, charts, int(0.97 * share * characters))
    return page


def _render(runs: Sequence[RunData], sources: Sources, charts: Sequence[Figure], most: int) -> tuple[str, int]:
    """Return the page, and how many characters its lists have. They have about `most` at most."""
    lists, characters = build_lists(runs, sources, most)
    settings = {run.name: _settings_texts(run) for run in runs}
    several = len(runs) > 1
    page = render_page(
        TEMPLATES / "page.html.j2",
        title=f"{len(runs)} runs compared" if several else runs[0].title,
        data={"charts": charts},
        rest={"runs": unique_names(short_name(run.name, 60) for run in runs), **lists},
        script=FOLDER / "page.js",
        style=FOLDER / "page.css",
        runs=runs,
        lists=lists,
        settings=settings,
        first_warnings=FIRST_WARNINGS,
        most_warnings=MOST_WARNINGS,
        sections=_sections(runs, charts, lists, settings),
        **(_comparison_values(runs) if several else _run_values(runs[0])),
    )
    return page, characters


def _sections(
    runs: Sequence[RunData],
    charts: Sequence[Figure],
    lists: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, str]],
) -> list[Section]:
    """Return the sections for which there is something to show, in the order of the page."""
    completions, problems = lists["completions"], lists["problems"]
    if len(runs) > 1:
        first = [
            (True, Section("What they learnt", "comparison.html.j2")),
            (True, Section("Settings in which they differ", "differences.html.j2")),
        ]
    else:
        first = [
            (True, Section("What it learnt", "accuracy.html.j2")),
            (bool(runs[0].pictures), Section("The drawings", "drawings.html.j2")),
        ]
    troubles = Section("What is missing, and what went wrong", "problems_met.html.j2")
    candidates = [
        *first,
        (any(run.has_problems for run in runs), troubles),
        (bool(charts), Section("Charts", "charts.html.j2")),
        (bool(completions["text"] or completions["said"]), Section("Completions in training", "completions.html.j2")),
        (bool(problems["rows"] or problems["said"]), Section("Before and after, by problem", "problems.html.j2")),
        (any(settings.values()), Section("Recipe and environment", "settings.html.j2")),
    ]
    return [section for shown, section in candidates if shown]


def _run_values(run: RunData) -> dict[str, Any]:
    """Return what the templates of one run take."""
    return {
        "head": "run_head.html.j2",
        "run": run,
        "facts": _facts(run),
        "hinted": hinted_problems(run),
        "picture_texts": PICTURE_TEXTS,
    }


def _facts(run: RunData) -> dict[str, str]:
    """Return the figures at the top of a run's page as texts, by their names.

    The reward and the accuracies, of the further held-out splits, too, are left out where they are not known.
    """
    facts = {"Steps": run.steps_text}
    if run.steps:
        facts["Training"] = run.duration
    found = values(downsample(run.metrics), "reward")[1]
    rewards = smoothed(found)
    if rewards:
        name = "Reward" if rewards is found else "Reward, smoothed"
        facts[name] = f"{format_number(rewards[0])} → {format_number(rewards[-1])}"
    evaluated = {"Held-out accuracy": run.evaluation}
    evaluated |= {f"Of {name.replace('_', ' ')}": further for name, further in run.evaluation.further.items()}
    for name, evaluation in evaluated.items():
        before, after = evaluation.before, evaluation.after
        if before and after and evaluation.n != 1:
            # no line ends before the sign
            after_text = format_percent(after.accuracy).replace(" ", "\u00a0")
            facts[name] = f"{100 * before.accuracy:.1f} → {after_text}"
    return facts


def _comparison_values(runs: Sequence[RunData]) -> dict[str, Any]:
    """Return what the templates of several runs take."""
    # of a single problem there is no share that is right
    all_single = all(run.evaluation.n in (1, None) for run in runs)
    return {
        "head": "comparison_head.html.j2",
        "hinted": None,  # of several runs the lists alone are shown
        "models": ", ".join(dict.fromkeys(run.model_name for run in runs)),
        "drawings": list(dict.fromkeys(run.drawing for run in runs if run.drawing)),
        "all_single": all_single,
        "styles": [line_style(n) for n in range(len(runs))],
        "differences": differing_settings(runs),
        "most_differences": MOST_DIFFERENCES,
        "most_columns": MOST_COLUMNS,
        "places_by_value": places_by_value,
    }


def _settings_texts(run: RunData) -> dict[str, str]:
    """Return a run's recipe as TOML and its environment as JSON, by their titles, without those that are empty.

    A recipe that TOML cannot hold is shown as Python writes it.
    """
    try:
        recipe = tomli_w.dumps(run.recipe)
    except (TypeError, ValueError, RecursionError):
        recipe = str(run.recipe)
    environment = json.dumps(run.environment, indent=2, default=str)
    texts = {"Recipe": recipe, "Environment": environment}
    return {title: text for title, text in texts.items() if text not in ("", "{}")}
