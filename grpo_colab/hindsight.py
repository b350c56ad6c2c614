"""Hindsight: what the policy drew was the right answer to another question, so it learns from that.

Hindsight experience replay (Andrychowicz et al. 2017, arXiv 1707.01495) as ironbar's ARC25 notes (iterations 6 and 8)
use it at test time: sample programs for the one image that is asked for, run them, and train on (what was drawn -> the
program), from the worst drawing to the best, never twice on the same drawing, until one is the image itself. No reward
is needed for that but to put them in order. Method "both" learns from the real image, too, by GRPO's advantages: see
`goal_rows`. Ours, and in none of the sources: the temperature of `warmer_sampling`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, NamedTuple

from grpo_colab import checkpoints, evaluate
from grpo_colab.drawing.canvas import Image, normal, prune, shape_of
from grpo_colab.drawing.compact import from_compact, to_compact
from grpo_colab.drawing.images import image_text, parse_image, right_share
from grpo_colab.drawing.python_calls import parse_calls, to_python
from grpo_colab.hindsight_updates import Row, Updates
from grpo_colab.opening import go_back, on_disk
from grpo_colab.rewards import reward_name
from grpo_colab.run import reaches
from grpo_colab.tasks.drawing import drawn

if TYPE_CHECKING:
    from grpo_colab.policy import Policy
    from grpo_colab.recipe import Recipe
    from grpo_colab.run import Run
    from grpo_colab.tables import Hindsight
    from grpo_colab.tasks import Problem
    from grpo_colab.tasks.drawing import Drawing
    from grpo_colab.tripwires import Tripped

KEPT = 2  # checkpoints
USUALLY_ALIKE = 0.25  # share of an iteration's samples that draw nothing new, while all is well


class Sample(NamedTuple):
    """One program that was sampled: what it drew, None where it drew nothing, and what all rewards together pay."""

    tokens: list[int]
    text: str
    image: Image | None
    rewards: dict[str, float | None]
    paid: float


def learn(
    policy: Policy,
    task: Drawing,
    problem: Problem,
    recipe: Recipe,
    run: Run,
    after_iteration: Callable[[], bool] = lambda: False,
) -> bool:
    """Learn to draw `problem` from hindsight, an iteration a line of metrics.jsonl; whether it was solved.

    Goes on from the run's newest whole checkpoint, of which there is one an iteration; `after_iteration` is called
    after each, and ends it when it says so. The adapter is saved at the end. Raises Tripped, after tripwire.json is
    written, when the loss or a gradient is not finite.
    """
    import torch

    settings = recipe.hindsight
    assert settings is not None
    with on_disk(run):
        checkpoint = go_back(run)
    torch.manual_seed(recipe.grpo["seed"])
    updates, seen = Updates(policy, settings), set[Image]()
    if checkpoint is not None:
        seen = load(checkpoint, policy, updates)
    solved = any(reaches(row, recipe.budget.stop_at_reward) for row in run.metrics())
    bar = progress(recipe.budget.max_steps, run.last_step)
    while run.last_step < recipe.budget.max_steps and not solved:
        began, step, before = time.monotonic(), run.last_step + 1, run.metrics()
        samples = sample(policy, task, problem, recipe, warmer_sampling(settings, before), run.save_failure)
        metrics = described(samples, before, began)
        solved = reaches(metrics, recipe.budget.stop_at_reward)
        if not solved:
            try:
                metrics |= improve(policy, task, problem, samples, seen, settings, updates)
            except FloatingPointError as error:
                raise diverged(run, step, settings, error) from error
        with on_disk(run):
            run.append("completions.jsonl", completions(step, task.messages(problem), problem, samples))
            run.append("metrics.jsonl", [{"step": step, **metrics, "step_time": time.monotonic() - began}])
            save(run, step, policy, updates, seen)
        bar.set_postfix_str(f"best {metrics['reward/max']:.3f}, mean {metrics['reward']:.3f}")
        bar.update()
        if after_iteration():
            break
    bar.close()
    with on_disk(run):
        policy.save(run.adapter)
    return solved


def diverged(run: Run, step: int, settings: Hindsight, error: FloatingPointError) -> Tripped:
    """Return the error that ends a run whose weights are still those of its last checkpoint."""
    from grpo_colab.tripwires import Tripped  # needs transformers, which unsloth must precede

    slower = settings.learning_rate / 4
    mended = f"lower hindsight.learning_rate (now {settings.learning_rate:g}), say to {slower:.1g}"
    record = {"wire": "tripwires.non_finite", "threshold": True, "step": step, "last_good_step": step - 1}
    run.write_json("tripwire.json", {**record, "seen": str(error), "suggestion": mended, "completions": []})
    return Tripped(f"at iteration {step} {error}", record, setting="tripwires.non_finite", value=True, remedy=mended)


def warmer_sampling(settings: Hindsight, before: Sequence[Mapping[str, float]]) -> Hindsight:
    """The settings with a higher temperature where the last iteration's samples were alike.

    A policy that is sure of all but one statement, and wrong there, draws the same over and over and has nothing to
    learn from. Nothing of this is in the study, which sampled more instead.
    """
    alike = 1 - before[-1]["distinct"] / before[-1]["new_samples"] if before else 0.0
    warmer = settings.heat * max(0.0, alike - USUALLY_ALIKE)
    return settings.model_copy(update={"temperature": settings.temperature * (1 + warmer)})


def sample(
    policy: Policy,
    task: Drawing,
    problem: Problem,
    recipe: Recipe,
    settings: Hindsight,
    save_failure: Callable[[dict[str, Any]], Any] | None = None,
) -> list[Sample]:
    """An iteration's programs, the cold ones last; what a reward breaks on goes to `save_failure`."""
    prompt = task.messages(problem)
    limit = recipe.grpo["max_completion_length"]
    tokens = policy.sample(
        prompt, settings.samples, limit, temperature=settings.temperature, top_p=settings.top_p
    ) + policy.sample(prompt, settings.cold_samples, limit, temperature=settings.cold_temperature)
    texts = policy.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    columns = {name: values * len(texts) for name, values in evaluate.reward_columns([problem]).items()}
    paid = {
        reward_name(function): evaluate.call_reward(
            function, [prompt] * len(texts), texts, tokens, columns, save=save_failure
        )
        for function in recipe.reward_functions()
    }
    weights = list(recipe.rewards.values())
    images = drawn(texts, [parse_image(problem.answer)] * len(texts))
    return [
        Sample(
            tokens[index],
            text,
            images[index],
            (rewards := {name: values[index] for name, values in paid.items()}),
            sum(weight * (value or 0.0) for weight, value in zip(weights, rewards.values(), strict=True)),
        )
        for index, text in enumerate(texts)
    ]


