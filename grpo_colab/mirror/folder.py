"""The copy in a folder, such as a Drive. Others may have put their files there, and theirs stay.

    <destination>/<run>/
        mirrored.json       among others `files`: each name that the mirror has written, or is about to write
        .<id>.tmp           what is being written

A name is on the list before its file is there, so that a kill leaves nothing that is not listed. Only what is listed is
deleted or replaced, never through a link.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from grpo_colab import checkpoints
from grpo_colab.checkpoints import MANIFEST
from grpo_colab.console import on_one_line
from grpo_colab.files import expanded, inside, open_to_read, read_bytes, to_disk
from grpo_colab.mirror.layout import (
    KEEP,
    MARKER,
    MARKER_BYTES,
    MOST_NAMES,
    checkpoint_names,
    files_below,
    greater_is_better,
    is_own_name,
    links,
    listed_names,
    new_marker,
    read_marker,
    small_files,
    superseded,
    take_whole,
)


def push_to_folder(run: Path, destination: str, here: list[Path]) -> tuple[int | None, list[str]]:
    """Bring the copy up to date; returns its newest step, and what could not be copied."""
    copy = expanded(destination) / run.name
    if copy.resolve() == run.resolve():
        return checkpoints.step_of(here[-1]) if here else None, []
    copy.parent.mkdir(exist_ok=True)  # not its parents: a Drive that is not mounted must not become a local folder
    kept = Copy(run, copy)
    greater = greater_is_better(run)
    wanted = {path.name for path in (*here[-1:], checkpoints.best_of(here, greater)) if path}
    left = {name for name in kept.checkpoints() if superseded(name, run, here)}
    whole = {path.name for path in kept.saved()}
    kept.remove_checkpoints(left | (kept.checkpoints() - whole - wanted))  # the others: a killed child began them

    troubles = links(run) + _copy_adapter(run, kept)
    names = small_files(run)
    troubles += kept.claim(names)
    for name in names:
        kept.put(run / name, name)
    kept.remove(name for name in set(kept.names) if "/" not in name and name not in names)
    kept.write(step=kept.newest_step())

    troubles += take_whole(here, greater, lambda checkpoint: _copy_checkpoint(checkpoint, kept))
    if saved := kept.saved():
        stay = {*saved[-KEEP:], checkpoints.best_of(saved, greater)}
        kept.remove_checkpoints(kept.checkpoints() - {path.name for path in stay if path})
    step = kept.newest_step()
    kept.write(step=step)
    return step, troubles


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
        self.temporary.unlink(missing_ok=True)
        self.adapter = before and before.get("adapter")  # which the copy has whole
        self.newest = before and before.get("step")
        self._written: list[str] | None = None
        self.names: set[str] = set()
        if before is not None:
            found = listed_names(before)
            self.names = self._earlier_names(run) if found is None else found
            self._written = None if found is None else sorted(found)

    def _earlier_names(self, run: Path) -> set[str]:
        """What is the mirror's in a copy that an earlier release made: it kept no list.

        What the checkpoints' manifests name, and what the run has under the same name.
        """
        folder = self.path / "checkpoints"
        names = {name for path in checkpoints.saved(folder) for name in checkpoint_names(path)}
        below = [path.relative_to(run).as_posix() for path in files_below(run / "adapter")]
        names |= {name for path in checkpoints.saved(run / "checkpoints") for name in checkpoint_names(path)}
        return {name for name in (*names, *small_files(run), *below) if is_own_name(name)}

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
        names = sorted(self.names)
        content = json.dumps({**self.marker, "adapter": self.adapter, **about, "files": names}, indent=1).encode()
        if len(names) > MOST_NAMES or len(content) > MARKER_BYTES:
            raise OSError(f"it has {len(names):,} files, and a copy may have {MOST_NAMES:,}")
        self.newest = about.get("step", self.newest)
        self._place(io.BytesIO(content), self.path / MARKER)
        self._written = names

    def claim(self, names: Iterable[str], together: bool = False) -> list[str]:
        """List names before their files are written; returns what is wrong with those that others have.

        Of names that belong `together`, none is listed then.
        """
        before, troubles = set(self.names), []
        for name in names:
            if self._is_free(name):
                self.names.add(name)
            else:
                self.names.discard(name)
                troubles.append(f"{on_one_line(name)} in the copy is not the mirror's; move it")
        if together and troubles:
            self.names &= before
        if sorted(self.names) != self._written:
            self.write(step=self.newest)
        return troubles

    def _is_free(self, name: str) -> bool:
        """Whether nothing stands in the way of a name, or a file that the mirror has written."""
        try:
            path = inside(self.path, name)
        except ValueError:
            return False
        above = list(path.relative_to(self.path).parents)[:-1]
        if not is_own_name(name) or any((self.path / one).exists() and not (self.path / one).is_dir() for one in above):
            return False
        return not os.path.lexists(path) or (name in self.names and path.is_file())

    def put(self, source: Path, name: str) -> None:
        """Copy a listed file: whole under its name, or not; one that vanishes meanwhile is no longer wanted."""
        if name not in self.names:
            return
        try:
            with open_to_read(source) as file:
                self._place(file, self.target(name))
        except FileNotFoundError:
            if os.path.lexists(source):
                raise

    def put_bytes(self, content: bytes, name: str) -> None:
        self._place(io.BytesIO(content), self.target(name))

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

    def _place(self, content: IO[bytes], target: Path) -> None:
        self.temporary.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(self.temporary, flags, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                shutil.copyfileobj(content, file, 1 << 20)
            to_disk(self.temporary)
            self.temporary.replace(target)
        except BaseException:
            self.temporary.unlink(missing_ok=True)  # on a full disk, half of it would stay in the way
            raise

    def remove(self, names: Iterable[str]) -> None:
        """Delete listed files, and the folders that are then empty. What is no regular file is no longer ours."""
        folders: set[PurePosixPath] = set()
        gone = sorted((name for name in set(names) if name in self.names), key=lambda name: not name.endswith(MANIFEST))
        for name in gone:
            with contextlib.suppress(ValueError, FileNotFoundError, NotADirectoryError):
                path = inside(self.path, name)
                folders |= set(PurePosixPath(name).parents) - {PurePosixPath(".")}
                if stat.S_ISREG(path.lstat().st_mode):
                    path.unlink()
        for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
            with contextlib.suppress(OSError, ValueError):  # not empty: others have put something there
                inside(self.path, str(folder)).rmdir()
        self.names -= set(gone)

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
    troubles = kept.claim(paths)
    kept.write(step=kept.newest)
    kept.remove(name for name in set(kept.names) if name.startswith("adapter/") and name not in paths)
    for name, path in paths.items():
        kept.put(path, name)
    if not troubles and folder.is_dir() and folder.stat().st_mtime_ns == changed:  # else it was replaced meanwhile
        kept.adapter = changed
    return troubles


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
    if troubles := kept.claim([prefix + name for name in (*files, MANIFEST)], together=True):
        return "; ".join(troubles)
    mine = [name for name in kept.names if name.startswith(prefix)]
    kept.target(f"{prefix}{MANIFEST}").unlink(missing_ok=True)
    kept.remove(name for name in mine if name.removeprefix(prefix) not in (*files, MANIFEST))
    for name, expected in files.items():
        if checkpoints.trouble(there, name, expected) is None:  # what a killed child has copied of this one stays
            continue
        kept.put(source / name, prefix + name)
        if trouble := checkpoints.trouble(there, name, expected):
            kept.remove_checkpoints([source.name])
            return trouble
    kept.put_bytes(manifest, f"{prefix}{MANIFEST}")
    to_disk(there)
    return None
