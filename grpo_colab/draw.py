"""`draw("12-squares", "her")`: one image is learnt at test time, by GRPO, by hindsight (HER), or by both.

A folder of run folders, one a seed, comes out; each has the best drawings as a picture and as a GIF. GRPO is `train`
on the one prompt, until it is solved; hindsight's loop is in hindsight.py. Here is what stands around them, and how
several seeds compare.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from grpo_colab import checkpoints, evaluate, stack
from grpo_colab.errors import SettingError, one_line
from grpo_colab.files import read_json, write_json, write_text
from grpo_colab.machine import Machine, this_machine
from grpo_colab.memory import free_memory, out_of_memory
from grpo_colab.mirror import PATIENCE_S, Mirror
from grpo_colab.mirror import check_free as check_copies
from grpo_colab.opening import keep_environment, on_disk, say
from grpo_colab.plan import answers_at_once
from grpo_colab.policy_loading import load_policy
from grpo_colab.pretraining import PretrainingStopped, pretrained
from grpo_colab.recipe import Recipe
from grpo_colab.run import DRAW, Run, check_free, drawn_names, locked
from grpo_colab.sweep import as_json, ended, free_folder, method_of, variants
from grpo_colab.tasks.drawing import Drawing
from grpo_colab.train import finish, import_stack, train
from grpo_colab.trust import all_trusted

DEFAULT_RECIPE = "drawing-tiny"
STOPPING = frozenset((signal.SIGINT, signal.SIGTERM))


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
            raise SettingError(
                "goes on with the settings that it began with",
                setting="--resume",
                value=str(resume),
                remedy=f"leave out {name}",
            )
    recipes: dict[str, Recipe] = {}
    if resume is None:
        tables = {table: dict(settings) for table, settings in overrides.items()}
        for table, key, value, word in (("task", "image", image, "TASK"), ("hindsight", "method", method, "--method")):
            if value is not None and tables.setdefault(table, {}).setdefault(key, value) is not value:
                raise SettingError(
                    f"is given by {word}, too",
                    setting=f"{table}.{key}",
                    value=tables[table][key],
                    remedy="leave one of them out",
                )
        if isinstance(sweep, Mapping):
            tables["sweep"] = dict(sweep)
        recipes = variants(recipe or DEFAULT_RECIPE, tables, seeds, bool(sweep))
    machine = this_machine()
    if machine.processes > 1:
        raise SettingError(
            "one image is drawn by one process",
            setting="torchrun --nproc_per_node",
            value=machine.processes,
            remedy="start it without torchrun",
        )
    stack.check_import_order()
    all_trusted(recipes.values(), trust_code)
    runs = drawn_runs(resume) if resume is not None else new_runs(recipes, Path(out) if out else free_folder(recipes))
    for running in all_trusted([run.recipe for run in runs], trust_code):
        say(running)
    failed = None
    for n, run in enumerate(runs, 1):
        if ended(run):
            continue
        stack.import_unsloth()
        say(f"{run.path} ({n} of {len(runs)}):")
        error, go_on = draw_once(run, machine, trust_code)
        free_memory()
        failed = failed or error
        if not go_on:
            break
    write_json(runs[0].path.parent / DRAW, as_json(runs))
    if failed is not None:
        raise failed
    return runs


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
        raise SettingError(
            f"cannot be written to ({error.strerror})",
            setting="--out",
            value=str(folder),
            remedy="choose another folder",
        ) from None


def drawn_runs(folder: str | Path) -> list[Run]:
    """The runs in such a folder, made where a kill came before."""
    folder = Path(folder)
    found = read_json(folder / DRAW)
    if found is None or not found.get("runs"):
        raise SettingError(
            f"has no {DRAW}, so it is not a folder that `grpo-colab draw` made",
            setting="--resume",
            value=str(folder),
            remedy="name one that it made",
        )
    recipes = found.get("recipes", {})
    names = list(dict.fromkeys(drawn_names(folder)))
    if (
        not names
        or not isinstance(recipes, dict)
        or not all(isinstance(recipes[n], str) for n in names if n in recipes)
    ):
        raise SettingError(
            f"its {DRAW} names runs that are no folders there",
            setting="--resume",
            value=str(folder),
            remedy="draw again with another --out",
        )
    for name in names:
        if name in recipes and not (path := folder / name / "recipe.toml").is_file():
            try:
                path.parent.mkdir(exist_ok=True)
                write_text(path, recipes[name])
            except OSError as error:
                raise SettingError(
                    f"{str(path)!r} cannot be written ({error.strerror})",
                    setting="--resume",
                    value=str(folder),
                    remedy="make space, or move what is there",
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
            text = str(error).replace(run.resume, f"{run.resume_alone} --TABLE.SETTING VALUE")
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
        policy = load_policy(recipe, machine, None if begun else pretrained(recipe, machine, run))
        problems = evaluate.fitting_problems(policy, recipe, task, problems)
        at_once = answers_at_once(recipe, policy.model.config, machine.free_bytes)
        keep_environment(run, recipe, machine)
        held.enter_context(Signals())
        try:
            if not (before := run.answers(evaluate.BEFORE)):
                before = evaluate.answer(policy, recipe, task, problems, at_once)
                with on_disk(run):
                    run.write_lines(evaluate.BEFORE, before)
            solved = hindsight.learn(policy, task, problems[0], recipe, run, after_iteration=after_iteration)
            if solved or run.last_step >= recipe.budget.max_steps:
                after = evaluate.answer(policy, recipe, task, problems, at_once)
                finish(run, recipe, before, after, run.last_step, solved)
                say(
                    f"{'Solved' if solved else 'Not solved'} in {run.last_step} iterations. Everything is in {run.path}"
                )
        except Stopped:
            pass
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise SettingError(
                f"out of memory ({one_line(error)})",
                setting="hindsight.samples",
                value=recipe.hindsight and recipe.hindsight.samples,
                remedy=f"write fewer, or a smaller hindsight.batch_size, in {run.path / 'recipe.toml'}, and go on "
                f"with: {run.resume}",
            ) from error
        finally:
            with contextlib.suppress(Stopped):
                if mirror is not None and (behind := mirror.finish(PATIENCE_S)):
                    say(f"Warning: {behind}. To try again: {mirror.command}")
        if not run.finished:
            say(f"Stopped after iteration {run.last_step} of {recipe.budget.max_steps}. Go on with: {run.resume}")
