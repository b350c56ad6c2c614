"""Read and write the folder of a sweep: sweep.json with the table, best.toml with the best recipe, and sweep.png."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.experiments.series import made_runs
from grpo_colab.experiments.sweep_results import CHOICES, Combination, best_row, notes, table, table_text
from grpo_colab.experiments.variants import AS_IT_IS, told
from grpo_colab.runs.folders import SWEEP, quote
from grpo_colab.runs.run import Run
from grpo_colab.utils.files import read_json, remove, write_bytes, write_json, write_text

BEST, PICTURE = "best.toml", "sweep.png"
WIDTH: Final = 110  # of the sentences below the table


@dataclasses.dataclass(frozen=True, repr=False)
class SweepResult:
    """A sweep's folder as it is now: its combinations with their runs, the rows of its table, and the best of them.

    `best` is the index of a row, None while no combination has finished with all of its seeds. `by` is the key of
    CHOICES that it was chosen by. `error` is the first error that a run has ended with in this process.
    """

    path: Path
    by: str
    combinations: Sequence[Combination]
    rows: Sequence[Mapping[str, Any]]
    best: int | None
    error: SettingError | None = None

    def __repr__(self) -> str:
        return f"SweepResult({str(self.path)!r})"

    @property
    def runs(self) -> list[Run]:
        """Return all runs, those of a combination after one another."""
        return [run for one in self.combinations for run in one.runs]

    @property
    def best_recipe(self) -> Path | None:
        """Return the file with the best combination's recipe, None where there is no best one."""
        return None if self.best is None else self.path / BEST

    def text(self) -> str:
        """Return the table, what is to be known about its numbers, and how to train the best, as `sweep` prints it."""
        lines = [table_text(self.rows, self.best), ""]
        for note in notes(self.rows, self.best, self.by):
            lines += textwrap.wrap(note, WIDTH, break_long_words=False, break_on_hyphens=False)
        if self.best is not None:
            label = told(self.rows[self.best]["settings"]) or AS_IT_IS
            lines.append(f"* The best: {label}. To train it again: grpo-colab train {quote(self.path / BEST)}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return what `grpo-colab sweep --json` prints, in JSON's types."""
        best = None
        if self.best is not None:
            best = {"settings": dict(self.rows[self.best]["settings"]), "recipe": str(self.path / BEST)}
        found = {
            "sweep": str(self.path),
            "picture": str(self.path / PICTURE),
            "by": self.by,
            "table": list(self.rows),
            "best": best,
        }
        return {**found, "notes": notes(self.rows, self.best, self.by)}


def read_sweep(folder: str | Path, by: str | None = None) -> SweepResult:
    """Return a sweep as its folder has it now. `by` says what the best is chosen by, by default as at its beginning.

    Raises SettingError for a folder that `sweep` has not made, and for a sweep.json that names what is not there.
    """
    folder = Path(folder)
    found = read_json(folder / SWEEP) or {}
    chosen_by = by or found.get("by")
    runs = {run.path.name: run for run in made_runs(folder, SWEEP)}
    combinations = []
    listed = found.get("combinations")
    for one in listed if isinstance(listed, list) else []:
        settings, names = (one.get("settings"), one.get("runs")) if isinstance(one, dict) else (None, None)
        if isinstance(settings, dict) and isinstance(names, list) and names and {*map(str, names)} <= runs.keys():
            combinations.append(Combination(settings, [runs[name] for name in map(str, names)]))
    alike = len({tuple(one.settings) for one in combinations}) == 1
    if not alike or chosen_by not in CHOICES or sum(len(one.runs) for one in combinations) != len(runs):
        raise SettingError(
            f"its {SWEEP} does not say which run has which values",
            setting="--resume",
            value=str(folder),
            remedy="sweep again with another --out",
        )
    rows = table(combinations)
    return SweepResult(folder, chosen_by, combinations, rows, best_row(rows, chosen_by))


def write_result(result: SweepResult, picture: bool = True) -> None:
    """Write a sweep's table to its sweep.json, and the best recipe to best.toml; draw sweep.png unless not `picture`.

    best.toml is removed where there is no best combination. Raises OSError where a file cannot be written.
    """
    kept = read_json(result.path / SWEEP) or {}
    write_json(result.path / SWEEP, {**kept, **result.as_dict()})
    if result.best is None:
        remove(result.path / BEST)
    else:
        run, row = result.combinations[result.best].runs[0], result.rows[result.best]
        recipe = run.recipe
        for file, text in recipe.data_files().items():
            write_text(result.path / file, text)
        after = f", {row['after']['mean']:.1%} of the held-out problems right" if row["after"] else ""
        about = f"the best of a sweep: {told(row['settings']) or AS_IT_IS}{after}"
        write_text(result.path / BEST, recipe.model_copy(update={"description": about}).to_toml())
    if picture:
        from grpo_colab.experiments.sweep_figure import sweep_picture

        write_bytes(result.path / PICTURE, sweep_picture(result.combinations, result.rows, result.best))
