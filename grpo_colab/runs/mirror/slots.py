"""Where a copy in a folder keeps its checkpoints: in three fixed places, which are overwritten in turns.

    checkpoints/
        slot-1/, slot-2/, slot-3/   the newest checkpoint, the one before and the best, in any order
        checkpoint-40/              by an earlier release, and on the hub: a folder for each checkpoint

Drive keeps what is deleted in its bin, where it counts against the quota; what is overwritten it does not keep. The
manifest in a slot says which checkpoint it holds. It is emptied before anything else in the slot is changed, and
written last, so a slot that was only half written holds none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from grpo_colab.runs import checkpoints

SLOTS: Final = ("slot-1", "slot-2", "slot-3")
# Where files are overwritten in their places: a kill may leave a half written one there.
PLACES: Final = ("adapter", *(f"checkpoints/{slot}" for slot in SLOTS))


def is_place(name: str) -> bool:
    """Tell whether a checkpoint in a copy may lie in a folder of this name."""
    return name in SLOTS or checkpoints.is_name(name)


def held(folder: Path) -> dict[str, str]:
    """Return the names of the checkpoints in the slots below `folder`, by slot. Slots without a manifest are left out.

    A link is no slot. Nothing is raised for a manifest that cannot be read, or that has no step.
    """
    found: dict[str, str] = {}
    for slot in SLOTS:
        path = folder / slot
        if folder.is_symlink() or path.is_symlink():
            continue
        step = checkpoints.manifest(path).get("step")
        if isinstance(step, int) and not isinstance(step, bool) and checkpoints.is_name(f"checkpoint-{step}"):
            found[slot] = f"checkpoint-{step}"
    return found


def copied(folder: Path) -> dict[str, Path]:
    """Return the folders of a copy's checkpoints by the checkpoints' names, damaged ones too, oldest step first.

    `folder` is the copy's folder of checkpoints, which may be missing. Of two with the same step, the one that was
    saved later counts. Raises OSError where the disk fails.
    """
    # A kill may have left a manifest that was emptied to be deleted.
    saved = [path for path in checkpoints.saved(folder) if (path / checkpoints.MANIFEST).stat().st_size]
    places = [(path.name, path) for path in saved]
    places += [(name, folder / slot) for slot, name in held(folder).items()]
    places.sort(key=lambda place: str(checkpoints.manifest(place[1]).get("saved_at")))
    places.sort(key=lambda place: checkpoints.step_of(Path(place[0])))
    return dict(places)
