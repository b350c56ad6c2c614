"""One thread or all of them: seconds per step of the default recipe, each in turn in a process of its own.

    python tests/benchmarks/threads.py [--steps 20] [--rounds 3] [--busy]

`--busy` keeps one core busy with another process, as on a shared machine. Prints the ratio of the medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from grpo_colab import Run


def seconds_a_step(threads: int, steps: int) -> list[float]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        settings = f"--budget.max-steps {steps} --evaluation.n 1 --out {out}".split()
        subprocess.run(
            [sys.executable, "-m", "grpo_colab", "train", *settings],
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            check=True,
            capture_output=True,
        )
        return [row["step_time"] for row in Run(out).metrics()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--busy", action="store_true")
    options = parser.parse_args()
    cores = os.cpu_count() or 1
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if options.busy else None
    took: dict[int, list[float]] = {1: [], cores: []}
    try:
        for _ in range(options.rounds):
            for threads in took:
                took[threads] += seconds_a_step(threads, options.steps)
    finally:
        if other is not None:
            other.kill()
    medians = {threads: statistics.median(seconds) for threads, seconds in took.items()}
    print(
        f"{'one core busy' if options.busy else 'as the machine is'}: 1 thread {medians[1]:.3f} s per step, "
        f"{cores} threads {medians[cores]:.3f} s, ratio {medians[cores] / medians[1]:.2f}"
    )


if __name__ == "__main__":
    main()
