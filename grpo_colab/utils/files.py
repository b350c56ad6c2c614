"""Write files whole or not at all, append whole lines, and read files that others may have changed.

Somebody else may have put a link, a pipe or a device where we write or read. In our own folders only regular files are
written and read, and no link is followed: a link may lead to another person's file, and a pipe never ends. `write_out`
is for a file that a person named: a device or a pipe is then what they meant. Standard library only.
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

MOST_READ: Final = 1 << 26  # bytes that are read of an untrusted file
MOST_KEPT: Final = 1 << 28  # bytes that are read of a file that a run of ours has written
LONGEST_NAME: Final = 200  # bytes of a file's name: file systems take 255, and files made beside it have longer names
LONGEST_PATH: Final = 3000  # bytes of a path: systems take 4,096, and the files in a folder add their names
# Flags of os.open: follow no link, do not wait for a pipe, and do not hand the file on to child processes.
_GUARDED: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all; OSError as of `write_bytes`.

    Half a surrogate pair is written as its escape, which JSON reads as the same character.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` whole or not at all: to a new file beside it, synced to the disk, and then renamed.

    A file that is replaced keeps its mode and its owner, where the system allows it. Raises OSError, and changes
    nothing, where writing fails, and where `path` is a link or anything else but a regular file.
    """
    existing = _status(path)
    if existing is not None:
        _require_regular(path, existing)
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    # The umask decides the mode of a new file. One that replaces another is private until it gets the other's mode.
    mode = 0o666 if existing is None else 0o600
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _GUARDED, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            if existing is not None:
                _copy_owner_and_mode(file.fileno(), existing)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_out(path: str | Path, content: str | bytes) -> None:
    """Write `content` to the file that a person named, a text as UTF-8.

    A regular file is written as by `write_bytes`. A device or a pipe is written to directly, and so is an open file
    such as /dev/stdout. A link is followed within its own folder. Raises OSError, and changes nothing, for a link that
    leads out of it and for a folder; OSError also for what cannot be written.
    """
    path = Path(path)
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    descriptor = _descriptor(path)
    if descriptor is not None:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(data)
        return
    if path.is_symlink():
        target = _resolve(path)
        if not target.is_relative_to(path.parent.resolve()):
            raise OSError(errno.ELOOP, f"it is a link to {target}; name that file itself", str(path))
        path = target
    existing = _status(path)
    # write_bytes refuses a folder.
    if existing is None or stat.S_ISREG(existing.st_mode) or stat.S_ISDIR(existing.st_mode):
        write_bytes(path, data)
        return
    with path.open("wb", buffering=0) as device:
        while data:
            data = data[device.write(data) :]


@contextlib.contextmanager
def unwritable_refused(setting: str, path: str | Path, remedy: str) -> Iterator[None]:
    """Turn an OSError of the block, which writes to the `path` that `setting` names, into a SettingError."""
    try:
        yield
    except OSError as error:
        problem = f"cannot be written ({error.strerror or error})"
        raise SettingError(problem, setting=setting, value=str(path), remedy=remedy) from None


