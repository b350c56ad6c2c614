"""Resolves the rows of colab/install.py's matrix against Colab's own package lists.

    python tests/colab/colab_resolve.py            differences from colab/expected, as a diff; status 1 if there are any
    python tests/colab/colab_resolve.py --write    make colab/expected anew

The lists are ../shared/colab_runtimes/*.txt, one `package==version` a line. Each resolution is made twice, from the
same lists of requirements, constraints, overrides and exclusions, which are install.py's own: by `uv pip compile`,
which reads the real metadata of every package, also of those that the runtime has; and by the command that install.py
runs, in a fake runtime whose packages are names and versions alone. The index's pages have no upload times, so that a
resolution cannot be pinned to a date; it holds still because what may change has one version to change to.
"""

from __future__ import annotations

import difflib
import importlib.util
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

from colab_wheels import stub_installed, write_wheel
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]
EXPECTED = ROOT / "colab" / "expected"
RUNTIMES = ROOT.parent / "shared" / "colab_runtimes"
# row, runtime, Python: each list's own one, and 3.11 once
CASES = (
    ("cpu", "2026.08-cpu", "3.13"),
    ("gpu", "2026.08-gpu", "3.13"),
    ("gpu", "2026.07-gpu", "3.12"),
    ("gpu", "2026.04-gpu", "3.12"),
    ("gpu", "2026.04-gpu", "3.11"),
    ("gpu-vllm", "2026.08-gpu", "3.13"),
    ("gpu-vllm", "2026.07-gpu", "3.12"),
    ("gpu-vllm", "2026.04-gpu", "3.12"),
)
UV = find_uv_bin()  # the one of the environment, whatever is on the path
Case = tuple[str, str, str]
Changes = dict[str, tuple[str | None, str | None]]
WATCHED = ("unsloth", "trl", "vllm", "torch", "numpy")


def load_install() -> ModuleType:
    """colab/install.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("colab_install", ROOT / "colab" / "install.py")
    assert spec
    assert spec.loader
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


INSTALL = load_install()


def runtime(name: str) -> dict[str, str]:
    """What a Colab runtime has."""
    lines = (RUNTIMES / f"{name}.txt").read_text().split()
    return {INSTALL.canonical(package): version for package, version in (line.split("==") for line in lines)}


def target(python: str) -> list[str]:
    """uv's options for a machine of Colab's kind, whatever this one is."""
    return [f"--python-version={python}", "--python-platform=x86_64-manylinux_2_35"]


def fake_runtime(packages: Mapping[str, str], folder: Path) -> Path:
    """The Python of an environment in which those packages seem to be installed."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for name, version in packages.items():
        stub_installed(site, name, version)
    return folder / "bin" / "python"


def compiled(row: object, packages: Mapping[str, str], python: str, folder: Path) -> dict[str, str]:
    """What the row's requirements resolve to beside those packages, by the real metadata of each."""
    folder.mkdir()
    for name, version in packages.items():
        if "+" in version:  # builds of torch and its neighbours for one CUDA are not on the index
            write_wheel(folder, name, version)
    texts: dict[str, Iterable[str]] = {
        "requirements": INSTALL.requirements(row),
        **INSTALL.guards(row, packages),
        "output": [f"{name}=={version}" for name, version in packages.items()],  # what is there is preferred
    }
    for name, lines in texts.items():
        (folder / name).write_text("\n".join(lines) + "\n")
    options = [f"--{name}={folder / name}" for name in ("constraints", "overrides", "excludes")]
    options += [
        f"--find-links={folder}",
        f"--output-file={folder / 'output'}",
        *target(python),
        "--no-python-downloads",
    ]
    command = [UV, "pip", "compile", "--quiet", "--no-header", "--no-annotate", *options]
    subprocess.run([*command, str(folder / "requirements")], check=True)
    return dict(line.split("==") for line in (folder / "output").read_text().split())


def resolve(case: Case, folder: Path) -> tuple[str, str, Changes]:
    """A case's text as committed, the same of now, and what install.py itself would change in a fake runtime."""
    name, on, python = case
    row, packages = INSTALL.MATRIX[name], runtime(on)
    after = packages | compiled(row, packages, python, folder / "-".join(case))
    there = folder / on / "bin" / "python"
    planned = INSTALL.planned(row, packages, UV, str(there), target(python))
    lines = [f"# {name} on Colab's {on}, Python {python}. Written by tests/colab/colab_resolve.py", ""]
    lines += [f"{package} {after.get(package, '(absent)')}" for package in WATCHED] + ["", "changes:"]
    lines += [
        f"{package} {packages.get(package, '(absent)')} -> {version}"
        for package, version in sorted(after.items())
        if packages.get(package) != version
    ]
    path = expected_path(case)
    return path.read_text() if path.exists() else "", "\n".join(lines) + "\n", planned


def expected_path(case: Case) -> Path:
    return EXPECTED / f"{case[0]}-{case[1]}-py{case[2]}.txt"


def resolve_all() -> dict[Case, tuple[str, str, Changes]]:
    """All cases at once, since most of their time is spent in waiting for the index."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(CASES)) as pool:
        for name in {on for _, on, _ in CASES}:
            fake_runtime(runtime(name), Path(folder, name))
        return dict(zip(CASES, pool.map(lambda case: resolve(case, Path(folder)), CASES), strict=True))


def difference(case: Case, committed: str, now: str) -> str:
    name = expected_path(case).relative_to(ROOT).as_posix()
    return "".join(
        difflib.unified_diff(committed.splitlines(True), now.splitlines(True), name, f"{name}, resolved now")
    )


def changes_in(text: str) -> Changes:
    """The changes that a committed text lists, in install.py's own form."""
    lines = [line.split() for line in text.partition("changes:\n")[2].splitlines()]
    return {name: (None if before == "(absent)" else before, after) for name, before, _, after in lines}


if __name__ == "__main__":
    differences = ""
    for one, (was, is_now, _) in resolve_all().items():
        if "--write" in sys.argv:
            EXPECTED.mkdir(exist_ok=True)
            expected_path(one).write_text(is_now)
        differences += difference(one, was, is_now)
    print(differences or "no difference", end="" if differences else "\n")
    sys.exit(bool(differences) and "--write" not in sys.argv)
