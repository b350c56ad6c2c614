"""`train(recipe)`: a recipe goes in, a run folder with a trained and evaluated adapter comes out.

The one place where all meet. The training itself is `trl.GRPOTrainer`, whatever class that name holds once Unsloth has
patched it; loading is Unsloth's. Here is only the order of things.
"""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from grpo_colab import evaluate, policy
from grpo_colab.errors import SettingError, one_line
from grpo_colab.plan import Geometry, Machine, answers_at_once, check_disk, geometry, this_machine
from grpo_colab.recipe import Recipe
from grpo_colab.rewards import RewardError, guard
from grpo_colab.run import Run, check_free, free_path, read_lines
from grpo_colab.tasks import Problem, Task

# Rewards that must pay a golden completion in full; the others judge by length or by another form.
GOLDEN = ["correctness", "exact_answer", "soft_correctness", "integer", "strict_format", "soft_format", "tag_count"]
# What shapes a run and is worth a line in environment.json.
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "bitsandbytes", "unsloth", "unsloth_zoo")


def train(
    recipe: Recipe | None = None,
    *,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    loaded: policy.Policy | None = None,
) -> Run:
    """Train `recipe` (the CPU default for None) and evaluate it before and after; returns the finished run.

    `out` chooses the run folder (runs/<date>-<recipe> otherwise). `resume` goes on with a run that was stopped, from
    its last checkpoint and with its own recipe. `loaded` brings a policy that is loaded already, adapter and all.
    Raises SettingError for what cannot work, before anything is downloaded or written.
    """
    run = Run(resume) if resume is not None else None
    if run is not None and run.evaluation is not None:
        raise SettingError(f"--resume {str(resume)!r}: is finished, and evaluated; start another with --out")
    recipe = run.recipe if run else recipe or Recipe.load()
    path = run.path if run else Path(out) if out else free_path(recipe)
    if run is None and int(os.environ.get("RANK", "0")) == 0:
        check_free(path)
        check_disk(recipe, path)
    machine = this_machine()
    geometry(recipe, machine.processes)  # whether the step divides at all; how, when the model has its memory
    policy.check_import_order()
    task = recipe.load_task()
    problems = training_problems(task, recipe)
    held_out = evaluate.evaluation_problems(task, recipe)

    say(f"Loading {recipe.model['model_name']} on {machine.name} ...")
    policy.import_unsloth()
    join_processes(machine)
    check_arguments(recipe, path, machine)
    learner = loaded or policy.load_policy(recipe, machine)
    rows, too_long = prompt_rows(learner, task, recipe, problems)
    held_out = evaluate.fitting_problems(learner, recipe, task, held_out)
    check_rewards(learner, task, recipe, problems)

    shape = agreed(geometry(recipe, machine.processes, learner.model.config, machine.free_bytes))
    at_once = agreed(answers_at_once(recipe, learner.model.config, machine.free_bytes))
    say(f"{shape}. {coverage(recipe, len(rows), too_long)}")
    run = run or open_run(recipe, path, shape, machine)
    trainer = make_trainer(learner, run, recipe, shape, machine, rows)
    before = answer_before(run, learner, recipe, task, held_out, at_once)
    say(f"Before: {described(before)}")

    finished = train_on(trainer, run, learner, recipe)
    if is_main_process():
        learner.save(run.adapter)
    if not finished:
        step = trainer.state.global_step
        say(f"Stopped after step {step} of {recipe.budget.max_steps}; go on with: grpo-colab train --resume {run.path}")
        return run

    after = evaluate.answer(learner, recipe, task, held_out, at_once)
    if is_main_process():
        finish(run, recipe, before, after)
    say(f"After:  {described(after)}\nEverything is in {run.path}")
    return run


