from __future__ import annotations

from pathlib import Path

from google.colab._place import PLACE, called


def mount(mountpoint: str, force_remount: bool = False, timeout_ms: int = 120000, readonly: bool = False) -> None:
    called("drive.mount", mountpoint=mountpoint)
    place = Path(mountpoint).expanduser()
    if " " in mountpoint:
        raise ValueError("Mountpoint must not contain a space.")
    if not (PLACE / "drive").is_dir():
        raise ValueError("mount failed")
    if (place / "MyDrive").is_dir() and not force_remount:
        print(f"Drive already mounted at {mountpoint}")
        return
    if place.is_symlink():
        raise ValueError("Mountpoint must not be a symlink")
    if place.is_dir() and any(place.iterdir()):
        raise ValueError("Mountpoint must not already contain files")
    if not place.parent.is_dir():
        raise ValueError("Mountpoint must be in a directory that exists")
    place.mkdir(exist_ok=True)
    (place / "MyDrive").symlink_to(PLACE / "drive")
    print(f"Mounted at {mountpoint}")


def flush_and_unmount(timeout_ms: int = 24 * 60 * 60 * 1000) -> None:
    called("drive.flush_and_unmount")
