"""W&B that has no key, refuses, hangs, resets, dies or is killed: the run goes on as if there were none.

The cases run in one process that has imported unsloth and forks a child for each; see DRIVER.
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

from grpo_colab.records import repeatable

pytest.importorskip("wandb")
sys.path.insert(0, str(Path(__file__).parent))
from wandb_server import FAILURES, WandbServer

# Reads {name: {"env": ..., "grpo": ...}} and runs each in a fork, two at a time; a child's output goes to files.
DRIVER = """
import importlib, json, os, sys, traceback
from pathlib import Path
import unsloth, matplotlib.figure, trl, wandb, wandb.sdk.data_types._private
from grpo_colab import Recipe, tracking
from grpo_colab.machine import this_machine
from grpo_colab.policy import load_policy
train = importlib.import_module("grpo_colab.train").train
importlib.import_module("grpo_colab.checkpointing")

def recipe(grpo):
    return Recipe.load(
        # comes to the same whatever it does, for it pays 0 and weighs 0
        rewards={str(Path("strike.py").absolute()) + ":strikes": 0.0},
        task={"limit": 32},
        grpo={"num_generations": 4, "max_completion_length": 12, **grpo},
        budget={"max_steps": 2, "prompts_per_step": 2, "rehearsal": False},
        evaluation={"n": 4},
    )

