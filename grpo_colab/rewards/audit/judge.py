"""`audit(function)`: a battery of cheats and of right answers for a reward function, and its contract.

All that is asked is in battery.toml, with the kinds of functions and what each is judged by. What a right answer is,
`grpo_colab.rewards.number_parser` and `.answers` say.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import random
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final, NamedTuple

from grpo_colab.errors import SettingError, one_of
from grpo_colab.rewards.audit.worker import Case, Reply, Worker, arguments
from grpo_colab.rewards.resolve import callable_name, check_signature
from grpo_colab.text import on_one_line

MOST_HANGS: Final = 15
SLOW_S: Final = 0.1  # an answer that is slow
SLOW_ONES: Final = 12  # completions that a slow function is asked about together
GOLD_NAMES: Final = ("answer", "solution", "gold", "ground_truth", "target", "label", "reference", "final_answer")
TESTS: Final = "tests"  # the column of a reward for programs
_MALFORMED: Final = frozenset({"form", "answer", "reasoning", "blank", "order"})
_TINY: Final = 1e-9
Style = Mapping[str, Any]


class Finding(NamedTuple):
    """What is wrong, the battery's `case` that shows it ("" where none does), and what was seen."""

    what: str
    case: str
    seen: str


@dataclass
class Audit:
    """What an audit found; its text is the report. `held` are the parts of the contract that the function keeps."""

    name: str
    kind: str = "unknown"
    rule: str = "nothing was judged"
    style: str = "unknown"
    asked: int = 0
    findings: list[Finding] = field(default_factory=list)
    tolerated: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "none")  # in seconds

    @property
    def ok(self) -> bool:
        return not self.findings

    def add(self, what: str, seen: str, case: Case | None = None) -> None:
        said = "" if case is None else f": {_shown(case.text)} for {case.gold}"
        self.findings.append(Finding(what, case.name if case else "", seen + said))

    def __str__(self) -> str:
        lines = [
            f"{on_one_line(self.name)}: {self.asked} completions, kind {self.kind} ({self.rule}), style {self.style}"
        ]
        for what in dict.fromkeys(finding.what for finding in self.findings):
            found = [finding for finding in self.findings if finding.what == what]
            lines += [
                f"{what} ({len(found)})",
                *(f"  {f.case + ', ' if f.case else ''}{on_one_line(f.seen)}" for f in found),
            ]
        if self.tolerated:
            lines.append(f"as the kind {self.kind} allows ({len(self.tolerated)}): {'; '.join(self.tolerated)}")
        lines += [f"note: {on_one_line(note)}" for note in self.notes]
        if self.asked:
            lines.append(f"holds: {', '.join(self.held) or 'nothing'}")
            lines.append(f"slowest answer: {self.slowest[0]:.3f} s, for {self.slowest[1]!r}")
        return "\n".join([*lines, "ok" if self.ok else f"{len(self.findings)} found to be wrong"])


def audit(
    function: Callable[..., Any],
    kind: str | None = None,
    *,
    time_limit_s: float = 1.0,
    answer_column: str | None = None,
) -> Audit:
    """Play an adversary against a reward function; `str()` of what comes back is the report, `ok` the verdict.

    `kind` (correctness, scaled, expression, exact, first_number, format, answer_format, tag_count, code, shaping) is
    found out where it is not given, and so is `answer_column`, the parameter that takes the gold. A function that takes
    a column `tests` is of the kind code, and is asked about programs. A completion that takes longer than
    `time_limit_s` is a finding; after fifteen such the rest is left out. SettingError for settings that cannot work,
    and where the system cannot fork.
    """
    found = Audit(callable_name(function))
    try:
        named = [answer_column] if answer_column else _gold_columns(function)
    except ValueError:
        problem = "has no signature that can be read, so it is no reward function"
        raise SettingError(problem, setting=found.name, remedy="name a Python function") from None
    battery = Battery(named[0] if named else "answer")
    kinds = battery.data["kind"]
    if kind is not None and kind not in kinds:
        raise SettingError("is no such kind of reward", setting="kind", value=kind, remedy=one_of(kind, kinds))
    if not 0 < time_limit_s < math.inf:
        remedy = "write a number of seconds above 0"
        raise SettingError("is no time limit", setting="time_limit_s", value=time_limit_s, remedy=remedy)
    columns = list(dict.fromkeys([*named, "answer"]))
    try:
        check_signature(function, columns)
    except ValueError as error:
        found.add("TRL cannot call it", str(error))
        return found
    if kind is None and getattr(function, "__module__", "").startswith("grpo_colab.rewards."):
        kind = next((name for name, about in kinds.items() if found.name in about.get("ours", ())), None)
    if kind is None and columns[0] == TESTS:
        kind = "code"
    warm_up = (
        battery.programs()[0][:1]
        if kind == "code"
        else [battery.case(probe, battery.styles[0]) for probe in ("golden", "root")]
    )
    with contextlib.closing(Worker(function, columns, warm_up)) as worker:
        _Judge(found, worker, battery, time_limit_s).judge(kind, bool(named))
    return found


