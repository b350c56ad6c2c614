"""Open the run that `train` works on: resume it, restore it from a mirror, or choose the folder for a new one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from grpo_colab.errors import SettingError
from grpo_colab.recipe.functions import Rewards
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.trust import check_trust
from grpo_colab.runs import checkpoints, mirror
from grpo_colab.runs.folders import RUNS, check_free, free_path, quote
from grpo_colab.runs.lock import holder, locked
from grpo_colab.runs.run import Run, writing_to
from grpo_colab.tasks.names import parse_task
from grpo_colab.utils import files
from grpo_colab.utils.console import info, warn
from grpo_colab.utils.device import in_notebook
from grpo_colab.utils.toml_reading import parse_toml


def is_first_process() -> bool:
    """Tell whether this is rank 0 of the processes that torchrun started. Works before they are connected."""
    return int(os.environ.get("RANK", "0")) == 0


def open_run(
    recipe: Recipe | None,
    out: str | Path | None,
    resume: str | Path | bool | None,
    held: ExitStack,
    trust_code: bool = False,
    check: Callable[[Recipe], object] | None = None,
    rewards: Rewards | None = None,
) -> tuple[Run | None, Recipe, Path]:
    """Return the run to resume, its recipe and its folder; for a new run None, its recipe and a free folder.

    `resume` is a run folder, or a copy of one in a mirror. True stands for the newest unfinished run of the recipe,
    here or in its mirror, and False for a new run. None means True in a notebook, which is executed again after an
    interruption, and False elsewhere. `out` is the folder for a new run, or the one to which a copy is restored. If
    `recipe` is None, a named run keeps its own, and otherwise the default preset is taken. A run to resume is locked
    until `held` is closed. Messages on stderr tell what is resumed or restored. `check` is called with the recipe
    before anyone is asked to trust its code, but after a task of others may run its own.

    `rewards` are those of the recipe, as in `Recipe.with_rewards`. For a named run that keeps its own recipe they are
    the functions that its file could not keep, as in `Recipe.with_functions`.

    Raises SettingError for what cannot be resumed, for a folder that is not free, for a reward whose function is
    missing, for other people's code that came with a file, unless `trust_code`, and for a task of others that cannot
    work, which is made here. Raises what `check` raises.
    """
    if rewards is not None and not (recipe is None and isinstance(resume, str | Path)):
        recipe, rewards = (recipe or Recipe.load()).with_rewards(rewards), None
    announced = None
    if recipe is not None and parse_task(recipe.task["name"]).runs_code:
        # Before a run is looked for: a task of one's own completes its recipe, as that of its run is.
        announced = check_trust(recipe, trust_code)
        recipe = _completed(recipe, announced)
    run, recipe, path = _open(recipe, out, resume, held, rewards)
    recipe.need_functions(f"train(resume={str(path)!r}, " if run else "")
    is_foreign = parse_task(recipe.task["name"]).runs_code
    if check is not None and not is_foreign:
        check(recipe)
    trusted_code = check_trust(recipe, trust_code)
    recipe = _completed(recipe, trusted_code if trusted_code != announced else None)
    if check is not None and is_foreign:  # its problems come from its code
        check(recipe)
    return run, recipe, path


def _completed(recipe: Recipe, announcement: str | None) -> Recipe:
    """Say which code is going to run, if any, and return the recipe completed by its task; see `completed_by_task`."""
    if announcement:
        info(announcement)
    return recipe.completed_by_task()


def _open(
    recipe: Recipe | None,
    out: str | Path | None,
    resume: str | Path | bool | None,
    held: ExitStack,
    rewards: Rewards | None,
) -> tuple[Run | None, Recipe, Path]:
    """Do what `open_run` says, without checking functions and other people's code.

    `rewards` are for a named run that keeps its own recipe.
    """
    if isinstance(resume, str | Path):
        run, recipe = _open_named(recipe, out, resume, held, rewards)
        return run, recipe, run.path
    recipe = recipe or Recipe.load()
    if resume or (resume is None and in_notebook()):
        unfinished_run = _find_unfinished(recipe, out, held)
        if unfinished_run is not None:
            recipe = _with_length_of(unfinished_run, recipe)
            return unfinished_run, _recipe_to_resume(unfinished_run, recipe), unfinished_run.path
    elif resume is None and is_first_process():
        _tell_of_unfinished(recipe)
    return None, recipe, _new_path(recipe, out)


def _tell_of_unfinished(recipe: Recipe) -> None:
    """Say which run of the recipe in runs/ was cut last, if any, and how to go on with it in place of a new run."""
    for path in unfinished(recipe, _local_folders()):
        run = Run(path)
        checkpoint = run.last_checkpoint()
        if checkpoint is not None and not holder(path).running:
            step = f"step {checkpoints.step_of(checkpoint)} of {run.recipe.budget.max_steps}"
            info(f"{path} is an unfinished run of this recipe, at {step}. To go on with that one: {run.resume_command}")
            return


def _with_length_of(run: Run, recipe: Recipe) -> Recipe:
    """Return the recipe with the run's max_completion_length, and tell the user that the run is resumed.

    The run's length is shorter than the recipe's where the device had too little memory.
    """
    length = run.recipe.grpo["max_completion_length"]
    shorter = length < recipe.grpo["max_completion_length"]
    cut = f", with completions of {length} tokens" if shorter else ""
    info(f"Resuming {run.path}, an unfinished run of this recipe{cut} (resume=False starts another).")
    return recipe.model_copy(update={"grpo": {**recipe.grpo, "max_completion_length": length}})


def _open_named(
    recipe: Recipe | None, out: str | Path | None, resume: str | Path, held: ExitStack, rewards: Rewards | None
) -> tuple[Run, Recipe]:
    """Lock the run that the user named, and return it with its recipe. A copy in a mirror is restored first.

    Raises SettingError for an empty name, for a finished run, for one that another process trains, and as `restore_run`
    and `_recipe_to_resume` do.
    """
    if not str(resume).strip():
        raise SettingError(
            "is empty, as an unset variable leaves it",
            setting="--resume",
            value=str(resume),
            remedy="name a run folder",
        )
    files.check_name("--resume", resume)
    run = restore_run(str(resume), out)
    # Check before and after locking: the process that held the lock may just have finished the run.
    _check_unfinished(run, recipe, resume)
    _lock(run.path, held)
    _check_unfinished(run, recipe, resume)
    if recipe is None:
        recipe = run.recipe if rewards is None else run.recipe.with_functions(rewards)
    return run, _recipe_to_resume(run, recipe)


def _check_unfinished(run: Run, recipe: Recipe | None, resume: str | Path) -> None:
    """Raise SettingError for a finished run, unless the recipe asks for more steps than it had."""
    if run.finished and (recipe is None or recipe.budget.max_steps <= run.recipe.budget.max_steps):
        raise SettingError(
            "is finished, and evaluated",
            setting="--resume",
            value=str(resume),
            remedy="start another run with --out",
        )


def _new_path(recipe: Recipe, out: str | Path | None) -> Path:
    """Return the folder for a new run. Rank 0 raises SettingError where it or its copy in the mirror is not free."""
    first = is_first_process()
    taken: Collection[str] = ()
    if recipe.budget.mirror and not out and first:
        taken = mirror.recipes(recipe.budget.mirror)
    path = Path(out) if out else free_path(recipe, taken=taken)
    if first:
        check_free(path)
        if recipe.budget.mirror:
            mirror.check_free(recipe.budget.mirror, [path])
    return path


def _lock(path: Path, held: ExitStack) -> None:
    """Lock a run folder until `held` is closed. Rank 0 does it for all processes, and the others do nothing.

    Raises SettingError as `locked` does, for example where another process trains there.
    """
    if is_first_process():
        held.enter_context(locked(path))


def _find_unfinished(recipe: Recipe, out: str | Path | None, held: ExitStack) -> Run | None:
    """Return an unfinished run of the recipe that no process is training, locked; None where there is none.

    The run in `out` if it is given, else those in runs/, are tried before those in the recipe's mirror. One from the
    mirror is restored, by rank 0 only. Raises SettingError where restoring fails.
    """
    for path in unfinished(recipe, [Path(out)] if out else _local_folders()):
        try:
            _lock(path, held)
        except SettingError:
            continue
        if not Run(path).finished:  # the process that held the lock may just have finished it
            return Run(path)
    if recipe.budget.mirror and is_first_process():
        return _restore_unfinished(recipe, recipe.budget.mirror, out, held)
    return None


def _local_folders() -> list[Path]:
    return sorted(RUNS.iterdir()) if RUNS.is_dir() else []


def _restore_unfinished(recipe: Recipe, destination: str, out: str | Path | None, held: ExitStack) -> Run | None:
    """Restore the newest unfinished run of the recipe from its mirror, and return it locked; None for no such run.

    It is restored to `out`, or else to runs/. Copies whose folder exists there are skipped. A restored run that turns
    out to be finished stays there. Raises SettingError where restoring or locking fails.
    """
    for name, text in mirror.recipes(destination).items():
        path = Path(out) if out else RUNS / name
        try:
            wanted = not path.exists() and Recipe.model_validate(parse_toml(text)).repeats(recipe)
        except ValueError:  # a recipe of another release, which this one cannot read
            continue
        if not wanted:
            continue
        run = restore_run(f"{destination}/{name}", path)
        if not run.finished:
            _lock(run.path, held)
            return run
    return None


def restore_run(source: str, out: str | Path | None = None) -> Run:
    """Return the run in the folder `source`. Where that is a copy in a mirror, restore the run first.

    It is restored to the folder `out`, or to runs/, with a message on stderr. Nothing is restored where that folder has
    the same run with no fewer steps. Under torchrun, rank 0 restores, and the other processes wait for the folder.
    Raises SettingError where that folder has another run, or the same run with fewer steps. Raises it also for an `out`
    with a `source` that is no copy, for a `source` that is no run, and where restoring fails.
    """
    if not mirror.is_mirror(source):
        if out is not None:
            raise SettingError(
                "is resumed in its own folder", setting="--resume", value=source, remedy="leave out --out"
            )
        return Run(source)
    source = mirror.find(source)
    path = Path(out) if out else RUNS / source.rstrip("/").rpartition("/")[2]
    if not is_first_process():
        # Wait until rank 0 has restored the run, which appears by one rename. If it fails, torchrun ends this process.
        while not (path / "recipe.toml").is_file():
            time.sleep(0.2)
    elif not (path / "recipe.toml").is_file():
        info(f"Restoring {source} to {path} ...")
        mirror.restore(source, path)
    else:
        _check_same_run(source, path)
    return Run(path)


def _check_same_run(source: str, path: Path) -> None:
    """Raise SettingError unless the folder `path` has the run that `source` is a copy of, with no fewer steps."""
    copy, last = mirror.marker(source), Run(path).last_checkpoint()
    own_step = checkpoints.step_of(last) if last else 0
    copied_step = copy.get("step") or 0
    if mirror.identity(path) != copy.get("id") or own_step < copied_step:
        raise SettingError(
            f"{str(path)!r} exists already, and is another run or has fewer steps",
            setting="--resume",
            value=source,
            remedy=f"resume that one with --resume {quote(path)}, or choose another folder with --out",
        )


def _recipe_to_resume(run: Run, recipe: Recipe) -> Recipe:
    """Return `recipe` with the name that the run began with, and with its micro-batch unless the recipe sets one.

    Raises SettingError for a recipe of another task, model or adapter.
    """
    original = run.recipe
    now, then = recipe.public(), original.public()
    for table in ("task", "model", "lora"):
        if now[table] != then[table]:
            raise SettingError(
                f"a run keeps the [{table}] that it began with",
                setting="--resume",
                value=str(run.path),
                remedy="start another run with --out",
            )
    # The first session chose the micro-batch by the memory of its device. It is kept, unless the recipe sets another
    # one, or it does not divide the recipe's completions per process.
    micro_batch = recipe.budget.micro_batch or original.budget.micro_batch
    completions = recipe.completions_per_step // int(os.environ.get("WORLD_SIZE", "1"))
    if micro_batch == original.budget.micro_batch and micro_batch and completions % micro_batch:
        micro_batch = 0
    budget = recipe.budget.model_copy(update={"micro_batch": micro_batch})
    return recipe.model_copy(update={"budget": budget, "name": original.name})


def keep_recipe(run: Run, recipe: Recipe) -> None:
    """Write the recipe of a resumed run to its recipe.toml, if it has changed. Call it once everything is checked.

    Where the evaluation, its token limit or the rewards have changed, the answers from before training are deleted:
    they have to be generated and graded again. Raises SettingError where the folder cannot be written.
    """
    original = run.recipe
    with writing_to(run):
        then, now = (_evaluation_settings(one) for one in (original, recipe))
        if then != now:
            for answers in run.path.glob("evaluation-before*.jsonl"):
                answers.unlink()
        if recipe != original:
            files.write_text(run.path / "recipe.toml", recipe.to_toml())


def _evaluation_settings(recipe: Recipe) -> tuple[object, ...]:
    return recipe.evaluation, recipe.max_completion_tokens, recipe.rewards


def rewind_to_checkpoint(run: Run) -> Path | None:
    """Rewind a run's folder to its newest whole checkpoint, and return that; None where there is none.

    Damaged checkpoints are set aside. Messages on stderr tell what was damaged and what is lost. Raises SettingError
    or OSError where the folder cannot be changed; callers use `writing_to`.
    """
    checkpoint, problems = checkpoints.newest_whole(run.checkpoints)
    for problem in problems:
        info(f"{problem}; it is set aside, and the previous one is used")
    if checkpoint is None and run.last_step:
        warn(f"{run.path} has no whole checkpoint, so training starts again at the first step")
    for note in run.rewind_to(checkpoint):
        warn(note)
    return checkpoint


def runs_of(recipe: Recipe) -> Iterator[Run]:
    """Yield the recipe's runs in runs/, the last by name first; then restore and yield those only in its mirror."""
    for path in sorted(RUNS.glob("*"), reverse=True):
        with contextlib.suppress(SettingError, OSError):
            run = Run(path)
            if run.recipe.repeats(recipe):
                yield run
    if not recipe.budget.mirror:
        return
    for name, text in mirror.recipes(recipe.budget.mirror).items():
        repeats = False
        with contextlib.suppress(ValueError):  # the recipe of another release, which cannot be read
            repeats = Recipe.model_validate(parse_toml(text)).repeats(recipe)
        if repeats and not (RUNS / name).exists():
            yield restore_run(f"{recipe.budget.mirror}/{name}")


def unfinished(recipe: Recipe, folders: Iterable[Path]) -> Iterator[Path]:
    """Yield those of the folders that hold an unfinished run of the same recipe, newest recipe.toml first.

    Folders that are no run, or that cannot be read, are skipped.
    """
    found = []
    for folder in folders:
        with contextlib.suppress(SettingError, OSError):
            run = Run(folder)
            if run.recipe.repeats(recipe) and not run.finished:
                found.append(((folder / "recipe.toml").stat().st_mtime, folder))
    yield from (folder for _, folder in sorted(found, reverse=True))
