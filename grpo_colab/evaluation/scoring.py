"""Score a file of completions: compute what each reward pays for every one of them. Needs no model and no torch.

A row has a `completion` (a text, or a conversation as TRL logs it) and the columns that the rewards ask for. The file
can be a run's completions.jsonl, one of TRL's completions tables (.parquet), or a .jsonl of `prompt`, `completion` and
`answer`. The rewards themselves are in grpo_colab.rewards, and the evaluation of a policy is in evaluate.py.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.evaluation.golds import Golds, check_golds
from grpo_colab.evaluation.score_rows import Batch, Logged, Row, checked_rows, columns_taken, read_parquet
from grpo_colab.recipe.trust import check_trust_of_rewards
from grpo_colab.rewards import resolve_reward, reward_name
from grpo_colab.rewards.graders import grader_settings
from grpo_colab.rewards.names import parse_reward
from grpo_colab.rewards.static_check import need_function
from grpo_colab.runs.records import given_columns, with_reward_keys
from grpo_colab.tasks.jsonl_rows import read_jsonl
from grpo_colab.text import on_one_line
from grpo_colab.utils.console import info
from grpo_colab.utils.files import check_name, is_folder, lines, open_to_read, unwritable_refused, write_out

DEFAULT = ("correctness", "strict_format")  # the rewards for a file that is no run's


@dataclass(frozen=True)
class Scores:
    """Hold the result of `score`.

    `source` is the file, and `where[i]` the place of row i in it, as file:line. `paid` has a list per reward: what it
    paid for each row, None where it gave no judgement. `logged` has the means of each reward's own metrics.
    """

    source: Path
    where: list[str]
    rows: list[Row]
    paid: dict[str, list[float | None]]
    logged: dict[str, dict[str, float]]

    def write(self, out: str | Path) -> None:
        """Write every row with its `scores` by reward, one JSON object per line, in place of a file that is there.

        Raises SettingError if `out` cannot be written.
        """
        check_name("--out", out)
        scored = []
        for index, row in enumerate(self.rows):
            scored.append(row | {"scores": {name: values[index] for name, values in self.paid.items()}})
        with unwritable_refused("--out", out, "choose another file"):
            write_out(out, lines(scored))

    def disagreements(self) -> Iterator[tuple[str, str, list[int], list[int]]]:
        """Yield (first, second, only_first, only_second) for every two rewards that disagree.

        The lists are the indices of the rows that only one of the two pays, among the rows that both judged. A reward
        pays a row where it gives more than 0, so a reward that only ever punishes is left out.
        """
        paying = []
        for name, values in self.paid.items():
            if any(value is not None and value > 0 for value in values):
                paying.append(name)
        for first, second in itertools.combinations(paying, 2):
            only_first, only_second = [], []
            for index, (a, b) in enumerate(zip(self.paid[first], self.paid[second], strict=True)):
                if a is None or b is None:
                    continue
                if a > 0 >= b:
                    only_first.append(index)
                elif b > 0 >= a:
                    only_second.append(index)
            if only_first or only_second:
                yield first, second, only_first, only_second

    def otherwise_than_in_run(self) -> dict[str, list[int]]:
        """Return the indices of the rows that a reward pays otherwise than the run has it, for each reward of the run.

        Rewards are compared to single precision, in which the trainer keeps them.
        """
        found: dict[str, list[int]] = {}
        for index, row in enumerate(self.rows):
            if given_columns(row) is None:
                continue
            for name, then in with_reward_keys(row)["rewards"].items():
                if name not in self.paid:
                    continue
                now = self.paid[name][index]
                is_same = (
                    now is then if now is None or then is None else math.isclose(now, then, rel_tol=1e-5, abs_tol=1e-6)
                )
                found.setdefault(name, []).extend([] if is_same else [index])
        return found

    def text(self) -> str:
        """Return the table that the command prints, with the verdicts and the disagreements below it."""
        names = {name: on_one_line(name) for name in self.paid}
        lines = [f"{on_one_line(self.source)}: {len(self.rows)} completions", "", *self._table(names)]
        lines += self._run_lines(names)
        lines += self._verdicts(names)
        lines += self._disagreement_lines(names)
        return "\n".join(lines)

    def _table(self, names: Mapping[str, str]) -> list[str]:
        width = max(map(len, names.values()))
        lines = [f"{'reward':<{width}}{'mean':>9}{'std':>9}{'least':>9}{'most':>9}{'above 0':>9}{'no judgement':>14}"]
        for name, values in self.paid.items():
            judged = [value for value in values if value is not None]
            if not judged:
                lines.append(f"{names[name]:<{width}}{'-':>9}{'-':>9}{'-':>9}{'-':>9}{'-':>9}{len(values):>14}")
                continue
            mean, deviation = mean_and_deviation(judged)
            above = sum(value > 0 for value in judged) / len(judged)
            lines.append(
                f"{names[name]:<{width}}{_short(mean):>9}{_short(deviation):>9}{min(judged):>9.3g}{max(judged):>9.3g}"
                f"{above:>9.1%}{len(values) - len(judged):>14}"
            )
        return lines

    def _verdicts(self, names: Mapping[str, str]) -> list[str]:
        """Return a line per reward that logged its verdicts, with an empty line before it.

        It has the share of each verdict, the most frequent first. The list is empty where no reward logged any.
        """
        lines = []
        for name, metrics in self.logged.items():
            shares = {}
            for metric, share in metrics.items():
                if metric.startswith("verdict/") and share:
                    shares[metric.removeprefix("verdict/")] = share
            if shares:
                ordered = sorted(shares.items(), key=lambda pair: -pair[1])
                verdicts = ", ".join(f"{on_one_line(verdict)} {share:.1%}" for verdict, share in ordered)
                lines += ["", f"{names[name]}: {verdicts}"]
        return lines

    def _run_lines(self, names: Mapping[str, str]) -> list[str]:
        """Return a line on what the rewards paid when the run was trained, with an empty line before it, or nothing."""
        otherwise = self.otherwise_than_in_run()
        same = [names[name] for name, indices in otherwise.items() if not indices]
        lines = ["", f"As the run itself was paid: {', '.join(same)}"] if same else []
        for name, indices in otherwise.items():
            if indices:
                examples = self._examples(indices)
                lines += [
                    "",
                    f"{names[name]} paid otherwise in the run on {len(indices)} of {len(self.rows)}: {examples}",
                ]
        return lines

    def _examples(self, indices: Sequence[int]) -> str:
        """Return the first five of these rows, by their lines: `line 2, 5`."""
        unit = "row" if self.source.suffix == ".parquet" else "line"
        examples = ", ".join(self.where[index].rpartition(":")[2] for index in indices[:5])
        return f"{unit} {examples}{', ...' if len(indices) > 5 else ''}"

    def _disagreement_lines(self, names: Mapping[str, str]) -> list[str]:
        lines = []
        for first, second, only_first, only_second in self.disagreements():
            count = len(only_first) + len(only_second)
            lines += ["", f"{names[first]} and {names[second]} disagree on {count} of {len(self.rows)}:"]
            for name, indices in ((first, only_first), (second, only_second)):
                if indices:
                    lines.append(f"  only {names[name]} pays {len(indices)}: {self._examples(indices)}")
        return lines


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation of all values, which divides by their number.

    Where the sums overflow the deviation is infinite, and so may be the mean. Raises ZeroDivisionError for no values.
    """
    try:
        mean = math.fsum(values) / len(values)
        return mean, math.sqrt(math.fsum((value - mean) * (value - mean) for value in values) / len(values))
    except OverflowError:
        return sum(values) / len(values), math.inf


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 1e5 else f"{value:.3g}"


