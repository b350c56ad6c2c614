"""[tripwires] collapse: what falls from its best while it runs away goes back there once, with half the rate."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from marks import long_but
from refusals import check

from grpo_colab import Recipe, Run, train
from grpo_colab.reporting import report
from grpo_colab.runs import checkpoints, collapse
from grpo_colab.runs.records import repeatable
from grpo_colab.runs.status import status, status_text
from grpo_colab.training.endings import Tripped

pytestmark = pytest.mark.stack

STEPS, BEST, SEEN = 24, 10, 20
RATE = 4e-4


def paying(until: float = BEST, cured_below: float = 0.75, breaks: Callable[[int, float], object] | None = None) -> Any:
    """A reward that pays by length, and nothing from the second step after `until` unless the rate is below a share.

    In the first step after a return, the last rate that was logged is still that of the step gone back to.
    `breaks` is called before with each step and its learning rate, and may end the run.
    """

    def own_reward(completions: list[Any], trainer_state: Any = None, **kwargs: Any) -> list[float]:
        paid = [1.0 + len(one[0]["content"]) % 5 / 10 for one in completions]
        if trainer_state is None or not trainer_state.global_step:
            return paid
        rate = next(row["learning_rate"] for row in reversed(trainer_state.log_history) if "learning_rate" in row)
        step = trainer_state.global_step + 1
        if breaks is not None:
            breaks(step, rate)
        return paid if step <= until + 1 or rate < cured_below * RATE else [0.0] * len(paid)

    return own_reward


def recipe(reward: Any, tripwires: dict[str, Any] | None = None, **tables: dict[str, Any]) -> Recipe:
    settings: dict[str, dict[str, Any]] = {
        "task": {"limit": 32},
        "budget": {"max_steps": STEPS, "prompts_per_step": 1, "rehearsal": False},
        "grpo": {
            "num_generations": 4,
            "max_completion_length": 8,
            "learning_rate": RATE,
            "lr_scheduler_type": "constant",
            "mask_truncated_completions": False,
        },
        "evaluation": {"n": 2, "max_completion_tokens": 4},
    }
    merged = {name: {**settings.get(name, {}), **tables.get(name, {})} for name in {*settings, *tables}}
    return Recipe.load(rewards=[reward], tripwires={"collapse": True} if tripwires is None else tripwires, **merged)


def rates(run: Run) -> list[float]:
    return [row["learning_rate"] for row in run.metrics()]


def same(run: Run, other: Run) -> None:
    """Everything that repeats is the same: metrics, completions, what was kept aside, the result and the weights."""
    from safetensors.torch import load_file

    assert repeatable(run.metrics()) == repeatable(other.metrics())
    assert run.completions() == other.completions()
    assert run.evaluation == other.evaluation
    for name in ("metrics", "completions"):
        aside = [[json.loads(line) for line in (each.path / f"collapsed-{name}.jsonl").open()] for each in (run, other)]
        assert repeatable(aside[0]) == repeatable(aside[1])
    assert run.read_json("collapse.json") == other.read_json("collapse.json")
    assert run.warnings(99) == other.warnings(99)
    weights, others = (load_file(each.adapter / "adapter_model.safetensors") for each in (run, other))
    assert all(weights[name].equal(others[name]) for name in others)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that collapses after step 10, is seen to at 20, goes back and comes to its end."""
    return train(recipe(paying()), out=tmp_path_factory.mktemp("whole") / "run")


def test_it_goes_back_once_with_half_the_rate_and_keeps_what_came_after(whole: Run) -> None:
    assert whole.finished
    rows = whole.metrics()
    assert [row["step"] for row in rows] == [*range(1, STEPS + 1)]
    assert rates(whole) == [RATE] * BEST + [RATE / 2] * (STEPS - BEST)
    assert min(row["reward"] for row in rows) > 0.9  # the lines of the collapse are gone from here
    assert [row["step"] for row in rows if "collapse/at_step" in row] == [BEST + 1]
    assert rows[BEST]["collapse/at_step"] == SEEN
    aside = [json.loads(line) for line in (whole.path / "collapsed-metrics.jsonl").open()]
    assert [row["step"] for row in aside] == [*range(BEST + 1, SEEN + 1)]
    assert {row["reward"] for row in aside[1:]} == {0.0}
    assert len((whole.path / "collapsed-completions.jsonl").read_text().splitlines()) == 4 * (SEEN - BEST)
    record = whole.read_json("collapse.json")
    assert record is not None
    assert (record["step"], record["back_to"], record["done"]) == (SEEN, BEST, True)
    assert (record["learning_rate_before"], record["learning_rate"]) == (RATE, RATE / 2)
    assert record["what"].startswith("reward fell from ")
    assert len(record["completions"]) == 4
    assert whole.recipe.grpo["learning_rate"] == RATE  # running it again repeats the run
    assert not whole.tripped


