"""Charts as the plain dicts that Plotly's script draws: their lines, bands and layers, and what surrounds them.

Each chart also says in words what it shows, for readers who do not see it, and has its values as a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from grpo_colab.reporting.curves import trend
from grpo_colab.reporting.page.html import format_number
from grpo_colab.reporting.page.metric_rows import Row, values

# Okabe and Ito's, as in document.js; "blue" is the stylesheet's, which is lighter in dark mode and black on paper.
COLOURS: Final = ("blue", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#8c6bb1", "#777777")
DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
# Plotly's dashes as SVG's stroke-dasharray.
STROKES: Final = {"dash": "8 5", "dot": "2 4", "dashdot": "8 4 2 4", "longdash": "14 5", "longdashdot": "14 4 2 4"}
PATTERNS: Final = ("", "/", ".", "x", "-", "\\", "+", "|")
FEWEST_TO_SMOOTH: Final = 8
# How Plotly writes numbers: 80,000 and 0.00005, and a power of ten only for what is far from 1.
NUMBERS: Final = {"exponentformat": "power", "minexponent": 6, "separatethousands": True, "hoverformat": ",.5~r"}
MOST_CELLS: Final = 50_000  # of a chart's table

Trace = dict[str, Any]
Figure = dict[str, Any]


class LineStyle(NamedTuple):
    """How a run's line looks: its colour, and its dash by Plotly's name."""

    colour: str
    dash: str

    @property
    def stroke(self) -> str:
        """Return the dash as SVG's stroke-dasharray, an empty string for a solid line."""
        return STROKES.get(self.dash, "")


def line_style(n: int) -> LineStyle:
    """Return the style of the n-th line, counted from 0. The first 42 differ."""
    return LineStyle(COLOURS[n % len(COLOURS)], DASHES[n % len(DASHES)])


def line(rows: Sequence[Row], key: str, label: str, n: int, smooth: bool = True) -> list[Trace]:
    """Return the traces of the n-th line, counted from 0: the values faintly, and their moving mean.

    Without `smooth`, and for fewer than FEWEST_TO_SMOOTH values, there is one trace of the values.
    """
    steps, found = values(rows, key)
    style = line_style(n)
    trace = {"x": steps, "y": found, "name": label, "mode": "lines" if len(steps) > 1 else "markers"}
    bold = {"color": style.colour, "dash": style.dash, "width": 2.2}
    if not smooth or len(found) < FEWEST_TO_SMOOTH:
        return [{**trace, "line": bold, "marker": {"color": style.colour}}]
    faint = {"color": style.colour, "width": 1}
    return [
        {**trace, "line": faint, "opacity": 0.35, "showlegend": False, "legendgroup": label},
        {**trace, "y": smoothed(found), "line": bold, "hoverinfo": "skip", "legendgroup": label},
    ]


def band(rows: Iterable[Row], low: str, high: str, label: str) -> list[Trace]:
    """Return the area between two keys as a list of one trace; an empty list where fewer than two rows have both."""
    both = [row for row in rows if low in row and high in row]
    if len(both) < 2:
        return []
    trace: Trace = {
        "x": [row["step"] for row in (*both, *reversed(both))],
        "y": [row[high] for row in both] + [row[low] for row in reversed(both)],
    }
    trace |= {"fill": "toself", "fillcolor": COLOURS[0], "line": {"width": 0}, "mode": "lines", "opacity": 0.16}
    return [{**trace, "name": label, "hoverinfo": "skip"}]


def layer(rows: Sequence[Row], key: str, label: str, n: int, smooth: bool = False) -> Trace:
    """Return the n-th of the layers that are stacked on each other, from 0. A row without the key counts as 0.

    Of one step alone it is a bar: an area between one step could not be seen.
    """
    steps, found = [row["step"] for row in rows], [row.get(key, 0.0) for row in rows]
    colour = COLOURS[n % len(COLOURS)]
    trace: Trace = {
        "x": steps,
        "y": smoothed(found) if smooth else found,
        "name": label,
        "stackgroup": "one",
        "mode": "lines",
        "line": {"width": 1, "color": colour},
    }
    shape = PATTERNS[n % len(PATTERNS)]
    pattern = {"shape": shape, "fgcolor": colour, "fillmode": "replace", "size": 6, "solidity": 0.35} if shape else {}
    if len(steps) == 1:
        bar = {"type": "bar", "width": 0.3, "marker": {"color": colour, "pattern": pattern}}
        return {key: trace[key] for key in ("x", "y", "name")} | bar
    return trace | ({"fillpattern": pattern} if shape else {})


