"""GSM8K and a user's own file: every row is checked where it stands, and the splits never share a problem."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab.rewards import (
    correctness_reward,
    exact_answer_reward,
    gold_number,
    soft_format_reward,
    strict_format_reward,
)
from grpo_colab.tasks import load_task
from grpo_colab.tasks.gsm8k import GSM8K
from grpo_colab.tasks.jsonl import JSONL


@pytest.mark.parametrize(("split", "size"), [("train", 7473), ("test", 1319)])
def test_every_row_of_gsm8k(gsm8k: Path, split: str, size: int) -> None:
    task = GSM8K(path=str(gsm8k))
    problems = task.problems(split)
    assert len(problems) == size
    rows = {row["question"]: row["answer"] for row in map(json.loads, (gsm8k / f"{split}.jsonl").open())}
    for problem in problems:
        assert gold_number(problem.answer) == gold_number(rows[problem.question].split("####")[1])
    golden = [task.golden_completion(problem) for problem in problems]
    answers = [problem.answer for problem in problems]
    for reward in (correctness_reward, exact_answer_reward):
        assert reward(golden, answers) == [1.0] * size
    for format_reward in (strict_format_reward, soft_format_reward):
        assert format_reward(golden) == [1.0] * size


def test_gsm8k_is_read_as_the_hub_serves_it(gsm8k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The datasets library reads a folder of the repository's name in the same way as the repository."""
    repository = tmp_path / "openai" / "gsm8k"
    repository.mkdir(parents=True)
    (repository / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: train.jsonl\n"
        "  - split: test\n    path: test.jsonl\n---\n"
    )
    for split in ("train", "test"):
        (repository / f"{split}.jsonl").write_bytes((gsm8k / f"{split}.jsonl").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from_hub, from_folder = GSM8K().problems("test"), GSM8K(path=str(gsm8k)).problems("test")
    assert [(p.question, p.answer, p.steps) for p in from_hub] == [(p.question, p.answer, p.steps) for p in from_folder]
    assert from_hub[0].source.startswith("openai/gsm8k test row ")


def test_without_a_hub_gsm8k_says_what_to_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    problem = "openai/gsm8k cannot be downloaded from the hub ("
    # in the hub's own words
    with refused("task.name", "gsm8k", problem=problem, remedy="write task.path", snapshot=False):
        GSM8K().problems("test")


def test_steps_are_the_solution_without_calculator_marks(gsm8k: Path) -> None:
    first = json.loads((gsm8k / "train.jsonl").open().readline())
    (problem,) = [p for p in GSM8K(path=str(gsm8k)).problems("train") if p.question == first["question"]]
    assert problem.steps == (
        "Natalia sold 48/2 = 24 clips in May.",
        "Natalia sold 48+24 = 72 clips altogether in April and May.",
    )
    assert problem.answer == "72"
    assert problem.source.endswith("train.jsonl:1")


def test_the_order_is_the_seeds(gsm8k: Path) -> None:
    def first(seed: int, n: int | None = None) -> list[str]:
        return [problem.question for problem in GSM8K(path=str(gsm8k), seed=seed).problems("test", n)]

    assert first(1, 256) == first(1)[:256]
    assert first(1) != first(2)
    assert Counter(first(1)) == Counter(first(2))


def test_the_prompt_is_the_system_prompt_and_the_bare_question() -> None:
    from grpo_colab.tasks import Problem

    task = load_task("gsm8k")
    messages = task.messages(Problem("How many?", "3"))
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[1]["content"] == "How many?"
    assert all(tag in messages[0]["content"] for tag in ("<reasoning>", "</reasoning>", "<answer>", "</answer>"))
    assert load_task("gsm8k", system_prompt="").messages(Problem("How many?", "3")) == messages[1:]


def write(path: Path, rows: list[object]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


def test_jsonl_takes_texts_and_conversations_numbers_and_strings(tmp_path: Path) -> None:
    conversation = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    path = write(
        tmp_path / "rows.jsonl",
        [
            {"prompt": "1 + 1?", "answer": 2, "level": "easy"},
            {"prompt": conversation, "answer": "4", "level": "easy"},
            "",
            {"prompt": "1 / 2?", "answer": 0.5, "level": "hard"},
        ],
    )
    task = JSONL(path=path, test_path=path, duplicates="keep")
    problems = {problem.question: problem for problem in task.problems("train")}
    assert {question: problem.answer for question, problem in problems.items()} == {
        "1 + 1?": "2",
        "system: Be brief.\n\nuser: 2 + 2?": "4",
        "1 / 2?": "0.5",
    }
    assert task.messages(problems["system: Be brief.\n\nuser: 2 + 2?"]) == conversation  # its own system message stays
    assert task.messages(problems["1 + 1?"])[0]["role"] == "system"
    assert problems["1 / 2?"].columns == {"level": "hard"}
    assert problems["1 / 2?"].source == f"{path}:4"
    assert task.reward_columns() == ["answer", "level"]


def test_jsonl_holds_out_a_tenth_by_the_prompt(tmp_path: Path) -> None:
    rows: list[object] = [{"prompt": f"What is {i} + 1?", "answer": i + 1} for i in range(2000)]
    path = write(tmp_path / "rows.jsonl", rows + rows)  # each row twice
    train = {problem.question for problem in JSONL(path=path).problems("train")}
    test = {problem.question for problem in JSONL(path=path).problems("test")}
    assert not train & test
    assert len(train) + len(test) == 2000
    assert 120 < len(test) < 280
    assert {problem.question for problem in JSONL(path=path, seed=5).problems("test")} == test


@pytest.mark.parametrize(
    ("row", "problem", "remedy"),
    [
        ('{"answer": ' + "9" * 5000 + "}", "not JSON that can be read", None),
        ("[" * 100_000, "not JSON that can be read", None),
        ("[" * 1_000_001, "has more than 1,000,000 commas and brackets", "split it, or leave columns out"),
        ('{"x": ' + "[" * 41 + "]" * 41 + "}", "is nested deeper than 40 levels", "flatten it"),
        ("{", "not JSON (Expecting property name enclosed in double quotes at column ", None),
        ("[1]", "a row must be a JSON object, not list", None),
        ({"prompt": "?"}, "there is no column 'answer'; it has 'prompt'", "set task.answer_column"),
        ({"prompt": "?", "answer": None}, "column 'answer': is null", "set task.answer_column"),
        ({"prompt": "?", "answer": "4 or 5"}, "the gold answer is not one number: '4 or 5'", None),
        ({"prompt": "?", "answer": True}, "the gold answer is not one number: 'True'", None),
        ({"prompt": "?", "answer": float("nan")}, "column 'answer': is NaN", "take the row out"),
        ({"prompt": "", "answer": 4}, "column 'prompt': is empty", "write a value"),
        ({"prompt": 5, "answer": 4}, "the prompt is neither", None),
        ({"prompt": [{"text": "?"}], "answer": 4}, "message 1 of 1 has no role", None),
        ({"prompt": "?", "answer": "x" * 5000}, "...", None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_row_is_named(row: object, problem: str, remedy: str | None, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"prompt": "1 + 1?", "answer": 2}, row])
    with refused(None, problem=problem, remedy=remedy, place=f"{path}:2") as caught:
        JSONL(path=path, test_path=path, duplicates="keep").problems("train")
    assert len(str(caught.value)) < 300 + len(path)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [])
    with refused(None, problem="the data set is empty", place=path):
        JSONL(path=path).problems("train")


def test_a_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'{"prompt": "\xff\xfe"}')
    path = tmp_path / "rows.jsonl"
    with refused(None, problem="is not UTF-8 (it has the byte 0xff)", remedy="as UTF-8", place=f"{path}:1"):
        JSONL(path=str(path)).problems("train")


def test_too_few_rows_to_hold_any_out(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"prompt": "1 + 1?", "answer": 2}])
    with refused("task.path", path, problem="has too few rows to hold any out", remedy="task.test_path"):
        [JSONL(path=path).problems(split) for split in ("train", "test")]


def test_gsm8k_without_its_mark_is_named(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / f"{split}.jsonl", [{"question": "1 + 1?", "answer": "It is 2"}])
    with refused(None, problem="the solution has no '####'", place=tmp_path / "train.jsonl:1"):
        GSM8K(path=str(tmp_path)).problems("train")
