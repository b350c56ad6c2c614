"""Ask a function what it pays, and find out by that which kind of answers it judges."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Final

from grpo_colab.rewards.audit.answers import Example, declared_locale, declared_style
from grpo_colab.rewards.audit.battery import Battery, Style
from grpo_colab.rewards.audit.findings import Audit
from grpo_colab.rewards.audit.worker import Case, Reply, Worker

CHOICES: Final = "choices"  # the column of a row's own options
# Ways to write a number that a reward which compares texts does not pay.
_RESTYLED: Final = (
    "no comma",
    "dollars",
    "decimals",
    "a unit",
    "bold",
    "a sentence",
    "a fraction",
    "full-width digits",
)


class Asker:
    """Asks a function about completions, for the judge, and knows the battery of each kind of answer.

    `battery` is the one in use. `hint` is the kind of answer that the function's source hints at.
    """

    def __init__(
        self, found: Audit, worker: Worker, column: str, limit_s: float, examples: Sequence[Example] = ()
    ) -> None:
        self.found, self.worker, self.column, self.limit_s, self.examples = found, worker, column, limit_s, examples
        # Whether each completion is asked about together with a longer one, which rewards that compare need.
        self.beside_longer = False
        self.hint: str | None = None
        self._batteries: dict[str, Battery] = {}
        self.use("number")

    def use(self, answers: str) -> Battery:
        """Ask by the battery of this kind of answer from now on, with the columns of its problems; return it."""
        if answers not in self._batteries:
            function = self.worker.function
            style, locale = declared_style(function), declared_locale(function)
            self._batteries[answers] = Battery(self.column, answers, self.examples, style, locale)
        self.battery = self._batteries[answers]
        has_choices = answers == "choice" and not self.examples and _accepts(self.worker.function, CHOICES)
        usual = self.examples[0].columns if self.examples else {}
        columns = []
        for problem in self.battery.data.get("problem", ()):
            columns.append({CHOICES: problem["labels"]} if has_choices else problem.get("columns", usual))
        self.worker.data = self.worker.data._replace(columns=columns)
        return self.battery

    def usable(self, candidates: Sequence[str]) -> list[str]:
        """Return those kinds of answers of whose golden completions one at least gives no trouble, in some style.

        It settles whether completions are messages, or else strings: whichever the function takes. Where it fails on
        all, adds a finding, and returns an empty list.
        """
        first = None
        for self.worker.messages in (True, False):
            fit = []
            for answers in candidates:
                battery = self.use(answers)
                for style in battery.styles:
                    reply = self.ask(battery.case("golden", style))
                    first = first or reply
                    if first.ended and reply is first:
                        self.found.add("fails on a golden completion", first.trouble, lines=first.lines)
                        return []
                    if not reply.trouble:
                        fit.append(answers)
                        break
            if fit:
                return fit
        if first is not None:
            self.found.add("fails on a golden completion", first.trouble, lines=first.lines)
        return []

    def settle_answers(self, usable: Sequence[str]) -> str:
        """Return the kind of answer that the function judges, as what it pays and its source show.

        A function that pays the golds of every kind compares texts. Then its source decides, and without a hint there
        it is one for texts; a note says what it does with numbers.
        """
        styles: dict[str, Style | None] = {}
        for answers in usable:
            battery = self.use(answers)
            # What pays numbers in one style is asked about the other kinds in that style.
            known = styles.get("number")
            styles[answers] = self._paying_style(battery.styles if known is None else [known])
        pays_words = bool(styles.get("text") or styles.get("choice"))
        if styles.get("json") and self._pays_equal_json(styles["json"]):
            return "json"
        if not pays_words:
            return "number" if styles.get("number") or self.hint not in usable else str(self.hint)
        if self.hint in usable:
            return str(self.hint)
        if styles.get("number"):
            self._note_on_numbers(styles["number"])
        return "text" if styles.get("text") else "choice"

    def _paying_style(self, styles: Sequence[Style]) -> Style | None:
        """Return the first style in which a golden completion of the battery in use pays more than a wrong one."""
        wrong = self.battery.first["wrong"]
        for style in styles:
            if self.reward_of("golden", style) > self.reward_of("golden", style, wrong):
                return style
        return None

    def _pays_equal_json(self, style: Style | None) -> bool:
        """Tell whether another order of the keys pays more than a wrong object, in a style that pays JSON."""
        assert style is not None
        battery = self.use("json")
        right = {case.name: case for case in battery.cases("right", style, False)}
        case = right.get("another order of the keys")
        if case is None:
            return False
        reply = self.ask(case)
        wrong = self.ask(case._replace(text=battery.case("wrong", style, case.gold).text))
        return bool(reply.rewards and wrong.rewards and (reply.rewards[0] or 0.0) > (wrong.rewards[0] or 0.0))

    def leave_out_refused(self, style: Style) -> None:
        """Leave out the problems of the battery in use whose gold the function fails on or cannot judge by.

        Such a function may know the golds of its own data alone. A note names them. All stay where none can be judged.
        """
        troubles = {}
        for gold in self.battery.golds:
            reply = self.ask(self.battery.case("golden", style, gold))
            if not reply.ended and (reply.trouble or reply.rewards[0] is None):
                troubles[gold] = reply.trouble or "it pays None"
        if not troubles or len(troubles) == len(self.battery.golds):
            return
        self.battery.refused.update(troubles)
        note = (
            f"it cannot judge by the golds {', '.join(troubles)}, which were left out: {next(iter(troubles.values()))}"
        )
        self.found.notes.append(note if self.examples else f"{note}; --golds FILE or --task RECIPE takes yours")

    def _note_on_numbers(self, style: Style | None) -> None:
        """Note which ways to write a number a function does not pay that pays golds of every kind."""
        assert style is not None
        battery = self.use("number")
        cases = [case for case in battery.cases("right", style, False) if case.name in _RESTYLED]
        unpaid = []
        for case in cases:
            reply = self.ask(case)
            if not reply.rewards or not reply.rewards[0]:
                unpaid.append(case.name)
        note = "it compares texts, whatever they are: name the kind of its golds with --kind"
        if unpaid:
            note += (
                f"; if they are numbers, it misses {len(unpaid)} of {len(cases)} ways to write one "
                f"({', '.join(unpaid)}): --kind number"
            )
        self.found.notes.append(note)

    def ask(self, case: Case) -> Reply:
        """Ask about one completion, whose reward comes first, together with a longer one where the kind needs it."""
        cases = [case]
        if self.beside_longer:
            cases.append(case._replace(text="word " * 5000))
        return self.worker.ask(cases, self.limit_s)

    def reward_of(self, probe: str, style: Style, gold: str | None = None) -> float:
        """Return what the function pays for a probe in `style`, judged by `gold`; 0.0 for None and for a failure."""
        case = self.battery.case(probe, style)
        reply = self.ask(case if gold is None else case._replace(gold=gold))
        return (reply.rewards[0] or 0.0) if reply.rewards else 0.0

    def clearest_style(self, paid: Sequence[tuple[float, float]]) -> tuple[Style, float, float]:
        """Return the first style that tells a golden completion from a poor one about as well as the best style does.

        The style's two rewards follow. `paid` holds, for each style, the rewards of the golden and of the poor
        completion. A tenth less than the best margin is as good, since some rewards look at the length, too.
        """
        margins = [golden - poor for golden, poor in paid]
        enough = max(margins) - 0.1 * abs(max(margins))
        index = next(index for index, margin in enumerate(margins) if margin >= enough)
        return self.battery.styles[index], *paid[index]


def _accepts(function: Callable[..., Any], column: str) -> bool:
    """Tell whether a function takes an argument of this name."""
    parameters = inspect.signature(function).parameters.values()
    return any(parameter.name == column or parameter.kind is parameter.VAR_KEYWORD for parameter in parameters)
