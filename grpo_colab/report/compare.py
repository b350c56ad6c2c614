"""Before and after in figures, of one run and of several side by side; and in which settings several differ."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from grpo_colab.report.figures import look
from grpo_colab.report.reading import SIDES, Reading
from grpo_colab.report.shell import text
from grpo_colab.run import Run

MOST_SETTINGS: Final = 60
# a dash of Plotly's as one of SVG's
STROKES: Final = {"dash": "8 5", "dot": "2 4", "dashdot": "8 4 2 4", "longdash": "14 5", "longdashdot": "14 4 2 4"}


def names(runs: Sequence[Run]) -> list[str]:
    """The folders' names, with as many of the folders above as tell them apart."""
    parts = [run.path.resolve().parts for run in runs]
    most = max(map(len, parts))
    for length in range(1, most):
        found = ["/".join(one[-length:]) for one in parts]
        if len(set(found)) == len(found):
            return found
    return ["/".join(one) for one in parts]


def head(readings: Sequence[Reading]) -> str:
    models = dict.fromkeys(str(one.table("model").get("model_name") or "an unknown model") for one in readings)
    return f'<p class="muted">{text(", ".join(models))}</p>'


def sections(readings: Sequence[Reading]) -> dict[str, str]:
    return {"What they learnt": _table(readings), "Settings in which they differ": _differences(readings)}


def _table(readings: Sequence[Reading]) -> str:
    single = all(one.evaluation["n"] in (1, None) for one in readings)  # of which there is no share
    columns = ("result",) if single else ("right before", "95 % interval", "right after", "95 % interval")
    rows = ""
    for n, one in enumerate(readings):
        evaluation = one.evaluation
        if single or evaluation["n"] == 1:
            result = {True: "solved", False: "not solved"}.get(evaluation["solved"], "–")
            cells = f'<td class=number colspan="{len(columns)}">{result}</td><td></td>' + "<td></td>" * (not single)
        else:
            cells = "".join(rate(evaluation[side]) for side in SIDES)
            cells += f"<td class=bar>{''.join(bar(evaluation[side], look(n)[0], side) for side in SIDES)}</td>"
            cells += f"<td>{paired_test(evaluation, short=True)}</td>"
        rows += (
            f"<tr><td>{swatch(n)}</td><th scope=row>{text(one.name, 120)}</th><td>{text(one.state)}</td>"
            f"<td class=number>{one.steps:,} of {count(one.max_steps)}</td><td class=number>{took(one)}</td>"
            f"{cells}</tr>\n"
        )
    heads = "".join(f"<th class=number scope=col>{name}</th>" for name in ("steps", "training", *columns))
    test = "" if single else "<th scope=col>paired test</th>"
    return (
        "<div class=scroll><table class=runs><tr><td></td><th scope=col>run</th><th scope=col>state</th>"
        f"{heads}<td></td>{test}</tr>\n{rows}</table></div>"
    )


def _differences(readings: Sequence[Reading]) -> str:
    settings = [dict(_flat(one.recipe)) for one in readings]
    told: dict[str, list[str]] = {}
    for one in settings:
        for key, value in one.items():
            told.setdefault(key, []).append(value)
    differing = [key for key, found in told.items() if len(found) < len(settings) or len(set(found)) > 1]
    if not differing:
        return "<p>None: their recipes are the same.</p>"
    heads = "".join(f"<th scope=col>{swatch(n)} {text(one.name, 120)}</th>" for n, one in enumerate(readings))
    rows = "".join(
        f"<tr><th scope=row>{text(key, 120)}</th>"
        + "".join(f"<td>{text(one.get(key, '–'), 200)}</td>" for one in settings)
        + "</tr>\n"
        for key in differing[:MOST_SETTINGS]
    )
    left = len(differing) - MOST_SETTINGS
    more = f"<p class=muted>And {left:,} more.</p>" if left > 0 else ""
    return f"<div class=scroll><table><tr><td></td>{heads}</tr>\n{rows}</table></div>{more}"


def _flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in _flat(inner, f"{name}.{key}" if name else str(key))]
    return [(name, value if isinstance(value, str) else repr(value))]


def swatch(n: int) -> str:
    """A sample of the n-th run's line."""
    colour, dash = look(n)
    stroke = f"var(--{colour})" if colour.isalpha() else colour
    dashes = f' stroke-dasharray="{STROKES[dash]}"' if dash in STROKES else ""
    line = f'<path style="stroke: {stroke}" stroke-width="3"{dashes} d="M0 5H44"></path>'
    return f'<svg class="swatch" viewBox="0 0 44 10" aria-hidden="true">{line}</svg>'


def rate(side: Mapping[str, Any] | None) -> str:
    """Two cells: the accuracy and its interval."""
    low, high = percent(side, "low"), percent(side, "high")
    interval = "–" if "–" in (low, high) else f"{low[:-2]} to {high}"
    return f"<td class=number><b>{percent(side, 'accuracy')}</b></td><td class=number>{interval}</td>"


def percent(side: Mapping[str, Any] | None, key: str) -> str:
    return "–" if side is None or side[key] is None else f"{100 * side[key]:.1f} %"


def bar(side: Mapping[str, Any] | None, colour: str, says: str = "") -> str:
    """The accuracy with its interval, drawn; `says` is "before" where the bar must be told from that of after."""
    if side is None:
        return ""
    fill = f"var(--{colour})" if colour.isalpha() else colour
    value = 100 * min(1.0, max(0.0, side["accuracy"]))
    parts = '<rect width="100" height="10" style="fill: var(--card)"></rect>'
    faint = "; opacity: .45" if says == "before" else ""
    parts += f'<rect width="{value:.2f}" height="10" style="fill: {fill}{faint}"></rect>'
    if side["low"] is not None and side["high"] is not None:
        low, high = 100 * side["low"], 100 * side["high"]
        parts += (
            f'<path style="stroke: var(--ink)" stroke-width="1.5" vector-effect="non-scaling-stroke" '
            f'd="M{low:.2f} 5H{high:.2f}M{low:.2f} 2V8M{high:.2f} 2V8"></path>'
        )
    return f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{parts}</svg>'


def paired_test(evaluation: Mapping[str, Any], short: bool = False) -> str:
    """The paired test in words."""
    gained, lost, p = (evaluation[key] for key in ("gained", "lost", "p"))
    if None in (gained, lost, p):
        return "–" if short else "not on both sides yet"
    changed = f"<b class=good>{gained:,.0f} gained</b>, <b class=bad>{lost:,.0f} lost</b>"
    if short:
        return f"{changed}, p = {p:.2g}"
    verdict = "more than chance explains" if p < 0.05 else "no more than chance may explain"
    return f"{changed}, which is {verdict} (exact McNemar p = {p:.2g})"


def count(value: float | None) -> str:
    return "?" if value is None else f"{value:,.0f}"


def took(reading: Reading) -> str:
    seconds = reading.seconds
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"


def resume(reading: Reading) -> str:
    with contextlib.suppress(TypeError):  # of a draw.json that is none
        return reading.run.resume_command
    return reading.run.resume_command_alone