def score(
    source: str | Path, rewards: Sequence[str], answer_column: str = "answer", golds: str | Path | None = None
) -> Scores:
    """Return what the rewards pay for the completions in a file or a run folder, `source`.

    `rewards` are names, as in a recipe; they are imported and run. Those of a run folder's completions look for answers
    where the run's task does, as in its training. Of a run's own rows, a reward gets the columns that the run's rewards
    were given, as far as completions.jsonl keeps them. `answer_column` is the column of the gold answer.
    `golds` is a file of problems (`prompt` or `question`, and `answer`) for completions without an answer, as in TRL's
    tables: a row gets the answer of the problem whose text is the row's prompt, or its prompt's last message. Nothing
    is printed or written.

    Raises SettingError, with the line where there is one: for a file that cannot be read or holds no completion, a line
    that does not parse, a row that lacks a column that a reward needs, a gold answer that a reward cannot read, a
    reward that cannot be imported, and a reward that breaks.
    """
    path = Path(source)
    in_run_folder = is_folder(path)
    if in_run_folder:
        path = path / "completions.jsonl"
    functions = _reward_functions(rewards, _grading_of(Path(source)) if in_run_folder else {})
    gold_answers = Golds(Path(golds)) if golds is not None else None
    if path.suffix == ".parquet":
        found = read_parquet(path)
    elif in_run_folder:
        found = read_jsonl(path, open_to_read)  # nobody named this file, so it may be no link and no pipe
    else:
        found = read_jsonl(path)
    where, rows = checked_rows(found, answer_column, gold_answers)
    if not rows:
        raise SettingError("holds no completion", place=path)

    columns = {name: columns_taken(name, function, where, rows) for name, function in functions.items()}
    for name, function in functions.items():
        check_golds(name, function, where, rows)
    paid: dict[str, list[float | None]] = {name: [] for name in functions}
    logged: dict[str, Logged] = {name: defaultdict(list) for name in functions}
    # as in training, a step's completions are one batch: some rewards compare the completions of a prompt
    for _, indices in itertools.groupby(range(len(rows)), key=lambda index: rows[index].get("step")):
        in_step = list(indices)
        batch = Batch([rows[index] for index in in_step], [where[index] for index in in_step])
        for name, function in functions.items():
            paid[name] += batch.pay(function, columns[name], logged[name])
    return Scores(path, where, rows, paid, {name: _weighted_means(metrics) for name, metrics in logged.items()})


