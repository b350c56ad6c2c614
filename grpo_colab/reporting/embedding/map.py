"""Draw the map of the problems: map.png, and map.html, whose chart and list are drawn by map.js."""

from __future__ import annotations

import html
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.reporting.page.html import display_text, render_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER: Final = Path(__file__).parent
GREY, ORANGE, INK = "#b3bac2", "#d55e00", "#1d2126"
MANY_STEPS: Final = 8  # a solution of more steps has the colour of this many
MOST_LISTED: Final = 200  # pairs of near-duplicates on the page
MOST_CLASSES: Final = 7  # different values that are told apart by colour

Columns = Mapping[str, Sequence[Any]]  # name -> a value per problem
Topics = Sequence[tuple[float, float, str]]  # x, y, word


def draw_map(title: str, columns: Columns, places: Any, topics: Topics) -> bytes:
    """Draw map.png, and return its bytes: the points by split, by steps, and with a run by the change of their success.

    `columns` are those of metadata.tsv. `places` is an array of problems x 2. The topics' words are written over the
    points. A panel is left out where the columns have nothing for it.
    """
    import numpy as np
    from matplotlib.figure import Figure

    split = np.array(columns["split"])
    steps, change = (np.array(columns.get(name, ()), dtype=float) for name in ("steps", "change"))
    has_steps, has_change = bool(np.isfinite(steps).any()), len(change) > 0
    panels = 1 + has_steps + has_change
    figure = Figure(figsize=(7 * panels, 7), dpi=100, layout="constrained", facecolor="white")
    axes = list(figure.subplots(1, panels, squeeze=False)[0])
    size = float(np.clip(12_000 / len(places), 4, 60))
    _plot_splits(axes[0], split, places, size)
    if has_steps:
        _plot_steps(figure, axes[1], steps, places, size)
    if has_change:
        _plot_change(figure, axes[-1], change, places, size)
    for panel in axes:
        _add_topics(panel, topics)
    figure.suptitle(title.replace("$", r"\$"), fontweight="bold", color=INK)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def _plot_splits(axes: Axes, split: Any, places: Any, size: float) -> None:
    """Plot the training problems in grey, and the test problems in orange over them, with a legend that counts them."""
    for name, colour, factor in (("train", GREY, 1.0), ("test", ORANGE, 1.1)):
        own = split == name
        axes.scatter(
            places[own, 0], places[own, 1], s=size * factor, c=colour, linewidths=0, label=f"{name}: {own.sum():,}"
        )
    axes.legend(loc="upper left", markerscale=(60 / size) ** 0.5, frameon=False)
    axes.set_title("By split")


def _plot_steps(figure: Figure, axes: Axes, steps: Any, places: Any, size: float) -> None:
    """Plot the points in a colour for the number of steps. Those without a known number (NaN) are grey.

    At least one must have a number. MANY_STEPS and more have the same colour.
    """
    import numpy as np
    from matplotlib.colors import BoundaryNorm

    known = np.isfinite(steps)
    capped = np.minimum(steps[known], MANY_STEPS)
    low, high = int(capped.min()), int(capped.max())
    norm = BoundaryNorm(np.arange(low, high + 2) - 0.5, 256)
    axes.scatter(places[~known, 0], places[~known, 1], s=size, c=GREY, linewidths=0)
    points = axes.scatter(
        places[known, 0], places[known, 1], s=size, c=capped, cmap="viridis_r", norm=norm, linewidths=0
    )
    bar = figure.colorbar(points, ax=axes, shrink=0.6, ticks=range(low, high + 1))
    bar.set_ticklabels([f"{n}+" if n == MANY_STEPS else str(n) for n in range(low, high + 1)])
    axes.set_title("By steps of the solution")


def _plot_change(figure: Figure, axes: Axes, change: Any, places: Any, size: float) -> None:
    """Plot the points in a colour for the change, from -1 to 1. Those that were not asked (NaN) are grey."""
    import numpy as np

    asked = np.isfinite(change)
    axes.scatter(places[~asked, 0], places[~asked, 1], s=size, c=GREY, alpha=0.4, linewidths=0)
    points = axes.scatter(places[asked, 0], places[asked, 1], s=size * 2, c=change[asked], cmap="RdBu", vmin=-1, vmax=1)
    points.set(linewidths=0.4, edgecolors=INK)
    figure.colorbar(points, ax=axes, shrink=0.6)
    axes.set_title("By change of the share of right answers")


def _add_topics(axes: Axes, topics: Topics) -> None:
    """Write the topics over the points, and remove the axes' ticks and borders, since the numbers mean nothing."""
    from matplotlib.patheffects import withStroke

    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    for x, y, word in topics:
        halo = [withStroke(linewidth=3, foreground="white")]
        axes.text(x, y, word, ha="center", va="bottom", fontsize=10, color=INK, path_effects=halo)


def render_map(
    title: str,
    lines: Sequence[str],
    columns: Columns,
    places: Any,
    topics: Topics,
    duplicates: Sequence[Mapping[str, Any]],
) -> str:
    """Return the text of map.html, which shows the map, its lists and the first MOST_LISTED near-duplicates.

    `lines` say how the map was made. `columns` are those of metadata.tsv. `places` is an array of problems x 2.
    `duplicates` have "similarity", "test" and "train".
    """
    data = {
        "columns": [
            {"name": name, "values": _numbers_or_texts(values), "kind": _kind(values)}
            for name, values in columns.items()
        ],
        "x": [round(float(x), 3) for x in places[:, 0]],
        "y": [round(float(y), 3) for y in places[:, 1]],
        # Plotly reads some tags in its texts, so that these two are escaped for it
        "hover": ["<br>".join(_wrap(question)) for question in columns["question"]],
        "topics": [{"x": x, "y": y, "word": html.escape(word)} for x, y, word in topics],
        "name": title.partition(":")[0],
    }
    return render_page(
        FOLDER / "map.html.j2",
        title=title,
        data=data,
        script=FOLDER / "map.js",
        style=FOLDER / "map.css",
        webgl=True,
        lines=lines,
        duplicates=duplicates,
        most_listed=MOST_LISTED,
    )


def _wrap(question: str) -> list[str]:
    """Return a question for Plotly's hover texts: shortened, in lines of at most 70 characters, escaped."""
    return [html.escape(line, quote=False) for line in textwrap.wrap(display_text(question, 400), 70)]


def _numbers_or_texts(values: Sequence[Any]) -> list[Any]:
    """Return the values as floats, with None kept, where all can be read as numbers; else as they are.

    The page gives numbers a scale of colours.
    """
    try:
        return [value if value is None else float(str(value).replace(",", "")) for value in values]
    except ValueError:
        return list(values)


def _kind(values: Sequence[Any]) -> str:
    """Return "number" for a column with a scale of colours, "class" for one with a colour per value, else "text"."""
    numbers = _numbers_or_texts(values)
    if all(value is None or isinstance(value, float) for value in numbers):
        return "number" if any(value is not None for value in numbers) else "text"
    return "class" if len(set(values)) <= MOST_CLASSES else "text"
