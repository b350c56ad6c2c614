"""rewards.png, the curves of a finished run, and the small picture of a run that is training.

Colours are Okabe and Ito's: told apart with any kind of colour vision, and by their darkness in grey.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.runs.records import reward_of_metric
from grpo_colab.runs.run import Run
from grpo_colab.utils.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED = "#222222", "#777777"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
LONGEST: Final = 50  # characters of a line of the legend
SHORT: Final = 24  # characters of lines of which two have room beside each other
HEIGHT, LEGEND_ROW = 4.2, 0.2  # inches: of rewards.png without its legends, and of a row of them

Metrics = Sequence[Mapping[str, Any]]  # rows of metrics.jsonl


def draw_rewards(run: Run, evaluation: dict[str, Any] | None = None) -> None:
    """Draw the run's reward, its parts and the held-out accuracy into its rewards.png.

    `evaluation` is the content of evaluation.json, for a caller that has not written that file yet. Nothing is written
    where no step has a reward. Raises OSError where the file cannot be written.
    """
    metrics = [row for row in run.metrics() if "reward" in row]
    if not metrics:
        return
    figure = rewards_figure(metrics, evaluation or run.evaluation)
    figure.suptitle(_escape_unprintable(run.recipe.name)[:90], fontweight="bold", color=INK, parse_math=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_bytes(run.path / "rewards.png", picture.getvalue())


def rewards_figure(metrics: Metrics, evaluation: dict[str, Any] | None) -> Figure:
    """Return the figure of rewards.png without its title: the reward, its parts and the held-out accuracy.

    Each row of `metrics` has a reward.
    """
    from matplotlib.figure import Figure  # not pyplot: no global state, no window, safe in a notebook
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(12, HEIGHT), dpi=120)
    total, parts, accuracy = figure.subplots(1, 3, width_ratios=(5, 5, 2.6))
    _plot_reward(total, metrics)
    _plot_parts(parts, metrics)
    parts.set(title="Its parts, unweighted", xlabel="step", ylim=(-0.03, 1.05))
    _plot_accuracy(accuracy, evaluation)
    # The legends are below the axes, where they can hide no line. The picture is higher where a legend is long.
    longest = max((len(str(line.get_label())) for line in parts.lines), default=0)
    columns = 1 if longest > SHORT else 2
    below = LEGEND_ROW * max(3, -(-len(parts.lines) // columns))
    figure.set_figheight(HEIGHT + below)
    figure.subplots_adjust(0.04, (0.62 + below) / (HEIGHT + below), 0.985, 1 - 0.75 / (HEIGHT + below), wspace=0.2)
    for axes, ncols in ((total, 1), (parts, columns)):
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        anchor = (0, -0.45 / (HEIGHT - 1.37))
        _add_legend(axes, loc="upper left", bbox_to_anchor=anchor, borderaxespad=0, ncols=ncols)
    for axes in (total, parts, accuracy):
        _style_axes(axes)
    _mark_single_points((total, parts), metrics)
    return figure


def _plot_reward(axes: Axes, metrics: Metrics, brief: bool = False) -> None:
    """Plot the weighted reward and its standard deviation, and, unless `brief`, the best and the worst completion."""
    steps, reward, spread = (series(metrics, key) for key in ("step", "reward", "reward_std"))
    worst, best = (series(metrics, key) for key in ("reward/min", "reward/max"))
    low, high = [], []
    for mean, std, least, most in zip(reward, spread, worst, best, strict=True):
        # Where the worst and the best completion are known, the band ends there: nothing is beyond.
        low.append(mean - std if math.isnan(least) else max(mean - std, least))
        high.append(mean + std if math.isnan(most) else min(mean + std, most))
    axes.fill_between(
        steps,
        low,
        high,
        color=COLOURS[0],
        alpha=0.12,
        linewidth=0,
        label="spread" if brief else "± one standard deviation of the completions",
    )
    axes.plot(steps, reward, color=COLOURS[0], alpha=0.35, linewidth=1)
    for key, name in (("reward/max", "best and worst completion"), ("reward/min", None)):
        values = series(metrics, key)
        if not brief and not all(map(math.isnan, values)):
            axes.plot(steps, values, color=MUTED, linestyle=":", linewidth=1.2, label=name)
    label = "sum" if brief else "weighted sum of the rewards"
    axes.plot(steps, trend(reward), color=COLOURS[0], linewidth=2.2, label=label)
    axes.set(title="Reward", xlabel="step")
    axes.ticklabel_format(axis="y", style="plain", useOffset=False)  # a person reads 80000, not 8 and "1e4" above


def _plot_parts(axes: Axes, metrics: Metrics, weights: Sequence[float] = ()) -> None:
    """Plot the smoothed mean of each reward by step, times its weight if `weights` has one for each.

    `weights` are in the order in which the rewards come in `metrics`. Where their number is another one, every weight
    is 1. Rewards that never differ share a line, since one would hide the other.
    """
    names: dict[str, str] = {}  # metric -> reward
    for key in (key for row in metrics for key in row):
        name = reward_of_metric(key)
        if name is not None:
            names[key] = name
    weights = weights if len(weights) == len(names) else [1.0] * len(names)
    steps = series(metrics, "step")
    alike: dict[tuple[tuple[float, float], ...], list[str]] = {}  # curve -> labels
    for (key, name), weight in zip(names.items(), weights, strict=True):
        means = zip(steps, series(metrics, key), strict=True)
        curve = tuple((step, weight * mean) for step, mean in means if not math.isnan(mean))
        label = _escape_unprintable(name).replace("_", " ")
        alike.setdefault(curve, []).append(label)
    for index, (curve, labels) in enumerate(alike.items()):
        label = " = ".join(labels)
        axes.plot(
            [step for step, _ in curve],
            trend([mean for _, mean in curve]),
            color=COLOURS[(index + 1) % len(COLOURS)],
            linestyle=STYLES[index % len(STYLES)],
            linewidth=1.8,
            label=label if len(label) <= LONGEST else label[:LONGEST] + "...",
        )


def _add_legend(axes: Axes, size: float = 8, **place: Any) -> None:
    """Add a legend, unless nothing on the axes has a label. `place` are arguments of matplotlib's legend."""
    if not axes.get_legend_handles_labels()[0]:
        return
    for text in axes.legend(**{"loc": "lower right", "fontsize": size, **place}, edgecolor="none").get_texts():
        text.set_parse_math(False)  # a reward's name may hold dollars


