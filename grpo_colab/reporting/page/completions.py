"""What the page's two lists show: every completion in training, and each held-out problem before and after."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from grpo_colab.reporting.page.html import display_text, readable, short_name
from grpo_colab.reporting.page.run_reader import RunData
from grpo_colab.tasks.conversations import distinct_parts, distinct_questions, said_in
from grpo_colab.text import is_secret, masked
from grpo_colab.utils.files import number

LONGEST: Final = 12_000  # characters of one text; of a longer one the beginning and the end are shown
LONGEST_EXTRA: Final = 2000  # of a value that a reward gave to log_extra
MOST_MESSAGES: Final = 60  # of a prompt, and columns of log_extra
MOST_REWARDS: Final = 60  # names, each of which is a column of all completions
OVERHEAD: Final = 80  # characters that a row takes beside its texts
KINDS: Final = ("lost", "gained", "wrong in both", "right in both", "answered once")  # in the order of the page

Messages = tuple[tuple[str, str], ...]  # role and content of each message


@dataclass
class Group:
    """The completions of one prompt in one step of a run."""

    run: int  # its place among the runs of the page
    size: int  # characters on the page
    rows: list[dict[str, Any]] = field(default_factory=list)


class Problem(NamedTuple):
    """A held-out problem as the page's script takes it."""

    size: int
    row: dict[str, Any]


class Sources(NamedTuple):
    """What the lists are made of. They are made again, shorter, until the page is small enough."""

    groups: list[Group]
    problems: list[Problem]


def collect_sources(runs: Sequence[RunData]) -> Sources:
    """Return the groups of completions and the held-out problems of all runs, from which the lists are made."""
    return Sources(_group_completions(runs), _problems(runs))


