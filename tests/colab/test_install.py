"""The installer at work: a runtime of tiny packages, an index on loopback, a real kernel that restarts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import colab_resolve as resolve  # noqa: E402
import colab_wheels as wheels  # noqa: E402

sys.path.remove(str(HERE))

ROOT = HERE.parents[1]
# What stands in for the matrix: brainy is what is asked for, arrowy may move, extray may come, neighboury must stay
ROW = """
MATRIX = dict.fromkeys(MATRIX, Row(
    "test", ("brainy",), ("neighboury",), _versions("brainy==2.0 arrowy==3.0 extray==1.0")
))
"""
RUNTIME = {"arrowy": "1.0", "neighboury": "1.0"}


class Runtime:
    """An environment with its torch and its own packages, in which the installer runs as a person runs it."""

    def __init__(self, folder: Path, index: wheels.Index) -> None:
        self.folder, self.index = folder, index
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        (self.site,) = (folder / "venv").glob("lib/python3*/site-packages")
        # pip, packaging and, for the kernel, ipykernel: this environment's own
        (self.site / "tools.pth").write_text(sysconfig.get_path("purelib") + "\n")
        wheels.stub_installed(self.site, "torch", "2.11.0+cu128")
        for name, version in RUNTIME.items():
            with zipfile.ZipFile(wheels.write_wheel(folder, name, version)) as wheel:
                wheel.extractall(self.site)
        self.package = wheels.write_wheel(folder, "grpo_colab", "0.1.0")
        self.install = folder / "install.py"
        before, main, after = (ROOT / "colab" / "install.py").read_text().rpartition("\nif __name__ ==")
        self.install.write_text(before + ROW + main + after)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))},
            "PATH": f"{Path(resolve.UV).parent}{os.pathsep}{os.environ['PATH']}",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": index.url,
            "UV_DEFAULT_INDEX": index.url,
            "UV_HTTP_RETRIES": "0",
            "UV_NO_CONFIG": "1",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "NO_PROXY": "127.0.0.1",
        }

    def run(self, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, self.install, "--package", self.package, *options],
            env=self.environment | environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def versions(self) -> dict[str, str]:
        """What is on the disk: the modules' own word, not the metadata's."""
        found = {path.parent.name: path.read_text() for path in self.site.glob("*/__init__.py")}
        return {name: text.split("'")[1] for name, text in found.items()}

    def files(self) -> dict[str, bytes]:
        inside = (path for path in self.site.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        return {path.relative_to(self.site).as_posix(): path.read_bytes() for path in inside}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[wheels.Index]:
    folder = tmp_path / "index"
    folder.mkdir()
    wheels.write_wheel(folder, "brainy", "2.0", ["arrowy>=2", "extray", "neighboury", "torch"])
    for name, version in [
        ("brainy", "2.1"),
        ("arrowy", "3.0"),
        ("arrowy", "3.1"),
        ("extray", "1.0"),
        ("extray", "1.1"),
    ]:
        wheels.write_wheel(folder, name, version)
    wheels.write_wheel(folder, "neighboury", "2.0")
    with wheels.Index(folder) as served:
        yield served


@pytest.fixture
def runtime(tmp_path: Path, index: wheels.Index) -> Runtime:
    return Runtime(tmp_path, index)


DONE = {"arrowy": "3.0", "brainy": "2.0", "extray": "1.0", "neighboury": "1.0", "grpo_colab": "0.1.0"}


def test_it_changes_what_it_should_and_nothing_the_second_time(runtime: Runtime, index: wheels.Index) -> None:
    first = runtime.run()
    assert first.stderr == ""
    assert first.returncode == 0
    assert runtime.versions() == DONE
    assert "arrowy 1.0 -> 3.0\n" in first.stdout
    asked, files = list(index.requests), runtime.files()
    second = runtime.run(PATH=os.devnull)  # without uv: there is nothing to ask it
    assert second.stderr == ""
    assert second.stdout.splitlines() == [
        "grpo_colab and everything that it needs are installed already: nothing to do."
    ]
    assert (index.requests, runtime.files()) == (asked, files)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("UV_BUILD_CONSTRAINT", "/nowhere/at.all"),
        ("UV_TORCH_BACKEND", "cpu"),
        ("UV_NO_CONFIG", "0"),
    ],
)
def test_the_runtimes_own_wishes_for_uv_are_not_ours(runtime: Runtime, variable: str, value: str) -> None:
    """Colab's name files that are not there, and each of these would change what is installed."""
    if variable == "UV_NO_CONFIG":
        (runtime.folder / "uv.toml").write_text("[pip]\nno-deps = true\n")  # beside the notebook
    answer = runtime.run("--dry-run", **{variable: value})
    assert answer.stderr == ""
    assert {"  arrowy 1.0 -> 3.0", "  brainy 2.0", "  extray 1.0"} <= set(answer.stdout.splitlines())


