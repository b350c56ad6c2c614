"""`train(recipe)`: a recipe goes in, a run folder with a trained and evaluated adapter comes out.

The one place where all meet. The training itself is `trl.GRPOTrainer`, whatever class that name holds once Unsloth has
patched it; loading is Unsloth's. Here is only the order of things.
"""

from __future__ import annotations

import contextlib
import math
import pickle
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from grpo_colab import checkpoints, evaluate, evaluation_statistics, policy, records
from grpo_colab.console import say
from grpo_colab.errors import SettingError, one_line
from grpo_colab.machine import Machine, this_machine
from grpo_colab.mirror import PATIENCE_S, Mirror
from grpo_colab.plan import GIB, Geometry, Unplanned, answers_at_once, geometry, plan
from grpo_colab.pretraining import pretrained
from grpo_colab.recipe import Recipe
from grpo_colab.rewards import RewardError, call_reward, guard
from grpo_colab.run import Run, free_path, writing_to
from grpo_colab.run_environment import keep_environment
from grpo_colab.run_lock import locked
from grpo_colab.run_resume import keep_recipe, open_run, rewind_to_checkpoint
from grpo_colab.tables import without_keys
from grpo_colab.tasks import Problem, Task, reward_columns
from grpo_colab.tracking import check_trackers, shield, table_arguments, tracked

if TYPE_CHECKING:
    from grpo_colab.safety import Keeper
    from grpo_colab.tripwires import Tripped

# Rewards that must pay a golden completion in full; the others judge by length or by another form.
GOLDEN = ["correctness", "exact_answer", "soft_correctness", "integer", "strict_format", "soft_format", "tag_count"]


def train(
    recipe: Recipe | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | bool | None = None,
    loaded: policy.Policy | None = None,
    trust_code: bool = False,
) -> Run:
    """Train `recipe` (the CPU default for None) and evaluate it before and after; returns the run.

    `out` chooses the run folder (runs/<date>-<recipe> otherwise). `resume` goes on with a run that was stopped, killed
    or cut, from its last whole checkpoint: a run folder, or a copy in a mirror; with its own recipe, or with `recipe`,
    whose task, model and adapter must be the same. True looks for an unfinished run of the recipe, as None does in a
    notebook. `loaded` brings a policy that is loaded already, adapter and all. `trust_code` lets run what a recipe's
    file, a run folder or a mirror names of others' code; once is enough. Raises SettingError for what cannot work,
    before anything is downloaded or written.
    """
    began = time.monotonic()
    with contextlib.ExitStack() as held:
        run, recipe, path = open_run(recipe, out, resume, held, trust_code)
        machine = this_machine()
        geometry(recipe, machine.processes)  # whether the step divides at all; how, the plan says
        policy.check_import_order()
        task = recipe.load_task()
        problems = training_problems(task, recipe)
        held_out = evaluate.evaluation_problems(task, recipe)

        import_stack(recipe, task, machine)
        check_arguments(recipe, machine)
        recipe, loading, shape = fitting(recipe, machine, loaded, resumed=run is not None)
        say(f"Loading {recipe.model['model_name']} on {machine.name} ...")
        learner = loaded or policy.load_policy(loading, machine, pretrained(recipe, machine, run))
        rows, longest = prompt_rows(learner, task, recipe, problems)
        held_out = evaluate.fitting_problems(learner, recipe, task, held_out)
        check_rewards(learner, task, recipe, problems)

        say(f"{shape}. {coverage(recipe, len(rows), len(problems) - len(rows))}")
        from grpo_colab.headroom import rehearse  # needs transformers, which unsloth must precede

        shape, portion = rehearse(
            learner,
            recipe.budget.max_steps - (run.last_step if run else 0),
            recipe,
            shape,
            longest,
            lambda out, cut: grpo_arguments(recipe, out, cut, machine),
        )
        at_once = agreed(answers_at_once(recipe, learner.model.config, machine.free_bytes))
        if run is None:
            run = new_run(recipe, path, out is None, shape, held)
        if is_main_process():
            keep_recipe(run, recipe, shape)
            keep_environment(run, recipe, machine)

        from grpo_colab.safety import Keeper, Signals, Stopped

        mirror = Mirror(run.path, recipe.budget.mirror) if recipe.budget.mirror and is_main_process() else None
        signals = held.enter_context(Signals())
        keeper = Keeper(run, recipe, signals, began + 3600 * (recipe.budget.max_hours or math.inf), mirror)
        try:
            before = answer_before(run, keeper, learner, recipe, task, held_out, at_once)
            say(f"Before: {described(before)}")
            with tracked(run, recipe):
                step = learn(learner, run, recipe, shape, machine, rows, portion, keeper)
            if step and agreed(signals.count) < 2:
                after = evaluate.answer(learner, recipe, task, held_out, at_once)
                if is_main_process():
                    finish(run, recipe, before, after, step, run.solved)
                say(f"After:  {described(after)}")
        except Stopped:  # in an evaluation
            pass
        finally:
            with contextlib.suppress(Stopped):
                if mirror is not None and (behind := mirror.finish(PATIENCE_S)):
                    say(f"Warning: {behind}. To try again: {mirror.command}")
        say_the_end(run, recipe, keeper)
    return run


