"""Sum up runs of one image: the result of each run, their table over the seeds, and the text that `draw` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.reporting.drawings import StepDrawing, best_drawings
from grpo_colab.runs.run import Run
from grpo_colab.text import counted, duration

# The columns of a table whose medians and ranges over the seeds are shown.
COUNTED = ("iterations", "samples", "seconds")


def method_of(recipe: Recipe) -> str:
    """Return the method that a recipe learns by: grpo, her or both."""
    return recipe.hindsight.method if recipe.hindsight else "grpo"


def is_over(run: Run) -> bool:
    """Tell whether a run needs no more training: it is finished, or a tripwire stopped it (it counts as unsolved)."""
    return run.finished or run.tripped


def summary(run: Run, drawings: Sequence[StepDrawing] | None = None) -> dict[str, Any]:
    """Return the result of one run, read from its folder. `drawings` are its best ones, if they were read already.

    `setting` is the part of the folder's name before the seed, empty without a sweep. `finished` is what `is_over`
    tells. `samples` counts the programs that the policy wrote, and `seconds` its training. `best` is the largest share
    of right pixels, from 0 to 1, among the drawings that got the highest reward of their iteration, 0.0 if there is
    none.
    """
    recipe = run.recipe
    if drawings is None:
        _, drawings = best_drawings(run)
    return {
        "run": str(run.path),
        "setting": run.path.name.rpartition("seed=")[0].rstrip("-"),
        "image": recipe.task.get("image"),
        "method": method_of(recipe),
        "seed": recipe.grpo["seed"],
        "finished": is_over(run),
        "solved": bool((run.evaluation or {}).get("solved")),
        "iterations": run.last_step,
        "samples": len(run.completions()),
        "seconds": round(sum(row.get("step_time") or 0.0 for row in run.metrics()), 2),
        "best": max((drawing.share for drawing in drawings), default=0.0),
    }


def table(summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per setting of a sweep: how many seeds solved the image, and each count's median and range.

    Without a sweep all runs have the same setting, so there is one row. Unfinished runs are not counted. A setting
    without a finished run has 0 seeds, and its row lacks the counts. Without summaries the list is empty.
    """
    rows = []
    for setting in dict.fromkeys(one["setting"] for one in summaries):
        finished = [one for one in summaries if one["setting"] == setting and one["finished"]]
        row = {"setting": setting, "solved": sum(one["solved"] for one in finished), "seeds": len(finished)}
        for name in COUNTED:
            counts = [one[name] for one in finished]
            if counts:
                row[name] = {"median": median(counts), "min": min(counts), "max": max(counts)}
        rows.append(row)
    return rows


def as_json(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what `grpo-colab draw --json` prints: the runs' names, their summaries and the table.

    draw.json holds the same once all runs have ended.
    """
    summaries = [summary(run) for run in runs]
    return {"runs": [run.path.name for run in runs], "summaries": summaries, "table": table(summaries)}


def draw_text(runs: Sequence[Run], colour: bool) -> str:
    """Return the text that `grpo-colab draw` prints.

    It shows the best drawing of all runs beside the image, a line per run, and for several runs their table. Where
    nothing was drawn yet, the drawing is left out.
    """
    from grpo_colab.tasks.drawing.rendering import beside

    lines, summaries = [], []
    best_share = -1.0
    for run in runs:
        target, drawings = best_drawings(run)
        summaries.append(summary(run, drawings))
        if target is None or not drawings:
            continue
        best = max(drawings, key=lambda drawing: drawing.share)
        if best.share > best_share:
            best_share = best.share
            lines = [beside(target, best.image, colour=colour)]
    for one in summaries:
        state = "unfinished"
        if one["solved"]:
            state = "solved"
        elif one["finished"]:
            state = "not solved"
        lines.append(
            f"{one['image']} by {one['method']}, {Path(one['run']).name}: {state} in "
            f"{counted(one['iterations'], 'iteration')}, "
            f"{counted(one['samples'], 'sample')}, {duration(one['seconds'])}; best {one['best']:.1%} right"
        )
    if len(runs) > 1:
        lines += table_lines(table(summaries))
    return "\n".join(lines)


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the rows of `table` as lines of text, its header first, with an empty line before it.

    A count that a row lacks is shown as "-". There must be at least one row.
    """
    width = max(len("setting"), *(len(row["setting"]) for row in rows))
    lines = [f"\n{'setting':<{width}}  solved  " + "  ".join(f"{name:>22}" for name in COUNTED)]
    for row in rows:
        cells = []
        for name in COUNTED:
            count = row.get(name)
            cells.append(f"{count['median']:g} ({count['min']:g} to {count['max']:g})" if count else "-")
        score = f"{row['solved']}/{row['seeds']}"
        lines.append(f"{row['setting']:<{width}}  {score:>6}  " + "  ".join(f"{cell:>22}" for cell in cells))
    return lines
