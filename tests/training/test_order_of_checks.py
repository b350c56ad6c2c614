"""What is wrong with the paths, the recipe, the data or the rewards is said before anything heavy is imported.

The real command runs in a process of its own, which writes at its end which libraries it had imported.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "trl", "peft", "unsloth")
# Python runs a module of this name at every start: what it registers runs however the command ends.
WITNESS = """
import atexit, json, os, sys

def told():
    imported = [name for name in {heavy!r} if name in sys.modules]
    with open(os.environ["WITNESS"], "w") as file:
        json.dump(imported, file)

atexit.register(told)
"""
RECIPE = 'preset = "word-problems-tiny"\n[task]\nname = "jsonl"\npath = "train.jsonl"\ntest_path = "test.jsonl"\n'
GOOD = [{"prompt": f"What is {n} + 1?", "answer": str(n + 1), "level": n} for n in range(40)]
HELD_OUT = [{"prompt": f"What is {n} + 2?", "answer": str(n + 2), "level": n} for n in range(40)]
OWN = "def level_reward(completions, level, **kwargs):\n    return [0.0] * len(completions)\n"
REWARD = '[rewards]\n"own.py:level_reward" = 1.0\n'


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def without(rows: list[dict[str, object]], index: int, key: str) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if n != index or k != key} for n, row in enumerate(rows)]


def changed(rows: list[dict[str, object]], index: int, **values: object) -> list[dict[str, object]]:
    return [{**row, **values} if n == index else row for n, row in enumerate(rows)]


# What is wrong -> the files that differ, more arguments, and what the refusal must say.
WRONG: dict[str, tuple[dict[str, str], list[str], str]] = {
    "a TOML that does not parse": ({"mine.toml": 'preset = "gsm8k-tiny'}, [], "not TOML"),
    "a misspelt setting": ({}, ["--grpo.lerning-rate", "1"], "learning_rate"),
    "a file that is not there": ({}, ["--task.path", "nowhere.jsonl"], "there is no such file"),
    "a data set without a row": ({"mine.toml": RECIPE, "train.jsonl": ""}, [], "train.jsonl: the data set is empty"),
    "a syntax error in the rewards": ({"own.py": "def level_reward(completions:\n"}, [], "SyntaxError"),
    "a reward that is not there": (
        {"own.py": OWN.replace("level_reward", "other_reward")},
        [],
        "has no 'level_reward'",
    ),
    "a column that no row has": ({"own.py": OWN.replace("level,", "depth,")}, [], "'depth'"),
    "a column that the last row lacks": ({"train.jsonl": lines(without(GOOD, 39, "level"))}, [], "train.jsonl:40"),
    "a gold that no number is": (
        {"test.jsonl": lines(changed(HELD_OUT, 30, answer="some twenty"))},
        [],
        "test.jsonl:31",
    ),
    "a grader that is not there": (
        {"own.py": OWN + "def grade(response, answer):\n    return True\n"},
        ["--task.grader", "own.py:judge"],
        "has no 'judge'",
    ),
    "a grader that asks for what there is not": (
        {"own.py": OWN + "def grade(completion, gold):\n    return True\n"},
        ["--task.grader", "own.py:grade"],
        "needs 'gold'; take what it needs of completion, response, answer, level",
    ),
    "a reward in the place of a grader": ({}, ["--task.grader", "own.py:level_reward"], "needs 'completions'"),
    "a file without its grader": ({}, ["--task.grader", "own.py"], "is a file, and a grader is a function in it"),
    "a step that does not divide": ({}, ["--budget.micro-batch", "3"], "budget.micro_batch = 3"),
    "a folder that holds a run": ({"run/recipe.toml": 'name = "x"\n'}, [], "holds a run already"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_it_is_refused_before_torch_is_imported_and_leaves_no_folder(kind: str, tmp_path: Path) -> None:
    files, more, said = WRONG[kind]
    there = {
        "mine.toml": RECIPE + REWARD,
        "own.py": OWN,
        "train.jsonl": lines(GOOD),
        "test.jsonl": lines(HELD_OUT),
    } | files
    for name, text in there.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = {path.name for path in tmp_path.iterdir()}
    done, imported = witnessed(["train", "mine.toml", "--out", "run", *more], tmp_path)
    assert done.returncode == 2, done.stderr[-3000:]
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert imported == []
    assert {path.name for path in tmp_path.iterdir()} - {"witness", "imported.json"} == before
    # data and columns come before anyone has to trust the reward's code, which --trust-code would be asked for
    assert "trust" not in done.stderr


def test_python_is_told_as_early(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(without(GOOD, 39, "level")))
    (tmp_path / "test.jsonl").write_text(lines(HELD_OUT))
    (tmp_path / "own.py").write_text(OWN)
    code = (
        "from grpo_colab import Recipe, train\n"
        "task = {'name': 'jsonl', 'path': 'train.jsonl', 'test_path': 'test.jsonl'}\n"
        "train(Recipe.load(task=task, rewards={'own.py:level_reward': 1.0}), out='run')\n"
    )
    done, imported = witnessed(["-c", code], tmp_path)
    assert "needs a column 'level'" in done.stderr
    assert imported == []
    assert not (tmp_path / "run").exists()


def test_the_screen_says_what_begins_before_the_data_are_read(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(changed(GOOD, 0, answer="some twenty")))
    words = ["--task.name", "jsonl", "--task.path", "train.jsonl", "--task.test-path", "train.jsonl"]
    done, _ = witnessed(["train", *words], tmp_path)
    first, last = done.stderr.splitlines()
    assert first.startswith("grpo_colab ")
    assert "word-problems-tiny" in first
    assert "train.jsonl:1" in last


def witnessed(arguments: list[str], folder: Path) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the command line, or Python for "-c"; return how it ended, and what was imported by then."""
    (folder / "witness").mkdir()
    (folder / "witness" / "sitecustomize.py").write_text(WITNESS.format(heavy=HEAVY))
    path = os.pathsep.join([str(folder / "witness"), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "WITNESS": str(folder / "imported.json")}
    module = [] if arguments[0] == "-c" else ["-m", "grpo_colab"]
    done = subprocess.run(
        [sys.executable, *module, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    return done, json.loads((folder / "imported.json").read_text())
