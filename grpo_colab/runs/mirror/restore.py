"""Bring a run back from its copy: regular files only, whose sizes are checked before anything is copied.

Whoever can write to the destination can change a copy. So only the files that its marker lists are brought back (of an
earlier release: the small files and the adapter), and those that its checkpoints' manifests list. No link is followed.
`lookup.py` finds copies.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Any

from grpo_colab.errors import SettingError
from grpo_colab.runs import checkpoints
from grpo_colab.runs.checkpoints import DAMAGED, MANIFEST
from grpo_colab.runs.mirror import hub_files, slots
from grpo_colab.runs.mirror.layout import (
    CHUNK_BYTES,
    HUB,
    IDENTITY,
    LARGE_BYTES,
    MARKER,
    MARKER_BYTES,
    RECIPE_BYTES,
    SMALL_BYTES,
    checkpoint_names,
    error_text,
    files_below,
    is_own_name,
    listed_names,
    parse_hub,
    read_marker,
    small_files,
)
from grpo_colab.runs.mirror.lookup import NAME_A_COPY, copies_in, is_copy, shown
from grpo_colab.text import on_one_line
from grpo_colab.utils.files import expanded, open_to_read, safe_join, to_disk, write_text

MOST_CHECKPOINTS = 100  # in a copy, which normally has three
SPARE_BYTES = 1 << 26  # disk space that must remain free


def restore(source: str, into: Path) -> Path:
    """Make the run folder `into` from the copy `source`, or from the newest copy in the destination `source`.

    Returns `into`, which appears by one rename, complete. Damaged checkpoints are left out. Raises SettingError when
    `into` holds something already, when there is no such copy, when it cannot be reached, when it is not what a mirror
    writes, when it needs more space than the disk has, and when it has checkpoints but none is whole. `into` is then
    unchanged.
    """
    if into.is_symlink() or into.is_file() or (into.is_dir() and any(into.iterdir())):
        raise SettingError(
            f"holds something already, so {shown(source)} cannot be restored there",
            remedy="choose another folder with --out",
            place=repr(str(into)),
        )
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{into.name[:100]}.", suffix=".tmp", dir=into.parent) as folder:
            new = Path(folder, "run")
            new.mkdir()
            if source.startswith(HUB):
                identity, problems = _restore_from_hub(source, Path(folder, "fetched"), new)
            else:
                identity, problems = _restore_from_folder(source, new)
            _drop_damaged_checkpoints(source, new, problems)
            write_text(new / IDENTITY, identity)
            return new.replace(into)
    except OSError as error:
        raise SettingError(
            f"cannot be restored to {str(into)!r} ({error_text(error)})",
            remedy="try again, or choose another folder with --out",
            place=shown(source),
        ) from error


def _drop_damaged_checkpoints(source: str, new: Path, problems: dict[str, str]) -> None:
    """Delete the damaged checkpoints of the restored folder `new`, and add them to `problems`, by name.

    An empty folder damaged-<checkpoint> is left for each problem: it tells the mirror that this run has had the
    checkpoint. Raises SettingError when there were checkpoints and none is whole.
    """
    folder = new / "checkpoints"
    for checkpoint in checkpoints.saved(folder):
        damage = checkpoints.damage(checkpoint)
        if damage:
            problems[checkpoint.name] = damage
            shutil.rmtree(checkpoint)
    if problems and not checkpoints.saved(folder):
        details = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise SettingError(
            f"none of its checkpoints is whole ({details})",
            remedy="train again without this copy",
            place=shown(source),
        )
    for name in problems:
        (folder / f"{DAMAGED}{name}").mkdir(parents=True, exist_ok=True)


def _restore_from_folder(source: str, new: Path) -> tuple[str, dict[str, str]]:
    """Copy the files of a copy into the empty folder `new`.

    Returns the run's identity, and what is wrong with each checkpoint that was left out, by name. Raises SettingError
    where there is no copy, for a damaged marker, and as `_check_sizes` does; OSError where copying fails.
    """
    root = expanded(source)
    copies = [root] if is_copy(root) else copies_in(root)
    if not copies:
        raise _no_copy(source)
    copy = copies[0]
    marker = _readable_marker(source, copy)
    saved = _listed_checkpoints(source, marker, copy)
    names = listed_names(marker)
    if names is None:
        names = {*small_files(copy), *(path.relative_to(copy).as_posix() for path in files_below(copy / "adapter"))}
    candidates = list(names)
    for folder in saved.values():
        candidates += checkpoint_names(folder)

    sizes = {}
    for name in candidates:
        with contextlib.suppress(OSError, ValueError):
            status = safe_join(copy, name).lstat()
            if stat.S_ISREG(status.st_mode):
                sizes[name] = status.st_size
    wanted, problems = _select_files(marker, sizes, saved)
    _check_sizes(source, wanted, new)
    for name, size in wanted.items():
        _copy_file(copy / name, new / _restored_name(name, saved), size)
    return marker["id"], problems


def _restore_from_hub(source: str, fetched: Path, new: Path) -> tuple[str, dict[str, str]]:
    """Download the files of a copy to the folder `fetched`, and move them into the empty folder `new`.

    Returns the same as `_restore_from_folder`. Raises SettingError for the same reasons, and for errors of the hub and
    of the download; OSError where moving fails.
    """
    import httpx

    repository, name = parse_hub(source)
    try:
        hub_files.limit_request_time()
        hub_files.check_reachable(repository)
        if name is None:
            copies = copies_in(hub_files.download_markers_and_recipes(repository, fetched))
            name = copies[0].name if copies else None
        sizes = hub_files.file_sizes(repository, name) if name else {}
        if name is None or MARKER not in sizes:
            raise _no_copy(source)
        copy = fetched / name
        hub_files.download_small(repository, name, [MARKER, *hub_files.manifest_names(sizes)], sizes, fetched)
        marker = _readable_marker(source, copy)
        saved = _listed_checkpoints(source, marker, copy)
        wanted, problems = _select_files(marker, sizes, saved)
        _check_sizes(source, wanted, new)
        hub_files.download(repository, [f"{name}/{one}" for one in wanted], fetched)
    except SettingError:
        raise
    except (OSError, ValueError, httpx.HTTPError) as error:
        problem, remedy = hub_files.hub_problem(source, error)
        raise SettingError(
            problem, remedy=f"{remedy or 'try again'}, or correct budget.mirror", place=shown(source)
        ) from error
    for one in wanted:
        target = new / _restored_name(one, saved)
        target.parent.mkdir(parents=True, exist_ok=True)
        safe_join(copy, one).replace(target)
    return marker["id"], problems


def _no_copy(source: str) -> SettingError:
    return SettingError("holds no copy of a run", remedy=NAME_A_COPY, place=shown(source))


def _readable_marker(source: str, copy: Path) -> dict[str, Any]:
    """Return the marker of a copy. Raises SettingError for a damaged one."""
    marker = read_marker(copy)
    if marker is None:
        raise SettingError(
            f"its {MARKER} is damaged, so it is not known which run this is a copy of",
            remedy="take another copy",
            place=shown(source),
        )
    return marker


def _listed_checkpoints(source: str, marker: dict[str, Any], copy: Path) -> dict[str, Path]:
    """Return the folders of the copy's checkpoints that the marker lists, by their names, oldest first.

    All count where the marker has no list. Raises SettingError for more than 100.
    """
    names = listed_names(marker)
    saved = slots.copied(copy / "checkpoints")
    if names is not None:
        saved = {name: path for name, path in saved.items() if f"checkpoints/{path.name}/{MANIFEST}" in names}
    if len(saved) > MOST_CHECKPOINTS:
        raise SettingError(
            f"has {len(saved):,} checkpoints, and a copy keeps three",
            remedy="remove those that do not belong to it",
            place=shown(source),
        )
    return saved


def _restored_name(name: str, saved: dict[str, Path]) -> str:
    """Return the name in the run folder of a copy's file: a checkpoint in a slot gets its own folder back."""
    for checkpoint, folder in saved.items():
        prefix = f"checkpoints/{folder.name}/"
        if name.startswith(prefix):
            return f"checkpoints/{checkpoint}/{name.removeprefix(prefix)}"
    return name


