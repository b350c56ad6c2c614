"""Know the kinds of answers: which kind a function or some golds are of, and what the cases of a kind are made of.

A kind has a file in `answers/` with its problems and cases, and here what is made of a gold. To add one, write the
file, enter the kind in `ANSWERS`, and give it a row of the table [kind] in battery.toml.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

from grpo_colab.rewards.grading import ANSWER_TAG, BOXED, HASH, gold_number
from grpo_colab.rewards.numerals import DEFAULT_LOCALE, LOCALES
from grpo_colab.rewards.parametrised import settings_of

MOST_LABELS: Final = 20  # different golds, beyond which they are no options
MOST_PROBLEMS: Final = 6  # that are made of examples
_NUMBERS: Final = r"isdigit|isnumeric|\\d|0-9|Decimal|Fraction|(?i:numbers?(?![a-z]))"
_OPTIONS: Final = r"(?i)(?<![a-z])(?:labels?|categor(?:y|ies)|choices?|options?|classes|ABCD|A-[D-Z])(?![a-z(])"
_JSON: Final = r"(?i)json"


class Example(NamedTuple):
    """A problem of the person's own data: its prompt, its gold answer, and its other columns."""

    prompt: Any
    gold: Any
    columns: Mapping[str, Any] = {}

    @property
    def text(self) -> str:
        """Return the gold as a text: JSON for an object or a list."""
        return self.gold if isinstance(self.gold, str) else json.dumps(self.gold, ensure_ascii=False)


def worded(problem: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what the cases about words are made of, for a problem with a `gold` and perhaps with `labels`."""
    gold = str(problem["gold"])
    labels = problem.get("labels")
    return {
        "options": ", ".join(labels) if labels else None,
        "lines": "\n".join(labels) if labels else None,
        "longer": problem.get("longer", f"{gold}box"),
        "holder": problem.get("holder"),
        "aside": problem.get("aside", f"The question could be read as one about {gold}, too."),
        "upper": gold.upper(),
        "lower": gold.lower(),
        "letter": gold[:1] if len(gold) > 1 else None,
        "part": gold[: len(gold) // 2] if len(gold) > 3 else None,
        "cut": gold[:-1] if len(gold) > 1 else None,
        "spaced": gold.replace(" ", "  ") if " " in gold else None,
        "broken": gold.replace(" ", "\n") if " " in gold else None,
    }


def of_json(problem: Mapping[str, Any]) -> dict[str, str | None]:
    """Return what the cases about JSON are made of: texts that state the gold's value, and others that nearly do."""
    gold = str(problem["gold"])
    value = json.loads(gold)
    fields: dict[str, str | None] = {
        "compact": json.dumps(value, separators=(",", ":"), ensure_ascii=False),
        "indented": json.dumps(value, indent=2, ensure_ascii=False),
        "listed": json.dumps([value], ensure_ascii=False),
        "quoted": json.dumps(gold, ensure_ascii=False),
        "torn": gold[:-1],
        "texts": json.dumps(_with_texts(value), ensure_ascii=False) if _with_texts(value) != value else None,
        **dict.fromkeys(("reordered", "extra", "missing", "twice")),
    }
    if isinstance(value, dict) and value:
        last = next(reversed(value))
        wrong = json.loads(str(problem["wrong"]))
        fields["extra"] = json.dumps({**value, "more": 1}, ensure_ascii=False)
        fields["missing"] = json.dumps({key: value[key] for key in value if key != last}, ensure_ascii=False)
        if len(value) > 1:
            fields["reordered"] = json.dumps(dict(reversed(value.items())), ensure_ascii=False)
        if isinstance(wrong, dict) and wrong and wrong != value:
            fields["twice"] = json.dumps(wrong, ensure_ascii=False)[:-1] + ", " + gold.strip()[1:]
    return fields


def _with_texts(value: Any) -> Any:
    """Return a value with its numbers as texts."""
    if isinstance(value, dict):
        return {key: _with_texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_texts(inner) for inner in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else value


def _nothing(problem: Mapping[str, Any]) -> dict[str, str | None]:
    return {}


# The kinds that have a file of cases, and what these are made of.
ANSWERS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, str | None]]]] = {
    "number": _nothing,
    "choice": worded,
    "text": worded,
    "json": of_json,
    "code": _nothing,
}
WORDS: Final = ("choice", "text", "json")  # kinds that are kinds of functions, too
# Names of kinds of answers for what battery.toml calls otherwise.
KIND_OF: Final = {"number": "correctness", "math": "expression"}


