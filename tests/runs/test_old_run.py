"""A run folder of an earlier version is read, reported, compared, evaluated and resumed.

data/run-0.1.0.tar.xz is a run of word-problems-tiny by an earlier version: 3 steps of one prompt with two completions,
and 3 held-out problems. Its report, its pictures and its lock are left out, and its paths are relative. In its
completions.jsonl a reward is called by its function, `correctness_reward`.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from grpo_colab import Recipe, Run, train
from grpo_colab.reporting import report
from grpo_colab.reporting.page.run_reader import read_run
from grpo_colab.runs.status import status, status_text
from grpo_colab.text import printable

ARCHIVE = Path(__file__).parents[1] / "data" / "run-0.1.0.tar.xz"
REWARDS = ["correctness", "integer", "strict_format", "soft_format", "tag_count"]
IN_WORDS = [name.replace("_", " ") for name in REWARDS]  # as a page calls them


@pytest.fixture
def old(tmp_path: Path) -> Run:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return Run(tmp_path / "run-0.1.0")


def lists(page: Path) -> dict[str, Any]:
    """What the page's scripts are given to list: completions and problems."""
    packed = re.search(r'id="rest">([^<]*)<', page.read_text(encoding="utf-8"))
    assert packed is not None
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    return found


def renamed(run: Run, folder: Path) -> Run:
    """The same run as a later release writes it."""
    new = Run(shutil.copytree(run.path, folder))
    path = new.path / "completions.jsonl"
    path.write_text(re.sub(r'"(\w+)_reward":', r'"\1":', path.read_text()))
    return new


def test_it_was_written_with_other_keys(old: Run) -> None:
    first = json.loads((old.path / "completions.jsonl").read_text().splitlines()[0])
    assert list(first["rewards"]) == [f"{name}_reward" for name in REWARDS]


def test_every_reader_has_one_key_for_a_reward(old: Run) -> None:
    assert list(old.recipe.rewards) == REWARDS
    rows = old.completions()
    assert [row["step"] for row in rows] == [1, 1, 2, 2, 3, 3]
    assert {tuple(row["rewards"]) for row in rows} == {tuple(REWARDS)}
    assert {tuple(row["rewards"]) for row in read_run(old).completions} == {tuple(REWARDS)}
    assert {tuple(row["rewards"]) for row in old.answers("evaluation-before.jsonl")} == {tuple(REWARDS)}
    assert old.evaluation is not None
    assert list(old.evaluation["after"]["rewards"]) == REWARDS


def test_its_state_is_the_same_for_all_who_ask(old: Run) -> None:
    assert (old.finished, old.last_step, old.max_steps, old.solved) == (True, 3, 3, None)
    found = status(old.path)
    assert (found["state"], found["step"], found["checkpoint"]["name"]) == ("finished", 3, "checkpoint-3")
    assert read_run(old).state == "finished"
    assert printable(status_text(found)) == status_text(found)
    (old.path / "evaluation.json").unlink()
    assert not old.finished
    assert status(old.path)["state"] == read_run(old).state == "stopped"


def test_a_completions_reward_is_what_the_step_logged(old: Run) -> None:
    completions = lists(report([old.path]))["completions"]
    assert completions["names"] == IN_WORDS
    pairs = list(zip(completions["step"], completions["reward"], strict=True))
    for row in old.metrics():
        earned = [reward for step, reward in pairs if step == row["step"]]
        assert sum(earned) / 2 == pytest.approx(row["reward"], abs=1e-5)
        assert (max(earned), min(earned)) == (row["reward/max"], row["reward/min"])


def test_it_is_compared_with_a_new_one_reward_by_reward(old: Run, tmp_path: Path) -> None:
    new = renamed(old, tmp_path / "new")
    assert json.loads((new.path / "completions.jsonl").read_text().splitlines()[0])["rewards"].keys() == set(REWARDS)
    assert new.completions() == old.completions()
    completions = lists(report([old.path, new.path], tmp_path / "both.html"))["completions"]
    assert completions["names"] == IN_WORDS  # and not each twice
    rows = list(zip(completions["run"], completions["parts"], strict=True))
    parts = [[part for run, part in rows if run == n] for n in (0, 1)]
    assert parts[0] == parts[1]


@pytest.mark.stack
def test_it_goes_on_and_is_evaluated_again(old: Run) -> None:
    from grpo_colab.evaluation.evaluate import evaluate_run

    before = (old.metrics(), old.completions())
    again = evaluate_run(old.path)
    assert again["before"] == old.evaluation["before"]  # type: ignore[index]
    assert "further" not in again  # it was never asked these problems
    recipe = Recipe.load(old.path / "recipe.toml", budget={"max_steps": 4})
    run = train(recipe, resume=old.path)
    assert run.path == old.path
    assert run.finished
    assert run.metrics()[:3] == before[0]
    assert run.completions()[:6] == before[1]
    # asked now, before its checkpoint is loaded
    assert run.evaluation is not None
    assert run.evaluation["further"]["new_stories"]["n"] == run.evaluation["n"] == 3
    assert [row["step"] for row in run.completions()[6:]] == [4, 4]
    written = [json.loads(line) for line in (run.path / "completions.jsonl").read_text().splitlines()]
    assert list(written[-1]["rewards"]) == REWARDS
    assert list(written[0]["rewards"]) == [f"{name}_reward" for name in REWARDS]  # what is written stays
    assert lists(report([run.path]))["completions"]["names"] == IN_WORDS
