"""Several runs of one image: which recipes there are to try, and the table of what came of them.

A run for every seed, and with a sweep for every combination of the values in the recipe's [sweep].
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs.run import Run
from grpo_colab.training.tracking import tracker_names
from grpo_colab.utils.console import info
from grpo_colab.utils.files import LONGEST_NAME

COUNTED = ("iterations", "samples", "seconds")
# Settings that make no difference to a method, so that it tries no values of them; the seeds are those of --seeds.
UNREAD = {
    "grpo": r"hindsight\.(?!method$)|grpo\.seed$",
    "her": r"tripwires\.|hindsight\.(near|goal_weight)$|grpo\.(?!max_completion_length$)",
    "both": r"tripwires\.|grpo\.(?!max_completion_length$)",
}


def variants(source: str | Path, tables: Mapping[str, Mapping[str, Any]], seeds: int, sweep: bool) -> dict[str, Recipe]:
    """Return run folder's name -> checked recipe: every seed, and with `sweep` of every combination of the [sweep].

    Of [sweep], only the settings that the method reads are tried. Raises SettingError for what cannot work.
    """
    if seeds < 1:
        raise SettingError("must be positive", setting="--seeds", value=seeds, remedy="write 1 or more")
    base = Recipe.load(source, **tables)
    if base.task["image"] == "random":
        raise SettingError(
            "is for training on many images",
            setting="task.image",
            value="random",
            remedy="write one image, such as '12-squares'",
        )
    if sweep and not base.sweep:
        raise SettingError(
            f"recipe {str(source)!r} has no [sweep]",
            setting="--sweep",
            remedy="write that table, with settings and the values to try",
        )
    tried = read_settings(base) if sweep else {}
    by_user = {table: dict(settings) for table, settings in tables.items()}  # what a file's [sweep] tries is the file's
    for swept in tables.get("sweep", {}):
        table, _, key = swept.partition(".")
        by_user.setdefault(table, {})[key] = None

    found = {}
    for values in itertools.product(*tried.values()):
        chosen = {table: dict(settings) for table, settings in tables.items()}
        label = ""
        for setting, value in zip(tried, values, strict=True):
            table, key = setting.split(".", 1)
            chosen.setdefault(table, {})[key] = value
            label += f"{setting.rpartition('.')[2]}={value}-"
        for seed in range(base.grpo["seed"], base.grpo["seed"] + seeds):
            chosen["grpo"] = {**chosen.get("grpo", {}), "seed": seed}
            recipe = Recipe.load(source, **chosen).named_by(by_user)
            found[folder_name(f"{label}seed={seed}")] = recipe
            if method_of(recipe) != "grpo" and (named := tracker_names(recipe.grpo)):
                raise SettingError(
                    "hindsight reports to no tracker",
                    setting="grpo.report_to",
                    value=named,
                    remedy='write "none", or --method grpo',
                )
    return found


def read_settings(recipe: Recipe) -> dict[str, list[Any]]:
    """Return the settings of [sweep] that the method reads, with their values. Refuses a sweep of none."""
    swept = recipe.sweep or {}
    methods = swept.get("hindsight.method", [method_of(recipe)])
    tried = {}
    for setting, values in swept.items():
        unread_by = [method for method in methods if re.match(UNREAD.get(str(method), "$"), setting)]
        if len(unread_by) < len(methods):
            tried[setting] = values
    left_out = ", ".join(setting for setting in swept if setting not in tried)
    if swept and not tried:
        raise SettingError(
            f"nothing in it makes a difference to method {method_of(recipe)!r}: {left_out}",
            setting="--sweep",
            remedy="write a setting that does, such as hindsight.samples for her and both, grpo.learning_rate for grpo",
        )
    if left_out:
        info(f"--sweep: without {left_out}, which makes no difference to method {method_of(recipe)!r}")
    return tried


def folder_name(label: str) -> str:
    """Return a label as the name of a run folder. Refuses one that is too long for a file system."""
    name = re.sub(r"[^\w.=-]+", "-", label)
    if len(name.encode()) > LONGEST_NAME:
        raise SettingError(
            f"the run folder {name[:60]}... would have a name of over {LONGEST_NAME} bytes",
            setting="--sweep",
            remedy="write shorter values",
        )
    return name


def method_of(recipe: Recipe) -> str:
    """Return the method that a recipe draws by: grpo, her or both."""
    return recipe.hindsight.method if recipe.hindsight else "grpo"


def ended(run: Run) -> bool:
    """Tell whether nothing is left to do: it is finished, or a tripwire stopped it, which counts as not solved."""
    return run.finished or run.tripped


def summary(run: Run) -> dict[str, Any]:
    """Return what came of one run, read off its folder.

    `best` is the largest share of right pixels of those drawings that were paid most for in their iterations.
    """
    from grpo_colab.reporting import best_drawings

    recipe, metrics, (_, found) = run.recipe, run.metrics(), best_drawings(run)
    return {
        "run": str(run.path),
        "setting": run.path.name.rpartition("seed=")[0].rstrip("-"),
        "image": recipe.task.get("image"),
        "method": method_of(recipe),
        "seed": recipe.grpo["seed"],
        "finished": ended(run),
        "solved": bool((run.evaluation or {}).get("solved")),
        "iterations": run.last_step,
        "samples": len(run.completions()),
        "seconds": round(sum(row.get("step_time") or 0.0 for row in metrics), 2),
        "best": max((one.share for one in found), default=0.0),
    }


def table(summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per setting of a sweep, or one row: how many seeds solved it, and each count's median and range."""
    rows = []
    for setting in dict.fromkeys(one["setting"] for one in summaries):
        ours = [one for one in summaries if one["setting"] == setting and one["finished"]]
        row = {"setting": setting, "solved": sum(one["solved"] for one in ours), "seeds": len(ours)}
        for name in COUNTED:
            counts = [one[name] for one in ours]
            if counts:
                row[name] = {"median": median(counts), "min": min(counts), "max": max(counts)}
        rows.append(row)
    return rows


