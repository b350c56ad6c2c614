"""The cells of the notebook for a file of one's own: what is uploaded, what the form makes of it, what is refused.

The notebook itself runs from top to bottom in tests/colab/test_notebooks.py.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from refusals import refused
from warm import Warm

from grpo_colab import Recipe
from grpo_colab.starter import KINDS, write_starter
from grpo_colab.starter.own_data import look_for_holes, own_file

ROOT = Path(__file__).parents[2]
FAKE = ROOT / "tests" / "colab" / "fake_colab"
UPLOAD = """
import json
from grpo_colab.errors import SettingError
from grpo_colab import Recipe
from grpo_colab.starter import KINDS, write_starter
from grpo_colab.starter.own_data import look_for_holes, own_file
try:
    print(json.dumps(["file", own_file(upload=True)]))
except SettingError as error:
    print(json.dumps(["refused", error.problem]))
"""


def test_without_a_file_there_is_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = own_file()
    rows = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    assert len(rows) > 100
    assert all(row.keys() == {"question", "answer"} for row in rows)
    assert own_file() == path  # the cell again


def test_a_path_is_taken_as_it_is_and_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert own_file(" hf://owner/name ") == "hf://owner/name"
    assert list(tmp_path.iterdir()) == []


def test_outside_colab_nothing_can_be_uploaded() -> None:
    with refused("upload", True, remedy="write the path"):
        own_file("mine.csv", upload=True)


@pytest.mark.parametrize("chosen", [(), ("mine.csv",), ("mine.csv", "other.csv")])
def test_one_file_is_uploaded(chosen: tuple[str, ...], tmp_path: Path) -> None:
    uploads = tmp_path / "colab" / "uploads"
    uploads.mkdir(parents=True)
    for name in chosen:
        (uploads / name).write_text("ticket,level\n")
    environment = {"PYTHONPATH": f"{FAKE}:{ROOT}", "FAKE_COLAB": str(tmp_path / "colab")}
    done = subprocess.run(
        [sys.executable, "-c", UPLOAD], cwd=tmp_path, env=os.environ | environment, capture_output=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == (["file", "mine.csv"] if len(chosen) == 1 else ["refused", f"gave {len(chosen)} files"])
    assert not chosen or (tmp_path / "mine.csv").read_text() == "ticket,level\n"


FORMS = """
import json
from grpo_colab.errors import SettingError
from grpo_colab.starter.own_data import look_for_holes, own_file, own_recipe


def found(*fields, **settings):
    try:
        return own_recipe(*fields, **settings)
    except SettingError as error:
        print("found", json.dumps({"setting": error.setting, "place": str(error.place), "text": str(error)}))


sample = found(own_file(), held_out="50", steps="7", hours=0.5)
print("found", json.dumps([sample.name, sample.task["test_share"], sample.budget.max_steps, sample.budget.max_hours]))
tickets = found("tickets.csv", "choice", "{ticket} ({city})", "level", "low, high", held_out="")
print("found", json.dumps([tickets.task["prompt"], tickets.task["answer_column"], tickets.task["choices"]]))
assert "integer" not in tickets.rewards
(problem,) = tickets.load_task().problems("train", 1)
print("found", json.dumps([problem.question, problem.answer]))
found("tickets.csv", "number", "ticket", "level")
found("tickets.csv", "choice", "tickets", "level")
found(sample.task["path"], steps="many")
found(sample.task["path"], held_out="half")


def holed_reward(completions, answer, **kwargs):
    return [1.0 for _ in completions]


look_for_holes(holed_reward, sample)
look_for_holes(holed_reward, tickets)
"""


def test_the_form_is_a_recipe_and_what_was_read_is_shown(warm: Warm, tmp_path: Path) -> None:
    with (tmp_path / "tickets.csv").open("w", newline="") as file:
        rows = [(f"Ticket {n}", f"City {n}", ("low", "high")[n % 2]) for n in range(60)]
        csv.writer(file).writerows([("ticket", "city", "level"), *rows])
    done = warm.run("-c", FORMS, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("found ")]
    printed = [json.loads(line.removeprefix("found ")) for line in lines]
    assert printed[0] == ["word-problems-tiny-sample", 50, 7, 0.5]
    assert printed[1] == ["{ticket} ({city})", "level", ["low", "high"]]
    question, answer = printed[2]
    assert question == f"Ticket {question.split()[1]} (City {question.split()[1]})"
    assert answer == ("low", "high")[int(question.split()[1]) % 2]
    numbers, column, steps, share = printed[3:]
    assert "tickets.csv:2" in numbers["place"]
    assert "'tickets'" in column["text"]
    assert steps["setting"] == "budget.max_steps"
    assert share["setting"] == "task.test_share"
    assert done.stdout.count("held out ") == 2  # what was read, of both that could be
    numbers, choices = done.stdout.split("holed_reward: ")[1:]
    assert "kind scaled" in numbers
    assert "kind choice" in choices
    assert "for low" in choices  # a case made of these rows
    assert numbers.count("pays, and should not") == choices.count("pays, and should not") == 1


def brevity_reward(is_right: Any, completions: Any, answer: Any, **kwargs: Any) -> list[float | None]:
    """The reward of the notebook, of which `is_right` is the recipe's."""
    paid = is_right(completions=completions, answer=answer, **kwargs)
    lengths = [len(completion[0]["content"]) for completion in completions]
    return [right and right * min(1.0, 400 / max(1, length)) for right, length in zip(paid, lengths, strict=True)]


def eager_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float]:
    return [1.0 * ("<answer>" in completion[0]["content"]) for completion in completions]


@pytest.mark.parametrize("kind", KINDS)
def test_the_audit_knows_what_a_right_answer_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The notebook's own reward has no hole for any kind of answers, and one that pays every answer has."""
    monkeypatch.chdir(tmp_path)
    write_starter("mine", kind)
    recipe = Recipe.load("mine/recipe.toml")
    look_for_holes(partial(brevity_reward, recipe.own_reward_functions()["correctness"]), recipe)
    assert capsys.readouterr().out.rstrip().endswith("\nok")
    look_for_holes(eager_reward, recipe)
    assert capsys.readouterr().out.rstrip().endswith(" found to be wrong")
