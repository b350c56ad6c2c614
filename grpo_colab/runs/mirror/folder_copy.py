"""One run's copy in a folder: `FolderCopy` writes, replaces and deletes the mirror's own files there, and no others.

    <destination>/<run>/
        mirrored.json       its `files` lists what the mirror has written, or is about to write, under each name;
                            its `unfinished` the places, a slot or the adapter, that it has begun to overwrite
        .<identity>.tmp     a small file that is being written
        checkpoints/slot-1  see slots.py

A file is listed before it is written, so that a kill leaves no file that is not listed. A file is deleted or replaced
only where its size and SHA-256 are those listed, and never through a link: a file that a person has put there or has
changed is theirs. A file that is the beginning of the run's own file may be replaced too, since nothing is lost; so may
a listed file in an unfinished place, which a kill may have left at any length.

The large files, those of checkpoints and of the adapter, are overwritten in their places, and files that grow are
extended (in_place.py). The small ones are whole at any moment: they are written anew and renamed.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from grpo_colab.runs import checkpoints
from grpo_colab.runs.checkpoints import MANIFEST, Fingerprint
from grpo_colab.runs.mirror import in_place, slots
from grpo_colab.runs.mirror.layout import (
    MARKER,
    MARKER_BYTES,
    MOST_NAMES,
    checkpoint_fingerprints,
    copy_bytes,
    fingerprint,
    is_checkpoint_of,
    is_own_name,
    listed_fingerprints,
    marker_entries,
    new_marker,
    read_marker,
)
from grpo_colab.text import on_one_line
from grpo_colab.utils.files import open_to_read, safe_join, to_disk


def foreign_contents(copy: Path, identity: str | None) -> str | None:
    """Return what the folder `copy` holds that does not belong to the run of this identity; None where nothing does.

    It is a sentence. A folder that is missing or empty holds nothing. With None for an identity, whatever is there is
    foreign. Raises OSError where the folder cannot be listed.
    """
    shown = on_one_line(copy)
    if copy.is_symlink() or (copy.exists() and not copy.is_dir()):
        return f"{shown} is no folder, but a {'link' if copy.is_symlink() else 'file'}"
    found = []
    if copy.exists():
        found = sorted(name for name in os.listdir(copy) if name != f".{identity}.tmp")  # noqa: PTH208
    if not found:
        return None
    if MARKER in found:
        marker = read_marker(copy)
        if marker is None:
            return f"{shown} holds a {MARKER} that cannot be read"
        if marker["id"] == identity:
            return None
        return f"{shown} holds another run called {on_one_line(copy.name)}"
    examples = [on_one_line(name)[:40] for name in found[:3]]
    if len(found) > 3:
        examples.append("...")
    return f"{shown} holds other files ({', '.join(examples)})"


class FolderCopy:
    """A run's copy in a folder, with the list of the mirror's own files in it.

    `path` is its folder, `marker` the marker to write, and `names` the list: the fingerprints that the file under each
    name may have. That of a file that was replaced stays among them until the next pass: a machine may end before Drive
    has got the new file. `unfinished` are those of slots.PLACES that may have half written files. `kept_foreign` has a
    sentence for each file that was to be deleted, and stays because it is not what the mirror wrote.
    """

    def __init__(self, run: Path, copy: Path) -> None:
        """Open the copy in the folder `copy` of the run folder `run`, or begin it.

        Makes the copy's folder, gives the run its identity file if it has none, and deletes the temporary file of a
        killed child. No marker is written yet. Raises OSError where the folder belongs to something else or cannot be
        made.
        """
        self.path, self.run = copy, run
        self.marker = new_marker(run)
        # The name holds the run's identity, so that a leftover of that name is surely the mirror's.
        self.temporary = copy / f".{self.marker['id']}.tmp"
        problem = foreign_contents(copy, self.marker["id"])
        if problem:
            raise OSError(f"{problem}; give this run another name with --out, or move that")
        copy.mkdir(exist_ok=True)
        previous = read_marker(copy)
        self._remove_temporary()
        # The adapter's modification time where the copy has the adapter whole, else None; and its newest step.
        self.adapter: Any = None if previous is None else previous.get("adapter")
        self.newest: Any = None if previous is None else previous.get("step")
        self.kept_foreign: list[str] = []
        listed = listed_fingerprints(previous) if previous is not None else {}
        unfinished = (previous or {}).get("unfinished")
        self.unfinished = {place for place in slots.PLACES if isinstance(unfinished, list) and place in unfinished}
        self._written: Any = (listed, set(self.unfinished))
        self.names = dict(self._checkpoints_without_list(run) if listed is None else listed)

    def _checkpoints_without_list(self, run: Path) -> dict[str, tuple[Fingerprint, ...]]:
        """Return the list for a copy by an earlier release, whose marker has no fingerprints.

        Only checkpoints that the run has too are listed. Any other checkpoint may be a person's own: it stays until
        somebody deletes it, and is noted in `kept_foreign`. Files outside checkpoints are not listed: they are replaced
        where they equal the run's file or are the beginning of it.
        """
        names: dict[str, tuple[Fingerprint, ...]] = {}
        for checkpoint, path in slots.copied(self.path / "checkpoints").items():
            if not is_checkpoint_of(run, checkpoint, path):
                self.kept_foreign.append(
                    f"{checkpoint} in the copy is none that this run has; it stays until you delete it"
                )
                continue
            for name, found in checkpoint_fingerprints(path).items():
                if is_own_name(name):
                    names[name] = (found,)
        return names

    def old_folders(self) -> set[str]:
        """Return the names of the folders of an earlier release's checkpoints that the list has a file of."""
        folders = {name.split("/")[1] for name in self.names if name.startswith("checkpoints/")}
        return folders - set(slots.SLOTS)

    def saved(self) -> dict[str, Path]:
        """Return the folders of the complete checkpoints that the mirror has written, by name, oldest first.

        Raises OSError where the folder cannot be read: its checkpoints must not count as missing.
        """
        folder = self.path / "checkpoints"
        if folder.is_dir():
            os.listdir(folder)  # noqa: PTH208 - raises where `checkpoints.saved` would return an empty list
        found = slots.copied(folder)
        return {name: path for name, path in found.items() if f"checkpoints/{path.name}/{MANIFEST}" in self.names}

    def newest_step(self) -> int | None:
        """Return the step of the newest complete checkpoint; None while there is none. Raises as `saved` does."""
        saved = self.saved()
        return checkpoints.step_of(Path(next(reversed(saved)))) if saved else None

    def write_marker(self, step: int | None) -> None:
        """Write the marker with this newest step and the list as it is now, and keep the step in `newest`.

        Raises OSError for over 10,000 files, for a marker of over 32 MiB, and where it cannot be written.
        """
        state = {"adapter": self.adapter, "step": step, "unfinished": sorted(self.unfinished)}
        content = json.dumps({**self.marker, **state, "files": marker_entries(self.names)}, indent=1)
        if len(self.names) > MOST_NAMES or len(content) > MARKER_BYTES:
            raise OSError(f"it has {len(self.names):,} files, and a copy may have {MOST_NAMES:,}")
        self.newest = step
        self._write_file(io.BytesIO(content.encode()), self.path / MARKER)
        self._written = (dict(self.names), set(self.unfinished))

    def claim(self, files: Mapping[str, tuple[Path, Fingerprint]], place: str | None = None) -> list[str]:
        """List files that are about to be written, and write the marker if the list has changed.

        Returns a problem for each name that a foreign file has, an empty list for none. `files` has for each name the
        source in the run and its fingerprint. A foreign file's name is taken off the list. Where all of them are to
        fill `place`, one of slots.PLACES, no other new name is listed then either; else the place is unfinished from
        now on, until it is taken out of `unfinished`. Raises OSError where a file there cannot be read, and as
        `write_marker` does.
        """
        before, problems = dict(self.names), []
        for name, (source, new) in files.items():
            replaceable = self._replaceable(name, source, new)
            if replaceable is None:
                self.names.pop(name, None)
                problems.append(f"{on_one_line(name)} in the copy is not the mirror's; move it")
            else:
                self.names[name] = tuple(dict.fromkeys((*replaceable, new)))
        if place and problems:
            self.names = {name: old for name, old in before.items() if name in self.names}
        elif place:
            self.unfinished.add(place)
        if (self.names, self.unfinished) != self._written:
            self.write_marker(self.newest)
        return problems

    def _replaceable(self, name: str, source: Path, new: Fingerprint) -> tuple[Fingerprint, ...] | None:
        """Return what may be replaced under a name: one fingerprint, or () for no file; None where a foreign file is.

        `source` is the file in the run that is to be copied there, `new` its fingerprint. A name that the mirror cannot
        write, and one below a file, count as foreign. Raises OSError where the file there cannot be read.
        """
        try:
            path = safe_join(self.path, name)
            parents = [self.path / one for one in list(path.relative_to(self.path).parents)[:-1]]
        except ValueError:
            return None
        if not is_own_name(name) or any(one.exists() and not one.is_dir() for one in parents):
            return None
        if not os.path.lexists(path):
            return ()
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        found = self._own_fingerprint(name, path, new)
        if found is None and self._is_half_written(name, path):
            found = fingerprint(path)
        if found is None and path.lstat().st_size < new.bytes:
            beginning = fingerprint(path)
            if _begins_with(source, beginning):
                found = beginning
        return None if found is None else (found,)

    def _own_fingerprint(self, name: str, path: Path, *also: Fingerprint) -> Fingerprint | None:
        """Return a file's fingerprint if it is listed for its name, or one of `also`; else None.

        The file is read only where its size is that of one of them.
        """
        allowed = (*self.names.get(name, ()), *also)
        if path.lstat().st_size not in {one.bytes for one in allowed}:
            return None
        found = fingerprint(path)
        return found if found in allowed else None

    def _is_half_written(self, name: str, path: Path) -> bool:
        """Tell whether a killed child may have left this regular file: emptied, half overwritten or half extended."""
        listed, size = self.names.get(name, ()), path.lstat().st_size
        if not listed or size > max(one.bytes for one in listed):
            return False
        if size == 0 or any(name.startswith(f"{place}/") for place in self.unfinished):
            return True
        return _grows(name) and any(one.bytes < size and _begins_with(path, one) for one in listed)

    def update(self, files: Mapping[str, Path], place: str | None = None) -> list[str]:
        """Copy files from these sources, by name, unless they are there already. Return the problems met.

        A problem is a sentence on a file that is not copied: its name in the copy is not the mirror's, or its source
        was changed while it was copied. A source that the run has deleted is skipped without a problem. `place` is as
        of `claim`; without problems it is no longer unfinished afterwards. Writes the marker and raises OSError as
        `claim` does. Also raises OSError where a source cannot be read or the copy cannot be written.
        """
        new = {}
        for name, source in files.items():
            with contextlib.suppress(FileNotFoundError):  # the run has deleted it: it is no longer wanted
                new[name] = (source, fingerprint(source))
        problems = self.claim(new, place)
        if place and problems:
            return problems
        for name, (source, expected) in new.items():
            if name not in self.names:
                continue
            if self.names[name] != (expected,) or not os.path.lexists(self.target(name)):
                problems += self.put(source, name, expected)
        if place and not problems:
            self.unfinished.discard(place)
        return problems

    def put(self, source: Path, name: str, expected: Fingerprint) -> list[str]:
        """Copy a listed file. Return a problem where the source is no longer as expected.

        A large file, in a folder, is overwritten in its place, so that the copy has it half written in between. Of a
        small one, only what it has grown by is written if it has grown; else it is copied completely or not at all.
        Returns an empty list where it is copied, and also where the source is missing: then nothing is written. Raises
        OSError where the source cannot be read or the copy cannot be written.
        """
        target = self.target(name)
        before = self.names[name][0]
        try:
            grown = _grows(name) and before.bytes < expected.bytes and target.exists()
            if grown and in_place.extend(source, target, before, expected):
                return []
            with open_to_read(source) as file:
                write = in_place.overwrite if "/" in name else self._write_file
                if not write(file, target, expected):
                    return [f"{on_one_line(name)} was changed while it was copied"]
        except FileNotFoundError:
            if os.path.lexists(source):
                raise
        return []

    def put_bytes(self, content: bytes, name: str, expected: Fingerprint) -> None:
        """Overwrite a listed file with this content, whose fingerprint is `expected`. OSError where that fails."""
        in_place.overwrite(io.BytesIO(content), self.target(name), expected)

    def empty(self, name: str) -> None:
        """Empty a listed file if it is what the mirror wrote, else nothing. Raises OSError where that fails."""
        with contextlib.suppress(ValueError, FileNotFoundError, NotADirectoryError):
            path = safe_join(self.path, name)
            if stat.S_ISREG(path.lstat().st_mode) and self._is_own(name, path):
                in_place.empty(path)

    def _is_own(self, name: str, path: Path) -> bool:
        """Tell whether a regular file of a listed name is the mirror's, or the beginning of the run's."""
        if self._is_half_written(name, path) or self._own_fingerprint(name, path) is not None:
            return True
        return _begins_with(self.run / name, fingerprint(path))

    def target(self, name: str) -> Path:
        """Return the path of a listed name, and make its folders. Raises OSError where no regular file can be."""
        try:
            path = safe_join(self.path, name)
            regular = not os.path.lexists(path) or stat.S_ISREG(path.lstat().st_mode)
        except ValueError as error:
            raise OSError(f"{on_one_line(error)} in the copy; move it") from None
        if not regular:
            raise OSError(f"{on_one_line(name)} in the copy is no file of the mirror's; move it")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _remove_temporary(self) -> None:
        """Delete what a killed child left under the temporary name. Raises OSError, with a remedy, where that fails."""
        try:
            in_place.delete(self.temporary)
        except OSError as error:
            raise OSError(f"{on_one_line(self.temporary)} is in the mirror's way ({error.strerror}); move it") from None

    def _write_file(self, content: IO[bytes], target: Path, expected: Fingerprint | None = None) -> bool:
        """Write a file under the temporary name and rename it. Return whether it was written.

        At most the bytes of `expected` are read of `content`. The target stays as it was, and False is returned, where
        the fingerprint is not the expected one. With None, any content is written, up to 32 MiB. The file is synced
        before the rename. Raises OSError where writing fails, and leaves no temporary file.
        """
        self._remove_temporary()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        handle = os.open(self.temporary, flags, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                found = copy_bytes(content, file, MARKER_BYTES if expected is None else expected.bytes)
            as_expected = expected is None or expected == found
            if as_expected:
                to_disk(self.temporary)
                self.temporary.replace(target)
            else:
                in_place.delete(self.temporary)
        except BaseException:
            in_place.delete(self.temporary)  # on a full disk, a partial file would take up the space left
            raise
        return as_expected

    def remove(self, names: Iterable[str]) -> None:
        """Delete the mirror's files of these names and take them off the list, then delete folders left empty.

        Names that are not listed are skipped. A file that is not what the mirror wrote stays, and is noted in
        `kept_foreign`. A link or a folder of that name stays without a note. An empty folder is deleted only if a file
        was deleted from it, or if it is the adapter's or a checkpoint's own. Raises OSError where a file cannot be
        deleted.
        """
        # Manifests go first: a folder without one is not taken for a checkpoint.
        listed = [name for name in set(names) if name in self.names]
        gone = sorted(listed, key=lambda name: not name.endswith(MANIFEST))
        folders: set[PurePosixPath] = set()
        for name in gone:
            parents = [one for one in PurePosixPath(name).parents if one.parts]
            for parent in parents:
                own_depth = 1 if parent.parts[0] == "adapter" else 2
                if len(parent.parts) <= own_depth:
                    folders.add(parent)
            with contextlib.suppress(ValueError, FileNotFoundError, NotADirectoryError):
                path = safe_join(self.path, name)
                if not stat.S_ISREG(path.lstat().st_mode):
                    continue
                if not self._is_own(name, path):
                    self.kept_foreign.append(
                        f"{on_one_line(name)} in the copy is not what the mirror wrote; it stays there"
                    )
                else:
                    in_place.delete(path)
                    folders.update(parents)
        for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
            with contextlib.suppress(OSError, ValueError):  # not empty: somebody has put something there
                safe_join(self.path, str(folder)).rmdir()
        for name in gone:
            del self.names[name]

    def remove_folders(self, gone: Iterable[str]) -> None:
        """Delete the mirror's files in these folders of checkpoints, as `remove` does."""
        for folder in gone:
            self.remove([name for name in self.names if name.startswith(f"checkpoints/{folder}/")])


def _grows(name: str) -> bool:
    """Tell whether a file is extended in its place: one of lines, of which the last may be torn."""
    return "/" not in name and name.endswith(".jsonl")


def _begins_with(path: Path, beginning: Fingerprint) -> bool:
    """Tell whether the first bytes of a file have this fingerprint; False where the file cannot be read."""
    with contextlib.suppress(OSError), open_to_read(path) as file:
        return copy_bytes(file, None, beginning.bytes) == beginning
    return False
