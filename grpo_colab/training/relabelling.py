"""What hindsight learns from an iteration's samples: rows of a prompt, a completion and a weight.

A program that drew something else than was asked for is the right answer to the question for what it drew. Method
"both" learns from the samples for the real image, too, by GRPO's advantages.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, NamedTuple

from grpo_colab.tasks.drawing.canvas import Image, normal_form, prune, shape_of
from grpo_colab.tasks.drawing.compact import from_compact, to_compact
from grpo_colab.tasks.drawing.images import parse_image, right_share
from grpo_colab.tasks.drawing.python_calls import parse_calls, to_python

if TYPE_CHECKING:
    from grpo_colab.policy.policy import Policy
    from grpo_colab.recipe.schema import Hindsight
    from grpo_colab.tasks import Problem
    from grpo_colab.tasks.drawing.task import Drawing


class Row(NamedTuple):
    """A completion to learn: its log-probability after `prompt` (both in tokens) counts `weight` times."""

    prompt: list[int]
    completion: list[int]
    weight: float


class Sample(NamedTuple):
    """One sampled program: what it drew, None if it drew nothing, and what all rewards together pay."""

    tokens: list[int]
    text: str
    image: Image | None
    rewards: dict[str, float | None]
    paid: float


def relabelled(task: Drawing, problem: Problem, samples: Sequence[Sample], seen: set[Image]) -> list[tuple[Image, str]]:
    """Return each new drawing with the shortest program that drew it, the one nearest to the real image last.

    A drawing is new when it is not in `seen`, which grows by those returned. Programs that draw nothing are left out.
    """
    target = parse_image(problem.answer)
    found: dict[Image, str] = {}
    for one in samples:
        if one.image is None or one.image in seen:
            continue
        text = shortened(one.text, one.image, task.language)
        shortest = found.get(one.image)
        if text and (shortest is None or len(text) < len(shortest)):
            found[one.image] = text
    seen.update(found)
    return sorted(found.items(), key=lambda pair: right_share(pair[0], target))


def shortened(text: str, image: Image, language: str) -> str:
    """Return the program without what changes nothing; one that holds more than drawing calls stays as it is.

    Empty for a program in another language than the model's, which it must not learn.
    """
    shape = shape_of(image)
    if language == "compact":
        try:
            return to_compact(normal_form(from_compact(text), shape))
        except ValueError:
            return ""
    program = parse_calls(text)
    return text.strip() if program is None else to_python(prune(program, shape))


def relabelled_rows(
    policy: Policy, task: Drawing, problem: Problem, samples: Sequence[Sample], seen: set[Image]
) -> list[Row]:
    """Return the rows of `relabelled`: the prompt asks for what was drawn, and the program answers it."""
    end = policy.tokenizer.eos_token_id
    rows = []
    for image, text in relabelled(task, problem, samples, seen):
        program = policy.tokenizer(text, add_special_tokens=False)["input_ids"]
        rows.append(Row(prompt_tokens(policy, task, task.problem_of(image)), [*program, end], 1.0))
    return rows


def goal_rows(
    policy: Policy, task: Drawing, problem: Problem, samples: Sequence[Sample], settings: Hindsight
) -> list[Row]:
    """Return the hot samples as answers for the real image, weighted by GRPO's advantages; none unless method "both".

    An advantage is the reward less the group's mean, divided by its deviation (arXiv 2402.03300). There are none
    before a drawing is as good as `hindsight.near`, nor when all are paid the same. With one optimiser step per group,
    which comes first, the ratio to the policy that sampled them is 1.
    """
    group = samples[: settings.samples]
    paid = [one.paid for one in group]
    deviation = pstdev(paid)
    if settings.method != "both" or max(paid) < settings.near or not deviation:
        return []
    prompt, mean = prompt_tokens(policy, task, problem), fmean(paid)
    return [Row(prompt, one.tokens, settings.goal_weight * (one.paid - mean) / deviation) for one in group]


def prompt_tokens(policy: Policy, task: Drawing, problem: Problem) -> list[int]:
    """Return a problem's prompt in tokens, the chat template's own included."""
    return policy.tokenizer(policy.prompt_text(task.messages(problem)), add_special_tokens=False)["input_ids"]
