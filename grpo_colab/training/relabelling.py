"""Turn an iteration's samples into what hindsight learns from: rows of a prompt, a completion and a weight.

A program that drew another image than the goal is the right answer to a prompt for the image that it drew, and so is
one that nobody sampled: a sampled program with a statement or two changed at random. Method "both" also learns from the
samples as answers to the goal, weighted by GRPO's advantages.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, NamedTuple

from grpo_colab.tasks.drawing.canvas import (
    CanvasSize,
    Image,
    Program,
    execute,
    normal_form,
    prune,
    random_statement,
    shape_of,
)
from grpo_colab.tasks.drawing.compact import from_compact, to_compact
from grpo_colab.tasks.drawing.images import parse_image, right_share
from grpo_colab.tasks.drawing.python_calls import parse_calls, to_python

if TYPE_CHECKING:
    from grpo_colab.policy.policy import Policy
    from grpo_colab.recipe.schema import Hindsight
    from grpo_colab.tasks import Problem
    from grpo_colab.tasks.drawing.task import Drawing

VARIED = 8  # variations are of so many of an iteration's drawings, the nearest to the goal
LEFT_OUT = 0.3  # the share of changes that leave a statement out


class Row(NamedTuple):
    """A completion to learn: its log-probability given `prompt` (both as token ids) counts `weight` times."""

    prompt: list[int]
    completion: list[int]
    weight: float


class Sample(NamedTuple):
    """One sampled program: the image it drew (None if it drew nothing), its rewards, and their weighted sum `paid`."""

    tokens: list[int]
    text: str
    image: Image | None
    rewards: dict[str, float | None]
    paid: float


def relabelled(task: Drawing, problem: Problem, samples: Sequence[Sample], seen: set[Image]) -> list[tuple[Image, str]]:
    """Return each new image with the shortest program that drew it, the one nearest to the goal image last.

    Nearest is the one with the greatest share of right pixels. An image is new when it is not in `seen`, to which the
    returned ones are added. Programs that draw nothing, and those of which `shortened` leaves nothing, are left out.
    Empty when no image is new.
    """
    goal = parse_image(problem.answer)
    shortest: dict[Image, str] = {}  # by image, the shortest program so far
    for sample in samples:
        if sample.image is None or sample.image in seen:
            continue
        text = shortened(sample.text, sample.image, task.language)
        best = shortest.get(sample.image)
        if text and (best is None or len(text) < len(best)):
            shortest[sample.image] = text
    seen.update(shortest)
    return sorted(shortest.items(), key=lambda pair: right_share(pair[0], goal))


def shortened(text: str, image: Image, language: str) -> str:
    """Return a program that draws `image` without the statements that change nothing in it.

    `language` is the task's: "compact" or "python". A Python program with anything but drawing calls is returned as it
    is, without the white space around it. In the compact language, return "" for a text that is no program, since the
    policy must not learn it.
    """
    program = statements_of(text, language)
    if program is not None:
        return written(program, shape_of(image), language)
    return "" if language == "compact" else text.strip()


def statements_of(text: str, language: str) -> Program | None:
    """Return the statements of a program in the task's language; None for one that has anything else."""
    if language == "python":
        return parse_calls(text)
    try:
        return from_compact(text)
    except ValueError:
        return None


def written(program: Program, shape: CanvasSize, language: str) -> str:
    """Return a program as the policy is to write it, without the statements that change nothing."""
    if language == "compact":
        return to_compact(normal_form(program, shape))
    return to_python(prune(program, shape))


def variations(
    task: Drawing, problem: Problem, samples: Sequence[Sample], seen: set[Image], tries: int, rng: random.Random
) -> list[tuple[Image, str]]:
    """Change sampled programs at random, `tries` times, and return each new image with the program that draws it.

    The changed programs are those of the VARIED images nearest to the goal. The returned images are added to `seen`,
    and none of them was in it. The goal is never among them: the policy itself is to find its program. Empty where no
    sample is a program of drawing statements alone.
    """
    goal = parse_image(problem.answer)
    shape = shape_of(goal)
    drawn = {sample.image: sample.text for sample in reversed(samples) if sample.image is not None}
    nearest = sorted(drawn, key=lambda image: right_share(image, goal))[-VARIED:]
    programs = [program for image in nearest if (program := statements_of(drawn[image], task.language))]
    pairs = []
    for _ in range(tries if programs else 0):
        program = varied(prune(rng.choice(programs), shape), shape, rng)
        image = execute(program, shape)
        if image != goal and image not in seen:
            text = written(program, shape, task.language)
            if text:
                seen.add(image)
                pairs.append((image, text))
    return pairs


def varied(program: Program, shape: CanvasSize, rng: random.Random) -> Program:
    """Return `program` after one or two changes: a random statement is put in, or one is left out.

    The probability of leaving one out is LEFT_OUT; the last one stays. A new one comes at the end half of the time, and
    otherwise anywhere.
    """
    statements = list(program)
    for _ in range(rng.randint(1, 2)):
        if rng.random() < LEFT_OUT and len(statements) > 1:
            del statements[rng.randrange(len(statements))]
        else:
            place = len(statements) if rng.random() < 0.5 else rng.randint(0, len(statements))
            statements.insert(place, random_statement(rng, shape))
    return tuple(statements)


def relabelled_rows(
    policy: Policy,
    task: Drawing,
    problem: Problem,
    samples: Sequence[Sample],
    seen: set[Image],
    tries: int,
    rng: random.Random,
) -> list[Row]:
    """Return a row of weight 1 for each pair of `relabelled` and `variations`: a prompt for the image, and its program.

    The pair nearest to the goal is last. A program ends with the end-of-sequence token. `variations` gets `tries` and
    `rng`. The new images are added to `seen`. Empty when no image is new.
    """
    end, goal = policy.tokenizer.eos_token_id, parse_image(problem.answer)
    pairs = relabelled(task, problem, samples, seen)
    pairs += variations(task, problem, samples, seen, tries, rng)
    rows = []
    for image, text in sorted(pairs, key=lambda pair: right_share(pair[0], goal)):
        program = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
        rows.append(Row(prompt_tokens(policy, task, task.problem_of(image)), [*program, end], 1.0))
    return rows


def goal_rows(
    policy: Policy, task: Drawing, problem: Problem, samples: Sequence[Sample], settings: Hindsight
) -> list[Row]:
    """Return the samples as answers to the goal, weighted by GRPO's advantages. Empty unless the method is "both".

    The first `settings.samples` of `samples` form the group; cold samples come after them and are left out. An
    advantage is the reward minus the group's mean, divided by its standard deviation (arXiv 2402.03300). There are no
    rows until a reward reaches `hindsight.near`, nor when all rewards are equal. Each group gets one optimiser step,
    before any other update, so that the ratio to the policy that sampled it is 1.
    """
    group = samples[: settings.samples]
    rewards = [sample.paid for sample in group]
    deviation = pstdev(rewards)
    if settings.method != "both" or max(rewards) < settings.near or not deviation:
        return []
    prompt, mean = prompt_tokens(policy, task, problem), fmean(rewards)
    rows = []
    for sample in group:
        advantage = (sample.paid - mean) / deviation
        rows.append(Row(prompt, sample.tokens, settings.goal_weight * advantage))
    return rows


def prompt_tokens(policy: Policy, task: Drawing, problem: Problem) -> list[int]:
    """Return a problem's prompt as token ids, with those of the chat template."""
    return policy.prompt_ids(task.messages(problem))
