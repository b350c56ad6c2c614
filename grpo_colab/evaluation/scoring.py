"""Score a file of completions: compute what each reward pays for every one of them. Needs no model and no torch.

A row has a `completion` (a text, or a conversation as TRL logs it) and the columns that the rewards ask for. The file
can be a run's completions.jsonl, one of TRL's completions tables (.parquet), or a .jsonl of `prompt`, `completion` and
`answer`. The rewards themselves are in grpo_colab.rewards, and the evaluation of a policy is in evaluate.py.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, shown
from grpo_colab.evaluation.golds import Golds, check_golds
from grpo_colab.rewards import call_reward, resolve_reward, reward_name
from grpo_colab.rewards.graders import grader_settings
from grpo_colab.rewards.resolve import ALWAYS_PASSED
from grpo_colab.tasks.jsonl_rows import gold_text, names, read_jsonl
from grpo_colab.text import on_one_line
from grpo_colab.utils.files import check_name, is_folder, lines, open_to_read, unwritable_refused, write_out

# The arguments that every reward gets from the trainer, whatever the data set's columns are.
TRAINER_ARGUMENTS = frozenset(ALWAYS_PASSED) - {"completion_ids"}
# A row's own keys that are not passed on as columns: they are passed under another name, or hold earlier scores.
NOT_COLUMNS = TRAINER_ARGUMENTS | {"prompt", "completion", "completion_ids", "rewards", "scores", "extra"}
# All rows of a step get the same columns, with None where a row lacks one. These limits bound what that costs.
MOST_COLUMNS = 1000  # different columns in the whole file
MOST_EMPTY = 10_000_000  # missing values in one step
Row = dict[str, Any]
Logged = dict[str, list[tuple[float, int]]]  # metric -> the value and the number of completions of each batch


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

    def text(self) -> str:
        """Return the table that the command prints, with the verdicts and the disagreements below it."""
        names = {name: on_one_line(name) for name in self.paid}
        lines = [f"{on_one_line(self.source)}: {len(self.rows)} completions", "", *self._table(names)]
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
            mean, deviation = _mean_and_deviation(judged)
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

    def _disagreement_lines(self, names: Mapping[str, str]) -> list[str]:
        unit = "row" if self.source.suffix == ".parquet" else "line"
        lines = []
        for first, second, only_first, only_second in self.disagreements():
            count = len(only_first) + len(only_second)
            lines += ["", f"{names[first]} and {names[second]} disagree on {count} of {len(self.rows)}:"]
            for name, indices in ((first, only_first), (second, only_second)):
                if not indices:
                    continue
                examples = ", ".join(self.where[index].rpartition(":")[2] for index in indices[:5])
                more = ", ..." if len(indices) > 5 else ""
                lines.append(f"  only {names[name]} pays {len(indices)}: {unit} {examples}{more}")
        return lines


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
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
    where the run's task does, as in its training. `answer_column` is the column of the gold answer.
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
        found = _read_parquet(path)
    elif in_run_folder:
        found = read_jsonl(path, open_to_read)  # nobody named this file, so it may be no link and no pipe
    else:
        found = read_jsonl(path)
    where, rows = _checked_rows(found, answer_column, gold_answers)
    if not rows:
        raise SettingError("holds no completion", place=path)

    columns = {name: _columns_taken(name, function, where, rows) for name, function in functions.items()}
    for name, function in functions.items():
        check_golds(name, function, where, rows)
    paid: dict[str, list[float | None]] = {name: [] for name in functions}
    logged: dict[str, Logged] = {name: defaultdict(list) for name in functions}
    # as in training, a step's completions are one batch: some rewards compare the completions of a prompt
    for _, indices in itertools.groupby(range(len(rows)), key=lambda index: rows[index].get("step")):
        in_step = list(indices)
        batch = _Batch([rows[index] for index in in_step], [where[index] for index in in_step])
        for name, function in functions.items():
            paid[name] += batch.pay(function, columns[name], logged[name])
    return Scores(path, where, rows, paid, {name: _weighted_means(metrics) for name, metrics in logged.items()})


def _checked_rows(
    found: Iterable[tuple[str, Row]], answer_column: str, gold_answers: Golds | None
) -> tuple[list[str], list[Row]]:
    """Return the places and the rows, each row's gold answer in its column `answer`.

    A gold answer of `gold_answers` precedes the row's own. A whole number becomes a text. A row with neither stays as
    it is. Raises SettingError for more than MOST_COLUMNS columns in all rows, and for what `_check_row` refuses.
    """
    where, rows = [], []
    columns: set[str] = set()
    for place, row in found:
        columns.update(row)
        if len(columns) > MOST_COLUMNS:
            raise SettingError(
                f"with this row the rows have more than {MOST_COLUMNS:,} different columns, and a reward gets each of "
                "them for every row",
                remedy="give the same columns to all rows",
                place=place,
            )
        _check_row(row, place, answer_column)
        gold = gold_answers.find(row, place) if gold_answers is not None else None
        if gold is None:
            gold = gold_text(row.get(answer_column))
        where.append(place)
        rows.append(row if gold is None else row | {"answer": gold})
    return where, rows


def _check_row(row: Row, place: str, answer_column: str) -> None:
    """Raise SettingError for a row without a completion, or without the answer column that the user named."""
    # the default column may be missing: not every reward needs an answer
    required = ["completion"] if answer_column == "answer" else ["completion", answer_column]
    for column in required:
        if column not in row:
            raise SettingError(f"no column {column!r}; it has {names(row)}", place=place)
    if not isinstance(row["completion"], str | list):
        raise SettingError(f"a completion is a text or a list of messages, not {shown(row['completion'])}", place=place)


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


def _columns_taken(
    name: str, function: Callable[..., Any], where: Sequence[str], rows: Sequence[Row]
) -> frozenset[str] | None:
    """Return the columns that a reward takes, or None when it takes all, by **kwargs.

    The columns include those arguments that the trainer passes to every reward. Raises SettingError when a row lacks a
    column that the reward's signature requires, and when the signature cannot be read.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        raise SettingError(
            "has no signature that can be read, so it is not a reward",
            setting="--rewards",
            value=name,
            remedy="name a Python function",
        ) from None
    for parameter in parameters:
        is_keyword = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        is_required = is_keyword and parameter.default is parameter.empty
        if is_required and parameter.name not in TRAINER_ARGUMENTS:
            _check_column(parameter.name, name, where, rows)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return frozenset(parameter.name for parameter in parameters)


