"""Ask a policy held-out problems, before and after training, and grade its answers.

Both sides get the same problems, the same prompt and the same parser, and answer greedily. `accuracy` counts answers
that are right where task.answer_in looks for them, by the grader of the rewards. `lenient_accuracy` takes the last
number anywhere, so that a policy that only learns the format cannot pass for one that learns to reason. The intervals
and the test are in statistics.py.

Beside the recipe's own held-out problems, the policy is asked those of the task's further splits, which are new in
other respects. Every split has answers, intervals and a test of its own. The recipe's own goes by the name OWN here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.evaluation.loading import show_import, show_loading
from grpo_colab.evaluation.statistics import compare, summary
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.trust import check_trust
from grpo_colab.rewards import call_reward, reward_name
from grpo_colab.runs.lock import check_no_links
from grpo_colab.runs.records import AnswerRow
from grpo_colab.runs.run import Run
from grpo_colab.tasks import Problem, Task, column_values
from grpo_colab.tasks.names import parse_task
from grpo_colab.tasks.own_tasks import columns_of, problems_of
from grpo_colab.utils.console import info
from grpo_colab.utils.stage import stage

if TYPE_CHECKING:
    from grpo_colab.policy.policy import Policy

# Each side's answers in the run folder, one row per problem.
BEFORE, AFTER = "evaluation-before.jsonl", "evaluation-after.jsonl"
OWN: Final = ""  # the recipe's own held-out problems, among the splits that are evaluated

Answers = Mapping[str, Sequence[AnswerRow]]  # split -> its answers of one side; OWN is always there


def evaluate_run(path: str | Path, trust_code: bool = False) -> dict[str, Any]:
    """Load a run's adapter anew, answer its held-out problems again, and compare with the answers before training.

    Returns the content of evaluation.json, and writes nothing to the run folder. Problems without an answer from before
    training, and those whose prompts are too long, are left out; in a folder of before, these are all of a further
    split. So is, with a line on stderr, a reward that is a
    Python function, which the folder does not have. `trust_code` allows other people's code that the
    folder names to run. That code is named on stderr and remembered as trusted. Raises SettingError for a folder that
    is no run or has a link out of it, for a run without an adapter or without answers from before training, for code
    that is not trusted, and for a model, an adapter or a reward that cannot be loaded.
    """
    from grpo_colab.plan import answers_at_once
    from grpo_colab.utils.device import current_device

    run = Run(path)
    check_no_links(run.path)
    recipe = run.recipe
    if not (run.adapter / "adapter_config.json").is_file():
        raise run.error("there is no adapter in it yet")
    foreign_code = check_trust(recipe, trust_code)
    if foreign_code:
        info(foreign_code)
    recipe = recipe.completed_by_task()
    missing = recipe.missing_functions
    for name in missing:
        info(f"rewards.{name} is left out: it is a Python function, which no file keeps.")
    weights = {name: weight for name, weight in recipe.rewards.items() if name not in missing}
    recipe = recipe.model_copy(update={"rewards": weights})
    task = recipe.load_task()
    asked = {}
    for split, held_out in {OWN: evaluation_problems(task, recipe), **further_problems(task, recipe)}.items():
        rows = run.answers(answers_file(BEFORE, split))
        # a problem whose line in the file is damaged has no earlier answer to be compared with
        answered = zip(held_out, find_answers(rows, held_out), strict=True)
        asked[split] = [problem for problem, row in answered if row is not None]
        if not asked[OWN]:
            raise run.error(
                f"no answers in {BEFORE} to the problems of its recipe, so there is nothing to compare with",
                "train it from the beginning, with --out",
            )
        need_same_problems(run, rows, held_out)
    show_import()
    recipe.check_rewards(columns_of(task))
    device = current_device()
    policy = show_loading(recipe, device, run.adapter)
    with contextlib.closing(policy):
        at_once = answers_at_once(recipe, policy.model.config, device.free_bytes)
        before, after = {}, {}
        for split, answered_before in asked.items():
            if not answered_before:
                continue
            problems = fitting_problems(policy, recipe, task, answered_before)
            rows = run.answers(answers_file(BEFORE, split))
            before[split] = [row for row in find_answers(rows, problems) if row is not None]
            with stage(f"Answering {len(problems)} {held_out_problems(split)}", ticking=True) as shown:
                after[split] = answer(policy, recipe, task, problems, at_once, shown.update)
    step = (run.evaluation or {}).get("step", run.last_step)
    return comparisons(recipe, task, before, after, step)


def comparisons(recipe: Recipe, task: Task, before: Answers, after: Answers, step: int) -> dict[str, Any]:
    """Return the content of evaluation.json, with the task's note, and its further splits under their names.

    `before` and `after` have the same splits, and in each the same problems in the same order. `step` is that of the
    adapter that answered after training. Nothing is written.
    """
    found = comparison(recipe, before[OWN], after[OWN], step)
    if task.held_out_note and recipe.evaluation.split == "test":
        found["note"] = task.held_out_note
    for split in before:
        if split != OWN:
            sides = _compared(before[split], after[split])
            found.setdefault("further", {})[split] = {"about": task.further_splits[split], **sides}
    return found


def comparison(recipe: Recipe, before: Sequence[AnswerRow], after: Sequence[AnswerRow], step: int) -> dict[str, Any]:
    """Return the content of evaluation.json for the recipe's own held-out problems.

    `step` is the step of the adapter that answered after training. `before[i]` and `after[i]` answer the same problem,
    and there is at least one. Nothing is written.
    """
    return {
        "task": parse_task(recipe.task["name"]).label,
        "split": recipe.evaluation.split,
        **_compared(before, after),
        "step": step,
    }


def _compared(before: Sequence[AnswerRow], after: Sequence[AnswerRow]) -> dict[str, Any]:
    """Return what evaluation.json says of the answers to one split: how many, both sides, and the paired test."""
    return {
        "n": len(before),
        "before": summary(before),
        "after": summary(after),
        "paired": compare(before, after),
    }


def answers_file(side: str, split: str = OWN) -> str:
    """Return the name of the file with the answers of a side, BEFORE or AFTER, to a split."""
    return side if split == OWN else side.replace(".jsonl", f"-{split}.jsonl")


def held_out_problems(split: str) -> str:
    """Return what the problems of a split are called on the screen."""
    return "held-out problems" if split == OWN else f"held-out problems of {split}"


def evaluation_problems(task: Task, recipe: Recipe) -> list[Problem]:
    """Return the recipe's held-out problems: evaluation.n of them, or all where the split has fewer.

    Raises SettingError for a split without problems.
    """
    problems = problems_of(task, recipe.evaluation.split, recipe.evaluation.n)
    if not problems:
        raise SettingError(
            f"the task {task.name!r} has none in it", setting="evaluation.split", value=recipe.evaluation.split
        )
    return problems


def probe_problems(task: Task, recipe: Recipe) -> list[Problem]:
    """Return the problems to ask during the training: evaluation.probe of them, or none without evaluation.every.

    They are those of the split that come after the held-out ones. Where there are no others, they are the first of the
    held-out ones.
    """
    held_out, wanted = recipe.evaluation.n, recipe.evaluation.probe
    if not recipe.evaluation.every:
        return []
    found = problems_of(task, recipe.evaluation.split, held_out + wanted)
    return found[held_out:] or found[:wanted]


def further_problems(task: Task, recipe: Recipe) -> dict[str, list[Problem]]:
    """Return the problems of the task's further splits that are not empty: evaluation.n of each, or all of fewer.

    There are none for a recipe that evaluates on training problems.
    """
    if recipe.evaluation.split == "train":
        return {}
    found = {split: problems_of(task, split, recipe.evaluation.n) for split in task.further_splits}
    return {split: problems for split, problems in found.items() if problems}


def find_answers(rows: Sequence[AnswerRow], problems: Sequence[Problem]) -> list[AnswerRow | None]:
    """Return for each problem the row of an evaluation that answers it; None where there is none.

    A row belongs to a problem of its source and its question, or of its question alone, since a file may have moved. In
    a folder of before, the question of a conversation is its last message, and only counts with the source.
    """
    by_place = {(row.get("source"), row["question"]): row for row in rows}
    by_question = {row["question"]: row for row in rows}
    found = []
    for problem in problems:
        at_its_place = (by_place.get((problem.source, question)) for question in problem.known_as)
        here = next((row for row in at_its_place if row is not None), None)
        found.append(here if here is not None else by_question.get(problem.question))
    return found


def need_same_problems(run: Run, rows: Sequence[AnswerRow], problems: Sequence[Problem]) -> None:
    """Raise SettingError for answers in a run's folder to problems that are not among its held-out ones now.

    The policy may have been trained on the present ones.
    """
    found = {id(row) for row in find_answers(rows, problems)}
    questions = {problem.question for problem in problems}  # of which several rows may be, in a file that has moved
    foreign = [row for row in rows if id(row) not in found and row["question"] not in questions]
    if foreign:
        raise run.error(
            f"{len(foreign)} of the {len(rows)} problems that it was evaluated on before training are not held out "
            "now: its data has changed, or a conversation is held out by all of its messages since",
            "give the former ones as task.test_path, or train it from the beginning, with --out",
        )


def fitting_problems(policy: Policy, recipe: Recipe, task: Task, problems: Sequence[Problem]) -> list[Problem]:
    """Return the problems whose prompts are within the recipe's limit in tokens, as in training.

    Raises SettingError when every prompt is longer.
    """
    limit = recipe.prompts.max_prompt_tokens
    fitting = [problem for problem in problems if len(policy.prompt_ids(task.messages(problem))) <= limit]
    if not fitting:
        raise SettingError(
            "the prompt of every held-out problem is longer", setting="task.max_prompt_tokens", value=limit
        )
    return fitting


def answer(
    policy: Policy,
    recipe: Recipe,
    task: Task,
    problems: Sequence[Problem],
    at_once: int,
    on_progress: Callable[[float], None] | None = None,
) -> list[AnswerRow]:
    """Let the policy answer every problem greedily, and grade its answers. Returns one row per problem, in order.

    `at_once` is the batch size. `on_progress` is called with the share of this process's answers that is generated,
    from 0 to 1. Under torchrun every process answers its share, and all of them get the whole list. The rewards are
    imported and run. Raises SettingError where memory runs out with a single answer, and for a reward that
    cannot be imported. Raises RewardError for a reward that breaks.
    """
    from accelerate import PartialState
    from accelerate.utils import gather_object

    state = PartialState()
    with state.split_between_processes(list(range(len(problems)))) as indices:
        my_problems = [problems[index] for index in indices]
        completions = policy.generate(
            [task.messages(problem) for problem in my_problems],
            max_new_tokens=recipe.max_completion_tokens,
            batch_size=at_once,
            on_progress=on_progress,
        )
        token_ids = policy.tokenizer(completions, add_special_tokens=False)["input_ids"] if my_problems else []
        rows = grade_all(recipe, task, my_problems, completions, token_ids)
    return gather_object(rows)


def grade_all(
    recipe: Recipe,
    task: Task,
    problems: Sequence[Problem],
    completions: Sequence[str],
    token_ids: Sequence[Sequence[int]],
) -> list[AnswerRow]:
    """Return one row per problem: the verdict on its completion, and what every reward pays for it, without weights.

    `problems`, `completions` and `token_ids` have the same length; `token_ids` are those of the completions. The
    rewards are imported and run. A reward that gives no judgement pays None. Raises SettingError for a reward that
    cannot be imported, and RewardError for one that breaks.
    """
    columns = column_values(problems)
    messages = [task.messages(problem) for problem in problems]
    rewards = {
        reward_name(function): call_reward(function, messages, completions, token_ids, columns)
        for function in recipe.reward_functions()
    }
    rows: list[AnswerRow] = []
    for index, (problem, completion) in enumerate(zip(problems, completions, strict=True)):
        verdict = task.grade(completion, problem)
        row: AnswerRow = {
            "source": problem.source,
            "question": problem.question,
            "answer": problem.answer,
            "completion": completion,
            "right": verdict.right,
            "verdict": verdict.reason,
            "lenient_right": task.lenient_right(completion, problem),
            "rewards": {name: values[index] for name, values in rewards.items()},
        }
        rows.append(row)
    return rows
