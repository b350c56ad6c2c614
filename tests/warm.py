"""A warm stack: one process that has imported unsloth and its neighbours, and forks a Python for whoever asks.

To import them takes 12 to 20 s of CPU; a fork takes 30 ms. A fork replaces its environment, its folder and its three
streams, then does what `python -m`, `python -c` or `python FILE` do, and ends as Python ends. The process has trained
and loaded nothing, so that every fork begins where a fresh process stands after its imports.

    warm.run("-m", "grpo_colab", "train", "--out", "run", cwd=tmp_path)      # a subprocess.CompletedProcess
    process = warm.start("-m", "grpo_colab", "train", cwd=tmp_path)          # a Process, to be sent signals
    subprocess.run([*warm.python, "-c", code], ...)                          # in place of sys.executable

What must begin with its imports keeps a process of its own: their order, what they read in the environment, how long
they take, what a file in the current folder can do to them.

There is one such process a session, which all workers of xdist share. It ends when the last of them has ended, however
that was: each holds a connection to it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

MODULES = ("unsloth", "trl", "matplotlib.figure", "matplotlib.backends.backend_agg")
# What the imports do not read, or read again: an environment that differs in anything else is refused.
READ_LATER = {
    *("XDG_CONFIG_HOME", "HOME", "NETRC", "PATH", "TMPDIR", "COLUMNS", "LINES", "TERM", "NO_COLOR", "FORCE_COLOR"),
    *(
        "STRIKE",
        "FAULT",
        "UNSLOTH_COMPILE_LOCATION",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
        "JPY_PARENT_PID",
        "JPY_SESSION_NAME",
    ),
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"),
}
READ_LATER_PREFIXES = ("PYTEST_", "GRPO_COLAB_", "WANDB_")
LIMIT_S = 600.0  # for the imports, on a machine that has much else to do


class Unlike(Exception):
    """The environment is not the one in which the warm process has imported."""


class Process:
    """A fork, as far as its tests ask: the counterpart of subprocess.Popen."""

    def __init__(self, args: tuple[str, ...], connection: socket.socket, streams: dict[str, IO[str] | None]) -> None:
        self.args = args
        self.stdout, self.stderr = streams.get("stdout"), streams.get("stderr")
        self.returncode: int | None = None
        self.connection, self._text = connection, b""
        answer = self._answer(LIMIT_S)
        if names := answer.get("refused"):
            raise Unlike(f"{', '.join(names)}: is read by the imports, so start a process of its own")
        self.pid: int = answer["pid"]

    def _answer(self, timeout_s: float | None) -> dict[str, Any]:
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while b"\n" not in self._text:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not select.select([self.connection], [], [], left)[0]:
                raise TimeoutError
            more = self.connection.recv(4096)
            if not more:
                raise RuntimeError("the warm process has ended, or could not fork")
            self._text += more
        line, self._text = self._text.split(b"\n", 1)
        return json.loads(line)

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            try:
                answer = self._answer(timeout)
            except TimeoutError:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0) from None
            self.returncode = answer["status"]
            self.connection.close()
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str | None, str | None]:
        """Wait, and return what was written to the streams, which lie in files."""
        self.wait(timeout)
        said = []
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.seek(0)
            said.append(stream and stream.read())
        return said[0], said[1]

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            hand_on(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def end(self) -> None:
        """Kill it with all that it has started and that is still of its group."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait()


