"""`train(recipe)`: a recipe goes in, a run folder with a trained and evaluated adapter comes out.

`run_with` is the order of every run. Its learner is GRPO for `train`, hindsight for `draw`; preparation.py makes what
the run works with, checkpointing.py keeps it safe, and phases.py tells what it does.
"""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

from grpo_colab.errors import SettingError
from grpo_colab.evaluation import evaluate
from grpo_colab.plan import check_disk
from grpo_colab.policy.card import write_card
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs.environment import keep_environment, own_version
from grpo_colab.runs.folders import clear, free_path, is_free_again
from grpo_colab.runs.lock import locked
from grpo_colab.runs.mirror import PATIENCE_S, Mirror
from grpo_colab.runs.resume import is_first_process, keep_recipe, open_run
from grpo_colab.runs.run import Run, writing_to
from grpo_colab.training.distributed import broadcast_from_main, is_main_process
from grpo_colab.training.grpo import GRPOLearner
from grpo_colab.training.held_out import answer_held_out, evaluate_baseline, say_accuracy
from grpo_colab.training.phases import Phases
from grpo_colab.training.signals import Signals, Stopped
from grpo_colab.utils.console import info, warn
from grpo_colab.utils.device import in_notebook
from grpo_colab.utils.files import unwritable_refused
from grpo_colab.utils.memory import forget_frames
from grpo_colab.utils.stack import check_import_order
from grpo_colab.utils.stage import clock

if TYPE_CHECKING:
    from grpo_colab.evaluation.evaluate import Answers
    from grpo_colab.policy.policy import Policy
    from grpo_colab.recipe.functions import Rewards
    from grpo_colab.training.checkpointing import CheckpointManager
    from grpo_colab.training.setup import Outcome, Problems, Setup


SetupT = TypeVar("SetupT", bound="Setup")


