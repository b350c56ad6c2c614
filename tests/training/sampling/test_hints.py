"""What a hint shows: fewer steps towards the end, never the last one, and none where the prompt would be too long."""

from __future__ import annotations

from pathlib import Path

import pytest

from grpo_colab.tasks import Message, Problem
from grpo_colab.tasks.gsm8k import GSM8K
from grpo_colab.tasks.word_problems import WordProblems
from grpo_colab.training.sampling import HintedRows, steps_shown

STEPS = ("1 + 1 = 2", "2 * 2 = 4", "4 - 1 = 3", "3 * 3 = 9")


@pytest.mark.parametrize(
    ("share", "done", "steps", "shown"),
    [
        (0.5, 0.0, 4, 2),
        (0.5, 0.5, 4, 1),
        (0.5, 0.76, 4, 0),
        (0.5, 1.0, 4, 0),
        (0.9, 0.0, 4, 3),  # not the last step
        (0.99, 0.0, 2, 1),
        (0.9, 0.0, 1, 0),
        (0.9, 0.0, 0, 0),  # no solution is known
        (0.1, 0.0, 4, 0),
        (0.125, 0.0, 4, 1),  # half a step is shown
        (0.5, 1.2, 4, 0),  # a run that was made longer, and shorter again
    ],
)
def test_how_much_is_shown(share: float, done: float, steps: int, shown: int) -> None:
    assert steps_shown(share, done, steps) == shown


def test_it_never_grows() -> None:
    for steps in range(1, 13):
        shown = [steps_shown(0.8, done / 100, steps) for done in range(101)]
        assert shown == sorted(shown, reverse=True)
        assert shown[0] < steps and shown[-1] == 0


def rows(longest: int = 999) -> HintedRows:
    task = WordProblems()
    problems = [Problem("What is it?", "9", steps=STEPS), Problem("And this?", "2", steps=STEPS[:1])]

    def fits(prompt: list[Message]) -> bool:
        return sum(len(message["content"]) for message in prompt) <= longest

    given = [{"prompt": task.messages(problem), "answer": problem.answer} for problem in problems]
    return HintedRows(given * 2, problems, task.hinted_messages, fits)


def test_a_row_with_a_hint_differs_in_its_last_message_alone() -> None:
    plain, hinted = rows()[2], rows()[2, 2]
    assert hinted["answer"] == plain["answer"] == "9"
    assert hinted["prompt"][:-1] == plain["prompt"][:-1]
    assert hinted["prompt"][-1]["role"] == "user"
    said = hinted["prompt"][-1]["content"]
    assert said.startswith("What is it?\n\n")
    assert said.endswith("\n1 + 1 = 2\n2 * 2 = 4")
    assert "4 - 1" not in said
    assert len(rows()) == 4


def test_a_hint_has_no_more_steps_than_the_prompt_has_room_for() -> None:
    task, problem = WordProblems(), Problem("What is it?", "9", steps=STEPS)
    one = sum(len(message["content"]) for message in task.hinted_messages(problem, 1))
    assert rows().hint(0, 0.75, 0) == 3
    assert rows(one).hint(0, 0.75, 0) == 1
    assert rows(one - 1).hint(0, 0.75, 0) == 0
    assert rows().hint(1, 0.75, 0) == 0


def test_gsm8k_has_steps_to_show(gsm8k: Path) -> None:
    task = GSM8K(path=str(gsm8k))
    problem = task.problems("train", 1)[0]
    said = task.hinted_messages(problem, 1)[-1]["content"]
    assert said.startswith(problem.question)
    assert problem.steps[0] in said and problem.steps[1] not in said
    assert "<<" not in said
