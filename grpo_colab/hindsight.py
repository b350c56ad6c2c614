"""Hindsight: what the policy drew was the right answer to another question, so it learns from that.

Hindsight experience replay (Andrychowicz et al. 2017, arXiv 1707.01495) as ironbar's ARC25 notes (iterations 6 and 8)
use it at test time: sample programs for the one image that is asked for, run them, and train on (what was drawn -> the
program), from the worst drawing to the best, never twice on the same drawing, until one is the image itself. No reward
is needed for that but to put them in order. Method "both" learns from the real image, too, by GRPO's advantages: see
`goal_rows`. Ours, and in none of the sources: the temperature of `hot`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import TYPE_CHECKING, Any, NamedTuple

from grpo_colab import checkpoints
from grpo_colab.drawing.canvas import Image, normal, prune, shape_of
from grpo_colab.drawing.compact import from_compact, to_compact
from grpo_colab.drawing.images import image_text, parse_image, right_share
from grpo_colab.drawing.python_calls import parse_calls, to_python
from grpo_colab.records import weighted_reward
from grpo_colab.rewards import call_reward, reward_name
from grpo_colab.run import reaches, writing_to
from grpo_colab.run_resume import rewind_to_checkpoint
from grpo_colab.tasks import reward_columns
from grpo_colab.tasks.drawing import drawn

if TYPE_CHECKING:
    import torch

    from grpo_colab.policy import Policy
    from grpo_colab.recipe import Recipe
    from grpo_colab.run import Run
    from grpo_colab.tables import Hindsight
    from grpo_colab.tasks import Problem
    from grpo_colab.tasks.drawing import Drawing
    from grpo_colab.tripwires import Tripped

LOGITS_BYTES = 2**29  # of one backward pass, which bounds how many rows it has
KEPT = 2  # checkpoints
USUALLY_ALIKE = 0.25  # share of an iteration's samples that draw nothing new, while all is well


class Row(NamedTuple):
    """What is learnt: the log-probability of `completion` after `prompt` (both tokens), times `weight`."""

    prompt: list[int]
    completion: list[int]
    weight: float


class Sample(NamedTuple):
    """One program that was sampled: what it drew, None where it drew nothing, and what all rewards together pay."""

    tokens: list[int]
    text: str
    image: Image | None
    rewards: dict[str, float | None]
    paid: float


def learn(
    learner: Policy,
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
    with writing_to(run):
        checkpoint = rewind_to_checkpoint(run)
    torch.manual_seed(recipe.grpo["seed"])
    updates, seen = Updates(learner, settings), set[Image]()
    if checkpoint is not None:
        seen = load(checkpoint, learner, updates)
    solved = any(reaches(row, recipe.budget.stop_at_reward) for row in run.metrics())
    bar = progress(recipe.budget.max_steps, run.last_step)
    while run.last_step < recipe.budget.max_steps and not solved:
        began, step, before = time.monotonic(), run.last_step + 1, run.metrics()
        samples = sample(learner, task, problem, recipe, hot(settings, before), run.save_failure)
        metrics = described(samples, before, began)
        solved = reaches(metrics, recipe.budget.stop_at_reward)
        if not solved:
            try:
                metrics |= improve(learner, task, problem, samples, seen, settings, updates)
            except FloatingPointError as error:
                raise diverged(run, step, settings, error) from error
        with writing_to(run):
            run.append("completions.jsonl", completions(step, task.messages(problem), problem, samples))
            run.append("metrics.jsonl", [{"step": step, **metrics, "step_time": time.monotonic() - began}])
            save(run, step, learner, updates, seen)
        bar.set_postfix_str(f"best {metrics['reward/max']:.3f}, mean {metrics['reward']:.3f}")
        bar.update()
        if after_iteration():
            break
    bar.close()
    with writing_to(run):
        learner.save(run.adapter)
    return solved


def diverged(run: Run, step: int, settings: Hindsight, error: FloatingPointError) -> Tripped:
    """The error that ends a run whose weights are still those of its last checkpoint."""
    from grpo_colab.tripwires import Tripped  # needs transformers, which unsloth must precede

    slower = settings.learning_rate / 4
    mended = f"lower hindsight.learning_rate (now {settings.learning_rate:g}), say to {slower:.1g}"
    record = {"wire": "tripwires.non_finite", "threshold": True, "step": step, "last_good_step": step - 1}
    run.write_json("tripwire.json", {**record, "seen": str(error), "suggestion": mended, "completions": []})
    return Tripped(f"tripwires.non_finite = true: at iteration {step} {error}; {mended}", record)


def hot(settings: Hindsight, before: Sequence[Mapping[str, float]]) -> Hindsight:
    """The settings with a higher temperature where the last iteration's samples were alike.

    A policy that is sure of all but one statement, and wrong there, draws the same over and over and has nothing to
    learn from. Nothing of this is in the study, which sampled more instead.
    """
    alike = 1 - before[-1]["distinct"] / before[-1]["new_samples"] if before else 0.0
    warmer = settings.heat * max(0.0, alike - USUALLY_ALIKE)
    return settings.model_copy(update={"temperature": settings.temperature * (1 + warmer)})


def sample(
    learner: Policy,
    task: Drawing,
    problem: Problem,
    recipe: Recipe,
    settings: Hindsight,
    save_failure: Callable[[dict[str, Any]], Any] | None = None,
) -> list[Sample]:
    """An iteration's programs, the cold ones last; what a reward breaks on goes to `save_failure`."""
    prompt = task.messages(problem)
    limit = recipe.grpo["max_completion_length"]
    tokens = learner.sample(
        prompt, settings.samples, limit, temperature=settings.temperature, top_p=settings.top_p
    ) + learner.sample(prompt, settings.cold_samples, limit, temperature=settings.cold_temperature)
    texts = learner.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    columns = {name: values * len(texts) for name, values in reward_columns([problem]).items()}
    paid = {
        reward_name(function): call_reward(function, [prompt] * len(texts), texts, tokens, columns, save=save_failure)
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
            weighted_reward(rewards.values(), weights),
        )
        for index, text in enumerate(texts)
    ]


