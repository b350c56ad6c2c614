"""Which problems a step practises: those of the kinds that come out right half of the time."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.tasks.kinds import features_of
from grpo_colab.training.sampling.prompts import CANDIDATES, PromptSampler

GSM8K = Path(__file__).parents[4] / "shared" / "gsm8k"


def taught(sampler: PromptSampler, right_of: dict[str, float], steps: int = 12) -> None:
    """Let the sampler see eight completions of each problem that it chooses, right as often as their kind is."""
    rng = random.Random(1)
    for step in range(steps):
        rows = sampler.choose(4, step, 0)
        rights = [sum(rng.random() < right_of[kind(sampler, row)] for _ in range(8)) for row in rows]
        sampler.update([(row, right, 8 - right) for row, right in zip(rows, rights, strict=True)])


def kind(sampler: PromptSampler, row: int) -> str:
    return sampler.forecast.features[row][0]


def test_it_practises_what_is_right_half_of_the_time() -> None:
    shares = {"easy": 1.0, "half": 0.5, "hard": 0.0}
    features = [(name,) for name in shares] * 100
    sampler = PromptSampler(features, seed=3, adaptive=True)
    taught(sampler, shares)
    chosen = [kind(sampler, row) for step in range(100, 150) for row in sampler.choose(4, step, 0)]
    uniform = PromptSampler(features, seed=3, adaptive=False)
    drawn = [kind(sampler, row) for step in range(100, 150) for row in uniform.choose(4, step, 0)]
    assert chosen.count("half") > 0.9 * len(chosen)
    assert drawn.count("half") < 0.5 * len(drawn)


def test_it_follows_a_policy_that_learns() -> None:
    """What was hard comes out right half of the time later, and what was right half of the time always."""
    sampler = PromptSampler([("middle",), ("hard",)] * 200, seed=3, adaptive=True)
    taught(sampler, {"middle": 0.5, "hard": 0.0})
    taught(sampler, {"middle": 1.0, "hard": 0.5}, steps=30)
    chosen = [kind(sampler, row) for step in range(100, 150) for row in sampler.choose(4, step, 0)]
    assert chosen.count("hard") > 0.8 * len(chosen)


def test_it_ranks_problems_that_it_has_never_met() -> None:
    """GSM8K's problems by their number of steps: a policy that errs in each step with the same probability."""
    if not GSM8K.is_dir():
        pytest.skip("the real data set is not here")
    task = Recipe.load("gsm8k-tiny", task={"path": str(GSM8K)}).load_task()
    met = task.problems("train", 1000)
    sampler = PromptSampler(features_of(met), seed=0, adaptive=True)
    rng = random.Random(5)
    chance = [0.8 ** len(problem.steps) for problem in met]
    seen = set()
    for step in range(60):
        rows = sampler.choose(4, step, 0)
        seen.update(rows)
        rights = [sum(rng.random() < chance[row] for _ in range(8)) for row in rows]
        sampler.update([(row, right, 8 - right) for row, right in zip(rows, rights, strict=True)])
    unseen = [row for row in range(1000) if row not in seen]
    pairs = [(a, b) for a, b in (rng.sample(unseen, 2) for _ in range(4000)) if chance[a] > chance[b]]
    ranked = sum(sampler.forecast.share(a) > sampler.forecast.share(b) for a, b in pairs) / len(pairs)
    assert ranked > 0.8  # by chance it is a half


@pytest.mark.parametrize("adaptive", [False, True])
def test_a_choice_follows_from_the_seed_the_step_and_what_was_learnt(adaptive: bool) -> None:
    one = PromptSampler([("a",), ("b",)] * 50, seed=1, adaptive=adaptive)
    taught(one, {"a": 0.5, "b": 0.1})
    same = PromptSampler([("a",), ("b",)] * 50, seed=1, adaptive=adaptive)
    same.load_state_dict(json.loads(json.dumps(one.state_dict())))
    choices = [[sampler.choose(4, step, turn) for step in range(20) for turn in range(2)] for sampler in (one, same)]
    assert choices[0] == choices[1]
    assert len({tuple(choice) for choice in choices[0]}) > 30
    other = PromptSampler([("a",), ("b",)] * 50, seed=2, adaptive=adaptive)
    assert [other.choose(4, step, 0) for step in range(20)] != choices[0][::2]


@pytest.mark.parametrize("adaptive", [False, True])
def test_no_problem_comes_twice_in_a_step_while_there_are_others(adaptive: bool) -> None:
    sampler = PromptSampler([("a",)] * 10, seed=1, adaptive=adaptive)
    first = sampler.choose(5, 0, 0)
    second = sampler.choose(5, 0, 1, taken=first)
    assert sorted(first + second) == list(range(10))
    assert len(sampler.choose(4, 0, 2, taken=range(10))) == 4
    few = PromptSampler([("a",)] * 3, seed=1, adaptive=adaptive)
    assert set(few.choose(8, 0, 0)) == {0, 1, 2} and len(few.choose(8, 0, 0)) == 8
    assert CANDIDATES > 1
