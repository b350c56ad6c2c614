"""`train(recipe)`: a recipe goes in, a run folder with a trained and evaluated adapter comes out.

`run_with` is the order of every run. Its learner is GRPO for `train`, hindsight for `draw`; preparation.py makes what
the run works with, and checkpointing.py keeps it safe.
"""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from grpo_colab.evaluation import evaluate
from grpo_colab.evaluation.statistics import summary
from grpo_colab.plan import check_disk
from grpo_colab.runs.environment import keep_environment
from grpo_colab.runs.folders import free_path
from grpo_colab.runs.lock import locked
from grpo_colab.runs.mirror import PATIENCE_S, Mirror
from grpo_colab.runs.resume import is_first_process, keep_recipe, open_run
from grpo_colab.runs.run import Run, writing_to
from grpo_colab.training.distributed import broadcast_from_main, is_main_process
from grpo_colab.training.grpo import GRPOLearner
from grpo_colab.utils.console import info

if TYPE_CHECKING:
    from grpo_colab.policy.policy import Policy
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.runs.records import AnswerRow
    from grpo_colab.tasks import Task
    from grpo_colab.training.checkpointing import CheckpointManager
from grpo_colab.training.setup import Outcome, Setup

SetupT = TypeVar("SetupT", bound="Setup")


class Learner(Protocol[SetupT]):
    """Prepare and train a policy by one method. All else is the same for every method, in `run_with`."""

    says_accuracy: bool  # whether the accuracy before and after is worth a line each

    def prepare(self, recipe: Recipe, run: Run | None, loaded: Policy | None) -> SetupT:
        """Check the recipe, load the policy and the problems. `run` is the one to resume, None for a new one.

        `loaded` is a policy to use instead of loading one. Raises SettingError for what cannot work.
        """
        ...

    def learn(self, setup: SetupT, run: Run, manager: CheckpointManager) -> Outcome:
        """Learn from the state of the run folder until the end or a signal, and save the adapter.

        The outcome's step is 0 where there is nothing to evaluate. May raise Stopped at a signal, and SettingError for
        what went wrong on the way.
        """
        ...

    def say_the_end(self, run: Run, recipe: Recipe, manager: CheckpointManager) -> None:
        """Print on stderr that the run is finished, or what is left and how to resume it."""
        ...


def train(
    recipe: Recipe | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | bool | None = None,
    loaded: Policy | None = None,
    trust_code: bool = False,
) -> Run:
    """Train `recipe` (the CPU default for None) by GRPO, evaluate it before and after, and return the run.

    `out` chooses the run folder (runs/<date>-<recipe> otherwise). `resume` goes on with a run that was stopped, killed
    or cut, from its last whole checkpoint: a run folder, or a copy in a mirror. It keeps its own recipe, or takes
    `recipe`, whose task, model and adapter must be the same. True looks for an unfinished run of the recipe, as None
    does in a notebook. False starts a new one. `loaded` brings a policy that is loaded already, adapter and all.
    `trust_code` lets other people's code run that a recipe's file, a run folder or a mirror names; it is remembered, so
    true is needed only once.

    Ctrl-C, SIGTERM and budget.max_hours end the training early without an exception: the run that is returned is then
    not `finished`. Raises SettingError for what cannot work, before the run folder is written. Later errors are
    SettingErrors, too: Tripped for a tripwire, RewardError for a reward that breaks, others for memory that runs out
    and for a run folder that cannot be written. Any other error of the training is raised with the command that resumes
    the run as a note.
    """
    return run_with(GRPOLearner(), recipe, out=out, resume=resume, loaded=loaded, trust_code=trust_code)


