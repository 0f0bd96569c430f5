"""The pipe through which a started worker tells its parent which code it runs, and then that it runs."""

import os
import time

from service.process.errors import CannotStart
from service.worker_identity import PROJECT_ROOT, WorkerIdentity

IDENTIFICATION_TIMEOUT_SECONDS = 30.0
"""A worker identifies itself in about 0.1 s, before it imports torch; a busy machine may take longer."""
MAX_LINE_BYTES = 64 * 1024


class Identification:
    """A pipe that receives the identity of one process started as the worker. `close` it in the end."""

    def __init__(self, *, seconds: float = IDENTIFICATION_TIMEOUT_SECONDS) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._received = b""
        self._has_beaten = False

    def close_write_end(self) -> None:
        """Call this once the process runs: it has its own write end, so its exit closes the pipe."""
        os.close(self.write_end)
        self.write_end = -1

    def receive(self) -> WorkerIdentity | None:
        """Return the identity, or None while the process has not sent it yet; do not wait.

        Raises CannotStart when the process belongs to another project, ended, or took too long.
        """
        try:
            data = os.read(self._read_end, MAX_LINE_BYTES)
        except BlockingIOError:
            if time.monotonic() > self._deadline:
                raise CannotStart(
                    "the process that was started as the worker does not identify itself "
                    f"within {self._seconds:g} s; "
                    "Python may find another program named `worker` on PYTHONPATH"
                ) from None
            return None
        self._received += data
        line, is_complete, beats = self._received.partition(b"\n")
        if not data or len(line) > MAX_LINE_BYTES:
            raise CannotStart(
                "the process that was started as the worker did not identify itself as this project's; "
                "its output above says why it ended, or which program it is"
            )
        if not is_complete:
            return None
        self._has_beaten = bool(beats)  # the process went on before its identity was read
        return self._read_identity(line + is_complete)

    def has_beaten(self) -> bool:
        """Return whether the identified process has written anything since the last call; do not wait."""
        has_beaten, self._has_beaten = self._has_beaten, False
        try:
            return bool(os.read(self._read_end, MAX_LINE_BYTES)) or has_beaten
        except BlockingIOError:
            return has_beaten

    def close(self) -> None:
        for end in (self._read_end, self.write_end):
            if end != -1:
                os.close(end)
        self._read_end = self.write_end = -1

    def _read_identity(self, line: bytes) -> WorkerIdentity:
        try:
            identity = WorkerIdentity.from_line(line)
        except ValueError as error:
            raise CannotStart(
                f"the process that was started as the worker is another program: {error}"
            ) from error
        if identity.root != PROJECT_ROOT:
            raise CannotStart(
                f"the worker that was started belongs to another project: its package `worker` is in "
                f"{identity.root}, and this service in {PROJECT_ROOT}; "
                "remove the other folder from PYTHONPATH"
            )
        return identity
