"""Generate the tiny model's training text: word problems answered in four styles, and rows of equations.

The mixture prepares the model for reinforcement learning. All that it needs is in the text: step by step answers in the
strict format, and reliable arithmetic. But the most frequent style writes the whole sum on one line, which so small a
model cannot compute at once. GRPO has to find the better style; it does not have to teach the model to calculate.

Only problems of the "train" split are used, so the model has never seen the problems of the "test" split.
Standard library only.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from grpo_colab.tasks import Problem
from grpo_colab.tasks.word_problems import OPERAND_MAX, RESULT_MAX, apply, make_problem

# Number of steps -> weight. There are more long problems than in the task itself: with the task's own weights, 1 % more
# of the held-out problems were answered wrongly.
STEP_WEIGHTS = {1: 25, 2: 40, 3: 35}
STYLE_SHARES = {"steps": 0.27, "one_line": 0.38, "bare": 0.20, "untagged": 0.15}


def completion(problem: Problem, style: str) -> str:
    """Return a completion with the right answer in one of the four styles; GRPO rewards "steps" the most.

    The style "steps" has a step per line in the strict format, and "one_line" has all steps as one expression. The
    style "bare" is the answer without anything else. Any other style is "untagged": a step per line, and the answer in
    a sentence.
    """
    if style == "steps":
        return format_completion("\n".join(problem.steps), problem.answer)
    if style == "one_line":
        return format_completion(one_line(problem.steps), problem.answer)
    if style == "bare":
        return problem.answer
    return "\n".join([*problem.steps, f"The answer is {problem.answer}."])


def format_completion(reasoning: str, answer: str) -> str:
    """Return a completion in the strict format of Unsloth's GSM8K notebooks."""
    return f"<reasoning>\n{reasoning}\n</reasoning>\n<answer>\n{answer}\n</answer>"


def one_line(steps: tuple[str, ...]) -> str:
    """Return a chain of steps as one expression: ("3 + 4 = 7", "7 * 2 = 14") gives "(3 + 4) * 2 = 14"."""
    expression, result = steps[0].split(" = ")
    for step in steps[1:]:
        left_to_right, result = step.split(" = ")
        _, operation, operand = left_to_right.split()
        expression = f"({expression}) {operation} {operand}"
    return f"{expression} = {result}"


def answered_problems(seed: int) -> Iterator[tuple[Problem, str]]:
    """Yield (problem, completion) pairs of the "train" split without end, in styles chosen by STYLE_SHARES.

    The same seed gives the same pairs.
    """
    rng = random.Random(f"styles/{seed}")
    index = 0
    while True:
        problem = make_problem("train", seed, index, STEP_WEIGHTS)
        style = rng.choices(list(STYLE_SHARES), list(STYLE_SHARES.values()))[0]
        yield problem, completion(problem, style)
        index += 1


def equations(seed: int) -> Iterator[str]:
    """Yield single steps such as "12 + 14 = 26" without end; the same seed gives the same steps.

    The operation is chosen by fixed weights, then each step that a problem may contain is equally likely.
    """
    rng = random.Random(f"equations/{seed}")
    steps = {operation: _all_steps(operation) for operation in "+-*/"}
    while True:
        operation = rng.choices("+-*/", (35, 35, 20, 10))[0]
        yield rng.choice(steps[operation])


def _all_steps(operation: str) -> list[str]:
    """Return every step with this operation that a problem may contain."""
    steps = []
    for left in range(1, RESULT_MAX + 1):
        for right in range(2, OPERAND_MAX + 1):
            result = apply(left, operation, right)
            if result is not None:
                steps.append(f"{left} {operation} {right} = {result}")
    return steps
