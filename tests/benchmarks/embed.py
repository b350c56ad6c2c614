"""What `grpo-colab embed` costs on all of GSM8K: seconds by part and in all, CPU seconds, and the most memory.

    python tests/benchmarks/embed.py FOLDER [--rounds 1]

FOLDER holds GSM8K's train.jsonl and test.jsonl. Each round is a process of its own; the load of the machine when it
begins is given, for other work beside it makes the seconds longer, and the CPU seconds too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

CHILD = """
import resource, sys, time
began = time.perf_counter(), time.process_time()
from grpo_colab.reporting.embedding import embed, map, points

def timed(module, name):
    inner = getattr(module, name)
    def outer(*arguments, **options):
        start = time.perf_counter(), time.process_time()
        result = inner(*arguments, **options)
        print(f"{name:<18}{time.perf_counter() - start[0]:8.1f} s{time.process_time() - start[1]:8.1f} CPU s")
        return result
    setattr(module, name, outer)

for module, names in ((points, "tfidf embed_texts lay_out find_topics near_duplicates"), (map, "draw_map render_map")):
    for name in names.split():
        timed(module, name)
found = embed("gsm8k", path=sys.argv[1], out=sys.argv[2])
print(f"{'in all':<18}{time.perf_counter() - began[0]:8.1f} s{time.process_time() - began[1]:8.1f} CPU s")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(f"{peak:.2f} GiB at most; {sum(found.counts.values()):,} problems; {found.embedder}; {found.layout}")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    for _ in range(options.rounds):
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        with tempfile.TemporaryDirectory() as out:
            subprocess.run([sys.executable, "-c", CHILD, options.folder, f"{out}/map"], check=True)


if __name__ == "__main__":
    main()
