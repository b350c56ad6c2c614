"""What a mirror writes, deletes and leaves in Drive's bin or in a repository's history in five hours on a T4.

python tests/benchmarks/mirror.py [--minutes 30] [--scale 256]

Replays the checkpoints of the preset gsm8k-llama31-8b: 250 steps of 72 s, a checkpoint after the first, every 20 steps
and every 5 minutes, of 0.49 GiB each. Large files are written smaller by `--scale`, and counted as if they were not;
small files have their size. Every deletion, and every file that another one is renamed over, is counted with the bytes
that it has at that moment: that is what Drive's bin keeps. With `--minutes 0` a copy is made of every checkpoint, as
before there was budget.mirror_minutes. With PYTHONPATH it measures another checkout's mirror.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from hub_server import Hub

STEPS, STEP_S = 250, 72.0
SAVE_S, SAVE_STEPS = 300.0, 20
MIB = 2**20
LARGE = {  # bytes of a checkpoint's files
    "adapter_model.safetensors": 320 * MIB,
    "optimizer.pt": 160 * MIB,
    "tokenizer.json": 17 * MIB,
}
ROW_BYTES = 4000  # of completions.jsonl, 8 per step


def checkpoints_of_a_run() -> Iterator[tuple[int, float]]:
    """Yield the step and the second of each checkpoint."""
    saved_at = 0.0
    for step in range(1, STEPS + 1):
        now = step * STEP_S
        if step in (1, STEPS) or step % SAVE_STEPS == 0 or now - saved_at >= SAVE_S:
            saved_at = now
            yield step, now


class Bin:
    """Counts what goes to Drive's bin below a folder, by an audit hook, which cannot be taken off again."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.scale = 1
        self.counts: Counter[str] = Counter()
        sys.addaudithook(self.see)

    def see(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in ("os.remove", "os.rename") or self.folder is None:
            return
        path = Path(str(arguments[1 if event == "os.rename" else 0]))
        if path.is_relative_to(self.folder) and path.is_file():
            self.counts["files"] += 1
            self.counts["bytes"] += path.stat().st_size * (self.scale if is_large(path) else 1)


def is_large(path: Path) -> bool:
    return path.name in LARGE


def states(folder: Path) -> dict[Path, tuple[int, int, int]]:
    """The large files of a copy, with what shows that one was written again."""
    found = {}
    for path in folder.rglob("*"):
        if is_large(path):
            status = path.stat()
            found[path] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def train_to(run: Path, step: int, before: int, scale: int) -> None:
    from grpo_colab.runs.checkpoints import new_staging, prune, seal
    from grpo_colab.utils.files import append, write_json

    for done in range(before + 1, step + 1):
        append(run / "metrics.jsonl", json.dumps({"step": done, "reward": 1.0, "padding": "x" * 900}) + "\n")
        append(run / "completions.jsonl", 8 * (json.dumps({"step": done, "text": "x" * (ROW_BYTES - 40)}) + "\n"))
    write_json(run / "clock.json", {"save_s": step})
    staged = new_staging(run / "checkpoints") / f"checkpoint-{step}"
    staged.mkdir()
    for name, size in LARGE.items():
        content = random.randbytes(size // scale) if name != "tokenizer.json" else bytes(size // scale)
        (staged / name).write_bytes(content)
    value = 1 - math.exp(-step / 80) + random.gauss(0, 0.02)
    seal(staged, run / "checkpoints", "reward", value)
    prune(run / "checkpoints", 2)


def written_so_far() -> int:
    """The bytes that this process has written."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["wchar"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--scale", type=int, default=256)
    settings = parser.parse_args()
    scale = settings.scale
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder, Hub() as hub:
        os.environ.clear()
        os.environ.update(hub.environment(Path(folder, "home"), HF_HUB_DISABLE_PROGRESS_BARS="1"))
        from grpo_colab.runs import mirror

        run, drive = Path(folder, "run"), Path(folder, "drive")
        run.mkdir()
        (run / "recipe.toml").write_text('name = "example"\n')
        trash, totals = Bin(), Counter()
        trash.scale = scale
        step_before, copied_at = 0, -math.inf
        for step, now in checkpoints_of_a_run():
            train_to(run, step, step_before, scale)
            step_before = step
            totals["checkpoints"] += 1
            if step < STEPS and now - copied_at < 60 * settings.minutes:
                continue
            copied_at = now
            totals["copies"] += 1
            large, written = states(drive), written_so_far()
            trash.folder = drive
            mirror.push(run, str(drive))
            trash.folder = None
            changed = sum(state[2] for path, state in states(drive).items() if large.get(path) != state)
            totals["written"] += changed * scale + (written_so_far() - written - changed)
            known = set(hub.blobs)
            mirror.push(run, "hf://someone/copies")
            totals["uploaded"] += sum(large_bytes(hub.blobs[name], scale) for name in set(hub.blobs) - known)
        kept = set().union(*(blobs for _, blobs in hub.commits["someone/copies"]))
        history = sum(large_bytes(hub.blobs[name], scale) for name in kept)
        held = sum(state[2] * scale for state in states(drive).values())
    gib = 2**30
    print(f"{totals['checkpoints']} checkpoints, {totals['copies']} copies")
    print(f"folder: {totals['written'] / gib:.2f} GiB written, {held / gib:.2f} GiB there at the end")
    print(f"folder: {trash.counts['files']} files to the bin, with {trash.counts['bytes'] / gib:.3f} GiB")
    print(f"hub: {totals['uploaded'] / gib:.2f} GiB uploaded, {history / gib:.2f} GiB in the history at the end")


def large_bytes(size: int, scale: int) -> int:
    """The size of a file on the hub, which is known there by its size alone."""
    return size * scale if size in {whole // scale for whole in LARGE.values()} else size


if __name__ == "__main__":
    main()
