"""Which run it is: a new one, one that goes on where it stopped, or one that comes back from a mirror."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from grpo_colab import checkpoints, files, mirror
from grpo_colab.errors import SettingError, one_line
from grpo_colab.plan import Machine, check_disk, in_notebook
from grpo_colab.recipe import Recipe
from grpo_colab.run import RUNS, Run, check_free, free_path, locked, unfinished

# What shapes a run and is worth a line in environment.json.
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "unsloth", "unsloth_zoo")


def is_first_process() -> bool:
    """Of those that torchrun started; asked before they have met."""
    return int(os.environ.get("RANK", "0")) == 0


def say(text: str) -> None:
    """Chatter, on stderr and once: results alone go to stdout."""
    if is_first_process():
        print(text, file=sys.stderr, flush=True)


def open_run(
    recipe: Recipe | None, out: str | Path | None, resume: str | Path | bool | None, held: ExitStack
) -> tuple[Run | None, Recipe, Path]:
    """The run to go on with, locked until `held` ends, its recipe and folder; no run where one is to be made there.

    `resume` is a run folder, a copy of one in a mirror, True for the newest unfinished run of the recipe, here or in
    its mirror, or False for none. None means True in a notebook, which is run again after it was cut, else False.
    """
    if isinstance(resume, str | Path):
        run = _brought_back(str(resume), out) if mirror.is_mirror(str(resume)) else Run(resume)
        if out is not None and run.path != Path(out):
            raise SettingError(f"--resume {str(resume)!r}: goes on in its own folder; leave --out away")
        if run.finished and (recipe is None or recipe.budget.max_steps <= run.recipe.budget.max_steps):
            raise SettingError(f"--resume {str(resume)!r}: is finished, and evaluated; start another with --out")
        _hold(run.path, held)
        return run, _changed(run, recipe) if recipe else run.recipe, run.path
    recipe = recipe or Recipe.load()
    if resume or (resume is None and in_notebook()):
        found = _found(recipe, out, held)
        if found is not None:
            say(f"Going on with {found.path}, an unfinished run of this recipe (resume=False begins another).")
            return found, _changed(found, recipe), found.path
    there = mirror.recipes(recipe.budget.mirror) if recipe.budget.mirror and not out and is_first_process() else ()
    path = Path(out) if out else free_path(recipe, taken=there)
    if is_first_process():
        check_free(path)
        check_disk(recipe, path)
    return None, recipe, path


def _hold(path: Path, held: ExitStack) -> None:
    if is_first_process():
        held.enter_context(locked(path))


def _found(recipe: Recipe, out: str | Path | None, held: ExitStack) -> Run | None:
    """An unfinished run of the recipe that nobody is training: here, or else in the recipe's mirror."""
    here = [Path(out)] if out else sorted(RUNS.iterdir()) if RUNS.is_dir() else []
    for path in unfinished(recipe, here):
        try:
            _hold(path, held)
        except SettingError:
            continue
        return Run(path)
    if recipe.budget.mirror and is_first_process():
        for name, text in mirror.recipes(recipe.budget.mirror).items():
            path = Path(out) if out else RUNS / name
            with contextlib.suppress(ValueError):  # of another release, which cannot be read
                if not path.exists() and Recipe.model_validate(tomllib.loads(text)).repeats(recipe):
                    run = _brought_back(f"{recipe.budget.mirror}/{name}", path)
                    if not run.finished:
                        _hold(run.path, held)
                        return run
    return None


def _brought_back(source: str, out: str | Path | None) -> Run:
    """The run that a mirror has a copy of; the folder here when it is as far, or further."""
    path = Path(out) if out else RUNS / source.rstrip("/").rpartition("/")[2]
    if not (path / "recipe.toml").is_file() and is_first_process():
        say(f"Bringing {source} back to {path} ...")
        mirror.restore(source, path)
    return Run(path)


def _changed(run: Run, recipe: Recipe) -> Recipe:
    """The recipe that a run goes on with, kept in its folder. SettingError for one that is another run's."""
    began = run.recipe
    for table in ("task", "model", "lora"):
        if getattr(recipe, table) != getattr(began, table):
            raise SettingError(
                f"--resume {str(run.path)!r}: a run keeps the [{table}] that it began with; start another by --out"
            )
    budget = recipe.budget.model_copy(update={"micro_batch": recipe.budget.micro_batch or began.budget.micro_batch})
    recipe = recipe.model_copy(update={"budget": budget, "name": began.name})
    if recipe != began and is_first_process():
        files.write_text(run.path / "recipe.toml", recipe.to_toml())
    return recipe


@contextlib.contextmanager
def on_disk(run: Run) -> Iterator[None]:
    """What cannot be written to a run's folder is a SettingError with the way on, whatever the library calls it."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and "os error" not in str(error):  # so safetensors and tokenizers say it
            raise
        raise SettingError(
            f"run {str(run.path)!r}: cannot be written to ({one_line(error)}); make space, and go on with: grpo-colab "
            f"train --resume {run.path}"
        ) from error


def go_back(run: Run) -> Path | None:
    """Bring a run's folder to its newest whole checkpoint, which is returned; None for its beginning."""
    checkpoint, troubles = checkpoints.newest_whole(run.checkpoints)
    for trouble in troubles:
        say(f"{trouble}; it is set aside, and the one before is taken")
    run.go_back_to(checkpoint)
    return checkpoint


def keep_environment(run: Run, recipe: Recipe, machine: Machine) -> None:
    """Write environment.json, or say what of it is no longer as it was when the run began."""
    now, began = environment(recipe, machine), files.read_json(run.path / "environment.json")
    if began is None:
        with on_disk(run):
            run.write_json("environment.json", now)
        return
    flat = [{**e.get("versions", {}), "device": e["device"]["name"], "processes": e["processes"]} for e in (began, now)]
    changed = [
        f"{name} {flat[0].get(name)} -> {value}" for name, value in flat[1].items() if flat[0].get(name) != value
    ]
    if changed:
        say(f"Warning: this run began elsewhere, so that it goes on, but not to the last digit: {', '.join(changed)}")


def environment(recipe: Recipe, machine: Machine) -> dict[str, Any]:
    """What environment.json holds."""
    versions: dict[str, str | None] = {}
    for name in ("grpo_colab", *PACKAGES):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "device": {"kind": machine.kind, "name": machine.name, "capability": machine.capability, "bf16": machine.bf16},
        "processes": machine.processes,
        "seeds": {"grpo": recipe.grpo["seed"], "task": recipe.task["seed"], "lora": recipe.lora["random_state"]},
        "command": sys.argv,
    }
