"""Audit a reward function: settle what it is and what its columns hold, and let the judge play against it."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from grpo_colab.errors import SettingError, one_of
from grpo_colab.rewards.audit.answers import KIND_OF, WORDS, Example, declared_kind, declared_locale, hinted_kind
from grpo_colab.rewards.audit.battery import Battery
from grpo_colab.rewards.audit.findings import Audit
from grpo_colab.rewards.audit.judge import Judge
from grpo_colab.rewards.audit.worker import Data, Worker, arguments
from grpo_colab.rewards.golds import gold_readers
from grpo_colab.rewards.graders.own import OwnGrader
from grpo_colab.rewards.grading import gold_number
from grpo_colab.rewards.parametrised import settings_of
from grpo_colab.rewards.resolve import callable_name, check_signature

GOLD_NAMES: Final = ("answer", "solution", "gold", "ground_truth", "target", "label", "reference", "final_answer")
TESTS: Final = "tests"  # the column of a reward for programs


def audit(
    function: Callable[..., Any],
    kind: str | None = None,
    *,
    time_limit_s: float = 1.0,
    answer_column: str | None = None,
    examples: Sequence[Example] = (),
) -> Audit:
    """Play an adversary against a reward function, and return what was found.

    `kind` is what the function judges: answers that are a number, math, text, choice, json or code; or what it does
    with numbers otherwise (correctness, scaled, expression, scaled_expression, exact, first_number); or format,
    answer_format, tag_count or shaping. `answer_column` is the parameter that takes the gold. `examples` are problems
    of the person's own data, of which the cases are then made. The audit detects what is not given: from what the
    function declares, from the golds of the examples, from what it pays, and from its source. A function whose gold is
    `tests` is of the kind code, and is asked about programs.

    The function runs in a forked process, where its output is dropped. What it raises is a finding. A completion that
    takes longer than `time_limit_s` is a finding, and its process is killed. After fifteen completions that hung or
    ended their process the audit leaves out the rest, except for the kind code. A function that TRL cannot call is not
    called, and that is the only finding.

    Raises SettingError for settings that cannot work, for a function without a readable signature if the gold is to be
    detected, and on a system that cannot fork.
    """
    found = Audit(callable_name(function))
    named = [answer_column] if answer_column else gold_columns(function, examples)
    column = named[0] if named else "answer"
    numbers = Battery(column, "number", examples, locale=declared_locale(function))
    kinds = numbers.data["kind"]
    kind = KIND_OF.get(kind or "", kind)
    if kind is not None and kind not in kinds:
        known = one_of(kind, [*KIND_OF, *kinds])
        raise SettingError("is no such kind of reward", setting="kind", value=kind, remedy=known)
    if not 0 < time_limit_s < math.inf:
        remedy = "write a number of seconds above 0"
        raise SettingError("is no time limit", setting="time_limit_s", value=time_limit_s, remedy=remedy)
    data = _data(named, examples)
    columns = [*data.golds, *{name for row in data.columns for name in row}]
    try:
        check_signature(function, columns)
        for setting in settings_of(function):
            if isinstance(setting, OwnGrader):
                setting.check(columns)
                found.name = setting.function
    except ValueError as error:
        found.add("TRL cannot call it", str(error))
        return found
    is_ours = getattr(function, "__module__", "").startswith("grpo_colab.rewards.")
    declared = declared_kind(function)
    if kind is not None and kinds[kind]["judges"] == "answers":
        found.notes += _notes_on_kind(function, kind)
    if kind is None and (column == TESTS or declared == "code"):
        kind = "code"
    elif kind is None and declared == "math" and (not is_ours or found.name == "correctness_reward"):
        kind = "expression"
    elif kind is None and is_ours and declared not in WORDS:
        kind = next((name for name, about in kinds.items() if found.name in about.get("ours", ())), None)
    if kind == "code":
        warm_up = Battery(column, "code").programs()[0][:1]
    else:
        # Ours in every style: one for boxed answers wakes its worker at none of the others.
        styles = numbers.styles if is_ours else numbers.styles[:1]
        warm_up = [numbers.case(probe, style) for style in styles for probe in ("golden", "root")]
    with contextlib.closing(Worker(function, data, warm_up)) as worker:
        judge = Judge(found, worker, column, time_limit_s, examples)
        judge.by_mathematics = is_ours and (declared == "math" or "'math'" in repr(function))  # grader="math"
        judge.declared = declared if declared in (*WORDS, "number") else None
        judge.hint = hinted_kind(function, named)
        judge.judge(kind, bool(named))
    return found


def _notes_on_kind(function: Callable[..., Any], kind: str) -> list[str]:
    """Return a sentence where a function says that it judges answers of another kind than it is asked for."""
    judges_numbers = gold_number in gold_readers(function)
    own = "number" if judges_numbers else declared_kind(function)
    asked_for = kind if kind in WORDS else "number"
    if own not in ("number", *WORDS) or own == asked_for:
        return []
    instead = f"; correctness(answer={asked_for!r}) judges this kind" if asked_for in WORDS else ""
    return [f"it says that it judges the kind {own}, and is asked about the kind {asked_for}{instead}"]


def gold_columns(function: Callable[..., Any], examples: Sequence[Example] = ()) -> list[str]:
    """Return the parameters that the data set's columns must fill, the usual names of a gold first; [] for none.

    Optional ones count only under a usual name of a gold. Each gets the gold, or the prompt if its name is in
    `QUESTIONS`. Other columns of the examples hold no gold. Raises SettingError for what has no readable signature.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError):
        problem = "has no signature that can be read, so it is no reward function"
        raise SettingError(problem, setting=callable_name(function), remedy="name a Python function") from None
    passed_by_trl = arguments([], Data(()), True, False)
    others = {name for example in examples for name in example.columns}
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = []
    for parameter in parameters:
        if parameter.kind not in plain or parameter.name in passed_by_trl or parameter.name in others:
            continue
        if parameter.default is parameter.empty or parameter.name in GOLD_NAMES:
            names.append(parameter.name)
    return sorted(names, key=lambda name: name not in GOLD_NAMES)


def _data(named: Sequence[str], examples: Sequence[Example]) -> Data:
    """Return what the columns of a function hold at first: the golds, and the other columns of the first example."""
    values = {}
    for example in examples:
        if not isinstance(example.gold, str):
            values[example.text] = example.gold
    columns = [example.columns for example in examples[:1]]
    return Data(list(dict.fromkeys([*named, "answer"])), columns, values)