def problems_of(answers: str, examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Return problems of a kind of answer, made of different golds among the examples; none for fewer than two golds.

    The wrong answer to each is the gold of another. Each has the columns of its example.
    """
    by_gold: dict[str, Example] = {}
    for example in examples:
        is_of_kind = answers != "json" or _is_read(_object_or_list, example.text)
        if example.text.strip() and is_of_kind:
            by_gold.setdefault(example.text, example)
    golds = list(by_gold)
    if len(golds) < 2:
        return []
    problems = []
    for index, gold in enumerate(golds[:MOST_PROBLEMS]):
        wrong = golds[(index + 1) % len(golds)]
        problem: dict[str, Any] = {
            "gold": gold,
            "wrong": wrong,
            "prompt": _as_text(by_gold[gold].prompt),
            "why": "It follows from what is asked.",
            "columns": by_gold[gold].columns,
        }
        if answers in ("choice", "text"):
            others = [other for other in golds[:MOST_LABELS] if other != gold]
            problem["labels"] = sorted({gold, *(others if answers == "choice" else others[:3])})
            problem["holder"] = next((other for other in others if gold in other), None)
        problems.append(problem)
    return problems


def _as_text(prompt: Any) -> str:
    """Return the text of a prompt, of a conversation that of its last message."""
    if isinstance(prompt, list | tuple) and prompt and isinstance(prompt[-1], Mapping):
        prompt = prompt[-1].get("content")
    return prompt if isinstance(prompt, str) else ""


def kind_of_golds(golds: Sequence[str]) -> str:
    """Return the kind of answer that golds are of: number, math, json, choice or text.

    Golds are options where most of them occur again, or where all are single letters.
    """
    if not golds:
        return "text"
    if all(_is_read(_object_or_list, gold) for gold in golds):
        return "json"
    if all(_is_read(gold_number, gold) for gold in golds):
        return "number"
    different = {gold.strip().casefold() for gold in golds}
    are_letters = all(re.fullmatch(r"\(?[A-Za-z]\)?", gold.strip()) for gold in golds)
    if are_letters or (len(different) <= MOST_LABELS and 2 * len(different) <= len(golds)):
        return "choice"
    return "math" if sum(bool(re.search(r"[\\^$]", gold)) for gold in golds) > len(golds) / 3 else "text"


def _object_or_list(text: str) -> Any:
    value = json.loads(text)
    if not isinstance(value, dict | list):
        raise ValueError("a single value")
    return value


def _is_read(read: Callable[[str], Any], text: str) -> bool:
    try:
        read(text)
    except (ValueError, RecursionError):
        return False
    return True


def declared_kind(function: Callable[..., Any]) -> str | None:
    """Return the kind of answer that a function declares: by `answer_kind`, or by a setting that has a `kind`.

    The second is how a reward of this package has its grader. Returns None where nothing, or no known kind, is
    declared.
    """
    while isinstance(function, partial):
        function = function.func
    declared = [getattr(function, "answer_kind", None)]
    declared += [getattr(one, "kind", None) for one in settings_of(function)]
    known = {*ANSWERS, *KIND_OF}
    return next((kind for kind in declared if isinstance(kind, str) and kind in known), None)


def declared_style(function: Callable[..., Any]) -> dict[str, Any] | None:
    """Return the style of answers with the tags that a function's settings name; None where they name none.

    A reward of this package has a grader with `answer_in` and `reasoning_tag`, or the four tags of a format.
    """
    for one in settings_of(function):
        tags = one if _are_tags(one) else _tags_of(one)
        if tags:
            opened, closed, answer_opened, answer_closed = tags
            return {
                "name": f"{opened} and {answer_opened}",
                "reasoning": [f"{opened}\n", f"\n{closed}\n"],
                "answer": [f"{answer_opened}\n", f"\n{answer_closed}"],
            }
    return None


def declared_locale(function: Callable[..., Any]) -> str:
    """Return the notation of numbers, one of LOCALES, that a function's settings name; DEFAULT_LOCALE for none."""
    named = [one if isinstance(one, str) else getattr(one, "locale", None) for one in settings_of(function)]
    return next((locale for locale in named if locale in LOCALES and locale != DEFAULT_LOCALE), DEFAULT_LOCALE)


def _are_tags(value: object) -> bool:
    """Tell whether a setting is four tags."""
    return (
        isinstance(value, tuple) and len(value) == 4 and all(isinstance(tag, str) and tag[:1] == "<" for tag in value)
    )


def _tags_of(grader: object) -> tuple[str, str, str, str] | None:
    """Return the four tags that a grader looks for; None for what is no grader, and for answers in no tag."""
    place, reasoning = getattr(grader, "answer_in", None), getattr(grader, "reasoning_tag", None)
    if not isinstance(place, str) or not isinstance(reasoning, str) or place in (BOXED, HASH):
        return None
    answer = "answer" if place == ANSWER_TAG else place
    return f"<{reasoning}>", f"</{reasoning}>", f"<{answer}>", f"</{answer}>"


def hinted_kind(function: Callable[..., Any], columns: Sequence[str]) -> str | None:
    """Return the kind of answer that a function's source and the names of its golds hint at, None for no hint."""
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = ""
    text = " ".join([source, *columns])
    if re.search(_JSON, text):
        return "json"
    if re.search(_OPTIONS, text):
        return "choice"
    return "number" if re.search(_NUMBERS, text) else None
