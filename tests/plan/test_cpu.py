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
