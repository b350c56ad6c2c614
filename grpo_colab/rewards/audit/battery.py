"""Write out the cases of battery.toml: completions that must not pay, and right answers as people write them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from grpo_colab.rewards.audit.worker import Case

# Labels of cheats whose form is wrong; each label names the part at fault.
MALFORMED: Final = frozenset({"form", "answer", "reasoning", "blank", "order"})
LONG: Final = 9999  # characters above which a completion is too long to compare or to ask about twice
Style = Mapping[str, Any]  # how a completion marks its reasoning and its answer


class Battery:
    """The cases of battery.toml. `column` is the name of the gold's column, which some cheats quote.

    `data` holds the whole file, and `styles` its styles.
    """

    def __init__(self, column: str) -> None:
        self.data = tomllib.loads(files("grpo_colab.rewards.audit").joinpath("battery.toml").read_text("utf-8"))
        self.styles: list[Style] = self.data["style"]
        self.column = column

    def case(self, entry: str | Mapping[str, Any], style: Style, gold: str | None = None) -> Case:
        """Return one case, written in `style`.

        `entry` is a row of battery.toml, or the name of a probe. `gold` picks the problem that has this gold: by
        default the first. A right answer that is not the gold's own text gets the label `restyled`. Raises KeyError for
        an unknown probe, and StopIteration for a gold that no problem has.
        """
        about: Mapping[str, Any] = self.data["probe"][entry] if isinstance(entry, str) else entry
        labels = set(about.get("labels", ()))
        gold = gold or self.data["problem"][0]["gold"]
        problem = next(problem for problem in self.data["problem"] if problem["gold"] == gold)
        words = {**problem, "column": self.column}
        marks = [*style["reasoning"], *style["answer"]]
        if "\n" not in "".join(marks):  # a style that fits on one line
            words["why"] = problem["why"].replace("\n", " ")
        if "tight" in labels:
            marks = [mark.strip() for mark in marks]
        words |= zip(("r", "/r", "a", "/a"), marks, strict=True)

        def filled(template: str) -> str:
            return re.sub(r"\[(/?[a-z]+)\]", lambda word: words.get(word[1], word[0]), template)

        words["many"] = filled(about.get("unit", "")) * about.get("times", 1)
        text = filled(about.get("text", f"[r][why][/r][a]{about.get('says')}[/a]"))
        if about in self.data["right"] and about.get("says", "[gold]").strip() != "[gold]":
            labels.add("restyled")
        return Case(about["name"], text, problem["gold"], problem["prompt"], frozenset(labels))

    def cases(self, which: str, style: Style, of_form: bool) -> list[Case]:
        """Return the cases of the list `which` ("cheat" or "right") that make sense in `style`.

        Cases with the label `tag` are left out for a style whose answer has no closing tag, and those with the label
        `prose` for one whose answer has only other marks. Cheats that `style` turns into honest completions are left
        out, too. `of_form` says that the function judges the form. Then cases about a part that the style does not mark
        are left out as well.
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
        golds = [problem["gold"] for problem in self.data["problem"]]
        found = []
        for index, entry in enumerate(self.data[which]):
            case = self.case(entry, style, entry.get("gold", golds[index % len(golds)]))
            if not case.labels & absent and (which == "right" or self._is_cheat(case, style)):
                found.append(case)
        return found

    def programs(self, as_list: bool = True) -> list[list[Case]]:
        """Return one list of programs per shape of a test: the right program, the wrong one, then the cheats.

        A program is a case whose text is a fenced block and whose `gold` is the test: a tuple with one text, or the
        text itself where `as_list` is False.
        """
        shapes: list[list[Case]] = []
        for shape in self.data["code"]["shape"]:
            tests = (shape["test"],) if as_list else shape["test"]
            programs = []
            for program in self.data["code"]["program"]:
                name = f"{program['name']}, for {shape['name']}"
                programs.append(Case(name, f"```python\n{program['text']}\n```", tests, "", frozenset()))
            shapes.append(programs)
        return shapes

    def _is_cheat(self, case: Case, style: Style) -> bool:
        """Tell whether a cheat still is one in `style`, where it may come out as an honest completion.

        It must differ from the golden completion in more than white space. One whose form is wrong must also differ
        from a well-formed wrong answer. A cheat of more than `LONG` characters always counts as one.
        """
        if len(case.text) > LONG:
            return True
        honest = ("golden", "wrong") if case.labels & MALFORMED else ("golden",)
        return all(case.text.split() != self.case(probe, style, case.gold).text.split() for probe in honest)
