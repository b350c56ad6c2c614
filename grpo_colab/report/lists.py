"""What the page's two lists show: every completion in training, and each held-out problem before and after."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from grpo_colab.console import is_secret, masked
from grpo_colab.files import number
from grpo_colab.report.reading import SIDES, Reading
from grpo_colab.report.shell import shown
from grpo_colab.rewards import grade

LONGEST: Final = 12_000  # characters of one text: the beginning and the end of a longer one
LONGEST_EXTRA: Final = 2000  # of what a reward gave to log_extra
MOST_MESSAGES: Final = 60  # of a prompt, and columns of log_extra
MOST_REWARDS: Final = 60  # names, which are columns of all completions
OVERHEAD: Final = 80  # characters that a row takes beside its texts
KINDS: Final = ("lost", "gained", "wrong in both", "right in both", "answered once")  # in this order


class Group(NamedTuple):
    """The completions of one prompt in one step of the n-th run, with the characters that they take."""

    size: int
    n: int
    rows: list[dict[str, Any]]


class Gathered(NamedTuple):
    """What the lists are made of, as often as it takes until they fit."""

    groups: list[Group]
    problems: list[tuple[int, dict[str, Any]]]


def gather(readings: Sequence[Reading]) -> Gathered:
    return Gathered(_groups(readings), _problems(readings))


def lists(readings: Sequence[Reading], gathered: Gathered, most: int) -> dict[str, Any]:
    """Both lists as the page's script takes them, of at most about `most` characters; each says what it leaves out."""
    completions, problems = gathered
    sizes = [sum(size for size, *_ in found) for found in (completions, problems)]
    halves = [min(size, max(most // 2, most - other)) for size, other in zip(sizes, reversed(sizes), strict=True)]
    found = {"completions": _completions(readings, completions, halves[0]), "problems": _first(problems, halves[1])}
    return {**found, "characters": min(most, sum(sizes))}


def clipped(value: Any) -> str:
    """A text for the page's data; of a long one the two ends, since answers stand at the end."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if len(text) > LONGEST:
        text = masked(text)  # before it is cut, for what opens something might be cut in two
    if len(text) <= LONGEST:
        return shown(text, LONGEST)
    head, tail, left = text[: 2 * LONGEST // 3], text[-LONGEST // 3 :], len(text) - LONGEST
    gap = f"\n[... {left:,} of {len(text):,} characters are left out ...]\n"
    return shown(head, LONGEST) + gap + shown(tail, LONGEST)


def _groups(readings: Sequence[Reading]) -> list[Group]:
    """In the order of the files. The texts themselves are made for those alone that are shown."""
    groups: dict[int, tuple[list[int], int, list[dict[str, Any]]]] = {}  # by a hash: the prompts are most of a file
    for n, reading in enumerate(readings):
        for row in reading.completions:
            asked = _messages(row.get("prompt"))
            key = hash((n, number(row.get("step")), str(row.get("group")), asked))
            size, _, rows = groups.setdefault(key, ([_asked_size(asked)], n, []))
            size[0] += _size(row)
            rows.append(row)
    return [Group(size[0], n, rows) for size, n, rows in groups.values()]


def _extra(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What the rewards gave to log_extra for this completion, by column; torn or empty ones are left out."""
    found = row["extra"] if isinstance(row.get("extra"), dict) else {}
    return [
        (shown(name, 80), shown(f"{value:.6g}" if isinstance(value, float) else value, LONGEST_EXTRA))
        for name, value in list(found.items())[:MOST_MESSAGES]
        if value is not None and not is_secret(name)
    ]


def _asked_size(asked: tuple[tuple[str, str], ...]) -> int:
    return sum(len(role) + len(content) + OVERHEAD for role, content in asked)


def _size(row: dict[str, Any]) -> int:
    return len(clipped(row.get("completion"))) + sum(len(name) + len(value) for name, value in _extra(row)) + OVERHEAD


def _messages(prompt: Any) -> tuple[tuple[str, str], ...]:
    """Role and content of each, at least one; a prompt that is a text alone has no role."""
    if not isinstance(prompt, list) or not prompt:
        return (("", clipped(prompt)),)
    few = [*prompt[: MOST_MESSAGES - 1], prompt[-1]] if len(prompt) > MOST_MESSAGES else prompt
    said = (one if isinstance(one, dict) else {"content": one} for one in few)
    return tuple((shown(one.get("role", ""), 40), clipped(one.get("content"))) for one in said)


def _completions(readings: Sequence[Reading], groups: Sequence[Group], most: int) -> dict[str, Any]:
    """In columns. Over `most` characters, whole groups are left out, evenly over the steps."""
    share = min(1.0, most / max(1, sum(group.size for group in groups)))
    kept = [group for n, group in enumerate(groups) if int((n + 1) * share) > int(n * share)]
    rows = [row for group in kept for row in group.rows]
    runs = [group.n for group in kept for _ in group.rows]
    prompts: dict[tuple[tuple[str, str], ...], int] = {}
    asked = [prompts.setdefault(_messages(group.rows[0].get("prompt")), len(prompts)) for group in kept]
    rewards = [found if isinstance(found := row.get("rewards"), dict) else {} for row in rows]
    names = list(dict.fromkeys(name for found in rewards for name in found))
    whole = sum(len(group.rows) for group in groups)
    said = [f"{len(rows):,} of {whole:,} completions, evenly over the steps."] if len(rows) < whole else []
    if len(names) > MOST_REWARDS:
        said.append(f"{MOST_REWARDS} of {len(names):,} rewards.")
        names = names[:MOST_REWARDS]
    return {
        "said": " ".join(said),
        "prompts": list(prompts),
        "names": [shown(name, 80) for name in names],
        "run": runs,
        "step": [number(row.get("step")) for row in rows],
        "group": [n for n, group in enumerate(kept) for _ in group.rows],
        "prompt": [n for n, group in zip(asked, kept, strict=True) for _ in group.rows],
        "text": [clipped(row.get("completion")) for row in rows],
        "answer": [None if row.get("answer") is None else clipped(row["answer"]) for row in rows],
        "reward": [_short(readings[n].paid(r) if r else None) for n, r in zip(runs, rewards, strict=True)],
        "parts": [[_short(number(found.get(name))) for name in names] for found in rewards],
        "extra": [_extra(row) for row in rows],
        "advantage": [_short(number(row.get("advantage"))) for row in rows],
        "verdict": [_verdict(readings[n], row) for n, row in zip(runs, rows, strict=True)],
    }


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _verdict(reading: Reading, row: dict[str, Any]) -> str | None:
    """By the task's own parser, where one number is the answer; completions.jsonl has none."""
    if reading.gradable:
        with contextlib.suppress(TypeError, ValueError):  # of a file that someone else wrote
            return grade(row.get("completion"), row.get("answer")).reason.replace("_", " ")  # type: ignore[arg-type]
    return None


def _problems(readings: Sequence[Reading]) -> list[tuple[int, dict[str, Any]]]:
    found = []
    for n, reading in enumerate(readings):
        for sides in reading.pairs():
            asked = next(side for side in sides if side is not None)
            one: dict[str, Any] = {"run": n, "kind": _kind(*sides)}
            one |= {key: clipped(asked.get(key)) for key in ("question", "answer")}
            for name, side in zip(SIDES, sides, strict=True):
                one[name] = None if side is None else clipped(side.get("completion"))
                verdict = None if side is None else side.get("verdict")
                one[f"{name}_verdict"] = None if verdict is None else shown(verdict, 60).replace("_", " ")
            found.append((sum(len(str(value)) for value in one.values()) + OVERHEAD, one))
    return sorted(found, key=lambda pair: KINDS.index(pair[1]["kind"]))


def _kind(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    if before is None or after is None:
        return "answered once"
    was, now = before.get("right") is True, after.get("right") is True
    return ("right in both" if now else "lost") if was else "gained" if now else "wrong in both"


def _first(problems: Sequence[tuple[int, dict[str, Any]]], most: int) -> dict[str, Any]:
    kept, taken = [], 0
    for size, one in problems:
        taken += size
        if taken > most:
            break
        kept.append(one)
    fewer = len(kept) < len(problems)
    said = f"{len(kept):,} of {len(problems):,} problems: those that changed first." if fewer else ""
    return {"said": said, "kinds": KINDS, "rows": kept}
