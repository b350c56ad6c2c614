"""The charts of a run, or of several laid over each other, as the plain dicts that Plotly's script draws.

Each says in words what it shows, for who does not see it, and has its values as columns for a table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final, NamedTuple

from grpo_colab.console import masked
from grpo_colab.files import number
from grpo_colab.records import reward_of_metric
from grpo_colab.report.curves import trend
from grpo_colab.report.reading import SIDES, Reading
from grpo_colab.report.shell import distinct, shown

# Okabe and Ito's, as in shell.js; "blue" is the stylesheet's, which is light in the dark and black on paper
COLOURS: Final = ("blue", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#8c6bb1", "#777777")
DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
PATTERNS: Final = ("", "/", ".", "x", "-", "\\", "+", "|")
MOST_POINTS: Final = 400  # of a line: beyond that, means of as many steps as it takes
MOST_LINES, MOST_MORE, MOST_MARKS, MOST_SAID = 12, 24, 40, 8
MOST_CELLS: Final = 50_000  # of a chart's table
FEWEST_TO_SMOOTH: Final = 8

Row = Mapping[str, float]


class Chart(NamedTuple):
    """One chart of metrics: the lines by their keys, and what lies between two more as a band."""

    title: str
    lines: Mapping[str, str]
    about: str = ""
    band: tuple[str, str, str] | None = None
    percent: bool = False
    smooth: bool = True


VARIANCE: Final = "groups_with_variance"  # TRL has its complement
SAME: Final = "A group whose completions all earn the same teaches nothing."
LENGTHS: Final = ("completions/min_length", "completions/max_length", "shortest to longest")
CLIPPED: Final = {"low": "below", "high": "above", "region": "either"}
CHARTS: Final = (
    Chart("Groups with variance", {VARIANCE: "share of groups"}, SAME, percent=True),
    Chart("Completion length, tokens", {"completions/mean_length": "mean"}, band=LENGTHS),
    Chart("Cut off at the limit", {"completions/clipped_ratio": "share of completions"}, percent=True),
    Chart("KL divergence from the reference", {"kl": "KL"}),
    Chart("Entropy", {"entropy": "entropy"}, "In nats a token: near 0 it always writes the same."),
    Chart("Clipped ratios", {f"clip_ratio/{k}_mean": name for k, name in CLIPPED.items()}, "Share of tokens."),
    Chart("Loss", {"loss": "loss"}, "GRPO's is near 0 by construction; the reward tells more."),
    Chart("Gradient norm", {"grad_norm": "norm"}),
    Chart("Learning rate", {"learning_rate": "learning rate"}, smooth=False),
    Chart("Memory, GiB", {"memory/peak_gib": "most so far"}, smooth=False),
    Chart("Drawings", {"distinct": "different", "new_samples": "sampled"}, "In one iteration of hindsight."),
    Chart("Learnt from hindsight", {"pairs": "pairs of goal and program", "goal_rows": "rows of the goal"}),
)
PARTS: Final = {"time/generation_s": "generation", "time/reward_s": "rewards", "time/update_s": "update"}
# shown in charts of their own below, or nowhere, since they say nothing
KNOWN: Final = re.compile(
    r"step|epoch|reward|reward_std|reward/(max|min)|frac_reward_zero_std|step_time|sample_time|time/(generation|reward|update)_s|verdict/.*"
    r"|rewards/.*/(mean|std)|completions/m(in|ax)_length"
)


def charts(reading: Reading) -> list[dict[str, Any]]:
    """Those for which the run has numbers, in the order of the page; those with "more" are for who looks closer."""
    rows = prepared(reading.metrics)
    few = thinned(rows)
    found = [_reward(rows, few), _parts(rows, few), _accuracy(reading), _verdicts(rows, few), _parts(rows, few, True)]
    found += [_chart(chart, rows, few) for chart in CHARTS]
    found.append(_step_time(rows, few))
    others = [key for key in keys(rows) if not KNOWN.fullmatch(key) and not any(key in c.lines for c in CHARTS)]
    for key in others[:MOST_MORE]:
        found.append({**(_chart(Chart(shown(key, 80), {key: shown(key, 80)}), rows, few) or {}), "more": True})
    steps = {step for row in reading.warnings if (step := number(row.get("step"))) is not None}
    marks = sorted(step for step in steps if 0 <= step <= reading.steps)[:MOST_MARKS]  # one beyond would squeeze them
    return [_marked(one, marks) for one in found if one and one.get("traces")]


def overlaid(readings: Sequence[Reading]) -> list[dict[str, Any]]:
    """A chart a metric, and in it a line a run, in the colour and the dash of `look`."""
    names = distinct(shown(reading.name, 120) for reading in readings)
    parts = [Chart(f"Reward: {' = '.join(map(_called, keys[:5]))}", {keys[0]: ""}) for keys in _same_parts(readings)]
    wanted = [Chart("Reward", {"reward": ""}), *parts[:MOST_LINES], *CHARTS, Chart("Step time, s", {"step_time": ""})]
    titled = [
        (chart, key, f"{chart.title}: {label}" if len(chart.lines) > 1 else chart.title)
        for chart in wanted
        for key, label in chart.lines.items()
    ]
    traces: list[list[dict[str, Any]]] = [[] for _ in titled]
    says: list[list[str]] = [[] for _ in titled]
    columns: list[dict[str, dict[float, float]]] = [{} for _ in titled]
    for n, reading in enumerate(readings):  # each run's rows once, and of them what is drawn
        drawn = dict.fromkeys(key for _, key, _ in titled)
        rows = [{key: row[key] for key in ("step", *drawn) if key in row} for row in prepared(reading.metrics)]
        few = thinned(rows)
        for at, (chart, key, _) in enumerate(titled):
            if not values(few, key)[1]:
                continue
            both = _line(few, key, names[n], n, chart.smooth)
            traces[at] += both if len(readings) <= 3 else both[-1:]
            says[at].append(f"{names[n]}: {_ends(rows, key, chart.percent)}")
            columns[at][names[n]] = dict(zip(*values(few, key), strict=True))
    few_runs = len(readings) <= 6
    return [
        _figure(title, traces[at], [chart.about, *_some(says[at])], columns[at], chart.percent, showlegend=few_runs)
        for at, (chart, _, title) in enumerate(titled)
        if traces[at]
    ]


def _same_parts(readings: Sequence[Reading]) -> list[list[str]]:
    """The rewards' means, in the order in which they come; those that never differ in any run together."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    for n, reading in enumerate(readings):
        steps: dict[str, list[float]] = {}
        for row in reading.metrics:
            for key, value in row.items():
                if is_part(key):
                    steps.setdefault(key, []).extend((row["step"], value))
        for key, both in steps.items():
            found.setdefault(key, []).append((n, *both))
    same: dict[tuple[Any, ...], list[str]] = {}
    for key, everywhere in found.items():
        same.setdefault(tuple(everywhere), []).append(key)
    return list(same.values())


