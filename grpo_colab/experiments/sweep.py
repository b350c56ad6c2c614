"""Compare settings: `sweep("word-problems-tiny", grpo={"learning_rate": [1e-5, 2e-5]}, seeds=2)`, for any recipe.

Every seed of every combination of the values is a run of its own, in one folder. All of them are checked before the
first one begins. values.py says what is tried, variants.py makes the recipes, sweep_checks.py checks them, and
series.py trains them one after the other. sweep_results.py makes the table, sweep_figure.py the picture, and
sweep_folder.py keeps both.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, one_of
from grpo_colab.experiments.results import is_over
from grpo_colab.experiments.series import (
    functions_of,
    made_runs,
    need_one_process,
    new_runs,
    refuse_with_resume,
    train_all,
    without_functions,
)
from grpo_colab.experiments.sweep_checks import check_each, check_with_libraries, hours_of, sweep_variants
from grpo_colab.experiments.sweep_folder import SweepResult, read_sweep, write_result
from grpo_colab.experiments.sweep_results import CHOICES, unfinished
from grpo_colab.experiments.variants import AS_IT_IS, Variant, told
from grpo_colab.recipe.functions import Reward, given_rewards
from grpo_colab.recipe.recipe import DEFAULT_PRESET
from grpo_colab.recipe.trust import check_trust_of_all
from grpo_colab.runs.folders import SWEEP, check_free, free_path
from grpo_colab.runs.run import Run
from grpo_colab.text import counted, duration
from grpo_colab.utils.console import info
from grpo_colab.utils.stack import check_import_order


@dataclasses.dataclass(frozen=True)
class PreparedSweep:
    """A sweep of which everything is checked, and nothing is trained. A new one has written nothing either.

    `variants` are the runs by the names of their folders, in order. `hours` has for each what a plan estimates, None
    where there is no plan. `done` are the names of those that are over.
    """

    path: Path
    by: str
    variants: Mapping[str, Variant]
    hours: Mapping[str, float | None]
    done: frozenset[str]
    resumed: bool
    functions: Mapping[str, Reward]
    trust_code: bool

    @property
    def hours_left(self) -> float | None:
        """Return the hours of all runs that are not over, None where one of them has no plan."""
        hours = [self.hours[name] for name in self.variants if name not in self.done]
        known = [one for one in hours if one is not None]
        return sum(known) if len(known) == len(hours) else None

    def about(self) -> str:
        """Return in a sentence how many runs there are, of what, and about how long they take."""
        count = len({told(one.settings) for one in self.variants.values()})
        tried = ", ".join(next(iter(self.variants.values())).settings) or AS_IT_IS
        seeds, left = len(self.variants) // count, len(self.variants) - len(self.done)
        text = f"{counted(len(self.variants), 'run')} ({counted(count, 'combination')} of {tried}, "
        text += f"{counted(seeds, 'seed')} each)"
        if not left:
            return f"{text}, all of them over."
        if self.done:
            text += f", {left} of them left"
        if self.hours_left is None:
            return f"{text}, one after the other; how long they take cannot be told before."
        return f"{text}, one after the other: about {duration(3600 * self.hours_left)} by the plan."

    def text(self) -> str:
        """Return a line per run: its folder's name, and about how long it takes or that it is over."""
        lines = []
        width = max(map(len, self.variants))
        for name in self.variants:
            hours = self.hours[name]
            state = "" if hours is None else f"about {duration(3600 * hours)}"
            lines.append(f"{name:<{width}}  {'over' if name in self.done else state}".rstrip())
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the list of runs in JSON's types, as `grpo-colab sweep --dry-run --json` prints it."""
        runs = []
        for name, one in self.variants.items():
            known = {"run": name, "settings": dict(one.settings), "seed": one.seed}
            runs.append({**known, "over": name in self.done, "hours": self.hours[name]})
        return {"sweep": str(self.path), "runs": runs, "hours_left": self.hours_left}

    def run(self) -> SweepResult:
        """Make the run folders, train what is not over, and return the result, whose files are then in the folder.

        A SIGINT or SIGTERM stops the present run, and no later one begins. An error of one run leaves the others alone;
        the result has the first one. Raises PretrainingStopped when a signal ends a pre-training.
        """
        left = {name: one for name, one in self.variants.items() if name not in self.done}
        if left:
            check_with_libraries(left)
        if self.resumed:
            runs = made_runs(self.path, SWEEP)
        else:
            recipes = {name: one.recipe for name, one in self.variants.items()}
            runs = new_runs(recipes, self.path, SWEEP, {"combinations": self._combinations(), "by": self.by})
        for foreign_code in check_trust_of_all([run.recipe for run in runs], self.trust_code):
            info(foreign_code)
        info(f"{self.about()} They are in {self.path}.")
        error = train_all(runs, self.trust_code, self.functions, self._say_result)
        result = dataclasses.replace(read_sweep(self.path, self.by), error=error)
        write_result(result)
        not_over = len(unfinished(result.combinations))
        if not_over:
            verb = "is" if not_over == 1 else "are"
            text = f"{not_over} of {counted(len(runs), 'run')} {verb} not over. Go on with: {runs[0].resume_command}"
            info(text, even_quiet=True)
        return result

    def _combinations(self) -> list[dict[str, Any]]:
        """Return the combinations with the names of their runs, as sweep.json has them."""
        found: dict[str, dict[str, Any]] = {}
        for name, one in self.variants.items():
            found.setdefault(told(one.settings), {"settings": dict(one.settings), "runs": []})["runs"].append(name)
        return [*found.values()]

    def _say_result(self, run: Run) -> None:
        """Print what a run has brought, and write the table as it is now: a killed process leaves it."""
        result = read_sweep(self.path, self.by)
        one = next(one for row in result.rows for one in row["runs"] if one["run"] == run.path.name)
        if one["after"] is not None:
            info(f"{run.path.name}: {one['before']:.1%} right before, {one['after']:.1%} after.")
        write_result(result, picture=False)


