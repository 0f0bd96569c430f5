"""Write files that survive a crash: each appears under its name whole and durable, or not at all.

The bytes go to a temporary file in the same folder, which is flushed to the disk and then renamed. A rename
is atomic for every reader, but durable only once the folder that holds the name was flushed as well.
"""

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

READABLE = 0o644  # the API and the workers may run as different users
READABLE_FOLDER = 0o755


def write(path: Path, data: bytes) -> None:
    """Write the file, in place of one of that name, and return once it is durable.

    Creates the folder if there is none. Raises OSError, and then the name holds what it held before.
    """
    with _temporary_file(path, data, READABLE) as temporary:
        os.rename(temporary, path)
    sync_name(path)


def create(path: Path, data: bytes, *, mode: int = READABLE) -> None:
    """Write the file unless there is one of that name, which then stays as it is. As durable as `write`.

    mode: permissions of the file, from its first moment on.
    """
    with _temporary_file(path, data, mode) as temporary, suppress(FileExistsError):
        os.link(temporary, path)  # unlike a rename, a link never replaces a file
    sync_name(path)  # also of a file that was there: its writer may have died before this


def create_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder with these files, {name: content}. All of them appear together and durable, or none.

    A folder of that name with files in it stays as it is.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        temporary.chmod(READABLE_FOLDER)
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
    """Write the file so that no reader sees half of it, but without waiting for the disk.

    For files whose loss does no harm: a power cut may take one that this function has written.
    """
    with _temporary_file(path, data, READABLE, durable=False) as temporary:
        os.rename(temporary, path)


def sync_name(path: Path) -> None:
    """Make a name durable: that of the file in its folder, and of the folder in the one above."""
    sync_folder(path.parent)
    sync_folder(path.parent.parent)


def sync_folder(folder: Path) -> None:
    """Make durable which names the folder holds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _temporary_file(path: Path, data: bytes, mode: int, *, durable: bool = True) -> Iterator[Path]:
    """A file with these bytes in the folder of `path`, to be renamed or linked; it is removed at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".unfinished-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
