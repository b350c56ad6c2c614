"""Counts and durations as a person writes them. What text.py does with other people's text: tests/security."""

from __future__ import annotations

import pytest

from grpo_colab.text import counted, duration


@pytest.mark.parametrize(
    ("number", "noun", "plural", "said"),
    [
        (0, "step", None, "0 steps"),
        (1, "prompt", None, "1 prompt"),
        (2, "prompt", None, "2 prompts"),
        (2048, "prompt", None, "2,048 prompts"),
        (1, "batch", "batches", "1 batch"),
        (3, "batch", "batches", "3 batches"),
    ],
)
def test_a_count_agrees_with_its_noun(number: int, noun: str, plural: str | None, said: str) -> None:
    assert counted(number, noun, plural) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0 s"),
        (0.034, "0.034 s"),
        (0.651, "0.65 s"),
        (2.6, "2.6 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (61.2, "61 s"),
        (99.4, "99 s"),
        (99.7, "1.7 min"),
        (150, "2.5 min"),
        (1654, "28 min"),
        (5940, "99 min"),
        (5980, "1.7 h"),
        (5.1 * 3600, "5.1 h"),
        (71.9 * 3600, "71.9 h"),
        (72 * 3600, "3 days"),
        (119.3 * 3600, "5 days"),
        (2000 * 86400, "2,000 days"),
    ],
)
def test_a_duration_has_the_unit_that_suits_it(seconds: float, said: str) -> None:
    """Never 0 min for some seconds, nor 1654 s for half an hour."""
    assert duration(seconds) == said
