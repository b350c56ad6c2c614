"""The campaign: runs that are killed, cut, filled up and lied to, and whether each ends as if nothing had happened.

    python tests/benchmarks/faults.py [--scale 0.1] [--only kill damage] [--seed 0] [--jobs 1] [--keep DIR]

One process imports everything and loads the tiny policy; every try is a fork of it that trains a short recipe, is
disturbed, and is resumed by another fork. What it leaves is compared with one run that nothing happened to: metrics
(without the times), completions, warnings, evaluation and adapter. Prints a line a kind, and what did not survive, with
the end of its log; the exit status is 1 when anything did not, or differed.

`steps lost` are those of a completed checkpoint that were trained again; after a signal or a broken reward, where a run
has the time to save, those of a completed step.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")

STEPS = 8
LIMIT_S = 180.0  # for one fork; a run takes a few seconds
# What a kill may strike in, by the function that does it.
PLACES = {
    "save": ("grpo_colab.training.checkpointing", "CheckpointManager", "save"),
    "generation": ("trl", "GRPOTrainer", "_generate_and_score_completions"),
    "evaluation": ("grpo_colab.evaluation.evaluate", "answer"),
}
FILE_EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}
REWARD = """
import os

def own_reward(completions, trainer_state=None, **kwargs):
    paid = [float(len(completion[0]["content"]) % 2) for completion in completions]
    way, _, step = os.environ.get("FAULT", "").partition(" ")
    if way and trainer_state is not None and trainer_state.global_step + 1 == int(step):
        if way == "raises":
            raise ValueError("no such file")
        if way == "short":
            return paid[1:]
        if way == "nothing":
            return None
        paid[-1] = {"nan": float("nan"), "inf": float("inf"), "text": "one"}[way]
    return paid
