"""Make graders from settings, as a task's or a reward's, and refuse settings that cannot work."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from grpo_colab.errors import SettingError, one_of
from grpo_colab.rewards.graders.choices import ChoiceGrader, choices_of
from grpo_colab.rewards.graders.grader import Grader
from grpo_colab.rewards.graders.json_values import JSONGrader, checked_schema
from grpo_colab.rewards.graders.numbers import MathGrader, NumberGrader
from grpo_colab.rewards.graders.own import OwnGrader
from grpo_colab.rewards.graders.programs import CodeGrader
from grpo_colab.rewards.graders.texts import IGNORABLE, TextGrader
from grpo_colab.rewards.grading import ANSWER_TAG, BOXED, HASH, REASONING_TAG, TAG_NAME, check_grading
from grpo_colab.rewards.numerals import DEFAULT_LOCALE
from grpo_colab.rewards.parametrised import require

KINDS: Final[Mapping[str, type[Grader]]] = {
    "number": NumberGrader,
    "math": MathGrader,
    "text": TextGrader,
    "choice": ChoiceGrader,
    "json": JSONGrader,
    "code": CodeGrader,
}
# The settings of a task that its rewards take, too. `answer_tag` is for those that pay for a format.
SETTINGS: Final = (
    "answer",
    "answer_in",
    "answer_tag",
    "reasoning_tag",
    "locale",
    "tolerance",
    "ignore",
    "choices",
    "schema",
    "grader",
)
# The kinds that a setting is for.
_ONLY_FOR: Final[Mapping[str, tuple[str, ...]]] = {
    "tolerance": ("number", "math", "json"),
    "ignore": ("text",),
    "choices": ("choice",),
    "schema": ("json",),
}


def make_grader(
    answer: str = "number",
    *,
    answer_in: str | None = ANSWER_TAG,
    reasoning_tag: str = REASONING_TAG,
    locale: str = DEFAULT_LOCALE,
    tolerance: float = 0.0,
    ignore: Sequence[str] | str | None = None,
    choices: Sequence[str] = (),
    schema: str = "",
    grader: str = "",
) -> Grader:
    """Return the grader of a kind of answers, `number`, `math`, `text`, `choice`, `json` or `code`, with its settings.

    `answer_in`, `reasoning_tag` and `locale` are those of `answer_block` and `LOCALES`. `tolerance` is a share of the
    gold number; `ignore` names what a comparison of texts ignores; `choices` are the choices of all problems; `schema`
    is the text of a JSON schema. `grader` names a function that judges in place of a kind: see `OwnGrader`. Nothing of
    it is imported here. Raises SettingError for a setting that cannot work, or that is for another kind.
    """
    check_grading(answer_in, locale, tolerance)
    check_tag("reasoning_tag", reasoning_tag)
    shared: dict[str, Any] = {"answer_in": answer_in, "reasoning_tag": reasoning_tag, "locale": locale}
    if grader:
        return OwnGrader(function=grader, **shared)
    if answer not in KINDS:
        remedy = f"{one_of(answer, KINDS)}; or name a function as grader"
        raise SettingError("is no kind of answer", setting="answer", value=answer, remedy=remedy)
    given = {"tolerance": tolerance, "ignore": ignore, "choices": choices, "schema": schema}
    for setting, kinds in _ONLY_FOR.items():
        if given[setting] and answer not in kinds:
            raise SettingError(
                f"is for answers of the kind {' or '.join(map(repr, kinds))}, and answer = {answer!r}",
                setting=setting,
                value=given[setting],
                remedy="take it out, or change answer",
            )
    if answer == "code" and answer_in == HASH:
        remedy = "write 'answer_tag'"
        raise SettingError("has one line only, too few for code", setting="answer_in", value=HASH, remedy=remedy)
    if answer == "text" and ignore is not None:
        return TextGrader(ignore=_ignored(ignore), **shared)
    if answer == "choice":
        return ChoiceGrader(choices=_choices(choices), **shared)
    if answer == "json":
        return JSONGrader(schema=checked_schema(schema) if schema else "", tolerance=float(tolerance), **shared)
    if answer == "math":
        from grpo_colab.rewards.latex import need_math_verify

        need_math_verify()
    if answer in ("number", "math"):
        number_grader = NumberGrader if answer == "number" else MathGrader
        return number_grader(tolerance=float(tolerance), **shared)
    return KINDS[answer](**shared)


def grader_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of a task's settings that its graders and rewards take, as they take them.

    An `answer_tag` becomes the place of the answer, too, and a tag as the place becomes the `answer_tag`. A setting
    that is None is left out. Raises SettingError for two names of one tag.
    """
    chosen = {key: settings[key] for key in SETTINGS if settings.get(key) is not None}
    place, tag = chosen.get("answer_in", ANSWER_TAG), chosen.get("answer_tag", "answer")
    if place in (BOXED, HASH) or (place == ANSWER_TAG and tag == "answer"):
        return chosen
    if place in (ANSWER_TAG, "answer"):
        chosen["answer_in"] = tag
    elif tag in ("answer", place):
        chosen["answer_tag"] = place
    else:
        remedy = "write 'answer_tag' there, or take one of them out"
        raise SettingError(
            f"names another tag than answer_tag = {tag!r}", setting="answer_in", value=place, remedy=remedy
        )
    return chosen


def lenient_words(task: Mapping[str, Any]) -> str:
    """Return in words what the lenient accuracy of a [task] table's answers looks at; "leniently" for unknown kinds."""
    kind = KINDS.get(str(task.get("answer", "number")))
    return "leniently" if kind is None or task.get("grader") else kind.lenient


def check_tag(setting: str, name: object) -> None:
    """Raise SettingError for what is no name of a tag."""
    good = isinstance(name, str) and re.fullmatch(TAG_NAME, name) is not None
    require(good, setting, name, "the name alone, without brackets, such as 'think'")


def _ignored(ignore: Sequence[str] | str) -> tuple[str, ...]:
    """Return what a comparison ignores; raise SettingError for a name that is not of IGNORABLE."""
    names = tuple(part.strip() for part in ignore.split(",")) if isinstance(ignore, str) else tuple(ignore)
    for name in filter(None, names):
        if name not in IGNORABLE:
            remedy = one_of(str(name), IGNORABLE)
            raise SettingError("cannot be ignored", setting="ignore", value=name, remedy=remedy)
    return tuple(filter(None, names))


def _choices(choices: Sequence[str]) -> tuple[str, ...]:
    """Return the choices of all problems; raise SettingError for fewer than two, and for two that are equal."""
    if not choices:
        return ()
    try:
        return tuple(choices_of(list(choices)).values())
    except ValueError as error:
        remedy = "write two or more texts, such as ['tool', 'fruit']"
        raise SettingError(str(error), setting="choices", value=choices, remedy=remedy) from None
