"""W&B that has no key, refuses, hangs, resets, dies or is killed: the run goes on as if there were none.

Each case is a fork of the process that has imported unsloth, run once and looked at by several tests; see CASE.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from marks import long_but
from warm import Warm

from grpo_colab.runs.records import repeatable

pytest.importorskip("wandb")
sys.path.insert(0, str(Path(__file__).parents[1]))
from wandb_server import FAILURES, WandbServer

# What a fork runs, in the folder of all cases: a run of two steps, of this name, with these trackers.
CASE = """
import importlib, sys
from pathlib import Path
from grpo_colab import Recipe
train = importlib.import_module("grpo_colab.training.train").train

name, trackers = sys.argv[1:]
chosen = Recipe.load(
    # comes to the same whatever it does, for it pays 0 and weighs 0
    rewards={str(Path("strike.py").absolute()) + ":strikes": 0.0},
    task={"limit": 32},
    grpo={"num_generations": 4, "max_completion_length": 12, "report_to": trackers},
    budget={"max_steps": 2, "prompts_per_step": 2, "rehearsal": False},
    evaluation={"n": 4},
)
train(chosen, out=Path(name).absolute())
print("done")
"""
STRIKE = '''
"""A reward that pays nothing, and sends wandb's service process a signal when it finds one."""
import os, psutil

def strikes(completions, **kwargs):
    for child in psutil.Process().children():
        if child.name() == "wandb-core" and "STRIKE" in os.environ:
            child.send_signal(int(os.environ["STRIKE"]))
    return [0.0] * len(completions)
