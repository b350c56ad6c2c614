"""Hindsight: what the policy drew was the right answer to another question, so it learns from that.

Hindsight experience replay (Andrychowicz et al. 2017, arXiv 1707.01495) is used at test time, as in ironbar's ARC25
notes (iterations 6 and 8). Sample programs for the one image that is asked for, run them, and train on pairs of what
was drawn and the program that drew it: from the worst drawing to the best, never twice on the same drawing, until one
is the image itself. Rewards only put the drawings in order. Method "both" learns from the real image, too, by GRPO's
advantages: see `relabelling.goal_rows`. Ours, and in none of the sources, is the temperature of `warmer_sampling`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.evaluation import evaluate
from grpo_colab.plan import answers_at_once
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.policy import Policy
from grpo_colab.rewards import call_reward, reward_name
from grpo_colab.runs import checkpoints
from grpo_colab.runs.records import weighted_reward
from grpo_colab.runs.resume import rewind_to_checkpoint
from grpo_colab.runs.run import Run, reaches, writing_to
from grpo_colab.tasks import Problem, reward_columns
from grpo_colab.tasks.drawing.canvas import Image
from grpo_colab.tasks.drawing.images import image_text, parse_image
from grpo_colab.tasks.drawing.task import Drawing, draw_completions
from grpo_colab.training.hindsight_updates import Updates
from grpo_colab.training.preparation import import_stack
from grpo_colab.training.pretraining import pretrained
from grpo_colab.training.relabelling import Sample, goal_rows, relabelled_rows
from grpo_colab.training.setup import Outcome, Setup
from grpo_colab.utils.console import info
from grpo_colab.utils.device import this_machine
from grpo_colab.utils.memory import out_of_memory
from grpo_colab.utils.stack import check_import_order

if TYPE_CHECKING:
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.recipe.schema import Hindsight
    from grpo_colab.training.checkpointing import CheckpointManager
    from grpo_colab.training.tripwires import Tripped

KEPT = 2  # checkpoints
USUALLY_ALIKE = 0.25  # share of an iteration's samples that draw nothing new, while all is well


class HindsightLearner:
    """Learn one drawing at test time from hindsight, in this process alone."""

    says_accuracy = False  # an image is right or wrong, and the end says which

    def prepare(self, recipe: Recipe, run: Run | None, loaded: Policy | None) -> Setup:
        """Load the policy: pre-trained, unless the run has a checkpoint, which holds what the pre-training taught."""
        device = this_machine()
        check_import_order()
        task = recipe.load_task()
        held_out = evaluate.evaluation_problems(task, recipe)
        import_stack(recipe, task, device)
        info(f"Loading {recipe.model['model_name']} on {device.name} ...")
        begun = run is not None and checkpoints.newest_whole(run.checkpoints)[0] is not None
        policy = loaded or load_policy(recipe, device, None if begun else pretrained(recipe, device, run))
        return Setup(
            recipe=recipe,
            device=device,
            task=task,
            policy=policy,
            held_out=evaluate.fitting_problems(policy, recipe, task, held_out),
            evaluation_batch=answers_at_once(recipe, policy.model.config, device.free_bytes),
        )

    def learn(self, setup: Setup, run: Run, manager: CheckpointManager) -> Outcome:
        """Learn until the image is drawn, the iterations are over, or there is no time for another one."""

        def is_over() -> bool:
            if manager.mirror is not None:
                manager.mirror.request()
            # the evaluation afterwards takes less than an iteration
            return time.monotonic() + run.metrics()[-1]["step_time"] > manager.deadline

        try:
            solved = learn(setup, run, is_over)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise SettingError(
                f"out of memory ({one_line(error)})",
                setting="hindsight.samples",
                value=settings_of(setup).samples,
                remedy=f"write fewer, or a smaller hindsight.batch_size, in {run.path / 'recipe.toml'}, and go on "
                f"with: {run.resume_command}",
            ) from error
        done = solved or run.last_step >= setup.recipe.budget.max_steps
        return Outcome(run.last_step if done else 0, solved)

    def say_the_end(self, run: Run, recipe: Recipe, manager: CheckpointManager) -> None:
        """Say that all is done, or how to resume."""
        if run.finished:
            solved = "Solved" if run.solved else "Not solved"
            info(f"{solved} in {run.last_step} iterations. Everything is in {run.path}")
        else:
            done = f"iteration {run.last_step} of {recipe.budget.max_steps}"
            info(f"Stopped after {done}. Go on with: {run.resume_command}")


def learn(setup: Setup, run: Run, is_over: Callable[[], bool] = lambda: False) -> bool:
    """Learn to draw the setup's one problem, an iteration per line of metrics.jsonl, and return whether it was solved.

    Goes on from the run's newest whole checkpoint, of which there is one per iteration. `is_over` is asked after each
    iteration. The adapter is saved at the end. Raises Tripped, after tripwire.json is written, when the loss or a
    gradient is not finite.
    """
    import torch

    recipe, policy, problem, settings = setup.recipe, setup.policy, setup.held_out[0], settings_of(setup)
    task = setup.task
    assert isinstance(task, Drawing)  # no other task has [hindsight]
    with writing_to(run):
        checkpoint = rewind_to_checkpoint(run)
    torch.manual_seed(recipe.grpo["seed"])
    updates, seen = Updates(policy, settings), set[Image]()
    if checkpoint is not None:
        seen = load_checkpoint(checkpoint, policy, updates)
    solved = any(reaches(row, recipe.budget.stop_at_reward) for row in run.metrics())
    bar = progress_bar(recipe.budget.max_steps, run.last_step)
    while run.last_step < recipe.budget.max_steps and not solved:
        began, step, before = time.monotonic(), run.last_step + 1, run.metrics()
        samples = sample(policy, task, problem, recipe, warmer_sampling(settings, before), run.save_failure)
        metrics = sample_metrics(samples, before, began)
        solved = reaches(metrics, recipe.budget.stop_at_reward)
        if not solved:
            try:
                metrics |= improve(policy, task, problem, samples, seen, settings, updates)
            except FloatingPointError as error:
                raise diverged(run, step, settings, error) from error
        with writing_to(run):
            run.append("completions.jsonl", completion_rows(step, task.messages(problem), problem, samples))
            run.append("metrics.jsonl", [{"step": step, **metrics, "step_time": time.monotonic() - began}])
            save_checkpoint(run, step, policy, updates, seen)
        bar.set_postfix_str(f"best {metrics['reward/max']:.3f}, mean {metrics['reward']:.3f}")
        bar.update()
        if is_over():
            break
    bar.close()
    with writing_to(run):
        policy.save(run.adapter)
    return solved


def settings_of(setup: Setup) -> Hindsight:
    """Return the recipe's [hindsight], which it has."""
    assert setup.recipe.hindsight is not None
    return setup.recipe.hindsight


