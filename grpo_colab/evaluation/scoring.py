"""`score`: a file of completions goes in, what each reward pays for them comes out. No model, no torch.

A row has a `completion` (a text, or a conversation as TRL logs it) and whatever columns the rewards ask for: the lines
of a run's completions.jsonl, TRL's own completions tables (.parquet), or rows of `prompt`, `completion` and `answer`.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError, shown
from grpo_colab.rewards import RewardError, call_reward, resolve_reward, reward_name
from grpo_colab.tasks.jsonl_rows import names, read_jsonl
from grpo_colab.text import on_one_line
from grpo_colab.utils.files import check_name, is_folder, lines, open_to_read, write_out

# Columns of a row that TRL passes under another name, or has a use of its own for, or that say how it was paid before.
NOT_COLUMNS = frozenset({"prompt", "completion", "completion_ids", "rewards", "scores", "extra"}) | frozenset(
    ("prompts", "completions", "trainer_state", "log_extra", "log_metric")
)
MOST_COLUMNS = 1000  # of all rows together: a reward gets each of a step's for every row of the step
MOST_EMPTY = 10_000_000  # values of a step that are missing
Row = dict[str, Any]
Logged = dict[str, list[tuple[float, int]]]  # by metric: each batch's value, and its size


@dataclass(frozen=True)
class Scores:
    """What `score` found: the rows and, by reward, what each row was paid and the means of what the reward logged."""

    source: Path
    where: list[str]
    rows: list[Row]
    paid: dict[str, list[float | None]]
    logged: dict[str, dict[str, float]]

    def write(self, out: str | Path) -> None:
        """Every row with its `scores` by reward, one JSON object a line."""
        check_out(out)
        scored = [
            row | {"scores": {name: values[index] for name, values in self.paid.items()}}
            for index, row in enumerate(self.rows)
        ]
        try:
            write_out(out, lines(scored))
        except OSError as error:
            raise SettingError(
                f"cannot be written ({error.strerror})",
                setting="--out",
                value=str(out),
                remedy="choose another file",
            ) from None

    def disagreements(self) -> Iterator[tuple[str, str, list[int], list[int]]]:
        """Of every two rewards that can pay: the rows that only the first pays, and those that only the second does.

        A reward pays a row where it gives more than 0, so one that only ever punishes is left out.
        """
        pays = {n: v for n, v in self.paid.items() if any(value is not None and value > 0 for value in v)}
        for (first, a), (second, b) in itertools.combinations(pays.items(), 2):
            judged = [index for index in range(len(self.rows)) if a[index] is not None and b[index] is not None]
            only_a, only_b = ([i for i in judged if (x[i] or 0) > 0 >= (y[i] or 0)] for x, y in ((a, b), (b, a)))
            if only_a or only_b:
                yield first, second, only_a, only_b

    def text(self) -> str:
        """The table that the command prints."""
        named = {name: on_one_line(name) for name in self.paid}
        width = max(map(len, named.values()))
        lines = [
            f"{on_one_line(self.source)}: {len(self.rows)} completions",
            "",
            f"{'reward':<{width}}{'mean':>9}{'std':>9}{'least':>9}{'most':>9}{'above 0':>9}{'no judgement':>14}",
        ]
        for name, values in zip(named.values(), self.paid.values(), strict=True):
            known = [value for value in values if value is not None]
            if not known:
                lines.append(f"{name:<{width}}{'-':>9}{'-':>9}{'-':>9}{'-':>9}{'-':>9}{len(values):>14}")
                continue
            mean, spread = _mean_and_spread(known)
            above = sum(value > 0 for value in known) / len(known)
            lines.append(
                f"{name:<{width}}{_short(mean):>9}{_short(spread):>9}{min(known):>9.3g}{max(known):>9.3g}{above:>9.1%}"
                f"{len(values) - len(known):>14}"
            )
        for name, metrics in self.logged.items():
            shares = {key.removeprefix("verdict/"): v for key, v in metrics.items() if key.startswith("verdict/") and v}
            if shares:
                reasons = sorted(shares.items(), key=lambda pair: -pair[1])
                told = ", ".join(f"{on_one_line(reason)} {share:.1%}" for reason, share in reasons)
                lines += ["", f"{named[name]}: {told}"]
        for first, second, *only in self.disagreements():
            lines += [
                "",
                f"{named[first]} and {named[second]} disagree on {len(only[0]) + len(only[1])} of {len(self.rows)}:",
            ]
            for name, rows in zip((first, second), only, strict=True):
                if rows:
                    examples = ", ".join(self.where[index].rpartition(":")[2] for index in rows[:5])
                    lines.append(
                        f"  only {named[name]} pays {len(rows)}: {self._unit} {examples}{', ...' * (len(rows) > 5)}"
                    )
        return "\n".join(lines)

    @property
    def _unit(self) -> str:
        return "row" if self.source.suffix == ".parquet" else "line"


def check_out(out: str | Path) -> None:
    """Raise SettingError for a name that no file can have: before the work."""
    check_name("--out", out)


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """The mean and the standard deviation; infinite where the sums are."""
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
    """What `rewards` (names, as a recipe has them) pay for the completions in the file, or run folder, `source`.

    `golds` is a file of problems (`prompt` or `question`, and `answer`) for completions that have none, as in TRL's
    tables: a row gets the answer of the problem that is its prompt, or its prompt's last message. Of GSM8K's answers
    what follows `####` counts. Raises SettingError for a line that does not parse, a column that a reward needs and a
    row lacks, a reward that cannot be imported, and for one that breaks, with the line.
    """
    path = Path(source)
    if inside := is_folder(path):
        path = path / "completions.jsonl"
    functions = _functions(rewards)
    known = _golds(Path(golds)) if golds is not None else {}
    where, rows = [], []
    columns: dict[str, None] = {}
    for place, row in _parquet(path) if path.suffix == ".parquet" else read_jsonl(path, *[open_to_read] * inside):
        columns |= dict.fromkeys(row)
        if len(columns) > MOST_COLUMNS:
            raise SettingError(
                f"with this row the rows have more than {MOST_COLUMNS:,} different columns, and a reward gets each of "
                "them for every row",
                remedy="give the same columns to all rows",
                place=place,
            )
        gold = known.get(_asked(row), row.get(answer_column))
        for column in {"completion", answer_column} - {"answer"}:
            if column not in row:
                raise SettingError(f"no column {column!r}; it has {names(row)}", place=place)
        if not isinstance(row["completion"], str | list):
            raise SettingError(
                f"a completion is a text or a list of messages, not {shown(row['completion'])}", place=place
            )
        where.append(place)
        whole = isinstance(gold, int) and not isinstance(gold, bool)
        rows.append(row if gold is None else row | {"answer": str(gold) if whole else gold})
    if not rows:
        raise SettingError("holds no completion", place=path)
    takes = {name: _check_columns(name, function, where, rows) for name, function in functions.items()}
    paid: dict[str, list[float | None]] = {name: [] for name in functions}
    logged: dict[str, Logged] = {name: defaultdict(list) for name in functions}
    # as in training, a step's completions are one batch: some rewards compare the completions of a prompt
    for _, batch in itertools.groupby(range(len(rows)), key=lambda index: rows[index].get("step")):
        indices = list(batch)
        step = _Step([rows[i] for i in indices], [where[i] for i in indices])
        for name, function in functions.items():
            paid[name] += step.pay(function, takes[name], logged[name])
    means = {
        name: {key: sum(value * n for value, n in parts) / sum(n for _, n in parts) for key, parts in metrics.items()}
        for name, metrics in logged.items()
    }
    return Scores(path, where, rows, paid, means)


def _golds(path: Path) -> dict[str, str]:
    return {
        _asked(row): str(row["answer"]).rpartition("####")[2].strip() for _, row in read_jsonl(path) if "answer" in row
    }


def _asked(row: Row) -> str:
    """The question of a row: its prompt's text, or the last message of it."""
    asked = row.get("prompt", row.get("question"))
    if isinstance(asked, list) and asked and isinstance(asked[-1], dict):
        asked = asked[-1].get("content")
    return str(asked).strip()


