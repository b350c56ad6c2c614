"""The copy in a folder, such as a Drive. Others may have put their files there, and theirs stay.

    <destination>/<run>/
        mirrored.json       among others `files`: what the mirror has written, or is about to write, under each name
        .<id>.tmp           what is being written

What a file will be is on the list before it is there, so that a kill leaves nothing that is not listed. Only what is
what the list says is deleted or replaced, never through a link. Each is read once more for that: what a person has put
in its place, or has changed, is theirs. What is the beginning of our own file may be replaced too, for nothing is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from grpo_colab.runs import checkpoints
from grpo_colab.runs.checkpoints import MANIFEST, Expected
from grpo_colab.runs.mirror.layout import (
    KEEP,
    MARKER,
    MARKER_BYTES,
    MOST_NAMES,
    ahead,
    as_listed,
    bodies_of,
    body_of,
    copied,
    files_below,
    greater_is_better,
    is_known,
    is_own_name,
    links,
    listed_bodies,
    new_marker,
    read_marker,
    small_files,
    superseded,
    take_whole,
)
from grpo_colab.text import on_one_line
from grpo_colab.utils.files import expanded, inside, open_to_read, read_bytes, to_disk


def push_to_folder(run: Path, destination: str, here: list[Path]) -> tuple[int | None, list[str]]:
    """Bring the copy up to date; returns its newest step, and what could not be copied."""
    copy = expanded(destination) / run.name
    if copy.resolve() == run.resolve():
        return checkpoints.step_of(here[-1]) if here else None, []
    copy.parent.mkdir(exist_ok=True)  # not its parents: a Drive that is not mounted must not become a local folder
    kept = Copy(run, copy)
    if trouble := ahead((path.name for path in kept.saved()), run, here):
        raise OSError(trouble)
    greater = greater_is_better(run)
    wanted = {path.name for path in (*here[-1:], checkpoints.best_of(here, greater)) if path}
    left = {name for name in kept.checkpoints() if superseded(name, run, here)}
    whole = {path.name for path in kept.saved()}
    kept.remove_checkpoints(left | (kept.checkpoints() - whole - wanted))  # the others: a killed child began them

    troubles = links(run) + _copy_adapter(run, kept)
    small = small_files(run)
    troubles += kept.bring({name: run / name for name in small})
    kept.remove(name for name in set(kept.names) if "/" not in name and name not in small)
    kept.write(step=kept.newest_step())

    troubles += take_whole(here, greater, lambda checkpoint: _copy_checkpoint(checkpoint, kept))
    if saved := kept.saved():
        stay = {*saved[-KEEP:], checkpoints.best_of(saved, greater)}
        kept.remove_checkpoints(kept.checkpoints() - {path.name for path in stay if path})
    step = kept.newest_step()
    kept.write(step=step)
    return step, troubles + kept.left


def taken(destination: str, run: Path) -> str | None:
    """Why a new run cannot have its copy at a destination, in words; None when it can."""
    copy = expanded(destination) / run.name
    if copy.resolve() == run.resolve():
        return None
    return _others(copy, None)


def _others(copy: Path, identity: str | None) -> str | None:
    """What there is in the folder `copy` that is not of the run of that identity, in words."""
    shown = on_one_line(copy)
    if copy.is_symlink() or (copy.exists() and not copy.is_dir()):
        return f"{shown} is no folder, but a {'link' if copy.is_symlink() else 'file'}"
    found = sorted(name for name in os.listdir(copy) if name != f".{identity}.tmp") if copy.exists() else []  # noqa: PTH208
    about = read_marker(copy) if MARKER in found else None
    if not found or (about is not None and about["id"] == identity):
        return None
    if about is not None:
        return f"{shown} holds another run called {on_one_line(copy.name)}"
    if MARKER in found:
        return f"{shown} holds a {MARKER} that cannot be read"
    some = ", ".join([*(on_one_line(name)[:40] for name in found[:3]), *["..."] * (len(found) > 3)])
    return f"{shown} holds other files ({some})"


class Copy:
    """A run's copy in a folder, and the names in it that are the mirror's."""

    def __init__(self, run: Path, copy: Path) -> None:
        """Open it, or begin it. Raises OSError when others have it, whose files must not be lost."""
        self.path = copy
        self.marker = new_marker(run)
        self.temporary = copy / f".{self.marker['id']}.tmp"  # whose name no other has, so that what is left is ours
        if trouble := _others(copy, self.marker["id"]):
            raise OSError(f"{trouble}; give this run another name with --out, or move that")
        copy.mkdir(exist_ok=True)
        before = read_marker(copy)
        self._clear()
        self.adapter = before and before.get("adapter")  # which the copy has whole
        self.newest = before and before.get("step")
        self.left: list[str] = []  # what was told of files that stay, since they are not what the mirror wrote
        found = listed_bodies(before) if before is not None else {}
        self._written = found
        self.names: dict[str, tuple[Expected, ...]] = dict(self._earlier(run) if found is None else found)

    def _earlier(self, run: Path) -> dict[str, tuple[Expected, ...]]:
        """What is the mirror's in a copy of an earlier release, whose list says no more than names, if that.

        Of the checkpoints, those that the run has too: another may be a person's own. Such a one stays until they
        delete it, also where the mirror made it of a checkpoint that the run has pruned. The other files need no
        list: where they are the run's, or the beginning of what the run's have become, they are replaced.
        """
        names: dict[str, tuple[Expected, ...]] = {}
        for path in checkpoints.saved(self.path / "checkpoints"):
            if is_known(path, run):
                names |= {name: (body,) for name, body in bodies_of(path).items() if is_own_name(name)}
            else:
                self.left.append(f"{path.name} in the copy is none that this run has; it stays until you delete it")
        return names

    def checkpoints(self) -> set[str]:
        """The names of those that have a file of the mirror's."""
        return {name.split("/")[1] for name in self.names if name.startswith("checkpoints/")}

    def saved(self) -> list[Path]:
        """The checkpoints that the mirror has written, oldest first."""
        folder = self.path / "checkpoints"
        if folder.is_dir():
            os.listdir(folder)  # noqa: PTH208 - OSError where it cannot be read: nothing is to go for that
        found = checkpoints.saved(folder)
        return [path for path in found if f"checkpoints/{path.name}/{MANIFEST}" in self.names]

    def newest_step(self) -> int | None:
        saved = self.saved()
        return checkpoints.step_of(saved[-1]) if saved else None

    def write(self, **about: Any) -> None:
        """Write the marker with the names as they are now."""
        content = json.dumps(
            {**self.marker, "adapter": self.adapter, **about, "files": as_listed(self.names)}, indent=1
        )
        if len(self.names) > MOST_NAMES or len(content) > MARKER_BYTES:
            raise OSError(f"it has {len(self.names):,} files, and a copy may have {MOST_NAMES:,}")
        self.newest = about.get("step", self.newest)
        self._place(io.BytesIO(content.encode()), self.path / MARKER)
        self._written = dict(self.names)

    def claim(self, files: Mapping[str, tuple[Path, Expected]], together: bool = False) -> list[str]:
        """List what is to be written before it is; returns what is wrong with the names that others have.

        Each name comes with its source in the run, and what that is. Of names that belong `together`, none is listed
        where one is another's.
        """
        before, troubles = dict(self.names), []
        for name, (source, body) in files.items():
            standing = self._standing(name, source, body)
            if standing is None:
                self.names.pop(name, None)
                troubles.append(f"{on_one_line(name)} in the copy is not the mirror's; move it")
            else:
                self.names[name] = tuple(dict.fromkeys((*standing, body)))
        if together and troubles:
            self.names = {name: bodies for name, bodies in before.items() if name in self.names}
        if self.names != self._written:
            self.write(step=self.newest)
        return troubles

    def _standing(self, name: str, source: Path, body: Expected) -> tuple[Expected, ...] | None:
        """What stands under a name that is to become `body`: nothing, or what may be replaced; None for another's."""
        try:
            path = inside(self.path, name)
            above = [self.path / one for one in list(path.relative_to(self.path).parents)[:-1]]
        except ValueError:
            return None
        if not is_own_name(name) or any(one.exists() and not one.is_dir() for one in above):
            return None
        if not os.path.lexists(path):
            return ()
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        found = self._found(name, path, body)
        if found is None and path.lstat().st_size < body.bytes:
            beginning = body_of(path)
            found = beginning if begins(source, beginning) else None
        return None if found is None else (found,)

    def _found(self, name: str, path: Path, *others: Expected) -> Expected | None:
        """What a file is, if it is one of those that are listed, or of the others; read only if its size is theirs."""
        bodies = (*self.names.get(name, ()), *others)
        if path.lstat().st_size not in {body.bytes for body in bodies}:
            return None
        return found if (found := body_of(path)) in bodies else None

    def bring(self, files: Mapping[str, Path]) -> list[str]:
        """Copy files from these sources where they are not there yet; returns what could not be copied."""
        bodies = {}
        for name, source in files.items():
            with contextlib.suppress(FileNotFoundError):  # it vanished meanwhile: it is no longer wanted
                bodies[name] = (source, body_of(source))
        troubles = self.claim(bodies)
        for name, (source, body) in bodies.items():
            if name in self.names and (self.names[name] != (body,) or not os.path.lexists(self.target(name))):
                troubles += self.put(source, name, body)
        return troubles

    def put(self, source: Path, name: str, body: Expected) -> list[str]:
        """Copy a listed file: whole under its name, or not. Returns what is wrong where it has become another."""
        try:
            with open_to_read(source) as file:
                if not self._place(file, self.target(name), body):
                    return [f"{on_one_line(name)} was changed while it was copied"]
        except FileNotFoundError:
            if os.path.lexists(source):
                raise
            return []
        self.names[name] = (body,)
        return []

    def put_bytes(self, content: bytes, name: str, body: Expected) -> None:
        self._place(io.BytesIO(content), self.target(name), body)
        self.names[name] = (body,)

    def target(self, name: str) -> Path:
        """The path of a listed name, in folders that are there. OSError where something other than a file is now."""
        try:
            path = inside(self.path, name)
            regular = not os.path.lexists(path) or stat.S_ISREG(path.lstat().st_mode)
        except ValueError as error:
            raise OSError(f"{on_one_line(error)} in the copy; move it") from None
        if not regular:
            raise OSError(f"{on_one_line(name)} in the copy is no file of the mirror's; move it")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _clear(self) -> None:
        try:
            self.temporary.unlink(missing_ok=True)
        except OSError as error:
            raise OSError(f"{on_one_line(self.temporary)} is in the mirror's way ({error.strerror}); move it") from None

    def _place(self, content: IO[bytes], target: Path, body: Expected | None = None) -> bool:
        """Write a file whole, or not: not where it is not to be `body`."""
        self._clear()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(self.temporary, flags, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                found = copied(content, file, MARKER_BYTES if body is None else body.bytes)
            if whole := body in (None, found):
                to_disk(self.temporary)
                self.temporary.replace(target)
            else:
                self.temporary.unlink(missing_ok=True)
        except BaseException:
            self.temporary.unlink(missing_ok=True)  # on a full disk, half of it would stay in the way
            raise
        return whole

    def remove(self, names: Iterable[str]) -> None:
        """Delete what the mirror wrote under these names, and the folders that are then empty.

        What is something else by now stays, and is no longer listed. So does an empty folder of theirs: those that go
        are the adapter's and the checkpoints' own, and those that a file went from.
        """
        folders: set[PurePosixPath] = set()
        gone = sorted((name for name in set(names) if name in self.names), key=lambda name: not name.endswith(MANIFEST))
        for name in gone:
            above = [one for one in PurePosixPath(name).parents if one.parts]
            folders |= {one for one in above if len(one.parts) <= (1 if one.parts[0] == "adapter" else 2)}
            with contextlib.suppress(ValueError, FileNotFoundError, NotADirectoryError):
                path = inside(self.path, name)
                if not stat.S_ISREG(path.lstat().st_mode):
                    continue
                if self._found(name, path) is not None:
                    path.unlink()
                    folders |= set(above)
                else:
                    self.left.append(f"{on_one_line(name)} in the copy is not what the mirror wrote; it stays there")
        for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
            with contextlib.suppress(OSError, ValueError):  # not empty: others have put something there
                inside(self.path, str(folder)).rmdir()
        for name in gone:
            del self.names[name]

    def remove_checkpoints(self, gone: Iterable[str]) -> None:
        self.remove([name for one in gone for name in self.names if name.startswith(f"checkpoints/{one}/")])


def _copy_adapter(run: Path, kept: Copy) -> list[str]:
    """Copy the adapter where the run has another one; returns what could not be copied.

    Until it is whole, the marker says that the copy has none.
    """
    folder = run / "adapter"
    changed = kept.marker["adapter"]
    if changed is None or kept.adapter == changed:
        return []
    paths = {path.relative_to(run).as_posix(): path for path in files_below(folder)}
    kept.adapter = None
    kept.write(step=kept.newest)
    kept.remove(name for name in set(kept.names) if name.startswith("adapter/") and name not in paths)
    troubles = kept.bring(paths)
    if not troubles and folder.is_dir() and folder.stat().st_mtime_ns == changed:  # else it was replaced meanwhile
        kept.adapter = changed
    return troubles


def begins(path: Path, body: Expected) -> bool:
    """Tell whether a file begins with these bytes."""
    with contextlib.suppress(OSError), open_to_read(path) as file:
        return copied(file, None, body.bytes) == body
    return False


def _copy_checkpoint(source: Path, kept: Copy) -> str | None:
    """Copy a checkpoint that is not there yet; returns what is wrong with it, and then there is no copy.

    Its manifest comes last and goes first: a folder without one is no checkpoint.
    """
    there, prefix = kept.path / "checkpoints" / source.name, f"checkpoints/{source.name}/"
    try:
        manifest = read_bytes(source / MANIFEST)
        about = json.loads(manifest)
        files = checkpoints.listed(source, about if isinstance(about, dict) else {})
    except (OSError, ValueError, RecursionError):
        files = None
    if files is None:
        return f"{MANIFEST} cannot be read"
    same = f"{prefix}{MANIFEST}" in kept.names and checkpoints.manifest(there) == about
    if same and checkpoints.sizes_are_right(there):  # its bytes were checked at first
        return None
    bodies = {prefix + name: (source / name, body) for name, body in files.items()}
    last, body = f"{prefix}{MANIFEST}", Expected(len(manifest), hashlib.sha256(manifest).hexdigest())
    if troubles := kept.claim({**bodies, last: (source / MANIFEST, body)}, together=True):
        return "; ".join(troubles)
    mine = [name for name in kept.names if name.startswith(prefix)]
    kept.target(last).unlink(missing_ok=True)
    kept.remove(name for name in mine if name not in (*bodies, last))
    for name, expected in files.items():
        if checkpoints.trouble(there, name, expected) is None:  # what a killed child has copied of this one stays
            continue
        troubles = kept.put(source / name, prefix + name, expected)
        if trouble := checkpoints.trouble(there, name, expected):
            if troubles:
                trouble = checkpoints.trouble(source, name, expected) or troubles[0]
            kept.remove_checkpoints([source.name])
            return trouble
    kept.put_bytes(manifest, last, body)
    to_disk(there)
    return None
