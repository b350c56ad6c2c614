"""The child process that copies a run once (`main`), and `Mirror`, which starts it beside the run and retries."""

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
from grpo_colab.runs.mirror.hub import push_to_hub
from grpo_colab.runs.mirror.hub_files import hub_trouble
from grpo_colab.runs.mirror.layout import HUB, STATE, absolute, error_text, now
from grpo_colab.runs.mirror.lookup import any_occupied, read_recipes
from grpo_colab.runs.mirror.process import PROGRAM, child_command
from grpo_colab.text import masked, on_one_line, printable
from grpo_colab.utils.files import expanded, number, read_json, write_json

# Exit statuses of the child: another child is copying this run; or copying failed, and mirror.json says why.
BUSY, FAILED = 3, 4
FIRST_RETRY_S, LONGEST_RETRY_S = 5.0, 300.0
LIMIT_S = 1800.0  # time limit of one child
PATIENCE_S = 60.0  # how long a run waits at its end for its copy; the copying then goes on without it


def push(run: Path, destination: str) -> int | None:
    """Bring the copy up to date, once. Return the step of the newest checkpoint in the copy, None for none.

    Raises OSError where something could not be copied (most errors of the hub are of this class, but not those of a
    lost connection). Where a checkpoint of the run is damaged or files of others are in the way, everything else is
    copied first. Raises ValueError for a recipe.toml that is no TOML, and SettingError for a wrong hub address.
    """
    run = absolute(run)
    if not run.name:
        raise OSError(f"a run in {run} has no name; choose another folder with --out")
    # List the checkpoints before the small files are read: the copy's metrics then reach at least as far as they do.
    saved = checkpoints.saved(run / "checkpoints")
    push_to = push_to_hub if destination.startswith(HUB) else push_to_folder
    step, problems = push_to(run, destination, saved)
    if problems:
        raise OSError(f"not copied: {'; '.join(problems)}")
    return step


def main(arguments: list[str]) -> int:
    """Run the child process, and return its exit status: 0, BUSY, or FAILED.

    The arguments are RUN DESTINATION WAIT to copy a run once, where WAIT is how many seconds to wait for another child
    that is copying it. They are --recipes DESTINATION to print the copies' recipes as JSON, by name, and
    --occupied DESTINATION RUN... to print what is in the way of these runs' copies, null where nothing is. The process
    gets a lower priority. Copying holds `.mirror.lock` in the run folder, and writes its result or its error to
    mirror.json, so it raises nothing. Errors of --recipes and --occupied pass.
    """
    if hasattr(os, "nice"):
        os.nice(10)  # training has priority on the processor
    if arguments[0] == "--recipes":
        print(json.dumps(read_recipes(arguments[1])))
        return 0
    if arguments[0] == "--occupied":
        print(json.dumps(any_occupied(arguments[1], arguments[2:])))
        return 0
    from filelock import FileLock, Timeout

    run, destination, wait_s = Path(arguments[0]), arguments[1], float(arguments[2])
    lock = run / ".mirror.lock"
    try:
        if lock.is_symlink():
            raise OSError(f"{lock} is a link, which is not followed; remove it")
        with FileLock(lock, timeout=wait_s):
            _write_state(run, destination, push(run, destination), None)
    except Timeout:
        return BUSY
    except Exception as error:  # noqa: BLE001 - any error belongs in mirror.json, where a person looks
        reason = hub_trouble(destination, error) if destination.startswith(HUB) else error_text(error)
        _write_state(run, destination, None, reason)
        return FAILED
    return 0


def _write_state(run: Path, destination: str, step: float | None, error: str | None) -> None:
    """Write mirror.json: the newest step in the copy, the last error, and how many failures there were in a row.

    `step` is not used after an error: that of the last successful copy to the same destination is kept. Secrets are
    masked. Where the file cannot be written, nothing is raised.
    """
    previous, destination = read_json(run / STATE) or {}, masked(destination)
    if error is not None and previous.get("destination") == destination:
        step = number(previous.get("step"))
    failures = 0 if error is None else int(number(previous.get("failures")) or 0) + 1
    error = error and on_one_line(masked(error))
    with contextlib.suppress(OSError):  # on a full disk, the run itself stops and says so
        state = {"destination": destination, "step": step, "at": now(), "error": error, "failures": failures}
        write_json(run / STATE, state)


