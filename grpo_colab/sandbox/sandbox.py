"""Run programs that a model wrote, and never let them out.

    with Sandbox("def double(n):\\n    return 2 * n") as sandbox:
        sandbox.run(["double(21)", "while True: pass"])     # Outcome(value=42), Outcome(kind="time")

The interpreter is pydantic-monty: Python in Rust, without access to files or sockets, in a process of its own. A second
process stands between it and the trainer (`worker.py`), and only that one reads what a program returns. Decoding a
dictionary whose key is a tuple of shared tuples, forty deep, never ends and holds Python's global lock; in the trainer
it would stop the run. What reaches the trainer is plain, bounded data. Both processes end with the trainer, even when
it is killed.
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

MOST_FAILED_STARTS: Final = 5
KINDS: Final = ("ok", "error", "unsupported", "time", "memory", "result", "crash")


@dataclass(frozen=True)
class Outcome:
    """How a program ended: the value of its last expression, what it printed, the kind of its end, and a message.

    The kinds are:

    - ok
    - error: it raised, or is no Python
    - unsupported: it is Python, but uses what the interpreter lacks (and did not catch the error)
    - time
    - memory, also for printing too much
    - result: its value is too large, or of another type than None, bool, int, float, str, list, tuple and dict
    - crash, of the interpreter
    """

    value: Any = None
    output: str = ""
    kind: str = "ok"
    message: str = ""


class Exam(NamedTuple):
    """A test that runs in a session of its own and asks the program: see `referee.py`.

    `source` is the test. `names` are the program's functions and classes that it calls: its own names for them, mapped
    to the program's. `lifted` are expressions to evaluate in the program's session. `shared` is source that they need
    there.
    """

    source: str
    names: dict[str, str]
    shared: str = ""
    lifted: list[str] = []  # noqa: RUF012 - nothing writes to it


class Sandbox(contextlib.AbstractContextManager["Sandbox"]):
    """Run each program in a fresh session, with the names that `prelude`, trusted source, has defined.

    `workers` interpreters run side by side, each with two processes of its own, which the first `run` starts and
    `close` or the end of a `with` block ends. A program has `time_limit_s` seconds of wall time and `memory_mb` MiB,
    and may print `max_output` bytes. Its value may hold `max_items` values in lists, tuples and dictionaries at most
    `max_depth` deep, `max_output` characters in all, and integers of 4,096 bits. A program ends in the same way each
    time: the clock stands still, sleeping takes no time, and random numbers have a fixed seed.

    A sandbox can be used from any thread, after a fork, and pickled; a copy or a fork starts workers of its own. Raises
    SettingError for a setting that cannot work and without pydantic-monty; `run` raises it for a prelude that fails.
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
        _SANDBOXES.add(self)

    def _reset(self) -> None:
        """Start without workers and with a free lock: after a fork the old ones belong to the parent."""
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
        """Say why `value` cannot be a program's result, and name the setting that bounds it; "" where it can."""
        return refusal(value, *(int(self.settings[name]) for name in ("max_items", "max_depth", "max_output")))

    def run(
        self,
        programs: Sequence[str],
        inputs: Sequence[Mapping[str, Any]] | None = None,
        then: Sequence[str | Exam] | None = None,
    ) -> list[Outcome]:
        """Run the programs, and return their outcomes in the same order. Nothing is raised for a program that fails.

        `inputs` holds, for each program, global variables with plain values. `then` holds, for each program, what to
        run after it. Source runs in the program's session, with a time limit of its own, and the outcome's value is
        that of its last expression; a quote or a line that the program left open cannot swallow it. An `Exam` runs in a
        session of its own, and the value is None.

        The first call starts the workers. Calls from several threads wait for each other. Raises TypeError for
        arguments of other types, ValueError for lists of other lengths and for inputs that are not plain, SettingError
        for a prelude that fails and for workers that do not start, and RuntimeError when the workers hang. After an
        interrupt or an error of the workers these are ended, and the next call starts others.
        """
        variables = [{}] * len(programs) if inputs is None else [dict(names) for names in inputs]
        after: list[Any] = [()] * len(programs)
        if then is not None:
            after = [tuple(one) if isinstance(one, Exam) else one for one in then]
        texts = all(isinstance(text, str | tuple) for text in after) and all(isinstance(text, str) for text in programs)
        names = [name for mapping in variables for name in mapping]
        if not texts or not all(isinstance(name, str) and name.isidentifier() for name in names):
            raise TypeError("a program is a string, and its inputs are a mapping from identifiers to plain values")
        requests = [marshal.dumps(request, 2) for request in zip(variables, programs, after, strict=True)]
        with self._lock:
            try:
                return self._run(requests)
            except BaseException:  # an interrupt, for example: the next call must not get the replies to this one
                self._stop()
                raise

    def _run(self, requests: list[bytes]) -> list[Outcome]:
        """Hand the requests to the workers as these have room, and return the outcomes in the order of the requests.

        Missing workers are started first. Raises RuntimeError when none answers in time, and SettingError as `_receive`
        does.
        """
        waiting = deque(range(len(requests)))
        failures = [0] * (len(requests) + 1)  # of each request; the last entry, index -1, counts failed starts
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
                self._receive(busy[channel], waiting, failures, outcomes)  # type: ignore[index]

    def _receive(self, worker: _Worker, waiting: deque[int], failures: list[int], outcomes: list[Outcome]) -> None:
        """Take one reply from a worker; replace the worker if it has died, and retry or settle what it was running.

        A program whose worker died is tried a second time, since the worker may have been killed from outside. But a
        worker's own timer kills it where a value takes too long to read: the outcome's kind is then "time", without a
        second try. `failures` counts the deaths per request; its last entry counts those at a start. Raises
        SettingError for a prelude that fails, and after MOST_FAILED_STARTS failed starts.
        """
        job, reply = worker.receive()
        if reply is not None:
            if job >= 0:
                outcomes[job] = Outcome(*reply)
            elif reply[2] != "ok":
                raise SettingError(f"does not run in the sandbox: {reply[3]}", setting="prelude")
            return
        last_line = worker.last_line()
        status = worker.kill()
        failures[job] += 1
        if job < 0 and failures[job] > MOST_FAILED_STARTS:
            raise SettingError(f"a worker of the sandbox does not start (exit status {status}): {last_line}")
        self._running[self._running.index(worker)] = _Worker(self.prelude, self.settings)
        waiting.extendleft(reversed(worker.jobs))
        if job >= 0 and status == -signal.SIGPROF:
            outcomes[job] = Outcome(kind="time", message="what it returned could not be read in time")
        elif job >= 0 and failures[job] > 1:
            outcomes[job] = Outcome(kind="crash", message=f"its process died (exit status {status})")
        elif job >= 0:
            waiting.appendleft(job)