def improve(
    policy: Policy,
    task: Drawing,
    problem: Problem,
    samples: Sequence[Sample],
    seen: set[Image],
    settings: Hindsight,
    updates: Updates,
) -> dict[str, float]:
    """Learn from an iteration's samples; what there was to learn, as metrics. `seen` grows by what was drawn anew."""
    goal = goal_rows(policy, task, problem, samples, settings)
    pairs = relabelled(task, problem, samples, seen)
    end = policy.tokenizer.eos_token_id
    rows = [
        Row(
            prompt_tokens(policy, task, task.problem_of(image)),
            [*policy.tokenizer(text, add_special_tokens=False)["input_ids"], end],
            1.0,
        )
        for image, text in pairs
    ]
    if goal:  # first, while the policy is still the one that sampled them
        updates.step(goal)
    losses = [
        updates.step(rows[first : first + settings.batch_size]) for first in range(0, len(rows), settings.batch_size)
    ]
    return {"pairs": len(pairs), "goal_rows": len(goal), **({"loss": fmean(losses)} if losses else {})}


def relabelled(task: Drawing, problem: Problem, samples: Sequence[Sample], seen: set[Image]) -> list[tuple[Image, str]]:
    """(what was drawn, the shortest program that drew it), the drawing that is nearest to the real one last.

    Only what was never drawn before, and only programs that draw anything.
    """
    target = parse_image(problem.answer)
    found: dict[Image, str] = {}
    for one in samples:
        if one.image is not None and one.image not in seen:
            text = shortened(one.text, one.image, task.language)
            if text and len(text) < len(found.get(one.image, text + " ")):
                found[one.image] = text
    seen.update(found)
    return sorted(found.items(), key=lambda pair: right_share(pair[0], target))


