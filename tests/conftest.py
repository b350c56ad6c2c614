"""What the tests share: where the real data lies, and how a command is run as a user runs it."""

from __future__ import annotations

import asyncio
import atexit
import collections
import contextlib
import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).parent))
from warm import Warm

from grpo_colab.cli import main
from grpo_colab.errors import SettingError

pytest.register_assert_rewrite("refusals")  # before its import, so that a field that differs is shown
import refusals  # noqa: E402

# Where CI is set the property tests draw the same cases every time: a new case is for a person at work to meet.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")

# One thread: two cores are shared with the processes that some tests start, and waiting for each other costs tenfold.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
# What is trusted in the tests is no business of who runs them.
os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp(prefix="grpo-colab-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_CONFIG_HOME"], ignore_errors=True)

ROOT = Path(__file__).parents[1]
# Commands that import unsloth, which takes 12 to 20 s.
HEAVY = ("train", "sweep", "draw", "evaluate")
WARM = pytest.StashKey[Warm]()
GSM8K = ROOT.parent / "shared" / "gsm8k"


# Files with a fixture that takes a minute, which pytest_collection_modifyitems cannot tell.
LONGEST = ("test_trainers", "test_notebooks", "test_trackers_read_back")
# What trains, here or in a fork: seconds, where another test takes a tenth of one.
TRAINING = {"warm", "command", "kernel"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-sentences", action="store_true", help="write tests/sentences.txt anew: see refusals.py")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--update-sentences"):
        os.environ[refusals.UPDATE] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; and where tests marked `stack` train in this process, unsloth before all its stack.

    A worker takes a file whole, so that a long one that comes last would keep one of two busy alone.
    """
    seconds = collections.Counter[Path]()
    for item in items:
        trains = item.get_closest_marker("stack") or TRAINING & {*getattr(item, "fixturenames", ())}
        seconds[item.path] += 50 if trains else 1
    items.sort(key=lambda item: (item.path.stem not in LONGEST, -seconds[item.path], item.path))
    if any(item.get_closest_marker("stack") for item in items):
        import unsloth  # noqa: F401


@pytest.fixture
def gsm8k() -> Path:
    if not (GSM8K / "train.jsonl").is_file():
        pytest.skip(f"real GSM8K is not at {GSM8K.relative_to(ROOT.parent)} beside the checkout")
    return GSM8K


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session share."""
    return shared_folder(tmp_path_factory)


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    base = factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


@pytest.fixture(scope="session")
def warm(shared: Path, request: pytest.FixtureRequest) -> Iterator[Warm]:
    """Run Python in a fork of a process that has imported unsloth; see warm.py."""
    with contextlib.closing(Warm(shared)) as found:
        request.config.stash[WARM] = found
        yield found


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    if WARM in item.config.stash:
        item.config.stash[WARM].clear()


@pytest.fixture
def kernel(warm: Warm, tmp_path: Path) -> Iterator[Any]:
    """A manager of notebook kernels that are forks of the warm process: NotebookClient(book, km=kernel)."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    folder = tmp_path / "kernels" / "warm"
    folder.mkdir(parents=True)
    command = [*warm.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (folder / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "warm", "language": "python"}))
    specs = KernelSpecManager(kernel_dirs=[str(folder.parent)])
    manager = AsyncKernelManager(kernel_spec_manager=specs, kernel_name="warm")
    yield manager
    if manager.has_kernel:  # NotebookClient leaves a manager that it was given running
        asyncio.run(manager.shutdown_kernel())


@pytest.fixture(scope="session")
def finished_run(shared: Path, warm: Warm) -> Path:
    """The folder of a finished run of the default recipe, of eight steps: made once, and only to be read.

    A test that writes to it copies it first.
    """
    folder = shared / "finished-run"
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "made").exists():
            shutil.rmtree(folder / "run", ignore_errors=True)
            words = ["train", "--budget.max-steps", "8", "--evaluation.n", "16", "--out", "run"]
            done = warm.run("-m", "grpo_colab", *words, cwd=folder)
            assert done.returncode == 0, done.stderr[-3000:]
            (folder / "made").touch()
    return folder / "run"


@pytest.fixture
def command(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m grpo_colab ...` in an empty folder, with no way to a model hub; the process as it ended.

    A command that imports unsloth is a fork of the warm process; any other is a process of its own.
    """

    def run(*arguments: str, timeout_s: float = 240) -> subprocess.CompletedProcess[str]:
        if arguments[:1] and arguments[0] in HEAVY:
            return request.getfixturevalue("warm").run(
                "-m", "grpo_colab", *arguments, cwd=tmp_path, timeout_s=timeout_s
            )
        return subprocess.run(
            [sys.executable, "-m", "grpo_colab", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


@dataclasses.dataclass
class Ended:
    """How a command ended in this process: as subprocess.CompletedProcess, and the refusal itself if it was one."""

    returncode: int
    stdout: str
    stderr: str
    error: SettingError | None


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run a command in this process and in an empty folder, where a process of its own is not the point."""

    def run(*arguments: str) -> Ended:
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2))
        status: object = 0
        error: BaseException | None = None
        with monkeypatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.chdir(tmp_path)
            patch.setattr(sys, "excepthook", sys.excepthook)  # which main() sets
            try:
                main([*arguments])
            except SystemExit as ended:
                status, error = ended.code, ended.__context__
        texts = []
        for stream in (out, err):
            stream.flush()
            texts.append(stream.buffer.getvalue().decode())
        number = status if isinstance(status, int) else int(status is not None)
        return Ended(number, *texts, error if isinstance(error, SettingError) else None)

    return run
