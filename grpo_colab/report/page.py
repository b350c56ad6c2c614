"""report.html: what one run has learnt, or how several compare, as one file that needs nothing else.

What a model wrote is only ever text here, as shell.py has it. The head, the accuracy, what is missing and the recipe
are in the page's own text; the charts and the lists are drawn by page.js from its data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import tomli_w

from grpo_colab.errors import SettingError
from grpo_colab.files import check_name, is_folder, number, write_out, write_text
from grpo_colab.report import compare
from grpo_colab.report.curves import trend
from grpo_colab.report.figures import charts, overlaid, thinned, values
from grpo_colab.report.lists import Gathered, gather, lists
from grpo_colab.report.reading import SIDES, Reading, find_runs, read, read_all
from grpo_colab.report.shell import distinct, document, part, shown, text
from grpo_colab.run import Run

NAME: Final = "report.html"
MOST_BYTES: Final = 7_800_000
MOST_CHARACTERS: Final = 24_000_000  # of completions and answers, before it is known how well they compress
MOST_WARNINGS: Final = 50


def report(paths: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write the page of one run folder to its report.html, of several to ./report.html; or to `out`. The file.

    A folder that `grpo-colab draw` made stands for all its runs. Whatever state they are in is shown; SettingError for
    what is no run folder at all.
    """
    if out is not None:
        try:
            check_name("--out", out)
        except ValueError as error:
            raise SettingError(str(error)) from None
    runs = find_runs(paths)
    target = Path(out) if out is not None else runs[0].path / NAME if len(runs) == 1 else Path(NAME)
    if is_folder(target):
        raise SettingError(f"--out {str(out)!r}: is a folder; write a file, such as {str(target / NAME)!r}")
    page = _fitting([read(runs[0])] if len(runs) == 1 else read_all(runs, compare.names(runs)))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if out is None:
            write_text(target, page)
        else:
            write_out(target, page)
    except OSError as error:
        raise SettingError(f"report: cannot write {str(target)!r} ({error.strerror}); choose --out FILE") from None
    return target


def write_report(run: Run, evaluation: Mapping[str, Any] | None = None) -> Path:
    """Write the run's report.html from what is in its folder, however far it is; returns the file.

    `evaluation` is what evaluation.json will hold, where that is not written yet.
    """
    path = run.path / NAME
    write_text(path, _fitting([read(run, evaluation=evaluation)]))
    return path


def _fitting(readings: Sequence[Reading]) -> str:
    """The page, with fewer of the completions and answers where all of them would make it too big."""
    gathered = gather(readings)
    drawn = overlaid(readings) if len(readings) > 1 else charts(readings[0])
    page, characters = _page(readings, gathered, drawn, MOST_CHARACTERS)
    bare = len(_page(readings, gathered, drawn, 0)[0]) if len(page) > MOST_BYTES else 0
    while len(page) > MOST_BYTES and characters > 1000:
        fits = max(0.1, (MOST_BYTES - bare) / (len(page) - bare))
        page, characters = _page(readings, gathered, drawn, int(0.97 * fits * characters))
    return page


def _page(
    readings: Sequence[Reading], gathered: Gathered, drawn: Sequence[Mapping[str, Any]], most: int
) -> tuple[str, int]:
    """It, and of how many characters its lists are, at most about `most`."""
    found, several = lists(readings, gathered, most), len(readings) > 1
    sections = compare.sections(readings) if several else _learnt(readings[0])
    sections["What is missing, and what went wrong"] = "".join(_troubles(one, several) for one in readings)
    if drawn:
        sections["Charts"] = '<noscript><p>The charts need JavaScript.</p></noscript><div id="charts"></div>'
    for name, title in (("completions", "Completions in training"), ("problems", "Before and after, by problem")):
        if found[name].get("rows") or found[name].get("text") or found[name]["said"]:
            script = f'<noscript><p>This list needs JavaScript.</p></noscript><div id="{name}"></div>'
            sections[title] = (
                f"<p class=muted>{text(found[name]['said'])}</p>" if found[name]["said"] else ""
            ) + script
    sections["Recipe and environment"] = "".join(_made_of(one, several) for one in readings)
    sections = {title: body for title, body in sections.items() if body}
    ids = {title: f"part-{n}" for n, title in enumerate(sections)}
    links = "".join(f'<a href="#{ids[title]}">{title}</a> ' for title in sections)
    title = f"{len(readings)} runs compared" if several else readings[0].title
    body = f"<h1>{text(title)}</h1>\n{compare.head(readings) if several else _head(readings[0])}\n<nav>{links}</nav>\n"
    body += "\n".join(f'<section id="{ids[title]}"><h2>{title}</h2>\n{sections[title]}</section>' for title in sections)
    rest = {"runs": distinct(shown(one.name, 120) for one in readings), **found}
    return document(title, body, {"charts": drawn}, part("page.js"), part("page.css"), rest=rest), found["characters"]