def case(folder, env, grpo):
    os.environ.update(env)
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder.with_suffix("." + name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    train(recipe(grpo), out=folder, loaded=loaded)
    print("done")

loaded = load_policy(recipe({}), this_machine())
# the first child to end would take away the folder in which wandb writes the tables of all
wandb.sdk.data_types._private.MEDIA_TMP._finalizer.detach()
sys.stdout.flush()
children, statuses, cases = {}, {}, json.load(open("cases.json"))
while cases or children:
    while cases and len(children) < 2:
        name, given = cases.popitem()
        if (pid := os.fork()) == 0:
            try:
                case(Path(name), **given)
            except BaseException:
                traceback.print_exc()
                sys.exit(1)
            sys.exit(0)  # as Python ends: with all that wandb may have left to do then
        children[pid] = name
    pid, status = os.wait()
    statuses[children.pop(pid)] = os.waitstatus_to_exitcode(status)
print(json.dumps(statuses))
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
SYNCED = [name for name in LATER if name not in ("nonsense", *STRUCK)]  # wandb writes every 15 s, and at the end


class Tried:
    """What a case left behind."""

    def __init__(self, folder: Path, status: int, server: WandbServer) -> None:
        self.folder, self.status, self.server = folder, status, server
        self.out, self.err = (folder.with_suffix(f".{name}").read_text() for name in ("out", "err"))

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


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Tried]]:
    base = tmp_path_factory.mktemp("tracking")
    (base / "strike.py").write_text(STRIKE)
    (base / "driver.py").write_text(DRIVER)
    quick = {"WANDB_INIT_TIMEOUT": "1", "WANDB_FINISH_TIMEOUT": "2", "HOME": str(base), "NETRC": os.devnull}
    cases: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        servers = {}
        for name in ("without", "online", *LATER):
            servers[name] = stack.enter_context(WandbServer(name if name in FAILURES else None))
            env = quick | servers[name].environment()
            env |= {"WANDB_API_KEY": ""} if name == "no-key" else {}
            env |= {"STRIKE": STRUCK[name]} if name in STRUCK else {}
            cases[str(base / name)] = {"env": env, "grpo": {"report_to": "none" if name == "without" else "wandb"}}
        (base / "cases.json").write_text(json.dumps(cases))
        done = subprocess.run(
            [sys.executable, "driver.py"],
            cwd=base,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        statuses = json.loads(done.stdout.splitlines()[-1])
        yield {name: Tried(base / name, statuses[str(base / name)], server) for name, server in servers.items()}


@pytest.mark.parametrize("name", ["online", *LATER])
def test_whatever_happens_to_wandb_the_run_is_the_same(tried: dict[str, Tried], name: str) -> None:
    run = tried[name]
    assert run.status == 0, run.err
    assert run.out == tried["without"].out
    assert run.metrics() == tried["without"].metrics()
    assert len(run.metrics()) == 2
    assert "Traceback" not in run.err
    assert (run.folder / "evaluation.json").is_file()


@pytest.fixture(scope="module")
def synced(tried: dict[str, Tried]) -> Iterator[WandbServer]:
    """A server that works, and has got what the lines say can be sent later, by the very command."""
    folders = [str(tried[name].to_sync()) for name in SYNCED]
    with WandbServer() as server:
        sync = [sys.executable, "-m", "wandb", "sync", "--include-online", *folders]
        env, base = os.environ | server.environment(), Path(folders[0]).parents[2]  # it leaves a log where it is run
        done = subprocess.run(sync, cwd=base, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert server.history, done.stdout + done.stderr
        yield server


@pytest.mark.parametrize("name", SYNCED)
def test_what_did_not_get_through_can_be_synced_later(tried: dict[str, Tried], synced: WandbServer, name: str) -> None:
    run = tried[name]
    assert run.to_sync().parent == run.folder / "wandb"
    sent, expected = run.sent(synced, "train/reward"), [line["reward"] for line in run.metrics()]
    assert sent == expected
    assert (" --include-online " in run.sync_lines()[-1]) is not run.to_sync().name.startswith("offline-run-")


@pytest.mark.parametrize("name", sorted({*LATER} - {*SYNCED}))
def test_a_service_process_that_ended_too_early_to_write_all_has_its_line_too(
    tried: dict[str, Tried], name: str
) -> None:
    assert tried[name].to_sync().is_dir()


def test_what_is_wrong_is_said(tried: dict[str, Tried]) -> None:
    said = {name: tried[name].err for name in LATER}
    assert "W&B is offline (no API key)." in said["no-key"]
    assert "connection refused" in said["refuse"]
    assert "connection reset" in said["reset"]
    assert "401" in said["401"]
    assert "its server refused the data" in said["gone"]
    assert "Warning: Wandb is off for the rest of this run" in said["killed"]
    assert all("W&B is offline (" in said[name] for name in ("refuse", "hang", "reset", "401"))


def test_a_server_that_works_gets_every_step_and_nothing_is_left(tried: dict[str, Tried]) -> None:
    run = tried["online"]
    assert run.sent(run.server, "train/reward") == [line["reward"] for line in run.metrics()]
    assert not run.sync_lines()
    assert "W&B: http://" in run.err
    assert (run.folder / "wandb.json").is_file()


# What cannot be seen from outside: a call that hangs, tables that wandb refuses, trackers that are not there.
ALONE = """
import importlib, os, signal, sys
import unsloth, pandas, psutil, wandb
from grpo_colab import tracking
from grpo_colab.errors import SettingError

before = *map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)), sys.exit, sys.excepthook
from grpo_colab import Recipe
from grpo_colab.run import Run
recipe = Recipe.load(model={"token": "hf_secret"}, grpo={"report_to": "wandb"})
def broken_off(**how):
    os.kill(os.getpid(), signal.SIGINT)
wandb.init, init, argv = broken_off, wandb.init, sys.argv
try:
    with tracking.wandb_run(Run.create(recipe, "broken-off"), recipe):
        print("began")
except KeyboardInterrupt:
    same = before == (*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)), sys.exit, sys.excepthook)
    print("broken off", same, sys.argv is argv, "WANDB_DATA_DIR" in os.environ, wandb.run)
wandb.init = init
with tracking.wandb_run(Run.create(recipe, "dead"), recipe):
    (core,) = [child for child in psutil.Process().children() if child.name() == "wandb-core"]
    core.kill()
    core.wait()
    try:
        while True:
            wandb.log({"x": 1})
    except Exception:
        import lightgbm  # one of those that it looks for
    print("imported")
with tracking.wandb_run(run := Run.create(recipe, "run"), recipe):
    print("handlers", before == (*map(signal.getsignal, (signal.SIGINT, signal.SIGTERM)), sys.exit, sys.excepthook))
    print("token", "token" in wandb.config["model"], wandb.config["name"])
    direct = tracking.Direct(wandb)
    mixed = pandas.DataFrame({"extra": ["a", 3]})
    direct.log({"completions": direct.Table(dataframe=mixed)})
    print("mixed", direct.shield.on, wandb.run is direct.run)
    guard = tracking.Shield("wandb")
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
        print(error)
tracking.check_trackers({"report_to": ["wandb"]})
print(tracking.trackers({}), "wandb" in tracking.trackers({"report_to": "all"}))

tracking.LIMIT_S = 30.0
train = importlib.import_module("grpo_colab.train").train
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
from trl.extras import profiling
from trl.trainer import grpo_trainer
print("left", type(grpo_trainer.wandb).__name__, type(profiling.wandb).__name__)
for sys.stderr in (None, open("/dev/full", "w", buffering=1)):
    tracking.Shield("what fails where nobody can be told")(lambda: 1 / 0)
sys.stderr = sys.__stderr__
"""


def test_what_hangs_is_left_what_cannot_work_is_refused_and_the_next_run_has_all_of_it(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (tmp_path / "lightgbm.py").touch()
    env = os.environ | {"WANDB_MODE": "offline", "WANDB_FINISH_TIMEOUT": "1", "NETRC": os.devnull}
    done = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=480, check=False
    )
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
    assert "'wandbb'" in out[6] and "did you mean 'wandb'" in out[6]
    assert "grpo.report_to = ['swanlab']: swanlab is not installed" in out[7]
    assert out[8] == "[] True"
    assert "Warning: wandb is off for the rest of this run (TimeoutError: no answer in 1 s)" in done.stderr
    assert "W&B is offline. Once it is done: wandb sync run/wandb/offline-run-" in done.stderr  # as was asked for
    assert out[-1] == "left module module"  # TRL's own, for the next trainer of the same process
    # and afterwards there: its table of completions, at each of two steps of three, which have some of their own
    assert len([*tmp_path.glob("table/wandb/offline-run-*/files/media/table/completions_*.json")]) == 2, done.stderr
    shown = EventAccumulator(str(tmp_path / "table" / "tensorboard")).Reload()
    assert [event.step for event in shown.Tensors("completions/text_summary")] == [1, 3]
