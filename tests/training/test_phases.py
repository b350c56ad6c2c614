"""A run says what it does from its first second: on the screen, in its folder, and after it was stopped or killed."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from marks import long_but
from refusals import refused
from warm import Warm

from grpo_colab import Recipe, Run, train
from grpo_colab.evaluation import evaluate
from grpo_colab.runs.folders import is_free_again
from grpo_colab.runs.phase import Phase, read_phase
from grpo_colab.runs.records import repeatable
from grpo_colab.runs.status import status
from grpo_colab.training import train as training

pytestmark = pytest.mark.stack

SMALL: dict[str, dict[str, Any]] = {
    "task": {"limit": 56},
    "budget": {"max_steps": 2, "prompts_per_step": 2, "rehearsal": False},
    "grpo": {"num_generations": 4, "max_completion_length": 12},
    "evaluation": {"n": 8},
}


def small(**overrides: dict[str, Any]) -> Recipe:
    return Recipe.load(
        **{table: {**SMALL.get(table, {}), **overrides.get(table, {})} for table in {*SMALL, *overrides}}
    )


@pytest.fixture
def phases_of(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The phases that are written, each with the state that `status` gives at that moment."""
    found: list[tuple[str, str]] = []
    write = training.Phases._write

    def spy(self: Any, phase: Phase) -> None:
        write(self, phase)
        if self.run is not None:
            told = status(self.run.path)
            found.append((told["phase"]["name"], told["state"]))

    monkeypatch.setattr(training.Phases, "_write", spy)
    return found


