"""Every row is looked at when it is read: an error names the file, the line, the column, the value and a remedy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.tasks import Problem, column_values
from grpo_colab.tasks.gsm8k import GSM8K
from grpo_colab.tasks.jsonl import JSONL
from grpo_colab.training.checks import check_columns

GOOD = {"prompt": "What is 1 + 1?", "answer": 2}
PARTS = [{"role": "user", "content": [{"type": "text", "text": "What?"}]}]
# What the second row has beside or in place of the good one's, and the fields of the refusal.
BAD: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "a picture that is null": ({"image": None}, {"problem": "column 'image': TRL takes it", "remedy": "rename"}),
    "pictures": ({"images": ["a.png"]}, {"problem": "here \"['a.png']\"", "remedy": "rename the column"}),
    "half a character in the prompt": ({"prompt": "x \ud83d"}, {"problem": "column 'prompt': holds half of a surr"}),
    "in a message": ({"prompt": [{"role": "user", "content": "\udc80"}]}, {"problem": "column 'prompt': holds half"}),
    "deep in a column": ({"meta": [{"a": ["\ud83d"]}]}, {"problem": "column 'meta': holds half", "remedy": "whole"}),
    "in a key": ({"meta": {"\ud83d": 1}}, {"problem": "column 'meta': holds half"}),
    "in a column's name": ({"\ud83d": 1}, {"problem": "holds half of a surrogate pair"}),
    "a null gold": ({"answer": None}, {"problem": "column 'answer': is null", "remedy": "take the row out"}),
    "a null prompt": ({"prompt": None}, {"problem": "column 'prompt': is null"}),
    "a truth value for a gold": ({"answer": True}, {"problem": "not one number: 'True'"}),
    "parts for a content": ({"prompt": PARTS}, {"problem": "message 1 of 1 has a list of parts", "remedy": '"a text"'}),
    "a content that is null": (
        {"prompt": [{"role": "user", "content": "x"}, {"role": "assistant", "content": None}]},
        {"problem": "message 2 of 2 has no text for its content"},
    ),
    "a message without a role": ({"prompt": [{"content": "x"}]}, {"problem": "message 1 of 1 has no role"}),
    "a text for a message": ({"prompt": ["x"]}, {"problem": "message 1 of 1 is no object"}),
    "no message": ({"prompt": []}, {"problem": "column 'prompt': the prompt is neither a text nor a list"}),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_row_that_training_could_not_use_is_refused_where_it_stands(kind: str, tmp_path: Path) -> None:
    changed, fields = BAD[kind]
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps({**GOOD, **changed})}\n")
    with refused(place=f"{path}:2", **fields):
        JSONL(path=str(path)).problems("train")


def test_gsm8k_is_looked_at_too(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"question": "x \ud83d", "answer": "1\n#### 1"}) + "\n")
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": "x", "answer": "1\n#### 1"}) + "\n")
    with refused(problem="column 'question': holds half", place=f"{tmp_path / 'train.jsonl'}:1"):
        GSM8K(path=str(tmp_path)).problems("train")


def test_columns_are_what_the_file_has(tmp_path: Path) -> None:
    """Objects of different keys, values of two types and large numbers go to the rewards as they are."""
    odd = [{"a": 1}, {"b": None}, "2", 1, 10**20 + 31, [1, "x"], None]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps({**GOOD, "prompt": f"{n}?", "x": value}) + "\n" for n, value in enumerate(odd)))
    problems = JSONL(path=str(path), test_path=str(path), duplicates="keep").problems("train")
    by_question = dict(zip((problem.question for problem in problems), column_values(problems)["x"], strict=True))
    assert [by_question[f"{n}?"] for n in range(len(odd))] == odd


def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text("def level_reward(completions, level, **kwargs):\n    return [1.0] * len(level)\n")
    return f"{tmp_path}/own.py:level_reward"


@pytest.mark.parametrize("lacks", [1, 2])
def test_a_column_that_one_row_lacks_is_named_with_the_row(lacks: int, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [GOOD if n == lacks else {**GOOD, "level": None} for n in (1, 2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    name = own(tmp_path)
    task = {"name": "jsonl", "path": str(path), "test_path": str(path), "duplicates": "keep"}
    with refused(place=f"{path}:{lacks}", problem="column 'level'", snapshot=False):
        recipe = Recipe.load(task=task, rewards={name: 1.0})
        check_columns(recipe, recipe.load_task().problems("train"))
    path.write_text("".join(json.dumps({**GOOD, "level": None}) + "\n" for _ in range(2)))
    recipe = Recipe.load(task=task, rewards={name: 1.0})
    check_columns(recipe, recipe.load_task().problems("train"))  # null is a value


def test_a_column_that_a_reward_has_no_parameter_for_is_named_with_its_first_row(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("""
def unit_reward(
    prompts, completions, completion_ids, trainer_state, log_extra, log_metric, answer, unit=None
):
    return [1.0] * len(completions)
""")
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{json.dumps({**GOOD, 'unit': 1})}\n{json.dumps({**GOOD, 'note': 2})}\n")
    name = f"{tmp_path}/own.py:unit_reward"
    recipe = Recipe.load(
        task={"name": "jsonl", "path": str(path), "test_path": str(path), "duplicates": "keep"}, rewards={name: 1.0}
    )
    with refused(
        f"rewards.{name}",
        problem="unit_reward must accept note, which TRL passes",
        remedy="**kwargs",
        place=f"{path}:2",
        snapshot=False,
    ):
        check_columns(recipe, JSONL(path=str(path), test_path=str(path), duplicates="keep").problems("train"))


def test_a_problem_of_ours_has_the_gold_for_every_reward() -> None:
    check_columns(Recipe.load(), [Problem("What is 1 + 1?", "2")])
