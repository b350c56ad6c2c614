"""A step that takes long tells how far it is, on whatever the training is shown."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from grpo_colab import Recipe, train
from grpo_colab.reporting.live import Lines
from grpo_colab.reporting.run_progress import RunProgress
from grpo_colab.runs.records import repeatable
from grpo_colab.training.step_watch import StepWatch

pytestmark = pytest.mark.stack

TOKENS = 12
QUICK: dict[str, dict[str, Any]] = {
    "task": {"limit": 56},
    "budget": {"max_steps": 2, "prompts_per_step": 2, "micro_batch": 2, "rehearsal": False},
    "grpo": {"num_generations": 4, "max_completion_length": TOKENS},
    "evaluation": {"n": 4},
}


class AtHand:
    """A step that is 20 % done."""

    text = "generating, 20% after 0:40"


def test_a_log_gets_a_line_every_half_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    view = Lines(RunProgress(None, 3, 60, ()))
    for _ in range(8):
        now[0] += 10
        view.show_within(AtHand())
    assert capsys.readouterr().err == "step 4 of 60: generating, 20% after 0:40\n" * 2


def test_the_table_names_the_step_at_hand_until_it_is_done() -> None:
    progress = RunProgress(None, 3, 60, ())
    progress.within = AtHand.text
    assert progress.facts()[0] == ["step 3 of 60", "the next: generating, 20% after 0:40"]
    progress.add({"step": 4, "reward": 1.0})
    assert progress.facts()[0][0] == "step 4 of 60"
    assert "generating" not in str(progress.facts())


def test_a_real_step_is_watched_from_its_first_token_to_its_last_micro_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, str, float]] = []

    def show_within(view: Lines, watch: StepWatch) -> None:
        seen.append((view.progress.step + 1, watch.text.partition(",")[0], watch.share))

    monkeypatch.setattr(Lines, "show_within", show_within)
    run = train(Recipe.load(**QUICK), out=tmp_path / "run")
    for step in (1, 2):
        shares = [share for number, _, share in seen if number == step]
        assert shares == sorted(shares)
        assert shares[0] == 0.5 / TOKENS
        assert shares[-1] == 0.5 + 0.5 * 3 / 4  # the last of four micro-batches is under way
        parts = [part for number, part, _ in seen if number == step]
        assert parts == sorted(parts)  # it generates, then it learns
        assert len({share for number, part, share in seen if (number, part) == (step, "learning")}) == 4
    monkeypatch.undo()
    again = train(Recipe.load(**QUICK), out=tmp_path / "again")
    assert repeatable(again.metrics()) == repeatable(run.metrics())