def test_it_is_told_on_the_page_in_status_and_among_the_warnings(whole: Run, tmp_path: Path) -> None:
    said = f"back to checkpoint-{BEST}, once, with half the learning rate (0.0002 for 0.0004)"
    (line,) = [row for row in whole.warnings(99) if row["kind"] == "collapse"]
    assert line["text"].startswith(f"at step {SEEN} reward fell from ")
    assert said in line["text"]
    assert said in status(whole.path)["collapse"]["text"]
    assert "collapse        at step 20 reward fell from" in status_text(status(whole.path))
    page = report([whole.path], tmp_path / "page.html").read_text()
    assert f"The run collapsed at step {SEEN}: reward fell from " in page
    assert page.count(said) == 1


class Killed(BaseException):
    """In the place of a SIGKILL: nothing of ours handles it."""


@pytest.mark.parametrize(
    "at",
    long_but(
        [(collapse, "finish_going_back")],
        [
            (Run, "write_json"),
            (collapse, "finish_going_back"),
            (checkpoints, "set_spoilt_aside"),
            (Run, "rewind_to"),
            (collapse, "warn"),
        ],
    ),
)
def test_killed_on_the_way_back_it_goes_on_to_the_last_digit(
    at: tuple[Any, str], whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the begin of each part of the return."""
    place, name = at
    original, out = getattr(place, name), tmp_path / "run"

    def killed(*arguments: Any, **named: Any) -> Any:
        going_back = "collapse.json" in arguments if name == "write_json" else (out / "collapse.json").exists()
        if going_back:
            raise Killed
        return original(*arguments, **named)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(place, name, killed)
        train(recipe(paying()), out=out)
    assert (out / "collapse.json").exists() == (name != "write_json")
    run = train(resume=out, rewards=[paying()])
    same(run, whole)


def broken_off(step: int, after_return: bool) -> Callable[[int, float], None]:
    def breaks(now: int, rate: float) -> None:
        if now == step and (rate < 0.75 * RATE) == after_return:
            raise Killed

    return breaks


@pytest.mark.parametrize("at", long_but([(15, True)], [(5, False), (17, False), (12, True), (15, True), (22, True)]))
def test_killed_before_or_after_it_the_run_is_the_same(at: tuple[int, bool], whole: Run, tmp_path: Path) -> None:
    step, after_return = at
    tables = {"grpo": {"save_steps": 4}}
    with pytest.raises(Killed):
        train(recipe(paying(breaks=broken_off(step, after_return)), **tables), out=tmp_path / "run")
    cut = Run(tmp_path / "run")
    assert (cut.path / "collapse.json").exists() == after_return
    last = cut.last_checkpoint()
    assert last is not None
    assert checkpoints.step_of(last) < step
    run = train(resume=cut.path, rewards=[paying()])
    same(run, whole)


def test_the_second_collapse_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(Tripped) as caught:
        train(recipe(paying(cured_below=0.0)), out=tmp_path / "run")
    check(caught.value, "tripwires.collapse", True, problem="at step 20 reward fell from", snapshot=False)
    remedy = str(caught.value.remedy)
    assert remedy.startswith("lower grpo.learning_rate (now 0.0002), say to 5e-05, or raise grpo.beta (now 0)")
    assert "tripwires.collapse = false turns this off; the last good checkpoint is checkpoint-10. Go on" in remedy
    run = Run(tmp_path / "run")
    record = run.read_json("tripwire.json")
    assert record is not None
    assert (record["wire"], record["step"], record["last_good_step"]) == ("tripwires.collapse", SEEN, BEST)
    assert rates(run) == [RATE] * BEST + [RATE / 2] * (SEEN - BEST)
    # A rate of one's own is not halved again, and off is off.
    chosen = recipe(paying(cured_below=0.0), {"collapse": False}, grpo={"learning_rate": 1e-4})
    train(chosen, resume=run.path)
    assert rates(run) == [RATE] * BEST + [1e-4] * (STEPS - BEST)


def test_a_healthy_run_is_the_same_with_it_and_without(tmp_path: Path) -> None:
    runs = []
    for on in (True, False):
        chosen = recipe(paying(until=math.inf), {"collapse": on}, budget={"max_steps": 12})
        runs.append(train(chosen, out=tmp_path / f"{on}"))
    assert repeatable(runs[0].metrics()) == repeatable(runs[1].metrics())
    assert runs[0].completions() == runs[1].completions()
    assert not (runs[0].path / "collapse.json").exists()


SHAPES: dict[str, Callable[[int], float]] = {
    "linear": lambda step: 1 - (step - 1) / STEPS,
    "cosine": lambda step: (1 + math.cos(math.pi * (step - 1) / STEPS)) / 2,
    "constant_with_warmup": lambda step: min(1.0, (step - 1) / 3),
}


def falling(shape: Callable[[int], float], breaks_at: int | None = None) -> Any:
    """The reward of `paying`, which knows the schedule: cured once the rate is half of what it would be."""

    def own_reward(completions: list[Any], trainer_state: Any = None, **kwargs: Any) -> list[float]:
        paid = [1.0 + len(one[0]["content"]) % 5 / 10 for one in completions]
        if trainer_state is None or not trainer_state.global_step:
            return paid
        last = [row for row in trainer_state.log_history if "learning_rate" in row][-1]
        halved = last["learning_rate"] < 0.75 * RATE * shape(last["step"])
        if halved and trainer_state.global_step + 1 == breaks_at:
            raise Killed
        return paid if trainer_state.global_step <= BEST or halved else [0.0] * len(paid)

    return own_reward


@pytest.mark.parametrize("schedule", long_but(["linear"], SHAPES))
def test_the_rate_is_half_of_the_schedules_from_there_on(schedule: str, tmp_path: Path) -> None:
    """Also once the run was cut after the return, from a checkpoint that was written at half the rate."""
    shape = SHAPES[schedule]
    warmup = {"warmup_steps": 3} if "warmup" in schedule else {}
    grpo = {"lr_scheduler_type": schedule, "save_steps": 4, **warmup}
    with pytest.raises(Killed):
        train(recipe(falling(shape, breaks_at=18), grpo=grpo), out=tmp_path / "run")
    run = Run(tmp_path / "run")
    assert [checkpoints.step_of(each) for each in checkpoints.saved(run.checkpoints)][-1] == 16
    train(resume=run.path, rewards=[falling(shape)])
    half = [1.0 if step <= BEST else 0.5 for step in range(1, STEPS + 1)]
    assert rates(run) == pytest.approx([RATE * half[step - 1] * shape(step) for step in range(1, STEPS + 1)])


@pytest.mark.long
def test_stopped_in_the_step_that_collapses_it_ends_at_its_best_and_goes_on(whole: Run, tmp_path: Path) -> None:
    def breaks(step: int, rate: float) -> None:
        if step == SEEN and rate > 0.75 * RATE:
            os.kill(os.getpid(), signal.SIGTERM)

    run = train(recipe(paying(breaks=breaks)), out=tmp_path / "run")
    assert not run.finished
    assert run.last_step == BEST
    assert run.evaluation is not None
    assert run.evaluation["step"] == BEST
    same(train(resume=run.path, rewards=[paying()]), whole)


@pytest.mark.long
def test_what_sampling_knows_goes_back_with_it(tmp_path: Path) -> None:
    tables = {"sampling": {"strategy": "adaptive", "refill": 1, "generate_more": 8}, "grpo": {"save_steps": 4}}
    train(recipe(paying(), **tables), out=tmp_path / "whole")
    with pytest.raises(Killed):
        train(recipe(paying(breaks=broken_off(18, after_return=True)), **tables), out=tmp_path / "cut")
    cut, other = train(resume=tmp_path / "cut", rewards=[paying()]), Run(tmp_path / "whole")
    same(cut, other)
    kept = [json.loads((run.checkpoints / f"checkpoint-{STEPS}" / "sampling.json").read_text()) for run in (cut, other)]
    assert kept[0] == kept[1]


@pytest.mark.long
def test_the_best_checkpoint_stays_whatever_the_clock_saves(whole: Run, tmp_path: Path) -> None:
    """One of each step, of which the last is kept: the run goes back to the same."""
    tables = {"budget": {"save_minutes": 1e-5}, "grpo": {"save_total_limit": 1}}
    same(train(recipe(paying(), **tables), out=tmp_path / "run"), whole)


@pytest.mark.long
def test_without_a_checkpoint_of_the_best_or_before_the_first_collapse_ends_the_run(tmp_path: Path) -> None:
    def breaks(step: int, rate: float) -> None:
        if step == SEEN:
            shutil.rmtree(tmp_path / "run" / "checkpoints")

    with pytest.raises(Tripped) as caught:
        train(recipe(paying(breaks=breaks)), out=tmp_path / "run")
    assert "there was no checkpoint before it" in str(caught.value.remedy)
    assert not (tmp_path / "run" / "collapse.json").exists()


@pytest.mark.long
def test_two_processes_go_back_together(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def own_reward(completions, trainer_state=None, **kwargs):\n"
        "    paid = [1.0 + len(one[0]['content']) % 5 / 10 for one in completions]\n"
        "    if trainer_state is None or not trainer_state.global_step:\n        return paid\n"
        "    rate = [row['learning_rate'] for row in trainer_state.log_history if 'learning_rate' in row][-1]\n"
        f"    return paid if trainer_state.global_step <= {BEST} or rate < 3e-4 else [0.0] * len(paid)\n"
    )
    alone = recipe(paying())
    tables = alone.public(exclude_none=True)
    tables["rewards"] = {f"{tmp_path}/own.py:own_reward": 1.0}
    (tmp_path / "own.toml").write_text(tomli_w.dumps(tables))
    torchrun = Path(sys.executable).with_name("torchrun")
    command = [torchrun, "--nproc_per_node", "2", "-m", "grpo_colab", "train", "own.toml", "--trust-code"]
    done = subprocess.run(
        [*map(str, command), "--budget.prompts-per-step", "2", "--out", "run"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    run = Run(tmp_path / "run")
    assert rates(run) == [RATE] * BEST + [RATE / 2] * (STEPS - BEST)
    assert [row["step"] for row in run.metrics() if "collapse/at_step" in row] == [BEST + 1]
    assert done.stderr.count(f"back to checkpoint-{BEST}, once") == 1
