"""What a worker accepts from the broker: a call of its one task with a job's id, and nothing else.

Anybody who reaches the broker can put anything into it. Celery and kombu check little of what they read, and
some of it ends the worker. So a received message is not passed on: only the job's id is taken from it, and
Celery is given a new message with that id.
"""

import base64
import json
import re
from typing import Any
from uuid import uuid4

from service.queue_names import DEFAULT_QUEUE

EXECUTE_JOB = "palimpsest.execute_job"
QUEUE = "palimpsest"
"""The name that the default queue has in the broker."""
MAX_MESSAGE_BYTES = 16 * 1024
"""A message of this project has about 800 bytes."""
_JOB_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def name_in_broker(queue: str) -> str:
    """Return the name that a queue has in the broker."""
    return QUEUE if queue == DEFAULT_QUEUE else f"{QUEUE}-{queue}"


class NotAMessage(Exception):
    """What was received is not a wake-up message of this project."""


def rebuild_message(received: bytes | str) -> dict[str, Any]:
    """Return a message for Celery with the job's id that was received. Raises NotAMessage."""
    if len(received) > MAX_MESSAGE_BYTES:
        raise NotAMessage(f"it has {len(received):,} bytes")
    try:
        job_id = _read_job_id(json.loads(received))
    except NotAMessage:
        raise
    except Exception as error:  # a parser may raise anything for what anybody may write
        raise NotAMessage(f"it cannot be read ({type(error).__name__})") from error
    return build_message(job_id)


def build_message(job_id: str) -> dict[str, Any]:
    """Return the message that calls the worker's task, as kombu stores it."""
    call = [[job_id], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    return {
        "body": base64.b64encode(json.dumps(call).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": EXECUTE_JOB, "id": str(uuid4()), "ignore_result": True},
        "properties": {
            "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "delivery_mode": 2,
            "delivery_tag": str(uuid4()),
            "priority": 0,
        },
    }


def _read_job_id(message: Any) -> str:
    if message["headers"]["task"] != EXECUTE_JOB:
        raise NotAMessage("it calls another task")
    if message["content-type"] != "application/json" or message["properties"]["body_encoding"] != "base64":
        raise NotAMessage("its body is not encoded as a message of this project is")
    [job_id], named, _ = json.loads(base64.b64decode(message["body"], validate=True))
    if named or not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
        raise NotAMessage("it names no job")
    return job_id
