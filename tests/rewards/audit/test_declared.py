"""What a reward says of itself, its tags, its notation and its kind of answers, decides what the audit asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grpo_colab.rewards import (
    correctness_reward,
    get_correctness_reward,
    get_length_reward,
    get_soft_correctness_reward,
    get_strict_format_reward,
)
from grpo_colab.rewards.audit import audit


@pytest.mark.parametrize(
    "reward",
    [
        get_correctness_reward("SOLUTION", answer="text", reasoning_tag="thoughts"),
        get_strict_format_reward("thoughts", "SOLUTION"),
    ],
    ids=["an answer", "a format"],
)
def test_tags_of_ones_own_are_those_that_a_reward_names(reward: Any) -> None:
    found = audit(reward, time_limit_s=10.0)
    assert found.ok, found.text(True)
    assert found.style == "<thoughts> and <SOLUTION>"


@pytest.mark.parametrize(
    "reward",
    [
        get_correctness_reward(locale="de"),
        get_soft_correctness_reward(locale="fr"),
        get_correctness_reward(locale="ch"),
        get_correctness_reward(locale="in"),
        get_length_reward(locale="pl"),
    ],
    ids=repr,
)
def test_numbers_are_in_the_notation_that_a_reward_reads(reward: Any) -> None:
    found = audit(reward)
    assert found.ok, found.text(True)


def own_point_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float]:
    """Reads German numbers, and takes every point away, so that 14.50 is 1450."""
    paid = []
    for completion, gold in zip(completions, answer, strict=True):
        found = re.search(r"<answer>\s*(\S+)\s*</answer>\s*\Z", completion[0]["content"])
        paid.append(float(found is not None and found[1].replace(".", "") == str(gold).replace(".", "")))
    return paid


own_point_reward.settings = ("de",)  # type: ignore[attr-defined]


def test_cheats_are_in_that_notation_too() -> None:
    found = audit(own_point_reward, "number")
    paid = {finding.case for finding in found.findings if finding.what == "pays, and should not"}
    assert {"a comma in the wrong place", "commas anywhere"} <= paid


GRADERS = """
def careful(response, answer):
    return response.strip() == answer

def careless(completion, answer):
    return answer in completion

def asking(response, gold):
    return response == gold
"""


def test_a_grader_is_audited_as_correctness_by_it(tmp_path: Path, cli: Callable[..., Any]) -> None:
    path = tmp_path / "graders.py"
    path.write_text(GRADERS)
    careful = cli("audit", f"{path}:careful", "--kind", "text")
    assert (careful.returncode, careful.stdout.splitlines()[-1]) == (0, "ok")
    assert careful.stdout.startswith(f"{path}:careful: ")
    careless = cli("audit", f"{path}:careless", "--kind", "text")
    assert careless.returncode == 1
    assert "a wrong answer, the gold elsewhere" in careless.stdout
    asking = cli("audit", f"{path}:asking")
    assert "TRL cannot call it (1)" in asking.stdout
    assert "needs 'gold'; take what it needs of completion, response, answer" in asking.stdout


@pytest.mark.parametrize(
    ("reward", "kind", "said"),
    [
        (
            correctness_reward,
            "choice",
            "judges the kind number, and is asked about the kind choice; correctness(",
        ),
        (get_correctness_reward(answer="text"), "json", "judges the kind text, and is asked about the kind json"),
        (get_correctness_reward(answer="choice"), "number", "judges the kind choice, and is asked about the kind num"),
        (get_correctness_reward(answer="choice"), "choice", None),
        (correctness_reward, "scaled", None),
        (correctness_reward, "format", None),
    ],
)
def test_a_kind_that_a_reward_does_not_judge_is_said(reward: Any, kind: str, said: str | None) -> None:
    notes = [note for note in audit(reward, kind).notes if "is asked about" in note]
    assert [said in note for note in notes] == ([] if said is None else [True])
