"""What several runs have side by side: names that tell them apart, the settings that differ, and their charts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from grpo_colab.reporting.page.charts import CHARTS, LONGEST_LABEL, MOST_LINES, Chart, reward_label
from grpo_colab.reporting.page.figures import Figure, Trace, describe_ends, figure, line
from grpo_colab.reporting.page.html import format_number, short_name, unique_names
from grpo_colab.reporting.page.metric_rows import Row, downsample, is_reward_key, values, with_variance_share
from grpo_colab.reporting.page.run_reader import RunData
from grpo_colab.runs.run import Run
from grpo_colab.utils.files import number

MOST_RUNS_SMOOTHED: Final = 3  # with more runs only the moving means are drawn
MOST_RUNS_IN_LEGEND: Final = 6


class Metric(NamedTuple):
    """A metric of which all runs have a line in one chart."""

    key: str
    title: str
    chart: Chart


def distinguishing_names(runs: Sequence[Run]) -> list[str]:
    """Return the names of the run folders, each with as many folders above it as tell all of them apart."""
    parts = [run.path.resolve().parts for run in runs]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(one) for one in parts]


def differing_settings(runs: Sequence[RunData]) -> list[tuple[str, list[str]]]:
    """Return each setting that is not the same in all recipes: its dotted name, and its value in each run.

    The value is a dash where a recipe does not have the setting. What a recipe says about itself is no setting.
    """
    settings = [dict(_flatten(run.recipe)) for run in runs]
    found: dict[str, list[str]] = {}
    for one in settings:
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    found.pop("description", None)
    differing = [name for name, told in found.items() if len(told) < len(settings) or len(set(told)) > 1]
    return [(name, [one.get(name, "–") for one in settings]) for name in differing]


def places_by_value(values: Sequence[str]) -> dict[str, list[int]]:
    """Return each value with the places that have it, in the order in which the values first come."""
    found: dict[str, list[int]] = {}
    for place, value in enumerate(values):
        found.setdefault(value, []).append(place)
    return found


def _flatten(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Return the leaves of nested tables as pairs of dotted name and text. `name` is the table's own dotted name."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _flatten(inner, f"{name}.{key}" if name else str(key))]
    return [(name, _setting_text(value))]


def _setting_text(value: Any) -> str:
    """Return a setting's value as a person writes it: 80,000, 0.00005, true, and a list by its items."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(map(_setting_text, value)) or "none"
    if number(value) is None:
        return str(value)
    # an int keeps all its digits, a float those that tell it from others
    return f"{value:,}" if isinstance(value, int) else format_number(value, 6)


def comparison_charts(runs: Sequence[RunData]) -> list[Figure]:
    """Return a chart per metric, in which each run has a line in its own style (`figures.line_style`).

    A metric that no run has gets no chart. Of more than MOST_RUNS_SMOOTHED runs only the moving means are drawn. More
    than MOST_RUNS_IN_LEGEND have no legend.
    """
    names = unique_names(short_name(run.name, LONGEST_LABEL) for run in runs)
    metrics = _metrics_to_compare(runs)
    traces: list[list[Trace]] = [[] for _ in metrics]
    ends: list[list[list[str]]] = [[] for _ in metrics]
    columns: list[dict[str, dict[float, float]]] = [{} for _ in metrics]
    keys = ["step", *dict.fromkeys(metric.key for metric in metrics)]
    for n, (run, name) in enumerate(zip(runs, names, strict=True)):
        # each run's rows are prepared once, and of them only what is drawn
        rows = [_only(row, keys) for row in with_variance_share(run.metrics)]
        few = downsample(rows)
        for at, metric in enumerate(metrics):
            if not values(few, metric.key)[1]:
                continue
            both = line(few, metric.key, name, n, metric.chart.smooth)
            traces[at] += both if len(runs) <= MOST_RUNS_SMOOTHED else both[-1:]
            ends[at].append(describe_ends(rows, metric.key, name, metric.chart.percent))
            columns[at][name] = dict(zip(*values(few, metric.key), strict=True))
    return [
        {
            **figure(
                metric.title,
                traces[at],
                [metric.chart.about],
                columns[at],
                metric.chart.percent,
                ends[at],
                showlegend=len(runs) <= MOST_RUNS_IN_LEGEND,
            ),
            "more": metric.chart.more,
        }
        for at, metric in enumerate(metrics)
        if traces[at]
    ]


def _only(row: Row, keys: Sequence[str]) -> dict[str, float]:
    """Return the part of a row that is under these keys."""
    return {key: row[key] for key in keys if key in row}


def _metrics_to_compare(runs: Sequence[RunData]) -> list[Metric]:
    """Return the metrics that the comparison draws, in the order of the page; each line of CHARTS is a chart here."""
    parts = [Chart(f"Reward: {' = '.join(map(reward_label, same[:5]))}", {same[0]: ""}) for same in _same_rewards(runs)]
    charts = [Chart("Reward", {"reward": ""}), *parts[:MOST_LINES], *CHARTS, Chart("Step time, s", {"step_time": ""})]
    return [
        Metric(key, f"{chart.title}: {label}" if len(chart.lines) > 1 else chart.title, chart)
        for chart in charts
        for key, label in chart.lines.items()
    ]


def _same_rewards(runs: Sequence[RunData]) -> list[list[str]]:
    """Return the keys of the rewards' means, in the order in which they come.

    Rewards that never differ in any run are in one list together.
    """
    seen: dict[str, list[tuple[Any, ...]]] = {}
    for n, run in enumerate(runs):
        by_key: dict[str, list[float]] = {}
        for row in run.metrics:
            for key, value in row.items():
                if is_reward_key(key):
                    by_key.setdefault(key, []).extend((row["step"], value))
        for key, steps_and_values in by_key.items():
            seen.setdefault(key, []).append((n, *steps_and_values))
    same: dict[tuple[Any, ...], list[str]] = {}
    for key, everywhere in seen.items():
        same.setdefault(tuple(everywhere), []).append(key)
    return list(same.values())
