"""`draw("12-squares", "her")`: one image is learnt at test time, by GRPO, by hindsight (HER), or by both.

A folder of run folders, one a seed, comes out; each has the best drawings as a picture and as a GIF. GRPO is `train`
on the one prompt, until it is solved; hindsight's loop is in hindsight.py. Here is what stands around them, and how
several seeds compare.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from grpo_colab import evaluate, policy
from grpo_colab.errors import SettingError
from grpo_colab.files import read_json, read_lines, write_json
from grpo_colab.machine import Machine, this_machine
from grpo_colab.opening import keep_environment, on_disk, say
from grpo_colab.plan import answers_at_once
from grpo_colab.pretraining import pretrained
from grpo_colab.recipe import Recipe
from grpo_colab.run import DRAW, Run, check_free, free_path, locked
from grpo_colab.tasks.drawing import Drawing
from grpo_colab.train import finish, join_processes, train

DEFAULT_RECIPE = "drawing-tiny"
COUNTED = ("iterations", "samples", "seconds")


def draw(
    image: str = "12-squares",
    method: str | None = None,
    *,
    recipe: str | Path = DEFAULT_RECIPE,
    seeds: int = 1,
    sweep: bool = False,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    **overrides: Mapping[str, Any],
) -> list[Run]:
    """Learn to draw `image` once a seed, and with each combination of the recipe's [sweep] if `sweep`; the runs.

    `image` is what task.image takes, `method` one of grpo, her and both (the recipe's for None), `recipe` a preset or a
    file, and `overrides` its tables, as in Recipe.load. The seeds are grpo.seed and those after it. `out` chooses the
    folder of the runs; `resume` goes on with one, whose runs keep their recipes, and leaves out what is finished. A
    signal ends all, so that the last of the runs may be unfinished. Raises SettingError for what cannot work, before
    anything is loaded or written.
    """
    if resume is not None:
        runs = drawn_runs(resume)
    else:
        tables = {**overrides, "task": {**overrides.get("task", {}), "image": image}}
        if method is not None:
            tables["hindsight"] = {**overrides.get("hindsight", {}), "method": method}
        recipes = variants(recipe, tables, seeds, sweep)
        first = next(iter(recipes.values()))
        runs = new_runs(recipes, Path(out) if out else free_path(first.model_copy(update={"name": folder_name(first)})))
    machine = this_machine()
    if machine.processes > 1:
        raise SettingError(
            f"torchrun --nproc_per_node {machine.processes}: one image is drawn by one process; leave it"
        )
    for n, run in enumerate(runs, 1):
        if not ended(run):
            policy.import_unsloth()
            say(f"{run.path} ({n} of {len(runs)}):")
            if not draw_once(run, machine):
                break
    write_json(runs[0].path.parent / DRAW, as_json(runs))
    return runs


def variants(source: str | Path, tables: Mapping[str, Mapping[str, Any]], seeds: int, sweep: bool) -> dict[str, Recipe]:
    """Run folder's name -> recipe, all checked: every seed of every combination of the recipe's [sweep] if `sweep`."""
    if seeds < 1:
        raise SettingError(f"--seeds {seeds}: write 1 or more")
    base = Recipe.load(source, **tables)
    if base.task["image"] == "random":
        raise SettingError("task.image = 'random': is for training; write one image, such as '12-squares'")
    if sweep and not base.sweep:
        raise SettingError(f"--sweep: recipe {str(source)!r} has no [sweep]; write settings with their values there")
    tried = base.sweep if sweep and base.sweep else {}
    found = {}
    for values in itertools.product(*tried.values()):
        chosen = {table: dict(settings) for table, settings in tables.items()}
        for setting, value in zip(tried, values, strict=True):
            table, key = setting.split(".", 1)
            chosen.setdefault(table, {})[key] = value
        label = "".join(f"{s.rpartition('.')[2]}={value}-" for s, value in zip(tried, values, strict=True))
        for seed in range(base.grpo["seed"], base.grpo["seed"] + seeds):
            chosen["grpo"] = {**chosen.get("grpo", {}), "seed": seed}
            found[re.sub(r"[^\w.=-]+", "-", f"{label}seed={seed}")] = Recipe.load(source, **chosen)
    return found


def folder_name(recipe: Recipe) -> str:
    image = re.sub(r"[^\w.-]+", "-", recipe.task.get("image", "image"))
    return f"{recipe.name}-{image if len(image) < 40 else 'image'}-{method_of(recipe)}"


def method_of(recipe: Recipe) -> str:
    return recipe.hindsight.method if recipe.hindsight else "grpo"


def new_runs(recipes: Mapping[str, Recipe], folder: Path) -> list[Run]:
    """A run folder each, and then the file that says that they are all there."""
    check_free(folder)
    runs = [Run.create(recipe, folder / name) for name, recipe in recipes.items()]
    write_json(folder / DRAW, {"runs": [run.path.name for run in runs]})
    return runs


def drawn_runs(folder: str | Path) -> list[Run]:
    names = (read_json(Path(folder) / DRAW) or {}).get("runs")
    if not isinstance(names, list):
        raise SettingError(f"--resume {str(folder)!r}: no {DRAW} there, so it is no folder that `grpo-colab draw` made")
    return [Run(Path(folder) / name) for name in names]


def draw_once(run: Run, machine: Machine) -> bool:
    """Train one run from where it is, and evaluate it; whether it has ended."""
    from grpo_colab.tripwires import Tripped  # needs transformers, which unsloth must precede

    recipe = run.recipe
    try:
        if method_of(recipe) == "grpo":
            train(resume=run.path)
        else:
            by_hindsight(run, recipe, machine)
    except Tripped as error:  # a learning rate that is too high, say; the next of a sweep may do
        say(f"{run.path}: {error}")
    policy.free_memory()
    return ended(run)


def ended(run: Run) -> bool:
    """Whether nothing is left to do: it is finished, or a tripwire stopped it, which counts as not solved."""
    return run.finished or (run.path / "tripwire.json").is_file()


def by_hindsight(run: Run, recipe: Recipe, machine: Machine) -> None:
    """Hindsight's loop, and what a run has around it: its lock, the policy, answers before and after, the report."""
    from grpo_colab import hindsight
    from grpo_colab.safety import Signals, Stopped

    with contextlib.ExitStack() as held:
        held.enter_context(locked(run.path))
        task = recipe.load_task()
        assert isinstance(task, Drawing)  # no other has [hindsight]
        problems = evaluate.evaluation_problems(task, recipe)
        join_processes(machine)
        say(f"Loading {recipe.model['model_name']} on {machine.name} ...")
        learner = policy.load_policy(recipe, machine, pretrained(recipe, machine, run))
        problems = evaluate.fitting_problems(learner, recipe, task, problems)
        at_once = answers_at_once(recipe, learner.model.config, machine.free_bytes)
        keep_environment(run, recipe, machine)
        held.enter_context(Signals())
        try:
            if not (before := read_lines(run.path / evaluate.BEFORE)):
                before = evaluate.answer(learner, recipe, task, problems, at_once)
                with on_disk(run):
                    run.write_lines(evaluate.BEFORE, before)
            solved = hindsight.learn(learner, task, problems[0], recipe, run)
            after = evaluate.answer(learner, recipe, task, problems, at_once)
        except Stopped:
            say(f"Stopped after iteration {run.last_step} of {recipe.budget.max_steps}. Go on with: {run.resume}")
            return
        finish(run, recipe, before, after, run.last_step, solved)
    say(f"{'Solved' if solved else 'Not solved'} in {run.last_step} iterations. Everything is in {run.path}")


def summary(run: Run) -> dict[str, Any]:
    """What came of one run, read off its folder; `best` is the largest share of right pixels of any drawing."""
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
    """A row for each setting of a sweep, or one alone: how many seeds solved it, and each count's median and range."""
    rows = []
    for setting in dict.fromkeys(one["setting"] for one in summaries):
        ours = [one for one in summaries if one["setting"] == setting and one["finished"]]
        counts = {name: [one[name] for one in ours] for name in COUNTED}
        spreads = {name: {"median": median(v), "min": min(v), "max": max(v)} for name, v in counts.items() if v}
        rows.append({"setting": setting, "solved": sum(one["solved"] for one in ours), "seeds": len(ours), **spreads})
    return rows


def as_json(runs: Sequence[Run]) -> dict[str, Any]:
    """What `grpo-colab draw --json` prints, and draw.json holds at the end."""
    summaries = [summary(run) for run in runs]
    return {"runs": [run.path.name for run in runs], "summaries": summaries, "table": table(summaries)}


def draw_text(runs: Sequence[Run], colour: bool) -> str:
    """The best drawing beside the image that was asked for, and what came of each run and of all."""
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
