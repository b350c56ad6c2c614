"""Recipes resolve and travel as TOML. What they refuse: test_recipe_refusals."""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab import Recipe
from grpo_colab.recipe.reading import PRESETS, preset_names
from grpo_colab.recipe.schema import Text
from grpo_colab.runs.folders import free_path

PRESET_NAMES = {
    "word-problems-tiny",
    "drawing-tiny",
    "drawing-qwen25-coder-0.5b",
    "gsm8k-tiny",
    "gsm8k-llama31-8b",
    "gsm8k-llama31-8b-study",
    "gsm8k-qwen25-0.5b",
    "gsm8k-qwen25-1.5b",
    "one-example-qwen25-math-1.5b",
    "rockets-qwen25-7b",
}


def test_a_command_is_kept_without_its_tokens() -> None:
    words = ["train", "--model.token", "hf_secret", "--grpo.hub_token=hf_other", "--budget.max-steps=3"]
    recipe = Recipe.load(model={"token": "hf_secret"}, grpo={"hub_token": "hf_other"})
    assert recipe.without_tokens(words) == ["train", "--model.token", "...", "...", "--budget.max-steps=3"]
    assert Recipe.load().without_tokens(words) == words


def test_presets_are_there_and_described() -> None:
    assert set(preset_names()) == PRESET_NAMES
    assert all(Recipe.load(name).description for name in preset_names())


@pytest.mark.parametrize("name", sorted(PRESET_NAMES))
def test_a_resolved_recipe_loads_as_itself(name: str, tmp_path: Path) -> None:
    recipe = Recipe.load(name)
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml())
    assert Recipe.load(path) == recipe


def test_the_default_is_the_cpu_one() -> None:
    assert Recipe.load() == Recipe.load("word-problems-tiny")
    assert Recipe.load().model["model_name"] == "tiny"


def test_the_cap_is_250_unless_said_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "bare.toml"
    path.write_text('[task]\nname = "gsm8k"\n[model]\nmodel_name = "tiny"\n[grpo]\nnum_generations = 4\n')
    assert Recipe.load(path).budget.max_steps == 250
    assert Recipe.load(budget={"max_steps": 250}).budget.max_steps == 250
    assert Recipe.load(budget={"max_steps": 251, "uncapped": True}).budget.max_steps == 251


def test_the_study_is_exact() -> None:
    """Every number of the study in the reference: model, adapter, optimiser, batch, prompt, rewards, evaluation."""
    study = Recipe.load("gsm8k-llama31-8b-study")
    expected_model = {
        "max_seq_length": 1024,
        "load_in_4bit": True,
        "fast_inference": True,
        "gpu_memory_utilization": 0.9,
    }
    assert expected_model.items() <= study.model.items()
    assert study.lora["r"] == study.lora["lora_alpha"] == study.model["max_lora_rank"] == 32
    assert len(study.lora["target_modules"]) == 7
    assert study.lora["use_gradient_checkpointing"] == "unsloth"
    assert study.lora["random_state"] == study.model["random_state"] == 3407
    expected_grpo = {
        "learning_rate": 5e-6,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 0.1,
        "adam_beta1": 0.9,
        "adam_beta2": 0.99,
        "weight_decay": 0.001,
        "optim": "paged_adamw_8bit",
        "max_grad_norm": 0.1,
        "num_generations": 8,
        "max_completion_length": 768,
    }
    assert expected_grpo.items() <= study.grpo.items()
    assert (study.budget.max_steps, study.completions_per_step, study.task["max_prompt_tokens"]) == (250, 16, 256)
    assert study.rewards == {
        "exact_answer": 1.0,
        "soft_correctness": 1.0,
        "integer": 0.5,
        "strict_format": 0.5,
        "soft_format": 0.5,
        "tag_count": 0.5,
    }
    lines = study.load_task().system_prompt.strip().splitlines()
    assert lines[0] == "Respond in the following format:"
    assert lines[1:7] == ["<reasoning>", "...", "</reasoning>", "<answer>", "...", "</answer>"]
    assert lines[7:] == [
        "You must put your reasoning between the <reasoning> tags and answer between the <answer> tags."
    ]
    assert study.evaluation.n == 1319 // 2 + 1


