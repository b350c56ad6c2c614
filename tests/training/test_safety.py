"""Nothing is lost: a run that is stopped, killed or cut goes on as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from marks import long_but
from refusals import refused
from warm import Warm

from grpo_colab import Recipe, Run, train
from grpo_colab.runs import checkpoints, mirror
from grpo_colab.runs.lock import LOCK, locked
from grpo_colab.runs.mirror.slots import copied
from grpo_colab.runs.records import repeatable
from grpo_colab.runs.resume import open_run, restore_run
from grpo_colab.utils.files import read_lines

pytestmark = pytest.mark.stack

STEPS = 8
SMALL: dict[str, dict[str, Any]] = {
    "task": {"limit": 56},  # of 4096, which to draw and to measure takes half of such a run
    "budget": {"max_steps": STEPS, "prompts_per_step": 2, "rehearsal": False},  # which test_memory_fit.py tries
    "grpo": {"num_generations": 4, "max_completion_length": 12, "save_steps": 3},
    "evaluation": {"n": 8},
}
START = ("-m", "grpo_colab", "train")


def small(**overrides: dict[str, Any]) -> Recipe:
    return Recipe.load(
        **{table: {**SMALL.get(table, {}), **overrides.get(table, {})} for table in {*SMALL, *overrides}}
    )


def untimed(run: Run) -> list[dict[str, Any]]:
    return repeatable(run.metrics())


def without_own(run: Run) -> list[dict[str, Any]]:
    """The metrics as they would be without a reward of the test's own that weighs nothing."""
    return [{key: value for key, value in row.items() if "own_reward" not in key} for row in untimed(run)]


def assert_same(run: Run, whole: Run) -> None:
    assert untimed(run) == untimed(whole)
    assert run.completions() == whole.completions()
    assert run.evaluation == whole.evaluation


