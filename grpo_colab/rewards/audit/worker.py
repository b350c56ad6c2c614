"""Call a reward function as TRL does, in a forked process where it may hang, crash or print.

The process is forked, not started anew, so that closures and functions from a notebook can be audited.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Final, NamedTuple

from grpo_colab.errors import SettingError
from grpo_colab.rewards import RewardError, guard
from grpo_colab.rewards.failure import failure, ignore, raised

THREADS: Final = 4
QUESTIONS: Final = ("question", "prompt", "problem", "query", "instruction")  # columns that hold no gold
TOOL_TURNS: Final[tuple[dict[str, Any], ...]] = (
    {"role": "assistant", "content": None, "tool_calls": []},
    {"role": "tool", "content": "3"},
)
WARM_UP_S: Final = 60.0  # for a process's first call, which may import a whole machine learning stack


class Case(NamedTuple):
    """One completion, and the problem that it answers. `labels`, `group` and `strict` are battery.toml's."""

    name: str
    text: str
    gold: Any  # a string or None; for a reward for programs, a test or a tuple of tests
    prompt: str
    labels: frozenset[str]
    group: str = ""
    strict: str = ""
    problem: int = 0  # its number in the battery


class Data(NamedTuple):
    """What the columns beside the prompt and the completion hold.

    `golds` are the names of those that take the gold, or the prompt where the name says so. `columns` has the other
    columns of each problem, by its number in the battery. `values` maps the text of a gold to the value that its column
    has, where that is no text.
    """

    golds: Sequence[str] = ("answer",)
    columns: Sequence[Mapping[str, Any]] = ()
    values: Mapping[str, Any] = {}


class Reply(NamedTuple):
    """What a call returned: one reward per case, or no rewards and the `trouble` that it had.

    `lines` are the lines of the person's code that led to the trouble. `changed` names the arguments that the function
    wrote to. `seconds` is the time that it took. `ended` says that the process hung or died.
    """

    rewards: list[float | None]
    trouble: str = ""
    changed: str = ""
    seconds: float = 0.0
    ended: bool = False
    lines: tuple[str, ...] = ()


