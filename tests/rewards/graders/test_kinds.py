"""Answers of every kind are judged as a person would: what states the gold answer is right, what hedges is not."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab.rewards import get_correctness_reward, resolve_reward
from grpo_colab.rewards.graders import KINDS, Grader, grader_settings, make_grader

TOOLS = ("tool", "fruit", "animal")
LETTERS = {"choices": ["tool", "fruit", "animal", "colour"]}
ARC = {"choices": {"label": ["1", "2", "3"], "text": ["heat", "light", "sound"]}}
VITAMINS = {"choices": ["B", "C", "A"]}  # whose texts are letters


def answered(text: str) -> str:
    return f"<reasoning>\nI think.\n</reasoning>\n<answer>\n{text}\n</answer>\n"


def reason(grader: Grader, text: str, gold: str, row: dict[str, Any] | None = None) -> str:
    return grader.grade(answered(text), gold, row or {}).reason


@pytest.mark.parametrize(
    ("text", "gold", "settings", "expected"),
    [
        ("Paris", "Paris", {}, "right"),
        ("paris.", "Paris", {}, "right"),
        ("**Paris**", "Paris", {}, "right"),
        ('"Paris"', "Paris", {}, "right"),
        ("\\text{Paris}", "Paris", {}, "right"),
        ("New   York", "new york", {}, "right"),
        ("Caf\u0065\u0301", "Café", {}, "right"),  # a composed letter, and a letter with a mark
        ("STRASSE", "Straße", {}, "right"),
        ("Paris or London", "Paris", {}, "wrong"),
        ("not Paris", "Paris", {}, "wrong"),
        ("Paris, Texas", "Paris", {}, "wrong"),
        *(
            (f"{opening}Paris{closing}", "Paris", {}, "right")
            for opening, closing in ("「」", "『』", "【】", "《》", "（）", "‚‘")
        ),
        ("「東京」", "東京", {}, "right"),
        ("「東京」と「京都」", "東京", {}, "wrong"),
        ("C", "C++", {}, "wrong"),
        *((sign, "x", {"ignore": ["case", "punctuation"]}, "wrong") for sign in ("-x", "−x", "–X", "x-")),
        ("−x", "-x", {"ignore": ["punctuation"]}, "right"),
        ("AB-", "AB", {"ignore": ["punctuation"]}, "wrong"),
        ("(AB-)", "AB-", {"ignore": ["punctuation"]}, "right"),
        ("- Paris -", "Paris", {"ignore": ["punctuation", "spaces"]}, "right"),
        ("e-mail", "e mail", {"ignore": ["punctuation"]}, "right"),
        ("-5", "5", {}, "wrong"),
        ("Paris", "paris", {"ignore": []}, "wrong"),
        ("the U.S.A.", "USA", {"ignore": ["case", "articles"]}, "wrong"),
        ("An apple", "apple", {"ignore": ["case", "articles", "spaces"]}, "right"),
        ("theatre", "atre", {"ignore": ["case", "articles", "spaces"]}, "wrong"),
        ("well-known!", "well known", {"ignore": "case, punctuation, spaces"}, "right"),
        ("15", "1.5", {"ignore": ["punctuation", "spaces"]}, "wrong"),
        ("-5", "5", {"ignore": ["punctuation", "spaces"]}, "wrong"),
        ("", "Paris", {}, "wrong"),
        ("...", "Paris", {}, "wrong"),
        ("x" * 30_000, "Paris", {}, "too_long"),
    ],
)
def test_a_text_is_compared_as_a_whole(text: str, gold: str, settings: dict[str, Any], expected: str) -> None:
    assert reason(make_grader("text", **settings), text, gold) == expected


@pytest.mark.parametrize(
    ("text", "gold", "row", "expected"),
    [
        *((form, "B", LETTERS, "right") for form in ("B", "b", "(B)", "B.", "B)", "[B]", "**B**", "B) fruit", "fruit")),
        *(
            (form, "B", LETTERS, "right")
            for form in ("Fruit.", "Option B", "The answer is (B)", "B: fruit", "B - fruit")
        ),
        *((form, "fruit", LETTERS, "right") for form in ("B", "fruit", "(B) fruit", "$B$", "\\text{B}")),
        ("B", "1", LETTERS, "right"),  # the index of a choice, as MMLU has it
        ("1", "1", LETTERS, "not_a_choice"),  # which no prompt shows
        ("C", "B", LETTERS, "wrong"),
        ("tool", "B", LETTERS, "wrong"),
        ("B or C", "B", LETTERS, "many_answers"),
        ("B) fruit, C) animal", "B", LETTERS, "many_answers"),
        ("A, B, C, D", "B", LETTERS, "many_answers"),
        ("B) animal", "B", LETTERS, "many_answers"),  # the letter of one, the text of another
        ("not B", "B", LETTERS, "not_a_choice"),
        ("toolbox", "A", LETTERS, "not_a_choice"),
        ("E", "B", LETTERS, "not_a_choice"),
        ("", "B", LETTERS, "not_a_choice"),
        ("2", "2", ARC, "right"),
        ("light", "2", ARC, "right"),
        ("(3)", "2", ARC, "wrong"),
        ("C", "C", VITAMINS, "right"),  # the letters are labels
        ("C) A", "C", VITAMINS, "right"),
        ("A", "C", VITAMINS, "wrong"),
        ("B", "B", {}, "right"),
        ("(b)", "B", {}, "right"),
        ("B) a long explanation", "B", {}, "right"),
        ("B) this, not (C)", "B", {}, "many_answers"),
        ("B or C", "B", {}, "many_answers"),
        ("A", "B", {}, "wrong"),
        ("tool", "tool", {}, "right"),
        ("A) Tool", "tool", {}, "right"),
        ("toolbox", "tool", {}, "wrong"),
        ("tool or fruit", "tool", {}, "wrong"),
    ],
)
def test_a_choice_is_its_letter_or_its_text(text: str, gold: str, row: dict[str, Any], expected: str) -> None:
    assert reason(make_grader("choice"), text, gold, row) == expected


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("tool", "tool", "right"),
        ("Tool.", "tool", "right"),
        ("A", "tool", "right"),
        ("tool, fruit", "tool", "many_answers"),
        ("fruit", "tool", "wrong"),
        ("a kind of tool", "tool", "not_a_choice"),
    ],
)
def test_all_problems_may_have_the_same_choices(text: str, gold: str, expected: str) -> None:
    assert reason(make_grader("choice", choices=TOOLS), text, gold) == expected


@pytest.mark.parametrize(
    ("text", "gold", "settings", "expected"),
    [
        ('{"a": 1, "b": [true, null]}', '{"b": [true, null], "a": 1.0}', {}, "right"),
        ('```json\n{"a": 1}\n```', '{"a": 1}', {}, "right"),
        ('{"a": 0.10}', '{"a": 0.1}', {}, "right"),
        ("[1, 2]", "[2, 1]", {}, "wrong"),
        ('{"a": "1"}', '{"a": 1}', {}, "wrong"),
        ('{"a": true}', '{"a": 1}', {}, "wrong"),
        ('{"a": 1, "b": 2}', '{"a": 1}', {}, "wrong"),
        ('{"a": 1, "a": 1}', '{"a": 1}', {}, "not_json"),
        ('{"a": 1} or {"a": 2}', '{"a": 1}', {}, "not_json"),
        ("{'a': 1}", '{"a": 1}', {}, "not_json"),
        ("NaN", "1", {}, "not_json"),
        ("[" * 100_000, "[]", {}, "too_long"),
        ("[" * 5_000 + "]" * 5_000, "[]", {}, "not_json"),
        ("1e999999999", "1", {}, "not_json"),
        ('{"a": 100.5}', '{"a": 100}', {"tolerance": 0.01}, "right"),
        ('{"a": "x"}', '{"a": 1}', {"schema": '{"properties": {"a": {"type": "number"}}}'}, "off_schema"),
        ('{"a": 2}', '{"a": 1}', {"schema": '{"properties": {"a": {"type": "number"}}}'}, "wrong"),
        ('{"a": 1.5}', '{"a": 1.5}', {"schema": '{"properties": {"a": {"type": "number"}}}'}, "right"),
    ],
)
def test_json_is_compared_by_its_values(text: str, gold: str, settings: dict[str, Any], expected: str) -> None:
    assert reason(make_grader("json", **settings), text, gold) == expected


DOUBLE = json.dumps(["assert double(2) == 4", "assert double(-3) == -6"])


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [
        ("```python\ndef double(x):\n    return 2 * x\n```", DOUBLE, "right"),
        ("def double(x):\n    return x + x", "assert double(2) == 4\nassert double(5) == 10", "right"),
        ("```python\ndef double(x):\n    return 4\n```", DOUBLE, "wrong"),
        ("while True: pass", DOUBLE, "wrong"),
        ("import os", DOUBLE, "wrong"),
    ],
)
def test_code_is_judged_by_its_tests(text: str, gold: str, expected: str) -> None:
    assert reason(make_grader("code"), text, gold) == expected


@pytest.mark.parametrize(
    ("text", "gold", "expected"),
    [("\\frac{1}{2}", "0.5", "right"), ("x+1", "1+x", "right"), ("x=2", "x+1", "wrong"), ("18", "18", "right")],
)
def test_math_is_judged_by_the_grader_of_the_math_reward(text: str, gold: str, expected: str) -> None:
    assert (reason(make_grader("math"), text, gold) == "right") == (expected == "right")


@pytest.mark.parametrize(
    ("kind", "gold", "row", "problem"),
    [
        ("number", "eighteen or so", {}, "not one number"),
        ("text", " ", {}, "is empty"),
        ("choice", "colour", {"choices": ["tool", "fruit"]}, "is none of the choices"),
        ("choice", "A", {"choices": ["tool"]}, "has 1 choices"),
        ("choice", "A", {"choices": ["tool", "tool"]}, "two that are equal"),
        ("choice", "A", {"choices": {"label": None, "text": None}}, "no list of choices"),
        ("code", "assert True", {}, "passes without any program"),
        ("choice", "A", {"choices": "tool, fruit"}, "no list of choices"),
        ("json", "{a: 1}", {}, "is no JSON"),
        ("json", "NaN", {}, "is no JSON"),
        ("code", "", {}, "is empty"),
        ("code", "double(2) == ", {}, "double(2) =="),
    ],
)
def test_a_gold_that_cannot_judge_is_named(kind: str, gold: str, row: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("(", r"\(").replace(")", r"\)")):
        make_grader(kind).grade(answered("x"), gold, row)


GRADES = ("F", "D", "C", "B", "A")
BASES = {"choices": ["T.", "A.", "C.", "G."]}
INTENTS = tuple(f"intent {number}" for number in range(77))


@pytest.mark.parametrize(
    ("settings", "row", "gold", "answer", "expected"),
    [
        ({"choices": GRADES}, {}, "A", "A", "right"),  # no prompt shows letters: the text, and no label
        ({"choices": GRADES}, {}, "A", "F", "wrong"),
        ({"choices": INTENTS}, {}, 27, "intent 27", "right"),  # a class of a data set, by its index
        ({"choices": INTENTS}, {}, 27, "intent 26", "wrong"),
        ({}, {"choices": ["8", "2", "24", "120"]}, 2, "C", "right"),  # an index, and no text
        ({}, {"choices": ["8", "2", "24", "120"]}, "2", "B", "right"),
        ({}, BASES, "A", "T", "right"),  # the letter A is the first choice
        ({}, BASES, "A", "A.", "right"),
        ({}, BASES, "A", "B", "wrong"),
        ({}, {"choices": '["tool", "fruit"]'}, "B", "fruit", "right"),  # a cell of a table
        ({}, {"choices": [{"label": "A", "text": "tool"}, {"label": "B", "text": "fruit"}]}, "B", "fruit", "right"),
        ({}, {"choices": {"A": "tool", "B": "fruit", "C": None}}, "B", "B", "right"),
        ({}, {"choices": ["A) tool", "B) fruit"]}, "B", "fruit", "right"),
        ({}, {"choices": ["CO", "Co"]}, "B", "Co", "right"),
        ({}, {"choices": ["CO", "Co"]}, "B", "CO", "wrong"),
    ],
)
def test_golds_and_choices_as_data_sets_have_them(
    settings: dict[str, Any], row: dict[str, Any], gold: Any, answer: str, expected: str
) -> None:
    grader = make_grader("choice", **settings)
    assert grader.grade(answered(answer), grader.gold_of(gold, row), row).reason == expected
    columns = {name: [value] for name, value in row.items()}
    paid = get_correctness_reward(answer="choice", **settings)(completions=[answered(answer)], answer=[gold], **columns)
    assert paid == [float(expected == "right")]


HONEST = (
    "**B)** fruit", "**(B)** fruit", "**B.** fruit", "**Answer:** B", "B, fruit", "B fruit", "B\nfruit", "B (fruit)",
    "fruit (B)", "Option B is correct.", "B is correct", "It is B.", "I choose B", "The answer is option B.", "B!",
    "_B_",
    "<b>B</b>", "### B", "- B", "Ｂ", "B。", "\\textbf{(B)}", "\\mathbf{\\text{B}}", "\\(B\\)", "$\\boxed{\\text{B}}$",
)  # fmt: skip


@pytest.mark.parametrize("text", HONEST)
def test_a_choice_as_models_write_it(text: str) -> None:
    assert reason(make_grader("choice"), text, "B", LETTERS) == "right"
    other = text.replace("B", "C").replace("Ｂ", "Ｃ").replace("fruit", "animal")
    assert reason(make_grader("choice"), other, "B", LETTERS) == "wrong"


HEDGED = (
    "B: C", "B.C", "B) is wrong, the answer is C", "B: not B, it is C", "B. C. D.", "B: A, C, D", "B) or maybe c",
    "B)?",
)  # fmt: skip


@pytest.mark.parametrize("text", HEDGED)
@pytest.mark.parametrize("gold", ["B", "C"])
def test_where_the_choices_are_not_known_one_answer_is_one(text: str, gold: str) -> None:
    assert reason(make_grader("choice"), text, gold) != "right"
    assert reason(make_grader("choice"), "3.9", "3") != "right"
    assert reason(make_grader("choice"), "3) 4", "4") != "right"


def test_choices_are_listed_below_a_prompt_that_does_not_show_all_of_them() -> None:
    grader = make_grader("choice")
    assert grader.with_choices("What is 12 + 2?", {"choices": ["2", "14"]}) == "What is 12 + 2?\nA) 2\nB) 14"
    assert grader.with_choices("A tool or a fruit?", {"choices": ["tool", "fruit"]}) == "A tool or a fruit?"


@pytest.mark.parametrize("kind", ["text", "choice", "json"])
@pytest.mark.parametrize(
    "answer",
    [
        '{"a": 1e99999999999999999999}', '{"a": 1e999999999}', "```\n" + "\n" * 19_000, " ." * 9_000,
        "a" + "\u0300\u0316" * 9_000, "[" + "[0]," * 4_000 + "0]", "\ud800", "\x00",
    ],
    ids=["no exponent", "a large number", "a fence", "full stops", "combining marks", "many items", "half", "null"],
)  # fmt: skip
def test_no_answer_breaks_or_delays_a_grader(kind: str, answer: str) -> None:
    schema = {"schema": '{"uniqueItems": true, "properties": {"a": {"multipleOf": 0.1}}}'} if kind == "json" else {}
    gold = '{"a": 1}' if kind == "json" else "A"
    grader = make_grader(kind, **schema, **({"tolerance": 0.01} if kind == "json" else {}))
    assert not grader.grade(answered(answer), gold).right
    assert not grader.lenient_right(answered(answer) * 3, gold)


@pytest.mark.parametrize(
    ("text", "gold", "settings", "expected"),
    [
        ("it’s", "it's", {}, "right"),
        ("«Paris»", "Paris", {}, "right"),
        ("Paris\u200b", "Paris", {}, "right"),
        ("The answer is Paris", "Paris", {}, "right"),
        ("<b>Paris</b>", "Paris", {}, "right"),
        ("<5", ">5", {"ignore": ["punctuation"]}, "wrong"),
        ("C#", "C++", {"ignore": ["punctuation"]}, "wrong"),
        ("€5", "$5", {"ignore": ["punctuation"]}, "wrong"),
        ("5", ".5", {"ignore": ["punctuation"]}, "wrong"),
        ("U.S.A.", "USA", {"ignore": ["punctuation"]}, "right"),
        ("vitamin", "Vitamin A", {"ignore": ["case", "articles"]}, "wrong"),
    ],
)
def test_a_text_as_models_write_it(text: str, gold: str, settings: dict[str, Any], expected: str) -> None:
    assert reason(make_grader("text", **settings), text, gold) == expected


def test_what_looks_like_a_mark_in_json_is_none() -> None:
    grader = make_grader("json")
    assert grader.grade(answered('{"md": "#### Title"}'), '{"md": "#### Title"}').right
    assert grader.grade(answered("```JSON\r\n{}\r\n```"), "so it is\n#### {}").right


def test_a_program_may_be_in_several_blocks() -> None:
    text = "```python\ndef double(x):\n    return 2 * x\n```\nTry it:\n```python\nprint(double(2))\n```"
    assert reason(make_grader("code"), text, DOUBLE) == "right"


def test_a_gold_must_fit_the_schema() -> None:
    with pytest.raises(ValueError, match="does not fit the schema"):
        make_grader("json", schema='{"type": "object"}').grade(answered("1"), "1")


GOLDS: dict[str, tuple[str, dict[str, Any]]] = {
    "number": ("1,200", {}),
    "math": ("\\frac{x}{2}", {}),
    "text": ("New York", {}),
    "choice": ("fruit", LETTERS),
    "json": ('{"name": "Ada", "born": 1815}', {}),
    "code": (DOUBLE, {"solution": "def double(x):\n    return 2 * x"}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer_in", ["answer_tag", "boxed", "hash", "SOLUTION"])
def test_every_kind_has_an_answer_that_is_right_everywhere(kind: str, answer_in: str) -> None:
    if (kind, answer_in) == ("code", "hash"):
        with refused("answer_in", "hash", remedy="answer_tag"):
            make_grader(kind, answer_in=answer_in)
        return
    grader, (gold, row) = make_grader(kind, answer_in=answer_in), GOLDS[kind]
    text = grader.golden_answer(gold, row)
    assert text is not None
    completion = {
        "answer_tag": f"<answer>{text}</answer>",
        "boxed": rf"So \boxed{{{text}}}",
        "hash": f"#### {text}",
        "SOLUTION": f"<SOLUTION>{text}</SOLUTION>",
    }[answer_in]
    assert grader.grade(completion, gold, row).right
    assert grader.lenient_right(completion, gold, row)
    assert not grader.grade("<answer></answer>", gold, row).right
    assert not grader.grade("", gold, row).right
    assert not grader.grade(completion + completion.replace(text, "something else"), gold, row).right
    assert pickle.loads(pickle.dumps(grader)) == grader


@pytest.mark.parametrize(
    ("kind", "completion", "gold", "row"),
    [
        ("text", "I would say that it is Paris", "Paris", {}),
        ("choice", "First I took (A). But it is B.", "fruit", LETTERS),
        ("choice", "it must be some fruit", "B", LETTERS),
        ("json", 'Take {"a": 2}, or rather {"a": 1}.', '{"a": 1}', {}),
        ("code", "Here:\n```python\ndef double(x):\n    return 2 * x\n```", DOUBLE, {}),
        ("math", "so it is \\boxed{\\frac{1}{2}}", "0.5", {}),
    ],
)
def test_the_lenient_accuracy_takes_the_last_of_its_kind(kind: str, completion: str, gold: str, row: Any) -> None:
    grader = make_grader(kind)
    assert grader.grade(completion, gold, row).reason == "no_tag"
    assert grader.lenient_right(completion, gold, row)
    assert not grader.lenient_right("no idea", gold, row)


@pytest.mark.parametrize(
    ("setting", "value", "settings"),
    [
        ("answer", "category", {"answer": "category"}),
        ("ignore", "accents", {"answer": "text", "ignore": ["accents"]}),
        ("ignore", ["case"], {"answer": "choice", "ignore": ["case"]}),
        ("choices", ["one"], {"answer": "choice", "choices": ["one"]}),
        ("choices", ["a", "b"], {"answer": "text", "choices": ["a", "b"]}),
        ("schema", "{", {"answer": "json", "schema": "{"}),
        ("schema", '{"type": "nothing"}', {"answer": "json", "schema": '{"type": "nothing"}'}),
        ("tolerance", 0.1, {"answer": "text", "tolerance": 0.1}),
        ("reasoning_tag", "a b", {"reasoning_tag": "a b"}),
    ],
)
def test_a_setting_that_cannot_work_is_named(setting: str, value: Any, settings: dict[str, Any]) -> None:
    with refused(setting, value):
        make_grader(**settings)


def test_the_reward_pays_by_the_kind_and_logs_its_reasons() -> None:
    logged: dict[str, float] = {}
    reward = get_correctness_reward(answer="choice")
    completions = [answered(text) for text in ("B", "A", "B or C", "fruit")]
    columns = {"answer": ["B", "B", "B", None], "choices": [LETTERS["choices"]] * 4}
    assert reward(completions=completions, **columns, log_metric=logged.__setitem__) == [1.0, 0.0, 0.0, None]
    assert logged["verdict/many_answers"] == pytest.approx(1 / 3)
    assert "verdict/many_numbers" not in logged
    assert get_correctness_reward(answer="json")(completions=[answered('{"a": 1}')], answer=[{"a": 1}]) == [1.0]
    assert get_correctness_reward(answer="code")(
        completions=[answered("def double(x): return 2 * x")],
        answer=[["assert double(2) == 4", "assert double(3) == 6"]],
    ) == [1.0]


def test_a_gold_that_cannot_be_read_gives_no_judgement_and_a_warning() -> None:
    with pytest.warns(UserWarning, match="is none of the choices"):
        paid = get_correctness_reward(answer="choice")(
            completions=[answered("A")], answer=["plum"], choices=[["tool", "fruit"]]
        )
    assert paid == [None]


def test_the_block_before_the_answer_may_have_another_name() -> None:
    text = "<thoughts>maybe <answer>3</answer></thoughts><answer>4</answer>"
    assert make_grader("number").grade(text, "4").reason == "many_tags"
    assert make_grader("number", reasoning_tag="thoughts").grade(text, "4").right


def test_a_tasks_settings_become_those_of_its_rewards() -> None:
    assert grader_settings({"answer_tag": "SOLUTION", "path": "x", "schema": None}) == {
        "answer_tag": "SOLUTION",
        "answer_in": "SOLUTION",
    }
    assert grader_settings({"answer_in": "SOLUTION"}) == {"answer_tag": "SOLUTION", "answer_in": "SOLUTION"}
    assert grader_settings({"answer_in": "boxed"}) == {"answer_in": "boxed"}


def test_length_counts_where_an_answer_of_the_kind_is_right() -> None:
    reward = resolve_reward("length", {"answer": "text"})
    completions = [answered("Paris"), answered("Paris") + " " + "because " * 9, answered("London")]
    short, long, wrong = reward(completions=completions, answer=["Paris"] * 3)
    assert short > long
    assert wrong <= 0


OWN = """
def grade(response, answer, weight=1.0):
    return response.strip().startswith(answer)

