"""The words of a command line: which recipe and settings they mean."""

from __future__ import annotations

import pytest

from grpo_colab import Recipe
from grpo_colab.errors import SettingError
from grpo_colab.words import read_recipe


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
    with pytest.raises(SettingError, match=r"budget\.max_steps = -5"):
        read_recipe(("--budget.max-steps", "-5"))
