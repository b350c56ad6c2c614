from __future__ import annotations

import shutil
from pathlib import Path

from google.colab._place import PLACE, called


def download(filename: str) -> None:
    """The browser's download folder is `downloads/`."""
    if not Path(filename).exists():
        raise FileNotFoundError(f"Cannot find file: {filename}")
    called("files.download", filename=filename)
    (PLACE / "downloads").mkdir(exist_ok=True)
    shutil.copy(filename, PLACE / "downloads")


def upload(target_dir: str = "") -> dict[str, bytes]:
    """What the person chooses lies in `uploads/`; without that folder nobody is there."""
    if not (PLACE / "uploads").is_dir():
        raise AssertionError("files.upload waits for a person")
    called("files.upload", target_dir=target_dir)
    chosen = {path.name: path.read_bytes() for path in (PLACE / "uploads").iterdir()}
    for name, content in chosen.items():
        Path(target_dir, name).write_bytes(content)
    return chosen


def upload_file(filename: str) -> None:
    raise AssertionError("files.upload_file waits for a person")


def view(filepath: str) -> None:
    called("files.view", filepath=filepath)