def train_on(trainer: Any, run: Run, learner: policy.Policy, recipe: Recipe) -> bool:
    """Train from the run's last checkpoint, or from the start; whether all steps are done, which Ctrl-C may prevent.

    A reward that breaks ends it with RewardError, after a checkpoint of the last whole step.
    """
    from grpo_colab.callbacks import LastStep, StopOnInterrupt  # needs transformers, which unsloth must precede

    checkpoint = run.last_checkpoint()
    done = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    if is_main_process():
        run.forget_after(done)
    if checkpoint is not None and done >= recipe.budget.max_steps:
        learner.load_adapter(checkpoint)  # only the evaluation is missing; the trainer would add a step to a full run
        return True
    with StopOnInterrupt() as interrupt:
        trainer.add_callback(interrupt)
        last_step = LastStep()
        trainer.add_callback(last_step)
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except RewardError as error:
            trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)  # as the trainer would
            last_step.save(trainer)
            raise RewardError(
                f"{error}; once it is mended: grpo-colab train --resume {run.path}", error.record
            ) from error
    return trainer.state.global_step >= recipe.budget.max_steps


def training_problems(task: Task, recipe: Recipe) -> list[Problem]:
    problems = task.problems("train", recipe.prompts.limit)
    if not problems:
        raise SettingError(f"task.name = {task.name!r}: it has no problem to train on")
    return problems


def prompt_rows(
    learner: policy.Policy, task: Task, recipe: Recipe, problems: Sequence[Problem]
) -> tuple[list[dict[str, Any]], int]:
    """The data set's rows (prompt and the rewards' columns), and how many prompts were too long and left out."""
    limit = recipe.prompts.max_prompt_tokens
    columns = evaluate.reward_columns(problems)
    rows = [
        {"prompt": task.messages(problem), **{name: values[index] for name, values in columns.items()}}
        for index, problem in enumerate(problems)
    ]
    fitting = [row for row in rows if learner.prompt_tokens(row["prompt"]) <= limit]
    if not fitting:
        shortest = min(learner.prompt_tokens(row["prompt"]) for row in rows)
        raise SettingError(
            f"task.max_prompt_tokens = {limit}: every prompt is longer; the shortest has {shortest} tokens"
        )
    return fitting, len(rows) - len(fitting)


def check_rewards(learner: policy.Policy, task: Task, recipe: Recipe, problems: Sequence[Problem]) -> None:
    """A golden completion must earn full marks from each of the package's rewards, after its way through the tokenizer.

    A reward that cannot be earned is the commonest reason for a run that learns nothing. A user's own reward has no
    known maximum; the guard asks it for a finite number or None.
    """
    golden = next((problem for problem in problems if problem.answer.strip().lstrip("-").isdigit()), problems[0])
    text = task.golden_completion(golden)
    tokens = learner.tokenizer(text, add_special_tokens=False)["input_ids"]
    text = learner.tokenizer.decode(tokens, skip_special_tokens=True)
    columns = evaluate.reward_columns([golden])
    for name, function in zip(recipe.rewards, recipe.reward_functions(), strict=True):
        paid = evaluate.call_reward(function, [task.messages(golden)], [text], [tokens], columns)
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


def check_arguments(recipe: Recipe, path: Path, machine: Machine) -> None:
    """Let TRL look at its arguments before a model is loaded; SettingError with what it says of them."""
    import trl

    arguments = grpo_arguments(recipe, path / "checkpoints", geometry(recipe, machine.processes), machine)
    try:
        trl.GRPOConfig(**arguments)
    except (ValueError, TypeError, KeyError, ImportError) as error:
        raise SettingError(f"[grpo]: TRL refuses it ({one_line(error)})") from error


T = TypeVar("T")


def agreed(value: T) -> T:
    """The main process's value in all of them: each may see another amount of free memory."""
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]


