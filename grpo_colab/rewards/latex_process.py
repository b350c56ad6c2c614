"""Ask about formulas in a process of its own, which a time limit can kill: `latex_worker.py`.

So `10^{10^{10}}` costs a fraction of a second, on any thread. math-verify's own limit works on the main thread only,
and gives such an answer 5 s.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock  # importing `threading` would take longer than importing this file
from typing import TYPE_CHECKING, Final

from grpo_colab.rewards.grading import REASONS, Reason
from grpo_colab.rewards.latex_tree import Node
from grpo_colab.utils.processes import bare_environment

if TYPE_CHECKING:
    from subprocess import Popen

WALL_LIMIT_S: Final = 60.0  # after which a silent worker counts as hung; its start takes seconds


def compare(limit_s: float, gold: Node, answer: Node | None, tolerance: float = 0.0) -> Reason:
    """Let this process's worker compare two formulas, and return the reason of the verdict on `answer`.

    Without an answer, the reason says whether the gold can be read: `right`, or `not_a_number`. It is `too_long` after
    `limit_s` seconds of CPU time. A forked process gets a worker of its own: the pipes of the first one are its
    parent's, and its lock may be held by a thread that only the parent has. Raises RuntimeError as `Worker.ask` does.
    """
    return WORKERS.setdefault(os.getpid(), Worker()).ask(limit_s, gold, answer, tolerance)


class Worker:
    """The process that runs `latex_worker.py`.

    It starts with the first question, and again after it died. It ends when its stdin is closed.
    """

    def __init__(self) -> None:
        self.lock = allocate_lock()
        self.process: Popen[bytes] | None = None

    def ask(self, limit_s: float, gold: Node, answer: Node | None, tolerance: float = 0.0) -> Reason:
        """Return the reason of the verdict on `answer`. One thread at a time asks; the others wait.

        A process that died or hung is killed, and the question is asked once more. Raises RuntimeError when it died or
        hung twice. After any exception, an interrupt included, the process is killed, so that the next question starts
        another.
        """
        import json

        line = json.dumps([limit_s, tolerance, gold, answer]).encode() + b"\n"
        with self.lock:
            for _ in range(2):
                reply = ""
                try:
                    reply = self._reply(line, WALL_LIMIT_S + 10 * limit_s)
                finally:
                    # After an interrupt, too: the next question must not get the reply to this one.
                    if not reply:
                        self.stop()
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
            # not reach the process, and `stop` ends its fork, too.
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

    def stop(self) -> None:
        """Kill the process and its fork, if there is one. The next question starts another."""
        import contextlib
        import signal

        process, self.process = self.process, None
        if process is not None:
            with process, contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


WORKERS: Final[dict[int, Worker]] = {}
