"""Learn one drawing at test time by hindsight: a program is the right answer to a prompt for the image that it drew.

This is hindsight experience replay (Andrychowicz et al. 2017, arXiv 1707.01495) at test time, as in ironbar's ARC25
notes (iterations 6 and 8). An iteration samples programs for the goal image, runs them, and trains on pairs of a drawn
image and its program: from the worst drawing to the best, never twice on the same one. Iterations repeat until a
program draws the goal. Rewards only order the drawings. Method "both" also learns from the samples as answers to the
goal, by GRPO's advantages (`relabelling.goal_rows`). The temperature of `warmer_sampling` and the changed programs of
`relabelling.variations` are in none of the sources.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.evaluation import evaluate
from grpo_colab.plan import answers_at_once
from grpo_colab.policy.asking import check_asking
from grpo_colab.policy.card import model_card
from grpo_colab.policy.policy import Policy
from grpo_colab.policy.templates import check_prompts, load_tokenizer, with_chat_template
from grpo_colab.rewards import call_reward, reward_name
from grpo_colab.runs import checkpoints
from grpo_colab.runs.records import reaches, weighted_reward
from grpo_colab.runs.resume import rewind_to_checkpoint
from grpo_colab.runs.run import Run, writing_to
from grpo_colab.tasks import Problem, column_values
from grpo_colab.tasks.drawing.canvas import Image
from grpo_colab.tasks.drawing.images import image_text, parse_image
from grpo_colab.tasks.drawing.task import Drawing, draw_completions
from grpo_colab.training.checks import check_data, check_foreign_rewards
from grpo_colab.training.endings import Tripped
from grpo_colab.training.hindsight_updates import Updates
from grpo_colab.training.preparation import import_stack, policy_of, with_chosen_bits
from grpo_colab.training.pretraining import pretrained
from grpo_colab.training.relabelling import Sample, goal_rows, relabelled_rows
from grpo_colab.training.setup import Outcome, Problems, Setup
from grpo_colab.utils.console import Verbosity, info, verbosity
from grpo_colab.utils.memory import out_of_memory

if TYPE_CHECKING:
    from grpo_colab.recipe.recipe import Recipe
    from grpo_colab.recipe.schema import Hindsight
    from grpo_colab.training.checkpointing import CheckpointManager
    from grpo_colab.training.phases import Phases

CHECKPOINTS_KEPT = 2
USUALLY_ALIKE = 0.25  # share of a healthy iteration's samples that repeat another's image or draw nothing


class HindsightLearner:
    """Learn one drawing at test time by hindsight, in a single process."""

    says_accuracy = says_result = False  # there is one image, and the last line says whether it was drawn

    def check(self, recipe: Recipe) -> Problems:
        """Return the one problem, which is trained on and held out. Raises SettingError for what cannot work."""
        task = recipe.load_task()
        held_out = evaluate.evaluation_problems(task, recipe)
        check_data(recipe, task, [], held_out)
        return Problems(task, [], held_out)

    def prepare(
        self,
        recipe: Recipe,
        problems: Problems,
        run: Run | None,
        loaded: Policy | None,
        phases: Phases,
        held: contextlib.ExitStack,
    ) -> Setup:
        """Load the policy with the pre-trained adapter, and return the setup with the held-out problem of `problems`.

        `run` is the run to resume, None for a new one. `loaded` is a policy to use instead of loading one. Without it,
        a pre-trained adapter that is missing is trained first, and the policy is closed when `held` is. A run with a
        whole checkpoint needs no pre-trained adapter: `learn` continues from the checkpoint's. Imports Unsloth. Raises
        SettingError for what cannot work, and PretrainingStopped when a signal ended the pre-training.
        """
        task, held_out = problems.task, problems.held_out
        device = import_stack(recipe, task, phases)
        check_foreign_rewards(recipe, held_out, held_out)
        check_asking(recipe, device)
        if not loaded:
            recipe = with_chosen_bits(recipe)
        tokenizer = loaded.tokenizer if loaded else load_tokenizer(recipe, may_run_code=True)
        check_prompts(recipe, task, held_out, with_chat_template(recipe, tokenizer))
        # `newest_whole` would set damaged ones aside here, and `learn` could not say so.
        has_checkpoint = run is not None and None in map(checkpoints.damage, checkpoints.saved(run.checkpoints))
        adapter = None
        if recipe.pretraining and not (loaded or has_checkpoint):
            phases.begin("pre-training")
            adapter = pretrained(recipe, device, run)
        policy = policy_of(recipe, recipe, device, loaded, adapter, phases, held)
        return Setup(
            recipe=recipe,
            device=device,
            task=task,
            policy=policy,
            held_out=evaluate.fitting_problems(policy, recipe, task, held_out),
            evaluation_batch=answers_at_once(recipe, policy.model.config, device.free_bytes),
        )

    def learn(self, setup: Setup, run: Run, manager: CheckpointManager) -> Outcome:
        """Learn until the image is drawn, the iterations are over, or there is no time left for another one.

        The adapter is saved before the return. The outcome's step is the last iteration, or 0 while there is more to
        learn: then nothing is to be evaluated. A signal raises Stopped at once, and what the present iteration learned
        is lost. Raises SettingError when memory runs out, and what the function `learn` raises.
        """

        def is_over() -> bool:
            """Have the run copied to its mirror, and tell whether another iteration would end after the deadline."""
            if manager.mirror is not None:
                manager.mirror.request()
            # The evaluation afterwards takes less than an iteration, so it needs no time of its own.
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
        """Print that the run is finished, or how to resume it."""
        if run.finished:
            solved = "Solved" if run.solved else "Not solved"
            info(f"{solved} in {run.last_step} iterations. Everything is in {run.path}")
        else:
            done = f"iteration {run.last_step} of {recipe.budget.max_steps}"
            info(f"Stopped after {done}. Go on with: {run.resume_command}")


def learn(setup: Setup, run: Run, is_over: Callable[[], bool] = lambda: False) -> bool:
    """Learn to draw the setup's one problem, and return whether it was solved.

    Continue from the run's newest whole checkpoint. Each iteration writes a checkpoint and a line of metrics.jsonl, and
    `is_over` is called after it: True ends the learning. The adapter is saved at the end. A progress bar is shown.

    Raises Tripped, after tripwire.json is written, when the loss or a gradient is not finite. Raises RewardError for a
    reward that breaks, after reward-failure.json is written. Raises SettingError where the run folder cannot be
    written, and RuntimeError when memory runs out.
    """
    import torch

    recipe, policy, task = setup.recipe, setup.policy, setup.task
    problem, settings = setup.held_out[0], settings_of(setup)
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
                rng = random.Random(f"variations/{recipe.grpo['seed']}/{step}")
                metrics |= improve(policy, task, problem, samples, seen, settings, updates, rng)
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
        policy.save(run.adapter, model_card(recipe))
    return solved


def settings_of(setup: Setup) -> Hindsight:
    """Return the recipe's [hindsight], which it must have."""
    assert setup.recipe.hindsight is not None
    return setup.recipe.hindsight


