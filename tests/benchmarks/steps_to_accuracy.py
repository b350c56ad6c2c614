"""Measure how many steps and seconds each part of [sampling] takes to a held-out accuracy.

    python tests/benchmarks/steps_to_accuracy.py OUT [--seeds 5] [--levels shipped hard] [--arms plain adaptive ...]

All arms run in this process, one seed after the other, with the same model, rewards and recipe. A probe of 128 problems
is asked every second step, and the first share at or above a threshold counts. Seconds are those of the steps
(sampling, rewards, update), without probes and evaluations. Runs that OUT has already are not repeated.

`shipped` are the word problems of the default recipe. `hard` has problems of 1, 2, 3 and 4 steps in shares of 30, 15,
15 and 40 %; its probe has those of 1 to 3, and those of 4 are a split of their own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, median
from typing import Any, ClassVar, Final

from grpo_colab import Recipe, Run, train
from grpo_colab.tasks import Problem
from grpo_colab.tasks.word_problems import NEW_STORIES, WordProblems, make_problem

THRESHOLDS: Final = (0.6, 0.8, 0.9, 0.95)
HARD: Final = {1: 30, 2: 15, 3: 15, 4: 40}
FOUR: Final = "four_steps"
ARMS: Final[Mapping[str, dict[str, dict[str, Any]]]] = {
    "notebook": {"grpo": {"learning_rate": 5e-6}},
    "plain": {},
    "adaptive": {"sampling": {"strategy": "adaptive"}},
    "refill": {"sampling": {"refill": 2}},
    "generate_more": {"sampling": {"generate_more": 16}},
    "skip": {"sampling": {"skip_zero_advantage": True}},
    "adaptive+skip": {"sampling": {"strategy": "adaptive", "skip_zero_advantage": True}},
    "twice": {"grpo": {"learning_rate": 8e-4}},
    "twice+adaptive+skip": {
        "grpo": {"learning_rate": 8e-4},
        "sampling": {"strategy": "adaptive", "skip_zero_advantage": True},
    },
}


class Harder(WordProblems):
    """Word problems of which many are too hard for the tiny model, or too easy."""

    name = "harder"
    further_splits: ClassVar[Mapping[str, str]] = {FOUR: "of four steps"}

    def problems(self, split: str, n: int | None = None) -> list[Problem]:
        """Return problems of 1 to 4 steps for training, of 1 to 3 as "test", and of 4 as "four_steps"."""
        shares = {"train": HARD, "test": {step: HARD[step] for step in (1, 2, 3)}, FOUR: {4: 1}}[split]
        drawn = "train" if split == "train" else "test"
        offset = 100_000 if split == FOUR else 0
        found = [make_problem(drawn, self.seed, offset + index, shares) for index in range(n or 4096)]
        return [replace(problem, source=f"{split}/{problem.source}") for problem in found]


def recipe_of(level: str, arm: str, seed: int, steps: int) -> Recipe:
    """Return the recipe of an arm: the default one, with a probe, and what the arm changes."""
    settings: dict[str, dict[str, Any]] = {
        "task": {"seed": seed},
        "lora": {"random_state": seed},
        "grpo": {"seed": seed, "save_strategy": "no"},
        "budget": {"max_steps": steps, "rehearsal": False, "save_minutes": 0.0},
        "evaluation": {"n": 256, "every": 2, "probe": 128},
    }
    if level == "hard":
        settings["task"]["name"] = f"{Path(__file__).resolve()}:Harder"
    for table, values in ARMS[arm].items():
        settings[table] = {**settings.get(table, {}), **values}
    return Recipe.load("word-problems-tiny", **settings)


def curve_of(run: Run) -> list[tuple[int, float, float, int]]:
    """Return the probe's points: step, share right, seconds of all steps so far, completions sampled so far."""
    points, seconds, completions = [], 0.0, 0
    per_step = run.recipe.completions_per_step
    for row in run.metrics():
        seconds += row["step_time"]
        completions += int(row.get("sampling/completions", per_step))
        if "probe/accuracy" in row:
            points.append((row["step"], row["probe/accuracy"], seconds, completions))
    return points


def reached(curve: Sequence[tuple[int, float, float, int]], threshold: float) -> tuple[int, float, int] | None:
    """Return step, seconds and completions at the first point at or above a threshold; None where there is none."""
    return next(((step, s, n) for step, share, s, n in curve if share >= threshold), None)


def split_gain(run: Run) -> tuple[float, float]:
    """Return the share of problems gained that were right before by the last number, and that were not."""
    before = {row["question"]: row for row in run.answers("evaluation-before.jsonl")}
    after = run.answers("evaluation-after.jsonl")
    gained = [before[row["question"]] for row in after if row["right"] and not before[row["question"]]["right"]]
    format_only = sum(bool(row["lenient_right"]) for row in gained)
    return format_only / len(after), (len(gained) - format_only) / len(after)


def show(level: str, found: Mapping[str, Sequence[Run]]) -> None:
    """Print a line for each arm: medians over its seeds, and the ends."""
    print(f"\n{level}: median step (seconds, completions) at the first probe of so many right; - where most never were")
    for arm, runs in found.items():
        curves = [curve_of(run) for run in runs]
        cells = []
        for threshold in THRESHOLDS:
            points = [point for curve in curves if (point := reached(curve, threshold)) is not None]
            if 2 * len(points) <= len(curves):
                cells.append(f"{threshold:.0%}: -")
                continue
            step, seconds, completions = (median(values) for values in zip(*points, strict=True))
            of = "" if len(points) == len(curves) else f" [{len(points)}/{len(curves)}]"
            cells.append(f"{threshold:.0%}: {step:g} ({seconds:.1f} s, {completions:.0f}){of}")
        ends = [run.evaluation["after"]["accuracy"] for run in runs if run.evaluation]
        teach = [row["sampling/groups_that_teach"] for run in runs for row in run.metrics() if "sampling/turns" in row]
        gains = [split_gain(run) for run in runs]
        four = [further["after"]["accuracy"] for run in runs if (further := _further(run))]
        print(f"  {arm:<22}" + "  ".join(cells))
        print(
            f"  {'':<22}end {min(ends):.1%} to {max(ends):.1%}, format {fmean(g[0] for g in gains):+.1%}, reasoning "
            f"{fmean(g[1] for g in gains):+.1%}"
            + (f", groups that teach {fmean(teach):.0%}" if teach else "")
            + (f", four steps {fmean(four):.1%}" if four else "")
        )


def _further(run: Run) -> dict[str, Any] | None:
    """Return the evaluation of the problems of four steps, where there is one."""
    further = (run.evaluation or {}).get("further") or {}
    return further.get(FOUR) if NEW_STORIES not in further else None


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--levels", nargs="+", default=["shipped", "hard"], choices=["shipped", "hard"])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    asked = parser.parse_args()
    for level in asked.levels:
        found: dict[str, list[Run]] = {arm: [] for arm in asked.arms}
        for seed in range(201, 201 + asked.seeds):  # of no seed that anything was tuned on
            for arm in asked.arms:
                folder = asked.out / level / f"{arm}-{seed}"
                run = Run(folder) if folder.is_dir() else None
                if run is None or not run.finished:
                    run = train(recipe_of(level, arm, seed, asked.steps), out=folder, resume=False, trust_code=True)
                found[arm].append(run)
                print(json.dumps({"level": level, "arm": arm, "seed": seed, "curve": curve_of(run)}), flush=True)
        show(level, found)


if __name__ == "__main__":
    main()
