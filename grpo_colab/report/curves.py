"""rewards.png: the reward and its parts over the steps, and the held-out accuracy before and after."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from grpo_colab.files import write_bytes
from grpo_colab.records import reward_of_metric
from grpo_colab.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette: told apart with any kind of colour vision, and by their order of darkness in grey.
INK, MUTED = "#222222", "#777777"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")
LONGEST = 50  # characters of a legend's line


def draw_rewards(run: Run, evaluation: dict[str, Any] | None = None) -> None:
    """Draw the run's metrics and evaluation to its rewards.png; trends are means over about a tenth of the run.

    `evaluation` is what evaluation.json will hold, where it is not there yet.
    """
    from matplotlib.figure import Figure  # not pyplot: no global state, no window, safe in a notebook
    from matplotlib.ticker import MaxNLocator

    metrics, evaluation = [row for row in run.metrics() if "reward" in row], evaluation or run.evaluation
    if not metrics:
        return
    figure = Figure(figsize=(12, 4.4), dpi=120, layout="constrained")
    total, parts, accuracy = figure.subplots(1, 3, width_ratios=(5, 5, 2.6))
    _total(total, metrics)
    _parts(parts, metrics)
    parts.set(title="Its parts, unweighted", xlabel="step", ylim=(-0.03, 1.05))
    _accuracy(accuracy, evaluation)
    for axes in (total, parts):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axes, framealpha=0.85)
    for axes in (total, parts, accuracy):
        _quiet(axes)
    figure.suptitle(plain(run.recipe.name), fontweight="bold", color=INK, parse_math=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_bytes(run.path / "rewards.png", picture.getvalue())


def _total(axes: Axes, metrics: Sequence[Mapping[str, Any]], brief: bool = False) -> None:
    steps, reward, spread = (series(metrics, key) for key in ("step", "reward", "reward_std"))
    axes.fill_between(
        steps,
        [mean - std for mean, std in zip(reward, spread, strict=True)],
        [mean + std for mean, std in zip(reward, spread, strict=True)],
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


def _parts(axes: Axes, metrics: Sequence[Mapping[str, Any]], weights: Sequence[float] = ()) -> None:
    """Each reward's mean, times its weight where there is one for each."""
    columns = {key: name for row in metrics for key in row if (name := reward_of_metric(key)) is not None}
    weights = weights if len(weights) == len(columns) else [1.0] * len(columns)
    labels: dict[tuple[tuple[float, float], ...], list[str]] = {}  # rewards that never differ are one line
    for (key, name), weight in zip(columns.items(), weights, strict=True):
        means = zip(series(metrics, "step"), series(metrics, key), strict=True)
        curve = tuple((step, weight * mean) for step, mean in means if not math.isnan(mean))
        labels.setdefault(curve, []).append(plain(name).replace("_", " "))
    for index, (curve, together) in enumerate(labels.items()):
        axes.plot(
            [step for step, _ in curve],
            trend([mean for _, mean in curve]),
            color=COLOURS[(index + 1) % len(COLOURS)],
            linestyle=STYLES[index % len(STYLES)],
            linewidth=1.8,
            label=name if len(name := " = ".join(together)) <= LONGEST else name[:LONGEST] + "...",
        )


def _legend(axes: Axes, size: float = 8, **place: Any) -> None:
    if not axes.get_legend_handles_labels()[0]:
        return
    for text in axes.legend(**{"loc": "lower right", "fontsize": size, **place}, edgecolor="none").get_texts():
        text.set_parse_math(False)  # a reward's name may hold dollars


def _accuracy(axes: Axes, evaluation: dict[str, Any] | None) -> None:
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


def _quiet(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)
    axes.grid(axis="y", alpha=0.25)


def draw_live(metrics: Sequence[Mapping[str, Any]], weights: Sequence[float] = ()) -> bytes:
    """A PNG, 1,000 pixels wide, of a run so far: what it earns, how long it writes, and what it cannot learn from.

    The parts of the reward are as they make up its sum, each times its weight, in the order of the metrics.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure = Figure(figsize=(10, 3.3), dpi=100)
    figure.subplots_adjust(0.03, 0.36, 0.965, 0.91, wspace=0.4)  # a layout engine takes as long as all the rest
    reward, length, alike = figure.subplots(1, 3, width_ratios=(5, 3, 3))
    _total(reward, metrics, brief=True)
    _parts(reward, metrics, weights)
    steps = series(metrics, "step")
    low, high = (series(metrics, f"completions/{name}_length") for name in ("min", "max"))
    length.fill_between(steps, low, high, color=COLOURS[0], alpha=0.12, linewidth=0, label="shortest to longest")
    length.set(title="Tokens of a completion", xlabel="step")
    alike.set(title="Groups without variance", xlabel="step", ylim=(-0.03, 1.03))
    alike.yaxis.set_major_formatter(PercentFormatter(1))
    for axes, left, right, label in (
        (length, "completions/mean_length", "completions/clipped_ratio", "cut off (right)"),
        (alike, "frac_reward_zero_std", "kl", "KL (right)"),
    ):
        values, second = series(metrics, left), series(metrics, right)
        axes.plot(steps, values, color=COLOURS[0], linewidth=1, alpha=0.35)
        axes.plot(steps, trend(values), color=COLOURS[0], linewidth=2.2, label="mean" if axes is length else "share")
        if not all(map(math.isnan, second)):
            axes.plot([], [], color=COLOURS[1], linestyle="--", label=label)
            twin = axes.twinx()
            twin.plot(steps, trend(second), color=COLOURS[1], linestyle="--", linewidth=1.8)
            twin.spines["top"].set_visible(False)
            twin.tick_params(labelsize=8, colors=COLOURS[1])
            if axes is length:
                twin.set_ylim(-0.03, 1.03)
                twin.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (reward, length, alike):
        axes.set_title(axes.get_title(), size=10, y=1.02)  # at a place of its own: to look for one takes a third more
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        _quiet(axes)
        axes.tick_params(labelsize=8)
        _legend(axes, 7.5, loc="upper left", bbox_to_anchor=(-0.04, -0.22), ncols=2 if axes is reward else 1)
    for line in (line for axes in figure.axes for line in axes.lines if len(steps) == 1):
        line.set_marker("o")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def series(rows: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    """What the rows have under a key; NaN where that is no number, or none that a chart could show."""
    values = (row.get(key) for row in rows)
    return [float(v) if isinstance(v, int | float) and abs(v) < 1e30 else math.nan for v in values]


def trend(values: Sequence[float]) -> list[float]:
    """A centred moving mean over about a tenth of the run, shorter at the ends; NaN counts for nothing."""
    half = max(1, len(values) // 20)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    known = ([value for value in window if not math.isnan(value)] for window in windows)
    return [sum(window) / len(window) if window else math.nan for window in known]


def plain(text: str) -> str:
    """Text to be looked at: what would move a cursor, ring, or turn the order of signs around, as Python shows it."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)