def say_the_end(run: Run, recipe: Recipe, keeper: Keeper) -> None:
    """That all is done, or what is left and how to go on."""
    if run.finished:
        if recipe.budget.stop_at_reward is not None:
            say(f"Solved in step {run.last_step}." if run.solved else f"Not solved in {run.last_step} steps.")
        say(f"Everything is in {run.path}")
        return
    steps, done = recipe.budget.max_steps, run.last_step
    left = f"; {steps - done} steps are left" if done < steps else "; only its evaluation is left"
    hours = (steps - done) * max(keeper.steps_s, default=0.0) / 3600
    time_left = f", about {hours:.1f} h" if hours >= 0.1 else f", about {60 * hours:.0f} min" if hours else ""
    why = f" by {keeper.stopped_by}" if keeper.stopped_by else ""
    last = run.last_checkpoint()
    if keeper.unsaved:
        say(f"Warning: no checkpoint since {last.name if last else 'the beginning'}: {keeper.unsaved}")
    say(f"Stopped{why} after step {done} of {steps}{left}{time_left}. Go on with: {run.resume_command}")


def learn(
    learner: policy.Policy,
    run: Run,
    recipe: Recipe,
    shape: Geometry,
    machine: Machine,
    rows: list[dict[str, Any]],
    portion: int,
    keeper: Keeper,
) -> int:
    """Train, with ever smaller micro-batches where memory asks for it; returns the step that the adapter is of."""
    from grpo_colab.headroom import dismiss, smaller

    while True:
        trainer = make_trainer(learner, run, recipe, shape, machine, rows, portion, keeper)
        step = train_on(trainer, run, learner, shape, keeper)
        if step is not None:
            return step
        portion = trainer.at_once
        dismiss(trainer)
        del trainer  # and with it all that it holds, before another is made
        shape = smaller(shape, recipe)
        say(f"Going on from step {run.last_step}.")
        keep_recipe(run, recipe, shape)


