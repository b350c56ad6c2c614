"""Reports of run folders in any state, one by one: what is there is shown, and what is missing or broken is said."""

from __future__ import annotations

import base64
import gzip
import html
import json
import os
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import refused

from grpo_colab import Recipe, Run
from grpo_colab.errors import SettingError
from grpo_colab.evaluation.evaluate import AFTER, BEFORE, comparison
from grpo_colab.reporting import report
from grpo_colab.runs.folders import DRAW
from grpo_colab.runs.lock import locked
from grpo_colab.runs.phase import Phase, write_phase
from grpo_colab.utils.files import MOST_READ, append, lines


def seen(page: Path) -> str:
    """What a reader without JavaScript sees, on one line."""
    body = page.read_text(encoding="utf-8").partition("</style>")[2].partition('<p id="state"')[0]
    return html.unescape(" ".join(re.sub(r"<[^>]*>", " ", body).split()))


def data(page: Path) -> dict[str, Any]:
    packed = re.findall(r'id="(?:data|rest)">([^<]*)<', page.read_text(encoding="utf-8"))
    first, later = (json.loads(gzip.decompress(base64.b64decode(one))) for one in packed)
    return first | later


def charts(page: Path) -> dict[str, list[list[Any]]]:
    return {chart["title"]: chart["table"] for chart in data(page)["charts"]}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A finished run of 10 steps, two completions each, and 6 held-out problems of which 3 were gained."""
    run = Run.create(Recipe.load(budget={"max_steps": 10}, evaluation={"n": 6}), tmp_path / "run")
    for step in range(1, 11):
        metrics = {"step": step, "loss": 0.1, "reward": step / 10, "reward_std": 0.5, "step_time": 2.0}
        run.append("metrics.jsonl", [metrics | {"frac_reward_zero_std": 0.25}])
        row = {"step": step, "group": 0, "prompt": [{"role": "user", "content": "3 + 4?"}], "answer": "7"}
        rewards = {"rewards": {"correctness_reward": 1.0}, "advantage": 0.5}
        run.append("completions.jsonl", [row | rewards | {"completion": f"{n}: <answer>7</answer>"} for n in (1, 2)])
    sides = [[answered(n, n < right) for n in range(6)] for right in (2, 5)]
    run.write_lines(BEFORE, sides[0])
    run.write_lines(AFTER, sides[1])
    run.write_json("evaluation.json", comparison(run.recipe, *sides, 10))
    run.write_json("environment.json", {"device": {"name": "a device"}})
    return run


def answered(n: int, right: bool) -> dict[str, Any]:
    verdict = {"right": right, "verdict": "right" if right else "wrong", "lenient_right": right, "rewards": {"r": 1.0}}
    return {
        "source": f"here:{n}",
        "question": f"question {n}",
        "answer": "7",
        "completion": "<answer>7</answer>",
        **verdict,
    }


def add(name: str, text: str | bytes) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        with (run / name).open("ab") as file:
            file.write(text if isinstance(text, bytes) else text.encode())

    return damage


def put(name: str, text: str | bytes) -> Callable[[Path], None]:
    return lambda run: ((run / name).unlink(missing_ok=True), add(name, text)(run))[1]


def without(*names: str) -> Callable[[Path], None]:
    return lambda run: [(run / name).unlink() for name in names][-1]


def folder(name: str) -> Callable[[Path], None]:
    return lambda run: ((run / name).unlink(), (run / name).mkdir())[1]


def unwritten(name: str, *keys: str) -> Callable[[Path], None]:
    """Leave keys, such as "after.ci95", out of a JSON file."""

    def damage(run: Path) -> None:
        value = json.loads((run / name).read_text())
        for key in keys:
            *outer, last = key.split(".")
            inner = value
            for one in outer:
                inner = inner[one]
            del inner[last]
        (run / name).write_text(json.dumps(value))

    return damage


JUNK = random.Random(0).randbytes(20_000)
DEEP = "[" * 100_000
NESTED = "[" * 700 + "]" * 700  # which JSON's reader takes, and others do not
STRANGE = {"reward": "high", "loss": {"a": 1}, "reward_std": 10**400, "step_time": True, "entropy": float("nan")}
# What was done to the folder, and what the page must say of it.
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no metrics": (without("metrics.jsonl"), "No metrics"),
    "empty metrics": (put("metrics.jsonl", ""), "No metrics"),
    "a torn last line": (add("metrics.jsonl", '{"step": 11, "rew'), "metrics.jsonl: its last line is cut off"),
    "a line cut within a sign": (add("completions.jsonl", '{"step": 11, "é'.encode()[:-1]), "its last line is cut off"),
    "lines that are no JSON": (add("metrics.jsonl", "what?\n{]\n"), "metrics.jsonl: 2 lines are no JSON object"),
    "lines of other types": (add("metrics.jsonl", "[1]\n7\nnull\n"), "metrics.jsonl: 3 lines are no JSON object"),
    "a line without a step": (add("metrics.jsonl", '{"reward": 1}\n'), "metrics.jsonl: 1 line without a step"),
    "a step that is none": (add("metrics.jsonl", '{"step": "two", "reward": 1}\n'), "1 line without a step"),
    "numbers that are none": (
        add("metrics.jsonl", json.dumps({"step": 11, **STRANGE}) + "\n"),
        "'reward' is no number, or beyond 1e30, in 1 step, first in step 11",
    ),
    "very deep JSON": (add("metrics.jsonl", DEEP + "\n"), "metrics.jsonl: 1 line is no JSON object"),
    "a line that is nested": (
        add("completions.jsonl", f'{{"step": 11, "group": {NESTED}, "prompt": {NESTED}}}\n'),
        "completions.jsonl: 1 line is no JSON object",
    ),
    "junk as metrics": (put("metrics.jsonl", JUNK), "No metrics"),
    "junk as completions": (put("completions.jsonl", JUNK), "completions.jsonl: "),
    "junk as a recipe": (put("recipe.toml", JUNK), "recipe.toml cannot be read"),
    "an empty recipe": (put("recipe.toml", ""), "an unknown model"),
    "a deep recipe": (put("recipe.toml", f"a = {DEEP}"), "recipe.toml cannot be read"),
    "a recipe that is nested": (add("recipe.toml", f"\n[{'a.' * 700}a]\nb = 1\n"), "recipe.toml cannot be read"),
    "a recipe of a number that has no end": (
        add("recipe.toml", f"\n[future]\na = 0x{'f' * 9000}\n"),
        "recipe.toml cannot be read",
    ),
    "junk as an evaluation": (put("evaluation.json", JUNK), "evaluation.json cannot be read"),
    "a deep evaluation": (put("evaluation.json", DEEP), "evaluation.json cannot be read"),
    "a list as an evaluation": (put("evaluation.json", "[1]"), "evaluation.json cannot be read"),
    "an evaluation without an interval": (unwritten("evaluation.json", "after.ci95"), "lacks after.low, after.high"),
    "an evaluation without a test": (unwritten("evaluation.json", "paired"), "lacks paired.gained"),
    "an evaluation without a side": (unwritten("evaluation.json", "before"), "lacks before.accuracy"),
    "an evaluation of texts": (
        put("evaluation.json", '{"n": "x", "before": 7, "after": {"accuracy": "all", "ci95": "wide"}, "paired": []}'),
        "lacks before.accuracy",
    ),
    "no answers": (without(BEFORE, AFTER), "evaluation-before.jsonl is missing"),
    "no answers afterwards": (without(AFTER), "evaluation-after.jsonl is missing"),
    "answers without keys": (put(AFTER, '{"question": "x"}\n{"right": 7}\n'), "Recipe"),
    "no environment": (without("environment.json"), "environment.json is missing"),
    "junk as an environment": (put("environment.json", JUNK), "environment.json cannot be read"),
    "a deep environment": (put("environment.json", f'{{"a": {NESTED}}}'), "environment.json cannot be read"),
    "another environment": (put("environment.json", '{"device": "a text", "new": [1]}'), "an unknown device"),
    "junk as warnings": (put("warnings.jsonl", JUNK), "warnings.jsonl: "),
    "warnings without keys": (put("warnings.jsonl", '{"text": null}\n{"step": "x"}\n'), "Step x"),
    "a folder for a file": (folder("metrics.jsonl"), "metrics.jsonl cannot be read: Is a directory"),
    "a folder for an evaluation": (folder("evaluation.json"), "evaluation.json cannot be read"),
    "completions of other types": (
        add(
            "completions.jsonl", '{"step": [], "prompt": {"a": 1}, "completion": 7, "rewards": [1], "advantage": "x"}\n'
        ),
        "Completions in training",
    ),
    "a tripwire that is nested": (put("tripwire.json", f'{{"step": 99, "wire": {NESTED}}}'), "Recipe"),
    "junk as the files beside": (
        lambda run: [
            put(name, JUNK)(run) for name in ("tripwire.json", "clock.json", "mirror.json", "phase.json", ".lock")
        ][-1],
        "Recipe",
    ),
    "a checkpoint of junk": (
        lambda run: (
            (run / "checkpoints/checkpoint-7").mkdir(parents=True),
            put("checkpoints/checkpoint-7/manifest.json", JUNK)(run),
        )[1],
        "Recipe",
    ),
}


# Said elsewhere than where it is said what is missing; "Recipe" stands for a whole page.
NOT_MISSING = ("Recipe", "Completions in training", "an unknown model", "an unknown device")


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_missing_or_broken_is_said_and_the_rest_is_shown(damage: str, run: Run) -> None:
    spoil, says = DAMAGES[damage]
    spoil(run.path)
    page = report([run.path])
    text, found = seen(page), data(page)
    assert says in text
    if "metrics" not in damage and "folder for a file" not in damage:
        assert [row[1] for row in charts(page)["Reward"]][:10] == [step / 10 for step in range(1, 11)]
    if "completions" not in damage:
        assert len(found["completions"]["text"]) == 20
    if "answers" not in damage:  # from evaluation.json, or from the answers themselves
        assert re.search(r"before 33\.3 % 9\.7 to 70\.0 %", text)  # Wilson's interval of 2 in 6
        assert re.search(r"after 83\.3 % 43\.6 to 97\.0 %", text)  # and of 5 in 6
        assert "3 gained, 0 lost" in text.replace(" ,", ",")
    assert ("What is missing" in text) == (says not in NOT_MISSING)


def test_a_whole_run_says_nothing_of_what_is_missing(run: Run) -> None:
    page = report([run.path])
    assert "What is missing" not in seen(page)
    assert "; finished;" in seen(page)
    assert {row[1] for row in charts(page)["Groups with variance"]} == {0.75}


def test_a_recipe_of_a_version_yet_to_come_is_shown_as_it_is(run: Run) -> None:
    recipe = run.path / "recipe.toml"
    recipe.write_text(
        recipe.read_text() + '\n[future]\nsetting = "of tomorrow"\ntoken = "hf_secret"\nwhen = 2030-01-01\n'
    )
    with pytest.raises(SettingError):
        _ = run.recipe
    page = report([run.path])
    assert 'setting = "of tomorrow"' in seen(page)
    assert "hf_secret" not in page.read_text() + json.dumps(data(page))
    assert "finished" in seen(page)


def test_a_run_that_is_being_trained_says_so_and_needs_no_lock(run: Run) -> None:
    (run.path / "evaluation.json").unlink()
    (run.path / AFTER).unlink()
    with locked(run.path):
        text = seen(report([run.path]))
    assert "; running;" in text
    assert "Go on with" not in text


def test_a_stopped_run_says_how_to_go_on(run: Run) -> None:
    for name in ("evaluation.json", AFTER):
        (run.path / name).unlink()
    text = seen(report([run.path]))
    assert f"Stopped at step 10. Go on with: grpo-colab train --resume {run.path}" in text
    (run.path.parent / DRAW).write_text('{"runs": 7}')
    assert "grpo-colab train --resume" in seen(report([run.path]))


def test_a_run_says_what_it_does_and_what_it_failed_of(run: Run) -> None:
    for name in ("evaluation.json", AFTER):
        (run.path / name).unlink()
    write_phase(run.path, Phase("evaluating after"))
    with locked(run.path):
        assert "; running, evaluating after training;" in seen(report([run.path]))
    write_phase(run.path, Phase("failed", during="training", why="<b>no space"))
    text = seen(report([run.path]))
    assert "; failed while training;" in text
    assert "Failed of: <b>no space" in text
    assert f"Stopped at step 10. Go on with: grpo-colab train --resume {run.path}" in text
    write_phase(run.path, Phase("finished"))
    (run.path / "metrics.jsonl").unlink()
    assert "failed" not in seen(report([run.path]))


def test_what_stopped_it_is_said(run: Run) -> None:
    told = {"what": "the KL was 9", "suggestion": "lower grpo.learning_rate"}
    run.write_json("tripwire.json", {"wire": "tripwires.max_kl", "step": 10, **told})
    run.write_json("reward-failure.json", {"reward": "<b>mine", "what": "raised", "step": 11})
    text = seen(report([run.path]))
    assert "The tripwire tripwires.max_kl stopped the run at step 10: the KL was 9." in text
    assert "To change: lower grpo.learning_rate. See tripwire.json." in text
    assert "A reward broke: <b>mine: raised, at step 11" in text


def test_of_a_file_of_gigabytes_parts_evenly_over_it_are_read(run: Run) -> None:
    row = {"prompt": "?", "answer": "7", "rewards": {}, "completion": "x" * 1000}
    big = run.path / "completions.jsonl"
    first = lines({"step": step, **row} for step in range(1000))
    last = lines({"step": step, **row} for step in range(9000, 10_000))
    with big.open("wb") as file:
        file.write(first.encode())
        file.truncate(2_000_000_000)  # takes no space
    append(big, "\n" + last)
    page = report([run.path])
    assert "completions.jsonl has 2,001 MB; 67 MB evenly over it were read, and the rest was left out" in seen(page)
    steps = set(data(page)["completions"]["step"])
    assert 0 in steps
    assert max(steps) < 1000 or max(steps) >= 9000


def test_an_evaluation_of_gigabytes_is_not_read(run: Run) -> None:
    os.truncate(run.path / "evaluation.json", MOST_READ + 1)
    assert "evaluation.json cannot be read" in seen(report([run.path]))


def test_a_pipe_is_not_waited_for(run: Run) -> None:
    if sys.platform == "win32":
        pytest.skip("no pipes in folders there")
    (run.path / "metrics.jsonl").unlink()
    os.mkfifo(run.path / "metrics.jsonl")
    assert "metrics.jsonl cannot be read: it is no regular file" in seen(report([run.path]))


def test_ten_thousand_steps_are_means_of_as_many_as_it_takes_and_keep_the_extremes(run: Run) -> None:
    rows = [
        {"step": n, "reward": 1.0, "reward/max": 2.0, "reward/min": 0.0, "reward_std": 0.1} for n in range(1, 10_001)
    ]
    rows[5000] |= {"reward": 26.0, "reward/max": 99.0, "reward/min": -7.0}
    (run.path / "metrics.jsonl").write_text(lines(rows))
    page = report([run.path])
    chart = next(chart for chart in data(page)["charts"] if chart["title"] == "Reward")
    assert 200 <= len(chart["table"]) <= 400
    assert max(row[3] for row in chart["table"]) == 99.0
    assert min(row[4] for row in chart["table"]) == -7.0
    assert max(row[1] for row in chart["table"]) == 2.0  # 26 once among 25 steps
    assert chart["ends"][0] == ["mean", "1 (step 1)", "1 (step 10,000)", "1 (step 1)", "26 (step 5,001)"]
    assert page.stat().st_size < 2_500_000


def test_where_nothing_can_be_written_another_file_is_asked_for(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "new" / "folder" / "page.html"
    assert report([run.path], page) == page
    assert "10 of 10" in seen(page)
    assert not (run.path / "report.html").exists()
    with refused(problem="cannot be written", remedy="choose --out FILE", place=page / "beneath a file.html"):
        report([run.path], page / "beneath a file.html")


def test_what_is_no_run_folder_is_named(tmp_path: Path, run: Run) -> None:
    with refused(problem="so it is no run folder", snapshot=False):
        report([tmp_path / "nowhere"])
    with refused(problem="so it is no run folder", snapshot=False):
        report([run.path, tmp_path])
    with refused("RUN", remedy="name at least one run folder"):
        report([])
    with refused("--out", str(tmp_path), problem="is a folder", remedy="write a file"):
        report([run.path], tmp_path)
    (tmp_path / DRAW).write_text('{"runs": ["a", 7, "../../etc"]}')
    with refused(problem="none of the runs", place=tmp_path):
        report([tmp_path])


def test_numbers_that_no_chart_shows_are_left_out_and_said(run: Run) -> None:
    append(run.path / "metrics.jsonl", lines({"step": n, "mine": 1.7e308, "loss": 10**300} for n in range(11, 999)))
    page = report([run.path])
    assert "'mine' is no number, or beyond 1e30, in 988 steps, first in step 11" in seen(page)
    assert "mine" not in charts(page)


def test_a_completion_without_a_prompt_is_shown_all_the_same(run: Run) -> None:
    append(run.path / "completions.jsonl", '{"step": 11, "prompt": [], "completion": "alone"}\n')
    found = data(report([run.path]))["completions"]
    assert found["text"][-1] == "alone"
    assert all(len(prompt) > 0 for prompt in found["prompts"])  # the page shows the last message of each


def test_a_list_of_which_nothing_fits_says_so(run: Run) -> None:
    row = {"step": 1, "group": 0, "prompt": "?", "rewards": {}}
    rng = random.Random(0)
    rows = [{**row, "completion": base64.b64encode(rng.randbytes(8900)).decode()} for _ in range(1000)]
    (run.path / "completions.jsonl").write_text(lines(rows))
    assert "0 of 1,000 completions" in seen(report([run.path]))


def test_a_verdict_that_is_missing_is_none(run: Run) -> None:
    (run.path / AFTER).write_text('{"question": "?", "right": true}\n')
    (row,) = [row for row in data(report([run.path]))["problems"]["rows"] if row["question"] == "?"]
    assert (row["before_verdict"], row["after_verdict"]) == (None, None)
