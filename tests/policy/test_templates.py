"""A tokenizer that cannot write a prompt or end an answer is refused before the weights are loaded, with a way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe
from grpo_colab.policy.templates import check_prompts, load_tokenizer
from grpo_colab.recipe.recipe import TINY_MODEL

pytestmark = pytest.mark.stack

NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: "
)
TURNS = (
    "{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools') }}{% endif %}"
    "{{ message.role }}: {{ message.content }}\n{% endfor %}assistant: "
)


def model(folder: Path, **changed: Any) -> str:
    """A copy of the tiny model with other settings of its tokenizer; None takes one out."""
    shutil.copytree(TINY_MODEL, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    path = folder / "tokenizer_config.json"
    settings = {**json.loads(path.read_text()), **changed}
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    for name in ("special_tokens_map.json",):
        (folder / name).unlink(missing_ok=True)
    return str(folder)


def check(name: str, **overrides: Any) -> None:
    recipe = Recipe.load(model={"model_name": name}, **overrides)
    task = recipe.load_task()
    check_prompts(recipe, task, task.problems("train", 4), load_tokenizer(recipe))


def test_no_chat_template(tmp_path: Path) -> None:
    name = model(tmp_path / "m", chat_template=None)
    with refused("model.model_name", name, problem="no chat template", remedy="model.chat_template = "):
        check(name)


def test_no_end_token(tmp_path: Path) -> None:
    name = model(tmp_path / "m", chat_template=TURNS, eos_token=None)
    with refused("model.model_name", name, problem="no end token", remedy="eos_token"):
        check(name)


def test_a_template_that_refuses_the_system_message_of_the_task(tmp_path: Path) -> None:
    name = model(tmp_path / "m", chat_template=NO_SYSTEM)
    with refused("task.system_prompt", problem="takes no system message", remedy='task.system_prompt = ""'):
        check(name)
    check(name, task={"system_prompt": ""})


def test_a_template_that_refuses_a_row_names_it(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a?", "answer": 1},
        {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "b?"}], "answer": 1},
        {"prompt": [{"role": "user", "content": "c?"}, {"role": "tool", "content": "1"}], "answer": 1},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"name": "jsonl", "path": str(path), "test_path": str(path), "system_prompt": "", "duplicates": "keep"}
    with refused(problem="refuses the prompt", remedy="take the system message out of the data", place=f"{path}:2"):
        check(model(tmp_path / "m", chat_template=NO_SYSTEM), task=task)
    with refused(problem="no tools", remedy="take another model", place=f"{path}:3"):
        check(model(tmp_path / "n", chat_template=TURNS), task=task)


@pytest.mark.parametrize("preset", ["word-problems-tiny", "drawing-tiny"])
def test_our_own_models_pass(preset: str) -> None:
    recipe = Recipe.load(preset)
    task = recipe.load_task()
    check_prompts(recipe, task, task.problems("train", 4), load_tokenizer(recipe))


def test_a_template_that_leaves_a_message_out_is_refused(tmp_path: Path) -> None:
    name = model(
        tmp_path / "m",
        chat_template="{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
    )
    with refused("task.system_prompt", problem="it leaves out message 1, of the role 'system'", snapshot=False):
        check(name)
    check(name, task={"system_prompt": ""})


def test_what_cannot_be_loaded_is_left_to_the_loader() -> None:
    recipe = Recipe.load(model={"model_name": "no/such"})
    assert load_tokenizer(recipe) is None
    check_prompts(recipe, recipe.load_task(), recipe.load_task().problems("train", 1), None)


@pytest.mark.long
def test_doctor_says_so_and_training_refuses_it_before_the_weights(tmp_path: Path, command: Callable[..., Any]) -> None:
    name = model(tmp_path / "m", chat_template=NO_SYSTEM)
    (tmp_path / "m" / "model.safetensors").write_bytes(b"these are no weights")
    done = command("train", "--model.model_name", name, "--out", "run")
    assert done.returncode == 2
    assert "takes no system message" in done.stderr
    assert "Loading" not in done.stderr
    told = command("doctor", "word-problems-tiny", "--model.model_name", name)
    assert told.returncode == 1
    assert "takes no system message" in told.stdout
    told = command("doctor", "word-problems-tiny", "--model.model_name", name, "--task.system-prompt", "")
    assert "the chat template takes the task's prompts, and answers end" in told.stdout
