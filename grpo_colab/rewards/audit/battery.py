"""Write out the cases of a kind of answer: completions that must not pay, and right answers as people write them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from grpo_colab.rewards.audit.answers import ANSWERS, Example, problems_of
from grpo_colab.rewards.audit.worker import Case
from grpo_colab.rewards.numerals import DEFAULT_LOCALE, LOCALES

# Labels of cheats whose form is wrong; each label names the part at fault.
MALFORMED: Final = frozenset({"form", "answer", "reasoning", "blank", "order"})
HEAVY: Final = "megabytes"  # the group of completions that are megabytes long
GROUP_SIGNS: Final = {"ch": "'"}  # between groups of digits, where that is neither a comma nor a point
LONG: Final = 9999  # characters above which a completion is too long to compare or to ask about twice
Style = Mapping[str, Any]  # how a completion marks its reasoning and its answer
_WORD: Final = re.compile(r"\[(/?[a-z]+)\]")


class Battery:
    """The cases for one kind of `answers`. `column` is the name of the gold's column, which some cheats quote.

    `data` holds the shared file and the kind's own, and `styles` the styles of both, after `style`, the function's own.
    The cases in it have their group, and numbers in the notation of `locale`, one of LOCALES. `examples` are of the
    person's own data: the problems are made of them where they have two golds or more, but for numbers and code, whose
    own problems are for every function.
    """

    def __init__(
        self,
        column: str,
        answers: str = "number",
        examples: Sequence[Example] = (),
        style: Style | None = None,
        locale: str = DEFAULT_LOCALE,
    ) -> None:
        shared, own = _read("battery.toml"), _read(f"answers/{answers}.toml")
        self.data: dict[str, Any] = {**shared, **own}
        for which in ("cheat", "right"):
            self.data[which] = _in_groups([*shared.get(which, ()), *own.get(which, ())])
        if answers == "number":
            for part in ("problem", "probe", "cheat", "right"):
                self.data[part] = _in_notation(self.data[part], locale)
        known = [*shared["style"], *own.get("style", ())]
        is_new = style is not None and all(
            style["answer"] != one["answer"] or style["reasoning"] != one["reasoning"] for one in known
        )
        self.styles: list[Style] = [style, *known] if style is not None and is_new else known
        self.column, self.answers = column, answers
        theirs = problems_of(answers, examples)
        if theirs and answers in ("choice", "text", "json"):
            self.data["problem"] = theirs
        elif theirs:
            for index, problem in enumerate(self.data.get("problem", ())):
                problem["columns"] = theirs[index % len(theirs)]["columns"]
        self.refused: set[str] = set()  # golds on which the function fails, which are left out
        self.words: list[dict[str, Any]] = []  # what the templates are filled with, for each problem
        for problem in self.data.get("problem", ()):
            self.words.append({**problem, **ANSWERS[answers](problem), "column": column})

    @property
    def golds(self) -> list[str]:
        """Return the golds of the problems, without those that are refused."""
        return [words["gold"] for words in self.words if words["gold"] not in self.refused]

    @property
    def first(self) -> dict[str, Any]:
        """Return the first problem that is not refused, with all its words."""
        return next(words for words in self.words if words["gold"] not in self.refused)

    def case(self, entry: str | Mapping[str, Any], style: Style, gold: str | None = None) -> Case:
        """Return one case, written in `style`.

        `entry` is a row of the battery, or the name of a probe. `gold` picks the problem that has this gold: by default
        the first. A right answer that is not the gold's own text gets the label `restyled`. Raises KeyError for an
        unknown probe, and StopIteration for a gold that no problem has.
        """
        about: Mapping[str, Any] = self.data["probe"][entry] if isinstance(entry, str) else entry
        labels = set(about.get("labels", ()))
        gold = self.first["gold"] if gold is None else gold
        number = next(index for index, words in enumerate(self.words) if words["gold"] == gold)
        words = dict(self.words[number])
        marks = [*style["reasoning"], *style["answer"]]
        if "\n" not in "".join(marks):  # a style that fits on one line
            words["why"] = words["why"].replace("\n", " ")
        if style.get("bare"):
            words["why"] = ""
        if "tight" in labels:
            marks = [mark.strip() for mark in marks]
        words |= zip(("r", "/r", "a", "/a"), marks, strict=True)

        def filled(template: str) -> str:
            return _WORD.sub(lambda word: words.get(word[1], word[0]), template)

        words["many"] = filled(about.get("unit", "")) * about.get("times", 1)
        text = filled(_template(about))
        if about in self.data["right"] and about.get("says", "[gold]").strip() != "[gold]":
            labels.add("restyled")
        case_gold = "" if about.get("empty_gold") else words["gold"]
        group, strict = about.get("group", ""), about.get("strict", "")
        return Case(about["name"], text, case_gold, words["prompt"], frozenset(labels), group, strict, number)

    def cases(self, which: str, style: Style, of_form: bool) -> list[Case]:
        """Return the cases of the list `which` ("cheat" or "right") that make sense in `style`.

        Cases with the label `tag` are left out for a style whose answer has no closing tag, and those with the label
        `prose` for one whose answer has only other marks. Cheats that `style` turns into honest completions are left
        out, too. `of_form` says that the function judges the form. Then cases about a part that the style does not mark
        are left out as well. So are cases for which no problem has what they are made of.
        """
        reasoning = "".join(style["reasoning"]).strip()
        answer = "".join(style["answer"]).strip()
        absent: set[str] = set()
        if "</" not in answer:
            absent = {"tag", "prose"} if answer else {"tag"}
        if of_form and not reasoning:
            absent.add("reasoning")
        if of_form and not answer:
            absent.add("answer")
        found = []
        for index, entry in enumerate(self.data[which]):
            golds = self._golds_for(entry)
            if not golds:
                continue
            case = self.case(entry, style, golds[index % len(golds)])
            if not case.labels & absent and (which == "right" or self._is_cheat(case, style)):
                found.append(case)
        return found

    def _golds_for(self, entry: Mapping[str, Any]) -> list[str]:
        """Return the golds of the problems that have every word of an entry; only its own gold where it names one."""
        golds = []
        for words in self.words:
            lacks = any(words.get(word, "") is None for word in _WORD.findall(_template(entry)))
            if not lacks and entry.get("gold", words["gold"]) == words["gold"]:
                golds.append(words["gold"])
        return [gold for gold in golds if gold not in self.refused]

    def programs(self, as_list: bool = True, style: Style | None = None) -> list[list[Case]]:
        """Return one list of programs per shape of a test: the right program, the wrong one, then the cheats.

        A program is a case whose text is a fenced block, alone or as the answer in `style`, and whose `gold` is the
        test: a tuple with one text, or the text itself where `as_list` is False.
        """
        before, after = ("", "") if style is None else style["answer"]
        shapes: list[list[Case]] = []
        for shape in self.data["code"]["shape"]:
            tests = (shape["test"],) if as_list else shape["test"]
            programs = []
            for program in self.data["code"]["program"]:
                name = f"{program['name']}, for {shape['name']}"
                text = f"{before}```python\n{program['text']}\n```{after}"
                programs.append(Case(name, text, tests, "", frozenset(), program["name"]))
            shapes.append(programs)
        return shapes

    def _is_cheat(self, case: Case, style: Style) -> bool:
        """Tell whether a cheat still is one in `style`, where it may come out as an honest completion.

        It must differ from the golden completion in more than white space. One whose form is wrong must also differ
        from a well-formed wrong answer. A cheat of more than `LONG` characters always counts as one.
        """
        if len(case.text) > LONG or not case.gold:
            return True
        honest = ("golden", "wrong") if case.labels & MALFORMED else ("golden",)
        return all(case.text.split() != self.case(probe, style, case.gold).text.split() for probe in honest)


def _in_groups(groups: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the cases of all groups, each with its group; those of equal groups together, and the megabytes last."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for group in groups:
        cases = by_name.setdefault(group["group"], [])
        cases += [{**case, "group": group["group"]} for case in group["cases"]]
    last = by_name.pop(HEAVY, [])  # what hangs or ends the process may end the audit before its end
    return [case for cases in [*by_name.values(), last] for case in cases]


def _in_notation(value: Any, locale: str) -> Any:
    """Return a value of the battery with the numbers in its texts as `locale` writes them, but for its names.

    A comma before a digit becomes the sign between groups of digits, a point before one the decimal sign.
    """
    if isinstance(value, Mapping):
        kept = ("name", "group", "strict", "labels")
        return {key: one if key in kept else _in_notation(one, locale) for key, one in value.items()}
    if isinstance(value, list):
        return [_in_notation(one, locale) for one in value]
    if not isinstance(value, str) or locale == DEFAULT_LOCALE:
        return value
    decimal = LOCALES[locale].decimal
    signs = {",": GROUP_SIGNS.get(locale, "." if decimal == "," else ","), ".": decimal}
    return re.sub(r"(\{,\}|[.,])(?=[0-9])", lambda sign: signs[sign[0].strip("{}")], value)


def _template(entry: Mapping[str, Any]) -> str:
    """Return the text of a row of the battery, before its words are filled in."""
    return str(entry.get("text", f"[r][why][/r][a]{entry.get('says')}[/a]"))


def _read(name: str) -> dict[str, Any]:
    """Return the content of a file of this folder, which nobody else shares."""
    return tomllib.loads(_text_of(name))


@cache
def _text_of(name: str) -> str:
    return files("grpo_colab.rewards.audit").joinpath(name).read_text("utf-8")
