"""Turn an iteration's samples into what hindsight learns from: rows of a prompt, a completion and a weight.

A program that drew another image than the goal is the right answer to a prompt for the image that it drew. Method
"both" also learns from the samples as answers to the goal, weighted by GRPO's advantages.
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
    """Return a row of weight 1 for each pair of `relabelled`: a prompt for the drawn image, and its program.

    A program ends with the end-of-sequence token. The new images are added to `seen`. Empty when no image is new.
    """
    end = policy.tokenizer.eos_token_id
    rows = []
    for image, text in relabelled(task, problem, samples, seen):
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
