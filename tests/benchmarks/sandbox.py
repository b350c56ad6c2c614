"""What the sandbox costs: programs a second, the longest stall by one program, and the memory of the trainer.

    python tests/benchmarks/sandbox.py [--programs 100000]

The program is the reference's: twelve draw calls on a grid of 12 x 12, with the drawing functions inside as source.
Other processes slow all of it, so that each number is taken several times, and the load stands beside it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from grpo_colab.sandbox import Sandbox

PRELUDE = """
grid = []

def new(rows, columns):
    global grid
    grid = [[0] * columns for _ in range(rows)]

def pixel(point, colour):
    row, column = point
    if 0 <= row < len(grid) and 0 <= column < len(grid[0]):
        grid[row][column] = colour

def rectangle(a, b, colour):
    for row in range(max(0, a[0]), min(len(grid), b[0] + 1)):
        for column in range(max(0, a[1]), min(len(grid[0]), b[1] + 1)):
            grid[row][column] = colour

def horizontal_line(row, colour):
    rectangle((row, 0), (row, len(grid[0]) - 1), colour)

def vertical_line(column, colour):
    rectangle((0, column), (len(grid) - 1, column), colour)

def line(a, b, colour):
    (row, column), (to_row, to_column) = a, b
    down, right = abs(to_row - row), abs(to_column - column)
    step_row, step_column = 1 if to_row > row else -1, 1 if to_column > column else -1
    error = right - down
    while True:
        pixel((row, column), colour)
        if (row, column) == (to_row, to_column):
            break
        twice = 2 * error
        if twice > -down:
            error, column = error - down, column + step_column
        if twice < right:
            error, row = error + right, row + step_row
"""
PROGRAM = """new(12, 12)
line((0, 0), (11, 11), 1)
line((0, 11), (11, 0), 2)
rectangle((2, 2), (4, 4), 3)
rectangle((6, 6), (8, 9), 4)
horizontal_line(5, 5)
vertical_line(7, 6)
pixel((1, 3), 7)
pixel((9, 3), 8)
rectangle((0, 0), (1, 1), 9)
line((3, 0), (3, 11), 1)
vertical_line(1, 2)
horizontal_line(11, 3)
grid"""
SHARED = "a, b = (), ()\nfor _ in range(40): a, b = (a, a), (b, b)\n"
LOOP = "while True: pass"
STALLS = {
    "an endless loop": LOOP,
    "comparing what is shared": SHARED + "a == b",
    "a key that never hashes": SHARED + "{a: 1}",
    "many long keys of one hash": "a = (2**61 - 1) << 4000\n{a + i * (2**61 - 1): 1 for i in range(5000)}",
    "printing for ever": "while True: print('x' * 1000)",
    "all memory": "a = []\nwhile True: a.append('x' * 1000)",
}


def times(measure: Callable[[], float], digits: int, unit: str, best: Callable[[list[float]], float] = max) -> str:
    taken = [measure() for _ in range(7)]
    load = os.getloadavg()[0]
    return f"best {best(taken):.{digits}f}, median {statistics.median(taken):.{digits}f} {unit} (load {load:.1f})"


def resident_mb(pid: str = "self") -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def rate(sandbox: Sandbox, programs: list[str]) -> float:
    start = time.perf_counter()
    outcomes = sandbox.run(programs)
    seconds = time.perf_counter() - start
    assert all(
        (outcome.kind == "ok") == (program == PROGRAM) for outcome, program in zip(outcomes, programs, strict=True)
    )
    return len(programs) / seconds


def stall(sandbox: Sandbox, program: str) -> float:
    """Until the next program on the same worker is done."""
    start = time.perf_counter()
    assert sandbox.run([program, "6 * 7"])[1].value == 42
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=int, default=100_000)
    count = parser.parse_args().programs
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with Sandbox(PRELUDE) as sandbox:
        sandbox.run([PROGRAM] * 10)
        print("programs, two workers: ", times(lambda: rate(sandbox, [PROGRAM] * 1000), 0, "a second"))
        mixed = [PROGRAM if i % 50 else LOOP for i in range(1000)]
        print("2 % endless loops:     ", times(lambda: rate(sandbox, mixed), 0, "a second"))
    with Sandbox(PRELUDE, workers=4) as sandbox:
        sandbox.run([PROGRAM] * 10)
        print("the same, four workers:", times(lambda: rate(sandbox, mixed), 0, "a second"))
    for name, program in STALLS.items():
        with Sandbox(PRELUDE, workers=1) as sandbox:
            sandbox.run([PROGRAM])
            print(f"stall, {name}: ", times(lambda: stall(sandbox, program), 2, "s", min))  # noqa: B023 - used at once
    with Sandbox(PRELUDE) as sandbox:
        sandbox.run([PROGRAM] * 1000)
        workers = [str(worker.process.pid) for worker in sandbox._running]
        before, outer = resident_mb(), sum(map(resident_mb, workers))
        for _ in range(count // 1000):
            sandbox.run([PROGRAM if i % 500 else f"[{'0, ' * 9000}]" for i in range(1000)])
        print(
            f"memory over {count} programs: {resident_mb() - before:+.1f} MB of {before:.0f} in the trainer, ", end=""
        )
        print(f"{sum(map(resident_mb, workers)) - outer:+.1f} MB of {outer:.0f} in the two outer processes")


if __name__ == "__main__":
    main()
