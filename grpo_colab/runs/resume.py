"""Find the run to go on with, or the folder for a new one; bring a run back from its mirror, and rewind it."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.trust import check_trust
from grpo_colab.runs import checkpoints, mirror
from grpo_colab.runs.lock import locked
from grpo_colab.runs.run import RUNS, Run, check_free, free_path, quote, unfinished, writing_to
from grpo_colab.text import on_one_line
from grpo_colab.utils import files
from grpo_colab.utils.console import info
from grpo_colab.utils.device import in_notebook
from grpo_colab.utils.toml_reading import parse_toml


def is_first_process() -> bool:
    """Tell whether this is the first of the processes that torchrun started, before they have met."""
    return int(os.environ.get("RANK", "0")) == 0


def open_run(
    recipe: Recipe | None,
    out: str | Path | None,
    resume: str | Path | bool | None,
    held: ExitStack,
    trust_code: bool = False,
) -> tuple[Run | None, Recipe, Path]:
    """Return the run to go on with, its recipe and its folder; no run, but a free folder, where a new one begins.

    The run is locked until `held` ends. `resume` is a run folder, or a copy of one in a mirror; True for the newest
    unfinished run of the recipe, here or in its mirror; or False for a new run. None means True in a notebook, which
    is run again after it was cut, and False elsewhere. Raises SettingError for what cannot go on, and for other
    people's code that came with a file, unless `trust_code`.
    """
    run, recipe, path = _opened(recipe, out, resume, held)
    if running := check_trust(recipe, trust_code):
        info(running)
    return run, recipe, path


def _opened(
    recipe: Recipe | None, out: str | Path | None, resume: str | Path | bool | None, held: ExitStack
) -> tuple[Run | None, Recipe, Path]:
    if isinstance(resume, str | Path):
        run, recipe = _named(recipe, out, resume, held)
        return run, recipe, run.path
    recipe = recipe or Recipe.load()
    if resume or (resume is None and in_notebook()):
        found = _found(recipe, out, held)
        if found is not None:
            length = found.recipe.grpo["max_completion_length"]  # which memory may have cut
            cut = f", with completions of {length} tokens" if length < recipe.grpo["max_completion_length"] else ""
            info(f"Going on with {found.path}, an unfinished run of this recipe{cut} (resume=False begins another).")
            recipe = recipe.model_copy(update={"grpo": {**recipe.grpo, "max_completion_length": length}})
            return found, _changed(found, recipe), found.path
    return None, recipe, _new_path(recipe, out)


def _named(recipe: Recipe | None, out: str | Path | None, resume: str | Path, held: ExitStack) -> tuple[Run, Recipe]:
    """Return the run that the user named, locked, and its recipe; SettingError where nothing is left to do."""
    if not str(resume).strip():
        raise SettingError(
            "is empty, as an unset variable leaves it",
            setting="--resume",
            value=str(resume),
            remedy="name a run folder",
        )
    files.check_name("--resume", resume)
    run = restore_run(str(resume), out)
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
    return run, _changed(run, recipe or run.recipe)


def _new_path(recipe: Recipe, out: str | Path | None) -> Path:
    """Return the folder for a new run, once its name, its mirror and the disk space are checked."""
    first = is_first_process()
    there = mirror.recipes(recipe.budget.mirror) if recipe.budget.mirror and not out and first else ()
    path = Path(out) if out else free_path(recipe, taken=there)
    if first:
        check_free(path)
        if recipe.budget.mirror:
            mirror.check_free(recipe.budget.mirror, [path])
    return path


def _hold(path: Path, held: ExitStack) -> None:
    if is_first_process():
        held.enter_context(locked(path))


def _found(recipe: Recipe, out: str | Path | None, held: ExitStack) -> Run | None:
    """Return an unfinished run of the recipe that no process is training: one here, or else one from its mirror."""
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
            if same and not (run := restore_run(f"{recipe.budget.mirror}/{name}", path)).finished:
                _hold(run.path, held)
                return run
    return None


def restore_run(source: str, out: str | Path | None = None) -> Run:
    """Return the run in the folder `source`. Where that is a copy in a mirror, bring the run back first.

    It is brought to the folder `out`, or to runs/. Raises SettingError where there is another run in that folder
    already, or the same run with fewer steps.
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
        info(f"Bringing {source} back to {path} ...")
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
    """Return the recipe that a run goes on with: `recipe`, with the run's name and the micro-batch that it began with.

    Raises SettingError for a recipe of another task, model or adapter.
    """
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


def keep_recipe(run: Run, recipe: Recipe) -> None:
    """Write the recipe that a run goes on with, once all is checked.

    Where the evaluation, or what is graded in it, is another one, the answers from before training are dropped.
    """
    began = run.recipe
    with writing_to(run):
        asked = [(r.evaluation, r.max_completion_tokens, r.rewards) for r in (began, recipe)]
        if asked[0] != asked[1]:
            (run.path / "evaluation-before.jsonl").unlink(missing_ok=True)
        if recipe != began:
            files.write_text(run.path / "recipe.toml", recipe.to_toml())


def rewind_to_checkpoint(run: Run) -> Path | None:
    """Bring a run's folder to its newest whole checkpoint, and return that; None where there is none to go on from."""
    checkpoint, troubles = checkpoints.newest_whole(run.checkpoints)
    for trouble in troubles:
        info(f"{trouble}; it is set aside, and the one before is taken")
    if checkpoint is None and run.last_step:
        info(f"Warning: {run.path} has no whole checkpoint, so that it begins again at its first step")
    for note in run.go_back_to(checkpoint):
        info(on_one_line(f"Warning: {note}"))
    return checkpoint
