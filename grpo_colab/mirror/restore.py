"""A copy that is found, read, and brought back."""

from __future__ import annotations

import contextlib
import glob
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from grpo_colab import checkpoints
from grpo_colab.errors import SettingError, one_line
from grpo_colab.files import read_json, write_text
from grpo_colab.mirror import layout
from grpo_colab.mirror.hub import bound_requests, fetched, hub_trouble
from grpo_colab.mirror.layout import HUB, IDENTITY, MARKER, parse_hub


def find(source: str) -> str:
    """`source` if it names a copy, else the newest copy in that destination. SettingError where there is none."""
    if not source.startswith(HUB):
        copies = [Path(source).expanduser()]
        copies = copies if (copies[0] / MARKER).is_file() else _copies(copies[0])
        found = str(copies[0]) if copies else None
    elif parse_hub(source)[1]:
        found = source
    else:
        found = next((f"{source.rstrip('/')}/{name}" for name in recipes(source)), None)
    if found is None:
        raise SettingError(f"{source!r}: no copy of a run is there, or it does not answer")
    return found


def marker(source: str) -> dict[str, Any]:
    """What a copy's mirrored.json says: whose copy it is and how far it goes; empty where that cannot be read."""
    if not source.startswith(HUB):
        return read_json(Path(source).expanduser() / MARKER) or {}
    repository, name = parse_hub(source)
    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(OSError, ValueError):
        bound_requests()
        return read_json(fetched(repository, [f"{glob.escape(str(name))}/{MARKER}"], folder) / str(name) / MARKER) or {}
    return {}


def is_mirror(source: str) -> bool:
    """Whether `source` is a copy, or a destination with some in it."""
    root = Path(source).expanduser()
    return (
        source.startswith(HUB)
        or (root / MARKER).is_file()
        or (not (root / "recipe.toml").exists() and bool(_copies(root)))
    )


def recipes(destination: str) -> dict[str, str]:
    """Each copy's name and recipe, the newest first; empty when there is none, or none that answers in time."""
    command = [sys.executable, "-m", "grpo_colab.mirror", "--recipes", destination]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        output, _ = child.communicate(timeout=layout.REACH_S)
    except subprocess.TimeoutExpired:
        child.kill()  # without waiting for it: one that hangs in the kernel does not die
        return {}
    return json.loads(output) if child.returncode == 0 else {}


def read_recipes(destination: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(destination).expanduser()
        if destination.startswith(HUB):
            bound_requests()
            root = fetched(parse_hub(destination)[0], [f"*/{MARKER}", "*/recipe.toml"], folder)
        return {copy.name: (copy / "recipe.toml").read_text(encoding="utf-8") for copy in _copies(root)}


def _copies(root: Path) -> list[Path]:
    """The copies in a folder, the newest first."""
    found = [(str((read_json(path) or {}).get("at")), path.parent) for path in root.glob(f"*/{MARKER}")]
    return [path for _, path in sorted(found, reverse=True)]


def restore(source: str, into: Path) -> Path:
    """Make the run folder `into` from the copy `source`, <destination>/<run>, or from a destination's newest copy.

    A checkpoint that is damaged there is left out. Raises SettingError when there is no such copy, when it cannot be
    reached, and when it has checkpoints but none is whole; `into` is then as it was.
    """
    if into.is_file() or (into.is_dir() and any(into.iterdir())):
        raise SettingError(f"{str(into)!r}: holds something already, so that {source} cannot be restored there")
    into.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{into.name}.", suffix=".tmp", dir=into.parent) as folder:
            copy = _brought(source, folder)
            found = checkpoints.saved(copy / "checkpoints")
            damaged = {path: trouble for path in found if (trouble := checkpoints.damage(path))}
            if damaged and len(damaged) == len(found):
                what = "; ".join(f"{path.name}: {trouble}" for path, trouble in damaged.items())
                raise SettingError(f"{source!r}: none of its checkpoints is whole ({what}); train again without it")
            for path in damaged:
                shutil.rmtree(path)
            write_text(copy / IDENTITY, str((read_json(copy / MARKER) or {}).get("id")))
            (copy / MARKER).unlink()
            return copy.replace(into)
    except OSError as error:
        raise SettingError(f"{source!r}: cannot be restored to {str(into)!r} ({one_line(error)})") from error


def _brought(source: str, folder: str) -> Path:
    """The copy `source`, or the newest in it, as a folder in `folder`."""
    if source.startswith(HUB):
        import httpx

        repository, name = parse_hub(source)
        try:
            if name is None:
                name = next((copy.name for copy in _copies(fetched(repository, [f"*/{MARKER}"], folder))), "")
            root = fetched(repository, [f"{glob.escape(name)}/*"], folder)
        except (OSError, ValueError, httpx.HTTPError) as error:
            raise SettingError(f"{source!r}: {hub_trouble(source, error)}; or correct budget.mirror") from error
    else:
        root = Path(source).expanduser()
        found = [root] if (root / MARKER).is_file() else _copies(root)
        name = "copy"
        if found:  # without what is being written there
            shutil.copytree(found[0], Path(folder, name), ignore=shutil.ignore_patterns(".*"))
            root = Path(folder)
    if not (root / name / MARKER).is_file():
        raise SettingError(f"{source!r}: no copy of a run is there; name one as <budget.mirror>/<the run's name>")
    return root / name
