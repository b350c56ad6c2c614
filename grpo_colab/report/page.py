"""report.html: what a run has learnt, as one file that needs nothing else and can be sent to anyone.

What a model wrote is only ever text here: escaped, without control characters (those that turn the order of the text
around among them), and shortened.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any, Final

import tomli_w

from grpo_colab.evaluate import AFTER, BEFORE
from grpo_colab.files import read_json, read_lines, write_text
from grpo_colab.run import Run

LONGEST: Final = 600  # characters of what a model wrote
MOST_CHANGED, MOST_COMPLETIONS = 20, 8
GAINED, LOST = "<b class=good>gained</b> ", "<b class=bad>lost</b> "
CONTROL: Final = re.compile(
    r"[^\t\n\x20-\x7e\x85\xa0-\u2029\u202f-\u2065\u206a-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010fffd]"
)

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; --ink: #1d2126; --muted: #66707a; --line: #dfe3e8; --page: #fff; --card: #f5f7f9;
  --blue: #0072b2; --grey: #9aa3ad; --good: #00795a; --bad: #b84a00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --muted: #9aa3ad; --line: #363c43; --page: #16191d;
  --card: #1f2429; --blue: #56b4e9; --grey: #7b858f; --good: #3fc9a0; --bad: #f0934e; } }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 62rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--page); overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
p { margin: .4rem 0; } .muted { color: var(--muted); } .good { color: var(--good); } .bad { color: var(--bad); }
table { border-collapse: collapse; width: 100%; overflow-wrap: normal; }
th { text-align: left; color: var(--muted); font-weight: 500; }
th, td { padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: 1.6rem; } td.bar { width: 45%; padding-left: 1rem; }
img { width: 100%; background: #fff; border-radius: 8px; }
pre { margin: .3rem 0; padding: .6rem .8rem; background: var(--card); border-radius: 6px; white-space: pre-wrap;
  font: 13px/1.45 ui-monospace, monospace; }
details { border-bottom: 1px solid var(--line); padding: .45rem 0; } summary { cursor: pointer; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: .8rem; }
@media (max-width: 40rem) { .sides { grid-template-columns: 1fr; } }
</style></head><body>
<h1>$title</h1>
<p class="muted">$subtitle</p>
$sections
</body></html>
""")


def write_report(run: Run, evaluation: Mapping[str, Any] | None = None) -> Path:
    """Write the run's report.html from what is in its folder, however far it is; returns the file.

    `evaluation` is what evaluation.json will hold, where that is not written yet.
    """
    recipe, environment = run.recipe, read_json(run.path / "environment.json") or {}
    environment.pop("command", None)  # may hold a token, as the two settings below do
    settings = recipe.model_dump(exclude_none=True, exclude={"model": {"token"}, "grpo": {"hub_token"}})
    device = environment.get("device", {}).get("name", "an unknown device")
    sections = {
        "What it learnt": _accuracy(evaluation or run.evaluation),
        "The drawings": _picture(run.path / "drawing.png", "The image asked for, and the best drawings of it")
        + _picture(run.path / "drawing.gif", "The best drawing of each step", "image/gif"),
        "The curves": _picture(run.path / "rewards.png", "The reward, its parts, and the accuracy over the steps"),
        "Warnings": _warnings(read_lines(run.path / "warnings.jsonl")),
        "Answers that changed": _changed(read_lines(run.path / BEFORE), read_lines(run.path / AFTER)),
        "The last completions in training": _completions(run.completions()[-MOST_COMPLETIONS:]),
        "Recipe and environment": _details("Recipe", f"<pre>{text(tomli_w.dumps(settings), 20_000)}</pre>")
        + _details("Environment", f"<pre>{text(json.dumps(environment, indent=2), 20_000)}</pre>"),
    }
    page = PAGE.substitute(
        title=text(recipe.name),
        subtitle=text(
            f"{recipe.model['model_name']}, {run.last_step} of {recipe.budget.max_steps} steps on {device}, "
            f"{_took(run.metrics())}"
        ),
        sections="\n".join(f"<section><h2>{title}</h2>\n{body}</section>" for title, body in sections.items() if body),
    )
    path = run.path / "report.html"
    write_text(path, page)
    return path


def text(value: Any, longest: int = LONGEST) -> str:
    """Anything as text in a page: shortened, without signs that no page may hold, and escaped."""
    whole = str(value)
    shown = whole if len(whole) <= longest else f"{whole[:longest]} ... ({len(whole):,} characters)"
    return html.escape(CONTROL.sub("\ufffd", shown))


