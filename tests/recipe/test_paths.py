"""The files that a recipe names are found beside its own file, from wherever it is used; or from the current folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refusals import refused

from grpo_colab import Recipe
from grpo_colab.rewards.names import parse_reward

PROBLEMS = "".join(json.dumps({"prompt": f"What is {n} + 4?", "answer": str(n + 4)}) + "\n" for n in range(60))
REWARD = "def brief_reward(completions, **kwargs):\n    return [1.0 for _ in completions]\n"
RECIPE = """preset = "word-problems-tiny"
[task]
name = "dataset"
path = "problems.jsonl"
[rewards]
"rewards.py:brief_reward" = 0.5
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe and its files; the current folder is another one, in which nothing lies."""
    for name in ("mine", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "mine" / "recipe.toml").write_text(RECIPE)
    (tmp_path / "mine" / "problems.jsonl").write_text(PROBLEMS)
    (tmp_path / "mine" / "rewards.py").write_text(REWARD)
    return tmp_path / "mine"


@pytest.mark.parametrize("place", ["elsewhere", "mine", "the folder above"])
def test_the_files_beside_a_recipe_are_its_own(place: str, mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = {"elsewhere": mine.parent / "elsewhere", "mine": mine, "the folder above": mine.parent}[place]
    monkeypatch.chdir(here)
    source = {"elsewhere": "../mine/recipe.toml", "mine": "recipe.toml", "the folder above": "mine/recipe.toml"}[place]
    recipe = Recipe.load(source)
    assert Path(recipe.task["path"]).samefile(mine / "problems.jsonl")
    assert Path(recipe.task["path"]).is_absolute()
    (name,) = [name for name in recipe.rewards if ":" in name]
    file, _, function = name.rpartition(":")
    assert Path(file).samefile(mine / "rewards.py")
    assert function == "brief_reward"
    assert [function(completions=["a"]) for function in recipe.reward_functions()[-1:]] == [[1.0]]


def test_what_lies_beside_the_recipe_comes_before_what_lies_here(mine: Path) -> None:
    Path("problems.jsonl").write_text(PROBLEMS)
    assert Path(Recipe.load("../mine/recipe.toml").task["path"]).samefile(mine / "problems.jsonl")


def test_what_does_not_lie_there_is_looked_for_from_the_current_folder(mine: Path) -> None:
    for name in ("problems.jsonl", "rewards.py"):
        (mine / name).rename(name)
    recipe = Recipe.load("../mine/recipe.toml")
    assert recipe.task["path"] == str(Path("problems.jsonl").absolute())
    assert f"{Path('rewards.py').absolute()}:brief_reward" in recipe.rewards


def test_what_lies_nowhere_is_refused_with_the_place_of_before(mine: Path) -> None:
    (mine / "problems.jsonl").unlink()
    with refused("task.path", str(Path("problems.jsonl").absolute()), snapshot=False):
        Recipe.load("../mine/recipe.toml")


def test_an_override_is_what_the_caller_names_here(mine: Path) -> None:
    Path("other.jsonl").write_text(PROBLEMS)
    (mine / "other.jsonl").write_text("no problems")
    recipe = Recipe.load("../mine/recipe.toml", task={"path": "other.jsonl"})
    assert recipe.task["path"] == str(Path("other.jsonl").absolute())


def test_a_recipe_starts_from_one_beside_it(mine: Path) -> None:
    (mine / "deep").mkdir()
    (mine / "deep" / "longer.toml").write_text('preset = "../recipe.toml"\n[budget]\nmax_steps = 7\n')
    recipe = Recipe.load("../mine/deep/longer.toml")
    assert recipe.budget.max_steps == 7
    assert Path(recipe.task["path"]).samefile(mine / "problems.jsonl")


def test_a_recipe_that_starts_from_itself_is_refused_from_anywhere(mine: Path) -> None:
    (mine / "circle.toml").write_text('preset = "circle.toml"\n')
    with refused(problem="starts from itself", place="circle.toml", snapshot=False):
        Recipe.load("../mine/circle.toml")


OTHERS = {
    "task.test_path": '[task]\nname = "dataset"\npath = "problems.jsonl"\ntest_path = "held_out.jsonl"\n',
    "task.grader": '[task]\nname = "dataset"\npath = "problems.jsonl"\ngrader = "own.py:grade"\n',
    "task.name": '[task]\nname = "own.py:Mine"\n',
    "model.model_name": '[model]\nmodel_name = "weights"\n',
}


@pytest.mark.parametrize("setting", OTHERS)
def test_every_other_path_is_found_there_too(setting: str, mine: Path) -> None:
    (mine / "held_out.jsonl").write_text(PROBLEMS.replace(" + 4?", " + 4 now?"))
    (mine / "own.py").write_text("def grade(response, answer):\n    return True\n\n\nclass Mine:\n    pass\n")
    (mine / "weights").mkdir()
    (mine / "part.toml").write_text(f'preset = "word-problems-tiny"\n{OTHERS[setting]}')
    table, _, key = setting.partition(".")
    value = getattr(Recipe.load("../mine/part.toml"), table)[key]
    path = value.rpartition(":")[0] or value
    assert Path(path).is_absolute()
    assert Path(path).resolve().parent == mine.resolve()


def test_a_grader_in_brackets_is_found_there_too(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine / "it's own.py").write_text("def grade(response, answer):\n    return True\n")
    (mine / "part.toml").write_text(
        'preset = "recipe.toml"\n[rewards]\ncorrectness = false\n"correctness(grader=\\"it\'s own.py:grade\\")" = 1.0\n'
    )
    recipe = Recipe.load("../mine/part.toml")
    (name,) = [name for name in recipe.rewards if name.startswith("correctness")]
    grader = parse_reward(name).grader
    assert grader is not None
    assert Path(grader.removesuffix(":grade")).samefile(mine / "it's own.py")
    # a run keeps the name, and is resumed from anywhere
    monkeypatch.chdir("/")
    resumed = Recipe.model_validate(recipe.model_dump())
    assert resumed.rewards == recipe.rewards
    (reward,) = [one for one in resumed.reward_functions() if one.__name__ == "correctness_reward"]
    assert reward(completions=["<answer>x</answer>"], answer=["y"]) == [1.0]


@pytest.mark.parametrize(
    ("grader", "problem"),
    [
        ("own.py", "is a file, and a grader is a function in it"),
        ("own.py:judge", "has no 'judge'"),
        ("own.py:asks", "needs 'colour'"),
        ("nowhere.py:grade", "does not import: FileNotFoundError"),
    ],
)
def test_a_grader_in_brackets_is_looked_at_with_the_recipe(grader: str, problem: str, mine: Path) -> None:
    (mine / "own.py").write_text("def asks(response, colour):\n    return True\n")
    name = f"correctness(grader='{grader}')"
    (mine / "part.toml").write_text(f'preset = "recipe.toml"\n[rewards]\ncorrectness = false\n"{name}" = 1.0\n')
    with refused(problem=problem):
        Recipe.load("../mine/part.toml")
    (mine / "part.toml").write_text(f'preset = "recipe.toml"\n[task]\ngrader = "{grader}"\n')
    with refused("task.grader", problem=problem):
        Recipe.load("../mine/part.toml")


def test_the_content_of_a_file_is_found_there_too(mine: Path) -> None:
    (mine / "schema.json").write_text('{"type": "object"}')
    (mine / "chat.jinja").write_text("{{ messages[0].content }}")
    rows = "".join(json.dumps({"prompt": f"Name {n}.", "answer": {"n": n}}) + "\n" for n in range(60))
    (mine / "objects.jsonl").write_text(rows)
    (mine / "part.toml").write_text(
        'preset = "word-problems-tiny"\n[model]\nchat_template = "chat.jinja"\n[task]\nname = "dataset"\n'
        'path = "objects.jsonl"\nanswer = "json"\nschema = "schema.json"\n[rewards]\ninteger = false\n'
    )
    recipe = Recipe.load("../mine/part.toml")
    assert recipe.task["schema"] == '{"type": "object"}'
    assert recipe.model["chat_template"] == "{{ messages[0].content }}"


def test_a_name_is_no_path_though_a_file_is_called_like_it(mine: Path) -> None:
    for name in ("dataset", "correctness", "word-problems-tiny"):
        (mine / name).mkdir()
    recipe = Recipe.load("../mine/recipe.toml")
    assert recipe.task["name"] == "dataset"
    assert recipe.rewards["correctness"] == 2.0
    assert recipe.model["model_name"] == "tiny"


def test_a_run_of_it_repeats_from_its_own_folder(mine: Path, tmp_path: Path) -> None:
    recipe = Recipe.load("../mine/recipe.toml")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text(recipe.to_toml())
    (tmp_path / "run" / "problems.jsonl").write_text("another file of that name")
    assert Recipe.load(tmp_path / "run" / "recipe.toml").task["path"] == recipe.task["path"]