def default_rewards(source: str | Path, trust_code: bool = False) -> list[str]:
    """Return the names of the rewards that `source` is scored with where nobody names any.

    For a run folder they are those of its recipe, and DEFAULT where it has no recipe and for any other file. Nothing is
    imported. Raises SettingError for a run folder whose recipe cannot be read, and where a recipe that the user has not
    trusted names code that is not this package's, unless `trust_code` is true.
    """
    from grpo_colab.runs.run import Run

    folder = Path(source)
    if not is_folder(folder) or not (folder / "recipe.toml").exists():
        return list(DEFAULT)
    run = Run(folder)
    names = [name for name, weight in run.table("rewards").items() if weight is not False]
    remedy = "name the rewards, such as --rewards correctness"
    if not names:
        raise run.error("its recipe names no reward that can be read", remedy)
    given = [name for name in names if parse_reward(name).given]
    for name in given:
        info(f"{name} is left out: it is a Python function, which no file keeps.")
    names = [name for name in names if name not in given]
    if not names:
        raise run.error("all its rewards are Python functions, which no file keeps", remedy)
    check_trust_of_rewards(names, f"run {str(folder)!r}", trust_code)
    return names


def _weighted_means(logged: Logged) -> dict[str, float]:
    """Return each metric's mean over the batches that logged it, weighted by their numbers of completions."""
    means = {}
    for metric, batches in logged.items():
        total = sum(value * size for value, size in batches)
        means[metric] = total / sum(size for _, size in batches)
    return means


def _grading_of(folder: Path) -> dict[str, Any]:
    """Return the settings of a run's task that rewards take, too; none where its recipe has none or cannot be read."""
    from grpo_colab.runs.run import Run

    with contextlib.suppress(SettingError):
        return grader_settings(Run(folder).table("task"))
    return {}


def _reward_functions(rewards: Sequence[str], grading: Mapping[str, str]) -> dict[str, Callable[..., Any]]:
    """Import the rewards, which runs the files and modules that they name, and return the functions by their names.

    `grading` has settings of the task: see `resolve_reward`.
    Raises SettingError for a reward that cannot be imported, for none, and for two of one name.
    """
    functions: dict[str, Callable[..., Any]] = {}
    for name in rewards:
        try:
            need_function(name, "grpo-colab score FILE --rewards")
            function = resolve_reward(name, grading)
        except SettingError as error:
            raise as_option_error("--rewards", name, error) from None
        if reward_name(function) in functions:
            raise SettingError(
                "is the name of two rewards", setting="--rewards", value=name, remedy="rename one of them"
            )
        functions[reward_name(function)] = function
    if not functions:
        raise SettingError(
            "names no reward", setting="--rewards", remedy="write, for example, --rewards correctness,strict_format"
        )
    return functions


def as_option_error(option: str, name: str, error: SettingError) -> SettingError:
    """Return the refusal of the reward `name` as the refusal of a command-line option.

    An error about a setting in the reward's brackets keeps that setting, and the option becomes its place.
    """
    return error.within(f"{option} {name}", setting=option, value=name)
