"""Where a task's answers are and how its numbers are written: prompt, golden completion, grading and rewards agree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab.evaluation.data_summary import data_notes
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.rewards import gold_number
from grpo_colab.rewards.grading import LOCALES
from grpo_colab.tasks import Problem, Task, load_task, task_options
from grpo_colab.tasks.gsm8k import GSM8K
from grpo_colab.tasks.jsonl import JSONL

# where the answer is -> what the prompt must ask for, and the answer 18 in that form
FORMS = {
    "answer_tag": ("<answer>", "<answer>18</answer>"),
    "boxed": ("\\boxed{}", "\\boxed{18}"),
    "hash": ("####", "#### 18"),
    "SOLUTION": ("<SOLUTION>", "<SOLUTION>18</SOLUTION>"),
}
PROBLEM = Problem("What is 6 * 3?", "18", steps=("6 * 3 = 18",))
GRADERS = {"correctness": 1.0, "soft_correctness": 1.0, "exact_answer": 1.0, "integer": 1.0, "math": 1.0}


class Plain(Task):
    """A user's own task without a system prompt."""

    name = "plain"
    default_system_prompt = ""

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        return [PROBLEM]


@pytest.mark.parametrize("answer_in", FORMS)
@pytest.mark.parametrize("name", ["gsm8k", "word_problems"])
def test_the_prompt_asks_for_what_is_graded(name: str, answer_in: str) -> None:
    task = load_task(name, answer_in=answer_in)
    asked_for, written = FORMS[answer_in]
    assert asked_for in task.system_prompt
    assert [other for other, _ in FORMS.values() if other in task.system_prompt] == [asked_for]
    assert task.grade(f"6 * 3 = 17. {written}", PROBLEM).right
    assert not task.grade(f"6 * 3 = 17. {written.replace('18', '19')}", PROBLEM).right
    for other, (_, elsewhere) in FORMS.items():
        assert task.grade(elsewhere, PROBLEM).right is (other == answer_in)
        assert task.lenient_right(elsewhere, PROBLEM)


def test_the_default_is_as_it_was() -> None:
    assert load_task("word_problems").system_prompt == "Think in <reasoning>, then give the number in <answer>."
    golden = "<reasoning>\n6 * 3 = 18\n</reasoning>\n<answer>\n18\n</answer>\n"
    assert load_task("gsm8k").golden_completion(PROBLEM) == golden
    for answer_in in ("answer_tag", "answer"):
        task = load_task("gsm8k", answer_in=answer_in)
        assert task.system_prompt == load_task("gsm8k").system_prompt
        assert task.golden_completion(PROBLEM) == golden
        assert task.rewards_by_default({"answer_in": answer_in}) == Task.default_rewards


def test_a_prompt_of_ones_own_stays_and_none_stays_none() -> None:
    assert load_task("gsm8k", answer_in="boxed", system_prompt="Box it.").system_prompt == "Box it."
    assert load_task("gsm8k", answer_in="boxed", system_prompt="").system_prompt == ""
    assert Plain(answer_in="boxed").system_prompt == ""


@pytest.mark.parametrize("answer_in", FORMS)
def test_the_golden_completion_earns_all_from_every_reward_that_the_task_may_have(answer_in: str) -> None:
    recipe = Recipe.load(task={"answer_in": answer_in}, rewards=GRADERS | without_tags(answer_in))
    task = recipe.load_task()
    for problem in [PROBLEM, Problem("?", "1,080"), Problem("?", "-3")]:
        golden = task.golden_completion(problem)
        assert task.grade(golden, problem).right
        assert all(step in golden for step in problem.steps)
        assert [f(completions=[golden], answer=[problem.answer]) for f in recipe.reward_functions()] == [
            [1.0] for _ in recipe.rewards
        ]


def without_tags(answer_in: str) -> dict[str, bool]:
    tags = ("strict_format", "soft_format", "tag_count")
    return {} if answer_in == "answer_tag" else dict.fromkeys(tags, False)


