"""Held-out accuracy before and after, and whether the change is more than chance.

The same problems, the same prompt and the same parser on both sides, answered greedily. `accuracy` counts the number in
the one closed answer block (the reward's own grader); `lenient_accuracy` takes the last number anywhere, so that a
policy that only learns the format cannot pass for one that learns to reason.
"""

from __future__ import annotations

import asyncio
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, Any, cast

from grpo_colab.errors import SettingError
from grpo_colab.recipe import Recipe
from grpo_colab.rewards import guard, reward_name
from grpo_colab.run import Run, check_no_links
from grpo_colab.tasks import Problem, Task
from grpo_colab.trust import check_trust

if TYPE_CHECKING:
    from grpo_colab.policy import Policy

# Each side's answers, one row a problem, in the run folder.
BEFORE, AFTER = "evaluation-before.jsonl", "evaluation-after.jsonl"


def evaluate_run(path: str | Path, trust_code: bool = False) -> dict[str, Any]:
    """Load a run's adapter anew, answer its held-out problems again, and compare with what it answered before training.

    Returns what evaluation.json holds; writes nothing. `trust_code` lets run what the folder names of others' code.
    """
    from grpo_colab.machine import this_machine
    from grpo_colab.plan import answers_at_once
    from grpo_colab.policy import import_unsloth, load_policy

    run = Run(path)
    check_no_links(run.path)
    recipe = run.recipe
    answered = {(row.get("source"), row["question"]): row for row in run.answers(BEFORE)}
    if not (run.adapter / "adapter_config.json").is_file():
        raise SettingError(f"run {str(path)!r}: there is no adapter in it yet")
    if running := check_trust(recipe, trust_code):
        print(running, file=sys.stderr)
    task = recipe.load_task()
    # a damaged line's problem has nothing to be compared with
    problems = [one for one in evaluation_problems(task, recipe) if (one.source, one.question) in answered]
    if not problems:
        raise SettingError(
            f"run {str(path)!r}: no answers in {BEFORE} to the problems of its recipe, so there is nothing to compare "
            "with; train it from the beginning, with --out"
        )
    import_unsloth()
    recipe.check_rewards(task.reward_columns())
    machine = this_machine()
    learner = load_policy(recipe, machine, run.adapter)
    problems = fitting_problems(learner, recipe, task, problems)
    at_once = answers_at_once(recipe, learner.model.config, machine.free_bytes)
    step = (run.evaluation or {}).get("step", run.last_step)
    before = [answered[problem.source, problem.question] for problem in problems]
    return comparison(recipe, before, answer(learner, recipe, task, problems, at_once), step)


def comparison(
    recipe: Recipe, before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]], step: int
) -> dict[str, Any]:
    """The content of evaluation.json; `step` is the adapter's."""
    return {
        "task": recipe.task["name"],
        "split": recipe.evaluation.split,
        "n": len(before),
        "before": summary(before),
        "after": summary(after),
        "paired": compare(before, after),
        "step": step,
    }


def evaluation_problems(task: Task, recipe: Recipe) -> list[Problem]:
    """The recipe's held-out problems; fewer when the split has fewer."""
    problems = task.problems(recipe.evaluation.split, recipe.evaluation.n)
    if not problems:
        raise SettingError(f"evaluation.split = {recipe.evaluation.split!r}: the task {task.name!r} has none in it")
    return problems


def fitting_problems(policy: Policy, recipe: Recipe, task: Task, problems: Sequence[Problem]) -> list[Problem]:
    """Those whose prompts are within the recipe's limit in tokens, as in training."""
    limit = recipe.prompts.max_prompt_tokens
    fitting = [problem for problem in problems if policy.prompt_tokens(task.messages(problem)) <= limit]
    if not fitting:
        raise SettingError(f"task.max_prompt_tokens = {limit}: the prompt of every held-out problem is longer")
    return fitting