def run_with(
    learner: Learner[SetupT],
    recipe: Recipe | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | bool | None = None,
    loaded: Policy | None = None,
    trust_code: bool = False,
) -> Run:
    """Do a whole run: open it, prepare, evaluate, learn, evaluate, report. The arguments are those of `train`.

    `learner` is the method. The run folder is locked meanwhile. Return the run, finished or not: GRPO's adapter so far
    is evaluated after one signal, and not after two. At the end the copy in a mirror is waited for, PATIENCE_S at most.
    Raises what `train` raises.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as held:
        run, recipe, path = open_run(recipe, out, resume, held, trust_code)
        if run is None and is_first_process():
            check_disk(recipe, path)
        setup = learner.prepare(recipe, run, loaded)
        if run is None:
            run = create_run(setup, path, held, rename=out is None)
        if is_main_process():
            keep_recipe(run, setup.kept_recipe)
            keep_environment(run, setup.recipe, setup.device)

        # These import transformers, which must not be imported before unsloth; `prepare` has imported that.
        from grpo_colab.training.checkpointing import CheckpointManager
        from grpo_colab.training.signals import Signals, Stopped

        signals = held.enter_context(Signals())
        deadline = began + 3600 * (recipe.budget.max_hours or math.inf)
        mirror = Mirror(run.path, recipe.budget.mirror) if recipe.budget.mirror and is_main_process() else None
        manager = CheckpointManager(run, setup.recipe, signals, deadline, mirror)
        try:
            before = evaluate_baseline(setup, run, manager)
            if learner.says_accuracy:
                info(f"Before: {accuracy_line(before, setup.task)}")
            outcome = learner.learn(setup, run, manager)
            if outcome.step and broadcast_from_main(signals.count) < 2:
                after = answer_held_out(setup)
                if is_main_process():
                    finish(run, setup.recipe, before, after, outcome)
                if learner.says_accuracy:
                    info(f"After:  {accuracy_line(after, setup.task)}")
        except Stopped:  # a signal came while there was nothing to save
            pass
        finally:
            with contextlib.suppress(Stopped):
                if mirror is not None and (behind := mirror.finish(PATIENCE_S)):
                    info(f"Warning: {behind}. To try again: {mirror.command}")
        learner.say_the_end(run, setup.recipe, manager)
    return run


def create_run(setup: Setup, path: Path, held: contextlib.ExitStack, rename: bool) -> Run:
    """Create and lock the run folder on the main process, and return the run in every process.

    The lock is held until `held` is closed. With `rename`, take the next free name if another run, started at the same
    time, has taken `path` meanwhile. Raises SettingError for a folder that is not empty, is locked or cannot be
    written.
    """
    if is_main_process():
        while rename and path.exists():
            path = free_path(setup.recipe)
        held.enter_context(locked(path))
        Run.create(setup.kept_recipe, path)
    return Run(broadcast_from_main(path))  # around midnight the processes may have chosen two names


def evaluate_baseline(setup: Setup, run: Run, manager: CheckpointManager) -> list[AnswerRow]:
    """Return the untrained policy's answers to the held-out problems.

    Those in the run folder are returned if they answer the same questions. Otherwise the setup's policy answers now,
    before a checkpoint is loaded into it, and the answers are written to the folder, with the seconds that they took.
    Raises SettingError where they cannot be written.
    """
    rows = run.answers(evaluate.BEFORE)
    if evaluate.find_answers(rows, setup.held_out) == rows:
        return rows
    if run.last_step:
        evaluate.need_same_problems(run, rows, setup.held_out)
    began = time.monotonic()
    rows = answer_held_out(setup)
    if is_main_process():
        with writing_to(run):
            run.write_lines(evaluate.BEFORE, rows)
        manager.record_cost(evaluation_s=time.monotonic() - began)
    return rows


def answer_held_out(setup: Setup) -> list[AnswerRow]:
    """Return the policy's graded answers to the held-out problems, one dict per problem.

    Every process gets all of them.
    """
    return evaluate.answer(setup.policy, setup.recipe, setup.task, setup.held_out, setup.evaluation_batch)


def accuracy_line(rows: list[AnswerRow], task: Task) -> str:
    """Return a line on how many of the answers to the task's problems are right. There must be at least one."""
    if len(rows) == 1:  # one image or one example: a percentage would mean nothing
        return f"answered greedily, {'right' if rows[0]['right'] else 'wrong'} ({rows[0]['verdict']})"
    side = summary(rows)
    low, high = side["ci95"]
    lenient = side["lenient_accuracy"]
    in_other_form = "" if lenient is None else f"; {lenient:.1%} {task.grader.lenient}"
    return (
        f"{side['accuracy']:.1%} of {len(rows)} held-out problems right "
        f"(95 % interval {low:.1%} to {high:.1%}{in_other_form})"
    )


def finish(run: Run, recipe: Recipe, before: list[AnswerRow], after: list[AnswerRow], outcome: Outcome) -> None:
    """Write the trained policy's answers, the pictures, the report, and evaluation.json.

    evaluation.json is last, since it marks the run as finished. Raises SettingError where the run folder cannot be
    written.
    """
    from grpo_colab.reporting import draw_drawings, draw_rewards, write_report

    evaluation = evaluate.comparison(recipe, before, after, outcome.step)
    if outcome.solved is not None:
        evaluation["solved"] = outcome.solved
    with writing_to(run):
        run.write_lines(evaluate.AFTER, after)
        draw_rewards(run, evaluation)
        draw_drawings(run)
        write_report(run, evaluation)
        run.write_json("evaluation.json", evaluation)  # last: it marks the run as finished
