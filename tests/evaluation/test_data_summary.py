"""`grpo-colab data` shows a recipe's problems as they are read, and a run prints what there is to know of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import check

from grpo_colab.evaluation.data_summary import data_notes, describe_data
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.tasks import load_task
from grpo_colab.tasks.word_problems import WordProblems

KINDS = Path(__file__).parents[1] / "data" / "problems"
OWN = ("--task.name", "dataset", "--task.path")
CONVERSIONS = (*OWN, str(KINDS / "unit_conversions.csv"), "--task.prompt", "How many {to} are {amount} {from}?")


def test_what_is_read_is_shown(cli: Callable[..., Any]) -> None:
    done = cli("data", *CONVERSIONS, "--task.test-share", "20")
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    for part in (
        "held out     20 rows, by a hash of the prompt",
        "prompt       from task.prompt = 'How many {to} are {amount} {from}?'",
        "for rewards  amount (text), from (text), to (text), note (text)",
        "train        40 problems",
        "test         20 problems",
        "none is longer than task.max_prompt_tokens = 160",
        f"--- 1: {KINDS / 'unit_conversions.csv'}:",
        "<|start_header_id|>assistant<|end_header_id|>",
        "Warning: 20 held-out problems cannot tell much: the 95 % interval of 50% right is 30% to 70%.",
    ):
        assert part in shown
    assert shown.count("Respond in the following format") == 3


def test_a_tasks_note_and_its_further_splits_are_shown(cli: Callable[..., Any]) -> None:
    shown = cli("data", "word-problems-tiny").stdout
    assert "\nnew_stories  256 problems\n" in shown
    assert f"\ntest: {WordProblems.held_out_note}\n" in shown
    assert "\nnew_stories: held out, too, in sentences that no training problem has.\n" in shown


def test_everything_is_in_the_json(cli: Callable[..., Any]) -> None:
    done = cli("data", "gsm8k-tiny", "--json", "--task.max-prompt-tokens", "60", *CONVERSIONS)
    found = json.loads(done.stdout)
    assert {name: split["problems"] for name, split in found["splits"].items()} == {"train": 54, "test": 6}
    lengths = found["splits"]["train"]["lengths"]
    assert lengths["unit"] == "tokens"
    assert lengths["measured"] == 54
    # by the tokenizer itself
    from transformers import AutoTokenizer

    recipe = Recipe.load(task={"name": "dataset", "path": str(KINDS / "sums")})
    tokenizer = AutoTokenizer.from_pretrained(recipe.model_path)
    task = recipe.load_task()
    sizes = sorted(
        len(tokenizer.apply_chat_template(task.messages(one), add_generation_prompt=True, tokenize=True)["input_ids"])
        for one in task.problems("train")
    )
    lengths = describe_data(recipe).splits["train"].lengths
    assert [lengths.shortest, lengths.median, lengths.longest] == [sizes[0], sizes[20], sizes[-1]]
    limited = Recipe.load(task={"name": "dataset", "path": str(KINDS / "sums"), "max_prompt_tokens": sizes[20]})
    assert describe_data(limited).splits["train"].lengths.too_long == sum(size > sizes[20] for size in sizes)


def test_without_the_tokenizer_lengths_are_in_characters(cli: Callable[..., Any]) -> None:
    done = cli("data", "gsm8k-qwen25-1.5b", *OWN, str(KINDS / "sums"), "--task.system-prompt", "Add.")
    # "system: Add.", an empty line, and from "user: What is 1 + 2?" to "user: What is 40 + 80?"
    assert "34 to 36 characters, half of them up to 36 (the tokenizer is not on this machine)" in done.stdout


def test_duplicates_columns_of_several_kinds_and_guesses_are_said(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"problem": f"{n} + 1?", "solution": n + 1, "level": n} for n in range(120)]
    rows[7]["level"] = "hard"
    rows[8]["level"] = None
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0], rows[1]]))
    recipe = Recipe.load(task={"name": "dataset", "path": str(path), "limit": 20}, evaluation={"n": 5})
    found = describe_data(recipe)
    assert sum(split.repeated for split in found.splits.values()) == 2
    assert found.notes[0] == "The prompt is column 'problem', the gold answer column 'solution', by their names."
    said = " ".join(found.notes)
    assert f"column 'level' has values of several kinds, 120 number, 1 text, the first text at {path}:8" in said
    assert "task.limit = 20 trains on the first 20 of " in said
    assert "evaluation.n = 5 evaluates on 5 of " in said


def test_held_out_prompts_that_are_trained_on_are_said(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"{n} + 1?", "answer": n + 1}) + "\n" for n in range(60)))
    (note,) = data_notes(load_task("dataset", path=str(path), test_path=str(path), duplicates="keep"))
    assert note.startswith("Warning: 60 training prompts held out as well")


def test_nothing_is_said_of_problems_that_are_as_they_should_be(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} + 1?", "answer": n + 1} for n in range(900)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert data_notes(load_task("dataset", path=str(tmp_path / "a.jsonl"))) == []
    assert data_notes(load_task("word_problems")) == []


@pytest.mark.parametrize("recipe", ["word-problems-tiny", "drawing-tiny"])
def test_problems_of_every_task_are_shown(recipe: str, cli: Callable[..., Any]) -> None:
    done = cli("data", recipe)
    assert done.returncode == 0, done.stderr
    assert "test  " in done.stdout
    assert "tokens" in done.stdout


def test_a_gold_is_shown_as_it_is_read(gsm8k: Path) -> None:
    found = describe_data(Recipe.load("gsm8k-tiny", task={"name": "dataset", "path": str(gsm8k), "seed": 1}))
    assert {name: split.problems for name, split in found.splits.items()} == {"train": 7473, "test": 1319}
    assert all(sample.read_as == sample.answer.replace(",", "") for sample in found.samples)


def test_a_bad_row_is_one_line_before_anything_heavy_is_imported(tmp_path: Path, cli: Callable[..., Any]) -> None:
    """For `data` and for `train`: what takes seconds to import has not been asked for."""
    (tmp_path / "a.csv").write_text("question,answer\n1 + 1?,2\n1 + 2?,three or four\n")
    check(
        cli("data", *OWN, "a.csv").error,
        problem="the gold answer is not one number: 'three or four'",
        place="a.csv:3",
        remedy="write one number",
    )
    code = f"""
import sys
from grpo_colab import Recipe, train
try:
    train(Recipe.load(task={{"name": "dataset", "path": {str(tmp_path / "a.csv")!r}}}))
except ValueError as error:
    print(error)
print([name for name in ("torch", "transformers", "datasets", "unsloth", "numpy") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert f"{tmp_path}/a.csv:3: the gold answer is not one number" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
