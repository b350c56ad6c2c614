"""Problems come from files of every usual format, folders and the hub: the same rows, and errors with a place."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.tasks import Problem
from grpo_colab.tasks.dataset import Dataset
from grpo_colab.tasks.table_files import read_tables

ROWS = [{"question": f"What is {n} + {n}?", "answer": str(2 * n), "level": "ü" if n % 2 else ""} for n in range(1, 61)]
KINDS = Path(__file__).parents[1] / "data" / "problems"


def json_lines(rows: Iterable[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def comma_table(sign: str) -> str:
    lines = [sign.join(ROWS[0]), *(sign.join(row.values()) for row in ROWS)]
    return "\n".join(lines) + "\n"


def parquet(rows: list[dict[str, Any]], path: Path) -> None:
    from pyarrow import Table
    from pyarrow.parquet import write_table

    write_table(Table.from_pylist(rows), path)


def saved(rows: list[dict[str, Any]], path: Path) -> None:
    from datasets import Dataset as TheirDataset

    TheirDataset.from_list(rows).save_to_disk(path)


def text(content: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(content, encoding="utf-8")


# file name -> how it is written, and the place of the third row in it
FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "rows.jsonl": (text(json_lines(ROWS)), ":3"),
    "rows.jsonl.gz": (lambda path: path.write_bytes(gzip.compress(json_lines(ROWS).encode())), ":3"),
    "rows.csv.bz2": (lambda path: path.write_bytes(bz2.compress(comma_table(",").encode())), ":4"),
    "rows.json.xz": (lambda path: path.write_bytes(lzma.compress(json.dumps(ROWS, indent=1).encode())), ":12"),
    "no-suffix": (text(json_lines(ROWS)), ":3"),
    "list.json": (text(json.dumps(ROWS, indent=2)), ":12"),
    "one-line.json": (text(json.dumps(ROWS)), " row 3"),
    "data.json": (text(json.dumps({"version": "1", "tags": ["a"], "data": ROWS}, indent=2)), ":17"),
    "lines.json": (text(json_lines(ROWS)), ":3"),
    "comma.csv": (text(comma_table(",")), ":4"),
    "semicolon.csv": (text("\ufeff" + comma_table(";")), ":4"),
    "table.tsv": (text(comma_table("\t")), ":4"),
    "rows.parquet": (lambda path: parquet(ROWS, path), " row 3"),
    "saved": (lambda path: saved(ROWS, path), " row 3"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_holds_the_same_rows(name: str, tmp_path: Path) -> None:
    write, third = FILES[name]
    write(tmp_path / name)
    task = Dataset(path=str(tmp_path / name))
    problems = [*task.problems("train"), *task.problems("test")]
    found = {problem.question: (problem.answer, problem.columns) for problem in problems}
    assert found == {row["question"]: (row["answer"], {"level": row["level"]}) for row in ROWS}
    (place,) = [problem.source for problem in problems if problem.question == "What is 3 + 3?"]
    assert place == f"{tmp_path / name}{third}"
    assert task.reward_columns() == ["answer", "level"]
    # the split does not depend on the format
    (tmp_path / "reference.jsonl").write_text(json_lines(ROWS))
    reference = Dataset(path=str(tmp_path / "reference.jsonl"))
    assert [one.question for one in task.problems("test")] == [one.question for one in reference.problems("test")]


# Files are written: nothing may hang on how fast that is.
UNHURRIED = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)


@UNHURRIED
@given(st.lists(st.dictionaries(WORDS, VALUES, max_size=4), min_size=1, max_size=6), st.sampled_from([None, 0, 3]))
def test_any_rows_in_json_are_what_json_says_and_where_they_stand(rows: list[Any], indent: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for whole in (rows, {"about": [1, {"x": rows}], "data": rows}):
            path = Path(folder) / "a.json"
            path.write_text(json.dumps(whole, indent=indent, ensure_ascii=False), encoding="utf-8", newline="")
            (found,) = read_tables(path).values()
            placed = list(found)
            assert [row for _, row in placed] == rows
            lines = path.read_text(encoding="utf-8").split("\n")
            if indent == 3:
                assert all(lines[int(place.rpartition(":")[2]) - 1].lstrip().startswith("{") for place, _ in placed)


@UNHURRIED
@given(st.lists(st.tuples(WORDS, WORDS.filter(str.strip)), max_size=6), st.sampled_from(",;\t|"))
def test_any_table_is_what_its_writer_wrote(cells: list[tuple[str, str]], sign: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file, delimiter=sign).writerows([("question", "answer"), *cells])
        (found,) = read_tables(path).values()
        assert [tuple(row.values()) for _, row in found] == cells


def split_questions(task: Dataset) -> dict[str, set[int]]:
    """The numbers that each split asks about."""
    return {split: {int(one.question.split()[2]) for one in task.problems(split)} for split in ("train", "test")}


def folder_of_files(folder: Path) -> None:
    parquet(ROWS[:30], folder / "train-00000-of-00002.parquet")
    parquet(ROWS[30:40], folder / "train-00001-of-00002.parquet")
    (folder / "validation.csv").write_text(comma_table(",").replace("question", "problem"))
    (folder / "test.jsonl").write_text(json_lines(ROWS[40:]))
    (folder / "README.md").write_text("mine")


def repository(folder: Path) -> None:
    (folder / "data").mkdir()
    parquet(ROWS[:40], folder / "data" / "train-00000-of-00001.parquet")
    parquet(ROWS[40:], folder / "data" / "validation-00000-of-00001.parquet")


def saved_splits(folder: Path) -> None:
    from datasets import Dataset as TheirDataset
    from datasets import DatasetDict

    splits = {"train": ROWS[:40], "dev": ROWS[40:]}
    DatasetDict({name: TheirDataset.from_list(rows) for name, rows in splits.items()}).save_to_disk(folder)


def one_file(folder: Path) -> None:
    (folder / "train.json").write_text(json.dumps(ROWS[:40]))
    (folder / "eval.json").write_text(json.dumps(ROWS[40:]))


@pytest.mark.parametrize("make", [folder_of_files, repository, saved_splits, one_file], ids=lambda make: make.__name__)
def test_a_folder_has_a_file_per_split(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path)
    splits = split_questions(Dataset(path=str(tmp_path)))
    assert splits == {"train": {*range(1, 41)}, "test": {*range(41, 61)}}


def test_a_split_that_is_not_used_is_said(tmp_path: Path) -> None:
    folder_of_files(tmp_path)
    assert Dataset(path=str(tmp_path)).held_out_by == "its own split 'test'; not used: 'validation'"


def test_a_json_file_has_splits_and_a_test_path_goes_before_them(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"train": ROWS[:40], "test": ROWS[40:50]}))
    (tmp_path / "b.csv").write_text("question,answer\nWhat is 99 + 1?,100\n")
    path = str(tmp_path / "a.json")
    assert split_questions(Dataset(path=path)) == {"train": {*range(1, 41)}, "test": {*range(41, 51)}}
    assert split_questions(Dataset(path=path, test_path=str(tmp_path / "b.csv")))["test"] == {99}
    assert split_questions(Dataset(path=str(tmp_path / "b.csv"), test_path=path))["test"] == {*range(41, 51)}


def test_a_data_set_of_the_hub_is_read_with_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library reads a folder of the repository's name as it reads the repository."""
    (tmp_path / "me" / "sums").mkdir(parents=True)
    (tmp_path / "me" / "sums" / "README.md").write_text(
        "---\nconfigs:\n- config_name: easy\n  data_files:\n  - split: train\n    path: train.jsonl\n"
        "  - split: validation\n    path: val.jsonl\n- config_name: hard\n  data_files: train.jsonl\n---\n"
    )
    (tmp_path / "me" / "sums" / "train.jsonl").write_text(json_lines(ROWS[:40]))
    (tmp_path / "me" / "sums" / "val.jsonl").write_text(json_lines(ROWS[40:]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    task = Dataset(path="hf://me/sums/easy")
    assert split_questions(task) == {"train": {*range(1, 41)}, "test": {*range(41, 61)}}
    assert {problem.source for problem in task.problems("test")} == {
        f"hf://me/sums/easy validation row {n}" for n in range(1, 21)
    }
    with refused("task.path", "hf://me/sums", problem="easy", remedy="hf://me/sums/CONFIGURATION", snapshot=False):
        Dataset(path="hf://me/sums").problems("train")
    with refused("task.path", problem="medium", remedy="hf://me/sums/CONFIGURATION", snapshot=False):
        Dataset(path="hf://me/sums/medium").problems("train")


def test_a_recipe_with_a_data_set_of_the_hub_is_read_without_it() -> None:
    recipe = Recipe.load(task={"name": "dataset", "path": "hf://openai/gsm8k/main@1a2b3c"})
    assert recipe.task["path"] == "hf://openai/gsm8k/main@1a2b3c"
    # in the hub's own words
    with refused(
        "task.path", problem="cannot be downloaded", remedy="a folder with a copy of its files", snapshot=False
    ):
        recipe.load_task().problems("train")


def test_real_gsm8k_as_a_folder_of_ones_own(gsm8k: Path) -> None:
    task = Dataset(path=str(gsm8k))
    assert [len(task.problems(split)) for split in ("train", "test")] == [7473, 1319]


# The kinds of problems in tests/data with numbers, and how they are read.
NUMBERS: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "unit_conversions.csv": (
        {"prompt": "How many {to} are {amount} {from}? Write {{n}}."},
        60,
        "How many minutes are 3 hours? Write {n}.",
        "180",
    ),
    "preise.csv": (
        {"prompt_column": "Frage", "answer_column": "Antwort", "locale": "de"},
        24,
        "Ein Brot kostet 2,5 Euro. Was kosten zwei Brote?",
        "5,0",
    ),
    "sums": ({}, 60, "What is 41 + 82?", "123"),
    "chats.jsonl": (
        {},
        24,
        "system: You help in a shop.\n\nuser: I have 16 euros.\n\nassistant: Good.\n\n"
        "user: I pay 6 euros. How much is left?",
        "10",
    ),
    "sharegpt.json": ({}, 24, "A box has 4 rows of 7 pears. How many pears are in it?", "28"),
    "verl.jsonl": ({}, 30, "Add 7, 14 and 12.", "33"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_kinds_of_problems(name: str) -> None:
    settings, size, question, answer = NUMBERS[name]
    task = Dataset(path=str(KINDS / name), **settings)
    problems = [*task.problems("train"), *task.problems("test")]
    assert len(problems) == size
    (problem,) = [one for one in problems if one.question == question]
    assert problem.answer == answer
    assert all(task.grade(task.golden_completion(one), one).right for one in problems)


def test_a_solution_at_the_end_of_a_conversation_has_steps() -> None:
    problem = next(one for one in Dataset(path=str(KINDS / "chats.jsonl")).problems("train") if one.answer == "10")
    assert problem.steps == ("16 - 6 = 10",)
    assert problem.messages is not None
    assert [message["role"] for message in problem.messages] == ["system", "user", "assistant", "user"]


def test_a_table_with_a_space_after_each_delimiter_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question, answer\n"1, then 1?", "2 "\n3+3?, 6\n')
    (found,) = read_tables(tmp_path / "a.csv").values()
    assert [row for _, row in found] == [
        {"question": "1, then 1?", "answer": "2 "},
        {"question": "3+3?", "answer": "6"},
    ]
    (tmp_path / "b.csv").write_text('question, answer\n1?, " ""2"""\n')
    (found,) = read_tables(tmp_path / "b.csv").values()
    assert [row["answer"] for _, row in found] == [' "2"']  # as its quotes say


def test_a_file_of_a_folder_that_is_no_split_is_said(tmp_path: Path) -> None:
    one_file(tmp_path)
    (tmp_path / "dataset_infos.json").write_text("{}")
    assert Dataset(path=str(tmp_path)).splits.left_out == ()
    (tmp_path / "tests.csv").write_text("question,answer\n1+1?,2\n")
    (said,) = Dataset(path=str(tmp_path)).splits.left_out
    assert said.startswith(f"Not read: 'tests.csv' of {tmp_path}. A split's file is called train, or test")


def test_a_row_of_a_binary_file_is_named_by_its_number(tmp_path: Path) -> None:
    rows = [{"question": "1+1?", "answer": 2.0}, {"question": "2+2?", "answer": float("nan")}]
    parquet(rows, tmp_path / "a.parquet")
    saved(rows, tmp_path / "saved")
    for name in ("a.parquet", "saved"):
        with refused(place=f"{tmp_path / name} row 2", problem="column 'answer': is NaN", remedy="take the row out"):
            Dataset(path=str(tmp_path / name)).problems("train")


NOT_READ: dict[str, tuple[bytes | None, str, str | None]] = {  # the file's content, problem, remedy
    "a.xlsx": (b"PK", "is a spreadsheet", "save the sheet as .csv"),
    "a.pkl": (b"x", "is a .pkl file, which is not read", ".jsonl, .json, .csv"),
    "a.parquet.gz": (b"x", "is a compressed .parquet", "unpack it"),
    "missing.csv": (None, "there is no such file", "hf://owner/name"),
}


@pytest.mark.parametrize("name", NOT_READ)
def test_a_file_that_is_not_read_is_refused_with_the_recipe(name: str, tmp_path: Path) -> None:
    content, problem, remedy = NOT_READ[name]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    for setting in ("path", "test_path"):
        (tmp_path / "good.jsonl").write_text(json_lines(ROWS))
        task = {"path": str(tmp_path / "good.jsonl"), setting: str(tmp_path / name)}
        with refused(f"task.{setting}", str(tmp_path / name), problem=problem, remedy=remedy):
            Recipe.load(task={"name": "dataset", **task})


def test_splits_that_are_not_clear_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"train_a": ROWS, "train_b": ROWS}))
    with refused(
        "task.path", problem="which of its splits to train on: 'train_a', 'train_b'", remedy="save that split"
    ):
        Dataset(path=str(tmp_path / "a.json")).problems("train")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine.csv").touch()
    with refused("task.path", str(folder), problem="has no file of a split, such as train.jsonl; it has 'mine.csv'"):
        Dataset(path=str(folder))
    (folder / "train.csv").touch()
    (folder / "train.json").touch()
    with refused("task.path", str(folder), problem="has 'train' in two formats", remedy="take one of them out"):
        Dataset(path=str(folder))
    with refused("task.path", "hf://gsm8k", problem="is no data set of the hub", remedy="hf://owner/name"):
        Dataset(path="hf://gsm8k")


def test_text_files_are_read_by_the_standard_library(tmp_path: Path) -> None:
    heavy = ("datasets", "pyarrow", "pandas", "numpy", "torch", "transformers")
    for name in ("rows.jsonl", "list.json", "comma.csv"):
        FILES[name][0](tmp_path / name)
    code = f"""
import sys
from grpo_colab.tasks.dataset import Dataset
from grpo_colab.tasks.table_files import read_tables
for name in ("rows.jsonl", "list.json", "comma.csv"):
    Dataset(path={str(tmp_path)!r} + "/" + name).problems("train")
print([name for name in {heavy!r} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_problem_keeps_what_a_reward_needs() -> None:
    problem: Problem = Dataset(path=str(KINDS / "verl.jsonl")).problems("train")[0]
    assert problem.columns["extra_info"]["split"] == "train"
    assert problem.columns["data_source"] == "made/sums"