_SANDBOXES: Final[weakref.WeakSet[Sandbox]] = weakref.WeakSet()


def _forget_workers() -> None:
    """Give up the parent's workers, in a child process.

    The child closes its copies of their channels. Otherwise a worker would outlive the trainer for as long as the child
    lives.
    """
    for sandbox in list(_SANDBOXES):
        for worker in sandbox._running:
            worker.channel.close()
        sandbox._reset()


os.register_at_fork(after_in_child=_forget_workers)


class _Worker:
    """The outer process, as the trainer sees it. Making one starts the process, and sends the prelude and the settings.

    `jobs` are the indices of the program that it runs and of the next one; the index -1 is its start.
    """

    def __init__(self, prelude: str, settings: Mapping[str, float]) -> None:
        import socket

        ours, theirs = socket.socketpair()
        # The environment has none of the trainer's tokens. In a session of its own, Ctrl-C does not reach the process,
        # and `kill` ends its children, too.
        environment = bare_environment(("PATH", "LD_LIBRARY_PATH", "MONTY_BIN"))
        self.errors, errors_end = connection.Pipe(duplex=False)
        with theirs, errors_end:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "grpo_colab.sandbox.worker"],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=errors_end.fileno(),
                cwd="/",
                env=environment,
                start_new_session=True,
            )
        self.channel = connection.Connection(ours.detach())
        self.jobs: deque[int] = deque()
        self.send(-1, marshal.dumps((prelude, list(settings.values())), 2))

    def has_room(self, request: bytes) -> bool:
        """Tell whether a program may be sent now: a short one may wait in the socket, since sending it never blocks."""
        return not self.jobs or (len(self.jobs) == 1 and len(request) < SHORT)

    def send(self, job: int, request: bytes) -> None:
        """Send a request, and add its `job`, the program's index or -1, to `jobs`.

        Nothing is raised if the process has died: `receive` finds that.
        """
        self.jobs.append(job)
        with contextlib.suppress(OSError):
            self.channel.send_bytes(request)

    def receive(self) -> tuple[int, tuple[Any, ...] | None]:
        """Wait for a reply, and return the index of the oldest job and the parts of its outcome.

        The job leaves `jobs`. None stands for the parts when the process has died; nothing is raised.
        """
        job = self.jobs.popleft()
        try:
            return job, marshal.loads(self.channel.recv_bytes())
        except (EOFError, OSError):
            return job, None

    def last_line(self) -> str:
        """Return the last line that the process has written, which says why it did not start.

        It has at most 300 characters, and is empty where nothing was written.
        """
        written = os.read(self.errors.fileno(), 1 << 16) if self.errors.poll() else b""
        return written.decode(errors="replace").strip().rpartition("\n")[2][:300]

    def kill(self) -> int:
        """Kill the process and its children, wait for its end, and return its exit status.

        SIGKILL goes to the process group in any case, also where the process had ended and only its children run. Then
        the status is the process's own. It is negative where a signal ended the process. The channels are closed.
        """
        self.channel.close()
        self.errors.close()
        with self.process, contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.returncode
