"""Drawing tasks by GRPO, by hindsight and by both: solved of the seeds, iterations, samples and seconds, as a table.

    python tests/benchmarks/drawing.py [--tasks 12-squares chick] [--methods her both] [--seeds 5] [--max-steps 250]

Two cells of the table run at a time, each on one core, in processes that import Unsloth once; the seconds are those of
sampling, rewards and learning, without imports and loading. What follows as --TABLE.SETTING VALUE goes to every run.
Finished rows are printed as they come, and the whole table, for the README, at the end.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

from grpo_colab.errors import SettingError, one_line
from grpo_colab.experiments.draw import DEFAULT_RECIPE, draw
from grpo_colab.experiments.results import as_json
from grpo_colab.experiments.variants import variants
from grpo_colab.recipe.overrides import parse_overrides

TASKS = ("9-vertical-lines", "12-squares", "16-squares", "20-squares", "25-squares", "chick")
METHODS = ("her", "both", "grpo")
HEAD = ("task", "method", "solved", "iterations", "samples", "seconds", "best of the rest")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=101)
    parser.add_argument("--max-steps", type=int, default=250, help="iterations, for her, both and grpo")
    parser.add_argument("--grpo-steps", type=int, help="another limit for grpo")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, help="keep the runs there")
    options, settings = parser.parse_known_args()
    try:
        words, tables = parse_overrides(settings)
        for task in options.tasks:
            variants(DEFAULT_RECIPE, tables | {"task": {**tables.get("task", {}), "image": task}}, options.seeds, False)
    except SettingError as error:
        parser.error(str(error))
    if words:
        parser.error(f"{' '.join(words)}: is no option and no setting")
    os.environ["OMP_NUM_THREADS"] = "1"
    cells = [(task, method) for task in options.tasks for method in options.methods]
    rows: dict[tuple[str, str], list[str]] = {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        ProcessPoolExecutor(options.workers, get_context("spawn")) as pool,
    ):
        jobs = {
            pool.submit(
                run,
                *cell,
                options.seeds,
                options.first_seed,
                (options.grpo_steps if cell[1] == "grpo" else None) or options.max_steps,
                (options.out or Path(scratch)).absolute(),
                settings,
            ): cell
            for cell in cells
        }
        for job in as_completed(jobs):
            try:
                rows[jobs[job]] = row(job.result())
            except Exception as error:  # noqa: BLE001 - whatever it is, hours of other cells are worth more
                rows[jobs[job]] = [*jobs[job], one_line(error), *[""] * (len(HEAD) - 3)]
            print(line(rows[jobs[job]]), flush=True)
    print("\n" + line(HEAD) + "\n|" + "---|" * len(HEAD))
    for task in options.tasks:
        for method in options.methods:
            print(line(rows[task, method]))


def run(
    task: str, method: str, seeds: int, first: int, max_steps: int, out: Path, settings: list[str]
) -> dict[str, Any]:
    """One cell: what `grpo-colab draw --json` prints. In a process of its own, whose chatter is thrown away."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.dup2(2, 1)
    tables = parse_overrides(settings)[1]
    tables["grpo"] = {**tables.get("grpo", {}), "seed": first}
    tables["budget"] = {**tables.get("budget", {}), "max_steps": max_steps}
    return as_json(draw(task, method, seeds=seeds, out=out / f"{task}-{method}", **tables))


def row(found: dict[str, Any]) -> list[str]:
    """Counts are of the seeds that solved it: the median, and the range."""
    summaries = found["summaries"]
    solved = [one for one in summaries if one["solved"]]
    rest = [one["best"] for one in summaries if not one["solved"]]
    return [
        summaries[0]["image"],
        summaries[0]["method"],
        f"{len(solved)} of {len(summaries)}",
        *(spread([one[name] for one in solved]) for name in ("iterations", "samples", "seconds")),
        f"{max(rest):.3f} in {max(one['iterations'] for one in summaries)} iterations" if rest else "",
    ]


def spread(values: list[float]) -> str:
    return f"{median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f})" if values else "-"


def line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