def diverged(run: Run, step: int, settings: Hindsight, error: FloatingPointError) -> Tripped:
    """Write tripwire.json, and return the error that ends a run whose weights are those of its last checkpoint."""
    from grpo_colab.training.tripwires import Tripped  # needs transformers, which unsloth must precede

    slower = settings.learning_rate / 4
    suggestion = f"lower hindsight.learning_rate (now {settings.learning_rate:g}), say to {slower:.1g}"
    record = {"wire": "tripwires.non_finite", "threshold": True, "step": step, "last_good_step": step - 1}
    run.write_json("tripwire.json", {**record, "seen": str(error), "suggestion": suggestion, "completions": []})
    return Tripped(f"tripwires.non_finite = true: at iteration {step} {error}; {suggestion}", record)


def warmer_sampling(settings: Hindsight, before: Sequence[Mapping[str, float]]) -> Hindsight:
    """Return the settings with a higher temperature if the last iteration's samples were alike.

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
    """Return an iteration's programs with their rewards, the cold ones last.

    `save_failure` gets the record of what a reward breaks on.
    """
    prompt = task.messages(problem)
    limit = recipe.grpo["max_completion_length"]
    hot = policy.sample(prompt, settings.samples, limit, temperature=settings.temperature, top_p=settings.top_p)
    cold = policy.sample(prompt, settings.cold_samples, limit, temperature=settings.cold_temperature)
    tokens = hot + cold
    texts = policy.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    images = draw_completions(texts, [parse_image(problem.answer)] * len(texts))

    prompts = [prompt] * len(texts)
    columns = {name: values * len(texts) for name, values in reward_columns([problem]).items()}
    paid = {}
    for function in recipe.reward_functions():
        values = call_reward(function, prompts, texts, tokens, columns, save=save_failure)
        paid[reward_name(function)] = values

    samples, weights = [], list(recipe.rewards.values())
    for index, text in enumerate(texts):
        rewards = {name: values[index] for name, values in paid.items()}
        total = weighted_reward(rewards.values(), weights)
        samples.append(Sample(tokens[index], text, images[index], rewards, total))
    return samples


def improve(
    policy: Policy,
    task: Drawing,
    problem: Problem,
    samples: Sequence[Sample],
    seen: set[Image],
    settings: Hindsight,
    updates: Updates,
) -> dict[str, float]:
    """Learn from an iteration's samples, and return metrics of what there was to learn. `seen` grows by what is new."""
    goal = goal_rows(policy, task, problem, samples, settings)
    rows = relabelled_rows(policy, task, problem, samples, seen)
    if goal:  # first, while the policy is still the one that sampled them
        updates.step(goal)
    losses = []
    for first in range(0, len(rows), settings.batch_size):
        losses.append(updates.step(rows[first : first + settings.batch_size]))
    return {"pairs": len(rows), "goal_rows": len(goal), **({"loss": fmean(losses)} if losses else {})}


