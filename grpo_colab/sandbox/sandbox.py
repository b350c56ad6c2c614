"""Run programs that a model wrote, and never let them out.

    with Sandbox("def double(n):\\n    return 2 * n") as sandbox:
        sandbox.run(["double(21)", "while True: pass"])     # Outcome(value=42), Outcome(kind="time")

The interpreter is pydantic-monty: Python in Rust, which has no way to files or sockets, in a process of its own.
Around it stands a second process, and only that one reads what a program returns: to decode a dictionary whose key is
a tuple of shared tuples, forty deep, never ends, holds Python's lock all the while, and would hold the trainer with it.
What reaches the trainer is plain, bounded data. Both processes end with the trainer, even when it is killed.
"""

from __future__ import annotations

import contextlib
import functools
import marshal
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import connection
from typing import Any, Final, NamedTuple

from grpo_colab.errors import SettingError
from grpo_colab.sandbox.limits import HANGING_S, SHORT, check_settings
from grpo_colab.sandbox.plain import refusal
from grpo_colab.utils.processes import bare_environment

KINDS: Final = ("ok", "error", "unsupported", "time", "memory", "result", "crash")


@dataclass(frozen=True)
class Outcome:
    """What became of a program: the value of its last expression, what it printed, and how it ended.

    kind: ok; error (it raised, or is no Python); unsupported (Python, but more of it than the interpreter has); time;
    memory (also for printing too much); result (of another type than None, bool, int, float, str, list, tuple and dict,
    or too large); crash (of the interpreter). A program that catches what the interpreter lacks is not unsupported.
    """

    value: Any = None
    output: str = ""
    kind: str = "ok"
    message: str = ""


class Exam(NamedTuple):
    """A test that runs outside of the program's session, and asks the program: see `referee`.

    `source` is the test. `names` are those of the program's functions and classes that it calls, with the program's own
    names for them. `lifted` are expressions to evaluate in the program's session, which finds `shared` there.
    """

    source: str
    names: dict[str, str]
    shared: str = ""
    lifted: list[str] = []  # noqa: RUF012 - nobody writes to it


class Sandbox(contextlib.AbstractContextManager["Sandbox"]):
    """Run each program in a fresh session, with the names that `prelude`, trusted source, has defined.

    `workers` interpreters run side by side, from the first `run` on, each with its own two processes. A program has
    `time_limit_s` seconds of wall time and `memory_mb` MiB, and may print `max_output` bytes. Its value may hold
    `max_items` values in lists, tuples and dictionaries at most `max_depth` deep, `max_output` characters in all, and
    integers of 4,096 bits. A program ends in the same way each time: the clock stands still,
    to sleep takes no time, and random numbers are the same ones.

    Of use from any thread, after a fork, and pickled (then it starts workers of its own). SettingError for a setting
    that cannot work, for a prelude that fails, and without pydantic-monty.
    """

    def __init__(
        self,
        prelude: str = "",
        *,
        workers: int = 2,
        time_limit_s: float = 0.25,
        memory_mb: int = 64,
        max_items: int = 10_000,
        max_depth: int = 4,
        max_output: int = 10_000,
    ) -> None:
        from importlib.util import find_spec

        if find_spec("pydantic_monty") is None or not hasattr(signal, "setitimer"):
            raise SettingError(
                "the sandbox needs Linux or macOS, and pydantic-monty", remedy='pip install "pydantic-monty<1.5"'
            )
        self.prelude = prelude
        self.settings = {"workers": workers, "time_limit_s": time_limit_s, "memory_mb": memory_mb}
        self.settings |= {"max_items": max_items, "max_depth": max_depth, "max_output": max_output}
        check_settings(self.settings)
        self._reset()
        _OPEN.add(self)

    def _reset(self) -> None:
        """Begin without workers, and with a lock that nobody holds: those there were belong to who forked."""
        self._lock = threading.Lock()
        self._running: list[_Worker] = []

    def __reduce__(self) -> tuple[Callable[[], Sandbox], tuple[()]]:
        return functools.partial(Sandbox, self.prelude, **self.settings), ()  # type: ignore[arg-type]

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the workers. The next `run` starts others."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        for worker in self._running:
            worker.kill()
        self._running = []

    def refuses(self, value: object) -> str:
        """Say why `value` can be no program's result, naming the setting that bounds it; or return an empty string."""
        return refusal(value, *(int(self.settings[name]) for name in ("max_items", "max_depth", "max_output")))

    def run(
        self,
        programs: Sequence[str],
        inputs: Sequence[Mapping[str, Any]] | None = None,
        then: Sequence[str | Exam] | None = None,
    ) -> list[Outcome]:
        """Return the outcomes, in the order of the programs.

        `inputs` are each program's global names, of plain values. `then` is source to run after each program in its
        session, with a time limit of its own; the value is then its. What a program that ended well has left open (a
        quote, a line) cannot swallow it. An `Exam` runs in a session of its own; its value is None.
        """
        given = [{}] * len(programs) if inputs is None else [dict(names) for names in inputs]
        after = [()] * len(programs) if then is None else [tuple(one) if isinstance(one, Exam) else one for one in then]
        feeds = [given, programs, after]
        texts = all(isinstance(text, str | tuple) for text in after) and all(isinstance(text, str) for text in programs)
        if not texts or not all(isinstance(name, str) and name.isidentifier() for names in given for name in names):
            raise TypeError("a program is a string, and its inputs are a mapping from identifiers to plain values")
        requests = [marshal.dumps(each, 2) for each in zip(*feeds, strict=True)]
        with self._lock:
            try:
                return self._run(requests)
            except BaseException:  # an interrupt, say: the next call must not get this one's replies
                self._stop()
                raise

    def _run(self, requests: list[bytes]) -> list[Outcome]:
        waiting, tried = deque(range(len(requests))), [0] * (len(requests) + 1)  # the last one counts failed starts
        outcomes = [Outcome()] * len(requests)
        while len(self._running) < min(self.settings["workers"], len(requests)):
            self._running.append(_Worker(self.prelude, self.settings))
        while True:
            for worker in sorted(self._running, key=lambda worker: len(worker.jobs)):
                if waiting and worker.has_room(requests[waiting[0]]):
                    job = waiting.popleft()
                    worker.send(job, requests[job])
            busy = {worker.channel: worker for worker in self._running if worker.jobs}
            if not busy:
                return outcomes
            heard = connection.wait(list(busy), HANGING_S + 2 * self.settings["time_limit_s"])
            if not heard:
                raise RuntimeError(f"the sandbox's workers have said nothing for {HANGING_S:.0f} s")
            for channel in heard:
                self._hear(busy[channel], waiting, tried, outcomes)  # type: ignore[index]

    def _hear(self, worker: _Worker, waiting: deque[int], tried: list[int], outcomes: list[Outcome]) -> None:
        job, reply = worker.receive()
        if reply is not None:
            if job >= 0:
                outcomes[job] = Outcome(*reply)
            elif reply[2] != "ok":
                raise SettingError(f"does not run in the sandbox: {reply[3]}", setting="prelude")
            return
        said, status = worker.last_line(), worker.kill()
        tried[job] += 1
        if job < 0 and tried[job] > 5:
            raise SettingError(f"a worker of the sandbox does not start (exit status {status}): {said}")
        self._running[self._running.index(worker)] = _Worker(self.prelude, self.settings)
        waiting.extendleft(reversed(worker.jobs))
        if job >= 0 and status == -signal.SIGPROF:
            outcomes[job] = Outcome(kind="time", message="what it returned could not be read in time")
        elif job >= 0 and tried[job] > 1:
            outcomes[job] = Outcome(kind="crash", message=f"its process died (exit status {status})")
        elif job >= 0:  # killed from outside, perhaps
            waiting.appendleft(job)


