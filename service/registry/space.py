"""How much space is free where the service writes, and whether that is less than the reserve."""

import os
from collections.abc import Mapping
from pathlib import Path

from service.settings import Settings
from service.urls import broker_folder, sqlite_file

MEBIBYTE = 1 << 20


def find_folders(deployment: Settings) -> dict[str, Path]:
    """Return the folders that the service writes to, by what is in them."""
    file, queue = sqlite_file(deployment.database_url), broker_folder(deployment.broker_url)
    folders: Mapping[str, Path | None] = {
        "the database": file and file.parent,
        "temporary files" if deployment.artifacts_url else "the artifacts": deployment.scratch,
        "the queue": queue,
    }
    return {name: folder for name, folder in folders.items() if folder is not None}


def measure_free_bytes(folder: Path) -> int:
    """Return how many bytes the service may still write to the folder, or to where it will be made."""
    found = os.statvfs(_existing(folder))
    return found.f_bavail * found.f_frsize


def measure_disk_bytes(folder: Path) -> int:
    """Return the size of the disk that the folder is on, or will be made on."""
    found = os.statvfs(_existing(folder))
    return found.f_blocks * found.f_frsize


def describe_lack(deployment: Settings) -> str | None:
    """Say where less space is free than the reserve; None if there is enough everywhere."""
    for name, folder in find_folders(deployment).items():
        try:
            free = measure_free_bytes(folder)
        except OSError:  # unreachable: other checks say so
            continue
        if free < deployment.reserve_bytes:
            return (
                f"the disk of {name} has {free / MEBIBYTE:.1f} MiB free, less than the reserve of "
                f"{deployment.reserve_bytes / MEBIBYTE:.0f} MiB"
            )
    return None


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