def _select_files(
    marker: dict[str, Any], sizes: dict[str, int], saved: dict[str, Path]
) -> tuple[dict[str, int], dict[str, str]]:
    """Select the files to bring back. `sizes` has the size in bytes of each file in the copy, by name.

    Returns the sizes of the selected files by name, and what is wrong with each checkpoint that is left out. An adapter
    that the marker calls incomplete is left out.
    """
    listed = listed_names(marker)
    has_adapter = marker.get("adapter") is not None
    wanted = {}
    for name, size in sizes.items():
        if not is_own_name(name) or name.startswith("checkpoints/"):
            continue
        if name.startswith("adapter/") and not has_adapter:
            continue
        if listed is None or name in listed:
            wanted[name] = size

    problems = {}
    for checkpoint, folder in saved.items():
        prefix = f"checkpoints/{folder.name}/"
        problem, names = _check_checkpoint(folder, prefix, sizes)
        if problem:
            problems[checkpoint] = problem
        else:
            wanted.update({prefix + name: sizes[prefix + name] for name in names})
    return wanted, problems


def _check_checkpoint(checkpoint: Path, prefix: str, sizes: dict[str, int]) -> tuple[str | None, list[str]]:
    """Compare the sizes of a checkpoint's files with its manifest.

    `sizes` has the sizes of the copy's files by name; `prefix` comes before the names in the manifest.
    Returns the first problem, None where there is none, and the names of its files in its folder, the manifest last.
    """
    files = checkpoints.fingerprints(checkpoint)
    if files is None:
        return f"{MANIFEST} cannot be read", []
    for name, expected in files.items():
        size = sizes.get(prefix + name)
        if size is None:
            return f"{on_one_line(name)} is missing", []
        if size != expected.bytes:
            return f"{on_one_line(name)} has {size:,} of {expected.bytes:,} bytes", []
    return None, [*files, MANIFEST]


