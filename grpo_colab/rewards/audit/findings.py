"""What an audit has found, and its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from grpo_colab.rewards.audit.worker import Case
from grpo_colab.text import on_one_line, printable


class Finding(NamedTuple):
    """One thing that is wrong: `what`, the `case` of the battery that shows it ("" for none), and what was `seen`.

    `lines` are the lines of the function's code where it broke.
    """

    what: str
    case: str
    seen: str
    lines: tuple[str, ...] = ()


@dataclass
class Audit:
    """What an audit found; `str()` of it is the report.

    `kind` is the function's, `rule` what this kind promises, `style` how the answers that it pays are marked. `asked`
    is the number of completions, `tolerated` what the kind may do wrong, `held` the parts of the contract that are
    kept. `notes` are no findings. `slowest` has the seconds and the name of the completion that took longest.
    """

    name: str
    kind: str = "unknown"
    rule: str = "nothing was judged"
    style: str = "unknown"
    asked: int = 0
    findings: list[Finding] = field(default_factory=list)
    tolerated: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "none")

    @property
    def ok(self) -> bool:
        """Tell whether nothing was found to be wrong."""
        return not self.findings

    def add(self, what: str, seen: str, case: Case | None = None, lines: tuple[str, ...] = ()) -> None:
        """Add a finding to `findings`. It has the name, the completion and the gold of a `case` that is given."""
        shown = "" if case is None else f": {_shown(case.text)} for {case.gold}"
        self.findings.append(Finding(what, case.name if case else "", seen + shown, lines))

    def __str__(self) -> str:
        lines = [
            f"{on_one_line(self.name)}: {self.asked} completions, kind {self.kind} ({self.rule}), style {self.style}"
        ]
        for what in dict.fromkeys(finding.what for finding in self.findings):
            alike = [finding for finding in self.findings if finding.what == what]
            lines.append(f"{what} ({len(alike)})")
            told: set[tuple[str, ...]] = set()
            for finding in alike:
                case = f"{finding.case}, " if finding.case else ""
                lines.append(f"  {case}{on_one_line(finding.seen)}")
                if finding.lines not in told:
                    lines += [f"    {printable(line)}" for line in finding.lines]
                    told.add(finding.lines)
        if self.tolerated:
            lines.append(f"as the kind {self.kind} allows ({len(self.tolerated)}): {'; '.join(self.tolerated)}")
        lines += [f"note: {on_one_line(note)}" for note in self.notes]
        if self.asked:
            lines.append(f"holds: {', '.join(self.held) or 'nothing'}")
            lines.append(f"slowest answer: {self.slowest[0]:.3f} s, for {self.slowest[1]!r}")
        return "\n".join([*lines, "ok" if self.ok else f"{len(self.findings)} found to be wrong"])


def _shown(text: str) -> str:
    """Return a completion as an error shows it: whole where it is short, else its two ends."""
    return repr(text) if len(text) <= 80 else f"{text[:25]!r} ... {text[-50:]!r}"
