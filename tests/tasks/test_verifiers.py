"""A single-turn environment of verifiers as a task, in a process of its own that has the library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab.recipe.recipe import Recipe, foreign_settings

FOLDERS = [Path(sys.prefix) / name for name in ("neighbours", "verifiers")]
HERE = Path(__file__).parent
GOLDEN = "<reasoning>\nThe answer follows from the question.\n</reasoning>\n<answer>\n{}\n</answer>"

pytestmark = pytest.mark.skipif(not all(map(Path.is_dir, FOLDERS)), reason="`make setup-test` has not been run")


def ask() -> dict[str, Any]:
    """Return what the tests below look at."""
    import asyncio
    import signal

    from grpo_colab.errors import SettingError
    from grpo_colab.tasks import column_values, load_task

    def handler(*_: Any) -> None: ...

    signal.signal(signal.SIGTERM, handler)
    recipe = Recipe.load(task={"name": "verifiers:small-sums"})
    imported_by_reading = "verifiers" in sys.modules
    recipe = recipe.completed_by_task()
    task = recipe.load_task()
    problems = {split: task.problems(split) for split in ("train", "test")}
    first, second = problems["train"][:2]
    golden = task.golden_completion(first)
    columns = column_values([first, first, second])
    texts = [golden, "no answer", golden]

    async def in_a_running_loop() -> Any:
        """As in a notebook."""
        return recipe.reward_functions()[0](completions=texts, **columns)

    group = load_task("verifiers:small-sums", args={"kind": "group"})
    entries = [group.problems("train")[0].columns["entry"]] * 2
    held = load_task("verifiers:small-sums", args={"held_out": True})
    held_out = {split: [problem.question for problem in held.problems(split)] for split in ("train", "test")}
    refusals = {}
    for args in ({"kind": "several"}, {"colour": "red"}):
        try:
            load_task("verifiers:small-sums", args=args)
        except SettingError as error:
            refusals[error.problem] = error.remedy
    return {
        "imported_by_reading": imported_by_reading,
        "handler_kept": signal.getsignal(signal.SIGTERM) is handler,
        "rewards": recipe.rewards,
        "sizes": [len(problems["train"]), len(problems["test"])],
        "questions": [problem.question for split in problems.values() for problem in split],
        "again": [problem.question for problem in task.problems("train", 3)],
        "messages": task.messages(first),
        "answer": first.answer,
        "golden": golden,
        "verdicts": [task.grade(text, first).reason for text in ("no answer", golden)],
        "paid": asyncio.run(in_a_running_loop()),
        "group": recipe.reward_functions()[0](completions=[golden, "x"], entry=entries),
        "shared": len(set(held_out["train"]) & set(held_out["test"])),
        "held_out": [len(held_out["train"]), len(held_out["test"])],
        "refusals": refusals,
    }


@pytest.fixture(scope="module")
def said() -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*FOLDERS, *filter(None, sys.path)]))}
    command = [sys.executable, __file__]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_recipe_is_read_without_the_library_and_made_with_it(said: dict[str, Any]) -> None:
    assert not said["imported_by_reading"]
    assert said["rewards"] == {"grpo_colab.tasks.verifiers.environment_reward": 1.0}
    assert said["handler_kept"]


def test_problems_have_the_environments_prompt_and_no_prompt_is_in_both_splits(said: dict[str, Any]) -> None:
    assert sum(said["sizes"]) == 18 * 4
    assert 1 <= said["sizes"][1] <= 18
    assert len(set(said["questions"])) == 18 * 4
    assert said["again"] == said["questions"][:3]
    assert [message["role"] for message in said["messages"]] == ["system", "user"]
    assert said["messages"][0]["content"] == "Think in <reasoning>, then give the number in <answer>."
    # of the environment's own evaluation set, the prompts that are trained on, too, are left out of the training
    assert said["held_out"] == [16 * 4, 4 * 4]
    assert said["shared"] == 0


def test_the_rubric_pays_and_grades(said: dict[str, Any]) -> None:
    assert said["golden"] == GOLDEN.format(said["answer"])
    assert said["verdicts"] == ["wrong", "right"]
    right, without, other = said["paid"]
    assert right == pytest.approx(1.2)
    assert without < 0.2
    assert other in (pytest.approx(0.2), pytest.approx(1.2))  # another problem, whose answer may be the same
    assert said["group"][1] == 0.25  # the shortest of its group


def test_several_turns_and_wrong_arguments_are_refused_in_words(said: dict[str, Any]) -> None:
    [several, unknown] = said["refusals"]
    assert several.startswith("is a Several: a conversation of several turns")
    assert "SingleTurnEnv" in said["refusals"][several]
    assert "unexpected keyword argument 'colour'" in unknown
    assert "task.args" in said["refusals"][unknown]


def test_without_the_library_its_releases_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with refused("task.name", "verifiers:small-sums", remedy='run `pip install "verifiers>=0.2,<0.4"`'):
        Recipe.load(task={"name": "verifiers:small-sums"})
    monkeypatch.syspath_prepend(str(FOLDERS[1]))  # a release without environments, whose name is all that is looked at
    with refused("task.name", problem="No module named 'no_env'", remedy="install the package of that environment"):
        Recipe.load(task={"name": "verifiers:no-env"})
    monkeypatch.syspath_prepend(str(HERE))
    recipe = Recipe.load(task={"name": "verifiers:small-sums"})
    assert foreign_settings(recipe)[0] == "task.name"


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    print(json.dumps(ask()))
