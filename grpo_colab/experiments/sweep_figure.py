"""Draw sweep.png: a curve per combination of a sweep, and beside it how many held-out problems each has right after.

The colours and lines are those of reporting/curves.py. A combination has the same colour on both sides.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.experiments.sweep_results import Combination, ended_text
from grpo_colab.experiments.variants import AS_IT_IS, told
from grpo_colab.reporting.curves import COLOURS, INK, MUTED, STYLES, series, trend
from grpo_colab.text import on_one_line, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_COLOURED: Final = 10  # combinations; of more, the others are grey
MOST_WITH_SEEDS: Final = 6  # combinations whose seeds are drawn as lines of their own, too
LEAST_ROWS: Final = 6  # for which there is room, so that few bars are not thick ones
LONGEST_NAME: Final = 44  # characters of a combination's name
GREY: Final = "#C8C8C8"


def sweep_picture(combinations: Sequence[Combination], rows: Sequence[Mapping[str, Any]], best: int | None) -> bytes:
    """Return the picture as a PNG. `rows` are those of `sweep_results.table`, and `best` is the index of the best."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    count = len(rows)
    figure = Figure(figsize=(12, max(4.0, 1.6 + 0.34 * count)), dpi=120, layout="constrained")
    curves, accuracy = figure.subplots(1, 2, width_ratios=(6, 5))
    looks = _looks(rows, best)
    with_probe = any(row["probe_best"] is not None for row in rows)
    for index in sorted(range(count), key=lambda index: looks[index][2]):  # the best one above the others
        _plot_curve(curves, combinations[index], looks[index], with_probe, with_seeds=count <= MOST_WITH_SEEDS)
    title = "Probe: held-out problems that are right" if with_probe else "Reward, mean over the seeds"
    curves.set_title(title, color=INK)
    curves.set_xlabel("step")
    if with_probe:
        curves.yaxis.set_major_formatter(PercentFormatter(1.0))  # as many decimals as tell its ticks apart
    curves.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    for axes in (curves, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
    curves.grid(axis="y", alpha=0.25)
    _plot_accuracies(accuracy, rows, looks, best)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _looks(rows: Sequence[Mapping[str, Any]], best: int | None) -> list[tuple[str, str, float]]:
    """Return each row's colour, line style and width. Of many rows those with the highest accuracy are coloured."""
    order = sorted(range(len(rows)), key=lambda index: (index != best, -(rows[index]["after"] or {"mean": -1})["mean"]))
    coloured = [*range(len(rows))] if len(rows) <= MOST_COLOURED else sorted(order[:MOST_COLOURED])
    looks = [(GREY, "-", 1.0)] * len(rows)
    for place, index in enumerate(coloured):
        style = STYLES[place // len(COLOURS) % len(STYLES)]
        looks[index] = (COLOURS[place % len(COLOURS)], style, 3.0 if index == best else 1.8)
    return looks


def _plot_curve(axes: Axes, one: Combination, look: tuple[str, str, float], with_probe: bool, with_seeds: bool) -> None:
    """Plot the mean over the seeds of the probe or of the smoothed reward, by step.

    `with_seeds` draws each of several seeds as a faint line, too.
    """
    colour, style, width = look
    by_step: dict[float, list[float]] = {}
    for run in one.runs:
        rows = run.metrics()
        values = series(rows, "probe/accuracy" if with_probe else "reward")
        points = [(row["step"], value) for row, value in zip(rows, values, strict=True) if not math.isnan(value)]
        steps = [step for step, _ in points]
        smooth = [value for _, value in points] if with_probe else trend([value for _, value in points])
        if with_seeds and len(one.runs) > 1:
            axes.plot(steps, smooth, color=colour, linewidth=0.8, alpha=0.35)
        for step, value in zip(steps, smooth, strict=True):
            by_step.setdefault(step, []).append(value)
    # where only some seeds have come, their mean would jump
    steps = sorted(step for step, values in by_step.items() if len(values) == len(one.runs)) or sorted(by_step)
    means = [fmean(by_step[step]) for step in steps]
    axes.plot(steps, means, color=colour, linestyle=style, linewidth=width, marker="o" if len(steps) < 3 else None)


def _plot_accuracies(
    axes: Axes, rows: Sequence[Mapping[str, Any]], looks: Sequence[tuple[str, str, float]], best: int | None
) -> None:
    """Plot a line per combination: before training as a grey tick, each seed after it as a dot, their mean as a bar.

    Where a combination has no accuracy, how its runs have ended stands in its place.
    """
    axes.set_title("Held-out accuracy (grey: before)", color=INK)
    names = []
    for index, row in enumerate(rows):
        place = len(rows) - 1 - index  # the first one above
        colour, style, _ = looks[index]
        ended = "" if row["finished"] else on_one_line(ended_text(row))[:LONGEST_NAME]
        if row["after"] is None:
            axes.text(0.01, place, ended, va="center", color=MUTED, fontsize=8, parse_math=False)
        if row["after"] is not None:
            mean = row["after"]["mean"]
            axes.barh(place, mean, height=0.55, color=colour, alpha=0.35, linestyle=style, edgecolor=colour)
            seeds = [one["after"] for one in row["runs"] if one["after"] is not None]
            axes.plot(seeds, [place] * len(seeds), "o", color=colour, markersize=5)
            axes.plot([row["before"]["mean"]] * 2, [place - 0.3, place + 0.3], color=MUTED, linewidth=2)
            weight = "bold" if index == best else "normal"
            right = max(mean, row["after"]["max"]) + 0.015
            label = f"{mean:.1%}  {ended}".rstrip()
            axes.text(right, place, label, va="center", color=INK, fontsize=9, fontweight=weight, parse_math=False)
        name = printable(told(row["settings"]) or AS_IT_IS)
        name = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
        names.append(f"best: {name}" if index == best else name)
    axes.set_yticks(range(len(rows)), reversed(names))
    for tick, look in zip(axes.get_yticklabels(), reversed(looks), strict=True):
        tick.set_parse_math(False)
        tick.set_color(INK if look[0] == GREY else look[0])
        tick.set_fontsize(9)
    room = max(0, LEAST_ROWS - len(rows)) / 2
    axes.set(xlim=(0, 1.12), ylim=(-0.6 - room, len(rows) - 0.4 + room))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