def test_the_folder_tells_each_phase_while_the_lock_is_held(
    phases_of: list[tuple[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(small(), out=tmp_path / "run")
    working = ["importing", "loading", "evaluating before", "training", "evaluating after"]
    assert list(dict.fromkeys(phases_of)) == [*((name, "running") for name in working), ("finished", "running")]
    assert status(run.path)["state"] == "finished"
    said = [line for line in capsys.readouterr().err.splitlines() if line.endswith(" ...")]
    assert said == [
        "Loading tiny on CPU ...",
        "Answering 8 held-out problems before training ...",
        "Answering 8 held-out problems of new_stories before training ...",
        "Answering 8 held-out problems after training ...",
        "Answering 8 held-out problems of new_stories after training ...",
    ]


def test_a_run_that_is_refused_before_its_first_step_can_be_resumed_or_replaced(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from pathlib import Path\n\ndef own_reward(completions, **kwargs):\n"
        "    bad = not Path(__file__).with_name('mended').exists()\n"
        "    return [float('nan') if bad else 0.0] * len(completions)\n"
    )
    recipe = small(rewards={f"{tmp_path}/own.py:own_reward": 0.0})
    with refused("rewards.own", problem="gave nan", snapshot=False):
        train(recipe, out=tmp_path / "run")
    phase = read_phase(tmp_path / "run")
    assert phase is not None
    assert (phase.name, phase.during) == ("failed", "loading")
    assert "gave nan" in (phase.why or "")
    assert status(tmp_path / "run")["state"] == "failed"
    assert is_free_again(tmp_path / "run")
    assert not Run(tmp_path / "run").finished

    (tmp_path / "mended").touch()
    resumed = train(resume=tmp_path / "run")
    assert resumed.finished
    # and to begin anew in a folder of the same kind gives the same run
    (tmp_path / "mended").unlink()
    with refused("rewards.own", problem="gave nan", snapshot=False):
        train(recipe, out=tmp_path / "anew")
    (tmp_path / "mended").touch()
    anew = train(recipe, out=tmp_path / "anew")
    assert repeatable(anew.metrics()) == repeatable(resumed.metrics())
    assert anew.evaluation == resumed.evaluation


def test_an_error_in_the_training_is_told_as_a_failure(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def own_reward(completions, trainer_state=None, **kwargs):\n"
        "    if trainer_state is not None and trainer_state.global_step == 1:\n"
        "        raise OSError('the judge is away')\n"
        "    return [0.0] * len(completions)\n"
    )
    with refused(problem="the judge is away", snapshot=False):
        train(small(rewards={f"{tmp_path}/own.py:own_reward": 0.0}), out=tmp_path / "run")
    found = status(tmp_path / "run")
    assert (found["state"], found["phase"]["during"], found["step"]) == ("failed", "training", 1)
    assert "the judge is away" in found["phase"]["why"]
    assert not is_free_again(tmp_path / "run")


WORDS = "--task.limit 56 --budget.prompts-per-step 2 --budget.rehearsal false --grpo.num-generations 4"
# The evaluation before the first step takes long enough to be met.
LONG = f"train --out run {WORDS} --evaluation.n 512 --budget.max-steps 2".split()


def until(reached: Callable[[], bool], process: Any) -> None:
    while not reached():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def in_phase(run: Path, name: str) -> bool:
    phase = read_phase(run)
    return phase is not None and phase.name == name


@pytest.mark.parametrize("number", long_but([signal.SIGINT], [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]))
def test_one_that_is_ended_in_its_first_evaluation_says_so_and_goes_on(number: int, warm: Warm, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = warm.start("-m", "grpo_colab", *LONG, cwd=tmp_path)
    until(lambda: in_phase(run, "evaluating before"), process)
    assert status(run)["state"] == "running"
    process.send_signal(number)
    _, said = process.communicate(240)
    found = status(run)
    assert (found["state"], found["pid"], found["step"]) == ("stopped", None, 0)
    if number == signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
        assert found["phase"]["name"] == "evaluating before"
    else:
        assert process.returncode == 0, said
        assert found["phase"] | {"since": None} == Phase("stopped", None, "evaluating before", "a signal")._asdict()
        assert "Go on with: grpo-colab train --resume run" in said
    again = warm.run("-m", "grpo_colab", "train", "--resume", "run", "--evaluation.n", "8", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert status(run)["state"] == "finished"


def test_one_that_is_interrupted_while_it_loads_is_no_traceback(warm: Warm, tmp_path: Path) -> None:
    """The reward, which is tried on a golden completion, takes as long as a large model takes to load."""
    (tmp_path / "own.py").write_text(
        "import time\nfrom pathlib import Path\n\ndef own_reward(completions, trainer_state=None, **kwargs):\n"
        "    Path('asked').touch()\n    time.sleep(0 if Path('mended').exists() else 600)\n"
        "    return [0.0] * len(completions)\n"
    )
    words = ["train", "--out", "run", *WORDS.split(), "--evaluation.n", "8", "--budget.max-steps", "1"]
    words += ["--rewards.own.py:own_reward", "0"]
    process = warm.start("-m", "grpo_colab", *words, cwd=tmp_path)
    until((tmp_path / "asked").exists, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(240)
    assert process.returncode == 0, said
    assert "Traceback" not in str(said)
    assert str(said).endswith("Stopped while loading the model. Go on with: grpo-colab train --resume run\n")
    assert status(tmp_path / "run")["state"] == "stopped"
    (tmp_path / "mended").touch()
    again = warm.run("-m", "grpo_colab", *words, cwd=tmp_path)  # as if nothing had been there
    assert again.returncode == 0, again.stderr
    assert status(tmp_path / "run")["state"] == "finished"


def test_quiet_prints_the_result_and_warnings_alone(warm: Warm, tmp_path: Path) -> None:
    words = ["train", "--task.limit", "56", *WORDS.split()[2:], "--evaluation.n", "8", "--budget.max-steps", "1"]
    done = warm.run("-m", "grpo_colab", *words, "-q", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.startswith("word_problems, 8 held-out problems, greedy:\n")
    assert [line for line in done.stderr.splitlines() if not line.startswith("Warning")] == []
    loud = warm.run("-m", "grpo_colab", *words, "--verbose", cwd=tmp_path)
    assert loud.returncode == 0
    assert "\nUnsloth (CPU): LlamaForCausalLM" in loud.stderr  # as the library prints it
    both = warm.run("-m", "grpo_colab", "train", "-q", "-v", cwd=tmp_path)
    assert both.returncode == 2
    assert "--verbose: is the opposite of --quiet" in both.stderr
    refusal = warm.run("-m", "grpo_colab", "train", "-q", "--budget.max-steps", "0", cwd=tmp_path)
    assert refusal.returncode == 2
    assert refusal.stderr.startswith("grpo-colab: budget.max_steps = 0: ")


def test_where_a_cpu_has_memory_to_spare_the_longest_step_is_not_tried_and_the_log_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(small(budget={"rehearsal": True, "max_steps": 1}), out=tmp_path / "run")
    said = capsys.readouterr().err
    assert "The longest step is not tried before: this CPU has " in said
    assert "A step fits" not in said


def test_a_dry_run_does_all_before_the_first_step_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = small(budget={"rehearsal": True})
    assert train(recipe, dry_run=True) is None
    said = capsys.readouterr().err
    order = ["grpo_colab ", "It takes about ", "Loading tiny", "Trying the longest step", "A step fits", "Dry run: "]
    places = [said.index(text) for text in order]
    assert places == sorted(places)
    assert "Answering" not in said
    assert list(tmp_path.iterdir()) == []

    with refused("budget.micro_batch", 3, snapshot=False):
        train(small(budget={"micro_batch": 3}), dry_run=True)
    with refused("model.model_name", "nobody/none", snapshot=False):
        train(small(model={"model_name": "nobody/none"}), dry_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_a_run_to_resume_leaves_it_as_it_is(finished_run: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(finished_run, tmp_path / "run"))
    recipe = Recipe.load(copy / "recipe.toml", budget={"max_steps": 9})
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != ".lock"}
    assert train(recipe, resume=copy, dry_run=True) is None
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != ".lock"} == before


def test_the_command_can_be_tried_out(command: Callable[..., Any], tmp_path: Path) -> None:
    done = command("train", *WORDS.split(), "--dry-run", "--budget.rehearsal", "true")
    assert done.returncode == 0, done.stderr
    assert "Dry run: the run could begin after " in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_evaluation_tells_how_far_it_is_without_a_change_to_its_answers(finished_run: Path) -> None:
    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device

    run = Run(finished_run)
    recipe, task = run.recipe, run.recipe.load_task()
    policy = load_policy(recipe, current_device(), run.adapter)
    problems = evaluate.evaluation_problems(task, recipe)
    shares: list[float] = []
    rows = evaluate.answer(policy, recipe, task, problems, 6, shares.append)
    assert rows == evaluate.answer(policy, recipe, task, problems, 6)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(set(shares)) > 10  # within each of the three batches, too
    assert json.dumps(rows) == json.dumps(run.answers("evaluation-after.jsonl"))
