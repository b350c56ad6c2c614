"""Equations: which of them state the value of their right side, and which do not."""

from __future__ import annotations

from fractions import Fraction

import pytest
from answers import DOES_NOT, STATES

from grpo_colab.rewards.number_parser import read_number


@pytest.mark.parametrize("text", STATES)
def test_an_equation_states_its_right_side(text: str) -> None:
    assert read_number(text) == (Fraction(18), None)


@pytest.mark.parametrize("text", DOES_NOT)
def test_an_equation_with_an_unknown_states_no_number(text: str) -> None:
    assert read_number(text).value is None


@pytest.mark.parametrize("letter", "abcdefghijklmnopqrstuvwxyzABCXYZαβπ")
def test_every_letter_is_an_unknown(letter: str) -> None:
    assert read_number(f"{letter} = 18").value == 18
    for text in (f"2{letter} = 18", f"{letter}^2 = 18", f"{letter}/2 = 18", f"-{letter} = 18", f"{letter} + 1 = 18"):
        assert read_number(text).value is None, text
