"""Measure how many steps and seconds each part of [sampling] takes to a held-out accuracy.

    python tests/benchmarks/steps_to_accuracy.py OUT [--seeds 5] [--levels shipped hard] [--arms plain adaptive ...]

All arms run in this process, one seed after the other, with the same model, rewards and recipe. A probe of 96 problems
is asked every second step, and the first share at or above a threshold counts. Seconds are those of the steps
(sampling, rewards, update), without probes and evaluations. OUT/LEVEL.png has the curves. Runs that OUT has already are
not repeated.

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
from typing import Any, ClassVar, Final, NamedTuple

from bare_trl import train_bare

from grpo_colab import Recipe, Run, train
from grpo_colab.evaluation.evaluate import AFTER, BEFORE, OWN, answers_file
from grpo_colab.tasks import Problem
from grpo_colab.tasks.word_problems import NEW_STORIES, WordProblems, make_problem

Point = tuple[int, float, float, int]
THRESHOLDS: Final = (0.6, 0.8, 0.9, 0.95)
HARD: Final = {1: 30, 2: 15, 3: 15, 4: 40}
FOUR: Final = "four_steps"
ARMS: Final[Mapping[str, dict[str, dict[str, Any]]]] = {
    "TRL, notebook": {"grpo": {"learning_rate": 5e-6}, "budget": {"prompts_per_step": 1}},
    "TRL": {},
    "plain": {},
    "adaptive": {"sampling": {"strategy": "adaptive"}},
    "refill": {"sampling": {"refill": 2}},
    "generate_more": {"sampling": {"generate_more": 16}},
    "skip": {"sampling": {"skip_zero_advantage": True}},
    "hints": {"sampling": {"hints": "solution"}},
    "adaptive+hints": {"sampling": {"strategy": "adaptive", "hints": "solution"}},
    "adaptive+skip": {"sampling": {"strategy": "adaptive", "skip_zero_advantage": True}},
    "merged": {"sampling": {"merge_adapter": True}},
    "all at one rate": {"sampling": {"strategy": "adaptive", "skip_zero_advantage": True, "merge_adapter": True}},
    "groups of 4": {"grpo": {"num_generations": 4}, "budget": {"prompts_per_step": 4}},
    "groups of 16": {"grpo": {"num_generations": 16}, "budget": {"prompts_per_step": 1}},
    "two iterations": {"grpo": {"num_iterations": 2}},
    "twice": {"grpo": {"learning_rate": 8e-4}},
    "twice+adaptive+skip": {
        "grpo": {"learning_rate": 8e-4},
        "sampling": {"strategy": "adaptive", "skip_zero_advantage": True},
    },
    "ours": {
        "grpo": {"learning_rate": 8e-4},
        "sampling": {"strategy": "adaptive", "skip_zero_advantage": True, "merge_adapter": True},
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
        "evaluation": {"n": 256, "every": 2, "probe": 96},
    }
    if level == "hard":
        settings["task"]["name"] = f"{Path(__file__).resolve()}:Harder"
    for table, values in ARMS[arm].items():
        settings[table] = {**settings.get(table, {}), **values}
    return Recipe.load("word-problems-tiny", **settings)


class Result(NamedTuple):
    """What is known of one run: the curve of its probe, its answers by split, and the share of groups that taught."""

    curve: Sequence[Point]
    before: Mapping[str, Sequence[Mapping[str, Any]]]
    after: Mapping[str, Sequence[Mapping[str, Any]]]
    teaching: float | None = None
    per_minute: float | None = None  # groups that teach per minute of the steps

    def accuracy(self, split: str) -> float | None:
        """Return the share of a split that is right after the training; None where it was not asked."""
        rows = self.after.get(split)
        return fmean(row["right"] for row in rows) if rows else None

    def gain(self) -> tuple[float, float]:
        """Return the share of problems gained that were right before by the last number, and that were not."""
        before = {row["question"]: row for row in self.before[OWN]}
        after = self.after[OWN]
        gained = [before[row["question"]] for row in after if row["right"] and not before[row["question"]]["right"]]
        format_only = sum(bool(row["lenient_right"]) for row in gained)
        return format_only / len(after), (len(gained) - format_only) / len(after)


def result_of(level: str, arm: str, seed: int, steps: int, folder: Path) -> Result:
    """Return the result of one run, which is trained unless its folder has it."""
    recipe = recipe_of(level, arm, seed, steps)
    if arm.startswith("TRL"):
        found = train_bare(recipe, folder)
        return Result(found["curve"], found["before"], found["after"])
    run = Run(folder) if folder.is_dir() else None
    if run is None or not run.finished:
        run = train(recipe, out=folder, resume=False, trust_code=True)
    sides = []
    for side in (BEFORE, AFTER):
        found = {split: run.answers(answers_file(side, split)) for split in (OWN, FOUR, NEW_STORIES)}
        sides.append({split: rows for split, rows in found.items() if rows})
    rows = run.metrics()
    taught = [row["groups_that_teach"] for row in rows]
    minutes = sum(row["step_time"] for row in rows) / 60
    per_minute = sum(taught) * recipe.budget.prompts_per_step / minutes
    return Result(curve_of(run), sides[0], sides[1], fmean(taught), per_minute)


def curve_of(run: Run) -> list[Point]:
    """Return the probe's points: step, share right, seconds of all steps so far, completions sampled so far."""
    points, seconds, completions = [], 0.0, 0
    per_step = run.recipe.completions_per_step
    for row in run.metrics():
        seconds += row["step_time"]
        completions += int(row.get("sampling/completions", per_step))
        if "probe/accuracy" in row:
            points.append((row["step"], row["probe/accuracy"], seconds, completions))
    return points


