"""Sum up the runs of a sweep: a row per combination of values, the best one, and the text that `sweep` prints.

Everything is read from the run folders each time, so a resumed sweep has the same table as one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import Any, Final, NamedTuple

from grpo_colab.experiments.results import is_over
from grpo_colab.experiments.variants import AS_IT_IS, short_names, value_text
from grpo_colab.runs.records import step_reward
from grpo_colab.runs.run import Run
from grpo_colab.runs.status import WINDOW, status
from grpo_colab.text import counted, on_one_line
from grpo_colab.utils.files import number

# What the best combination is chosen by -> the key of a row. The probe's problems are not those of the accuracy.
CHOICES: Final = {"after": "after", "probe": "probe_last"}
LONGEST_WHY: Final = 300  # characters of an error under the table


class Combination(NamedTuple):
    """The values of the settings that a sweep tries, by dotted name, and the runs that have them, one per seed."""

    settings: Mapping[str, Any]
    runs: Sequence[Run]


def run_result(run: Run) -> dict[str, Any]:
    """Return the result of one run as JSON types. What its folder does not tell is None.

    `ended` is "finished", "tripwire", "failed", "stopped", "running" or "not begun", and `why` says more about the
    second and the third. Accuracies are those of held-out problems, from 0 to 1, and only of a run that is finished and
    that no tripwire has ever stopped. `reward` is the mean of the last steps, `step_s` the median of a step's seconds.
    """
    metrics, recipe, found = run.metrics(), run.recipe, status(run.path)
    rewards = [reward for row in metrics if (reward := step_reward(row)) is not None]
    probes = [share for row in metrics if (share := number(row.get("probe/accuracy"))) is not None]
    seconds = [second for row in metrics if (second := number(row.get("step_time"))) is not None]
    sampled = [number(row.get("sampling/completions")) or recipe.completions_per_step for row in metrics]
    ended, why = found["state"], None
    if run.tripped:
        record = run.read_json("tripwire.json") or {}
        wire = str(record.get("wire", "")).removeprefix("tripwires.")
        ended, why = "tripwire", " ".join(f"tripwire {wire} at step {record.get('step', '?')}".split())
    elif ended == "failed":
        why = (found["phase"] or {}).get("why")
    elif ended == "unknown":  # the lock cannot be tried
        ended = "finished" if run.finished else "stopped"
    counts = run.evaluation if ended == "finished" else None
    before, after = ((counts or {}).get(side) or {} for side in ("before", "after"))
    return {
        "run": run.path.name,
        "seed": recipe.grpo["seed"],
        "ended": ended,
        "why": why,
        "before": number(before.get("accuracy")),
        "after": number(after.get("accuracy")),
        "ci95": after.get("ci95"),
        "n": (counts or {}).get("n"),
        "probe_best": max(probes, default=None),
        "probe_last": probes[-1] if probes else None,
        "reward": fmean(rewards[-WINDOW:]) if rewards else None,
        "steps": run.last_step,
        "step_s": median(seconds) if seconds else None,
        "completions": round(sum(sampled)),
    }


def table(combinations: Sequence[Combination]) -> list[dict[str, Any]]:
    """Return a row per combination, as JSON types: its settings, the results of its runs, and their means.

    `before`, `after`, `gain`, `probe_best`, `probe_last`, `reward`, `steps`, `step_s` and `completions` are each a
    table of mean, min and max over the seeds, or None where no seed has the number. `finished` tells whether every seed
    is finished and none was stopped by a tripwire: only then can the combination be the best.
    """
    rows = []
    for settings, runs in combinations:
        results = [run_result(run) for run in runs]
        for one in results:
            known = one["before"] is not None and one["after"] is not None
            one["gain"] = one["after"] - one["before"] if known else None
        row: dict[str, Any] = {"settings": dict(settings), "seeds": len(runs)}
        keys = ("before", "after", "gain", "probe_best", "probe_last", "reward", "steps", "step_s", "completions")
        for key in keys:
            values = [one[key] for one in results if one[key] is not None]
            row[key] = {"mean": fmean(values), "min": min(values), "max": max(values)} if values else None
        row["finished"] = all(one["ended"] == "finished" for one in results)
        row["runs"] = results
        rows.append(row)
    return rows


def best_row(rows: Sequence[Mapping[str, Any]], by: str) -> int | None:
    """Return the index of the best row, None where there is none: the highest mean, of equal ones fewer completions.

    `by` is a key of CHOICES. Of rows that are equal in both, the first one is the best.
    """
    key = CHOICES[by]
    eligible = [index for index, row in enumerate(rows) if row["finished"] and row[key] is not None]
    if not eligible:
        return None
    return min(eligible, key=lambda index: (-rows[index][key]["mean"], rows[index]["completions"]["mean"]))


def ended_text(row: Mapping[str, Any]) -> str:
    """Return how the runs of a row have ended, in words."""
    runs = row["runs"]
    if row["finished"]:
        return "finished"
    seeds: dict[str, list[str]] = {}  # how they ended -> those that did
    for one in runs:
        text = one["ended"]
        if text == "tripwire":
            text = on_one_line(one["why"])
        elif text in ("failed", "stopped") and one["steps"]:
            text = f"{text} after step {one['steps']}"
        seeds.setdefault(text, []).append(str(one["seed"]))
    if len(seeds) == 1:
        return next(iter(seeds))
    counts = [f"{len(those)} of {len(runs)} finished" for text, those in seeds.items() if text == "finished"]
    others = [f"seed {', '.join(those)}: {text}" for text, those in seeds.items() if text != "finished"]
    return "; ".join([*counts, *others])


def table_text(rows: Sequence[Mapping[str, Any]], best: int | None) -> str:
    """Return the table of a sweep as lines of text, its header first. The row `best` begins with a star."""
    names = short_names(rows[0]["settings"])
    lines = [["", *(names.values() or [""]), "seeds", "before", "after", "gain"]]
    with_probe = any(row["probe_best"] is not None for row in rows)
    lines[0] += [*(["best probe"] if with_probe else []), "reward", "steps", "s/step", "ended"]
    for index, row in enumerate(rows):
        cells = ["*" if index == best else "", *map(value_text, row["settings"].values())]
        if not row["settings"]:
            cells.append(AS_IT_IS)
        cells += [str(row["seeds"]), _share(row["before"]), _share(row["after"], spread=True)]
        gain = row["gain"]
        cells.append("-" if gain is None else f"{100 * gain['mean']:+.1f}")
        if with_probe:
            cells.append(_share(row["probe_best"]))
        cells += [_number(row["reward"], "{:.3f}"), _number(row["steps"], "{:.0f}"), _number(row["step_s"], "{:.2g}")]
        lines.append([*cells, ended_text(row)])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = []
    for cells in lines:
        padded = [cell.rjust(width) for cell, width in zip(cells[:-1], widths, strict=False)]
        texts.append("  ".join([*padded, cells[-1]]).rstrip())
    return "\n".join(texts)


def notes(rows: Sequence[Mapping[str, Any]], best: int | None, by: str) -> list[str]:
    """Return sentences below the table: the errors of its runs, how good its numbers are, and how the best was chosen.

    A run's error is shortened to one line of LONGEST_WHY characters.
    """
    found = []
    for one in (one for row in rows for one in row["runs"]):
        if one["ended"] == "failed" and one["why"]:
            found.append(f"{one['run']} failed: {on_one_line(one['why'])[:LONGEST_WHY]}")
    if best is None:
        return [*found, "There is no best combination: none has finished with all of its seeds."]
    if not all(row["finished"] or _all_over(row) for row in rows):
        found.append("Not all runs are over: the best is that of now.")
    first = rows[best]["runs"][0]
    if first["ci95"] and first["n"] and first["n"] > 1:
        low, high = first["ci95"]
        found.append(
            f"after: mean over the seeds, with the lowest and the highest. Each run answered "
            f"{counted(first['n'], 'held-out problem')}; the 95 % interval of {first['run']} alone is {low:.1%} to "
            f"{high:.1%}, so smaller differences may be chance."
        )
    equal = sum(row["finished"] and row[CHOICES[by]] == rows[best][CHOICES[by]] for row in rows) - 1
    if equal:
        found.append(f"{counted(equal, 'other is', 'others are')} as good: fewer completions decide, then the order.")
    if by == "probe":
        found.append(
            "The best was chosen by its last probe, whose problems are not those of the accuracy: choosing has not "
            "made that number better than it is."
        )
    else:
        found.append(
            "The best was chosen by the same problems that its accuracy is counted on, so that number is optimistic. "
            "--by probe with --evaluation.every N chooses by other problems."
        )
    return found


def _all_over(row: Mapping[str, Any]) -> bool:
    return all(one["ended"] in ("finished", "tripwire", "failed") for one in row["runs"])


def unfinished(combinations: Sequence[Combination]) -> list[Run]:
    """Return the runs that a resume would go on with."""
    return [run for one in combinations for run in one.runs if not is_over(run)]


def _share(values: Mapping[str, float] | None, spread: bool = False) -> str:
    """Return a mean share in per cent, with the lowest and the highest of several seeds where `spread` asks for it."""
    if values is None:
        return "-"
    text = f"{values['mean']:.1%}"
    if spread and values["min"] != values["max"]:
        text += f" ({100 * values['min']:.1f} to {100 * values['max']:.1f})"
    return text


def _number(values: Mapping[str, float] | None, form: str) -> str:
    return "-" if values is None else form.format(values["mean"])
