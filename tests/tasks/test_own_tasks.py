"""A task of one's own in one file: read without running it, then made, completed, and refused in one sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Run
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.trust import check_trust
from grpo_colab.rewards import resolve_reward
from grpo_colab.runs.resume import open_run
from grpo_colab.tasks import load_task
from grpo_colab.tasks.names import canonical_task, parse_task
from grpo_colab.tasks.own_tasks import need_separate_splits, problems_of

HEAD = "import random\nfrom grpo_colab.tasks import Problem, Task\n"
SUMS = '''
class Sums(Task):
    """Sums of two numbers."""

    default_system_prompt = "Think in <reasoning>, then give the number in <answer>."
    default_rewards = {"correctness": 2.0, "polite_reward": 0.5}

    def __init__(self, *, largest: int = 20, rate: float = 1.0, **options):
        super().__init__(**options)
        self.largest, self.rate = largest, rate

    def problems(self, split, n=None):
        rng = random.Random(f"{split}/{self.seed}")
        found = []
        for _ in range(50 if n is None else n):
            left = 2 * rng.randint(1, self.largest) + (split == "test")
            right = rng.randint(2, self.largest)
            found.append(Problem(f"{left} + {right}?", str(left + right), columns={"level": "easy"}))
        return found


def polite_reward(completions, level, **kwargs):
    return [float(one == "easy") for one in level]
'''
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write my_task.py and a recipe that names it, and stand in their folder; the recipe's path is returned."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def written(code: str = SUMS, settings: str = "", rest: str = "", name: str = "my_task.py:Sums") -> Path:
        (tmp_path / "my_task.py").write_text(HEAD + code)
        (tmp_path / "mine.toml").write_text(
            f'preset = "word-problems-tiny"\n[task]\nname = "{name}"\n{settings}\n{rest}\n'
        )
        return tmp_path / "mine.toml"

    return written


def completed(path: Path, **overrides: Any) -> Recipe:
    recipe = Recipe.load(path, **overrides)
    check_trust(recipe, trust_code=True)
    return recipe.completed_by_task()


def test_a_class_in_a_file_is_a_task_with_its_settings_and_its_rewards(write: Write, tmp_path: Path) -> None:
    recipe = completed(write(settings="largest = 5"))
    assert recipe.task["name"] == f"{tmp_path}/my_task.py:Sums"
    assert recipe.rewards == {"correctness": 2.0, f"{tmp_path}/my_task.py:polite_reward": 0.5}
    task = recipe.load_task()
    assert (task.name, task.largest, task.seed) == ("Sums", 5, recipe.grpo["seed"])  # type: ignore[attr-defined]
    problem = problems_of(task, "test", 1)[0]
    assert task.grade(task.golden_completion(problem), problem).right
    assert recipe.reward_functions()[1](completions=["x"], level=["easy"]) == [1.0]
    # what was completed is read back as it is, from wherever the run is resumed
    (tmp_path / "elsewhere").mkdir()
    os.chdir(tmp_path / "elsewhere")
    Path("recipe.toml").write_text(recipe.to_toml())
    again = Recipe.load("recipe.toml")
    assert again == recipe == again.completed_by_task()


def test_a_class_in_a_module_is_a_task_too(write: Write) -> None:
    recipe = completed(write(name="my_task:Sums"))
    assert recipe.task["name"] == "my_task:Sums"
    assert list(recipe.rewards) == ["correctness", "my_task.polite_reward"]
    assert type(recipe.load_task()).__qualname__ == "Sums"


def test_rewards_of_the_recipe_come_over_those_of_the_class(write: Write, tmp_path: Path) -> None:
    path = write(rest='[rewards]\ncorrectness = 3.0\n"my_task.py:polite_reward" = false\ninteger = 0.25\n')
    assert completed(path).rewards == {"correctness": 3.0, "integer": 0.25}
    own = completed(path, rewards={"my_task.py:polite_reward": 0.75})
    assert own.rewards == {"correctness": 3.0, f"{tmp_path}/my_task.py:polite_reward": 0.75, "integer": 0.25}
    # a class that names none has those of Task; a recipe that has no preset and lists its rewards has these alone
    plain = SUMS.replace('    default_rewards = {"correctness": 2.0, "polite_reward": 0.5}\n', "")
    assert "tag_count" in completed(write(plain)).rewards
    path.write_text(
        '[task]\nname = "my_task.py:Sums"\n[model]\nmodel_name = "tiny"\n[grpo]\nnum_generations = 4\n'
        "[rewards]\ncorrectness = 1.0\n"
    )
    assert completed(path).rewards == {"correctness": 1.0}
    path.write_text(path.read_text().partition("[rewards]")[0])
    assert "tag_count" in completed(path).rewards


def test_an_override_may_name_another_task(write: Write) -> None:
    path = write(settings="largest = 5")
    assert Recipe.load(path, task={"name": "word_problems", "largest": None}).rewards == Recipe.load().rewards
    assert completed(Path("word-problems-tiny"), task={"name": "my_task.py:Sums"}).task["name"].endswith(":Sums")


def test_a_command_lines_text_gets_the_type_that_the_class_has(write: Write) -> None:
    from grpo_colab.recipe.overrides import read_recipe

    words = [str(write()), "--task.rate", "1e-3", "--task.largest", "7"]
    task = read_recipe(words).completed_by_task().task
    assert (task["rate"], task["largest"]) == (0.001, 7)


def test_a_class_without_a_seed_gets_none(write: Write) -> None:
    code = """