def test_a_package_of_debians_does_not_stop_it(runtime: Runtime) -> None:
    """Its version is none to uv, and it lies in a folder of its own, where uv does not look."""
    (folder := runtime.folder / "dist-packages").mkdir()
    wheels.stub_installed(folder, "distro-info", "1.1build1")
    (runtime.site / "debian.pth").write_text(f"{folder}\n")
    answer = runtime.run()
    assert answer.stderr == ""
    assert runtime.versions() == DONE


def test_without_the_restart_it_says_again_that_one_is_needed(runtime: Runtime) -> None:
    """Also where another process changed them: the disk has all, and this process an old version."""
    again = f"install.main(['--package', {str(runtime.package)!r}, '--no-restart'])"
    script = f"import arrowy, neighboury, install\n{again}\nprint('---')\n{again}\nprint('---', arrowy.VERSION)"
    said = [
        subprocess.run(
            [runtime.python, "-c", script],
            env=runtime.environment,
            cwd=runtime.folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("---")
        for _ in range(2)  # the second process is the one after the restart
    ]
    restart = "arrowy changed and was in use here already: restart the runtime"
    (first, second, version), after = said
    assert version.strip() == "1.0"
    assert restart in first
    assert restart in second
    assert "nothing to do" not in second
    assert after[2].strip() == "3.0"
    assert "restart" not in "".join(after)


@pytest.mark.long
def test_another_wheel_of_the_same_version_is_installed(runtime: Runtime) -> None:
    runtime.run()
    wheels.write_wheel(runtime.folder, "grpo_colab", "0.1.0", ["neighboury"])
    again = runtime.run()
    assert again.returncode == 0
    assert "grpo_colab 0.1.0 is installed" in again.stdout
    assert b"Requires-Dist: neighboury" in runtime.files()["grpo_colab-0.1.0.dist-info/METADATA"]


def test_a_dry_run_changes_nothing(runtime: Runtime) -> None:
    files = runtime.files()
    answer = runtime.run("--dry-run")
    assert answer.returncode == 0
    assert {"  arrowy 1.0 -> 3.0", "  brainy 2.0", "  extray 1.0"} <= set(answer.stdout.splitlines())
    assert runtime.files() == files


def test_a_surprise_is_refused_before_anything_is_installed(runtime: Runtime, index: wheels.Index) -> None:
    wheels.write_wheel(index.folder, "brainy", "2.0", ["arrowy>=2", "strangery"])
    wheels.write_wheel(index.folder, "strangery", "7.0")
    files = runtime.files()
    answer = runtime.run()
    assert answer.returncode == 1
    assert "strangery (absent) -> 7.0" in answer.stderr
    assert "Runtime > Change runtime type > Runtime version" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert runtime.files() == files
    assert not [path for path in index.requests if path.endswith(".whl")]


def test_what_the_runtime_has_is_not_moved_for_us(runtime: Runtime, index: wheels.Index) -> None:
    wheels.write_wheel(index.folder, "brainy", "2.0", ["arrowy>=2", "neighboury>=2"])
    files = runtime.files()
    answer = runtime.run()
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert "neighboury" in line
    assert "nothing was changed" in line
    assert runtime.files() == files


def test_a_download_that_breaks_off_leaves_everything_as_it_was(runtime: Runtime, index: wheels.Index) -> None:
    index.breaks = "extray"
    files = runtime.files()
    answer = runtime.run()
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("A download failed: check the network")
    assert runtime.files() == files
    assert [path for path in index.requests if "extray-1.0" in path]
    index.breaks = ""
    assert runtime.run().returncode == 0
    assert runtime.versions() == DONE


def test_offline_is_one_line(runtime: Runtime, index: wheels.Index) -> None:
    index.server.shutdown()
    index.server.server_close()
    files = runtime.files()
    answer = runtime.run()
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert line.startswith("A download failed: check the network")
    without_uv = runtime.run(PATH=os.devnull)
    assert without_uv.returncode == 1
    (line,) = without_uv.stderr.splitlines()
    assert line.startswith(f"Could not get uv=={resolve.INSTALL.UV}: check the network")
    assert runtime.files() == files


@pytest.mark.long
def test_a_private_uv_is_fetched_once_where_there_is_none(runtime: Runtime, index: wheels.Index) -> None:
    real = f'#!/bin/sh\nexec {resolve.UV} "$@"\n'
    wheels.write_wheel(index.folder, "uv", resolve.INSTALL.UV, script=real)
    assert runtime.run("--dry-run", PATH=os.devnull).returncode == 0
    assert runtime.run(PATH=os.devnull).returncode == 0
    assert runtime.versions() == DONE
    assert len([path for path in index.requests if path == f"/uv-{resolve.INSTALL.UV}-py3-none-any.whl"]) == 1


@pytest.mark.long
def test_an_install_that_was_killed_is_done_again(runtime: Runtime, index: wheels.Index) -> None:
    """As a kill between two files leaves it: the packages seem to be there, and one has no code."""
    assert runtime.run().returncode == 0
    assert not list((runtime.folder / "cache" / "grpo_colab").glob("unfinished*"))
    (runtime.site / "brainy" / "__init__.py").unlink()
    name = subprocess.run(
        [runtime.python, "-c", "import install; print(install._unfinished())"],
        env=runtime.environment,
        cwd=runtime.folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    Path(name).write_text("brainy==2.0")  # what the installer writes before it begins
    assert runtime.run().returncode == 0
    assert runtime.versions() == DONE
    assert "nothing to do" in runtime.run().stdout


def test_a_runtime_without_torch_is_told_what_to_do(runtime: Runtime) -> None:
    (runtime.site / "tools.pth").write_text(str(runtime.folder / "tools"))
    (runtime.folder / "tools").mkdir()
    for path in (runtime.site / "torch-2.11.0+cu128.dist-info").iterdir():
        path.unlink()
    (runtime.site / "torch-2.11.0+cu128.dist-info").rmdir()
    answer = runtime.run()
    assert answer.returncode == 1
    assert 'pip install "grpo_colab[train]"' in answer.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--package", "nowhere.whl"], "--package nowhere.whl: no such wheel or folder"),
        (["--package", "numpy==2.0"], "Give a .whl file, a checkout, or an https:// address"),
        (["--vlm=3"], "It knows --package, --vllm, --no-vllm"),
        (["--no-such"], "unrecognized arguments: --no-such"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_wrong_option_is_one_line_and_changes_nothing(runtime: Runtime, options: list[str], says: str) -> None:
    files = runtime.files()
    answer = runtime.run(*options)
    assert answer.returncode == 1
    (line,) = answer.stderr.splitlines()
    assert says in line
    assert runtime.files() == files


def test_the_row_follows_the_machine() -> None:
    install = resolve.INSTALL
    t4, a100 = install.Gpu("Tesla T4", (7, 5), 580), install.Gpu("NVIDIA A100-SXM4-40GB", (8, 0), 580)
    for python in install.PYTHONS:
        assert install.pick(None, False, python).name == "cpu"
        assert install.pick(t4, False, python).name == install.pick(a100, False, python).name == "gpu"
        assert install.pick(t4, True, python).name == install.pick(a100, True, python).name == "gpu-vllm"
    for gpu, vllm, python, says in [
        (None, True, (3, 12), "needs a GPU"),
        (install.Gpu("Tesla T4", (7, 5), 550), True, (3, 12), "driver 580 or newer, and this is 550: use --no-vllm"),
        (t4, False, (3, 14), "Python 3.14 is none of"),
    ]:
        with pytest.raises(install.InstallError, match=says):
            install.pick(gpu, vllm, python)


@pytest.mark.parametrize(
    ("capability", "driver", "expected"), [("7.5", "580.82.07", "1"), ("8.0", "580.82.07", "")], ids=["T4", "A100"]
)
def test_a_t4_is_spared_flashinfer(runtime: Runtime, capability: str, driver: str, expected: str) -> None:
    """A driver's tool that answers as such a card's does; what the notebook runs next must find the variable."""
    tool = runtime.folder / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\necho 'A card, {capability}, {driver}'\n")
    tool.chmod(0o755)
    script = "import install, os; install.main(['--vllm', '--dry-run']); print(os.environ.get(install.FLASHINFER, ''))"
    answer = subprocess.run(
        [runtime.python, "-c", script],
        env=runtime.environment | {"PATH": f"{tool.parent}{os.pathsep}{runtime.environment['PATH']}"},
        cwd=runtime.folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.splitlines()[-1] == expected


def test_the_address_and_the_pin_are_the_project_s() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Repository"] == resolve.INSTALL.REPOSITORY
    assert f"uv=={resolve.INSTALL.UV}" in (ROOT / "colab" / "lock-test.txt").read_text().splitlines()
    wanted = {resolve.INSTALL.canonical(need.partition(">")[0]) for need in project["dependencies"]}
    assert wanted <= set(resolve.INSTALL.WANTS)
    train = [resolve.INSTALL.canonical(need.partition("==")[0]) for need in project["optional-dependencies"]["train"]]
    for name, need in zip(train, project["optional-dependencies"]["train"], strict=True):
        if "==" in need:
            assert resolve.INSTALL.MATRIX["gpu"].brings[name] == (need.partition("==")[2],)


async def run_all(manager: Any, cells: list[str]) -> list[tuple[str, str]]:
    """All cells at once, as Run all sends them: each one's status, and what it showed."""
    client = manager.client()
    client.start_channels()
    try:
        await client.wait_for_ready(timeout=60)
        asked = [client.execute(cell) for cell in cells]
        shown, statuses = dict.fromkeys(asked, ""), {}
        while not statuses.keys() >= set(asked):
            reply = await client.get_shell_msg(timeout=60)
            statuses[reply["parent_header"].get("msg_id")] = reply["content"].get("status")
            with contextlib.suppress(queue.Empty):  # nothing more to show for now
                while True:
                    message = await client.get_iopub_msg(timeout=0.5)
                    content, parent = message["content"], message["parent_header"].get("msg_id")
                    if parent in shown:
                        shown[parent] += content.get("text", "") + "\n".join(content.get("traceback", []))
        return [(statuses[one], shown[one]) for one in asked]
    finally:
        client.stop_channels()


async def in_kernel(runtime: Runtime) -> None:
    from jupyter_client.ioloop import AsyncIOLoopKernelManager
    from jupyter_client.kernelspec import KernelSpec

    manager = AsyncIOLoopKernelManager(autorestart=True)
    command = [str(runtime.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(argv=command, display_name="runtime", language="python")
    restarted = asyncio.Event()
    await manager.start_kernel(env=runtime.environment, cwd=str(runtime.folder))
    manager.add_restart_callback(restarted.set, "restart")
    install = f"%run install.py --package {runtime.package}"
    cells = ["import arrowy; print(arrowy.VERSION)", install, "open('went_on', 'w').close()"]
    try:
        # a failure: one line, the cells below do not run, and the kernel stays
        failed = await run_all(
            manager, ["import os; print(os.getpid())", "%run install.py --package nowhere.whl", cells[2]]
        )
        assert [status for status, _ in failed] == ["ok", "error", "aborted"]
        assert failed[1][1].strip().splitlines() == [
            "--package nowhere.whl: no such wheel or folder. Give a .whl file, a checkout, or an https:// address."
        ]
        # pasted into a cell, where the arguments are the kernel's own: it gets as far as the repository's address
        pasted = re.sub(r"(?m)^REPOSITORY = .*", f'REPOSITORY = "{runtime.index.url}none"', runtime.install.read_text())
        (status, shown), _ = await run_all(manager, [pasted, cells[2]])
        assert status == "error"
        assert shown.strip().splitlines()[-1].startswith(f"Could not get {runtime.index.url}none/archive/refs/heads/")
        assert not (runtime.folder / "went_on").exists()
        # a package in use changes: it says so, the cells below do not run, the kernel comes back by itself
        first = await run_all(manager, cells)
        assert [status for status, _ in first] == ["ok", "error", "aborted"]
        assert first[0][1].strip() == "1.0"
        assert "arrowy changed and was in use here already: the runtime restarts now, by itself." in first[1][1]
        assert "Traceback" not in first[1][1]
        assert not (runtime.folder / "went_on").exists()
        await asyncio.wait_for(restarted.wait(), 60)
        # run all again: nothing is installed twice, and everything is there
        second = await run_all(manager, [cells[1], cells[0], "import os; print(os.getpid())", cells[2]])
        assert [status for status, _ in second] == ["ok"] * 4
        assert second[0][1].strip() == "grpo_colab and everything that it needs are installed already: nothing to do."
        assert second[1][1].strip() == "3.0"
        assert second[2][1] != failed[0][1]
        assert (runtime.folder / "went_on").exists()
    finally:
        await manager.shutdown_kernel(now=True)


@pytest.mark.long
def test_a_kernel_restarts_by_itself_and_goes_on(runtime: Runtime) -> None:
    asyncio.run(in_kernel(runtime))
