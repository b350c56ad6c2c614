"""Python functions as rewards, trained with for real: killed, and gone on with in another process."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from refusals import refused
from warm import Warm

from grpo_colab import Recipe, Run, draw, train
from grpo_colab.evaluation.evaluate import evaluate_run
from grpo_colab.reporting import report
from grpo_colab.runs.records import repeatable
from grpo_colab.runs.status import status

pytestmark = pytest.mark.stack

# A script as a person from TRL writes one; its last reward kills the first process in its third step.
SCRIPT = """
import functools, os, signal, sys
from pathlib import Path

HERE = Path(__file__).parent
with (HERE / "started").open("a") as file:
    file.write(sys.argv[1] + "\\n")

from grpo_colab import Recipe, train

def even_reward(completions, **kwargs):
    return [float(len(completion[0]["content"]) % 2 == 0) for completion in completions]

def make(share):
    def short_reward(completions, answer, **kwargs):
        return [share / (1 + len(completion[0]["content"])) for completion in completions]
    return short_reward

class Striking:
    def __init__(self, step):
        self.step = step

    def __call__(self, completions, trainer_state=None, **kwargs):
        if trainer_state is not None and trainer_state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)
        return [0.0] * len(completions)

def rewards(step=None):
    return {even_reward: 0.5, functools.partial(make(2.0)): 1.0, Striking(step): 0.0}

match sys.argv[1]:
    case "whole" | "killed" as name:
        recipe = Recipe.load(
            task={"limit": 32},
            rewards=rewards(step=2 if name == "killed" else None),
            budget={"max_steps": 4, "prompts_per_step": 2, "rehearsal": False},
            grpo={"num_generations": 4, "max_completion_length": 12, "save_steps": 1},
            evaluation={"n": 8},
        )
        train(recipe, out=HERE / name)
    case "resume":
        train(resume=HERE / "killed", rewards=[*rewards()])
"""
Script = Callable[[str], int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("functions")
    (made / "train.py").write_text(SCRIPT)
    return made


@pytest.fixture(scope="module")
def runs(folder: Path, warm: Warm) -> tuple[Run, Run]:
    """A run of four steps, and the same killed in its third."""
    ends = [warm.run(str(folder / "train.py"), name, cwd=folder) for name in ("whole", "killed")]
    assert [end.returncode for end in ends] == [0, -signal.SIGKILL], ends
    return Run(folder / "whole"), Run(folder / "killed")


def test_a_killed_run_asks_for_its_functions_and_goes_on_exactly(
    runs: tuple[Run, Run], folder: Path, warm: Warm
) -> None:
    whole, killed = runs
    assert [row["step"] for row in killed.metrics()] == [1, 2]
    head = (killed.path / "recipe.toml").read_text().split("\n\n")[0].splitlines()
    assert head[0].startswith(f"# rewards.python:even_reward is a Python function, defined in {folder}/train.py:")
    assert head[-1].endswith("train(resume=RUN, rewards=[even_reward, short_reward, Striking])")

    # without them nothing is loaded or changed, and the script is not run
    before = {path: path.stat().st_mtime_ns for path in killed.path.rglob("*") if path.name != ".lock"}
    done = warm.run("-m", "grpo_colab", "train", "--resume", str(killed.path), cwd=folder)
    assert done.returncode == 2
    assert f"train(resume='{killed.path}', rewards=[even_reward, short_reward, Striking])" in done.stderr
    assert "rewards.python:even_reward = 0.5: is a Python function" in done.stderr
    assert "Loading" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in killed.path.rglob("*") if path.name != ".lock"} == before
    assert (folder / "started").read_text().split() == ["whole", "killed"]

    done = warm.run(str(folder / "train.py"), "resume", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert repeatable(killed.metrics()) == repeatable(whole.metrics())
    assert killed.completions() == whole.completions()
    assert killed.evaluation == whole.evaluation
    assert {*whole.completions()[0]["rewards"]} >= {"correctness", "even", "short", "Striking"}
    row = whole.completions()[0]
    assert row["rewards"]["short"] == pytest.approx(2.0 / (1 + len(row["completion"])))
    assert row["rewards"]["even"] == float(len(row["completion"]) % 2 == 0)


def test_what_looks_at_such_a_run_needs_no_function(
    runs: tuple[Run, Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, _ = runs
    again = evaluate_run(whole.path)
    assert "rewards.python:short_reward is left out: it is a Python function" in capsys.readouterr().err
    assert whole.evaluation is not None
    after = whole.evaluation["after"]
    kept = {name: value for name, value in after["rewards"].items() if name in again["after"]["rewards"]}
    assert {*after["rewards"]} - {*kept} == {"even", "short", "Striking"}
    further, new = whole.evaluation["further"]["new_stories"], again["further"]["new_stories"]
    assert new["after"]["accuracy"] == further["after"]["accuracy"]
    assert {*new["after"]["rewards"]} == {*kept}
    assert again == {**whole.evaluation, "after": {**after, "rewards": kept}, "further": again["further"]}
    assert status(whole.path)["step"] == 4
    page = report([str(whole.path)], str(tmp_path / "report.html"))
    assert "python:even_reward" in page.read_text()


def test_as_trl_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two steps by stock TRL, with functions of which this process alone knows; and an async one."""
    seen: list[Any] = []

    async def seen_reward(prompts: Any, completions: Any, **kwargs: Any) -> list[float]:
        seen.append(sorted(kwargs))
        return [float(len(prompt[-1]["content"]) % 3) for prompt in prompts]

    recipe = Recipe.load(
        task={"limit": 16},
        budget={"max_steps": 2, "rehearsal": False},
        grpo={"num_generations": 4, "max_completion_length": 8},
        evaluation={"n": 4},
    )
    run = train(recipe, reward_funcs=["correctness", seen_reward], out=tmp_path / "run")
    assert run.finished
    assert run.recipe.rewards == {"correctness": 1.0, "python:seen_reward": 1.0}
    assert {"answer", "trainer_state", "log_metric", "completion_ids"} <= {*seen[-1]}
    assert [row["step"] for row in run.metrics()] == [1, 2]
    assert "not grpo_colab's" not in capsys.readouterr().err  # it is the person's own
    with refused("reward_funcs", problem="is TRL's name for rewards"):
        train(recipe, rewards=[seen_reward], reward_funcs=[seen_reward])