def _took(metrics: Sequence[Mapping[str, Any]]) -> str:
    seconds = sum(row.get("step_time", 0.0) for row in metrics)
    return f"{seconds / 3600:.1f} h of training" if seconds >= 5400 else f"{seconds / 60:.1f} min of training"


def _accuracy(evaluation: Mapping[str, Any] | None) -> str:
    if evaluation is None:
        return "<p>Not evaluated yet.</p>"
    if evaluation["n"] == 1:  # one image, or one example: there is no share of it
        sides = (f"{side} {'right' if evaluation[side]['accuracy'] else 'wrong'}" for side in ("before", "after"))
        how = {True: f"<b class=good>Solved</b> in step {evaluation.get('step')}. ", False: "Not solved. ", None: ""}
        return f"<p>{how[evaluation.get('solved')]}Its one problem, answered greedily: {', '.join(sides)}.</p>"
    rows = ""
    for side, colour in (("before", "var(--grey)"), ("after", "var(--blue)")):
        value, (low, high) = 100 * evaluation[side]["accuracy"], (100 * x for x in evaluation[side]["ci95"])
        lenient = 100 * evaluation[side]["lenient_accuracy"]
        rows += (
            f"<tr><td>{side}</td><td class=number><b>{value:.1f} %</b></td>"
            f"<td class=number>{low:.1f} to {high:.1f} %</td><td class=number>{lenient:.1f} %</td><td class=bar>"
            '<svg viewBox="0 0 100 10" preserveAspectRatio="none"><rect width="100" height="10" fill="var(--card)"/>'
            f'<rect width="{value:.2f}" height="10" fill="{colour}"/><path stroke="var(--ink)" stroke-width="1.5" '
            f'vector-effect="non-scaling-stroke" d="M{low:.2f} 5H{high:.2f}M{low:.2f} 2V8M{high:.2f} 2V8"/></svg>'
            "</td></tr>"
        )
    paired = evaluation["paired"]
    verdict = "more than chance explains" if paired["p_value"] < 0.05 else "no more than chance may explain"
    return (
        "<table><tr><th></th><th class=number>right</th><th class=number>95 % interval</th>"
        "<th class=number>by the last number alone</th><th></th></tr>"
        f"{rows}</table><p>{evaluation['n']} held-out problems of {text(evaluation['task'])}, answered greedily: "
        f"<b class=good>{paired['gained']} gained</b>, <b class=bad>{paired['lost']} lost</b>, "
        f"which is {verdict} (exact McNemar p = {paired['p_value']:.2g}).</p>"
    )


def _picture(path: Path, says: str, kind: str = "image/png") -> str:
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{says}" src="data:{kind};base64,{data}">'


def _warnings(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"<p class=bad>Step {text(row.get('step'))}: {text(row.get('text'))}</p>" for row in rows)


def _changed(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> str:
    """Problems lost, then gained: what was lost is rarer, and tells more."""
    pairs = [(b, a) for b, a in zip(before, after, strict=False) if b["right"] != a["right"]]
    pairs.sort(key=lambda pair: pair[1]["right"])
    shown = [*pairs[: MOST_CHANGED // 2], *pairs[MOST_CHANGED // 2 :][-MOST_CHANGED // 2 :]]
    body = "".join(
        _details(
            (GAINED if a["right"] else LOST) + text(a["question"]),
            f"<p>Right is {text(a['answer'])}.</p><div class=sides><div>before ({text(b['verdict'])})"
            f"<pre>{text(b['completion'])}</pre></div><div>after ({text(a['verdict'])})"
            f"<pre>{text(a['completion'])}</pre></div></div>",
        )
        for b, a in shown
    )
    return body and f"<p class=muted>{len(shown)} of {len(pairs)}.</p>{body}"


def _completions(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(
        _details(
            f"step {text(row['step'])}: {text(_asked(row['prompt']))}",
            f"<pre>{text(row['completion'])}</pre><p class=muted>right is {text(row.get('answer'))}; "
            + ", ".join(f"{text(name.removesuffix('_reward'))} {text(paid)}" for name, paid in row["rewards"].items())
            + "</p>",
        )
        for row in rows
    )


def _asked(prompt: Any) -> Any:
    return prompt[-1]["content"] if isinstance(prompt, list) and prompt else prompt


def _details(summary: str, body: str) -> str:
    return f"<details><summary>{summary}</summary>{body}</details>\n"
