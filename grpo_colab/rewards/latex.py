"""Grade answers in LaTeX: fractions, roots, intervals, sets, expressions. Needs `grpo_colab[math]`.

math-verify compares the answer with the gold, in a process of its own (`latex_worker.py`) that a time limit kills. So
`10^{10^{10}}` costs a fraction of a second, on any thread; math-verify's own limit works on the main thread only, and
gives such an answer 5 s.

Two plain numbers are compared without math-verify, so that `correctness_reward` agrees. Nor is it asked about what it
reads too kindly: in `18 \\text{ or more}`, `x \\approx 18` and `18_{19}` it sees the 18.
"""

from __future__ import annotations

import os
import re
import sys
from _thread import allocate_lock  # importing `threading` would take longer than importing this file
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

TIME_LIMIT_S: Final = 0.25  # of CPU time per answer; ordinary ones take 1 to 70 ms on a slow machine
GOLD_TIME_LIMIT_S: Final = 1.0  # of CPU time, to find a gold answer equal to itself
WALL_LIMIT_S: Final = 60.0  # after which a silent worker counts as hung; its start takes seconds
_REASONING: Final = ("<think>", "</think>", "<reasoning>", "</reasoning>")
# The text in a pair of braces, with braces nested in it up to five deep.
_BRACED = r"(?:\\.|[^{}\\])*+"
for _ in range(5):
    _BRACED = rf"(?:\\.|[^{{}}\\]|\{{{_BRACED}\}})*+"
# These patterns are text, so that they are compiled at their first use and not at import.
# What is marked as a formula, in `$`, `\\(`, `\\[` or `\\boxed`; the last group that matched is the formula itself.
_FORMULA: Final = rf"(?s)(?<!\\)(\$\$?)((?:\\.|[^$\\])++)\1|\\\((.+?)\\\)|\\\[(.+?)\\\]|\\boxed\s*\{{({_BRACED})\}}"
# What math-verify silently ignores: approximations, subscripts, and texts other than a unit at the end or a plain "or".
_IGNORED: Final = (
    r"\\approx|\\phantom|[0-9)}]\s*_"
    r"|\\(?:text|math(?:rm|it|bf)|mbox)[a-z]*\s*\{(?![A-Za-z .()]*\}(?:\s*\^\s*\{?[23]\}?)?$|\s*(?:or|and)\s*\})"
)
_DOUBTFUL_WORDS: Final = number_parser.CHANGES_MEANING | number_parser.CHANGES_WHAT_FOLLOWS | number_parser.NUMBER_WORDS
# Words that the number parser refuses, and that mean something in a formula.
_FUNCTIONS: Final = frozenset({"sqrt", "log", "ln", "infinity", "inf"})