def _functions(rewards: Sequence[str]) -> dict[str, Callable[..., Any]]:
    functions: dict[str, Callable[..., Any]] = {}
    for name in rewards:
        try:
            function = resolve_reward(name)
        except SettingError as error:
            raise of_option("--rewards", name, error) from None
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


def of_option(option: str, name: str, error: SettingError) -> SettingError:
    """Return the refusal of a reward as one of an option: of its name, or of a setting in its brackets."""
    return error.at(f"{option} {name}") if error.setting else error.replace(setting=option, value=name)


def _check_columns(
    name: str, function: Callable[..., Any], where: Sequence[str], rows: Sequence[Row]
) -> frozenset[str] | None:
    """The columns that the function takes, None for all; every row must have those that it cannot do without."""
    passed = ("prompts", "completions", "trainer_state", "log_extra", "log_metric")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except ValueError:
        raise SettingError(
            "has no signature that can be read, so it is not a reward",
            setting="--rewards",
            value=name,
            remedy="name a Python function",
        ) from None
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    needed = [p.name for p in parameters if p.default is p.empty and p.kind in named and p.name not in passed]
    for column in needed:
        for place, row in zip(where, rows, strict=True):
            if column not in row:
                raise SettingError(
                    f"no column {column!r}, which {name} needs; it has {names(row)}",
                    remedy="name another with --answer-column, or a file that has it with --golds"
                    if column == "answer"
                    else None,
                    place=place,
                )
    return None if any(p.kind is p.VAR_KEYWORD for p in parameters) else frozenset(p.name for p in parameters)


class _Step:
    """The rows of one step, by column, as every reward gets them."""

    def __init__(self, rows: Sequence[Row], where: Sequence[str]) -> None:
        self.rows, self.where = rows, where
        names = list({name: None for row in rows for name in row if name not in NOT_COLUMNS})
        if (empty := len(rows) * len(names) - sum(map(len, rows))) > MOST_EMPTY:
            raise SettingError(
                f"the {len(rows):,} rows that end here are one step with {len(names):,} columns, of which {empty:,} "
                f"values are missing, more than {MOST_EMPTY:,}",
                remedy="give the same columns to all rows",
                place=where[-1],
            )
        ids = [row.get("completion_ids") for row in rows]
        self.ids = None if None in ids else ids
        self.columns = {name: [row.get(name) for row in rows] for name in names}

    def pay(self, function: Callable[..., Any], takes: frozenset[str] | None, logged: Logged) -> list[float | None]:
        def log_metric(metric: str, value: float) -> None:
            logged[metric].append((value, len(self.rows)))

        try:
            return call_reward(
                function,
                [row.get("prompt", row.get("question")) for row in self.rows],
                [row["completion"] for row in self.rows],
                self.ids,  # type: ignore[arg-type]
                {name: list(values) for name, values in self.columns.items() if takes is None or name in takes},
                log_metric,
            )
        except RewardError as error:
            index = error.record["index"]
            raise SettingError(str(error), place=self.where[0 if index is None else index]) from error


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
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
