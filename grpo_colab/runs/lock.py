"""Lock a run folder, so that one process at a time trains there and others can tell which one.

filelock uses a lock of the operating system, which is released however its process ends. The text in the lock file only
tells people which process holds it.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from grpo_colab.errors import SettingError
from grpo_colab.text import on_one_line
from grpo_colab.utils import files

LOCK = ".lock"


class Holder(NamedTuple):
    """Whether a process trains a run, its id and its host, as the run's lock tells them. What is not known is None."""

    running: bool | None
    pid: int | None = None
    host: str | None = None


def holder(path: Path) -> Holder:
    """Tell whether a process trains in a run folder now, and which one. The lock is left as it was.

    `running` is False where there is no lock file, and None where the lock cannot be tried: it is a link, or another
    person's, or filelock is not installed. The process is told only while it trains. No exception is raised for these.
    """
    lock = path / LOCK
    try:
        # Trying a lock truncates the file, so a link to somebody else's file must not be tried.
        if not stat.S_ISREG(lock.lstat().st_mode):
            return Holder(None)
    except OSError:
        return Holder(False)
    try:
        from filelock import FileLock, Timeout

        try:
            FileLock(lock).acquire(blocking=False).lock.release()
            return Holder(False)
        except Timeout:
            with files.open_to_read(lock) as file:
                text = file.read(500).decode(errors="replace")
            match = re.match(r"(\d{1,20}) on (\S+)", text)
            return Holder(True, int(match[1]), match[2]) if match else Holder(True)
    except (ImportError, OSError):  # no filelock, another person's run, a read-only disk
        return Holder(None)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a run folder for the block. The folder is made if it is missing.

    This process's id and host are written to `.lock`, which stays there. Raises SettingError where another process
    holds the lock for over a second or this thread holds it, where the folder has links out of it, and where it cannot
    be written.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path / LOCK)
    if (path / LOCK).is_symlink():
        raise SettingError(
            f"its {LOCK} is a link, which is not followed", remedy="remove it", place=f"run {str(path)!r}"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
        check_no_links(path)
        # Make the file without following a link; some releases of filelock would follow one.
        with files.open_to_change(path / LOCK, os.O_CREAT):
            pass
        lock.acquire(timeout=1)  # `holder` in another process holds the lock for a shorter time
    except (Timeout, RuntimeError):  # RuntimeError: this thread holds it already
        by = "another process"
        with contextlib.suppress(OSError):
            by = f"process {on_one_line(files.read_bytes(path / LOCK, 200).decode(errors='replace'))}"
        raise SettingError(
            f"is being trained by {by}", remedy="wait for it, or stop it first", place=f"run {str(path)!r}"
        ) from None
    except OSError:
        with files.unwritable_refused("--out", path, "choose another folder"):
            raise
    try:
        # This text is for people only.
        with contextlib.suppress(OSError), files.open_to_change(path / LOCK) as file:
            file.truncate(0)
            file.write(f"{os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        lock.release()


def check_no_links(path: Path) -> None:
    """Raise SettingError for a run folder that has a link out of it, since writing a run would follow the link.

    Folders in it are searched too, except wandb/, where W&B itself makes links. A folder that is missing has none.
    """
    root = path.resolve()
    for folder, folders, names in os.walk(path, followlinks=False):
        if Path(folder).name == "wandb" and Path(folder).parent == path:  # W&B itself makes links to its logs there
            folders.clear()
            continue
        for name in (*folders, *names):
            link = Path(folder, name)
            if link.is_symlink() and not link.resolve().is_relative_to(root):
                raise SettingError(
                    f"{str(link.relative_to(path))!r} is a link out of the folder, and a run is kept in one folder",
                    remedy="put there what it leads to, or make the whole folder a link",
                    place=f"run {str(path)!r}",
                )
