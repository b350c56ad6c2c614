"""Measure how hard a recipe's training problems are for its model before it learns: `grpo-colab difficulty RECIPE`.

A few completions of each problem are sampled, as training samples them. A problem of which all are right, or none is,
would make a group that teaches nothing. The answers are counted in a file, from which a measurement that was stopped
goes on, and which a run can begin from: `sampling.prior`.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.evaluation.evaluate import fitting_problems
from grpo_colab.evaluation.loading import show_import, show_loading
from grpo_colab.recipe.recipe import Recipe
from grpo_colab.recipe.trust import check_trust
from grpo_colab.runs.records import count
from grpo_colab.tasks import Problem, Task
from grpo_colab.tasks.kinds import kinds_of
from grpo_colab.tasks.own_tasks import problems_of
from grpo_colab.text import counted
from grpo_colab.utils.console import info
from grpo_colab.utils.files import expanded, read_objects, unwritable_refused
from grpo_colab.utils.stage import stage

if TYPE_CHECKING:
    from grpo_colab.policy.policy import Policy

PROBLEMS, SAMPLES = 200, 8
BAR: Final = 40  # characters of the longest bar


@dataclass(frozen=True)
class Difficulty:
    """How often the completions of each problem were right.

    `about` says what was asked: the task, the model and how it was sampled. `rows` have a problem's `question`, its
    `kind`, and how many of its `samples` were `right`, `lenient_right` (None where answers can be judged in one way
    only) and `cut_off` at the longest length.
    """

    about: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def useful(self) -> float:
        """Return the share of problems of which some completions were right and others were not."""
        return sum(0 < row["right"] < row["samples"] for row in self.rows) / len(self.rows)

    @property
    def right(self) -> float:
        """Return the share of all completions that were right."""
        return sum(row["right"] for row in self.rows) / sum(row["samples"] for row in self.rows)

    def histogram(self) -> dict[int, int]:
        """Return how many problems had 0, 1, 2, ... right completions."""
        found = Counter(row["right"] for row in self.rows)
        return {right: found[right] for right in range(self.about["samples"] + 1)}

    def by_kind(self) -> dict[str, tuple[int, float, float]]:
        """Return for each kind how many problems it has, the share that was right, and the share of useful ones."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            groups.setdefault(row["kind"], []).append(row)
        found = {kind: Difficulty(self.about, rows) for kind, rows in groups.items()}
        order = sorted(found, key=lambda kind: (len(kind.split()[0]), kind))
        return {kind: (len(found[kind].rows), found[kind].right, found[kind].useful) for kind in order}

    def as_dict(self) -> dict[str, Any]:
        """Return what there is, in JSON's types."""
        kinds = {
            kind: {"problems": problems, "right": right, "useful": useful}
            for kind, (problems, right, useful) in self.by_kind().items()
        }
        shares = {"right": self.right, "useful": self.useful}
        return {**self.about, "problems": len(self.rows), **shares, "histogram": self.histogram(), "kinds": kinds}

    def text(self) -> str:
        """Return what there is for a terminal: a histogram, and a line for each kind of problems."""
        samples = self.about["samples"]
        lines = [
            f"{self.about['model']} on {counted(len(self.rows), 'training problem')}, {samples} completions each: "
            f"{self.right:.1%} right",
            "",
            "right    problems",
        ]
        histogram = self.histogram()
        most = max(histogram.values())
        for how_many, found in histogram.items():
            bar = "#" * round(BAR * found / most)
            lines.append(f"{how_many:>2} of {samples:<3} {found:>6}  {bar}".rstrip())
        lines += ["", f"{self.useful:.0%} of the groups would teach more than the format: some right, and some not."]
        lines += self._otherwise()
        lines += ["", f"{'':<20}{'problems':>8}{'right':>9}{'useful':>9}"]
        for kind, (problems, right, useful) in self.by_kind().items():
            lines.append(f"{kind:<20}{problems:>8}{right:>9.0%}{useful:>9.0%}")
        return "\n".join(lines)

    def _otherwise(self) -> list[str]:
        """Return sentences on completions that are right in another form, and on those that were cut off."""
        completions = sum(row["samples"] for row in self.rows)
        lenient = [row["lenient_right"] for row in self.rows if row["lenient_right"] is not None]
        found = []
        if lenient:
            found.append(f"{sum(lenient) / completions:.1%} of the completions are right leniently.")
        cut_off = sum(row["cut_off"] for row in self.rows) / completions
        if cut_off:
            longest = self.about["max_completion_length"]
            found.append(f"{cut_off:.0%} were cut off at {longest} tokens (grpo.max_completion_length).")
        return found


def read_difficulty(path: str | Path, setting: str = "sampling.prior") -> Difficulty:
    """Return what `measure_difficulty` wrote to a file. Raises SettingError, for `setting`, for any other file."""
    found = read_objects(expanded(path))
    about = found.rows[0].get("about") if found.rows else None
    if found.error or not isinstance(about, Mapping) or "samples" not in about:
        problem = found.error or "holds no measurement of difficulty"
        raise SettingError(problem, setting=setting, value=str(path), remedy="make one with: grpo-colab difficulty")
    return Difficulty(dict(about), [row for row in found.rows[1:] if _is_whole(row)])


