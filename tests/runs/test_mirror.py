"""The mirror: a copy that equals the run, whatever was killed, full, damaged or absent on the way to it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from earlier_copies import as_earlier
from filelock import FileLock
from refusals import refused

from grpo_colab.runs import mirror
from grpo_colab.runs.checkpoints import DAMAGED, MANIFEST, damage, delete, prune, saved, seal
from grpo_colab.runs.mirror.slots import SLOTS, copied
from grpo_colab.utils.files import append, write_json

FAST = {"HF_HUB_DOWNLOAD_TIMEOUT": "1", "HF_HUB_ETAG_TIMEOUT": "1"}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is busy takes long to start a process: what a test waits for comes all the same."""
    monkeypatch.setattr("grpo_colab.runs.mirror.layout.REACH_S", 60.0)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of twenty steps, with checkpoints at 10 (the best) and 20, and an adapter."""
    run = tmp_path / "made" / "a run [1]"
    run.mkdir(parents=True)
    (run / "recipe.toml").write_text('name = "example"\n')
    write_json(run / "evaluation.json", {"step": 20})
    (run / "rewards.png").write_bytes(os.urandom(500))
    (run / ".lock").write_text("1 on here")
    (run / "adapter").mkdir()
    (run / "adapter" / "adapter_model.safetensors").write_bytes(os.urandom(3000))
    for step, value in ((10, 0.9), (20, 0.1)):
        train_to(run, step, value)
    return run


def train_to(run: Path, step: int, value: float, size: int = 5000) -> Path:
    append(run / "metrics.jsonl", json.dumps({"step": step}) + "\n")
    staged = run / "checkpoints" / ".new" / f"checkpoint-{step}"
    (staged / "deep").mkdir(parents=True)
    (staged / "optimizer.pt").write_bytes(os.urandom(size))
    (staged / "deep" / "empty").write_bytes(b"")
    return seal(staged, run / "checkpoints", "reward", value)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    from hub_server import Hub

    with Hub() as served:
        yield served


@pytest.fixture(params=["folder", "hub"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A destination of each kind; processes that this one starts take the test's hub for the hub."""
    if request.param == "folder":
        return str(tmp_path / "drive")
    use(request.getfixturevalue("hub"), tmp_path, monkeypatch)
    return "hf://someone/copies"


