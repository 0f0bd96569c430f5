"""Write files that survive a crash: a file appears under its name complete and durable, or not at all.

The bytes are written to a temporary file in the same folder, which is flushed (fsync) and then renamed. A
rename is atomic for every reader, but durable only once the folder is flushed as well.

Who else may read the files is decided by the umask of the process (service/home.py).
"""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from service import failpoints

UNFINISHED = ".unfinished-"
"""What the name of every temporary file and folder begins with. A killed process may leave some behind."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The error numbers of a write for which there is no space: on the disk, in the quota, or in a file."""
DISK_FAILED = (
    errno.EIO,
    errno.EROFS,  # as many file systems become after an error
    errno.ETIMEDOUT,
    errno.ESTALE,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
)
"""The error numbers of a disk, also one in the network, that cannot be used now whatever is asked of it."""


def write(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o666) -> None:
    """Write the file and return once it is durable. Replaces an existing file; creates missing folders.

    data: the bytes, or pieces of them. mode: the permissions of the file, less those that the umask removes.
    Raises OSError; an existing file is then unchanged.
    """
    with _temporary_file(path, data, mode=mode) as temporary:
        os.rename(temporary, path)
    sync_name(path)


def create(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o666) -> None:
    """Write the file as durably as `write` does, unless it exists already; then leave it unchanged.

    mode: the permissions that the file is created with, less those that the umask removes.
    """
    with _temporary_file(path, data, mode=mode) as temporary, suppress(FileExistsError):
        os.link(temporary, path)  # unlike a rename, a link never replaces a file
    sync_name(path)  # also if the file existed: its writer may have died before this line


def create_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder with these files, {name: content}. All of them appear together and durable, or none.

    An existing folder that is not empty is left unchanged.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = _unfinished(folder)
    temporary.mkdir()
    try:
        for name, data in files.items():
            with (temporary / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(temporary)
        os.rename(temporary, folder)
        sync_folder(folder.parent)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write the file so that no reader sees a part of it, but do not wait for the disk.

    For files whose loss does no harm: a file may be lost if the power fails soon after.
    """
    with _temporary_file(path, data, durable=False) as temporary:
        os.rename(temporary, path)


def sync_name(path: Path) -> None:
    """Make durable that the file exists: flush its folder, and the parent folder that names that folder."""
    sync_folder(path.parent)
    sync_folder(path.parent.parent)


def sync_folder(folder: Path) -> None:
    """Flush the folder (fsync), so that creating, renaming and deleting files in it is durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _temporary_file(
    path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o666, durable: bool = True
) -> Iterator[Path]:
    """Make a file with these bytes in the folder of `path`, to be renamed or linked. Delete it at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _unfinished(path)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            if durable:
                failpoints.reach("file.sync")
                os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _unfinished(path: Path) -> Path:
    """Return a new name for the temporary file or folder that will become `path`."""
    return path.with_name(f"{UNFINISHED}{uuid4().hex}")