def table_columns(rows: Sequence[Row], keys: Mapping[str, str]) -> dict[str, dict[float, float]]:
    """Return the values by step of each key that has any, under the names that `keys` gives: name -> key."""
    columns = {name: dict(zip(*values(rows, key), strict=True)) for name, key in keys.items()}
    return {name: column for name, column in columns.items() if column}


def figure(
    title: str,
    traces: Sequence[Trace],
    sentences: Iterable[str],
    columns: Mapping[str, Mapping[float, float | None]],
    percent: bool = False,
    ends: Sequence[Sequence[str]] = (),
    **layout: Any,
) -> Figure:
    """Return a chart over the steps, with its caption of `sentences` and its table of `columns`: name -> step -> value.

    `percent` formats the values as percentages. `ends` are the rows of a small table of where each line begins and ends
    (see `describe_ends`). `layout` is added to Plotly's layout. Of a table that would have more than MOST_CELLS only
    every n-th step is kept, and the caption says so. Runs whose steps differ have a table of mostly empty cells.
    """
    steps = sorted({step for column in columns.values() for step in column})
    every = -(-len(steps) * len(columns) // MOST_CELLS)
    if every > 1:
        steps = steps[::every]
        sentences = [*sentences, f"The table has one step in {every}."]
    axis = {"tickformat": ".0%", "hoverformat": ".1%"} if percent else NUMBERS
    layout["yaxis"] = {"rangemode": "tozero", **axis, **layout.get("yaxis", {})}
    # page.js sets the distance between the ticks: whole steps, whatever part of the chart is in view
    step_axis = {"title": {"text": "step", "standoff": 4}, "hoverformat": ",d", "tickformat": ",d"}
    layout["xaxis"] = {**step_axis, **layout.get("xaxis", {})}
    in_legend = sum("name" in trace and trace.get("showlegend", True) for trace in traces)
    layout.setdefault("showlegend", in_legend > 1)
    layout.setdefault("barmode", "stack")
    return {
        "title": title,
        "traces": list(traces),
        "layout": layout,
        "caption": " ".join(filter(None, sentences)),
        "ends": [list(row) for row in ends],
        "percent": percent,
        "head": ["step", *columns],
        "table": [[step, *(column.get(step) for column in columns.values())] for step in steps],
    }


def with_step_marks(chart: Figure, steps: Sequence[float]) -> Figure:
    """Return the chart with a dotted vertical line at each of `steps`."""
    dotted = {"color": "bad", "dash": "dot", "width": 1.2}
    marks = [{"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "paper", "line": dotted} for x in steps]
    return {**chart, "layout": {**chart["layout"], "shapes": marks}}


def smoothed(found: Sequence[float]) -> Sequence[float]:
    """Return the values as their line is drawn: the moving mean, or the values where they are few."""
    return found if len(found) < FEWEST_TO_SMOOTH else trend(found)


def describe_change(rows: Sequence[Row], key: str, percent: bool = False, smooth: bool = True) -> str:
    """Say in a short sentence where a metric's line begins and ends; at least one row must have it."""
    steps, found = values(rows, key)
    drawn = smoothed(found) if smooth else found
    first, last = (_format(value, percent) for value in (drawn[0], drawn[-1]))
    if len(found) == 1:
        return f"{first} in step {steps[0]:,.0f}."
    if min(found) == max(found):
        return f"{first} in every step."
    if first == last:
        return f"Begins and ends at {first}."
    return f"{'Rises' if drawn[-1] > drawn[0] else 'Falls'} from {first} to {last}."


def describe_ends(rows: Sequence[Row], key: str, label: str, percent: bool = False) -> list[str]:
    """Return a row of a chart's table of ends: the label, and where a metric began, ended, was least and was most.

    At least one row must have the metric.
    """
    steps, found = values(rows, key)
    places = (0, len(found) - 1, found.index(min(found)), found.index(max(found)))
    return [label, *(f"{_format(found[at], percent)} (step {steps[at]:,.0f})" for at in places)]


def _format(value: float, percent: bool) -> str:
    return f"{format_number(100 * value)}\u00a0%" if percent else format_number(value)
