"""model.chat_template: the path of a file, whose text the recipe keeps."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe
from grpo_colab.recipe.overrides import read_recipe

TEMPLATE = "{% for message in messages %}\n{{ message.role }}: {{ message.content }}\n{% endfor %}\nassistant: "
SETTING = "model.chat_template"


def load(path: object) -> Recipe:
    return Recipe.load(model={"chat_template": path})


def test_a_recipe_keeps_the_text_and_needs_the_file_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "template.jinja").write_text(TEMPLATE)
    (tmp_path / "mine.toml").write_text('preset = "gsm8k-tiny"\n[model]\nchat_template = "template.jinja"\n')
    recipes = [load("template.jinja"), load(str(tmp_path / "template.jinja")), Recipe.load("mine.toml")]
    recipes.append(read_recipe(["--model.chat-template", "template.jinja"]))
    (tmp_path / "template.jinja").unlink()
    for recipe in recipes:
        assert recipe.model["chat_template"] == TEMPLATE
        (tmp_path / "recipe.toml").write_text(recipe.to_toml())
        again = Recipe.load("recipe.toml")
        assert again == recipe
        assert again.repeats(recipe)
        assert Recipe.load("recipe.toml", grpo={"seed": 7}).model == recipe.model
    assert "chat_template" not in Recipe.load("mine.toml", model={"chat_template": None}).model


def test_a_changed_file_is_another_run(tmp_path: Path) -> None:
    path = tmp_path / "template.jinja"
    path.write_text(TEMPLATE)
    before = load(path.as_posix())
    path.write_text(TEMPLATE.replace("assistant", "model"))
    assert not load(path.as_posix()).repeats(before)


def test_line_ends_a_byte_order_mark_and_a_link_are_read_as_transformers_reads_them(tmp_path: Path) -> None:
    (tmp_path / "windows.jinja").write_bytes(b"\xef\xbb\xbf" + TEMPLATE.replace("\n", "\r\n").encode())
    (tmp_path / "link.jinja").symlink_to("windows.jinja")
    (tmp_path / "signs.jinja").write_text("{{ messages[0].content }}\x0c\u2028\té\"'\\")
    for name in ("windows.jinja", "link.jinja"):
        assert load(str(tmp_path / name)).model["chat_template"] == TEMPLATE
    kept = load(str(tmp_path / "signs.jinja"))
    assert tomllib.loads(kept.to_toml())["model"]["chat_template"] == "{{ messages[0].content }}\x0c\u2028\té\"'\\"


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        (None, "cannot be read (No such file or directory)", "the path of a Jinja file"),
        (b"\xff\xfe{{ message.content }}", "is not UTF-8", "save it as UTF-8"),
        (b"", "shows nothing of a conversation", "{{ message.content }}"),
        (b"You are a helpful assistant.", "shows nothing of a conversation", "{{ message.content }}"),
        (b"{{ m.content }}" + b" " * (1 << 16), "more than 65,536 bytes", "the path of a Jinja file"),
        (b"{{ m.content }} ghp_0123456789abcdefghijABCDEFGHIJ456789", "looks like a secret", "take that out"),
    ],
    ids=["missing", "not-utf-8", "empty", "prose", "large", "secret"],
)
def test_a_file_that_is_no_template_is_refused(
    content: bytes | None, problem: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "template.jinja").write_bytes(content)
    with refused(SETTING, "template.jinja", problem=problem, remedy=remedy):
        load("template.jinja")


@pytest.mark.parametrize("value", [3, ["template.jinja"], True])
def test_another_kind_of_value_is_refused(value: Any) -> None:
    with refused(SETTING, value, problem="has the wrong type", remedy="write a text"):
        load(value)


@pytest.mark.parametrize("path", [".", "/dev/zero", "a\0b", "x" * 300, ""])
def test_what_is_no_file_is_refused(path: str) -> None:
    with refused(SETTING, path, snapshot=False):
        load(path)