class Learner(Protocol[SetupT]):
    """Prepare and train a policy by one method. All else is the same for every method, in `run_with`."""

    says_accuracy: bool  # whether the accuracy before training is worth a line
    says_result: bool  # and that after it

    def check(self, recipe: Recipe) -> Problems:
        """Read the problems, and check the recipe as far as that needs no torch and none of other people's code.

        Raises SettingError for what cannot work.
        """
        ...

    def prepare(
        self,
        recipe: Recipe,
        problems: Problems,
        run: Run | None,
        loaded: Policy | None,
        phases: Phases,
        held: contextlib.ExitStack,
    ) -> SetupT:
        """Import the libraries, check what only they can tell, and load the policy.

        `problems` are what `check` returned. `run` is the one to resume, None for a new one. `loaded` is a policy to
        use instead of loading one. `phases` shows what is done. A policy that is loaded here is closed when `held` is.
        Raises SettingError for what cannot work.
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


@overload
def train(
    recipe: Recipe | None = None,
    *,
    rewards: Rewards | None = None,
    reward_funcs: Rewards | None = None,
    out: str | Path | None = None,
    resume: str | Path | bool | None = None,
    loaded: Policy | None = None,
    trust_code: bool = False,
    dry_run: Literal[False] = False,
    dataset: Any = None,
) -> Run: ...


@overload
def train(
    recipe: Recipe | None = None,
    *,
    rewards: Rewards | None = None,
    reward_funcs: Rewards | None = None,
    out: str | Path | None = None,
    resume: str | Path | bool | None = None,
    loaded: Policy | None = None,
    trust_code: bool = False,
    dry_run: Literal[True],
    dataset: Any = None,
) -> None: ...


def train(
    recipe: Recipe | None = None,
    *,
    rewards: Rewards | None = None,
    reward_funcs: Rewards | None = None,
    out: str | Path | None = None,
    resume: str | Path | bool | None = None,
    loaded: Policy | None = None,
    trust_code: bool = False,
    dry_run: bool = False,
    dataset: Any = None,
) -> Run | None:
    """Train `recipe` (the CPU default for None) by GRPO, evaluate it before and after, and return the run.

    `rewards` are the recipe's [rewards], as in Recipe.load: a list of functions and names is all rewards that there
    are, and a table of weights changes the recipe's own. `reward_funcs` is TRL's name for the same. A resumed run that
    keeps its recipe keeps its rewards and weights. It has to be given again, as a list, the functions that its file
    could not keep.

    `out` chooses the run folder (runs/<date>-<recipe> otherwise). `resume` goes on with a run that was stopped, killed
    or cut, from its last whole checkpoint: a run folder, or a copy in a mirror. It keeps its own recipe, or takes
    `recipe`, whose task, model and adapter must be the same. True looks for an unfinished run of the recipe, as None
    does in a notebook. False starts a new one. `loaded` brings a policy that is loaded already, adapter and all.
    `trust_code` lets other people's code run that a recipe's file, a run folder or a mirror names; it is remembered, so
    true is needed only once. `dry_run` does all that comes before the first step, tries the longest step, prints the
    estimates, and returns None: nothing is evaluated, learned, or written to a run folder.

    `dataset` brings the problems in place of those of the recipe: a datasets.Dataset, a DatasetDict, a DataFrame, or a
    list of dicts or Problems. The run keeps them in its folder, so that it can be resumed and evaluated without them.

    Ctrl-C, SIGTERM and budget.max_hours end the run early without an exception: the run that is returned is then not
    `finished`. Raises SettingError for what cannot work. What can be told without the libraries (paths, data, columns,
    golds, the names of rewards) is refused before the run folder is made. A run that is refused later, before its first
    step, leaves a folder that the next run of that name takes over. Later errors are SettingErrors, too: Tripped for a
    tripwire, RewardError for a reward that breaks, others for memory that runs out and for a run folder that cannot be
    written. Any other error of the training is raised with the command that resumes the run as a note.
    """
    if reward_funcs is not None:
        if rewards is not None:
            problem, remedy = "is TRL's name for rewards, which are given as well", "leave one of them out"
            raise SettingError(problem, setting="reward_funcs", remedy=remedy)
        rewards = reward_funcs
    if dataset is not None:
        if recipe is None and isinstance(resume, str | Path):
            problem, remedy = "is in the run's folder already", "leave it out to resume the run"
            raise SettingError(problem, setting="dataset", remedy=remedy)
        recipe = (recipe or Recipe.load()).with_dataset(dataset)
    learner = GRPOLearner(dry_run)
    if dry_run:
        try_out(learner, recipe, rewards=rewards, out=out, resume=resume, loaded=loaded, trust_code=trust_code)
        return None
    try:
        return run_with(learner, recipe, rewards=rewards, out=out, resume=resume, loaded=loaded, trust_code=trust_code)
    except BaseException as error:
        if in_notebook():
            forget_frames(error)  # which would keep the model on the GPU, where the next try loads a second one
        raise


def run_with(
    learner: Learner[SetupT],
    recipe: Recipe | None = None,
    *,
    rewards: Rewards | None = None,
    out: str | Path | None = None,
    resume: str | Path | bool | None = None,
    loaded: Policy | None = None,
    trust_code: bool = False,
) -> Run:
    """Do a whole run: open it, prepare, evaluate, learn, evaluate, report. The arguments are those of `train`.

    `learner` is the method. The run folder is made and locked before anything heavy is imported, and its phase.json
    says from then on what is done. Return the run, finished or not: GRPO's adapter so far is evaluated after one
    signal, and not after two. At the end the copy in a mirror is waited for, PATIENCE_S at most. Raises what `train`
    raises.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as held:
        resumed, recipe, path, problems = open_checked(learner, recipe, out, resume, held, trust_code, rewards)
        run = resumed
        if resumed is None and is_first_process():
            check_disk(recipe, path)
            run = create_run(recipe, path, held, rename=out is None)
        phases = Phases(run if is_first_process() else None)
        signals = held.enter_context(Signals())
        held.enter_context(phases.errors_told())
        phases.begin("importing")
        try:
            setup = learner.prepare(recipe, problems, resumed, loaded, phases, held)
        except Stopped:
            if run is None:  # of another process than the first
                raise
            phases.end("stopped", "a signal")
            info(f"Stopped while {phases.now.doing}. Go on with: {run.resume_command}", even_quiet=True)
            return run
        if resumed is None:  # around midnight the processes may have chosen two names
            run = Run(broadcast_from_main(run.path if run is not None else path))
        assert run is not None
        if is_main_process():
            keep_recipe(run, setup.kept_recipe)
            keep_environment(run, setup.recipe, setup.device)

        from grpo_colab.training.checkpointing import CheckpointManager  # it needs transformers, which unsloth precedes

        deadline = began + 3600 * (recipe.budget.max_hours or math.inf)
        mirror = None
        if recipe.budget.mirror and is_main_process():
            mirror = Mirror(run.path, recipe.budget.mirror, recipe.budget.mirror_minutes)
        manager = CheckpointManager(run, setup.recipe, signals, deadline, mirror)
        learn_and_evaluate(learner, setup, run, manager, phases)
        if run.finished:
            phases.end("finished")
        else:
            phases.end("stopped", manager.stopped_by)
        learner.say_the_end(run, setup.recipe, manager)
    return run


