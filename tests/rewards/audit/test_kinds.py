"""What kind of answers a reward judges, and the attacks and right answers of each kind."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from grpo_colab.rewards.audit import Audit, Example, audit
from grpo_colab.rewards.audit.answers import ANSWERS, WORDS, kind_of_golds
from grpo_colab.rewards.audit.battery import Battery

Command = Callable[..., subprocess.CompletedProcess[str]]
WORDY = [kind for kind in ANSWERS if kind in WORDS]


def texts_of(completions: list[Any]) -> list[str]:
    return [one if isinstance(one, str) else str(one[-1]["content"] or "") for one in completions]


def in_tag(text: str) -> str:
    """The answer of a completion with one closed answer block at its end, after the reasoning."""
    found = re.fullmatch(r"<reasoning>[^<]*</reasoning>\s*<answer>([^<]*)</answer>\s*", text)
    return found[1].strip() if found else ""


def names(found: Audit, what: str) -> set[str]:
    return {finding.case for finding in found.findings if finding.what == what}


# Rewards as they are written.


def category_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float]:
    return [1.0 if gold in text else 0.0 for text, gold in zip(texts_of(completions), answer, strict=True)]


def topic_reward(completions: Any, topic: Any, **kwargs: Any) -> list[float | None]:
    """Careful: the label alone, in any case, in the one answer block."""
    pairs = zip(texts_of(completions), topic, strict=True)
    return [None if not gold else float(in_tag(text).lower() == gold.lower()) for text, gold in pairs]


LABELS = ["cat", "dog", "bird"]


def fixed_label_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float]:
    """Knows its own labels alone, and pays the first that is named."""
    paid = []
    for text, gold in zip(texts_of(completions), answer, strict=True):
        LABELS.index(gold)
        named = [label for label in LABELS if label in text]
        paid.append(float(named[:1] == [gold]))
    return paid


def name_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float | None]:
    """Careful: the gold's text alone."""
    pairs = zip(texts_of(completions), answer, strict=True)
    return [None if not gold else float(in_tag(text) == gold) for text, gold in pairs]


def part_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float]:
    """The wrong way round: any part of the gold is in the gold."""
    return [float(in_tag(text) in gold) for text, gold in zip(texts_of(completions), answer, strict=True)]


def loads_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float]:
    """As it is often written, with what Python's own parser lets through."""
    paid = []
    for text, gold in zip(texts_of(completions), answer, strict=True):
        try:
            paid.append(float(json.loads(text) == json.loads(gold)))
        except (ValueError, RecursionError):
            paid.append(0.0)
    return paid


def written_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float]:
    """Compares JSON as it is written."""
    return [
        float(text == json.dumps(json.loads(gold))) for text, gold in zip(texts_of(completions), answer, strict=True)
    ]


def object_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float]:
    """For golds that are objects, with a key of their own."""
    paid = []
    for text, gold in zip(texts_of(completions), answer, strict=True):
        assert isinstance(gold["city"], str)
        paid.append(float(text == json.dumps(gold)))
    return paid


# The batteries.


@pytest.mark.parametrize("answers", [kind for kind in ANSWERS if kind != "code"])
def test_a_battery_is_whole(answers: str) -> None:
    battery = Battery("answer", answers)
    for which in ("cheat", "right"):
        entries = battery.data[which]
        assert len({entry["name"] for entry in entries}) == len(entries)
        assert all(entry["group"] for entry in entries)
        style = battery.styles[0]
        cases = battery.cases(which, style, False)
        assert {case.name for case in cases} == {entry["name"] for entry in entries}  # none is lost for a missing word
        assert not any(
            re.search(r"\[(gold|wrong|options|lines|longer|part|twice|extra)\]", case.text) for case in cases
        )


@pytest.mark.parametrize("answers", WORDY)
def test_a_careful_grader_of_each_kind_passes(answers: str) -> None:
    function = {"choice": topic_reward, "text": name_reward, "json": careful_json_reward}[answers]
    found = audit(function, answers, time_limit_s=5)
    assert found.findings == [], str(found)
    assert found.kind == answers
    assert found.asked > 90


