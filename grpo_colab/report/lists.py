"""What the page's two lists show: every completion in training, and each held-out problem before and after."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Final

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


def lists(readings: Sequence[Reading], most: int) -> dict[str, Any]:
    """Both lists as the page's script takes them, of at most about `most` characters; each says what it leaves out."""
    completions, problems = _groups(readings), _problems(readings)
    sizes = [sum(size for size, _ in found) for found in (completions, problems)]
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


def _groups(readings: Sequence[Reading]) -> list[tuple[int, list[dict[str, Any]]]]:
    """The completions of one prompt in one step, together, with their characters; in the order of the files."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for n, reading in enumerate(readings):
        for row in reading.completions:
            step = number(row.get("step"))
            asked = _messages(row.get("prompt"))
            one: dict[str, Any] = {"run": n, "step": step, "asked": asked, "row": row, "extra": _extra(row)}
            one["text"] = clipped(row.get("completion"))
            groups.setdefault((n, step, str(row.get("group")), asked), []).append(one)
    return [(_asked_size(group[0]) + sum(map(_size, group)), group) for group in groups.values()]


def _extra(row: dict[str, Any]) -> list[tuple[str, str]]:
    """What the rewards gave to log_extra for this completion, by column; torn or empty ones are left out."""
    found = row["extra"] if isinstance(row.get("extra"), dict) else {}
    return [
        (shown(name, 80), shown(f"{value:.6g}" if isinstance(value, float) else value, LONGEST_EXTRA))
        for name, value in list(found.items())[:MOST_MESSAGES]
        if value is not None and not is_secret(name)
    ]


def _asked_size(one: dict[str, Any]) -> int:
    return sum(len(role) + len(content) + OVERHEAD for role, content in one["asked"])


def _size(one: dict[str, Any]) -> int:
    return len(one["text"]) + sum(len(name) + len(value) for name, value in one["extra"]) + OVERHEAD


def _messages(prompt: Any) -> tuple[tuple[str, str], ...]:
    """Role and content of each, at least one; a prompt that is a text alone has no role."""
    if not isinstance(prompt, list) or not prompt:
        return (("", clipped(prompt)),)
    few = [*prompt[: MOST_MESSAGES - 1], prompt[-1]] if len(prompt) > MOST_MESSAGES else prompt
    said = (one if isinstance(one, dict) else {"content": one} for one in few)
    return tuple((shown(one.get("role", ""), 40), clipped(one.get("content"))) for one in said)


def _completions(
    readings: Sequence[Reading], groups: Sequence[tuple[int, list[dict[str, Any]]]], most: int
) -> dict[str, Any]:
    """In columns. Over `most` characters, whole groups are left out, evenly over the steps."""
    share = min(1.0, most / max(1, sum(size for size, _ in groups)))
    kept = [group for n, (_, group) in enumerate(groups) if int((n + 1) * share) > int(n * share)]
    rows = [one for group in kept for one in group]
    prompts = {asked: n for n, asked in enumerate(dict.fromkeys(one["asked"] for one in rows))}
    rewards = [found if isinstance(found := one["row"].get("rewards"), dict) else {} for one in rows]
    names = list(dict.fromkeys(name for found in rewards for name in found))
    whole = sum(len(group) for _, group in groups)
    said = [f"{len(rows):,} of {whole:,} completions, evenly over the steps."] if len(rows) < whole else []
    if len(names) > MOST_REWARDS:
        said.append(f"{MOST_REWARDS} of {len(names):,} rewards.")
        names = names[:MOST_REWARDS]
    return {
        "said": " ".join(said),
        "prompts": list(prompts),
        "names": [shown(name.removesuffix("_reward"), 80) for name in names],
        "run": [one["run"] for one in rows],
        "step": [one["step"] for one in rows],
        "group": [n for n, group in enumerate(kept) for _ in group],
        "prompt": [prompts[one["asked"]] for one in rows],
        "text": [one["text"] for one in rows],
        "answer": [None if one["row"].get("answer") is None else clipped(one["row"]["answer"]) for one in rows],
        "reward": [_short(readings[one["run"]].paid(r) if r else None) for one, r in zip(rows, rewards, strict=True)],
        "parts": [[_short(number(found.get(name))) for name in names] for found in rewards],
        "extra": [one["extra"] for one in rows],
        "advantage": [_short(number(one["row"].get("advantage"))) for one in rows],
        "verdict": [_verdict(readings[one["run"]], one["row"]) for one in rows],
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
