"""The adapter's README.md: what was trained and how to load it, and nothing of the machine that trained it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import EvalResult

from grpo_colab import Recipe
from grpo_colab.policy.card import model_card
from grpo_colab.recipe.recipe import TINY_MODEL, preset_names

REWARD = "def brevity_reward(completions, **kwargs):\n    return [1.0 for _ in completions]\n"
EVALUATION = {
    "task": "jsonl",
    "split": "test",
    "n": 256,
    "before": {"accuracy": 0.25, "ci95": [0.2, 0.31], "lenient_accuracy": 0.5, "rewards": {}},
    "after": {"accuracy": 0.75, "ci95": [0.69, 0.8], "lenient_accuracy": 1.0, "rewards": {}},
    "paired": {"gained": 140, "lost": 12, "p_value": 1.5e-20},
    "step": 60,
}


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_has_a_card_that_the_hub_can_read(preset: str) -> None:
    recipe = Recipe.load(preset)
    card = ModelCard(model_card(recipe, EVALUATION))
    own = recipe.model["model_name"] in ("tiny", "tiny-drawing")
    assert card.data.base_model == (None if own else recipe.model["model_name"])
    assert card.data.license == ("apache-2.0" if own else None)
    assert card.data.library_name == "peft"
    assert card.data.datasets == (["openai/gsm8k"] if recipe.task["name"] == "gsm8k" else None)
    [result] = card.data.eval_results
    assert isinstance(result, EvalResult)
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.75)
    for name, weight in recipe.rewards.items():
        assert f"| `{name}` | {weight:g} |" in card.text
    assert "| after | 75.0% | 69.0% to 80.0% | 100.0% |" in card.text
    assert "Gained 140, lost 12; exact McNemar p = 1.5e-20." in card.text
    for code in re.findall(r"```python\n(.*?)```", card.text, re.DOTALL):
        compile(code, "card", "exec")


def test_it_tells_what_the_task_says_of_its_problems_and_the_further_splits() -> None:
    sides = {side: EVALUATION[side] for side in ("before", "after")}
    further = {"harder": {"about": "with | and <b>", "n": 64, **sides, "paired": EVALUATION["paired"]}}
    card = model_card(Recipe.load(), {**EVALUATION, "note": "No problem is new.", "further": further})
    assert "\nNo problem is new.\n" in card
    assert (
        "\nOf 64 held-out problems of `harder`, with \\| and &lt;b>: 25.0% (20.0% to 31.0%) before, "
        "75.0% (69.0% to 80.0%) after.\n"
    ) in card


def test_it_names_no_path(tmp_path: Path) -> None:
    folder = tmp_path / "someone's model"
    folder.mkdir()
    (tmp_path / "mine.jsonl").write_text('{"prompt": "1 + 1?", "answer": "2"}\n' * 4)
    (tmp_path / "my_rewards.py").write_text(REWARD)
    recipe = Recipe.load(
        task={"name": "jsonl", "path": str(tmp_path / "mine.jsonl"), "system_prompt": "Say <answer>2</answer>.\n# Do"},
        model={"model_name": str(folder)},
        rewards={f"{tmp_path}/my_rewards.py:brevity_reward": 0.25},
        budget={"mirror": str(tmp_path / "drive")},
    )
    for evaluation in (None, EVALUATION):
        text = model_card(recipe, evaluation)
        assert str(tmp_path) not in text
        assert "base_model" not in text
        for words in ("`mine.jsonl`", "| `my_rewards.py:brevity_reward` | 0.25 |", "`someone's model`"):
            assert words in text
        assert "    Say <answer>2</answer>.\n    # Do\n" in text
        assert ("Not evaluated." in text) == (evaluation is None)
        assert ModelCard(text).data.eval_results is None if evaluation is None else True


def test_data_that_is_gone_costs_no_adapter(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "1 + 1?", "answer": "2"}\n' * 4)
    recipe = Recipe.load(task={"name": "jsonl", "path": str(tmp_path / "mine.jsonl")})
    (tmp_path / "mine.jsonl").unlink()
    assert "`mine.jsonl`" in model_card(recipe)


def test_text_of_others_stays_text(tmp_path: Path) -> None:
    """A name is no head of the card, no heading, no HTML and no cell of its tables."""
    file = tmp_path / "x.toml"
    name = "a | b <img src=x>"
    file.write_text(f'preset = "word-problems-tiny"\nname = "{name}"\ndescription = "one\\n---\\n# two"\n')
    card = ModelCard(model_card(Recipe.load(file), EVALUATION))
    assert card.data.model_name == name
    assert "<img" not in card.text
    assert "\n# two" not in card.text
    assert "# a \\| b &lt;img src=x>" in card.text


def test_a_run_leaves_it_with_its_adapter(finished_run: Path, warm: Any) -> None:
    evaluation = json.loads((finished_run / "evaluation.json").read_text())
    text = (finished_run / "adapter" / "README.md").read_text()
    assert text == model_card(Recipe.load(finished_run / "recipe.toml"), evaluation)
    assert f"| after | {evaluation['after']['accuracy']:.1%} |" in text
    cards = sorted(path.relative_to(finished_run).as_posix() for path in finished_run.rglob("README.md"))
    assert cards == ["adapter/README.md"]  # no form of PEFT's or TRL's in a checkpoint
    assert str(TINY_MODEL) not in text
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        done = warm.run("-c", code, cwd=finished_run)
        assert done.returncode == 0, done.stderr
