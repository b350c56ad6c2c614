"""A run's phase.json: what it says, whom it lets take the folder over, and what it does not touch."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.runs import mirror
from grpo_colab.runs.folders import check_free, free_path, is_free_again
from grpo_colab.runs.lock import locked
from grpo_colab.runs.mirror.layout import is_own_name, small_files
from grpo_colab.runs.phase import ENDED, WORKING, Phase, read_phase, write_phase
from grpo_colab.runs.status import status, status_text


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(Recipe.load(budget={"max_steps": 40}), tmp_path / "run")


def state_line(run: Run) -> str:
    line = next(line for line in status_text(status(run.path)).splitlines() if line.startswith("state"))
    return line[16:].partition("; last written")[0]


def test_what_is_written_is_read(run: Run) -> None:
    assert read_phase(run.path) is None
    for phase in (
        Phase("loading", "2026-11-30T08:00:00+00:00", share=0.25, left_s=12.4),
        Phase("failed", "2026-11-30T08:00:00+00:00", during="loading", why="no space"),
    ):
        write_phase(run.path, phase)
        found = read_phase(run.path)
        assert found == phase._replace(left_s=None if phase.left_s is None else 12)
    write_phase(run.path, Phase("failed", why="hf_" + "a" * 30 + "\nand \x1b[2J" + "x" * 5000))
    found = read_phase(run.path)
    assert found is not None
    assert found.why is not None
    assert "a" * 30 not in found.why
    assert len(found.why.splitlines()) == 1
    assert len(found.why) == 1000


@pytest.mark.parametrize("content", ["", "{", "[]", '{"phase": 3}', '{"phase": "dancing"}', '{"phase": ["loading"]}'])
def test_a_damaged_file_is_as_none(content: str, run: Run) -> None:
    (run.path / "phase.json").write_text(content)
    assert read_phase(run.path) is None
    assert status(run.path)["state"] == "not begun"
    assert not is_free_again(run.path)  # it may be anyone's


def test_values_of_another_kind_are_left_out(run: Run) -> None:
    odd = {"phase": "loading", "since": 3, "during": "dancing", "why": [1], "share": 7, "left_s": "soon"}
    (run.path / "phase.json").write_text(json.dumps(odd))
    assert read_phase(run.path) == Phase("loading")


def test_a_link_is_not_followed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"phase": "finished"}')
    (run.path / "phase.json").symlink_to(tmp_path / "other.json")
    assert read_phase(run.path) is None
    write_phase(run.path, Phase("loading"))  # raises nothing
    assert (tmp_path / "other.json").read_text() == '{"phase": "finished"}'


def test_status_says_what_a_run_does_and_how_it_ended(run: Run) -> None:
    write_phase(run.path, Phase("loading", share=0.25, left_s=90.0))
    with locked(run.path):
        assert state_line(run).startswith("running, loading the model (25%, about 90 s left), process ")
        write_phase(run.path, Phase("training"))
        assert state_line(run).startswith("running, training, process ")
    # without its lock the process is no more
    assert state_line(run) == "stopped while training (its process was killed)"
    write_phase(run.path, Phase("stopped", during="evaluating after", why="budget.max_hours"))
    assert state_line(run) == "stopped by budget.max_hours while evaluating after training"
    write_phase(run.path, Phase("failed", during="dry run", why="budget.micro_batch = 1: out of memory"))
    assert state_line(run) == "failed while trying the longest step"
    assert "error           budget.micro_batch = 1: out of memory" in status_text(status(run.path)).splitlines()
    assert not run.finished
    found = status(run.path)
    assert (found["state"], found["phase"]["name"], found["phase"]["during"]) == ("failed", "failed", "dry run")
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_each_phase_has_its_words() -> None:
    for name in WORKING:
        assert Phase(name).doing == WORKING[name]
        for ended in ENDED:
            assert Phase(ended, during=name).doing == WORKING[name]


def test_a_run_that_never_began_makes_room_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.load()
    first = Run.create(recipe)
    second = free_path(recipe)
    assert second != first.path  # it may be about to begin
    first.write_json("environment.json", {"python": "2"})
    write_phase(first.path, Phase("failed", during="loading", why="no such model"))
    with locked(first.path):
        assert free_path(recipe) == second  # a process is at it
    assert is_free_again(first.path)
    assert free_path(recipe) == first.path
    check_free(first.path)
    again = Run.create(Recipe.load(budget={"max_steps": 3}), first.path)
    assert again.max_steps == 3
    assert read_phase(again.path) is None
    assert not (again.path / "environment.json").exists()  # the former run's


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "evaluation-before.jsonl", "checkpoints/x", "adapter/x", "mine.txt", ".mirror.id"]
)
def test_what_has_anything_to_lose_is_kept(name: str, run: Run) -> None:
    write_phase(run.path, Phase("stopped", during="training"))
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).write_text("x")
    assert not is_free_again(run.path)
    with refused("--out", str(run.path), problem="holds a run already"):
        check_free(run.path)


def test_mirrors_leave_it_where_it_is(run: Run, tmp_path: Path) -> None:
    """It is about a process here; a run that was brought back is not one that trains."""
    write_phase(run.path, Phase("training"))
    assert small_files(run.path) == ["recipe.toml"]
    assert not is_own_name("phase.json")
    (tmp_path / "drive").mkdir()
    copying = mirror.Mirror(run.path, str(tmp_path / "drive"))
    copying.request()
    assert copying.finish(60.0) is None
    assert "recipe.toml" in os.listdir(tmp_path / "drive" / "run")  # noqa: PTH208
    assert "phase.json" not in os.listdir(tmp_path / "drive" / "run")  # noqa: PTH208