def _check_sizes(source: str, wanted: dict[str, int], new: Path) -> None:
    """Raise SettingError for a file that is too large, a missing recipe.toml, or too little disk space at `new`."""
    for name, size in wanted.items():
        most = _largest_size(name)
        if size > most:
            raise SettingError(
                f"{on_one_line(name)} has {size:,} bytes and may have {most:,}, so it is not what a run writes",
                remedy="take another copy, or remove that file there",
                place=shown(source),
            )
    if "recipe.toml" not in wanted:
        raise SettingError(
            "has no recipe.toml, so it is not the copy of a run", remedy="take another copy", place=shown(source)
        )
    free, total = shutil.disk_usage(new).free, sum(wanted.values())
    if total + SPARE_BYTES > free:
        raise SettingError(
            f"takes {total / 2**20:,.0f} MiB, and {free / 2**20:,.0f} MiB are free at {str(new.parents[1])!r}",
            remedy="free some space, or choose another disk with --out",
            place=shown(source),
        )


def _largest_size(name: str) -> int:
    """Return the size in bytes that a file of this name may have in a copy."""
    if name.endswith(f"/{MANIFEST}"):
        return MARKER_BYTES
    if "/" in name:
        return LARGE_BYTES
    return RECIPE_BYTES if name == "recipe.toml" else SMALL_BYTES


def _copy_file(source: Path, target: Path, size: int) -> None:
    """Copy the first `size` bytes of a regular file to a new file, and flush them to the disk.

    Makes the target's folders. A source that has become shorter is copied as it is. Raises OSError for a link, for a
    target that exists, and where copying fails.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with open_to_read(source) as read, target.open("xb") as written:
        while size > 0:
            chunk = read.read(min(size, CHUNK_BYTES))
            if not chunk:
                break
            written.write(chunk)
            size -= len(chunk)
    to_disk(target)
