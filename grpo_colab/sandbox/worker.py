"""The sandbox's outer process: it runs programs in the interpreter's, and reads what they return.

`Sandbox` starts it by this module's name. It gets the prelude with the limits, then one request after the other.
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

# What the interpreter says when it is not the program that is wrong.
_LACKS: Final = r"monty|not (yet )?support|^No module named|^cannot import name|^module '\w+' has no attribute"
_NO_ATTRIBUTE: Final = r"'(\w+)' object has no attribute '(\w+)'"


def serve() -> None:
    """Answer the trainer's requests, which come through the standard input's socket, until the trainer ends."""
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # or the interpreter could fill the pipe, which nobody empties
    from pydantic_monty import Monty

    channel = connection.Connection(os.dup(0))
    prelude, (_, time_limit_s, memory_mb, *bounds) = marshal.loads(channel.recv_bytes())
    limit_this_process(memory_mb)
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
            from grpo_colab.sandbox.referee import GLUE

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
        before_s = used_s(pids)
        try:
            with (self.open_court if court else self.open_session)() as session:
                pids.append(session.worker_pid)
                before_s = used_s(pids)
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
        return (value, printed.output, kind, message), used_s(pids) - before_s

    def _of_other_types(self, session: Any, doubtful: list[str]) -> str:
        """Say which of the texts in the value `__v` are none, or return nothing."""
        types = f"[type(x).__name__ for x in [{', '.join(doubtful)}]]"
        kinds = session.feed_run(f"__e({types!r}, {{'v': __v}})", inputs={"__e": self.eval})
        others = sorted(set(kinds) - {"str"})
        return f"the result has a value of type {others}" if others else ""

    def _examined(self, session: Any, exam: Exam, printed: Any, pids: list[int]) -> tuple[str, str]:
        """Return the kind of an exam's end, and its message."""
        from grpo_colab.sandbox.referee import Referee, examine

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
            lambda: used_s(pids[:1]) + time.process_time(),
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


if __name__ == "__main__":
    serve()
