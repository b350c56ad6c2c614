"""Mark the cases of a test that `make test` leaves to `make test-all`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def long_but(kept: Iterable[Any], names: Iterable[Any]) -> list[Any]:
    """Return all names as parameters, of which those that are not kept are marked `long`."""
    kept = [*kept]
    return [name if name in kept else pytest.param(name, marks=pytest.mark.long) for name in names]
