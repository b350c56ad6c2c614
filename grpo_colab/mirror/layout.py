"""What a copy holds, and whose it is: names, marker, identity. Standard library only."""

from __future__ import annotations

import datetime
import tomllib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from grpo_colab import checkpoints
from grpo_colab.errors import SettingError
from grpo_colab.files import write_text

HUB: Final = "hf://"
MARKER: Final = "mirrored.json"  # in a copy
STATE: Final = "mirror.json"  # in a run folder: how its mirror fares
IDENTITY: Final = ".mirror.id"  # in a run folder: the copy that belongs to it, whatever the folder is called
KEEP: Final = 2
REACH_S = 10.0  # for a look at what is there


def take_whole(here: list[Path], greater_is_better: bool, take: Callable[[Path], str | None]) -> list[str]:
    """Give `take` the newest whole checkpoint and the best one; returns what was wrong with any that it refused."""
    troubles: dict[Path, str | None] = {}
    for checkpoint in reversed(here):
        troubles[checkpoint] = take(checkpoint)
        if troubles[checkpoint] is None:
            break
    best = checkpoints.best(here[0].parent, greater_is_better) if here else None
    if best in here and best not in troubles:
        troubles[best] = take(best)
    # one without its manifest was not damaged: the run deleted it meanwhile
    return [f"{path.name}: {t}" for path, t in troubles.items() if t and (path / checkpoints.MANIFEST).exists()]


def new_marker(run: Path, before: dict[str, Any] | None) -> dict[str, Any]:
    """What the copy's mirrored.json will say; OSError when it is another run's copy, which must not be lost."""
    if identity(run) is None:
        write_text(run / IDENTITY, uuid.uuid4().hex)
    if before is not None and before.get("id") != identity(run):
        raise OSError(f"it holds another run called {run.name}; give this one another name with --out, or move that")
    adapter = (run / "adapter").stat().st_mtime_ns if (run / "adapter").is_dir() else None
    return {"run": run.name, "step": None, "at": now(), "id": identity(run), "adapter": adapter}


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def small_files(run: Path) -> list[str]:
    names = [path.name for path in run.iterdir() if path.is_file()]
    return sorted(name for name in names if not name.startswith(".") and name not in (STATE, MARKER))


def files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def newest_step(saved: list[Path]) -> int | None:
    return checkpoints.step_of(saved[-1]) if saved else None


def greater_is_better(run: Path) -> bool:
    return checkpoints.greater_is_better(
        tomllib.loads((run / "recipe.toml").read_text(encoding="utf-8")).get("grpo", {})
    )


def identity(run: Path) -> str | None:
    """What a run's copies are known by; None before it has had one."""
    return (run / IDENTITY).read_text() if (run / IDENTITY).is_file() else None


def parse_hub(source: str) -> tuple[str, str | None]:
    """hf://user/repository[/run] as the repository and the run; SettingError for anything else."""
    user, _, rest = source.removeprefix(HUB).strip("/").partition("/")
    repository, _, name = rest.partition("/")
    if not repository or "/" in name:
        raise SettingError(f"budget.mirror = {source!r}: is no repository; write {HUB}user/repository")
    return f"{user}/{repository}", name or None
