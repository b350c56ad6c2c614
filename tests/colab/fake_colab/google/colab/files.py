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
    raise AssertionError("files.upload waits for a person")


def upload_file(filename: str) -> None:
    raise AssertionError("files.upload_file waits for a person")


def view(filepath: str) -> None:
    called("files.view", filepath=filepath)
