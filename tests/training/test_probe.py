"""evaluation.every: held-out problems are asked during the training, and change nothing of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from grpo_colab import Recipe, Run, train
from grpo_colab.evaluation.evaluate import probe_problems
from grpo_colab.reporting.page.charts import run_charts
from grpo_colab.reporting.page.run_reader import read_run
from grpo_colab.reporting.run_progress import RunProgress
from grpo_colab.runs import checkpoints
from grpo_colab.runs.records import repeatable

pytestmark = pytest.mark.stack


def quick(**evaluation: Any) -> Recipe:
    return Recipe.load(
        task={"limit": 32},
        budget={"max_steps": 6, "prompts_per_step": 1, "rehearsal": False},
        grpo={"num_generations": 4, "max_completion_length": 24, "save_steps": 1, "save_total_limit": 99},
        evaluation={"n": 6, **evaluation},
    )


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(quick(every=2, probe=8), out=tmp_path_factory.mktemp("probed") / "run")


def without_probe(run: Run) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in row.items() if not key.startswith("probe/")} for row in repeatable(run.metrics())
    ]


def test_the_probe_is_logged_and_nothing_else_changes(probed: Run, tmp_path: Path) -> None:
    plain = train(quick(), out=tmp_path / "plain")
    shown = {row["step"]: row["probe/accuracy"] for row in probed.metrics() if "probe/accuracy" in row}
    assert list(shown) == [2, 4, 6]
    assert all(share * 8 == int(share * 8) for share in shown.values())
    assert without_probe(probed) == without_probe(plain)
    assert probed.completions() == plain.completions()
    assert probed.evaluation == plain.evaluation


def test_it_is_what_the_policy_answers(probed: Run, tmp_path: Path) -> None:
    """The last one is asked of the adapter that the run saved."""
    from grpo_colab.evaluation.evaluate import answer
    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device

    recipe = probed.recipe
    policy, task = load_policy(recipe, current_device(), probed.adapter), recipe.load_task()
    rows = answer(policy, recipe, task, task.problems("test", 14)[6:], 8)
    assert sum(row["right"] for row in rows) / 8 == probed.metrics()[-1]["probe/accuracy"]


def test_a_run_that_goes_on_has_the_same_probe(probed: Run, tmp_path: Path) -> None:
    shutil.copytree(probed.path, tmp_path / "cut")
    run = Run(tmp_path / "cut")
    (run.path / "evaluation.json").unlink()
    for checkpoint in checkpoints.saved(run.checkpoints):
        if checkpoints.step_of(checkpoint) > 3:
            shutil.rmtree(checkpoint)
    train(resume=run.path)
    assert repeatable(run.metrics()) == repeatable(probed.metrics())


def test_the_best_checkpoint_goes_by_it(probed: Run) -> None:
    shown = {row["step"]: row["probe/accuracy"] for row in probed.metrics() if "probe/accuracy" in row}
    values = {checkpoints.step_of(each): checkpoints.manifest(each) for each in checkpoints.saved(probed.checkpoints)}
    assert {each["metric"] for each in values.values()} == {"probe/accuracy"}
    assert values[6]["value"] == pytest.approx(sum(shown.values()) / 3)


def test_the_page_draws_it(probed: Run) -> None:
    (chart,) = [chart for chart in run_charts(read_run(probed)) if chart["title"] == "Right during the training"]
    assert list(chart["traces"][0]["x"]) == [2, 4, 6]


def test_its_problems_are_neither_trained_on_nor_those_of_the_evaluation() -> None:
    recipe = quick(every=1, probe=5)
    task = recipe.load_task()
    probe = probe_problems(task, recipe)
    assert len(probe) == 5
    others = [*task.problems("test", 6), *task.problems("train", 32)]
    assert not {problem.question for problem in probe} & {problem.question for problem in others}
    assert probe_problems(task, quick()) == []


def test_where_there_are_no_others_it_asks_the_held_out_ones(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"question": "1 + 1?", "answer": "2"}\n')
    (tmp_path / "test.jsonl").write_text(
        "".join(f'{{"question": "{n} + {n}?", "answer": "{2 * n}"}}\n' for n in range(2, 7))
    )
    task = {"name": "dataset", "path": str(tmp_path / "train.jsonl"), "test_path": str(tmp_path / "test.jsonl")}
    for held_out, asked in ((3, 2), (5, 4), (9, 4)):
        recipe = Recipe.load(task=task, evaluation={"n": held_out, "every": 1, "probe": 4})
        probe = probe_problems(recipe.load_task(), recipe)
        assert len(probe) == asked


def test_the_table_shows_what_it_said_last() -> None:
    progress = RunProgress(None, 0, 4, ())
    for step in range(1, 5):
        asked = {"probe/accuracy": step / 8} if step % 2 == 0 else {}
        progress.add({"step": step, "reward": 1.0, **asked})
    head, *rows = progress.cells(progress.rewarded)
    assert [row[head.index("probe right")] for row in rows] == ["-", "25%", "25%", "50%"]
