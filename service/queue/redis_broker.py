"""The Celery broker on Redis: kombu's, except that nothing in its list can stop a worker.

With kombu's own, an entry of the list that is not a message for Celery ends the worker, and so does a Redis
that became a read-only replica.
"""

import json
import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import redis
from kombu.transport import redis as kombu_redis

from service.queue.received import NotAMessage, rebuild_message

log = logging.getLogger(__name__)

SHOWN_BYTES = 80


class _Client(redis.Redis):
    """Passes on only messages for a worker of those that it pops."""

    def __init__(self, *, find_keys: Callable[[], Collection[str]] = tuple, **options: Any) -> None:
        """find_keys: returns the keys of the lists that it pops from."""
        super().__init__(**options)
        self._find_keys = find_keys

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        if command_name not in ("BRPOP", "RPOP"):
            return super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        try:
            response = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        except redis.ResponseError as error:
            self._replace_key_of_wrong_type(error)
            connection.disconnect()
            raise redis.ConnectionError(f"Redis refuses to give messages: {error}") from error
        if not response:
            return response
        if command_name == "RPOP":
            return _rebuild(response)
        key, entry = response
        message = _rebuild(entry)
        return None if message is None else [key, message]

    def _replace_key_of_wrong_type(self, error: redis.ResponseError) -> None:
        if "WRONGTYPE" not in str(error):
            return
        for key in self._find_keys():
            if self.type(key) not in (b"list", b"none"):
                log.error("the key %s in Redis is not a list, as the queue must be: deleting it", key)
                self.delete(key)


def _rebuild(entry: Any) -> bytes | None:
    try:
        return json.dumps(rebuild_message(entry)).encode()
    except NotAMessage as reason:
        log.warning(
            "dropped an entry of the queue in Redis, which is not a message for a worker: %s; it begins "
            "with %r. If a job waits, the sweeper sends its message again",
            *(reason, entry[:SHOWN_BYTES]),
        )
        return None


class Channel(kombu_redis.Channel):
    def _get_client(self) -> Callable[..., redis.Redis]:
        return partial(_Client, find_keys=lambda: self.active_queues)


class Transport(kombu_redis.Transport):
    """Kombu's transport for Redis, with the channel above."""

    Channel = Channel