def test_drawings_are_learnt_with_them_and_gone_on_with(tmp_path: Path) -> None:
    def dark_reward(completions: Any, **kwargs: Any) -> list[float]:
        return [completion[0]["content"].count("8") / 100 for completion in completions]

    few: dict[str, Any] = {"budget": {"max_steps": 2}, "hindsight": {"samples": 4, "cold_samples": 0}}
    [run] = draw("9-vertical-lines", "her", out=tmp_path / "drawn", rewards={dark_reward: 0.1}, **few)
    assert run.finished
    assert all("dark" in row["rewards"] for row in run.completions())
    (run.path / "evaluation.json").unlink()
    remedy = f"draw(resume='{tmp_path}/drawn', rewards=[dark_reward])"
    with refused("rewards.python:dark_reward", 0.1, remedy=remedy):
        draw(resume=tmp_path / "drawn")
    assert remedy in run.resume_command
    with refused("--resume", remedy="leave out rewards"):
        draw(resume=tmp_path / "drawn", rewards={dark_reward: 0.5})
    [again] = draw(resume=tmp_path / "drawn", rewards=[dark_reward])
    assert again.finished


CELL = """
from grpo_colab import Recipe, train

def vowels_reward(completions, **kwargs):
    return [sum(letter in "aeiou" for letter in completion[0]["content"]) / 10 for completion in completions]

recipe = Recipe.load(
    task={"limit": 16},
    rewards=[vowels_reward],
    budget={"max_steps": 2, "rehearsal": False, "max_hours": HOURS},
    grpo={"num_generations": 4, "max_completion_length": 8},
    evaluation={"n": 4},
)
run = train(recipe)
print(run.path, run.finished)
"""


def test_a_notebook_s_cell_that_is_run_again_gives_its_function_again(tmp_path: Path, kernel: Any) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    cells = [nbformat.v4.new_code_cell(CELL.replace("HOURS", hours)) for hours in ("1e-6", "None")]
    book = nbformat.v4.new_notebook(cells=cells)
    where = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(book, km=kernel, timeout=600, startup_timeout=600, resources=where).execute()
    (path,) = (tmp_path / "runs").iterdir()
    said = ["".join(output.get("text", "") for output in cell.outputs) for cell in book.cells]
    assert f"runs/{path.name} False" in said[0]
    assert f"runs/{path.name} True" in said[1]
    head = (path / "recipe.toml").read_text().splitlines()[0]
    assert head == "# rewards.python:vowels_reward is a Python function, defined in a notebook's cell or typed in."
