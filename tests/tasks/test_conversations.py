"""A prompt is known by all of its messages: whatever the roles, the system prompt, nulls and white space."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from grpo_colab.evaluation.golds import Golds
from grpo_colab.evaluation.scoring import score
from grpo_colab.tasks import Problem
from grpo_colab.tasks.conversations import (
    distinct_parts,
    distinct_questions,
    last_message,
    prompt_key,
    transcript,
    without_system,
)
from grpo_colab.tasks.jsonl import JSONL

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=20)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(("user", "assistant")), "content": WORDS})
TURNS = st.lists(MESSAGE, min_size=1, max_size=4)
SYSTEM = st.one_of(st.just([]), WORDS.map(lambda text: [{"role": "system", "content": text}]))


def rows_ending_alike(kind: str) -> list[dict[str, Any]]:
    """Sixty conversations that differ only before their last message."""
    rows = []
    for n in range(60):
        story, ask = f"I have {n} apples and get {n + 1}.", {"role": "user", "content": "How many now?"}
        prompt = {
            "turns": [{"role": "user", "content": story}, {"role": "assistant", "content": "Yes."}, ask],
            "prefill": [{"role": "user", "content": story}, {"role": "assistant", "content": "<reasoning>"}],
            "system": [{"role": "system", "content": story}, ask],
        }[kind]
        rows.append({"prompt": prompt, "answer": 2 * n + 1})
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("kind", ["turns", "prefill", "system"])
def test_conversations_that_end_alike_are_held_out_scored_and_shown_apart(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", rows_ending_alike(kind))
    task = JSONL(path=str(path))
    train, test = task.problems("train"), task.problems("test")
    assert len(train) + len(test) == 60
    assert min(len(train), len(test)) > 0
    assert len({problem.question for problem in train + test}) == 60
    assert len({problem.key for problem in train + test}) == 60
    assert len({question[:40] for question in distinct_parts([problem.question for problem in train])}) == len(train)

    # the trainer's log has the task's own system prompt before each of them, and no answers
    completions = [
        {"prompt": task.messages(problem), "completion": f"<answer>{problem.answer}</answer>"} for problem in train
    ]
    done = score(write(tmp_path / "c.jsonl", completions), ["correctness"], golds=path)
    assert done.paid["correctness"] == [1.0] * len(train)


def test_a_gold_that_two_lines_have_differently_is_an_error_that_names_both(tmp_path: Path) -> None:
    golds = write(tmp_path / "g.jsonl", [{"question": "2?", "answer": 1}, {"question": "x", "answer": 5}] * 2)
    rows = [{"prompt": [{"role": "user", "content": "x"}], "completion": "5"}]
    assert score(write(tmp_path / "c.jsonl", rows), ["correctness"], golds=golds).paid == {"correctness": [0.0]}
    write(
        tmp_path / "g.jsonl",
        [{"question": "x", "answer": 5}, {"question": "y", "answer": 5}, {"question": " x ", "answer": 6}],
    )
    places = f"{golds}:1 has '5', {golds}:3 has '6'"
    with refused("--golds", problem=places, remedy="take one", place=f"{tmp_path / 'c.jsonl'}:1", snapshot=False):
        score(tmp_path / "c.jsonl", ["correctness"], golds=golds)
    # one that no completion asks for harms nobody
    write(tmp_path / "c.jsonl", [{"prompt": "y", "completion": "<answer>5</answer>"}])
    assert score(tmp_path / "c.jsonl", ["correctness"], golds=golds).paid == {"correctness": [1.0]}


@pytest.mark.parametrize("gold", [5, 5.0, "5", "so it is\n#### 5"])
def test_golds_are_numbers_or_texts_as_in_training(gold: Any, tmp_path: Path) -> None:
    golds = write(tmp_path / "g.jsonl", [{"prompt": "x", "answer": gold}, {"prompt": "null", "answer": None}, {}])
    rows = [{"prompt": "x", "completion": "<answer>5</answer>"}]
    assert score(write(tmp_path / "c.jsonl", rows), ["correctness"], golds=golds).paid == {"correctness": [1.0]}
    if not isinstance(gold, str):
        own = write(tmp_path / "own.jsonl", [{**rows[0], "answer": gold}])
        assert score(own, ["correctness"]).paid == {"correctness": [1.0]}
        problem, *_ = JSONL(
            path=str(write(tmp_path / "t.jsonl", [{"prompt": "x", "answer": gold}])),
            test_path=str(own),
            duplicates="keep",
        ).problems("train")
        assert problem.answer == str(gold)


TIM = {"role": "system", "content": "Tim has 3."}
ANN = {"role": "system", "content": "Ann has 9."}
ASK = {"role": "user", "content": "How many now?"}
# A problem's prompt, a completion's, and whether the gold is the completion's.
PAIRS = {
    "the same": ([TIM, ASK], [TIM, ASK], True),
    "another system message": ([TIM, ASK], [ANN, ASK], False),
    "a system message alone": ([TIM], [ANN], False),
    "the task's system message is in the completion": ([ASK], [TIM, ASK], True),
    "it is in the problem": ([TIM, ASK], [ASK], True),
    "a text": ("How many now?", [TIM, ASK], True),
    "a text after examples": ("How many now?", [TIM, ASK, {"role": "assistant", "content": "3"}, ASK], True),
    "a conversation that only ends so": ([TIM, ASK], [{"role": "user", "content": "Ann had 9."}, ASK], False),
    "keys that Arrow added, however deep": (
        [{**ASK, "tool_calls": [{"name": "f", "arguments": {"a": 1}}]}],
        [{**ASK, "tool_calls": [{"name": "f", "arguments": {"a": 1, "b": None}}], "name": None}],
        True,
    ),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_a_gold_belongs_to_its_own_conversation(kind: str, tmp_path: Path) -> None:
    problem, prompt, belongs = PAIRS[kind]
    golds = Golds(write(tmp_path / "g.jsonl", [{"prompt": problem, "answer": 3}]))
    assert golds.find({"prompt": prompt}, "here") == ("3" if belongs else None)


def test_what_is_found_whole_is_not_ambiguous_and_equal_numbers_are_not_different(tmp_path: Path) -> None:
    rows = [{"prompt": "How many now?", "answer": 1}, {"prompt": [TIM, ASK], "answer": 2}]
    golds = Golds(write(tmp_path / "g.jsonl", rows))
    assert [golds.find({"prompt": prompt}, "here") for prompt in ("How many now?", [TIM, ASK])] == ["1", "2"]
    rows = [{"prompt": "Q", "answer": gold} for gold in (1000, "1,000", 1000.0)]
    assert Golds(write(tmp_path / "g.jsonl", rows)).find({"prompt": "Q"}, "here") == "1000"


def test_a_row_without_a_prompt_has_no_gold_of_another_without_one(tmp_path: Path) -> None:
    golds = Golds(write(tmp_path / "g.jsonl", [{"answer": 5}]))
    assert golds.find({"completion": "5"}, "here") is None


@given(SYSTEM, TURNS)
def test_the_key_is_the_messages(system: list[Any], turns: list[Any]) -> None:
    prompt = [*system, *turns]
    assert prompt_key(prompt) == prompt_key([{**message, "tool_calls": None, "name": None} for message in prompt])
    assert prompt_key(prompt) == prompt_key([{**one, "content": f" {one['content']}\n"} for one in prompt])
    assert prompt_key(without_system(prompt)) == prompt_key(turns)
    assert prompt_key(turns[0]["content"]) == prompt_key([{"role": "user", "content": turns[0]["content"]}])
    if len(prompt) > 1:
        assert prompt_key(prompt) != prompt_key(prompt[1:])
        assert prompt_key(prompt) != prompt_key(prompt[-1:])
    assert last_message(prompt) == turns[-1]["content"]
    for message in prompt:
        assert message["content"] in transcript(prompt)


@given(st.lists(st.tuples(SYSTEM, TURNS), min_size=1, max_size=6))
def test_no_two_problems_look_the_same(conversations: list[tuple[list[Any], list[Any]]]) -> None:
    prompts = {prompt_key([*system, *turns]): [*system, *turns] for system, turns in conversations}
    texts = [transcript(prompt) for prompt in prompts.values()]
    shown = distinct_questions(list(prompts.values()))
    if shown is None:
        shown = [last_message(prompt) for prompt in prompts.values()]
        assert len({text.strip() for text in shown}) == len(prompts) or len(set(shown)) == len(prompts)
    elif len(set(texts)) == len(texts):
        assert len(set(shown)) == len(prompts)
    for text, short in zip(texts, distinct_parts(texts), strict=True):
        assert text.endswith(short.removeprefix("... "))


def test_the_part_that_differs_begins_at_a_line_or_a_word() -> None:
    shared = "You are a careful accountant who writes every number in full and never rounds anything at all, "
    assert distinct_parts([shared + "one", shared + "two"]) == ["... one", "... two"]
    assert distinct_parts(["Tom has 3", "Tom has 4"]) == ["Tom has 3", "Tom has 4"]
    assert distinct_parts(["system: x\n\nuser: a", "system: x\n\nuser: b"]) == ["... user: a", "... user: b"]
    assert distinct_parts(["same", "same"]) == ["same", "same"]
    stories = [f"system: You are {name}.{' Be kind.' * 200}\n\nuser: {n}?" for name in ("Ann", "Bob") for n in (1, 2)]
    assert distinct_parts([*stories, "plain"]) == [*stories, "plain"]  # cut, two of them would be one
    assert distinct_parts([*stories[:2], "plain"]) == ["... user: 1?", "... user: 2?", "plain"]
    assert distinct_parts([]) == []


def test_a_run_folder_of_before_knows_a_conversation_by_its_last_message() -> None:
    messages = (
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    )
    assert Problem(transcript(messages), "1", messages=messages).known_as == ("user: a\n\nassistant: b\n\nuser: c", "c")
    assert Problem("a", "1").known_as == ("a",)