def diverged(run: Run, step: int, settings: Hindsight, error: FloatingPointError) -> Tripped:
    """Write tripwire.json, and return the error that ends the run, for the caller to raise.

    `step` is the iteration that failed, `error` says what was not finite. The failed iteration has saved nothing, so
    the last checkpoint is good. Where the file cannot be written, nothing is raised.
    """
    lower_rate = settings.learning_rate / 4
    suggestion = f"lower hindsight.learning_rate (now {settings.learning_rate:g}), say to {lower_rate:.1g}"
    record = {"wire": "tripwires.non_finite", "threshold": True, "step": step, "last_good_step": step - 1}
    with contextlib.suppress(OSError):  # a full disk must not hide what happened
        run.write_json("tripwire.json", {**record, "seen": str(error), "suggestion": suggestion, "completions": []})
    return Tripped(
        f"at iteration {step} {error}", record, setting="tripwires.non_finite", value=True, remedy=suggestion
    )


def warmer_sampling(settings: Hindsight, before: Sequence[Mapping[str, float]]) -> Hindsight:
    """Return the settings with a higher temperature if the last iteration's samples were much alike.

    A policy that is sure of every statement but wrong in one draws the same image again and again, and then there is
    nothing to learn from. The ARC25 notes sample more instead. `before` is the rows of metrics so far. Without any, or
    when no more than USUALLY_ALIKE of the samples were alike, the temperature stays the same.
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
    """Sample an iteration's programs, run and reward them. Those sampled at the low temperature are last.

    `settings` has the temperatures and the numbers of samples. Raises RewardError for a reward that breaks. Before
    that, `save_failure` gets a record of what the reward was called with. Raises SettingError when there is no memory
    for a single sample.
    """
    prompt = task.messages(problem)
    limit = recipe.grpo["max_completion_length"]
    exploring = policy.sample([prompt], settings.samples, limit, temperature=settings.temperature, top_p=settings.top_p)
    cold = policy.sample([prompt], settings.cold_samples, limit, temperature=settings.cold_temperature)
    tokens = exploring + cold
    texts = policy.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    images = draw_completions(texts, [parse_image(problem.answer)] * len(texts))

    prompts = [prompt] * len(texts)
    columns = {name: values * len(texts) for name, values in column_values([problem]).items()}
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
    rng: random.Random,
) -> dict[str, float]:
    """Update the policy on an iteration's samples, and return metrics: the numbers of rows, and the mean loss if any.

    The metrics are `pairs` (of an image and its program), `goal_rows`, and `loss`, the mean over the batches of pairs
    in nats per token. `rng` makes the variations. The new images are added to `seen`. Raises FloatingPointError when a
    loss or a gradient is not finite, and RuntimeError when memory runs out.
    """
    goal = goal_rows(policy, task, problem, samples, settings)
    rows = relabelled_rows(policy, task, problem, samples, seen, settings.variations, rng)
    if goal:  # before all other updates, while the policy is still the one that sampled them
        updates.step(goal)
    losses = []
    for first in range(0, len(rows), settings.batch_size):
        losses.append(updates.step(rows[first : first + settings.batch_size]))
    metrics: dict[str, float] = {"pairs": len(rows), "goal_rows": len(goal)}
    if losses:
        metrics["loss"] = fmean(losses)
    return metrics


def sample_metrics(samples: Sequence[Sample], before: Sequence[Mapping[str, float]], began: float) -> dict[str, float]:
    """Return an iteration's metrics, under TRL's names where TRL has them.

    `samples` must not be empty. `before` is the rows of the earlier iterations: "samples" counts theirs, too. `began`
    is the iteration's start by time.monotonic(), and "sample_time" is the seconds since. "distinct" counts different
    images. A reward that judged no sample has no mean.
    """
    paid = [one.paid for one in samples]
    means = {}
    for name in samples[0].rewards:
        values = [one.rewards[name] for one in samples]
        judged = [value for value in values if value is not None]
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
    """Yield an iteration's rows of completions.jsonl, in the form of a GRPO run's, but without advantages.

    `step` is the iteration, from 1. All samples answer one prompt, so the group is 0.
    """
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
    """Return tqdm's bar, which shows on stderr, for `steps` iterations, of which `done` are behind.

    With Verbosity.QUIET it does not show.
    """
    from tqdm.auto import tqdm

    quiet = verbosity() == Verbosity.QUIET
    return tqdm(total=steps, initial=done, unit="iteration", dynamic_ncols=True, disable=quiet)


def save_checkpoint(run: Run, step: int, policy: Policy, updates: Updates, seen: set[Image]) -> None:
    """Write a checkpoint (adapter, optimiser, drawn images, random state), and delete all but the newest ones.

    CHECKPOINTS_KEPT of them stay. The run's lines are flushed to the disk before. `step` is the iteration. Raises
    OSError, or an error of safetensors or torch, where it cannot be written.
    """
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
    for old in checkpoints.saved(run.checkpoints)[:-CHECKPOINTS_KEPT]:
        checkpoints.delete(old)


def load_checkpoint(checkpoint: Path, policy: Policy, updates: Updates) -> set[Image]:
    """Restore the adapter, the optimiser and the random state, and return the images drawn so far.

    `policy` and `updates` are changed in place. Raises SettingError for an adapter that is damaged or another model's,
    and whatever torch.load raises for a hindsight.pt that it cannot read.
    """
    import torch

    policy.load_adapter(checkpoint)
    state = torch.load(checkpoint / "hindsight.pt", map_location="cpu", weights_only=True)
    updates.load(state)
    torch.set_rng_state(state["random"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    return {parse_image(text) for text in state["seen"]}
