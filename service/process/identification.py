"""The pipe over which a started worker proves that it is this project's worker."""

import os
import time

from service.process.errors import CannotStart
from service.worker_identity import PROJECT_ROOT, WorkerIdentity

IDENTIFY_SECONDS = 30.0
"""A worker identifies itself in about 0.1 s, before it imports torch; a busy machine may take longer."""
LONGEST_LINE = 64 * 1024


class Identification:
    """What one process that was started as the worker says about itself. `close` it in the end."""

    def __init__(self, *, seconds: float = IDENTIFY_SECONDS) -> None:
        self._read_end, self.write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self._deadline = time.monotonic() + seconds
        self._received = b""

    def close_write_end(self) -> None:
        """Call this once the process runs: it has the write end too, so its exit then closes the pipe."""
        os.close(self.write_end)
        self.write_end = -1

    def receive(self) -> WorkerIdentity | None:
        """Return the identity, or None while the process has not said it yet; never waits.

        Raises CannotStart when the process belongs to another project, ended, or took too long.
        """
        try:
            data = os.read(self._read_end, LONGEST_LINE)
        except BlockingIOError:
            if time.monotonic() > self._deadline:
                raise CannotStart(
                    "the process that was started as the worker does not identify itself; "
                    "Python may find another program named `worker` on PYTHONPATH"
                ) from None
            return None
        self._received += data
        if not data or len(self._received) > LONGEST_LINE:
            raise CannotStart(
                "the process that was started as the worker did not identify itself as this project's; "
                "its own output says why it ended, or which program it is"
            )
        return self._checked() if self._received.endswith(b"\n") else None

    def close(self) -> None:
        for end in (self._read_end, self.write_end):
            if end != -1:
                os.close(end)
        self._read_end = self.write_end = -1

    def _checked(self) -> WorkerIdentity:
        try:
            identity = WorkerIdentity.from_line(self._received)
        except ValueError as error:
            raise CannotStart(
                f"the process that was started as the worker is another program: {error}"
            ) from error
        if identity.root != PROJECT_ROOT:
            raise CannotStart(
                f"the worker that was started belongs to another project: its package `worker` lies in "
                f"{identity.root}, this service in {PROJECT_ROOT}; take the other folder off PYTHONPATH"
            )
        return identity
