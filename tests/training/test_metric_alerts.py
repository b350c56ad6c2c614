"""The warnings: each on a run that earns it, at the step that completes it, and none on a healthy run."""

from __future__ import annotations

from typing import Any

import pytest

from grpo_colab.training.metric_alerts import ALL_RIGHT, NO_VARIANCE, WINDOW, MetricMonitor


def row(step: int, **means: float) -> dict[str, Any]:
    """A healthy step's metrics; a reward is `name=mean`, spread 0.4 unless its mean is 0 or 1."""
    metrics: dict[str, Any] = {
        "step": step,
        "reward": 1.0,
        "frac_reward_zero_std": 0.25,
        "completions/clipped_ratio": 0.1,
    }
    for name, mean in means.items():
        metrics |= {f"rewards/{name}/mean": mean, f"rewards/{name}/std": 0.0 if mean in (0.0, 1.0) else 0.4}
    return metrics


def seen(rows: list[dict[str, Any]]) -> list[tuple[int, str]]:
    watch = MetricMonitor()
    return [(warning["step"], warning["kind"]) for line in rows for warning in watch.update(line)]


def test_a_healthy_run_is_left_alone() -> None:
    rows = [row(n, correctness_reward=0.3 + n / 100, strict_format_reward=0.5 + n / 200) for n in range(1, 61)]
    assert seen(rows) == []


def test_a_reward_that_is_never_earned_is_told_after_twenty_steps_and_once() -> None:
    rows = [row(n, correctness_reward=0.3, strict_format_reward=0.0) for n in range(1, 61)]
    assert seen(rows) == [(WINDOW, "constant")]
    watch = MetricMonitor()
    (warning,) = [warning for line in rows for warning in watch.update(line)]
    assert "strict_format has been 0 for every completion of 20 steps" in warning["text"]
    assert "never earned" in warning["text"]


def test_a_run_in_which_no_reward_ever_pays_is_told_what_to_do_and_again() -> None:
    silent = [
        row(n, correctness_reward=0.0, tag_count_reward=0.0) | {"reward": 0.0, "frac_reward_zero_std": 1.0}
        for n in range(1, 30)
    ]
    assert [one for one in seen(silent) if one[1] != "constant"] == [(NO_VARIANCE, "no_reward"), (23, "no_reward")]
    watch = MetricMonitor()
    (warning,) = [warning for line in silent[:5] for warning in watch.update(line)]
    assert "no completion has earned anything from any reward in 3 steps" in warning["text"]
    assert "--pretraining.steps" in warning["text"]
    # once something was earned, silence has other reasons
    paid = [row(0, correctness_reward=0.1, tag_count_reward=0.0), *silent]
    assert [one for one in seen(paid) if one[1] != "constant"] == [(NO_VARIANCE, "no_variance")]


def test_a_penalty_that_nobody_earns_is_not_told_as_a_failure() -> None:
    watch = MetricMonitor()
    rows = [row(n, repetition_penalty_reward=0.0) for n in range(1, 30)]
    (warning,) = [warning for line in rows for warning in watch.update(line)]
    assert "nothing left to punish" in warning["text"]


def test_nineteen_steps_are_no_alarm_and_a_change_starts_the_count_again() -> None:
    flat = [row(n, tag_count_reward=1.0) for n in range(1, 20)]
    assert seen([*flat, row(20, tag_count_reward=0.9)]) == []
    again = [row(n, tag_count_reward=1.0) for n in range(21, 41)]
    assert seen([*flat, row(20, tag_count_reward=0.9), *again]) == [(40, "constant")]
    other_level = [row(n, tag_count_reward=0.0) for n in range(20, 40)]
    assert seen([*flat, *other_level]) == [(39, "constant")]


def test_rounding_is_no_change_and_no_spread() -> None:
    rows = [row(n, floor_reward=0.1) | {"rewards/floor_reward/std": 7.9e-9 * (n % 2)} for n in range(1, 60)]
    for n, line in enumerate(rows):
        line["rewards/floor_reward/mean"] += 1e-9 * (n % 3)
    assert seen(rows) == [(WINDOW, "constant")]


def test_steps_are_counted_and_not_rows() -> None:
    assert seen([row(n, tag_count_reward=1.0) for n in range(10, 100, 10)]) == [(30, "constant")]


def test_a_mean_that_stays_with_a_spread_is_not_constant() -> None:
    assert seen([row(n, correctness_reward=0.5) for n in range(1, 60)]) == []


def test_no_variance_in_any_group_is_told_at_the_third_step_in_a_row() -> None:
    rows = [row(n) | {"frac_reward_zero_std": 1.0 if n in (1, 2, 4, 5, 6, 7) else 0.5} for n in range(1, 20)]
    assert seen(rows) == [(6, "no_variance")]
    assert NO_VARIANCE == 3


