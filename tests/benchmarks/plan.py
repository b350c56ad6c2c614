"""What a plan costs: CPU seconds of `grpo-colab plan`, and of the same plan with transformers building the model.

python tests/benchmarks/plan.py [--rounds 7]

The two are measured in turns, in new processes, and given as a ratio. The second is how every model was planned before
usual decoders were counted by arithmetic.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

BUILT = """
import transformers
from grpo_colab.plan import model_shape
model_shape.dense_shape = lambda config: None
from grpo_colab.cli import main
main()
"""
RECIPES = {
    "gsm8k-llama31-8b --gpu T4": ["gsm8k-llama31-8b", "--gpu", "T4"],
    "rockets-qwen25-7b --vram-gib 8": ["rockets-qwen25-7b", "--vram-gib", "8"],
    "word-problems-tiny, here": [],
}


def cpu_seconds(command: list[str]) -> float:
    """Return the CPU seconds that a command takes, its children included."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, _, used = os.wait4(process.pid, 0)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    for name, words in RECIPES.items():
        light, built = [], []
        for _ in range(rounds):
            light.append(cpu_seconds([sys.executable, "-m", "grpo_colab", "plan", *words]))
            built.append(cpu_seconds([sys.executable, "-c", BUILT, "plan", *words]))
        counted, by_transformers = statistics.median(light), statistics.median(built)
        print(f"{name:<32}{counted:6.2f} s   built {by_transformers:6.2f} s   ratio {by_transformers / counted:5.1f}")


if __name__ == "__main__":
    main()
