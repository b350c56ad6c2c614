"""What cannot work in a recipe is refused before anything starts: with the setting, its value, and the way out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from refusals import ANY, refused

from grpo_colab import Recipe
from grpo_colab.errors import SettingError
from grpo_colab.recipe.recipe import DEFAULT_PRESET
from grpo_colab.recipe.schema import Text

# These name what is not there, or what may open something: the value is not told.
ABSENT = ("is missing", "no such table", "no such setting", "there is no reward", "does not import")


def check_value(error: SettingError, overrides: Mapping[str, Any]) -> None:
    """The value is the one of the first setting."""
    if any(words in error.problem for words in ABSENT):
        assert not error.has_value
    else:
        [*values] = next(iter(overrides.values())).values()
        assert error.value == values[0]


BAD_DRAWINGS: list[tuple[Mapping[str, Any], str, Mapping[str, str]]] = [
    ({"hindsight": {"method": "hers"}}, "hindsight.method", {"remedy": "'grpo', 'her' or 'both'"}),
    ({"hindsight": {"sample": 8}}, "hindsight.sample", {"remedy": "'samples'"}),
    ({"hindsight": {"samples": 0}}, "hindsight.samples", {"remedy": "1 or more"}),
    (
        {"pretraining": {"micro_batch": 3, "batch_size": 8}},
        "pretraining.micro_batch",
        {"problem": "does not divide pretraining.batch_size = 8"},
    ),
    ({"sweep": {"learning_rate": [1e-6]}}, "sweep.learning_rate", {"remedy": '"table.setting"'}),
    ({"sweep": {"grpo.learning_rate": 1e-6}}, "sweep.grpo.learning_rate", {"remedy": "[value, ...]"}),
    ({"task": {"image": "12-sqares"}}, "task.image", {"remedy": "'12-squares'"}),
    ({"task": {"language": "python"}}, "task.language", {"problem": "'tiny-drawing' was made for 'compact'"}),
    (
        {"task": {"image": "30-squares"}},
        "task.image",
        {"problem": "has sides of 12, and model.model_name = 'tiny-drawing' was made for 10 at most"},
    ),
    ({"task": {"max_side": 20, "image": "random"}}, "task.max_side", {"problem": "has sides of 20"}),
    ({"budget": {"stop_at_reward": "high"}}, "budget.stop_at_reward", {"remedy": "a number"}),
]


@pytest.mark.parametrize(
    ("overrides", "setting", "said"), BAD_DRAWINGS, ids=[str(overrides) for overrides, *_ in BAD_DRAWINGS]
)
def test_a_drawing_that_cannot_work_is_refused(
    overrides: Mapping[str, Any], setting: str, said: Mapping[str, str]
) -> None:
    with refused(setting, **said) as caught:
        Recipe.load("drawing-tiny", **overrides)
    check_value(caught.value, overrides)


def test_a_drawing_needs_a_model_of_its_language() -> None:
    with refused("task.language", "compact", problem="'tiny' was made for 'python'"):
        Recipe.load("drawing-tiny", model={"model_name": "tiny"})


def test_only_drawings_have_the_table_of_hindsight() -> None:
    with refused("[hindsight]", problem="is for drawing tasks", remedy='task.name = "drawing"'):
        Recipe.load(hindsight={})


# What was set, the setting that the refusal names, and what it says of it.
BAD: list[tuple[Mapping[str, Any], str, Mapping[str, str]]] = [
    (
        {"grpo": {"learning_rat": 1e-5}},
        "grpo.learning_rat",
        {"problem": "GRPOConfig has no such argument", "remedy": "'learning_rate'"},
    ),
    ({"grpo": {"learning_rate": "fast"}}, "grpo.learning_rate", {"remedy": "a number"}),
    ({"grpo": {"learning_rate": Text("fast")}}, "grpo.learning_rate", {"remedy": "a number"}),
    ({"grpo": {"num_generations": 1}}, "grpo.num_generations", {"problem": "a group of one", "remedy": "2 or more"}),
    ({"grpo": {"num_generations": True}}, "grpo.num_generations", {"remedy": "a whole number"}),
    ({"grpo": {"max_steps": 10}}, "grpo.max_steps", {"remedy": "write budget.max_steps = 10"}),
    ({"grpo": {"max_prompt_length": 256}}, "grpo.max_prompt_length", {"remedy": "write task.max_prompt_tokens = 256"}),
    (
        {"grpo": {"per_device_train_batch_size": 8}},
        "grpo.per_device_train_batch_size",
        {"remedy": "set budget.micro_batch instead"},
    ),
    ({"grpo": {"reward_weights": [1.0]}}, "grpo.reward_weights", {"remedy": "[rewards]"}),
    ({"model": {"load_in_4bits": True}}, "model.load_in_4bits", {"remedy": "'load_in_4bit'"}),
    ({"model": {"load_in_4bit": "yes"}}, "model.load_in_4bit", {"remedy": "true or false"}),
    ({"lora": {"rr": 8}}, "lora.rr", {"problem": "get_peft_model has no such argument"}),
    ({"lora": {"bias": "some"}}, "lora.bias", {"remedy": "'none', 'all' or 'lora_only'"}),
    (
        {"model": {"max_seq_length": 200}},
        "model.max_seq_length",
        {"problem": "= 208 do not fit", "remedy": "write 208 or more"},
    ),
    (
        {"budget": {"max_steps": 251}},
        "budget.max_steps",
        {"remedy": "write 250 or fewer, or budget.uncapped = true"},
    ),
    ({"budget": {"max_steps": 0}}, "budget.max_steps", {"remedy": "1 or more"}),
    ({"budget": {"mirror": "hf://mine"}}, "budget.mirror", {"remedy": "write hf://user/repository, or a folder"}),
    (
        {"budget": {"min_completion_length": 300}},
        "budget.min_completion_length",
        {"problem": "more than grpo.max_completion_length = 48", "remedy": "write 48 or less"},
    ),
    ({"budget": {"max_stepz": 5}}, "budget.max_stepz", {"remedy": "'max_steps'"}),
    ({"budget": {"max_steps": 2.5}}, "budget.max_steps", {"remedy": "a whole number"}),
    ({"evaluation": {"split": "validation"}}, "evaluation.split", {"remedy": "'train' or 'test'"}),
    ({"task": {"name": "gsm9k"}}, "task.name", {"problem": "no such task", "remedy": "'gsm8k'"}),
    ({"task": {"path": "/nowhere"}}, "task.path", {"problem": "the task 'word_problems' has no such setting"}),
    ({"task": {"path": "/nowhere", "name": "gsm8k"}}, "task.path", {"problem": "no train.jsonl there"}),
    ({"task": {"path": "/nowhere.jsonl", "name": "jsonl"}}, "task.path", {"problem": "there is no such file"}),
    ({"rewards": {"corectness": 1.0}}, "rewards.corectness", {"remedy": "'correctness'"}),
    ({"rewards": {"no_such_module.reward": 1.0}}, "rewards.no_such_module.reward", {"problem": "'no_such_module'"}),
    ({"rewards": {"correctness": "high"}}, "rewards.correctness", {"remedy": "a number"}),
    ({"rewards": {"correctness": float("inf")}}, "rewards.correctness", {"remedy": "a finite weight, or false"}),
    ({"rewards": {"correctness": True}}, "rewards.correctness", {"remedy": "a finite weight, or false"}),
    ({"grpo": {"eval_strategy": "steps"}}, "grpo.eval_strategy", {"remedy": "set [evaluation]"}),
    ({"grpo": {"loss_type": "dapoo"}}, "grpo.loss_type", {"problem": "TRL knows no such value", "remedy": "'dapo'"}),
    ({"grpo": {"temperature": 0.0}}, "grpo.temperature", {"remedy": "above 0"}),
    ({"grpo": {"num_generations": None}}, "grpo.num_generations", {"problem": "is missing", "remedy": "2 or more"}),
    ({"reward": {"correctness": 1.0}}, "reward", {"problem": "no such table", "remedy": "'rewards'"}),
]


@pytest.mark.parametrize(("overrides", "setting", "said"), BAD, ids=[str(overrides) for overrides, *_ in BAD])
def test_what_cannot_work_is_refused_in_one_or_two_lines(
    overrides: Mapping[str, Any], setting: str, said: Mapping[str, str]
) -> None:
    with refused(setting, **said) as caught:
        Recipe.load(**overrides)
    assert len(str(caught.value).splitlines()) <= 2
    check_value(caught.value, overrides)


def test_a_value_that_toml_cannot_hold_is_refused() -> None:
    with refused(None, problem="a value that TOML cannot hold", place=f"recipe {DEFAULT_PRESET!r}"):
        Recipe.load(model={"dtype": object()})


def test_what_only_an_import_can_tell_is_told_where_the_rewards_are_imported() -> None:
    recipe = Recipe.load(rewards={"json.dumps": 1.0})
    with refused("rewards.json.dumps", problem="dumps needs a column 'obj'", remedy="the columns are answer"):
        recipe.check_rewards(["answer"])


@pytest.mark.parametrize(
    ("settings", "setting", "value"),
    [
        ("max_len=0", "max_len", 0),
        ("max_len=True", "max_len", True),
        ("max_len=9, max_value_wrong=2.0", "max_value_wrong", 2.0),
    ],
)
def test_a_setting_of_a_reward_is_named_beside_the_reward(settings: str, setting: str, value: Any) -> None:
    name = f"cosine_scaled({settings})"
    with refused(setting, value, remedy="a number of", place=f"rewards.{name}"):
        Recipe.load(rewards={name: 1.0})


def test_a_file_that_parses_and_does_not_compile(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("def my_reward(completions, completions, **kwargs):\n    return []\n")
    with refused(f"rewards.{own}:my_reward", problem="duplicate argument 'completions'", snapshot=False):
        Recipe.load(rewards={f"{own}:my_reward": 1.0})


def test_a_name_that_ends_twice_is_the_key_of_the_one_that_ends_once(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("def correctness_reward_reward(completions, **kwargs):\n    return []\n")
    name = f"{own}:correctness_reward_reward"
    with refused(f"rewards.{name}", problem="'correctness'", remedy="rename one", snapshot=False):
        Recipe.load(rewards={"correctness": 1.0, name: 1.0})


BAD_FILES: list[tuple[str, str, Any, Mapping[str, str]]] = [
    ("[grpo\n", "recipe", "bad.toml", {"problem": "not TOML"}),
    ("[model]\nmodel_nam = 'tiny'\n", "model.model_nam", "tiny", {"remedy": "did you mean 'model_name'"}),
    (
        'preset = "gsm8k-tinny"\n',
        "preset",
        "gsm8k-tinny",
        {"problem": "no such preset", "remedy": "'gsm8k-tiny'", "place": "bad.toml"},
    ),
    (
        'preset = "gsm8k-tiny"\n[grp]\nseed = 1\n',
        "grp",
        ANY,
        {"problem": "no such table", "remedy": "'grpo'", "place": "bad.toml"},
    ),
    ('preset = "gsm8k-tiny"\ngrpo = 3\n', "grpo", 3, {"problem": "must be a table", "place": "bad.toml"}),
    ('[task]\nname = "gsm8k"\n', "model.model_name", ANY, {"problem": "is missing"}),
    ("", "task.name", ANY, {"problem": "is missing", "remedy": "gsm8k"}),
    ("name = 3\n", "name", 3, {"problem": "must be a text", "place": "bad.toml"}),
    ('name = "a/b"\n', "name", "a/b", {"remedy": "a plain file name", "place": "bad.toml"}),
    ("preset = 3\n", "preset", 3, {"problem": "must be a text", "place": "bad.toml"}),
    ('preset = "bad.toml"\n', "preset", "bad.toml", {"problem": "starts from itself", "place": "bad.toml"}),
    ('preset = "absent.toml"\n', "preset", "absent.toml", {"problem": "cannot read it", "place": "bad.toml"}),
    (
        '[task]\nname = ["x"]\n[model]\nmodel_name = "tiny"\n[grpo]\nnum_generations = 4\n',
        "task.name",
        ["x"],
        {"remedy": "a text"},
    ),
    (
        'preset = "gsm8k-tiny"\n[model]\ntoken = "hf_x"\n',
        "model.token",
        ANY,
        {"problem": "is a secret", "remedy": "HF_TOKEN", "place": "bad.toml"},
    ),
]


@pytest.mark.parametrize(
    ("text", "setting", "value", "said"), BAD_FILES, ids=[" ".join(text.split()) for text, *_ in BAD_FILES]
)
def test_a_bad_file_is_refused(
    text: str, setting: str, value: Any, said: Mapping[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text(text)
    with refused(setting, value, **said):
        Recipe.load("bad.toml")


def test_an_unknown_recipe_names_the_nearest(tmp_path: Path) -> None:
    with refused("recipe", "gsm8k-llama", problem="no such preset", remedy="'gsm8k-llama31-8b'", place=None):
        Recipe.load("gsm8k-llama")
    path = tmp_path / "absent.toml"
    with refused("recipe", str(path), problem="cannot read it (No such file or directory)"):
        Recipe.load(path)


@pytest.mark.parametrize("name", ["x" * 151, "../out", "a/b", "", "a\nb", "a\u001b[2J"])
def test_a_recipes_name_names_a_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(f'preset = "gsm8k-tiny"\nname = {json.dumps(name)}\n')
    with refused("name", name, place="mine.toml"):
        Recipe.load(tmp_path / "mine.toml")


def test_a_value_that_is_no_utf8_is_refused_before_it_is_kept() -> None:
    """As a shell hands it on from a file's name of another encoding."""
    with refused(None, problem='system_prompt = "answer \\udcff"', remedy="write it anew"):
        Recipe.load(task={"system_prompt": "answer \udcff"})