class Warm:
    """The way to the warm process, which is started by whoever asks first."""

    def __init__(self, shared: Path) -> None:
        """`shared` is a folder that all workers of the session see."""
        self._shared = shared
        self._lease: socket.socket | None = None
        self._address = ""
        self._running: list[Process] = []

    def begin(self) -> None:
        """Have it import, without waiting for it."""
        from filelock import FileLock

        if self._lease is not None:
            return
        record = self._shared / "warm.json"
        with FileLock(self._shared / "warm.lock"):
            if not (record.is_file() and self._connect(record)):
                self._start(record)
                assert self._connect(record), (self._shared / "warm.log").read_text()

    def _start(self, record: Path) -> None:
        """Start a process that listens before it imports, so that nobody waits here."""
        folder = tempfile.mkdtemp(prefix="warm-")  # a socket's address has room for 107 characters
        here = str(Path(__file__).parent)
        code = f"import sys; sys.path[:1] = [{here!r}]; import warm; del sys.path[0]; warm.serve(sys.argv.pop())"
        with socket.socket(socket.AF_UNIX) as listener, (self._shared / "warm.log").open("ab") as log:
            listener.bind(f"{folder}/socket")
            listener.listen(64)
            os.set_inheritable(listener.fileno(), True)
            subprocess.Popen(
                [sys.executable, "-c", code, json.dumps([listener.fileno(), folder])],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )
        record.write_text(json.dumps({"address": f"{folder}/socket"}))

    def _connect(self, record: Path) -> bool:
        found = json.loads(record.read_text())
        lease = socket.socket(socket.AF_UNIX)
        try:
            lease.connect(found["address"])
            lease.sendall(b"lease\n")
        except OSError:
            lease.close()
            return False
        self._lease, self._address = lease, found["address"]
        return True

    @property
    def python(self) -> list[str]:
        """Stand in for sys.executable where a test starts its process itself, be it with pipes or on a terminal.

        It hands on its streams, SIGINT and SIGTERM. An environment that the imports read gets a Python of its own.
        """
        self.begin()
        return [sys.executable, "-IS", str(Path(__file__)), str(self._shared / "warm.json")]

    def start(
        self,
        *arguments: str,
        cwd: str | os.PathLike[str],
        env: dict[str, str] | None = None,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
    ) -> Process:
        """Start `python ARGUMENTS` and return it. PIPE is a file here: it never fills up, and can be read meanwhile."""
        self.begin()
        streams: dict[str, IO[str] | None] = {}
        fds = [os.open(os.devnull, os.O_RDONLY)]
        for name, given in (("stdout", stdout), ("stderr", stderr)):
            if given == subprocess.PIPE:
                file = streams[name] = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
                fds.append(os.dup(file.fileno()))
            elif given == subprocess.STDOUT:
                fds.append(os.dup(fds[1]))
            elif given == subprocess.DEVNULL:
                fds.append(os.open(os.devnull, os.O_WRONLY))
            else:
                fds.append(os.dup(given if isinstance(given, int) else given.fileno()))
        connection = ask(self._address, arguments, cwd, os.environ if env is None else env, fds)
        for fd in fds:
            os.close(fd)
        process = Process(arguments, connection, streams)
        self._running.append(process)
        return process

    def run(
        self,
        *arguments: str,
        cwd: str | os.PathLike[str],
        env: dict[str, str] | None = None,
        timeout_s: float = LIMIT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run `python ARGUMENTS` to its end, as subprocess.run does with captured text."""
        process = self.start(*arguments, cwd=cwd, env=env)
        try:
            out, err = process.communicate(timeout_s)
        except BaseException:
            process.end()
            raise
        assert process.returncode is not None
        return subprocess.CompletedProcess([sys.executable, *arguments], process.returncode, out, err)

    def clear(self) -> None:
        """End what a test left running."""
        for process in self._running:
            process.end()
        self._running.clear()

    def close(self) -> None:
        self.clear()
        if self._lease is not None:
            self._lease.close()
            self._lease = None


def ask(
    address: str,
    arguments: tuple[str, ...],
    cwd: str | os.PathLike[str],
    environment: Mapping[str, str],
    streams: list[int],
) -> socket.socket:
    """Ask for a fork; the connection tells its number and its end, and to close it before kills the fork."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    request = {"arguments": arguments, "cwd": os.fspath(cwd), "environment": dict(environment)}
    with tempfile.TemporaryFile() as file:  # an environment may be larger than a message
        file.write(json.dumps(request).encode())
        file.flush()
        file.seek(0)
        socket.send_fds(connection, [b"fork\n"], [file.fileno(), *streams])
    return connection


def hand_on(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def stand_in(record: str, *arguments: str) -> None:
    """Be the fork, as far as whoever started this process can tell."""
    found = json.loads(Path(record).read_text())
    try:
        process = Process(arguments, ask(found["address"], arguments, Path.cwd(), os.environ, [0, 1, 2]), {})
    except Unlike:
        os.execv(sys.executable, [sys.executable, *arguments])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: hand_on(process.pid, number))
    status = process.wait()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


# --- on the other side


def serve(given: str) -> None:
    """Import, then fork for each request, and return in the fork once it has ended.

    The interpreter that called this ends afterwards, and so every fork does all that Python does at its end.
    """
    number, folder = json.loads(given)
    listener = socket.socket(fileno=number)
    listener.set_inheritable(False)
    main = sys.modules["__main__"].__dict__
    before = dict(os.environ)
    _import()
    set_by_imports = {name: value for name, value in os.environ.items() if before.get(name) != value}
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for the forks
    leases: list[socket.socket] = []
    had_one = False
    while leases or not had_one:
        for ready in select.select([listener, *leases], [], [])[0]:
            if ready is not listener:
                leases.remove(ready)
                ready.close()
                continue
            connection = listener.accept()[0]
            first, fds, _, _ = socket.recv_fds(connection, 64, 8)
            if first == b"lease\n":
                leases.append(connection)
                had_one = True
            elif len(fds) == 4 and os.fork() == 0:
                for other in (listener, *leases):
                    other.close()
                if request := _fork(connection, fds, before):
                    _become(request, fds[1:], main, set_by_imports)
                    return
            for fd in fds:
                os.close(fd)
            if connection not in leases:
                connection.close()
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _import() -> None:
    """Import what every fork shares. Nothing is trained, loaded or drawn here, and no thread is left."""
    import gc
    import pkgutil

    import grpo_colab
    from grpo_colab.utils.stack import import_unsloth

    import_unsloth()
    ours = [found.name for found in pkgutil.walk_packages(grpo_colab.__path__, "grpo_colab.")]
    programs = [name for name in ours if name.endswith("__main__") or "worker" in name]
    for name in [*MODULES, *ours]:
        if name not in programs:
            importlib.import_module(name)
    with contextlib.suppress(ModuleNotFoundError):
        # the first fork to end would take away the folder in which wandb writes the tables of all
        private = importlib.import_module("wandb.sdk.data_types._private")
        private.MEDIA_TMP._finalizer.detach()
        atexit.unregister(private.MEDIA_TMP.cleanup)
    gc.collect()
    gc.freeze()  # else each fork would copy the pages of all objects when it collects


def differing(environment: Mapping[str, str], before: Mapping[str, str]) -> list[str]:
    """Return the names of what the imports would have read otherwise; what they set themselves may be set already."""
    names = {*environment, *before} - READ_LATER
    unlike = [n for n in names if environment.get(n) not in (before.get(n), os.environ.get(n))]
    return sorted(n for n in unlike if not n.startswith(READ_LATER_PREFIXES))


def _fork(connection: socket.socket, fds: list[int], before: Mapping[str, str]) -> dict[str, Any]:
    """Fork once more; return what was asked for in the child. The parent tells how it ended, and ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with open(fds[0], encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
        request = json.load(file)
    if names := differing(request["environment"], before):
        connection.sendall(json.dumps({"refused": names}).encode() + b"\n")
        os._exit(0)
    pid = os.fork()
    if pid == 0:
        connection.close()
        os.setsid()
        # what a shell starts in the background ignores the one, what nohup starts the other, and so do all their forks
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        return request
    for fd in fds[1:]:
        os.close(fd)
    connection.sendall(json.dumps({"pid": pid}).encode() + b"\n")
    ended = os.pidfd_open(pid)
    if connection in select.select([ended, connection], [], [])[0]:  # the other side is gone
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    answer = {"status": os.waitstatus_to_exitcode(status)}
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(answer).encode() + b"\n")
    os._exit(0)


def _become(request: dict[str, Any], fds: list[int], main: dict[str, Any], set_by_imports: dict[str, str]) -> None:
    """Become the Python that was asked for, in the namespace of `__main__`."""
    import runpy

    import numpy

    numpy.random.seed()  # as in a fresh process; Python's own generator does so by itself
    os.environ.clear()
    os.environ.update(request["environment"] | set_by_imports)
    os.chdir(request["cwd"])
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    # those of the warm process wrote to a file: they would seek, which a terminal refuses
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115 - a descriptor
    sys.stdout = sys.__stdout__ = open(1, "w", buffering=1 if os.isatty(1) else -1, closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    for name in [name for name in main if not name.startswith("__")]:
        del main[name]
    kind, *arguments = request["arguments"]
    if kind == "-m":
        sys.argv = ["-m", *arguments[1:]]
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as Python does
        runpy._run_module_as_main(arguments[0])  # type: ignore[attr-defined] # what `python -m` calls
        return
    if kind == "-c":
        sys.argv, name = ["-c", *arguments[1:]], "<string>"
        sys.path.insert(0, "")
        code = arguments[0]
    else:
        sys.argv, name = [kind, *arguments], kind
        sys.path.insert(0, str(Path(kind).resolve().parent))
        main["__file__"] = kind
        code = Path(kind).read_text()
    exec(compile(code, name, "exec"), main)  # noqa: S102 - as Python does


if __name__ == "__main__":
    stand_in(*sys.argv[1:])
