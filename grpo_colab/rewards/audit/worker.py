"""A reward function in a forked process of its own, called as TRL calls it: it may hang, crash or print there.

Forked, and not started anew, so that closures and what a notebook defined can be audited.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

from grpo_colab.errors import SettingError, one_line
from grpo_colab.rewards import RewardError, guard

THREADS: Final = 4
QUESTIONS: Final = ("question", "prompt", "problem", "query", "instruction")  # columns that hold no gold
CALLED: Final[tuple[dict[str, Any], ...]] = (
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "tool", "content": "3"},
)
WARM_UP_S: Final = 60.0  # for a process's first call, which may import half of a machine learning stack


class Case(NamedTuple):
    """A completion, and the problem that it answers."""

    name: str
    text: str
    gold: Any  # a string, or None; of a reward for programs a tuple of tests
    prompt: str
    labels: frozenset[str]


class Reply(NamedTuple):
    """One reward a case; none with `trouble`. `changed` names the arguments that were written to."""

    rewards: list[float | None]
    trouble: str = ""
    changed: str = ""
    seconds: float = 0.0
    ended: bool = False


class Worker:
    """Asks `function` about cases; goes on in a new process when it hung or died. `columns` hold the gold."""

    def __init__(self, function: Callable[..., Any], columns: Sequence[str], warm_up: Sequence[Case]) -> None:
        if not hasattr(os, "fork"):
            raise SettingError(
                "the audit runs the function in a forked process, and this system has no fork",
                remedy="run it on Linux or macOS",
            )
        self.function, self.columns, self.warm_up = function, columns, warm_up
        self.messages = True  # a completion is a list of messages, or else a string
        self._process: Any = None

    def ask(self, cases: Sequence[Case], limit_s: float, how: str = "") -> Reply:
        """What one call pays for `cases`.

        `how`: "bare" (without what only newer releases of TRL pass), "copy" (after pickling), "other" (strings for
        messages, or the other way round), "turns" (the answer follows a tool's), or "threads" (several at once: one
        that got something else answers, if any).
        """
        if self._process is None:
            context = multiprocessing.get_context("fork")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=self._serve, args=(theirs,))
            self._process.start()
            theirs.close()
            if (warmed := self._exchange(self.warm_up, WARM_UP_S, "")).ended:
                return warmed
        return self._exchange(cases, limit_s, how)

    def close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # with all that the function may have started
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None

    def _exchange(self, cases: Sequence[Case], limit_s: float, how: str) -> Reply:
        try:
            self._pipe.send((cases, how, self.messages))
            if self._pipe.poll(limit_s):
                return self._pipe.recv()
            trouble = f"did not end within {limit_s:.3g} s (--time-limit gives it more)"
        except (EOFError, OSError):
            self._process.join(1)
            trouble = f"ended the process, with exit code {self._process.exitcode}"
        self.close()
        return Reply([], trouble, seconds=limit_s, ended=True)

    def _serve(self, pipe: Connection) -> None:
        os.setsid()
        self._pipe.close()  # or this process would not notice the end of the other
        sys.stdout = sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")  # a notebook's are no files
        for descriptor in (1, 2):
            os.dup2(sys.stdout.fileno(), descriptor)
        with contextlib.suppress(EOFError):
            while True:
                pipe.send(self._answer(*pipe.recv()))

    def _answer(self, cases: Sequence[Case], how: str, messages: bool) -> Reply:
        start = time.perf_counter()
        try:
            if how == "threads":
                return self._in_threads(cases, messages)
            function = pickle.loads(pickle.dumps(self.function)) if how == "copy" else self.function
            return self._call(function, cases, messages ^ (how == "other"), how == "bare", how == "turns")
        except RewardError as error:
            trouble = str(error.record["what"])
        except BaseException as error:  # noqa: BLE001 - a function that exits is as broken as one that raises
            trouble = f"raised {one_line(error)}"
        return Reply([], trouble, seconds=time.perf_counter() - start)

    def _in_threads(self, cases: Sequence[Case], messages: bool) -> Reply:
        sys.setswitchinterval(1e-5)  # so that they get in each other's way
        together = threading.Barrier(THREADS)

        def one(thread: int) -> list[float | None]:
            turn = thread * len(cases) // THREADS  # each begins elsewhere, so that what they share shows
            together.wait()
            paid = self._call(self.function, [*cases[turn:], *cases[:turn]], messages).rewards
            return paid[len(cases) - turn :] + paid[: len(cases) - turn]

        with ThreadPoolExecutor(THREADS) as pool:
            paid = list(pool.map(one, range(THREADS)))
        usual = self._call(self.function, cases, messages).rewards
        return Reply(next((rewards for rewards in paid if rewards != usual), usual))

    def _call(
        self,
        function: Callable[..., Any],
        cases: Sequence[Case],
        messages: bool,
        bare: bool = False,
        turns: bool = False,
    ) -> Reply:
        given, untouched = (arguments(cases, self.columns, messages, bare) for _ in range(2))
        if turns:
            given["completions"] = untouched["completions"] = [[*CALLED, *said] for said in given["completions"]]
        start = time.perf_counter()
        rewards = guard(function)(**given)
        if inspect.iscoroutine(rewards):
            rewards = asyncio.run(rewards)
        seconds = time.perf_counter() - start
        return Reply(rewards, "", ", ".join(name for name in given if given[name] != untouched[name]), seconds)


def arguments(cases: Sequence[Case], columns: Sequence[str], messages: bool, bare: bool) -> dict[str, Any]:
    """What TRL passes; unless `bare`, with a column that the function does not know."""
    said: dict[str, Any] = {"prompts": [case.prompt for case in cases], "completions": [case.text for case in cases]}
    if messages:
        for name, role in (("prompts", "user"), ("completions", "assistant")):
            said[name] = [[{"role": role, "content": text}] for text in said[name]]
    said["completion_ids"] = [list(case.text[::4].encode()) for case in cases]
    golds = [list(case.gold) if isinstance(case.gold, tuple) else case.gold for case in cases]
    said |= {c: [case.prompt for case in cases] if c in QUESTIONS else list(golds) for c in columns}
    beside = {"trainer_state": None, "log_extra": _nothing, "log_metric": _nothing, "unknown": ["18"] * len(cases)}
    return said if bare else said | beside


def _nothing(name: str, value: Any) -> None:
    pass
