"""Prepare a GRPO run: check the recipe, fit the step to the device, load the policy, build the training rows.

`check` needs no torch and takes a second. `prepare` imports the libraries, and refuses what it can before the weights
are loaded.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError
from grpo_colab.evaluation import evaluate
from grpo_colab.evaluation.data_summary import data_notes
from grpo_colab.plan import GIB, BatchPlan, CannotEstimate, answers_at_once, plan, plan_batch
from grpo_colab.plan.devices import device_for
from grpo_colab.plan.planner import with_bits
from grpo_colab.policy.asking import Asking
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.policy import Policy
from grpo_colab.policy.templates import check_prompts, load_tokenizer, with_chat_template
from grpo_colab.policy.turns import opened_tag
from grpo_colab.rewards import call_reward
from grpo_colab.rewards.names import parse_reward
from grpo_colab.tasks import column_values
from grpo_colab.tasks.own_tasks import columns_of, need_separate_splits, problems_of
from grpo_colab.text import counted
from grpo_colab.training.checks import check_arguments, check_data, check_fits, check_foreign_rewards, check_sampling
from grpo_colab.training.distributed import broadcast_from_main, join_processes
from grpo_colab.training.pretraining import pretrained
from grpo_colab.training.setup import GRPOSetup, Problems
from grpo_colab.utils.console import info, warn
from grpo_colab.utils.device import Device, current_device, in_notebook, process_count
from grpo_colab.utils.library_output import library_lines_once
from grpo_colab.utils.memory import forget_frames, free_memory
from grpo_colab.utils.stack import import_unsloth

if TYPE_CHECKING:
    from pathlib import Path

    from grpo_colab.plan import Plan
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.runs.run import Run
    from grpo_colab.tasks import Problem, Task
    from grpo_colab.training.phases import Phases

# Rewards that must pay 1.0 for a golden completion. The others judge its length, or another format.
PAYS_GOLDEN = [
    "correctness",
    "math",
    "exact_answer",
    "soft_correctness",
    "integer",
    "strict_format",
    "soft_format",
    "tag_count",
]
# Times the planned memory that a CPU has free where the longest step need not be tried.
SPARE = 2
# Beginnings of the names of format rewards, which should pay a golden completion something.
FORMAT_REWARDS = ("think_format", "strict_format", "soft_format", "tag_count")


def check(recipe: Recipe) -> Problems:
    """Read the problems of the recipe, and check all that needs no heavy import and none of other people's code.

    These are the division of a step, the data, the columns that the rewards need in each row, and the gold answers.
    Raises SettingError for what cannot work.
    """
    plan_batch(recipe, process_count())  # raises for a step that does not divide among the processes
    if recipe.hindsight and recipe.hindsight.method != "grpo":
        raise SettingError(
            "is for `grpo-colab draw`, not for training", setting="hindsight.method", value=recipe.hindsight.method
        )
    task = recipe.load_task()
    problems = training_problems(task, recipe)
    further = evaluate.further_problems(task, recipe)
    held_out, probe = evaluate.evaluation_problems(task, recipe), evaluate.probe_problems(task, recipe)
    found = Problems(task, problems, held_out, further, probe)
    check_sampling(recipe, problems)
    for note in data_notes(task):
        info(note)
    if recipe.evaluation.split != "train":
        need_separate_splits(task, problems, found.all_held_out)
    check_data(recipe, task, problems, found.all_held_out)
    return found


def prepare(
    recipe: Recipe,
    found: Problems,
    run: Run | None,
    loaded: Policy | None,
    phases: Phases,
    held: contextlib.ExitStack,
    dry_run: bool = False,
) -> GRPOSetup:
    """Check the recipe and return the setup of its run, with the policy loaded and the step tried at full length.

    `found` is what `check` returned. `run` is the run to resume, None for a new one. `loaded` is a policy to use
    instead of loading one. Imports Unsloth and the rewards, and prints what is chosen. Unless there is a `loaded`, a
    pre-trained adapter that [pretraining] asks for and that is missing is trained first, but not for a `dry_run`, and
    the policy is closed when `held` is. The step is not tried with budget.rehearsal = false, when no step is left, and
    where a CPU has memory to spare, unless it is a `dry_run`. Raises SettingError for what cannot work,
    PretrainingStopped when a signal ended the pre-training, and RewardError for a reward that breaks on a golden
    completion.
    """
    task, problems = found.task, found.training
    device = import_stack(recipe, task, phases)
    with library_lines_once():
        check_arguments(recipe, device)
    check_foreign_rewards(recipe, problems, found.all_held_out)

    if not loaded:
        recipe = with_chosen_bits(recipe)
    recipe, loading, batch_plan, planned = fit_to_device(recipe, device, loaded, resumed=run is not None)
    tokenizer = loaded.tokenizer if loaded else load_tokenizer(recipe, may_run_code=True)
    check_prompts(recipe, task, [*problems, *found.all_held_out], with_chat_template(recipe, tokenizer))
    _say_opened_tag(recipe, tokenizer)
    adapter = None
    if recipe.pretraining and not (loaded or dry_run):
        phases.begin("pre-training")
        adapter = pretrained(recipe, device, run, problems)
        if adapter is not None:
            info("What is measured before the training has been pre-trained already.")
    policy = policy_of(recipe, loading, device, loaded, adapter, phases, held)
    rows, longest, practised = prompt_rows(policy, task, recipe, problems)
    held_out, further = evaluate.fitting_problems(policy, recipe, task, found.held_out), {}
    for split, more in found.further.items():
        further[split] = evaluate.fitting_problems(policy, recipe, task, more)
    check_rewards(policy, task, recipe, problems)
    info(f"{batch_plan}. {coverage(recipe, len(rows), len(problems) - len(rows))}")

    setup = GRPOSetup(
        recipe=recipe,
        device=device,
        task=task,
        policy=policy,
        held_out=held_out,
        further=further,
        evaluation_batch=1,
        rows=rows,
        problems=practised,
        probe=evaluate.fitting_problems(policy, recipe, task, found.probe) if found.probe else [],
        batch_plan=batch_plan,
    )
    steps_left = recipe.budget.max_steps - (run.last_step if run else 0)
    if recipe.budget.rehearsal and steps_left > 0:
        if planned is not None and has_room_to_spare(planned) and not dry_run:
            info(
                f"The longest step is not tried before: this CPU has {planned.memory / GIB:.1f} GiB free, and it takes "
                f"about {planned.bytes / GIB:.1f}."
            )
        else:
            from grpo_colab.training.memory_fit import dry_run_longest_step

            setup = dry_run_longest_step(setup, longest, phases)
    free_memory()  # what the dry run left in torch's cache would not count as free
    at_once = broadcast_from_main(answers_at_once(recipe, policy.model.config, device.free_bytes))
    return dataclasses.replace(setup, evaluation_batch=at_once)


def _say_opened_tag(recipe: Recipe, tokenizer: Any) -> None:
    """Say that the chat template begins the reasoning itself, which a reward for the format does not see."""
    tag = opened_tag(tokenizer, Asking.of(recipe)) if tokenizer is not None else None
    if tag is not None:
        info(
            f"The chat template opens {tag} itself, so that an answer begins inside it, and no reward sees the opening "
            "tag. For answers that begin with the format's own tags, write grpo.chat_template_kwargs = "
            "{ enable_thinking = false } where the template knows it, or model.chat_template, one without it."
        )


def training_problems(task: Task, recipe: Recipe) -> list[Problem]:
    """Return the task's training problems, task.limit of them at most. Raises SettingError when there is none."""
    problems = problems_of(task, "train", recipe.prompts.limit)
    if not problems:
        raise SettingError("it has no problem to train on", setting="task.name", value=task.name)
    return problems