'''
# the signal that its service process gets in the middle of training
STRUCK = {"killed": "9", "stopped": "19"}
LATER = ("no-key", *FAILURES, *STRUCK)
USUAL = ("online", "refuse")  # the others fail in the same places, and take longer
SYNCED = [name for name in LATER if name not in ("nonsense", *STRUCK)]  # wandb writes every 15 s, and at the end


class Tried:
    """What a case left behind."""

    def __init__(self, folder: Path, done: subprocess.CompletedProcess[str], server: WandbServer) -> None:
        self.folder, self.server = folder, server
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    def metrics(self) -> list[dict[str, Any]]:
        """Without what things took."""
        return repeatable(json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines())

    def sync_lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if "wandb sync" in line and str(self.folder) in line]

    def to_sync(self) -> Path:
        """The folder in the last line of them."""
        (folder,) = (Path(word) for word in self.sync_lines()[-1].split() if word.startswith(str(self.folder)))
        return folder

    def sent(self, server: WandbServer, name: str) -> list[Any]:
        """A metric's values of this run, as the server got them."""
        rows = server.history.get(json.loads((self.folder / "wandb.json").read_text())["id"], [])
        return [row[name] for row in rows if name in row]


class Cases(dict[str, Tried]):
    """Every case by its name; each is run when it is asked for first."""

    def __init__(self, base: Path, warm: Warm, stack: ExitStack) -> None:
        super().__init__()
        self.base, self.warm, self.stack = base, warm, stack

    def __missing__(self, name: str) -> Tried:
        server = self.stack.enter_context(WandbServer(name if name in FAILURES else None))
        env = {"WANDB_INIT_TIMEOUT": "1", "WANDB_FINISH_TIMEOUT": "2", "HOME": str(self.base), "NETRC": os.devnull}
        env |= server.environment()
        env |= {"WANDB_API_KEY": ""} if name == "no-key" else {}
        env |= {"STRIKE": STRUCK[name]} if name in STRUCK else {}
        trackers = "none" if name == "without" else "wandb"
        done = self.warm.run("-c", CASE, name, trackers, cwd=self.base, env=os.environ | env)
        self[name] = Tried(self.base / name, done, server)
        return self[name]


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory, warm: Warm) -> Iterator[Cases]:
    base = tmp_path_factory.mktemp("tracking")
    (base / "strike.py").write_text(STRIKE)
    with ExitStack() as stack:
        yield Cases(base, warm, stack)


@pytest.mark.parametrize("name", long_but(USUAL, ["online", *LATER]))
def test_whatever_happens_to_wandb_the_run_is_the_same(tried: Cases, name: str) -> None:
    run = tried[name]
    assert run.status == 0, run.err
    assert run.out == tried["without"].out
    assert run.metrics() == tried["without"].metrics()
    assert len(run.metrics()) == 2
    assert "Traceback" not in run.err
    assert (run.folder / "evaluation.json").is_file()


@pytest.mark.parametrize("name", long_but(USUAL, SYNCED))
def test_what_did_not_get_through_can_be_synced_later(tried: Cases, name: str) -> None:
    """By the very command that the lines say."""
    run = tried[name]
    assert run.to_sync().parent == run.folder / "wandb"
    assert (" --include-online " in run.sync_lines()[-1]) is not run.to_sync().name.startswith("offline-run-")
    sync = [sys.executable, "-m", "wandb", "sync", "--include-online", str(run.to_sync())]
    with WandbServer() as server:
        env = os.environ | server.environment()
        done = subprocess.run(sync, cwd=tried.base, env=env, capture_output=True, text=True, check=False)
        assert server.history, done.stdout + done.stderr
        sent, expected = run.sent(server, "train/reward"), [line["reward"] for line in run.metrics()]
    assert sent == expected


@pytest.mark.parametrize("name", long_but(USUAL, sorted({*LATER} - {*SYNCED})))
def test_a_service_process_that_ended_too_early_to_write_all_has_its_line_too(tried: Cases, name: str) -> None:
    assert tried[name].to_sync().is_dir()


SAID = {
    "no-key": ("W&B is offline (no API key).",),
    "refuse": ("W&B is offline (", "connection refused"),
    "hang": ("W&B is offline (",),
    "reset": ("W&B is offline (", "connection reset"),
    "401": ("W&B is offline (", "401"),
    "gone": ("its server refused the data",),
    "killed": ("Warning: Wandb is off for the rest of this run",),
}


@pytest.mark.parametrize("name", long_but(USUAL, SAID))
def test_what_is_wrong_is_said(tried: Cases, name: str) -> None:
    assert all(words in tried[name].err for words in SAID[name])


def test_a_server_that_works_gets_every_step_and_nothing_is_left(tried: Cases) -> None:
    run = tried["online"]
    assert run.sent(run.server, "train/reward") == [line["reward"] for line in run.metrics()]
    assert not run.sync_lines()
    assert "W&B: http://" in run.err
    assert (run.folder / "wandb.json").is_file()


# What cannot be seen from outside: a call that hangs, tables that wandb refuses, trackers that are not there.
ALONE = """
import importlib, os, signal, sys
import unsloth, pandas, psutil, wandb
from grpo_colab.training import tracking
from grpo_colab.training.tracking_wandb import wandb_tracker
from grpo_colab.errors import SettingError

before = *map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)), sys.exit, sys.excepthook
from grpo_colab import Recipe
from grpo_colab.runs.run import Run
recipe = Recipe.load(model={"token": "hf_secret"}, grpo={"report_to": "wandb"})
def broken_off(**how):
    os.kill(os.getpid(), signal.SIGINT)
wandb.init, init, argv = broken_off, wandb.init, sys.argv
try:
    with wandb_tracker(Run.create(recipe, "broken-off"), recipe):
        print("began")
except KeyboardInterrupt:
    same = before == (*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)), sys.exit, sys.excepthook)
    print("broken off", same, sys.argv is argv, "WANDB_DATA_DIR" in os.environ, wandb.run)
wandb.init = init
with wandb_tracker(Run.create(recipe, "dead"), recipe):
    (core,) = [child for child in psutil.Process().children() if child.name() == "wandb-core"]
    core.kill()
    core.wait()
    try:
        while True:
            wandb.log({"x": 1})
    except Exception:
        import lightgbm  # one of those that it looks for
    print("imported")
with wandb_tracker(run := Run.create(recipe, "run"), recipe) as tracker:
    print("handlers", before == (*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)), sys.exit, sys.excepthook))
    print("token", "token" in wandb.config["model"], wandb.config["name"])
    table_guard = tracking.Guard("the table")
    mixed = pandas.DataFrame({"extra": ["a", 3]})
    table_guard(tracker.log_completions, mixed, [], 1)
    print("mixed", table_guard.on, wandb.run is tracker.run)
    guard = tracking.Guard("wandb")
    guard(wandb.log, {"x": 1})
    print("on", guard.on)
    tracking.LIMIT_S = 1.0
    (core,) = [child for child in psutil.Process().children() if child.name() == "wandb-core"]
    core.send_signal(signal.SIGSTOP)
    calls = 0
    while guard.on and calls < 2000:
        guard(wandb.log, {"x": "x" * 10_000})
        calls += 1
    print("hung", not guard.on)
print("gone", psutil.wait_procs([core], timeout=60)[1])
for wrong in ("wandbb", "swanlab"):
    try:
        tracking.check_trackers({"report_to": [wrong]})
    except SettingError as error:
        print(error.setting, error.value, error.problem, error.remedy, sep=" | ")
tracking.check_trackers({"report_to": ["wandb"]})
print(tracking.tracker_names({}), "wandb" in tracking.tracker_names({"report_to": "all"}))

tracking.LIMIT_S = 30.0
train = importlib.import_module("grpo_colab.training.train").train
train(
    Recipe.load(
        task={"limit": 32},
        grpo={
            "num_generations": 4, "max_completion_length": 12, "num_iterations": 2, "log_completions": True,
            "report_to": ["wandb", "tensorboard"],
        },
        budget={"max_steps": 3},
        evaluation={"n": 4},
    ),
    out="table",
)
from trl.extras.profiling import ProfilingContext
from trl.trainer import grpo_trainer
print("left", type(grpo_trainer.wandb).__name__, ProfilingContext._log_metrics.__module__)
for sys.stderr in (None, open("/dev/full", "w", buffering=1)):
    tracking.Guard("what fails where nobody can be told")(lambda: 1 / 0)
sys.stderr = sys.__stderr__
"""


@pytest.mark.long
def test_what_hangs_is_left_what_cannot_work_is_refused_and_the_next_run_has_all_of_it(
    tmp_path: Path, warm: Warm
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "lightgbm.py").touch()
    env = os.environ | {"WANDB_MODE": "offline", "WANDB_FINISH_TIMEOUT": "1", "NETRC": os.devnull}
    done = warm.run("-c", ALONE, cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "broken off True True False None" in done.stdout
    assert "imported" in done.stdout
    out = done.stdout[done.stdout.index("handlers") :].splitlines()
    assert out[:6] == [
        "handlers True",
        "token False word-problems-tiny",
        "mixed False True",
        "on True",
        "hung True",
        "gone []",
    ]
    assert out[6].startswith("grpo.report_to | ['wandbb'] | wandbb: no such tracker | did you mean 'wandb'")
    assert out[7].startswith("grpo.report_to | ['swanlab'] | swanlab is not installed (")
    assert out[7].endswith('`pip install swanlab`, or write "none"')
    assert out[8] == "[] True"
    assert "Warning: wandb is off for the rest of this run (TimeoutError: no answer in 1 s)" in done.stderr
    assert "W&B is offline. Once the run is done: wandb sync run/wandb/offline-run-" in done.stderr  # as was asked for
    assert out[-1] == "left module trl.extras.profiling"  # TRL's own, for the next trainer of the same process
    # and afterwards there: its table of completions, at each of two steps of three, which have some of their own
    assert len([*tmp_path.glob("table/wandb/offline-run-*/files/media/table/completions_*.json")]) == 2, done.stderr
    shown = EventAccumulator(str(tmp_path / "table" / "tensorboard")).Reload()
    assert [event.step for event in shown.Tensors("completions/text_summary")] == [1, 3]