def improve(
    learner: Policy,
    task: Drawing,
    problem: Problem,
    samples: Sequence[Sample],
    seen: set[Image],
    settings: Hindsight,
    updates: Updates,
) -> dict[str, float]:
    """Learn from an iteration's samples; what there was to learn, as metrics. `seen` grows by what was drawn anew."""
    goal = goal_rows(learner, task, problem, samples, settings)
    pairs = relabelled(task, problem, samples, seen)
    end = learner.tokenizer.eos_token_id
    rows = [
        Row(
            prompt_tokens(learner, task, task.problem_of(image)),
            [*learner.tokenizer(text, add_special_tokens=False)["input_ids"], end],
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
    learner: Policy, task: Drawing, problem: Problem, samples: Sequence[Sample], settings: Hindsight
) -> list[Row]:
    """Of method "both", once a drawing is near: the hot samples for the real image, weighed by GRPO's advantages.

    arXiv 2402.03300: the reward less the group's mean, divided by its deviation. With one optimiser step a group, which
    comes first, the ratio to the policy that sampled them is 1.
    """
    group = samples[: settings.samples]
    paid = [one.paid for one in group]
    if settings.method != "both" or max(paid) < settings.near or not (deviation := pstdev(paid)):
        return []
    prompt, mean = prompt_tokens(learner, task, problem), fmean(paid)
    return [Row(prompt, one.tokens, settings.goal_weight * (one.paid - mean) / deviation) for one in group]


def prompt_tokens(learner: Policy, task: Drawing, problem: Problem) -> list[int]:
    return learner.tokenizer(learner.prompt_text(task.messages(problem)), add_special_tokens=False)["input_ids"]


class Updates:
    """The adapter's optimiser, with a scale for gradients where they are float16, as on a T4."""

    def __init__(self, learner: Policy, settings: Hindsight) -> None:
        import torch

        self.learner, self.settings = learner, settings
        self.weights = [parameter for parameter in learner.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=settings.learning_rate, weight_decay=0.0)
        device = learner.model.device.type
        halves = device != "cpu" and learner.model.dtype == torch.float16
        self.scaler = torch.amp.GradScaler(device, enabled=halves)
        self.at_once = max(1, LOGITS_BYTES // (4 * learner.model.config.vocab_size))  # tokens in a backward pass

    def step(self, rows: Sequence[Row]) -> float:
        """One optimiser step up the rows' weighted log-probability, averaged over all of their tokens; the loss before.

        In ever smaller portions where memory asks for it. FloatingPointError, and no step, when it is not finite.
        """
        import torch

        from grpo_colab.policy import free_memory, out_of_memory

        self.learner.mode(training=True)
        while True:
            try:
                loss = self._backward(rows)
                break
            except RuntimeError as error:
                longest = max(len(row.completion) for row in rows)
                if not out_of_memory(error) or self.at_once < 2 * longest:
                    raise
            self.optimizer.zero_grad(set_to_none=True)
            free_memory()
            self.at_once //= 2
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, self.settings.max_grad_norm).item()
        # an infinite gradient of float16 only means that its scale was too large: the scaler leaves the step out
        if not math.isfinite(loss) or not (math.isfinite(norm) or self.scaler.is_enabled()):
            self.optimizer.zero_grad(set_to_none=True)
            raise FloatingPointError(f"the loss was {loss:g} and the gradient's norm {norm:g}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.learner.mode(training=False)
        return loss

    def _backward(self, rows: Sequence[Row]) -> float:
        tokens, loss = sum(len(row.completion) for row in rows), 0.0
        at_once = max(1, self.at_once // max(len(row.completion) for row in rows))
        for first in range(0, len(rows), at_once):
            value = -weighted_log_probability(self.learner, rows[first : first + at_once]) / tokens
            self.scaler.scale(value).backward()
            loss += value.item()
        return loss

    def state(self) -> dict[str, Any]:
        return {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def weighted_log_probability(learner: Policy, rows: Sequence[Row]) -> torch.Tensor:
    """The sum over the rows of weight x log-probability of the completion, a scalar, in nats."""
    import torch

    longest = max(len(row.completion) for row in rows)
    width, pad = max(len(row.prompt) for row in rows), learner.tokenizer.pad_token_id
    device = learner.model.device

    def padded(fill: int, left: Sequence[Sequence[int]], right: Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.tensor(
            [
                [fill] * (width - len(a)) + [*a, *b] + [fill] * (longest - len(b))
                for a, b in zip(left, right, strict=True)
            ],
            device=device,
        )

    prompts, answers = [row.prompt for row in rows], [row.completion for row in rows]
    ids = padded(pad, prompts, answers)
    mask = padded(0, [[1] * len(p) for p in prompts], [[1] * len(a) for a in answers])
    with torch.autocast(device.type, learner.model.dtype, enabled=device.type != "cpu"):
        # [rows, longest + 1, tokens of the vocabulary]
        logits = learner.model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=longest + 1).logits
    said = torch.log_softmax(logits[:, -longest - 1 : -1].float(), dim=-1)
    chosen = said.gather(-1, ids[:, width:, None])[..., 0] * mask[:, width:]
    return (torch.tensor([row.weight for row in rows], device=device) * chosen.sum(1)).sum()


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


def save(run: Run, step: int, learner: Policy, updates: Updates, seen: set[Image]) -> None:
    """A checkpoint: the adapter, the optimiser, what was drawn, and the random state; the oldest ones go."""
    import torch

    run.to_disk()
    staged = checkpoints.new_staging(run.checkpoints) / f"checkpoint-{step}"
    learner.model.save_pretrained(staged)
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


def load(checkpoint: Path, learner: Policy, updates: Updates) -> set[Image]:
    """Bring the adapter, the optimiser and the random state back; what was drawn until then."""
    import torch

    learner.load_adapter(checkpoint)
    state = torch.load(checkpoint / "hindsight.pt", map_location="cpu", weights_only=True)
    updates.load(state)
    torch.set_rng_state(state["random"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
    return {parse_image(text) for text in state["seen"]}