"""


class Failed(Exception):
    """A try that did not survive, and why."""


@dataclasses.dataclass
class Outcome:
    lost: int = 0
    differing: str = ""
    why: str = ""  # it did not survive
    seconds: float = 0.0


@dataclasses.dataclass
class Campaign:
    """What all tries share, made before the first fork."""

    folder: Path
    learner: Any
    recipe: Any
    seconds: float = 0.0  # of the run that nothing happens to
    calls: dict[str, list[tuple[float, int]]] = dataclasses.field(
        default_factory=dict
    )  # seconds and file events of each

    @property
    def whole(self) -> Path:
        return self.folder / "whole" / "run"


CAMPAIGN: Campaign


class Try:
    """One run folder, the forks that train in it, and what they said."""

    def __init__(self, folder: Path, number: int, rng: random.Random) -> None:
        folder.mkdir(parents=True)
        self.folder, self.number, self.rng = folder, number, rng
        self.out = folder / "run"
        self.recipe = CAMPAIGN.recipe
        self.log = folder / "0.log"
        self.forks: dict[int, subprocess.Popen[bytes]] = {}  # and what writes its log
        self.orphans: list[psutil.Process] = []

    def start(self, hook: Callable[[], None] | None = None, **environment: str) -> int:
        """Fork a process that begins the run, or goes on with it; its number."""
        self.log = self.folder / f"{len([*self.folder.glob('*.log')])}.log"
        with self.log.open("wb") as log:
            reader = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=log, start_new_session=True)
        with reader.stdin as pipe:
            pid = os.fork()
            if pid == 0:  # writes to a pipe, for a limit on its files must not be one on what it says
                os.setsid()
                os.dup2(pipe.fileno(), 1)
                os.dup2(pipe.fileno(), 2)
                os.environ.update(environment)
                os._exit(self._body(hook))
        self.forks[pid] = reader
        return pid

    def _body(self, hook: Callable[[], None] | None) -> int:
        from grpo_colab.errors import SettingError

        train_module = importlib.import_module("grpo_colab.training.train")
        assert train_module.PATIENCE_S > 2.0  # a name that is read no more would be set without a word
        train_module.PATIENCE_S = 2.0
        self._take_notes()
        try:
            if hook:
                hook()
            if (self.out / "recipe.toml").exists():
                train_module.train(resume=self.out, loaded=CAMPAIGN.learner)
            else:
                train_module.train(self.recipe, out=self.out, loaded=CAMPAIGN.learner)
        except SettingError as error:  # as the command does
            print(f"grpo-colab: {error}", file=sys.stderr, flush=True)
            return 2
        except KeyboardInterrupt:
            return 130
        except BaseException:  # noqa: BLE001 - it is what the try shows
            traceback.print_exc()
            return 1
        return 0

    def _take_notes(self) -> None:
        """Which checkpoints were completed, and from which step the trainer went on."""
        from grpo_colab.runs import checkpoints

        def published(call: Callable[..., Path], *arguments: Any) -> Path:
            path = call(*arguments)
            with (self.folder / "sealed").open("a") as file:
                file.write(f"{checkpoints.step_of(path)}\n")
            return path

        def trained(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            checkpoint = options.get("resume_from_checkpoint")
            (self.folder / "resumed").write_text(str(checkpoints.step_of(Path(checkpoint)) if checkpoint else 0))
            return call(*arguments, **options)

        wrap(("grpo_colab.runs.checkpoints", "publish"), published)
        wrap(("trl", "GRPOTrainer", "train"), trained)

    def wait(self, pid: int, limit_s: float = LIMIT_S) -> int:
        """The exit status, negative for a signal."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return self._reap(pid)
            time.sleep(0.005)
        os.killpg(pid, signal.SIGKILL)
        self._reap(pid)
        raise Failed(f"hung for {limit_s:.0f} s")

    def _reap(self, pid: int) -> int:
        """What it started and left behind lives on, as it would: it must not be in the next one's way."""
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError):
                if process.pid != pid and os.getpgid(process.pid) == pid:
                    self.orphans.append(process)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        reader = self.forks.pop(pid)
        try:
            reader.wait(5)
        except subprocess.TimeoutExpired:  # something in another session still writes
            reader.kill()
            reader.wait()
        return status

    def end(self, pid: int, *expected: int) -> int:
        """Wait for a fork that is to end by itself, in words."""
        status = self.wait(pid)
        if status not in expected:
            raise Failed(f"ended with {status}, not {' or '.join(map(str, expected))}")
        if "Traceback" in self.log.read_text(errors="replace"):
            raise Failed("a traceback")
        return status

    def clear(self) -> None:
        """End what is left of the forks, and a mirror's process, which is in a session of its own."""
        for pid in [*self.forks]:
            os.killpg(pid, signal.SIGKILL)
            self._reap(pid)
        mirrors = [p for p in psutil.process_iter(["cmdline"]) if str(self.out) in (p.info["cmdline"] or ())]
        for process in (*self.orphans, *mirrors):
            with contextlib.suppress(psutil.Error):
                process.kill()

    def sleep(self, most: float = 1.0) -> None:
        """Until some moment of the run."""
        time.sleep(self.rng.uniform(0.0, most * CAMPAIGN.seconds))

    def sealed(self) -> int:
        """The step of the newest checkpoint that was ever completed."""
        path = self.folder / "sealed"
        return max((int(line) for line in path.read_text().split()), default=0) if path.exists() else 0

    def steps(self) -> int:
        from grpo_colab.utils.files import read_lines

        return len(read_lines(self.out / "metrics.jsonl"))

    def finish(self, kept: int) -> Outcome:
        """Go on to the end, and compare; `kept` is the step from which it should."""
        from grpo_colab import Run

        (self.folder / "resumed").unlink(missing_ok=True)
        if not ((self.out / "recipe.toml").exists() and Run(self.out).finished):
            self.end(self.start(), 0)
        if not Run(self.out).finished:
            raise Failed("ended well, but is not finished")
        went_on = self.folder / "resumed"
        lost = max(0, kept - int(went_on.read_text())) if went_on.exists() else 0
        return Outcome(lost, differing(CAMPAIGN.whole, self.out))