@pytest.mark.parametrize(
    ("setting", "value", "remedy"),
    [
        ("answer_in", "<box>", "'boxed', 'hash', or the name of a tag"),
        ("answer_in", "", "the name of a tag"),
        ("answer_in", "think", "the name of a tag"),
        ("locale", "german", "one of 'en'"),
    ],
)
def test_what_no_grader_can_work_with_is_refused_at_once(setting: str, value: str, remedy: str) -> None:
    with refused(f"task.{setting}", value, remedy=remedy):
        Recipe.load(task={setting: value})
    with refused(f"task.{setting}", value, remedy=remedy, snapshot=False):  # in the same words
        load_task("gsm8k", **{setting: value})


def test_a_drawing_has_no_such_settings() -> None:
    assert {"answer_in", "locale"} <= set(task_options("jsonl"))
    assert not {"answer_in", "locale"} & set(task_options("drawing"))
    assert {"system_prompt", "seed", "image"} <= set(task_options("drawing"))
    with refused("task.answer_in", problem="the task 'drawing' has no such setting"):
        Recipe.load("drawing-tiny", task={"answer_in": "boxed"})
    with pytest.raises(TypeError, match="answer_in"):
        load_task("drawing", answer_in="boxed")


def test_rewards_that_ask_for_the_answer_tag_are_refused_where_the_answer_is_elsewhere(tmp_path: Path) -> None:
    remedy = "write strict_format = false, tag_count = false in [rewards], or change"
    with refused("rewards.strict_format", problem="task.answer_in = 'boxed'", remedy=remedy):
        Recipe.load(task={"answer_in": "boxed"}, rewards={"strict_format": 0.5, "tag_count": 0.5})
    # those that nobody wrote go by themselves
    assert set(Recipe.load(task={"answer_in": "boxed"}).rewards) == {"correctness", "integer"}
    own = dict.fromkeys(Recipe.load().rewards, False) | {
        "correctness": 1.0,
        "soft_format(reasoning_tag='think')": 1,
    }
    with refused("rewards.soft_format(reasoning_tag='think')", remedy="(reasoning_tag='think') = false in [rewards]"):
        Recipe.load(task={"answer_in": "hash"}, rewards=own)
    kept = Recipe.load(task={"answer_in": "boxed"}, rewards=without_tags("boxed"))
    assert set(kept.rewards) == {"correctness", "integer"}
    # a file that lists no rewards and starts from no preset gets those that its task has by default
    file = tmp_path / "mine.toml"
    model = '[model]\nmodel_name = "tiny"\n[grpo]\nnum_generations = 4\n'
    recipe = f'[task]\nname = "word_problems"\nanswer_in = "boxed"\n{model}'
    file.write_text(recipe)
    assert Recipe.load(file).rewards == {"correctness": 2.0, "integer": 0.5}
    file.write_text(recipe.replace('answer_in = "boxed"\n', ""))
    assert Recipe.load(file).rewards == Task.default_rewards


def test_rewards_that_judge_numbers_are_refused_where_the_answer_is_none() -> None:
    with refused("rewards.integer", problem="task.answer = 'text'", remedy="write integer = false in [rewards]"):
        Recipe.load(task={"answer": "text"}, rewards={"integer": 0.5})
    assert "integer" not in Recipe.load(task={"answer": "text"}).rewards
    assert "correctness" in Recipe.load(task={"answer": "text"}).rewards


