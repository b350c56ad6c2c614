"""The words of a command line: which recipe and settings they mean, and whether they may bring a user's own code."""

from __future__ import annotations

from pathlib import Path

import pytest

from grpo_colab import Recipe, Run
from grpo_colab.errors import SettingError
from grpo_colab.words import may_bring_code, read_recipe


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


@pytest.mark.parametrize(
    ("words", "resume", "may"),
    [
        ((), None, False),
        (("gsm8k-tiny", "--grpo.learning-rate", "1e-5"), None, False),
        (("--rewards.integer", "0.5", "--rewards.tag_count=2.0", "--rewards.cosine_scaled(max_len=9)"), None, False),
        (("--rewards.own.py:own_reward", "1"), None, True),
        (("--rewards.some.module.own_reward=1",), None, True),
        (("--rewards.own.py:own_reward(x=1)=1",), None, True),
        (("mine.toml",), None, True),
        ((), "plain", False),
        ((), "own", True),
        (("--rewards.own.py:own_reward", "1"), "plain", True),
        ((), "torn", False),
        ((), "odd", False),
        ((), "absent", False),
        ((), "mirror", True),
        ((), "hf://someone/runs", True),
    ],
)
def test_unsloth_comes_first_where_a_reward_may_be_the_users_own(
    words: tuple[str, ...], resume: str | None, may: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("def own_reward(completions, **kwargs):\n    return [0.0] * len(completions)\n")
    for name, rewards in (("plain", {}), ("own", {f"{tmp_path}/own.py:own_reward": 1.0})):
        Run.create(Recipe.load(rewards=rewards), tmp_path / name)
    Run.create(Recipe.load(), tmp_path / "mirror" / "copy")
    for name, text in (("torn", "[rewards\n"), ("odd", "rewards = 5\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text(text)
    assert may_bring_code(words, resume) is may
