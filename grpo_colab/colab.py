"""What Colab has beside a machine: secrets, a Drive, and sessions that end. Elsewhere there is none of it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from grpo_colab.errors import SettingError, one_line
from grpo_colab.text import duration

if TYPE_CHECKING:
    from grpo_colab.plan import Plan
    from grpo_colab.recipe.recipe import Recipe

# Hours of a run that fit into a session on the free GPU, a T4: its download, compiling, evaluations and training, as
# Plan.hours and budget.max_hours count them, both from the beginning of `train`. A session lasts about four hours, of
# which the installation, the check and who reads them take some, and it may end before its time.
FREE_HOURS: Final = 3.25


def in_colab() -> bool:
    """Tell whether this is Colab, by its own package."""
    if "google.colab" in sys.modules:
        return True
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:  # no package google at all
        return False


def hours_that_fit() -> float | None:
    """Return FREE_HOURS on a T4 in Colab, which is the GPU of free sessions; None, for no limit, elsewhere."""
    if not in_colab():
        return None
    import torch

    is_free = torch.cuda.is_available() and "T4" in torch.cuda.get_device_name(0)
    return FREE_HOURS if is_free else None


def what_a_session_keeps(recipe: Recipe, planned: Plan) -> Iterator[str]:
    """Yield sentences on what Colab's session does to this run, before it begins; none elsewhere and on a CPU."""
    if not in_colab() or planned.kind != "cuda":
        return
    hours = recipe.budget.max_hours
    needed = duration(3600 * planned.hours)
    if hours and planned.hours > hours:
        yield (
            f"The whole run would take about {needed}. It stops after {hours:g} hours, saves and evaluates; Run "
            "all goes on with it."
        )
    elif not hours and planned.hours > FREE_HOURS:
        yield (
            f"The run takes about {needed}, download and evaluations included, and a free session of Colab lasts about "
            f"4 hours: write {FREE_HOURS} into hours, and it stops in time to save and evaluate."
        )
    if not recipe.budget.mirror:
        yield (
            "Nothing outside this machine keeps the run. When Colab takes it away, the training so far is lost: tick "
            "drive, or name a repository in hub, and Run all goes on on another machine."
        )


def keys(*names: str) -> None:
    """Copy these keys from Colab's secrets into the environment, as far as they exist and the notebook may read them.

    A secret replaces a value that is there already. Nothing is asked for or printed, and nothing is raised.
    """
    try:
        from google.colab import userdata
    except ImportError:
        return
    for name in names:
        # no secret, no access, no browser: each has an exception class of its own, and not every release has all
        with contextlib.suppress(Exception):
            secret = userdata.get(name)
            if secret:
                os.environ[name] = secret


def drive_folder() -> str:
    """Mount Drive at ./drive, and return its folder for runs. Raises SettingError outside Colab, or if that fails."""
    try:
        from google.colab import drive
    except ImportError:
        raise SettingError(
            "there is no Drive outside Colab", setting="drive", value=True, remedy="untick it, and keep the run folder"
        ) from None
    place = Path("drive").absolute()
    try:
        drive.mount(str(place))
    except Exception as error:  # Colab raises many classes: for a closed dialogue, a full Drive, a lost connection
        raise SettingError(
            f"Drive was not mounted ({one_line(error)})",
            setting="drive",
            value=True,
            remedy="run the cell again, or untick it",
        ) from error
    return str(place / "MyDrive" / "grpo_colab")
