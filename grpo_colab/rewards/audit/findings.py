"""What an audit has found, and its report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from grpo_colab.rewards.audit.worker import Case
from grpo_colab.text import on_one_line, printable


class Finding(NamedTuple):
    """One thing that is wrong: `what`, the `case` of the battery that shows it ("" for none), and what was `seen`.

    `group` is the kind of fault, "" for one of its own. `lines` are the lines of the function's code where it broke.
    """

    what: str
    case: str
    seen: str
    group: str = ""
    lines: tuple[str, ...] = ()


@dataclass
class Audit:
    """What an audit found; `str()` of it is the report.

    `kind` is the function's, `rule` what this kind promises, `style` how the answers that it pays are marked. `asked`
    is the number of completions, `tolerated` what the kind may do wrong, `strict` what the function is strict about,
    by its name the right answers that it does not pay for that. `held` are the parts of the contract that are kept.
    `notes` are no findings. `slowest` has the seconds and the name of the completion that took longest.
    """

    name: str
    kind: str = "unknown"
    rule: str = "nothing was judged"
    style: str = "unknown"
    asked: int = 0
    findings: list[Finding] = field(default_factory=list)
    tolerated: list[str] = field(default_factory=list)
    strict: dict[str, list[str]] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "none")

    @property
    def ok(self) -> bool:
        """Tell whether nothing was found to be wrong."""
        return not self.findings

    def add(self, what: str, seen: str, case: Case | None = None, lines: Sequence[str] = (), group: str = "") -> None:
        """Add a finding to `findings`. It has the name, the completion and the gold of a `case` that is given.

        Findings of one `group` are told together. Those with `lines` are told with what broke in the same lines.
        """
        shown = "" if case is None else f": {_shown(case.text)} for {case.gold or 'an empty gold'}"
        group = "\n".join(lines) or group
        self.findings.append(Finding(what, case.name if case else "", seen + shown, group, tuple(lines)))

    def __str__(self) -> str:
        return self.text()

    def text(self, every: bool = False) -> str:
        """Return the report: a line for each kind of fault, with its number and one example, or for `every` finding."""
        lines = [
            f"{on_one_line(self.name)}: {self.asked} completions, kind {self.kind} ({self.rule}), style {self.style}"
        ]
        for what in dict.fromkeys(finding.what for finding in self.findings):
            alike = [finding for finding in self.findings if finding.what == what]
            lines.append(f"{what} ({len(alike)})")
            lines += _finding_lines(alike, every)
        if self.tolerated:
            lines.append(f"as the kind {self.kind} allows ({len(self.tolerated)}): {'; '.join(self.tolerated)}")
        if self.strict:
            told = "; ".join(f"{about} ({', '.join(names)})" for about, names in self.strict.items())
            lines.append(f"strict about: {told}")
        lines += [f"note: {on_one_line(note)}" for note in self.notes]
        if self.asked:
            lines.append(f"holds: {', '.join(self.held) or 'nothing'}")
            lines.append(f"slowest answer: {self.slowest[0]:.3f} s, for {self.slowest[1]!r}")
        return "\n".join([*lines, "ok" if self.ok else f"{len(self.findings)} found to be wrong"])


def _finding_lines(findings: Sequence[Finding], every: bool) -> Iterator[str]:
    """Yield the lines of findings of one sort: of each group its number and its first finding, or `every` finding."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.group, []).append(finding)
    for group, alike in groups.items():
        first = alike[0]
        if group and not first.lines and not first.seen.startswith(group):
            heading = f"{group} ({len(alike)})"
        else:  # the group is told by the finding itself
            heading = f"{len(alike)} times" if group and len(alike) > 1 else ""
        if every or not group:
            yield from (f"  {heading}",) if heading else ()
            indent = "    " if heading else "  "
            yield from (f"{indent}{_line(finding)}" for finding in alike)
        else:
            yield f"  {heading}: {_line(first)}" if heading else f"  {_line(first)}"
        yield from (f"    {printable(line)}" for line in first.lines)


def _line(finding: Finding) -> str:
    case = f"{finding.case}, " if finding.case else ""
    return f"{case}{on_one_line(finding.seen)}"


def _shown(text: str) -> str:
    """Return a completion as an error shows it: whole where it is short, else its two ends."""
    return repr(text) if len(text) <= 80 else f"{text[:25]!r} ... {text[-50:]!r}"