def train_on(trainer: Any, run: Run, learner: policy.Policy, shape: Geometry, keeper: Keeper) -> int | None:
    """Train from the run's newest whole checkpoint, or from the start; returns the step that the saved adapter is of.

    None where it was out of memory, and can go on with a smaller micro-batch. A reward that breaks, or a tripwire,
    ends it with a SettingError, after a checkpoint of the last whole step.
    """
    from grpo_colab.headroom import can_be_cut, too_large
    from grpo_colab.safety import LastStep, Stopped
    from grpo_colab.tripwires import Tripwires

    with writing_to(run):
        checkpoint = agreed(rewind_to_checkpoint(run) if is_main_process() else None)
    if checkpoint is not None and (run.solved or checkpoints.step_of(checkpoint) >= trainer.args.max_steps):
        learner.load_adapter(checkpoint)  # only the evaluation is missing; the trainer would add a step to a full run
        save_adapter(run, learner)
        return checkpoints.step_of(checkpoint)
    last_step = LastStep(run.checkpoints)
    wires = Tripwires(keeper.recipe.tripwires, run, learner)
    wires.trainer = trainer
    for callback in (last_step, keeper, wires):
        trainer.add_callback(callback)
    with keeper.signals.in_training():
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except (Exception, Stopped) as error:
            # whether the weights are still those of the last whole step, whatever has gone wrong
            whole = keeper.signals.breakable or isinstance(error, Stopped)
            keeper.signals.breakable = False
            trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)  # as the trainer would
            tripped = wires.explain(error) if isinstance(error, RuntimeError) else wires.tripped
            if tripped is not None:
                whole = tripped.record["last_good_step"] == trainer.state.global_step
            if whole or isinstance(error, RewardError):
                last_step.save(trainer, together=tripped is not None)
            if isinstance(error, pickle.UnpicklingError) and checkpoint is not None:
                what = f"{checkpoint.name} holds what is no checkpoint's ({one_line(error)})"
                raise run.error(what, f"remove it, and go on with: {run.resume_command}") from None
            if isinstance(error, RewardError):
                raise RewardError(f"{error}; once it is mended: {run.resume_command}", error.record) from error
            if policy.out_of_memory(error):
                known = whole or run.last_checkpoint() is not None  # with which weights to go on
                if known and can_be_cut(shape):
                    return None
                raise too_large(error, shape, learner, run) from error
            if tripped is None and not isinstance(error, Stopped):
                error.add_note(f"Once it is mended: {run.resume_command}")
                raise
            keeper.stopped_by = "a signal"
    if wires.tripped is not None:
        raise at_last_good(wires.tripped, run)
    step = int(trainer.state.global_step)
    if step:
        save_adapter(run, learner)
    return step


def at_last_good(tripped: Tripped, run: Run) -> Tripped:
    """The error of a tripwire with the checkpoint to go on from; those of weights that were spoilt are set aside."""
    if is_main_process():
        checkpoints.set_aside(run.checkpoints, after=tripped.record["last_good_step"])
    last = run.last_checkpoint()
    kept = f"the last good checkpoint is {last.name}" if last else "there was no checkpoint before it"
    text = f"{tripped}; {kept}. Go on, with the setting that you choose behind it: {run.resume_command}"
    return type(tripped)(text, tripped.record)


def save_adapter(run: Run, learner: policy.Policy) -> None:
    """The adapter, and the proof that it is what was trained; what is wrong with it is said, and kept as a warning."""
    if not is_main_process():
        return
    with writing_to(run):
        (run.path / "evaluation.json").unlink(missing_ok=True)  # of an earlier stop: it must be of this adapter
        learner.save(run.adapter)
    rows, learnt = run.completions()[-4:], any(row.get("grad_norm") for row in run.metrics())
    why = "" if learnt else "; no step had a gradient, since in no group did the rewards differ"
    troubles = learner.prove(run.adapter, [(row["prompt"], row["completion"]) for row in rows])
    for trouble in troubles:
        say(f"WARNING: the saved adapter: {trouble}{why}")
    step = rows[-1]["step"] if rows else 0
    if troubles:
        run.append("warnings.jsonl", [{"step": step, "kind": "adapter", "text": text} for text in troubles])


