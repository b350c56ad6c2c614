"""The run folder: whole files or none, lines that survive a cut, and no folder that is taken."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from grpo_colab import Recipe, Run
from grpo_colab.errors import SettingError
from grpo_colab.run import free_path, read_lines, write_text


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
    with pytest.raises(SettingError, match=r"cannot write there \(Not a directory\)"):
        Run.create(Recipe.load(), tmp_path / "file" / "run")


def test_lines_keep_any_text_and_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    odd = "a\u2028b\x85c\r\n\x1b[31m\ud83d" + '語 "quoted"'
    rows = [{"step": 1, "text": odd.encode("utf-8", "replace").decode()}, {"step": 2, "text": ""}]
    run.append("completions.jsonl", rows)
    with (run.path / "completions.jsonl").open("a") as file:
        file.write('{"step": 3, "te')
    assert run.completions() == rows


def test_forgetting_the_steps_that_a_resumed_run_writes_again(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    run.append("metrics.jsonl", [{"step": step} for step in (1, 2, 3, 4)])
    run.append("completions.jsonl", [{"step": step, "n": n} for step in (1, 2, 3) for n in (0, 1)])
    run.forget_after(2)
    assert [row["step"] for row in run.metrics()] == [1, 2]
    assert [row["step"] for row in run.completions()] == [1, 1, 2, 2]


def test_the_newest_whole_checkpoint_is_the_last(tmp_path: Path) -> None:
    run = Run.create(Recipe.load(), tmp_path / "run")
    for step in (5, 10, 100):
        folder = run.checkpoints / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if step != 100:  # cut off while it was being written
            (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    assert run.last_checkpoint() == run.checkpoints / "checkpoint-10"


def test_a_writer_that_is_killed_leaves_the_old_file_whole(tmp_path: Path) -> None:
    """A process rewrites a file for ever and is killed at any moment: what stands there is one whole version."""
    path = tmp_path / "value.json"
    code = (
        "import sys, itertools, json\nfrom pathlib import Path\nfrom grpo_colab.run import write_text\n"
        "for n in itertools.count():\n"
        "    write_text(Path(sys.argv[1]), json.dumps([n] * 50_000))\n"
        "    print(n, flush=True)\n"
    )
    for _ in range(5):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        values = json.loads(path.read_text())
        assert len(values) == 50_000
        assert len(set(values)) == 1


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path / "taken", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_reading_a_file_that_is_not_there_is_reading_nothing(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "absent.jsonl") == []