def test_the_reference_parametrisations() -> None:
    one = Recipe.load("one-example-qwen25-math-1.5b")
    assert (one.grpo["num_generations"], one.budget.prompts_per_step, one.task["limit"]) == (8, 128, 1)
    assert (one.grpo["learning_rate"], one.grpo["temperature"], one.budget.max_steps) == (1e-6, 0.6, 2000)
    assert Recipe.load("rockets-qwen25-7b").completions_per_step == 64


def test_the_drawing_study_is_exact() -> None:
    study = Recipe.load("drawing-qwen25-coder-0.5b")
    assert study.model["model_name"] == "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    expected = {
        "num_generations": 8,
        "learning_rate": 2e-6,
        "lr_scheduler_type": "constant",
        "temperature": 0.5,
        "top_p": 0.95,
        "max_completion_length": 768,
        "beta": 0.04,
        "loss_type": "grpo",
        "scale_rewards": "group",
    }
    assert expected.items() <= study.grpo.items()
    assert (study.budget.max_steps, study.budget.prompts_per_step, study.budget.stop_at_reward) == (250, 1, 1.0)
    assert (study.task["draws"] if "draws" in study.task else study.load_task().draws) == 5
    assert study.pretraining is not None
    assert study.pretraining.steps == 6000
    assert study.hindsight is not None
    hindsight = study.hindsight
    assert (hindsight.samples, hindsight.temperature, hindsight.cold_samples, hindsight.cold_temperature) == (
        128, 0.9, 8, 0.1,
    )  # fmt: skip
    assert study.sweep == {
        "grpo.learning_rate": [1e-6, 2e-6, 4e-6, 2e-5],
        "grpo.num_generations": [8, 16],
        "hindsight.samples": [128, 256],
    }


def test_tables_of_drawings_are_absent_elsewhere_and_kept_where_they_are(tmp_path: Path) -> None:
    assert not {"hindsight", "pretraining", "sweep"} & set(tomllib.loads(Recipe.load().to_toml()))
    path = tmp_path / "mine.toml"
    path.write_text('preset = "drawing-tiny"\n[hindsight]\nsamples = 7\n[sweep]\n"grpo.beta" = [0.0, 0.1]\n')
    mine, base = Recipe.load(path, hindsight={"method": Text("both")}), Recipe.load("drawing-tiny")
    assert mine.hindsight is not None
    assert base.hindsight is not None
    assert mine.hindsight == base.hindsight.model_copy(update={"samples": 7, "method": "both"})
    assert mine.sweep == {"grpo.beta": [0.0, 0.1]}
    assert tomllib.loads(mine.to_toml())["sweep"] == mine.sweep


def test_an_image_file_is_kept_in_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("1 2 3\n4 5 6\n")
    recipe = Recipe.load("drawing-tiny", task={"image": str(tmp_path / "mine.txt")})
    (tmp_path / "mine.txt").unlink()
    (tmp_path / "recipe.toml").write_text(recipe.to_toml())
    assert Recipe.load(tmp_path / "recipe.toml").load_task().problems("test")[0].answer == "123\n456"


def test_a_seed_reaches_everything_that_draws() -> None:
    recipe = Recipe.load(grpo={"seed": 7})
    assert (recipe.grpo["seed"], recipe.task["seed"], recipe.lora["random_state"]) == (7, 7, 7)
    assert Recipe.load(grpo={"seed": 7}, task={"seed": 1}).task["seed"] == 1
    llama = Recipe.load("gsm8k-llama31-8b", grpo={"seed": 7})
    assert (llama.task["seed"], llama.lora["random_state"]) == (7, 7)
    assert Recipe.load("gsm8k-llama31-8b").lora["random_state"] == 3407