def fitting(
    recipe: Recipe, machine: Machine, loaded: policy.Policy | None, resumed: bool
) -> tuple[Recipe, Recipe, Geometry]:
    """The recipe to keep, the one to load by, and the step's geometry, as they fit this machine.

    They differ in [model], which is kept as it was asked for, since another machine may fit it otherwise. SettingError
    for what cannot fit, before any weights are here.
    """
    if loaded:
        return recipe, recipe, agreed(geometry(recipe, machine.processes, loaded.model.config, machine.free_bytes))
    try:
        planned = agreed(plan(recipe))
        if resumed and planned.fits != "yes":  # its micro-batch was chosen where it began, which may have been larger
            anew = recipe.budget.model_copy(update={"micro_batch": 0})
            planned = agreed(plan(recipe.model_copy(update={"budget": anew})))
    except Unplanned as error:
        say(f"Without a plan of its memory: {error}")
        return recipe, recipe, geometry(recipe, machine.processes)
    needs = f"{planned.bytes / GIB:.1f} of the {planned.memory / GIB:.1f} GiB of {planned.device}"
    if planned.fits == "no":
        raise SettingError(
            f"model.model_name = {recipe.model['model_name']!r}: needs {needs}, by `grpo-colab plan`; make it fit by "
            f"{'; or '.join(planned.advice)}"
        )
    tight = "; it may not fit, and is cut further if it does not" if planned.fits == "tight" else ""
    say(f"It takes about {needs}{tight}; {planned.time}.")
    for setting, value, why in planned.chosen:
        if setting != "budget.micro_batch":  # which is said with the step
            say(f"Chosen: {setting} = {value} ({why})")
    return recipe.model_copy(update={"grpo": planned.recipe.grpo}), planned.recipe, planned.shape


def training_problems(task: Task, recipe: Recipe) -> list[Problem]:
    problems = task.problems("train", recipe.prompts.limit)
    if not problems:
        raise SettingError(f"task.name = {task.name!r}: it has no problem to train on")
    return problems


def prompt_rows(
    learner: policy.Policy, task: Task, recipe: Recipe, problems: Sequence[Problem]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The data set's rows (prompt and the rewards' columns), without those that are too long; and the longest one."""
    limit = recipe.prompts.max_prompt_tokens
    columns = reward_columns(problems)
    rows = [
        {"prompt": task.messages(problem), **{name: values[index] for name, values in columns.items()}}
        for index, problem in enumerate(problems)
    ]
    tokens = [learner.prompt_tokens(row["prompt"]) for row in rows]
    fitting = [(row, size) for row, size in zip(rows, tokens, strict=True) if size <= limit]
    if not fitting:
        raise SettingError(
            f"task.max_prompt_tokens = {limit}: every prompt is longer; the shortest has {min(tokens)} tokens"
        )
    return [row for row, _ in fitting], max(fitting, key=lambda pair: pair[1])[0]


def check_rewards(learner: policy.Policy, task: Task, recipe: Recipe, problems: Sequence[Problem]) -> None:
    """A golden completion must earn full marks from each of the package's rewards, after its way through the tokenizer.

    A reward that cannot be earned is the commonest reason for a run that learns nothing. A user's own reward has no
    known maximum; the guard asks it for a finite number or None.
    """
    golden = next((problem for problem in problems if problem.answer.strip().lstrip("-").isdigit()), problems[0])
    text = task.golden_completion(golden)
    tokens = learner.tokenizer(text, add_special_tokens=False)["input_ids"]
    text = learner.tokenizer.decode(tokens, skip_special_tokens=True)
    columns = reward_columns([golden])
    for name, function in zip(recipe.rewards, recipe.reward_functions(), strict=True):
        paid = call_reward(function, [task.messages(golden)], [text], [tokens], columns)
        if name in GOLDEN and paid[0] != 1.0:
            raise SettingError(
                f"rewards.{name}: pays {paid[0]} of 1.0 for a golden completion, so the policy could never earn it; "
                f"take it out with {name} = false, or change the task's format. The completion was {text!r}"
            )
        if name.startswith(("think_format", "strict_format", "soft_format", "tag_count")) and not paid[0]:
            say(f"Warning: rewards.{name} pays nothing for {text!r}, which is the form that the task asks for")


def coverage(recipe: Recipe, rows: int, too_long: int) -> str:
    """How much of the training set the run sees."""
    steps = recipe.budget.max_steps
    seen = steps * recipe.budget.prompts_per_step
    left_out = f"; {too_long} left out as longer than {recipe.prompts.max_prompt_tokens} tokens" if too_long else ""
    share = f"{seen / rows:.0%} of {rows}" if seen < rows else f"each of {rows} {seen / rows:.1f} times"
    return f"{steps} steps see {seen} prompts ({share}{left_out})."


def check_arguments(recipe: Recipe, machine: Machine) -> None:
    """Let TRL look at its arguments before a model is loaded; SettingError with what it says of them."""
    import trl

    if recipe.hindsight and recipe.hindsight.method != "grpo":
        raise SettingError(
            f"hindsight.method = {recipe.hindsight.method!r}: is for `grpo-colab draw`, not for training"
        )
    check_trackers(recipe.grpo)
    arguments = grpo_arguments(recipe, Path("checkpoints"), geometry(recipe, machine.processes), machine)
    try:
        trl.GRPOConfig(**arguments)
    except (ValueError, TypeError, KeyError, ImportError) as error:
        raise SettingError(f"[grpo]: TRL refuses it ({one_line(error)})") from error


T = TypeVar("T")


def agreed(value: T) -> T:
    """The main process's value in all of them: each may see another amount of free memory."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def new_run(recipe: Recipe, path: Path, elsewhere: bool, shape: Geometry, held: contextlib.ExitStack) -> Run:
    """The run folder, made and locked by the main process; its recipe.toml holds the micro-batch that was chosen.

    When `path` was taken meanwhile, by a run that began at the same time, `elsewhere` allows the next free name.
    """
    if is_main_process():
        budget = recipe.budget.model_copy(update={"micro_batch": shape.micro_batch})
        while elsewhere and path.exists():
            path = free_path(recipe)
        held.enter_context(locked(path))
        Run.create(recipe.model_copy(update={"budget": budget}), path)
    return Run(agreed(path))  # two processes may have read the clock on two days