def answer(
    policy: Policy, recipe: Recipe, task: Task, problems: Sequence[Problem], at_once: int
) -> list[dict[str, Any]]:
    """Ask the policy every problem greedily, `at_once` together, and grade what it writes; one dict a problem.

    Under torchrun every process answers its share and all get the whole list.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object

    state = PartialState()
    with state.split_between_processes(list(range(len(problems)))) as indices:
        mine = [problems[index] for index in indices]
        completions = policy.generate(
            [task.messages(problem) for problem in mine],
            max_new_tokens=recipe.max_completion_tokens,
            batch_size=at_once,
        )
        token_ids = policy.tokenizer(completions, add_special_tokens=False)["input_ids"] if mine else []
        rows = grade_all(recipe, task, mine, completions, token_ids)
    return gather_object(rows)


def grade_all(
    recipe: Recipe,
    task: Task,
    problems: Sequence[Problem],
    completions: Sequence[str],
    token_ids: Sequence[Sequence[int]],
) -> list[dict[str, Any]]:
    """Each completion's verdict, whether its last number is right, and every reward (unweighted)."""
    columns = reward_columns(problems)
    messages = [task.messages(problem) for problem in problems]
    rewards = {
        reward_name(function): call_reward(function, messages, completions, token_ids, columns)
        for function in recipe.reward_functions()
    }
    return [
        {
            "source": problem.source,
            "question": problem.question,
            "answer": problem.answer,
            "completion": completion,
            "right": (verdict := task.grade(completion, problem)).right,
            "verdict": verdict.reason,
            "lenient_right": task.lenient_right(completion, problem),
            "rewards": {name: values[index] for name, values in rewards.items()},
        }
        for index, (problem, completion) in enumerate(zip(problems, completions, strict=True))
    ]


def call_reward(
    function: Callable[..., Any],
    prompts: Sequence[Any],
    completions: Sequence[Any],
    token_ids: Sequence[Sequence[int]] | None,
    columns: Mapping[str, Sequence[Any]],
    log_metric: Callable[[str, float], None] = lambda name, value: None,
    save: Callable[[dict[str, Any]], Any] | None = None,
) -> list[float | None]:
    """Call a reward as the trainer does, with all that TRL passes and under the guard; there is no trainer's state.

    `completions` are texts or conversations. What a reward breaks on goes to `save` first. Without `token_ids` no
    `completion_ids` are passed, which TRL never does.
    """
    result = guard(function, save)(
        prompts=prompts,
        completions=[[{"role": "assistant", "content": c}] if isinstance(c, str) else c for c in completions],
        trainer_state=None,
        log_extra=lambda column, values: None,
        log_metric=log_metric,
        **({} if token_ids is None else {"completion_ids": token_ids}),
        **columns,
    )
    if inspect.iscoroutine(result):  # TRL takes async rewards; a thread of its own, as a notebook's loop is running
        with ThreadPoolExecutor(1) as thread:
            result = thread.submit(asyncio.run, result).result()
    return cast(list[float | None], result)


def reward_columns(problems: Sequence[Problem]) -> dict[str, list[Any]]:
    """The problems' values by column, as the trainer hands them to the reward functions."""
    names = {name: None for problem in problems for name in problem.columns}
    return {
        "answer": [problem.answer for problem in problems],
        **{name: [problem.columns.get(name) for problem in problems] for name in names},
    }


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One side of evaluation.json: accuracy with its interval, lenient accuracy, each reward's mean."""
    right = sum(row["right"] for row in rows)
    names = rows[0]["rewards"]
    judged = {name: [row["rewards"][name] for row in rows if row["rewards"][name] is not None] for name in names}
    return {
        "accuracy": right / len(rows),
        "ci95": list(wilson_interval(right, len(rows))),
        "lenient_accuracy": fmean(row["lenient_right"] for row in rows),
        "rewards": {name: fmean(values) if values else None for name, values in judged.items()},
    }


def compare(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The paired test: problems gained and lost, and McNemar's exact p-value of the change."""
    gained = sum(not b["right"] and a["right"] for b, a in zip(before, after, strict=True))
    lost = sum(b["right"] and not a["right"] for b, a in zip(before, after, strict=True))
    return {"gained": gained, "lost": lost, "p_value": mcnemar_exact(gained, lost)}


def wilson_interval(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927): honest near 0 and 1 and for small n."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))  # p is inside, but for rounding


def mcnemar_exact(gained: int, lost: int) -> float:
    """McNemar's exact two-sided p-value (McNemar 1947): a fair coin for each problem whose verdict changed."""
    n, k = gained + lost, min(gained, lost)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