def build_lists(runs: Sequence[RunData], sources: Sources, most: int) -> tuple[dict[str, Any], int]:
    """Return both lists as the page's script takes them, and how many characters they have, about `most` at most.

    The lists are "completions" and "problems". Each may have half of `most`, and what the other leaves. Each says in
    "said" what it leaves out, "" for nothing.
    """
    of_groups, of_problems = (sum(one.size for one in found) for found in sources)
    # each may have a half, and what the other leaves of its own
    for_groups = min(of_groups, max(most // 2, most - of_problems))
    for_problems = min(of_problems, max(most // 2, most - of_groups))
    lists = {
        "completions": _completion_columns(runs, sources.groups, for_groups),
        "problems": _first_problems(sources.problems, for_problems),
    }
    return lists, min(most, of_groups + of_problems)


def shorten_middle(value: Any) -> str:
    """Return a value as text for the page's data, "" for None; secrets are masked.

    Of a text of more than LONGEST characters both ends are kept, since answers stand at the end.
    """
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False, default=str)  # an answer that is JSON is shown as that
    text = value if isinstance(value, str) else "" if value is None else str(value)
    if len(text) > LONGEST:
        text = masked(text)  # before it is cut: a secret that is cut in two is not recognised
    if len(text) <= LONGEST:
        return display_text(text, LONGEST)
    head, tail = text[: 2 * LONGEST // 3], text[-LONGEST // 3 :]
    gap = f"\n[... {len(text) - LONGEST:,} of {len(text):,} characters are left out ...]\n"
    return display_text(head, LONGEST) + gap + display_text(tail, LONGEST)


def _group_completions(runs: Sequence[RunData]) -> list[Group]:
    """Return the completions grouped by run, step, group number and prompt, in the order of the files."""
    groups: dict[int, Group] = {}  # by a hash, since the prompts are most of a file
    for n, run in enumerate(runs):
        for row in run.completions:
            prompt = _messages(row.get("prompt"))
            key = hash((n, number(row.get("step")), str(row.get("group")), prompt))
            group = groups.setdefault(key, Group(n, _prompt_size(prompt)))
            group.rows.append(row)
            group.size += _completion_size(row)
    return list(groups.values())


def _prompt_size(prompt: Messages) -> int:
    return sum(len(role) + len(content) + OVERHEAD for role, content in prompt)


def _completion_size(row: Mapping[str, Any]) -> int:
    extra = sum(len(name) + len(value) for name, value in _extra(row))
    return len(shorten_middle(row.get("completion"))) + extra + OVERHEAD


def _extra(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what the rewards gave to log_extra for a completion, by column, without empty values and secrets."""
    given = row.get("extra")
    found = []
    for name, value in list(given.items())[:MOST_MESSAGES] if isinstance(given, dict) else []:
        if value is not None and not is_secret(name):
            text = f"{value:.6g}" if isinstance(value, float) else value
            found.append((display_text(name, 80), display_text(text, LONGEST_EXTRA)))
    return found


def _messages(prompt: Any) -> Messages:
    """Return the messages of a prompt, at least one and MOST_MESSAGES at most. A text is one message without a role.

    Of a longer conversation the first messages and the last one are kept.
    """
    if not isinstance(prompt, list) or not prompt:
        return (("", shorten_middle(prompt)),)
    few = [*prompt[: MOST_MESSAGES - 1], prompt[-1]] if len(prompt) > MOST_MESSAGES else prompt
    messages = (one if isinstance(one, dict) else {"content": one} for one in few)
    return tuple((display_text(one.get("role", ""), 40), shorten_middle(said_in(one))) for one in messages)


def _completion_columns(runs: Sequence[RunData], groups: Sequence[Group], most: int) -> dict[str, Any]:
    """Return the completions in columns: a list per field, with a value per completion.

    "prompts" has each prompt once, and "prompt" a place in it; "asked" has what tells it from the others,
    None where that is its last message; "names" has the rewards of "parts". "weights" has what each of
    them is multiplied by, and "weighted" a place in it. Over `most` characters, whole groups are left out, evenly over
    the steps. Over MOST_REWARDS, the last rewards are left out. "said" tells both.
    """
    share = min(1.0, most / max(1, sum(group.size for group in groups)))
    kept = [group for n, group in enumerate(groups) if int((n + 1) * share) > int(n * share)]
    rows = [row for group in kept for row in group.rows]
    run_numbers = [group.run for group in kept for _ in group.rows]
    prompts: dict[Messages, int] = {}
    prompt_numbers = [prompts.setdefault(_messages(group.rows[0].get("prompt")), len(prompts)) for group in kept]
    rewards = [found if isinstance(found := row.get("rewards"), dict) else {} for row in rows]
    names = list(dict.fromkeys(name for found in rewards for name in found))
    in_all = sum(len(group.rows) for group in groups)
    said = [f"{len(rows):,} of {in_all:,} completions, evenly over the steps."] if len(rows) < in_all else []
    if len(names) > MOST_REWARDS:
        said.append(f"{MOST_REWARDS} of {len(names):,} rewards.")
        names = names[:MOST_REWARDS]
    weights: dict[tuple[float | None, ...], int] = {}
    weight_numbers = [
        weights.setdefault(_weights(runs[n], found, names), len(weights))
        for n, found in zip(run_numbers, rewards, strict=True)
    ]
    conversations = [[{"role": role, "content": content} for role, content in prompt] for prompt in prompts]
    return {
        "said": " ".join(said),
        "prompts": list(prompts),
        "asked": distinct_questions(conversations),
        "names": [short_name(readable(name), 40) for name in names],
        "weights": list(weights),
        "run": run_numbers,
        "step": [number(row.get("step")) for row in rows],
        "group": [n for n, group in enumerate(kept) for _ in group.rows],
        "prompt": [n for n, group in zip(prompt_numbers, kept, strict=True) for _ in group.rows],
        "text": [shorten_middle(row.get("completion")) for row in rows],
        "answer": [None if row.get("answer") is None else shorten_middle(row["answer"]) for row in rows],
        "reward": [
            _rounded(runs[n].weighted_reward(found) if found else None)
            for n, found in zip(run_numbers, rewards, strict=True)
        ],
        "weighted": weight_numbers,
        "parts": [[_rounded(number(found.get(name))) for name in names] for found in rewards],
        "extra": [_extra(row) for row in rows],
        "advantage": [_rounded(number(row.get("advantage"))) for row in rows],
        "verdict": [_verdict(runs[n], row) for n, row in zip(run_numbers, rows, strict=True)],
    }


def _weights(run: RunData, rewards: Mapping[str, Any], names: Sequence[str]) -> tuple[float | None, ...]:
    """Return what each of `names` is multiplied by in a completion's reward, None for a reward that it lacks."""
    weights = run.reward_weights
    if len(weights) != len(rewards):  # as `weighted_reward` counts them
        weights = [1.0] * len(rewards)
    by_name = dict(zip(rewards, weights, strict=True))
    return tuple(by_name.get(name) for name in names)


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _verdict(run: RunData, row: Mapping[str, Any]) -> str | None:
    """Return the task's verdict on a completion, which is graded anew, since completions.jsonl has no verdict.

    Returns None where that would take long or run code of others, and for a row that cannot be graded.
    """
    completion, answer, columns = row.get("completion"), row.get("answer"), row.get("columns")
    if run.grader is None or (run.grader.needs_row and not isinstance(columns, dict)):
        return None
    if isinstance(completion, str) and isinstance(answer, str):
        with contextlib.suppress(TypeError, ValueError):  # of a file that someone else wrote
            verdict = run.grader.grade(completion, answer, columns or {})
            return verdict.reason.replace("_", " ")
    return None


def _problems(runs: Sequence[RunData]) -> list[Problem]:
    """Return the held-out problems of all runs, in the order of KINDS: those that changed first."""
    found = []
    for n, run in enumerate(runs):
        for before, after in run.answer_pairs():
            asked = before if before is not None else after
            assert asked is not None
            row: dict[str, Any] = {
                "run": n,
                "kind": _kind(before, after),
                "question": shorten_middle(asked.get("question")),
                "answer": shorten_middle(asked.get("answer")),
            }
            for name, side in (("before", before), ("after", after)):
                row[name] = None if side is None else shorten_middle(side.get("completion"))
                verdict = None if side is None else side.get("verdict")
                row[f"{name}_verdict"] = None if verdict is None else display_text(verdict, 60).replace("_", " ")
            found.append(Problem(sum(len(str(value)) for value in row.values()) + OVERHEAD, row))
    return sorted(found, key=lambda problem: KINDS.index(problem.row["kind"]))


def _kind(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> str:
    """Return which of KINDS a problem is, by its answers."""
    if before is None or after is None:
        return "answered once"
    was, now = before.get("right") is True, after.get("right") is True
    if was:
        return "right in both" if now else "lost"
    return "gained" if now else "wrong in both"


def _first_problems(problems: Sequence[Problem], most: int) -> dict[str, Any]:
    """Return the first of the problems, as many as have `most` characters together, as the page's script takes them.

    "said" counts what is left out, "" for nothing.
    """
    kept: list[dict[str, Any]] = []
    taken = 0
    for problem in problems:
        taken += problem.size
        if taken > most:
            break
        kept.append(problem.row)
    for row, asked in zip(kept, distinct_parts([row["question"] for row in kept]), strict=True):
        if asked != row["question"]:
            row["asked"] = asked
    fewer = len(kept) < len(problems)
    said = f"{len(kept):,} of {len(problems):,} problems: those that changed first." if fewer else ""
    return {"said": said, "kinds": KINDS, "rows": kept}
