"""The lock of a run folder: one process trains there, and others can tell which.

The lock is the operating system's, by filelock, and is freed however its process ends. The text in the file says for
people which process holds it.
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
from grpo_colab.runs.run import unwritable
from grpo_colab.text import on_one_line
from grpo_colab.utils import files

LOCK = ".lock"


class Holder(NamedTuple):
    """The process that trains a run, as the run's lock tells it. What cannot be told is None."""

    running: bool | None
    pid: int | None = None
    host: str | None = None


def holder(path: Path) -> Holder:
    """Tell whether a process trains in a run folder now, and which one. The lock stays as it was."""
    lock = path / LOCK
    try:
        if not stat.S_ISREG(lock.lstat().st_mode):  # to try a lock empties the file, be it another's
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
                text = re.match(r"(\d{1,20}) on (\S+)", file.read(500).decode(errors="replace"))
            return Holder(True, int(text[1]) if text else None, text[2] if text else None)
    except (ImportError, OSError):  # another person's run, a read-only disk
        return Holder(None)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a run folder, so that no other process trains there; SettingError when one does.

    The folder is made where it is missing.
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
        with files.open_to_change(path / LOCK, os.O_CREAT):  # some releases of filelock would follow a link there
            pass
        lock.acquire(timeout=1)  # longer than a look at the lock takes
    except (Timeout, RuntimeError):  # RuntimeError: this very thread holds it
        by = "another process"
        with contextlib.suppress(OSError):
            by = f"process {on_one_line(files.read_bytes(path / LOCK, 200).decode(errors='replace'))}"
        raise SettingError(
            f"is being trained by {by}", remedy="wait for it, or stop it first", place=f"run {str(path)!r}"
        ) from None
    except OSError as error:
        raise unwritable(path, error) from None
    try:
        # for people; the lock is the system's
        with contextlib.suppress(OSError), files.open_to_change(path / LOCK) as file:
            file.truncate(0)
            file.write(f"{os.getpid()} on {platform.node()}".encode())
        yield
    finally:
        lock.release()


def check_no_links(path: Path) -> None:
    """Raise SettingError for a run folder with a link that leads out of it: a run writes through none."""
    root = path.resolve()
    for folder, folders, names in os.walk(path, followlinks=False):
        if Path(folder).name == "wandb" and Path(folder).parent == path:  # W&B's own, which links to its logs
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
