"""The charts as data: what is in which, how much of it, and what is said of it; and several runs side by side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from grpo_colab import Recipe, Run
from grpo_colab.evaluation.evaluate import AFTER, BEFORE, comparison
from grpo_colab.reporting.page.charts import run_charts
from grpo_colab.reporting.page.comparison import comparison_charts, distinguishing_names
from grpo_colab.reporting.page.figures import COLOURS, DASHES, line_style
from grpo_colab.reporting.page.metric_rows import downsample
from grpo_colab.reporting.page.page import report
from grpo_colab.reporting.page.run_reader import find_runs, read_run
from grpo_colab.runs.folders import DRAW


def run_of(path: Path, rows: list[dict[str, Any]], **tables: Any) -> Run:
    run = Run.create(Recipe.load(budget={"max_steps": 20}, **tables), path)
    run.append("metrics.jsonl", [{"step": step, **row} for step, row in enumerate(rows, 1)])
    return run


def drawn(run: Run) -> dict[str, dict[str, Any]]:
    return {chart["title"]: chart for chart in run_charts(read_run(run))}


def test_there_are_charts_of_what_has_numbers_and_of_nothing_else(tmp_path: Path) -> None:
    assert drawn(run_of(tmp_path / "none", [])) == {}
    found = drawn(run_of(tmp_path / "some", [{"loss": 0.5, "kl": 0.1}, {"loss": 0.25, "kl": 0.2}]))
    assert set(found) == {"Loss", "KL divergence from the reference"}
    assert found["Loss"]["table"] == [[1, 0.5], [2, 0.25]]
    assert found["Loss"]["caption"].endswith("Falls from 0.5 to 0.25.")
    assert found["Loss"]["ends"] == [["loss", "0.5 (step 1)", "0.25 (step 2)", "0.25 (step 2)", "0.5 (step 1)"]]


def test_steps_that_share_completions_have_gaps_and_not_zeros(tmp_path: Path) -> None:
    """Where num_iterations is 2, every other step has no reward."""
    run = run_of(tmp_path / "run", [{"loss": 1.0, **({"reward": float(n)} if n % 2 else {})} for n in range(20)])
    chart = drawn(run)["Reward"]
    assert [row[0] for row in chart["table"]] == list(range(2, 21, 2))
    assert [trace["x"] for trace in chart["traces"]] == [list(range(2, 21, 2))] * 2


def test_steps_that_share_completions_are_no_verdicts_of_zero(tmp_path: Path) -> None:
    verdicts = {"verdict/right": 0.5, "verdict/wrong": 0.5}
    rows = [{"loss": 1.0} | (verdicts if n % 2 == 0 else {}) for n in range(20)]
    found = drawn(run_of(tmp_path / "run", rows))
    for trace in found["Verdicts"]["traces"]:
        assert trace["x"] == list(range(1, 20, 2))
        assert trace["y"] == [0.5] * 10


def test_names_that_look_alike_are_told_apart(tmp_path: Path) -> None:
    """As those of two sweeps, which begin with the same 200 letters, or of two rewards that differ in a sign."""
    rows = [
        {"rewards/a_b_reward/mean": n, "rewards/a b/mean": 2 * n, "verdict/a_b": 0.5, "verdict/a b": 0.25}
        for n in (1, 2)
    ]
    found = drawn(run_of(tmp_path / "run", rows))
    for title, values in (("Its parts, unweighted", [[1, 2], [2, 4]]), ("Verdicts", [[0.5, 0.5], [0.25, 0.25]])):
        assert [trace["y"] for trace in found[title]["traces"]] == values
        assert len({trace["name"] for trace in found[title]["traces"]}) == 2
        assert len(found[title]["table"][0]) == 3
    runs = [run_of(tmp_path / f"{'x' * 190}{n}", [{"reward": n}] * 3) for n in (1.0, 2.0)]
    assert comparison_charts([read_run(run) for run in runs])[0]["table"] == [[step, 1.0, 2.0] for step in (1, 2, 3)]


def test_an_evaluation_whose_step_is_not_known_has_both_sides(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [])
    side = {"accuracy": 0.5, "ci95": [0.4, 0.6], "lenient_accuracy": 0.5}
    run.write_json("evaluation.json", {"n": 9, "before": side, "after": {**side, "accuracy": 0.75}})
    assert [row[1] for row in drawn(run)["Held-out accuracy"]["table"]] == [0.5, 0.75]


def test_the_parts_of_a_steps_time_lie_on_each_other(tmp_path: Path) -> None:
    row = {"time/generation_s": 2.0, "time/reward_s": 0.5, "time/update_s": 1.5, "step_time": 4.0}
    chart = drawn(run_of(tmp_path / "run", [row] * 3))["Step time, s"]
    assert [(trace["name"], trace["y"], trace["stackgroup"]) for trace in chart["traces"]] == [
        ("generation", [2.0] * 3, "one"),
        ("rewards", [0.5] * 3, "one"),
        ("update", [1.5] * 3, "one"),
    ]
    assert "generation 2, rewards 0.5, update 1.5" in chart["caption"]
    other = drawn(run_of(tmp_path / "other", [{"step_time": 4.0}] * 3))["Step time, s"]
    assert [trace["y"] for trace in other["traces"]] == [[4.0] * 3]
    hindsight = drawn(run_of(tmp_path / "hindsight", [{"step_time": 4.0, "sample_time": 1.0}] * 3))["Step time, s"]
    assert [(trace["name"], trace["y"]) for trace in hindsight["traces"]] == [
        ("sampling", [1.0] * 3),
        ("learning", [3.0] * 3),
    ]


def test_parts_that_never_differ_are_one_line_and_verdicts_that_never_came_none(tmp_path: Path) -> None:
    rows = [{"rewards/a_reward/mean": n, "rewards/b_reward/mean": n, "rewards/c_reward/mean": 1} for n in range(5)]
    verdicts = {"verdict/wrong": 0.75, "verdict/right": 0.25, "verdict/no_tag": 0.0}
    found = drawn(run_of(tmp_path / "run", [row | verdicts for row in rows]))
    assert [trace["name"] for trace in found["Its parts, unweighted"]["traces"]] == ["a = b", "c"]
    assert [trace["name"] for trace in found["Verdicts"]["traces"]] == ["right", "wrong"]


def test_the_spread_of_each_part_is_a_chart_of_its_own(tmp_path: Path) -> None:
    rows = [{f"rewards/{name}_reward/{of}": n for name in "ab" for n, of in enumerate(("mean", "std"))}] * 3
    rows = [row | {"rewards/c_reward/mean": 1.0, "rewards/c_reward/std": 0.25 * n} for n, row in enumerate(rows)]
    chart = drawn(run_of(tmp_path / "run", rows))["Spread of its parts"]
    assert [(trace["name"], trace["y"]) for trace in chart["traces"]] == [("a = b", [1] * 3), ("c", [0.0, 0.25, 0.5])]
    assert "standard deviation" in chart["caption"]
    assert not chart.get("more")


def test_seconds_that_a_reward_logged_are_shown(tmp_path: Path) -> None:
    assert "Time: judge, s" in drawn(run_of(tmp_path / "run", [{"time/judge_s": 1.0}] * 3))


def test_what_rewards_logged_and_what_is_always_0_is_for_who_looks_closer(tmp_path: Path) -> None:
    run = run_of(
        tmp_path / "run", [{"mine": float(n), "completions/clipped_ratio": 0.0, "loss": 1.0} for n in range(5)]
    )
    found = drawn(run)
    assert {title for title, chart in found.items() if chart.get("more")} == {"Mine", "Cut off at the limit"}
    many = run_of(tmp_path / "many", [{f"metric {n}": 1.0 for n in range(500)}])
    assert len(run_charts(read_run(many))) == 24


def test_warnings_are_dotted_lines(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [{"loss": 1.0}] * 9)
    run.append("warnings.jsonl", [{"step": 4, "text": "x"}, {"step": 4, "text": "y"}, {"step": "?", "text": "z"}])
    run.append("warnings.jsonl", [{"step": 10**9, "text": "which would squeeze the chart into a line"}])
    (chart,) = run_charts(read_run(run))
    assert [(line["x0"], line["x1"], line["line"]["dash"]) for line in chart["layout"]["shapes"]] == [(4, 4, "dot")]


@pytest.mark.parametrize("count", [0, 1, 400, 401, 799, 10_000])
def test_many_steps_are_thinned_to_means_over_the_whole_run(count: int) -> None:
    rows = [{"step": n, "value": float(n), "low/min": float(n), "high_max": float(n)} for n in range(1, count + 1)]
    few = downsample(rows)
    assert len(few) <= 400
    if count <= 400:
        assert few == rows
        return
    assert len(few) > 190
    assert few[-1]["step"] == count
    assert few[0]["low/min"] == 1
    assert few[-1]["high_max"] == count
    assert math.isclose(few[0]["value"], (1 + few[0]["step"]) / 2)


def test_every_run_has_a_look_of_its_own() -> None:
    assert len({line_style(n) for n in range(len(COLOURS) * len(DASHES))}) == len(COLOURS) * len(DASHES)


def test_several_runs_share_a_chart_a_metric(tmp_path: Path) -> None:
    runs = [
        run_of(tmp_path / "a", [{"loss": 1.0, "reward": 2.0}] * 3),
        run_of(tmp_path / "b", [{"reward": 4.0}] * 5, grpo={"learning_rate": 0.5}),
    ]
    found = {chart["title"]: chart for chart in comparison_charts([read_run(run) for run in runs])}
    assert set(found) == {"Loss", "Reward"}
    assert found["Reward"]["head"] == ["step", "a", "b"]
    assert found["Reward"]["table"][3] == [4, None, 4.0]
    assert len({(trace["line"]["color"], trace["line"]["dash"]) for trace in found["Reward"]["traces"]}) == 2
    sides = [
        [{"source": n, "question": f"{n}", "answer": "1", "completion": "", "right": n < right} for n in range(10)]
        for right in (3, 8)
    ]
    for side in sides:
        for row in side:
            row |= {"verdict": "?", "lenient_right": row["right"], "rewards": {"r": 1.0}}
    runs[0].write_lines(BEFORE, sides[0])
    runs[0].write_lines(AFTER, sides[1])
    runs[0].write_json("evaluation.json", comparison(runs[0].recipe, *sides, 3))
    page = report([run.path for run in runs], tmp_path / "page.html").read_text()
    assert "2 runs compared" in page
    assert "<b>30.0 %</b>" in page
    assert "<b>80.0 %</b>" in page
    assert "5 gained" in page
    differences = page.partition("Settings in which they differ</h2>")[2].partition("</section>")[0]
    assert "grpo.learning_rate" in differences
    assert "grpo.seed" not in differences


def test_a_folder_of_drawn_runs_stands_for_all_of_them(tmp_path: Path) -> None:
    for name in ("seed=42", "seed=43"):
        run_of(tmp_path / "drawn" / name, [{"reward": 1.0}])
    (tmp_path / "drawn" / DRAW).write_text('{"runs": ["seed=42", "seed=43", "seed=44", 7]}')
    (tmp_path / "elsewhere").mkdir()
    alone = run_of(tmp_path / "elsewhere" / "seed=42", [])
    runs = find_runs([tmp_path / "drawn", alone.path, tmp_path / "drawn" / "seed=43"])
    assert [run.path.name for run in runs] == ["seed=42", "seed=43", "seed=42"]
    assert distinguishing_names(runs) == ["drawn/seed=42", "drawn/seed=43", "elsewhere/seed=42"]
    assert report([alone.path]) == alone.path / "report.html"
    (tmp_path / "drawn" / DRAW).write_text("{")  # torn: then by what is in it
    assert len(find_runs([tmp_path / "drawn"])) == 2
