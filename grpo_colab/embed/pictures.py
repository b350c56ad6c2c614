"""The map of the problems: map.png, and map.html, whose chart and list are map.js."""

from __future__ import annotations

import html
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from grpo_colab.report.shell import document, shown, text

GREY, BLUE, ORANGE, INK = "#b3bac2", "#0072b2", "#d55e00", "#1d2126"
MANY_STEPS: Final = 8
LISTED: Final = 200  # pairs of near-duplicates on the page
FEW: Final = 7  # kinds that are told apart by colour

Columns = Mapping[str, Sequence[Any]]
Topics = Sequence[tuple[float, float, str]]


def picture(title: str, columns: Columns, places: Any, topics: Topics) -> bytes:
    """map.png: the points by split and by number of steps, and after a run by the change of its success."""
    import numpy as np
    from matplotlib.colors import BoundaryNorm
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke

    split = np.array(columns["split"])
    steps, change = (np.array(columns.get(name, ()), dtype=float) for name in ("steps", "change"))
    panels = 1 + bool(np.isfinite(steps).any()) + bool(len(change))
    figure = Figure(figsize=(7 * panels, 7), dpi=100, layout="constrained", facecolor="white")
    all_axes = iter(figure.subplots(1, panels, squeeze=False)[0])
    size = float(np.clip(12_000 / len(places), 4, 60))

    axes = next(all_axes)
    for name, colour, factor in (("train", GREY, 1.0), ("test", ORANGE, 1.1)):
        own = split == name
        axes.scatter(*places[own].T, s=size * factor, c=colour, linewidths=0, label=f"{name}: {own.sum():,}")
    axes.legend(loc="upper left", markerscale=(60 / size) ** 0.5, frameon=False)
    axes.set_title("By split")
    if np.isfinite(steps).any():
        axes, known = next(all_axes), np.isfinite(steps)
        capped = np.minimum(steps[known], MANY_STEPS)
        low, high = int(capped.min()), int(capped.max())
        norm = BoundaryNorm(np.arange(low, high + 2) - 0.5, 256)
        axes.scatter(*places[~known].T, s=size, c=GREY, linewidths=0)
        drawn = axes.scatter(*places[known].T, s=size, c=capped, cmap="viridis_r", norm=norm, linewidths=0)
        bar = figure.colorbar(drawn, ax=axes, shrink=0.6, ticks=range(low, high + 1))
        bar.set_ticklabels([str(n) + "+" * (n == MANY_STEPS) for n in range(low, high + 1)])
        axes.set_title("By steps of the solution")
    if len(change):
        axes, asked = next(all_axes), np.isfinite(change)
        axes.scatter(*places[~asked].T, s=size, c=GREY, alpha=0.4, linewidths=0)
        drawn = axes.scatter(*places[asked].T, s=size * 2, c=change[asked], cmap="RdBu", vmin=-1, vmax=1)
        drawn.set(linewidths=0.4, edgecolors=INK)
        figure.colorbar(drawn, ax=axes, shrink=0.6)
        axes.set_title("By change of the share of right answers")
    for axes in figure.axes:
        if not axes.get_label():  # else it is a colour bar
            axes.set(xticks=[], yticks=[], aspect="equal")
            axes.spines[:].set_visible(False)
            for x, y, word in topics:
                halo = [withStroke(linewidth=3, foreground="white")]
                axes.text(x, y, word, ha="center", va="bottom", fontsize=10, color=INK, path_effects=halo)
    figure.suptitle(title.replace("$", r"\$"), fontweight="bold", color=INK)
    made = io.BytesIO()
    figure.savefig(made, format="png")
    return made.getvalue()


def page(
    title: str,
    lines: Sequence[str],
    columns: Columns,
    places: Any,
    topics: Topics,
    duplicates: Sequence[Mapping[str, Any]],
) -> str:
    """map.html. Questions are hovered over as text: whatever a chart would take for markup is escaped."""
    said = "".join(f"<p>{text(line)}</p>" for line in lines)
    rows = "".join(
        f'<tr><td class="number">{row["similarity"]:.2f}</td><td>{text(row["test"])}</td>'
        f"<td>{text(row['train'])}</td></tr>"
        for row in duplicates[:LISTED]
    )
    pairs = (
        f"<h2>Near-duplicates between test and train</h2><p>{len(duplicates):,} in near-duplicates.tsv"
        f"{f', of which {LISTED} are here' if len(duplicates) > LISTED else ''}.</p>"
        f'<div class="scroll"><table><thead><tr><th class="number">alike</th><th>test</th><th>train</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        if duplicates
        else ""
    )
    data = {
        "columns": [
            {"name": name, "values": _values(values), "kind": _kind(values)} for name, values in columns.items()
        ],
        "x": [round(float(x), 3) for x in places[:, 0]],
        "y": [round(float(y), 3) for y in places[:, 1]],
        "hover": ["<br>".join(_wrapped(question)) for question in columns["question"]],
        "topics": [{"x": x, "y": y, "word": html.escape(word)} for x, y, word in topics],
        "name": title.partition(":")[0],
    }
    script, style = ((Path(__file__).parent / name).read_text(encoding="utf-8") for name in ("map.js", "map.css"))
    body = f'<h1>{text(title)}</h1>{said}<div id="map"></div>{pairs}'
    return document(title, body, data, script, style, webgl=True)


def _wrapped(question: str) -> list[str]:
    return [html.escape(line, quote=False) for line in textwrap.wrap(shown(question, 400), 70)]


def _values(values: Sequence[Any]) -> list[Any]:
    """Answers that are all numbers as numbers, so that they have a colour each."""
    try:
        return [value if value is None else float(str(value).replace(",", "")) for value in values]
    except ValueError:
        return list(values)


def _kind(values: Sequence[Any]) -> str:
    """ "number" has a scale of colours, "class" a colour each, "text" none."""
    numbers = _values(values)
    if all(value is None or isinstance(value, float) for value in numbers):
        return "number" if any(value is not None for value in numbers) else "text"
    return "class" if len(set(values)) <= FEW else "text"