def wrap(place: tuple[str, ...], around: Callable[..., Any]) -> None:
    """Have `around(call, *arguments)` called in place of module.function, or module.Class.method."""
    module, *path, name = place
    owner = functools.reduce(getattr, path, importlib.import_module(module))
    call = getattr(owner, name)

    @functools.wraps(call)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        return around(call, *arguments, **options)

    setattr(owner, name, wrapped)


def strike(place: str, number: int, after_s: float | None = None, event: int | None = None) -> None:
    """SIGKILL to this process within the number-th call of a place: after some time, or before a file operation."""
    state = {"calls": 0, "events": 0, "inside": False}

    def around(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        state["inside"] = state["calls"] == number
        state["calls"] += 1
        if state["inside"] and after_s is not None:
            timer = threading.Timer(after_s, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()
        try:
            return call(*arguments, **options)
        finally:
            state["inside"] = False

    def audit(name: str, arguments: Any) -> None:
        if state["inside"] and name in FILE_EVENTS:
            if state["events"] == event:
                os.kill(os.getpid(), signal.SIGKILL)
            state["events"] += 1

    wrap(PLACES[place], around)
    sys.addaudithook(audit)


def measure(path: Path) -> None:
    """Write to a file what each call of each place took: seconds, and file operations."""
    calls: dict[str, list[tuple[float, int]]] = {place: [] for place in PLACES}
    events = [0]

    def around(place: str, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        began, before = time.perf_counter(), events[0]
        result = call(*arguments, **options)
        calls[place].append((time.perf_counter() - began, events[0] - before))
        path.write_text(json.dumps(calls))
        return result

    def audit(name: str, arguments: Any) -> None:
        events[0] += name in FILE_EVENTS

    for place, name in PLACES.items():
        wrap(name, functools.partial(around, place))
    sys.addaudithook(audit)


def differing(whole: Path, other: Path) -> str:
    """The names of the files in which two runs differ, and the first step that does; empty when none do."""
    from grpo_colab.runs.records import repeatable
    from grpo_colab.utils.files import read_lines

    found = []
    for name in ("metrics", "completions", "warnings", "evaluation-before", "evaluation-after"):
        rows = [
            [json.dumps(row) for row in repeatable(read_lines(path))]
            for path in (whole / f"{name}.jsonl", other / f"{name}.jsonl")
        ]
        if rows[0] != rows[1]:
            first = next((i for i, (a, b) in enumerate(zip(*rows, strict=False)) if a != b), min(map(len, rows)))
            found.append(f"{name}.jsonl (from line {first + 1}; {len(rows[1])} of {len(rows[0])} lines)")
    for name in ("evaluation.json", "adapter/adapter_model.safetensors"):
        if (whole / name).read_bytes() != (other / name).read_bytes():
            found.append(name)
    return ", ".join(found)


# The kinds. Each gets a Try and gives an Outcome, or raises Failed.


def kill_anywhere(this: Try) -> Outcome:
    """At any moment, one in four twice."""
    for _ in range(2 if this.number % 4 == 3 else 1):
        pid = this.start()
        this.sleep(0.95)
        os.kill(pid, signal.SIGKILL)
        if this.wait(pid) == 0:
            break
    return this.finish(this.sealed())


def kill_in(place: str, this: Try) -> Outcome:
    calls = CAMPAIGN.calls[place]
    while True:  # until it was struck: by the clock it may be over before
        number = this.rng.randrange(len(calls))
        seconds, events = calls[number]
        if place == "save" and this.number % 2:
            hook = functools.partial(strike, place, number, event=this.rng.randrange(events))
        else:
            hook = functools.partial(strike, place, number, this.rng.uniform(0.0, seconds))
        if (status := this.wait(this.start(hook))) == -signal.SIGKILL:
            return this.finish(this.sealed())
        if status != 0:
            raise Failed(f"ended with {status} by itself")
        shutil.rmtree(this.out)
        (this.folder / "sealed").unlink()


def damage(this: Try) -> Outcome:
    """One file of the newest checkpoint of a run that was killed; one in five of the one before, too."""
    from grpo_colab.runs import checkpoints

    shutil.copytree(CAMPAIGN.folder / "stopped" / "run", this.out)
    saved = checkpoints.saved(this.out / "checkpoints")
    count = 2 if this.number % 5 == 4 else 1
    for checkpoint in saved[-count:]:
        path = this.rng.choice([path for path in sorted(checkpoint.rglob("*")) if path.is_file()])
        if (way := this.number % 3) == 0:
            os.truncate(path, this.rng.randrange(path.stat().st_size))
        elif way == 1:
            content = bytearray(path.read_bytes())
            content[this.rng.randrange(len(content))] ^= 1 << this.rng.randrange(8)
            path.write_bytes(content)
        else:
            path.unlink()
    hidden = sum(not (checkpoint / checkpoints.MANIFEST).exists() for checkpoint in saved[-count:])
    outcome = this.finish(checkpoints.step_of(saved[-count - 1]) if len(saved) > count else 0)
    text = this.log.read_text(errors="replace")
    if sum(f"{checkpoint.name} is damaged" in text for checkpoint in saved[-count:]) + hidden < count:
        raise Failed("the damage is not named")
    return outcome


def full_disk(this: Try) -> Outcome:
    """A disk that another fills up at some moment, to the last byte or nearly, and that has space again afterwards."""
    room = this.rng.choice([0, this.rng.randrange(4096), this.rng.randrange(500_000)])
    with small_disk(this.folder / "disk") as (disk, fill):
        this.out = disk / "run"
        pid = this.start()
        this.sleep(0.9)
        free = fill(pid, room)
        this.end(pid, 0, 2)
        free()
        return this.finish(this.sealed())


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[tuple[Path, Callable[[int, int], Callable[[], None]]]]:
    """A tmpfs that can be filled up; where one may not mount, a folder and a limit on the size of files."""
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode == 0:

        def fill(pid: int, room: int) -> Callable[[], None]:
            ballast = folder / "ballast"
            with ballast.open("wb", buffering=0) as file:
                left = shutil.disk_usage(folder).free - room
                with contextlib.suppress(OSError):
                    while left > 0:
                        left -= file.write(bytes(min(left, 1 << 20)))
            return ballast.unlink

        try:
            yield folder, fill
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    else:

        def limit(pid: int, room: int) -> Callable[[], None]:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))
            return lambda: None  # it ends with the process

        yield folder, limit


def terminate(this: Try) -> Outcome:
    """SIGTERM at any moment: it saves, evaluates and ends by itself, and no completed step is trained again."""
    pid = this.start()
    this.sleep(0.95)
    os.kill(pid, signal.SIGTERM)
    this.end(pid, 0, 130, -signal.SIGTERM)
    return this.finish(this.steps())


def two_starts(this: Try) -> Outcome:
    """Two processes begin a run in one folder, or go on with one: one is refused, in words, and changes nothing."""
    if this.number % 2:
        shutil.copytree(CAMPAIGN.folder / "stopped" / "run", this.out)
    first = this.start()
    if this.number % 4 > 1:
        this.sleep(0.4)
    first_log, second = this.log, this.start()
    statuses = [this.wait(first), this.wait(second)]
    if sorted(statuses) != [0, 2]:
        raise Failed(f"ended with {statuses}, not with a 0 and a 2")
    for log in (first_log, this.log):
        if "Traceback" in log.read_text(errors="replace"):
            raise Failed(f"a traceback in {log.name}")
    return this.finish(STEPS)


def reward_fails(this: Try) -> Outcome:
    way = ("raises", "short", "nothing", "nan", "inf", "text")[this.number % 6]
    step = this.rng.randint(1, STEPS)
    this.end(this.start(FAULT=f"{way} {step}"), 2)
    if this.steps() != step - 1:
        raise Failed(f"broke at step {step}, and has {this.steps()} lines of metrics")
    return this.finish(step - 1)


def wandb_fails(this: Try) -> Outcome:
    """No key, or a server that refuses, hangs, resets or says no: the run goes on as if there were none."""
    this.recipe = this.recipe.model_copy(update={"grpo": {**this.recipe.grpo, "report_to": "wandb"}})
    way = ("", "refuse", "hang", "reset", "401")[this.number % 5]
    key = {"WANDB_API_KEY": "0123456789" * 4} if way else {"WANDB_API_KEY": "", "NETRC": os.devnull}
    with bad_server(way or "refuse") as address:
        this.end(this.start(WANDB_BASE_URL=address, WANDB_INIT_TIMEOUT="5", HOME=str(this.folder), **key), 0)
        if "wandb sync" not in this.log.read_text(errors="replace"):
            raise Failed("no line to sync later")
        return this.finish(STEPS)


def mirror_fails(this: Try) -> Outcome:
    """A file where the folder should be, a hub that refuses, one that hangs."""
    way = ("file", "refuse", "hang")[this.number % 3]
    taken = this.folder / "taken"
    taken.touch()
    mirror = str(taken) if way == "file" else "hf://someone/runs"
    budget = this.recipe.budget.model_copy(update={"mirror": mirror})
    this.recipe = this.recipe.model_copy(update={"budget": budget})
    with bad_server("refuse" if way == "file" else way) as address:
        hub = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_" + "a" * 34}
        this.end(this.start(**hub, HF_HUB_DOWNLOAD_TIMEOUT="1"), 0)
        if "does not hold all of this run" not in this.log.read_text(errors="replace"):
            raise Failed("nothing is said of the mirror")
        return this.finish(STEPS)


@contextlib.contextmanager
def bad_server(way: str) -> Iterator[str]:
    """The address of one that refuses connections, never answers, resets them, or answers 401."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        if way == "refuse":
            yield address
            return
        listening.listen(50)
        pid = os.fork()
        if pid == 0:
            kept = []
            while True:
                connection, _ = listening.accept()
                if way == "reset":
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                elif way == "401":
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
                else:
                    kept.append(connection)
                    continue
                connection.close()
        try:
            yield address
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


KINDS: dict[str, tuple[str, int, Callable[[Try], Outcome]]] = {
    "kill": ("SIGKILL at any moment", 40, kill_anywhere),
    "kill-save": ("SIGKILL inside a save", 20, functools.partial(kill_in, "save")),
    "kill-generation": ("SIGKILL inside generation", 20, functools.partial(kill_in, "generation")),
    "kill-evaluation": ("SIGKILL inside evaluation", 20, functools.partial(kill_in, "evaluation")),
    "damage": ("a damaged checkpoint", 20, damage),
    "disk": ("a full disk", 10, full_disk),
    "term": ("SIGTERM at any moment", 10, terminate),
    "twice": ("two starts on one folder", 10, two_starts),
    "reward": ("a reward that fails", 6, reward_fails),
    "wandb": ("W&B that fails", 5, wandb_fails),
    "mirror": ("a mirror that fails", 3, mirror_fails),
}


def one_try(kind: str, number: int, seed: int) -> Outcome:
    """In a process of its own, which trains nothing itself."""
    began = time.perf_counter()
    this = Try(CAMPAIGN.folder / f"{kind}-{number}", number, random.Random(f"{seed} {kind} {number}"))
    try:
        outcome = KINDS[kind][2](this)
    except Failed as failed:
        outcome = Outcome(why=str(failed))
    except Exception as error:  # noqa: BLE001 - what a person will want to know of a try, and of the others too
        outcome = Outcome(why="".join(traceback.format_exception(error)))
    finally:
        this.clear()
    if outcome.why or outcome.differing or outcome.lost:
        logs = "\n".join(log.read_text(errors="replace")[-1500:] for log in sorted(this.folder.glob("*.log"))[-2:])
        outcome.why = outcome.why and f"{outcome.why}\n{logs}"
    elif this.folder.exists():
        shutil.rmtree(this.folder, ignore_errors=True)
    outcome.seconds = time.perf_counter() - began
    return outcome


def prepare(folder: Path) -> Campaign:
    """Import and load everything once; nothing is trained in this process, so that each fork finds it fresh."""
    with contextlib.redirect_stdout(sys.stderr):
        import unsloth  # noqa: F401

        from grpo_colab import Recipe
        from grpo_colab.policy.loading import load_policy
        from grpo_colab.utils.device import current_device

        for module in ("trl", "grpo_colab.training.train", "grpo_colab.training.checkpointing", "matplotlib.figure"):
            importlib.import_module(module)
        (folder / "own.py").write_text(REWARD)
        recipe = Recipe.load(
            rewards={f"{folder}/own.py:own_reward": 0.5},
            task={"limit": 64},
            grpo={"num_generations": 4, "max_completion_length": 12, "save_steps": 2},
            budget={"max_steps": STEPS, "prompts_per_step": 2, "save_minutes": 0.0},
            evaluation={"n": 4},
        )
        return Campaign(folder, load_policy(recipe, current_device()), recipe)


def undisturbed(campaign: Campaign) -> None:
    """The run that nothing happens to; once more, which must be the same; and one that was killed, to damage."""
    rng = random.Random(0)
    for name in ("whole", "again"):
        this = Try(campaign.folder / name, 0, rng)
        began = time.perf_counter()
        this.end(this.start(functools.partial(measure, this.folder / "calls") if name == "whole" else None), 0)
        campaign.seconds = time.perf_counter() - began
    campaign.calls = json.loads((campaign.folder / "whole" / "calls").read_text())
    if found := differing(campaign.whole, this.out):
        raise Failed(f"two runs of one seed differ, undisturbed: {found}")
    this = Try(campaign.folder / "stopped", 0, rng)
    this.wait(this.start(functools.partial(strike, "generation", STEPS - 1, 0.0)))


def main() -> None:
    global CAMPAIGN  # noqa: PLW0603 - the forks find it here
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of tries of each kind; at least one")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a new folder; what did not survive stays there")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    began = time.perf_counter()
    CAMPAIGN = prepare(folder.absolute())
    try:
        undisturbed(CAMPAIGN)
    except Failed as failed:
        sys.exit(f"faults: {failed}\n{(folder / 'whole' / '0.log').read_text(errors='replace')[-3000:]}")
    print(f"{time.perf_counter() - began:.0f} s to prepare; a run takes {CAMPAIGN.seconds:.1f} s", flush=True)
    print(f"{'':28}{'tried':>7}{'survived':>10}{'steps lost':>12}{'metrics differing':>19}{'seconds':>9}", flush=True)
    failures, tried = [], 0
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("fork")) as pool:
        for kind in options.only:
            what, count, _ = KINDS[kind]
            count = max(1, round(count * options.scale))
            tries = [pool.submit(one_try, kind, number, options.seed) for number in range(count)]
            outcomes = [future.result() for future in tries]
            print(
                f"{what:28}{count:>7}{sum(not o.why for o in outcomes):>10}{sum(o.lost for o in outcomes):>12}"
                f"{sum(bool(o.differing) for o in outcomes):>19}{sum(o.seconds for o in outcomes):>9.1f}",
                flush=True,
            )
            tried += count
            failures += [(kind, n, o) for n, o in enumerate(outcomes) if o.why or o.lost or o.differing]
    for kind, number, outcome in failures:
        print(
            f"\n{kind}-{number}: {outcome.lost} steps lost; differing: {outcome.differing or 'nothing'}\n{outcome.why}"
        )
    print(f"\n{tried} tries, {len(failures)} not as they should be, {time.perf_counter() - began:.0f} s")
    if options.keep is None:
        shutil.rmtree(folder)
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