def sample_metrics(samples: Sequence[Sample], before: Sequence[Mapping[str, float]], began: float) -> dict[str, float]:
    """Return an iteration's metrics under TRL's names. "samples" is how many there were so far."""
    paid = [one.paid for one in samples]
    means = {}
    for name in samples[0].rewards:
        judged = [value for one in samples if (value := one.rewards[name]) is not None]
        if judged:
            means[f"rewards/{name}/mean"] = fmean(judged)
    return {
        "reward": fmean(paid),
        "reward_std": pstdev(paid),
        "reward/max": max(paid),
        "reward/min": min(paid),
        **means,
        "completions/mean_length": fmean(len(one.tokens) for one in samples),
        "distinct": len({one.image for one in samples if one.image is not None}),
        "new_samples": len(samples),
        "samples": sum(row["new_samples"] for row in before) + len(samples),
        "sample_time": time.monotonic() - began,
    }


def completion_rows(step: int, prompt: Any, problem: Problem, samples: Sequence[Sample]) -> Iterator[dict[str, Any]]:
    """Yield the rows of completions.jsonl, as a GRPO run has them."""
    for one in samples:
        yield {
            "step": step,
            "group": 0,
            "prompt": prompt,
            "completion": one.text,
            "answer": problem.answer,
            "rewards": one.rewards,
        }


def progress_bar(steps: int, done: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=steps, initial=done, unit="iteration", dynamic_ncols=True)


def save_checkpoint(run: Run, step: int, policy: Policy, updates: Updates, seen: set[Image]) -> None:
    """Write a checkpoint of the adapter, the optimiser, what was drawn and the random state; remove the oldest ones."""
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


def load_checkpoint(checkpoint: Path, policy: Policy, updates: Updates) -> set[Image]:
    """Restore the adapter, the optimiser and the random state, and return what was drawn until then."""
    import torch

    policy.load_adapter(checkpoint)
    state = torch.load(checkpoint / "hindsight.pt", map_location="cpu", weights_only=True)
    updates.load(state)
    torch.set_rng_state(state["random"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    return {parse_image(text) for text in state["seen"]}
