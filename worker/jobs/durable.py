"""Files that are made here once and kept: all of them appear together and durable, or none does."""

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from service.registry.artifacts import fsync_folder


def keep(files: Mapping[str, bytes], place: Path) -> None:
    """Write the files, by name, into a folder that is called `place` last.

    Where another process was quicker its files stay: they are as good.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=place.parent))
    making.chmod(0o755)  # workers may run as different users
    try:
        for name, data in files.items():
            _write(making / name, data)
        fsync_folder(making)
        os.rename(making, place)
        fsync_folder(place.parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
