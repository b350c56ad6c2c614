"""`train` follows the plan: what cannot fit is refused before anything is loaded, and what was chosen is kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab import Recipe, Run, train
from grpo_colab.recipe.recipe import TINY_MODEL
from grpo_colab.runs.folders import is_free_again

pytestmark = pytest.mark.stack

QUICK = {"evaluation": {"n": 4, "max_completion_tokens": 8}}


def test_a_model_that_no_machine_here_holds_is_refused_before_its_weights_are_looked_for(tmp_path: Path) -> None:
    folder = tmp_path / "huge"
    folder.mkdir()
    shape = json.loads((TINY_MODEL / "config.json").read_text())
    shape |= {"hidden_size": 16384, "intermediate_size": 53248, "num_hidden_layers": 126, "num_attention_heads": 128}
    shape |= {"head_dim": 128, "num_key_value_heads": 8, "vocab_size": 128256}  # Llama-3.1-405B's
    (folder / "config.json").write_text(json.dumps(shape))
    recipe = Recipe.load(model={"model_name": str(folder)}, lora={"r": 1}, **QUICK)
    with refused("model.model_name", str(folder), problem=" GiB of this CPU", snapshot=False) as caught:
        train(recipe, out=tmp_path / "run")
    assert re.match(r"needs (?:7|1[4-9])\d\d\.\d of the ", caught.value.problem)
    assert "model.load_in_4bit = true" not in str(caught.value)  # 200 GiB would not fit either
    assert is_free_again(tmp_path / "run")


@pytest.mark.long
def test_what_memory_had_cut_stays_so_and_the_run_is_found_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    budget = {"max_steps": 1, "prompts_per_step": 2, "min_completion_length": 16}
    vllm = {"fast_inference": True}  # which the plan turns off here, and might not where the run began
    asked = Recipe.load(budget=budget, model=vllm, **QUICK)
    cut = Recipe.load(budget=budget, model=vllm, grpo={"max_completion_length": 24}, **QUICK)
    assert cut.repeats(asked)
    assert not asked.repeats(cut)  # who asks for less gets it
    followed = Recipe.load(budget=budget, model=vllm, grpo={"report_to": "wandb", "run_name": "mine"}, **QUICK)
    assert cut.repeats(followed)
    other = {**budget, "min_completion_length": None}
    assert not Recipe.load(budget=other, grpo={"max_completion_length": 24}, **QUICK).repeats(
        Recipe.load(budget=other, **QUICK)
    )
    (tmp_path / "runs").mkdir()
    Run.create(cut, tmp_path / "runs" / "begun")
    run = train(asked, resume=True)
    assert run.path.resolve() == (tmp_path / "runs" / "begun").resolve()
    assert run.recipe.grpo["max_completion_length"] == 24
    assert run.metrics()[0]["completions/max_length"] <= 24
    assert run.recipe.model["fast_inference"] is True
    assert run.recipe.repeats(asked)


def test_how_many_to_sample_is_chosen_once_and_kept_by_the_run(tmp_path: Path) -> None:
    """A run that goes on elsewhere samples as many as it began with."""
    asked = Recipe.load(
        grpo={"num_generations": 2, "max_completion_length": 8},
        budget={"max_steps": 1, "prompts_per_step": 2, "rehearsal": False},
        sampling={"generate_more": "auto"},
        **QUICK,
    )
    run = train(asked, out=tmp_path / "run")
    more = run.recipe.sampling.generate_more
    assert isinstance(more, int)
    assert run.metrics()[0].get("sampling/completions", 4) == 2 * (more or 2)
    assert run.recipe.repeats(asked)
    assert not asked.repeats(run.recipe)


def test_bounds_that_cross_are_refused() -> None:
    with refused("budget.min_completion_length", 64, problem="more than grpo.max_completion_length"):
        Recipe.load(budget={"min_completion_length": 64})
