"""A plan for a CPU: what it computes in decides memory and time."""

from __future__ import annotations

import pytest

from grpo_colab import Recipe
from grpo_colab.plan import plan
from grpo_colab.utils.device import current_device


def test_a_cpu_that_computes_in_bfloat16_holds_and_does_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unsloth then loads a model of others in it. The model that the package brings stays in float32."""
    if current_device().kind != "cpu":
        pytest.skip("there is a GPU")
    found = {}
    for has in ("0", "1"):
        monkeypatch.setenv("UNSLOTH_CPU_BF16", has)
        found[has] = [plan(Recipe.load(name)) for name in ("gsm8k-qwen25-0.5b", "word-problems-tiny")]
    for part in ("weights", "kv_cache"):
        assert found["0"][0].peaks["generation"][part] == 2 * found["1"][0].peaks["generation"][part]
    assert found["1"][0].step_s < found["0"][0].step_s / 2
    assert found["1"][1].peaks == found["0"][1].peaks
    assert found["1"][1].step_s == found["0"][1].step_s
    asked = Recipe.load("gsm8k-qwen25-0.5b", model={"dtype": "float32"})
    assert plan(asked).peaks == found["0"][0].peaks


def test_bits_that_a_recipe_leaves_open_are_16_on_a_cpu_where_they_fit() -> None:
    """A CPU unpacks 4 bits for every product, which takes it twice as long; a GPU has kernels for them."""
    recipe = Recipe.load("gsm8k-qwen25-1.5b")
    assert "load_in_4bit" not in recipe.model
    assert plan(recipe, "cpu").recipe.model["load_in_4bit"] is False
    assert ("model.load_in_4bit", False) in [(setting, value) for setting, value, _ in plan(recipe, "cpu").chosen]
    for device, memory in (("T4", None), ("cpu", 3.0)):  # 1.5 billion parameters do not fit into 3 GiB in 16 bits
        assert plan(recipe, device, memory).recipe.model["load_in_4bit"] is True


@pytest.mark.parametrize("wish", ["load_in_4bit", "load_in_8bit"])
def test_bits_that_a_recipe_names_are_kept(wish: str) -> None:
    planned = plan(Recipe.load("gsm8k-qwen25-1.5b", model={wish: True}), "cpu")
    assert planned.recipe.model[wish] is True
    assert "model.load_in_4bit" not in [setting for setting, _, _ in planned.chosen]
