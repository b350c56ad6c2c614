"""The rule of [tripwires] collapse, on rows alone: noise is none, and what it cannot work with is refused."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe
from grpo_colab.training.collapse import CollapseRule


def rows_of(**columns: Callable[[int], Any]) -> Iterator[dict[str, Any]]:
    """250 rows of metrics, a value per step and column; None leaves a value out."""
    for step in range(1, 251):
        found = {name.replace("__", "/"): value(step) for name, value in columns.items()}
        yield {"step": step, **{name: value for name, value in found.items() if value is not None}}


def healthy(seed: int, share: float, converged: bool, probe: int = 64, every: int = 5) -> Iterator[dict[str, Any]]:
    """A run whose probe and reward stay the same but for chance. `converged` is sure of what it writes from step 40."""
    dice = random.Random(f"{seed}/{share}/{converged}")
    sure = (lambda step: max(0.02, 1 - step / 60)) if converged else (lambda step: 1.0)
    return rows_of(
        reward=lambda step: dice.gauss(1.5, 0.4),
        probe__accuracy=lambda step: None if step % every else sum(dice.random() < share for _ in range(probe)) / probe,
        entropy=lambda step: 0.3 * dice.uniform(0.7, 1.3) * sure(step),
        completions__mean_length=lambda step: dice.gauss(100, 12),
        frac_reward_zero_std=lambda step: 1.0 if converged and step > 40 else dice.choice([0, 0.25, 0.5]),
    )


def alarms(probe: int, **settings: Any) -> int:
    found = 0
    for seed in range(300):
        rule = CollapseRule(probe)
        found += any(rule.update(row) is not None for row in healthy(seed, **settings))
    return found


@pytest.mark.parametrize(("probe", "share"), [(64, 0.3), (64, 0.9), (0, 0.5)])
def test_healthy_runs_raise_no_alarm(probe: int, share: float) -> None:
    """None of 300 runs of 250 steps, and few even of those whose second condition always holds."""
    assert alarms(probe, share=share, converged=False) == 0
    assert alarms(probe, share=share, converged=True) <= 15


def collapsing(**after: float) -> Iterator[dict[str, Any]]:
    """A run that rises for 40 steps; the metrics of `after` change at step 41."""
    before = {"probe/accuracy": 0.75, "reward": 3.0, "entropy": 0.4, "length": 100.0, "silent": 0.1}

    def at(name: str) -> Callable[[int], float]:
        return lambda step: after.get(name, before[name]) if step > 40 else before[name] * (1 + step / 400)

    def asked(step: int) -> float | None:
        return None if step % 5 else (after.get("probe", 0.75) if step > 40 else 0.3 + step / 80)

    return rows_of(
        probe__accuracy=asked,
        reward=at("reward"),
        entropy=at("entropy"),
        completions__mean_length=at("length"),
        frac_reward_zero_std=at("silent"),
    )


FALLS = {
    "entropy that explodes": ({"entropy": 1.5}, "entropy grew to 1.5"),
    "entropy that falls to nothing": ({"entropy": 0.01}, "entropy fell to 0.01"),
    "a form without reasoning": ({"length": 20.0}, "completions shrank from 109 to 20 tokens"),
    "rambling": ({"length": 300.0}, "completions grew from 109 to 300 tokens"),
    "groups that no longer differ": ({"silent": 0.9}, "in 90% of the groups all completions earned the same"),
}


@pytest.mark.parametrize(("after", "said"), FALLS.values(), ids=list(FALLS))
@pytest.mark.parametrize("probe", [64, 0])
def test_a_fall_with_a_run_away_is_a_collapse(probe: int, after: dict[str, float], said: str) -> None:
    rule = CollapseRule(probe)
    found = [(row["step"], rule.update(row)) for row in collapsing(probe=0.2, reward=1.0, **after)]
    step, fall = next((step, fall) for step, fall in found if fall is not None)
    assert step == 50  # the second probe after the fall, and the first ten rewards
    assert fall.best_step == 40
    assert said in fall.description
    assert fall.description.startswith("probe/accuracy fell from 76.9% to 20.0% (" if probe else "reward fell from ")
    assert fall.seen["standard_errors"] > 4


@pytest.mark.parametrize(
    "after",
    [
        {"probe": 0.2, "reward": 1.0},  # a fall alone, as from one stage of a task to the next
        {"entropy": 0.001, "length": 20.0, "silent": 1.0, "probe": 0.95, "reward": 4.0},  # it has learned its task
        {"entropy": 0.001, "silent": 1.0, "probe": 0.7, "reward": 3.3},  # within the noise of 128 answers
        {"probe": 0.2, "reward": 1.0, "entropy": 0.2, "length": 60.0, "silent": 0.4},  # nothing of it ran away
    ],
)
@pytest.mark.parametrize("probe", [64, 0])
def test_neither_alone_is_one(probe: int, after: dict[str, float]) -> None:
    rule = CollapseRule(probe)
    assert not any(rule.update(row) for row in collapsing(**after))


def test_the_best_step_is_one_that_can_be_saved_and_the_newest_of_equals() -> None:
    saved = CollapseRule(8, iterations=2)
    for step, value in ((3, 1.0), (6, 0.5), (9, 0.5), (10, 0.5), (12, 0.0)):
        saved.update({"step": step, "probe/accuracy": value})
    # Means of two: 1.0 at 3, which shares its completions with 4; 0.75, 0.5, 0.5, 0.25.
    assert saved.best is not None
    assert (saved.best.step, saved.best.value) == (6, 0.75)
    level = CollapseRule(8)
    for step in (2, 4, 6):
        level.update({"step": step, "probe/accuracy": 1.0, "reward": math.nan})
    assert level.best is not None
    assert level.best.step == 6


# What cannot work.


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"grpo": {"save_strategy": "no"}}, "take grpo.save_strategy out"),
        ({"grpo": {"metric_for_best_model": "entropy"}}, "take grpo.metric_for_best_model"),
        ({"grpo": {"metric_for_best_model": "reward"}, "evaluation": {"every": 5}}, "take grpo.metric_for_best_model"),
        ({"grpo": {"greater_is_better": False}}, "grpo.greater_is_better out"),
        ({"grpo": {"lr_scheduler_type": "reduce_lr_on_plateau"}}, "write grpo.lr_scheduler_type = 'linear'"),
    ],
    ids=["no checkpoints", "another metric", "the reward beside a probe", "the least", "no rate"],
)
def test_what_it_cannot_go_back_with_is_refused(settings: dict[str, Any], remedy: str) -> None:
    with refused("tripwires.collapse", True, remedy=remedy):
        Recipe.load(tripwires={"collapse": True}, **settings)
    Recipe.load(**settings)  # off, it is the user's own
