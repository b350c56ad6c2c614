"""Prompt and gold answer are found in a row: by name, by dotted name, by a template, at a conversation's end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.tasks.columns import lookup
from grpo_colab.tasks.dataset import Dataset

USER = {"role": "user", "content": "What is 1 + 1?"}
REPLY = {"role": "assistant", "content": "1 + 1 = 2\n#### 2"}
SHAREGPT = [{"from": "system", "value": "Add."}, {"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]
CHOICES = {"prompt": "Which?", "choices": ["1", "2"], "extra_info": {"answer": "2", "by.hand": "3"}, "a.b": "4"}


def dataset(path: Path, *rows: dict[str, Any], **settings: Any) -> Dataset:
    """A data set of these rows, each of which is held out as well."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Dataset(path=str(path), test_path=str(path), duplicates="keep", **settings)


FOUND: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {  # name: row, settings, question, answer
    "ours": ({"prompt": "1+1?", "answer": 2}, {}, "1+1?", "2"),
    "GSM8K": ({"question": "1+1?", "answer": "so\n#### 2"}, {}, "1+1?", "2"),
    "MATH": ({"problem": "1+1?", "solution": "2", "level": 1}, {}, "1+1?", "2"),
    "ours goes first": ({"prompt": "1+1?", "question": "?", "answer": "2", "solution": "3"}, {}, "1+1?", "2"),
    "verl": ({"prompt": [USER], "reward_model": {"ground_truth": "2"}}, {}, USER["content"], "2"),
    "chosen": ({"prompt": "a", "q": "1+1?", "a": 2}, {"prompt_column": "q", "answer_column": "a"}, "1+1?", "2"),
    "dotted": (CHOICES, {"answer_column": "extra_info.answer"}, "Which?", "2"),
    "a dot in a name": (CHOICES, {"answer_column": "a.b"}, "Which?", "4"),
    "a dot in an inner name": (CHOICES, {"answer_column": "extra_info.by.hand"}, "Which?", "3"),
    "an item": (CHOICES, {"answer_column": "choices.0"}, "Which?", "1"),
    "the last item": (CHOICES, {"answer_column": "choices.-1"}, "Which?", "2"),
    "a template": (
        {"q": "How far?", "unit": "km", "n": 3, "x": {"y": [1, "ü"]}, "empty": "", "answer": 2},
        {"prompt": "{q} ({unit}, {n}) {{a}} {x.y.0} {x}{empty}"},
        'How far? (km, 3) {a} 1 {"y": [1, "ü"]}',
        "2",
    ),
    "messages": ({"messages": [USER, REPLY]}, {}, USER["content"], "2"),
    "messages beside an answer": ({"messages": [USER, REPLY], "answer": 3}, {}, USER["content"], "3"),
    "a prompt that ends in an answer": ({"prompt": [USER, REPLY]}, {}, USER["content"], "2"),
    "the last message by its name": (
        {"prompt": [USER, REPLY], "label": 7},
        {"answer_column": "prompt.-1.content"},
        USER["content"],
        "2",
    ),
    "ShareGPT": ({"id": 1, "conversations": SHAREGPT}, {}, "system: Add.\n\nuser: 1 + 1?", "2"),
    "a prompt with the beginning of the answer": (
        {"prompt": [USER, {"role": "assistant", "content": "So"}], "answer": 2},
        {},
        f"user: {USER['content']}\n\nassistant: So",
        "2",
    ),
}