def _gold_columns(function: Callable[..., Any]) -> list[str]:
    """The parameters that a data set must fill, `answer` first: they all get the gold."""
    passed = arguments([], [], True, False)
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = [p for p in inspect.signature(function).parameters.values() if p.kind in plain and p.name not in passed]
    names = [p.name for p in found if p.default is p.empty or p.name in GOLD_NAMES]
    return sorted(names, key=lambda name: name not in GOLD_NAMES)


class Battery:
    """The cases of battery.toml, written out in a style."""

    def __init__(self, column: str) -> None:
        self.data = tomllib.loads(files("grpo_colab.rewards.audit").joinpath("battery.toml").read_text("utf-8"))
        self.styles: list[Style] = self.data["style"]
        self.column = column

    def case(self, entry: str | Mapping[str, Any], style: Style, gold: str | None = None) -> Case:
        """A case, or the probe of this name, for the problem with this gold (by default the first)."""
        about: Mapping[str, Any] = self.data["probe"][entry] if isinstance(entry, str) else entry
        labels = set(about.get("labels", ()))
        problem = next(p for p in self.data["problem"] if p["gold"] == (gold or self.data["problem"][0]["gold"]))
        words, marks = {**problem, "column": self.column}, [*style["reasoning"], *style["answer"]]
        if "\n" not in "".join(marks):  # a style of one line
            words["why"] = problem["why"].replace("\n", " ")
        words |= zip(("r", "/r", "a", "/a"), (m.strip() for m in marks) if "tight" in labels else marks, strict=True)

        def written(template: str) -> str:
            return re.sub(r"\[(/?[a-z]+)\]", lambda word: words.get(word[1], word[0]), template)

        words["many"] = written(about.get("unit", "")) * about.get("times", 1)
        text = written(about.get("text", f"[r][why][/r][a]{about.get('says')}[/a]"))
        if about in self.data["right"] and about.get("says", "[gold]").strip() != "[gold]":
            labels.add("restyled")
        return Case(about["name"], text, problem["gold"], problem["prompt"], frozenset(labels))

    def cases(self, which: str, style: Style, of_form: bool) -> list[Case]:
        """The cheats or the right answers that are such in this style: without tags, nothing can be unclosed."""
        reasoning, answer = ("".join(style[part]).strip() for part in ("reasoning", "answer"))
        absent = set() if "</" in answer else {"tag", "prose"} if answer else {"tag"}
        if of_form:
            absent |= {part for part, marks in (("reasoning", reasoning), ("answer", answer)) if not marks}
        golds = [problem["gold"] for problem in self.data["problem"]]
        cases = [
            self.case(entry, style, entry.get("gold", golds[index % len(golds)]))
            for index, entry in enumerate(self.data[which])
        ]
        return [case for case in cases if not case.labels & absent and (which == "right" or self._lies(case, style))]

    def programs(self, as_list: bool = True) -> list[list[Case]]:
        """Return the programs for each shape of a test: the right one, the wrong one, and the cheats."""
        shapes: list[list[Case]] = []
        for shape in self.data["code"]["shape"]:
            tests = (shape["test"],) if as_list else shape["test"]
            shapes.append(
                [
                    Case(
                        f"{about['name']}, for {shape['name']}",
                        f"```python\n{about['text']}\n```",
                        tests,
                        "",
                        frozenset(),
                    )
                    for about in self.data["code"]["program"]
                ]
            )
        return shapes

    def _lies(self, case: Case, style: Style) -> bool:
        """Whether it differs from the golden completion, and, if it is to be malformed, from a wrong answer's."""
        honest = ("golden", "wrong") if case.labels & _MALFORMED else ("golden",)
        return len(case.text) > 9999 or all(
            case.text.split() != self.case(name, style, case.gold).text.split() for name in honest
        )


