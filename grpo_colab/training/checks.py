"""Refuse, before anything is loaded, what TRL, transformers or a reward would refuse only once the weights are there.

`check_data` comes first, before anything heavy is imported. Later the libraries themselves are asked: their
configuration, their schedule and their sampler are built, and thrown away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError, one_line
from grpo_colab.evaluation.difficulty import read_difficulty
from grpo_colab.plan import GIB, Plan, plan_batch
from grpo_colab.policy.asking import check_asking
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.rewards.golds import gold_readers, read_all
from grpo_colab.tasks import Task
from grpo_colab.text import duration
from grpo_colab.training.tracking import check_trackers
from grpo_colab.training.trainer import grpo_arguments

if TYPE_CHECKING:
    from grpo_colab.tasks import Problem
    from grpo_colab.utils.device import Device

MOST_RATES: Final = 1000  # steps at which a schedule is asked for its rate
# Hours of a plan from which a run on a CPU needs a limit of its own: nobody wants to begin one by accident.
MOST_CPU_HOURS: Final = 72
CORRECT_GOLD: Final = "correct that gold answer, take its problem out, or"  # the beginning of a remedy


def check_arguments(recipe: Recipe, device: Device) -> None:
    """Build TRL's GRPOConfig, its schedule and its sampler. Raise SettingError with the words of what refuses them.

    Also raises SettingError for a tracker that is unknown or not installed, and for a setting that cannot decide how
    the policy is asked.
    """
    import trl

    check_trackers(recipe.grpo)
    check_asking(recipe, device)
    arguments = grpo_arguments(recipe, Path("checkpoints"), plan_batch(recipe, device.processes), device)
    try:
        config = trl.GRPOConfig(**arguments)
    except (ValueError, TypeError, KeyError, ImportError, ArithmeticError) as error:
        raise SettingError(f"TRL refuses it ({one_line(error)})", setting="[grpo]") from error
    check_sampler(recipe, config)
    check_optimisation(recipe, config)


def check_sampler(recipe: Recipe, config: Any) -> None:
    """Raise SettingError for settings with which TRL's sampler would draw no prompt."""
    from trl.trainer.utils import RepeatSampler

    sampler = RepeatSampler(
        range(recipe.budget.prompts_per_step),
        mini_repeat_count=config.num_generations,
        batch_size=config.generation_batch_size // config.num_generations,
        repeat_count=config.num_iterations * config.steps_per_generation,
    )
    if next(iter(sampler), None) is None:
        raise SettingError(
            "TRL would draw no prompt to learn from",
            setting="grpo.num_iterations",
            value=config.num_iterations,
            remedy="write 1 or more",
        )


