"""Rewards that are Python functions: what a recipe calls them, what its file says, and whom it asks for them."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pickle
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from refusals import ANY, refused

import grpo_colab.rewards as ours
from grpo_colab import Recipe, Run
from grpo_colab.experiments.series import without_functions
from grpo_colab.experiments.variants import variants
from grpo_colab.recipe.schema import Text
from grpo_colab.recipe.trust import check_trust
from grpo_colab.runs.resume import keep_recipe, open_run, unfinished

Function = Callable[..., Any]


def made(name: str = "brevity_reward", pays: float = 1.0) -> Function:
    """A function that no import leads to, as one of a notebook is."""

    def reward(completions: list[Any], **kwargs: Any) -> list[float]:
        return [pays] * len(completions)

    reward.__name__ = reward.__qualname__ = name
    return reward


class Half:
    """A callable object."""

    def __call__(self, completions: list[Any], **kwargs: Any) -> list[float]:
        return [0.5] * len(completions)


def test_a_list_is_all_there_is_and_a_table_changes_weights() -> None:
    brief, calm = made(), made("calm_reward")
    preset = Recipe.load().rewards
    assert Recipe.load(rewards=[brief, calm]).rewards == {"python:brevity_reward": 1.0, "python:calm_reward": 1.0}
    assert Recipe.load(rewards=["correctness", brief]).rewards == {"correctness": 1.0, "python:brevity_reward": 1.0}
    assert Recipe.load(rewards=brief).rewards == {"python:brevity_reward": 1.0}  # as TRL takes a single one
    assert Recipe.load(rewards="correctness").rewards == {"correctness": 1.0}
    mixed = Recipe.load(rewards={"correctness": 3.0, brief: 0.5, "integer": False})
    assert mixed.rewards == {
        **{name: weight for name, weight in preset.items() if name != "integer"},
        "correctness": 3.0,
        "python:brevity_reward": 0.5,
    }
    assert brief in mixed.reward_functions()


def test_a_recipe_takes_rewards_as_load_does() -> None:
    brief = made()
    for rewards in ([brief], {brief: 0.5}, ["correctness", brief], "correctness", {"integer": False}):
        assert Recipe.load().with_rewards(rewards) == Recipe.load(rewards=rewards)
    assert Recipe.load(rewards=[brief]).with_rewards({"correctness": 2.0}).reward_functions()[0] is brief


def test_its_function_is_called_and_no_other() -> None:
    brief = made(pays=0.25)
    recipe = Recipe.load(grpo={"seed": 7}, rewards={brief: 0.5})
    for copy in (recipe, recipe.model_copy(update={"description": ""}), recipe.with_user_overrides({})):
        assert copy.reward_functions()[-1] is brief
    recipe.check_rewards({"answer"})


def test_a_partial_and_an_object_are_named_as_trl_names_them() -> None:
    quarter = functools.partial(functools.partial(made("part_reward"), a=1), b=2)
    assert [*Recipe.load(rewards=[quarter, Half()]).rewards] == ["python:part_reward", "python:Half"]
    scaled = ours.get_cosine_scaled_reward(max_len=64)
    assert [*Recipe.load(rewards=[scaled]).rewards] == ["python:cosine_scaled_reward"]


def test_a_function_that_another_process_can_import_goes_by_its_path() -> None:
    recipe = Recipe.load(rewards=[ours.correctness_reward, half_of_trl()])
    assert [*recipe.rewards] == ["correctness", "trl.rewards.format_rewards.think_format_reward"]
    assert "#" not in recipe.to_toml()
    # ours follows the task, as it does by its name
    boxed = Recipe.load(task={"answer_in": "boxed"}, rewards=[ours.correctness_reward])
    [paid] = boxed.reward_functions()
    assert paid([[{"role": "assistant", "content": r"\boxed{7}"}]], answer=["7"]) == [1.0]


def half_of_trl() -> Function:
    from trl.rewards import think_format_reward

    return think_format_reward


def test_a_module_that_was_not_imported_by_its_name_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def own_reward(completions, **kwargs):\n    return [0.0] * len(completions)\n")
    by_file = ours.resolve_reward(f"{tmp_path}/own.py:own_reward")
    assert [*Recipe.load(rewards=[by_file]).rewards] == ["python:own_reward"]
    spec = importlib.util.spec_from_file_location("elsewhere_own", tmp_path / "own.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["elsewhere_own"] = module
    spec.loader.exec_module(module)
    try:
        assert [*Recipe.load(rewards=[module.own_reward]).rewards] == ["python:own_reward"]
    finally:
        del sys.modules["elsewhere_own"]


SCRIPT = """
import sys
from grpo_colab import Recipe

def own_reward(completions, **kwargs):
    return [0.0] * len(completions)

