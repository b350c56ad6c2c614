"""What the tiny model reads before GRPO: word problems answered in four styles, and rows of equations.

The mixture sets the stage for reinforcement learning. All that is needed to do well is in it (working step by step in
the strict format, with reliable arithmetic), but the most likely style puts the whole sum into one line, which so small
a model cannot work out in its head. GRPO has to find the better style; it does not have to learn to calculate.

Only problems of the "train" split are used, so whoever evaluates on "test" asks for what the model has never seen.
Standard library only.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from grpo_colab.tasks import Problem
from grpo_colab.tasks.word_problems import OPERAND_MAX, RESULT_MAX, apply, make_problem

# More long problems than the task itself has: with the task's own mix, 1 % more of the held-out problems went wrong.
STEP_WEIGHTS = {1: 25, 2: 40, 3: 35}
STYLE_SHARES = {"steps": 0.27, "one_line": 0.38, "bare": 0.20, "untagged": 0.15}


def completion(problem: Problem, style: str) -> str:
    """`problem` answered in one of the four styles; "steps" is the golden one, and every answer is right."""
    if style == "steps":
        return format_completion("\n".join(problem.steps), problem.answer)
    if style == "one_line":
        return format_completion(one_line(problem.steps), problem.answer)
    if style == "bare":
        return problem.answer
    return "\n".join([*problem.steps, f"The answer is {problem.answer}."])


def format_completion(reasoning: str, answer: str) -> str:
    """The strict format, as in Unsloth's GSM8K notebooks."""
    return f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>"


def one_line(steps: tuple[str, ...]) -> str:
    """The chain as one expression: ("3 + 4 = 7", "7 * 2 = 14") gives "(3 + 4) * 2 = 14"."""
    expression, result = steps[0].split(" = ")
    for step in steps[1:]:
        left_to_right, result = step.split(" = ")
        _, operation, operand = left_to_right.split()
        expression = f"({expression}) {operation} {operand}"
    return f"{expression} = {result}"


def answered_problems(seed: int) -> Iterator[tuple[Problem, str]]:
    """Endless (problem, completion) pairs of the "train" split, each in a style drawn by its share."""
    rng = random.Random(f"styles/{seed}")
    index = 0
    while True:
        problem = make_problem("train", seed, index, STEP_WEIGHTS)
        style = rng.choices(list(STYLE_SHARES), list(STYLE_SHARES.values()))[0]
        yield problem, completion(problem, style)
        index += 1


def equations(seed: int) -> Iterator[str]:
    """Endless single steps such as "12 + 14 = 26", uniform over what a problem may contain, operation by operation."""
    rng = random.Random(f"equations/{seed}")
    facts = {operation: _facts(operation) for operation in "+-*/"}
    while True:
        yield rng.choice(facts[rng.choices("+-*/", (35, 35, 20, 10))[0]])


def _facts(operation: str) -> list[str]:
    rights = range(2, OPERAND_MAX + 1)
    results = ((left, right, apply(left, operation, right)) for left in range(1, RESULT_MAX + 1) for right in rights)
    return [f"{left} {operation} {right} = {result}" for left, right, result in results if result is not None]