def expanded(path: str | Path) -> Path:
    """Return a path with `~` replaced by the user's folder; `~name` of an unknown user stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for a user who does not exist


def _resolve(link: Path) -> Path:
    """Return the path that a link leads to; OSError for a link in a circle.

    Python 3.13 resolves such a link to itself, which the caller then refuses.
    """
    try:
        return link.resolve()
    except RuntimeError:
        raise OSError(errno.ELOOP, "it is a link that leads back to itself", str(link)) from None


def is_folder(path: str | Path) -> bool:
    """Tell whether there is a folder, also through a link; False where that cannot be found out."""
    return _has_kind(path, stat.S_ISDIR)


def is_file(path: str | Path) -> bool:
    """Tell whether there is a regular file, also through a link; False where that cannot be found out."""
    return _has_kind(path, stat.S_ISREG)


def _has_kind(path: str | Path, kind: Callable[[int], bool]) -> bool:
    """Tell whether `kind`, a test of stat such as S_ISREG, holds for what is at `path`."""
    # A path may be forbidden, in a circle of links, too long, or with a NUL character.
    with contextlib.suppress(OSError, ValueError):
        return kind(Path(path).stat().st_mode)
    return False


def check_name(setting: str, path: str | Path) -> None:
    """Raise SettingError for a path that no file can have or that cannot be printed, before work is done for it.

    It refuses a path of more than LONGEST_PATH bytes, and a name in it of more than LONGEST_NAME bytes. `setting` is
    the setting or option that names the path. No file is looked at.
    """
    given: dict[str, Any] = {"setting": setting, "value": str(path)}
    for part in Path(path).parts:
        try:
            size = len(part.encode("utf-8"))
        except UnicodeEncodeError:
            raise SettingError("is not UTF-8", remedy="choose another name", **given) from None
        if size > LONGEST_NAME:
            problem = f"has a name of {size} bytes, {part[:40]!r}..."
            raise SettingError(problem, remedy=f"choose one of at most {LONGEST_NAME} bytes", **given)
        if escaped(part) != part:
            raise SettingError("holds characters that cannot be printed", remedy="choose another name", **given)
    if len(os.fsencode(Path(path).absolute())) > LONGEST_PATH:
        raise SettingError(f"is a path of over {LONGEST_PATH} bytes", remedy="choose a shorter one", **given)


def write_json(path: Path, value: Any) -> None:
    """Write a value to a JSON file, indented, whole or not at all; OSError as of `write_bytes`.

    What JSON has no type for is written as `to_jsonable` gives it.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=to_jsonable) + "\n")


def append(path: Path, text: str) -> None:
    """Append `text`, whole lines with their line ends, to a file, which is made if it is missing.

    Raises OSError as `open_to_change` does, and on a full disk: then the file is cut back to what it was.
    """
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
    """Open a regular file of ours for reading and writing, without a buffer; OSError for a link and for any other kind.

    `flags` are more flags for os.open: without O_CREAT a missing file raises FileNotFoundError. A file with more than
    one hard link is copied first, so that the change shows under this name alone.
    """
    existing = _status(path)
    if existing is not None:
        _require_regular(path, existing)
        if existing.st_nlink > 1:
            write_bytes(path, read_bytes(path, most=existing.st_size))
    handle = os.open(path, os.O_RDWR | flags | _GUARDED, 0o666)
    try:
        _require_regular(path, os.fstat(handle))
        return os.fdopen(handle, "r+b", buffering=0)
    except BaseException:
        os.close(handle)
        raise


def open_to_read(path: Path, follow: bool = False) -> io.BufferedReader:
    """Open a regular file for reading; OSError for a link (unless `follow`), a pipe and a device."""
    flags = _GUARDED & ~getattr(os, "O_NOFOLLOW", 0) if follow else _GUARDED
    try:
        handle = os.open(path, os.O_RDONLY | flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path)) from None
        raise
    try:
        _require_regular(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, most: int = MOST_READ, follow: bool = False) -> bytes:
    """Return a regular file's content; OSError for a link (unless `follow`), a pipe, a device, or over `most` bytes."""
    with open_to_read(path, follow) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
    return content


def safe_join(folder: Path, name: object) -> Path:
    """Return `folder / name` for a name that was read from an untrusted file.

    Raises ValueError for a name that is no relative path, that cannot be written as UTF-8, or that leads out of the
    folder by `..` or through a link.
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
        except OSError as error:  # the name is too long
            raise ValueError(f"{name!r:.80} is no file's name ({error.strerror})") from None
    return path


def is_utf8(name: str) -> bool:
    """Tell whether a name can be written as UTF-8, which file systems and the hub require of a file's name."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def regular_files(folder: Path) -> Iterator[Path]:
    """Yield the regular files, no links or pipes, below a folder, sorted within each; nothing for a missing folder."""
    for root, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            status = _status(path)
            if status is not None and stat.S_ISREG(status.st_mode):
                yield path


