"""Usual decoders are counted by arithmetic, as transformers would build them, and a plan of them imports no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from grpo_colab.plan.model_shape import CONFIGURATIONS, _build_and_count, dense_shape, must_be_built
from grpo_colab.recipe.recipe import OWN_MODELS, Recipe, preset_names

pytestmark = pytest.mark.stack
SMALL: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 96,
    "tie_word_embeddings": True,
}
FILES = [*sorted(CONFIGURATIONS.glob("*.json")), *(folder / "config.json" for folder in OWN_MODELS.values())]


def same_as_built(config: dict[str, Any]) -> None:
    assert dense_shape(config) == _build_and_count(json.dumps(config), "it")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem if file.stem != "config" else file.parent.name)
def test_the_package_s_own_configurations(file: Path) -> None:
    same_as_built(json.loads(file.read_text()))


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2", "qwen3"])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"tie_word_embeddings": False},
        {"head_dim": 20},
        {"num_key_value_heads": 4},
        {"sliding_window": 64, "max_window_layers": 1},
        {"quantization_config": {"llm_int8_skip_modules": ["lm_head", "model.layers.0.mlp"]}},
        {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}},
    ],
    ids=str,
)
def test_each_kind(kind: str, changed: dict[str, Any]) -> None:
    same_as_built({"model_type": kind, "head_dim": 12, **SMALL, **changed})


def test_biases() -> None:
    for kind in ("llama", "qwen3"):
        same_as_built({"model_type": kind, "head_dim": 12, **SMALL, "attention_bias": True})


@pytest.mark.parametrize(
    "changed",
    [
        {"model_type": "gemma2"},
        {"model_type": "qwen3_moe"},
        {"hidden_size": None},
        {"hidden_size": 50},
        {"num_key_value_heads": 3},
        {"num_hidden_layers": "3"},
        {"vocab_size": 0},
        {"tie_word_embeddings": None},
        {"mlp_bias": True},
        {"layer_types": ["linear_attention"] * 3},
    ],
    ids=str,
)
def test_what_is_left_to_transformers(changed: dict[str, Any]) -> None:
    assert dense_shape({"model_type": "llama", **SMALL}) is not None
    assert dense_shape({"model_type": "llama", **SMALL, **changed}) is None


def test_every_preset_is_planned_without_the_stack() -> None:
    assert not any(must_be_built(Recipe.load(name)) for name in preset_names())
    said = "import sys; from grpo_colab.cli import main\n"
    said += "try: main(['plan', 'rockets-qwen25-7b', '--gpu', 'T4', '--vram-gib', '4'])\n"
    said += "except SystemExit: print('HEAVY', {'torch', 'transformers', 'unsloth', 'datasets'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert "does not fit" in done.stdout  # and the smaller models that would fit were counted as well
    assert done.stdout.splitlines()[-1] == "HEAVY set()"
