"""A folder as a store: files are written to a temporary file, flushed and renamed (service/durable.py)."""

import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from io import BufferedReader
from pathlib import Path

from service import durable
from service.durable import UNFINISHED
from service.registry.errors import StoreUnusable
from service.registry.store import PIECE_BYTES, Stored


class FolderStore:
    """The files in a folder. It is made with the first file."""

    is_bucket = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def place(self) -> str:
        return f"the artifact folder {self.folder}"

    def write(self, name: str, data: bytes | Iterable[bytes], *, replace: bool = True) -> None:
        if replace:
            durable.write(self.path(name), data)
        else:
            durable.create(self.path(name), data)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        with _open_regular_file(self.path(name)) as file:
            file.seek(offset)
            while length is None or length > 0:
                piece = file.read(PIECE_BYTES if length is None else min(PIECE_BYTES, length))
                if not piece:
                    return
                length = None if length is None else length - len(piece)
                yield piece

    def find(self, name: str) -> Stored | None:
        try:
            found = self.path(name).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Stored(name, found.st_size, found.st_mtime)

    def renew(self, name: str) -> bool:
        path = self.path(name)
        try:
            durable.sync_name(path)  # the process that wrote it may have died before it flushed the folder
            os.utime(path)  # delete_unreferenced keeps new files
        except FileNotFoundError:
            return False
        return True

    def delete(self, names: Collection[str]) -> dict[str, str]:
        failed: OSError | None = None
        for path in map(self.path, names):
            try:
                path.unlink(missing_ok=True)
                with suppress(FileNotFoundError):  # nothing was ever stored in that folder
                    durable.sync_folder(path.parent)
            except OSError as error:  # the others are deleted all the same
                failed = failed or error
        if failed is not None:
            raise failed
        return {}

    def list(self, under: str = "", *, leftovers: bool = False) -> Iterator[Stored]:
        for folder, _, names in os.walk(self.folder / under, onerror=_raise_unless_missing):
            for name in names:
                path = Path(folder, name)
                if name.startswith(UNFINISHED) and not leftovers:
                    continue
                with suppress(FileNotFoundError):  # deleted meanwhile
                    found = path.lstat()
                    if stat.S_ISREG(found.st_mode):
                        relative = path.relative_to(self.folder).as_posix()
                        yield Stored(relative, found.st_size, found.st_mtime)

    def link(self, name: str, *, seconds: float) -> str | None:
        return None

    def is_cause_of(self, error: Exception) -> bool:
        try:
            with os.scandir(self.folder):
                return False
        except OSError:
            return True

    def check(self) -> None:
        folder = self.folder
        if folder.is_symlink() and not folder.exists():
            raise StoreUnusable(f"{self.place} is a link to nothing; is its disk mounted?")
        if folder.exists() and not folder.is_dir():
            raise StoreUnusable(f"{self.place} is not a folder; move that file away")
        if folder.exists() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise StoreUnusable(f"{self.place} cannot be read and written; check its permissions")

    def describe_fault(self) -> str | None:
        # The folder is made with the first file.
        present = self.folder if self.folder.exists() else self.folder.parent
        if os.access(present, os.R_OK | os.W_OK | os.X_OK):
            return None
        return "the artifact folder cannot be read and written; check its permissions"

    def describe_retention(self) -> str | None:
        return None

    def path(self, name: str) -> Path:
        """Return the path of the file of that name, whether or not it exists."""
        return self.folder / name


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _open_regular_file(path: Path) -> BufferedReader:
    """Open the file to read it. Raises OSError, also for a named pipe or a device, which could wait."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return open(descriptor, "rb")
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))
