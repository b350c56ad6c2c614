"""A small part of the fault campaign: each kind of disturbance at least once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).parents[1] / "benchmarks" / "faults.py"


@pytest.mark.long
def test_a_small_campaign_is_survived(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(CAMPAIGN), "--scale", "0.05", "--keep", str(tmp_path / "kept")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    rows = [line.rsplit(None, 5) for line in done.stdout.splitlines()[2:13]]
    assert len(rows) == 11  # kinds
    for what, tried, survived, lost, differing, _ in rows:
        assert int(tried) >= 1, what
        assert (survived, lost, differing) == (tried, "0", "0"), what