def import_stack(recipe: Recipe, task: Task, phases: Phases) -> Device:
    """Import Unsloth first, then the recipe's rewards, whose modules may import TRL; then join the other processes.

    Return the device to train on. Raises SettingError when Unsloth is missing or comes too late, and for a reward that
    cannot be imported or called.
    """
    show_import(phases)
    device = current_device()
    recipe.check_rewards(columns_of(task))
    join_processes(device)
    return device


def show_import(phases: Phases) -> None:
    """Import Unsloth and TRL, with a bar where that takes time. Raises SettingError as `import_unsloth` does."""
    if "unsloth" in sys.modules:
        phases.begin("importing")
        import_unsloth()
        return
    title = "Importing torch, Unsloth and TRL"
    with phases.library_stage("importing", title, remember="import"):
        import_unsloth()
        importlib.import_module("trl.trainer.grpo_trainer")  # trl itself imports its parts when they are used


def policy_of(
    recipe: Recipe,
    loading: Recipe,
    device: Device,
    loaded: Policy | None,
    adapter: Path | None,
    phases: Phases,
    held: contextlib.ExitStack,
) -> Policy:
    """Return `loaded` with the recipe's way of asking, or else the policy of the recipe `loading`, loaded now.

    It is loaded with a new adapter, or with the one in the folder `adapter`, and closed when `held` is. Raises
    SettingError as `load_policy` does.
    """
    if loaded:
        return dataclasses.replace(loaded, asking=Asking.of(recipe))
    name = recipe.model["model_name"]
    with phases.library_stage("loading", f"Loading {name} on {device.name}", remember=f"load {name}"):
        policy = load_policy(loading, device, adapter)
    held.push(partial(let_go, policy))
    return policy


