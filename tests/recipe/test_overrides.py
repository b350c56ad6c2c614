"""The words of a command line: which recipe and settings they mean."""

from __future__ import annotations

from typing import Any

import pytest
from refusals import ANY, refused

from grpo_colab import Recipe
from grpo_colab.recipe.overrides import read_recipe


@pytest.mark.parametrize(
    "words",
    [
        ("gsm8k-tiny", "--budget.max-steps", "5"),
        ("--budget.max-steps", "5", "gsm8k-tiny"),
        ("--budget.max-steps=5", "gsm8k-tiny"),
        ("--budget.max_steps", "5", "gsm8k-tiny"),
    ],
)
def test_settings_stand_anywhere(words: tuple[str, ...]) -> None:
    assert read_recipe(words) == Recipe.load("gsm8k-tiny", budget={"max_steps": 5})


def test_a_negative_number_is_a_value() -> None:
    with refused("budget.max_steps", -5, remedy="1 or more"):
        read_recipe(("--budget.max-steps", "-5"))


@pytest.mark.parametrize(
    ("words", "setting", "value", "said"),
    [
        (("gsm8k-tiny", "drawing-tiny"), "recipe", "gsm8k-tiny drawing-tiny", {"remedy": "name one"}),
        (("--budgt.max-steps", "5"), "--budgt.max-steps", ANY, {"remedy": "did you mean 'budget'? A setting is"}),
        (("--max-stepz", "5"), "--max-stepz", ANY, {"remedy": "--TABLE.SETTING with one of task, model"}),
        (("--max_steps", "5"), "--max_steps", ANY, {"remedy": "write --budget.max-steps"}),
        (("--max-prompt-length", "64"), "--max-prompt-length", ANY, {"remedy": "write --task.max-prompt-tokens"}),
        (("--r=5",), "--r=5", ANY, {"remedy": "write --lora.r"}),
        (
            ("--learning-rate", "1e-5"),
            "--learning-rate",
            ANY,
            {"remedy": "write --grpo.learning-rate or --hindsight.learning-rate or --pretraining.learning-rate"},
        ),
        (("--soft_format", "1"), "--soft_format", ANY, {"remedy": "write --rewards.soft_format"}),
        (("--seed", "1"), "--seed", ANY, {"remedy": "write --task.seed or --grpo.seed"}),
        (("--budget.max-steps",), "--budget.max-steps", ANY, {"problem": "has no value", "remedy": "max-steps VALUE"}),
    ],
)
def test_words_that_mean_nothing_are_refused(words: tuple[str, ...], setting: str, value: Any, said: Any) -> None:
    with refused(setting, value, **said):
        read_recipe(words)


def test_a_run_goes_on_with_its_own_recipe() -> None:
    with refused("--resume", "runs/a", problem="the run's own recipe", remedy="'gsm8k-tiny'"):
        read_recipe(("gsm8k-tiny",), resume="runs/a")
