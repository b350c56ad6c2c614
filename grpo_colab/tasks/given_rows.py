"""Turn a data set that a Python program holds into JSON lines, which a run keeps in its folder.

`train(recipe, dataset=...)` takes a `datasets.Dataset`, a DatasetDict or another mapping of splits, a table of pandas,
polars or pyarrow, and a list of dicts or of `Problem`s. None of these libraries is imported here.
"""

from __future__ import annotations

import datetime
import decimal
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.errors import shown as shown_value
from grpo_colab.tasks import Problem
from grpo_colab.tasks.jsonl_rows import Row
from grpo_colab.tasks.sources import WHOLE, choose_splits, place_of, rows_of_dataset

# How a table gives its rows as dicts: pandas, polars, pyarrow, and datasets, which is asked row by row.
METHODS: Final = {"to_dicts": {}, "to_pylist": {}, "to_dict": {"orient": "records"}}
TAKEN: Final = "a datasets.Dataset, a DatasetDict, a DataFrame, or a list of dicts or Problems"


def json_lines_of(dataset: Any) -> dict[str, str]:
    """Return the JSON lines of a data set by the names of their files, the rows to train on first.

    The name of a file has a hash of its content: other rows are another file. There are two files where the data set
    has held-out rows, as a split of a usual name. Raises SettingError for what is no data set, for an empty one, and
    for a value that JSON cannot hold.
    """
    if isinstance(dataset, Mapping):
        names = choose_splits(map(str, dataset), {"setting": "dataset"})
        splits = {str(name): rows for name, rows in dataset.items()}
        chosen = {"train": splits[names[0]]} | ({"test": splits[names[1]]} if names[1] is not None else {})
    else:
        chosen = {WHOLE: dataset}
    found = {}
    for split, rows in chosen.items():
        lines = [_line(row, place_of(split, number)) for number, row in enumerate(_rows(rows), 1)]
        if not lines:
            raise SettingError(
                f"has no rows to {'hold out' if split == 'test' else 'train on'}", setting="dataset", remedy="give some"
            )
        text = "".join(lines)
        found[f"{split}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.jsonl"] = text
    return found


def _rows(rows: Any) -> Iterable[Any]:
    """Return the rows of one split; raise SettingError for what has no rows, or none that can be counted."""
    for method, options in METHODS.items():
        if hasattr(rows, method) and hasattr(rows, "columns"):
            return getattr(rows, method)(**options)
    if hasattr(rows, "features") and hasattr(rows, "__getitem__"):
        return rows_of_dataset(rows)
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        return rows
    remedy = f"give {TAKEN}"
    if hasattr(rows, "__iter__"):
        remedy = f"{remedy}; an iterator, or a data set that is streamed, becomes a list by list(...)"
    raise SettingError(f"is of the type {type(rows).__name__}", setting="dataset", remedy=remedy)


def _line(row: Any, place: str) -> str:
    """Return a row as a line of JSON; raise SettingError, with its place, for one that is none."""
    if isinstance(row, Problem):
        row = _row_of_problem(row)
    if not isinstance(row, Mapping):
        problem = f"a row must be a dict or a Problem, not {type(row).__name__}: {shown_value(row)}"
        raise SettingError(problem, remedy=f"give {TAKEN}", place=place)
    plain = {}
    for name, value in row.items():
        try:
            plain[str(name)] = _plain(value)
        except TypeError as error:
            problem = f"column {str(name)!r}: holds a value that no file of JSON can hold, of the type {error}"
            raise SettingError(
                problem, remedy="make it a text or a number, or leave the column out", place=place
            ) from None
    # Half a surrogate pair stays an escape, as JSON reads it; the row is refused where it is read.
    return json.dumps(plain, ensure_ascii=False).encode(errors="backslashreplace").decode() + "\n"


def _row_of_problem(problem: Problem) -> Row:
    """Return a problem as a row with the columns `prompt` and `answer`, where the steps come before `####`."""
    answer = "\n".join([*problem.steps, f"#### {problem.answer}"]) if problem.steps else problem.answer
    prompt = list(problem.messages) if problem.messages else problem.question
    return {"prompt": prompt, "answer": answer, **problem.columns}


def _plain(value: Any) -> Any:
    """Return a value in JSON's types: arrays become lists, dates texts, and missing values of pandas null.

    Raises TypeError, with the name of the type, for any other.
    """
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # an array or a number of numpy
        return _plain(value.tolist())
    return _plain_scalar(value)


def _plain_scalar(value: Any) -> Any:
    """Return a single value as JSON has it; TypeError for one that it has not."""
    missing = type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value))
    if value is None or missing:
        return None
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise TypeError(type(value).__name__)
