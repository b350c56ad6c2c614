"""The forecast of how often a problem comes out right, by hand and on problems that it has never met."""

from __future__ import annotations

import json
import math
import random

import pytest

from grpo_colab.training.sampling.forecast import FARTHEST, Forecast, logistic


def shown(forecast: Forecast, chance: list[float], steps: int, seed: int = 0) -> set[int]:
    """Let it see eight completions each of two problems per step, drawn at random, and return the problems."""
    rng = random.Random(seed)
    met = set()
    for _ in range(steps):
        rows = rng.sample(range(len(chance)), 2)
        met.update(rows)
        rights = [sum(rng.random() < chance[row] for _ in range(8)) for row in rows]
        forecast.update([(row, right, 8 - right) for row, right in zip(rows, rights, strict=True)])
    return met


def test_nothing_is_known_at_first() -> None:
    forecast = Forecast([("a",), ("b",)])
    assert forecast.share(0) == forecast.share(1) == 0.5


def test_one_step_moves_all_weights_by_their_share_of_the_variance() -> None:
    """The most likely logit of 8 of 8 under a prior of mean 0 and variance 2, which is 0.5 + 0.5 + 1.0."""
    forecast = Forecast([("a",), ("a",), ("b",)])
    forecast.update([(0, 8, 0)])
    logit = math.log(forecast.share(0) / (1 - forecast.share(0)))
    assert 8 * (1 - forecast.share(0)) == pytest.approx(logit / 2.0, abs=1e-6), "the slope of the posterior is zero"
    shares = [math.log(forecast.share(row) / (1 - forecast.share(row))) for row in range(3)]
    assert shares == pytest.approx([logit, logit / 2, logit / 4])  # "a" with the policy, and the policy alone


def test_which_feature_tells_is_learnt() -> None:
    rng = random.Random(3)
    features = [(f"telling {index % 3}", f"idle {rng.randrange(3)}") for index in range(300)]
    chance = [(0.1, 0.5, 0.9)[index % 3] for index in range(300)]
    forecast = Forecast(features)
    met = shown(forecast, chance, 40)
    new = [row for row in range(300) if row not in met]
    for wanted in (0.1, 0.5, 0.9):
        shares = [forecast.share(row) for row in new if chance[row] == wanted]
        assert all(abs(share - wanted) < 0.2 for share in shares), wanted
    idle = [forecast.weights[f"idle {value}"].mean for value in range(3)]
    telling = [forecast.weights[f"telling {value}"].mean for value in range(3)]
    assert max(telling) - min(telling) > 3 * (max(idle) - min(idle))


def test_a_problem_that_differs_from_its_like_is_remembered() -> None:
    forecast = Forecast([("a",)] * 100)
    shown(forecast, [0.5] * 100, 30)
    before = forecast.share(7)
    forecast.update([(7, 0, 8)])
    assert forecast.share(7) < 0.2 < before
    assert abs(forecast.share(8) - before) < 0.25


def test_it_follows_a_policy_that_learns_and_lifts_what_it_has_not_met() -> None:
    features = [("easy",), ("hard",)] * 100
    forecast = Forecast(features)
    shown(forecast, [0.5, 0.05] * 100, 20)
    assert forecast.share(1) < 0.2
    rng = random.Random(1)
    for _ in range(20):  # only easy ones are met, and are right more and more often
        row = 2 * rng.randrange(100)
        forecast.update([(row, 8, 0)])
    unmet = 2 * 99 + 1
    assert forecast.share(unmet) > 0.1


def test_it_ranks_new_problems_where_no_feature_tells_all() -> None:
    """Chances of two features together: no kind by one of them ranks as well."""
    rng = random.Random(2)
    features = [(f"a{rng.randrange(4)}", f"b{rng.randrange(4)}") for _ in range(600)]
    chance = [logistic(int(a[1]) + int(b[1]) - 3) for a, b in features]
    forecast = Forecast(features)
    met = shown(forecast, chance, 60)
    new = [row for row in range(600) if row not in met]
    pairs = [(a, b) for a, b in (rng.sample(new, 2) for _ in range(4000)) if chance[a] > chance[b] + 1e-9]
    by_both = sum(forecast.share(a) > forecast.share(b) for a, b in pairs) / len(pairs)
    by_one = sum((features[a][0] > features[b][0]) + 0.5 * (features[a][0] == features[b][0]) for a, b in pairs)
    assert by_both > 0.9 > by_one / len(pairs)


def test_what_was_measured_before_is_outgrown() -> None:
    measured = Forecast([("a",)] * 2000)
    measured.begin_with([(row, 0, 8) for row in range(1000)])
    assert measured.share(1500) < 0.05
    for row in range(1000, 1030):
        measured.update([(row, 7, 1)])
    assert measured.share(1500) > 0.5


def test_draws_are_about_the_forecast_and_closer_the_more_is_known() -> None:
    forecast = Forecast([("a",)] * 50 + [("b",)] * 50)
    for row in range(40):
        forecast.update([(row, 4, 4)])
    rng = random.Random(0)
    known = [forecast.draw(45, rng) for _ in range(2000)]
    unknown = [forecast.draw(95, rng) for _ in range(2000)]
    assert sum(known) / 2000 == pytest.approx(0.5, abs=0.02)
    assert _spread(known) < _spread(unknown)


def _spread(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)


@pytest.mark.parametrize("right", [0, 8])
def test_a_thousand_steps_of_one_outcome_stay_numbers(right: int) -> None:
    forecast = Forecast([("a",)] * 10)
    for step in range(1000):
        forecast.update([(step % 10, right, 8 - right)] * 2)
    assert forecast.share(0) == pytest.approx(right / 8, abs=0.01)
    assert all(abs(weight.mean) < FARTHEST and weight.variance > 0 for weight in forecast.weights.values())


def test_nothing_sampled_is_nothing_learnt() -> None:
    forecast = Forecast([("a",)])
    forecast.update([(0, 0, 0)])
    assert forecast.share(0) == 0.5


def test_the_state_goes_through_json() -> None:
    forecast, same = Forecast([("a",), ("b",)] * 10), Forecast([("a",), ("b",)] * 10)
    shown(forecast, [0.2, 0.7] * 10, 15)
    same.load_state_dict(json.loads(json.dumps(forecast.state_dict())))
    for one in (forecast, same):
        one.update([(3, 2, 6)])
    assert [forecast.share(row) for row in range(20)] == [same.share(row) for row in range(20)]
    assert forecast.weights == same.weights


def test_a_checkpoint_of_the_former_sampler_is_begun_anew() -> None:
    forecast = Forecast([("a",)])
    forecast.update([(0, 8, 0)])
    forecast.load_state_dict({"counts": {"1 step": [8.0, 0.0]}})
    assert forecast.share(0) == 0.5
