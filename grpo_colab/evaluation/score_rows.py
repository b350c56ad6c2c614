"""Read the rows of a file of completions, and give them to rewards as the trainer does, a step at a time."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, shown
from grpo_colab.evaluation.golds import Golds
from grpo_colab.rewards import call_reward
from grpo_colab.rewards.resolve import ALWAYS_PASSED
from grpo_colab.runs.records import given_columns
from grpo_colab.tasks.jsonl_rows import gold_text, names

# The arguments that every reward gets from the trainer, whatever the data set's columns are.
TRAINER_ARGUMENTS = frozenset(ALWAYS_PASSED) - {"completion_ids"}
# A row's own keys that are not passed on as columns: they are passed under another name, or hold earlier scores.
NOT_COLUMNS = TRAINER_ARGUMENTS | {"prompt", "completion", "completion_ids", "rewards", "scores", "extra"}
# All rows of a step get the same columns, with None where a row lacks one. These limits bound what that costs.
MOST_COLUMNS = 1000  # different columns in the whole file
MOST_EMPTY = 10_000_000  # missing values in one step
# Keys of a run's own rows that hold what a reward gets under other names, or what was not to be had.
OF_A_RUN = frozenset({"columns", "left_out"})
Row = dict[str, Any]
Logged = dict[str, list[tuple[float, int]]]  # metric -> the value and the number of completions of each batch


def checked_rows(
    found: Iterable[tuple[str, Row]], answer_column: str, gold_answers: Golds | None
) -> tuple[list[str], list[Row]]:
    """Return the places and the rows, each row's gold answer in its column `answer`.

    A gold answer of `gold_answers` precedes the row's own. A whole number becomes a text. A row with neither stays as
    it is. Raises SettingError for more than MOST_COLUMNS columns in all rows, and for what `_check_row` refuses.
    """
    where, rows = [], []
    columns: set[str] = set()
    for place, row in found:
        columns.update(row, given_columns(row) or {})
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
            gold = gold_text(columns_of(row).get(answer_column, row.get(answer_column)))
        where.append(place)
        rows.append(row if gold is None else row | {"answer": gold})
    return where, rows


def _check_row(row: Row, place: str, answer_column: str) -> None:
    """Raise SettingError for a row without a completion, or without the answer column that the user named."""
    # the default column may be missing: not every reward needs an answer
    required = ["completion"] if answer_column == "answer" else ["completion", answer_column]
    for column in required:
        if column not in row and column not in columns_of(row):
            raise SettingError(f"no column {column!r}; it has {names(row)}", place=place)
    if not isinstance(row["completion"], str | list):
        raise SettingError(f"a completion is a text or a list of messages, not {shown(row['completion'])}", place=place)


def columns_taken(
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
        if column in row or column in columns_of(row):
            continue
        has = names(row if given_columns(row) is None else columns_of(row))
        raise SettingError(
            f"no column {column!r}, which {reward} needs; it has {has}{_why_not_kept(column, row)}",
            remedy=remedy,
            place=place,
        )


def columns_of(row: Row) -> Row:
    """Return what a reward gets of a row as columns.

    A run's own row has those of the data set under one key, so that none is taken for a key of the row.
    """
    given = given_columns(row)
    not_columns = NOT_COLUMNS if given is None else NOT_COLUMNS | OF_A_RUN
    return {key: value for key, value in row.items() if key not in not_columns} | (given or {})


def _why_not_kept(column: str, row: Row) -> str:
    """Return why a run's own row lacks a column, to be put after a problem; an empty text for a row of no run."""
    given = given_columns(row)
    left_out = row.get("left_out")
    if given is None:
        return ""
    if isinstance(left_out, list) and column in left_out:
        return ". The run left it out, since it has no room in a row of completions.jsonl"
    if column == "completion_ids":
        return ". A run keeps the tokens where one of its rewards names them"
    return ". A run keeps the columns that its rewards could read, and one of an earlier release kept none"


class Batch:
    """Hold the rows of one step by column, which is how a reward gets them.

    A column that a row lacks is None there. Raises SettingError where more than MOST_EMPTY values are missing.
    """

    def __init__(self, rows: Sequence[Row], where: Sequence[str]) -> None:
        self.rows, self.where = rows, where
        # a dict, unlike a set, keeps the order of the columns
        given = [columns_of(row) for row in rows]
        names = list({name: None for columns in given for name in columns})
        empty = len(rows) * len(names) - sum(map(len, given))
        if empty > MOST_EMPTY:
            raise SettingError(
                f"the {len(rows):,} rows that end here are one step with {len(names):,} columns, of which {empty:,} "
                f"values are missing, more than {MOST_EMPTY:,}",
                remedy="give the same columns to all rows",
                place=where[-1],
            )
        self.columns = {name: [columns.get(name) for columns in given] for name in names}
        self.prompts = [row.get("prompt", row.get("question")) for row in rows]
        self.completions = [row["completion"] for row in rows]
        token_ids = [_token_ids(row) for row in rows if row.get("completion_ids") is not None]
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


def _token_ids(row: Row) -> Any:
    """Return the tokens of a completion, which a run writes as a text: "12 7 40"."""
    ids = row["completion_ids"]
    if isinstance(ids, str) and all(word.isdecimal() for word in ids.split()):
        return [int(word) for word in ids.split()]
    return ids


def read_parquet(path: Path) -> Iterator[tuple[str, Row]]:
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
