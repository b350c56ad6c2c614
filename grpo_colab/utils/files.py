"""Files that are whole or not there, and files that grow by whole lines. Standard library only.

What others may have put where we write or read is met here, once. In our own folders nothing is written or read
through a link, and nothing but a regular file: a link may lead to another person's file, a pipe never ends.
`write_out` is for the file that a person named: there a device or a pipe is what they meant.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Final

from grpo_colab.errors import SettingError
from grpo_colab.text import escaped
from grpo_colab.utils.json_rows import MOST_ROWS, Objects, is_sound, objects_in

MOST_READ: Final = 1 << 26  # bytes of a file that nobody vouches for
MOST_KEPT: Final = 1 << 28  # bytes of a file that a run of ours has written
LONGEST_NAME: Final = 200  # bytes of a file's name: file systems take 255, and what is made beside it has more
LONGEST_PATH: Final = 3000  # bytes: systems take 4,096, and what is in the folder has names of its own
# No link is followed, no pipe is waited for.
_GUARDED: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` whole or not at all. Half a surrogate pair becomes its escape, which in JSON means it."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` whole or not at all: to a new file beside it, to the disk, and then renamed.

    A file that stands there keeps its mode and its owner. Raises OSError, and changes nothing, where `path` is a link
    or anything but a regular file.
    """
    there = _status(path)
    if there is not None:
        _need_regular(path, there)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    # the umask decides about a new file's mode
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _GUARDED, 0o666 if there is None else 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            if there is not None:
                _keep(file.fileno(), there)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_out(path: str | Path, content: str | bytes) -> None:
    """Write `content` to the file that a person named.

    Into a device or a pipe it is written straight, and to standard output or error where that is its name. A link is
    followed within its own folder. Raises OSError, and changes nothing, for a link that leads out of it.
    """
    path = Path(path)
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    if (standard := _descriptor(path)) is not None:
        with os.fdopen(os.dup(standard), "wb") as file:
            file.write(data)
        return
    if path.is_symlink():
        target = _led_to(path)
        if not target.is_relative_to(path.parent.resolve()):
            raise OSError(errno.ELOOP, f"it is a link to {target}; name that file itself", str(path))
        path = target
    there = _status(path)
    if there is None or stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode):
        write_bytes(path, data)
        return
    with path.open("wb", buffering=0) as straight:
        while data:
            data = data[straight.write(data) :]


def expanded(path: str | Path) -> Path:
    """Return a path with `~` as the user's folder; that of nobody stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for a user who does not exist


def _led_to(link: Path) -> Path:
    try:
        return link.resolve()
    except RuntimeError:  # in a circle; later Pythons give the link itself, which is then refused
        raise OSError(errno.ELOOP, "it is a link that leads back to itself", str(link)) from None


def is_folder(path: str | Path) -> bool:
    """Tell whether a folder is there, also through a link; False where that is not to be found out."""
    return _leads_to(path, stat.S_ISDIR)


def is_file(path: str | Path) -> bool:
    """Tell whether a regular file is there, also through a link; False where that is not to be found out."""
    return _leads_to(path, stat.S_ISREG)


def _leads_to(path: str | Path, kind: Callable[[int], bool]) -> bool:
    with contextlib.suppress(OSError, ValueError):  # without permission, in a circle, too long, with a NUL
        return kind(Path(path).stat().st_mode)
    return False


def check_name(setting: str, path: str | Path) -> None:
    """Raise SettingError for a path that no file can have, or that could not be shown to a person: before the work."""
    given: dict[str, Any] = {"setting": setting, "value": str(path)}
    if len(os.fsencode(Path(path).absolute())) > LONGEST_PATH:
        raise SettingError(f"is a path of over {LONGEST_PATH} bytes", remedy="choose a shorter one", **given)
    for part in Path(path).parts:
        try:
            size = len(part.encode("utf-8"))
        except UnicodeEncodeError:
            raise SettingError("is not UTF-8", remedy="choose another name", **given) from None
        if size > LONGEST_NAME:
            raise SettingError(
                f"has a name of {size} bytes", remedy=f"choose one of at most {LONGEST_NAME} bytes", **given
            )
        if escaped(part) != part:
            raise SettingError("holds characters that cannot be printed", remedy="choose another name", **given)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=plain) + "\n")


def append(path: Path, text: str) -> None:
    """Add whole lines to a file; on a full disk (OSError) the file is again what it was."""
    content = text.encode(errors="backslashreplace")
    with open_to_change(path, os.O_APPEND | os.O_CREAT) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            while content:
                content = content[file.write(content) :]
        except BaseException:
            file.truncate(size)
            raise


def open_to_change(path: Path, flags: int = 0) -> BinaryIO:
    """Open a regular file of ours for reading and writing; OSError for a link, and for what is no regular file.

    A file that has another name elsewhere, as in a copy made of hard links, is given a body of its own first.
    """
    there = _status(path)
    if there is not None:
        _need_regular(path, there)
        if there.st_nlink > 1:
            write_bytes(path, read_bytes(path, most=there.st_size))
    handle = os.open(path, os.O_RDWR | flags | _GUARDED, 0o666)
    try:
        _need_regular(path, os.fstat(handle))
        return os.fdopen(handle, "r+b", buffering=0)
    except BaseException:
        os.close(handle)
        raise


def open_to_read(path: Path, follow: bool = False) -> io.BufferedReader:
    """Open a regular file; OSError for a link (unless `follow`), a pipe and a device."""
    flags = _GUARDED & ~getattr(os, "O_NOFOLLOW", 0) if follow else _GUARDED
    try:
        handle = os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path)) from None
        raise
    try:
        _need_regular(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, most: int = MOST_READ, follow: bool = False) -> bytes:
    """Read a regular file whole; OSError for a link (unless `follow`), a pipe, a device, and over `most` bytes."""
    with open_to_read(path, follow) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return content


def inside(folder: Path, name: object) -> Path:
    """Return `folder / name` for a name that was read from a file.

    Raises ValueError for one that is no relative path, that is no UTF-8 (of half a surrogate pair), that leads out of
    the folder by `..`, or through a link.
    """
    if not isinstance(name, str) or not name or "\0" in name or not is_utf8(name):
        raise ValueError(f"{name!r:.80} is no file's name")
    parts = PurePath(name).parts
    if PurePath(name).is_absolute() or not parts or ".." in parts:
        raise ValueError(f"{name!r:.80} leads out of its folder")
    path = folder
    for part in parts:
        path = path / part
        try:
            if path.is_symlink():
                raise ValueError(f"{name!r:.80} leads through a link")
        except OSError as error:  # too long
            raise ValueError(f"{name!r:.80} is no file's name ({error.strerror})") from None
    return path


def is_utf8(name: str) -> bool:
    """Tell whether a name can be written as UTF-8: of another, neither a file system nor a hub makes a file."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def regular_files(folder: Path) -> Iterator[Path]:
    """Yield the regular files below a folder, in order; links are neither followed nor given, nor are pipes."""
    for root, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            there = _status(path)
            if there is not None and stat.S_ISREG(there.st_mode):
                yield path


