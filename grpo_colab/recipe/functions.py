"""Rewards that are Python functions: their names in a recipe, and what the recipe's file says about them.

    Recipe.load("gsm8k-tiny", rewards=[brevity_reward])                            all there is, with weight 1.0 each
    Recipe.load("gsm8k-tiny", rewards={brevity_reward: 0.5, "integer": False})     beside the preset's own

A function that another process can import gets its dotted path, or the short name of a reward of this package. Any
other gets the name `python:<function>`: one of a script, a notebook or another function, a partial, a callable object.
The recipe holds it for as long as the process lives, and it has to be given again to resume a run. The script is never
run again for it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from grpo_colab.errors import SettingError
from grpo_colab.rewards.names import PYTHON, parse_reward
from grpo_colab.rewards.resolve import callable_name, name_to_import
from grpo_colab.text import escaped

Reward = str | Callable[..., Any]
# What may be given for [rewards]: a table of weights; or all rewards, with weight 1.0 each.
Rewards = Mapping[Any, Any] | Sequence[Reward] | Reward


class GivenRewards(NamedTuple):
    """Rewards as they were given, by the names that a recipe has for them.

    `weights` are not checked yet. `functions` has those that were given as functions, and not the rewards of this
    package, which their names find. `are_all` says that the recipe has no other rewards.
    """

    weights: dict[str, Any]
    functions: dict[str, Callable[..., Any]]
    are_all: bool


def given_rewards(rewards: Rewards) -> GivenRewards:
    """Return the names, weights and functions of `rewards`, none of which is called or imported.

    Raises SettingError for what is neither a name nor a function, for a function without a name of its own, such as a
    lambda, and for two with one name.
    """
    if isinstance(rewards, Mapping):
        pairs: list[tuple[Any, Any]] = list(rewards.items())
    elif isinstance(rewards, list | tuple):
        pairs = [(reward, 1.0) for reward in rewards]
    else:
        pairs = [(rewards, 1.0)]
    are_all = not isinstance(rewards, Mapping)
    weights: dict[str, Any] = {}
    functions: dict[str, Callable[..., Any]] = {}
    for reward, weight in pairs:
        is_name = isinstance(reward, str)
        name = reward if is_name else name_of(reward)
        # In a table a name beside its function is one setting, of which the later value counts.
        if name in weights and (are_all or (not is_name and name in functions)):
            raise SettingError(
                "is given twice, and a metric is named after its function",
                setting=f"rewards.{name}",
                remedy="leave one out, or give one of two functions another name",
            )
        weights[name] = weight
        if not is_name and not parse_reward(name).ours:
            functions[name] = reward
    return GivenRewards(weights, functions, are_all)


def name_of(function: Any) -> str:
    """Return a recipe's name for a reward that is a Python function or another callable.

    Raises SettingError for what cannot be called, for a reward model, and for a callable without a name of its own,
    such as a lambda.
    """
    if not callable(function):
        raise SettingError(
            "is neither a function nor the name of a reward",
            setting="[rewards]",
            value=function,
            remedy='write as in rewards=["correctness", my_reward], or {my_reward: 0.5}',
        )
    if hasattr(function, "state_dict"):
        raise SettingError(
            "is a model, and a reward is a function",
            setting="[rewards]",
            value=type(function).__name__,
            remedy="write a function that asks it",
        )
    name = callable_name(function)
    if not name.isidentifier():
        raise SettingError(
            "has no name of its own, after which its metric could be named",
            setting="[rewards]",
            value=name,
            remedy="write a function by def",
        )
    return name_to_import(function) or f"{PYTHON}{name}"


def own_name(name: str, rewards: Iterable[str], is_function: bool) -> str:
    """Return the name that one of a run's `rewards` has, for a reward that is given to its resume as `name`.

    They differ where a function came from a script before and from a module now, or the other way round. Raises
    SettingError where the run has no such reward.
    """
    names = list(rewards)
    if name in names:
        return name
    function = parse_reward(name).attribute
    same = []
    for one in names:
        parsed = parse_reward(one)
        if parsed.attribute == function and parsed.settings is None and not parsed.ours:
            same.append(one)
    if is_function and len(same) == 1:
        return same[0]
    raise SettingError(
        "is not among the rewards of the run, which keeps its own",
        setting=f"rewards.{name}",
        remedy="leave it out of the list, or give a table with its weight, as in rewards={my_reward: 0.5}",
    )


def missing_functions(names: Iterable[str], functions: Mapping[str, Any]) -> list[str]:
    """Return those names of rewards whose function Python code has to give, and has not."""
    return [name for name in names if parse_reward(name).given and name not in functions]


def need_given(weights: Mapping[str, float], functions: Mapping[str, Any], resume: str = "") -> None:
    """Raise SettingError for a reward of [rewards] whose function is missing. Nothing is imported.

    `resume` is the call that resumes the run with a list of functions, up to that list.
    """
    missing, needed = missing_functions(weights, functions), missing_functions(weights, {})
    if missing:
        table = ", ".join(f"{parse_reward(name).attribute}: {weights[name]}" for name in needed)
        call = f"{resume}{arguments_for(needed)})" if resume else f"train(recipe, rewards={{{table}}})"
        raise SettingError(
            "is a Python function, which no file keeps and this process was not given",
            setting=f"rewards.{missing[0]}",
            value=weights[missing[0]],
            remedy=f"give it, in Python: {call}",
        )


def arguments_for(names: Iterable[str]) -> str:
    """Return the argument that gives these functions again: `rewards=[brevity_reward]`."""
    return f"rewards=[{', '.join(parse_reward(name).attribute for name in names)}]"


def comment(names: Iterable[str], functions: Mapping[str, Callable[..., Any]]) -> str:
    """Return the head of a recipe's file: where each function is from, and how a run with it is resumed.

    It is a TOML comment that ends in an empty line. It is empty for rewards that their names find.
    """
    given = [name for name in names if parse_reward(name).given]
    if not given:
        return ""
    lines = []
    for name in given:
        what = _described(functions[name]) if name in functions else "a Python function"
        lines.append(f"# rewards.{name} is {what}.\n")
    return f"{''.join(lines)}# To resume a run with it, give it again: train(resume=RUN, {arguments_for(given)})\n\n"


def _described(function: Callable[..., Any]) -> str:
    """Return what a function is and where it was defined, on one line; of an object its class."""
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        kind = type(function)
        return f"a Python object of the class {kind.__module__}.{kind.__qualname__}"
    # A notebook's cell, or a line that was typed in, has the name of no file or of one that was never written.
    if not Path(code.co_filename).is_file():
        return "a Python function, defined in a notebook's cell or typed in"
    return escaped(f"a Python function, defined in {Path(code.co_filename).absolute()}:{code.co_firstlineno}")
