"""What TRL documents is taken, and what TRL or transformers would refuse later is refused before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe
from grpo_colab.recipe.library_signatures import accepted_arguments
from grpo_colab.recipe.schema import Text
from grpo_colab.training.checks import check_arguments
from grpo_colab.utils.device import current_device

pytestmark = pytest.mark.stack


@pytest.mark.parametrize(
    ("given", "taken"),
    [(False, "none"), (True, "group"), ("batch", "batch"), (Text("false"), "none"), (Text("group"), "group")],
)
def test_what_trl_documents_beside_its_annotation_is_taken(given: Any, taken: str) -> None:
    """TRL documents scale_rewards as a text or a truth value, and annotates it as a text."""
    import trl

    recipe = Recipe.load(grpo={"scale_rewards": given})
    assert trl.GRPOConfig(output_dir="x", scale_rewards=recipe.grpo["scale_rewards"]).scale_rewards == taken
    assert Recipe.load(grpo={"scale_rewards": given}).to_toml().count("scale_rewards") == 1


def test_documented_types_make_no_setting_narrower_or_a_number_another() -> None:
    types = accepted_arguments("grpo")
    assert types is not None
    assert types["logging_steps"] is float
    assert types["report_to"] == (None | str | list[str])
    with refused("grpo.temperature", "warm", remedy="write a number"):
        Recipe.load(grpo={"temperature": "warm"})


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "no iteration": ({"num_iterations": 0}, "grpo.num_iterations", "1 or more"),
    "fewer than none": ({"num_iterations": -1}, "grpo.num_iterations", "1 or more"),
    "a schedule without its least rate": (
        {"lr_scheduler_type": "cosine_with_min_lr"},
        "grpo.lr_scheduler_type",
        "grpo.lr_scheduler_kwargs",
    ),
    "a schedule without its phases": (
        {"lr_scheduler_type": "warmup_stable_decay"},
        "grpo.lr_scheduler_type",
        "grpo.lr_scheduler_kwargs",
    ),
    "an argument that the schedule lacks": (
        {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"cycles": 2}},
        "grpo.lr_scheduler_type",
        "grpo.lr_scheduler_kwargs",
    ),
    "a schedule that fails after its warm-up": (
        {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": "x"}, "warmup_steps": 2},
        "grpo.lr_scheduler_type",
        "grpo.lr_scheduler_kwargs",
    ),
    "an optimiser's value": ({"adam_beta1": 1.5}, "grpo.optim", "other values"),
    "an optimiser that is not installed": ({"optim": "galore_adamw"}, "grpo.optim", "'adamw_torch'"),
    "stop strings": (
        {"generation_kwargs": {"stop_strings": ["</answer>"]}},
        "grpo.generation_kwargs.stop_strings",
        "take it out",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_be_refused_later_is_refused_before_anything_is_loaded(kind: str) -> None:
    grpo, setting, remedy = REFUSED[kind]
    # the words are the libraries' own
    with refused(setting, remedy=remedy, snapshot=False):
        check_arguments(Recipe.load(grpo=grpo), current_device())


@pytest.mark.parametrize(
    "grpo",
    [
        {},
        {"num_iterations": 2},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-6}},
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 3}},
        {"optim": "adafactor", "lr_scheduler_type": "constant_with_warmup", "warmup_steps": 2},
        {"generation_kwargs": {"suppress_tokens": [5], "no_repeat_ngram_size": 3}},
    ],
    ids=str,
)
def test_what_can_work_is_let_through(grpo: dict[str, Any]) -> None:
    check_arguments(Recipe.load(grpo=grpo), current_device())


@pytest.mark.parametrize("key", ["loss_type", "scale_rewards", "importance_sampling_level"])
def test_a_text_that_trl_does_not_know(key: str) -> None:
    with refused(f"grpo.{key}", "nonsense", problem="TRL knows no such value", remedy="here are: "):
        Recipe.load(grpo={key: "nonsense"})


def test_the_command_line_refuses_it_in_a_line(command: Callable[..., Any]) -> None:
    done = command("train", "--grpo.num-iterations", "0", "--out", "run")
    assert done.returncode == 2
    assert "grpo.num_iterations = 0: TRL would draw no prompt" in done.stderr
    assert "Loading" not in done.stderr