class Worker:
    """Ask `function` about cases, in a process that is replaced after it hung or died.

    `data` says what its columns hold. The first `ask` starts the process. Each new process is
    asked about the cases `warm_up` first, whose time does not count. Raises SettingError on a system without fork.
    """

    def __init__(self, function: Callable[..., Any], data: Data, warm_up: Sequence[Case]) -> None:
        if not hasattr(os, "fork"):
            raise SettingError(
                "the audit runs the function in a forked process, and this system has no fork",
                remedy="run it on Linux or macOS",
            )
        self.function, self.data, self.warm_up = function, data, warm_up
        self.messages = True  # a completion is a list of messages, or else a string
        self._process: Any = None

    def ask(self, cases: Sequence[Case], limit_s: float, how: str = "") -> Reply:
        """Return what one call pays for `cases`; after `limit_s` seconds it counts as hung.

        Starts a process where there is none, and ends one that hung. What the function raises becomes the reply's
        `trouble`. Where the warm-up of a new process hung or ended it, the reply is the warm-up's. `how` varies the
        call:

        - "bare": without the arguments that only newer releases of TRL pass, and without an unknown column
        - "copy": of the function after pickling
        - "other": with strings in place of messages, or the other way round
        - "turns": with a tool's turns before the answer
        - "threads": from several threads at once; the reply is that of a thread whose rewards differ, if there is one
        """
        if self._process is None:
            context = multiprocessing.get_context("fork")
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=self._serve, args=(theirs,))
            self._process.start()
            theirs.close()
            warmed = self._exchange(self.warm_up, WARM_UP_S, "")
            if warmed.ended:
                return warmed
        return self._exchange(cases, limit_s, how)

    def close(self) -> None:
        """End the process, and all that the function has started in it. The next `ask` starts another."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._process = None

    def _exchange(self, cases: Sequence[Case], limit_s: float, how: str) -> Reply:
        """Send one question to the process and wait for its reply, `limit_s` seconds at most.

        A process that does not reply in time is killed. Then, or when it has died, a reply without rewards says so,
        with `ended`; nothing is raised.
        """
        try:
            self._pipe.send((cases, how, self.messages, self.data))
            if self._pipe.poll(limit_s):
                return self._pipe.recv()
            trouble = f"did not end within {limit_s:.3g} s (--time-limit gives it more)"
        except (EOFError, OSError):
            self._process.join(1)
            trouble = f"ended the process, with exit code {self._process.exitcode}"
        self.close()
        return Reply([], trouble, seconds=limit_s, ended=True)

    def _serve(self, pipe: Connection) -> None:
        """Answer questions, in the forked process, until the parent ends. All that the process prints is dropped."""
        os.setsid()  # a session of its own, so that `close` can end all of its children
        self._pipe.close()  # the parent's end: while it is open here, this process would not notice the parent's death
        # The streams of a notebook are no files, so the descriptors are replaced as well.
        sys.stdout = sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
        for descriptor in (1, 2):
            os.dup2(sys.stdout.fileno(), descriptor)
        with contextlib.suppress(EOFError):
            while True:
                pipe.send(self._answer(*pipe.recv()))

    def _answer(self, cases: Sequence[Case], how: str, messages: bool, data: Data) -> Reply:
        """Call the function in the way that `how` says, and turn whatever it raises into the reply's `trouble`.

        `messages` says that completions are lists of messages. Nothing is raised, not even for SystemExit or
        KeyboardInterrupt.
        """
        self.data = data
        start = time.perf_counter()
        try:
            if how == "threads":
                return self._in_threads(cases, messages)
            function = pickle.loads(pickle.dumps(self.function)) if how == "copy" else self.function
            as_messages = not messages if how == "other" else messages
            return self._call(function, cases, as_messages, how == "bare", how == "turns")
        except RewardError as error:
            record = error.record
        except BaseException as error:  # noqa: BLE001 - a function that exits is as broken as one that raises
            record = failure(self.function, raised(error), {"completions": cases}, None, error=error)
        trouble = f"{record['place']}: {record['what']}" if record["place"] else str(record["what"])
        return Reply([], trouble, seconds=time.perf_counter() - start, lines=tuple(record["lines"]))

    def _in_threads(self, cases: Sequence[Case], messages: bool) -> Reply:
        """Call the function from several threads at once; return the rewards of one that differs, if there is one.

        Otherwise the reply has the usual rewards, those of one more call in this thread. The reply has no time and no
        trouble: what the function raises passes through. The process keeps the short switch interval that is set here.
        """
        sys.setswitchinterval(1e-5)  # switch often, so that the threads get in each other's way
        barrier = threading.Barrier(THREADS)

        def rewards_of(thread: int) -> list[float | None]:
            # Each thread begins at another case, so that a state that they share shows.
            start = thread * len(cases) // THREADS
            barrier.wait()
            rewards = self._call(self.function, [*cases[start:], *cases[:start]], messages).rewards
            end = len(cases) - start
            return rewards[end:] + rewards[:end]

        with ThreadPoolExecutor(THREADS) as pool:
            by_thread = list(pool.map(rewards_of, range(THREADS)))
        usual = self._call(self.function, cases, messages).rewards
        for rewards in by_thread:
            if rewards != usual:
                return Reply(rewards)
        return Reply(usual)

    def _call(
        self,
        function: Callable[..., Any],
        cases: Sequence[Case],
        messages: bool,
        bare: bool = False,
        tool_turns: bool = False,
    ) -> Reply:
        """Call `function` once, guarded, and compare its arguments with a second copy of them.

        The reply's `changed` names the arguments that differ afterwards. An async function is awaited. `bare` is as in
        `arguments`; `tool_turns` puts a tool's turns before each answer. Raises RewardError for a function that raises
        or returns no rewards.
        """
        given = arguments(cases, self.data, messages, bare)
        untouched = arguments(cases, self.data, messages, bare)
        if tool_turns:
            given["completions"] = untouched["completions"] = [[*TOOL_TURNS, *turns] for turns in given["completions"]]
        start = time.perf_counter()
        rewards = guard(function)(**given)
        if inspect.iscoroutine(rewards):
            rewards = asyncio.run(rewards)
        seconds = time.perf_counter() - start
        changed = ", ".join(name for name in given if given[name] != untouched[name])
        return Reply(rewards, "", changed, seconds)


def arguments(cases: Sequence[Case], data: Data, messages: bool, bare: bool) -> dict[str, Any]:
    """Return the arguments that TRL passes for `cases`, as messages or as strings, with the columns of `data`.

    Unless `bare`, the arguments of newer releases are there, too, and a column that the function does not know.
    """
    given: dict[str, Any] = {"prompts": [case.prompt for case in cases], "completions": [case.text for case in cases]}
    if messages:
        for name, role in (("prompts", "user"), ("completions", "assistant")):
            given[name] = [[{"role": role, "content": text}] for text in given[name]]
    given["completion_ids"] = [list(case.text[::4].encode()) for case in cases]  # a token for every four characters
    golds = [list(case.gold) if isinstance(case.gold, tuple) else case.gold for case in cases]
    golds = [data.values.get(gold, gold) if isinstance(gold, str) else gold for gold in golds]
    for column in data.golds:
        given[column] = [case.prompt for case in cases] if column in QUESTIONS else copy.deepcopy(golds)
    columns = [data.columns[case.problem] if case.problem < len(data.columns) else {} for case in cases]
    for name in {name: None for row in columns for name in row}:
        given[name] = [copy.deepcopy(row.get(name)) for row in columns]
    if not bare:
        given |= {"trainer_state": None, "log_extra": ignore, "log_metric": ignore, "unknown": ["18"] * len(cases)}
    return given
