"""Fit the policy by GRPO, and what may go wrong meanwhile.

Out of memory, it goes on with a smaller micro-batch, and after a collapse from its best checkpoint, once. A reward that
breaks, a tripwire or a signal ends it after a checkpoint of the last whole step. Any other error is passed on, with the
command that resumes the run.
"""

from __future__ import annotations

import dataclasses
import enum
import pickle
from typing import TYPE_CHECKING, Any, NoReturn

from grpo_colab.errors import one_line
from grpo_colab.policy.card import model_card
from grpo_colab.policy.policy import Policy
from grpo_colab.rewards import RewardError
from grpo_colab.runs import checkpoints
from grpo_colab.runs.collapse import finish_going_back, go_back, rate_after_return
from grpo_colab.runs.folders import quote
from grpo_colab.runs.resume import keep_recipe, rewind_to_checkpoint
from grpo_colab.runs.run import writing_to
from grpo_colab.text import counted, duration
from grpo_colab.training.distributed import broadcast_from_main, is_main_process
from grpo_colab.training.preparation import check, prepare
from grpo_colab.training.setup import Outcome
from grpo_colab.utils.console import info, warn
from grpo_colab.utils.library_output import library_lines_once
from grpo_colab.utils.memory import out_of_memory

if TYPE_CHECKING:
    import contextlib
    from pathlib import Path

    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.runs.run import Run
    from grpo_colab.training.checkpointing import CheckpointManager, LastStep
    from grpo_colab.training.endings import Tripped
    from grpo_colab.training.phases import Phases
    from grpo_colab.training.setup import GRPOSetup, Problems
    from grpo_colab.training.tracking_callback import TrackerCallback
    from grpo_colab.training.tripwires import Tripwires


class Again(enum.Enum):
    """Why a training goes on with another trainer."""

    SMALLER = "a smaller micro-batch"
    FROM_BEST = "from its best checkpoint"


class GRPOLearner:
    """Learn by GRPO: TRL's trainer, on the problems of the recipe's task.

    `says_result` tells whether the accuracy after training, and what to look at next, are printed on stderr at the end.
    The command line prints them itself, since its result belongs on stdout.
    """

    says_accuracy = True

    def __init__(self, dry_run: bool = False, says_result: bool = True) -> None:
        """With `dry_run`, `prepare` always tries the longest step, and trains no adapter before.

        `says_result` says whether the result is printed when there is one.
        """
        self.dry_run, self.says_result = dry_run, says_result

    def check(self, recipe: Recipe) -> Problems:
        """Read and check the problems, before anything heavy is imported: `preparation.check`."""
        return check(recipe)

    def prepare(
        self,
        recipe: Recipe,
        problems: Problems,
        run: Run | None,
        loaded: Policy | None,
        phases: Phases,
        held: contextlib.ExitStack,
    ) -> GRPOSetup:
        """Fit the step to the device, load the policy, and return the setup: `preparation.prepare`.

        `problems` are those that `check` returned. `run` is the run to resume, None for a new one. `loaded` is a policy
        to use instead of loading one. A policy that is loaded here is closed when `held` is. Raises SettingError for
        what cannot work.
        """
        return prepare(recipe, problems, run, loaded, phases, held, self.dry_run)

    def learn(self, setup: GRPOSetup, run: Run, manager: CheckpointManager) -> Outcome:
        """Train from the state of the run folder, with the recipe's trackers, until the end or a signal.

        The outcome's step is that of the saved adapter. It is 0, and no adapter is saved, when a signal came before the
        first step had ended. Raises what `fit` raises.
        """
        from grpo_colab.training.tracking_callback import TrackerCallback  # it needs TRL, which unsloth must precede

        with TrackerCallback(run, setup.recipe) as trackers:
            step = fit(setup, run, manager, trackers)
        return Outcome(step, run.solved)

    def say_the_end(self, run: Run, recipe: Recipe, manager: CheckpointManager) -> None:
        """Print on stderr that the run is finished, or what is left, about how long it takes, and how to resume it.

        Where the last checkpoint could not be written, a warning says so.
        """
        if run.finished:
            if recipe.budget.stop_at_reward is not None:
                info(
                    f"Solved in step {run.last_step}."
                    if run.solved
                    else f"Not solved in {counted(run.last_step, 'step')}."
                )
            if self.says_result:
                info(whats_next(run))
            return
        steps, done = recipe.budget.max_steps, run.last_step
        verb = "is" if steps - done == 1 else "are"
        left = f"; {counted(steps - done, 'step')} {verb} left" if done < steps else "; only its evaluation is left"
        seconds = (steps - done) * max(manager.steps_s, default=0.0)
        time_left = f", about {duration(seconds)}" if seconds else ""
        why = f" by {manager.stopped_by}" if manager.stopped_by else ""
        last = run.last_checkpoint()
        if manager.unsaved:
            warn(f"no checkpoint since {last.name if last else 'the beginning'}: {manager.unsaved}")
        ended = f"Stopped{why} after step {done} of {steps}{left}{time_left}"
        info(f"{ended}. Go on with: {run.resume_command}", even_quiet=True)