def careful_json_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float | None]:
    def read(text: str) -> str:
        def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
            if len(dict(found)) < len(found):
                raise ValueError("a key twice")
            return dict(found)

        return json.dumps(json.loads(text, object_pairs_hook=pairs), sort_keys=True, allow_nan=False)

    paid: list[float | None] = []
    for text, gold in zip(texts_of(completions), answer, strict=True):
        try:
            paid.append(None if not gold else float(read(in_tag(text)) == read(gold)))
        except (ValueError, RecursionError):
            paid.append(0.0)
    return paid


# Detection.


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (category_reward, "choice"),  # by its name: it compares texts, whatever they are
        (topic_reward, "choice"),  # by the word label in its docstring
        (name_reward, "text"),
        (loads_reward, "json"),
        (careful_json_reward, "json"),
    ],
)
def test_the_kind_is_detected(function: Any, kind: str) -> None:
    assert audit(function).kind == kind


def test_what_a_function_declares_counts_before_what_it_pays() -> None:
    def own_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float | None]:
        return name_reward(completions, answer)

    assert audit(own_reward).kind == "text"
    own_reward.answer_kind = "choice"  # type: ignore[attr-defined]
    assert audit(own_reward).kind == "choice"
    own_reward.answer_kind = "number"  # type: ignore[attr-defined]
    assert audit(own_reward).kind == "correctness"
    assert audit(own_reward, "json").kind == "json"


@pytest.mark.parametrize(
    ("golds", "kind"),
    [
        (["18", "1,450", "#### 7"], "number"),
        (["tool", "animal", "tool", "tool", "animal"], "choice"),
        (["A", "C", "B"], "choice"),
        (["Marie Curie", "Oslo", "blue"], "text"),
        (['{"a": 1}', "[1]"], "json"),
        (["\\frac{1}{2}", "x^2 + 1", "2\\pi"], "math"),
        ([], "text"),
    ],
)
def test_what_golds_are(golds: list[str], kind: str) -> None:
    assert kind_of_golds(golds) == kind


# What is found.


def test_a_category_reward_is_not_asked_about_numbers() -> None:
    """Before, all golds were numbers: some forty of the findings were about 1,450, fractions, units and equations."""
    before, found = audit(category_reward, "number"), audit(category_reward)
    numeric = {"an equation that states something else", "another number, or none", "the number written otherwise"}
    assert sum(finding.group in numeric for finding in before.findings) > 30
    assert not any(finding.group in numeric for finding in found.findings)
    assert {finding.group for finding in found.findings} >= {
        "several options are named",
        "the option is inside something longer",
        "the option is denied",
        "the question is repeated",
        "an empty gold pays a wrong answer",
    }
    paid = names(found, "pays, and should not")
    assert {"a list of all options", "a longer word", "another option that contains it", "not it"} <= paid
    assert "does not pay, and should" not in {finding.what for finding in found.findings}
    lines = str(found).splitlines()
    assert len(lines) < 20
    assert any(
        re.match(r"  several options are named \(9\): a list of all options, 1.0 of 1: ", line) for line in lines
    )


def test_what_it_is_strict_about_is_no_fault() -> None:
    found = audit(topic_reward, "choice")
    assert found.ok, str(found)
    assert found.strict["a full stop"] == ["a full stop"]
    assert "a sentence" in found.strict["words around it"]
    assert "case" not in found.strict
    assert "strict about: " in str(found)


def test_parts_of_a_text() -> None:
    found = audit(part_reward, "text")
    assert {"its first letter", "its first half", "an empty answer"} <= names(found, "pays, and should not")


def test_json_by_value() -> None:
    paid = names(audit(loads_reward), "pays, and should not")
    assert {"true in place of 1", "1 in place of true", "the gold last"} <= paid
    assert "an additional key" not in paid
    found = audit(written_reward, "json")
    assert {"another order of the keys", "no white space"} <= names(found, "does not pay, and should")


def test_a_reward_that_knows_its_own_golds_alone_needs_them() -> None:
    without = audit(fixed_label_reward)
    assert without.findings[0].what == "fails on a golden completion"
    examples = [Example("Which is it, cat, dog or bird?", LABELS[index % 3]) for index in range(9)]
    found = audit(fixed_label_reward, examples=examples)
    assert found.kind == "choice"
    assert not names(found, "breaks")
    assert "a longer word" in names(found, "pays, and should not")
    assert all(re.search("cat|dog|bird|empty gold", finding.seen) for finding in found.findings if finding.case)