def shortened(text: str, image: Image, language: str) -> str:
    """The program without what changes nothing; one with more in it than calls of the drawing functions stays.

    Empty for one in another language than the model's, which it must not learn.
    """
    shape = shape_of(image)
    if language == "compact":
        try:
            return to_compact(normal(from_compact(text), shape))
        except ValueError:
            return ""
    program = parse_calls(text)
    return text.strip() if program is None else to_python(prune(program, shape))


def goal_rows(
    policy: Policy, task: Drawing, problem: Problem, samples: Sequence[Sample], settings: Hindsight
) -> list[Row]:
    """Of method "both", once a drawing is near: the hot samples for the real image, weighed by GRPO's advantages.

    arXiv 2402.03300: the reward less the group's mean, divided by its deviation. With one optimiser step a group, which
    comes first, the ratio to the policy that sampled them is 1.
    """
    group = samples[: settings.samples]
    paid = [one.paid for one in group]
    if settings.method != "both" or max(paid) < settings.near or not (deviation := pstdev(paid)):
        return []
    prompt, mean = prompt_tokens(policy, task, problem), fmean(paid)
    return [Row(prompt, one.tokens, settings.goal_weight * (one.paid - mean) / deviation) for one in group]


def prompt_tokens(policy: Policy, task: Drawing, problem: Problem) -> list[int]:
    return policy.tokenizer(policy.prompt_text(task.messages(problem)), add_special_tokens=False)["input_ids"]


def described(samples: Sequence[Sample], before: Sequence[Mapping[str, float]], began: float) -> dict[str, float]:
    """An iteration's metrics under TRL's names; "samples" is how many there were so far."""
    paid = [one.paid for one in samples]
    judged = {
        name: [value for one in samples if (value := one.rewards[name]) is not None] for name in samples[0].rewards
    }
    return {
        "reward": fmean(paid),
        "reward_std": pstdev(paid),
        "reward/max": max(paid),
        "reward/min": min(paid),
        **{f"rewards/{name}/mean": fmean(values) for name, values in judged.items() if values},
        "completions/mean_length": fmean(len(one.tokens) for one in samples),
        "distinct": len({one.image for one in samples if one.image is not None}),
        "new_samples": len(samples),
        "samples": sum(row["new_samples"] for row in before) + len(samples),
        "sample_time": time.monotonic() - began,
    }


def completions(step: int, prompt: Any, problem: Problem, samples: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    """The rows of completions.jsonl, as a GRPO run has them."""
    for one in samples:
        yield {
            "step": step,
            "group": 0,
            "prompt": prompt,
            "completion": one.text,
            "answer": problem.answer,
            "rewards": one.rewards,
        }


def progress(steps: int, done: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=steps, initial=done, unit="iteration", dynamic_ncols=True)


def save(run: Run, step: int, policy: Policy, updates: Updates, seen: set[Image]) -> None:
    """A checkpoint: the adapter, the optimiser, what was drawn, and the random state; the oldest ones go."""
    import torch

    run.to_disk()
    staged = checkpoints.new_staging(run.checkpoints) / f"checkpoint-{step}"
    policy.model.save_pretrained(staged)
    state = {
        **updates.state(),
        "seen": sorted(image_text(image) for image in seen),
        "random": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    torch.save(state, staged / "hindsight.pt")
    checkpoints.seal(staged, run.checkpoints)
    for old in checkpoints.saved(run.checkpoints)[:-KEPT]:
        checkpoints.delete(old)


def load(checkpoint: Path, policy: Policy, updates: Updates) -> set[Image]:
    """Bring the adapter, the optimiser and the random state back; what was drawn until then."""
    import torch

    policy.load_adapter(checkpoint)
    state = torch.load(checkpoint / "hindsight.pt", map_location="cpu", weights_only=True)
    updates.load(state)
    torch.set_rng_state(state["random"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    return {parse_image(text) for text in state["seen"]}
