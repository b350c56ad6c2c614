"""What counts in the rows of a run folder, decided once: a step, a reward's key, what is earned, the end of a run."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from grpo_colab.rewards import reward_key
from grpo_colab.runs import records
from grpo_colab.utils import files


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("correctness_reward", "correctness"),
        ("correctness", "correctness"),
        ("a_reward_reward", "a"),
        ("_reward", "_reward"),
        ("rewarded", "rewarded"),
        ("", ""),
        ("_reward" * 1_000_000 + "x", "_reward" * 1_000_000 + "x"),
    ],
    ids=range(7),
)
def test_a_rewards_key_is_its_functions_name_without_the_suffix(name: str, key: str) -> None:
    assert reward_key(name) == key
    assert reward_key(key) == key


@pytest.mark.parametrize(
    ("metric", "of", "key"),
    [
        ("rewards/correctness_reward/mean", "mean", "correctness"),
        ("rewards/correctness_reward/std", "std", "correctness"),
        ("rewards/correctness_reward/std", "mean", None),
        ("rewards/a/b/mean", "mean", "a/b"),
        ("rewards/mean", "mean", None),
        ("reward", "mean", None),
    ],
)
def test_a_metric_of_trl_tells_its_reward(metric: str, of: str, key: str | None) -> None:
    assert records.reward_of_metric(metric, of) == key


def test_what_a_completion_earns_is_what_trl_adds_up() -> None:
    assert records.weighted_reward([1.0, None, 0.5], [2.0, 9.0, -1.0]) == 1.5
    assert records.weighted_reward([None, None], [1.0, 1.0]) == 0.0
    assert records.weighted_reward([], []) == 0.0
    assert records.weighted_reward([1.0, 0.5], [2.0]) == 1.5  # of a recipe that does not tell: the plain sum


def test_rewards_of_each_completion_by_key() -> None:
    paid = {"a_reward": [1.0, math.nan], "b": iter([0.0, 2.0])}
    assert records.rewards_of_each(paid) == [{"a": 1.0, "b": 0.0}, {"a": None, "b": 2.0}]


@pytest.mark.parametrize(
    ("evaluation", "max_steps", "finished"),
    [
        (None, 4, False),
        ({}, 4, True),  # an earlier release evaluated at the end alone, and wrote no step
        ({"step": 4}, 4, True),
        ({"step": 5}, 4, True),
        ({"step": 3}, 4, False),
        ({"step": 3, "solved": True}, 4, True),
        ({"step": 4, "solved": False}, 4, True),
        ({"step": 3}, None, False),  # the recipe cannot be read
        ({"step": 3, "solved": True}, None, True),
    ],
)
def test_when_a_run_is_finished(evaluation: dict[str, Any] | None, max_steps: float | None, finished: bool) -> None:
    assert records.is_finished(evaluation, max_steps) is finished


SIDE = {"accuracy": 0.5, "ci95": [0.1, 0.9], "lenient_accuracy": None, "rewards": {}}


@pytest.mark.parametrize(
    ("further", "sound"),
    [
        ({}, True),
        ({"new_stories": {"about": "new", "n": 8, "before": SIDE, "after": SIDE}}, True),
        ({"new_stories": {"n": 8}, "other": {"n": -1}}, False),
        ({"new_stories": {"about": 7}}, False),
        ({"new_stories": {"after": {**SIDE, "accuracy": 2}}}, False),
        ({"new_stories": {"further": {}}}, False),  # it would have no end
        ({"new_stories": 0.5}, False),
        ("x", False),
    ],
    ids=str,
)
def test_a_further_split_in_an_evaluation_is_as_sound_as_the_rest(further: Any, sound: bool) -> None:
    found = {"n": 8, "before": SIDE, "after": SIDE, "note": "a note", "further": further}
    assert records.sound_evaluation(found) == (found if sound else None)
    assert records.sound_evaluation({**found, "note": 7}) is None


def test_the_last_step_is_the_largest() -> None:
    assert records.last_step([]) == 0
    assert records.last_step([{"step": 1}, {"step": 3}, {"step": 2}]) == 3


def test_what_repeats_from_run_to_run() -> None:
    clocks = {"time/reward_s": 1.0, "memory/peak_gib": 1.0, "step_time": 1.0, "sample_time": 1.0, "train_runtime": 1.0}
    assert records.repeatable([{"step": 1, "reward": 0.5, **clocks}]) == [{"step": 1, "reward": 0.5}]


def test_rows_of_earlier_releases_have_the_present_keys(tmp_path: Path) -> None:
    row = {"step": 1, "prompt": "?", "completion": "x", "rewards": {"correctness_reward": 1.0, "own": None}}
    files.append(tmp_path / "completions.jsonl", files.lines([row, row | {"rewards": {"correctness": 0}}]))
    first, second = records.read_completions(tmp_path / "completions.jsonl")
    assert first == row | {"rewards": {"correctness": 1.0, "own": None}}
    assert list(first["rewards"]) == ["correctness", "own"]  # in the order of the weights
    assert second["rewards"] == {"correctness": 0}


def test_a_limit_bounds_what_is_read(tmp_path: Path) -> None:
    files.append(tmp_path / "metrics.jsonl", files.lines({"step": n} for n in range(2000)))
    assert len(records.read_metrics(tmp_path / "metrics.jsonl")) == 2000
    few = records.read_metrics(tmp_path / "metrics.jsonl", records.Limit(1 << 20, 500))
    assert 100 < len(few) <= 1000
    assert few[-1]["step"] > 1500


def test_records_are_read_without_torch_and_its_neighbours() -> None:
    code = (
        "import sys; import grpo_colab.runs.records, grpo_colab.runs.jsonl_repair, grpo_colab.evaluation.statistics\n"
        "print([name for name in ('torch', 'transformers', 'trl', 'numpy', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