def use(hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take it for the hub, in the processes that are started, and in this one, which may have read its own long ago."""
    from huggingface_hub import constants

    for name, value in hub.environment(tmp_path / "home", **FAST).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home"))


def child(run: Path, destination: str, **options: Any) -> int:
    command = [sys.executable, "-m", "grpo_colab.runs.mirror", str(run), destination, "0"]
    return subprocess.run(command, check=False, **options).returncode


def contents(folder: Path) -> dict[str, bytes]:
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {name: content for name, content in files.items() if not name.startswith(".") and name != mirror.STATE}


def state(run: Path) -> dict[str, Any]:
    return json.loads((run / mirror.STATE).read_text())


def until(condition: Callable[[], object], keeper: mirror.Mirror | None = None) -> None:
    """Wait for it, as the run's steps do: by polling."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
        if keeper:
            keeper.poll()


def test_what_comes_back_is_what_was_there(run: Path, place: str, tmp_path: Path) -> None:
    assert child(run, place) == 0
    assert (state(run)["step"], state(run)["error"]) == (20, None)
    back = mirror.restore(f"{place}/{run.name}", tmp_path / "new" / "run")
    assert contents(back) == contents(run)
    assert not mirror.is_mirror(str(back))
    # a destination alone: its newest copy
    assert contents(mirror.restore(place, tmp_path / "again")) == contents(run)
    assert mirror.recipes(place) == {run.name: 'name = "example"\n'}


def test_the_copy_follows_the_run(run: Path, place: str, tmp_path: Path) -> None:
    child(run, place)
    for step in (30, 40):
        train_to(run, step, 0.5)
        assert child(run, place) == 0
    (run / "evaluation.json").unlink()
    (run / "adapter" / "adapter_model.safetensors").write_bytes(os.urandom(3000))
    os.utime(run / "adapter", ns=(1, 1))  # the trainer replaces the folder
    assert child(run, place) == 0
    back = mirror.restore(f"{place}/{run.name}", tmp_path / "back")
    assert [path.name for path in saved(back / "checkpoints")] == ["checkpoint-10", "checkpoint-30", "checkpoint-40"]
    expected = {name: content for name, content in contents(run).items() if "checkpoint-20/" not in name}
    assert contents(back) == expected


def test_a_run_that_went_back_takes_its_copy_with_it(run: Path, place: str, tmp_path: Path) -> None:
    """Checkpoint 20 was found damaged on resuming: the metrics end at 10, and so must the copy's checkpoints."""
    child(run, place)
    (run / "checkpoints" / "checkpoint-20").rename(run / "checkpoints" / f"{DAMAGED}checkpoint-20")
    (run / "metrics.jsonl").write_text('{"step": 10}\n')
    assert child(run, place) == 0
    back = mirror.restore(f"{place}/{run.name}", tmp_path / "back")
    assert [path.name for path in saved(back / "checkpoints")] == ["checkpoint-10"]


def test_a_damaged_checkpoint_is_told_and_not_copied(run: Path, place: str, tmp_path: Path) -> None:
    train_to(run, 30, 0.5)
    with (run / "checkpoints" / "checkpoint-30" / "optimizer.pt").open("r+b") as file:
        file.write(b"flipped")
    assert child(run, place) == mirror.FAILED
    assert "checkpoint-30: optimizer.pt is not what was written" in state(run)["error"]
    back = mirror.restore(f"{place}/{run.name}", tmp_path / "back")
    assert [path.name for path in saved(back / "checkpoints")] == ["checkpoint-10", "checkpoint-20"]
    assert (back / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()


def test_a_copy_that_was_damaged_there_is_left_out(run: Path, tmp_path: Path) -> None:
    mirror.push(run, str(tmp_path / "drive"))
    copies = tmp_path / "drive" / run.name / "checkpoints"
    (copied(copies)["checkpoint-20"] / "optimizer.pt").write_bytes(b"")
    back = mirror.restore(str(tmp_path / "drive" / run.name), tmp_path / "back")
    assert [path.name for path in saved(back / "checkpoints")] == ["checkpoint-10"]
    (copied(copies)["checkpoint-10"] / "optimizer.pt").unlink()
    problem = "checkpoint-20: optimizer.pt has 0 of 5,000 bytes"
    with refused(problem=problem, remedy="train again without this copy", place=tmp_path / "drive" / run.name):
        mirror.restore(str(tmp_path / "drive" / run.name), tmp_path / "none")
    assert not [path for path in tmp_path.iterdir() if "none" in path.name]
    # what is not whole by size is copied again
    assert mirror.push(run, str(tmp_path / "drive")) == 20
    assert {name: damage(path) for name, path in copied(copies).items()} == {
        "checkpoint-10": None,
        "checkpoint-20": None,
    }


def test_another_run_of_the_same_name_is_not_overwritten(run: Path, place: str, tmp_path: Path) -> None:
    child(run, place)
    other = tmp_path / "elsewhere" / run.name
    other.mkdir(parents=True)
    (other / "recipe.toml").write_text("")
    assert child(other, place) == mirror.FAILED
    assert "holds another run" in state(other)["error"]
    assert contents(mirror.restore(f"{place}/{run.name}", other / "back")) == contents(run)
    # but a run that came from the copy goes on with it
    back = mirror.restore(place, tmp_path / "fresh machine" / run.name)
    train_to(back, 30, 0.2)
    assert child(back, place) == 0


def test_a_run_folder_that_is_its_own_copy_is_left_alone(run: Path) -> None:
    before = contents(run)
    assert mirror.push(run, str(run.parent)) == 20
    assert contents(run) == before


def test_an_absent_drive_does_not_become_a_local_folder(run: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        mirror.push(run, str(tmp_path / "drive" / "MyDrive"))
    assert not (tmp_path / "drive").exists()


def half_written(copy: Path, checkpoint: Path) -> bool:
    """Whether the beginning of the checkpoint's large file is in a slot."""
    with (checkpoint / "optimizer.pt").open("rb") as file:
        beginning = file.read(1000)
    for path in copy.glob("checkpoints/slot-*/optimizer.pt"):
        with path.open("rb") as file:
            if file.read(1000) == beginning:
                return True
    return False


def test_a_killed_child_leaves_whole_things_and_the_next_mends(run: Path, tmp_path: Path) -> None:
    drive = tmp_path / "drive"
    mirror.push(run, str(drive))
    copy = drive / run.name
    for n in range(3, 7):  # the first into a slot that is not there yet, the others over what is in one
        path = train_to(run, 10 * n, 0.5, size=30_000_000)
        prune(run / "checkpoints", 1)  # what was cut off may be gone from the run when it is mended
        before = list(copied(copy / "checkpoints"))
        command = [sys.executable, "-m", "grpo_colab.runs.mirror", str(run), str(drive), "0"]
        process = subprocess.Popen(command)
        while process.poll() is None and not half_written(copy, path):
            pass
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it was done before it was killed: make the file larger"
        whole = copied(copy / "checkpoints")
        assert path.name not in whole
        assert {"checkpoint-10", before[-1]} <= set(whole) <= set(before)
        assert [damage(kept) for kept in whole.values()] == [None] * len(whole)
        assert mirror.restore(str(copy), tmp_path / f"back{n}").is_dir()
        if n == 5:  # the run goes on before the next pass
            path = train_to(run, 10 * n + 5, 0.5)
            delete(run / "checkpoints" / f"checkpoint-{10 * n}")
        assert mirror.push(run, str(drive)) == int(path.name.rpartition("-")[2])
        assert damage(copied(copy / "checkpoints")[path.name]) is None
        assert not [left for left in copy.rglob(".*") if left.is_file()]


def test_the_run_goes_on_while_its_copy_fails_and_then_succeeds(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file stands where the folder should be, as good as read-only also for root; then it is taken away."""
    monkeypatch.setattr("grpo_colab.runs.mirror.mirror.FIRST_RETRY_S", 0.02)
    (tmp_path / "drive").write_text("")
    keeper = mirror.Mirror(run, str(tmp_path / "drive"))
    keeper.request()
    assert keeper.pinned == run / "checkpoints" / "checkpoint-20"
    until(lambda: (run / mirror.STATE).exists() and state(run)["failures"] >= 2, keeper)
    assert state(run)["step"] is None
    assert "FileExistsError" in state(run)["error"] or "NotADirectory" in state(run)["error"]
    left = keeper.finish(0.0)
    assert left is not None
    assert "newest checkpoint there: none" in left
    (tmp_path / "drive").unlink()
    assert keeper.finish(60) is None
    assert (state(run)["step"], state(run)["failures"], keeper.pinned) == (20, 0, None)
    assert contents(mirror.restore(str(tmp_path / "drive"), tmp_path / "back")) == contents(run)


def test_a_full_disk_there_leaves_what_was_whole(run: Path, tmp_path: Path) -> None:
    """A limit on the size of files, which fails a write as a full disk does: in the middle of it."""
    drive = str(tmp_path / "drive")
    mirror.push(run, drive)
    train_to(run, 30, 0.5, size=500_000)

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    assert child(run, drive, preexec_fn=limit) == mirror.FAILED
    assert "File too large" in state(run)["error"]
    copy = tmp_path / "drive" / run.name
    assert list(copied(copy / "checkpoints")) == ["checkpoint-10", "checkpoint-20"]
    assert (copy / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes()
    assert child(run, drive) == 0
    assert damage(copied(copy / "checkpoints")["checkpoint-30"]) is None


HANGS = """
import os, sys, time
from pathlib import Path

def hang(event, arguments):
    if event == "open" and Path(os.environ["HANGS"]) in Path(str(arguments[0])).parents:
        time.sleep(600)

sys.addaudithook(hang)
"""


def test_a_folder_that_hangs_never_holds_the_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the child, opening a file there never returns, as on a network drive whose server is dead."""
    monkeypatch.setattr("grpo_colab.runs.mirror.mirror.LIMIT_S", 2.0)
    monkeypatch.setattr("grpo_colab.runs.mirror.layout.REACH_S", 2.0)
    monkeypatch.setattr("grpo_colab.runs.mirror.mirror.FIRST_RETRY_S", 0.02)
    drive = tmp_path / "drive"
    (drive / run.name).mkdir(parents=True)
    (tmp_path / "hanging").mkdir()
    (tmp_path / "hanging" / "sitecustomize.py").write_text(HANGS)
    monkeypatch.setenv("HANGS", str(drive))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "hanging"), *sys.path]))
    monkeypatch.syspath_prepend(tmp_path / "hanging")
    keeper = mirror.Mirror(run, str(drive))
    keeper.request()
    until((run / mirror.STATE).exists, keeper)
    assert "stopped after" in state(run)["error"]
    assert mirror.recipes(str(drive)) == {}
    monkeypatch.setenv("HANGS", str(tmp_path / "no more"))
    monkeypatch.setattr("grpo_colab.runs.mirror.mirror.LIMIT_S", 60.0)
    assert keeper.finish(60) is None
    assert state(run)["step"] == 20


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        pytest.param("hang", "ReadTimeout", marks=pytest.mark.long),
        ("500", "500 Internal Server Error"),
        ("reset", "reset by peer"),
        ("401", "set HF_TOKEN or run `hf auth login`"),
        ("refuse", "Connection refused"),
    ],
)
def test_a_hub_that_fails_is_told_and_tried_again(
    failure: str, said: str, run: Path, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(hub, tmp_path, monkeypatch)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("grpo_colab.runs.mirror.mirror.FIRST_RETRY_S", 0.02)
    hub.failure = failure
    if failure == "refuse":
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        hub.failure = "reset"  # for this process
    keeper = mirror.Mirror(run, "hf://someone/copies")
    keeper.request()
    until((run / mirror.STATE).exists, keeper)
    assert said in state(run)["error"]
    monkeypatch.setattr("grpo_colab.runs.mirror.layout.REACH_S", 0.5)
    with refused(remedy="correct budget.mirror", place="hf://someone/copies", snapshot=False):
        mirror.restore("hf://someone/copies", tmp_path / "none")
    hub.failure = None
    hub.released.set()
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    assert keeper.finish(60) is None
    assert state(run)["failures"] == 0
    assert {"someone/copies"} == hub.private


def test_no_copy_is_named(run: Path, place: str, tmp_path: Path) -> None:
    assert mirror.recipes(place) == {}
    child(run, place)
    remedy = "name one as <budget.mirror>/<the run's name>"
    with refused(problem="holds no copy of a run", remedy=remedy, place=f"{place}/absent"):
        mirror.restore(f"{place}/absent", tmp_path / "none")
    with refused(problem="holds something already", remedy="choose another folder", place=run):
        mirror.restore(f"{place}/{run.name}", run)
    with refused("budget.mirror", "hf://someone", remedy="write hf://user/repository"):
        mirror.restore("hf://someone", tmp_path / "none")


def test_only_one_child_at_a_time(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process's child holds the lock: it is not a failure, and what it does not see is copied after it."""
    monkeypatch.setattr("grpo_colab.runs.mirror.mirror.FIRST_RETRY_S", 0.02)
    drive = str(tmp_path / "drive")
    keeper = mirror.Mirror(run, drive)
    with FileLock(run / ".mirror.lock"):
        assert child(run, drive) == mirror.BUSY
        assert keeper.finish(0.5) is not None  # its last child waits for the lock, and goes on by itself
        assert not (run / mirror.STATE).exists()
    until((run / mirror.STATE).exists)
    assert state(run)["step"] == 20


def test_a_child_that_dies_is_told(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = mirror.Mirror(run, str(tmp_path / "drive"))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    keeper.request()
    until((run / mirror.STATE).exists, keeper)
    assert "ended with status 1" in state(run)["error"]
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no such program"))
    keeper.request()
    assert "FileNotFoundError" in state(run)["error"]
    assert state(run)["failures"] == 2


def test_a_checkpoint_that_is_there_is_not_copied_again(run: Path, tmp_path: Path) -> None:
    mirror.push(run, str(tmp_path / "drive"))
    manifest = copied(tmp_path / "drive" / run.name / "checkpoints")["checkpoint-20"] / MANIFEST
    os.utime(manifest, (1, 1))
    mirror.push(run, str(tmp_path / "drive"))
    assert manifest.stat().st_mtime == 1


# ------------------------------------------------------------------------------ what it costs: Drive's bin, a history


def identities(copy: Path) -> dict[str, int]:
    """The files of a copy's checkpoints and adapter, and which files they are."""
    return {path.relative_to(copy).as_posix(): path.stat().st_ino for path in copy.rglob("*/*") if path.is_file()}


def test_checkpoints_are_overwritten_in_three_places(run: Path, tmp_path: Path) -> None:
    """What is deleted goes to Drive's bin, and so does what another file is renamed over."""
    copy = tmp_path / "drive" / run.name
    for step in (30, 40):
        mirror.push(run, str(tmp_path / "drive"))
        train_to(run, step, 0.5)
    mirror.push(run, str(tmp_path / "drive"))
    first = identities(copy)
    assert {path.split("/")[1] for path in first if path.startswith("checkpoints/")} == set(SLOTS)
    for step in range(50, 120, 10):
        train_to(run, step, 0.5 if step != 80 else 0.95)  # a new best one on the way
        prune(run / "checkpoints", 2)
        (run / "adapter" / "adapter_model.safetensors").write_bytes(os.urandom(3000))
        os.utime(run / "adapter", ns=(step, step))
        assert mirror.push(run, str(tmp_path / "drive")) == step
        assert identities(copy) == first
    assert list(copied(copy / "checkpoints")) == ["checkpoint-80", "checkpoint-100", "checkpoint-110"]
    assert contents(mirror.restore(str(copy), tmp_path / "back")) == contents(run)


def test_a_manifest_that_reaches_drive_before_its_files(run: Path, tmp_path: Path) -> None:
    """Drive sends files in an order of its own: those of another checkpoint, of the same size, may still be there."""
    copy = tmp_path / "drive" / run.name
    for step in (30, 40):
        mirror.push(run, str(tmp_path / "drive"))
        train_to(run, step, 0.5)
    slot = copied(copy / "checkpoints")["checkpoint-20"]
    before, metrics = (slot / "optimizer.pt").read_bytes(), (run / "metrics.jsonl").read_text()
    mirror.push(run, str(tmp_path / "drive"))
    assert copied(copy / "checkpoints")["checkpoint-40"] == slot
    (slot / "optimizer.pt").write_bytes(before)
    (copy / "metrics.jsonl").write_text("".join(metrics.splitlines(keepends=True)[:3]))
    back = mirror.restore(str(copy), tmp_path / "fresh" / run.name)
    assert [path.name for path in saved(back / "checkpoints")] == ["checkpoint-10", "checkpoint-30"]
    (back / "metrics.jsonl").write_text('{"step": 10}\n{"step": 20}\n{"step": 30, "other": 1}\n')
    train_to(back, 35, 0.5)
    assert mirror.push(back, str(tmp_path / "drive")) == 35
    assert {name: damage(path) for name, path in copied(copy / "checkpoints").items()} == {
        "checkpoint-10": None,
        "checkpoint-30": None,
        "checkpoint-35": None,
    }


def test_files_that_grow_are_extended_in_their_place(run: Path, tmp_path: Path) -> None:
    metrics = tmp_path / "drive" / run.name / "metrics.jsonl"
    mirror.push(run, str(tmp_path / "drive"))
    before = metrics.stat().st_ino
    train_to(run, 30, 0.5)
    mirror.push(run, str(tmp_path / "drive"))
    assert (metrics.stat().st_ino, metrics.read_bytes()) == (before, (run / "metrics.jsonl").read_bytes())
    # a run that went back has other lines there
    (run / "metrics.jsonl").write_text('{"step": 10}\n{"step": 20, "again": true}\n{"step": 30}\n{"step": 40}\n')
    mirror.push(run, str(tmp_path / "drive"))
    assert metrics.read_bytes() == (run / "metrics.jsonl").read_bytes()


def test_a_killed_extension_is_mended_by_a_run_that_went_on_otherwise(run: Path, tmp_path: Path) -> None:
    """The copy has half a line of steps that the run, restored elsewhere, has repeated with another outcome."""
    mirror.push(run, str(tmp_path / "drive"))
    copy = tmp_path / "drive" / run.name
    marker = json.loads((copy / mirror.MARKER).read_text())
    marker["files"]["metrics.jsonl"]["0" * 64] = 100  # what it was about to have
    write_json(copy / mirror.MARKER, marker)
    append(copy / "metrics.jsonl", '{"step": 30, "rew')
    back = mirror.restore(str(copy), tmp_path / "fresh" / run.name)
    (back / "metrics.jsonl").write_bytes((run / "metrics.jsonl").read_bytes())
    train_to(back, 30, 0.5)
    assert mirror.push(back, str(tmp_path / "drive")) == 30
    assert (copy / "metrics.jsonl").read_bytes() == (back / "metrics.jsonl").read_bytes()


def test_what_is_deleted_is_emptied_first(run: Path, tmp_path: Path) -> None:
    """A second name is how the test sees, as Drive's bin does, what a deleted file still holds."""
    (run / "rewards.png").write_bytes(os.urandom(500))
    mirror.push(run, str(tmp_path / "drive"))
    copy = tmp_path / "drive" / run.name
    opened = (copy / "rewards.png").open("rb")
    (run / "rewards.png").unlink()
    mirror.push(run, str(tmp_path / "drive"))
    assert not (copy / "rewards.png").exists()
    with opened:
        assert opened.read() == b""


def test_a_second_name_of_a_file_keeps_what_it_has(run: Path, tmp_path: Path) -> None:
    """A person's hard links into the copy: neither overwriting nor deleting reaches them."""
    mirror.push(run, str(tmp_path / "drive"))
    copy, kept = tmp_path / "drive" / run.name, {}
    for name in ("rewards.png", "metrics.jsonl", *(f"checkpoints/{slot}/optimizer.pt" for slot in SLOTS[:2])):
        theirs = tmp_path / name.replace("/", "-")
        os.link(copy / name, theirs)
        kept[theirs] = theirs.read_bytes()
    (run / "rewards.png").unlink()
    for step in (30, 40, 50):
        train_to(run, step, 1.0)
        prune(run / "checkpoints", 1)
        mirror.push(run, str(tmp_path / "drive"))
    assert {path: path.read_bytes() for path in kept} == kept
    assert [damage(path) for path in copied(copy / "checkpoints").values()] == [None] * 3


@pytest.mark.parametrize("new", [False, True], ids=["nothing new", "a new checkpoint"])
def test_a_copy_with_a_folder_for_each_checkpoint_goes_on_in_slots(new: bool, run: Path, tmp_path: Path) -> None:
    mirror.push(run, str(tmp_path / "drive"))
    copy = tmp_path / "drive" / run.name
    as_earlier(copy)
    assert [path.name for path in saved(copy / "checkpoints")] == ["checkpoint-10", "checkpoint-20"]
    (copy / "checkpoints" / "checkpoint-20" / "notes.txt").write_text("a person's")
    back = mirror.restore(str(copy), tmp_path / "fresh" / run.name)
    assert contents(back) == contents(run)
    deleted = (copy / "checkpoints" / "checkpoint-10" / "optimizer.pt").open("rb")
    if new:
        train_to(back, 30, 0.5)
    assert mirror.push(back, str(tmp_path / "drive")) == (30 if new else 20)
    left = [path.relative_to(copy).as_posix() for path in copy.glob("checkpoints/checkpoint-*/*")]
    assert left == ["checkpoints/checkpoint-20/notes.txt"]
    with deleted:
        assert deleted.read() == b""
    names = ["checkpoint-10", "checkpoint-30" if new else "checkpoint-20"]
    assert {name: damage(path) for name, path in copied(copy / "checkpoints").items()} == dict.fromkeys(names)


def test_the_earlier_copies_stay_while_a_new_one_is_not_whole(run: Path, tmp_path: Path) -> None:
    mirror.push(run, str(tmp_path / "drive"))
    copy = tmp_path / "drive" / run.name
    as_earlier(copy)
    (train_to(run, 30, 0.5) / "optimizer.pt").write_bytes(b"damaged")
    assert child(run, str(tmp_path / "drive")) == mirror.FAILED
    assert {"checkpoint-10", "checkpoint-20"} <= {path.name for path in saved(copy / "checkpoints")}
    train_to(run, 40, 0.5)
    assert child(run, str(tmp_path / "drive")) == 0
    assert saved(copy / "checkpoints") == []


def test_a_person_in_a_slot_is_passed_over(run: Path, tmp_path: Path) -> None:
    mirror.push(run, str(tmp_path / "drive"))
    copy = tmp_path / "drive" / run.name
    (copy / "checkpoints" / "slot-3").mkdir()
    (copy / "checkpoints" / "slot-3" / "optimizer.pt").write_bytes(b"a person's")
    for step in (30, 40):
        train_to(run, step, 0.5)
        assert mirror.push(run, str(tmp_path / "drive")) == step
        whole = copied(copy / "checkpoints")
        assert {name: damage(path) for name, path in whole.items()} == {
            "checkpoint-10": None,
            f"checkpoint-{step}": None,
        }
    assert (copy / "checkpoints" / "slot-3" / "optimizer.pt").read_bytes() == b"a person's"


def test_between_two_copies_lie_the_minutes(run: Path, tmp_path: Path) -> None:
    """The first is made at once, and the last does not wait."""
    keeper = mirror.Mirror(run, str(tmp_path / "drive"), minutes=30)

    def copied_step(minutes_later: float) -> int:
        keeper._started_at -= 60 * minutes_later
        keeper.request()
        until(lambda: keeper.pinned is None, keeper)
        return state(run)["step"]

    assert copied_step(0) == 20
    train_to(run, 30, 0.5)
    assert copied_step(25) == 20
    assert copied_step(6) == 30
    train_to(run, 40, 0.5)
    assert copied_step(25) == 30
    assert keeper.finish(60) is None
    assert state(run)["step"] == 40


def test_a_hubs_history_does_not_grow(run: Path, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use(hub, tmp_path, monkeypatch)
    for step in (30, 40, 50):
        train_to(run, step, 0.5)
        prune(run / "checkpoints", 2)
        assert mirror.push(run, "hf://someone/copies") == step
    assert len(hub.commits["someone/copies"]) == 1
    assert hub.history("someone/copies") == sum(map(len, set(hub.repositories["someone/copies"].values())))
    assert contents(mirror.restore("hf://someone/copies", tmp_path / "back")) == contents(run)


def test_a_hubs_history_that_others_have_a_part_in_stays(
    run: Path, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(hub, tmp_path, monkeypatch)
    hub.repositories["someone/copies"] = {"README.md": b"theirs"}
    hub.committed("someone/copies", "initial commit")
    hub.committed("someone/copies", "Upload README.md")
    mirror.push(run, "hf://someone/copies")
    titles = [title for title, _ in hub.commits["someone/copies"]]
    assert titles == ["initial commit", "Upload README.md", f"{run.name}: step 20"]


@pytest.mark.parametrize("refused_part", ["super-squash", "commits"])
def test_a_hub_that_squashes_nothing_stops_nothing(
    refused_part: str, run: Path, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(hub, tmp_path, monkeypatch)
    hub.refused = {refused_part}
    assert child(run, "hf://someone/copies") == 0
    assert (state(run)["step"], state(run)["error"]) == (20, None)
    assert len(hub.commits["someone/copies"]) == 2
