"""What a person who reads a page is told: in words, in numbers as people write them, and without a contradiction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from grpo_colab import Recipe, Run
from grpo_colab.evaluation.evaluate import AFTER, BEFORE
from grpo_colab.reporting import report
from grpo_colab.reporting.curves import rewards_figure
from grpo_colab.reporting.page.charts import metric_label, run_charts
from grpo_colab.reporting.page.html import format_number
from grpo_colab.reporting.page.run_reader import read_run
from grpo_colab.runs.lock import locked
from tests.reporting.test_report_folders import data, seen

WEIGHTS = {"correctness": 2.0, "integer": 0.5, "strict_format": 0.5, "soft_format": 0.5, "tag_count": 0.5}


def run_of(path: Path, rows: list[dict[str, Any]], name: str = "word-problems-tiny", **tables: Any) -> Run:
    run = Run.create(Recipe.load(name, budget={"max_steps": 20}, **tables), path)
    run.append("metrics.jsonl", [{"step": step, **row} for step, row in enumerate(rows, 1)])
    return run


def drawn(run: Run) -> dict[str, dict[str, Any]]:
    return {chart["title"]: chart for chart in run_charts(read_run(run))}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (80_000, "80,000"),
        (8e4 + 0.4, "80,000"),
        (5e-5, "0.00005"),
        (8.33e-5, "0.0000833"),
        (0.0, "0"),
        (0.4200001, "0.42"),
        (-0.2914, "-0.291"),
        (999.6, "1,000"),
        (1.6e-55, "1.6\u00a0×\u00a010⁻⁵⁵"),
        (2e20, "2\u00a0×\u00a010²⁰"),
        (None, "–"),
    ],
)
def test_a_number_is_as_a_person_writes_it(value: float | None, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("key", "label"),
    [
        ("time/judge_s", "Time: judge, s"),
        ("hedges", "Hedges"),
        ("sampling/importance_sampling_ratio/min", "Sampling: importance sampling ratio: min"),
        ("_", "_"),
    ],
)
def test_a_metric_is_called_in_words(key: str, label: str) -> None:
    assert metric_label(key) == label


def test_what_trl_logs_has_a_name_in_words(tmp_path: Path) -> None:
    keys = ("num_tokens", "clip_ratio/low_min", "clip_ratio/high_max")
    keys += tuple(f"completions/{which}_terminated_length" for which in ("mean", "min", "max"))
    run = run_of(tmp_path / "run", [dict.fromkeys(keys, 80_000.0 * step) for step in (1, 2)])
    found = drawn(run)
    titles = {"Tokens so far", "Clipped ratios at most", "Length of what was not cut off, tokens"}
    assert set(found) == titles
    assert all(chart["more"] for chart in found.values())
    assert "Rises from 80,000 to 160,000." in found["Tokens so far"]["caption"]
    assert not any("_" in trace["name"] for chart in found.values() for trace in chart["traces"])


def test_a_caption_is_a_sentence_or_two_and_the_figures_are_in_a_table(tmp_path: Path) -> None:
    """Of as many rewards and verdicts as a run may have."""
    rows = []
    for step in range(1, 21):
        row: dict[str, Any] = {"reward": step / 7, "reward_std": 0.5, "step_time": step / 3, "loss": -step / 9}
        row |= {f"rewards/part_{n}_reward/{of}": step * n / 70 for n in range(9) for of in ("mean", "std")}
        row |= {f"verdict/kind_{n}": step / 700 for n in range(9)} | {"verdict/right": step / 20}
        rows.append(row | {f"time/{part}_s": step / 9 for part in ("generation", "reward", "update")})
    for chart in drawn(run_of(tmp_path / "run", rows)).values():
        assert len(chart["caption"]) < 130, chart["caption"]
        assert chart["caption"].count(".") - chart["caption"].count("0.") <= 4
        lines = {trace["name"] for trace in chart["traces"] if trace.get("line", {}).get("width") != 0}
        assert len(chart["ends"]) >= len(lines - {"weighted sum of the rewards"})
        assert all(len(row) == 5 for row in chart["ends"])


def test_the_band_ends_at_the_worst_and_the_best_completion(tmp_path: Path) -> None:
    """Of completions that earn 0 or 4, mean plus deviation is above 4, where nothing can be."""
    row = {"reward": 3.0, "reward_std": 1.7, "reward/max": 4.0, "reward/min": 0.0}
    rows = [row, row | {"reward": 1.0}, {"reward": 3.0, "reward_std": 1.5}]
    chart = drawn(run_of(tmp_path / "run", rows))["Reward"]
    (band,) = (trace for trace in chart["traces"] if "deviation" in trace["name"])
    assert band["y"] == [4.0, 2.7, 4.5, 1.5, 0.0, 1.3]  # the upper edge forth, the lower back
    axes = rewards_figure([{"step": n, **one} for n, one in enumerate(rows, 1)], None).axes[0]
    (drawn_band,) = (one for one in axes.collections if "deviation" in str(one.get_label()))
    heights = {round(float(y), 6) for _, y in drawn_band.get_paths()[0].vertices}
    assert heights == {4.0, 2.7, 4.5, 1.5, 0.0, 1.3}


def test_no_legend_of_the_picture_lies_on_its_lines() -> None:
    rows = [{"step": n, "reward": n / 9, "reward_std": 0.1, "reward/max": 1.0, "reward/min": 0.0} for n in range(9)]
    rows = [row | {f"rewards/part_{n}_reward/mean": n / 9 for n in range(9)} for row in rows]
    figure = rewards_figure(rows, None)
    figure.draw_without_rendering()
    for axes in figure.axes[:2]:
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_window_extent().y1 < axes.get_window_extent().y0


def test_however_long_a_legend_is_the_lines_keep_their_room(tmp_path: Path) -> None:
    row = {"reward": 0.5, "reward_std": 0.1}
    row |= {f"rewards/{'a_long_name_' * 9}{n}_reward/mean": n / 30 for n in range(30)}
    rows = [{"step": step, **row} for step in (1, 2)]
    figure = rewards_figure(rows, None)
    figure.draw_without_rendering()
    for axes in figure.axes[:2]:
        box = axes.get_window_extent()
        assert min(box.width, box.height) > 300  # pixels
        assert axes.get_legend().get_window_extent().y0 > 0
    run = run_of(tmp_path / "run", [])
    run.append("metrics.jsonl", rows)
    for trace in drawn(run)["Its parts, unweighted"]["traces"]:
        assert len(trace["name"]) <= 40
        assert trace["name"].startswith("a long name a long")
    names = {trace["name"] for trace in drawn(run)["Its parts, unweighted"]["traces"]}
    assert len(names) == 12


def test_of_many_warnings_the_first_are_in_view_and_the_others_folded(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [{"reward": 1.0}])
    run.append("warnings.jsonl", [{"step": step, "kind": "k", "text": f"warning {step}."} for step in range(1, 71)])
    page = report([run.path]).read_text()
    in_view, _, folded = page.partition("<summary>64 more warnings</summary>")
    assert "Step 6: warning 6." in in_view
    assert "Step 7: warning 7." not in in_view
    assert "Step 56: warning 56." in folded
    assert "And 14 more, in warnings.jsonl." in folded


def test_of_one_step_everything_can_be_seen(tmp_path: Path) -> None:
    row = {"reward": 2.5, "reward_std": 2.0, "reward/max": 4.0, "reward/min": 0.0, "step_time": 1.0}
    row |= {"verdict/right": 0.6, "verdict/wrong": 0.4, "time/generation_s": 0.5}
    for chart in drawn(run_of(tmp_path / "run", [row])).values():
        for trace in chart["traces"]:
            assert trace.get("type") == "bar" or trace["mode"] == "markers", trace
    axes = rewards_figure([{"step": 1, **row}], None).axes[0]
    assert {line.get_marker() for line in axes.lines} == {"o"}


def test_each_part_of_a_reward_is_shown_times_its_weight(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [])
    parts = [1.0, 1.0, 1.0, 0.5, None]
    row = {"step": 1, "group": 0, "prompt": "3 + 4?", "completion": "7", "answer": "7"}
    run.append("completions.jsonl", [{**row, "rewards": dict(zip(WEIGHTS, parts, strict=True))}])
    run.append("completions.jsonl", [{**row, "group": 1, "rewards": {"another": 3.0, "strange": 1.0}}])
    found = data(report([run.path]))["completions"]
    paid = []
    for n, values in enumerate(found["parts"]):
        weights = found["weights"][found["weighted"][n]]
        paid.append([value * weight for value, weight in zip(values, weights, strict=True) if value is not None])
    assert paid == [[2.0, 0.5, 0.5, 0.25], [3.0, 1.0]]  # of other rewards than the recipe's each counts once
    assert [sum(one) for one in paid] == found["reward"]


def side(right: int) -> list[dict[str, Any]]:
    texts = ("Paris", "B", '{"city": "Paris", "n": [1, 2]}')
    return [
        {"source": f"{n}", "question": f"Which {n}?", "answer": gold, "completion": gold, "right": n < right}
        | {"verdict": "right" if n < right else "wrong", "lenient_right": None, "rewards": {}}
        for n, gold in enumerate(texts)
    ]


@pytest.mark.parametrize("lenient", [{}, {"lenient_accuracy": None}], ids=["missing", "none"])
def test_answers_that_are_texts_have_no_last_number(lenient: dict[str, Any], tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [{"reward": 1.0}, {"reward": 2.0}])
    run.write_lines(BEFORE, side(1))
    run.write_lines(AFTER, side(3))
    rates: dict[str, Any] = {"accuracy": 1 / 3, "ci95": [0.1, 0.7], **lenient}
    paired = {"gained": 2, "lost": 0, "p_value": 0.5}
    run.write_json(
        "evaluation.json", {"task": "quiz", "n": 3, "step": 20, "before": rates, "after": rates, "paired": paired}
    )
    row = {"step": 1, "group": 0, "prompt": "Which?", "rewards": {}, "completion": "<answer>Paris</answer>"}
    run.append("completions.jsonl", [{**row, "answer": "Paris"}, {**row, "answer": {"city": "Paris"}}])
    page = report([run.path])
    assert "number" not in seen(page)
    assert "lenient" not in seen(page)
    (chart,) = (chart for chart in data(page)["charts"] if chart["title"] == "Held-out accuracy")
    assert chart["head"] == ["step", "right", "low", "high"]
    assert [trace["name"] for trace in chart["traces"]] == ["right, with 95 % interval"]
    assert {one["answer"] for one in data(page)["problems"]["rows"]} == {one["answer"] for one in side(0)}
    found = data(page)["completions"]
    assert found["verdict"] == [None, None]
    assert found["answer"][0] == "Paris"
    assert json.loads(found["answer"][1]) == {"city": "Paris"}


def test_a_run_says_how_far_it_is_and_not_that_something_went_wrong(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", [])
    with locked(run.path):
        text = seen(report([run.path]))
        assert "has just begun: it answers the held-out problems, before its first step" in text
        assert "went wrong" not in text
        run.write_lines(BEFORE, side(1))
        text = seen(report([run.path]))
        assert "has just begun: the held-out problems are answered, and its first step is under way" in text
        assert "went wrong" not in text
        run.append("metrics.jsonl", [{"step": step, "reward": 1.0} for step in (1, 2)])
        assert "The run goes on: step 3 is under way" in seen(report([run.path]))
        other = run_of(tmp_path / "other", [{"reward": 1.0}])
        text = seen(report([run.path, other.path], tmp_path / "both.html"))
        assert "run: The run goes on: step 3 is under way" in text
        run.append("metrics.jsonl", [{"step": 20, "reward": 1.0}])
        assert "The run goes on: it answers the held-out problems again" in seen(report([run.path]))
    assert "goes on" not in seen(report([run.path]))


@pytest.mark.parametrize(
    ("method", "says"),
    [("grpo", "GRPO"), ("her", "hindsight experience replay"), ("both", "GRPO and hindsight experience replay")],
)
def test_a_drawing_says_what_is_drawn_and_how_and_does_not_contradict_itself(
    method: str, says: str, tmp_path: Path
) -> None:
    tables = {"task": {"image": "chick"}, "hindsight": {"method": method}}
    run = run_of(tmp_path / "seed=42", [{"reward": 1.0}], "drawing-tiny", **tables)
    wrong = {"accuracy": 0.0, "ci95": [0.0, 0.79], "lenient_accuracy": 0.0}
    run.write_json("evaluation.json", {"n": 1, "before": wrong, "after": wrong, "step": 1, "solved": True})
    page = report([run.path])
    text = seen(page)
    assert f"<h1>chick, drawn by {says}</h1>" in page.read_text()
    assert "drawing-tiny: tiny-drawing on" in text
    # it is a sample that solved it, and the answer without sampling that is wrong
    assert "Solved in step 1, by one of its sampled answers. Its one problem, answered without sampling: wrong" in text
    assert "1 of at most 20" in text
    other = run_of(tmp_path / "other", [{"reward": 1.0}], "drawing-tiny", **tables)
    assert f"chick, drawn by {says}" in seen(report([run.path, other.path], tmp_path / "both.html"))


def test_settings_that_differ_are_read_by_people(tmp_path: Path) -> None:
    rates = (8e-5, 0.0004, 1e-7)
    runs = [
        run_of(tmp_path / f"run-{n}", [], grpo={"learning_rate": rate, "seed": 80_000 + n})
        for n, rate in enumerate(rates)
    ]
    text = seen(report([run.path for run in runs], tmp_path / "page.html"))
    told = text.partition("Settings in which they differ setting")[2]
    assert "learning rate grpo.learning_rate 0.00008 0.0004 1 × 10⁻⁷" in told
    assert "seed grpo.seed 80,000 80,001 80,002" in told
    runs += [run_of(tmp_path / f"run-{n}", [], grpo={"learning_rate": 0.0004}) for n in (3, 4, 5)]
    text = seen(report([run.path for run in runs], tmp_path / "page.html"))
    assert "learning rate grpo.learning_rate 0.00008 run-0 0.0004 run-1 run-3 run-4 run-5 1 × 10⁻⁷ run-2" in text


def test_a_comparison_begins_with_the_accuracy(tmp_path: Path) -> None:
    runs = [run_of(tmp_path / name, [{"reward": 1.0}]) for name in "ab"]
    for run in runs:
        run.write_lines(BEFORE, side(1))
    text = seen(report([run.path for run in runs], tmp_path / "page.html"))
    heads = "run right before 95 % interval right after 95 % interval paired test state steps training a 33.3 % "
    assert f"What they learnt {heads}" in text
