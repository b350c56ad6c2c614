"""Whether an answer in LaTeX is right: fractions, roots, intervals, sets, expressions. Needs `grpo_colab[math]`.

`math-verify` decides, in a process of its own that a time limit kills, so that `10^{10^{10}}` costs a fraction of a
second, on any thread. Its own limit works on the main thread only, and gives that answer 5 s. Two plain numbers it is
never asked about, so that `correctness_reward` agrees; nor about what it reads too kindly: in `18 \\text{ or more}`,
`x \\approx 18` and `18_{19}` it sees the 18.
"""

from __future__ import annotations

import os
import re
import sys
from _thread import allocate_lock  # importing `threading` would take longer than this file
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from grpo_colab.errors import SettingError
from grpo_colab.rewards import number_parser
from grpo_colab.rewards.arguments import Completions, Golds, graded_pairs
from grpo_colab.rewards.correctness import log_shares
from grpo_colab.rewards.grading import ANSWER_CLOSE, ANSWER_OPEN, REASONS, Reason, Verdict, answer_block
from grpo_colab.rewards.parametrised import Parametrised, require
from grpo_colab.utils.processes import bare_environment

if TYPE_CHECKING:
    from subprocess import Popen

TIME_LIMIT_S: Final = 0.25  # of CPU time; ordinary answers take 1 to 70 ms on a slow machine
WALL_LIMIT_S: Final = 60.0  # until a worker that says nothing counts as hung; its start takes seconds
_REASONING: Final = ("<think>", "</think>", "<reasoning>", "</reasoning>")
_BRACED = r"(?:\\.|[^{}\\])*+"
for _ in range(5):
    _BRACED = rf"(?:\\.|[^{{}}\\]|\{{{_BRACED}\}})*+"
# Patterns as text: they are compiled when first used, which is not at import. This is what is marked as a formula; its
# last group is what is in it.
_FORMULA: Final = rf"(?s)(?<!\\)(\$\$?)((?:\\.|[^$\\])++)\1|\\\((.+?)\\\)|\\\[(.+?)\\\]|\\boxed\s*\{{({_BRACED})\}}"
# What math-verify drops in silence: approximations, subscripts, texts other than a unit at the end and a plain "or".
_DROPPED: Final = (
    r"\\approx|\\phantom|[0-9)}]\s*_"
    r"|\\(?:text|math(?:rm|it|bf)|mbox)[a-z]*\s*\{(?![A-Za-z .()]*\}(?:\s*\^\s*\{?[23]\}?)?$|\s*(?:or|and)\s*\})"
)
_DOUBT: Final = number_parser.CHANGES_MEANING | number_parser.CHANGES_WHAT_FOLLOWS | number_parser.NUMBER_WORDS
_FUNCTIONS: Final = frozenset({"sqrt", "log", "ln", "infinity", "inf"})  # words for a number's parser only


def math_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """1.0 where the answer equals the gold as mathematics, else 0.0; None without a gold.

    The answer is the one closed answer block, or in a completion without answer tags the last `\\boxed{}`, which must
    be closed and stand after the reasoning (`</think>`, `</reasoning>`). Around one formula in `$`, `\\(` or `\\boxed`
    may stand what may stand around a number. A list is no number (`4, 4` is not 4), a decimal no root.

    An answer that takes over 0.25 s of CPU time is wrong; equal ones of a call are compared once. Verdicts are logged
    as by `correctness_reward`. Raises ValueError for a gold of over 1,000 characters, and for one that math-verify
    cannot read, or not find equal to itself within a second; ImportError without math-verify, SettingError without fork
    (Windows), RuntimeError when the process died or hung twice for no fault of the answer. The process gets none of the
    trainer's environment but its paths and its language.
    """
    return _math_reward(TIME_LIMIT_S, completions, answer, **kwargs)


def get_math_reward(time_limit_s: float = TIME_LIMIT_S) -> Parametrised:
    """`math_reward` with another limit, from 0.01 to 60 seconds of CPU time an answer."""
    number = isinstance(time_limit_s, int | float) and not isinstance(time_limit_s, bool)
    require(number and 0.01 <= time_limit_s <= 60, "time_limit_s", time_limit_s, "seconds from 0.01 to 60")
    _need_math_verify()
    return Parametrised(_math_reward, float(time_limit_s))


