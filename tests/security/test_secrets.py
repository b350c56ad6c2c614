"""A token is never written: what opens something is in no file, no log and no child that does not need it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.errors import SettingError, one_line
from grpo_colab.runs.environment import environment
from grpo_colab.training.tracking import public_config
from grpo_colab.training.trainer import grpo_arguments
from grpo_colab.utils.device import current_device

TOKEN = "hf_" + "abcdefghij" * 3


@pytest.mark.parametrize(
    ("table", "setting"),
    [
        (f"[model]\ntoken = '{TOKEN}'", "model.token"),
        ("[model]\ntoken = 'short'", "model.token"),
        (f"[grpo]\nhub_token = '{TOKEN}'", "grpo.hub_token"),
        (f"[grpo]\nmodel_init_kwargs = {{token = '{TOKEN}'}}", "grpo.model_init_kwargs.token"),
        (f'[grpo]\nmodel_init_kwargs = \'{{"token": "{TOKEN}"}}\'', "grpo.model_init_kwargs.token"),
        ("[grpo]\nvllm_server_base_url = 'http://me:pass@host:8000'", "grpo.vllm_server_base_url"),
        ("[grpo]\nvllm_server_base_url = 'http://host:8000/?api_key=abc'", "grpo.vllm_server_base_url"),
        (f"[grpo]\nmodel_init_kwargs = {{x = ['{TOKEN}']}}", "grpo.model_init_kwargs.x"),
        ("[grpo]\nmodel_init_kwargs = {token = ['word']}", "grpo.model_init_kwargs.token"),
        ("[grpo]\nmodel_init_kwargs = {auth = {value = 'word'}}", "grpo.model_init_kwargs.auth.value"),
        ('[grpo]\nmodel_init_kwargs = \'[{"token": "word"}]\'', "grpo.model_init_kwargs.token"),
        (f"[lora]\ntarget_modules = ['{TOKEN}']", "lora.target_modules"),
    ],
)
def test_a_file_that_holds_one_is_refused_with_what_to_do(table: str, setting: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'preset = "word-problems-tiny"\n{table}\n')
    with refused(
        setting, remedy="set HF_TOKEN in the environment, or run `hf auth login`", place="mine.toml"
    ) as caught:
        Recipe.load(path)
    assert not caught.value.has_value
    assert TOKEN not in str(caught.value)
    assert "pass@" not in str(caught.value)


def test_what_only_sounds_like_one_is_a_setting(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('preset = "word-problems-tiny"\n[model]\ntoken = ""\n[rewards]\ncorrectness = 1.0\n')
    assert Recipe.load(path).rewards["correctness"] == 1.0


def test_one_that_is_given_to_a_call_is_used_and_not_written(tmp_path: Path) -> None:
    nested = {"token": TOKEN, "torch_dtype": "float32"}
    recipe = Recipe.load(model={"token": TOKEN}, grpo={"hub_token": TOKEN, "model_init_kwargs": nested})
    assert recipe.model["token"] == TOKEN  # as the loader gets it
    run = Run.create(recipe, tmp_path / "run")
    arguments = grpo_arguments(recipe, run.checkpoints, _shape(), current_device())
    for written in (run.path.joinpath("recipe.toml").read_text(), public_config(recipe), recipe.public(), arguments):
        assert TOKEN not in str(written)
    assert tomllib.loads(recipe.to_toml())["grpo"]["model_init_kwargs"] == {"torch_dtype": "float32"}
    # without it, from the environment, it is the same run
    assert run.recipe == recipe
    assert run.recipe.repeats(recipe)
    assert recipe.repeats(run.recipe)


class _shape:
    """The numbers of a step, of which nothing is asked here."""

    def as_grpo(self) -> dict[str, int]:
        return {}


def test_a_command_is_kept_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.load(model={"token": "a-word-of-no-known-form"}, grpo={"hub_token": TOKEN})
    words = ["train", "--model.token=a-word-of-no-known-form", "--grpo.hub-token", TOKEN, "hf_" + "z" * 30]
    monkeypatch.setattr("sys.argv", [*words, "https://me:pass@host", "--budget.max-steps=3"])
    kept = environment(recipe, current_device())["command"]
    assert kept == ["train", "...", "--grpo.hub-token", "...", "hf_...", "https://...@host", "--budget.max-steps=3"]


def test_an_error_is_told_without_them() -> None:
    error = OSError(f"https://me:pass@host/x?token=abc\nrefused {TOKEN}\x1b[2J")
    assert one_line(error) == "OSError: https://...@host/x?token=... refused hf_...\\x1b[2J"


WRITTEN_DOWN = {
    "description": (f'description = "made with {TOKEN}"', "description"),
    "prompt": (f'[task]\nsystem_prompt = "{TOKEN}"', "task.system_prompt"),
    "mirror": ('[budget]\nmirror = "https://u:pw@host/x"', "budget.mirror"),
    "a reward's settings": ("[rewards]\n\"mine.get_x_reward(api_key='word')\" = 1.0", "rewards.mine.get_x_reward"),
    "a reward's name": (f"[rewards]\n\"mine.get_x_reward(at='{TOKEN}')\" = 1.0", "rewards.mine.get_x_reward"),
}


@pytest.mark.parametrize("kind", WRITTEN_DOWN)
def test_no_table_that_is_written_as_it_is_holds_one(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def get_x_reward(**settings): ...\n")
    text, setting = WRITTEN_DOWN[kind]
    head, bracket, rest = text.partition("[")
    (tmp_path / "mine.toml").write_text(f'preset = "word-problems-tiny"\n{head}{bracket}{rest}\n')
    with refused(problem="is a secret, and a run writes its recipe to its folder") as caught:
        Recipe.load(tmp_path / "mine.toml")
    assert str(caught.value.setting).startswith(setting)
    assert not caught.value.has_value


def test_no_sweep_tries_one(tmp_path: Path) -> None:
    for values in (["word", "other"], [TOKEN]):
        with refused("sweep.model.token", problem="is a secret"):
            Recipe.load("drawing-tiny", sweep={"model.token": values})


def test_what_is_refused_is_told_without_them() -> None:
    for overrides in (
        {"model": {"tokn": TOKEN}},
        {"grpo": {"learning_rate": TOKEN}},
        {"task": {"name": "https://u:pw@host/x?token=word"}},
        {"grpo": {"output_dir": f"/x/{TOKEN}"}},
        {"rewards": {TOKEN: 1.0}},
    ):
        with pytest.raises(SettingError) as caught:
            Recipe.load(**overrides)
        assert TOKEN not in str(caught.value)
        assert "pw@" not in str(caught.value)
        assert "word" not in str(caught.value).replace("word_problems", "")
