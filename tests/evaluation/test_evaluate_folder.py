"""A run folder's answers are found again, whatever the folder's age and wherever its file is now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.evaluation.evaluate import find_answers, need_same_problems
from grpo_colab.tasks import Problem
from grpo_colab.tasks.conversations import transcript


def conversation(n: int) -> Problem:
    messages = ({"role": "system", "content": f"Tom has {n}."}, {"role": "user", "content": "How many?"})
    return Problem(transcript(messages), str(n), f"data.jsonl:{n}", messages=messages)


def row(question: str, source: str | None) -> Any:
    return {"question": question, **({"source": source} if source else {})}


def test_rows_are_found_by_place_by_question_and_in_folders_of_before_by_the_last_message(tmp_path: Path) -> None:
    problems = [conversation(n) for n in range(1, 4)]
    run = Run.create(Recipe.load(), tmp_path / "run")
    for rows in (
        [row(problem.question, problem.source) for problem in problems],
        [row(problem.question, "/moved/" + problem.source) for problem in problems],
        [row(problem.question, None) for problem in problems],
        [row("How many?", problem.source) for problem in problems],  # of before
    ):
        assert find_answers(rows, problems) == rows
        need_same_problems(run, rows, problems)
        # a damaged line costs its row alone
        assert find_answers(rows[1:], problems) == [None, *rows[1:]]
        need_same_problems(run, rows[1:], problems)


def test_a_folder_of_before_whose_problems_are_not_held_out_now_is_refused(tmp_path: Path) -> None:
    """Its conversations all end alike, so that their last message alone would find them."""
    run = Run.create(Recipe.load(), tmp_path / "run")
    rows = [row("How many?", f"data.jsonl:{n}") for n in range(1, 7)]
    with refused(problem="4 of the 6 problems", remedy="task.test_path", place=f"run {str(run.path)!r}"):
        need_same_problems(run, rows, [conversation(n) for n in (1, 2, 8, 9)])
