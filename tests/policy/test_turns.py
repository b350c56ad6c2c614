"""What ends a turn in a model's chat template ends an answer: in training, evaluation, questions, and what is saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe, Run, train
from grpo_colab.policy.asking import Asking
from grpo_colab.policy.loading import load_policy
from grpo_colab.policy.templates import check_tokenizer, load_tokenizer, with_chat_template
from grpo_colab.policy.turns import ends_of_turn
from grpo_colab.recipe.recipe import TINY_MODEL
from grpo_colab.runs.records import repeatable
from grpo_colab.utils.device import current_device

pytestmark = pytest.mark.stack

LLAMA = (TINY_MODEL / "chat_template.jinja").read_text()
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SHORT: dict[str, Any] = {
    "task": {"limit": 32},
    "budget": {"max_steps": 2, "prompts_per_step": 2, "rehearsal": False},
    "grpo": {"num_generations": 4, "max_completion_length": 48, "save_steps": 1},
    "evaluation": {"n": 8},
}
# What TRL's copies of the models' own templates end a turn in, by the beginning of the file's name.
ENDS = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "cohere2": "<|END_RESPONSE|>",
    "deepseek": "<｜end▁of▁sentence｜>",
    "gemma": "<end_of_turn>",
    "gemma4": "<turn|>",
    "glm4moe": "<|user|>",
    "gptoss": "<|return|>",
    "lfm2": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "nemotron": "<|im_end|>",
    "phi3": "<|end|>",
    "qwen": "<|im_end|>",
}


def model(folder: Path, template: str = LLAMA, ends: Any = "as declared", **tokens: str | None) -> Path:
    """A copy of the tiny model with other tokens of its tokenizer, and other `ends` in its generation configuration."""
    shutil.copytree(TINY_MODEL, folder)
    (folder / "chat_template.jinja").write_text(template)
    path = folder / "tokenizer_config.json"
    settings = {**json.loads(path.read_text()), **tokens}
    path.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))
    if ends != "as declared":
        for name in ("generation_config.json", "config.json"):
            file = folder / name
            file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": ends}))
    return folder


def recipe_of(folder: Path, **overrides: Any) -> Recipe:
    return Recipe.load(**{**SHORT, **overrides}, model={"model_name": str(folder), "dtype": "float32"})


def tokenizer_with(*marks: str) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY_MODEL)
    tokenizer.add_special_tokens({"additional_special_tokens": list(marks)})
    return tokenizer


def first_end(tokenizer: Any, template: str) -> str:
    tokenizer.chat_template = template
    return tokenizer.convert_ids_to_tokens(ends_of_turn(tokenizer, Asking())[0])


def test_it_is_found_in_the_templates_of_many_models() -> None:
    import trl

    tokenizer = tokenizer_with(*ENDS.values())
    found = {}
    for file in sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja")):
        families = [name for name in ENDS if file.name.startswith(name)]
        if families and "_vl" not in file.name and not file.stem.endswith("_training"):
            family = max(families, key=len)
            found[file.name] = (first_end(tokenizer, file.read_text()), ENDS[family])
    assert len(found) >= 20
    assert {name: pair for name, pair in found.items() if pair[0] != pair[1]} == {}


def test_it_is_the_stop_word_that_unsloth_names() -> None:
    from grpo_colab.utils.stack import import_unsloth

    import_unsloth()
    from unsloth.chat_templates import CHAT_TEMPLATES

    named = {name: (one[0], one[1]) for name, one in CHAT_TEMPLATES.items() if isinstance(one[1], str)}
    tokenizer = tokenizer_with(*{stop for _, stop in named.values()} - {"eos_token"}, "<|end_of_turn|>")
    differ = {}
    for name, (template, stop) in named.items():
        expected = stop
        if stop == "eos_token":  # whichever the model has: these templates write it, or Llama's and Qwen's own
            expected = "<|im_end|>" if "qwen" in name else "<|eot_id|>"
        if name != "yi-chat" and first_end(tokenizer, template) != expected:  # Yi's is ChatML, by the template
            differ[name] = (first_end(tokenizer, template), expected)
    assert len(named) >= 40
    assert differ == {}


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("right")
    return train(recipe_of(model(folder / "model")), out=folder / "run")


@pytest.mark.parametrize(
    "wrong",
    [
        {"eos_token": "<|begin_of_text|>", "ends": 0},
        pytest.param({"eos_token": "<|end_of_text|>"}, marks=pytest.mark.long),
        {"eos_token": None},
        pytest.param({"ends": [1]}, marks=pytest.mark.long),
        pytest.param({"pad_token": None}, marks=pytest.mark.long),
        {"pad_token": "<|eot_id|>"},
    ],
    ids=["another-everywhere", "another-of-the-tokenizer", "none", "not-declared", "no-pad", "pad-is-the-end"],
)
def test_a_model_that_names_other_tokens_trains_as_if_it_named_the_right_ones(
    wrong: dict[str, Any], right: Run, tmp_path: Path
) -> None:
    run = train(recipe_of(model(tmp_path / "model", **wrong)), out=tmp_path / "run")
    ended = [row["completion"] for row in right.completions()]
    assert [row["completion"] for row in run.completions()] == ended
    assert repeatable(run.metrics()) == repeatable(right.metrics())
    assert right.metrics()[0]["completions/clipped_ratio"] < 1  # or nothing would show that an answer ends
    assert run.answers("evaluation-after.jsonl") == right.answers("evaluation-after.jsonl")
    for folder in (run.adapter, run.checkpoints / "checkpoint-2"):
        assert json.loads((folder / "tokenizer_config.json").read_text())["eos_token"] == "<|eot_id|>"


def test_it_is_said_once_and_not_where_all_agree(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    device = current_device()
    load_policy(recipe_of(model(tmp_path / "wrong", eos_token="<|end_of_text|>", ends=1)), device)
    said = capfd.readouterr().err
    assert said.count("An answer ends with <|eot_id|>, as the turns of the chat template do; the tokenizer named ") == 1
    assert "<|end_of_text|>." in said
    load_policy(recipe_of(TINY_MODEL), device)
    assert "An answer ends" not in capfd.readouterr().err


def test_every_end_that_was_declared_stays_one(tmp_path: Path) -> None:
    """A base model with a borrowed template often ends its text by its own token, and not by the template's."""
    from transformers import AutoTokenizer

    folder = model(tmp_path / "base", eos_token="<|end_of_text|>", ends=1)
    policy = load_policy(recipe_of(folder), current_device())
    tokens = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(["<|eot_id|>", "<|end_of_text|>"])
    assert policy.model.generation_config.eos_token_id == tokens
    assert policy.tokenizer.eos_token_id == policy.model.config.eos_token_id == tokens[0]
    assert policy.tokenizer.pad_token_id == policy.model.generation_config.pad_token_id


