"""`draw("12-squares", "her")`: one image is learnt at test time, by GRPO, by hindsight (HER), or by both.

A folder of run folders, one a seed, comes out; each has the best drawings as a picture and as a GIF. GRPO is `train`
on the one prompt, until it is solved; hindsight's loop is in hindsight.py. Here is what stands around them, and how
several seeds compare.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from grpo_colab import checkpoints, evaluate, policy
from grpo_colab.console import say
from grpo_colab.errors import SettingError, one_line
from grpo_colab.files import LONGEST_NAME, read_json, write_json, write_text
from grpo_colab.machine import Machine, this_machine
from grpo_colab.mirror import PATIENCE_S, Mirror
from grpo_colab.mirror import check_free as check_copies
from grpo_colab.plan import answers_at_once
from grpo_colab.pretraining import PretrainingStopped, pretrained
from grpo_colab.recipe import Recipe
from grpo_colab.run import DRAW, Run, check_free, drawn_names, free_path, writing_to
from grpo_colab.run_environment import keep_environment
from grpo_colab.run_lock import locked
from grpo_colab.tasks.drawing import Drawing
from grpo_colab.tracking import trackers
from grpo_colab.train import finish, import_stack, train
from grpo_colab.trust import all_trusted

DEFAULT_RECIPE = "drawing-tiny"
COUNTED = ("iterations", "samples", "seconds")
STOPPING = frozenset((signal.SIGINT, signal.SIGTERM))
# What makes no difference to a method, so that it tries no values of it; the seeds are those of --seeds.
UNREAD = {
    "grpo": r"hindsight\.(?!method$)|grpo\.seed$",
    "her": r"tripwires\.|hindsight\.(near|goal_weight)$|grpo\.(?!max_completion_length$)",
    "both": r"tripwires\.|grpo\.(?!max_completion_length$)",
}


def draw(
    image: str | None = None,
    method: str | None = None,
    *,
    recipe: str | Path | None = None,
    seeds: int = 1,
    sweep: bool | Mapping[str, Sequence[Any]] = False,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    trust_code: bool = False,
    **overrides: Mapping[str, Any],
) -> list[Run]:
    """Learn to draw `image` once a seed, and with each combination of the recipe's [sweep] if `sweep`; the runs.

    `image` is what task.image takes, `method` one of grpo, her and both (the recipe's for None), `recipe` a preset or a
    file, and `overrides` its tables, as in Recipe.load; a mapping as `sweep` is such a table. The seeds are grpo.seed
    and those after it. `out` chooses the folder of the runs; `resume` goes on with one, whose runs keep their recipes,
    and leaves out what is finished. `trust_code` lets run what a file names of others' code. A signal ends all, so that
    the last of the runs may be unfinished; an error ends one of them, and is raised after the others. Raises
    SettingError for what cannot work, before anything is loaded or written.
    """
    given = {"TASK": image, "--method": method, "--recipe": recipe, "--seeds": seeds != 1, "--sweep": sweep}
    for name, value in (given | {"--out": out, **overrides}).items():
        if resume is not None and value:
            raise SettingError(f"--resume {str(resume)!r}: goes on as it began; leave {name} away")
    recipes: dict[str, Recipe] = {}
    if resume is None:
        tables = {table: dict(settings) for table, settings in overrides.items()}
        for table, key, value, word in (("task", "image", image, "TASK"), ("hindsight", "method", method, "--method")):
            if value is not None and tables.setdefault(table, {}).setdefault(key, value) is not value:
                raise SettingError(f"{table}.{key} = {tables[table][key]!r}: is {word}, too; leave one of them away")
        if isinstance(sweep, Mapping):
            tables["sweep"] = dict(sweep)
        recipes = variants(recipe or DEFAULT_RECIPE, tables, seeds, bool(sweep))
    machine = this_machine()
    if machine.processes > 1:
        raise SettingError(
            f"torchrun --nproc_per_node {machine.processes}: one image is drawn by one process; leave it"
        )
    policy.check_import_order()
    all_trusted(recipes.values(), trust_code)
    runs = drawn_runs(resume) if resume is not None else new_runs(recipes, Path(out) if out else free_folder(recipes))
    for running in all_trusted([run.recipe for run in runs], trust_code):
        say(running)
    failed = None
    for n, run in enumerate(runs, 1):
        if ended(run):
            continue
        policy.import_unsloth()
        say(f"{run.path} ({n} of {len(runs)}):")
        error, go_on = draw_once(run, machine, trust_code)
        policy.free_memory()
        failed = failed or error
        if not go_on:
            break
    write_json(runs[0].path.parent / DRAW, as_json(runs))
    if failed is not None:
        raise failed
    return runs


def variants(source: str | Path, tables: Mapping[str, Mapping[str, Any]], seeds: int, sweep: bool) -> dict[str, Recipe]:
    """Run folder's name -> recipe, all checked: every seed of every combination of the recipe's [sweep] if `sweep`.

    Of [sweep], the settings that the method reads.
    """
    if seeds < 1:
        raise SettingError(f"--seeds {seeds}: write 1 or more")
    base = Recipe.load(source, **tables)
    if base.task["image"] == "random":
        raise SettingError("task.image = 'random': is for training; write one image, such as '12-squares'")
    if sweep and not base.sweep:
        raise SettingError(f"--sweep: recipe {str(source)!r} has no [sweep]; write settings with their values there")
    asked = base.sweep if sweep and base.sweep else {}
    methods = asked.get("hindsight.method", [method_of(base)])
    tried = {s: values for s, values in asked.items() if not all(re.match(UNREAD.get(str(m), "$"), s) for m in methods)}
    left_out = ", ".join(setting for setting in asked if setting not in tried)
    if asked and not tried:
        raise SettingError(
            f"--sweep: {left_out}: nothing there makes a difference to method {method_of(base)!r}; write a setting "
            "that does, such as hindsight.samples for her and both, grpo.learning_rate for grpo"
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
                    f"--sweep: {name[:60]}...: names a run folder, in over {LONGEST_NAME} bytes; write shorter values"
                )
            found[name] = one
            if method_of(one) != "grpo" and (named := trackers(one.grpo)):
                raise SettingError(
                    f'grpo.report_to = {named!r}: hindsight\'s loop tells no tracker; write "none", or --method grpo'
                )
    return found


def free_folder(recipes: Mapping[str, Recipe]) -> Path:
    """runs/<date>-<recipe>-<image>-<method>, with a number where there is one already."""
    recipe = next(iter(recipes.values()))
    image = re.sub(r"[^\w.-]+", "-", recipe.task.get("image", "image"))
    name = f"{recipe.name}-{image if len(image) < 40 else 'image'}-{method_of(recipe)}"
    return free_path(recipe.model_copy(update={"name": name}))


def method_of(recipe: Recipe) -> str:
    return recipe.hindsight.method if recipe.hindsight else "grpo"


def new_runs(recipes: Mapping[str, Recipe], folder: Path) -> list[Run]:
    """A run folder each, after the file that says which they are, so that all can be made from it."""
    check_free(folder)
    for destination in dict.fromkeys(recipe.budget.mirror for recipe in recipes.values()):
        if destination:
            paths = [folder / name for name, recipe in recipes.items() if recipe.budget.mirror == destination]
            check_copies(destination, paths, "another budget.mirror")  # the names are of the seeds
    try:
        folder.mkdir(parents=True, exist_ok=True)
        texts = {name: recipe.to_toml() for name, recipe in recipes.items()}
        write_json(folder / DRAW, {"runs": [*recipes], "recipes": texts})
        return drawn_runs(folder)
    except OSError as error:
        raise SettingError(f"--out {str(folder)!r}: cannot write there ({error.strerror})") from None


def drawn_runs(folder: str | Path) -> list[Run]:
    """The runs in such a folder, made where a kill came before."""
    folder = Path(folder)
    found = read_json(folder / DRAW)
    if found is None or not found.get("runs"):
        raise SettingError(f"--resume {str(folder)!r}: no {DRAW} there, so it is no folder that `grpo-colab draw` made")
    recipes = found.get("recipes", {})
    names = list(dict.fromkeys(drawn_names(folder)))
    if (
        not names
        or not isinstance(recipes, dict)
        or not all(isinstance(recipes[n], str) for n in names if n in recipes)
    ):
        raise SettingError(
            f"--resume {str(folder)!r}: its {DRAW} names what is no run folder there; draw again with another --out"
        )
    for name in names:
        if name in recipes and not (path := folder / name / "recipe.toml").is_file():
            try:
                path.parent.mkdir(exist_ok=True)
                write_text(path, recipes[name])
            except OSError as error:
                raise SettingError(
                    f"--resume {str(folder)!r}: cannot write {str(path)!r} ({error.strerror}); make space, or move "
                    "what is there"
                ) from None
    return [Run(folder / name) for name in names]


def draw_once(run: Run, machine: Machine, trust_code: bool = False) -> tuple[SettingError | None, bool]:
    """Train one run from where it is, and evaluate it; what went wrong, and whether to go on with the next one."""
    from grpo_colab.tripwires import Tripped  # needs transformers, which unsloth must precede

    recipe, failed = run.recipe, None
    with signals_heard() as heard:
        try:
            if method_of(recipe) == "grpo":
                train(resume=run.path, trust_code=trust_code)
            else:
                by_hindsight(run, recipe, machine)
        except PretrainingStopped:
            raise
        except Tripped as error:  # a learning rate that is too high, say; the next of a sweep may do
            text = str(error).replace(run.resume_command, f"{run.resume_command_alone} --TABLE.SETTING VALUE")
            say(f"{run.path}: {text}. It counts as not solved.")
        except SettingError as error:
            say(f"{run.path}: {error}")
            error.__cause__ = error.__context__ = None  # whose frames hold the model
            failed = error.with_traceback(None)
        return failed, not heard() and (failed is not None or ended(run))


@contextlib.contextmanager
def signals_heard() -> Iterator[Callable[[], bool]]:
    """Whether a SIGINT or SIGTERM came, whoever handled it: what is nearly done is finished, and says nothing of it."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    main = threading.current_thread() is threading.main_thread()  # which alone gets signals
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False) if main else -1
    try:
        # a byte of ours, for to read from an empty pipe would wait
        yield lambda: os.write(write, b"\0") == 1 and not STOPPING.isdisjoint(os.read(read, 65536))
    finally:
        if main:
            signal.set_wakeup_fd(before)
        os.close(read)
        os.close(write)