def reached(curve: Sequence[Point], threshold: float) -> tuple[int, float, int] | None:
    """Return step, seconds and completions at the first point at or above a threshold; None where there is none."""
    return next(((step, s, n) for step, share, s, n in curve if share >= threshold), None)


def show(level: str, found: Mapping[str, Sequence[Result]]) -> None:
    """Print a line for each arm: medians over its seeds, and the ends."""
    print(f"\n{level}: median step (seconds, completions) at the first probe of so many right; - where most never were")
    for arm, results in found.items():
        cells = []
        for threshold in THRESHOLDS:
            points = [point for result in results if (point := reached(result.curve, threshold)) is not None]
            if 2 * len(points) <= len(results):
                cells.append(f"{threshold:.0%}: - [{len(points)}/{len(results)}]")
                continue
            step, seconds, completions = (median(values) for values in zip(*points, strict=True))
            steps = [point[0] for point in points]
            of = "" if len(points) == len(results) else f" [{len(points)}/{len(results)}]"
            cells.append(
                f"{threshold:.0%}: {step:g} [{min(steps)}-{max(steps)}] ({seconds:.1f} s, {completions:.0f}){of}"
            )
        gains = [result.gain() for result in results]
        said = [
            f"end {spread_of([result.accuracy(OWN) for result in results])}",
            f"format {fmean(gain[0] for gain in gains):+.1%}",
            f"reasoning {fmean(gain[1] for gain in gains):+.1%}",
        ]
        teaching = [result.teaching for result in results if result.teaching is not None]
        if teaching:
            speed = fmean(result.per_minute for result in results if result.per_minute is not None)
            said.append(f"groups that teach {fmean(teaching):.0%}, {speed:.0f} per minute")
        for split in (FOUR, NEW_STORIES):
            if any(result.accuracy(split) is not None for result in results):
                said.append(f"{split.replace('_', ' ')} {spread_of([result.accuracy(split) for result in results])}")
        print(f"  {arm:<22}" + "  ".join(cells))
        print(f"  {'':<22}" + ", ".join(said))


def draw(level: str, found: Mapping[str, Sequence[Result]], file: Path) -> None:
    """Draw the probe of each arm by step and by second: the mean over the seeds, and the range from worst to best."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5), dpi=110, layout="constrained")
    by_step, by_second = figure.subplots(1, 2, sharey=True)
    for arm, results in found.items():
        length = min(len(result.curve) for result in results)
        points = [result.curve[:length] for result in results]
        shares = [[curve[place][1] for curve in points] for place in range(length)]
        means = [fmean(values) for values in shares]
        steps = [points[0][place][0] for place in range(length)]
        (line,) = by_step.plot(steps, means, label=arm)
        by_step.fill_between(steps, [*map(min, shares)], [*map(max, shares)], color=line.get_color(), alpha=0.12)
        seconds = [fmean(curve[place][2] for curve in points) for place in range(length)]
        by_second.plot(seconds, means, color=line.get_color())
    by_step.set_title(f"{level}: probe, mean and range of the seeds")
    by_step.set_xlabel("step")
    by_second.set_xlabel("seconds of the steps")
    by_step.legend(frameon=False)
    for axes in (by_step, by_second):
        axes.grid(alpha=0.25)
    figure.savefig(file)


def spread_of(shares: Sequence[float | None]) -> str:
    """Return the mean of some shares with the smallest and the largest."""
    known = [share for share in shares if share is not None]
    return f"{fmean(known):.1%} ({min(known):.1%} to {max(known):.1%})"


def main() -> None:
    """Run what is missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=201, help="of no seed that anything was tuned on")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--levels", nargs="+", default=["shipped", "hard"], choices=["shipped", "hard"])
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    asked = parser.parse_args()
    for level in asked.levels:
        found: dict[str, list[Result]] = {arm: [] for arm in asked.arms}
        for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
            for arm in asked.arms:
                folder = asked.out / level / f"{arm.replace(', ', '-')}-{seed}"
                result = result_of(level, arm, seed, asked.steps, folder)
                found[arm].append(result)
                print(json.dumps({"level": level, "arm": arm, "seed": seed, "curve": result.curve}), flush=True)
        show(level, found)
        draw(level, found, asked.out / f"{level}.png")


if __name__ == "__main__":
    main()
