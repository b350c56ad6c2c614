"""The run folder: whole files or none, lines that survive a cut, and no folder that is taken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.runs import checkpoints
from grpo_colab.runs.folders import free_path
from grpo_colab.runs.run import writing_to


def test_a_new_folder_holds_its_recipe(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(grpo={"seed": 3}), tmp_path / "deep" / "run")
    assert run.recipe == Recipe.load(run.path / "recipe.toml")
    assert run.recipe.grpo["seed"] == 3
    assert (run.metrics(), run.completions(), run.evaluation, run.last_checkpoint()) == ([], [], None, None)


def test_folders_are_named_by_date_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.load()
    names = [Run.create(recipe, free_path(recipe)).path.name for _ in range(3)]
    assert names[0].endswith("-word-problems-tiny")
    assert names == [names[0], f"{names[0]}-2", f"{names[0]}-3"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with refused("--out", str(tmp_path / "file" / "run"), problem="cannot be written (Not a directory)"):
        Run.create(Recipe.load(), tmp_path / "file" / "run")


def test_a_folder_with_something_in_it_is_not_taken(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    with refused("--out", str(run.path), problem="holds a run already", remedy=f"--resume {run.path}"):
        Run.create(Recipe.load(), run.path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("")
    with refused("--out", str(tmp_path / "full"), problem="is not an empty folder", remedy="choose another"):
        Run.create(Recipe.load(), tmp_path / "full")


def test_what_is_no_run_folder_is_named(tmp_path: Path) -> None:
    with refused("run", "", remedy="name a run folder"):
        Run("")
    with refused(place=f"run '{tmp_path}'", problem="has no recipe.toml"):
        Run(tmp_path)
    (tmp_path / "recipe.toml").symlink_to("elsewhere.toml")
    with refused(place=f"run '{tmp_path}'", problem="its recipe.toml is a link", remedy="put the file itself there"):
        Run(tmp_path)


def test_what_a_folder_says_of_its_recipe_is_read_whatever_version_wrote_it(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(budget={"max_steps": 7}), tmp_path / "run")
    assert (run.max_steps, run.table("budget")["prompts_per_step"], run.table("orbit")) == (7, 2, {})
    (run.path / "recipe.toml").write_text('orbit = 1\n[budget]\nmax_steps = "many"\n')
    assert (run.max_steps, run.table("orbit"), run.settings["orbit"]) == (None, {}, 1)
    run.write_json("evaluation.json", {"step": 7})
    assert not run.finished
    (run.path / "recipe.toml").write_text("[budget")
    assert (run.max_steps, run.settings, run.finished) == (None, {}, False)


def test_what_cannot_be_written_says_how_to_go_on(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    with refused(place=f"run '{run.path}'", problem="disk full", remedy=run.resume_command), writing_to(run):
        raise OSError("disk full")
    with refused(place=f"run '{run.path}'", problem="os error 28", remedy=run.resume_command), writing_to(run):
        raise Exception("I/O error: No space left on device (os error 28)")  # as safetensors says it
    with pytest.raises(ZeroDivisionError), writing_to(run):
        raise ZeroDivisionError


def test_lines_keep_any_text_and_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    odd = "a\u2028b\x85c\r\n\x1b[31m\ud83d" + '語 "quoted"'
    row = {"prompt": "?", "rewards": {}}
    rows = [
        {"step": 1, "completion": odd.encode("utf-8", "replace").decode(), **row},
        {"step": 2, "completion": "", **row},
    ]
    run.append("completions.jsonl", rows)
    with (run.path / "completions.jsonl").open("a") as file:
        file.write('{"step": 3, "te')
    assert run.completions() == rows


def checkpoint(run: Run, step: int, log: list[dict[str, Any]]) -> Path:
    staged = run.checkpoints / checkpoints.STAGING / f"checkpoint-{step}"
    staged.mkdir(parents=True)
    (staged / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": log}))
    return checkpoints.seal(staged, run.checkpoints)


def test_going_back_drops_what_is_written_again_and_what_is_half_done(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    row = {"prompt": "?", "completion": "x", "rewards": {"a": None}}
    run.append("metrics.jsonl", [{"step": step, "reward": 1.0} for step in (1, 2, 3, 4)])
    run.append("completions.jsonl", [{"step": step, **row} for step in (1, 2, 3) for n in (0, 1)])
    with (run.path / "completions.jsonl").open("a") as file:
        file.write('{"step": 3, "n"')
    (run.path / ".metrics.jsonl.77.tmp").write_text("{")
    run.rewind_to(checkpoint(run, 2, []))
    assert [row["step"] for row in run.metrics()] == [1, 2]
    assert [row["step"] for row in run.completions()] == [1, 1, 2, 2]
    assert not list(run.path.glob(".*"))
    run.append("metrics.jsonl", [{"step": 3, "reward": 2.0}])
    assert [row["step"] for row in run.metrics()] == [1, 2, 3]
    run.rewind_to(None)
    assert (run.metrics(), run.completions()) == ([], [])


def test_lost_lines_come_back_from_the_checkpoints_log(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    rows = [{"step": step, "loss": 0.1 / step, "reward": 1 / 3} for step in (1, 2, 3)]
    run.append("metrics.jsonl", rows[:1])
    with (run.path / "metrics.jsonl").open("ab") as file:
        file.write(bytes(50) + b"\n")  # what a file system may leave of a line after a power cut
    log = [{key: row[key] for key in ("loss", "reward", "step")} for row in rows]
    run.rewind_to(checkpoint(run, 3, [*log, {"train_runtime": 1.0, "step": 3}]))
    assert run.metrics() == rows


def test_what_a_full_disk_refuses_is_written_later(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\nfrom grpo_colab import Recipe, Run\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nrun = Run(sys.argv[1])\n"
        "for step in range(1, 7):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (200 if 3 <= step <= 4 else resource.RLIM_INFINITY, -1))\n"
        "    print(run.append('metrics.jsonl', [{'step': step, 'text': 'x' * 100}]))\n"
        "    if step == 4:\n        print((run.path / 'metrics.jsonl').read_text()[-1:] == '\\n')\n"
    )
    run = Run.create(Recipe.load(), tmp_path / "run")
    done = subprocess.run([sys.executable, "-c", code, str(run.path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True", "False", "False", "True", "True", "True"]
    assert [row["step"] for row in run.metrics()] == [1, 2, 3, 4, 5, 6]