def _plot_accuracy(axes: Axes, evaluation: dict[str, Any] | None) -> None:
    """Plot the accuracy before and after training as bars with their 95 % intervals.

    A text stands there instead for a single problem, which says whether it is solved, and for None, which stands for no
    evaluation yet.
    """
    axes.set(title="Held-out accuracy", ylim=(0, 1.08))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    if evaluation is None or evaluation["n"] == 1:
        ends = {True: "solved", False: "not solved", None: "no share"}
        state = f"one problem:\n{ends[evaluation.get('solved')]}" if evaluation else "not evaluated yet"
        axes.text(0.5, 0.5, state, ha="center", color=MUTED, transform=axes.transAxes)
        axes.set_xticks([])
        return
    sides = ("before", "after")
    heights = [evaluation[side]["accuracy"] for side in sides]
    limits = [evaluation[side]["ci95"] for side in sides]
    errors = [
        [height - low for height, (low, _) in zip(heights, limits, strict=True)],
        [high - height for height, (_, high) in zip(heights, limits, strict=True)],
    ]
    axes.bar(sides, heights, color=("#BBBBBB", COLOURS[0]), width=0.62, yerr=errors, ecolor=INK, capsize=5)
    for index, (height, (_, high)) in enumerate(zip(heights, limits, strict=True)):
        axes.text(index, min(high + 0.02, 1.03), f"{height:.1%}", ha="center", color=INK, fontweight="bold")
    axes.set_xlabel(f"n = {evaluation['n']}, bars: 95 % interval")


def _mark_single_points(steps_axes: Iterable[Axes], metrics: Metrics) -> None:
    """Give each line a marker, and the axes one tick, where there is one step alone: its lines could not be seen."""
    if len(metrics) == 1:
        for axes in steps_axes:
            axes.set_xticks(series(metrics, "step"))
            for line in axes.lines:
                line.set_marker("o")


def _style_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    axes.grid(axis="y", alpha=0.25)


