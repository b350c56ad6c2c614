"""Judge answers by a function of the user's: task.grader = "my.py:grade"."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from grpo_colab.errors import SettingError, shown
from grpo_colab.rewards.graders.grader import NO_ANSWER, NO_COLUMNS, Grader, Row
from grpo_colab.rewards.grading import Reason, Verdict

# What a grader is called with beside the columns of the row.
_PASSED = ("completion", "response", "answer")


@dataclass(frozen=True, kw_only=True)
class OwnGrader(Grader):
    """Judge by the function `function`, which is named as a reward is: `my.py:grade`, or `package.module.grade`.

    It is called by the names of its parameters, each of which is one of `completion` (the whole text), `response` (the
    text of the one answer), `answer` (the gold answer) and the row's other columns. Where it asks for the `response`, a
    completion without an answer is not passed to it. It returns True or False, or a number from 0 to 1, which the
    rewards pay and of which 1 is right, or None where it cannot judge. The function is imported at the first answer.
    """

    kind: ClassVar[str] = "grader"
    reasons: ClassVar[tuple[Reason, ...]] = ("right", "wrong", *NO_ANSWER, "no_judgement")
    needs_row: ClassVar[bool] = True

    function: str

    def read_gold(self, gold: str, row: Row = NO_COLUMNS) -> str:
        return gold

    def judge(self, response: str, gold: str, row: Row) -> Verdict:
        return self._judged(response, response, gold, row)

    def verdicts(self, completions: Any, golds: Any, rows: Any) -> list[Verdict]:
        found = []
        for completion, gold, row in zip(completions, golds, rows, strict=True):
            block = self.answer_block(completion)
            if isinstance(block, Verdict) and "response" in (_parameters(self.function) or ()):
                found.append(block)
            else:
                found.append(self._judged(completion, block if isinstance(block, str) else "", gold, row))
        return found

    def _judged(self, completion: str, response: str, gold: str, row: Row) -> Verdict:
        """Call the function, and return what it says as a verdict. Raises TypeError for what is no judgement."""
        values: Mapping[str, Any] = {**row, "completion": completion, "response": response, "answer": gold}
        parameters = _parameters(self.function)
        passed = values if parameters is None else {name: values[name] for name in parameters if name in values}
        said = _function(self.function)(**passed)
        if said is None:
            return Verdict("no_judgement")
        if isinstance(said, bool):
            return Verdict("right" if said else "wrong")
        number = float(said) if isinstance(said, int | float) else math.nan
        if not 0 <= number <= 1:
            raise TypeError(f"{self.function} returned {shown(said)}: write True, False, None, or a number from 0 to 1")
        return Verdict("right") if number == 1 else Verdict("wrong", None, number)

    def check(self, columns: Collection[str]) -> None:
        """Import the function; raise SettingError unless it can be called for a data set with these columns."""
        self._need_columns(_function(self.function), columns)

    def check_source(self, columns: Collection[str] | None) -> None:
        """Raise SettingError if the function surely cannot be called, as far as its source text tells.

        Columns that are None are not known yet, and nothing is checked.
        """
        if columns is None:
            return
        from grpo_colab.rewards.names import parse_reward
        from grpo_colab.rewards.static_check import function_in_file

        named = parse_reward(self.function)
        described = function_in_file(named.origin, named.attribute) if named.in_file else None
        if described is not None:
            self._need_columns(described, columns)

    def _need_columns(self, function: Callable[..., Any], columns: Collection[str]) -> None:
        """Raise MissingColumn for a required parameter of the function that nothing fills."""
        from grpo_colab.rewards.resolve import MissingColumn

        known = list(dict.fromkeys((*_PASSED, *sorted(columns))))
        by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        for parameter in inspect.signature(function).parameters.values():
            is_required = parameter.kind in by_name and parameter.default is parameter.empty
            if is_required and parameter.name not in known:
                remedy = f"take what it needs of {', '.join(known)}, as in def grade(response, answer)"
                raise MissingColumn(
                    f"needs {parameter.name!r}", setting="task.grader", value=self.function, remedy=remedy
                )


def is_grader(function: Callable[..., Any]) -> bool:
    """Tell by its signature whether a function judges one completion, as a grader does; a reward judges several."""
    try:
        parameters = inspect.signature(function).parameters
    except (ValueError, TypeError):
        return False
    return "completions" not in parameters and bool({"completion", "response"} & set(parameters))


@lru_cache(maxsize=64)
def _function(name: str) -> Callable[..., Any]:
    """Import the function that a grader names, once in a process; this runs the file or the module."""
    from grpo_colab.rewards.resolve import resolve_reward

    try:
        return resolve_reward(name)
    except SettingError as error:
        raise error.within("task.grader", setting="task.grader", value=name) from None


@lru_cache(maxsize=64)
def _parameters(name: str) -> tuple[str, ...] | None:
    """Return the names of a grader's parameters; None where it takes whatever there is."""
    parameters = inspect.signature(_function(name)).parameters.values()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return tuple(parameter.name for parameter in parameters)
