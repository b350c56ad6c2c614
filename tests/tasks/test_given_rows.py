"""A data set that a Python program holds becomes the same JSON lines, whatever library it is of."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Callable
from typing import Any

import pytest
from refusals import refused

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.tasks import Problem
from grpo_colab.tasks.given_rows import json_lines_of

ROWS = [{"prompt": f"{n} + 1?", "answer": n + 1, "tags": ["a", f"{n}"], "x": 0.5 if n else None} for n in range(30)]


def pandas_frame() -> Any:
    import pandas

    return pandas.DataFrame(ROWS)


def of_datasets() -> Any:
    from datasets import Dataset

    return Dataset.from_list(ROWS)


def arrow_table() -> Any:
    from pyarrow import Table

    return Table.from_pylist(ROWS)


FORMS: dict[str, Callable[[], Any]] = {
    "pandas": pandas_frame,
    "datasets": of_datasets,
    "pyarrow": arrow_table,
    "tuples": lambda: tuple(ROWS),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_file_does_not_depend_on_the_library(form: str) -> None:
    found = json_lines_of(FORMS[form]())
    assert found == json_lines_of(ROWS)
    ((name, text),) = found.items()
    assert [json.loads(line) for line in text.splitlines()] == ROWS
    assert name.startswith("data-")
    assert name != next(iter(json_lines_of(ROWS[1:])))


def test_a_label_of_datasets_is_its_name() -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["good", "bad"])})
    rows = [{"text": "a", "label": 1}, {"text": "b", "label": 0}, {"text": "c", "label": -1}]
    (text,) = json_lines_of(Dataset.from_list(rows, features=features)).values()
    assert [json.loads(line)["label"] for line in text.splitlines()] == ["bad", "good", None]


def test_splits_are_two_files() -> None:
    from datasets import Dataset, DatasetDict

    both = DatasetDict({"train": Dataset.from_list(ROWS[:20]), "validation": Dataset.from_list(ROWS[20:])})
    recipe = Recipe.load("gsm8k-tiny").with_dataset(both)
    assert [recipe.task[key].partition("-")[0] for key in ("path", "test_path")] == ["run:train", "run:test"]
    task = recipe.load_task()
    assert sorted(problem.question for problem in task.problems("test")) == sorted(row["prompt"] for row in ROWS[20:])
    assert {problem.source for problem in task.problems("test")} == {f"dataset 'test' row {n}" for n in range(1, 11)}
    assert recipe.task["name"] == "dataset"
    assert recipe.task["max_prompt_tokens"] == 512  # the preset's
    mapping = {"train": ROWS[:20], "validation": ROWS[20:]}
    assert Recipe.load("gsm8k-tiny").with_dataset(mapping) == recipe
    with refused("dataset", problem="which of its splits to train on: 'a', 'b'"):
        json_lines_of({"a": ROWS, "b": ROWS})


def test_problems_keep_their_steps_their_messages_and_their_columns() -> None:
    message = {"role": "user", "content": "2 + 2?"}
    given = [
        Problem("1 + 1?", "2", steps=("1 + 1 = 2",), columns={"level": 3}),
        Problem("user: 2 + 2?", "4", messages=(message, {"role": "assistant", "content": "So"}, message)),
    ]
    recipe = Recipe.load("gsm8k-tiny", task={"name": "dataset", "test_share": 1}).with_dataset(given * 3)
    task = recipe.load_task()
    found = {problem.answer: problem for problem in (*task.problems("train"), *task.problems("test"))}
    assert (found["2"].question, found["2"].steps, found["2"].columns) == ("1 + 1?", ("1 + 1 = 2",), {"level": 3})
    assert found["4"].messages == given[1].messages


def test_values_of_libraries_become_those_of_json() -> None:
    import numpy
    import pandas

    row = {
        "a": numpy.int64(3),
        "b": numpy.array([[1.5]]),
        "c": pandas.NA,
        "d": pandas.NaT,
        "e": float("nan"),
        "f": datetime.date(2026, 1, 2),
        "g": decimal.Decimal("0.10"),
        "h": {"x": numpy.bool_(True)},
        5: "ü\ud83d",
    }
    (text,) = json_lines_of([row]).values()
    assert json.loads(text) == {
        **{"a": 3, "b": [[1.5]], "c": None, "d": None, "e": None, "f": "2026-01-02", "g": "0.10", "h": {"x": True}},
        "5": "ü\ud83d",
    }


@pytest.mark.parametrize(
    ("given", "fields"),
    [
        ("problems.csv", {"problem": "is of the type str", "remedy": "a DataFrame, or a list of dicts"}),
        (iter(ROWS), {"problem": "is of the type list_iterator", "remedy": "list(...)"}),
        (5, {"problem": "is of the type int"}),
        ([], {"problem": "has no rows to train on"}),
        ({"train": ROWS, "test": []}, {"problem": "has no rows to hold out"}),
        ([ROWS[0], 5], {"place": "dataset row 2", "problem": "must be a dict or a Problem, not int: 5"}),
        ([ROWS[0], {"x": b"1"}], {"place": "dataset row 2", "problem": "column 'x'", "remedy": "leave the column out"}),
        ({"train": ROWS, "test": [{"x": [object()]}]}, {"place": "dataset 'test' row 1", "problem": "type object"}),
    ],
    ids=lambda value: str(value)[:20].split(" at ")[0] if not isinstance(value, dict) else None,
)
def test_what_is_no_data_set_is_refused(given: Any, fields: dict[str, Any]) -> None:
    with refused(**fields):
        json_lines_of(given)


def test_a_recipe_with_problems_of_its_own_is_refused(tmp_path: Any) -> None:
    (tmp_path / "a.csv").write_text("prompt,answer\n1?,1\n2?,2\n")
    recipe = Recipe.load(task={"name": "dataset", "path": str(tmp_path / "a.csv")})
    with refused("task.path", problem="names other problems than dataset=", remedy="leave out one of the two"):
        recipe.with_dataset(ROWS)
    with refused("task.name", "drawing", problem="draws its own problems", remedy="gsm8k-tiny"):
        Recipe.load("drawing-tiny").with_dataset(ROWS)


def test_without_a_path_or_a_data_set_the_problems_are_missing() -> None:
    for name in ("dataset", "jsonl"):
        recipe = Recipe.load(task={"name": name})
        with refused("task.path", problem="is missing", remedy="train(recipe, dataset=...)"):
            recipe.load_task().problems("train")