def check_optimisation(recipe: Recipe, config: Any) -> None:
    """Raise SettingError for an optimiser or a learning rate schedule that transformers cannot make.

    Both are made for a single number, and the schedule is asked for its rate at up to MOST_RATES steps. An optimiser
    whose package is missing is refused, too.
    """
    import torch
    from transformers import Trainer, get_scheduler

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer: Any = torch.optim.SGD([weight], lr=1e-4)
    try:
        kind, arguments = Trainer.get_optimizer_cls_and_kwargs(config)
        if not str(config.optim).endswith("8bit"):  # those need a GPU
            optimizer = kind([weight], **arguments)
    except (ValueError, TypeError, ImportError, AttributeError) as error:
        if "pass a model" not in str(error):  # as a few do, which the trainer will
            raise _refused("optim", recipe, error, "write another, such as 'adamw_torch', or other values") from error
    try:
        schedule = get_scheduler(
            config.lr_scheduler_type,
            optimizer,
            num_warmup_steps=config.get_warmup_steps(config.max_steps),
            num_training_steps=config.max_steps,
            scheduler_specific_kwargs=config.lr_scheduler_kwargs,
        )
        for rate in getattr(schedule, "lr_lambdas", ()):
            for step in range(0, config.max_steps + 1, 1 + config.max_steps // MOST_RATES):
                rate(step)
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        remedy = "write what it needs into grpo.lr_scheduler_kwargs, as { name = value }, or take another schedule"
        raise _refused("lr_scheduler_type", recipe, error, remedy) from error


def _refused(key: str, recipe: Recipe, error: Exception, remedy: str) -> SettingError:
    problem = f"transformers refuses it ({one_line(error)})"
    return SettingError(problem, setting=f"grpo.{key}", value=recipe.grpo.get(key), remedy=remedy)


def check_fits(planned: Plan, recipe: Recipe) -> None:
    """Raise SettingError for a plan of the recipe on this device that cannot fit, or takes days on a CPU unasked."""
    named = {"setting": "model.model_name", "value": recipe.model["model_name"]}
    if planned.fits == "no":
        needs = f"{planned.bytes / GIB:.1f} of the {planned.memory / GIB:.1f} GiB of {planned.device}"
        remedy = f"make it fit by {'; or '.join(planned.advice)}"
        raise SettingError(f"needs {needs}, by `grpo-colab plan`", remedy=remedy, **named)
    if planned.kind == "cpu" and planned.hours > MOST_CPU_HOURS and not recipe.budget.max_hours:
        raise SettingError(
            f"would take about {duration(3600 * planned.hours)} on {planned.device}, by `grpo-colab plan`",
            remedy="train it on a GPU, take a smaller model (`grpo-colab recipes` lists the presets), or write "
            "budget.max_hours = the hours after which it may stop",
            **named,
        )


def check_data(recipe: Recipe, task: Task, problems: Sequence[Problem], held_out: Sequence[Problem]) -> None:
    """Check every row's columns and every gold answer, as far as that needs nobody else's code and no heavy import.

    The rewards of others are looked at as source text. `check_columns` and `check_golds` do the rest once they are
    imported. Raises SettingError, with the row's place, for what is wrong.
    """
    check_columns(recipe, [*problems, *held_out], Recipe.check_unimported)
    check_golds(recipe.own_reward_functions(), problems, held_out)
    check_evaluation_golds(task, held_out)


def check_sampling(recipe: Recipe, problems: Sequence[Problem]) -> None:
    """Raise SettingError for a file of sampling.prior that is something else, and for hints that no problem has."""
    if recipe.sampling.prior:
        read_difficulty(recipe.sampling.prior)
    if recipe.sampling.hints == "solution" and not any(len(problem.steps) > 1 for problem in problems):
        raise SettingError(
            "needs the steps of solutions, and no training problem has two",
            setting="sampling.hints",
            value="solution",
            remedy='write "none", or take data whose solutions stand before "####", a step per line',
        )


def check_foreign_rewards(recipe: Recipe, problems: Sequence[Problem], held_out: Sequence[Problem]) -> None:
    """Check the columns and the golds by the rewards of others, which are imported for it: the rest of `check_data`.

    Raises SettingError, with the row's place, for what is wrong.
    """
    check_columns(recipe, [*problems, *held_out])
    own = recipe.own_reward_functions()
    functions = dict(zip(recipe.rewards, recipe.reward_functions(), strict=True))
    check_golds({name: function for name, function in functions.items() if name not in own}, problems, held_out)


def check_columns(
    recipe: Recipe,
    problems: Sequence[Problem],
    check: Callable[[Recipe, Collection[str]], None] = Recipe.check_rewards,
) -> None:
    """Raise SettingError, with its place, for a problem whose columns do not suit every reward, by `check`.

    A column that is there and null is passed on as None.
    """
    sound = set()
    for problem in problems:
        columns = frozenset({"answer", *problem.columns})
        if columns in sound:
            continue
        try:
            check(recipe, columns)
        except SettingError as error:
            raise (error.at(problem.source) if problem.source else error) from None
        sound.add(columns)


def check_golds(
    rewards: Mapping[str, Callable[..., Any]], problems: Sequence[Problem], held_out: Sequence[Problem]
) -> None:
    """Raise SettingError, with the place, for a gold that one of the rewards cannot judge by.

    `rewards` maps the names in [rewards] to the functions. Each that reads golds reads those of the training `problems`
    and of the `held_out` ones. A number costs nothing, a formula milliseconds.
    """
    golds = [(problem.answer, problem.source) for problem in (*problems, *held_out)]
    for name, function in rewards.items():
        remedy = f"{CORRECT_GOLD} write {name} = false in [rewards]"
        read_all(gold_readers(function), golds, setting=f"rewards.{name}", remedy=remedy)


def check_evaluation_golds(task: Task, held_out: Sequence[Problem]) -> None:
    """Raise SettingError, with the place, for a gold of a held-out problem that the evaluation cannot judge by.

    A task that grades by a method of its own is not asked.
    """
    if type(task).grade is Task.grade:
        for problem in held_out:
            try:
                task.check_gold(problem)
            except ValueError as error:
                remedy = f"{CORRECT_GOLD} set task.answer or task.locale"
                raise SettingError(
                    str(error), setting="[evaluation]", remedy=remedy, place=problem.source or None
                ) from None
