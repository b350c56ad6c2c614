"""`grpo-colab init NAME` writes a folder that trains as it is, and touches nothing that is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from marks import long_but
from refusals import check, refused

from grpo_colab import Recipe, Run
from grpo_colab.recipe.recipe import preset_names
from grpo_colab.recipe.trust import check_trust, trusted
from grpo_colab.starter import KINDS, write_starter
from grpo_colab.starter.starter import SAMPLES

FILES = {"README.md", "recipe.toml", "rewards.py", "test_rewards.py"}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- what is written


def test_every_kind_of_answers_has_a_sample() -> None:
    from grpo_colab.rewards.graders.settings import KINDS as graded

    assert set(KINDS) == set(graded)
    assert {path.name for path in SAMPLES.iterdir()} == {*KINDS, "shared"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_a_page_each_and_holds_together(kind: str, here: Path) -> None:
    starter = write_starter("mine", kind)
    written = {path.name for path in (here / "mine").iterdir()}
    assert written == set(starter.files)
    assert len(written - FILES) == 1  # the data
    for name in FILES:
        text = (here / "mine" / name).read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 60, name
        assert max(map(len, text.splitlines())) <= 120, name
        assert not re.search(r"\$[a-z]", text), name
    recipe = Recipe.load(here / "mine" / "recipe.toml")
    assert recipe.name == "mine"
    assert recipe.task["answer"] == kind
    task = recipe.load_task()
    assert len(task.problems("test")) >= 50
    assert len(task.problems("train")) >= 60


@pytest.mark.parametrize("kind", long_but(["number", "choice"], KINDS))
def test_its_own_tests_pass_and_fail_where_the_reward_is_spoilt(kind: str, here: Path) -> None:
    write_starter("mine", kind)
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "mine"]
    done = subprocess.run(pytest_, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    if kind != "number":
        return
    rewards = here / "mine" / "rewards.py"
    rewards.write_text(rewards.read_text().replace("if not grade(text, gold).right", "if gold not in text"))
    done = subprocess.run(pytest_, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "3 failed" in done.stdout  # the three that name 19 and do not answer it


@pytest.mark.parametrize("kind", KINDS)
def test_one_line_changes_the_model(kind: str, here: Path) -> None:
    write_starter("mine", kind)
    text = (here / "mine" / "recipe.toml").read_text()
    named = set(preset_names()) & set(re.findall(r'"([\w.-]+)"', text.partition("[task]")[0]))
    assert named == {"word-problems-tiny", "gsm8k-qwen25-1.5b", "gsm8k-llama31-8b"}
    for preset in named:
        changed, times = re.subn(r'(?m)^preset = "[^"]*"', f'preset = "{preset}"', text)
        assert times == 1
        (here / "mine" / "other.toml").write_text(changed)
        model = Recipe.load(here / "mine" / "other.toml").model["model_name"]
        assert model == Recipe.load(preset).model["model_name"]


def test_the_users_own_code_needs_no_trust_and_a_copy_of_it_does(here: Path) -> None:
    write_starter("mine")
    recipe = Recipe.load("mine/recipe.toml")
    assert recipe.received  # a file names it
    assert "rewards.py" in str(check_trust(recipe))
    (here / "mine").rename(here / "theirs")
    assert not any("theirs" in name for name in trusted())
    with refused(problem="runs code that is not grpo_colab's", snapshot=False):
        check_trust(Recipe.load("theirs/recipe.toml"))


def test_the_name_may_be_a_path_and_the_commands_are_for_it(here: Path) -> None:
    starter = write_starter("a b/deep/my-tickets", "choice")
    assert Recipe.load(here / "a b" / "deep" / "my-tickets" / "recipe.toml").name == "my-tickets"
    words = [shlex.split(command) for command in starter.commands]
    assert [command[1] for command in words] == ["data", "audit", "train", "train", "report"]
    assert words[0][2] == "a b/deep/my-tickets/recipe.toml"
    assert words[1][2] == "a b/deep/my-tickets/rewards.py:near_miss_reward"
    assert words[1][3:] == ["--kind", "choice", "--task", "a b/deep/my-tickets/recipe.toml"]
    assert words[4][2] == "runs/*-my-tickets"


def test_an_empty_folder_is_filled_and_this_one_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "empty").mkdir()
    write_starter("empty")
    assert (here / "empty" / "recipe.toml").is_file()
    (here / "this").mkdir()
    monkeypatch.chdir(here / "this")
    write_starter(".")
    assert Recipe.load("recipe.toml").name == "this"


# --- what is refused


BAD_NAMES = ("", "mine.toml", "-x", "two words", "a$b", 'quo"te', "new\nline", ".hidden", "..", "a" * 200, "a\0b")


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_that_no_recipe_can_have_is_refused(name: str, here: Path) -> None:
    with refused("NAME", name, snapshot=False):
        write_starter(name)
    assert list(here.iterdir()) == []


def test_a_kind_that_there_is_not_is_refused_with_the_nearest(here: Path) -> None:
    with refused("--kind", "numbers", remedy="number"):
        write_starter("mine", "numbers")
    assert list(here.iterdir()) == []


IN_THE_WAY: dict[str, Callable[[Path], Any]] = {
    "a file": lambda path: path.write_text("mine"),
    "a folder with a file": lambda path: (path.mkdir(), (path / "recipe.toml").write_text("mine")),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to an empty folder": lambda path: (path.with_name("other").mkdir(), path.symlink_to("other")),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_is_in_the_way_stays_as_it_is(what: str, here: Path) -> None:
    IN_THE_WAY[what](here / "mine")
    before = sorted(here.rglob("*"))
    with refused("NAME", "mine", problem="is in the way"):
        write_starter("mine")
    assert sorted(here.rglob("*")) == before


def test_where_nothing_can_be_written_nothing_is_left(here: Path) -> None:
    (here / "file").write_text("")
    with refused("NAME", "file/mine", problem="cannot be written", remedy="another place"):
        write_starter("file/mine")
    assert (here / "file").read_text() == ""


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/dev/full").exists(), reason="needs a full device")
def test_a_file_that_cannot_be_written_takes_the_others_with_it(here: Path) -> None:
    """With a limit on the size of a file, the data are the first that do not fit."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "from grpo_colab.cli import main; main(['init', 'mine'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "NAME = 'mine'" in done.stderr
    assert list(here.iterdir()) == []


def test_the_command_says_its_refusal_in_one_line(cli: Any, here: Path) -> None:
    (here / "mine").write_text("")
    ended = cli("init", "mine")
    assert ended.returncode == 2
    check(ended.error, "NAME", "mine", problem="is in the way")
    assert len(ended.stderr.splitlines()) == 1


# --- the five commands


@pytest.mark.parametrize("kind", KINDS)
def test_the_audit_finds_nothing_in_its_reward(kind: str, cli: Any) -> None:
    starter = write_starter("mine", kind)
    (audit,) = [shlex.split(command)[1:] for command in starter.commands if " audit " in command]
    ended = cli(*audit)
    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.rstrip().endswith("\nok")


@pytest.mark.parametrize("kind", long_but(["number"], KINDS))
def test_the_commands_run_one_after_the_other(
    kind: str, command: Callable[..., subprocess.CompletedProcess[str]], here: Path
) -> None:
    written = command("init", "mine", "--kind", kind)
    assert written.returncode == 0, written.stderr
    commands = [shlex.split(line)[1:] for line in written.stdout.splitlines() if line.startswith("  grpo-colab ")]
    assert len(commands) == 5
    short = ["--budget.max-steps", "2", "--evaluation.n", "4"]
    for words in commands:
        if words[0] == "audit":
            continue  # above
        if words[0] == "report":
            (run,) = here.glob(words[1])
            words = ["report", str(run)]  # noqa: PLW2901 - what a shell makes of it
        done = command(*words, *(short if words[0] == "train" else ()))
        assert done.returncode == 0, done.stderr
    assert Run(run).last_step == 2
    assert Run(run).finished
    assert (run / "report.html").is_file()
    reward = f"rewards/{KINDS[kind].reward}/mean"
    assert all(reward in row for row in Run(run).metrics())
