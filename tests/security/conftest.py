"""What the tests of trust share: code that leaves a mark when it runs, and a memory of trust that is empty."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from grpo_colab.recipe import trust


@pytest.fixture(autouse=True)
def nobody_trusted(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin with nothing trusted, in this process and in those that it starts."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setattr(trust, "_remembered", set())
    yield


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """The file that foreign code writes as soon as it is imported or called."""
    return tmp_path / "it-ran"
