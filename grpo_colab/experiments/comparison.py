"""Compare how several methods drew one image: a chart of their rewards, and a row of counts per method.

The numbers of one run, and the table over its seeds, come from results.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from grpo_colab.experiments.results import COUNTED, summary, table
from grpo_colab.runs.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def method_rows(methods: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, str]]:
    """Return a row of texts per method: seeds that solved the image, median counts, and the best drawing.

    The counts are over the runs that are over, with their range, and "-" where none is. The best drawing is that of all
    runs. Raises ValueError for a method without runs.
    """
    rows = {}
    for name, runs in methods.items():
        if not runs:  # as of `draw_on_gpu` without a GPU
            continue
        summaries = [summary(run) | {"setting": name} for run in runs]
        [counts] = table(summaries)
        row = {"solved": f"{counts['solved']} of {counts['seeds']}"}
        for column in COUNTED:
            row[column] = _median_and_range(counts[column]) if column in counts else "-"
        best = max(one["best"] for one in summaries)
        row["best drawing"] = f"{best:.1%} right"
        rows[name] = row
    return rows


def reward_figure(methods: Mapping[str, Sequence[Run]], rows: Mapping[str, Mapping[str, str]]) -> Figure:
    """Return a figure with one panel per method: the best and the worst reward of each iteration, one curve per run.

    `rows` are those of `method_rows`. A panel's title says how many seeds solved the image. The figure is not saved.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(methods), 3.4), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for axes, (name, runs) in zip(panels, methods.items(), strict=True):
        _draw_panel(axes, runs, f"{name}: solved {rows[name]['solved']}")
    panels[0].set_ylabel("share of right pixels")
    panels[0].legend(edgecolor="none", framealpha=0.85)
    return figure


def _draw_panel(axes: Axes, runs: Sequence[Run], title: str) -> None:
    from matplotlib.ticker import MaxNLocator

    from grpo_colab.reporting.curves import COLOURS

    for number, run in enumerate(runs):
        metrics = [row for row in run.metrics() if "reward/max" in row]
        steps = [row["step"] for row in metrics]
        for key, colour, label in (("reward/max", COLOURS[0], "best"), ("reward/min", COLOURS[1], "worst")):
            rewards = [row[key] for row in metrics]
            # every run has the same two colours, so the legend names those of the first
            axes.plot(steps, rewards, ".-", color=colour, alpha=0.8, label=label if number == 0 else None)
    axes.set(title=title, xlabel="iteration", ylim=(-0.05, 1.05))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(axis="y", alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _median_and_range(count: Mapping[str, Any]) -> str:
    if count["min"] == count["max"]:
        return f"{count['median']:g}"
    return f"{count['median']:g} ({count['min']:g} to {count['max']:g})"