def _status(path: Path) -> os.stat_result | None:
    """Return the status of what is at `path`, of a link itself; None where there is nothing."""
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _require_regular(path: Path, status: os.stat_result) -> None:
    """Raise OSError unless this is the status of a regular file."""
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISLNK(status.st_mode):
        raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))


def _copy_owner_and_mode(handle: int, replaced: os.stat_result) -> None:
    """Give an open file the owner and the mode of the file that it replaces, where the system allows it."""
    new = os.fstat(handle)
    # Only root may give files away, and some file systems have no modes.
    with contextlib.suppress(OSError):
        if (new.st_uid, new.st_gid) != (replaced.st_uid, replaced.st_gid):
            os.fchown(handle, replaced.st_uid, replaced.st_gid)
        os.fchmod(handle, stat.S_IMODE(replaced.st_mode))


def _descriptor(path: Path) -> int | None:
    """Return the file descriptor that a path names, as /dev/stdout and /dev/fd/3 do; None for other paths."""
    known = {"/dev/stdin": 0, "/dev/stdout": 1, "/dev/stderr": 2}
    if str(path) in known:
        return known[str(path)]
    if str(path.parent) in ("/dev/fd", "/proc/self/fd") and re.fullmatch(r"[0-9]{1,9}", path.name):
        return int(path.name)
    return None


def lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as the text of a .jsonl file: one JSON object per line."""
    return "".join(json.dumps(row, ensure_ascii=False, default=to_jsonable) + "\n" for row in rows)


def to_jsonable(value: Any) -> Any:
    """Return, for a value that JSON has no type for, an array or a tensor as a list or a number, and others as repr."""
    return value.tolist() if hasattr(value, "tolist") else repr(value)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a .jsonl file of ours without damaged lines; an empty list where it cannot be read.

    Of a file with more than MOST_KEPT bytes or 16 * MOST_ROWS rows, only parts are read. Nothing is raised.
    """
    return read_objects(path, MOST_KEPT, 16 * MOST_ROWS).rows


def read_objects(path: Path, most: int = MOST_READ, most_rows: int = MOST_ROWS) -> Objects:
    """Return the rows of a .jsonl file that may be untrusted, half written or damaged.

    Of a file with more than `most` bytes or `most_rows` rows, parts are read that are spread evenly over it. A row that
    is nested deeper than `json_rows.LEVELS` counts as bad. Nothing is raised: see `Objects.error`.
    """
    try:
        with open_to_read(path) as file:
            return objects_in(file, os.fstat(file.fileno()).st_size, most, most_rows)
    except FileNotFoundError:
        return Objects([], error="there is no such file")
    except OSError as error:
        return Objects([], error=error.strerror or type(error).__name__)


def number(value: Any) -> float | None:
    """Return a value that is a finite number; None for any other, which a damaged file may have in its place."""
    with contextlib.suppress(OverflowError):
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return value
    return None


def read_json(path: Path, most: int = MOST_READ) -> dict[str, Any] | None:
    """Return the object in a regular JSON file; None where there is no file, or none with a sound object (`is_sound`).

    A link, a file of more than `most` bytes, and one that cannot be read give None, too. Nothing is raised.
    """
    with contextlib.suppress(OSError, ValueError, RecursionError):
        value = json.loads(read_bytes(path, most))
        if isinstance(value, dict) and is_sound(value):
            return value
    return None


def to_disk(path: Path) -> None:
    """Sync a file or a folder to the disk, where system and permissions allow that; OSError for a missing path."""
    # On Windows a folder cannot be opened.
    with contextlib.suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            # A mounted Google Drive may have no sync.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
                raise
        finally:
            os.close(handle)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file, in hexadecimal; OSError as of `open_to_read`."""
    with open_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(path: Path) -> None:
    """Remove a folder with all that is in it, a file, a link (not its target), or nothing; OSError where that fails."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    shutil.rmtree(path)
