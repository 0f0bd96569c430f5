"""Send the messages of webhooks, signed by Standard Webhooks, in threads that delay nothing else.

A message may arrive twice: `webhook-id` is the same then. It is sent to the addresses that were checked, no
redirect is followed, and of the answer only the status counts.
"""

import http.client
import json
import logging
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from threading import Timer

from standardwebhooks import Webhook

from service.registry import webhooks
from service.registry.database import Database
from service.registry.webhooks import Outcome, Taken
from service.settings import Settings
from service.webhook_addresses import BadAddress, Target, resolve

log = logging.getLogger(__name__)

THREADS = 8
STEP_SECONDS = 5.0
"""How long a receiver may take to accept the connection, and between two pieces of its answer."""
ATTEMPT_SECONDS = 15.0
"""How long one attempt may take in all. Less than webhooks.TAKEN_SECONDS."""
USER_AGENT = "Palimpsest-Webhooks/1"


def deliver(database: Database, deployment: Settings) -> None:
    """Send the messages that are due, and record what came of each. Raises DatabaseUnavailable."""
    while True:
        with database.reading() as session:
            if not webhooks.is_any_due(session):
                return
        with database.transaction() as session:
            taken = webhooks.take_due(session, limit=THREADS * 2)
        if not taken:  # another process has just taken them
            return
        with ThreadPoolExecutor(THREADS, thread_name_prefix="webhooks") as pool:
            outcomes = pool.map(lambda one: _send(one, deployment), taken)
            for message, outcome in zip(taken, outcomes, strict=True):
                with database.transaction() as session:
                    webhooks.record(session, message, outcome)


def _send(message: Taken, deployment: Settings) -> Outcome:
    try:
        target = resolve(message.url, allow_private=deployment.webhooks_to_private_addresses)
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