@pytest.mark.parametrize(
    ("answer", "gold", "columns", "asked_for"),
    [
        ("text", "New York", {}, ""),
        ("choice", "fruit", {"choices": ["tool", "fruit"]}, "write its letter alone"),
        ("json", '{"a": [1, 2.5]}', {}, "The answer is JSON, and nothing else."),
        ("code", "assert f(2) == 4", {"solution": "def f(x): return x * x"}, "```python"),
        ("math", "\\frac{x}{2}", {}, ""),
    ],
)
def test_the_whole_task_follows_the_kind_of_its_answers(
    answer: str, gold: str, columns: dict[str, Any], asked_for: str
) -> None:
    """The prompt, the golden completion, the grading and every reward, with other tags as well."""
    tags = {"answer_tag": "SOLUTION", "reasoning_tag": "thoughts"}
    recipe = Recipe.load(task={"answer": answer, **tags}, rewards={"strict_format": 0.5, "soft_format": 0.5})
    task, problem = recipe.load_task(), Problem("?", gold, columns=columns)
    golden = task.golden_completion(problem)
    assert "<thoughts>" in task.system_prompt
    assert "<SOLUTION>" in task.system_prompt
    assert asked_for in task.system_prompt
    assert "<thoughts>" in golden
    assert "</SOLUTION>" in golden
    assert task.grade(golden, problem).right
    assert task.lenient_right(golden, problem)
    assert not task.grade(golden.replace("SOLUTION", "answer"), problem).right
    for function in recipe.reward_functions():
        row = {name: [value] for name, value in columns.items()}
        assert function(completions=[golden], answer=[gold], **row) == [1.0]


def test_code_without_a_solution_has_no_golden_completion() -> None:
    assert load_task("word_problems", answer="code").golden_completion(Problem("?", "assert f(2) == 4")) == ""


def test_a_tag_has_one_name() -> None:
    with refused("task.answer_in", "box", problem="answer_tag = 'SOLUTION'", remedy="write 'answer_tag' there"):
        Recipe.load(task={"answer_in": "box", "answer_tag": "SOLUTION"})
    with refused("task.answer_tag", "a b", remedy="the name alone"):
        Recipe.load(task={"answer_tag": "a b"})


