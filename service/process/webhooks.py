"""Send the messages of webhooks, signed by Standard Webhooks, in threads that delay nothing else.

A message may arrive twice: `webhook-id` is the same then. It is sent to the addresses that were checked, no
redirect is followed, and of the answer only the status counts.
"""

import http.client
import json
import logging
import socket
import ssl
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Thread, Timer
from typing import TypeAlias

from standardwebhooks import Webhook

from service.hanging import BoundedCalls
from service.process.failing_alone import failing_alone
from service.registry import webhooks
from service.registry.database import Database
from service.registry.webhooks import Outcome, Taken
from service.settings import Settings
from service.webhook_addresses import BadAddress, Target, resolve

log = logging.getLogger(__name__)

THREADS = 128
"""How many messages one process sends at once, each of another webhook. These threads wait for receivers."""
LOOK_SECONDS = 0.5
"""How often further messages are looked for while some are being sent."""
STEP_SECONDS = 5.0
"""How long a receiver may take to accept the connection, and between two pieces of its answer; and how long
the name of its host may take to be looked up."""
ATTEMPT_SECONDS = 15.0
"""How long one attempt may take in all, after the name was looked up."""
LATEST_START_SECONDS = webhooks.TAKEN_SECONDS - 2 * (STEP_SECONDS + ATTEMPT_SECONDS)
"""An attempt that has not begun so long after its message was taken is left out: it would last until another
process may take the message. It is begun later instead."""
USER_AGENT = "Palimpsest-Webhooks/1"

Ended: TypeAlias = tuple[Taken, Outcome | None]


def deliver(database: Database, deployment: Settings) -> None:
    """Send the messages that are due, and record what came of each. Raises DatabaseUnavailable.

    Each message is sent in a thread of its own, and one of a webhook at a time: a slow receiver delays only
    its own messages. Returns when nothing is due and nothing is being sent.
    """
    ended: SimpleQueue[Ended] = SimpleQueue()
    busy: set[str] = set()
    while True:
        for message, taken_at in _take(database, busy):
            busy.add(message.webhook_id)
            arguments = (message, taken_at, deployment, ended)
            Thread(target=_attempt, args=arguments, name="webhook", daemon=True).start()
        if not busy:
            return
        for message, outcome in _wait_for_some(ended):
            busy.discard(message.webhook_id)
            if outcome is not None:
                what = f"message {message.id}: record what came of sending it"
                with failing_alone(what), database.transaction() as session:
                    webhooks.record(session, message, outcome)


def _take(database: Database, busy: Collection[str]) -> list[tuple[Taken, float]]:
    """Return messages to send now, none of a busy webhook, with the time by which none was taken yet."""
    if len(busy) >= THREADS:
        return []
    with database.reading() as session:
        if not webhooks.is_any_due(session):
            return []
        turns = webhooks.find_turns(session, busy=busy, limit=THREADS - len(busy))
    if not turns:
        return []
    taken_at = time.monotonic()
    with database.transaction() as session:
        return [(message, taken_at) for message in webhooks.take(session, turns)]


def _wait_for_some(ended: SimpleQueue[Ended]) -> Iterator[Ended]:
    """Wait LOOK_SECONDS for an attempt to end, then yield it and all others that have ended."""
    with suppress(Empty):
        yield ended.get(timeout=LOOK_SECONDS)
        while True:
            yield ended.get_nowait()


def _attempt(message: Taken, taken_at: float, deployment: Settings, ended: SimpleQueue[Ended]) -> None:
    is_late = time.monotonic() - taken_at > LATEST_START_SECONDS
    ended.put((message, None if is_late else _send(message, deployment)))


def _send(message: Taken, deployment: Settings) -> Outcome:
    try:
        look_up = BoundedCalls(STEP_SECONDS)  # of this attempt's own: a name that hangs stops no other
        target = look_up.call(resolve, message.url, allow_private=deployment.webhooks_to_private_addresses)
        status = post(target, message)
    except BadAddress as error:
        return Outcome(None, str(error))
    except (OSError, http.client.HTTPException) as error:
        return Outcome(None, f"no answer: {type(error).__name__}")
    except Exception:
        log.exception("message %s could not be sent because of an unexpected error", message.id)
        return Outcome(None, "an unexpected error of the service; its log has the reason")
    if 200 <= status < 300:
        return Outcome(status, None)
    return Outcome(status, f"the receiver answered {status}")


def post(target: Target, message: Taken) -> int:
    """Send the message, and return the status of the answer. Raises OSError, HTTPException."""
    body = json.dumps({"type": message.type, "timestamp": message.created_at, "data": dict(message.data)})
    sent_at = datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        "webhook-id": message.id,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": Webhook(message.secret).sign(message.id, sent_at, body),
    }
    connection = _Connection(target)
    last_resort = Timer(ATTEMPT_SECONDS, connection.cut)
    last_resort.daemon = True
    last_resort.start()
    try:
        connection.request("POST", target.path, body.encode(), headers)
        return connection.getresponse().status
    finally:
        last_resort.cancel()
        connection.close()


class _Connection(http.client.HTTPConnection):
    """A connection to the addresses that were checked, and not to what the host stands for now."""

    def __init__(self, target: Target) -> None:
        super().__init__(target.host, target.port, timeout=STEP_SECONDS)
        self._target = target
        if target.is_secure:
            self.default_port = 443

    def connect(self) -> None:
        last: OSError | None = None
        for address in self._target.addresses[:2]:
            try:
                self.sock = socket.create_connection((address, self._target.port), STEP_SECONDS)
                break
            except OSError as error:
                last = error
        else:
            raise last or OSError("the host has no address")
        if self._target.is_secure:
            context = ssl.create_default_context()
            secured = context.wrap_socket(
                self.sock, server_hostname=self._target.host, do_handshake_on_connect=False
            )
            self.sock = secured  # so that `cut` ends the handshake, too
            secured.do_handshake()

    def cut(self) -> None:
        """End the connection, whatever waits for it."""
        with suppress(OSError):
            if self.sock is not None:
                self.sock.shutdown(socket.SHUT_RDWR)