def draw_live(metrics: Metrics, weights: Sequence[float] = ()) -> bytes:
    """Draw a run that is training; return a PNG, 1,000 pixels wide.

    It shows the reward with its parts, the tokens of a completion, and the share of groups without variance. Each part
    is drawn times its weight, as it counts in the reward. `weights` are in the order in which the rewards come in
    `metrics`; where their number is another one, every weight is 1.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(10, 3.3), dpi=100)
    figure.subplots_adjust(0.03, 0.36, 0.965, 0.91, wspace=0.4)  # a layout engine takes as long as all the rest
    reward, length, alike = figure.subplots(1, 3, width_ratios=(5, 3, 3))
    _plot_reward(reward, metrics, brief=True)
    _plot_parts(reward, metrics, weights)
    _plot_lengths(length, metrics)
    _plot_groups_without_variance(alike, metrics)
    for axes in (reward, length, alike):
        axes.set_title(axes.get_title(), size=10, y=1.02)  # at a fixed place: to look for one takes a third more
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _style_axes(axes)
        axes.tick_params(labelsize=8)
        _add_legend(axes, 7.5, loc="upper left", bbox_to_anchor=(-0.04, -0.22), ncols=2 if axes is reward else 1)
    _mark_single_points(figure.axes, metrics)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _plot_lengths(axes: Axes, metrics: Metrics) -> None:
    """Plot the mean tokens of a completion and their range by step, and on the right the share that was cut off."""
    from matplotlib.ticker import PercentFormatter

    steps = series(metrics, "step")
    low, high = (series(metrics, f"completions/{name}_length") for name in ("min", "max"))
    axes.fill_between(steps, low, high, color=COLOURS[0], alpha=0.12, linewidth=0, label="shortest to longest")
    axes.set(title="Tokens of a completion", xlabel="step")
    _plot_smoothed(axes, metrics, "completions/mean_length", "mean")
    twin = _plot_on_the_right(axes, metrics, "completions/clipped_ratio", "cut off (right)")
    if twin is not None:
        twin.set_ylim(-0.03, 1.03)
        twin.yaxis.set_major_formatter(PercentFormatter(1))


def _plot_groups_without_variance(axes: Axes, metrics: Metrics) -> None:
    """Plot the share of groups whose rewards are all equal, and on the right the KL divergence where it is logged."""
    from matplotlib.ticker import PercentFormatter

    axes.set(title="Groups without variance", xlabel="step", ylim=(-0.03, 1.03))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    _plot_smoothed(axes, metrics, "frac_reward_zero_std", "share")
    _plot_on_the_right(axes, metrics, "kl", "KL (right)")


def _plot_smoothed(axes: Axes, metrics: Metrics, key: str, label: str) -> None:
    """Plot a metric by step as a faint line, and its moving mean as a bold one with the label."""
    steps, values = series(metrics, "step"), series(metrics, key)
    axes.plot(steps, values, color=COLOURS[0], linewidth=1, alpha=0.35)
    axes.plot(steps, trend(values), color=COLOURS[0], linewidth=2.2, label=label)


def _plot_on_the_right(axes: Axes, metrics: Metrics, key: str, label: str) -> Axes | None:
    """Plot the moving mean of a metric against an axis of its own on the right, and return that axis.

    The label goes into the legend of `axes`. Returns None, and plots nothing, where no row has the metric.
    """
    values = series(metrics, key)
    if all(map(math.isnan, values)):
        return None
    axes.plot([], [], color=COLOURS[1], linestyle="--", label=label)  # for the legend
    twin = axes.twinx()
    twin.plot(series(metrics, "step"), trend(values), color=COLOURS[1], linestyle="--", linewidth=1.8)
    twin.spines["top"].set_visible(False)
    twin.tick_params(labelsize=8, colors=COLOURS[1])
    return twin


def series(rows: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    """Return what each row has under `key`; NaN where that is missing, no number, or at least 1e30 in size."""
    values = (row.get(key) for row in rows)
    return [float(v) if isinstance(v, int | float) and abs(v) < 1e30 else math.nan for v in values]


def trend(values: Sequence[float]) -> list[float]:
    """Return the centred moving mean of the values, one per value, over about a tenth of them.

    The window has three values or more, and fewer at the ends. NaN is left out of a mean. A window with nothing else
    gives NaN.
    """
    half = max(1, len(values) // 20)
    means = []
    for i in range(len(values)):
        window = values[max(0, i - half) : i + half + 1]
        known = [value for value in window if not math.isnan(value)]
        means.append(sum(known) / len(known) if known else math.nan)
    return means


def _escape_unprintable(text: str) -> str:
    """Return a text with an escape for each character that a picture's font cannot show, such as control characters."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