class Fixed(Task):
    def __init__(self, levels=3):
        super().__init__()
        self.levels = levels
    def problems(self, split, n=None):
        return [Problem(f"{split} {level}?", "1") for level in range(self.levels)][:n]
"""
    recipe = completed(write(code, name="my_task.py:Fixed", settings="levels = 2"))
    assert "seed" not in recipe.task
    assert len(problems_of(recipe.load_task(), "train")) == 2
    with refused("task.seed", problem="the task 'my_task.py:Fixed' has no such setting", remedy="levels"):
        completed(write(code, name="my_task.py:Fixed", settings="seed = 7"))


def test_a_run_of_it_is_found_and_resumed(write: Write, tmp_path: Path) -> None:
    """With the recipe as its file has it, as in a notebook that is executed again, whatever the class takes."""
    without_seed = SUMS.replace("**options", "").replace("__init__()", "__init__(seed=3)")
    for number, code in enumerate((SUMS, without_seed)):
        path = write(code)
        run = Run.create(completed(path), tmp_path / "runs" / f"{number}")
        assert ("seed" in run.recipe.task) is (code is SUMS)
        with ExitStack() as held:
            found, recipe, _ = open_run(Recipe.load(path), run.path, True, held)
        assert found is not None
        assert recipe == run.recipe
        with ExitStack() as held:
            open_run(Recipe.load(path), None, run.path, held)


@pytest.mark.long
def test_a_task_that_imports_what_unsloth_must_precede_is_told_so(write: Write) -> None:
    """In a process of its own, since this one may have imported unsloth."""
    code = SUMS.replace("rng = random", "import peft\n        rng = random").replace("import random", "")
    words = ["train", str(write(code)), "--trust-code"]
    done = subprocess.run([sys.executable, "-m", "grpo_colab", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "imports transformers, peft, which unsloth must come before; call `import_unsloth()` first" in done.stderr


def test_a_file_that_was_saved_again_is_run_again(write: Write) -> None:
    path = write()
    assert completed(path).load_task().default_system_prompt.startswith("Think")
    write(SUMS.replace("Think in", "Reason in"))
    assert completed(path).load_task().default_system_prompt.startswith("Reason")


def test_nothing_is_run_before_it_is_trusted(write: Write, tmp_path: Path) -> None:
    path = write(f"open({str(tmp_path / 'it-ran')!r}, 'w').close()\n{SUMS}")
    recipe = Recipe.load(path)
    assert recipe.received == ("task.name",)
    with ExitStack() as held, refused(problem="my_task.py:Sums", remedy="--trust-code once"):
        open_run(recipe, tmp_path / "run", None, held)
    assert not (tmp_path / "it-ran").exists()
    with ExitStack() as held:
        _, opened, _ = open_run(recipe, tmp_path / "run", None, held, trust_code=True)
    assert (tmp_path / "it-ran").exists()
    assert len(opened.rewards) == 2


@pytest.mark.parametrize(
    ("name", "problem", "remedy"),
    [
        ("nowhere.py:Sums", "nowhere.py' does not import: FileNotFoundError", None),
        ("my_task.py:Sum", "my_task.py' has no 'Sum'", "did you mean 'Sums'?"),
        ("my_task.py:polite_reward", "is a function, not a class", "write class polite_reward(Task)"),
        ("my_task.py:", "has no name of a class behind its colon", "write my_task.py:MyTask"),
        ("no_such_package_at_all.tasks:Sums", "No module named 'no_such_package_at_all'", None),
        ("my_task.py", "no such task", "or write my_task.py:MyTask, package.module:MyTask"),
    ],
)
def test_a_name_that_leads_nowhere_is_refused_without_running_anything(
    name: str, problem: str, remedy: str | None, write: Write
) -> None:
    with refused("task.name", problem=problem, remedy=remedy):
        Recipe.load(write("raise SystemExit('ran')\n" + SUMS, name=name))


def test_a_file_that_is_no_python_is_refused_with_its_line(write: Write) -> None:
    with refused("task.name", problem="SyntaxError: '(' was never closed (my_task.py, line 3)"):
        Recipe.load(write("print(\n"))


CLASSES = {
    "class Sums: ...": ("'Sums' is no subclass of grpo_colab.tasks.Task", "write `class Sums(Task)`", 3),
    "class Sums(Task): ...": ("'Sums' does not define problems", "write def problems(self, split, n=None)", 3),
    "Sums = 3": ("'Sums' is of type int, not a class", "write `class Sums(Task)`", None),
    "import nothing_of_the_kind\nclass Sums(Task): ...": ("does not import: ModuleNotFoundError", "correct it", 3),
    "Sums = 1 / 0": ("does not import: ZeroDivisionError: division by zero", "correct it there", 3),
    SUMS.replace("self.largest, self.rate", "self.largest, self.x = 1 / 0, 0; self.rate"): (
        "Sums() raises: ZeroDivisionError: division by zero",
        "correct it there",
        12,
    ),
    SUMS.replace("largest: int = 20", "largest: int"): ("is missing", "the task 'my_task.py:Sums' needs it", 4),
    SUMS.replace('"polite_reward": 0.5}', '"rude_reward": 0.5}'): ("has no 'rude_reward'", "'polite_reward'", None),
}


@pytest.mark.parametrize("code", CLASSES, ids=lambda code: CLASSES[code][0][:30])
def test_a_class_that_is_no_task_is_refused_with_its_place(code: str, write: Write, tmp_path: Path) -> None:
    problem, remedy, line = CLASSES[code]
    place = f"{tmp_path}/my_task.py:{line}" if line else None
    with refused(problem=problem, remedy=remedy, place=place):
        completed(write(code))


@pytest.mark.parametrize(
    ("settings", "setting", "problem"),
    [
        ("smallest = 3", "task.smallest", "the task 'my_task.py:Sums' has no such setting"),
        ("largest = 'a lot'", "task.largest", "has the wrong type"),
        ("locale = 'german'", "task.locale", "cannot work"),
    ],
)
def test_a_setting_that_the_class_does_not_take_is_refused(
    settings: str, setting: str, problem: str, write: Write
) -> None:
    with refused(setting, problem=problem):
        completed(write(settings=settings))


def test_a_reward_without_its_column_is_refused(write: Write) -> None:
    code = SUMS.replace(', columns={"level": "easy"}', "")
    with refused(problem="polite_reward needs a column 'level'", remedy="the columns are answer"):
        # the source of the file alone does not say which columns there are; the class does
        completed(write(code))


def test_problems_are_looked_at_before_anything_is_loaded(write: Write, tmp_path: Path) -> None:
    with refused(problem="problems('train', 1) raises: KeyError: 'train'", place=f"{tmp_path}/my_task.py:15"):
        completed(write(SUMS.replace("rng = random.Random", "{}[split]; rng = random.Random")))


PROBLEMS = {
    "None": ("problems('train', 50) returns None", "return a list of Problem"),
    "'text'": ("problems('train', 50) returns 'text'", "return a list of Problem"),
    "['1 + 1?']": ("problems('train', 50)[0] is '1 + 1?', no Problem", "write Problem(question, answer)"),
    "[Problem('?', 2)]": ("[0] has the answer 2", "write a text"),
    "[Problem(' ', '2')]": ("[0] has the question ' '", "write a text"),
    "[Problem('?', '2', columns=['x'])]": ("has the columns ['x']", "write a dict"),
    "[Problem('?', '2', columns={'image': 1})]": ("column 'image'", "rename the column"),
    "[Problem(f'{random.random()}?', '2')]": ("begin with different problems", "random.Random(f'{split}/{self.seed}')"),
    "self.rows[split]": ("problems('train', 50) raises: AttributeError", "correct it there"),
    "1 / (split == 'test')": ("problems('train', 50) raises: ZeroDivisionError", "correct it there"),
}


@pytest.mark.parametrize("returned", PROBLEMS)
def test_problems_that_are_none_are_refused_with_their_line(returned: str, write: Write, tmp_path: Path) -> None:
    write(f"class Mine(Task):\n    name = 'mine'\n    def problems(self, split, n=None):\n        return {returned}\n")
    problem, remedy = PROBLEMS[returned]
    task = load_task("my_task.py:Mine")
    with refused(problem=problem, remedy=remedy, place=f"{tmp_path}/my_task.py:"):
        problems_of(task, "train", 50)


def test_more_problems_than_asked_for_and_a_generator_will_do(write: Write) -> None:
    write(
        "class Mine(Task):\n    def problems(self, split, n=None):\n"
        "        for number in range(40):\n            yield Problem(f'{split} {number}?', '1')\n"
    )
    assert len(problems_of(load_task("my_task.py:Mine"), "train", 30)) == 30


def test_a_prompt_that_is_trained_on_is_not_held_out(write: Write) -> None:
    write("class Mine(Task):\n    def problems(self, split, n=None):\n        return [Problem('1 + 1?', '2')]\n")
    task = load_task("my_task.py:Mine")
    problems = problems_of(task, "train")
    with refused(problem="1 of its held-out prompts are trained on, too", remedy="evaluation.split"):
        need_separate_splits(task, problems, problems_of(task, "test"))


def test_names_are_read_without_their_code() -> None:
    kinds = {"gsm8k": "ours", "a.py:B": "file", "a.b:C": "module", "verifiers:x": "library", "grpo_colab": "ours"}
    assert {name: parse_task(name).kind for name in kinds} == kinds
    assert canonical_task("a.b:C") == "a.b:C"
    assert canonical_task("~/a.py:B") == str(Path("~/a.py:B").expanduser())
    assert parse_task("/home/somebody/a.py:B").label == "a.py:B"


def test_a_reward_and_a_task_may_share_a_file(write: Write) -> None:
    write()
    assert resolve_reward("my_task.py:polite_reward")(completions=["x"], level=["hard"]) == [0.0]
    assert load_task("my_task.py:Sums", largest=3).largest == 3  # type: ignore[attr-defined]
