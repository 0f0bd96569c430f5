"""Sends wake-up messages in a thread of its own, so that no request waits for the broker.

The thread imports Celery when it starts, with the first message. That takes a tenth of a second, in which a
process that only serves images has answered already.
"""

import logging
from queue import Empty, Full, Queue
from threading import Lock, Thread

from service.settings import Settings

log = logging.getLogger(__name__)

MAX_UNSENT = 200
"""How many messages of one process wait to be sent. The sweeper sends those that find no place."""


class MessageSender:
    """Sends wake-up messages in a thread of its own, so that no request waits for the broker."""

    def __init__(self, deployment: Settings) -> None:
        self._deployment = deployment
        self._unsent: Queue[tuple[str, str]] = Queue(MAX_UNSENT)
        self._lock = Lock()
        self._thread: Thread | None = None

    def wake_worker(self, job_id: str, queue: str) -> None:
        """Send a wake-up message for a committed job soon. Never raises and never waits."""
        try:
            self._unsent.put_nowait((job_id, queue))
        except Full:
            log.warning("job %s stays queued: %d messages wait to be sent", job_id, MAX_UNSENT)
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._send, name="sender of messages", daemon=True)
                self._thread.start()

    def _send(self) -> None:
        from service.queue.messages import wake_worker  # see the top of this module

        while True:
            job_id, queue = self._unsent.get()
            if not wake_worker(job_id, self._deployment, queue=queue):
                self._drop_unsent()

    def _drop_unsent(self) -> None:
        """Leave the rest to the sweeper, because each would have to wait for the broker as long again."""
        while True:
            try:
                self._unsent.get_nowait()
            except Empty:
                return