def _status(path: Path) -> os.stat_result | None:
    """What stands at `path` itself, be it a link; None where nothing does."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _need_regular(path: Path, there: os.stat_result) -> None:
    if stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISLNK(there.st_mode):
        raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path))
    if not stat.S_ISREG(there.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def _keep(handle: int, there: os.stat_result) -> None:
    """Give a file the owner and the mode of the one whose place it takes."""
    mine = os.fstat(handle)
    with contextlib.suppress(OSError):  # root alone gives files away; another's file system may know no modes
        if (mine.st_uid, mine.st_gid) != (there.st_uid, there.st_gid):
            os.fchown(handle, there.st_uid, there.st_gid)
        os.fchmod(handle, stat.S_IMODE(there.st_mode))


def _descriptor(path: Path) -> int | None:
    """The number of an open file, for a path that is a name of one: /dev/stdout, /dev/fd/3."""
    known = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
    if str(path) in known:
        return known[str(path)]
    if str(path.parent) in ("/dev/fd", "/proc/self/fd") and re.fullmatch(r"[0-9]{1,9}", path.name):
        return int(path.name)
    return None


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, default=plain) + "\n" for row in rows)


def plain(value: Any) -> Any:
    """What a reward logged, in JSON's types: arrays and tensors as lists or numbers, the rest as Python shows it."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a .jsonl file of ours, without what is damaged in it; none where there is no such file."""
    return read_objects(path, MOST_KEPT, 16 * MOST_ROWS).rows


def read_objects(path: Path, most: int = MOST_READ, most_rows: int = MOST_ROWS) -> Objects:
    """Return the rows of a .jsonl file that anyone may have written, be writing, or have broken; of a big one, parts.

    Those parts are evenly over the file, and have about `most_rows` rows. A row that is nested deeper than LEVELS
    counts as bad. Nothing is raised.
    """
    try:
        with open_to_read(path) as file:
            return objects_in(file, os.fstat(file.fileno()).st_size, most, most_rows)
    except FileNotFoundError:
        return Objects([], error="there is no such file")
    except OSError as error:
        return Objects([], error=error.strerror or type(error).__name__)


def number(value: Any) -> float | None:
    """A finite number as it is; None for all else, which are what a file of another version or a broken one has."""
    with contextlib.suppress(OverflowError):
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return value
    return None


def read_json(path: Path, most: int = MOST_READ) -> dict[str, Any] | None:
    """A JSON object that the package wrote; None where there is none, or none that can be read and is sound."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        value = json.loads(read_bytes(path, most))
        if isinstance(value, dict) and is_sound(value):
            return value
    return None


def to_disk(path: Path) -> None:
    """Have the operating system put a file or a folder on the disk now, where the file system can."""
    with contextlib.suppress(PermissionError):  # a folder cannot be opened on Windows
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):  # a mounted Drive need not know it
                raise
        finally:
            os.close(handle)


def sha256(path: Path) -> str:
    with open_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a folder, a file, or a link, which is not followed. Raises OSError where it stays."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path)
