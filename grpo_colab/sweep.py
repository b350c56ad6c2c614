"""Several runs and their table: a run for each seed of each combination of settings, and what came of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.files import LONGEST_NAME
from grpo_colab.opening import say
from grpo_colab.recipe import Recipe
from grpo_colab.run import Run, free_path
from grpo_colab.tracking import trackers

COUNTED = ("iterations", "samples", "seconds")
# What makes no difference to a method, so that it tries no values of it; the seeds are those of --seeds.
UNREAD = {
    "grpo": r"hindsight\.(?!method$)|grpo\.seed$",
    "her": r"tripwires\.|hindsight\.(near|goal_weight)$|grpo\.(?!max_completion_length$)",
    "both": r"tripwires\.|grpo\.(?!max_completion_length$)",
}


def variants(source: str | Path, tables: Mapping[str, Mapping[str, Any]], seeds: int, sweep: bool) -> dict[str, Recipe]:
    """Return run folder's name -> recipe: every seed of, with `sweep`, every combination of the recipe's [sweep].

    Of [sweep], only the settings count that the method reads. Every recipe is checked: SettingError for any that cannot
    work.
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
    asked = base.sweep if sweep and base.sweep else {}
    methods = asked.get("hindsight.method", [method_of(base)])
    tried = {s: values for s, values in asked.items() if not all(re.match(UNREAD.get(str(m), "$"), s) for m in methods)}
    left_out = ", ".join(setting for setting in asked if setting not in tried)
    if asked and not tried:
        raise SettingError(
            f"nothing in it makes a difference to method {method_of(base)!r}: {left_out}",
            setting="--sweep",
            remedy="write a setting that does, such as hindsight.samples for her and both, grpo.learning_rate for grpo",
        )
    if left_out:
        say(f"--sweep: without {left_out}, which makes no difference to method {method_of(base)!r}")
    by_user = {table: dict(settings) for table, settings in tables.items()}  # what a file's [sweep] tries is the file's
    for swept in tables.get("sweep", {}):
        table_of, _, setting = swept.partition(".")
        by_user.setdefault(table_of, {})[setting] = None
    found = {}
    for values in itertools.product(*tried.values()):
        chosen = {table: dict(settings) for table, settings in tables.items()}
        for setting, value in zip(tried, values, strict=True):
            table, key = setting.split(".", 1)
            chosen.setdefault(table, {})[key] = value
        label = "".join(f"{s.rpartition('.')[2]}={value}-" for s, value in zip(tried, values, strict=True))
        for seed in range(base.grpo["seed"], base.grpo["seed"] + seeds):
            chosen["grpo"] = {**chosen.get("grpo", {}), "seed": seed}
            one = Recipe.load(source, **chosen).named_by(by_user)
            name = re.sub(r"[^\w.=-]+", "-", f"{label}seed={seed}")
            if len(name.encode()) > LONGEST_NAME:
                raise SettingError(
                    f"the run folder {name[:60]}... would have a name of over {LONGEST_NAME} bytes",
                    setting="--sweep",
                    remedy="write shorter values",
                )
            found[name] = one
            if method_of(one) != "grpo" and (named := trackers(one.grpo)):
                raise SettingError(
                    "hindsight reports to no tracker",
                    setting="grpo.report_to",
                    value=named,
                    remedy='write "none", or --method grpo',
                )
    return found


def free_folder(recipes: Mapping[str, Recipe]) -> Path:
    """Return runs/<date>-<recipe>-<image>-<method>, with a number where there is one already."""
    recipe = next(iter(recipes.values()))
    image = re.sub(r"[^\w.-]+", "-", recipe.task.get("image", "image"))
    name = f"{recipe.name}-{image if len(image) < 40 else 'image'}-{method_of(recipe)}"
    return free_path(recipe.model_copy(update={"name": name}))


def method_of(recipe: Recipe) -> str:
    return recipe.hindsight.method if recipe.hindsight else "grpo"


def ended(run: Run) -> bool:
    """Tell whether nothing is left to do: the run is finished, or a tripwire stopped it, which counts as not solved."""
    return run.finished or (run.path / "tripwire.json").is_file()


def summary(run: Run) -> dict[str, Any]:
    """Return what came of one run, read off its folder.

    `best` is the largest share of right pixels of those drawings that were paid most for in their iterations.
    """
    from grpo_colab.report import drawings

    recipe, metrics, (_, found) = run.recipe, run.metrics(), drawings(run)
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
    """Return a row per setting of a sweep: how many seeds solved it, and the median and range of each count."""
    rows = []
    for setting in dict.fromkeys(one["setting"] for one in summaries):
        ours = [one for one in summaries if one["setting"] == setting and one["finished"]]
        counts = {name: [one[name] for one in ours] for name in COUNTED}
        spreads = {name: {"median": median(v), "min": min(v), "max": max(v)} for name, v in counts.items() if v}
        rows.append({"setting": setting, "solved": sum(one["solved"] for one in ours), "seeds": len(ours), **spreads})
    return rows


def as_json(runs: Sequence[Run]) -> dict[str, Any]:
    """Return what `grpo-colab draw --json` prints, and draw.json holds at the end."""
    summaries = [summary(run) for run in runs]
    return {"runs": [run.path.name for run in runs], "summaries": summaries, "table": table(summaries)}


def draw_text(runs: Sequence[Run], colour: bool) -> str:
    """Return the best drawing beside the image that was asked for, and what came of each run and of all, as text."""
    from grpo_colab.drawing.show import beside
    from grpo_colab.report import drawings

    lines, found = [], as_json(runs)
    best = max(runs, key=lambda run: max((one.share for one in drawings(run)[1]), default=-1.0))
    target, drawn = drawings(best)
    if target is not None and drawn:
        lines.append(beside(target, max(drawn, key=lambda one: one.share).image, colour=colour))
    for one in found["summaries"]:
        state = "solved" if one["solved"] else "not solved" if one["finished"] else "unfinished"
        lines.append(
            f"{one['image']} by {one['method']}, {Path(one['run']).name}: {state} in {one['iterations']} iterations, "
            f"{one['samples']} samples, {one['seconds']:.1f} s; best {one['best']:.1%} right"
        )
    if len(runs) > 1:
        width = max(len("setting"), *(len(row["setting"]) for row in found["table"]))
        lines.append(f"\n{'setting':<{width}}  solved  " + "  ".join(f"{name:>22}" for name in COUNTED))
        for row in found["table"]:
            cells = [
                f"{row[n]['median']:g} ({row[n]['min']:g} to {row[n]['max']:g})" if n in row else "-" for n in COUNTED
            ]
            score = f"{row['solved']}/{row['seeds']}"
            lines.append(f"{row['setting']:<{width}}  {score:>6}  " + "  ".join(f"{cell:>22}" for cell in cells))
    return "\n".join(lines)
