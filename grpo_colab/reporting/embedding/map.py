"""Draw the map of the problems: map.png, and map.html, whose chart and list are drawn by map.js."""

from __future__ import annotations

import html
import io
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.reporting.page.html import display_text, format_percent, render_page
from grpo_colab.utils.files import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure
    from matplotlib.text import Text

FOLDER: Final = Path(__file__).parent
GREY, ORANGE, INK = "#b3bac2", "#d55e00", "#1d2126"
MANY_STEPS: Final = 8  # a solution of more steps has the colour of this many
MOST_LISTED: Final = 200  # pairs of near-duplicates on the page
MOST_CLASSES: Final = 7  # different values that are told apart by colour
MOST_LINEAR: Final = 12  # different numbers that share a scale evenly; more are coloured by their rank
# The scales of the page and of the picture: dark is little, as in viridis; brown is worse, blue is better.
SCALES: Final = {
    "amount": ((0, "#3b528b"), (0.25, "#2c728e"), (0.5, "#21918c"), (0.75, "#5ec962"), (1, "#dde318")),
    "change": ((0, "#b35806"), (0.5, "#b8b8c0"), (1, "#2166ac")),
}
LABELS: Final = {
    "steps": "steps of the solution",
    "length": "length in characters",
    "before": "share right before",
    "after": "share right after",
    "change": "change of the share right",
}

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
    words = [_add_topics(panel, topics) for panel in axes]
    figure.suptitle(title.replace("$", r"\$"), fontweight="bold", color=INK)
    figure.draw_without_rendering()  # from here on it is known where each word is
    for written in words:
        remove_overlaps(written)
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
        places[known, 0], places[known, 1], s=size, c=capped, cmap=_colours("amount"), norm=norm, linewidths=0
    )
    bar = figure.colorbar(points, ax=axes, shrink=0.6, ticks=range(low, high + 1))
    bar.set_ticklabels([f"{n}+" if n == MANY_STEPS else str(n) for n in range(low, high + 1)])
    axes.set_title("By steps of the solution")


def _plot_change(figure: Figure, axes: Axes, change: Any, places: Any, size: float) -> None:
    """Plot the points in a colour for the change, from -1 to 1. Those that were not asked (NaN) are grey."""
    import numpy as np

    asked = np.isfinite(change)
    axes.scatter(places[~asked, 0], places[~asked, 1], s=size, c=GREY, alpha=0.4, linewidths=0)
    colours = _colours("change")
    points = axes.scatter(
        places[asked, 0], places[asked, 1], s=size * 2, c=change[asked], cmap=colours, vmin=-1, vmax=1
    )
    points.set(linewidths=0.4, edgecolors=INK)
    figure.colorbar(points, ax=axes, shrink=0.6)
    axes.set_title("By change of the share of right answers")


def _colours(scale: str) -> LinearSegmentedColormap:
    """Return one of SCALES for matplotlib."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list(scale, SCALES[scale])


def _add_topics(axes: Axes, topics: Topics) -> list[Text]:
    """Write the topics over the points, and return what was written.

    The axes' ticks and borders are removed, since the numbers mean nothing.
    """
    from matplotlib.patheffects import withStroke

    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
    halo = [withStroke(linewidth=3, foreground="white")]
    style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 10, "color": INK, "path_effects": halo}
    return [axes.text(x, y, word, **style) for x, y, word in topics]


def remove_overlaps(words: Sequence[Text]) -> None:
    """Remove each word that would be written over one before it."""
    kept: list[Any] = []
    for word in words:
        box = word.get_window_extent()
        if box.count_overlaps(kept):
            word.remove()
        else:
            kept.append(box)


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
        "columns": [_column(name, values) for name, values in columns.items()],
        "scales": SCALES,
        "x": [round(float(x), 3) for x in places[:, 0]],
        "y": [round(float(y), 3) for y in places[:, 1]],
        # Plotly reads some tags in its texts, so that these two are escaped for it
        "hover": ["<br>".join(_hover_lines(columns, n)) for n in range(len(columns["question"]))],
        "topics": [{"x": x, "y": y, "word": html.escape(word)} for x, y, word in topics],
        "name": title.partition(":")[0].replace(" ", "_"),
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


def _hover_lines(columns: Columns, n: int) -> list[str]:
    """Return what the page tells of the n-th problem under the mouse: its question, its answer, and its numbers."""
    row = {name: values[n] for name, values in columns.items()}
    facts = [f"answer {display_text(row['answer'], 80)}"] if row.get("answer") else []
    if row.get("steps"):
        facts.append(f"{row['steps']} step{'s' * (row['steps'] != 1)}")
    if row.get("split"):
        facts.append(f"of {row['split']}")
    facts += [f"right {side} {format_percent(row[side])}" for side in ("before", "after") if row.get(side) is not None]
    return [*_wrap(display_text(row["question"], 400)), *_wrap(", ".join(facts))]


def _wrap(text: str) -> list[str]:
    """Return a text for Plotly's hover texts: in lines of at most 70 characters, escaped."""
    return [html.escape(line, quote=False) for line in textwrap.wrap(text, 70)]


def _column(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """Return a column as the page's script takes it: its values, and by which colours the points can be told apart.

    "kind" is "number" for a scale of colours, "class" for a colour for each of "classes", and "text" for neither.
    """
    found = _numbers_or_texts(values)
    column = {"name": name, "label": LABELS.get(name, name.replace("_", " ")), "values": found, "kind": "text"}
    known = [value for value in found if value is not None]
    if not known or name == "question":
        return column
    if all(isinstance(value, float) for value in known):
        return {**column, "kind": "number", "scale": _scale(name, known)}
    counts = Counter(known)
    # of many different texts the commonest have a colour each; where none comes twice, colours tell nothing
    classes = sorted(counts)
    if len(counts) > MOST_CLASSES:
        classes = [text for text, _ in counts.most_common(MOST_CLASSES - 1)]
    if len(counts) > MOST_CLASSES and counts[classes[0]] == 1:
        return column
    return {**column, "kind": "class", "classes": classes}


def _scale(name: str, known: Sequence[float]) -> dict[str, Any]:
    """Return the scale of a column of numbers: its colours, its ends, and whether it goes by the values' ranks."""
    if name == "change":
        return {"colours": "change", "low": -1, "high": 1, "ranked": False}
    if name in ("before", "after"):
        return {"colours": "amount", "low": 0, "high": 1, "ranked": False}
    if len(set(known)) > MOST_LINEAR:
        return {"colours": "amount", "low": 0, "high": 1, "ranked": True}
    high = min(max(known), MANY_STEPS) if name == "steps" else max(known)
    return {"colours": "amount", "low": min(known), "high": max(high, min(known)), "ranked": False}


def _numbers_or_texts(values: Sequence[Any]) -> list[Any]:
    """Return the values as floats, with None kept, where all can be read as finite numbers; else as texts.

    The page gives numbers a scale of colours.
    """
    try:
        found = [value if value is None else float(str(value).replace(",", "")) for value in values]
    except ValueError:
        found = [math.nan]
    if all(value is None or number(value) is not None for value in found):
        return found
    return [None if value is None else str(value) for value in values]