def test_a_schema_is_kept_by_its_content_and_a_grader_by_its_place(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object",\n "required": ["a"]}')
    recipe = Recipe.load(task={"answer": "json", "schema": str(schema)})
    schema.unlink()
    assert recipe.load_task().grade("<answer>[1]</answer>", Problem("?", '{"a": 1}')).reason == "off_schema"
    assert Recipe.load(task={"answer": "json", "schema": {"type": "object"}}).task["schema"] == '{"type": "object"}'
    with refused("task.schema", str(schema), problem="can be read"):
        Recipe.load(task={"answer": "json", "schema": str(schema)})


def test_rewards_of_a_recipe_follow_its_task_and_a_default_recipe_says_nothing_of_it() -> None:
    rewards = without_tags("boxed") | {"cosine_scaled(max_len=8)": 1.0, "exact_answer": 0.0}
    recipe = Recipe.load(task={"answer_in": "boxed", "locale": "de"}, rewards=rewards)
    again = Recipe.load(task={"answer_in": "boxed", "locale": "de"}, rewards=rewards)
    assert recipe == again
    task = recipe.load_task()
    text, gold = "\\boxed{1.234}", "1234"
    assert task.grade(text, Problem("?", gold)).right
    paid = {
        f.__name__: f(completions=[text, "<answer>1234</answer>"], answer=[gold] * 2, completion_ids=[[], []])
        for f in recipe.reward_functions()
    }
    assert paid == {
        "correctness_reward": [1.0, 0.0],
        "integer_reward": [1.0, 0.0],
        "cosine_scaled_reward": [1.0, -1.0],
        "exact_answer_reward": [0.0, 0.0],
    }
    assert (recipe.task["answer_in"], recipe.task["locale"]) == ("boxed", "de")
    assert 'answer_in = "boxed"' in recipe.to_toml()
    assert not re.search("answer_in|locale", Recipe.load().to_toml())
    from grpo_colab import rewards as ours

    assert Recipe.load().reward_functions()[0] is ours.correctness_reward


def rows(path: Path, answers: list[Any]) -> str:
    path.write_text("".join(json.dumps({"prompt": f"{n}?", "answer": gold}) + "\n" for n, gold in enumerate(answers)))
    return str(path)


def test_solutions_and_numbers_are_golds_of_a_file(tmp_path: Path) -> None:
    path = rows(tmp_path / "rows.jsonl", ["9 eggs.\n\n9 * 2 = 18\n#### 18", 18, 18.5, 1e22, "18 eggs", "####7"])
    problems = {p.question: p for p in JSONL(path=path, test_path=path, duplicates="keep").problems("train")}
    assert {question: problem.answer for question, problem in problems.items()} == {
        "0?": "18", "1?": "18", "2?": "18.5", "3?": "1e+22", "4?": "18 eggs", "5?": "7",
    }  # fmt: skip
    assert problems["0?"].steps == ("9 eggs.", "9 * 2 = 18")
    assert problems["1?"].steps == problems["5?"].steps == ()
    assert gold_number(problems["3?"].answer) == 10**22


def test_golds_of_a_file_are_read_in_the_tasks_notation_and_numbers_in_none(tmp_path: Path) -> None:
    path = rows(tmp_path / "rows.jsonl", ["1.234", 1.234, 1234, "0,5"])
    task = JSONL(path=path, test_path=path, locale="de", duplicates="keep")
    golds = {problem.question: gold_number(problem.answer, "de") for problem in task.problems("train")}
    assert {question: float(gold) for question, gold in golds.items()} == {
        "0?": 1234,
        "1?": 1.234,
        "2?": 1234,
        "3?": 0.5,
    }
    path = rows(tmp_path / "rows.jsonl", ["12", "1,234.5"])
    with refused(problem="the gold answer is not one number: '1,234.5'", place=f"{path}:2"):
        JSONL(path=path, test_path=path, locale="de", duplicates="keep").problems("train")


@pytest.mark.parametrize("locale", LOCALES)
def test_the_english_golds_of_gsm8k_stay_what_they_are(locale: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        solution = {"question": "How many?", "answer": "It is 1,234.\n#### 1,234"}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(solution) + "\n")
    task = GSM8K(path=str(tmp_path), locale=locale)
    (problem,) = task.problems("train")
    assert gold_number(problem.answer, locale) == 1234
    assert problem.answer == ("1,234" if locale == "en" else "1234")
    assert task.grade(task.golden_completion(problem), problem).right


def test_a_gold_that_its_place_cannot_hold_is_refused_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{n}?", "answer": "a } b" if n == 17 else "Paris"} for n in range(30)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = load_task("dataset", path=str(path), answer="text", answer_in="boxed")
    with refused(problem="cannot be stated with task.answer_in = 'boxed'", place=f"{path}:18", remedy="task.answer_in"):
        task.problems("train")
    assert load_task("dataset", path=str(path), answer="text").problems("train")


def reviews(path: Path, answers: list[str], prompt: str = "review {}") -> str:
    rows = [{"prompt": prompt.format(n), "answer": answers[n % len(answers)]} for n in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_choices_that_nothing_names_are_refused_or_said(tmp_path: Path) -> None:
    words = load_task("dataset", path=reviews(tmp_path / "a.jsonl", ["good", "bad"]), answer="choice")
    with refused("task.choices", problem="nothing says what the choices are", remedy="task.choices = ['bad', 'good']"):
        words.problems("train")
    letters = load_task("dataset", path=reviews(tmp_path / "b.jsonl", ["A", "B"]), answer="choice")
    assert letters.problems("train")
    assert "does not show the choices" in " ".join(data_notes(letters))
    shown = reviews(tmp_path / "c.jsonl", ["A", "B"], "review {}\nA) good\nB) bad")
    assert "does not show" not in " ".join(data_notes(load_task("dataset", path=shown, answer="choice")))


def test_the_answer_is_in_no_tag_of_the_reasoning() -> None:
    with refused("task.answer_tag", "reasoning", problem="is around the reasoning"):
        load_task("word_problems", answer_tag="reasoning")
