"""Which run it is: a new one, one that goes on where it stopped, or one that comes back from a mirror."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from grpo_colab import checkpoints, files, mirror, records
from grpo_colab.console import masked, on_one_line, printable
from grpo_colab.errors import SettingError, one_line
from grpo_colab.machine import Machine, in_notebook
from grpo_colab.plan import Geometry, check_disk
from grpo_colab.recipe import Recipe
from grpo_colab.run import RUNS, Run, check_free, free_path, locked, quote, unfinished
from grpo_colab.toml_reading import parse_toml
from grpo_colab.trust import check_trust

# What shapes a run and is worth a line in environment.json.
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "unsloth", "unsloth_zoo")


def is_first_process() -> bool:
    """Of those that torchrun started; asked before they have met."""
    return int(os.environ.get("RANK", "0")) == 0


def say(text: str) -> None:
    """Chatter, on stderr and once: results alone go to stdout. A stderr that is broken costs nothing but it."""
    if is_first_process() and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(printable(masked(text)), file=sys.stderr, flush=True)


def open_run(
    recipe: Recipe | None,
    out: str | Path | None,
    resume: str | Path | bool | None,
    held: ExitStack,
    trust_code: bool = False,
) -> tuple[Run | None, Recipe, Path]:
    """The run to go on with, locked until `held` ends, its recipe and folder; no run where one is to be made there.

    `resume` is a run folder, a copy of one in a mirror, True for the newest unfinished run of the recipe, here or in
    its mirror, or False for none. None means True in a notebook, which is run again after it was cut, else False.
    SettingError also for code of others that came with a file, unless `trust_code`.
    """
    run, recipe, path = _opened(recipe, out, resume, held)
    if running := check_trust(recipe, trust_code):
        say(running)
    return run, recipe, path


def _opened(
    recipe: Recipe | None, out: str | Path | None, resume: str | Path | bool | None, held: ExitStack
) -> tuple[Run | None, Recipe, Path]:
    if isinstance(resume, str | Path):
        if not str(resume).strip():
            raise SettingError(
                "is empty, as an unset variable leaves it",
                setting="--resume",
                value=str(resume),
                remedy="name a run folder",
            )
        files.check_name("--resume", resume)
        run = brought_back(str(resume), out)
        for hold in (False, True):  # twice: the process that held it may just have finished it
            if hold:
                _hold(run.path, held)
            if run.finished and (recipe is None or recipe.budget.max_steps <= run.recipe.budget.max_steps):
                raise SettingError(
                    "is finished, and evaluated",
                    setting="--resume",
                    value=str(resume),
                    remedy="start another run with --out",
                )
        return run, _changed(run, recipe or run.recipe), run.path
    recipe = recipe or Recipe.load()
    if resume or (resume is None and in_notebook()):
        found = _found(recipe, out, held)
        if found is not None:
            length = found.recipe.grpo["max_completion_length"]  # which memory may have cut
            cut = f", with completions of {length} tokens" if length < recipe.grpo["max_completion_length"] else ""
            say(f"Going on with {found.path}, an unfinished run of this recipe{cut} (resume=False begins another).")
            recipe = recipe.model_copy(update={"grpo": {**recipe.grpo, "max_completion_length": length}})
            return found, _changed(found, recipe), found.path
    there = mirror.recipes(recipe.budget.mirror) if recipe.budget.mirror and not out and is_first_process() else ()
    path = Path(out) if out else free_path(recipe, taken=there)
    if is_first_process():
        check_free(path)
        check_disk(recipe, path)
        if recipe.budget.mirror:
            mirror.check_free(recipe.budget.mirror, [path])
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
        if not Run(path).finished:  # by the process that held it until now
            return Run(path)
    if recipe.budget.mirror and is_first_process():
        for name, text in mirror.recipes(recipe.budget.mirror).items():
            path = Path(out) if out else RUNS / name
            try:
                same = not path.exists() and Recipe.model_validate(parse_toml(text)).repeats(recipe)
            except ValueError:  # of another release, which cannot be read
                continue
            if same and not (run := brought_back(f"{recipe.budget.mirror}/{name}", path)).finished:
                _hold(run.path, held)
                return run
    return None


def brought_back(source: str, out: str | Path | None = None) -> Run:
    """The run in the folder `source`, or the one that a mirror has a copy of there: in runs/, or in the folder `out`.

    A folder that is there already must be the same run and as far; otherwise SettingError.
    """
    if not mirror.is_mirror(source):
        if out is not None:
            raise SettingError("goes on in its own folder", setting="--resume", value=source, remedy="leave out --out")
        return Run(source)
    source = mirror.find(source)
    path = Path(out) if out else RUNS / source.rstrip("/").rpartition("/")[2]
    if not is_first_process():
        while not (path / "recipe.toml").is_file():  # which comes by one rename; if it does not, torchrun ends this one
            time.sleep(0.2)
    elif not (path / "recipe.toml").is_file():
        say(f"Bringing {source} back to {path} ...")
        mirror.restore(source, path)
    else:
        copy, last = mirror.marker(source), Run(path).last_checkpoint()
        here, there = checkpoints.step_of(last) if last else 0, copy.get("step") or 0
        if mirror.identity(path) != copy.get("id") or here < there:
            raise SettingError(
                f"{str(path)!r} is there already, and is another run, or not as far",
                setting="--resume",
                value=source,
                remedy=f"go on with that by --resume {quote(path)}, or choose a folder for this one by --out",
            )
    return Run(path)


def _changed(run: Run, recipe: Recipe) -> Recipe:
    """The recipe that a run goes on with, `recipe` on top of its own. SettingError for one that is another run's."""
    began = run.recipe
    now, then = recipe.public(), began.public()
    for table in ("task", "model", "lora"):
        if now[table] != then[table]:
            raise SettingError(
                f"a run keeps the [{table}] that it began with",
                setting="--resume",
                value=str(run.path),
                remedy="start another run with --out",
            )
    # as memory had it when the run began, unless it is given, or does not divide what is new
    micro_batch = recipe.budget.micro_batch or began.budget.micro_batch
    share = recipe.completions_per_step // int(os.environ.get("WORLD_SIZE", "1"))
    if micro_batch == began.budget.micro_batch and micro_batch and share % micro_batch:
        micro_batch = 0
    budget = recipe.budget.model_copy(update={"micro_batch": micro_batch})
    return recipe.model_copy(update={"budget": budget, "name": began.name})