def look(n: int) -> tuple[str, str]:
    """The colour and the dash of the n-th line; 42 lines differ."""
    return COLOURS[n % len(COLOURS)], DASHES[n % len(DASHES)]


def prepared(metrics: Sequence[Row]) -> list[dict[str, float]]:
    return [
        {**row, VARIANCE: 1 - row["frac_reward_zero_std"]} if "frac_reward_zero_std" in row else dict(row)
        for row in metrics
    ]


def thinned(rows: Sequence[Row]) -> list[dict[str, float]]:
    """At most MOST_POINTS rows: the means of as many steps as it takes, and of what is a least or a most that."""
    every = -(-len(rows) // MOST_POINTS)
    if every <= 1:
        return [dict(row) for row in rows]
    buckets = [rows[start : start + every] for start in range(0, len(rows), every)]
    return [{**_joined(bucket), "step": bucket[-1]["step"]} for bucket in buckets]


def _joined(rows: Sequence[Row]) -> dict[str, float]:
    joined = {}
    for key in keys(rows):
        of: Callable[[Iterable[float]], float] = fmean
        if extreme := re.search(r"(?:^|[/_])(min|max)(?:_|$)", key):
            of = min if extreme[1] == "min" else max
        joined[key] = of(values(rows, key)[1])
    return joined


def keys(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def part_keys(rows: Iterable[Row], of: str = "mean") -> list[str]:
    return [key for key in keys(rows) if is_part(key, of)]


def is_part(key: str, of: str = "mean") -> bool:
    return reward_of_metric(key, of) is not None


def values(rows: Iterable[Row], key: str) -> tuple[list[float], list[float]]:
    """The steps that have a number there, and the numbers."""
    found = [(row["step"], row[key]) for row in rows if key in row]
    return [step for step, _ in found], [value for _, value in found]


def _called(key: str) -> str:
    name = reward_of_metric(masked(key), "std" if key.endswith("/std") else "mean") or masked(key)
    return shown(name.replace("_", " "), 60)


def _line(rows: Sequence[Row], key: str, label: str, n: int, smooth: bool = True) -> list[dict[str, Any]]:
    """The numbers as they are, faint, and their moving mean; the numbers alone where there are few."""
    steps, found = values(rows, key)
    colour, dash = look(n)
    line = {"x": steps, "y": found, "name": label, "mode": "lines" if len(steps) > 1 else "markers"}
    bold = {"color": colour, "dash": dash, "width": 2.2}
    if not smooth or len(found) < FEWEST_TO_SMOOTH:
        return [{**line, "line": bold, "marker": {"color": colour}}]
    faint = {**line, "line": {"color": colour, "width": 1}, "opacity": 0.35, "showlegend": False, "legendgroup": label}
    return [faint, {**line, "y": trend(found), "line": bold, "hoverinfo": "skip", "legendgroup": label}]


def _band(rows: Iterable[Row], low: str, high: str, label: str, n: int = 0) -> list[dict[str, Any]]:
    both = [row for row in rows if low in row and high in row]
    if len(both) < 2:
        return []
    around = {"x": [row["step"] for row in (*both, *reversed(both))]}
    around["y"] = [row[high] for row in both] + [row[low] for row in reversed(both)]
    fill = {"fill": "toself", "fillcolor": COLOURS[n], "line": {"width": 0}, "mode": "lines", "opacity": 0.16}
    return [{**around, **fill, "name": label, "hoverinfo": "skip"}]


def _chart(chart: Chart, rows: Sequence[Row], few: Sequence[Row]) -> dict[str, Any] | None:
    there = {key: label for key, label in chart.lines.items() if values(few, key)[1]}
    if not there:
        return None
    traces, says = [], [chart.about]
    for n, (key, label) in enumerate(there.items()):
        traces += _line(few, key, label, n, chart.smooth)
        says.append((f"{label.capitalize()}: " if len(there) > 1 else "") + _ends(rows, key, chart.percent))
    columns = {label: key for key, label in there.items()}
    if chart.band and (band := _band(few, *chart.band)):
        traces = band + traces
        columns |= {"least": chart.band[0], "most": chart.band[1]}
    found = _figure(chart.title, traces, says, _columns(few, columns), chart.percent)
    return {**found, "more": not any(map(any, (trace["y"] for trace in traces)))}  # always 0: for who looks closer


def _reward(rows: Sequence[Row], few: Sequence[Row]) -> dict[str, Any]:
    lines = _line(few, "reward", "weighted sum of the rewards", 0) if values(few, "reward")[1] else []
    spread = [
        {"step": row["step"], "low": row["reward"] - row["reward_std"], "high": row["reward"] + row["reward_std"]}
        for row in few
        if "reward" in row and "reward_std" in row
    ]
    traces = _band(spread, "low", "high", "± one standard deviation") if lines else []
    for key, label in (("reward/max", "best"), ("reward/min", "worst")):
        steps, found = values(few, key)
        if found and lines:
            dotted = {"color": "muted", "dash": "dot" if label == "worst" else "dashdot", "width": 1.3}
            traces.append({"x": steps, "y": found, "name": f"{label} completion", "mode": "lines", "line": dotted})
    columns = {"mean": "reward", "std": "reward_std", "best": "reward/max", "worst": "reward/min"}
    says = [_ends(rows, "reward")] if lines else []
    return _figure("Reward", [*traces, *lines], says, _columns(few, columns))


def _parts(rows: Sequence[Row], few: Sequence[Row], spread: bool = False) -> dict[str, Any]:
    same: dict[tuple[float, ...], list[str]] = {}  # rewards that never differ are one line, not a hidden one
    for key in part_keys(rows, "std" if spread else "mean"):
        same.setdefault((*values(rows, key)[0], *values(rows, key)[1]), []).append(key)
    alike = list(same.values())[:MOST_LINES]
    labels = distinct(" = ".join(map(_called, together[:5])) for together in alike)
    named = {label: together[0] for label, together in zip(labels, alike, strict=True)}
    traces = [trace for n, (label, key) in enumerate(named.items()) for trace in _line(few, key, label, n)[-1:]]
    says = ["The standard deviation over a step's completions."] if spread else []
    says += _some([f"{label}: {_ends(rows, key)}" for label, key in named.items()])
    if left := len(same) - len(named):
        says.append(f"{left} more are in metrics.jsonl.")
    title = "Spread of its parts" if spread else "Its parts, unweighted"
    return _figure(title, traces, says, _columns(few, named))


def _accuracy(reading: Reading) -> dict[str, Any] | None:
    evaluation = reading.evaluation
    points = {}
    for side, step in zip(SIDES, (0, evaluation["step"] or reading.steps or reading.max_steps or 1), strict=True):
        if evaluation[side] and evaluation["n"] != 1:
            points[step] = {"side": side, **evaluation[side]}
    if not points:
        return None
    sides = list(points.values())
    errors = {
        "array": [0 if one["high"] is None else one["high"] - one["accuracy"] for one in sides],
        "arrayminus": [0 if one["low"] is None else one["accuracy"] - one["low"] for one in sides],
    }
    right: dict[str, Any] = {
        "x": list(points),
        "y": [one["accuracy"] for one in sides],
        "name": "right, with 95 % interval",
    }
    right |= {"error_y": {"type": "data", "symmetric": False, "color": "blue", "thickness": 2, "width": 7, **errors}}
    right |= {"mode": "lines+markers", "marker": {"size": 10, "color": "blue"}}
    right |= {"line": {"dash": "dot", "color": "blue"}}
    lenient: dict[str, Any] = {
        "x": list(points),
        "y": [one["lenient"] for one in sides],
        "name": "by the last number alone",
    }
    lenient |= {"mode": "markers", "marker": {"size": 11, "symbol": "diamond-open", "color": "#d55e00"}}
    says = [f"{one['side'].capitalize()}, step {step}: {_span(one)}." for step, one in points.items()]
    columns = {name: {step: one[key] for step, one in points.items()} for name, key in RATES.items()}
    end = max(1, reading.steps, *points)
    ranges = {"yaxis": {"range": [-0.03, 1.05]}, "xaxis": {"range": [-0.05 * end, 1.05 * end]}}
    return _figure("Held-out accuracy", [right, lenient], says, columns, True, **ranges)


RATES: Final = {"right": "accuracy", "low": "low", "high": "high", "last number": "lenient"}


def _span(one: Mapping[str, Any]) -> str:
    if one["low"] is None or one["high"] is None:
        return f"{100 * one['accuracy']:.1f} %"
    return f"{100 * one['accuracy']:.1f} % ({100 * one['low']:.1f} to {100 * one['high']:.1f} %)"


def _step_time(rows: Sequence[Row], few: Sequence[Row]) -> dict[str, Any] | None:
    """Split where the run tells of the parts; hindsight only measures its sampling."""
    parts = {key: label for key, label in PARTS.items() if values(few, key)[1]}
    if not parts and values(few, "sample_time")[1]:
        few = [{**row, "rest": row["step_time"] - row.get("sample_time", 0)} for row in few if "step_time" in row]
        parts = {"sample_time": "sampling", "rest": "learning"}
    if not parts:
        return _chart(Chart("Step time, s", {"step_time": "step time"}), rows, few)
    traces = [_layer(few, key, label, n) for n, (key, label) in enumerate(parts.items())]
    columns = {**{label: key for key, label in parts.items()}, "step": "step_time"}
    says = [f"Whole: {_ends(rows, 'step_time')}"] if values(rows, "step_time")[1] else []
    means = ", ".join(f"{label} {fmean(values(few, key)[1]):.3g}" for key, label in parts.items())
    return _figure("Step time, s", traces, [*says, f"On average {means}."], _columns(few, columns))


def _verdicts(rows: Sequence[Row], few: Sequence[Row]) -> dict[str, Any]:
    reasons = {key: sum(values(rows, key)[1]) for key in keys(rows) if key.startswith("verdict/")}
    order = sorted((key for key in reasons if reasons[key]), key=lambda key: (key != "verdict/right", -reasons[key]))
    order = order[:MOST_LINES]
    labels = distinct(shown(masked(key).removeprefix("verdict/").replace("_", " "), 60) for key in order)
    named = dict(zip(labels, order, strict=True))
    few = [row for row in few if any(key in row for key in order)]  # a step without completions of its own has none
    traces = [_layer(few, key, label, n, smooth=True) for n, (label, key) in enumerate(named.items())]
    says = _some([f"{label}: {_ends(rows, key, True)}" for label, key in named.items()])
    top = {"yaxis": {"range": [0, 1.001]}}
    return _figure("Verdicts", traces, says, _columns(few, named), percent=True, **top)


def _layer(rows: Sequence[Row], key: str, label: str, n: int, smooth: bool = False) -> dict[str, Any]:
    steps, found = [row["step"] for row in rows], [row.get(key, 0.0) for row in rows]
    colour = COLOURS[n % len(COLOURS)]
    layer: dict[str, Any] = {
        "x": steps,
        "y": trend(found) if smooth else found,
        "name": label,
        "stackgroup": "one",
        "mode": "lines",
    }
    layer |= {"line": {"width": 1, "color": colour}}
    if shape := PATTERNS[n % len(PATTERNS)]:
        layer["fillpattern"] = {"shape": shape, "fgcolor": colour, "fillmode": "replace", "size": 6, "solidity": 0.35}
    return layer


def _columns(rows: Sequence[Row], named: Mapping[str, str]) -> dict[str, dict[float, float]]:
    return {name: dict(zip(*values(rows, key), strict=True)) for name, key in named.items() if values(rows, key)[1]}


def _figure(
    title: str,
    traces: Sequence[dict[str, Any]],
    says: Iterable[str],
    columns: Mapping[str, Mapping[float, float | None]],
    percent: bool = False,
    **layout: Any,
) -> dict[str, Any]:
    """`columns` are values by step, a name each."""
    steps = sorted({step for column in columns.values() for step in column})
    every = -(-len(steps) * len(columns) // MOST_CELLS)  # runs whose steps differ have a table of mostly nothing
    if every > 1:
        steps, says = steps[::every], [*says, f"The table has one step in {every}."]
    table = [[step, *(column.get(step) for column in columns.values())] for step in steps]
    axis = {"tickformat": ".0%", "hoverformat": ".1%"} if percent else {"exponentformat": "e", "hoverformat": ".4g"}
    layout["yaxis"] = {"rangemode": "tozero", **axis, **layout.get("yaxis", {})}
    step = {"title": {"text": "step", "standoff": 4}, "hoverformat": "d", "tickformat": "d"}
    layout["xaxis"] = {**step, **layout.get("xaxis", {})}
    named = sum("name" in trace and trace.get("showlegend", True) for trace in traces)
    layout.setdefault("showlegend", named > 1)
    caption = " ".join(filter(None, says))
    head = ["step", *columns]
    return {"title": title, "traces": list(traces), "layout": layout, "caption": caption, "head": head, "table": table}


def _marked(chart: dict[str, Any], steps: Sequence[float]) -> dict[str, Any]:
    """With a dotted line at each step that has a warning."""
    line = {"color": "bad", "dash": "dot", "width": 1.2}
    marks = [{"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": line} for x in steps]
    return {**chart, "layout": {**chart["layout"], "shapes": marks}}


def _ends(rows: Sequence[Row], key: str, percent: bool = False) -> str:
    """Where it began and ended, and its extremes."""
    steps, found = values(rows, key)
    form = "{:.0%}" if percent else "{:.3g}"
    if min(found) == max(found):
        return f"{form.format(found[0])} in {'every step' if len(found) > 1 else f'step {steps[0]:.0f}'}."
    low, high = min(found), max(found)
    at = {value: f"step {steps[found.index(value)]:.0f}" for value in (low, high)}
    return (
        f"{form.format(found[0])} at step {steps[0]:.0f}, {form.format(found[-1])} at step {steps[-1]:.0f}; "
        f"least {form.format(low)} ({at[low]}), most {form.format(high)} ({at[high]})."
    )


def _some(says: Sequence[str]) -> list[str]:
    return [*says[:MOST_SAID], f"And {len(says) - MOST_SAID} more."] if len(says) > MOST_SAID else list(says)
