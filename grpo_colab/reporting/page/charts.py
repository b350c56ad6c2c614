"""The charts of a run's page, as the dicts of figures.py.

A chart of plain metrics is an entry of CHARTS. Those that combine metrics, or that show more than lines, have a
function each.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final, NamedTuple

from grpo_colab.reporting.page.evaluation_reader import Side
from grpo_colab.reporting.page.figures import (
    Figure,
    band,
    describe_change,
    describe_ends,
    figure,
    layer,
    line,
    table_columns,
    with_step_marks,
)
from grpo_colab.reporting.page.html import format_number, format_percent, readable, short_name, unique_names
from grpo_colab.reporting.page.metric_rows import (
    VARIANCE,
    Row,
    all_keys,
    downsample,
    reward_keys,
    spread_band,
    values,
    with_variance_share,
)
from grpo_colab.reporting.page.run_reader import RunData
from grpo_colab.runs.records import reward_of_metric
from grpo_colab.text import masked
from grpo_colab.utils.files import number

LONGEST_LABEL: Final = 40  # characters of a line's name: as many as a legend has room for on a phone
MOST_LINES: Final = 12  # of the charts that have a line per reward or per verdict
MOST_OTHERS: Final = 24  # charts of metrics that are not known here
MOST_MARKS: Final = 40  # steps with a warning


class Chart(NamedTuple):
    """A chart of metrics: its lines by their keys, and the area between two more keys as a band.

    With `more` it is shown only to a reader who asks for more.
    """

    title: str
    lines: Mapping[str, str]  # key -> label
    about: str = ""
    band: tuple[str, str, str] | None = None  # lower key, upper key, label
    percent: bool = False
    smooth: bool = True
    more: bool = False


SAME_REWARDS: Final = "A group whose completions all earn the same teaches nothing."
LENGTHS: Final = ("completions/min_length", "completions/max_length", "shortest to longest")
ENDED: Final = ("completions/min_terminated_length", "completions/max_terminated_length", "shortest to longest")
CLIPPED: Final = {"low": "below", "high": "above", "region": "either"}
CLIPPED_MOST: Final = {"clip_ratio/low_min": "below, the least of a batch", "clip_ratio/high_max": "above, the most"}
DIFFER: Final = {VARIANCE: "in the reward", "groups_that_teach": "in what is right"}
PROBE: Final = {"probe/accuracy": "right", "probe/lenient_accuracy": "leniently"}
GROUPS: Final = {
    "sampling/groups_that_teach": "differ in what is right",
    "sampling/groups_of_format_only": "differ in other rewards alone",
}
CHARTS: Final = (
    Chart("Right during the training", PROBE, "Held-out problems, answered greedily.", percent=True, smooth=False),
    Chart("Groups that were sampled", GROUPS, "The others teach nothing.", percent=True),
    Chart("Groups with variance", DIFFER, SAME_REWARDS, percent=True),
    Chart("Completion length, tokens", {"completions/mean_length": "mean"}, band=LENGTHS),
    Chart("Cut off at the limit", {"completions/clipped_ratio": "share of completions"}, percent=True),
    Chart("KL divergence from the reference", {"kl": "KL"}),
    Chart("Entropy", {"entropy": "entropy"}, "In nats per token: near 0 it always writes the same."),
    Chart("Clipped ratios", {f"clip_ratio/{k}_mean": name for k, name in CLIPPED.items()}, "Share of tokens."),
    Chart("Loss", {"loss": "loss"}, "GRPO's is near 0 by construction; the reward tells more."),
    Chart("Gradient norm", {"grad_norm": "norm"}),
    Chart("Learning rate", {"learning_rate": "learning rate"}, smooth=False),
    Chart("Memory, GiB", {"memory/peak_gib": "most so far"}, smooth=False),
    Chart("Drawings", {"distinct": "different", "new_samples": "sampled"}, "In one iteration of hindsight."),
    Chart("Learnt from hindsight", {"pairs": "pairs of goal and program", "goal_rows": "rows of the goal"}),
    Chart("Completions sampled per step", {"sampling/completions": "completions"}, smooth=False, more=True),
    Chart("Samples so far", {"samples": "samples"}, smooth=False, more=True),
    Chart("Tokens so far", {"num_tokens": "tokens"}, "Prompts and completions.", smooth=False, more=True),
    Chart(
        "Length of what was not cut off, tokens", {"completions/mean_terminated_length": "mean"}, band=ENDED, more=True
    ),
    Chart("Clipped ratios at most", CLIPPED_MOST, "Share of tokens.", more=True),
)
STEP_PARTS: Final = {"time/generation_s": "generation", "time/reward_s": "rewards", "time/update_s": "update"}
# Column of the accuracy chart's table -> field of a Side.
RATES: Final = {"right": "accuracy", "low": "low", "high": "high", "leniently": "lenient"}
# Metrics with a chart of their own below, and those that say nothing in one.
KNOWN: Final = re.compile(
    r"step|epoch|reward|reward_std|reward/(max|min)|frac_reward_zero_std|step_time|sample_time|time/(generation|reward|update)_s|verdict/.*"
    r"|rewards/.*/(mean|std)|completions/m(in|ax)_(terminated_)?length"
)


def run_charts(run: RunData) -> list[Figure]:
    """Return the charts for which a run has numbers, in the order of the page, with a mark at each step with a warning.

    Those whose "more" is true are shown only to a reader who asks for more.
    """
    rows = with_variance_share(run.metrics)
    few = downsample(rows)
    found = [
        _reward_chart(rows, few),
        _reward_parts_chart(rows, few),
        _accuracy_chart(run),
        _verdict_chart(rows, few),
        _reward_parts_chart(rows, few, spread=True),
        *(_metric_chart(chart, rows, few) for chart in CHARTS),
        _step_time_chart(rows, few),
        *_other_charts(rows, few),
    ]
    marks = _warning_steps(run)
    return [with_step_marks(chart, marks) for chart in found if chart and chart["traces"]]


def reward_label(key: str) -> str:
    """Return how a reward is called on the page, from its key `rewards/NAME/mean` or `rewards/NAME/std`."""
    statistic = "std" if key.endswith("/std") else "mean"
    name = reward_of_metric(masked(key), statistic) or masked(key)
    return short_name(readable(name), LONGEST_LABEL)


def metric_label(key: str) -> str:
    """Return how a metric without a chart of its own is called: "time/judge_s" is "Time: judge, s"."""
    unit = ", s" if key.startswith("time/") and key.endswith("_s") else ""
    name = masked(key)  # as long as it is a key
    text = short_name(readable(name.removesuffix("_s") if unit else name), 60).replace("/", ": ") + unit
    return text[:1].upper() + text[1:]


def _warning_steps(run: RunData) -> list[float]:
    """Return the steps with a warning in order, MOST_MARKS at most.

    Those that the run has not reached are left out: they would squeeze the charts.
    """
    steps = {step for row in run.warnings if (step := number(row.get("step"))) is not None}
    return sorted(step for step in steps if 0 <= step <= run.steps)[:MOST_MARKS]


def _metric_chart(chart: Chart, rows: Sequence[Row], few: Sequence[Row]) -> Figure | None:
    """Return a chart of CHARTS, or None where the run has none of its metrics.

    The caption describes `rows`, and the lines draw `few`, which are `rows` downsampled. "more" is true for a chart of
    zeros, too.
    """
    present = {key: label for key, label in chart.lines.items() if values(few, key)[1]}
    if not present:
        return None
    traces, sentences = [], [chart.about]
    for n, (key, label) in enumerate(present.items()):
        traces += line(few, key, label, n, chart.smooth)
        if len(present) == 1:
            sentences.append(describe_change(rows, key, chart.percent, chart.smooth))
    columns = {label: key for key, label in present.items()}
    around = band(few, *chart.band) if chart.band else []
    if chart.band and around:
        traces = around + traces
        columns |= {"least": chart.band[0], "most": chart.band[1]}
    ends = [describe_ends(rows, key, label, chart.percent) for key, label in present.items()]
    drawn = figure(chart.title, traces, sentences, table_columns(few, columns), chart.percent, ends)
    return {**drawn, "more": chart.more or not any(any(trace["y"]) for trace in traces)}


def _other_charts(rows: Sequence[Row], few: Sequence[Row]) -> list[Figure]:
    """Return a chart for each metric that no other chart shows, MOST_OTHERS at most.

    They are for a reader who asks for more.
    """
    shown = {key for chart in CHARTS for key in chart.lines}
    others = [key for key in all_keys(rows) if key not in shown and not KNOWN.fullmatch(key)]
    others = others[:MOST_OTHERS]
    named = zip(others, unique_names(map(metric_label, others)), strict=True)
    found = [_metric_chart(Chart(name, {key: name}, more=True), rows, few) for key, name in named]
    return [chart for chart in found if chart]


def _reward_chart(rows: Sequence[Row], few: Sequence[Row]) -> Figure | None:
    """Return the weighted reward with its standard deviation, and the best and the worst completion of each step.

    Returns None where no step has a reward.
    """
    if not values(few, "reward")[1]:
        return None
    traces = band(spread_band(few), "low", "high", "± one standard deviation")
    for key, label, dash in (("reward/max", "best", "dashdot"), ("reward/min", "worst", "dot")):
        steps, found = values(few, key)
        if found:
            dotted = {"color": "muted", "dash": dash, "width": 1.3}
            mode = "lines" if len(steps) > 1 else "markers"
            trace = {"x": steps, "y": found, "name": f"{label} completion", "mode": mode, "line": dotted}
            traces.append({**trace, "marker": {"color": "muted", "symbol": "line-ew-open", "size": 12}})
    traces += line(few, "reward", "weighted sum of the rewards", 0)
    columns = {"mean": "reward", "deviation": "reward_std", "best": "reward/max", "worst": "reward/min"}
    ends = [describe_ends(rows, key, label) for label, key in columns.items() if values(rows, key)[1]]
    return figure("Reward", traces, [describe_change(rows, "reward")], table_columns(few, columns), ends=ends)


def _reward_parts_chart(rows: Sequence[Row], few: Sequence[Row], spread: bool = False) -> Figure:
    """Return a line per reward: its mean per step, or its standard deviation where `spread` is set.

    Rewards that never differ share a line, since one would hide the other. Of more than MOST_LINES lines the first are
    drawn, and the caption counts the others. Where there is no reward the chart has no traces.
    """
    alike: dict[tuple[float, ...], list[str]] = {}
    for key in reward_keys(rows, "std" if spread else "mean"):
        steps, found = values(rows, key)
        alike.setdefault((*steps, *found), []).append(key)
    drawn = list(alike.values())[:MOST_LINES]
    labels = unique_names(" = ".join(map(reward_label, same[:5])) for same in drawn)
    keys = {label: same[0] for label, same in zip(labels, drawn, strict=True)}
    traces = [line(few, key, label, n)[-1] for n, (label, key) in enumerate(keys.items())]
    what = "standard deviation" if spread else "mean"
    sentences = [f"The {what} over a step's completions, before the weights."]
    if len(keys) == 1:
        sentences += [describe_change(rows, key) for key in keys.values()]
    if len(alike) > len(drawn):
        sentences.append(f"{len(alike) - len(drawn)} more are in metrics.jsonl.")
    ends = [describe_ends(rows, key, label) for label, key in keys.items()]
    title = "Spread of its parts" if spread else "Its parts, unweighted"
    return figure(title, traces, sentences, table_columns(few, keys), ends=ends)


def _verdict_chart(rows: Sequence[Row], few: Sequence[Row]) -> Figure:
    """Return the share of each verdict as stacked layers, "right" at the bottom, then the most frequent first.

    There are MOST_LINES layers at most. Where the run has no verdicts the chart has no traces.
    """
    totals = {key: sum(values(rows, key)[1]) for key in all_keys(rows) if key.startswith("verdict/")}
    keys = [key for key in totals if totals[key]]
    keys.sort(key=lambda key: (key != "verdict/right", -totals[key]))
    keys = keys[:MOST_LINES]
    words = (readable(masked(key).removeprefix("verdict/")) for key in keys)
    labels = unique_names(short_name(text, LONGEST_LABEL) for text in words)
    named = dict(zip(labels, keys, strict=True))
    # a step that reuses the completions of the step before has no verdicts of its own
    few = [row for row in few if any(key in row for key in keys)]
    traces = [layer(few, key, label, n, smooth=True) for n, (label, key) in enumerate(named.items())]
    sentences = ["What was found in the completions of a step."]
    if "verdict/right" in keys:
        sentences.append(f"Right: {describe_change(rows, 'verdict/right', percent=True).lower()}")
    ends = [describe_ends(rows, key, label, percent=True) for label, key in named.items()]
    top: dict[str, Any] = {"yaxis": {"range": [0, 1.001]}}
    return figure("Verdicts", traces, sentences, table_columns(few, named), percent=True, ends=ends, **top)


def _accuracy_chart(run: RunData) -> Figure | None:
    """Return the accuracy before and after with its interval; None where nothing or a single problem was evaluated."""
    evaluation = run.evaluation
    last = evaluation.step or run.steps or run.max_steps or 1
    points: dict[float, tuple[str, Side]] = {}
    if evaluation.n != 1:
        points = {
            step: (name, side)
            for step, (name, side) in zip((0, last), evaluation.sides().items(), strict=True)
            if side is not None
        }
    if not points:
        return None
    sides = [side for _, side in points.values()]
    right: dict[str, Any] = {
        "x": list(points),
        "y": [side.accuracy for side in sides],
        "name": "right, with 95 % interval",
        "error_y": {
            "type": "data",
            "symmetric": False,
            "color": "blue",
            "thickness": 2,
            "width": 7,
            "array": [0 if side.high is None else side.high - side.accuracy for side in sides],
            "arrayminus": [0 if side.low is None else side.accuracy - side.low for side in sides],
        },
        "mode": "lines+markers",
        "marker": {"size": 8, "color": "blue"},
        "line": {"dash": "dot", "color": "blue"},
    }
    # Around the dot, not behind it: where both are the same, the diamond is seen all the same.
    lenient: dict[str, Any] = {
        "x": [step for step, (_, side) in points.items() if side.lenient is not None],
        "y": [side.lenient for side in sides if side.lenient is not None],
        "name": run.lenient_words,
        "mode": "markers",
        "marker": {"size": 19, "symbol": "diamond-open", "color": "#d55e00", "line": {"width": 2}},
    }
    traces = [right, lenient] if lenient["x"] else [right]
    sentences = [f"{name.capitalize()} {format_percent(side.accuracy)}." for name, side in points.values()]
    columns = {
        name: {step: getattr(side, field) for step, (_, side) in points.items()} for name, field in RATES.items()
    }
    columns = {name: column for name, column in columns.items() if any(value is not None for value in column.values())}
    end = max(1, run.steps, *points)
    ranges: dict[str, Any] = {"yaxis": {"range": [-0.05, 1.08]}, "xaxis": {"range": [-0.08 * end, 1.08 * end]}}
    return figure("Held-out accuracy", traces, sentences, columns, percent=True, **ranges)


def _step_time_chart(rows: Sequence[Row], few: Sequence[Row]) -> Figure | None:
    """Return the seconds per step, split into their parts where the run has measured them.

    Hindsight measures only the sampling, so that the rest of its steps counts as learning. Returns None where nothing
    was measured.
    """
    parts = {key: label for key, label in STEP_PARTS.items() if values(few, key)[1]}
    if not parts and values(few, "sample_time")[1]:
        few = [{**row, "rest": row["step_time"] - row.get("sample_time", 0)} for row in few if "step_time" in row]
        parts = {"sample_time": "sampling", "rest": "learning"}
    if not parts:
        return _metric_chart(Chart("Step time, s", {"step_time": "step time"}), rows, few)
    traces = [layer(few, key, label, n) for n, (key, label) in enumerate(parts.items())]
    means = ", ".join(f"{label} {format_number(fmean(values(few, key)[1]))}" for key, label in parts.items())
    columns = {**{label: key for key, label in parts.items()}, "whole": "step_time"}
    ends = [describe_ends(few, key, label) for label, key in columns.items() if values(few, key)[1]]
    return figure("Step time, s", traces, [f"On average {means}."], table_columns(few, columns), ends=ends)