def whats_next(run: Run) -> str:
    """Return the lines that tell where a finished run's report is, and what can be done with the run."""
    folder = quote(run.path)
    return (
        f"Report: {run.path / 'report.html'}\n"
        f"Next: grpo-colab report {folder} OTHER_RUN   compares it with another run\n"
        f"      grpo-colab evaluate {folder}   answers its held-out problems again\n"
        f"Everything is in {run.path}; adapter/README.md says how to load the adapter"
    )


def fit(setup: GRPOSetup, run: Run, manager: CheckpointManager, trackers: TrackerCallback) -> int:
    """Train, with smaller micro-batches each time that memory runs out. Return the step of the saved adapter.

    After the first collapse, train again from the best checkpoint, with half the learning rate (tripwires.collapse).
    Return 0, without an adapter, when a signal came before the first step had ended. A smaller micro-batch is printed
    and written to the run's recipe.toml. Raises SettingError for a tripwire (Tripped), for a step that cannot be cut
    any further, for a run folder that cannot be written, and for a checkpoint that cannot be read. Raises RewardError
    for a broken reward. Any other error of the training is raised again, with the command that resumes the run as a
    note.
    """
    from grpo_colab.training.memory_fit import release_model, smaller  # they need torch, which unsloth must precede
    from grpo_colab.training.trainer import build_trainer

    while True:
        now = after_return(setup, run)  # the run's recipe keeps the learning rate that was asked for
        with library_lines_once():  # it says again what was said when the arguments were checked
            trainer = build_trainer(now, run, manager, trackers)
        done = train_with(trainer, now, run, manager)
        if not isinstance(done, Again):
            return done
        setup = dataclasses.replace(setup, generation_batch=trainer.generation_batch)
        release_model(trainer)
        del trainer  # free its memory before the next one is built
        if done is Again.SMALLER:
            setup = smaller(setup)
            keep_recipe(run, setup.kept_recipe)
        info(f"Going on from step {run.last_step}.")


def after_return(setup: GRPOSetup, run: Run) -> GRPOSetup:
    """Return the setup with the halved learning rate of a run that has gone back to its best checkpoint."""
    asked = setup.recipe.grpo["learning_rate"]
    rate = broadcast_from_main(rate_after_return(run, asked))
    if rate == asked:
        return setup
    grpo = {**setup.recipe.grpo, "learning_rate": rate}
    return dataclasses.replace(setup, recipe=setup.recipe.model_copy(update={"grpo": grpo}))


def train_with(trainer: Any, setup: GRPOSetup, run: Run, manager: CheckpointManager) -> int | Again:
    """Train from the run's newest whole checkpoint, or from the start. Return the step of the saved adapter.

    Return why another trainer is to go on, when memory ran out and a smaller micro-batch can be tried, and when the run
    has gone back to its best checkpoint. Return 0, without an adapter, when a signal came before the first step had
    ended. Where the checkpoint is of the last step, or the run is solved, or was stopped in the step that collapsed,
    only its adapter is saved. Lines after the checkpoint are deleted from the run's files. Raises the same errors as
    `fit`.
    """
    from grpo_colab.training.checkpointing import LastStep
    from grpo_colab.training.collapse import CollapseRule
    from grpo_colab.training.memory_fit import can_be_cut
    from grpo_colab.training.signals import Stopped
    from grpo_colab.training.tripwires import Tripwires

    with writing_to(run):
        if is_main_process():
            finish_going_back(run)  # what a kill interrupted
        checkpoint = broadcast_from_main(rewind_to_checkpoint(run) if is_main_process() else None)
    is_last = checkpoint is not None and checkpoints.step_of(checkpoint) >= trainer.args.max_steps
    if checkpoint is not None and (run.solved or is_last or manager.stopped_by):
        # Only the evaluation is missing. The trainer would add a step to a run that is done.
        setup.policy.load_adapter(checkpoint)
        save_adapter(run, setup.policy, setup.recipe)
        return checkpoints.step_of(checkpoint)

    last_step = LastStep(run.checkpoints)
    rule = None
    if setup.recipe.tripwires.collapse:
        rule = CollapseRule(len(setup.probe), trainer.args.num_iterations)
    manager.best_by = rule
    tripwires = Tripwires(setup.recipe.tripwires, run, setup.policy, rule)
    tripwires.trainer = trainer
    for callback in (last_step, manager, tripwires):
        trainer.add_callback(callback)
    with manager.signals.in_training():
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except (Exception, Stopped) as error:  # noqa: BLE001 - every error is raised again below
            whole, tripped = end_early(error, trainer, manager, last_step, tripwires)
            if tripped is None and not isinstance(error, Stopped):
                has_weights = whole or run.last_checkpoint() is not None  # to go on from
                if out_of_memory(error) and has_weights and can_be_cut(setup):
                    return Again.SMALLER
                raise_with_remedy(error, setup, run, checkpoint)
            manager.stopped_by = "a signal"
    if tripwires.tripped is not None:
        raise at_last_good(tripwires.tripped, run)
    if tripwires.goes_back is not None:
        with writing_to(run):
            if is_main_process():
                go_back(run, tripwires.goes_back)
        trainer.accelerator.wait_for_everyone()  # the record says with which learning rate to go on
        return Again.FROM_BEST
    step = int(trainer.state.global_step)
    if step:
        save_adapter(run, setup.policy, setup.recipe)
    return step