def test_a_file_starts_from_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'preset = "gsm8k-tiny"\n[grpo]\nlearning_rate = 1e-4\n[rewards]\ninteger = false\ncorrectness = 1\n'
    )
    mine, base = Recipe.load(path), Recipe.load("gsm8k-tiny")
    assert mine.name == "mine"
    assert mine.grpo == base.grpo | {"learning_rate": 1e-4}
    assert mine.rewards == {**{k: v for k, v in base.rewards.items() if k != "integer"}, "correctness": 1.0}
    assert Recipe.load(path, grpo={"learning_rate": 2e-4}).grpo["learning_rate"] == 2e-4


def test_one_reward_under_two_spellings_is_one_reward(tmp_path: Path) -> None:
    assert Recipe.load(rewards={"correctness_reward": 1.0}).rewards["correctness"] == 1.0
    (tmp_path / "mine.py").write_text("def correctness_reward(completions, **kwargs):\n    return []\n")
    name = f"{tmp_path}/mine.py:correctness_reward"
    problem = "would be logged as 'correctness', as correctness is"
    with refused(f"rewards.{name}", problem=problem, remedy="rename one"):
        Recipe.load(rewards={name: 1.0})


def test_none_leaves_a_setting_to_the_library() -> None:
    recipe = Recipe.load(
        model={"dtype": None}, grpo={"top_p": None, "epsilon_high": None}, task={"system_prompt": None}
    )
    assert "dtype" not in recipe.model
    assert "top_p" not in recipe.grpo
    assert recipe.grpo["epsilon_high"] == 0.2  # TRL's own, which Unsloth's trainer would not take


def test_a_weight_of_nought_is_logged_without_rewarding() -> None:
    assert Recipe.load(rewards={"integer": 0}).rewards["integer"] == 0.0


