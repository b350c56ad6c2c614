"""`train(recipe, dataset=...)`: the run keeps the problems, and goes on elsewhere and in another process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refusals import refused
from warm import Warm

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.runs.mirror.layout import small_files
from grpo_colab.runs.run import Run
from grpo_colab.training.train import train

BEGIN = """
import pandas
from grpo_colab import Recipe, train

rows = pandas.DataFrame({"q": [f"Uma has {n} coins and gets 2. How many?" for n in range(2, 90)]})
rows["gold"] = range(4, 92)
rows.loc[3, "note"] = "first"
recipe = Recipe.load(
    task={"name": "dataset", "prompt_column": "q", "answer_column": "gold"},
    budget={"max_steps": 2, "prompts_per_step": 1, "rehearsal": False},
    grpo={"num_generations": 2, "max_completion_length": 8},
    evaluation={"n": 4},
)
print(train(recipe, dataset=rows, out="run").path)
"""
AGAIN = BEGIN.replace('"max_steps": 2', '"max_steps": 3').replace('out="run"', 'resume="moved/here"')


@pytest.fixture(scope="module")
def begun(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a finished run of two steps in `moved/here`, where it has not been trained."""
    folder = tmp_path_factory.mktemp("given")
    done = warm.run("-c", BEGIN, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning: 4 held-out problems cannot tell much" not in done.stderr  # it has more; evaluation.n is 4
    (folder / "moved").mkdir()
    (folder / "run").rename(folder / "moved" / "here")
    return folder


def test_the_rows_are_in_the_run_folder_under_their_hash(begun: Path) -> None:
    run = Run(begun / "moved" / "here")
    (kept,) = run.path.glob("data-*.jsonl")
    assert run.recipe.task["path"] == f"run:{kept.name}"
    assert kept.name in small_files(run.path)  # which a mirror copies
    rows = [json.loads(line) for line in kept.read_text().splitlines()]
    assert len(rows) == 88
    assert rows[3] == {"q": "Uma has 5 coins and gets 2. How many?", "gold": 7, "note": "first"}
    assert rows[4]["note"] is None  # pandas has NaN there
    task = run.recipe.load_task()
    assert {row["source"] for row in run.answers("evaluation-before.jsonl")} == {
        problem.source for problem in task.problems("test", 4)
    }
    assert task.problems("train")[0].source.startswith("dataset row ")


def test_evaluate_report_embed_and_data_find_them(begun: Path, warm: Warm) -> None:
    for words in (
        ("evaluate", "moved/here"),
        ("report", "moved/here"),
        ("embed", "--run", "moved/here", "--out", "map"),
        ("data", "moved/here/recipe.toml"),
    ):
        done = warm.run("-m", "grpo_colab", *words, cwd=begun)
        assert done.returncode == 0, (words, done.stderr[-2000:])
        if words[0] == "evaluate":
            assert json.loads(done.stdout)["n"] == 4
        if words[0] == "data":
            assert "for rewards  note (" in done.stdout


def test_the_run_goes_on_with_and_without_the_data_set(begun: Path, warm: Warm) -> None:
    done = warm.run("-c", AGAIN, cwd=begun)
    assert done.returncode == 0, done.stderr[-3000:]
    more = ("train", "--resume", "moved/here", "--budget.max-steps", "4")
    done = warm.run("-m", "grpo_colab", *more, cwd=begun)
    assert done.returncode == 0, done.stderr[-3000:]
    assert Run(begun / "moved" / "here").last_step == 4
    other = AGAIN.replace("range(4, 92)", "range(5, 93)").replace('"max_steps": 3', '"max_steps": 5')
    done = warm.run("-c", other, cwd=begun)
    assert "a run keeps the [task] that it began with" in done.stderr


def test_another_run_of_the_same_recipe_keeps_them_too(begun: Path, tmp_path: Path) -> None:
    first = Run(begun / "moved" / "here")
    again = Run.create(Recipe.load(first.path / "recipe.toml"), tmp_path / "again")
    (kept,) = again.path.glob("data-*.jsonl")
    assert kept.read_bytes() == (first.path / kept.name).read_bytes()
    assert again.recipe.load_task().problems("test") == first.recipe.load_task().problems("test")


def test_a_file_that_is_missing_or_outside_of_the_run_is_refused(begun: Path) -> None:
    text = (begun / "moved" / "here" / "recipe.toml").read_text()
    name = Recipe.load(begun / "moved" / "here" / "recipe.toml").task["path"].removeprefix("run:")
    (begun / "copy").mkdir()
    (begun / "copy" / "recipe.toml").write_text(text)
    with refused("task.path", problem="no such file in the run folder", remedy="train from the data", snapshot=False):
        Recipe.load(begun / "copy" / "recipe.toml")
    (begun / "copy" / name).symlink_to(begun / "moved" / "here" / name)
    with refused("task.path", problem="leads through a link", snapshot=False):
        Recipe.load(begun / "copy" / "recipe.toml")
    (begun / "copy" / name).unlink()
    (begun / "copy" / name).write_text('{"q": "1?", "gold": 1}\n{"q": "2?", "go')
    with refused(problem="not JSON", place=f"{name}:2", snapshot=False):
        Recipe.load(begun / "copy" / "recipe.toml").load_task().problems("train")
    (begun / "outside.jsonl").write_text('{"q": "?", "gold": 1}\n')
    (begun / "copy" / "recipe.toml").write_text(text.replace(name, "../outside.jsonl"))
    with refused("task.path", "run:../outside.jsonl", problem="leads out of its folder"):
        Recipe.load(begun / "copy" / "recipe.toml")


def test_a_bad_row_is_named_before_the_folder_is_written(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}?", "answer": None if n == 6 else n} for n in range(40)]
    with refused(place="dataset row 7", problem="column 'answer': is null", remedy="take the row out"):
        train(Recipe.load("gsm8k-tiny"), dataset=rows, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_data_set_beside_a_named_run_needs_the_recipe(tmp_path: Path) -> None:
    with refused("dataset", problem="is in the run's folder already", remedy="leave it out"):
        train(dataset=[{"prompt": "?", "answer": 1}], resume=tmp_path / "run")