def import_stack(recipe: Recipe, task: Task, machine: Machine) -> None:
    """Import Unsloth, after it the rewards, whose modules may import what must follow it, and meet other processes."""
    policy.import_unsloth()
    recipe.check_rewards(task.reward_columns())
    join_processes(machine)


def join_processes(machine: Machine) -> None:
    """Meet the other processes that torchrun started, over gloo on the CPU; alone, this does nothing.

    accelerate's state is made once for a process and shared by all who ask for it later, the trainer among them.
    """
    from accelerate import PartialState

    PartialState(cpu=machine.kind == "cpu")
    if machine.kind == "cpu" and machine.processes > 1:
        from torch.serialization import register_package

        # where transformers loads a checkpoint's optimiser to in each process, and torch knows no such place
        register_package(100, lambda storage: None, lambda storage, place: storage if place == "cpu:0" else None)


def is_main_process() -> bool:
    from accelerate import PartialState

    return PartialState().is_main_process


def make_trainer(
    learner: policy.Policy,
    run: Run,
    recipe: Recipe,
    shape: Geometry,
    machine: Machine,
    rows: list[dict[str, Any]],
    portion: int,
    keeper: Keeper,
) -> Any:
    """trl.GRPOTrainer with the recipe's arguments, those that follow from it, and the callbacks.

    `portion` is how many completions it generates together at first, 0 for all of a step's.
    """
    import trl
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    from grpo_colab.callbacks import Alarms, RunLog, UntilSolved, prompt_key
    from grpo_colab.headroom import portioned
    from grpo_colab.progress import Progress
    from grpo_colab.safety import kept_by
    from grpo_colab.timing import timed

    # the sampler draws whole steps of different prompts, so that fewer rows than that would give no step at all
    repeated = rows * math.ceil(recipe.budget.prompts_per_step / len(rows))
    log = RunLog(run, {prompt_key(row["prompt"]): row["answer"] for row in rows})
    trainer = kept_by(keeper, learner, timed(portioned(trl.GRPOTrainer, portion)))(
        model=learner.model,
        processing_class=learner.tokenizer,
        reward_funcs=[guard(function, run.save_failure) for function in recipe.reward_functions()],
        args=trl.GRPOConfig(**grpo_arguments(recipe, run.checkpoints, shape, machine)),
        train_dataset=Dataset.from_list(repeated),
        callbacks=[log, Alarms(run), UntilSolved(recipe.budget.stop_at_reward), Progress(run)],
    )
    log.trainer = trainer
    shield(trainer)
    trainer.remove_callback(PrinterCallback)  # prints each step's dict; Progress shows the same to a person
    return trainer