def learn_and_evaluate(
    learner: Learner[SetupT], setup: SetupT, run: Run, manager: CheckpointManager, phases: Phases
) -> None:
    """Evaluate, learn, and evaluate again, until the end or a signal; then wait for the copy in a mirror.

    `manager.stopped_by` says afterwards what stopped the run, if anything did. Raises what `train` raises.
    """
    try:
        before = evaluate_baseline(setup, run, manager, phases)
        if learner.says_accuracy:
            say_accuracy("Before:", before, setup.task)
        phases.begin("training")
        outcome = learner.learn(setup, run, manager)
        if outcome.step and broadcast_from_main(manager.signals.count) < 2:
            after = {split: answer_held_out(setup, split, phases, before=False) for split in before}
            if is_main_process():
                finish(run, setup, before, after, outcome)
            if learner.says_result:
                say_accuracy("After: ", after, setup.task)
    except Stopped:  # a signal came while there was nothing to save
        manager.stopped_by = manager.stopped_by or "a signal"
    finally:
        with contextlib.suppress(Stopped):
            if manager.mirror is not None and (behind := manager.mirror.finish(PATIENCE_S)):
                warn(f"{behind}. To try again: {manager.mirror.command}")


def try_out(
    learner: Learner[SetupT],
    recipe: Recipe | None,
    *,
    rewards: Rewards | None,
    out: str | Path | None,
    resume: str | Path | bool | None,
    loaded: Policy | None,
    trust_code: bool,
) -> None:
    """Do what comes before the first step of a run, and print how long it took. The arguments are those of `train`.

    The folder of a run to resume is locked meanwhile, and nothing is written to it. Raises what `train` raises.
    """
    with contextlib.ExitStack() as held:
        resumed, recipe, path, problems = open_checked(learner, recipe, out, resume, held, trust_code, rewards)
        if resumed is None and is_first_process():
            check_disk(recipe, path)
        began = time.monotonic()
        learner.prepare(recipe, problems, resumed, loaded, Phases(), held)
        took = clock(time.monotonic() - began)
        info(
            f"Dry run: the run could begin after {took} min. Nothing was learned, and no run folder was written. Leave "
            "out --dry-run (dry_run=True in Python) to train.",
            even_quiet=True,
        )


def open_checked(
    learner: Learner[SetupT],
    recipe: Recipe | None,
    out: str | Path | None,
    resume: str | Path | bool | None,
    held: contextlib.ExitStack,
    trust_code: bool,
    rewards: Rewards | None,
) -> tuple[Run | None, Recipe, Path, Problems]:
    """Return what `open_run` returns, and the problems that the learner has checked, before anyone has to trust code.

    Prints what is begun. Raises SettingError for what cannot work.
    """
    check_import_order()
    found: list[Problems] = []

    def check(recipe: Recipe) -> None:
        info(f"grpo_colab {own_version()}: {recipe.name} (task {recipe.task['name']}, {recipe.model['model_name']})")
        found.append(learner.check(recipe))

    run, recipe, path = open_run(recipe, out, resume, held, trust_code, check, rewards)
    return run, recipe, path, found[0]


def create_run(recipe: Recipe, path: Path, held: contextlib.ExitStack, rename: bool) -> Run:
    """Create and lock the run folder, and return the run. Only the first process calls this.

    The lock is held until `held` is closed. What a run that never began has left there is deleted. With `rename`, take
    the next free name if another run, started at the same time, has taken `path` meanwhile. Raises SettingError for a
    folder that is not empty, is locked or cannot be written.
    """
    while rename and path.exists() and not is_free_again(path):
        path = free_path(recipe)
    held.enter_context(locked(path))
    with unwritable_refused("--out", path, "choose another folder"):
        clear(path)
    return Run.create(recipe, path)


def finish(run: Run, setup: Setup, before: Answers, after: Answers, outcome: Outcome) -> None:
    """Write the trained policy's answers, the pictures, the report, the adapter's card, and evaluation.json.

    evaluation.json is last, since it marks the run as finished. Raises SettingError where the run folder cannot be
    written.
    """
    from grpo_colab.reporting import draw_drawings, draw_rewards, write_report

    evaluation = evaluate.comparisons(setup.recipe, setup.task, before, after, outcome.step)
    if outcome.solved is not None:
        evaluation["solved"] = outcome.solved
    with writing_to(run):
        for split, rows in after.items():
            run.write_lines(evaluate.answers_file(evaluate.AFTER, split), rows)
        draw_rewards(run, evaluation)
        draw_drawings(run)
        write_report(run, evaluation)
        write_card(run.adapter, setup.recipe, evaluation)
        run.write_json("evaluation.json", evaluation)  # last: it marks the run as finished
