"""A Celery broker that keeps its messages in a folder: the default if PALIMPSEST_BROKER_URL is not set.

A message is a file. It is written atomically, and received by the process that removes it. A file that is
not a message is logged and dropped, so that it cannot stop the worker. (With kombu's own filesystem
transport an empty file, which a full disk leaves behind, ends the worker.) A lost message delays its job and
does no other harm (messages.py).
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
from service.queue.received import NotAMessage, rebuild_message

log = logging.getLogger(__name__)

MESSAGE_SUFFIX = ".msg"
POLL_SECONDS = 0.05
"""How often the folder is read. This takes 0.5 % of a core; a message waits 25 ms on average."""
LONGEST_WAIT_SECONDS = 0.25
"""How long the worker may take to notice a shutdown while no message comes."""


class Channel(virtual.Channel):
    """Reads and writes messages: those of queue Q are the files `<time>-<uuid>.Q.msg` in the folder."""

    do_restore = False

    @property
    def folder(self) -> Path:
        return Path(self.connection.client.transport_options["folder"])

    def _put(self, queue: str, message: dict[str, Any], **kwargs: Any) -> None:
        path = self.folder / f"{time.time_ns()}-{uuid4()}.{queue}{MESSAGE_SUFFIX}"
        durable.write_atomically(path, json.dumps(message).encode())  # without fsync: a message may be lost

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        for path in self._files(queue):
            content = _receive(path)
            if content is not None and (message := self._parse(path, content)) is not None:
                return message
        raise Empty

    def _size(self, queue: str) -> int:
        return sum(1 for _ in self._files(queue))

    def _purge(self, queue: str) -> int:
        return sum(_receive(path) is not None for path in self._files(queue))

    def _files(self, queue: str) -> Iterator[Path]:
        try:
            names = os.listdir(self.folder)
        except OSError:  # missing or unreachable: sending a message reports it
            return iter(())
        return (self.folder / name for name in sorted(names) if name.endswith(f".{queue}{MESSAGE_SUFFIX}"))

    def _parse(self, path: Path, content: bytes) -> dict[str, Any] | None:
        """Return the message; None if it is not one for a worker."""
        try:
            return rebuild_message(content)
        except NotAMessage as reason:
            log.warning(
                "dropped %s, which is not a message for a worker: %s; if a job waits, the sweeper sends its "
                "message again",
                *(path.name, reason),
            )
            return None


class Transport(virtual.Transport):
    """Kombu's transport for a folder. It receives messages by polling."""

    Channel = Channel
    polling_interval = POLL_SECONDS
    driver_type = "folder"
    driver_name = "folder"

    def drain_events(self, connection: Any, timeout: float | None = None, **kwargs: Any) -> None:
        longest = LONGEST_WAIT_SECONDS if timeout is None else min(timeout, LONGEST_WAIT_SECONDS)
        super().drain_events(connection, timeout=longest)  # type: ignore[no-untyped-call]

    def driver_version(self) -> str:
        return "1"


def _receive(path: Path) -> bytes | None:
    """Remove the file and return its content; None if another process was faster."""
    try:
        content = path.read_bytes()
        path.unlink()
    except OSError:
        return None
    return content
