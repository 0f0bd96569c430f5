"""Wake-up messages: they tell a worker that there is a job to claim.

A message contains only the job's id; everything else is in the job's row. The sweeper sends lost messages
again. A message that arrives twice does no harm: the job can be claimed only once.
"""

import logging
import socket
from collections.abc import Sequence
from functools import lru_cache

import kombu
from celery import Celery
from celery.loaders.app import AppLoader
from kombu.transport import TRANSPORT_ALIASES

from service.queue.received import EXECUTE_JOB, QUEUE, name_in_broker
from service.queue_names import DEFAULT_QUEUE
from service.settings import Settings, load_settings
from service.urls import broker_folder

log = logging.getLogger(__name__)


# If the broker does not answer, it is tried once more at once. (Celery's retry=False does not apply to the
# connection underneath, which would retry for 6 s.)
ONE_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
SENDING_SECONDS = 0.7
"""How long a process that sends messages waits for an answer of Redis."""
RECEIVING_SECONDS = 5.0
"""How long a worker waits for the rest of an answer, before it connects again."""
UNANSWERED_SECONDS = 5
"""How long a worker waits beyond the time in which Redis answers anyway, before it connects again."""
DETECT_CUT_CONNECTION = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 2}

TRANSPORT_ALIASES["folder"] = "service.queue.folder_broker:Transport"
TRANSPORT_ALIASES["redis"] = TRANSPORT_ALIASES["rediss"] = "service.queue.redis_broker:Transport"


def wake_worker(job_id: str, deployment: Settings | None = None, *, queue: str = DEFAULT_QUEUE) -> bool:
    """Send a wake-up message for a committed job to the workers that serve its queue.

    Never raises; returns whether the broker accepted it.
    """
    app = producer((deployment or load_settings()).broker_url)
    try:
        app.send_task(
            EXECUTE_JOB, args=[job_id], queue=_queue(queue), ignore_result=True, retry_policy=ONE_RETRY
        )
    except Exception as error:
        log.warning(
            "job %s stays queued: its wake-up message could not be sent (%r); the sweeper tries again",
            job_id,
            error,
        )
        return False
    return True


def count_waiting_messages(deployment: Settings, queue: str = DEFAULT_QUEUE) -> int | None:
    """Return how many messages of a queue no worker has received; None if the broker does not answer."""
    app = producer(deployment.broker_url)
    try:
        with app.connection_or_acquire() as connection:
            return int(connection.default_channel.queue_declare(name_in_broker(queue)).message_count)
    except Exception as error:
        log.debug("cannot count the waiting messages: the broker does not answer (%r)", error)
        return None


@lru_cache(maxsize=8)
def producer(broker_url: str) -> Celery:
    """Return the Celery application that a process uses if it only sends messages."""
    return _celery(broker_url, answer_seconds=SENDING_SECONDS)


def celery_app(deployment: Settings) -> Celery:
    """Return the Celery application of this deployment, to which the worker adds its task."""
    return _celery(deployment.broker_url, deployment.queue_names, answer_seconds=RECEIVING_SECONDS)


def _queue(name: str) -> kombu.Queue:
    in_broker = name_in_broker(name)
    return kombu.Queue(in_broker, kombu.Exchange(in_broker), routing_key=in_broker, no_ack=True)


def _celery(broker_url: str, queues: Sequence[str] = (DEFAULT_QUEUE,), *, answer_seconds: float) -> Celery:
    # The loader is given as a class: Celery imports a named one from the working directory first. There are
    # no fixups, because Django's puts that directory on sys.path if DJANGO_SETTINGS_MODULE is set.
    app = Celery("palimpsest", set_as_current=False, loader=AppLoader, fixups=())
    app.conf.update(
        broker_url="folder://localhost" if broker_folder(broker_url) else broker_url,
        broker_transport_options=_transport_options(broker_url, answer_seconds),
        broker_connection_timeout=1,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # The job table and the sweeper replace redelivery, so a message is removed when it is received. With
        # acknowledgements, if Redis missed one, the prefetch window would stay full and nothing would arrive
        # (docs/decisions/0010-messages-without-acknowledgement.md).
        task_queues=[_queue(name) for name in queues],
        task_default_queue=QUEUE,
        task_acks_late=False,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_enable_remote_control=False,
        worker_send_task_events=False,
    )
    return app


def _transport_options(broker_url: str, answer_seconds: float) -> dict[str, object]:
    if folder := broker_folder(broker_url):
        return {"folder": folder}
    options = {getattr(socket, name): value for name, value in DETECT_CUT_CONNECTION.items()}
    return {
        "socket_connect_timeout": SENDING_SECONDS,
        "socket_timeout": answer_seconds,
        "socket_keepalive": True,
        "socket_keepalive_options": options,
        "health_check_interval": UNANSWERED_SECONDS,
        **ONE_RETRY,
    }
