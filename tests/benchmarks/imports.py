"""What starting costs: milliseconds of `import grpo_colab`, the rewards, and `grpo-colab --help`, in new processes.

python tests/benchmarks/imports.py [--rounds 15]

Each is given over and above a bare `python -c pass`, measured in turns with it, and as it is.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import grpo_colab": [sys.executable, "-c", "import grpo_colab"],
    "import grpo_colab.rewards": [sys.executable, "-c", "import grpo_colab.rewards"],
    "grpo-colab --help": [sys.executable, "-m", "grpo_colab", "--help"],
    "grpo-colab recipes NAME": [sys.executable, "-m", "grpo_colab", "recipes", "gsm8k-llama31-8b"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):
        for name, command in COMMANDS.items():
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            took[name].append(1000 * (time.perf_counter() - began))
    bare = statistics.median(took["python -c pass"][1:])
    for name, values in took.items():
        median = statistics.median(values[1:])
        print(f"{name:<28}{median:8.1f} ms   {median - bare:+8.1f} ms over bare Python")


if __name__ == "__main__":
    main()
