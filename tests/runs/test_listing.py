"""`grpo-colab runs` lists the runs of a folder, and `status` without a name is the newest of them."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.runs.folders import DRAW
from grpo_colab.runs.listing import list_runs, newest_run, runs_text
from grpo_colab.runs.lock import locked
from grpo_colab.runs.phase import Phase, write_phase
from grpo_colab.text import printable
from grpo_colab.utils import files

ARCHIVE = Path(__file__).parents[1] / "data" / "run-0.1.0.tar.xz"


def make(path: Path, hours_ago: float, **budget: Any) -> Run:
    run = Run.create(Recipe.load(budget={"max_steps": 40, **budget}), path)
    return aged(run, hours_ago)


def aged(run: Run, hours_ago: float) -> Run:
    """Date back all that the run has written."""
    at = 1_790_000_000 - 3600 * hours_ago
    for file in run.path.iterdir():
        os.utime(file, (at, at))
    return run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A finished run, one that failed, one of an earlier version, one of a draw, and what is none."""
    folder = tmp_path / "runs"
    done = make(folder / "done", 5)
    files.append(done.path / "metrics.jsonl", files.lines([{"step": n, "reward": 1.0} for n in range(1, 41)]))
    files.write_json(
        done.path / "evaluation.json", {"before": {"accuracy": 0.281}, "after": {"accuracy": 0.996}, "step": 40}
    )
    aged(done, 5)
    failed = make(folder / "failed", 3)
    write_phase(failed.path, Phase("failed", during="loading", why="no such model"))
    aged(failed, 3)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    aged(Run(folder / "run-0.1.0"), 9)
    make(folder / "drawn" / "seed=1", 4)
    files.write_json(folder / "drawn" / DRAW, {"runs": ["seed=1"]})
    (folder / "notes").mkdir()
    (folder / "a file.txt").write_text("x")
    return folder


def test_the_newest_first_with_what_each_has_brought(runs: Path) -> None:
    rows = list_runs(runs)
    assert [row["name"] for row in rows] == ["failed", "drawn/seed=1", "done", "run-0.1.0"]
    by_name = {row["name"]: row for row in rows}
    done, failed, old = by_name["done"], by_name["failed"], by_name["run-0.1.0"]
    assert (done["state"], done["step"], done["max_steps"]) == ("finished", 40, 40)
    assert (done["accuracy_before"], done["accuracy_after"]) == (0.281, 0.996)
    assert (failed["state"], failed["during"], failed["error"]) == ("failed", "loading", "no such model")
    assert (failed["accuracy_before"], failed["accuracy_after"]) == (None, None)
    assert (old["state"], old["step"], old["phase"]) == ("finished", 3, None)
    assert done["written_at"] == "2026-09-21T09:13:20+00:00"


def test_as_a_table(runs: Path) -> None:
    with locked(runs / "drawn" / "seed=1"):
        write_phase(runs / "drawn" / "seed=1", Phase("evaluating before"))
        text = runs_text(list_runs(runs))
    assert printable(text) == text
    head, *lines = text.splitlines()
    assert head.split("  ")[0] == "run"
    cells = {line.split()[0]: [cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines}
    assert cells["drawn/seed=1"][1:5] == ["running: evaluating before", "0 of 40", "-", "-"]
    assert cells["done"][1:5] == ["finished", "40 of 40", "28.1%", "99.6%"]
    assert cells["failed"][1:5] == ["failed: loading the model", "0 of 40", "-", "-"]
    assert len({len(line) for line in lines}) == 1


def test_a_damaged_run_is_listed_with_what_can_be_read(runs: Path) -> None:
    for name in ("evaluation.json", "metrics.jsonl", "recipe.toml"):
        (runs / "done" / name).write_text("{\x1b[2J")
    os.rename(runs / "failed", runs / "\x1b[2J")  # noqa: PTH104
    shutil.rmtree(runs / "drawn" / "seed=1")
    rows = list_runs(runs)
    assert {row["name"] for row in rows} == {"done", "\x1b[2J", "run-0.1.0"}
    by_name = {row["name"]: row for row in rows}
    assert (by_name["done"]["max_steps"], by_name["done"]["accuracy_after"]) == (None, None)
    assert "\x1b" not in runs_text(rows).replace("\\x1b", "")
    json.dumps(rows, allow_nan=False)


def test_the_newest_is_the_last_that_was_written_to(runs: Path, tmp_path: Path) -> None:
    assert newest_run(runs) == runs / "failed"
    files.append(runs / "done" / "metrics.jsonl", "{}\n")
    assert newest_run(runs) == runs / "done"
    with refused("RUN", problem="there is no run in", remedy="name a run folder"):
        newest_run(tmp_path / "nowhere")
    with refused("DIR", str(tmp_path / "nowhere"), problem="no such folder"):
        list_runs(tmp_path / "nowhere")


def test_the_commands(runs: Path, cli: Callable[..., Any], tmp_path: Path) -> None:
    for arguments in ((), (str(runs),), ("runs",)):
        listed = cli("runs", *arguments)
        assert listed.returncode == 0
        assert [line.split()[0] for line in listed.stdout.splitlines()] == [
            "run", "failed", "drawn/seed=1", "done", "run-0.1.0",
        ]  # fmt: skip
    assert json.loads(cli("runs", "--json").stdout)[0]["name"] == "failed"
    assert cli("status").stdout.startswith(f"run             {Path('runs', 'failed')} (word-problems-tiny)\n")
    shutil.rmtree(runs)
    assert cli("runs").stdout == "There is no run in runs yet.\n"
    assert cli("runs", "--json").stdout == "[]\n"
    assert cli("status").returncode == 2
    assert cli("runs", "elsewhere").returncode == 2
