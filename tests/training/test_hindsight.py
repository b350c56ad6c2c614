"""Hindsight on the real small model: what is relabelled, what is learnt of it, and that a run goes on exactly."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.runs.records import repeatable
from grpo_colab.tasks.drawing.images import parse_image, right_share
from grpo_colab.tasks.drawing.task import Drawing, draw_completions

pytestmark = pytest.mark.stack

TWO = "11/22"  # rows of the image that is asked for


def recipe_for(**hindsight: Any) -> Recipe:
    return Recipe.load(
        "drawing-tiny",
        task={"image": "25-squares"},
        grpo={"max_completion_length": 60},
        budget={"max_steps": 3},
        hindsight={"method": "her", "samples": 6, "cold_samples": 2, "variations": 4, **hindsight},
    )


@pytest.fixture
def policy() -> Any:
    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device

    return load_policy(recipe_for(), current_device())


def setup_for(recipe: Recipe, policy: Any) -> Any:
    from grpo_colab.training.setup import Setup
    from grpo_colab.utils.device import current_device

    task = recipe.load_task()
    problems = task.problems("train")
    return Setup(
        recipe=recipe, device=current_device(), task=task, policy=policy, held_out=problems, evaluation_batch=1
    )


@pytest.fixture
def samples_of() -> Callable[..., list[Any]]:
    from grpo_colab.training.relabelling import Sample

    def make(*texts: str, image: str = TWO) -> list[Any]:
        target = parse_image(image)
        images = draw_completions(texts, [target] * len(texts))
        return [
            Sample([7], text, drawing, {"pixels_reward": None}, right_share(drawing, target) if drawing else 0.0)
            for text, drawing in zip(texts, images, strict=True)
        ]

    return make


def test_each_new_drawing_is_relabelled_once_with_its_shortest_program_the_nearest_last(
    samples_of: Callable[..., list[Any]],
) -> None:
    from grpo_colab.training.relabelling import relabelled

    task = Drawing(image=TWO, language="compact")
    problem, seen = task.problems("train")[0], set()
    samples = samples_of(
        "H c1 y0",  # half of it right
        "P c5 y0 x0 H c1 y0",  # the same drawing, longer before it is pruned
        "P c1 y0 x0 P c1 y0 x1",  # the same drawing, longer also then
        "H c9 y0 H c9 y1",  # nothing right
        "P c0 y0 x0",  # draws nothing
        "H c1",  # no program
        "draw_pixel(img, (0, 1), 6)",  # another language than the model's
        "H c1 y0 P c2 y1 x0",  # three of four right
    )
    pairs = relabelled(task, problem, samples, seen)
    assert [text for _, text in pairs] == ["H c9 y0 H c9 y1", "H c1 y0", "H c1 y0 P c2 y1 x0"]
    assert [right_share(image, parse_image(TWO)) for image, _ in pairs] == [0.0, 0.5, 0.75]
    for image, text in pairs:
        assert draw_completions([text], [image]) == [image]
    assert relabelled(task, problem, samples, seen) == []
    assert [text for _, text in relabelled(task, problem, samples_of("H c1 y0", "V c3 x0"), seen)] == ["V c3 x0"]


def test_python_programs_are_relabelled_without_the_calls_that_change_nothing(
    samples_of: Callable[..., list[Any]],
) -> None:
    from grpo_colab.training.relabelling import relabelled

    task = Drawing(image=TWO, language="python")
    loop = "for column in range(2):\n    draw_pixel(img, (1, column), 4)"
    samples = samples_of("draw_pixel(img, (0, 0), 5)\ndraw_horizontal_line(img, 0, 1)", loop, "draw_pixel(img)")
    texts = [text for _, text in relabelled(task, task.problems("train")[0], samples, set())]
    assert texts == [loop, "draw_horizontal_line(img, 0, 1)"]


@pytest.mark.parametrize(
    ("language", "program", "others"),
    [
        ("compact", "H c1 y0", ("H c1", "draw_pixel(img, (0, 1), 6)", "P c0 y0 x0")),
        (
            "python",
            "draw_horizontal_line(img, 0, 1)",
            ("for c in (1, 2):\n    draw_pixel(img, (1, 0), c)", "no program"),
        ),
    ],
)
def test_variations_draw_new_images_and_never_the_goal(
    samples_of: Callable[..., list[Any]], language: str, program: str, others: tuple[str, ...]
) -> None:
    from grpo_colab.training.relabelling import variations

    task = Drawing(image=TWO, language=language)
    problem, goal = task.problems("train")[0], parse_image(TWO)

    def change(*texts: str, tries: int = 2_000, seed: int = 1) -> list[Any]:
        samples, rng = samples_of(*texts), random.Random(seed)
        return variations(task, problem, samples, seen, tries, rng)

    drawn = draw_completions([program], [goal])[0]
    seen = {drawn}
    pairs = change(program, *others)
    images = [image for image, _ in pairs]
    assert len(pairs) > 100
    assert len({*images}) == len(images)
    assert draw_completions([text for _, text in pairs], images) == images
    assert goal not in seen  # H c2 y1 behind the program draws it, which 2,000 tries have not missed
    assert drawn not in images
    assert seen == {drawn, *images}
    # most of a program stays, and so does most of its image
    assert sum(image[0] == (1, 1) for image in images) > 5
    assert change(program, tries=0) == change(*others[:1]) == []
    seen = {drawn}
    assert change(program, *others) == pairs
    seen = {drawn}
    assert change(program, *others, seed=2) != pairs


def test_variations_are_of_the_drawings_nearest_to_the_goal(samples_of: Callable[..., list[Any]]) -> None:
    from grpo_colab.training.relabelling import VARIED, variations

    task = Drawing(image="1111/1111/1111/1112", language="compact")
    far = [f"H c{colour} y{row}" for colour in (3, 4, 5, 6) for row in (0, 1, 2)]
    near = [f"P c{colour} y3 x3 P c{colour} y0 x0 H c1 y0 H c1 y1 V c1 x0" for colour in range(2, VARIED + 2)]
    samples = samples_of(*near, *far, image="1111/1111/1111/1112")
    pairs = variations(task, task.problems("train")[0], samples, set(), 60, random.Random(0))
    # of three such statements at most two are left out, and seldom does a new one cover them all
    assert sum("c1" in text for _, text in pairs) > 0.9 * len(pairs) > 30


def test_the_real_image_is_learnt_by_the_groups_advantages(policy: Any, samples_of: Callable[..., list[Any]]) -> None:
    from grpo_colab.training.relabelling import goal_rows

    task = Drawing(image=TWO, language="compact")
    problem = task.problems("train")[0]
    samples = samples_of("H c1 y0", "H c9 y0", "H c1 y0 P c2 y1 x0", "P c1 y0 x0", "H c1 y0", "H c9 y1")
    settings = recipe_for(method="both", samples=4, cold_samples=2).hindsight

    rows = goal_rows(policy, task, problem, samples, settings)
    paid = [0.5, 0.0, 0.75, 0.25]
    mean = sum(paid) / 4
    deviation = math.sqrt(sum((p - mean) ** 2 for p in paid) / 4)
    assert [row.weight for row in rows] == pytest.approx([(p - mean) / deviation for p in paid])
    for other in ({"method": "her"}, {"near": 0.8}):
        settings = recipe_for(**{"method": "both", "samples": 4, **other}).hindsight
        assert goal_rows(policy, task, problem, samples, settings) == []
    same = samples_of("H c1 y0", "H c1 y0", "H c1 y0", "H c1 y0")
    assert goal_rows(policy, task, problem, same, recipe_for(method="both", samples=4).hindsight) == []


def test_what_is_learnt_is_the_weighted_log_probability_whatever_the_padding(policy: Any) -> None:
    import torch

    from grpo_colab.training.hindsight_updates import weighted_log_probability
    from grpo_colab.training.relabelling import Row

    read = policy.tokenizer.get_vocab()
    rows = [
        Row([1, read["rows2"], read["columns2"], 2], [read["H"], read["c1"], read["y0"], 3], 1.0),
        Row([1, read["rows3"], read["columns2"], read["y0x0:4"], 2], [read["P"], 3], -2.5),
    ]
    expected = 0.0
    with torch.no_grad():
        for row in rows:
            logits = policy.model(input_ids=torch.tensor([[*row.prompt, *row.completion]])).logits[0].log_softmax(-1)
            places = range(len(row.prompt) - 1, len(row.prompt) + len(row.completion) - 1)
            expected += row.weight * sum(
                logits[place, token].item() for place, token in zip(places, row.completion, strict=True)
            )
        assert weighted_log_probability(policy, rows).item() == pytest.approx(expected, rel=1e-4)


def test_learning_makes_a_program_likelier_and_its_opposite_less(policy: Any) -> None:
    import torch

    from grpo_colab.training.hindsight_updates import Updates, weighted_log_probability
    from grpo_colab.training.relabelling import Row

    updates = Updates(policy, recipe_for().hindsight)
    prompt = policy.tokenizer.encode("<|begin|> rows2 columns2 y0x0:1 y1x0:2 <|draw|>")
    good, bad = (
        Row(prompt, policy.tokenizer.encode(f"{text} <|end|>"), weight)
        for text, weight in (("V c7 x0", 1.0), ("S c4 y0 x0 n2", -1.0))
    )

    def worth() -> tuple[float, float]:
        with torch.no_grad():
            return weighted_log_probability(policy, [good]).item(), -weighted_log_probability(policy, [bad]).item()

    before = worth()
    losses = [updates.step([good, bad]) for _ in range(3)]
    after = worth()
    assert after[0] > before[0] + 0.1
    assert after[1] < before[1] - 0.1
    tokens = len(good.completion) + len(bad.completion)
    assert losses[0] == pytest.approx(-(before[0] - before[1]) / tokens, rel=1e-4)


def test_a_backward_pass_without_room_is_cut_and_gives_the_same_gradient(policy: Any) -> None:
    """A model that has no memory for more than two rows at a time, and one that has."""
    import torch

    from grpo_colab.training.hindsight_updates import Updates
    from grpo_colab.training.relabelling import Row

    prompt = policy.tokenizer.encode("<|begin|> rows2 columns2 y0x0:1 y1x0:2 <|draw|>")
    rows = [Row(prompt, policy.tokenizer.encode(f"V c{c} x0 <|end|>"), 1.0 - c / 4) for c in range(8)]
    updates = Updates(policy, recipe_for(max_grad_norm=1e9).hindsight)
    gradients: list[list[Any]] = []
    updates.optimizer.register_step_pre_hook(
        lambda *_: gradients.append([weight.grad.clone() for weight in updates.weights])
    )
    start = [weight.detach().clone() for weight in updates.weights]
    updates.step(rows)
    with torch.no_grad():
        for weight, value in zip(updates.weights, start, strict=True):
            weight.copy_(value)
    seen = []

    def small(module: Any, args: Any, kwargs: Any) -> None:
        seen.append(len(kwargs["input_ids"]))
        if seen[-1] > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    hook = policy.model.register_forward_pre_hook(small, with_kwargs=True)
    updates.tokens_at_once = 8 * 4
    updates.step(rows)
    hook.remove()
    assert seen == [8, 4, 2, 2, 2, 2]
    for whole, cut in zip(*gradients, strict=True):
        assert torch.allclose(whole, cut, atol=1e-6)


def test_weights_that_diverge_end_the_run_at_its_last_checkpoint(tmp_path: Path, policy: Any) -> None:
    import json

    import torch

    from grpo_colab.runs import checkpoints
    from grpo_colab.training.hindsight import learn
    from grpo_colab.training.tripwires import Tripped

    recipe = recipe_for(learning_rate=1e30)
    run = Run.create(recipe, tmp_path / "run")
    remedy = "lower hindsight.learning_rate"
    with refused("tripwires.non_finite", True, problem="at iteration ", remedy=remedy, kind=Tripped):
        learn(setup_for(recipe, policy), run)
    record = json.loads((run.path / "tripwire.json").read_text())
    assert record["last_good_step"] == run.last_step == record["step"] - 1
    for checkpoint in checkpoints.saved(run.checkpoints):
        policy.load_adapter(checkpoint)
        assert all(torch.isfinite(weight).all() for weight in policy.model.parameters())


def test_sampling_is_the_models_distribution_whatever_its_configuration_asks_for(policy: Any) -> None:
    prompt = Drawing(image="16-squares", language="compact").problems("train")[0].question
    messages = [{"role": "user", "content": prompt}]
    plain = policy.sample([messages], 2, 40, temperature=0.01)
    policy.model.generation_config.repetition_penalty = 5.0
    assert policy.sample([messages], 2, 40, temperature=0.01) == plain


def test_a_run_that_was_cut_goes_on_to_the_last_digit(tmp_path: Path) -> None:
    """Two iterations, then a third in a policy that is loaded anew; against three at once."""
    from grpo_colab.policy.loading import load_policy
    from grpo_colab.training.hindsight import learn
    from grpo_colab.utils.device import current_device

    recipe = recipe_for(method="both")

    def go(run: Run, steps: int) -> list[dict[str, Any]]:
        cut = recipe.model_copy(update={"budget": recipe.budget.model_copy(update={"max_steps": steps})})
        assert learn(setup_for(cut, load_policy(recipe, current_device())), run) is False
        return repeatable(run.metrics())

    whole = go(Run.create(recipe, tmp_path / "whole"), 3)
    halves = Run.create(recipe, tmp_path / "halves")
    go(halves, 2)
    with (halves.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "torn')
    assert go(halves, 3) == whole
    assert [row["step"] for row in whole] == [1, 2, 3]
    assert [row["samples"] for row in whole] == [8, 16, 24]
    assert len(halves.completions()) == 24
    assert all(row["pairs"] and row["goal_rows"] == 6 for row in whole)


def test_the_temperature_rises_with_what_is_alike_above_a_quarter() -> None:
    from grpo_colab.training.hindsight import warmer_sampling

    settings = recipe_for(temperature=0.8, heat=2.0).hindsight
    assert settings is not None
    for distinct, temperature in ((8, 0.8), (6, 0.8), (4, 0.8 * 1.5), (0, 0.8 * 2.5)):
        warmed = warmer_sampling(
            settings, [{"distinct": 8, "new_samples": 8}, {"distinct": distinct, "new_samples": 8}]
        )
        assert warmed.temperature == pytest.approx(temperature)
    assert warmer_sampling(settings, []) == settings
