"""Several values of a setting are compared by real runs of the tiny model, and a stopped comparison goes on."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from refusals import refused
from warm import Warm

from grpo_colab import Recipe, Run, sweep, train
from grpo_colab.experiments.sweep_checks import sweep_variants
from grpo_colab.experiments.sweep_folder import SweepResult, read_sweep
from grpo_colab.experiments.sweep_results import best_row, ended_text, notes
from grpo_colab.experiments.values import settings_tried
from grpo_colab.recipe.overrides import parse_overrides
from grpo_colab.reporting.page.run_reader import find_runs
from grpo_colab.runs.folders import SWEEP
from grpo_colab.runs.listing import run_folders
from grpo_colab.runs.lock import locked
from grpo_colab.runs.records import repeatable
from grpo_colab.utils.files import read_json

pytestmark = pytest.mark.stack

Cli = Callable[..., Any]
SMALL: dict[str, dict[str, Any]] = {
    "budget": {"max_steps": 2, "rehearsal": False},
    "task": {"limit": 32},
    "evaluation": {"n": 8, "max_completion_tokens": 24, "every": 1, "probe": 4},
}
WORDS = [
    f"--{table}.{key.replace('_', '-')}={str(value).lower()}" for table in SMALL for key, value in SMALL[table].items()
]
RATES = [1e-4, 2e-3]


def small(**tables: Mapping[str, Any]) -> dict[str, Any]:
    return {table: {**SMALL.get(table, {}), **tables.get(table, {})} for table in {**SMALL, **tables}}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """Two learning rates, with one seed each."""
    found = sweep(out=tmp_path_factory.mktemp("swept") / "runs", **small(grpo={"learning_rate": RATES}))
    assert found is not None
    return found


def test_the_table_is_what_the_runs_have_brought(swept: SweepResult) -> None:
    names = ["learning_rate=0.0001-seed=42", "learning_rate=0.002-seed=42"]
    assert [run.path.name for run in swept.runs] == names
    for run, row, rate in zip(swept.runs, swept.rows, RATES, strict=True):
        assert run.finished
        assert run.recipe.grpo["learning_rate"] == rate
        evaluation, metrics = json.loads((run.path / "evaluation.json").read_text()), run.metrics()
        assert row["settings"] == {"grpo.learning_rate": rate}
        assert row["before"]["mean"] == evaluation["before"]["accuracy"]
        assert row["after"]["mean"] == evaluation["after"]["accuracy"]
        assert row["gain"]["mean"] == evaluation["after"]["accuracy"] - evaluation["before"]["accuracy"]
        assert row["probe_best"]["mean"] == max(line["probe/accuracy"] for line in metrics)
        assert row["probe_last"]["mean"] == metrics[-1]["probe/accuracy"]
        assert row["reward"]["mean"] == pytest.approx(fmean(line["reward"] for line in metrics))
        assert row["completions"]["mean"] == len(run.completions()) == 32
        assert (row["steps"]["mean"], row["seeds"], ended_text(row)) == (2, 1, "finished")
    text = swept.text()
    assert [line.split()[0] for line in text.splitlines()[1:3]].count("*") == 1
    assert "that number is optimistic" in text


def test_the_folder_has_the_table_a_picture_and_its_runs(swept: SweepResult) -> None:
    from PIL import Image

    kept = read_json(swept.path / SWEEP)
    assert kept is not None
    assert kept["table"] == json.loads(json.dumps(swept.as_dict()["table"]))
    assert [one["settings"] for one in kept["combinations"]] == [{"grpo.learning_rate": rate} for rate in RATES]
    with Image.open(io.BytesIO((swept.path / "sweep.png").read_bytes())) as picture:
        assert picture.width == 1440
        assert len(set(picture.convert("RGB").resize((90, 30)).getdata())) > 20  # not a blank page
    assert [run.path for run in find_runs([swept.path])] == [run.path for run in swept.runs]
    assert {*run_folders(swept.path.parent)} == {run.path for run in swept.runs}
    assert swept.runs[0].resume_command == f"grpo-colab sweep --resume {swept.path}"


def test_the_best_recipe_repeats_the_best_run(swept: SweepResult, tmp_path: Path) -> None:
    assert swept.best is not None
    assert swept.best_recipe is not None
    best = swept.combinations[swept.best].runs[0]
    written = tomllib.loads(swept.best_recipe.read_text())
    assert written["description"].startswith("the best of a sweep: learning_rate = ")
    assert "sweep" not in written
    run = train(Recipe.load(swept.best_recipe), out=tmp_path / "again")
    assert repeatable(run.metrics()) == repeatable(best.metrics())
    assert run.evaluation == best.evaluation


def test_another_way_to_choose_trains_nothing(swept: SweepResult, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for run in swept.runs for path in run.path.iterdir()}
    found = sweep(resume=swept.path, by="probe")
    assert found is not None
    assert {path: path.stat().st_mtime_ns for run in swept.runs for path in run.path.iterdir()} == before
    assert "all of them over" in capsys.readouterr().err
    last = [row["probe_last"]["mean"] for row in found.rows]
    assert found.best == last.index(max(last))
    assert "not those of the accuracy" in found.text()
    with refused("--resume", str(swept.path), remedy="leave out grpo", snapshot=False):
        sweep(resume=swept.path, grpo={"beta": 0.1})
    with refused("--out", str(swept.path), problem="holds the runs", remedy="sweep --resume", snapshot=False):
        sweep(out=swept.path, **small(grpo={"learning_rate": RATES}))


def test_a_run_that_a_tripwire_ended_is_shown_and_not_chosen(tmp_path: Path) -> None:
    tables = small(grpo={"learning_rate": [1e30, 1e-5], "max_grad_norm": 1e30}, budget={"max_steps": 3})
    found = sweep(out=tmp_path / "runs", **tables)
    assert found is not None
    tripped, sound = found.rows
    assert found.runs[0].tripped
    assert (tripped["after"], tripped["finished"]) == (None, False)
    assert ended_text(tripped).startswith("tripwire ")
    assert found.best == 1
    assert sound["finished"]
    lines = found.text().splitlines()
    assert "tripwire" in lines[1]
    assert lines[2].startswith("*")


def test_an_error_in_one_run_leaves_the_others_alone(tmp_path: Path) -> None:
    tables = small(budget={"max_steps": 1}, grpo={"num_generations": [4, 8]})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        (tmp_path / "once.py").write_text(
            "def once_reward(completions, trainer_state=None, **kwargs):\n"
            "    if trainer_state is not None and len(completions) == 8:\n"
            "        raise RuntimeError('broken for groups of four')\n"
            "    return [0.0] * len(completions)\n"
        )
        tables["rewards"] = {f"{tmp_path}/once.py:once_reward": 1.0}
        with refused(problem="broken for groups of four", snapshot=False):
            sweep(out="runs", **tables)
        found = read_sweep("runs")
    assert [row["finished"] for row in found.rows] == [False, True]
    assert found.best == 1
    assert any("num_generations=4-seed=42 failed" in note for note in notes(found.rows, found.best, "after"))


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_sweep_goes_on(number: signal.Signals, tmp_path: Path, warm: Warm) -> None:
    words = ["sweep", *WORDS, "--budget.max-steps=200", "--grpo.save-steps=1", "--grpo.learning-rate=1e-4,1e-5"]
    process = warm.start("-m", "grpo_colab", *words, "--out", "runs", cwd=tmp_path)
    names = [f"learning_rate={rate}-seed=42" for rate in ("0.0001", "1e-05")]
    first, second = (tmp_path / "runs" / name for name in names)
    while process.poll() is None and len(Run(first).metrics() if first.is_dir() else []) < 2:
        time.sleep(0.1)
    process.send_signal(number)
    out, err = process.communicate(timeout=600)
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 0, err[-3000:]
        assert "2 of 2 runs are not over. Go on with: grpo-colab sweep --resume runs" in err
        assert "stopped after step" in out
        assert not (tmp_path / "runs" / "best.toml").exists()
    assert not (second / "metrics.jsonl").exists()
    done = Run(first).last_step
    for path, steps in ((first, done + 1), (second, 1)):  # so that the rest is short
        text = (path / "recipe.toml").read_text()
        (path / "recipe.toml").write_text(text.replace("max_steps = 200", f"max_steps = {steps}"))
    words = ["sweep", "--resume", "runs", "--json"]
    ended = warm.run("-m", "grpo_colab", *words, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert [row["finished"] for row in json.loads(ended.stdout)["table"]] == [True, True]
    assert [row["step"] for row in Run(first).metrics()] == list(range(1, done + 2))
    assert (tmp_path / "runs" / "best.toml").is_file()


@pytest.mark.long
def test_a_drawing_is_swept_too_by_what_its_method_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hindsight = {"method": "her", "samples": [2, 3], "cold_samples": 1}
    tables = {"hindsight": hindsight, "grpo": {"learning_rate": [1e-5, 1e-4]}, "budget": {"max_steps": 1}}
    found = sweep("drawing-tiny", out=tmp_path / "runs", **tables)
    assert found is not None
    assert "without grpo.learning_rate" in capsys.readouterr().err
    assert [run.path.name for run in found.runs] == ["samples=2-seed=42", "samples=3-seed=42"]
    assert [len(run.completions()) for run in found.runs] == [3, 4]


# ------------------------------------------------------------------------------- before anything is trained


def test_a_seed_reaches_everything_that_draws_unless_it_is_another() -> None:
    found = sweep_variants("word-problems-tiny", {"lora": {"random_state": 7}}, 2)
    assert {name: one.recipe.task["seed"] for name, one in found.items()} == {"seed=42": 42, "seed=43": 43}
    assert {one.recipe.lora["random_state"] for one in found.values()} == {7}
    followed = sweep_variants("word-problems-tiny", {"grpo": {"seed": 5}}, 2)
    assert [one.recipe.lora["random_state"] for one in followed.values()] == [5, 6]


# What is written on the command line -> what is tried, and what is the same in all runs.
SPLIT: list[tuple[str, dict[str, list[Any]], dict[str, dict[str, str]]]] = [
    ("--grpo.learning-rate 1e-5,2e-5", {"grpo.learning_rate": [1e-5, 2e-5]}, {}),
    ("--grpo.learning-rate=[1e-5,2e-5]", {"grpo.learning_rate": [1e-5, 2e-5]}, {}),
    ("--grpo.num-generations 4,8 --lora.r 8", {"grpo.num_generations": [4, 8]}, {"lora": {"r": "8"}}),
    ("--lora.use-rslora true,false", {"lora.use_rslora": [True, False]}, {}),
    ("--sampling.strategy uniform,adaptive", {"sampling.strategy": ["uniform", "adaptive"]}, {}),
    ("--grpo.loss-type dapo,grpo", {"grpo.loss_type": ["dapo", "grpo"]}, {}),
    ("--rewards.integer 0,0.5", {"rewards.integer": [0.0, 0.5]}, {}),
    ("--lora.rank 4,8", {"lora.r": [4, 8]}, {}),
    # a text, and lists
    ("--task.system-prompt Yes,no", {}, {"task": {"system_prompt": "Yes,no"}}),
    ("--lora.target-modules q_proj,v_proj", {}, {"lora": {"target_modules": "q_proj,v_proj"}}),
    ("--lora.target-modules=['q','v']", {}, {"lora": {"target_modules": "['q','v']"}}),
    ("--sweep.lora.target-modules [['q'],['q','v']]", {"lora.target_modules": [["q"], ["q", "v"]]}, {}),
    ("--sweep.task.system-prompt ['a,b','c']", {"task.system_prompt": ["a,b", "c"]}, {}),
]


@pytest.mark.parametrize(("line", "tried", "same"), SPLIT, ids=[line for line, _, _ in SPLIT])
def test_the_type_of_a_setting_decides_whether_commas_part_values(
    line: str, tried: dict[str, list[Any]], same: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = settings_tried("word-problems-tiny", parse_overrides(line.split())[1])
    assert (found.values, found.tables) == (tried, same)
    assert ("is one value" in capsys.readouterr().err) == (line == "--task.system-prompt Yes,no" or "q_proj,v" in line)


def test_a_file_says_what_is_tried_and_an_override_takes_it_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'preset = "word-problems-tiny"\n[grpo]\nnum_generations = [4, 8]\n'
        '[sweep]\n"grpo.learning_rate" = [1e-5, 2e-5]\n'
    )
    found = sweep_variants(path, {}, 1)
    assert len(found) == 4
    assert {one.recipe.sweep for one in found.values()} == {None}
    assert {one.recipe.name for one in found.values()} == {"mine"}
    fewer = sweep_variants(path, parse_overrides(["--grpo.learning-rate", "3e-5"])[1], 1)
    assert [*fewer] == ["num_generations=4-seed=42", "num_generations=8-seed=42"]
    assert {one.recipe.grpo["learning_rate"] for one in fewer.values()} == {3e-5}


def test_settings_of_one_name_are_told_apart() -> None:
    tables = {"grpo": {"learning_rate": [1e-5, 2e-5]}, "pretraining": {"learning_rate": [1e-4, 2e-4]}}
    names = [*sweep_variants("word-problems-tiny", tables, 1)]
    assert names[0] == "grpo.learning_rate=1e-05-pretraining.learning_rate=0.0001-seed=42"


# What is given, and fields of the refusal.
BAD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing to compare": ({}, {"setting": "sweep", "remedy": "--grpo.learning-rate 1e-5,2e-5"}),
    "no seeds": ({"seeds": 0}, {"setting": "--seeds", "value": 0}),
    "a value of another type": (
        {"grpo": {"num_generations": [4, "x"]}},
        {"setting": "grpo.num_generations", "value": "x", "remedy": "whole number"},
    ),
    "a value out of bounds": (
        {"grpo": {"num_generations": [4, 1]}},
        {"setting": "grpo.num_generations", "value": 1, "remedy": "2 or more", "place": None},
    ),
    "a combination that does not fit": (
        {"grpo": {"max_completion_length": [48, 400]}},
        {"setting": "model.max_seq_length", "value": 512, "place": "max_completion_length = 400"},
    ),
    "a step that does not divide": (
        {"grpo": {"num_generations": [4, 6]}, "budget": {"micro_batch": 8}},
        {"setting": "budget.micro_batch", "value": 8, "place": "num_generations = 6"},
    ),
    "the same value twice": (
        {"grpo": {"learning_rate": [1e-5, 0.00001]}},
        {"setting": "grpo.learning_rate", "value": 1e-5, "remedy": "once"},
    ),
    "no value": ({"grpo": {"learning_rate": []}}, {"setting": "grpo.learning_rate", "value": []}),
    "seeds as values": ({"grpo": {"seed": [1, 2, 3]}}, {"setting": "grpo.seed", "remedy": "--seeds 3"}),
    "values in two ways": (
        {"grpo": {"beta": [0.0, 0.1]}, "sweep": {"grpo.beta": [0.0, 0.2]}},
        {"setting": "grpo.beta", "problem": "given twice"},
    ),
    "a setting that there is not": (
        {"grpo": {"learning_rat": [1e-5, 2e-5]}},
        {"setting": "grpo.learning_rat", "remedy": "learning_rate"},
    ),
    "too many runs": (
        {"seeds": 600, "grpo": {"learning_rate": RATES}},
        {"setting": "sweep", "value": 1200, "remedy": "1,000"},
    ),
    "no way to choose": ({"by": "before"}, {"setting": "--by", "value": "before", "remedy": "after, probe"}),
    "a probe that is not asked": (
        {"by": "probe", "grpo": {"learning_rate": RATES}, "evaluation": {"every": 0}},
        {"setting": "--by", "value": "probe", "remedy": "--evaluation.every"},
    ),
    "a schedule that transformers does not know": (
        {"sweep": {"grpo.lr_scheduler_type": ["linear", "lineal"]}},
        {"setting": "[grpo]", "place": "lr_scheduler_type = lineal"},
    ),
    "a list of rewards whose weight is tried": (
        {"rewards": ["correctness"], "sweep": {"rewards.correctness": [1.0, 2.0]}},
        {"setting": "[rewards]", "problem": "is a list"},
    ),
    "no folder to resume": ({"resume": "absent"}, {"setting": "--resume", "problem": "has no sweep.json"}),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_work_is_refused_before_anything_is_written(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given, fields = BAD[kind]
    with refused(**fields):
        sweep(
            **(given if "resume" in given else small(**{k: v for k, v in given.items() if isinstance(v, dict)}))
            | {k: v for k, v in given.items() if not isinstance(v, dict)}
        )
    assert list(tmp_path.iterdir()) == []


def test_a_probe_needs_problems_of_its_own(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n} + 1?", "answer": str(n + 1)} for n in range(12)]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[name == "test" :: 2]))
    task = {"name": "dataset", "path": str(tmp_path / "train.jsonl"), "test_path": str(tmp_path / "test.jsonl")}
    with refused("--by", "probe", problem="no others", remedy="smaller evaluation.n"):
        sweep(by="probe", **small(grpo={"learning_rate": RATES}, task=task))


def test_a_dry_run_lists_the_runs_and_leaves_nothing(cli: Cli, tmp_path: Path) -> None:
    words = ["sweep", *WORDS, "--grpo.learning-rate", "1e-5,2e-5", "--seeds", "2", "--dry-run"]
    done = cli(*words)
    assert done.returncode == 0, done.stderr
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == [f"learning_rate={rate}-seed={seed}" for rate in ("1e-05", "2e-05") for seed in (42, 43)]
    assert "4 runs (2 combinations of grpo.learning_rate, 2 seeds each)" in done.stderr
    assert "by the plan" in done.stderr
    told = json.loads(cli(*words, "--json").stdout)
    assert [one["run"] for one in told["runs"]] == names
    assert told["hours_left"] == pytest.approx(sum(one["hours"] for one in told["runs"]))
    assert list(tmp_path.iterdir()) == []


def test_the_best_has_the_highest_mean_and_of_equal_ones_the_fewest_completions() -> None:
    def row(after: float, completions: int, finished: bool = True, probe: float = 0.5) -> dict[str, Any]:
        means = {"after": after, "completions": completions, "probe_last": probe}
        return {key: {"mean": mean} for key, mean in means.items()} | {"finished": finished}

    rows = [row(0.5, 10), row(0.7, 30), row(0.7, 20, probe=0.9), row(0.9, 5, finished=False), row(0.7, 20)]
    assert best_row(rows, "after") == 2
    assert best_row(rows, "probe") == 2
    assert best_row(rows[3:4], "after") is None
    assert best_row([row(0.1, 9) | {"after": None}], "after") is None


def test_a_folder_of_another_command_or_a_damaged_one_is_not_resumed(tmp_path: Path, swept: SweepResult) -> None:
    (tmp_path / SWEEP).write_text(json.dumps({"runs": ["a"], "recipes": {"a": Recipe.load().to_toml()}, "by": "after"}))
    with refused("--resume", problem="does not say which run has which values"):
        sweep(resume=tmp_path)
    (tmp_path / SWEEP).rename(tmp_path / "draw.json")
    with refused("--resume", problem="`grpo-colab draw` made it"):
        sweep(resume=tmp_path)
    with locked(swept.runs[0].path):  # what is over is not trained, so nobody minds
        assert sweep(resume=swept.path) is not None


def test_the_command_prints_one_table_on_stdout(tmp_path: Path, warm: Warm) -> None:
    words = ["sweep", *WORDS, "--budget.max-steps=1", "--seeds=2", "--out", "runs"]
    done = warm.run("-m", "grpo_colab", *words, cwd=tmp_path, env={**os.environ, "COLUMNS": "200"})
    assert isinstance(done, subprocess.CompletedProcess)
    assert done.returncode == 0, done.stderr[-3000:]
    header, row, *_ = done.stdout.splitlines()
    assert header.split()[:4] == ["seeds", "before", "after", "gain"]
    assert row.startswith("*  the recipe as it is")
    accuracies = [(Run(tmp_path / "runs" / f"seed={seed}").evaluation or {})["after"]["accuracy"] for seed in (42, 43)]
    assert f"{fmean(accuracies):.1%}" in row
    assert "To train it again: grpo-colab train runs/best.toml" in done.stdout
    assert "2 runs (1 combination of the recipe as it is, 2 seeds each)" in done.stderr


def test_what_ended_differently_is_told_by_seed() -> None:
    runs = [
        {"ended": "finished", "seed": 1, "steps": 9, "why": None},
        {"ended": "tripwire", "seed": 2, "steps": 4, "why": "tripwire max_kl at step 4"},
        {"ended": "stopped", "seed": 3, "steps": 2, "why": None},
    ]
    assert ended_text({"finished": False, "runs": runs}) == (
        "1 of 3 finished; seed 2: tripwire max_kl at step 4; seed 3: stopped after step 2"
    )
