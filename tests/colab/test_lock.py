"""colab/lock-cpu.txt is installed without resolution, so that nothing but this notices a package that it lacks."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

COLAB = Path(__file__).parents[2] / "colab"
# What a CPU has no use for, or what only trains images, and is asked for all the same.
LEFT_OUT = {"torchvision", "triton", "xformers", "diffusers", "einops", "json5", "structlog", "brotli"}


def locked(*names: str) -> set[str]:
    lines = [line for name in names for line in (COLAB / name).read_text().splitlines()]
    return {canonicalize_name(line.split("==")[0]) for line in lines if line and not line.startswith("#")}


@pytest.mark.parametrize("names", [("lock-cpu.txt",), ("lock-cpu.txt", "lock-test.txt")], ids="+".join)
def test_whatever_a_locked_package_asks_for_is_locked_too(names: tuple[str, ...]) -> None:
    have = locked(*names)
    missing = {}
    for package in sorted(have):
        for text in importlib.metadata.requires(package) or []:
            wanted = Requirement(text)
            name = canonicalize_name(wanted.name)
            if (wanted.marker is None or wanted.marker.evaluate({"extra": ""})) and name not in have | LEFT_OUT:
                missing[name] = f"{package} asks for {text}"
    assert missing == {}
