"""The default recipe as `make demo` runs it, on several seeds: held-out accuracy before and after, and seconds in all.

A seed has two lines: the test problems, whose sentences are those of the training, and new stories, whose are not.

    python tests/benchmarks/demo.py [--seeds 101 102 103] [--grpo.learning-rate 1e-4 ...]

Each seed is a process of its own, timed from its start to its end, Unsloth's import included. Settings that follow go
to `grpo-colab train` as they are.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from grpo_colab import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102, 103])
    options, settings = parser.parse_known_args()
    print(
        f"{'seed':>6}  {'problems':<12}{'before':>8}{'after':>9}  {'95 % interval':<18}{'gained':>7}{'lost':>6}"
        f"{'seconds':>9}",
        flush=True,
    )
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "run"
            command = [
                sys.executable,
                "-m",
                "grpo_colab",
                "train",
                "--grpo.seed",
                str(seed),
                "--out",
                str(out),
                *settings,
            ]
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds = time.perf_counter() - began
            evaluation = Run(out).evaluation
            assert evaluation is not None
            for split, found in {evaluation["split"]: evaluation, **evaluation.get("further", {})}.items():
                before, after, paired = (found[key] for key in ("before", "after", "paired"))
                low, high = after["ci95"]
                print(
                    f"{seed:>6}  {split:<12}{before['accuracy']:>8.1%}{after['accuracy']:>9.1%}  "
                    f"{f'{low:.1%} to {high:.1%}':<18}{paired['gained']:>7}{paired['lost']:>6}{seconds:>9.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
