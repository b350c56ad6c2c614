"""Run programs in the interpreter's process, and read what they return: the sandbox's outer process.

`Sandbox` starts it by this module's name. It gets the prelude and the limits, then one request after the other.
`referee.py` runs the tests that ask a program.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import marshal
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from multiprocessing import connection
from typing import Any, Final

from grpo_colab.errors import one_line
from grpo_colab.sandbox import Exam
from grpo_colab.sandbox.limits import GRACE_S, MOST_QUESTIONS, READING_S, limit_this_process, used_s
from grpo_colab.sandbox.plain import doubtful_texts, refusal

# What the interpreter says when it lacks something, and the program is not to blame.
_LACKS: Final = r"monty|not (yet )?support|^No module named|^cannot import name|^module '\w+' has no attribute"
_NO_ATTRIBUTE: Final = r"'(\w+)' object has no attribute '(\w+)'"
_MOST_TRIES: Final = 3  # of a run that got no processor to run on


def serve() -> None:
    """Answer the trainer's requests, which come through the socket that is stdin, until the trainer ends.

    The first reply is the outcome of the prelude. The process limits its own memory, and keeps its stderr from the
    interpreter's process.
    """
    # The interpreter's process inherits stderr, and could fill that pipe, which nobody empties. So the pipe moves to
    # `sys.stderr` of this process alone.
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    from pydantic_monty import Monty

    channel = connection.Connection(os.dup(0))
    prelude, (_, time_limit_s, memory_mb, *bounds) = marshal.loads(channel.recv_bytes())
    limit_this_process(memory_mb)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # the timer's signal kills, even in the midst of a C function
    limits = {"max_feed_duration_secs": time_limit_s, "max_memory": memory_mb << 20}
    with Monty(max_processes=2, max_checkouts_per_worker=1000, request_timeout=time_limit_s + GRACE_S) as pool:
        open_session = functools.partial(
            pool.checkout,
            os_policy={"datetime": datetime(2000, 1, 1), "sleep": "zero", "random_start": {"seed": 0}},
            assert_message_annotations=False,
        )
        runner = _Runner(open_session, limits, prelude, bounds)
        channel.send_bytes(marshal.dumps(runner.start(), 2))
        with contextlib.suppress(EOFError):  # the trainer ended
            while True:
                channel.send_bytes(marshal.dumps(runner.ask(*marshal.loads(channel.recv_bytes())), 2))


class _Runner:
    """Run programs as the trainer asks for them.

    Each program's session begins with the state that the prelude has left, which loads faster than the prelude runs.
    `bounds` are max_items, max_depth and max_output. An outcome's parts are the value, the output, the kind and the
    message, as in `Outcome`.
    """

    def __init__(
        self, open_session: Callable[..., Any], limits: dict[str, Any], prelude: str, bounds: list[int]
    ) -> None:
        self.open_session = functools.partial(open_session, limits=limits)
        self.open_exam_session = functools.partial(open_session, limits=limits | {"max_suspensions": MOST_QUESTIONS})
        self.time_limit_s, self.prelude, self.bounds = limits["max_feed_duration_secs"], prelude, bounds
        self.state: bytes | None = None  # after the prelude
        self.exam_state: bytes | None = None  # after the prelude and the referee's helpers

    def start(self) -> tuple[Any, ...]:
        """Run the prelude, keep the state that it leaves, and return the parts of its outcome, without a value.

        After a prelude that fails the state is None. The interpreter's own `eval` is kept, too.
        """
        with self.open_session() as session:
            self.eval = session.feed_run("eval")
        self.state, *reply = self._with_processor_time(lambda: self._outcome({}, [self.prelude]))
        return (None, *reply)

    def ask(self, inputs: dict[str, Any], program: str, then: str | tuple[Any, ...]) -> tuple[Any, ...]:
        """Run a program with the globals `inputs`, then the source or the exam `then`; return the parts of the outcome.

        `then` is a text, the fields of an `Exam`, or an empty tuple for nothing. The first exam prepares the state that
        tests start in; where that fails, its outcome is returned instead.
        """
        if isinstance(then, str):
            return self._with_processor_time(lambda: self._outcome(inputs, [program, then]))
        if then and not self.exam_state:
            from grpo_colab.sandbox.exam_helpers import HELPERS

            feeds = [self.prelude, HELPERS]
            self.exam_state, *reply = self._with_processor_time(lambda: self._outcome({}, feeds, for_exams=True))
            if not self.exam_state:
                return (None, *reply)
        exam = Exam(*then) if then else None
        return self._with_processor_time(lambda: self._outcome(inputs, [program], exam))

    def _with_processor_time(self, run: Callable[[], tuple[tuple[Any, ...], float]]) -> tuple[Any, ...]:
        """Return the outcome that `run` gives, and run it again where it broke a limit without having had a processor.

        `run` gives the parts of an outcome, and the seconds of CPU time. It runs at most _MOST_TRIES times. On a busy
        machine the wall time may be over while the program has hardly run. It may also have been killed from outside. A
        timer's signal kills this process where reading the value takes too long.
        """
        for _ in range(_MOST_TRIES):
            signal.setitimer(signal.ITIMER_PROF, READING_S + 2e-6 * self.bounds[0])
            reply, cpu_s = run()
            signal.setitimer(signal.ITIMER_PROF, 0)
            if reply[2] not in ("time", "crash") or cpu_s > self.time_limit_s / 10:
                break
        return reply

    def _outcome(
        self,
        inputs: dict[str, Any],
        feeds: Sequence[str],
        exam: Exam | None = None,
        for_exams: bool = False,
        named: bool = False,
    ) -> tuple[tuple[Any, ...], float]:
        """Run `feeds`, one after the other, in one session; return the parts of the outcome, and seconds of CPU time.

        `inputs` are the globals of the first feed. The session begins with the state that the prelude has left. For the
        prelude itself and with `for_exams` it begins empty, and the value is the state that the feeds leave. An exam
        runs last, and the value is then None. A program that fails has the value None, too, and nothing is raised.

        A text in the value may stand for an object that cannot leave the interpreter. Then the feeds run again, so that
        the value is `named` `__v`, and the interpreter's own `type` says what each such text is.
        """
        from pydantic_monty import CollectString, MontyError

        printed = CollectString(self.bounds[-1])
        value, kind, message = None, "ok", ""
        pids: list[int] = []
        before_s = used_s(pids)
        try:
            with (self.open_exam_session if for_exams else self.open_session)() as session:
                pids.append(session.worker_pid)
                before_s = used_s(pids)
                if self.state and not for_exams:
                    session.load_session(self.state)
                for feed in feeds:
                    value = session.feed_run(feed, inputs=inputs, print_callback=printed)
                    inputs = {}
                if for_exams or not self.state:
                    value = session.dump()
                elif exam is not None:
                    value = None
                    kind, message = self._run_exam(session, exam, printed, pids)
                else:
                    message = refusal(value, *self.bounds)
                    doubtful = [] if message else doubtful_texts(value, "v")
                    if doubtful:
                        again = [*feeds[:-1], _with_named_value(feeds[-1])]
                        if not named and again[-1]:
                            return self._outcome(inputs, again, named=True)
                        message = self._other_types(session, doubtful)
                    if message:
                        value, kind = None, "result"
        except MontyError as error:
            value, kind, message = None, _kind(error), one_line(error.exception())
        except TypeError as error:  # a key, or a member of a set, that has no hash in this process
            value, kind, message = None, "result", f"the result has an {error}"
        return (value, printed.output, kind, message), used_s(pids) - before_s

    def _other_types(self, session: Any, doubtful: list[str]) -> str:
        """Say which of the doubtful texts in the value `__v` are no texts, or return an empty string."""
        types = f"[type(x).__name__ for x in [{', '.join(doubtful)}]]"
        kinds = session.feed_run(f"__e({types!r}, {{'v': __v}})", inputs={"__e": self.eval})
        others = sorted(set(kinds) - {"str"})
        return f"the result has a value of type {others}" if others else ""

    def _run_exam(self, session: Any, exam: Exam, printed: Any, pids: list[int]) -> tuple[str, str]:
        """Run an exam of the program in `session`; return the kind of its end, and the message: "ok" and "" for a pass.

        The id of the process of the exam's own session is added to `pids`.
        """
        from grpo_colab.sandbox.referee import Referee, examine

        @contextlib.contextmanager
        def open_exam_session() -> Any:
            with self.open_exam_session() as opened:
                pids.append(opened.worker_pid)
                yield opened

        assert self.exam_state is not None
        referee = Referee(
            session,
            self.time_limit_s,
            exam.lifted,
            exam.shared,
            self.eval,
            printed,
            lambda: used_s(pids[:1]) + time.process_time(),
        )
        failure = examine(referee, open_exam_session, self.exam_state, exam.source, exam.names)
        if failure is None:
            return "ok", ""
        return failure if isinstance(failure, tuple) else (_kind(failure), one_line(failure.exception()))


def _with_named_value(source: str) -> str:
    """Return a program whose last expression has the name `__v`; an empty string where it does not end in one."""
    try:
        tree = ast.parse(source)
        last = tree.body[-1] if tree.body else None
        if not isinstance(last, ast.Expr):
            return ""
        tree.body[-1] = ast.Assign([ast.Name("__v")], last.value)
        return ast.unparse(ast.fix_missing_locations(tree)) + "\n__v"
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return ""


def _kind(error: Any) -> str:
    """Return the kind of outcome that an interpreter's error means: time, crash, memory, unsupported or error."""
    import builtins

    if hasattr(error, "timed_out"):  # a MontyCrashedError
        return "time" if error.timed_out else "crash"
    inner = error.exception()
    text = str(inner)
    if isinstance(inner, TimeoutError | MemoryError):
        return "time" if isinstance(inner, TimeoutError) else "memory"
    if isinstance(inner, NotImplementedError | ImportError | AttributeError | RuntimeError) and re.search(
        _LACKS, text[:1000]
    ):
        return "unsupported"
    # A built-in, or a method of a built-in type, that Python has and the interpreter lacks.
    if isinstance(inner, NameError):
        name = re.match(r"name '(\w+)' is not defined", text)
        return "unsupported" if name and hasattr(builtins, name[1]) else "error"
    if isinstance(inner, AttributeError):
        found = re.match(_NO_ATTRIBUTE, text)
        return "unsupported" if found and hasattr(getattr(builtins, found[1], None), found[2]) else "error"
    return "error"


if __name__ == "__main__":
    serve()
