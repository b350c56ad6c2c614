"""What is packed for the GPU tests: complete, smaller, and still what pip installs."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.metadata
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

HERE = Path(__file__).parent
for folder in (HERE, HERE.parent / "colab"):
    sys.path.insert(0, str(folder))
import pack  # noqa: E402
from colab_wheels import write_wheel  # noqa: E402

del sys.path[:2]

# What metadata asks for and the training never imports. The CPU default has none of the first six, either. Unsloth's
# certifi is a newer one than there is, and requests brings the one that is used.
UNUSED = {"torchvision", "xformers", "diffusers", "einops", "json5", "structlog"}
UNUSED |= {"certifi", "hf-transfer", "nest-asyncio", "wheel"}


def test_whatever_a_packed_package_asks_for_is_packed_or_there() -> None:
    have = {pack.canonical(name) for name in (*pack.PACKED, *pack.THERE)}
    missing = {}
    for package in pack.PACKED:
        for text in importlib.metadata.requires(package) or []:
            wanted = Requirement(text)
            name = pack.canonical(wanted.name)
            if (wanted.marker is None or wanted.marker.evaluate({"extra": ""})) and name not in have | UNUSED:
                missing[name] = f"{package} asks for {text}"
    assert missing == {}


def test_every_packed_package_has_a_locked_version() -> None:
    assert {pack.canonical(name) for name in pack.PACKED} <= pack.locked().keys()


@pytest.mark.parametrize(
    ("name", "kept", "left_out"),
    [
        (
            "unsloth",
            ["unsloth/models/studio.py", "unsloth_cli/studio/x.py"],
            ["studio/page.js", "unsloth/studio/a/b.py", "unsloth/tests/test_a.py"],
        ),
        (
            "bitsandbytes",
            ["bitsandbytes/libbitsandbytes_cpu.so", "bitsandbytes/libbitsandbytes_cuda130.so"],
            ["bitsandbytes/libbitsandbytes_cuda13.so", "bitsandbytes/libbitsandbytes_rocm72.so"],
        ),
        ("other-one", ["other_one/studio/x.py", "other_one/testing/x.py"], ["other_one/tests/data/x.bin"]),
    ],
)
def test_a_packed_wheel_loses_what_no_test_needs_and_installs(
    name: str, kept: list[str], left_out: list[str], tmp_path: Path
) -> None:
    wheel = write_wheel(tmp_path, name, "1.0", script="#!/bin/sh\n")
    with zipfile.ZipFile(wheel, "a") as more:
        for path in (*kept, *left_out):
            more.writestr(path, "x" * 1000)
    (tmp_path / "out").mkdir()
    packed = pack.repack(wheel, tmp_path / "out")
    assert packed.stat().st_size < wheel.stat().st_size
    site = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", site, packed]
    subprocess.run(command, check=True, timeout=120)
    assert all((site / path).is_file() for path in kept)
    assert not any((site / path).exists() for path in left_out)
    assert os.access(site / "bin" / name, os.X_OK)  # the modes are kept
    with zipfile.ZipFile(packed) as inside:
        record = next(path for path in inside.namelist() if path.endswith("/RECORD"))
        rows = {path: digest for path, digest, _ in csv.reader(inside.read(record).decode().splitlines())}
        assert rows.keys() == set(inside.namelist())
        for path, digest in rows.items():
            if path != record:
                right = base64.urlsafe_b64encode(hashlib.sha256(inside.read(path)).digest()).decode().rstrip("=")
                assert digest == f"sha256={right}"


def test_a_python_that_lacks_something_is_told_what() -> None:
    """-S leaves the standard library alone."""
    done = subprocess.run(
        [sys.executable, "-S", HERE / "pack.py", "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    for name in ("accelerate", "unsloth_zoo", "torch", "pyarrow"):
        assert f" {name}" in done.stderr
    assert "tests/gpu/run.sh pack NAME" in done.stderr


def test_a_package_without_a_locked_version_is_not_packed(tmp_path: Path) -> None:
    command = [sys.executable, HERE / "pack.py", "no-such-package", "--out", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "no-such-package: not in lock-cpu.txt" in done.stderr


def test_without_wheels_the_command_says_how_to_get_them(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", HERE / "run.sh"],
        env={**os.environ, "PYTHON": sys.executable, "GRPO_GPU_WHEELS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert "tests/gpu/run.sh pack" in done.stderr
