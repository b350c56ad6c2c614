"""What is held out: a share or a number of rows, by the prompt; and prompts that come twice never falsify it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.tasks import Problem
from grpo_colab.tasks.dataset import Dataset
from grpo_colab.tasks.duplicates import identity

ROWS = [{"prompt": f"What is {n} + 1?", "answer": n + 1} for n in range(1000)]


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def questions(task: Dataset, split: str) -> list[str]:
    return [problem.question for problem in task.problems(split)]


@pytest.mark.parametrize(("share", "least", "most"), [(0.02, 5, 40), (0.1, 70, 130), (0.5, 440, 560), (0.9, 860, 940)])
def test_a_share_of_the_prompts_is_held_out(share: float, least: int, most: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    task = Dataset(path=path, test_share=share)
    train, test = questions(task, "train"), questions(task, "test")
    assert least < len(test) < most
    assert sorted(train + test) == sorted(row["prompt"] for row in ROWS)
    if share == 0.1:
        assert test == questions(Dataset(path=path), "test")  # which is what is held out without the setting
    # a larger share holds out the same problems and more
    assert {*test} <= {*questions(Dataset(path=path, test_share=min(0.99, 1.5 * share)), "test")}


@pytest.mark.parametrize("number", [1, 60, 999])
def test_a_number_of_rows_is_held_out(number: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS)
    task = Dataset(path=path, test_share=number)
    assert len(questions(task, "test")) == number
    assert len(questions(task, "train")) == 1000 - number
    assert {*questions(Dataset(path=path, test_share=1), "test")} <= {*questions(task, "test")}


def test_rows_of_one_prompt_are_held_out_together(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [row for row in ROWS[:20] for _ in range(3)])
    task = Dataset(path=path, test_share=10)
    assert len(questions(task, "test")) == 12
    assert not {*questions(task, "train")} & {*questions(task, "test")}


@pytest.mark.parametrize("share", [0.0, -0.1, 2.5, float("inf"), float("nan")])
def test_what_is_no_share_is_refused_with_the_recipe(share: float, tmp_path: Path) -> None:
    task = {"name": "dataset", "path": write(tmp_path / "a.jsonl", ROWS[:3]), "test_share": share}
    with refused("task.test_share", problem="neither a share nor a number of rows", remedy="such as 0.2"):
        Recipe.load(task=task)


def test_a_share_that_has_no_use_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ROWS[:3])
    with refused("task.test_share", 0.5, problem="has no use beside task.test_path", remedy="take one of the two out"):
        Dataset(path=path, test_path=path, test_share=0.5)
    write(tmp_path / "train.jsonl", ROWS[:3])
    write(tmp_path / "test.jsonl", ROWS[3:5])
    with refused("task.test_share", 0.5, problem="has held-out rows, 'test'", remedy="name the file to train on"):
        Dataset(path=str(tmp_path), test_share=0.5).problems("train")
    for share in (3, 50):
        with refused("task.test_share", share, problem="is all of the 3 rows there are, or more", remedy="fewer"):
            Dataset(path=path, test_share=share).problems("train")


def both(tmp_path: Path, train: list[dict[str, Any]], test: list[dict[str, Any]], **settings: Any) -> Dataset:
    paths = {name: write(tmp_path / f"{name}.jsonl", rows) for name, rows in (("train", train), ("test", test))}
    return Dataset(path=paths["train"], test_path=paths["test"], **settings)


def test_a_prompt_on_both_sides_is_refused_with_both_places(tmp_path: Path) -> None:
    train = [*ROWS[:3], {"prompt": " What is 8\n+ 1? ", "answer": 9}]  # the spacing makes no difference
    for split in ("train", "test"):
        with refused(
            place=f"{tmp_path}/train.jsonl:3",
            problem=f", the first of 2, is held out as well, at {tmp_path}/test.jsonl:1",
            remedy='task.duplicates = "drop"',
        ):
            both(tmp_path, train, [ROWS[2], ROWS[8]]).problems(split)


def test_a_prompt_with_two_answers_is_refused_with_both_places(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*ROWS[:3], {"prompt": "What is 1 + 1?", "answer": "3"}])
    with refused(
        place=f"{path}:4", problem=f"has the answer '3' here, and '2' at {path}:2", remedy='task.duplicates = "drop"'
    ):
        Dataset(path=path, test_share=1).problems("train")
    with refused(place=f"{tmp_path}/train.jsonl:1", problem=f"and '2' at {tmp_path}/test.jsonl:1"):
        both(tmp_path, [{"prompt": "What is 1 + 1?", "answer": "3"}], [ROWS[1]]).problems("test")


def test_the_same_answer_in_two_forms_is_one_answer(tmp_path: Path) -> None:
    rows = [{"prompt": "Q", "answer": answer} for answer in (1000, "1,000", 1000.0, "so\n#### 1000")]
    assert len(both(tmp_path, rows, ROWS[:1]).problems("train")) == 4


def test_duplicates_are_dropped_where_that_is_asked_for(tmp_path: Path) -> None:
    train = [*ROWS[:6], {"prompt": ROWS[5]["prompt"], "answer": 77}, ROWS[0]]
    task = both(tmp_path, train, ROWS[3:5], duplicates="drop")
    assert sorted(questions(task, "train")) == sorted(row["prompt"] for row in (ROWS[0], *ROWS[:3]))
    assert sorted(questions(task, "test")) == sorted(row["prompt"] for row in ROWS[3:5])
    assert task.splits.left_out == (
        "2 rows are left out: their prompts have more than one answer",
        "2 training rows are left out: their prompts are held out",
    )
    with refused("task.path", problem="has no row left for 'train', of the 2 that it had", remedy="task.test_path"):
        both(tmp_path, ROWS[:2], ROWS[:4], duplicates="drop").problems("train")


def test_duplicates_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    task = both(tmp_path, ROWS[:6], ROWS[3:5], duplicates="keep")
    assert (len(task.problems("train")), len(task.problems("test"))) == (6, 2)


def test_a_conversation_is_the_same_prompt_as_its_text() -> None:
    message = {"role": "user", "content": "Q"}
    assert identity(Problem("Q", "1")) == identity(Problem("Q", "1", messages=(message,)))
