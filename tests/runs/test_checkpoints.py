"""Checkpoints are complete or absent, and a damaged one is found, named and skipped."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from grpo_colab.runs import checkpoints

NAMES = ("adapter_model.safetensors", "optimizer.pt", "global/rng_state.pth")


def staged(folder: Path, step: int) -> Path:
    path = folder / checkpoints.STAGING / f"checkpoint-{step}"
    for name in NAMES:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(random.Random(f"{step} {name}").randbytes(50_000))
    return path


def sealed(folder: Path, step: int, value: float | None = None) -> Path:
    return checkpoints.seal(staged(folder, step), folder, "reward", value)


def test_a_sealed_checkpoint_is_whole_and_says_what_it_holds(tmp_path: Path) -> None:
    path = sealed(tmp_path, 12, 0.5)
    assert path == tmp_path / "checkpoint-12"
    assert [inside.name for inside in tmp_path.iterdir()] == ["checkpoint-12"]  # nothing of the staging is left
    about = json.loads((path / "manifest.json").read_text())
    assert (about["step"], about["metric"], about["value"]) == (12, "reward", 0.5)
    assert set(about["files"]) == set(NAMES)
    assert about["files"]["optimizer.pt"]["bytes"] == 50_000
    assert checkpoints.damage(path) is None
    assert checkpoints.newest_whole(tmp_path) == (path, [])


def truncate(path: Path) -> None:
    os.truncate(path / "optimizer.pt", 49_999)


def flip(path: Path) -> None:
    with (path / "global" / "rng_state.pth").open("r+b") as file:
        file.seek(31_234)
        byte = file.read(1)[0]
        file.seek(31_234)
        file.write(bytes([byte ^ 1]))


def lose(path: Path) -> None:
    (path / "adapter_model.safetensors").unlink()


def tear_manifest(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text[: len(text) // 2])


def empty_manifest(path: Path) -> None:
    (path / "manifest.json").write_bytes(bytes(200))


def folder_for_file(path: Path) -> None:
    (path / "optimizer.pt").unlink()
    (path / "optimizer.pt").mkdir()


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (truncate, "optimizer.pt has 49,999 of 50,000 bytes"),
        (flip, "global/rng_state.pth is not what was written"),
        (lose, "adapter_model.safetensors is missing"),
        (tear_manifest, "manifest.json cannot be read"),
        (empty_manifest, "manifest.json cannot be read"),
        (folder_for_file, "optimizer.pt"),
    ],
)
def test_damage_is_named_and_the_one_before_is_taken(harm: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    before, last = sealed(tmp_path, 9), sealed(tmp_path, 10)
    harm(last)
    found, troubles = checkpoints.newest_whole(tmp_path)
    assert found == before
    assert len(troubles) == 1
    assert troubles[0].startswith(f"checkpoint-10 is damaged: {says}")
    # set aside, so that it neither counts among the last two nor stands in the way of step 10's next one
    assert checkpoints.saved(tmp_path) == [before]
    assert (tmp_path / "damaged-checkpoint-10").is_dir()
    assert checkpoints.damage(sealed(tmp_path, 10)) is None


def test_when_all_are_damaged_each_is_named(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        truncate(sealed(tmp_path, step))
    found, troubles = checkpoints.newest_whole(tmp_path)
    assert found is None
    assert [trouble.split()[0] for trouble in troubles] == ["checkpoint-3", "checkpoint-2", "checkpoint-1"]


def test_what_is_no_checkpoint_is_not_counted(tmp_path: Path) -> None:
    staged(tmp_path, 5)
    for name in ("checkpoint-abc", "checkpoint-7", "checkpoint-", "other"):
        (tmp_path / name).mkdir()
    assert checkpoints.saved(tmp_path) == []
    assert checkpoints.newest_whole(tmp_path) == (None, [])
    assert checkpoints.saved(tmp_path / "missing") == []


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    for step, value in ((5, None), (10, 0.9), (15, 0.2), (20, 0.7), (100, 0.7)):
        sealed(tmp_path, step, value)
        checkpoints.prune(tmp_path, keep=2)
    assert [checkpoints.step_of(path) for path in checkpoints.saved(tmp_path)] == [10, 20, 100]
    assert checkpoints.best(tmp_path) == tmp_path / "checkpoint-10"
    assert checkpoints.best(tmp_path, greater_is_better=False) == tmp_path / "checkpoint-100"  # the newer of equals
    checkpoints.prune(tmp_path, keep=1, greater_is_better=False, also=tmp_path / "checkpoint-20")
    assert [checkpoints.step_of(path) for path in checkpoints.saved(tmp_path)] == [20, 100]


def test_one_that_exists_is_replaced(tmp_path: Path) -> None:
    first = sealed(tmp_path, 4, 0.1)
    (first / "extra").touch()
    assert sealed(tmp_path, 4, 0.3) == first
    assert not (first / "extra").exists()
    assert checkpoints.manifest(first)["value"] == 0.3


def test_a_disk_that_is_full_leaves_no_checkpoint(tmp_path: Path) -> None:
    """The manifest is the first file that the limit refuses: here each file may have 40,000 bytes."""
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\n"
        "from tests.runs.test_checkpoints import staged\nfrom grpo_colab.runs import checkpoints\n"
        "folder = Path(sys.argv[1])\npath = staged(folder, 3)\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n    checkpoints.seal(path, folder)\nexcept OSError as error:\n    print(error.strerror)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), str(Path(__file__).parents[2])],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "File too large"
    assert checkpoints.saved(tmp_path) == []


def test_a_writer_that_is_killed_at_any_moment_leaves_whole_checkpoints_alone(tmp_path: Path) -> None:
    code = (
        "import itertools, sys\nfrom pathlib import Path\nsys.path.insert(0, sys.argv[2])\n"
        "from tests.runs.test_checkpoints import sealed\nfrom grpo_colab.runs import checkpoints\n"
        "for step in itertools.count(1):\n"
        "    sealed(Path(sys.argv[1]), step, 1.0)\n    checkpoints.prune(Path(sys.argv[1]), keep=2)\n"
    )
    draw = random.Random(0)
    newest = 0
    for attempt in range(8):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        writer = subprocess.Popen([sys.executable, "-c", code, str(folder), str(Path(__file__).parents[2])])
        wanted = draw.randint(1, 8)
        while max(map(checkpoints.step_of, checkpoints.saved(folder)), default=0) < wanted:
            assert writer.poll() is None
            time.sleep(0.002)
        time.sleep(draw.random() * 0.02)  # somewhere in the writing of the next one
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        found, troubles = checkpoints.newest_whole(folder)
        assert troubles == []
        assert found is not None
        newest = max(newest, checkpoints.step_of(found))
    assert newest > 2  # so that some were killed while old ones were being deleted
