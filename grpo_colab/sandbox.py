"""Runs programs that a model wrote, and never lets them out.

    with Sandbox("def double(n):\\n    return 2 * n") as sandbox:
        sandbox.run(["double(21)", "while True: pass"])     # Outcome(value=42), Outcome(kind="time")

The interpreter is pydantic-monty: Python in Rust, which has no way to files or sockets, in a process of its own.
Around it stands a second process, and only that one reads what a program returns: to decode a dictionary whose key is
a tuple of shared tuples, forty deep, never ends, holds Python's lock all the while, and would hold the trainer with it.
What reaches the trainer is plain, bounded data. Both processes end with the trainer, even when it is killed.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import marshal
import os
import re
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from multiprocessing import connection
from typing import Any, Final, NamedTuple

from grpo_colab.errors import SettingError, one_line
from grpo_colab.plain import doubtful_texts, refusal
from grpo_colab.processes import bare_environment

GRACE_S: Final = 0.1  # to compare shared lists ignores the time limit; this much later the interpreter is killed
READING_S: Final = 0.05  # of CPU time, to read what a program returned, and two microseconds an item
HANGING_S: Final = 60.0  # until a worker that neither answers nor dies counts as hung; its start takes seconds at most
MOST_QUESTIONS: Final = 30_000  # that an exam may ask of a program
SHORT: Final = 16_384  # bytes of a request, which fit into a socket's buffer twice
# What the interpreter says when it is not the program that is wrong.
_LACKS: Final = r"monty|not (yet )?support|^No module named|^cannot import name|^module '\w+' has no attribute"
_NO_ATTRIBUTE: Final = r"'(\w+)' object has no attribute '(\w+)'"
KINDS: Final = ("ok", "error", "unsupported", "time", "memory", "result", "crash")
BOUNDS: Final = {
    "workers": (1, 64),
    "time_limit_s": (0.001, 60),
    "memory_mb": (1, 4096),
    "max_items": (0, 10**6),
    "max_depth": (0, 100),
    "max_output": (0, 10**7),
}
_FENCES: Final = ("```python", "```py", "```python3", "```")


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
    """Runs each program in a fresh session, with the names that `prelude`, trusted source, has defined.

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
            raise SettingError('the sandbox needs Linux or macOS, and pydantic-monty: pip install "pydantic-monty<1.5"')
        self.prelude = prelude
        self.settings = {"workers": workers, "time_limit_s": time_limit_s, "memory_mb": memory_mb}
        self.settings |= {"max_items": max_items, "max_depth": max_depth, "max_output": max_output}
        for name, value in self.settings.items():
            least, most = BOUNDS[name]
            kinds = (int, float) if name == "time_limit_s" else (int,)
            if type(value) not in kinds or not least <= value <= most:
                raise SettingError(f"{name} = {value!r}: write a number from {least} to {most}")
        self._reset()
        _OPEN.add(self)

    def _reset(self) -> None:
        """Without workers, and with a lock that nobody holds. What was there before is of the process that forked."""
        self._lock = threading.Lock()
        self._running: list[_Worker] = []

    def __reduce__(self) -> tuple[Callable[[], Sandbox], tuple[()]]:
        return functools.partial(Sandbox, self.prelude, **self.settings), ()  # type: ignore[arg-type]

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers. The next `run` starts others."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        for worker in self._running:
            worker.kill()
        self._running = []

    def refuses(self, value: object) -> str:
        """Why `value` can be no program's result, naming the setting that bounds it; or an empty string."""
        return refusal(value, *(int(self.settings[name]) for name in ("max_items", "max_depth", "max_output")))

    def run(
        self,
        programs: Sequence[str],
        inputs: Sequence[Mapping[str, Any]] | None = None,
        then: Sequence[str | Exam] | None = None,
    ) -> list[Outcome]:
        """The outcomes, in the order of the programs.

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
                raise SettingError(f"the sandbox's prelude does not run: {reply[3]}")
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
                [sys.executable, "-P", "-c", "from grpo_colab.sandbox import _serve; _serve()"],
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
        """The next program may lie ready where it is short, so that to send it never waits for the one before."""
        return not self.jobs or (len(self.jobs) == 1 and len(request) < SHORT)

    def send(self, job: int, request: bytes) -> None:
        self.jobs.append(job)
        try:
            self.channel.send_bytes(request)
        except OSError:
            return  # it is dead, which `receive` will find

    def receive(self) -> tuple[int, tuple[Any, ...] | None]:
        """The job, and the parts of its outcome, or None when the process has ended."""
        job = self.jobs.popleft()
        try:
            return job, marshal.loads(self.channel.recv_bytes())
        except (EOFError, OSError):
            return job, None

    def last_line(self) -> str:
        """Of what the process has written, which is why it did not start."""
        said = os.read(self.errors.fileno(), 1 << 16) if self.errors.poll() else b""
        return said.decode(errors="replace").strip().rpartition("\n")[2][:300]

    def kill(self) -> int:
        """The exit status, which is what ended it before this did."""
        self.channel.close()
        self.errors.close()
        with self.process, contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.returncode


# From here to `python_code`, all runs in the outer process.


def _serve() -> None:
    import resource

    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # or the interpreter could fill the pipe, which nobody empties
    from pydantic_monty import Monty

    channel = connection.Connection(os.dup(0))
    prelude, (_, time_limit_s, memory_mb, *bounds) = marshal.loads(channel.recv_bytes())
    most = (1 << 30) + (memory_mb << 23)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(ValueError, OSError):  # macOS knows the limit, but sets none
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # it kills, also in the midst of a C function
    limits = {"max_feed_duration_secs": time_limit_s, "max_memory": memory_mb << 20}
    with Monty(max_processes=2, max_checkouts_per_worker=1000, request_timeout=time_limit_s + GRACE_S) as pool:
        open_session = functools.partial(
            pool.checkout,
            os_policy={"datetime": datetime(2000, 1, 1), "sleep": "zero", "random_start": {"seed": 0}},
            assert_message_annotations=False,
        )
        outer = _Outer(open_session, limits, prelude, bounds)
        channel.send_bytes(marshal.dumps(outer.start(), 2))
        with contextlib.suppress(EOFError):  # the trainer's end
            while True:
                channel.send_bytes(marshal.dumps(outer.ask(*marshal.loads(channel.recv_bytes())), 2))


class _Outer:
    """Run programs as the trainer asks for them, each in a session that begins with the state the prelude has left.

    To load that state is quicker than to run the prelude.
    """

    def __init__(
        self, open_session: Callable[..., Any], limits: dict[str, Any], prelude: str, bounds: list[int]
    ) -> None:
        self.open_session = functools.partial(open_session, limits=limits)
        self.open_court = functools.partial(open_session, limits=limits | {"max_suspensions": MOST_QUESTIONS})
        self.time_limit_s, self.prelude, self.bounds = limits["max_feed_duration_secs"], prelude, bounds
        self.state: bytes | None = None
        self.court: bytes | None = None

    def start(self) -> tuple[Any, ...]:
        with self.open_session() as session:
            self.eval = session.feed_run("eval")
        self.state, *reply = self._until_it_had_time(lambda: self._outcome({}, [self.prelude]))
        return (None, *reply)

    def ask(self, inputs: dict[str, Any], program: str, then: str | tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the parts of an outcome."""
        if isinstance(then, str):
            return self._until_it_had_time(lambda: self._outcome(inputs, [program, then]))
        if then and not self.court:
            from grpo_colab.referee import GLUE

            self.court, *reply = self._until_it_had_time(lambda: self._outcome({}, [self.prelude, GLUE], court=True))
            if not self.court:
                return (None, *reply)
        exam = Exam(*then) if then else None
        return self._until_it_had_time(lambda: self._outcome(inputs, [program], exam))

    def _until_it_had_time(self, run: Callable[[], tuple[tuple[Any, ...], float]]) -> tuple[Any, ...]:
        for _ in range(3):
            signal.setitimer(signal.ITIMER_PROF, READING_S + 2e-6 * self.bounds[0])
            reply, used_s = run()
            signal.setitimer(signal.ITIMER_PROF, 0)
            if reply[2] not in ("time", "crash") or used_s > self.time_limit_s / 10:
                break  # else it had no processor to run on for most of the time, or was killed from outside
        return reply

    def _outcome(
        self,
        inputs: dict[str, Any],
        feeds: Sequence[str],
        exam: Exam | None = None,
        court: bool = False,
        named: bool = False,
    ) -> tuple[tuple[Any, ...], float]:
        """Return the parts of an outcome, and the seconds of CPU time.

        Without a state to begin with, and for a `court`, the value is the state that the feeds leave.

        A value in which a text may stand for an object is `named`: the last feed is run again, such that the value has
        a name, and the interpreter's own `type` says of each such text what it is.
        """
        from pydantic_monty import CollectString, MontyError

        printed, value, kind, message, pids = CollectString(self.bounds[-1]), None, "ok", "", list[int]()
        before_s = _used_s(pids)
        try:
            with (self.open_court if court else self.open_session)() as session:
                pids.append(session.worker_pid)
                before_s = _used_s(pids)
                if self.state and not court:
                    session.load_session(self.state)
                for feed in feeds:
                    value = session.feed_run(feed, inputs=inputs, print_callback=printed)
                    inputs = {}
                if court or not self.state:
                    value = session.dump()
                elif exam is not None:
                    value = None
                    kind, message = self._examined(session, exam, printed, pids)
                elif message := refusal(value, *self.bounds):
                    value, kind = None, "result"
                elif doubtful := doubtful_texts(value, "v"):
                    again = [*feeds[:-1], _named(feeds[-1])]
                    if not named and again[-1]:
                        return self._outcome(inputs, again, named=True)
                    if message := self._of_other_types(session, doubtful):
                        value, kind = None, "result"
        except MontyError as error:
            value, kind, message = None, _kind(error), one_line(error.exception())
        except TypeError as error:  # a key, or a member of a set, that has no hash here
            value, kind, message = None, "result", f"the result has an {error}"
        return (value, printed.output, kind, message), _used_s(pids) - before_s

    def _of_other_types(self, session: Any, doubtful: list[str]) -> str:
        """Say which of the texts in the value `__v` are none, or return nothing."""
        types = f"[type(x).__name__ for x in [{', '.join(doubtful)}]]"
        kinds = session.feed_run(f"__e({types!r}, {{'v': __v}})", inputs={"__e": self.eval})
        others = sorted(set(kinds) - {"str"})
        return f"the result has a value of type {others}" if others else ""

    def _examined(self, session: Any, exam: Exam, printed: Any, pids: list[int]) -> tuple[str, str]:
        """Return the kind of an exam's end, and its message."""
        from grpo_colab.referee import Referee, examine

        @contextlib.contextmanager
        def court() -> Any:
            with self.open_court() as opened:
                pids.append(opened.worker_pid)
                yield opened

        assert self.court is not None
        referee = Referee(
            session,
            self.time_limit_s,
            exam.lifted,
            exam.shared,
            self.eval,
            printed,
            lambda: _used_s(pids[:1]) + time.process_time(),
        )
        ended = examine(referee, court, self.court, exam.source, exam.names)
        if ended is None:
            return "ok", ""
        return ended if isinstance(ended, tuple) else (_kind(ended), one_line(ended.exception()))


