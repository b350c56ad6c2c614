"""Audit a reward function: try cheats and right answers on it, and check its contract.

`battery.toml` holds the cases, the kinds of functions, and what each kind is judged by; `battery.py` writes the cases
out. `worker.py` calls the function in a process of its own. What a right answer is, `grpo_colab.rewards.number_parser`
and `.grading` say.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from grpo_colab.errors import SettingError, one_of
from grpo_colab.rewards.audit.battery import LONG, MALFORMED, Battery, Style
from grpo_colab.rewards.audit.findings import Audit
from grpo_colab.rewards.audit.worker import Case, Reply, Worker, arguments
from grpo_colab.rewards.resolve import callable_name, check_signature

MOST_HANGS: Final = 15  # completions that may end the process before the audit stops trying
SLOW_S: Final = 0.1  # an answer that takes longer is slow
SLOW_ONES: Final = 12  # completions that even a slow function is asked about together
GOLD_NAMES: Final = ("answer", "solution", "gold", "ground_truth", "target", "label", "reference", "final_answer")
TESTS: Final = "tests"  # the column of a reward for programs
_SCALED: Final = ("scaled", "scaled_expression")
_TINY: Final = 1e-9  # a difference between rewards that is only rounding


def audit(
    function: Callable[..., Any],
    kind: str | None = None,
    *,
    time_limit_s: float = 1.0,
    answer_column: str | None = None,
) -> Audit:
    """Play an adversary against a reward function, and return what was found.

    `kind` is one of correctness, scaled, expression, scaled_expression, exact, first_number, format, answer_format,
    tag_count, code and shaping. `answer_column` is the parameter that takes the gold. The audit detects what is not
    given. A function whose gold is `tests` is of the kind code, and is asked about programs.

    The function runs in a forked process, where its output is dropped. What it raises is a finding. A completion that
    takes longer than `time_limit_s` is a finding, and its process is killed. After fifteen completions that hung or
    ended their process the audit leaves out the rest, except for the kind code. A function that TRL cannot call is not
    called, and that is the only finding.

    Raises SettingError for settings that cannot work, for a function without a readable signature if the gold is to be
    detected, and on a system that cannot fork.
    """
    found = Audit(callable_name(function))
    try:
        named = [answer_column] if answer_column else _gold_columns(function)
    except (ValueError, TypeError):
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
    is_ours = getattr(function, "__module__", "").startswith("grpo_colab.rewards.")
    if kind is None and is_ours:
        kind = next((name for name, about in kinds.items() if found.name in about.get("ours", ())), None)
    if kind is None and columns[0] == TESTS:
        kind = "code"
    if kind == "code":
        warm_up = battery.programs()[0][:1]
    else:
        # Ours in every style: one for boxed answers wakes its worker at none of the others.
        styles = battery.styles if is_ours else battery.styles[:1]
        warm_up = [battery.case(probe, style) for style in styles for probe in ("golden", "root")]
    with contextlib.closing(Worker(function, columns, warm_up)) as worker:
        judge = _Judge(found, worker, battery, time_limit_s)
        judge.by_mathematics = is_ours and "'math'" in repr(function)  # grader="math"
        judge.judge(kind, bool(named))
    return found


def _gold_columns(function: Callable[..., Any]) -> list[str]:
    """Return the parameters that the data set's columns must fill, the usual names of a gold first; [] for none.

    Optional ones count only under a usual name of a gold. Each gets the gold, or the prompt if its name is in
    `QUESTIONS`. Raises ValueError for a function without a readable signature, and TypeError for what cannot be called.
    """
    passed_by_trl = arguments([], [], True, False)
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in plain or parameter.name in passed_by_trl:
            continue
        if parameter.default is parameter.empty or parameter.name in GOLD_NAMES:
            names.append(parameter.name)
    return sorted(names, key=lambda name: name not in GOLD_NAMES)


class _Judge:
    """Ask a function about the battery, weigh what it pays, and write what is wrong to `found`."""

    def __init__(self, found: Audit, worker: Worker, battery: Battery, limit_s: float) -> None:
        self.found, self.worker, self.battery, self.limit_s = found, worker, battery, limit_s
        # Whether each completion is asked about together with a longer one, which rewards that compare need.
        self.beside_longer = False
        self.by_mathematics = False  # whether an expression may stand for its value in a scaled reward
        self.answers: dict[Case, Reply] = {}

    def judge(self, kind: str | None, takes_gold: bool) -> None:
        """Run the whole audit of a function of this kind, or of a kind to be detected (None), and write to `found`.

        `takes_gold` says that the function has a parameter for the gold. A function that fails on a golden completion
        is asked no more.
        """
        if kind == "code":
            return self._judge_programs()
        golden = [self.battery.case("golden", style) for style in self.battery.styles]
        first = self._ask(golden[0])
        # Completions as messages, or else as strings: whichever the function takes.
        for self.worker.messages in () if first.ended else (True, False):
            if not all(self._ask(case).trouble for case in golden):
                break
        else:
            return self.found.add("fails on a golden completion", first.trouble, lines=first.lines)
        style, full_mark, floor = self._settle_kind_and_style(kind, takes_gold)
        right = self.battery.cases("right", style, self.judges == "form")
        cheats = self.battery.cases("cheat", style, self.judges == "form")
        for case in [*right, *cheats]:
            self.answers[case] = reply = self._ask(case)
            self.found.slowest = max(self.found.slowest, (reply.seconds, case.name))
            if reply.trouble:
                self.found.add("breaks", reply.trouble, case, reply.lines)
            else:
                self._weigh(case, case in right, reply.rewards[0], full_mark, floor)
            if sum(reply.ended for reply in self.answers.values()) == MOST_HANGS:
                self.found.notes.append(f"stopped after {MOST_HANGS} completions that ended it, before trying the rest")
                break
        self.found.asked = len(self.answers)
        return self._check_contract(style)

    def _judge_programs(self) -> None:
        """Weigh what a reward for programs pays in each shape of a test that it takes, then check its contract.

        A shape that the reward does not take becomes a note. A reward that fails on the first right program is asked no
        more.
        """
        found = self.found
        found.kind, found.style, self.judges = "code", "python in a fence", "programs"
        found.rule = self.battery.data["kind"]["code"]["rule"]
        for self.worker.messages, as_list in ((True, True), (True, False), (False, True), (False, False)):
            shapes = self.battery.programs(as_list)
            first = self._ask(shapes[0][0])
            if first.ended or not first.trouble:
                break
        if first.trouble:
            return found.add("fails on a golden completion", first.trouble, lines=first.lines)
        for right, wrong, *cheats in shapes:
            asked = {case: self._ask(case) for case in (right, wrong, *cheats)}
            found.slowest = max(found.slowest, *((reply.seconds, case.name) for case, reply in asked.items()))
            if asked[right].trouble:  # it does not take this shape, which is no finding
                found.notes.append(f"takes no test such as {right.gold!r}: {asked[right].trouble}")
                continue
            self.answers |= asked
            full_mark = asked[right].rewards[0] if asked[right].rewards else 0.0
            floor = asked[wrong].rewards[0] if asked[wrong].rewards else 0.0
            if (full_mark or 0.0) <= (floor or 0.0):
                found.add("does not pay, and should", f"{full_mark}, and {floor} for a wrong program", right)
            for case, reply in asked.items():
                if reply.trouble:
                    found.add("breaks", reply.trouble, case, reply.lines)
                elif case is not right and (reply.rewards[0] or 0.0) > (floor or 0.0) + _TINY:
                    found.add("pays, and should not", f"{reply.rewards[0]} of {full_mark}", case)
        found.asked = len(self.answers)
        return self._check_contract(self.battery.styles[0])

    def _ask(self, case: Case) -> Reply:
        """Ask about one completion, whose reward comes first, together with a longer one where the kind needs it."""
        cases = [case]
        if self.beside_longer:
            cases.append(case._replace(text="word " * 5000))
        return self.worker.ask(cases, self.limit_s)

    def _reward_of(self, probe: str, style: Style, gold: str | None = None) -> float:
        """Return what the function pays for a probe in `style`, judged by `gold`; 0.0 for None and for a failure."""
        case = self.battery.case(probe, style)
        reply = self._ask(case if gold is None else case._replace(gold=gold))
        return (reply.rewards[0] or 0.0) if reply.rewards else 0.0

    def _settle_kind_and_style(self, kind: str | None, takes_gold: bool) -> tuple[Style, float, float]:
        """Settle the function's kind and the style of completion that it pays, and write both to `found`.

        Returns the style, the full mark (what a golden completion earns in it), and the floor (what a wrong one earns,
        or an empty one where answers are not judged). Where no style pays more, adds a finding; the floor then is 0.0.
        """
        styles, other_gold = self.battery.styles, self.battery.data["problem"][0]["wrong"]
        # First as a function that judges each completion by itself, unless the kind says otherwise; then as one that
        # compares.
        for self.beside_longer in (kind in _SCALED, kind is None or kind in _SCALED):
            paid = [(self._reward_of("golden", s), self._reward_of("golden", s, other_gold)) for s in styles]
            style, full_mark, floor = self._clearest_style(paid)
            if full_mark > floor:
                break
        if kind is None and full_mark > floor:
            ignores_length = not self.beside_longer and _same(self._reward_of("long", style), full_mark)
            kind = "correctness" if ignores_length else "scaled"
        elif kind is None and takes_gold:
            kind = "correctness"
        if kind == "scaled" and self.by_mathematics:
            kind = "scaled_expression"
        self.beside_longer = kind in _SCALED
        if kind is None or self.battery.data["kind"][kind]["judges"] != "answers":
            empty = self._reward_of("empty", styles[0])
            style, full_mark, floor = self._clearest_style([(self._reward_of("golden", s), empty) for s in styles])
            kind = kind or ("format" if full_mark > floor else "shaping")
        about = self.battery.data["kind"][kind]
        self.judges, self.tolerates = about["judges"], {*about.get("tolerates", ())}
        self.found.kind, self.found.rule = kind, about["rule"]
        self.found.style = "any" if self.judges == "nothing" else style["name"]
        if self.judges != "nothing" and full_mark <= floor:
            low = "a wrong answer" if self.judges == "answers" else "an empty completion"
            known = "; ".join(style["name"] for style in self.battery.styles)
            seen = f"{full_mark:g}, and {floor:g} for {low}, in every style that the audit knows ({known})"
            self.found.add("pays no golden completion more", seen)
            floor = 0.0
        elif self.judges == "form" and style is styles[-1]:
            self.found.add("pays no blocks of several lines", "each block must be one line, or it gets less")
        return style, full_mark, floor

    def _clearest_style(self, paid: Sequence[tuple[float, float]]) -> tuple[Style, float, float]:
        """Return the first style that tells a golden completion from a poor one about as well as the best style does.

        The style's two rewards follow. `paid` holds, for each style, the rewards of the golden and of the poor
        completion. A tenth less than the best margin is as good, since some rewards look at the length, too.
        """
        margins = [golden - poor for golden, poor in paid]
        enough = max(margins) - 0.1 * abs(max(margins))
        index = next(index for index, margin in enumerate(margins) if margin >= enough)
        return self.battery.styles[index], *paid[index]

    def _weigh(self, case: Case, right: bool, reward: float | None, full_mark: float, floor: float) -> None:
        """Add a finding where a right answer earns too little, or a cheat too much.

        What the kind may do wrong goes to `found.tolerated`. None counts as less than any reward. Where the form is
        judged, only malformed cheats are weighed.
        """
        paid = -math.inf if reward is None else reward
        if self.judges == "answers":
            if self.found.kind in _SCALED or "loose" in case.labels:
                line = (full_mark + floor) / 2
            else:
                line = full_mark - _TINY if right else floor + _TINY
            bad = paid < line if right else paid > line
        else:
            malformed = self.judges == "form" and not right and bool(case.labels & MALFORMED)
            bad = malformed and paid > full_mark - _TINY
        if bad and case.labels & self.tolerates:
            self.found.tolerated.append(f"{'not paying for ' if right else ''}{case.name}")
        elif bad:
            what = "does not pay, and should" if right else "pays, and should not"
            self.found.add(what, f"{reward} of {full_mark:g}", case)

    def _check_contract(self, style: Style) -> None:
        """Ask again, in every way in which a trainer may ask, about all that was answered quickly.

        The function must be deterministic, independent of the order and (unless scaled) of the batch, blind to other
        columns, picklable, thread-safe, the same for messages and strings, and careful with its input. `style` marks
        the completion that is asked about without a gold. Writes to the findings, `held` and `notes` of `found`. Stops
        early where the first call about all at once breaks or the second shows that the function is not deterministic.
        """
        found = self.found
        asked_again = self._answered_quickly()
        alone = {case: self.answers[case].rewards[0] for case in asked_again}
        limit_s = 2 * self.limit_s + 20 * sum(self.answers[case].seconds for case in asked_again)

        def ask(how: str = "") -> Reply:
            return self.worker.ask(asked_again, limit_s, how)

        first = ask()
        if first.trouble:
            return found.add("breaks when asked about all at once", first.trouble, lines=first.lines)
        together = dict(zip(asked_again, first.rewards, strict=True))
        if not self._holds("deterministic", asked_again, ask(), together):
            return None  # the other checks would mean nothing
        shuffled = random.Random(0).sample(asked_again, len(asked_again))
        any_order = self._holds("independent of the order", shuffled, self.worker.ask(shuffled, limit_s), together)
        if found.kind not in _SCALED:
            self._holds("independent of the batch", asked_again, first, alone)
        self._holds("blind to other columns", asked_again, ask("bare"), together)
        self._holds("picklable", asked_again, ask("copy"), together)
        in_threads = ask("threads")
        # Each thread asks in another order, so a function that depends on the order cannot be checked.
        if in_threads.trouble or any_order:
            self._holds("thread-safe", asked_again, in_threads, together)
        if self.worker.messages:
            turns = self.worker.ask(asked_again[:SLOW_ONES], limit_s, "turns")
            if turns.trouble:
                note = f"fails when a tool was called before the answer (content None): {turns.trouble}"
                found.notes.append(note)
        other = ask("other")
        if other.trouble:
            found.notes.append(f"takes {'messages' if self.worker.messages else 'strings'} only: {other.trouble}")
        else:
            self._holds("the same for messages and strings", asked_again, other, together)
        changed = sorted({reply.changed for reply in self.answers.values()} - {""})
        if changed:
            found.add("not careful with its input", f"writes to {', '.join(changed)}")
        reply = self._ask(self.battery.case("golden", style)._replace(gold=None))
        if self.judges == "answers" and reply.rewards != [None, *reply.rewards[1:]]:
            gave = reply.trouble or f"pays {reply.rewards[0]}"
            found.notes.append(f"without a gold it {gave}; None would say that it cannot judge")
        return None

    def _answered_quickly(self) -> list[Case]:
        """Return the short completions that gave no trouble: the quick ones, and slow ones up to `SLOW_ONES` in all."""
        seconds = {case: reply.seconds for case, reply in self.answers.items()}
        short = [case for case, reply in self.answers.items() if not reply.trouble and len(case.text) < LONG]
        short.sort(key=lambda case: seconds[case] >= SLOW_S)
        quick = sum(seconds[case] < SLOW_S for case in short)
        return short[: max(SLOW_ONES, quick)]

    def _holds(self, part: str, cases: Sequence[Case], reply: Reply, expected: Mapping[Case, float | None]) -> bool:
        """Tell whether `reply` pays what was expected, and note it in `found.held`; else add one finding."""
        if reply.trouble:
            self.found.add(f"not {part}", reply.trouble)
            return False
        for case, paid in zip(cases, reply.rewards, strict=False):
            if not _same(paid, expected[case]):
                self.found.add(f"not {part}", f"{paid} here, {expected[case]} before", case)
                return False
        self.found.held.append(part)
        return True


def _same(some: float | None, other: float | None) -> bool:
    """Tell whether two rewards are both None, or equal but for rounding, as when a sum is taken in another order."""
    if some is None or other is None:
        return some is other
    return math.isclose(some, other, rel_tol=1e-6, abs_tol=_TINY)
