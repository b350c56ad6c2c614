"""Make the recipes of several runs of one image, and the table of their results.

There is a run for every seed, and with a sweep for every combination of the values in the recipe's [sweep]. draw.py
trains them.
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

# The columns of a table whose medians and ranges over the seeds are shown.
COUNTED = ("iterations", "samples", "seconds")
# Settings that make no difference to a method, so that a sweep skips them. The seeds come from --seeds.
SETTINGS_WITHOUT_EFFECT = {
    "grpo": r"hindsight\.(?!method$)|grpo\.seed$",
    "her": r"tripwires\.|hindsight\.(near|goal_weight)$|grpo\.(?!max_completion_length$)",
    "both": r"tripwires\.|grpo\.(?!max_completion_length$)",
}


def variants(source: str | Path, tables: Mapping[str, Mapping[str, Any]], seeds: int, sweep: bool) -> dict[str, Recipe]:
    """Return the recipes to train, checked, by the names of their run folders.

    There is one per seed, and with `sweep` one per seed of every combination of the values in [sweep]. `source` is a
    preset or a file, and `tables` are its overrides. Settings without an effect on the method are skipped. Raises
    SettingError for what cannot work.
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
    tried = settings_to_try(base) if sweep else {}
    # Whoever named a setting is trusted with the code that it names: the user for overrides and a [sweep] among them,
    # the file for its own [sweep].
    by_user = {table: dict(settings) for table, settings in tables.items()}
    for swept in tables.get("sweep", {}):
        table, _, key = swept.partition(".")
        by_user.setdefault(table, {})[key] = None

    recipes = {}
    for values in itertools.product(*tried.values()):
        chosen = {table: dict(settings) for table, settings in tables.items()}
        label = ""
        for setting, value in zip(tried, values, strict=True):
            table, key = setting.split(".", 1)
            chosen.setdefault(table, {})[key] = value
            label += f"{setting.rpartition('.')[2]}={value}-"
        for seed in range(base.grpo["seed"], base.grpo["seed"] + seeds):
            chosen["grpo"] = {**chosen.get("grpo", {}), "seed": seed}
            recipe = Recipe.load(source, **chosen).with_user_overrides(by_user)
            recipes[folder_name(f"{label}seed={seed}")] = recipe
            check_no_tracker(recipe)
    return recipes


def check_no_tracker(recipe: Recipe) -> None:
    """Raise SettingError for a recipe that learns by hindsight, wholly or in part, and names a tracker."""
    if method_of(recipe) == "grpo":
        return
    named = tracker_names(recipe.grpo)
    if named:
        raise SettingError(
            "hindsight reports to no tracker",
            setting="grpo.report_to",
            value=named,
            remedy='write "none", or --method grpo',
        )


def settings_to_try(recipe: Recipe) -> dict[str, list[Any]]:
    """Return the settings of [sweep] that make a difference to at least one method, with their values.

    Prints which ones are left out. Raises SettingError when none remains.
    """
    swept = recipe.sweep or {}
    methods = swept.get("hindsight.method", [method_of(recipe)])
    tried = {}
    for setting, values in swept.items():
        for method in methods:
            without_effect = SETTINGS_WITHOUT_EFFECT.get(str(method), "$")
            if not re.match(without_effect, setting):
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
    """Return the run folder's name for a label. Raises SettingError if it is too long for a file system."""
    name = re.sub(r"[^\w.=-]+", "-", label)
    if len(name.encode()) > LONGEST_NAME:
        raise SettingError(
            f"the run folder {name[:60]}... would have a name of over {LONGEST_NAME} bytes",
            setting="--sweep",
            remedy="write shorter values",
        )
    return name


def method_of(recipe: Recipe) -> str:
    """Return the method that a recipe learns by: grpo, her or both."""
    return recipe.hindsight.method if recipe.hindsight else "grpo"


def is_over(run: Run) -> bool:
    """Tell whether a run needs no more training: it is finished, or a tripwire stopped it (it counts as unsolved)."""
    return run.finished or run.tripped


def summary(run: Run) -> dict[str, Any]:
    """Return the result of one run, read from its folder.

    `samples` counts the programs that the policy wrote, and `seconds` its training. `best` is the largest share of
    right pixels among the drawings that got the highest reward of their iteration, 0.0 if there is none.
    """
    from grpo_colab.reporting import best_drawings

    recipe = run.recipe
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

    Without a sweep all runs have the same setting, so there is one row. Unfinished runs are not counted.
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

    It shows the best drawing of all runs beside the image, a line per run, and for several runs their table.
    """
    from grpo_colab.reporting import best_drawings
    from grpo_colab.tasks.drawing.rendering import beside

    def best_share(run: Run) -> float:
        return max((drawing.share for drawing in best_drawings(run)[1]), default=-1.0)

    lines = []
    results = as_json(runs)
    target, drawings = best_drawings(max(runs, key=best_share))
    if target is not None and drawings:
        best = max(drawings, key=lambda drawing: drawing.share)
        lines.append(beside(target, best.image, colour=colour))
    for one in results["summaries"]:
        state = "unfinished"
        if one["solved"]:
            state = "solved"
        elif one["finished"]:
            state = "not solved"
        lines.append(
            f"{one['image']} by {one['method']}, {Path(one['run']).name}: {state} in {one['iterations']} iterations, "
            f"{one['samples']} samples, {one['seconds']:.1f} s; best {one['best']:.1%} right"
        )
    if len(runs) > 1:
        lines += table_lines(results["table"])
    return "\n".join(lines)


def table_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the rows of `table` as lines of text, its header first."""
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