def sweep(
    recipe: str | Path | None = None,
    *,
    seeds: int = 1,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    by: str | None = None,
    trust_code: bool = False,
    dry_run: bool = False,
    **overrides: Any,
) -> SweepResult | None:
    """Train `recipe` with every combination of several values, and compare: the table, sweep.json, a picture, the best.

    `recipe` is a preset or a file, by default the CPU default. `overrides` are its tables, as in Recipe.load, in which
    a setting may have a list of values: grpo={"learning_rate": [1e-5, 2e-5]}. A setting that takes a list itself is
    tried by sweep={"lora.target_modules": [["q_proj"], ["q_proj", "v_proj"]]}, as in the recipe's [sweep]. `seeds` runs
    are made of each combination, from grpo.seed on; task.seed and lora.random_state follow where they were equal to it.
    `out` is the folder for the runs, by default runs/<date>-<recipe>-sweep. `resume` is a folder that `sweep` made: its
    runs keep their recipes, and finished ones are skipped. Python functions among the rewards are given again, as
    `rewards=[my_reward]`. `by` says what the best is chosen by: "after", the mean held-out accuracy after training, or
    "probe", the last probe of evaluation.every, which is of other problems. Of equal ones that with fewer completions
    is the best. With `dry_run` the list of runs is printed on stderr, and None is returned: nothing is trained or
    written. `trust_code` lets other people's code run that a file names.

    A run that a tripwire ended is never the best, and is not trained again. A SIGINT or SIGTERM stops the present run
    and all later ones, and the result is returned as it is. Raises SettingError for what cannot work in any of the
    runs, before the first one begins. A SettingError in one run is raised after the others have run.
    """
    prepared = prepare_sweep(
        recipe, seeds=seeds, out=out, resume=resume, by=by, trust_code=trust_code, overrides=overrides
    )
    if dry_run:
        info(f"{prepared.about()}\n{prepared.text()}\nDry run: nothing was trained or written.", even_quiet=True)
        return None
    result = prepared.run()
    if result.error is not None:
        raise result.error
    return result


def prepare_sweep(
    recipe: str | Path | None,
    *,
    seeds: int,
    out: str | Path | None,
    resume: str | Path | None,
    by: str | None,
    trust_code: bool,
    overrides: Mapping[str, Any],
) -> PreparedSweep:
    """Check all runs of a sweep, and return it. The arguments are those of `sweep`; nothing is written.

    Raises SettingError for what cannot work in any of the runs.
    """
    need_one_process("the runs of a sweep are trained by one process")
    if by is not None and by not in CHOICES:
        raise SettingError("is no way to choose", setting="--by", value=by, remedy=one_of(by, CHOICES))
    check_import_order()
    functions = given_rewards(overrides.get("rewards", {})).functions
    if resume is not None:
        given = {"RECIPE": recipe, "--seeds": seeds != 1, "--out": out, **without_functions(overrides)}
        refuse_with_resume(resume, given)
        return _resumed(Path(resume), by, trust_code, functions)
    variants = sweep_variants(recipe or DEFAULT_PRESET, overrides, seeds)
    for one in variants.values():
        one.recipe.need_functions()
    check_trust_of_all([one.recipe for one in variants.values()], trust_code)
    path = Path(out) if out else _free_folder(variants)
    check_free(path)
    check_each(variants, by or "after")
    hours = {name: hours_of(one) for name, one in variants.items()}
    return PreparedSweep(path, by or "after", variants, hours, frozenset(), False, functions, trust_code)


def _resumed(folder: Path, by: str | None, trust_code: bool, functions: Mapping[str, Reward]) -> PreparedSweep:
    """Return the sweep in a folder, of which nothing that is over is checked again."""
    found = read_sweep(folder, by)
    check_trust_of_all([run.recipe for run in found.runs], trust_code)
    variants, done = {}, set()
    for one in found.combinations:
        for run in one.runs:
            functions_of(run, functions)
            recipe = run.recipe
            variants[run.path.name] = Variant(recipe, one.settings, recipe.grpo["seed"])
            if is_over(run):
                done.add(run.path.name)
    if by == "probe":
        check_each(variants, by)
    hours = {name: None if name in done else hours_of(one) for name, one in variants.items()}
    return PreparedSweep(folder, found.by, variants, hours, frozenset(done), True, functions, trust_code)


def _free_folder(variants: Mapping[str, Variant]) -> Path:
    """Return runs/<date>-<recipe>-sweep, with a number behind it if that folder exists. Nothing is made."""
    recipe = next(iter(variants.values())).recipe
    return free_path(recipe.model_copy(update={"name": f"{recipe.name}-sweep"}))
