"""Make a mirror's copy one of an earlier release, which had a folder for each checkpoint in place of slots."""

from __future__ import annotations

import json
from pathlib import Path

from grpo_colab.runs.mirror import MARKER
from grpo_colab.runs.mirror.slots import copied
from grpo_colab.utils.files import write_json


def as_earlier(copy: Path, has_list: bool = True) -> None:
    """Change the copy's folder. Without a list, its marker names no files, as those of the first release."""
    marker = (copy / MARKER).read_text()
    for name, folder in copied(copy / "checkpoints").items():
        folder.rename(folder.with_name(name))
        marker = marker.replace(f"checkpoints/{folder.name}/", f"checkpoints/{name}/")
    about = json.loads(marker)
    del about["unfinished"]
    if not has_list:
        del about["files"]
    write_json(copy / MARKER, about)