def open_run(recipe: Recipe, path: Path, shape: Geometry, machine: Machine) -> Run:
    """The run folder, made by the main process; its recipe.toml holds the micro-batch that was chosen, too."""
    from accelerate import PartialState

    if is_main_process():
        budget = recipe.budget.model_copy(update={"micro_batch": shape.micro_batch})
        run = Run.create(recipe.model_copy(update={"budget": budget}), path)
        run.write_json("environment.json", environment(recipe, machine))
    PartialState().wait_for_everyone()
    return Run(agreed(path))  # two processes may have read the clock on two days


def join_processes(machine: Machine) -> None:
    """Meet the other processes that torchrun started, over gloo on the CPU; alone, this does nothing.

    accelerate's state is made once for a process and shared by all who ask for it later, the trainer among them.
    """
    from accelerate import PartialState

    PartialState(cpu=machine.kind == "cpu")


def is_main_process() -> bool:
    from accelerate import PartialState

    return PartialState().is_main_process


def say(text: str) -> None:
    """Chatter, on stderr and once: results alone go to stdout."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(text, file=sys.stderr, flush=True)


def environment(recipe: Recipe, machine: Machine) -> dict[str, Any]:
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


def make_trainer(
    learner: policy.Policy, run: Run, recipe: Recipe, shape: Geometry, machine: Machine, rows: list[dict[str, Any]]
) -> Any:
    """trl.GRPOTrainer with the recipe's arguments, those that follow from it, and the callbacks."""
    import trl
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback

    from grpo_colab.callbacks import Alarms, Progress, RunLog, prompt_key

    # the sampler draws whole steps of different prompts, so that fewer rows than that would give no step at all
    repeated = rows * math.ceil(recipe.budget.prompts_per_step / len(rows))
    log = RunLog(run, {prompt_key(row["prompt"]): row["answer"] for row in rows})
    trainer = trl.GRPOTrainer(
        model=learner.model,
        processing_class=learner.tokenizer,
        reward_funcs=[guard(function, run.save_failure) for function in recipe.reward_functions()],
        args=trl.GRPOConfig(**grpo_arguments(recipe, run.checkpoints, shape, machine)),
        train_dataset=Dataset.from_list(repeated),
        callbacks=[log, Progress(), Alarms(run)],
    )
    log.trainer = trainer
    trainer.remove_callback(PrinterCallback)  # prints each step's dict; Progress shows the same to a person
    return trainer


def grpo_arguments(recipe: Recipe, output: Path, shape: Geometry, machine: Machine) -> dict[str, Any]:
    """GRPOConfig's arguments: defaults that suit a run folder, the recipe's own, and what follows from the rest."""
    defaults: dict[str, Any] = {
        "save_strategy": "steps",
        "save_steps": 20,
        "save_total_limit": 2,
        "report_to": "none",
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
    return {**defaults, **recipe.grpo, **derived}


def answer_before(
    run: Run, learner: policy.Policy, recipe: Recipe, task: Task, held_out: list[Problem], at_once: int
) -> list[dict[str, Any]]:
    """What the untrained policy answers; a resumed run, whose policy is untrained no more, has it in its folder."""
    rows = read_lines(run.path / evaluate.BEFORE)
    if len(rows) != len(held_out):
        rows = evaluate.answer(learner, recipe, task, held_out, at_once)
        if is_main_process():
            run.write_lines(evaluate.BEFORE, rows)
    return rows


def finish(run: Run, recipe: Recipe, before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    """evaluation.json and the curves."""
    from grpo_colab.report import draw_rewards

    run.write_lines(evaluate.AFTER, after)
    run.write_json("evaluation.json", evaluate.comparison(recipe, before, after))
    draw_rewards(run)


def described(rows: list[dict[str, Any]]) -> str:
    side = evaluate.summary(rows)
    low, high = side["ci95"]
    return (
        f"{side['accuracy']:.1%} of {len(rows)} held-out problems right (95 % interval {low:.1%} to {high:.1%}; "
        f"{side['lenient_accuracy']:.1%} by the last number alone)"
    )