def test_golds_that_it_cannot_judge_by_are_left_out() -> None:
    def known_reward(completions: Any, answer: Any, **kwargs: Any) -> list[float | None]:
        paid = topic_reward(completions, answer)
        return [None if gold not in ("tool", "no") else one for gold, one in zip(answer, paid, strict=True)]

    found = audit(known_reward, "choice")
    assert {finding.what for finding in found.findings} == {"not picklable"}
    assert "it cannot judge by the golds A, spam, positive, which were left out: it pays None" in " ".join(found.notes)


def test_programs_in_an_answer_tag() -> None:
    def tagged_reward(completions: Any, tests: Any, **kwargs: Any) -> list[float]:
        paid = []
        for text, row in zip(texts_of(completions), tests, strict=True):
            program = text.partition("<answer>")[2].partition("</answer>")[0]
            is_right = isinstance(row, str) and "x * x" in program and "class A" not in program
            paid.append(float(is_right))
        return paid

    found = audit(tagged_reward)
    assert (found.kind, found.style) == ("code", "python in a fence, in <reasoning> and <answer>")
    assert {finding.what for finding in found.findings} == {"not picklable"}


def test_golds_that_are_no_texts_are_passed_as_they_are() -> None:
    examples = [Example("Where?", {"city": city}) for city in ("Oslo", "Rome", "Lima")]
    found = audit(object_reward, examples=examples)
    assert found.kind == "json"
    assert "fails on a golden completion" not in {finding.what for finding in found.findings}
    assert not names(found, "breaks")


def test_other_columns_are_those_of_the_examples() -> None:
    def options_reward(completions: Any, answer: Any, options: Any, **kwargs: Any) -> list[float | None]:
        assert all(isinstance(row, list) for row in options)
        return topic_reward(completions, answer)

    examples = [Example("?", gold, {"options": ["yes", "no"]}) for gold in ("yes", "no", "no", "yes")]
    assert {finding.what for finding in audit(options_reward, examples=examples).findings} == {"not picklable"}


def test_a_note_on_numbers_for_what_compares_texts() -> None:
    notes = " ".join(audit(name_reward).notes)
    assert "if they are numbers, it misses 8 of 8 ways to write one" in notes
    assert "--kind number" in notes


# The command.

OWN = """
def category_reward(completions, answer, **kwargs):
    assert all(gold in ("cat", "dog") for gold in answer)
    return [float(gold in completion[0]["content"]) for completion, gold in zip(completions, answer)]
"""


def test_the_command_takes_golds_of_a_file_and_of_a_task(tmp_path: Path, command: Command) -> None:
    (tmp_path / "own.py").write_text(OWN)
    rows = [{"prompt": f"Cat or dog, {index}?", "answer": ("cat", "dog")[index % 2]} for index in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = command("audit", "own.py:category_reward", "--golds", "rows.jsonl")
    assert found.returncode == 1, found.stderr
    assert "kind choice" in found.stdout
    assert not re.search(r"^\W*breaks", found.stdout, re.MULTILINE)  # it is asked about golds that it knows
    assert "catbox" in found.stdout or "dogbox" in found.stdout
    # the column is the parameter's, where the file has one of that name
    (tmp_path / "named.py").write_text(OWN.replace("answer", "category"))
    (tmp_path / "named.jsonl").write_text((tmp_path / "rows.jsonl").read_text().replace('"answer"', '"category"'))
    named = command("audit", "named.py:category_reward", "--golds", "named.jsonl", "--all")
    assert "kind choice" in named.stdout, named.stderr
    assert len(named.stdout.splitlines()) > 2 * len(found.stdout.splitlines())
    task = command("audit", "correctness", "--task", "word-problems-tiny")
    assert (task.returncode, task.stdout.splitlines()[-1]) == (0, "ok"), task.stdout
    assert "kind correctness" in task.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--golds", "none.jsonl"], "none.jsonl: cannot read it"),
        (["--golds", "own.jsonl"], "no row has a gold answer in the column 'answer'"),
        (["--golds", "own.jsonl", "--task", "word-problems-tiny"], "is given beside --task"),
        (["--task", "no-such"], "no-such"),
    ],
)
def test_golds_that_are_none(arguments: list[str], said: str, tmp_path: Path, cli: Callable[..., Any]) -> None:
    (tmp_path / "own.jsonl").write_text('{"prompt": "x"}\n')
    done = cli("audit", "correctness", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