@pytest.mark.parametrize("kind", FOUND)
def test_prompt_and_answer_are_found(kind: str, tmp_path: Path) -> None:
    row, settings, question, answer = FOUND[kind]
    (problem,) = dataset(tmp_path / "a.jsonl", row, **settings).problems("train")
    assert (problem.question, problem.answer) == (question, answer)


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str, str]] = {  # name: row, settings, problem, remedy
    "two prompts": (
        {"instruction": "Add.", "input": "1, 1", "output": "2"},
        {},
        "it is not clear which column is the prompt: 'instruction', 'input'",
        'set task.prompt_column = "instruction", or write task.prompt = "{instruction} {input}"',
    ),
    "two answers": ({"prompt": "?", "label": 1, "target": 2}, {}, "which column is the answer", '"label"'),
    "no prompt": ({"text": "?", "answer": 1}, {}, "there is no column 'prompt'; it has 'text', 'answer'", "{name}"),
    "no answer": ({"prompt": "?", "n": 1}, {}, "no column 'answer'; it has 'prompt', 'n'", "set task.answer_column"),
    "an unknown column": (CHOICES, {"answer_column": "gold"}, "there is no column 'gold'; it has 'prompt'", "set"),
    "an unknown inner name": (
        CHOICES,
        {"answer_column": "extra_info.x"},
        "and 'extra_info' has 'answer', 'by.h",
        "set",
    ),
    "no such item": (CHOICES, {"answer_column": "choices.2"}, "and 'choices' has 2 items", "set task.answer_column"),
    "an unknown column in a template": (
        {"q": "?", "answer": 1},
        {"prompt": "{q} in {unit}"},
        "there is no column 'unit'; it has 'q', 'answer'",
        "set task.prompt",
    ),
    "a null in a template": ({"q": None, "answer": 1}, {"prompt": "{q}"}, "column 'q': is null", "set task.prompt"),
    "an empty prompt": ({"q": " ", "answer": 1}, {"prompt": "{q}"}, "neither a text nor a list", "write a text"),
    "no question in it": ({"messages": [REPLY]}, {}, "neither a text nor a list", "write a text"),
    "a role that is missing": (
        {"conversations": [{"from": "human"}, {"from": "gpt", "value": "2"}]},
        {},
        "message 1 of 1 has no role",
        '"content": "a text"',
    ),
    "a role of another kind": (
        {"conversations": [{"from": ["human"], "value": "?"}, {"from": "gpt", "value": "2"}]},
        {},
        "message 1 of 1 has no role",
        '"content": "a text"',
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_clear_is_refused_with_the_columns_that_there_are(kind: str, tmp_path: Path) -> None:
    row, settings, problem, remedy = REFUSED[kind]
    with refused(place=f"{tmp_path / 'a.jsonl'}:1", problem=problem, remedy=remedy):
        dataset(tmp_path / "a.jsonl", row, **settings).problems("train")


def test_a_conversation_that_does_not_end_in_an_answer_as_the_first_does_is_named(tmp_path: Path) -> None:
    task = dataset(tmp_path / "a.jsonl", {"messages": [USER, REPLY]}, {"messages": [USER]})
    with refused(place=":2", problem="column 'messages': does not end in an assistant's message", remedy="end it so"):
        task.problems("train")


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("How many?", "names no column"),
        ("{", "is no template"),
        ("{} of {}", "has {}, which names no column"),
        ("{n:.2f}", "has {n:.2f}, which names no column"),
        ("{n!r}", "has {n!r}, which names no column"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused_with_the_recipe(
    template: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").touch()
    task = {"name": "dataset", "path": str(tmp_path / "a.jsonl"), "prompt": template}
    with refused("task.prompt", template, problem=problem, remedy="as {question}"):
        Recipe.load(task=task)


def test_two_places_for_the_prompt_are_refused(tmp_path: Path) -> None:
    with refused("task.prompt_column", "q", problem="beside task.prompt", remedy="take one of the two out"):
        dataset(tmp_path / "a.jsonl", prompt_column="q", prompt="{q}")


def test_what_is_neither_prompt_nor_answer_goes_to_the_rewards(tmp_path: Path) -> None:
    row = {"q": "?", "unit": "km", "extra": {"answer": 1, "level": 2}, "completions": 3}
    task = dataset(tmp_path / "a.jsonl", row, prompt="{q} {unit}", answer_column="extra.answer")
    assert task.problems("train")[0].columns == {"q": "?", "unit": "km", "extra": {"answer": 1, "level": 2}}
    assert task.reward_columns() == ["answer", "q", "unit", "extra"]


def test_a_value_is_looked_up_where_lists_and_objects_take_turns() -> None:
    row = {"a": [{"b": [10, 20]}, {"b.c": 30}]}
    assert [lookup(row, name, None) for name in ("a.0.b.1", "a.1.b.c", "a.-2.b.-2")] == [20, 30, 10]
    for name in ("a.2", "a.x", "a.0.b.1.c", "", ".", "a.", "a.٣", "a.--1", "a.0.b.99999999999"):
        assert lookup(row, name, "none") == "none"


EXAMPLES = [{"question": "What is 2 + 2?", "answer": "2 + 2 = 4\n#### 4"}]


def test_examples_come_before_each_prompt_as_the_task_wants_them_answered(tmp_path: Path) -> None:
    row = {"prompt": [{"role": "system", "content": "Add."}, USER], "answer": 2}
    task = dataset(tmp_path / "a.jsonl", row, {"prompt": "1 + 2?", "answer": 3}, examples=EXAMPLES)
    by_answer = {problem.answer: task.messages(problem) for problem in task.problems("train")}
    shown = [
        {"role": "user", "content": "What is 2 + 2?"},
        {
            "role": "assistant",
            "content": "<reasoning>\n2 + 2 = 4\n</reasoning>\n<answer>\n4\n</answer>",
        },
    ]
    assert by_answer["2"] == [{"role": "system", "content": "Add."}, *shown, USER]
    assert by_answer["3"][0] == {"role": "system", "content": task.system_prompt}
    assert by_answer["3"][1:] == [*shown, {"role": "user", "content": "1 + 2?"}]


def test_training_rows_that_are_shown_as_examples_are_not_trained_on(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n} + 1?", "answer": n + 1} for n in range(40)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    without = Dataset(path=str(tmp_path / "a.jsonl"))
    task = Dataset(path=str(tmp_path / "a.jsonl"), examples=2)
    in_order = [row["prompt"] for row in rows if row["prompt"] in {one.question for one in without.problems("train")}]
    assert {one.question for one in task.problems("train")} == {*in_order[2:]}
    (tmp_path / "twice.jsonl").write_text((tmp_path / "a.jsonl").read_text() * 2)
    twice = Dataset(path=str(tmp_path / "twice.jsonl"), examples=2)
    assert {one.question for one in twice.problems("train")} == {*in_order[2:]}
    assert task.problems("test") == without.problems("test")
    asked = [message["content"] for message in task.messages(task.problems("test")[0]) if message["role"] == "user"]
    assert asked == [*in_order[:2], task.problems("test")[0].question]
    with refused("task.examples", 40, problem="as many as the", remedy="a smaller number"):
        Dataset(path=str(tmp_path / "a.jsonl"), examples=40).problems("train")
    with refused("task.examples", -1, remedy="0 or more"):
        Dataset(path=str(tmp_path / "a.jsonl"), examples=-1)


def test_an_example_that_is_no_problem_or_held_out_is_named(tmp_path: Path) -> None:
    row = {"prompt": "1 + 1?", "answer": 2}
    with refused(place="task.examples, number 1", problem="there is no column 'answer'"):
        dataset(tmp_path / "a.jsonl", row, examples=[{"question": "?"}]).problems("train")
    with refused(place="task.examples, number 1", problem=f"is held out as well, at {tmp_path}/a.jsonl:1"):
        dataset(tmp_path / "a.jsonl", row, examples=[{"question": "1 + 1?", "answer": 2}]).problems("train")


def test_a_recipe_keeps_its_examples_and_template(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("q,answer\n1 + 1?,2\n1 + 2?,3\n")
    task = {"name": "dataset", "path": str(tmp_path / "a.csv"), "prompt": "{q}", "examples": EXAMPLES}
    recipe = Recipe.load(task=task)
    (tmp_path / "kept.toml").write_text(recipe.to_toml())
    assert Recipe.load(tmp_path / "kept.toml") == recipe
    assert Recipe.load(tmp_path / "kept.toml").task["examples"] == EXAMPLES