@pytest.mark.parametrize("name", ["/nowhere", "./nowhere", "~/nowhere/at-all", "a/b/c", "models\\mine"])
def test_a_model_s_folder_that_is_not_there(name: str) -> None:
    """What can only be a path is never asked for at the hub, whose error would say something about the network."""
    with refused("model.model_name", name, problem="there is no such folder", remedy="as owner/model"):
        Recipe.load(model={"model_name": name})


def test_a_run_s_own_recipe_is_read_where_its_model_is_gone(tmp_path: Path) -> None:
    """A report and a map of the problems need no model; to go on with the run is refused by whoever loads it."""
    folder = tmp_path / "model"
    folder.mkdir()
    text = Recipe.load(model={"model_name": str(folder)}).to_toml()
    folder.rmdir()
    for name in ("recipe.toml", "mine.toml"):
        (tmp_path / name).write_text(text)
    assert Recipe.load(tmp_path / "recipe.toml").model["model_name"] == str(folder)
    with refused("model.model_name", str(folder), problem="there is no such folder"):
        Recipe.load(tmp_path / "mine.toml")


def test_a_file_without_a_preset_says_what_to_write(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[budget]\nmax_steps = 5\n")
    with refused("task.name", place="mine.toml", remedy='write preset = "word-problems-tiny" in its first line'):
        Recipe.load(file)
    (tmp_path / "over.toml").write_text(f'preset = "{file}"\n')
    with refused("task.name", place="mine.toml", remedy="or name a task: gsm8k, word_problems, dataset"):
        Recipe.load(tmp_path / "over.toml")
    file.write_text('preset = "word-problems-tiny"\n' + file.read_text())
    assert Recipe.load(file).budget.max_steps == 5