def keep_recipe(run: Run, recipe: Recipe, shape: Geometry) -> None:
    """Keep the recipe that a run goes on with, once all is checked; another evaluation is asked from the start."""
    began = run.recipe
    budget = recipe.budget.model_copy(update={"micro_batch": shape.micro_batch})
    recipe = recipe.model_copy(update={"budget": budget})
    with on_disk(run):
        asked = [(r.evaluation, r.max_completion_tokens, r.rewards) for r in (began, recipe)]
        if asked[0] != asked[1]:
            (run.path / "evaluation-before.jsonl").unlink(missing_ok=True)
        if recipe != began:
            files.write_text(run.path / "recipe.toml", recipe.to_toml())


def go_back(run: Run) -> Path | None:
    """Bring a run's folder to its newest whole checkpoint, which is returned; None for its beginning."""
    checkpoint, troubles = checkpoints.newest_whole(run.checkpoints)
    for trouble in troubles:
        say(f"{trouble}; it is set aside, and the one before is taken")
    if checkpoint is None and run.last_step:
        say(f"Warning: {run.path} has no whole checkpoint, so that it begins again at its first step")
    for note in run.go_back_to(checkpoint):
        say(on_one_line(f"Warning: {note}"))
    return checkpoint


@contextlib.contextmanager
def on_disk(run: Run) -> Iterator[None]:
    """Turn what cannot be written to a run's folder into a SettingError that says how to go on."""
    try:
        yield
    except Exception as error:
        # safetensors and tokenizers have exceptions of their own, with these words in the text
        if not isinstance(error, OSError) and "os error" not in str(error):
            raise
        raise SettingError(
            f"cannot be written to ({one_line(error)})",
            remedy=f"make space, and go on with: {run.resume}",
            place=run.path,
        ) from error


def keep_environment(run: Run, recipe: Recipe, machine: Machine) -> None:
    """Write environment.json, or say what of it is no longer as it was when the run began."""
    path, now = run.path / "environment.json", environment(recipe, machine)
    began = files.read_json(path)
    if began is None:
        with on_disk(run):
            if os.path.lexists(path):
                say(f"Warning: environment.json cannot be read; it is set aside as {records.set_aside(path).name}")
            run.write_json("environment.json", now)
        return
    before, after = _flat(began), _flat(now)
    changed = [f"{name} {before.get(name)} -> {value}" for name, value in after.items() if before.get(name) != value]
    if changed:
        also = on_one_line(", ".join(changed))
        say(f"Warning: this run began elsewhere, so that it goes on, but not to the last digit: {also}")


def _flat(environment: dict[str, Any]) -> dict[str, Any]:
    """The versions, the device's name and the number of processes; None for what a damaged file does not tell."""
    versions, device = (
        found if isinstance(found := environment.get(key), dict) else {} for key in ("versions", "device")
    )
    return {**versions, "device": device.get("name"), "processes": environment.get("processes")}


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
        "command": recipe.without_tokens(sys.argv),
    }