def ended(run: Run) -> bool:
    """Whether nothing is left to do: it is finished, or a tripwire stopped it, which counts as not solved."""
    return run.finished or run.tripped


def by_hindsight(run: Run, recipe: Recipe, machine: Machine) -> None:
    """Hindsight's loop, and what a run has around it: its lock, the policy, answers before and after, the report."""
    from grpo_colab import hindsight
    from grpo_colab.safety import Signals, Stopped

    deadline = time.monotonic() + 3600 * (recipe.budget.max_hours or math.inf)
    mirror = Mirror(run.path, recipe.budget.mirror) if recipe.budget.mirror else None

    def after_iteration() -> bool:
        """Whether there is no time for another one; the answers afterwards take less."""
        if mirror is not None:
            mirror.request()
        return time.monotonic() + run.metrics()[-1]["step_time"] > deadline

    with contextlib.ExitStack() as held:
        held.enter_context(locked(run.path))
        task = recipe.load_task()
        assert isinstance(task, Drawing)  # no other has [hindsight]
        problems = evaluate.evaluation_problems(task, recipe)
        import_stack(recipe, task, machine)
        say(f"Loading {recipe.model['model_name']} on {machine.name} ...")
        begun = checkpoints.newest_whole(run.checkpoints)[0]  # which has what the pre-training taught in it
        learner = policy.load_policy(recipe, machine, None if begun else pretrained(recipe, machine, run))
        problems = evaluate.fitting_problems(learner, recipe, task, problems)
        at_once = answers_at_once(recipe, learner.model.config, machine.free_bytes)
        keep_environment(run, recipe, machine)
        held.enter_context(Signals())
        try:
            if not (before := run.answers(evaluate.BEFORE)):
                before = evaluate.answer(learner, recipe, task, problems, at_once)
                with writing_to(run):
                    run.write_lines(evaluate.BEFORE, before)
            solved = hindsight.learn(learner, task, problems[0], recipe, run, after_iteration=after_iteration)
            if solved or run.last_step >= recipe.budget.max_steps:
                after = evaluate.answer(learner, recipe, task, problems, at_once)
                finish(run, recipe, before, after, run.last_step, solved)
                say(
                    f"{'Solved' if solved else 'Not solved'} in {run.last_step} iterations. Everything is in {run.path}"
                )
        except Stopped:
            pass
        except RuntimeError as error:
            if not policy.out_of_memory(error):
                raise
            raise SettingError(
                f"hindsight.samples = {recipe.hindsight and recipe.hindsight.samples}: out of memory "
                f"({one_line(error)}); write fewer, or a smaller hindsight.batch_size, in {run.path / 'recipe.toml'}, "
                f"and go on with: {run.resume_command}"
            ) from error
        finally:
            with contextlib.suppress(Stopped):
                if mirror is not None and (behind := mirror.finish(PATIENCE_S)):
                    say(f"Warning: {behind}. To try again: {mirror.command}")
        if not run.finished:
            done = f"iteration {run.last_step} of {recipe.budget.max_steps}"
            say(f"Stopped after {done}. Go on with: {run.resume_command}")


def summary(run: Run) -> dict[str, Any]:
    """What came of one run, read off its folder.

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