def _math_reward(limit_s: float, /, completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    pairs = graded_pairs("math_reward", completions, answer)
    _need_math_verify()
    judge = lru_cache(maxsize=None)(_judge)
    met = [None if gold is None else judge(_answer(text), _gold(gold), limit_s) for text, gold in pairs]
    log_shares(kwargs.get("log_metric"), [reason for reason in met if reason is not None])
    return [None if reason is None else float(reason == "right") for reason in met]


def _need_math_verify() -> None:
    from importlib.util import find_spec

    if not hasattr(os, "fork"):
        raise SettingError(
            "runs math-verify in a forked process, and this system has no fork",
            setting="math_reward",
            remedy="run it on Linux or macOS",
        )
    if find_spec("math_verify") is None:
        raise ImportError('math_reward needs math-verify: pip install "grpo_colab[math]"')


@lru_cache(maxsize=4096)
def _gold(text: str) -> Fraction | str:
    """Return the number or else the formula that a gold answer states."""
    if len(text.strip()) > number_parser.MAX_CHARACTERS:  # to look for formulas is quadratic
        raise ValueError(
            f"the gold answer {text!r:.80} has {len(text.strip())} characters: "
            f"write at most {number_parser.MAX_CHARACTERS}"
        )
    (value, _), formula = _number(text), _formula(text)
    if value is not None:
        return value
    if formula is None or _ask(1.0, formula, formula) != "right":
        raise ValueError(f"math-verify cannot read the gold answer {text!r:.80}")
    return formula


def _answer(completion: str) -> str | Verdict:
    """The text of the answer, or the verdict that says why there is none. Linear in the length of `completion`."""
    start, tag = completion.rfind("\\boxed"), max(map(completion.rfind, _REASONING))
    if start < 0 or ANSWER_OPEN in completion or ANSWER_CLOSE in completion:
        return answer_block(completion)
    boxed = re.match(_FORMULA, completion[start : start + 2 * number_parser.MAX_CHARACTERS])
    after = start > tag and completion[tag : tag + 2] in ("", "</")
    return boxed[5] if boxed and after else Verdict("unclosed")


def _judge(answer: str | Verdict, gold: Fraction | str, limit_s: float) -> Reason:
    if isinstance(answer, Verdict):
        return answer.reason
    value, refusal = _number(answer)
    if value is not None and isinstance(gold, Fraction):
        return "right" if value == gold else "wrong"
    if len(answer.strip()) > number_parser.MAX_CHARACTERS:
        return "too_long"
    expected, formula = str(gold), _formula(answer) if value is None else str(value)
    if formula is None or formula == expected:
        return (refusal or "not_a_number") if formula is None else "right"
    said, meant = (set(number_parser.words(re.sub(r"\\[A-Za-z]+", " ", text))) for text in (formula, expected))
    listed = {"or"} if "," in expected else set()  # "1 or 2" states the set of 1 and 2
    dropped = re.search(_DROPPED, formula) and not re.search(_DROPPED, expected)
    if dropped or (said & _DOUBT) - meant - listed - _FUNCTIONS:
        return refusal or "not_a_number"
    return _ask(limit_s, expected, formula)


def _number(text: str) -> number_parser.Reading:
    """The number that is stated, but here 2t is a formula and no 2 tons."""
    formula = re.search(r"[0-9}]\s*[A-Za-z](?![\w\s+-])", f"{text}$")
    return number_parser.Reading(None, "not_a_number") if formula else number_parser.read_number(text)


def _formula(text: str) -> str | None:
    """The one formula in `text`. What stands around it must be such that 1 in its place were read as the number 1."""
    text = " ".join(text.split())
    while found := re.search(_FORMULA, text):
        if number_parser.read_number(re.sub(_FORMULA, " 1 ", text)).value != 1:
            return None
        text = found[found.lastindex or 0]
    text = text.strip(" .")
    return None if not text or re.search(r"(?<!\\)\$", text) else text


def _ask(limit_s: float, gold: str, answer: str) -> Reason:
    # a forked process has its own: the pipes are its parent's, and the lock may be held by a thread that stayed there
    return _WORKERS.setdefault(os.getpid(), _Worker()).ask(limit_s, gold, answer)


class _Worker:
    """Runs `latex_worker.py`: from the first question on, and again when it died. It ends when its stdin is closed."""

    def __init__(self) -> None:
        self.lock = allocate_lock()
        self.process: Popen[bytes] | None = None

    def ask(self, limit_s: float, gold: str, answer: str) -> Reason:
        import json

        line = json.dumps([limit_s, gold, answer]).encode() + b"\n"
        with self.lock:
            for _ in range(2):
                reply = ""
                try:
                    reply = self._reply(line, WALL_LIMIT_S + 10 * limit_s)
                finally:
                    if not reply:  # nor may the next question get a reply that came after an interrupt
                        self._stop()
                if reply in REASONS:
                    return reply
        raise RuntimeError("math_reward's process died or hung twice")

    def _reply(self, line: bytes, wall_limit_s: float) -> str:
        import select
        import subprocess
        from pathlib import Path

        if self.process is None:
            # -P: beside the file lies a numbers.py. A session of its own: Ctrl-C is not for it, and _stop ends both.
            command = [sys.executable, "-P", str(Path(__file__).with_name("latex_worker.py"))]
            environment = bare_environment(("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL"))  # no key of the trainer's
            pipe = subprocess.PIPE
            self.process = subprocess.Popen(
                command, bufsize=0, stdin=pipe, stdout=pipe, env=environment, start_new_session=True
            )
        process, poll = self.process, select.poll()
        assert process.stdin is not None and process.stdout is not None
        poll.register(process.stdout, select.POLLIN)
        try:
            process.stdin.write(line)
        except BrokenPipeError:
            return ""
        return process.stdout.readline().decode().strip() if poll.poll(1000 * wall_limit_s) else ""

    def _stop(self) -> None:
        import contextlib
        import signal

        process, self.process = self.process, None
        if process is not None:
            with process, contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


_WORKERS: Final[dict[int, _Worker]] = {}