def as_json(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what `grpo-colab draw --json` prints, and draw.json holds at the end."""
    summaries = [summary(run) for run in runs]
    return {"runs": [run.path.name for run in runs], "summaries": summaries, "table": table(summaries)}


def draw_text(runs: Sequence[Run], colour: bool) -> str:
    """Return the best drawing beside the image that was asked for, and what came of each run and of all."""
    from grpo_colab.reporting import best_drawings
    from grpo_colab.tasks.drawing.rendering import beside

    lines, found = [], as_json(runs)
    best = max(runs, key=lambda run: max((one.share for one in best_drawings(run)[1]), default=-1.0))
    target, drawn = best_drawings(best)
    if target is not None and drawn:
        lines.append(beside(target, max(drawn, key=lambda one: one.share).image, colour=colour))
    for one in found["summaries"]:
        state = "solved" if one["solved"] else "not solved" if one["finished"] else "unfinished"
        lines.append(
            f"{one['image']} by {one['method']}, {Path(one['run']).name}: {state} in {one['iterations']} iterations, "
            f"{one['samples']} samples, {one['seconds']:.1f} s; best {one['best']:.1%} right"
        )
    if len(runs) > 1:
        lines += table_lines(found["table"])
    return "\n".join(lines)


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of `table` as a text, its head first."""
    width = max(len("setting"), *(len(row["setting"]) for row in rows))
    lines = [f"\n{'setting':<{width}}  solved  " + "  ".join(f"{name:>22}" for name in COUNTED)]
    for row in rows:
        cells = []
        for name in COUNTED:
            spread = row.get(name)
            cells.append(f"{spread['median']:g} ({spread['min']:g} to {spread['max']:g})" if spread else "-")
        score = f"{row['solved']}/{row['seeds']}"
        lines.append(f"{row['setting']:<{width}}  {score:>6}  " + "  ".join(f"{cell:>22}" for cell in cells))
    return lines
