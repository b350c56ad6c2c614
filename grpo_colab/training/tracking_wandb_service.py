"""What W&B keeps outside of Python: its service process with its settings, and a run's id and files in the run folder.

Imports neither wandb nor transformers before a function is called.
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
# Where wandb's own default is to wait for minutes or forever, or to copy what others print; WANDB_<NAME> wins.
SETTINGS: Final[dict[str, Any]] = {
    "init_timeout": 15.0,
    "finish_timeout": LIMIT_S,
    "finish_timeout_raises": True,
    "console": "off",
    "quiet": True,
    "show_info": False,  # its warnings and errors stay
    "x_disable_viewer": True,  # else it asks the server, for longer than init_timeout, whose key it is, to print that
}


def kept_id(run: Run) -> str:
    """Return the id under which W&B knows the run: that of its folder, where W&B takes it, or else a new one."""
    found = (read_json(run.path / ID_FILE) or {}).get("id")
    if not isinstance(found, str) or not re.fullmatch(r"[\w.-]{1,64}", found, re.ASCII):
        found = os.environ.get("WANDB_RUN_ID") or secrets.token_hex(4)
    with contextlib.suppress(OSError):  # a full disk
        write_json(run.path / ID_FILE, {"id": found})
    return found


def wandb_settings() -> Any:
    """Return wandb's settings, ours among them unless the user's environment has others; starts its service process."""
    import wandb

    ours = {name: value for name, value in SETTINGS.items() if f"WANDB_{name.upper()}" not in os.environ}
    return wandb.setup(settings=wandb.Settings(**ours)).settings


def end_service(kill: bool = False) -> None:
    """End wandb's service process: in order, when it writes what it has to its file, or else killed."""
    import psutil
    import wandb

    with contextlib.suppress(Exception):
        if not kill:
            return run_with_timeout(5, wandb.teardown)
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "wandb-core" in child.name():
                child.kill()
    with contextlib.suppress(Exception):  # that nothing of it is left to do at Python's end
        run_with_timeout(5, wandb.teardown)
    return None


def unsynced(run: Run) -> list[Path]:
    """Return the folders of the run's sittings that were offline and that `wandb sync` has not marked."""
    return sorted(path for path in run.path.glob("wandb/offline-run-*") if not [*path.glob("*.synced")])


def sync_line(run: Run, *more: Path) -> str:
    """Return the command that sends what is unsynced of a run, and `more`."""
    paths = dict.fromkeys((*unsynced(run), *more))
    online = any(not path.name.startswith("offline-") for path in paths)  # left out unless it is asked for
    return shlex.join(["wandb", "sync", *["--include-online"][:online], *map(str, paths)])
