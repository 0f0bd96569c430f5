"""A folder as Celery broker: the embedded default's way from the API to its worker.

A message is one file. It is written under another name and renamed, so a reader never sees half of one; it
belongs to whoever removes it; what cannot be read is logged and dropped, so no file can stop the worker.
(kombu's own filesystem transport ends the worker on one zero-byte file, which a full disk makes.)
Messages are only bells, see messages.py: losing one costs a moment, never a job.
"""

import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty
from typing import Any
from uuid import uuid4

from kombu.transport import virtual

from service import durable

log = logging.getLogger(__name__)

POLL_SECONDS = 0.05
"""0.5 % of a core, for a bell heard after 25 ms on average."""
LONGEST_WAIT_SECONDS = 0.25
"""How long the worker may stay deaf to a shutdown while no message comes."""


class Channel(virtual.Channel):
    """Messages of queue Q are the files `<time>-<uuid>.Q.msg` of the folder, oldest first."""

    do_restore = False

    @property
    def folder(self) -> Path:
        return Path(self.connection.client.transport_options["folder"])

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        path = self.folder / f"{time.time_ns()}-{uuid4()}.{queue}.msg"
        durable.write_atomically(path, json.dumps(message).encode())  # a message may be lost: no fsync

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        for path in self._files(queue):
            content = _claim(path)
            if content is not None and (message := self._parse(path, content)) is not None:
                return message
        raise Empty

    def _size(self, queue: str) -> int:
        return sum(1 for _ in self._files(queue))

    def _purge(self, queue: str) -> int:
        return sum(_claim(path) is not None for path in self._files(queue))

    def _files(self, queue: str) -> Iterator[Path]:
        try:
            names = os.listdir(self.folder)
        except OSError:  # not there yet, or away: nothing to hear in it; who writes to it will say so
            return iter(())
        return (self.folder / name for name in sorted(names) if name.endswith(f".{queue}.msg"))

    def _parse(self, path: Path, content: bytes) -> dict[str, Any] | None:
        """The message, if it is one that Celery can look at without falling over."""
        try:
            message: dict[str, Any] = json.loads(content)
            task = virtual.Message(message, channel=self)
            arguments, named, embedded = task.decode()
            fields = (task.headers["task"], str), (task.headers["id"], str), (arguments, list), (named, dict)
            if not all(isinstance(field, kind) for field, kind in (*fields, (embedded, dict))):
                raise TypeError("it is not a call of a task")
        except Exception as error:
            log.warning("dropped message %s: it cannot be read (%r)", path.name, error)
            return None
        return message


class Transport(virtual.Transport):
    """Wait for messages by looking into the folder."""

    Channel = Channel
    polling_interval = POLL_SECONDS
    driver_type = "folder"
    driver_name = "folder"

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> None:
        longest = LONGEST_WAIT_SECONDS if timeout is None else min(timeout, LONGEST_WAIT_SECONDS)
        super().drain_events(connection, timeout=longest)  # type: ignore[no-untyped-call]

    def driver_version(self) -> str:
        return "1"


def _claim(path: Path) -> bytes | None:
    """The content, if it was this process that removed the file."""
    try:
        content = path.read_bytes()
        path.unlink()
    except OSError:
        return None
    return content
