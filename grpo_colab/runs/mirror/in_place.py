"""Empty, overwrite, extend and delete a file of the mirror's so that Drive's bin keeps nothing of it.

Drive moves what is deleted, and what another file is renamed over, to its bin, where it counts against the quota for 30
days. A file that is overwritten stays the same file, and one that is emptied first takes no space in the bin.

Where a file has a second hard link, a person has made that: then this name alone is deleted, and nothing is emptied.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO

from grpo_colab.runs.checkpoints import Fingerprint
from grpo_colab.runs.mirror.layout import copy_bytes, fingerprint
from grpo_colab.utils.files import open_to_change, open_to_read, to_disk


@contextlib.contextmanager
def _emptied(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing, empty; it is made if it is missing. Raises OSError as `open_to_change` does."""
    if os.path.lexists(path) and path.lstat().st_nlink > 1 and stat.S_ISREG(path.lstat().st_mode):
        path.unlink()
    with open_to_change(path, os.O_CREAT) as file:
        file.truncate(0)
        yield file


def empty(path: Path) -> None:
    """Empty a file, and make it if it is missing. Raises OSError for a link, a folder and any other kind."""
    with _emptied(path):
        pass
    to_disk(path)


def delete(path: Path) -> None:
    """Empty and delete a file; a link or a pipe is only deleted, and nothing happens for a missing one.

    Raises OSError where it cannot be deleted. A file that cannot be emptied is deleted all the same.
    """
    # A file may be deleted without a permission to write to it.
    with contextlib.suppress(OSError):
        if stat.S_ISREG(path.lstat().st_mode):
            empty(path)
    path.unlink(missing_ok=True)


def overwrite(content: IO[bytes], target: Path, expected: Fingerprint) -> bool:
    """Write a file in its place. Return whether `content` was as expected.

    At most the bytes of `expected` are read. The file is empty first, so that a half written one is too short, and it
    is empty again after an error. It is synced. Raises OSError where reading or writing fails.
    """
    try:
        with _emptied(target) as file:
            found = copy_bytes(content, file, expected.bytes)
        to_disk(target)
    except OSError:
        with contextlib.suppress(OSError):  # on a full disk, a partial file would take up the space left
            empty(target)
        raise
    return found == expected


def extend(source: Path, target: Path, there: Fingerprint, expected: Fingerprint) -> bool:
    """Append to a copy what its growing source has more than it. Return whether the copy is then as expected.

    `there` is the copy's fingerprint, `expected` the one that it is to have. Where the source does not begin with what
    is there, or has changed since, the copy stays as it was. Raises OSError where reading or writing fails.
    """
    with open_to_read(source) as file:
        if copy_bytes(file, None, there.bytes) != there:
            return False
        with open_to_change(target) as copy:
            copy.seek(there.bytes)
            try:
                copy_bytes(file, copy, expected.bytes - there.bytes)
            except OSError:
                copy.truncate(there.bytes)
                raise
    to_disk(target)
    if fingerprint(target) == expected:
        return True
    with open_to_change(target) as copy:
        copy.truncate(there.bytes)
    return False
