"""The child that copies, and `Mirror`, which starts it from beside a run and looks after it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import time
from pathlib import Path

from grpo_colab.runs import checkpoints
from grpo_colab.runs.mirror.folder import push_to_folder
from grpo_colab.runs.mirror.hub import hub_trouble, push_to_hub
from grpo_colab.runs.mirror.layout import HUB, STATE, absolute, now, told
from grpo_colab.runs.mirror.process import PROGRAM, child
from grpo_colab.runs.mirror.restore import read_recipes, taken
from grpo_colab.text import masked, on_one_line, printable
from grpo_colab.utils.files import expanded, number, read_json, write_json

BUSY, FAILED = 3, 4  # the child's exit status: another one is at it; it failed, and mirror.json says why
FIRST_RETRY_S, LONGEST_RETRY_S = 5.0, 300.0
LIMIT_S = 1800.0  # for one pass
PATIENCE_S = 60.0  # that a run waits at its end for its copies, which then go on by themselves


def push(run: Path, destination: str) -> int | None:
    """Bring the copy up to date, once; returns the step of the newest checkpoint that it then holds.

    Raises OSError (most of the hub's errors are such), also after all is copied but a checkpoint that is damaged here.
    """
    run = absolute(run)
    if not run.name:
        raise OSError(f"a run in {run} has no name; choose another folder with --out")
    # listed before the small files are read, so that the copy's metrics reach at least as far as its checkpoints
    here = checkpoints.saved(run / "checkpoints")
    step, troubles = (push_to_hub if destination.startswith(HUB) else push_to_folder)(run, destination, here)
    if troubles:
        raise OSError(f"not copied: {'; '.join(troubles)}")
    return step


def main(arguments: list[str]) -> int:
    """The child: one pass over RUN, or as JSON what is at a destination.

    With --recipes that is each copy's name and recipe, and with --taken why new runs cannot have their copies there.
    """
    if hasattr(os, "nice"):
        os.nice(10)  # the run needs the processor more
    if arguments[0] in ("--recipes", "--taken"):
        destination, *runs = arguments[1:]
        print(json.dumps(read_recipes(destination) if arguments[0] == "--recipes" else taken(destination, runs)))
        return 0
    from filelock import FileLock, Timeout

    run, destination, wait_s = Path(arguments[0]), arguments[1], float(arguments[2])
    lock = run / ".mirror.lock"
    try:
        if lock.is_symlink():
            raise OSError(f"{lock} is a link, which is not followed; remove it")
        with FileLock(lock, timeout=wait_s):
            _record(run, destination, push(run, destination), None)
    except Timeout:
        return BUSY
    except Exception as error:  # noqa: BLE001 - whatever it is, mirror.json is where a person looks
        hub = destination.startswith(HUB)
        _record(run, destination, None, hub_trouble(destination, error) if hub else told(error))
        return FAILED
    return 0


def _record(run: Path, destination: str, step: float | None, error: str | None) -> None:
    before, destination = read_json(run / STATE) or {}, masked(destination)
    if error is not None and before.get("destination") == destination:
        step = number(before.get("step"))
    failures = 0 if error is None else int(number(before.get("failures")) or 0) + 1
    error = error and on_one_line(masked(error))
    with contextlib.suppress(OSError):  # a full disk stops the run for its own reasons
        state = {"destination": destination, "step": step, "at": now(), "error": error, "failures": failures}
        write_json(run / STATE, state)


class Mirror:
    """Keeps a run's copy from beside the run: each method returns at once (but `finish`), and none raises.

    `pinned` is the checkpoint that is being copied, which pruning should leave alone. Call `request` when there is
    something new, and `poll` now and then.
    """

    def __init__(self, run: Path, destination: str) -> None:
        self.run = absolute(run)
        hub = destination.startswith(HUB)
        self.destination = destination if hub else str(expanded(destination).absolute())
        self.pinned: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._asked = False  # for what the present child may not see
        self._began = self._due = 0.0
        self._failed = 0  # times in a row

    @property
    def command(self) -> str:
        """One pass by hand."""
        return printable(shlex.join(["python", "-m", PROGRAM, str(self.run), self.destination, "0"]))

    def request(self) -> None:
        """There is something new: copy it now, or when the present child has ended."""
        self._asked, self._due = True, 0.0
        self.poll()

    def poll(self) -> None:
        """See whether the child has ended or has taken too long, and start the next when one is due."""
        now = time.monotonic()
        if self._child is not None:
            status = self._child.poll()
            if status is None and now < self._began + LIMIT_S:
                return
            if status is None:
                self._child.kill()  # and forgotten: one that hangs in the kernel does not even die
                self._ended(f"stopped after {LIMIT_S / 60:.0f} minutes")
            else:
                self._ended({0: None, BUSY: "", FAILED: ""}.get(status, f"its process ended with status {status}"))
        if self._asked and now >= self._due:
            self.start()

    def start(self, wait_s: float = 0.0) -> None:
        """Start a child, which waits so long for another that is at it."""
        self._asked, self._began = False, time.monotonic()
        self.pinned = next(reversed(checkpoints.saved(self.run / "checkpoints")), None)
        quiet = subprocess.DEVNULL
        try:  # in a session of its own, out of reach of Ctrl-C
            command, environment = child(str(self.run), self.destination, str(wait_s))
            self._child = subprocess.Popen(
                command, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
            )
        except OSError as error:
            self._ended(told(error))

    def _ended(self, error: str | None) -> None:
        """The child is gone: None, it has done its work; else why not, or "" when that has been said."""
        self._child = self.pinned = None
        self._failed = 0 if error is None else self._failed + 1
        if error:
            _record(self.run, self.destination, None, error)
        if error is not None:
            self._asked = True
            self._due = time.monotonic() + min(FIRST_RETRY_S * 2 ** (self._failed - 1), LONGEST_RETRY_S)

    def finish(self, wait_s: float) -> str | None:
        """Copy all that is there, in at most so many seconds; returns one line about what is not done then.

        What is not done then is left to a child that goes on by itself, also when this process ends.
        """
        deadline = time.monotonic() + wait_s
        self.request()
        while (self._child is not None or self._asked) and time.monotonic() < deadline:
            time.sleep(0.05)
            self.poll()
        if self._child is None and not self._asked:
            return None
        self.start(LIMIT_S)  # the present one may see only a part of it, or end at once because another is at it
        state = read_json(self.run / STATE) or {}
        error = f" ({on_one_line(masked(str(state['error'])))})" if state.get("error") else ""
        held = "none" if (step := number(state.get("step"))) is None else f"step {step}"
        there = on_one_line(masked(self.destination))
        return f"{there} does not hold all of this run{error}; its newest checkpoint there: {held}"