class Mirror:
    """Keeps a run's copy up to date from beside the run. No method raises, and all but `finish` return at once.

    Call `request` when the run has something new, and `poll` now and then. At least `minutes` lie between two copies,
    so that what a mirror writes is bounded; that of `finish` does not wait. `pinned` is the newest checkpoint at the
    time the present child started: pruning should leave it alone, since it is being copied.
    """

    def __init__(self, run: Path, destination: str, minutes: float = 0.0) -> None:
        self.minutes = minutes
        self.run = absolute(run)
        hub = destination.startswith(HUB)
        self.destination = destination if hub else str(expanded(destination).absolute())
        self.pinned: Path | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._requested = False  # something is new that the present child may not see
        self._started_at = self._due_at = 0.0  # by time.monotonic()
        self._failures = 0  # in a row

    @property
    def command(self) -> str:
        """Return the shell command that copies the run once."""
        return printable(shlex.join(["python", "-m", PROGRAM, str(self.run), self.destination, "0"]))

    def request(self) -> None:
        """Have the run copied as soon as the time has come and the present child has ended; after a failure at once."""
        self._requested = True
        if self._failures or not self._started_at:
            self._due_at = 0.0
        else:
            self._due_at = self._started_at + 60 * self.minutes
        self.poll()

    def poll(self) -> None:
        """Check on the child, and start the next one when it is due.

        A child that has run for 30 minutes is killed. After a failure the next try is scheduled, and errors that the
        child itself could not report are written to mirror.json.
        """
        now = time.monotonic()
        if self._child is not None:
            status = self._child.poll()
            if status is None and now < self._started_at + LIMIT_S:
                return
            if status is None:
                self._child.kill()  # without waiting for its end: a process that hangs in the kernel does not die
                self._failed(f"stopped after {LIMIT_S / 60:.0f} minutes")
            elif status == 0:
                self._forget_child()
                self._failures = 0
            elif status in (BUSY, FAILED):
                self._failed(None)  # the child itself, or the one that is copying, has written mirror.json
            else:
                self._failed(f"its process ended with status {status}")
        if self._requested and now >= self._due_at:
            self.start()

    def start(self, wait_s: float = 0.0) -> None:
        """Start a child, which waits up to `wait_s` seconds for another one that is copying this run.

        A child from before goes on, but is no longer watched. Where none can be started, the error is written to
        mirror.json, and the next try is scheduled.
        """
        self._requested, self._started_at = False, time.monotonic()
        self.pinned = next(reversed(checkpoints.saved(self.run / "checkpoints")), None)
        quiet = subprocess.DEVNULL
        try:
            # In a session of its own, so that Ctrl-C does not reach it.
            command, environment = child_command(str(self.run), self.destination, str(wait_s))
            self._child = subprocess.Popen(
                command, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True
            )
        except OSError as error:
            self._failed(error_text(error))

    def _forget_child(self) -> None:
        self._child = self.pinned = None

    def _failed(self, error: str | None) -> None:
        """Count a failure and schedule the next try, each time after twice the wait. Write `error` to mirror.json."""
        self._forget_child()
        self._failures += 1
        if error:
            _write_state(self.run, self.destination, None, error)
        self._requested = True
        self._due_at = time.monotonic() + min(FIRST_RETRY_S * 2 ** (self._failures - 1), LONGEST_RETRY_S)

    def finish(self, wait_s: float) -> str | None:
        """Copy everything, for at most `wait_s` seconds. Return a line about what is missing then, None for nothing.

        What is missing is left to a child that goes on by itself, even when this process ends.
        """
        deadline = time.monotonic() + wait_s
        self._requested, self._due_at = True, 0.0
        self.poll()
        while (self._child is not None or self._requested) and time.monotonic() < deadline:
            time.sleep(0.05)
            self.poll()
        if self._child is None and not self._requested:
            return None
        # The present child may not see the newest files, or may end at once because another one is copying.
        self.start(LIMIT_S)
        state = read_json(self.run / STATE) or {}
        error = f" ({on_one_line(masked(str(state['error'])))})" if state.get("error") else ""
        step = number(state.get("step"))
        newest = "none" if step is None else f"step {step}"
        destination = on_one_line(masked(self.destination))
        return f"{destination} does not hold all of this run{error}; its newest checkpoint there: {newest}"
