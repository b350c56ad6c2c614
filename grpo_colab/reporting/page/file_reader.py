"""Read the files of a run folder for its page, whatever state they are in.

No file is trusted: the run may be writing it, may have been killed in the middle of it, or may be of another version.
What is there is kept; what is missing, damaged or left out is said in a note for the page.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from grpo_colab.runs.records import MOST, MOST_JSON, is_step_number
from grpo_colab.text import without_secrets
from grpo_colab.utils.files import MOST_READ, number, read_bytes, read_objects
from grpo_colab.utils.json_rows import MOST_ROWS, is_sound
from grpo_colab.utils.toml_reading import read_toml

MOST_NOTES: Final = 8  # about values that are no numbers
MOST_CELLS: Final = 10_000_000  # steps times metrics; beyond that the last metrics are left out
FEWEST_NAMES, MOST_NAMES = 64, 1000  # metrics that are kept in any case, and at most
BIGGEST_PICTURE: Final = 1_500_000  # bytes
# A picture's name in a run folder, and how a file of its kind begins.
PICTURES: Final = {"drawing.png": (b"\x89PNG\r\n\x1a\n",), "drawing.gif": (b"GIF87a", b"GIF89a")}


class PageShare(NamedTuple):
    """How much is kept of a run that shares its page with others.

    Of rows and values each of the `runs` gets an equal part. `bytes` says how much is read of each of its files; of
    those that are not named, as much as of a run alone.
    """

    runs: int = 1
    bytes: Mapping[str, int] = {}


@dataclass
class FileReader:
    """Reads the files of one run folder, and collects notes on what is wrong with them."""

    folder: Path
    share: PageShare
    notes: list[str] = field(default_factory=list)

    def recipe(self) -> dict[str, Any]:
        """Return recipe.toml's tables without secrets; empty, with a note, where it cannot be read.

        `Recipe` would refuse a setting that this version does not know.
        """
        try:
            found: dict[str, Any] = without_secrets(read_toml(self.folder / "recipe.toml"))
        except (OSError, ValueError) as error:
            self.notes.append(f"{_unreadable('recipe.toml', error)} The settings are not known.")
            return {}
        return found

    def json_object(self, name: str) -> dict[str, Any] | None:
        """Return the JSON object in a file; None where there is no such file, or, with a note, no such object."""
        try:
            found = json.loads(read_bytes(self.folder / name, MOST_JSON // self.share.runs))
        except FileNotFoundError:
            return None
        except OSError as error:
            self.notes.append(_unreadable(name, error))
            return None
        except (ValueError, RecursionError):
            self.notes.append(f"{name} cannot be read: it is no JSON.")
            return None
        if isinstance(found, dict) and is_sound(found):
            return found
        self.notes.append(f"{name} cannot be read: it is no JSON object of sound values.")
        return None

    def pictures(self) -> dict[str, str]:
        """Return the drawings in base64, by the names of their files. A missing or damaged one is left out."""
        found = {name: self._picture(name) for name in PICTURES}
        return {name: data for name, data in found.items() if data}

    def _picture(self, name: str) -> str:
        """Return a picture in base64; empty where there is none, or, with a note, where the file is no picture."""
        try:
            content = read_bytes(self.folder / name, BIGGEST_PICTURE)
        except FileNotFoundError:
            return ""
        except OSError as error:
            self.notes.append(_unreadable(name, error))
            return ""
        if not content.startswith(PICTURES[name]):
            self.notes.append(f"{name} is no {name[-3:].upper()}, and is left out.")
            return ""
        return base64.b64encode(content).decode()

    def rows(self, name: str, if_missing: str = "", most: int = MOST_ROWS) -> list[dict[str, Any]]:
        """Return the objects in a .jsonl file; an empty list where it cannot be read.

        `most` is how many rows all runs on the page may have together. `if_missing` is the note where there is no such
        file, or nothing in it, "" for none. Notes also say what is damaged or left out. Nothing is raised.
        """
        path = self.folder / name
        limit = self.share.bytes.get(name, MOST_READ)
        found = read_objects(path, limit, max(1, most // self.share.runs))
        if if_missing and (found.error or found.size == 0):
            self.notes.append(if_missing)
        if found.error and (path.is_symlink() or path.exists()):
            self.notes.append(_unreadable(name, found.error))
        if found.size > limit:
            self.notes.append(
                f"{name} has {found.size / 1e6:,.0f} MB; {limit / 1e6:.2g} MB evenly over it were read, and the "
                "rest was left out."
            )
        if found.left:
            self.notes.append(f"{name} has more lines or values than are read: {found.left:,} lines were left out.")
        if found.bad:
            are = "is" if found.bad == 1 else "are"
            self.notes.append(f"{name}: {_counted(found.bad, 'line')} {are} no JSON object.")
        if found.torn:
            self.notes.append(f"{name}: its last line is cut off, and was left out.")
        return found.rows

    def metrics(self, begun: bool) -> list[dict[str, float]]:
        """Return the metrics, a row of finite numbers per step, in order; of two lines of a step the later one.

        Notes say what is left out: lines without a step, values that are no such numbers, and metrics beyond the limit.
        Without any metrics a note says so, if `begun` tells that a step has ended.
        """
        name = "metrics.jsonl"
        read = self.rows(name)
        rows = [row for row in read if is_step_number(row.get("step"))]
        most = max(FEWEST_NAMES, min(MOST_NAMES, MOST_CELLS // self.share.runs // max(1, len(rows))))
        steps: dict[int, dict[str, float]] = {}
        kept = {"step"}  # names
        left_out: set[str] = set()
        no_numbers: dict[str, list[int]] = {}  # name -> steps
        for row in rows:
            numbers = {}
            for key, value in row.items():
                if key not in kept and len(kept) >= most:
                    left_out.add(key)
                elif number(value) is not None and abs(value) < MOST:
                    kept.add(key)
                    numbers[key] = value
                elif value is not None:
                    no_numbers.setdefault(key, []).append(row["step"])
            steps[row["step"]] = numbers
        if len(rows) < len(read):
            self.notes.append(f"{name}: {_counted(len(read) - len(rows), 'line')} without a step.")
        for key, where in list(no_numbers.items())[:MOST_NOTES]:
            self.notes.append(
                f"{name}: {key!r} is no number, or beyond 1e30, in {_counted(len(where), 'step')}, first in step "
                f"{where[0]}."
            )
        if len(no_numbers) > MOST_NOTES:
            self.notes.append(f"{name}: nor are {len(no_numbers) - MOST_NOTES:,} others.")
        if left_out:
            self.notes.append(f"{name}: {len(left_out):,} metrics beyond the first {most:,} were left out.")
        if begun and not steps:
            self.notes.append("No metrics.")
        return [steps[step] for step in sorted(steps)]


def _unreadable(name: str, error: Exception | str) -> str:
    """Return the note that a file cannot be read, and why. Of a link, the note says that links are not followed."""
    why = error if isinstance(error, str) else getattr(error, "strerror", None) or str(error)
    if "link" in why:
        return f"{name} is a link, which is not followed."
    return f"{name} cannot be read: {why}."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
