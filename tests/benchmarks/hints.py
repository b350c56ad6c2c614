"""Measure what hints find before any training: groups that are all wrong, asked again with a part of the solution.

    python tests/benchmarks/hints.py OUT.jsonl --recipe gsm8k-qwen25-0.5b [--model DIR] [--problems 24] [--shares 0.5]

The base answers training problems, a group each. Where all of a group are wrong it is asked again with so much of the
gold solution's steps in the prompt. Rows are written as they come, and a second call goes on behind them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from grpo_colab import Recipe
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.policy import Policy
from grpo_colab.tasks import Problem, Task
from grpo_colab.training.sampling import steps_shown
from grpo_colab.utils.device import current_device


def right_of(policy: Policy, task: Task, problem: Problem, group: int, tokens: int, shown: int = 0) -> int:
    """Return how many of a group of completions are right, in the tags or by the last number, with a hint or without.

    `shown` is the number of steps in the hint. The base answers, without the adapter. The seed is always the same.
    """
    torch.manual_seed(0)
    prompt = task.hinted_messages(problem, shown) if shown else task.messages(problem)
    with policy.model.disable_adapter():
        completions = policy.sample([prompt], group, tokens, temperature=1.0)
    texts = policy.tokenizer.batch_decode(completions, skip_special_tokens=True)
    return sum(task.grade(text, problem).right or bool(task.lenient_right(text, problem)) for text in texts)


def main() -> None:
    """Sample what is missing, and print how many groups teach, without a hint and with each one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipe", default="gsm8k-qwen25-0.5b")
    parser.add_argument("--model")
    parser.add_argument("--data", help="the folder of the data set")
    parser.add_argument("--problems", type=int, default=24)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=200)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5])
    asked = parser.parse_args()
    overrides: dict[str, dict[str, Any]] = {"model": {"model_name": asked.model}} if asked.model else {}
    if asked.data:
        overrides["task"] = {"path": asked.data}
    recipe = Recipe.load(asked.recipe, **overrides)
    task = recipe.load_task()
    rows = [json.loads(line) for line in asked.out.read_text().splitlines()] if asked.out.is_file() else []
    problems = task.problems("train", asked.problems)
    policy = load_policy(recipe, current_device()) if len(rows) < len(problems) else None
    for number, problem in enumerate(problems):
        if policy is None or number < len(rows):
            continue
        right = right_of(policy, task, problem, asked.group, asked.tokens)
        row: dict[str, Any] = {"question": problem.question, "steps": len(problem.steps), "right": right}
        if right == 0:
            shown = {share: steps_shown(share, 0.0, len(problem.steps)) for share in asked.shares}
            row["hinted"] = {
                str(share): right_of(policy, task, problem, asked.group, asked.tokens, count)
                for share, count in shown.items()
                if count
            }
        rows.append(row)
        with asked.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps({key: value for key, value in row.items() if key != "question"}), flush=True)
    wrong = [row for row in rows if row["right"] == 0]
    teach = fmean(0 < row["right"] < asked.group for row in rows)
    print(f"{len(rows)} groups of {asked.group}: {teach:.0%} teach, {len(wrong)} are all wrong")
    for share in asked.shares:
        found = [row["hinted"][str(share)] for row in wrong if str(share) in row.get("hinted", {})]
        useful = sum(0 < count < asked.group for count in found)
        print(f"of {len(found)} asked again with {share:.0%} of the steps, {useful} teach; right: {sorted(found)}")


if __name__ == "__main__":
    main()