def _head(reading: Reading) -> str:
    device = reading.environment.get("device")
    where = device.get("name") if isinstance(device, dict) else None
    rewards, both = trend(values(thinned(reading.metrics), "reward")[1]), [reading.evaluation[side] for side in SIDES]
    facts = {"Steps": f"{reading.steps:,} of {compare.count(reading.max_steps)}", "Training": compare.took(reading)}
    if rewards:
        facts["Reward, smoothed"] = f"{rewards[0]:.3g} → {rewards[-1]:.3g}"
    if all(both) and reading.evaluation["n"] != 1:
        facts["Held-out accuracy"] = " → ".join(compare.percent(side, "accuracy") for side in both)
    tiles = "".join(f"<div><dt>{name}</dt><dd>{text(value)}</dd></div>" for name, value in facts.items())
    model = text(reading.table("model").get("model_name") or "an unknown model")
    go_on = ""
    if reading.state == "stopped":
        go_on = (
            f"<p>Stopped at step {reading.steps:,}. Go on with: <code>{text(compare.resume(reading), 2000)}</code></p>"
        )
    return (
        f'<p class="muted">{model} on {text(where or "an unknown device")}; {text(reading.state)}; run folder '
        f"{text(reading.name)}</p>\n<dl>{tiles}</dl>{go_on}"
    )


def _learnt(reading: Reading) -> dict[str, str]:
    says = {
        "drawing.png": "The image asked for, and the best drawings of it",
        "drawing.gif": "The best drawing of each step",
    }
    pictures = [
        f'<img alt="{says[name]}" src="data:image/{name[-3:]};base64,{data}">'
        for name, data in reading.pictures.items()
    ]
    return {"What it learnt": _accuracy(reading), "The drawings": "".join(pictures)}


def _accuracy(reading: Reading) -> str:
    evaluation = reading.evaluation
    if not any(evaluation[side] for side in SIDES):
        return "<p>Not evaluated yet.</p>"
    if evaluation["n"] == 1:  # one image, or one example: there is no share of it
        found = {side: evaluation[side] for side in SIDES if evaluation[side]}
        sides = (f"{side} {'right' if one['accuracy'] else 'wrong'}" for side, one in found.items())
        how = "Not solved. " if evaluation["solved"] is False else ""
        if evaluation["solved"] is True:
            how = f"<b class=good>Solved</b> in step {compare.count(evaluation['step'])}. "
        return f"<p>{how}Its one problem, answered greedily: {', '.join(sides)}.</p>"
    task = text(evaluation["task"] or reading.table("task").get("name", "an unknown task"))
    rows = "".join(
        f"<tr><th scope=row>{side}</th>{compare.rate(evaluation[side])}"
        f"<td class=number>{compare.percent(evaluation[side], 'lenient')}</td>"
        f"<td class=bar>{compare.bar(evaluation[side], 'blue' if side == 'after' else 'grey')}</td></tr>"
        for side in SIDES
    )
    return (
        "<div class=scroll><table><tr><td></td><th class=number scope=col>right</th>"
        "<th class=number scope=col>95 % interval</th><th class=number scope=col>by the last number alone</th>"
        f"<td></td></tr>{rows}</table></div><p>{compare.count(evaluation['n'])} held-out problems of "
        f"{task}, answered greedily: {compare.paired_test(evaluation)}.</p>"
    )


def _troubles(reading: Reading, named: bool) -> str:
    """What is missing, what stopped the run, and its warnings."""
    lines = [f"<li>{text(note)}</li>" for note in reading.notes]
    told = reading.told
    if wire := told["tripwire"]:
        lines.append(
            f"<li class=bad>Tripwire {text(wire['wire'])} at step {text(wire['step'])}; see tripwire.json.</li>"
        )
    if broken := told["reward_failure"]:
        what = f"{text(broken['reward'])}: {text(broken['what'])}, at step {text(broken['step'])}"
        lines.append(f"<li class=bad>A reward broke: {what}; see reward-failure.json.</li>")
    warnings = sorted(reading.warnings, key=lambda row: number(row.get("step")) or 0)
    lines += [f"<li>Step {text(row.get('step'))}: {text(row.get('text'))}</li>" for row in warnings[:MOST_WARNINGS]]
    if len(warnings) > MOST_WARNINGS:
        lines.append(f"<li>And {len(warnings) - MOST_WARNINGS:,} more, in warnings.jsonl.</li>")
    head = f"<h3>{text(reading.name)}</h3>" if named else ""
    return f"{head}<ul>{''.join(lines)}</ul>\n" if lines else ""


def _made_of(reading: Reading, named: bool) -> str:
    name = f"{text(reading.name)}: " if named else ""
    try:
        recipe = tomli_w.dumps(reading.recipe)
    except (TypeError, ValueError, RecursionError):
        recipe = str(reading.recipe)
    environment = json.dumps(reading.environment, indent=2, default=str)
    return "".join(
        f"<details><summary>{name}{what}</summary><pre>{text(content, 20_000)}</pre></details>\n"
        for what, content in (("Recipe", recipe), ("Environment", environment))
        if content not in ("", "{}")
    )