def _check_column(column: str, reward: str, where: Sequence[str], rows: Sequence[Row]) -> None:
    """Raise SettingError at the first row that lacks a column that the reward requires."""
    remedy = "name another with --answer-column, or a file that has it with --golds" if column == "answer" else None
    for place, row in zip(where, rows, strict=True):
        if column not in row:
            raise SettingError(
                f"no column {column!r}, which {reward} needs; it has {names(row)}", remedy=remedy, place=place
            )


class _Batch:
    """Hold the rows of one step by column, which is how a reward gets them.

    A column that a row lacks is None there. Raises SettingError where more than MOST_EMPTY values are missing.
    """

    def __init__(self, rows: Sequence[Row], where: Sequence[str]) -> None:
        self.rows, self.where = rows, where
        # a dict, unlike a set, keeps the order of the columns
        names = list({name: None for row in rows for name in row if name not in NOT_COLUMNS})
        empty = len(rows) * len(names) - sum(map(len, rows))
        if empty > MOST_EMPTY:
            raise SettingError(
                f"the {len(rows):,} rows that end here are one step with {len(names):,} columns, of which {empty:,} "
                f"values are missing, more than {MOST_EMPTY:,}",
                remedy="give the same columns to all rows",
                place=where[-1],
            )
        self.columns = {name: [row.get(name) for row in rows] for name in names}
        self.prompts = [row.get("prompt", row.get("question")) for row in rows]
        self.completions = [row["completion"] for row in rows]
        token_ids = [row["completion_ids"] for row in rows if row.get("completion_ids") is not None]
        self.token_ids = token_ids if len(token_ids) == len(rows) else None

    def pay(self, function: Callable[..., Any], taken: frozenset[str] | None, logged: Logged) -> list[float | None]:
        """Return what a reward pays for each row, None where it gives no judgement, and add its metrics to `logged`.

        `taken` are the columns that it gets, None for all. Raises RewardError, which names the row, if it breaks.
        """

        def log_metric(metric: str, value: float) -> None:
            logged[metric].append((value, len(self.rows)))

        # copies, so that a reward that changes its arguments does not change the next reward's
        columns = {name: list(values) for name, values in self.columns.items() if taken is None or name in taken}
        return call_reward(
            function,
            list(self.prompts),
            list(self.completions),
            self.token_ids,
            columns,
            log_metric,
            places=self.where,
        )


def _read_parquet(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield (`file:row`, row) for every row of a Parquet table, counted from 1.

    The whole table is read at once. Raises SettingError where pyarrow is not installed, or the file cannot be read.
    """
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise SettingError(
            "reading .parquet needs pyarrow", remedy="run `pip install pyarrow`, or give a .jsonl", place=path
        ) from None
    try:
        table = parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise SettingError(f"cannot be read ({error})", place=path) from None
    for number, row in enumerate(table.to_pylist(), 1):
        yield f"{path}:{number}", row
