"""What Colab's session does to a run: the hours that fit, and what is lost, said before the training."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from grpo_colab import Recipe
from grpo_colab.colab import FREE_HOURS, hours_that_fit, in_colab, what_a_session_keeps
from grpo_colab.notebook import settings
from grpo_colab.plan import plan


@pytest.fixture
def colab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))


def card(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch says of the GPU of a Colab machine."""
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: name)


def test_outside_colab_no_session_ends() -> None:
    assert not in_colab()
    assert hours_that_fit() is None
    assert settings("gsm8k-tiny", hours="auto").budget.max_hours is None
    assert (
        list(what_a_session_keeps(Recipe.load("gsm8k-llama31-8b"), plan(Recipe.load("gsm8k-llama31-8b"), "T4"))) == []
    )


@pytest.mark.usefixtures("colab")
@pytest.mark.parametrize(("name", "hours"), [("Tesla T4", FREE_HOURS), ("NVIDIA L4", None), ("NVIDIA A100", None)])
def test_the_form_begins_with_hours_that_fit(name: str, hours: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    card(name, monkeypatch)
    chosen = settings("gsm8k-llama31-8b", hours="auto")
    assert chosen.budget.max_hours == hours
    assert settings("gsm8k-llama31-8b", hours="2").budget.max_hours == 2.0
    assert settings("gsm8k-llama31-8b", hours="").budget.max_hours is None


@pytest.mark.usefixtures("colab")
def test_what_is_lost_is_said_before_the_training() -> None:
    whole = Recipe.load("gsm8k-llama31-8b")
    planned = plan(whole, "T4")
    assert planned.hours > 4
    too_long, lost = what_a_session_keeps(whole, planned)
    assert f"write {FREE_HOURS} into hours" in too_long
    assert "tick drive, or name a repository in hub" in lost
    limited = Recipe.load("gsm8k-llama31-8b", budget={"max_hours": 3.0, "mirror": "hf://me/runs"})
    (stops,) = what_a_session_keeps(limited, plan(limited, "T4"))
    assert stops.endswith("It stops after 3 hours, saves and evaluates; Run all goes on with it.")
    planned = plan(whole, "T4")
    steps = int((3600 * FREE_HOURS - 2 * planned.start.evaluation_s) / planned.step_s)
    barely = Recipe.load("gsm8k-llama31-8b", budget={"mirror": "hf://me/runs", "max_steps": steps})
    (too_long,) = what_a_session_keeps(barely, plan(barely, "T4"))  # for the download and compiling
    assert "download and evaluations included" in too_long
    short = Recipe.load("gsm8k-qwen25-0.5b", budget={"mirror": "hf://me/runs", "max_steps": 5})
    assert list(what_a_session_keeps(short, plan(short, "A100-40"))) == []
    assert list(what_a_session_keeps(whole, plan(Recipe.load(), "cpu"))) == []