def math_reward(completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """Pay 1.0 where the answer equals the gold as mathematics, else 0.0; None without a gold.

    The answer is the one closed answer block. In a completion without answer tags it is the last `\\boxed{}`, which
    must be closed and stand after the reasoning (`</think>`, `</reasoning>`). One formula in `$`, `\\(` or `\\boxed`
    may have the words around it that a number may have. A list is no number (`4, 4` is not 4), a decimal is no root.

    An answer that takes more than 0.25 s of CPU time is wrong. Equal answers in one call are compared once. Verdicts
    are logged as by `correctness_reward`. The process that compares sees only the paths and the language of the
    trainer's environment.

    Raises ValueError for a gold of more than 1,000 characters, and for one that math-verify cannot read or does not
    find equal to itself within a second. Raises ImportError without math-verify, SettingError on a system without fork
    (Windows), and RuntimeError when the process died or hung twice through no fault of the answer. Raises TypeError for
    arguments of the wrong type, and ValueError for another number of golds than of completions.
    """
    return _math_reward(TIME_LIMIT_S, completions, answer, **kwargs)


def get_math_reward(time_limit_s: float = TIME_LIMIT_S) -> Parametrised:
    """Return `math_reward` with another time limit per answer, from 0.01 to 60 seconds of CPU time.

    Raises SettingError for another limit and on a system without fork, and ImportError without math-verify.
    """
    number = isinstance(time_limit_s, int | float) and not isinstance(time_limit_s, bool)
    require(number and 0.01 <= time_limit_s <= 60, "time_limit_s", time_limit_s, "seconds from 0.01 to 60")
    _need_math_verify()
    return Parametrised(_math_reward, float(time_limit_s))


def _math_reward(limit_s: float, /, completions: Completions, answer: Golds, **kwargs: Any) -> list[float | None]:
    """Pay as `math_reward` does, with a limit of `limit_s` seconds of CPU time per answer.

    None only without a gold: an answer over the limit earns 0.0. The verdicts are logged where TRL passes `log_metric`.
    Raises TypeError, ValueError, SettingError, ImportError and RuntimeError as `math_reward` does, and OSError where
    the process that compares cannot be started.
    """
    pairs = graded_pairs("math_reward", completions, answer)
    _need_math_verify()
    judge = lru_cache(maxsize=None)(_judge)  # for this call only: equal answers are compared once
    reasons: list[Reason | None] = []
    for text, gold in pairs:
        reasons.append(None if gold is None else judge(_answer(text), _gold(gold), limit_s))
    log_shares(kwargs.get("log_metric"), [reason for reason in reasons if reason is not None])
    return [None if reason is None else float(reason == "right") for reason in reasons]


def _need_math_verify() -> None:
    """Raise SettingError on a system without fork, and ImportError without math-verify."""
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
    """Return the number that a gold answer states, or else its formula, which the worker process finds equal to itself.

    Raises ValueError for a gold that states neither or has more than 1,000 characters, and RuntimeError as
    `_Worker.ask` does.
    """
    if len(text.strip()) > number_parser.MAX_CHARACTERS:  # the search for formulas is quadratic
        raise ValueError(
            f"the gold answer {text!r:.80} has {len(text.strip())} characters: "
            f"write at most {number_parser.MAX_CHARACTERS}"
        )
    value = _number(text).value
    if value is not None:
        return value
    formula = _formula(text)
    if formula is None or _compare(GOLD_TIME_LIMIT_S, formula, formula) != "right":
        raise ValueError(f"math-verify cannot read the gold answer {text!r:.80}")
    return formula


def _answer(completion: str) -> str | Verdict:
    """Return the text of the answer, or the verdict that says why there is none.

    Takes time linear in the length of `completion`.
    """
    start = completion.rfind("\\boxed")
    if start < 0 or ANSWER_OPEN in completion or ANSWER_CLOSE in completion:
        return answer_block(completion)
    boxed = re.match(_FORMULA, completion[start : start + 2 * number_parser.MAX_CHARACTERS])
    # The last tag of the reasoning, if there is one, must be a closing one, and stand before the box.
    last_tag = max(map(completion.rfind, _REASONING))
    after_reasoning = start > last_tag and completion[last_tag : last_tag + 2] in ("", "</")
    return boxed[5] if boxed and after_reasoning else Verdict("unclosed")


def _judge(answer: str | Verdict, gold: Fraction | str, limit_s: float) -> Reason:
    """Return the reason of the verdict on an answer; math-verify is asked only where nothing simpler decides.

    `answer` and `gold` are as `_answer` and `_gold` return them; a verdict as the answer keeps its reason. Raises
    RuntimeError as `_Worker.ask` does.
    """
    if isinstance(answer, Verdict):
        return answer.reason
    value, refusal = _number(answer)
    if value is not None and isinstance(gold, Fraction):
        return "right" if value == gold else "wrong"
    if len(answer.strip()) > number_parser.MAX_CHARACTERS:
        return "too_long"
    expected = str(gold)
    formula = _formula(answer) if value is None else str(value)
    if formula is None or _is_doubtful(formula, expected):
        return refusal or "not_a_number"
    if formula == expected:
        return "right"
    return _compare(limit_s, expected, formula)


def _is_doubtful(formula: str, expected: str) -> bool:
    """Tell whether an answer has words, or parts that math-verify ignores, which the gold answer has not."""
    allowed = _FUNCTIONS | _words_of(expected)
    if "," in expected:
        allowed |= {"or"}  # "1 or 2" states the set of 1 and 2
    if (_words_of(formula) & _DOUBTFUL_WORDS) - allowed:
        return True
    return bool(re.search(_IGNORED, formula)) and not re.search(_IGNORED, expected)


def _words_of(formula: str) -> set[str]:
    """Return the words in a formula that are not LaTeX commands."""
    return set(number_parser.words(re.sub(r"\\[A-Za-z]+", " ", formula)))


def _number(text: str) -> number_parser.Reading:
    """Read the one number that `text` states, where 2t is a formula and not 2 tons.

    A text with such a letter after a digit is refused as `not_a_number`.
    """
    formula = re.search(r"[0-9}]\s*[A-Za-z](?![\w\s+-])", f"{text}$")
    return number_parser.Reading(None, "not_a_number") if formula else number_parser.read_number(text)


def _formula(text: str) -> str | None:
    """Return the one formula in `text`, or None where there is none, or something around it makes it doubtful.

    The formula may be marked several times, as in `$\\boxed{x}$`. With 1 in its place, the text around it must state
    the number 1. Without a mark, the whole text is the formula.
    """
    text = " ".join(text.split())
    while True:
        found = re.search(_FORMULA, text)
        if found is None:
            break
        if number_parser.read_number(re.sub(_FORMULA, " 1 ", text)).value != 1:
            return None
        text = found[found.lastindex or 0]
    text = text.strip(" .")
    has_stray_dollar = re.search(r"(?<!\\)\$", text)
    return None if not text or has_stray_dollar else text


def _compare(limit_s: float, gold: str, answer: str) -> Reason:
    """Let this process's worker compare two formulas, and return the reason of the verdict on `answer`.

    A forked process gets a worker of its own: the pipes of the first one are its parent's, and its lock may be held by
    a thread that only the parent has. Raises RuntimeError as `_Worker.ask` does.
    """
    return _WORKERS.setdefault(os.getpid(), _Worker()).ask(limit_s, gold, answer)


class _Worker:
    """The process that runs `latex_worker.py`.

    It starts with the first question, and again after it died. It ends when its stdin is closed.
    """

    def __init__(self) -> None:
        self.lock = allocate_lock()
        self.process: Popen[bytes] | None = None

    def ask(self, limit_s: float, gold: str, answer: str) -> Reason:
        """Return the reason of the verdict on `answer`. One thread at a time asks; the others wait.

        A process that died or hung is killed, and the question is asked once more. Raises RuntimeError when it died or
        hung twice. After any exception, an interrupt included, the process is killed, so that the next question starts
        another.
        """
        import json

        line = json.dumps([limit_s, gold, answer]).encode() + b"\n"
        with self.lock:
            for _ in range(2):
                reply = ""
                try:
                    reply = self._reply(line, WALL_LIMIT_S + 10 * limit_s)
                finally:
                    # After an interrupt, too: the next question must not get the reply to this one.
                    if not reply:
                        self._stop()
                if reply in REASONS:
                    return reply
        raise RuntimeError("math_reward's process died or hung twice")

    def _reply(self, line: bytes, wall_limit_s: float) -> str:
        """Send one request, starting the process if need be; return the reply.

        The reply is "" where none came within `wall_limit_s` seconds, or the process has died. Raises OSError where the
        process cannot be started.
        """
        import select
        import subprocess
        from pathlib import Path

        if self.process is None:
            # -P keeps this folder's `code.py` from hiding the standard library's. In a session of its own, Ctrl-C does
            # not reach the process, and `_stop` ends its fork, too.
            command = [sys.executable, "-P", str(Path(__file__).with_name("latex_worker.py"))]
            environment = bare_environment(("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL"))  # without the trainer's keys
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
        """Kill the process and its fork, if there is one. The next question starts another."""
        import contextlib
        import signal

        process, self.process = self.process, None
        if process is not None:
            with process, contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


_WORKERS: Final[dict[int, _Worker]] = {}