def test_paths_are_absolute_in_a_resolved_recipe(gsm8k: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(gsm8k.parent)
    path = Path(Recipe.load("gsm8k-tiny", task={"path": "gsm8k"}).task["path"])
    assert path.is_absolute()
    assert path.samefile(gsm8k)


@pytest.mark.parametrize(
    ("setting", "text", "value"),
    [
        ("grpo.learning_rate", "1e-5", 1e-5),
        ("grpo.num_generations", "4", 4),
        ("grpo.warmup_steps", "0", 0.0),
        ("grpo.lr_scheduler_type", "cosine", "cosine"),
        ("model.load_in_4bit", "true", True),
        ("model.model_name", "unsloth/Qwen2.5-7B", "unsloth/Qwen2.5-7B"),
        ("lora.target_modules", '["q_proj", "v_proj"]', ["q_proj", "v_proj"]),
        ("lora.use_gradient_checkpointing", "unsloth", "unsloth"),
        ("lora.use_gradient_checkpointing", "false", False),
        ("task.system_prompt", "12", "12"),
        ("model.revision", "main", "main"),
        ("model.revision", "12e4567", "12e4567"),
        ("model.revision", "1234567", "1234567"),
        ("model.load_in_fp8", "block", "block"),
        ("grpo.lr_scheduler_type", "cosine_with_restarts", "cosine_with_restarts"),
    ],
)
def test_text_from_the_command_line_gets_its_settings_type(setting: str, text: str, value: object) -> None:
    table, key = setting.split(".")
    read = getattr(Recipe.load(**{table: {key: Text(text)}}), table)[key]
    assert read == value
    assert type(read) is type(value)


def test_every_preset_is_a_file_that_says_its_model() -> None:
    assert len(list(PRESETS.glob("*.toml"))) == len(PRESET_NAMES)
    assert Recipe.load("gsm8k-llama31-8b").model["model_name"] == "unsloth/meta-Llama-3.1-8B-Instruct"
    assert Recipe.load("gsm8k-qwen25-1.5b").model["fast_inference"] is False


PROBLEM = '{"prompt": "What is 1 + 1?", "answer": "2"}\n'


@pytest.mark.parametrize(
    ("source", "file", "name"),
    [
        ("gsm8k-tiny", "mine.jsonl", "gsm8k-tiny-mine"),
        ("gsm8k-tiny", "my own (2).jsonl", "gsm8k-tiny-my-own-2"),
        ("gsm8k-tiny", "...jsonl", "gsm8k-tiny-jsonl"),
        ("word-problems-tiny", "ä" * 120 + ".jsonl", "word-problems-tiny-" + "ä" * 65),  # 150 bytes at most
        ("hers.toml", "mine.jsonl", "hers"),
        ("named.toml", "mine.jsonl", "her own"),
    ],
)
def test_a_preset_with_data_of_one_s_own_is_named_after_both(
    source: str, file: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder, title and recipe.toml have the recipe's name: it must not say gsm8k of other data."""
    monkeypatch.chdir(tmp_path)
    Path(file).write_text(PROBLEM * 2)
    Path("hers.toml").write_text('preset = "gsm8k-tiny"\n')
    Path("named.toml").write_text('preset = "gsm8k-tiny"\nname = "her own"\n')
    recipe = Recipe.load(source, task={"name": "jsonl", "path": file})
    assert recipe.name == name
    assert recipe.description == ""
    assert free_path(recipe).name == f"{datetime.date.today()}-{name}"
    Path("recipe.toml").write_text(recipe.to_toml())
    again = Recipe.load("recipe.toml", task={"path": file})  # as a resumed run is read
    assert again.name == name


def test_the_same_data_from_elsewhere_keeps_the_preset_s_name(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text('{"question": "1 + 1?", "answer": "#### 2"}\n')
    assert Recipe.load("gsm8k-tiny", task={"path": str(tmp_path)}).name == "gsm8k-tiny"
    assert Recipe.load("word-problems-tiny", task={"limit": 8, "seed": 3}).name == "word-problems-tiny"
    assert Recipe.load("gsm8k-tiny", task={"name": "word_problems"}).name == "gsm8k-tiny-word_problems"


def test_shorter_completions_than_a_preset_allows_need_no_second_setting(tmp_path: Path) -> None:
    """A preset's own budget.min_completion_length gives way; what the same person wrote is compared."""
    assert Recipe.load("gsm8k-qwen25-1.5b").budget.min_completion_length == 512
    shorter = Recipe.load("gsm8k-qwen25-1.5b", grpo={"max_completion_length": 200})
    assert shorter.budget.min_completion_length == 200
    by_command = Recipe.load("gsm8k-qwen25-1.5b", grpo={"max_completion_length": Text("200")})
    assert by_command.budget.min_completion_length == 200
    (tmp_path / "mine.toml").write_text('preset = "gsm8k-qwen25-1.5b"\n[grpo]\nmax_completion_length = 100\n')
    assert Recipe.load(tmp_path / "mine.toml").budget.min_completion_length == 100
    assert Recipe.load(tmp_path / "mine.toml", grpo={"max_completion_length": 300}).budget.min_completion_length == 100
    with refused("budget.min_completion_length", 512, problem="more than grpo.max_completion_length = 200"):
        Recipe.load("gsm8k-tiny", grpo={"max_completion_length": 200}, budget={"min_completion_length": 512})


def test_what_trl_takes_for_what_is_left_out_is_written(tmp_path: Path) -> None:
    """Else Unsloth's trainer would take something else on a GPU. Whatever a recipe says stays."""
    (tmp_path / "short.toml").write_text(
        '[task]\nname = "word_problems"\n[model]\nmodel_name = "tiny"\n[grpo]\nnum_generations = 4\nepsilon = 0.3\n'
    )
    short = Recipe.load(tmp_path / "short.toml")
    assert {
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "loss_type": "dapo",
        "epsilon_high": 0.3,
    }.items() <= short.grpo.items()
    own = Recipe.load(tmp_path / "short.toml", grpo={"weight_decay": 0.5, "epsilon_high": 0.28})
    assert (own.grpo["weight_decay"], own.grpo["epsilon_high"]) == (0.5, 0.28)
    assert "warmup_steps = 0" in short.to_toml()