def let_go(policy: Policy, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
    """Close a policy at the end of its run, as the exit of a `with` block that may have failed.

    In a notebook the next run would otherwise start a second engine of vLLM beside the first.
    """
    if error is not None and in_notebook():
        forget_frames(error)  # they hold a step's memory, which an engine that sleeps needs in order to wake
    policy.close()


def with_chosen_bits(recipe: Recipe) -> Recipe:
    """Return the recipe with model.load_in_4bit, as `with_bits` chooses it for this device, and print a choice.

    A run keeps it: an adapter belongs to weights of so many bits, on every device.
    """
    recipe, chosen = broadcast_from_main(with_bits(recipe, device_for(None, None)))
    for setting, value, why in chosen:
        info(f"Chosen: {setting} = {value} ({why})")
    return recipe


def has_room_to_spare(planned: Plan) -> bool:
    """Tell whether memory is no question: a CPU whose free memory is at least SPARE times what the plan estimates.

    Estimates of memory are good to about 15 %. On a GPU the step is always tried, since memory is scarce there and a
    step is quick. On a CPU the longest step may take ten minutes.
    """
    return planned.kind == "cpu" and planned.bytes * SPARE <= planned.memory


def fit_to_device(
    recipe: Recipe, device: Device, loaded: Policy | None, resumed: bool
) -> tuple[Recipe, Recipe, BatchPlan, Plan | None]:
    """Return four things for this device: the recipe to keep, the recipe to load the model by, batch plan and plan.

    The two recipes differ in [model]. The kept one has it as the user wrote it, since a resume on another device may
    need another choice. Both have the length and the number of completions that were chosen. Both are `recipe` itself,
    and the plan is None, where `loaded` brings a policy, or where the memory cannot be planned. The estimate and the
    choices are printed. Raises SettingError, before any weights are loaded, for a run that cannot fit. `resumed` says
    that the run's micro-batch, if it is too large here, may be chosen again.
    """
    if loaded:
        batch_plan = plan_batch(recipe, device.processes, loaded.model.config, device.free_bytes)
        return recipe, recipe, broadcast_from_main(batch_plan), None
    try:
        planned = broadcast_from_main(plan(recipe))
        if resumed and planned.fits != "yes":
            # The run's micro-batch was chosen on the device where it began, perhaps a larger one. Choose it again.
            anew = recipe.budget.model_copy(update={"micro_batch": 0})
            planned = broadcast_from_main(plan(recipe.model_copy(update={"budget": anew})))
    except CannotEstimate as error:
        info(f"The memory cannot be planned: {error}")
        return recipe, recipe, plan_batch(recipe, device.processes), None

    needs = f"{planned.bytes / GIB:.1f} of the {planned.memory / GIB:.1f} GiB of {planned.device}"
    check_fits(planned, recipe)
    tight = "; it may not fit, and is cut further if it does not" if planned.fits == "tight" else ""
    info(f"It takes about {needs}{tight}; {planned.time}.")
    for setting, value, why in planned.chosen:
        if setting != "budget.micro_batch":  # the line of the batch plan has it
            info(f"Chosen: {setting} = {value} ({why})")
    kept = recipe.model_copy(update={"grpo": planned.recipe.grpo, "sampling": planned.recipe.sampling})
    return kept, planned.recipe, planned.batch_plan, planned


def prompt_rows(
    policy: Policy, task: Task, recipe: Recipe, problems: Sequence[Problem]
) -> tuple[list[dict[str, Any]], dict[str, Any], list[Problem]]:
    """Return a row for each training problem whose prompt is short enough, the longest row, and the rows' problems.

    A row is a dict of `prompt` and a value for each column that the rewards take. The limit is task.max_prompt_tokens.
    Raises SettingError when every prompt is longer.
    """
    limit = recipe.prompts.max_prompt_tokens
    columns = column_values(problems)
    rows, sizes, too_long, practised = [], [], [], []
    for index, problem in enumerate(problems):
        row = {"prompt": task.messages(problem)}
        for name, values in columns.items():
            row[name] = values[index]
        size = len(policy.prompt_ids(row["prompt"]))
        if size > limit:
            too_long.append(size)
            continue
        rows.append(row)
        sizes.append(size)
        practised.append(problem)
    if not rows:
        raise SettingError(
            f"every prompt is longer; the shortest has {min(too_long)} tokens",
            setting="task.max_prompt_tokens",
            value=limit,
        )
    return rows, rows[sizes.index(max(sizes))], practised


def check_rewards(policy: Policy, task: Task, recipe: Recipe, problems: Sequence[Problem]) -> None:
    """Raise SettingError for a built-in reward that does not pay a golden completion in full.

    A reward that cannot be earned is the most common reason for a run that learns nothing. The completion is encoded
    and decoded before, since a tokenizer may drop the tags that a reward looks for. A format reward that is not in
    PAYS_GOLDEN and pays nothing is a printed warning, and so is one of PAYS_GOLDEN with settings of its own. A user's
    own reward has no known maximum, so any finite number or None will do. A task without a golden completion, as of
    code with tests alone, is not checked, and the judgement of a user's own grader is not known either. Raises
    RewardError for a reward that raises or pays anything else.
    """
    # The reward for integers can only pay a problem whose answer is one.
    integers = [problem for problem in problems if problem.answer.strip().lstrip("-").isdigit()]
    golden = integers[0] if integers else problems[0]
    if not task.golden_completion(golden):
        return
    must_pay = set(PAYS_GOLDEN)
    if getattr(task, "grading", {}).get("grader"):
        must_pay -= {"correctness"}
    if "integer" in recipe.rewards and not integers:
        must_pay -= {"integer"}
        warn("rewards.integer pays for integers, and no gold answer is one; write integer = false to take it out")
    tokens = policy.tokenizer(task.golden_completion(golden), add_special_tokens=False)["input_ids"]
    text = policy.tokenizer.decode(tokens, skip_special_tokens=True)
    columns = column_values([golden])
    for name, function in zip(recipe.rewards, recipe.reward_functions(), strict=True):
        paid = call_reward(function, [task.messages(golden)], [text], [tokens], columns)
        if name in must_pay and paid[0] != 1.0:
            raise SettingError(
                f"pays {paid[0]} of 1.0 for a golden completion, so the policy could never earn it",
                setting=f"rewards.{name}",
                remedy=f"take it out with {name} = false, or change the task's format. The completion was {text!r}",
            )
        if (name.startswith(FORMAT_REWARDS) or parse_reward(name).text in must_pay) and not paid[0]:
            warn(f"rewards.{name} pays nothing for {text!r}, which is in the format that the task asks for")


def coverage(recipe: Recipe, rows: int, too_long: int) -> str:
    """Return a sentence on how much of the training set the run sees.

    `rows` is the size of the training set, `too_long` the number of problems that were left out of it.
    """
    steps = recipe.budget.max_steps
    prompts = steps * recipe.budget.prompts_per_step
    left_out = f"; {too_long} left out as longer than {recipe.prompts.max_prompt_tokens} tokens" if too_long else ""
    share = f"{prompts / rows:.0%} of {rows}" if prompts < rows else f"each of {rows} {prompts / rows:.1f} times"
    see = "sees" if steps == 1 else "see"
    return f"{counted(steps, 'step')} {see} {counted(prompts, 'prompt')} ({share}{left_out})."