def steps_saved(run: Run) -> list[int]:
    return [checkpoints.step_of(path) for path in checkpoints.saved(run.checkpoints)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that nothing happens to."""
    return train(small(), out=tmp_path_factory.mktemp("whole") / "run")


def signalling(folder: Path, number: int, step: int, times: int = 1, kind: str = "breaks") -> dict[str, dict[str, Any]]:
    """A reward of weight 0 that sends this process a signal at a step, once, as if it came from outside.

    It is only logged, so that the run is the one without it. It takes its time, so that the signal strikes inside it.
    """
    (folder / "own.py").write_text(
        "import os, time\nfrom pathlib import Path\n\n"
        "def own_reward(completions, trainer_state=None, **kwargs):\n"
        f"    done = Path(__file__).with_name('done')\n"
        f"    if trainer_state is not None and trainer_state.global_step == {step} and not done.exists():\n"
        "        done.touch()\n"
        f"        for _ in range({times}):\n            os.kill(os.getpid(), {number})\n            time.sleep(0.05)\n"
        "    return [0.0] * len(completions)\n"
    )
    return {"rewards": {f"{folder}/own.py:own_reward": 0.0}}


# --- the clock and the order of saving


def test_checkpoints_are_kept_by_step_and_the_last_two_and_the_best_are_left(whole: Run) -> None:
    kept = steps_saved(whole)
    assert kept[-2:] == [6, 8]
    best = checkpoints.best(whole.checkpoints)
    assert best is not None
    rows = [row["reward"] for row in whole.metrics()]
    assert checkpoints.manifest(whole.checkpoints / "checkpoint-8")["value"] == pytest.approx(sum(rows) / STEPS)
    assert checkpoints.manifest(whole.checkpoints / "checkpoint-6")["value"] is None  # too early to tell
    assert best.name == "checkpoint-8"
    assert all(checkpoints.damage(path) is None for path in checkpoints.saved(whole.checkpoints))


def test_by_time_as_well_as_by_step(tmp_path: Path) -> None:
    chosen = small(budget={"max_steps": 3, "save_minutes": 1e-4}, grpo={"save_steps": 500, "save_total_limit": 9})
    assert steps_saved(train(chosen, out=tmp_path / "run")) == [1, 2, 3]


def test_completions_that_serve_two_steps_are_not_cut_in_two(tmp_path: Path) -> None:
    """A checkpoint between them would not hold the completions, and a resumed run would sample others."""
    settings = {"grpo": {"num_iterations": 2, "save_steps": 3, "save_total_limit": 9}, "budget": {"max_steps": 6}}
    run = train(small(**settings), out=tmp_path / "run")
    assert steps_saved(run) == [2, 4, 6]
    own = signalling(tmp_path, signal.SIGTERM, 2)
    cut = train(small(**settings, **own), out=tmp_path / "cut")
    assert steps_saved(cut)[-1] == 4  # it came in step 3
    train(resume=cut.path)
    for row in (rows := untimed(cut)):
        row.pop("rewards/own_reward/mean", None), row.pop("rewards/own_reward/std", None)
    assert rows == untimed(run)


class Clock:
    """time.monotonic, for which more time can pass than does."""

    def __init__(self) -> None:
        self.real, self.passed = time.monotonic, 0.0

    def __call__(self) -> float:
        return self.real() + self.passed


def test_the_hours_end_in_time_and_what_is_left_is_said(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reward takes ten minutes a step, so that the time is over after a few steps of the eight."""
    monkeypatch.setattr(time, "monotonic", Clock())
    (tmp_path / "own.py").write_text(
        "import time\ndef own_reward(completions, trainer_state=None, **kwargs):\n"
        "    time.monotonic.passed += 600 * (trainer_state is not None)\n    return [0.0] * len(completions)\n"
    )
    hours = 3200 / 3600
    slow = {"rewards": {f"{tmp_path}/own.py:own_reward": 0.0}}
    began = time.monotonic()
    run = train(small(budget={"max_hours": hours}, **slow), out=tmp_path / "run")
    took = time.monotonic() - began
    done = len(run.metrics())
    assert 1 <= done < STEPS
    assert steps_saved(run)[-1] == done
    assert run.evaluation is not None
    assert run.evaluation["step"] == done
    assert not run.finished
    assert took < 3200  # a step that was begun in vain would have taken ten minutes more
    said = capsys.readouterr().err
    left = "1 step is" if done == STEPS - 1 else f"{STEPS - done} steps are"
    assert f"Stopped by budget.max_hours after step {done} of {STEPS}; {left} left" in said
    assert f"grpo-colab train --resume {run.path}" in said


def test_a_clock_that_jumps_changes_nothing(whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, draw = time.time, random.Random(0)
    monkeypatch.setattr(time, "time", lambda: real() + draw.choice([-1e6, 0.0, 1e6]))
    run = train(small(budget={"max_hours": 5.0}), out=tmp_path / "run")
    monkeypatch.undo()
    assert_same(run, whole)
    assert steps_saved(run) == steps_saved(whole)


# --- signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_evaluates_and_the_run_goes_on_exactly(
    number: int, whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = signal.getsignal(number)
    run = train(small(**signalling(tmp_path, number, 3)), out=tmp_path / "run")
    assert signal.getsignal(number) == handler
    assert len(run.metrics()) == 4  # the step is short, so it is finished
    assert steps_saved(run)[-1] == 4
    assert run.evaluation is not None
    assert run.evaluation["step"] == 4
    assert "Stopped by a signal after step 4 of 8; 4 steps are left" in capsys.readouterr().err
    train(resume=run.path)
    assert without_own(run) == untimed(whole)


def test_a_second_one_breaks_the_step_off_and_exits_after_the_checkpoint(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(small(**signalling(tmp_path, signal.SIGTERM, 3, times=2)), out=tmp_path / "run")
    assert len(run.metrics()) == 3
    assert steps_saved(run)[-1] == 3
    assert run.evaluation is None
    assert (run.adapter / "adapter_model.safetensors").is_file()
    assert "Stopped by a signal after step 3 of 8; 5 steps are left" in capsys.readouterr().err
    train(resume=run.path)
    assert without_own(run) == untimed(whole)


def test_in_an_evaluation_it_ends_at_once_and_the_rest_is_done_later(tmp_path: Path, whole: Run) -> None:
    (tmp_path / "own.py").write_text(
        "import os, signal\nfrom pathlib import Path\n\n"
        "def own_reward(prompts, completions, trainer_state=None, **kwargs):\n"
        "    left = Path(__file__).with_name('left')\n"
        "    if trainer_state is None and len(prompts) > 1 and left.exists():\n"
        "        left.unlink()\n        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return [0.0] * len(completions)\n"
    )
    own = {"rewards": {f"{tmp_path}/own.py:own_reward": 0.0}}
    (tmp_path / "left").touch()
    run = train(small(**own), out=tmp_path / "run")  # in the evaluation before
    assert not run.metrics()
    run = train(resume=run.path)
    assert run.finished
    (run.path / "evaluation.json").unlink()
    (tmp_path / "left").touch()
    run = train(resume=run.path)  # in the one after
    assert run.evaluation is None
    run = train(resume=run.path)
    assert run.finished
    assert without_own(run) == untimed(whole)


# --- kills and damage


def test_a_killed_process_is_resumed_line_by_line(whole: Run, tmp_path: Path, warm: Warm) -> None:
    """For real, from the command line, with SIGKILL in the middle; the campaign does it a hundred times."""
    (tmp_path / "recipe.toml").write_text(whole.recipe.to_toml())
    process = warm.start(*START, "recipe.toml", "--out", "cut", cwd=tmp_path)
    metrics = tmp_path / "cut" / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while not (metrics.exists() and metrics.read_text().count("\n") >= 4):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL
    resumed = warm.run(*START, "--resume", "cut", cwd=tmp_path)
    assert "held-out problems, greedy" in resumed.stdout
    assert_same(Run(tmp_path / "cut"), whole)


def cut_copy(whole: Run, path: Path, *steps: int) -> Run:
    """A run folder as it was when killed after the last of `steps`, the checkpoints that are there."""
    if not path.exists():
        shutil.copytree(whole.path, path)
    run = Run(path)
    for checkpoint in checkpoints.saved(run.checkpoints):
        if checkpoints.step_of(checkpoint) not in steps:
            shutil.rmtree(checkpoint)
    shutil.rmtree(run.adapter, ignore_errors=True)
    for name in ("evaluation.json", "evaluation-after.jsonl"):
        (path / name).unlink(missing_ok=True)
    return run


def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cut_copy(whole, tmp_path / "run", 6, 8)
    with (run.checkpoints / "checkpoint-8" / "optimizer.pt").open("r+b") as file:
        file.truncate(1000)
    train(resume=run.path)
    said = capsys.readouterr().err
    assert "checkpoint-8 is damaged: optimizer.pt has 1,000 of" in said
    assert "the previous one is used" in said
    assert_same(run, whole)


def test_lines_that_the_disk_lost_come_back_from_the_checkpoint(whole: Run, tmp_path: Path) -> None:
    """As after a power cut: the file ends in zeros, and behind the checkpoint."""
    run = cut_copy(whole, tmp_path / "run", 6)
    content = (run.path / "metrics.jsonl").read_bytes()
    (run.path / "metrics.jsonl").write_bytes(content[: len(content) // 3] + bytes(100))
    train(resume=run.path)
    assert untimed(run) == untimed(whole)


@pytest.mark.parametrize(
    "settings",
    [
        {"grpo": {"beta": 0.04}},  # a second adapter in each checkpoint, the reference
        *long_but(
            [],
            [
                {"task": {"limit": 4}},  # two steps an epoch, each with an order of its own; a checkpoint at its end
                {"task": {"limit": 6}},  # three, and a checkpoint in the middle
                {"budget": {"micro_batch": 4}},
                {"grpo": {"num_iterations": 2}},
            ],
        ),
    ],
    ids=str,
)
def test_goes_on_exactly_whatever_the_trainer_has_to_remember(
    settings: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    every_step = {"save_steps": 1, "save_total_limit": 99, **settings.get("grpo", {})}
    six_steps = {"max_steps": 6, **settings.get("budget", {})}
    uncut = train(small(**{**settings, "grpo": every_step, "budget": six_steps}), out=tmp_path / "uncut")
    assert [row["step"] for row in uncut.metrics()] == list(range(1, 7))
    for step in (2, 4):
        run = cut_copy(uncut, tmp_path / f"cut-{step}", step)
        train(resume=run.path)
        assert_same(run, uncut)


def test_half_written_files_are_swept_away(whole: Run, tmp_path: Path) -> None:
    run = cut_copy(whole, tmp_path / "run", 6)
    (run.path / ".adapter.123.tmp").mkdir()
    (run.path / ".adapter.123.tmp" / "adapter_model.safetensors").touch()
    (run.path / ".evaluation.json.123.tmp").write_text("{")
    (run.checkpoints / ".new" / "checkpoint-7").mkdir(parents=True)
    train(resume=run.path)
    assert {path.name for path in run.path.glob(".*")} == {LOCK}
    assert not (run.checkpoints / ".new").exists()
    assert_same(run, whole)


def test_a_full_disk_is_said_and_survived(whole: Run, tmp_path: Path, warm: Warm) -> None:
    """No file may grow beyond 2,000 bytes at steps 3 to 5, as on a disk that is full and then is not."""
    (tmp_path / "own.py").write_text(
        "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "def own_reward(completions, trainer_state=None, **kwargs):\n"
        "    if trainer_state is not None:\n"
        "        full = trainer_state.global_step in (2, 3, 4)\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000 if full else resource.RLIM_INFINITY, -1))\n"
        "    return [0.0] * len(completions)\n"
    )
    (tmp_path / "recipe.toml").write_text(
        small(rewards={f"{tmp_path}/own.py:own_reward": 0.0}, grpo={"save_steps": 2}).to_toml()
    )
    done = warm.run(*START, "recipe.toml", "--out", "run", "--trust-code", cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Warning, step 3: cannot write to run; its lines stay in memory until there is space again" in done.stderr
    assert "Warning, step 4: the checkpoint could not be written (" in done.stderr
    assert "the last one is checkpoint-2, and the next is tried in time" in done.stderr
    run = Run(tmp_path / "run")
    assert without_own(run) == untimed(whole)
    assert len(run.completions()) == len(whole.completions())
    assert run.finished


# --- two runs, a run that is found again, a run that goes on otherwise


def test_two_runs_on_one_folder(whole: Run, tmp_path: Path) -> None:
    run = cut_copy(whole, tmp_path / "run", 6)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.name != LOCK}
    holding = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, time\nfrom pathlib import Path\nfrom grpo_colab.runs.lock import locked\n"
            "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(300)\n",
            str(run.path),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holding.stdout is not None
    assert holding.stdout.readline() == "held\n"
    problem, remedy = f"is being trained by process {holding.pid} on ", "wait for it, or stop it first"
    with refused(problem=problem, remedy=remedy, place=run.path, snapshot=False):
        train(resume=run.path)
    assert {path: path.stat().st_mtime_ns for path in run.path.rglob("*") if path.name != LOCK} == before
    holding.kill()  # the lock dies with its process
    holding.wait()
    train(resume=run.path)
    assert_same(run, whole)


def test_this_process_can_hold_a_folder_again_and_only_once(tmp_path: Path) -> None:
    for _ in range(2):
        with (
            locked(tmp_path / "run"),
            refused(problem=f"process {os.getpid()} on", place=tmp_path / "run", snapshot=False),
            locked(tmp_path / "run"),
        ):
            pass


def test_a_folder_that_cannot_be_written(whole: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "run"
    with refused("--out", str(path), problem="cannot be written (", snapshot=False), locked(path):
        pass


def test_an_unfinished_run_of_the_same_recipe_is_found(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    run = cut_copy(whole, tmp_path / "runs" / "cut", 6)
    other = train(small(grpo={"seed": 7}, budget={"max_steps": 1}), resume=True)
    assert other.path != Path("runs/cut")
    assert train(small(budget={"max_hours": 9.0}), resume=True).path == Path("runs/cut")
    assert "Resuming runs/cut, an unfinished run of this recipe" in capsys.readouterr().err
    assert_same(run, whole)
    assert "To go on with that one" not in capsys.readouterr().err
    # what is finished is not gone on with, nor is what another process trains
    assert train(small(budget={"max_steps": 1}), resume=True).path not in (Path("runs/cut"), other.path)


def test_a_new_run_names_an_unfinished_one_of_its_recipe(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    cut_copy(whole, tmp_path / "runs" / "cut", 6)
    command = "grpo-colab train --resume runs/cut"
    said = f"runs/cut is an unfinished run of this recipe, at step 6 of 8. To go on with that one: {command}\n"
    for recipe, resume, is_said in (
        (small(), None, True),
        (small(), False, False),
        (small(grpo={"seed": 7}), None, False),
    ):
        with contextlib.ExitStack() as held:
            run, _, path = open_run(recipe, None, resume, held)
        assert run is None and path != Path("runs/cut")
        assert (said in capsys.readouterr().err) == is_said
    with locked(tmp_path / "runs" / "cut"), contextlib.ExitStack() as held:
        open_run(small(), None, None, held)
    assert said not in capsys.readouterr().err


def test_a_notebook_goes_on_by_itself(whole: Run, tmp_path: Path, kernel: Any) -> None:
    """Run again from the top after it was cut, as Colab does, in a real kernel."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    run = cut_copy(whole, tmp_path / "runs" / "cut", 6)
    cells = [
        "from grpo_colab import Recipe, train",
        f"run = train(Recipe.load({str(whole.path / 'recipe.toml')!r}))",
        "print('in', run.path)",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(book, km=kernel, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert "in runs/cut" in book.cells[-1].outputs[-1]["text"]
    assert_same(run, whole)


def test_a_run_that_goes_further_has_the_new_schedule_s_rate_from_its_first_step(tmp_path: Path) -> None:
    """Its checkpoint holds the rate at the end of the old schedule, which is 0 where that falls to 0."""
    whole = train(small(budget={"max_steps": 8}), out=tmp_path / "whole")
    run = train(small(budget={"max_steps": 4}), out=tmp_path / "run")
    longer = Recipe.load(run.path / "recipe.toml", budget={"max_steps": 8})
    train(longer, resume=run.path)
    rates = {row["step"]: row["learning_rate"] for row in whole.metrics()}
    for row in run.metrics():
        if row["step"] > 4:
            assert row["learning_rate"] == rates[row["step"]] > 0


def test_a_run_goes_on_with_another_learning_rate(whole: Run, tmp_path: Path, command: Callable[..., Any]) -> None:
    """What a tripwire suggests; the schedule in the checkpoint would bring back the old rate."""
    run = cut_copy(whole, tmp_path / "run", 6)
    done = command("train", "--resume", str(run.path), "--grpo.learning-rate", "2e-4")
    assert done.returncode == 0, done.stderr[-3000:]
    old = {row["step"]: row["learning_rate"] for row in whole.metrics()}
    new = {row["step"]: row["learning_rate"] for row in run.metrics()}
    assert {step: rate for step, rate in new.items() if step <= 6} == {s: r for s, r in old.items() if s <= 6}
    assert new[7] == pytest.approx(old[7] / 4)
    assert new[8] == pytest.approx(old[8] / 4)
    assert Run(run.path).recipe.grpo["learning_rate"] == 2e-4


def test_spoilt_checkpoints_are_set_aside_and_the_run_begins_before_them(whole: Run, tmp_path: Path) -> None:
    """A learning rate of 1 makes gibberish in the first step that has a gradient, the second; it shows in the third."""
    assert [row["grad_norm"] > 0 for row in whole.metrics()[:2]] == [False, True]
    (tmp_path / "drive").mkdir()
    wild = small(grpo={"learning_rate": 1.0, "save_steps": 1}, budget={"mirror": str(tmp_path / "drive")})
    remedy = "the last good checkpoint is checkpoint-1. Go on, with the setting that you choose behind it: "
    problem = "at step 3 its samples are worth -"
    with refused("tripwires.gibberish", 2.0, problem=problem, remedy=remedy, snapshot=False) as caught:
        train(wild, out=tmp_path / "run")
    said = str(caught.value.remedy)
    assert said.startswith("lower grpo.learning_rate (now 1)")
    assert said.endswith(f"grpo-colab train --resume {tmp_path / 'run'}")
    run = Run(tmp_path / "run")
    assert steps_saved(run) == [1]
    assert (run.checkpoints / "spoilt-checkpoint-2").is_dir()
    assert [*copied(tmp_path / "drive" / "run" / "checkpoints")] == ["checkpoint-1"]  # nor does a fresh machine find it
    record = json.loads((run.path / "tripwire.json").read_text())
    assert record["completions"]
    mended = Recipe.load(run.path / "recipe.toml", grpo={"learning_rate": whole.recipe.grpo["learning_rate"]})
    train(mended, resume=run.path)
    assert run.finished
    for rows in (mended_rows := untimed(run)), (whole_rows := untimed(whole)):
        rows[0].pop("learning_rate")
    assert mended_rows == whole_rows


def test_an_error_in_the_middle_of_a_step_loses_nothing(whole: Run, tmp_path: Path) -> None:
    """As when memory runs out: in the update of step 4, between two checkpoints."""
    from grpo_colab.policy.loading import load_policy
    from grpo_colab.utils.device import current_device

    (tmp_path / "own.py").write_text(
        "from pathlib import Path\n\ndef own_reward(completions, trainer_state=None, **kwargs):\n"
        "    if trainer_state is not None and trainer_state.global_step == 3:\n"
        "        Path(__file__).with_name('full').touch()\n    return [0.0] * len(completions)\n"
    )

    def runs_out(*_: Any) -> None:
        if (tmp_path / "full").exists():
            raise RuntimeError("the card fell off the bus")

    chosen = small(rewards={f"{tmp_path}/own.py:own_reward": 0.0})
    learner = load_policy(chosen, current_device())
    learner.model.register_forward_pre_hook(runs_out)
    with pytest.raises(RuntimeError, match="fell off the bus") as caught:
        train(chosen, out=tmp_path / "run", loaded=learner)
    assert caught.value.__notes__ == [f"Once it is mended: grpo-colab train --resume {tmp_path / 'run'}"]
    run = Run(tmp_path / "run")
    assert steps_saved(run) == [1, 3]
    train(resume=run.path)
    assert without_own(run) == untimed(whole)


def test_a_fresh_machine_goes_on_from_the_mirror_alone(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drive").mkdir()
    lost = cut_copy(whole, tmp_path / "runs" / "lost", 6)
    (lost.path / "recipe.toml").write_text(small(budget={"mirror": "drive"}).to_toml())
    mirror.push(lost.path, str(tmp_path / "drive"))
    shutil.rmtree(tmp_path / "runs")
    run = train(small(budget={"mirror": "drive"}), resume=True)
    assert run.path == Path("runs/lost")
    assert f"Restoring {tmp_path}/drive/lost to runs/lost" in capsys.readouterr().err
    assert_same(run, whole)
    # and the copy has followed
    copied = tmp_path / "drive" / "lost"
    for name in ("metrics.jsonl", "evaluation.json", "adapter/adapter_model.safetensors"):
        assert (copied / name).read_bytes() == (run.path / name).read_bytes()
    shutil.rmtree(tmp_path / "runs")
    fresh = train(small(budget={"mirror": "drive", "max_steps": 1}), resume=True)
    assert fresh.path.name != "lost"  # what is finished is left alone


def test_what_has_changed_since_it_began_is_said(
    whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = cut_copy(whole, tmp_path / "run", 8)
    environment = json.loads((run.path / "environment.json").read_text())
    environment["versions"]["trl"], environment["processes"] = "1.14.0", 2
    (run.path / "environment.json").write_text(json.dumps(environment))
    train(resume=run.path)
    assert "differ in the last digits: trl 1.14.0 -> 1.15.0, processes 2 -> 1" in capsys.readouterr().err
    assert run.finished


def test_a_refused_setting_does_not_stay_behind(whole: Run, tmp_path: Path, command: Callable[..., Any]) -> None:
    run = cut_copy(whole, tmp_path / "a run", 6)
    before = (run.path / "recipe.toml").read_text()
    done = command("train", "--resume", str(run.path), "--grpo.num-generations", "3", "--grpo.loss-type", "dapoo")
    assert done.returncode == 2
    done = command("train", "--resume", str(run.path), "--budget.micro-batch", "3")
    assert done.returncode == 2
    assert "budget.micro_batch = 3: does not divide" in done.stderr
    assert (run.path / "recipe.toml").read_text() == before
    assert run.resume_command == f"grpo-colab train --resume '{run.path}'"


def test_a_run_that_goes_on_is_evaluated_by_the_same_problems_on_both_sides(whole: Run, tmp_path: Path) -> None:
    run = cut_copy(whole, tmp_path / "run", 8)
    train(Recipe.load(run.path / "recipe.toml", evaluation={"split": "train", "n": 4}), resume=run.path)
    sides = [read_lines(run.path / f"evaluation-{side}.jsonl") for side in ("before", "after")]
    assert [row["question"] for row in sides[0]] == [row["question"] for row in sides[1]]
    assert len(sides[0]) == 4
    # it is evaluated on training problems now, and on no others
    assert not (run.path / "evaluation-before-new_stories.jsonl").exists()
    assert run.evaluation is not None
    assert not {"note", "further"} & set(run.evaluation)
    # the policy before is the untrained one, though it was asked after the training
    problems = {row["question"]: row["completion"] for row in sides[0]}
    fresh = train(small(evaluation={"split": "train", "n": 4}, budget={"max_steps": 1}), out=tmp_path / "fresh")
    assert {
        row["question"]: row["completion"] for row in read_lines(fresh.path / "evaluation-before.jsonl")
    } == problems


def test_a_mirrors_copy_is_not_taken_for_another_run(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drive").mkdir()
    run = cut_copy(whole, tmp_path / "runs" / "x", 6)
    mirror.push(run.path, "drive")
    assert restore_run("drive/x").path == Path("runs/x")  # here, and as far
    shutil.rmtree(run.checkpoints / "checkpoint-6")
    problem = "'runs/x' exists already, and is another run or has fewer steps"
    with refused("--resume", "drive/x", problem=problem):
        restore_run("drive/x")
    shutil.rmtree(run.path)
    Run.create(small(), run.path)
    with refused("--resume", "drive/x", problem=problem, remedy="resume that one with --resume runs/x"):
        restore_run("drive/x")
    assert restore_run("drive/x", "elsewhere").last_step == 8
    shutil.rmtree(run.path)
    assert restore_run("drive").path == Path("runs/x")  # the newest that is there
    with refused("--resume", "runs/x", remedy="leave out --out"):
        restore_run("runs/x", "other")


def test_a_run_that_wants_no_checkpoints_has_its_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = small(grpo={"save_strategy": "no"}, budget={"max_steps": 3})
    run = train(chosen, out=tmp_path / "run")
    assert steps_saved(run) == [3]
    shutil.rmtree(run.checkpoints)
    (run.path / "evaluation.json").unlink()
    rows = untimed(run)
    train(resume=run.path)
    assert "has no whole checkpoint, so training starts again at the first step" in capsys.readouterr().err
    assert untimed(run) == rows


def test_what_cannot_go_on_is_refused(whole: Run, tmp_path: Path, command: Callable[..., Any]) -> None:
    with refused("--resume", str(whole.path), problem="is finished", remedy="start another run with --out"):
        train(resume=whole.path)
    run = cut_copy(whole, tmp_path / "run", 6)
    problem = "a run keeps the [lora] that it began with"
    with refused("--resume", str(run.path), problem=problem, remedy="start another run with --out"):
        train(small(lora={"r": 8}), resume=run.path)
    done = command("train", "--resume", str(run.path), "--grpo.learning-rate", "1e-4", "gsm8k-tiny")
    assert done.returncode == 2
    assert "goes on with the run's own recipe; leave out 'gsm8k-tiny'" in done.stderr
    assert json.loads((run.checkpoints / "checkpoint-6" / "manifest.json").read_text())["step"] == 6
