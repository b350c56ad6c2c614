"""`grpo-colab difficulty`: how hard the training problems are before a model learns, and what a run does with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe, train
from grpo_colab.evaluation.difficulty import Difficulty, measure_difficulty, read_difficulty

pytestmark = pytest.mark.stack

ABOUT = {"task": "word_problems", "model": "tiny", "samples": 4, "max_completion_length": 24}


def row(right: int, kind: str = "1 step", lenient: int | None = 2, cut_off: int = 0) -> dict[str, Any]:
    found = {"source": "here", "question": f"{right} {kind}?", "kind": kind, "samples": 4, "right": right}
    return {**found, "lenient_right": lenient, "cut_off": cut_off}


def recipe(**overrides: dict[str, Any]) -> Recipe:
    settings: dict[str, dict[str, Any]] = {
        "task": {"limit": 64},
        "grpo": {"num_generations": 4, "max_completion_length": 24},
        "budget": {"max_steps": 1, "prompts_per_step": 2, "rehearsal": False},
        "evaluation": {"n": 4, "max_completion_tokens": 8},
    }
    return Recipe.load(
        **{name: {**settings.get(name, {}), **overrides.get(name, {})} for name in {*settings, *overrides}}
    )


def test_the_numbers_are_those_of_a_hand_count() -> None:
    rows = [row(0), row(4), row(1), row(2, "2 steps", cut_off=1), row(0, "12 steps or more", lenient=4)]
    found = Difficulty(ABOUT, rows)
    assert found.right == pytest.approx(7 / 20)
    assert found.useful == pytest.approx(2 / 5)
    assert found.histogram() == {0: 2, 1: 1, 2: 1, 3: 0, 4: 1}
    assert found.by_kind() == {
        "1 step": (3, pytest.approx(5 / 12), pytest.approx(1 / 3)),
        "2 steps": (1, 0.5, 1.0),
        "12 steps or more": (1, 0.0, 0.0),
    }
    text = found.text()
    assert "tiny on 5 training problems, 4 completions each: 35.0% right" in text
    assert " 0 of 4        2  ########################################" in text
    assert "40% of the groups would teach more than the format" in text
    assert "60.0% of the completions are right leniently." in text
    assert "5% were cut off at 24 tokens" in text
    assert [line.split()[:2] for line in text.splitlines()[-3:]] == [["1", "step"], ["2", "steps"], ["12", "steps"]]
    assert json.loads(json.dumps(found.as_dict()))["kinds"]["2 steps"] == {"problems": 1, "right": 0.5, "useful": 1.0}


def test_answers_that_are_judged_in_one_way_say_nothing_of_another() -> None:
    assert "leniently" not in Difficulty(ABOUT, [row(1, lenient=None)]).text()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Difficulty]:
    path = tmp_path_factory.mktemp("difficulty") / "found.jsonl"
    return path, measure_difficulty(recipe(evaluation={"batch_size": 16}), path, problems=12, samples=4)


def test_a_real_model_is_asked(measured: tuple[Path, Difficulty]) -> None:
    path, found = measured
    task = recipe().load_task()
    assert [one["question"] for one in found.rows] == [problem.question for problem in task.problems("train", 12)]
    assert [int(one["kind"].split()[0]) for one in found.rows] == [
        len(problem.steps) for problem in task.problems("train", 12)
    ]
    assert all(0 <= one["right"] <= 4 == one["samples"] for one in found.rows)
    assert 0 < found.right < 1
    assert any(one["cut_off"] for one in found.rows)
    assert read_difficulty(path) == found


def test_what_was_stopped_goes_on_and_samples_the_same(measured: tuple[Path, Difficulty], tmp_path: Path) -> None:
    path, found = measured
    lines = path.read_text().splitlines(keepends=True)
    cut = tmp_path / "cut.jsonl"
    cut.write_text("".join(lines[: 1 + 4]) + lines[5][:20])  # one batch of four problems, and a line that was torn
    again = measure_difficulty(recipe(evaluation={"batch_size": 16}), cut, problems=12, samples=4)
    assert again == found
    written = cut.read_text()
    measure_difficulty(recipe(evaluation={"batch_size": 16}), cut, problems=12, samples=4)
    assert cut.read_text() == written


@pytest.mark.parametrize(
    ("arguments", "setting", "value", "problem"),
    [
        ({"problems": 0}, "--problems", 0, "too small"),
        ({"samples": 1}, "--samples", 1, "too small"),
        ({"samples": 8}, "--out", None, "holds a measurement with samples = 4, not 8"),
    ],
    ids=str,
)
def test_what_cannot_be_measured_is_refused(
    arguments: dict[str, int], setting: str, value: Any, problem: str, measured: tuple[Path, Difficulty]
) -> None:
    path = str(measured[0])
    with refused(setting, path if value is None else value, problem=problem, snapshot=False):
        measure_difficulty(recipe(), path, **{"problems": 12, "samples": 4, **arguments})


def test_a_run_begins_with_it(measured: tuple[Path, Difficulty], tmp_path: Path) -> None:
    path, found = measured
    run = train(recipe(sampling={"strategy": "adaptive", "prior": str(path)}), out=tmp_path / "run")
    assert run.finished
    state = json.loads((run.checkpoints / "checkpoint-1" / "sampling.json").read_text())
    kinds = {one["kind"] for one in found.rows}
    assert kinds <= set(state["prompts"]["weights"])


def test_a_prior_that_is_none_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").write_text('{"question": "1 + 1?"}\n')
    for name, problem in (("other.jsonl", "holds no measurement"), ("absent.jsonl", "there is no such file")):
        path = str(tmp_path / name)
        chosen = recipe(sampling={"strategy": "adaptive", "prior": path})
        with refused("sampling.prior", path, problem=problem, remedy="grpo-colab difficulty", snapshot=False):
            train(chosen, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with refused("sampling.prior", "x.jsonl", problem="another strategy", remedy="adaptive"):
        recipe(sampling={"prior": "x.jsonl"})


@pytest.mark.parametrize(
    "damage",
    [
        {"question": ["1 + 1?"]},
        {"kind": 7},
        {"right": 5},
        {"right": -1},
        {"right": True},
        {"samples": 0, "right": 0},
        {"cut_off": "x"},
        {"lenient_right": "x"},
    ],
    ids=str,
)
def test_a_line_that_is_damaged_counts_nothing(damage: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    lines = [{"about": ABOUT}, row(1), {**row(2), **damage}, {"question": "2 + 2?"}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_difficulty(path).rows == [row(1)]


def test_it_asks_no_problem_that_a_run_would_not_train_on(tmp_path: Path) -> None:
    found = measure_difficulty(recipe(task={"limit": 3}), tmp_path / "found.jsonl", problems=12, samples=2)
    assert [one["question"] for one in found.rows] == [
        problem.question for problem in recipe().load_task().problems("train", 3)
    ]


def test_the_file_is_found_beside_the_recipe(tmp_path: Path, measured: tuple[Path, Difficulty]) -> None:
    (tmp_path / "found.jsonl").write_bytes(measured[0].read_bytes())
    (tmp_path / "mine.toml").write_text('[sampling]\nstrategy = "adaptive"\nprior = "found.jsonl"\n')
    (tmp_path / "mine.toml").write_text('preset = "word-problems-tiny"\n' + (tmp_path / "mine.toml").read_text())
    assert Recipe.load(tmp_path / "mine.toml").sampling.prior == str(tmp_path / "found.jsonl")


def test_as_a_command(cli: Any, measured: tuple[Path, Difficulty]) -> None:
    words = ("--task.limit", "64", "--grpo.num-generations", "4", "--grpo.max-completion-length", "24")
    done = cli("difficulty", *words, "--problems", "12", "--samples", "4", "--out", str(measured[0]))
    assert done.returncode == 0
    assert done.stdout == measured[1].text() + "\n"
    done = cli("difficulty", *words, "--problems", "12", "--samples", "4", "--out", str(measured[0]), "--json")
    assert json.loads(done.stdout)["useful"] == measured[1].useful