def _is_whole(row: Mapping[str, Any]) -> bool:
    """Tell whether a line has what `_asked` writes: texts, and numbers that are at most its samples."""
    samples, lenient = count(row.get("samples")) or 0, row.get("lenient_right")
    counts = [count(row.get(key)) for key in ("right", "cut_off")]
    if lenient is not None:
        counts.append(count(lenient))
    texts = all(isinstance(row.get(key), str) for key in ("question", "kind"))
    return texts and samples > 0 and all(found is not None and found <= samples for found in counts)


def measure_difficulty(
    recipe: Recipe,
    out: str | Path | None = None,
    problems: int = PROBLEMS,
    samples: int = SAMPLES,
    trust_code: bool = False,
) -> Difficulty:
    """Sample completions of the recipe's first training problems by its model as it is, and return what was right.

    `out` is the file that gets a line per problem as soon as it is known, `difficulty-<recipe>.jsonl` for None. What is
    in it already is not asked again; Ctrl-C loses the last batch at most. Problems whose prompts are too long are left
    out. `trust_code` allows other people's code that the recipe names. Raises SettingError for a file of another
    measurement, for numbers below 1 (2 samples), for code that is not trusted, and for what cannot be loaded.
    """
    from grpo_colab.plan import answers_at_once
    from grpo_colab.utils.device import current_device

    for name, value, least in (("--problems", problems, 1), ("--samples", samples, 2)):
        if value < least:
            raise SettingError("is too small", setting=name, value=value, remedy=f"write {least} or more")
    foreign_code = check_trust(recipe, trust_code)
    if foreign_code:
        info(foreign_code)
    recipe = recipe.completed_by_task()
    task = recipe.load_task()
    path = expanded(out if out is not None else f"difficulty-{recipe.name}.jsonl")
    about = what_is_asked(recipe, samples)
    known = _known(path, about)
    show_import()
    device = current_device()
    policy = show_loading(recipe, device)
    with contextlib.closing(policy):
        most = min(problems, recipe.prompts.limit or problems)  # a run trains on no others
        asked = fitting_problems(policy, recipe, task, problems_of(task, "train", most))
        kinds = kinds_of(asked)
        missing = [index for index, problem in enumerate(asked) if problem.question not in known]
        at_once = max(1, answers_at_once(recipe, policy.model.config, device.free_bytes) // samples)
        title = f"Sampling {samples} completions of {counted(len(missing), 'problem')}"
        with stage(title, ticking=True) as shown, unwritable_refused("--out", path, "choose another file"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                if not path.stat().st_size:
                    file.write(json.dumps({"about": about}) + "\n")
                elif not path.read_bytes().endswith(b"\n"):  # a line that was torn
                    file.write("\n")
                for start in range(0, len(missing), at_once):
                    batch = missing[start : start + at_once]
                    for row in _asked(policy, recipe, task, [(asked[i], kinds[i]) for i in batch], samples):
                        known[row["question"]] = row
                        file.write(json.dumps(row) + "\n")
                    file.flush()
                    shown.update((start + len(batch)) / len(missing))
    return Difficulty(about, [known[problem.question] for problem in asked])


def what_is_asked(recipe: Recipe, samples: int) -> dict[str, Any]:
    """Return what decides a measurement, beside the problems themselves."""
    return {
        "task": recipe.task["name"],
        "model": recipe.model["model_name"],
        "samples": samples,
        "temperature": float(recipe.grpo.get("temperature", 1.0)),
        "top_p": float(recipe.grpo.get("top_p", 1.0)),
        "max_completion_length": recipe.grpo["max_completion_length"],
    }


def _known(path: Path, about: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows that a file has already, by their questions; none where there is no file.

    Raises SettingError for a file that holds something else.
    """
    if not path.exists() or not path.stat().st_size:
        return {}
    found = read_difficulty(path, "--out")
    for key, value in about.items():
        if found.about.get(key) != value:
            raise SettingError(
                f"holds a measurement with {key} = {found.about.get(key)!r}, not {value!r}",
                setting="--out",
                value=str(path),
                remedy="choose another file",
            )
    return {row["question"]: row for row in found.rows}


def _asked(
    policy: Policy, recipe: Recipe, task: Task, problems: Sequence[tuple[Problem, str]], samples: int
) -> Iterator[dict[str, Any]]:
    """Yield a row for each problem and its kind, from completions that are sampled now, all of them together.

    The problems are the seed, so that a measurement that goes on samples what a whole one does.
    """
    import zlib

    from transformers import set_seed

    from grpo_colab.policy.turns import end_tokens

    set_seed(zlib.crc32(f"{recipe.grpo.get('seed', 42)}/{problems[0][0].question}".encode()))
    ends = end_tokens(policy.model, policy.tokenizer)
    prompts = [task.messages(problem) for problem, _ in problems]
    longest = recipe.grpo["max_completion_length"]
    settings = what_is_asked(recipe, samples)
    sampling = {name: settings[name] for name in ("temperature", "top_p")}
    tokens = policy.sample(prompts, samples, longest, batch_size=len(prompts) * samples, **sampling)
    texts = policy.tokenizer.batch_decode(tokens, skip_special_tokens=True)
    for place, (problem, kind) in enumerate(problems):
        mine = range(place * samples, (place + 1) * samples)
        lenient = [task.lenient_right(texts[index], problem) for index in mine]
        yield {
            "source": problem.source,
            "question": problem.question,
            "kind": kind,
            "samples": samples,
            "right": sum(task.grade(texts[index], problem).right for index in mine),
            "lenient_right": None if None in lenient else sum(map(bool, lenient)),
            "cut_off": sum(tokens[index][-1] not in ends for index in mine),
        }
