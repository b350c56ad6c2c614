"""Data sets of Reasoning Gym as tasks: their splits, settings and grader, and that they are drawn again alike."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.trust import check_trust
from grpo_colab.tasks import load_task
from grpo_colab.tasks.reasoning_gym import FIRST_SEED, REWARD, SEEDS, reasoning_gym_reward

LIBRARY = Path(sys.prefix) / "reasoning-gym"
GENERATORS = ("chain_sum", "leg_counting", "spell_backward", "number_sorting", "coin_flip", "needle_haystack")

pytestmark = pytest.mark.skipif(not LIBRARY.is_dir(), reason="`make setup-test` could not build reasoning-gym here")


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(LIBRARY))


def gym(dataset: str, **options: Any) -> Any:
    return load_task(f"reasoning_gym:{dataset}", **options)


@pytest.mark.parametrize("dataset", GENERATORS)
def test_the_splits_share_no_question_and_no_seed_and_golden_completions_are_right(dataset: str) -> None:
    asked = {}
    for seed in (0, 1):
        task = gym(dataset, seed=seed)
        for split in ("train", "test"):
            problems = task.problems(split, 40)
            assert len(problems) == 40
            assert task.problems(split, 8) == problems[:8]
            asked.setdefault(split, set()).update(problem.key for problem in problems)
            for problem in problems[:10]:
                golden = task.golden_completion(problem)
                assert task.grade(golden, problem).right
                entry = problem.columns["entry"]
                assert reasoning_gym_reward([golden], entry=[json.loads(json.dumps(entry))]) == [1.0]
                first = FIRST_SEED[split]
                assert first <= entry["seed"] < first + SEEDS + 4096
    assert not asked["train"] & asked["test"]
    assert FIRST_SEED["test"] > SEEDS + 2**29  # so that no train seed reaches the test seeds, whatever the index


def test_the_library_grades_and_only_a_full_score_is_right() -> None:
    task = gym("chain_sum", config={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1})
    problem = task.problems("train", 1)[0]
    gold = problem.answer
    texts = [f"<answer>{gold}</answer>", f"<answer> {gold}.0 </answer>", f"<answer>{gold} or so</answer>", gold, ""]
    paid = reasoning_gym_reward(texts, entry=[problem.columns["entry"]] * 5)
    assert paid == [1.0, 1.0, len(gold) / len(f"{gold} or so"), 0.0, 0.0]
    assert [task.grade(text, problem).reason for text in texts] == ["right", "right", "wrong", "no_tag", "no_tag"]
    assert task.score(f"{gold} or so", problem) == paid[2]
    assert reasoning_gym_reward(["x"], entry=[None]) == [None]
    assert pickle.loads(pickle.dumps(reasoning_gym_reward)) is reasoning_gym_reward
    boxed = gym("chain_sum", answer_in="boxed")
    entry = boxed.problems("train", 1)[0].columns["entry"]
    assert reasoning_gym_reward([boxed.golden_completion(boxed.problems("train", 1)[0])], entry=[entry]) == [1.0]


def test_an_answer_on_which_a_grader_raises_is_wrong_and_said() -> None:
    task = gym("prime_factorization")
    problem = task.problems("train", 1)[0]
    with pytest.warns(UserWarning, match="prime_factorization raises ValueError on some answers, which count as 0.0"):
        assert not task.grade("<answer>(</answer>", problem).right


def test_the_same_seed_draws_the_same_problems_in_another_process() -> None:
    code = (
        "import sys, json, hashlib; sys.path.insert(0, sys.argv[1])\n"
        "from grpo_colab.tasks import load_task\n"
        "for name in sys.argv[2:]:\n"
        "    print(json.dumps([p.question for p in load_task('reasoning_gym:' + name, seed=3).problems('train', 5)]))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7"}
    command = [sys.executable, "-W", "ignore", "-c", code, str(LIBRARY), *GENERATORS]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    for name, line in zip(GENERATORS, done.stdout.splitlines(), strict=True):
        assert json.loads(line) == [problem.question for problem in gym(name, seed=3).problems("train", 5)]


def test_a_recipe_names_it_and_reads_it_without_the_library(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'preset = "word-problems-tiny"\n[task]\nname = "reasoning_gym:chain_sum"\nconfig = { max_terms = 2 }\n'
        "[rewards]\ncorrectness = 3.0\ntag_count = false\n"
    )
    code = "import sys; from grpo_colab import Recipe; Recipe.load(sys.argv[1]); print('reasoning_gym' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*filter(None, sys.path), str(LIBRARY)])}
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "False\n"
    recipe = Recipe.load(path)
    assert recipe.rewards == {REWARD: 3.0, "strict_format": 0.5, "soft_format": 0.5}
    with refused(problem=f"reasoning_gym:chain_sum from {LIBRARY}", remedy="--trust-code once", snapshot=False):
        check_trust(recipe)
    check_trust(recipe, trust_code=True)
    again = recipe.completed_by_task()
    assert again == recipe
    (tmp_path / "recipe.toml").write_text(again.to_toml())
    assert Recipe.load(tmp_path / "recipe.toml").task["config"] == {"max_terms": 2}
    # for answers elsewhere the rewards that ask for <answer> are none of the defaults
    boxed = Recipe.load(task={"name": "reasoning_gym:chain_sum", "answer_in": "boxed"})
    assert boxed.rewards == {REWARD: 2.0}


def test_several_data_sets_are_one_task() -> None:
    task = gym("composite", config={"datasets": [{"name": "chain_sum"}, {"name": "leg_counting", "weight": 2.0}]})
    problems = task.problems("train", 12)
    assert {problem.question.split()[0] for problem in problems} == {"State", "Your"}
    assert all(task.grade(task.golden_completion(problem), problem).right for problem in problems)


@pytest.mark.parametrize(
    ("dataset", "config", "setting", "problem", "remedy"),
    [
        ("chain_sums", {}, "task.name", "no such data set", "did you mean 'chain_sum'"),
        ("chain_sum", {"min_term": 3}, "task.config.min_term", "'chain_sum' has no such setting", "min_terms"),
        ("chain_sum", {"seed": 3}, "task.config.seed", "is set by the task", "task.seed"),
        ("chain_sum", {"min_terms": 0}, "task.config", "min_terms must be positive", "its settings are min_terms"),
        ("word_ladder", {}, "task.name", "draws other problems in every process", "PYTHONHASHSEED=0"),
    ],
)
def test_what_the_library_does_not_know_is_refused(
    dataset: str, config: dict[str, Any], setting: str, problem: str, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)
    with refused(setting, problem=problem, remedy=remedy):
        gym(dataset, config=config)


def test_too_few_different_questions_are_refused_and_not_looked_for_without_end() -> None:
    ten_questions = {"min_terms": 1, "max_terms": 1, "min_digits": 1, "max_digits": 1}
    task = gym("chain_sum", config=ten_questions)
    with refused(problem="has too few different questions", remedy="set task.config for more"):
        # each of the ten is in one split, so one of the splits has none or both are small
        assert not {one.key for one in task.problems("train", 9)} & {one.key for one in task.problems("test", 9)}
    with pytest.raises(ValueError, match="split = 'validation'"):
        task.problems("validation")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(LIBRARY)])
    for name in [name for name in sys.modules if name.partition(".")[0] == "reasoning_gym"]:
        monkeypatch.delitem(sys.modules, name)
    with refused("task.name", remedy='run `pip install "grpo_colab[reasoning-gym]"`'):
        Recipe.load(task={"name": "reasoning_gym:chain_sum"})