def share(completion, answer, **columns):
    return len(set(completion) & set(answer)) / len(set(answer))

def undecided(answer):
    return None if answer == "?" else answer == "yes"

def broken(response, answer):
    return "yes"

def asks(response, answer, colour):
    return True
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / "my.py"
    path.write_text(OWN)
    return path


def test_a_function_of_ones_own_judges(own: Path) -> None:
    grader = make_grader(grader=f"{own}:grade")
    assert grader.grade(answered("Paris, France"), "Paris").right
    assert grader.grade(answered("London"), "Paris").reason == "wrong"
    assert grader.grade("no tag", "Paris").reason == "no_tag"
    assert grader.lenient_right("Paris", "Paris") is None
    share = get_correctness_reward(grader=f"{own}:share")
    assert share(completions=["ab", "cd", "a"], answer=["ab", "ab", "ab"]) == [1.0, 0.0, 0.5]
    undecided = get_correctness_reward(grader=f"{own}:undecided")
    assert undecided(completions=["x", "x"], answer=["?", "yes"]) == [None, 1.0]
    assert pickle.loads(pickle.dumps(share))(completions=["ab"], answer=["ab"]) == [1.0]


def test_a_function_that_judges_badly_raises(own: Path) -> None:
    with pytest.raises(TypeError, match=r"my\.py:broken returned 'yes'"):
        make_grader(grader=f"{own}:broken").grade(answered("x"), "x")
    with refused("task.grader", problem="needs 'colour'"):
        make_grader(grader=f"{own}:asks").check(["answer", "size"])  # type: ignore[attr-defined]
    with refused("task.grader", problem="has no 'missing'"):
        make_grader(grader=f"{own}:missing").grade(answered("x"), "x")
