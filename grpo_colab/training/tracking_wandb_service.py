"""Handle what W&B keeps outside of Python: its service process, and a run's id and files in the run folder.

The tracker itself is in tracking_wandb.py. Importing this module imports neither wandb nor transformers.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
from pathlib import Path
from typing import Any, Final

from grpo_colab.runs.run import Run
from grpo_colab.training.tracking import LIMIT_S
from grpo_colab.utils.files import read_json, write_json
from grpo_colab.utils.timeouts import run_with_timeout

ID_FILE: Final = "wandb.json"  # in a run folder: the id under which W&B knows the run
# wandb's defaults wait for minutes or forever, and copy what others print. A variable WANDB_<NAME> overrides these.
SETTINGS: Final[dict[str, Any]] = {
    "init_timeout": 15.0,
    "finish_timeout": LIMIT_S,
    "finish_timeout_raises": True,
    "console": "off",
    "quiet": True,
    "show_info": False,  # warnings and errors are still shown
    # Otherwise wandb asks the server for the key's owner, only to print the name, for longer than init_timeout.
    "x_disable_viewer": True,
}


def kept_id(run: Run) -> str:
    """Return the id under which W&B knows the run, and keep it in the run folder.

    It is the id that is already there, if W&B accepts it as one; else WANDB_RUN_ID; else a random one. An id that
    cannot be written to the folder raises no error.
    """
    found = (read_json(run.path / ID_FILE) or {}).get("id")
    if not isinstance(found, str) or not re.fullmatch(r"[\w.-]{1,64}", found, re.ASCII):
        found = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
    with contextlib.suppress(OSError):  # a full disk costs the id of a resumed run, and not this run
        write_json(run.path / ID_FILE, {"id": found})
    return found


def wandb_settings() -> Any:
    """Start wandb's service process and return its settings: SETTINGS, unless the user's environment overrides them."""
    import wandb

    ours = {name: value for name, value in SETTINGS.items() if f"WANDB_{name.upper()}" not in os.environ}
    return wandb.setup(settings=wandb.Settings(**ours)).settings


def end_service(kill: bool = False) -> None:
    """End wandb's service process. wandb and psutil must be installed; what wandb raises is dropped.

    Without `kill` the process gets five seconds to write what it holds to its file. It is killed when that fails, or at
    once with `kill`. After a kill, waits up to five more seconds for wandb to end.
    """
    import psutil
    import wandb

    with contextlib.suppress(Exception):
        if not kill:
            return run_with_timeout(5, wandb.teardown)
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "wandb-core" in child.name():
                child.kill()
    with contextlib.suppress(Exception):  # so that wandb has nothing left to do when Python exits
        run_with_timeout(5, wandb.teardown)
    return None


def unsynced_folders(run: Run) -> list[Path]:
    """Return the run's W&B folders that were written offline and that `wandb sync` has not marked as sent."""
    return sorted(path for path in run.path.glob("wandb/offline-run-*") if not [*path.glob("*.synced")])


def sync_command(run: Run, *more: Path) -> str:
    """Return the shell command that uploads the run's unsynced folders, and the folders in `more`.

    Without any folder it is `wandb sync` alone.
    """
    folders = list(dict.fromkeys((*unsynced_folders(run), *more)))
    command = ["wandb", "sync"]
    if any(not folder.name.startswith("offline-") for folder in folders):
        command.append("--include-online")  # without it `wandb sync` skips a folder of an online run
    return shlex.join([*command, *map(str, folders)])