def grpo_arguments(recipe: Recipe, output: Path, shape: Geometry, machine: Machine) -> dict[str, Any]:
    """GRPOConfig's arguments: defaults that suit a run folder, the recipe's own, and what follows from the rest."""
    defaults: dict[str, Any] = {
        "save_strategy": "steps",
        "save_steps": 20,
        "save_total_limit": 2,
        "metric_for_best_model": "reward",
        "logging_nan_inf_filter": False,  # it shows the loss before instead of NaN, and hides it from the tripwire
        "report_to": "none",
        **table_arguments(recipe.grpo),
        "disable_tqdm": True,
        "bf16": False,  # with neither, Unsloth's trainer takes the precision of the model that it loaded
        "fp16": False,
        "use_cpu": machine.kind == "cpu",
        "ddp_find_unused_parameters": False,  # every matrix of an adapter is in every forward pass
    }
    derived: dict[str, Any] = {
        "output_dir": str(output),
        "max_steps": recipe.budget.max_steps,
        "reward_weights": list(recipe.rewards.values()),
        "logging_steps": 1,
        **shape.as_grpo(),
    }
    # without tokens: the trainer writes its arguments into every checkpoint
    return {**defaults, **without_keys(recipe.grpo), **derived}


def answer_before(
    run: Run,
    keeper: Keeper,
    learner: policy.Policy,
    recipe: Recipe,
    task: Task,
    held_out: list[Problem],
    at_once: int,
) -> list[records.AnswerRow]:
    """What the untrained policy answers; a resumed run, whose policy is untrained no more, has it in its folder."""
    rows = run.answers(evaluate.BEFORE)
    if [row["question"] for row in rows] != [problem.question for problem in held_out]:
        began = time.monotonic()
        rows = evaluate.answer(learner, recipe, task, held_out, at_once)
        if is_main_process():
            with writing_to(run):
                run.write_lines(evaluate.BEFORE, rows)
            keeper.learnt(evaluation_s=time.monotonic() - began)
    return rows


def finish(
    run: Run,
    recipe: Recipe,
    before: Sequence[records.AnswerRow],
    after: Sequence[records.AnswerRow],
    step: int,
    solved: bool | None,
) -> None:
    """evaluation.json, the pictures and the report. `solved` is None where nothing was to be solved."""
    from grpo_colab.report import draw_drawings, draw_rewards, write_report

    evaluation = evaluate.comparison(recipe, before, after, step)
    if solved is not None:
        evaluation["solved"] = solved
    with writing_to(run):
        run.write_lines(evaluate.AFTER, after)
        draw_rewards(run, evaluation)
        draw_drawings(run)
        write_report(run, evaluation)
        run.write_json("evaluation.json", evaluation)  # last: it ends the run


def described(rows: Sequence[records.AnswerRow]) -> str:
    if len(rows) == 1:  # one image, or one example: there is no share of it
        return f"answered greedily, {'right' if rows[0]['right'] else 'wrong'} ({rows[0]['verdict']})"
    side = evaluation_statistics.summary(rows)
    low, high = side["ci95"]
    return (
        f"{side['accuracy']:.1%} of {len(rows)} held-out problems right (95 % interval {low:.1%} to {high:.1%}; "
        f"{side['lenient_accuracy']:.1%} by the last number alone)"
    )
