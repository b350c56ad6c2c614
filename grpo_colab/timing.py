"""What runs of one recipe with one seed share: their metrics without seconds and memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

CLOCKS = re.compile(r"time/.*|memory/.*|step_time|sample_time|train_runtime")


def repeatable(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lines of metrics without seconds and memory: what runs of one recipe with one seed share to the last digit."""
    return [{key: value for key, value in row.items() if not CLOCKS.fullmatch(key)} for row in rows]
