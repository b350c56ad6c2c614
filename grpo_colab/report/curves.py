"""rewards.png: the reward and its parts over the steps, and the held-out accuracy before and after."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from grpo_colab.files import write_bytes
from grpo_colab.run import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette: told apart with any kind of colour vision, and by their order of darkness in grey.
INK, MUTED = "#222222", "#777777"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":")


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
    _accuracy(accuracy, evaluation)
    for axes in (total, parts):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (total, parts, accuracy):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
        axes.grid(axis="y", alpha=0.25)
    figure.suptitle(run.recipe.name, fontweight="bold", color=INK)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_bytes(run.path / "rewards.png", picture.getvalue())


def _total(axes: Axes, metrics: Sequence[dict[str, Any]]) -> None:
    steps = [row["step"] for row in metrics]
    reward = [row["reward"] for row in metrics]
    spread = [row["reward_std"] for row in metrics]
    axes.fill_between(
        steps,
        [mean - std for mean, std in zip(reward, spread, strict=True)],
        [mean + std for mean, std in zip(reward, spread, strict=True)],
        color=COLOURS[0],
        alpha=0.12,
        linewidth=0,
        label="± one standard deviation of the completions",
    )
    axes.plot(steps, reward, color=COLOURS[0], alpha=0.35, linewidth=1)
    for key, label in (("reward/max", "best and worst completion"), ("reward/min", None)):
        values = [row.get(key, math.nan) for row in metrics]
        if not all(map(math.isnan, values)):
            axes.plot(steps, values, color=MUTED, linestyle=":", linewidth=1.2, label=label)
    axes.plot(steps, trend(reward), color=COLOURS[0], linewidth=2.2, label="weighted sum of the rewards")
    axes.set(title="Reward", xlabel="step")
    axes.legend(fontsize=8, loc="lower right", edgecolor="none", framealpha=0.85)


def _parts(axes: Axes, metrics: Sequence[dict[str, Any]]) -> None:
    names = [key.split("/")[1] for key in metrics[0] if key.startswith("rewards/") and key.endswith("/mean")]
    labels: dict[
        tuple[tuple[int, float], ...], list[str]
    ] = {}  # rewards that never differ are one line, not a hidden one
    for name in names:
        means = [(row["step"], row.get(f"rewards/{name}/mean")) for row in metrics]
        curve = tuple((step, mean) for step, mean in means if mean is not None)
        labels.setdefault(curve, []).append(name.removesuffix("_reward").replace("_", " "))
    for index, (curve, together) in enumerate(labels.items()):
        axes.plot(
            [step for step, _ in curve],
            trend([mean for _, mean in curve]),
            color=COLOURS[index % len(COLOURS)],
            linestyle=STYLES[index % len(STYLES)],
            linewidth=1.8,
            label=" = ".join(together),
        )
    axes.set(title="Its parts, unweighted", xlabel="step", ylim=(-0.03, 1.05))
    if labels:
        axes.legend(fontsize=8, loc="lower right", edgecolor="none", framealpha=0.85)


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


def trend(values: Sequence[float]) -> list[float]:
    """A centred moving mean over about a tenth of the run, shorter at the ends."""
    half = max(1, len(values) // 20)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]