print(Recipe.load(rewards=[own_reward]).to_toml())
"""


def test_its_file_says_where_it_is_from_and_what_a_resume_needs(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    from_script, typed_in = (
        subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for words in (["train.py"], ["-c", SCRIPT])
    )
    head = from_script.splitlines()[:3]
    assert head == [
        f"# rewards.python:own_reward is a Python function, defined in {tmp_path}/train.py:5.",
        "# To resume a run with it, give it again: train(resume=RUN, rewards=[own_reward])",
        "",
    ]
    assert typed_in.startswith(
        "# rewards.python:own_reward is a Python function, defined in a notebook's cell or typed in."
    )
    assert tomllib.loads(from_script) == tomllib.loads(typed_in)
    assert tomllib.loads(from_script)["rewards"] == {"python:own_reward": 1.0}
    text = Recipe.load(rewards=[Half(), made("a_reward")]).to_toml()
    assert text.startswith(f"# rewards.python:Half is a Python object of the class {__name__}.Half.\n")
    assert "give it again: train(resume=RUN, rewards=[Half, a_reward])\n" in text


@pytest.mark.parametrize(
    ("given", "setting", "problem"),
    [
        ([lambda completions, **kwargs: [0.0]], "[rewards]", "has no name of its own"),
        ({functools.partial(lambda completions, **kwargs: [0.0]): 1.0}, "[rewards]", "has no name of its own"),
        ([made(), made()], "rewards.python:brevity_reward", "is given twice"),
        ({made(): 1.0, made(): 0.5}, "rewards.python:brevity_reward", "is given twice"),
        (["correctness", ours.correctness_reward], "rewards.correctness", "is given twice"),
        ([made("correctness_reward"), "correctness"], "rewards.correctness", "would be logged as 'correctness'"),
        ([made("brevity"), made()], "rewards.python:brevity_reward", "would be logged as 'brevity'"),
        ([3], "[rewards]", "is neither a function nor the name of a reward"),
        (None, "[rewards]", "is neither a function nor the name of a reward"),
        ([], "[rewards]", "no reward has a weight"),
        ({made(): True}, "rewards.python:brevity_reward", "is no weight"),
        (["no_such"], "rewards.no_such", "there is no reward"),
    ],
    ids=range(12),
)
def test_what_cannot_be_a_reward_is_refused(given: Any, setting: str, problem: str) -> None:
    with refused(setting, problem=problem):
        Recipe.load(rewards=given)
    with refused(setting, problem=problem, snapshot=False):
        Recipe.load().with_rewards(given)


def test_a_function_that_trl_cannot_call_is_refused_at_once() -> None:
    def needy_reward(completions: list[Any], hint: str, **kwargs: Any) -> list[float]:
        return []

    def narrow_reward(completions: list[Any]) -> list[float]:
        return []

    with refused("rewards.python:needy_reward", problem="needs a column 'hint'", remedy="the columns are answer"):
        Recipe.load(rewards=[needy_reward])
    with refused("rewards.python:narrow_reward", problem="must accept", remedy="**kwargs"):
        Recipe.load(rewards=[narrow_reward])


def test_a_reward_model_is_refused() -> None:
    import torch

    with refused("[rewards]", "Linear", problem="is a model", remedy="write a function"):
        Recipe.load(rewards=[torch.nn.Linear(1, 1)])


def test_only_rewards_may_be_a_list() -> None:
    with refused("grpo", ["beta"], problem="must be a table"):
        Recipe.load(grpo=["beta"])
    with refused("reward_funcs", problem="no such table", remedy="rewards"):
        Recipe.load(reward_funcs=[made()])


def test_a_run_keeps_its_name_and_asks_for_it_before_anything_is_loaded(tmp_path: Path) -> None:
    brief, calm = made(), made("calm_reward")
    recipe = Recipe.load(rewards={brief: 0.5, calm: 0.0})
    run = Run.create(recipe, tmp_path / "run")
    assert run.recipe == recipe
    assert run.recipe.repeats(recipe)
    assert [*unfinished(recipe, [run.path])] == [run.path]
    name = "rewards.python:brevity_reward"
    remedy = f"train(resume='{run.path}', rewards=[brevity_reward, calm_reward])"
    with ExitStack() as held, refused(name, 0.5, problem="is a Python function", remedy=remedy):
        open_run(None, None, run.path, held)
    with ExitStack() as held, refused("rewards.python:calm_reward", 0.0, remedy=remedy):
        open_run(None, None, run.path, held, rewards=[brief])
    assert f"{run.resume_command}" == f"train(resume='{run.path}', rewards=[brevity_reward, calm_reward]) in Python"
    # the functions again, with the run's own weights
    with ExitStack() as held:
        _, resumed, _ = open_run(None, None, run.path, held, rewards=[calm, brief])
    assert resumed == recipe
    assert resumed.reward_functions()[-2:] == [brief, calm]
    # and by a recipe, as the script made it
    with ExitStack() as held:
        assert open_run(recipe, None, run.path, held)[1].reward_functions()[-1] is calm
    keep_recipe(run, resumed)
    assert run.recipe == recipe


def test_a_resumed_runs_list_adds_nothing_and_its_table_changes_weights(tmp_path: Path) -> None:
    brief = made()
    run = Run.create(Recipe.load(rewards={brief: 0.5}), tmp_path / "run")
    with ExitStack() as held, refused("rewards.python:calm_reward", problem="is not among the rewards of the run"):
        open_run(None, None, run.path, held, rewards=[brief, made("calm_reward")])
    with ExitStack() as held:
        _, resumed, _ = open_run(None, None, run.path, held, rewards={brief: 0.25, "integer": False})
    assert (resumed.rewards["python:brevity_reward"], "integer" in resumed.rewards) == (0.25, False)


def test_a_function_that_has_moved_is_the_run_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a script into a module that a notebook imports, or back."""
    (tmp_path / "moved_rewards.py").write_text(
        "def brevity_reward(completions, **kwargs):\n    return [0.5] * len(completions)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    imported = importlib.import_module("moved_rewards").brevity_reward
    by_path = f"{tmp_path}/moved_rewards.py:brevity_reward"
    inline = made()
    cases: list[tuple[Any, str, Function]] = [
        (inline, "python:brevity_reward", imported),
        (imported, "moved_rewards.brevity_reward", inline),
        (by_path, by_path, inline),
    ]
    for number, (before, name, now) in enumerate(cases):
        run = Run.create(Recipe.load(rewards={before: 0.5}), tmp_path / f"run-{number}")
        with ExitStack() as held:
            _, resumed, _ = open_run(None, None, run.path, held, rewards=[now])
        assert resumed.rewards[name] == 0.5
        assert resumed.reward_functions()[-1] is now
        assert resumed == run.recipe
        assert resumed.received == ()


def test_a_command_cannot_give_it(tmp_path: Path) -> None:
    recipe = Recipe.load(rewards={"python:brevity_reward": Text("1.0")})
    remedy = "train(recipe, rewards={brevity_reward: 1.0})"
    with ExitStack() as held, refused("rewards.python:brevity_reward", 1.0, remedy=remedy):
        open_run(recipe, tmp_path / "run", None, held)
    assert not (tmp_path / "run").exists()
    with refused(problem="to which no name leads", remedy="my_rewards.py:brevity_reward"):
        ours.resolve_reward("python:brevity_reward")


def test_ones_own_function_needs_no_trust_and_anothers_code_beside_it_does(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def own_reward(completions, **kwargs):\n    return [0.0] * len(completions)\n")
    brief, other = made(), f"{tmp_path}/own.py:own_reward"
    assert check_trust(Recipe.load(rewards=[brief])) is None
    (tmp_path / "sent.toml").write_text(f'preset = "gsm8k-tiny"\n[rewards]\n"{other}" = 1.0\n')
    sent = Recipe.load(tmp_path / "sent.toml")
    for recipe in (
        Recipe.load(tmp_path / "sent.toml", rewards={brief: 1.0}),
        sent.with_rewards({brief: 1.0}),
        sent.with_rewards({brief: 1.0}).with_functions([brief]),
    ):
        with refused(problem="runs code", remedy="--trust-code", snapshot=False):
            check_trust(recipe)
    # who names it in Python trusts it
    assert sent.with_rewards([brief, other]).received == ()
    assert check_trust(sent.with_rewards([brief])) is None


def test_a_pickle_leaves_it_out() -> None:
    """Under torchrun the first process sends a planned recipe to the others, which were given their own functions."""
    recipe = Recipe.load(rewards=[made()])
    there = pickle.loads(pickle.dumps(recipe))
    assert there == recipe
    assert there.missing_functions == ["python:brevity_reward"]


def test_drawings_take_them_too(tmp_path: Path) -> None:
    brief = made()
    task = {"image": "9-vertical-lines"}
    [recipe] = variants("drawing-tiny", {"rewards": [brief], "task": task}, 1, sweep=False).values()
    assert recipe.reward_functions() == [brief]
    swept = {"sweep": {"rewards.python:brevity_reward": [0.5, 2.0]}, "task": task}
    found = variants("drawing-tiny", {**swept, "rewards": {brief: 1.0}}, 1, sweep=True)
    assert [one.rewards["python:brevity_reward"] for one in found.values()] == [0.5, 2.0]
    assert all(brief in one.reward_functions() for one in found.values())
    with refused("[rewards]", ANY, problem="is a list", remedy="{my_reward: 1.0", snapshot=False):
        variants("drawing-tiny", {**swept, "rewards": [brief]}, 1, sweep=True)
    assert without_functions({"rewards": [brief], "grpo": {}}) == {"grpo": {}}
    assert without_functions({"rewards": {brief: 1.0}}) == {"rewards": {brief: 1.0}}