def end_early(
    error: BaseException, trainer: Any, manager: CheckpointManager, last_step: LastStep, tripwires: Tripwires
) -> tuple[bool, Tripped | None]:
    """End a training that `error` interrupted. Save a checkpoint of the last whole step if its weights are unchanged.

    They are also unchanged when a reward broke, which happens before the update. The callbacks get their
    `on_train_end`. Return whether the weights are known to be unchanged, and the tripwire behind the error, None where
    there is none. The error itself is left to the caller.
    """
    from grpo_colab.training.signals import Stopped

    whole = manager.signals.breakable or isinstance(error, Stopped)
    manager.signals.breakable = False
    trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)  # as the trainer would
    tripped = tripwires.explain(error) if isinstance(error, RuntimeError) else tripwires.tripped
    if tripped is not None:
        whole = tripped.record["last_good_step"] == trainer.state.global_step
    if whole or isinstance(error, RewardError):
        last_step.save(trainer, together=tripped is not None)
    return whole, tripped


def raise_with_remedy(error: BaseException, setup: GRPOSetup, run: Run, checkpoint: Path | None) -> NoReturn:
    """Raise an error that ended the training, with what to do about it and the command that resumes the run.

    Raises SettingError for a step that is out of memory, and for a `checkpoint` with contents that torch refuses to
    load. Raises RewardError for a reward that broke. Any other error is raised as it is, with the command as a note.
    `checkpoint` is the one that the training began from, None for none.
    """
    from grpo_colab.training.memory_fit import out_of_memory_error

    if isinstance(error, pickle.UnpicklingError) and checkpoint is not None:
        what = f"{checkpoint.name} holds what is no checkpoint's ({one_line(error)})"
        raise run.error(what, f"remove it, and go on with: {run.resume_command}") from None
    if isinstance(error, RewardError):
        remedy = f"once it is mended: {run.resume_command}"
        raise error.replace(remedy=f"{error.remedy}; {remedy}" if error.remedy else remedy) from error
    if out_of_memory(error):
        raise out_of_memory_error(error, setup, run) from error
    error.add_note(f"Once it is mended: {run.resume_command}")
    raise error


def at_last_good(tripped: Tripped, run: Run) -> Tripped:
    """Set the checkpoints of bad weights aside. Return the tripwire's error, with the checkpoint to continue from.

    The main process renames the checkpoints after the last good step to spoilt-<name>. The error is for the caller to
    raise.
    """
    if is_main_process():
        checkpoints.set_spoilt_aside(run.checkpoints, after=tripped.record["last_good_step"])
    last = run.last_checkpoint()
    kept = f"the last good checkpoint is {last.name}" if last else "there was no checkpoint before it"
    go_on = f"Go on, with the setting that you choose behind it: {run.resume_command}"
    return tripped.replace(remedy=f"{tripped.remedy}; {kept}. {go_on}")


def save_adapter(run: Run, policy: Policy, recipe: Recipe) -> None:
    """Save the adapter with its card, and load it again to compare.

    What is wrong with it is printed and appended to warnings.jsonl. The evaluation.json of an earlier adapter is
    deleted. Only the main process does all this. Raises SettingError where the run folder cannot be written.
    """
    if not is_main_process():
        return
    with writing_to(run):
        (run.path / "evaluation.json").unlink(missing_ok=True)  # of an earlier stop: it must be of this adapter
        policy.save(run.adapter, model_card(recipe))
    samples = run.completions()[-4:]
    troubles = policy.check_saved_adapter(run.adapter, [(row["prompt"], row["completion"]) for row in samples])
    had_gradient = any(row.get("grad_norm") for row in run.metrics())
    why = "" if had_gradient else "; no step had a gradient, since in no group did the rewards differ"
    for trouble in troubles:
        warn(f"the saved adapter: {trouble}{why}")
    step = samples[-1]["step"] if samples else 0
    if troubles:
        run.append("warnings.jsonl", [{"step": step, "kind": "adapter", "text": text} for text in troubles])