def same_in_every_group(rights: list[float]) -> list[dict[str, Any]]:
    """Return steps without any variance, in which so many completions are right."""
    alike = {"frac_reward_zero_std": 1.0}
    return [row(n, correctness_reward=right, tag_count_reward=0.5) | alike for n, right in enumerate(rights, 1)]


@pytest.mark.parametrize(
    ("rights", "told"),
    [
        ([1.0] * (ALL_RIGHT - 1), []),
        ([1.0] * 19, [(ALL_RIGHT, "all completions of 10 steps are right")]),
        ([0.5] * 5, [(3, "no group had any variance in reward for 3 steps")]),
        ([1.0, 0.0, 1.0, 0.0, 1.0, 0.0], [(6, "no group had any variance in reward for 6 steps")]),
    ],
)
def test_steps_that_are_all_right_are_told_apart_and_later(rights: list[float], told: list[tuple[int, str]]) -> None:
    watch = MetricMonitor()
    warnings = [warning for line in same_in_every_group(rights) for warning in watch.update(line)]
    assert [warning["kind"] for warning in warnings] == ["no_variance"] * len(told)
    for warning, (step, text) in zip(warnings, told, strict=True):
        assert warning["step"] == step
        assert text in warning["text"]


def test_it_is_told_again_after_twenty_steps_at_the_earliest() -> None:
    rows = [row(n) | {"frac_reward_zero_std": 0.5 if n % 4 == 0 else 1.0} for n in range(1, 41)]
    assert seen(rows) == [(3, "no_variance"), (23, "no_variance")]


def test_form_that_grows_while_correctness_falls() -> None:
    rows = [row(n, correctness_reward=0.5 - n / 100, strict_format_reward=0.2 + n / 50) for n in range(1, 31)]
    assert seen(rows) == [(WINDOW, "hacking")]
    both_rise = [row(n, correctness_reward=0.2 + n / 100, strict_format_reward=0.2 + n / 50) for n in range(1, 31)]
    both_fall = [row(n, correctness_reward=0.6 - n / 100, strict_format_reward=0.9 - n / 50) for n in range(1, 31)]
    assert seen(both_rise) == seen(both_fall) == []


def shrinking(right: float, form: float = 0.95, late: float = 20, more_right: float = 0.0) -> list[dict[str, Any]]:
    """Completions that have 90 tokens for 20 steps, and `late` in the 20 that follow."""
    return [
        row(n, correctness_reward=right + (more_right if n > 20 else 0), strict_format_reward=form)
        | {"completions/mean_length": 90 if n <= 20 else late}
        for n in range(1, 41)
    ]


def test_completions_that_shrink_to_their_form_alone() -> None:
    """With k short ones the mean of the last ten is 90 - 7 k, below half of 90 from the seventh on."""
    assert seen(shrinking(right=0.05)) == [(27, "hollow")]
    assert seen(shrinking(right=0.0, more_right=0.04)) == [(20, "constant"), (27, "hollow")]
    for healthy in (
        shrinking(right=0.05, more_right=0.2),  # it learns to be brief and right
        shrinking(right=0.7),  # it was right all along
        shrinking(right=0.05, form=0.5),  # nobody pays for it
        shrinking(right=0.05, late=60),
    ):
        assert seen(healthy) == []


def test_a_users_own_rewards_are_told_apart_by_their_names() -> None:
    rows = [row(n, my_accuracy=0.5 - n / 100, xmlcount_reward=0.2 + n / 50) for n in range(1, 31)]
    assert seen(rows) == [(WINDOW, "hacking")]
    nameless = [row(n, a=0.5 - n / 100, b=0.2 + n / 50) for n in range(1, 31)]
    assert seen(nameless) == []


def test_noise_is_not_a_trend() -> None:
    jumps = [0.1, 0.9, 0.2, 0.8, 0.15]
    rows = [
        row(n, correctness_reward=jumps[n % 5] - n / 500, strict_format_reward=jumps[(n + 2) % 5] + n / 500)
        for n in range(1, 41)
    ]
    assert seen(rows) == []


def test_over_half_cut_off_is_told_at_once() -> None:
    rows = [row(n) | {"completions/clipped_ratio": 0.6} for n in range(1, 30)]
    assert seen(rows) == [(1, "cut_off"), (21, "cut_off")]
    half = [row(n) | {"completions/clipped_ratio": 0.5} for n in range(1, 30)]
    one_bad_step = [row(n) | {"completions/clipped_ratio": 1.0 if n == 3 else 0.1} for n in range(1, 30)]
    assert seen(half) == seen(one_bad_step) == []


def test_metrics_that_are_missing_are_no_alarm() -> None:
    assert seen([{"step": n, "reward": 0.5} for n in range(1, 60)]) == []