class _Judge:
    def __init__(self, found: Audit, worker: Worker, battery: Battery, limit_s: float) -> None:
        self.found, self.worker, self.battery, self.limit_s = found, worker, battery, limit_s
        self.beside = False  # whether each completion is asked about beside a longer one
        self.answers: dict[Case, Reply] = {}

    def judge(self, kind: str | None, takes_gold: bool) -> None:
        if kind == "code":
            return self.judge_programs()
        golden = [self.battery.case("golden", style) for style in self.battery.styles]
        first = self.ask(golden[0])
        for self.worker.messages in () if first.ended else (True, False):
            if not all(self.ask(case).trouble for case in golden):
                break
        else:
            return self.found.add("fails on a golden completion", first.trouble)
        style, mark, floor = self.probe(kind, takes_gold)
        asked = {which: self.battery.cases(which, style, self.judges == "form") for which in ("right", "cheat")}
        for case in [*asked["right"], *asked["cheat"]]:
            self.answers[case] = reply = self.ask(case)
            self.found.slowest = max(self.found.slowest, (reply.seconds, case.name))
            if reply.trouble:
                self.found.add("breaks", reply.trouble, case)
            else:
                self.weigh(case, case in asked["right"], reply.rewards[0], mark, floor)
            if sum(reply.ended for reply in self.answers.values()) == MOST_HANGS:
                self.found.notes.append(f"stopped after {MOST_HANGS} completions that ended it, before trying the rest")
                break
        self.found.asked = len(self.answers)
        return self.contract(style)

    def judge_programs(self) -> None:
        """Weigh what a reward for programs pays in each shape of a test that it takes, and then its contract."""
        found = self.found
        found.kind, found.style, self.judges = "code", "python in a fence", "programs"
        found.rule = self.battery.data["kind"]["code"]["rule"]
        for self.worker.messages, as_list in ((True, True), (True, False), (False, True), (False, False)):
            shapes = self.battery.programs(as_list)
            first = self.ask(shapes[0][0])
            if first.ended or not first.trouble:
                break
        if first.trouble:
            return found.add("fails on a golden completion", first.trouble)
        for right, wrong, *cheats in shapes:
            asked = {case: self.ask(case) for case in (right, wrong, *cheats)}
            found.slowest = max(found.slowest, *((reply.seconds, case.name) for case, reply in asked.items()))
            if asked[right].trouble:  # of a shape that it refuses, nothing needs to be said
                found.notes.append(f"takes no test such as {right.gold!r}: {asked[right].trouble}")
                continue
            self.answers |= asked
            mark, floor = (asked[case].rewards[0] if asked[case].rewards else 0.0 for case in (right, wrong))
            if (mark or 0.0) <= (floor or 0.0):
                found.add("does not pay, and should", f"{mark}, and {floor} for a wrong program", right)
            for case, reply in asked.items():
                if reply.trouble:
                    found.add("breaks", reply.trouble, case)
                elif case is not right and (reply.rewards[0] or 0.0) > (floor or 0.0) + _TINY:
                    found.add("pays, and should not", f"{reply.rewards[0]} of {mark}", case)
        found.asked = len(self.answers)
        return self.contract(self.battery.styles[0])

    def ask(self, case: Case) -> Reply:
        return self.worker.ask([case, case._replace(text="word " * 5000)] if self.beside else [case], self.limit_s)

    def pays(self, probe: str, style: Style, gold: str | None = None) -> float:
        case = self.battery.case(probe, style)
        reply = self.ask(case if gold is None else case._replace(gold=gold))
        return (reply.rewards[0] or 0.0) if reply.rewards else 0.0

    def probe(self, kind: str | None, takes_gold: bool) -> tuple[Style, float, float]:
        """Settles kind and style; what it pays there for a golden completion, and for a wrong or an empty one."""
        styles, other = self.battery.styles, self.battery.data["problem"][0]["wrong"]
        for self.beside in (kind == "scaled", kind in (None, "scaled")):
            style, mark, floor = self.best([(self.pays("golden", s), self.pays("golden", s, other)) for s in styles])
            if mark > floor:
                break
        if kind is None and mark > floor:
            kind = "correctness" if not self.beside and _same(self.pays("long", style), mark) else "scaled"
        elif kind is None and takes_gold:
            kind = "correctness"
        self.beside = kind == "scaled"
        if kind is None or self.battery.data["kind"][kind]["judges"] != "answers":
            empty = self.pays("empty", styles[0])
            style, mark, floor = self.best([(self.pays("golden", s), empty) for s in styles])
            kind = kind or ("format" if mark > floor else "shaping")
        about = self.battery.data["kind"][kind]
        self.judges, self.tolerates = about["judges"], {*about.get("tolerates", ())}
        self.found.kind, self.found.rule = kind, about["rule"]
        self.found.style = "any" if self.judges == "nothing" else style["name"]
        if self.judges != "nothing" and mark <= floor:
            low = "a wrong answer" if self.judges == "answers" else "an empty completion"
            known = "; ".join(style["name"] for style in self.battery.styles)
            seen = f"{mark:g}, and {floor:g} for {low}, in every style that the audit knows ({known})"
            self.found.add("pays no golden completion more", seen)
            floor = 0.0
        elif self.judges == "form" and style is styles[-1]:
            self.found.add("pays no blocks of several lines", "each block must be one line, or it gets less")
        return style, mark, floor

    def best(self, paid: Sequence[tuple[float, float]]) -> tuple[Style, float, float]:
        """The first style of those that part the two best; by a tenth, since some rewards look at the length too."""
        margins = [high - low for high, low in paid]
        enough = max(margins) - 0.1 * abs(max(margins))
        index = next(index for index, margin in enumerate(margins) if margin >= enough)
        return self.battery.styles[index], *paid[index]

    def weigh(self, case: Case, right: bool, reward: float | None, mark: float, floor: float) -> None:
        found, paid = self.found, -math.inf if reward is None else reward
        half_way = found.kind == "scaled" or "loose" in case.labels
        if self.judges == "answers":
            line = (mark + floor) / 2 if half_way else mark - _TINY if right else floor + _TINY
            bad = paid < line if right else paid > line
        else:
            bad = self.judges == "form" and not right and bool(case.labels & _MALFORMED) and paid > mark - _TINY
        if bad and case.labels & self.tolerates:
            found.tolerated.append(f"{'not paying for ' if right else ''}{case.name}")
        elif bad:
            found.add("does not pay, and should" if right else "pays, and should not", f"{reward} of {mark:g}", case)

    def contract(self, style: Style) -> None:
        """Asks again about all that was answered quickly, together, in every way in which a trainer may ask."""
        found = self.found
        short = [case for case, reply in self.answers.items() if not reply.trouble and len(case.text) < 9999]
        short.sort(key=lambda case: self.answers[case].seconds >= SLOW_S)  # of a slow function, a few must do
        quick = short[: max(SLOW_ONES, sum(self.answers[case].seconds < SLOW_S for case in short))]
        alone = {case: self.answers[case].rewards[0] for case in quick}
        limit_s = 2 * self.limit_s + 20 * sum(self.answers[case].seconds for case in quick)
        first = self.worker.ask(quick, limit_s)
        if first.trouble:
            return found.add("breaks when asked about all at once", first.trouble)
        together = dict(zip(quick, first.rewards, strict=True))
        if not self.check("deterministic", quick, self.worker.ask(quick, limit_s), together):
            return None  # what follows would mean nothing
        shuffled = random.Random(0).sample(quick, len(quick))
        in_order = self.check("independent of the order", shuffled, self.worker.ask(shuffled, limit_s), together)
        if found.kind != "scaled":
            self.check("independent of the batch", quick, first, alone)
        self.check("blind to other columns", quick, self.worker.ask(quick, limit_s, "bare"), together)
        self.check("picklable", quick, self.worker.ask(quick, limit_s, "copy"), together)
        crowd = self.worker.ask(quick, limit_s, "threads")
        if crowd.trouble or in_order:  # each asks in another order
            self.check("thread-safe", quick, crowd, together)
        turns = self.worker.ask(quick[:SLOW_ONES], limit_s, "turns") if self.worker.messages else None
        if turns and turns.trouble:
            found.notes.append(f"fails when a tool was called before the answer (content None): {turns.trouble}")
        other = self.worker.ask(quick, limit_s, "other")
        if other.trouble:
            found.notes.append(f"takes {'messages' if self.worker.messages else 'strings'} only: {other.trouble}")
        else:
            self.check("the same for messages and strings", quick, other, together)
        if changed := sorted({reply.changed for reply in self.answers.values()} - {""}):
            found.add("not careful with its input", f"writes to {', '.join(changed)}")
        reply = self.ask(self.battery.case("golden", style)._replace(gold=None))
        if self.judges == "answers" and reply.rewards != [None, *reply.rewards[1:]]:
            gave = reply.trouble or f"pays {reply.rewards[0]}"
            found.notes.append(f"without a gold it {gave}; None would say that it cannot judge")
        return None

    def check(self, part: str, cases: Sequence[Case], reply: Reply, expected: Mapping[Case, float | None]) -> bool:
        pairs = zip(cases, reply.rewards, strict=False)
        wrong = next(((case, paid) for case, paid in pairs if not _same(paid, expected[case])), None)
        if reply.trouble:
            self.found.add(f"not {part}", reply.trouble)
        elif wrong:
            self.found.add(f"not {part}", f"{wrong[1]} here, {expected[wrong[0]]} before", wrong[0])
        else:
            self.found.held.append(part)
        return self.found.held[-1:] == [part]


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 80 else f"{text[:25]!r} ... {text[-50:]!r}"


def _same(some: float | None, other: float | None) -> bool:
    """Equal but for rounding: a sum may be taken in another order."""
    if some is None or other is None:
        return some is other
    return math.isclose(some, other, rel_tol=1e-6, abs_tol=_TINY)