def _named(source: str) -> str:
    """Return a program whose last expression, if it is one, has the name `__v`; without one, an empty string."""
    try:
        tree = ast.parse(source)
        if not (tree.body and isinstance(last := tree.body[-1], ast.Expr)):
            return ""
        tree.body[-1] = ast.Assign([ast.Name("__v")], last.value)
        return ast.unparse(ast.fix_missing_locations(tree)) + "\n__v"
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return ""


def _used_s(pids: Sequence[int]) -> float:
    """Return the CPU time of the interpreters, of which `pids` live. Where it cannot be known, the time."""
    import resource

    if sys.platform != "linux":
        return time.monotonic()
    used_s = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    for pid in pids:
        with contextlib.suppress(OSError):
            used_s += time.clock_gettime((~pid << 3) | 2)  # what clock_getcpuclockid(3) gives
    return used_s


def _kind(error: Any) -> str:
    import builtins

    if hasattr(error, "timed_out"):  # of MontyCrashedError
        return "time" if error.timed_out else "crash"
    inner, text = error.exception(), str(error.exception())
    if isinstance(inner, TimeoutError | MemoryError):
        return "time" if isinstance(inner, TimeoutError) else "memory"
    lacks = isinstance(inner, NotImplementedError | ImportError | AttributeError | RuntimeError)
    if lacks and re.search(_LACKS, text[:1000]):
        return "unsupported"
    if isinstance(inner, NameError) and (name := re.match(r"name '(\w+)' is not defined", text)):
        return "unsupported" if hasattr(builtins, name[1]) else "error"
    if isinstance(inner, AttributeError) and (found := re.match(_NO_ATTRIBUTE, text)):
        return "unsupported" if hasattr(getattr(builtins, found[1], None), found[2]) else "error"
    return "error"


def python_code(text: str) -> str:
    """The code of a completion: its last closed fence that says python, else its last bare one, else all of it."""
    lines = text.split("\n")
    found: dict[str, str] = {}
    language, start = None, 0
    for number, line in enumerate(lines):
        mark = line.strip()
        if mark == "```" and language is not None:
            found["" if language == "" else "python"] = "\n".join(lines[start:number])
            language = None
        elif mark.lower() in _FENCES:
            language, start = mark[3:].strip().lower(), number + 1
    return found.get("python", found.get("", text))