def test_a_pad_token_of_its_own_is_taken_where_there_is_one(tmp_path: Path) -> None:
    """Unsloth's trainer takes every pad token for padding, also one that ends a message within the prompt."""
    policy = load_policy(recipe_of(model(tmp_path / "m", pad_token="<|eot_id|>")), current_device())
    assert policy.tokenizer.pad_token == "<|pad|>"


def test_turns_that_end_in_what_is_no_token_are_refused(tmp_path: Path) -> None:
    template = tmp_path / "chatml.jinja"
    template.write_text(CHATML)
    borrowed = Recipe.load(model={"chat_template": str(template)})
    with refused("model.chat_template", problem="'<|im_end|>', which is no token", remedy="turns in '<|eot_id|>'"):
        check_tokenizer(borrowed, with_chat_template(borrowed, load_tokenizer(borrowed)))
    own = recipe_of(model(tmp_path / "m", CHATML))
    with refused("model.model_name", problem="'<|im_end|>', which is no token", remedy="model.chat_template"):
        check_tokenizer(own, load_tokenizer(own))


@pytest.mark.parametrize(
    ("template", "begins", "ends"),
    [
        (
            LLAMA.replace(
                "{% for message",
                "{% if messages[0].role != 'system' %}<|start_header_id|>system<|end_header_id|>\n\n"
                "You are helpful.<|eot_id|>{% endif %}{% for message",
                1,
            ),
            "You are helpful.",
            "",
        ),
        (LLAMA.replace("assistant<|end_header_id|>\n\n", "assistant<|end_header_id|>\n\n<think>\n"), "", "<think>\n"),
    ],
    ids=["default-system-message", "opens-think"],
)
def test_a_template_that_writes_more_than_it_is_given_trains(
    template: str, begins: str, ends: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(model(tmp_path / "m", template), task={"limit": 32, "system_prompt": ""})
    run = train(recipe, out=tmp_path / "run")
    assert ("The chat template opens <think> itself" in capfd.readouterr().err) is bool(ends)
    policy = load_policy(run.recipe, current_device(), run.adapter)
    prompt = policy.prompt_text([{"role": "user", "content": "What is 3 + 4?"}])
    assert begins in prompt
    assert prompt.endswith(ends)
    assert max(abs(weights).max() for name, weights in policy.model.named_parameters() if "lora_B" in name) > 0
