"""Judge a reward function: try cheats and right answers on it, weigh what it pays, and check its contract.

`battery.toml` and the files of `answers/` hold the cases, the kinds of functions, and what each kind is judged by.
What a right number is, `grpo_colab.rewards.number_parser` and `.grading` say.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Final

from grpo_colab.rewards.audit.answers import WORDS, kind_of_golds
from grpo_colab.rewards.audit.asking import Asker
from grpo_colab.rewards.audit.battery import LONG, MALFORMED, Style
from grpo_colab.rewards.audit.worker import Case, Reply

MOST_HANGS: Final = 15  # completions that may end the process before the audit stops trying
SLOW_S: Final = 0.1  # an answer that takes longer is slow
SLOW_ONES: Final = 12  # completions that even a slow function is asked about together
EVERY_KIND: Final = ("number", "json", "choice", "text")  # of answers, in the order in which they are tried
_SCALED: Final = ("scaled", "scaled_expression")
_TINY: Final = 1e-9  # a difference between rewards that is only rounding


class Judge(Asker):
    """Ask a function about the battery, weigh what it pays, and write what is wrong to `found`."""

    by_mathematics = False  # whether an expression may stand for its value in a scaled reward
    declared: str | None = None  # the kind of answer that the function says that it judges

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.answers: dict[Case, Reply] = {}

    def judge(self, kind: str | None, takes_gold: bool) -> None:
        """Run the whole audit of a function of this kind, or of a kind to be detected (None), and write to `found`.

        `takes_gold` says that the function has a parameter for the gold. A function that fails on a golden completion
        is asked no more.
        """
        if kind == "code":
            return self._judge_programs()
        candidates = list(EVERY_KIND)
        if kind is not None or not takes_gold:
            candidates = [kind if kind in WORDS else "number"]
        elif self.declared is not None:
            candidates = [self.declared]
        elif self.examples:
            of_golds = kind_of_golds([example.text for example in self.examples])
            candidates = [of_golds if of_golds in WORDS else "number"]
            kind = "expression" if of_golds == "math" else None
        usable = self.usable(candidates)
        if not usable:
            return None
        self.use(usable[0] if len(candidates) == 1 else self.settle_answers(usable))
        style, full_mark, floor = self._settle_kind_and_style(kind, takes_gold)
        if self.battery.answers in WORDS:
            self.leave_out_refused(style)
        right = self.battery.cases("right", style, self.judges == "form")
        cheats = self.battery.cases("cheat", style, self.judges == "form")
        for case in [*right, *cheats]:
            self.answers[case] = reply = self.ask(case)
            self.found.slowest = max(self.found.slowest, (reply.seconds, case.name))
            if reply.trouble and not (case.gold == "" and not reply.ended):  # an empty gold may be refused
                self.found.add("breaks", reply.trouble, case, reply.lines, group=reply.trouble)
            elif not reply.trouble:
                self._weigh(case, case in right, reply.rewards[0], full_mark, floor)
            if sum(reply.ended for reply in self.answers.values()) == MOST_HANGS:
                self.found.notes.append(f"stopped after {MOST_HANGS} completions that ended it, before trying the rest")
                break
        self.found.asked = len(self.answers)
        return self._check_contract(style)

    @property
    def plain_kind(self) -> str:
        """Return the kind of a function that judges the answers of the battery in use and nothing else."""
        return self.battery.answers if self.battery.answers in WORDS else "correctness"

    def _judge_programs(self) -> None:
        """Weigh what a reward for programs pays in each shape of a test that it takes, then check its contract.

        A shape that the reward does not take becomes a note. A reward that fails on the first right program is asked no
        more.
        """
        found = self.found
        battery = self.use("code")
        found.kind, self.judges = "code", "programs"
        found.rule = battery.data["kind"]["code"]["rule"]
        shapes, trouble = self._programs_as_taken()
        if trouble is not None:
            return found.add("fails on a golden completion", trouble.trouble, lines=trouble.lines)
        for right, wrong, *cheats in shapes:
            asked = {case: self.ask(case) for case in (right, wrong, *cheats)}
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
                    found.add("breaks", reply.trouble, case, reply.lines, group=reply.trouble)
                elif case is not right and (reply.rewards[0] or 0.0) > (floor or 0.0) + _TINY:
                    found.add("pays, and should not", f"{reply.rewards[0]} of {full_mark}", case, group=case.group)
        found.asked = len(self.answers)
        return self._check_contract(self.battery.styles[0])

    def _programs_as_taken(self) -> tuple[list[list[Case]], Reply | None]:
        """Return the programs in the form in which the reward pays for the first right one, and write it to the style.

        The forms are messages or texts, a list of tests or one text, and a fence alone or in an answer tag. Where none
        is paid for, they are in the first form that gives no trouble. Where all give trouble, the reply of the first
        is returned as well.
        """
        taken, trouble = None, None
        for style in (None, self.battery.styles[0]):
            self.found.style = "python in a fence" if style is None else f"python in a fence, in {style['name']}"
            for self.worker.messages, as_list in ((True, True), (True, False), (False, True), (False, False)):
                shapes = self.battery.programs(as_list, style)
                right, wrong = (self.ask(case) for case in shapes[0][:2])
                if right.ended:
                    return shapes, right
                if not right.trouble and not wrong.trouble and (right.rewards[0] or 0.0) > (wrong.rewards[0] or 0.0):
                    return shapes, None
                trouble = trouble or right
                if not right.trouble and taken is None:
                    taken = (shapes, self.worker.messages, self.found.style)
        if taken is None:
            return [], trouble
        shapes, self.worker.messages, self.found.style = taken
        return shapes, None

    def _settle_kind_and_style(self, kind: str | None, takes_gold: bool) -> tuple[Style, float, float]:
        """Settle the function's kind and the style of completion that it pays, and write both to `found`.

        Returns the style, the full mark (what a golden completion earns in it), and the floor (what a wrong one earns,
        or an empty one where answers are not judged). Where no style pays more, adds a finding; the floor then is 0.0.
        """
        styles, other_gold = self.battery.styles, self.battery.first["wrong"]
        # First as a function that judges each completion by itself, unless the kind says otherwise; then as one that
        # compares.
        for self.beside_longer in (kind in _SCALED, kind is None or kind in _SCALED):
            paid = [(self.reward_of("golden", s), self.reward_of("golden", s, other_gold)) for s in styles]
            style, full_mark, floor = self.clearest_style(paid)
            if full_mark > floor:
                break
        if kind is None and full_mark > floor:
            # Reasoning may make a completion longer, and there is none in a style that is bare.
            ignores_length = not self.beside_longer and (
                bool(style.get("bare")) or _same(self.reward_of("long", style), full_mark)
            )
            kind = self.plain_kind if ignores_length else "scaled"
        elif kind is None and takes_gold:
            kind = self.plain_kind
        if kind == "scaled" and self.by_mathematics:
            kind = "scaled_expression"
        self.beside_longer = kind in _SCALED
        if kind is None or self.battery.data["kind"][kind]["judges"] != "answers":
            empty = self.reward_of("empty", styles[0])
            style, full_mark, floor = self.clearest_style([(self.reward_of("golden", s), empty) for s in styles])
            kind = kind or ("format" if full_mark > floor else "shaping")
        about = self.battery.data["kind"][kind]
        self.judges, self.tolerates = about["judges"], {*about.get("tolerates", ())}
        self.halfway = bool(about.get("halfway"))
        self.found.kind, self.found.rule = kind, about["rule"]
        self.found.style = "any" if self.judges == "nothing" else style["name"]
        if self.judges != "nothing" and full_mark <= floor:
            low = "a wrong answer" if self.judges == "answers" else "an empty completion"
            known = "; ".join(style["name"] for style in self.battery.styles)
            seen = f"{full_mark:g}, and {floor:g} for {low}, in every style that the audit knows ({known})"
            self.found.add("pays no golden completion more", seen)
            if self.judges == "answers" and not self.examples:
                self.found.notes.append(
                    "it may need golds of its own: --golds FILE or --task RECIPE takes them from there"
                )
            floor = 0.0
        elif self.judges == "form" and style.get("one_line"):
            self.found.add("pays no blocks of several lines", "each block must be one line, or it gets less")
        return style, full_mark, floor

    def _weigh(self, case: Case, right: bool, reward: float | None, full_mark: float, floor: float) -> None:
        """Add a finding where a right answer earns too little, or a cheat too much.

        What the kind may do wrong goes to `found.tolerated`, and what a function may be strict about to `found.strict`.
        None counts as less than any reward. Where the form is judged, only malformed cheats are weighed.
        """
        paid = -math.inf if reward is None else reward
        if self.judges == "answers":
            if self.found.kind in _SCALED or "loose" in case.labels or self.halfway:
                line = (full_mark + floor) / 2
            else:
                line = full_mark - _TINY if right else floor + _TINY
            bad = paid < line if right else paid > line
        else:
            malformed = self.judges == "form" and not right and bool(case.labels & MALFORMED)
            bad = malformed and paid > full_mark - _TINY
        if bad and case.labels & self.tolerates:
            self.found.tolerated.append(f"{'not paying for ' if right else ''}{case.name}")
        elif bad and right and case.strict:
            self.found.strict.setdefault(case.strict, []).append(case.name)
        elif bad:
            what = "does not pay, and should" if right else "pays, and should not"
            self.found.add(what, f"{reward} of {full_mark:g}", case, group=case.group)

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
        if self.judges == "answers":
            reply = self.ask(self.battery.case("golden", style)._replace(gold=None))
            if reply.rewards != [None, *reply.rewards[1:]]:
                gave = f"fails ({reply.trouble})" if reply.trouble else f"pays {reply.rewards[0]}"
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