_OPEN: Final[weakref.WeakSet[Sandbox]] = weakref.WeakSet()


def _forget() -> None:
    for sandbox in list(_OPEN):
        for worker in sandbox._running:
            worker.channel.close()  # or the worker would outlive the trainer for as long as this process lives
        sandbox._reset()


os.register_at_fork(after_in_child=_forget)


class _Worker:
    """The outer process as the trainer sees it. `jobs`: the program that it runs and the next; -1 while it starts."""

    def __init__(self, prelude: str, settings: Mapping[str, float]) -> None:
        import socket

        ours, theirs = socket.socketpair()
        # None of the trainer's tokens; a session of its own, so that Ctrl-C is not for it, and `kill` ends all of it.
        environment = bare_environment(("PATH", "LD_LIBRARY_PATH", "MONTY_BIN"))
        self.errors, written = connection.Pipe(duplex=False)
        with theirs, written:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "grpo_colab.sandbox.worker"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=written.fileno(),
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        self.channel = connection.Connection(ours.detach())
        self.jobs: deque[int] = deque()
        self.send(-1, marshal.dumps((prelude, list(settings.values())), 2))

    def has_room(self, request: bytes) -> bool:
        """Tell whether a program may be sent now: a short one may lie ready, since sending it never waits."""
        return not self.jobs or (len(self.jobs) == 1 and len(request) < SHORT)

    def send(self, job: int, request: bytes) -> None:
        self.jobs.append(job)
        try:
            self.channel.send_bytes(request)
        except OSError:
            return  # it is dead, which `receive` will find

    def receive(self) -> tuple[int, tuple[Any, ...] | None]:
        """Return the job, and the parts of its outcome, or None when the process has ended."""
        job = self.jobs.popleft()
        try:
            return job, marshal.loads(self.channel.recv_bytes())
        except (EOFError, OSError):
            return job, None

    def last_line(self) -> str:
        """Return the last line that the process has written, which says why it did not start."""
        said = os.read(self.errors.fileno(), 1 << 16) if self.errors.poll() else b""
        return said.decode(errors="replace").strip().rpartition("\n")[2][:300]

    def kill(self) -> int:
        """End the process, and return its exit status: what ended it, if it had ended before."""
        self.channel.close()
        self.errors.close()
        with self.process, contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.returncode
